//! `type = "process"`.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;

use super::Command;
use crate::config::duration::{format_duration, parse_duration, serialize_some};
use crate::config::table::Table;

/// More children of one kind leave a machine no room for anything else.
const PROCESSES: RangeInclusive<usize> = 1..=256;
/// More jobs in the hand of one child would make its death too costly.
pub(super) const CONCURRENCY_MAX: usize = 1_000;
/// Nothing starts in less; what takes longer is stuck.
const READY_WITHIN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);

/// A program that is started once, and its surroundings.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    /// The program.
    #[serde(flatten)]
    pub program: Command,
    /// How many of it run at once.
    pub processes: usize,
    /// How long one may take to say that it is ready; `None` when it need not say so.
    #[serde(serialize_with = "serialize_some")]
    pub ready_within: Option<Duration>,
}

impl Process {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            program: Command::read(table),
            processes: table.whole("processes", 1, PROCESSES),
            ready_within: table.read("ready_within", |given| {
                let text = given.text()?;
                let time = parse_duration(&text)?;
                let (least, most) = (*READY_WITHIN.start(), *READY_WITHIN.end());
                let expected = format!("expected {} to {}", format_duration(least), format_duration(most));
                READY_WITHIN.contains(&time).then_some(time).ok_or(format!("is {text:?}: {expected}"))
            }),
        }
    }
}
