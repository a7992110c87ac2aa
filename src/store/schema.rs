//! Puts the configured schema into SQL that is written for the schema `rowcrew`.
//!
//! The files under `sql/` and `migrations/` are plain SQL that psql takes as it is. Three forms name the
//! schema there: `rowcrew.jobs` as an identifier, the same inside a literal (`'rowcrew.claim_ids'`), and
//! the name alone as a literal (`'rowcrew'`).

/// The schema the files are written for.
pub(super) const SCHEMA_DEFAULT: &str = "rowcrew";

/// The same SQL for another schema.
pub(super) fn in_schema(sql: &str, schema: &str) -> String {
    if schema == SCHEMA_DEFAULT {
        return sql.to_owned();
    }
    let identifier = quote_identifier(schema);
    let mut out = String::with_capacity(sql.len() + 1024);
    let mut rest = sql;
    let mut in_literal = false;
    while let Some(next) = rest.chars().next() {
        if !in_literal && rest.starts_with("--") {
            let end = rest.find('\n').unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(after) = rest.strip_prefix("'rowcrew'") {
            out.push_str(&quote_literal(schema));
            rest = after;
        } else if starts_name(rest, &out) {
            out.push_str(&if in_literal { identifier.replace('\'', "''") } else { identifier.clone() });
            rest = &rest[SCHEMA_DEFAULT.len()..];
        } else if let Some(after) = rest.strip_prefix("$$") {
            // A body's quotes must not occur in the name.
            out.push_str(if schema.contains("$$") { "$rowcrew_body$" } else { "$$" });
            rest = after;
        } else {
            in_literal ^= next == '\'';
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

/// Whether `rest` begins with the schema's name and a dot, and not in the middle of a longer word.
fn starts_name(rest: &str, before: &str) -> bool {
    rest.starts_with("rowcrew.")
        && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == '"')
}

/// `a"b` as `"a""b"`.
pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    // E'' is right whatever standard_conforming_strings says.
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_name_is_replaced_and_nothing_else() {
        let sql = "-- rowcrew.jobs isn't touched here\nselect 'rowcrew', nextval('rowcrew.ids') from rowcrew.jobs \
                   where channel = 'rowcrew_jobs' and x = 'it''s' and myrowcrew.y";
        assert_eq!(
            in_schema(sql, "It's \"Q\""),
            "-- rowcrew.jobs isn't touched here\nselect 'It''s \"Q\"', nextval('\"It''s \"\"Q\"\"\".ids') \
             from \"It's \"\"Q\"\"\".jobs where channel = 'rowcrew_jobs' and x = 'it''s' and myrowcrew.y"
        );
    }

    #[test]
    fn the_default_schema_leaves_the_text_as_it_is() {
        assert_eq!(in_schema("select from rowcrew.jobs", "rowcrew"), "select from rowcrew.jobs");
    }
}
