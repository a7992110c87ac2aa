//! Reads the environment's share: `ROWCREW_SECTION__KEY`, and `DATABASE_URL`.
//!
//! Values stay text; figment's own reader would make numbers of passwords that look like one.

use figment::value::{Dict, Value};

use super::fault::Fault;
use super::sources::Sources;

pub(super) const PREFIX: &str = "ROWCREW_";
pub(super) const DATABASE_URL: &str = "DATABASE_URL";

/// A variable, the path of the setting it stands for, and its text.
type Variable = (String, Vec<String>, String);

/// The variables that set something, the weakest first. An empty one counts as unset.
pub(super) fn variables(sources: &Sources, file: &Dict, faults: &mut Vec<Fault>) -> Vec<Variable> {
    let mut variables = vec![];
    let ours = sources.env.range(PREFIX.to_owned()..).take_while(|(name, _)| name.starts_with(PREFIX));
    for (name, value) in sources.env.get_key_value(DATABASE_URL).into_iter().chain(ours) {
        if value.is_empty() {
            continue;
        }
        let mut fault = |problem: String| {
            faults.push(Fault { source: name.clone(), key: String::new(), problem });
        };
        let Some(text) = value.to_str() else {
            fault("is not UTF-8 text".to_owned());
            continue;
        };
        let deeper = format!("{name}__");
        if let Some((deeper, _)) =
            sources.env.range(deeper.clone()..).next().filter(|(other, _)| other.starts_with(&deeper))
        {
            fault(format!("is set beside {deeper}: expected only one of the two"));
        }
        let path = match name.strip_prefix(PREFIX) {
            Some(rest) => path(rest, file),
            None => vec!["database_url".to_owned()],
        };
        variables.push((name.clone(), path, text.to_owned()));
    }
    variables
}

/// Turns `HANDLERS__EMAIL_SEND__URL` into `handlers`, `email.send`, `url`.
///
/// A shell allows no dots and no lower case by custom, so a part means the file's key that reads the same
/// with every other sign as `_`; with no such key, or with several, it means itself in lower case.
fn path(rest: &str, file: &Dict) -> Vec<String> {
    let mut table = Some(file);
    let mut path: Vec<String> = vec![];
    for part in rest.split("__") {
        let mut alike = table.into_iter().flat_map(Dict::keys).filter(|key| fold(key) == fold(part));
        let key = match (alike.next(), alike.next()) {
            (Some(key), None) => key.clone(),
            // The names in a command's `env` table are environment variables themselves.
            _ if path.len() == 3 && path[0] == "handlers" && path[2] == "env" => part.to_owned(),
            _ => part.to_lowercase(),
        };
        table = table.and_then(|table| table.get(&key)).and_then(Value::as_dict);
        path.push(key);
    }
    path
}

fn fold(key: &str) -> String {
    key.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
