//! Lays the sources over each other: file, `DATABASE_URL`, environment, flags. Defaults are the keys' own.
//!
//! Each environment variable and each flag is a layer of its own, so that figment's tags lead from any value
//! back to the very name that set it.

use std::collections::BTreeMap;
use std::path::Path;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Error, Figment, Metadata, Profile, Provider, Source};

use super::fault::Fault;
use super::sources::Sources;
use super::{env, file};

/// The sort of place a value came from; also the name of a figment layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    File,
    Env,
    Flag,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) layer: Layer,
    /// `rowcrew.toml:7`, `ROWCREW_SCHEMA`, `--schema`.
    pub(super) name: String,
}

/// The merged values, and what leads from them back to their sources.
pub(super) struct Layers {
    pub(super) dict: Dict,
    figment: Figment,
    lines: file::Lines,
    /// Lines that are no TOML.
    pub(super) broken: Vec<Fault>,
    /// Sources that could not be read at all.
    pub(super) faults: Vec<Fault>,
}

impl Layers {
    pub(super) fn read(sources: &Sources) -> Self {
        let file = file::read(sources);
        let mut faults = file.faults;
        let mut figment = Figment::new();
        if let Some(path) = &file.path {
            figment = figment.merge(One { layer: Layer::File, name: name_of(path), dict: file.dict.clone() });
        }
        for (name, path, text) in env::variables(sources, &file.dict, &mut faults) {
            figment = figment.merge(One { layer: Layer::Env, name, dict: nest(&path, text.into()) });
        }
        for (name, path, value) in sources.flags.settings() {
            let path: Vec<_> = path.iter().map(|part| (*part).to_owned()).collect();
            figment =
                figment.merge(One { layer: Layer::Flag, name: name.to_owned(), dict: nest(&path, value) });
        }
        let dict = figment.find_value("").ok().and_then(Value::into_dict).unwrap_or_default();
        Self { dict, figment, lines: file.lines, broken: file.broken, faults }
    }

    /// Where the value with this tag came from; `None` for what was made up on the way.
    pub(super) fn origin(&self, path: &[String], tag: Tag) -> Option<Origin> {
        let metadata = self.figment.get_metadata(tag)?;
        let name = metadata.source.as_ref().and_then(Source::custom)?.to_owned();
        match metadata.name.as_ref() {
            "File" => {
                let line = self.lines.get(path).map(|line| format!(":{line}")).unwrap_or_default();
                Some(Origin { layer: Layer::File, name: name + &line })
            }
            "Env" => Some(Origin { layer: Layer::Env, name }),
            _ => Some(Origin { layer: Layer::Flag, name }),
        }
    }
}

/// One source for figment.
struct One {
    layer: Layer,
    name: String,
    dict: Dict,
}

impl Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::from(format!("{:?}", self.layer), Source::Custom(self.name.clone()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(BTreeMap::from([(Profile::Default, self.dict.clone())]))
    }
}

/// The table that has nothing but this value at this path.
fn nest(path: &[String], value: Value) -> Dict {
    match path {
        [] => Dict::new(),
        [key] => Dict::from([(key.clone(), value)]),
        [key, rest @ ..] => Dict::from([(key.clone(), nest(rest, value).into())]),
    }
}

pub(super) fn name_of(path: &Path) -> String {
    path.display().to_string()
}

/// A path as one writes it in TOML: a part that is no bare key is quoted.
pub(super) fn key_name(path: &[String]) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let parts: Vec<_> = path
        .iter()
        .map(
            |part| {
                if !part.is_empty() && part.chars().all(bare) { part.clone() } else { format!("{part:?}") }
            },
        )
        .collect();
    parts.join(".")
}
