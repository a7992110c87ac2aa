//! The table of statements: every SQL text that rowcrew sends while it runs, by name.
//!
//! The types of parameters are read from each file's header, so that a statement can be sent unnamed, as a
//! transaction-mode pooler needs it; a test compares the headers with what the server says.

use std::collections::HashMap;

use tokio_postgres::types::Type;

use super::schema::in_schema;

/// One statement, for one schema.
#[derive(Debug)]
pub struct Statement {
    /// The file's stem; stands in errors and spans.
    pub name: &'static str,
    /// The text, header included.
    pub text: String,
    /// The parameters' types, `$1` first.
    pub params: Vec<Type>,
}

macro_rules! statements {
    ($($name:ident),* $(,)?) => {
        /// Every statement: its name, and its text as the file has it.
        pub const FILES: &[(&str, &str)] =
            &[$((stringify!($name), include_str!(concat!("../../sql/", stringify!($name), ".sql")))),*];

        /// All statements for one schema.
        #[derive(Debug)]
        #[allow(missing_docs, reason = "each is described by the head of its file")]
        pub struct Statements {
            $(pub $name: Statement),*
        }

        impl Statements {
            /// Makes the statements for a schema.
            pub fn new(schema: &str) -> Self {
                Self { $($name: Statement::new(
                    stringify!($name),
                    include_str!(concat!("../../sql/", stringify!($name), ".sql")),
                    schema,
                )),* }
            }

            /// All of them, in the order of the table.
            pub fn all(&self) -> Vec<&Statement> {
                vec![$(&self.$name),*]
            }
        }
    };
}

statements! {
    claim_forget, claims_reclaim, dead_count, dead_discard, dead_discard_many, dead_edit, dead_groups, dead_list,
    dead_prune, dead_revive, dead_revive_many, depth_sample,
    doctor_holders, doctor_indexes, doctor_load, doctor_queues, doctor_rights, doctor_server, doctor_tables, finished_prune, frontiers_prune, import_begin, import_outcome,
    job_bury, job_cancel, job_claim, job_claim_in_turn, job_complete, job_complete_unkept, job_discard, job_enqueue, job_expire, job_finish, job_held, job_insert, job_payload, job_progress, job_requeue, job_retry, job_show,
    jobs_cancelled, jobs_copy, jobs_enqueue, jobs_horizon, jobs_insert, jobs_list, jobs_locked, jobs_take_over, kind_hold, kind_pause, kind_resume, kinds_list, kinds_paused, queue_pause, queue_purge, queue_resume, queue_set,
    queues_list, server_writable, session_read_write, stats_flush, stats_fold, stats_prune, stats_read, wake_arm, wake_ring, worker_alone,
    worker_beat, worker_leave, worker_register, worker_rescue, worker_step_aside, workers_list, workers_observe,
}

impl Statement {
    /// The one that programs enqueue with over connections of their own.
    pub(super) fn job_enqueue(schema: &str) -> Self {
        Self::new("job_enqueue", include_str!("../../sql/job_enqueue.sql"), schema)
    }

    /// The same for many at once.
    pub(super) fn jobs_enqueue(schema: &str) -> Self {
        Self::new("jobs_enqueue", include_str!("../../sql/jobs_enqueue.sql"), schema)
    }

    fn new(name: &'static str, text: &str, schema: &str) -> Self {
        let head = Head::of(text);
        let params = head.params.iter().map(|column| type_named(&column.type_name)).collect();
        Self { name, text: in_schema(text, schema), params }
    }
}

/// A name and a type, as a header gives them.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// The parameter's or column's name.
    pub name: String,
    /// The type's name in `pg_type`, with `[]` for arrays.
    pub type_name: String,
}

/// What the head of a SQL file promises.
#[derive(Debug, Default)]
pub struct Head {
    /// `Params:`, `$1` first.
    pub params: Vec<Column>,
    /// `Returns:`, in order.
    pub returns: Vec<Column>,
    /// `Plan:`, the scans that the plan must contain.
    pub plan: Vec<String>,
}

impl Head {
    /// Reads the comment at the start of a file.
    pub fn of(text: &str) -> Self {
        let mut fields: HashMap<&str, String> = HashMap::new();
        let mut field = "";
        for line in text.lines().map_while(|line| line.strip_prefix("--")) {
            let line = line.trim();
            let (name, words) = match line.split_once(':') {
                Some((name @ ("Params" | "Returns" | "Locks" | "Plan"), words)) => (name, words),
                _ => (field, line),
            };
            field = name;
            let entry = fields.entry(field).or_default();
            entry.push(' ');
            entry.push_str(words);
        }
        let list = |name: &str| {
            let text = without_brackets(fields.get(name).map_or("", String::as_str));
            text.split(',')
                .map(|part| part.trim().to_owned())
                .filter(|part| !matches!(part.as_str(), "" | "none" | "nothing"))
                .collect::<Vec<_>>()
        };
        let columns = |name: &str| {
            list(name)
                .iter()
                .filter_map(|part| {
                    let mut words = part.split_whitespace().filter(|word| !word.starts_with('$'));
                    Some(Column { name: words.next()?.to_owned(), type_name: words.next()?.to_owned() })
                })
                .collect()
        };
        Self { params: columns("Params"), returns: columns("Returns"), plan: list("Plan") }
    }
}

/// The text without what stands in round brackets, where headers explain.
fn without_brackets(text: &str) -> String {
    let mut depth = 0;
    text.chars()
        .filter(|&c| {
            let outside = depth == 0;
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            outside && c != '('
        })
        .collect()
}

fn type_named(name: &str) -> Type {
    match name {
        "bool" => Type::BOOL,
        "int2" => Type::INT2,
        "int4" => Type::INT4,
        "int8" => Type::INT8,
        "text" => Type::TEXT,
        "jsonb" => Type::JSONB,
        "timestamptz" => Type::TIMESTAMPTZ,
        "interval" => Type::INTERVAL,
        "bool[]" => Type::BOOL_ARRAY,
        "int2[]" => Type::INT2_ARRAY,
        "int8[]" => Type::INT8_ARRAY,
        "text[]" => Type::TEXT_ARRAY,
        "timestamptz[]" => Type::TIMESTAMPTZ_ARRAY,
        other => {
            panic!("a header under sql/ names the type {other}, which the table of statements does not know")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_under_sql_stands_in_the_table() {
        let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql"))
            .expect("sql/")
            .map(|entry| {
                entry.expect("entry").path().file_stem().expect("stem").to_string_lossy().into_owned()
            })
            .collect();
        files.sort();
        let mut table: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        table.sort();
        assert_eq!(files, table);
    }

    #[test]
    fn a_header_gives_names_and_types() {
        let head = Head::of(
            "-- Does it.\n--\n-- Params:  $1 ids int8[] (a, b), $2 state text\n-- Returns: n int8\n-- Plan:    none\nselect",
        );
        let param = |name: &str, type_name: &str| Column { name: name.into(), type_name: type_name.into() };
        assert_eq!(head.params, [param("ids", "int8[]"), param("state", "text")]);
        assert_eq!(head.returns, [param("n", "int8")]);
        assert!(head.plan.is_empty());
    }
}
