//! A worker in one file: `DATABASE_URL=postgres://localhost/app cargo run --example worker`.
//!
//! It makes the tables, enqueues a few jobs for itself, and runs until Ctrl-C. Look meanwhile:
//! `select * from rowcrew.job_status` in psql.

use std::time::Duration;

use rowcrew::{Backoff, Context, Failure, JobDefaults, KindOptions, NewJob, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Email {
    to: String,
}

/// Waits as a mail server would. An error here, `?` included, means: try again later.
async fn send(email: Email, context: Context) -> Result<String, Failure> {
    if !email.to.contains('@') {
        return Err(Failure::bury(format!("{} is no address", email.to)));
    }
    for part in 1..=3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        context.progress(serde_json::json!({ "part": part, "of": 3 }));
    }
    // Exists exactly if this job completes.
    context.enqueue(NewJob::new("digest", &email.to)?.run_at(Duration::from_secs(2)))?;
    Ok(format!("sent to {} at attempt {}", email.to, context.attempt()))
}

/// Computes, and would hold up everything else if it were async: it runs on a blocking thread.
#[allow(clippy::needless_pass_by_value, reason = "the form of a handler")]
fn digest(text: String, context: Context) -> Result<u64, Failure> {
    let mut sum = 0_u64;
    for round in 0..200_000_000_u64 {
        if round % 1_000_000 == 0 && context.should_stop() {
            return Err(Failure::retry("told to stop"));
        }
        sum = sum.wrapping_mul(31).wrapping_add(text.len() as u64 ^ round);
    }
    Ok(sum)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL, as postgres://localhost/app")?;
    rowcrew::migrate(&url).await?;

    let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let tx = client.transaction().await?;
    for to in ["ada@example.org", "nobody"] {
        let email = Email { to: to.to_owned() };
        rowcrew::enqueue(&tx, &NewJob::new("email.send", &email)?.unique_key(to)).await?;
    }
    tx.commit().await?;

    let gently = KindOptions {
        defaults: JobDefaults { backoff: Backoff::default(), max_attempts: 10, ..JobDefaults::default() },
        concurrency: Some(2),
    };
    Worker::builder(url)
        .handle("email.send", send)
        .handle_blocking_with("digest", gently, digest)
        .run()
        .await?;
    Ok(())
}
