//! Takes the settings out of the merged layers one by one, and remembers what was wrong with each.
//!
//! Serde stops at the first fault and forgets where a value came from. Here a section asks for each of its
//! keys with default and range in one line; what it did not ask for is unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use figment::value::{Dict, Value};
use secrecy::SecretString;

use super::fault::Fault;
use super::given::Given;
use super::layers::{Layer, Layers, Origin, key_name};
use super::suggest::{did_you_mean, nearest};

/// What is noted while the sections are read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) faults: RefCell<Vec<Fault>>,
    /// Full key to where its value came from; what is not here has its default.
    pub(super) origins: RefCell<BTreeMap<String, Origin>>,
    /// The full path of each setting asked for in a section with fixed keys.
    known: RefCell<Vec<Vec<String>>>,
}

/// One table of the merged configuration; what was read is taken out.
pub(super) struct Table<'a> {
    layers: &'a Layers,
    notes: &'a Notes,
    path: Vec<String>,
    origin: Option<Origin>,
    dict: Dict,
    asked: Vec<String>,
}

impl<'a> Table<'a> {
    pub(super) fn root(layers: &'a Layers, notes: &'a Notes) -> Self {
        Self { layers, notes, path: vec![], origin: None, dict: layers.dict.clone(), asked: vec![] }
    }

    /// Reads one setting; a fault is noted and reads as `None`.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&Given) -> Result<T, String>,
    ) -> Option<T> {
        self.asked.push(key.to_owned());
        let path = self.path_of(key);
        self.notes.known.borrow_mut().push(path.clone());
        let value = self.dict.remove(key)?;
        let origin = self.layers.origin(&path, value.tag()).or(self.origin.clone());
        let bare = origin.as_ref().is_some_and(|origin| origin.layer != Layer::File);
        let parsed = parse(&Given { value, bare });
        if let Some(origin) = origin {
            self.notes.origins.borrow_mut().insert(key_name(&path), origin);
        }
        parsed.map_err(|problem| self.fault(key, problem)).ok()
    }

    pub(super) fn whole<T>(&mut self, key: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<i128> + PartialOrd + Display + Copy,
    {
        self.read(key, |given| given.whole(&range)).unwrap_or(default)
    }

    pub(super) fn truth(&mut self, key: &str, default: bool) -> bool {
        self.read(key, Given::truth).unwrap_or(default)
    }

    /// A string that must pass the check, which answers with the rest of a sentence about the key.
    pub(super) fn text(&mut self, key: &str, check: impl Fn(&str) -> Result<(), String>) -> Option<String> {
        self.read(key, |given| {
            let text = given.text()?;
            check(&text).map(|()| text)
        })
    }

    pub(super) fn secret(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<SecretString> {
        self.text(key, check).map(SecretString::from)
    }

    /// The table under a key; `None` if it is absent or no table.
    pub(super) fn inner(&mut self, key: &str) -> Option<Self> {
        let path = self.path_of(key);
        let tag = self.dict.get(key).map(Value::tag)?;
        let origin = self.layers.origin(&path, tag).or(self.origin.clone());
        let dict = self.read(key, Given::table)?;
        Some(Self { layers: self.layers, notes: self.notes, path, origin, dict, asked: vec![] })
    }

    /// The table under a key; an empty one if it is absent or no table.
    pub(super) fn table(&mut self, key: &str) -> Self {
        let path = self.path_of(key);
        self.inner(key).unwrap_or_else(|| Self {
            layers: self.layers,
            notes: self.notes,
            path,
            origin: None,
            dict: Dict::new(),
            asked: vec![],
        })
    }

    /// A table whose names are the user's own, and whose values are secret strings.
    pub(super) fn secrets(
        &mut self,
        key: &str,
        check: impl Fn(&str, &str) -> Result<(), String>,
    ) -> BTreeMap<String, SecretString> {
        let mut table = self.table(key);
        let names = table.names();
        names
            .into_iter()
            .filter_map(|name| {
                let secret = table.secret(&name, |text| check(&name, text))?;
                Some((name, secret))
            })
            .collect()
    }

    /// The keys not read yet.
    pub(super) fn names(&self) -> Vec<String> {
        self.dict.keys().cloned().collect()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.dict.contains_key(key)
    }

    /// Notes a fault of a key that was read, or of one that should be there.
    pub(super) fn fault(&self, key: &str, problem: impl Into<String>) {
        self.fault_at(&self.path_of(key), problem);
    }

    /// Notes a fault of a key anywhere, by its full path.
    pub(super) fn fault_at(&self, path: &[String], problem: impl Into<String>) {
        let name = key_name(path);
        let origin = self.notes.origins.borrow().get(&name).or(self.origin.as_ref()).cloned();
        let source = origin.map(|origin| origin.name).unwrap_or_default();
        self.notes.faults.borrow_mut().push(Fault { source, key: name, problem: problem.into() });
    }

    /// Notes a key that must be there. In a file with broken lines it may well be there: nothing is noted.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        if self.is_whole() {
            self.fault(key, format!("is missing: expected {expected}"));
        }
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        for (key, value) in &self.dict {
            let path = self.path_of(key);
            let origin = self.layers.origin(&path, value.tag()).or(self.origin.clone());
            let hint = match &origin {
                Some(Origin { layer: Layer::Env, name }) => {
                    let hint = self.variable_meant(name);
                    // The platform sets such names too (`ROWCREW_PORT` of a Kubernetes service,
                    // `ROWCREW_JOB_ID` of a command handler): without a section, only a near miss is a slip.
                    if self.path.is_empty() && hint.is_none() && !name.contains("__") {
                        continue;
                    }
                    hint
                }
                _ => nearest(key, self.asked.iter().map(String::as_str)).map(str::to_owned),
            };
            let source = origin.map(|origin| origin.name).unwrap_or_default();
            let problem = format!("is unknown{}", did_you_mean(hint.as_deref()));
            self.notes.faults.borrow_mut().push(Fault { source, key: key_name(&path), problem });
        }
    }

    /// The environment variable that may have been meant, counting one `_` too few or too many as nothing.
    fn variable_meant(&self, name: &str) -> Option<String> {
        let known = self.notes.known.borrow();
        let names: Vec<_> =
            known.iter().map(|path| format!("ROWCREW_{}", path.join("__").to_uppercase())).collect();
        let flat: Vec<_> = names.iter().map(|name| name["ROWCREW_".len()..].replace("__", "_")).collect();
        let word = name.strip_prefix("ROWCREW_")?.replace("__", "_");
        let meant = nearest(&word, flat.iter().map(String::as_str))?;
        flat.iter().position(|name| name == meant).map(|at| names[at].clone())
    }

    /// Whether all that was written could be read, so that what is absent was not given.
    pub(super) fn is_whole(&self) -> bool {
        self.layers.broken.is_empty()
    }

    fn path_of(&self, key: &str) -> Vec<String> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        path
    }
}
