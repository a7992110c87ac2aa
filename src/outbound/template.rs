//! A URL with fields of the payload in it: `https://api.example.org/users/{user_id}/mail`.

use reqwest::Url;

use super::HostRules;
use super::value::{Place, escaped, field};

/// The longest URL that is called. Servers refuse longer ones, and a payload is no place for a megabyte of URL.
const URL_BYTES_MAX: usize = 8 * 1024;

/// What of a URL the payload decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nothing: every job calls the same URL.
    Fixed,
    /// Parts of path and query; the host is the configuration's.
    Path,
    /// The host too.
    Host,
}

/// A parsed template. Its fields can change no more of a URL than the place they stand in.
#[derive(Debug, Clone)]
pub struct UrlTemplate {
    parts: Vec<Part>,
    reach: Reach,
    /// The URL with a letter for each field; nothing when the whole URL is a field.
    shape: Option<Url>,
    shown: String,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Field {
        path: Vec<String>,
        place: Place,
    },
    /// The field that is the whole URL.
    Whole(Vec<String>),
}

impl UrlTemplate {
    /// Reads a template; the fault never repeats the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pieces = pieces(text)?;
        if let [Piece::Field(path)] = &pieces[..] {
            let parts = vec![Part::Whole(path.clone())];
            return Ok(Self { parts, reach: Reach::Host, shape: None, shown: text.to_owned() });
        }
        let Some(Piece::Text(start)) = pieces.first() else {
            return Err("begins with a field and goes on: expected http:// or https://, or one field alone"
                .to_owned());
        };
        let (scheme, rest) =
            start.split_once("://").ok_or("is no URL: expected http:// or https:// at its start")?;
        if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
            return Err(format!("has the scheme {scheme}: expected http or https"));
        }
        // The parser drops blanks and looks for the host behind any number of slashes: a field would become the host.
        let no_host = rest.starts_with(['/', '\\', '?', '#']);
        if no_host || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("names no host after ://, or holds blanks".to_owned());
        }
        let mut parts = Vec::new();
        let mut before = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => {
                    before.push_str(&text);
                    parts.push(Part::Text(text));
                }
                Piece::Field(path) => {
                    let place = place_after(&before)?;
                    before.push('x');
                    parts.push(Part::Field { path, place });
                }
            }
        }
        let shape = Url::parse(&before).map_err(|fault| format!("is no URL: {fault}"))?;
        if has_dots(&before) {
            return Err("has a part . or .. in its path: expected the path that is meant".to_owned());
        }
        let fields = parts.iter().filter_map(|part| match part {
            Part::Field { place, .. } => Some(*place),
            _ => None,
        });
        let reach = fields.fold(Reach::Fixed, |reach, place| match place {
            Place::Host => Reach::Host,
            Place::Path | Place::Query if reach == Reach::Fixed => Reach::Path,
            _ => reach,
        });
        let shown = shown(&parts, &shape);
        Ok(Self { parts, reach, shape: Some(shape), shown })
    }

    /// What of the URL the payload decides.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The URL with a letter for each field, where there is more than a field.
    pub fn shape(&self) -> Option<&Url> {
        self.shape.as_ref()
    }

    /// For people: the template without user, password and query, and with no field filled in.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The URL for a payload (JSON text), or why there is none: a sentence that names the field and not its value.
    pub fn fill(&self, payload: &str, rules: &HostRules) -> Result<Url, String> {
        if let Some(fixed) = self.fixed() {
            return Ok(fixed.clone());
        }
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Field { path, place } => {
                    let value = field(payload, path)?;
                    let value = escaped(&value, *place)
                        .map_err(|fault| format!("the payload's field {} {fault}", path.join(".")))?;
                    text.push_str(&value);
                }
                Part::Whole(path) => text = whole(&field(payload, path)?, &path.join("."))?,
            }
        }
        // Checked before it is parsed: the parser takes dots out, and leaves no trace of them at the end of a path.
        if self.shape.is_some() && has_dots(&text) {
            return Err("a field of the payload makes a part of the path . or ..".to_owned());
        }
        if text.len() > URL_BYTES_MAX {
            return Err(format!("the URL has {} bytes: at most {URL_BYTES_MAX}", text.len()));
        }
        let url =
            Url::parse(&text).map_err(|fault| format!("the URL made from the payload is none: {fault}"))?;
        self.compare(&url)?;
        if self.reach == Reach::Host {
            rules.allow_url(&url)?;
        }
        Ok(url)
    }

    /// The URL that is the same for every job, and was checked when it was read.
    fn fixed(&self) -> Option<&Url> {
        let fits = |url: &&Url| url.as_str().len() <= URL_BYTES_MAX;
        self.shape.as_ref().filter(|_| self.reach == Reach::Fixed).filter(fits)
    }

    /// The last word, whatever was thought of before: outside of its fields the URL is the template's.
    fn compare(&self, url: &Url) -> Result<(), String> {
        let Some(shape) = &self.shape else { return Ok(()) };
        let parts = |url: &Url| url.path_segments().map_or(0, Iterator::count);
        let same = url.scheme() == shape.scheme()
            && (self.reach == Reach::Host || url.host() == shape.host())
            && url.port() == shape.port()
            && (url.username(), url.password()) == (shape.username(), shape.password())
            && parts(url) == parts(shape)
            && url.query().is_some() == shape.query().is_some()
            && url.fragment() == shape.fragment();
        if same {
            Ok(())
        } else {
            Err("a field of the payload would change more of the URL than its own place".to_owned())
        }
    }
}

