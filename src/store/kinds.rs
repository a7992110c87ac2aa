//! Kinds that may not begin now.

use std::time::Duration;

use super::enqueue::When;
use super::look::{Record, records};
use super::{Error, Store};

impl Store {
    /// The kinds that are paused, each with the time that is left; `None` until somebody resumes it.
    pub async fn paused_kinds(&self) -> Result<Vec<(String, Option<Duration>)>, Error> {
        let rows = self.query(&self.statements.kinds_paused, &[]).await?;
        let left = |ms: i64| Duration::from_millis(ms.max(0).unsigned_abs());
        Ok(rows.iter().map(|row| (row.get(0), row.get::<_, Option<i64>>(1).map(left))).collect())
    }

    /// Pauses a kind for so long, or with `None` disables it, because of what a handler was told; answers whether
    /// that changed anything. A pause is never shortened.
    pub async fn hold_kind(&self, kind: &str, span: Option<Duration>, reason: &str) -> Result<bool, Error> {
        let ms = span.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        Ok(self.query_one(&self.statements.kind_hold, &[&kind, &ms, &reason]).await?.get(0))
    }

    /// Lists the kinds that are paused, have a live worker, or were run in the last hour.
    pub async fn list_kinds(&self) -> Result<Vec<Record>, Error> {
        Ok(records(&self.query(&self.statements.kinds_list, &[]).await?))
    }

    /// Pauses a kind, with `None` until it is resumed; answers until when.
    pub async fn pause_kind(
        &self,
        kind: &str,
        until: Option<When>,
        reason: Option<&str>,
    ) -> Result<String, Error> {
        let (until, for_ms) = When::halves(until);
        let row = self.query_one(&self.statements.kind_pause, &[&kind, &until, &for_ms, &reason]).await?;
        Ok(row.get(1))
    }

    /// Ends the pause of a kind; answers whether there was one.
    pub async fn resume_kind(&self, kind: &str) -> Result<bool, Error> {
        Ok(self.query_one(&self.statements.kind_resume, &[&kind]).await?.get(0))
    }
}
