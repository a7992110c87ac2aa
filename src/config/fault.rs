//! What can be wrong with a configuration, all of it in one report.
//!
//! A deployment is corrected once, not once a fault: so nothing here stops at the first one.

use std::fmt;

/// One thing that is wrong, where it was said, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file with its line, the environment variable or the flag; empty when nothing was said at all.
    pub source: String,
    /// The setting's full name; empty when the fault is not about one setting, as in broken TOML.
    pub key: String,
    /// The rest of the sentence: what is wrong, and what is expected. Never holds a secret.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(f, "{}: ", self.source)?;
        }
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

/// Every fault of one configuration; at least one. Printed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Makes a report, unless there is nothing to report.
    ///
    /// Lines that are not even TOML are named once; what was made of their remains is left out.
    pub(super) fn collect(mut broken: Vec<Fault>, mut others: Vec<Fault>) -> Result<(), Self> {
        broken.dedup_by(|next, first| next.source == first.source);
        others.retain(|fault| broken.iter().all(|line| line.source != fault.source));
        let all: Vec<_> = broken.into_iter().chain(others).collect();
        if all.is_empty() { Ok(()) } else { Err(Self(all)) }
    }

    /// A report of one fault that no source can be named for.
    pub(super) fn unset(key: &str, problem: &str) -> Self {
        Self(vec![Fault { source: String::new(), key: key.to_owned(), problem: problem.to_owned() }])
    }

    /// The faults, broken lines first, then in the order of the sections.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "configuration: {one}"),
            all => {
                write!(f, "configuration: {} faults", all.len())?;
                all.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

impl std::error::Error for Faults {}
