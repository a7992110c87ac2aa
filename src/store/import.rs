//! Puts many jobs in by binary COPY: all of them or none.
//!
//! One transaction holds one COPY after another, because the server's word on a row is only heard when its
//! COPY ends: a fault in the third line must not wait for the last. Nothing is kept in memory but the COPY's
//! own buffer; a slow server slows the reading down. It runs on a private connection, since it may take
//! longer than any statement should, and `statement_timeout` is off for it.

use std::pin::Pin;

use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::enqueue::NewJob;
use super::error::describe;
use super::time::{Interval, JsonText, Moment};
use super::{Error, Private, Store};

/// Rows and payload bytes after which one COPY ends and the next begins. Fewer cost round trips, more make a
/// faulty row known later.
const ROWS_A_COPY: u64 = 10_000;
const BYTES_A_COPY: usize = 16 * 1024 * 1024;
/// How often the fate of a commit without an answer is asked for.
const INQUIRIES: u32 = 5;

const COLUMNS: [Type; 13] = [
    Type::TEXT,
    Type::JSONB,
    Type::TEXT,
    Type::INT2,
    Type::TIMESTAMPTZ,
    Type::INT4,
    Type::JSONB,
    Type::INTERVAL,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT_ARRAY,
    Type::JSONB,
];

/// An import under way. Dropped before [`Import::finish`], it leaves nothing behind.
pub struct Import {
    store: Store,
    private: Private,
    /// The database's clock when it began.
    now: Moment,
    /// Finds the transaction if its end is not heard.
    transaction: String,
    copy: Option<Copy>,
    total: u64,
}

/// One COPY under way.
struct Copy {
    writer: Pin<Box<BinaryCopyInWriter>>,
    rows: u64,
    bytes: usize,
    /// Rows and lines at which the numbers begin to differ otherwise than by one each: blank lines.
    lines: Vec<(u64, u64)>,
}

impl Store {
    /// Begins an import.
    pub async fn import(&self) -> Result<Import, Error> {
        let private = self.open_private().await?;
        private.run("import", "begin; set local statement_timeout = 0").await?;
        let row = private.store.query_one(&self.statements.import_begin, &[]).await?;
        let (now, transaction) = (row.get(0), row.get(1));
        Ok(Import { store: self.clone(), private, now, transaction, copy: None, total: 0 })
    }
}

impl Import {
    /// Adds a job; `line` is the number of the line it stands in, for errors.
    pub async fn push(&mut self, job: &NewJob, line: u64) -> Result<(), Error> {
        let mut copy = match self.copy.take() {
            Some(copy) => copy,
            None => self.begin_copy().await?,
        };
        copy.note(line);
        copy.rows += 1;
        copy.bytes += job.payload.len();
        let run_at = job.run_at.map_or(self.now, |when| when.by(self.now));
        let expires_at = job.expires_at.map(|when| when.by(self.now));
        let written = copy
            .writer
            .as_mut()
            .write(&[
                &job.kind,
                &JsonText(&job.payload),
                &job.queue_or_default(),
                &job.priority_or_default(),
                &run_at,
                &job.max_attempts,
                &job.backoff.as_deref().map(JsonText),
                &job.timeout.map(Interval),
                &expires_at,
                &job.unique_key,
                &job.group_key,
                &job.tags,
                &job.meta.as_deref().map(JsonText),
            ])
            .await;
        if let Err(source) = written {
            return Err(copy.fault(&source));
        }
        let full = copy.rows >= ROWS_A_COPY || copy.bytes >= BYTES_A_COPY;
        self.copy = Some(copy);
        if full { self.end_copy().await } else { Ok(()) }
    }

    /// Makes all of it visible at once; answers how many jobs these are.
    pub async fn finish(mut self) -> Result<u64, Error> {
        self.end_copy().await?;
        let Err(error) = self.private.run("import", "commit").await else {
            return Ok(self.total);
        };
        tracing::debug!(error = %crate::text::error_chain(&error), "an import's commit was not answered");
        match self.outcome().await.as_deref() {
            Some("committed") => Ok(self.total),
            Some("aborted") => Err(Error::Input(format!("nothing was enqueued: {error}"))),
            _ => Err(Error::Input(format!(
                "it is not known whether the {} jobs were enqueued: the database did not answer the commit \
                 ({error}). To find out, before any second try: select pg_xact_status('{}'), which says \
                 committed or aborted",
                self.total, self.transaction
            ))),
        }
    }

    async fn begin_copy(&self) -> Result<Copy, Error> {
        let statement = &self.store.statements.jobs_copy;
        let fault = |source| Error::Statement { statement: statement.name, source };
        let sink = self.private.client().copy_in(&statement.text).await.map_err(fault)?;
        let writer = Box::pin(BinaryCopyInWriter::new(sink, &COLUMNS));
        Ok(Copy { writer, rows: 0, bytes: 0, lines: Vec::new() })
    }

    async fn end_copy(&mut self) -> Result<(), Error> {
        let Some(mut copy) = self.copy.take() else {
            return Ok(());
        };
        match copy.writer.as_mut().finish().await {
            Ok(rows) => self.total += rows,
            Err(source) => return Err(copy.fault(&source)),
        }
        Ok(())
    }

    /// Asks over another connection what became of the transaction.
    async fn outcome(&self) -> Option<String> {
        for _ in 0..INQUIRIES {
            let asked = async {
                let private = self.store.open_private().await?;
                private.store.query_one(&self.store.statements.import_outcome, &[&self.transaction]).await
            };
            match asked.await {
                Ok(row) if row.get::<_, Option<&str>>(0) == Some("in progress") => {}
                Ok(row) => return row.get(0),
                Err(error) if !error.is_transient() => return None,
                Err(_) => {}
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        None
    }
}

impl Copy {
    fn note(&mut self, line: u64) {
        let expected = self.lines.last().map(|(row, line)| line + (self.rows - row));
        if expected != Some(line) {
            self.lines.push((self.rows, line));
        }
    }

    /// The line of a row, the first of which is 0.
    fn line_of(&self, row: u64) -> Option<u64> {
        let (first, line) = self.lines.iter().rev().find(|(first, _)| *first <= row)?;
        Some(line + (row - first))
    }

    /// The server names the row of this COPY, counted from 1, in the context of its error.
    fn fault(&self, source: &tokio_postgres::Error) -> Error {
        let Some(db) = source.as_db_error() else {
            return Error::Input(format!("nothing was enqueued: {}", describe(source)));
        };
        let row = db.where_().and_then(row_in);
        let at = row.and_then(|row| self.line_of(row.checked_sub(1)?));
        let at = at.map(|line| format!("line {line}: ")).unwrap_or_default();
        let problem = match db.constraint() {
            Some("jobs_payload_bytes") => "the payload is larger than the table takes; the limit is the \
                setting limits.payload_bytes_max, put in force by `rowcrew migrate`"
                .to_owned(),
            Some("jobs_unique_key") => {
                "its unique_key is that of an unfinished job of the kind, or of a line before".to_owned()
            }
            _ => describe(source),
        };
        Error::Input(format!("{at}{problem}; nothing was enqueued"))
    }
}

/// The number in "COPY jobs, line 3, column payload", in whatever language the words around it are.
fn row_in(context: &str) -> Option<u64> {
    let (_, after) = context.split_once("jobs")?;
    let digits = after.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_is_found_in_the_words_of_the_server() {
        assert_eq!(row_in("COPY jobs, line 3, column payload"), Some(3));
        assert_eq!(row_in("COPY jobs, Zeile 17"), Some(17));
        assert_eq!(row_in("PL/pgSQL function f()"), None);
    }
}
