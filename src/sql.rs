//! Statements for programs that enqueue over a driver of their own, in a transaction of their own: sqlx, Diesel,
//! an ORM. They name the schema `rowcrew`.
//!
//! ```text
//! let id: i64 = sqlx::query_scalar(rowcrew::sql::ENQUEUE)
//!     .bind("email.send")
//!     .bind(json!({"to": "a@example.org"}))
//!     .fetch_one(&mut *tx)
//!     .await?;
//! ```

/// Inserts one job: `$1` its kind (`text`), `$2` its payload (`jsonb`). Answers its id (`int8`).
pub const ENQUEUE: &str = include_str!("../sql/job_insert.sql");

/// Inserts many jobs, or one with settings: `$1` is an array of objects (`jsonb`), each with `kind`, `payload` and
/// any of `queue`, `priority`, `run_at`, `max_attempts`, `backoff`, `timeout`, `expires_at`, `unique_key`,
/// `group_key`, `tags`, `meta`. Answers the ids (`int8`) of those inserted: a job whose `unique_key` is taken by an
/// unfinished one of its kind is left out.
pub const ENQUEUE_MANY: &str = include_str!("../sql/jobs_insert.sql");
