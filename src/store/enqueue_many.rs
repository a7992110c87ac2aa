//! Puts many jobs in with one statement, in a transaction of the caller's if there is one.

use std::sync::OnceLock;

use chrono::DateTime;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::GenericClient;
use tokio_postgres::types::{ToSql, Type};

use super::sql::Statement;
use super::time::JsonText;
use super::{Error, Moment, NewJob, When};
use crate::JobId;

/// Enqueues jobs with one statement and answers the ids of those inserted: a job whose `unique_key` is taken by an
/// unfinished one of its kind, or by one before it in the list, is left out. All or none, also without a
/// transaction; in one of the caller's, exactly if that commits.
///
/// The client is a `Client` or `Transaction` of `tokio_postgres` or `deadpool_postgres`, the schema `rowcrew`;
/// [`enqueue_many_in`] names another one. Some thousands at once are well; for files there is
/// `rowcrew enqueue --from`. A text that is no JSON is [`Error::Input`], before anything is sent.
pub async fn enqueue_many(client: &impl GenericClient, jobs: &[NewJob]) -> Result<Vec<JobId>, Error> {
    static STATEMENT: OnceLock<Statement> = OnceLock::new();
    enqueue_with(STATEMENT.get_or_init(|| Statement::jobs_enqueue("rowcrew")), client, jobs).await
}

/// As [`enqueue_many`], for the tables in this schema.
pub async fn enqueue_many_in(
    schema: &str,
    client: &impl GenericClient,
    jobs: &[NewJob],
) -> Result<Vec<JobId>, Error> {
    enqueue_with(&Statement::jobs_enqueue(schema), client, jobs).await
}

async fn enqueue_with(
    statement: &Statement,
    client: &impl GenericClient,
    jobs: &[NewJob],
) -> Result<Vec<JobId>, Error> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let objects = jobs.iter().enumerate().map(|(at, job)| {
        Object::of(job).map_err(|(field, fault)| {
            Error::Input(format!(
                "job {} of the list, of kind {:?}, has a {field} that is no JSON: {fault}",
                at + 1,
                job.kind
            ))
        })
    });
    let objects = objects.collect::<Result<Vec<_>, _>>()?;
    let text = serde_json::to_string(&objects).map_err(|fault| Error::Input(fault.to_string()))?;
    let jobs = JsonText(&text);
    let params: [(&(dyn ToSql + Sync), Type); 1] = [(&jobs, Type::JSONB)];
    let sent = client.query_typed(&statement.text, &params).await;
    let rows = sent.map_err(|source| Error::Statement { statement: statement.name, source })?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A job as `jobs_enqueue.sql` takes it; what is not set is left out.
#[derive(Serialize)]
struct Object<'a> {
    kind: &'a str,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_in_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
}

impl<'a> Object<'a> {
    /// Or the field that is no JSON, and why.
    fn of(job: &'a NewJob) -> Result<Self, (&'static str, serde_json::Error)> {
        let json = |field: &'static str, text: &'a str| {
            serde_json::from_str::<&RawValue>(text).map_err(|fault| (field, fault))
        };
        let run = When::halves(job.run_at);
        let expires = When::halves(job.expires_at);
        Ok(Self {
            kind: &job.kind,
            payload: json("payload", &job.payload)?,
            queue: job.queue.as_deref(),
            priority: job.priority,
            run_at: run.0.map(in_words),
            run_in_ms: run.1,
            max_attempts: job.max_attempts,
            backoff: job.backoff.as_deref().map(|text| json("backoff", text)).transpose()?,
            timeout: job.timeout.map(|time| format!("{} microseconds", time.as_micros())),
            expires_at: expires.0.map(in_words),
            expires_in_ms: expires.1,
            unique_key: job.unique_key.as_deref(),
            group_key: job.group_key.as_deref(),
            tags: job.tags.as_deref(),
            meta: job.meta.as_deref().map(|text| json("meta", text)).transpose()?,
        })
    }
}

/// As `timestamptz` reads it; beyond its calendar, infinity.
fn in_words(moment: Moment) -> String {
    match DateTime::from_timestamp_micros(moment.unix_micros()) {
        Some(time) => time.to_rfc3339(),
        None if moment.0 < 0 => "-infinity".to_owned(),
        None => "infinity".to_owned(),
    }
}