enum Piece {
    Text(String),
    Field(Vec<String>),
}

/// Takes the text apart at its braces.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    const EXPECTED: &str = "expected a field of the payload, as {user_id} or {user.id}";
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let end = brace.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = end.ok_or_else(|| format!("has a brace without its other: {EXPECTED}"))?;
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        let word = |part: &String| {
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
        };
        if !path.iter().all(word) {
            return Err(format!("has {{{name}}}: {EXPECTED}"));
        }
        pieces.push(Piece::Field(path));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// Where a field stands that follows this much of a URL.
fn place_after(before: &str) -> Result<Place, String> {
    let after_scheme = before.split_once("://").map_or("", |(_, rest)| rest);
    let Some(end) = after_scheme.find(['/', '\\', '?', '#']) else {
        if after_scheme.contains('@')
            || after_scheme.rsplit(']').next().is_some_and(|rest| rest.contains(':'))
        {
            return Err(
                "has a field beside a user or in the port: expected it in the host, path or query".to_owned()
            );
        }
        return Ok(Place::Host);
    };
    let rest = &after_scheme[end..];
    match (rest.contains('?'), rest.contains('#')) {
        (_, true) => Err("has a field after #, which is never sent".to_owned()),
        (true, false) => Ok(Place::Query),
        (false, false) => Ok(Place::Path),
    }
}

/// A URL that a payload names as a whole.
fn whole(value: &str, name: &str) -> Result<String, String> {
    // The parser drops blanks around and tabs inside, and would call what was not written.
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("the payload's field {name} holds blanks or control characters: expected a URL"));
    }
    if value.contains('\\') {
        return Err(format!("the payload's field {name} holds \\: expected a URL"));
    }
    let url = Url::parse(value).map_err(|fault| format!("the payload's field {name} is no URL: {fault}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "the payload's field {name} has the scheme {}: expected http or https",
            url.scheme()
        ));
    }
    if authority(value).contains('@') {
        return Err(format!("the payload's field {name} names a user: expected a URL without"));
    }
    Ok(value.to_owned())
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// Whether a part of the path is `.` or `..`, also in disguise.
fn has_dots(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or(rest);
    let part_is_dots =
        |part: &str| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    path.split(['/', '\\']).skip(1).any(part_is_dots)
}

/// Without user, password, query and fragment.
fn shown(parts: &[Part], shape: &Url) -> String {
    let all: String = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field { path, .. } | Part::Whole(path) => format!("{{{}}}", path.join(".")),
        })
        .collect();
    let Some((scheme, rest)) = all.split_once("://") else { return all };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
    let path = rest[end..].split(['?', '#']).next().unwrap_or_default();
    if all.contains('{') { format!("{scheme}://{host}{path}") } else { public(shape) }
}

fn public(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // These fail only where there is nothing to remove.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests;
