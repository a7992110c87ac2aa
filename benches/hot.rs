//! Times of the code that every job passes, without a database: `cargo bench`.
//!
//! A batch is 1,000 jobs, the most of one claim. A worker that ends 100,000 jobs a second has 10 us for each, so
//! what takes 1 ms a batch here is a tenth of that.

use std::time::Duration;

use divan::{Bencher, black_box};
use rowcrew::handler::signature::{self, Key};
use rowcrew::store::Moment;
use rowcrew::worker::hot;
use rowcrew::{Backoff, text};
use tokio_postgres::types::{FromSql, Type};

const BATCH: i64 = 1_000;

fn main() {
    divan::main();
}

#[divan::bench]
fn due_moments_of_a_batch_are_read() -> i64 {
    let raw = black_box(813_000_000_000_000_i64.to_be_bytes());
    (0..BATCH)
        .map(|_| Moment::from_sql(&Type::TIMESTAMPTZ, black_box(&raw)).expect("eight bytes").0)
        .max()
        .unwrap_or(0)
}

#[divan::bench]
fn backoff_of_a_failed_job() -> Option<Duration> {
    Backoff::default().delay_after(black_box(7), black_box(Duration::from_mins(1)), black_box(0.5))
}

#[divan::bench]
fn backoff_of_a_row_is_read() -> Backoff {
    serde_json::from_str(black_box(r#"{"type": "exponential", "base_ms": 250, "max_ms": 60000}"#))
        .expect("a backoff")
}

#[divan::bench]
fn error_of_a_failed_job_is_made_printable() -> String {
    text::truncated(black_box(&"connection refused: ".repeat(20)), text::MESSAGE_BYTES_MAX)
}

#[divan::bench]
fn batch_of_attempts_is_counted(bencher: Bencher<'_, '_>) {
    let attempts = hot::attempts(BATCH as u64);
    bencher.bench(|| hot::tally(black_box(&attempts)));
}

#[divan::bench(args = [1, 10])]
fn cursors_of_queues_make_the_lanes_of_a_claim(bencher: Bencher<'_, '_>, queues: usize) {
    let queues: Vec<String> = (0..queues).map(|n| format!("queue-{n}")).collect();
    let mut cursors = hot::Cursors::new(&queues);
    bencher.bench_local(|| cursors.next_lanes());
}

#[divan::bench]
fn webhook_is_signed(bencher: Bencher<'_, '_>) {
    let secret = format!("whsec_{}", "QUJD".repeat(11)).into();
    let key = [Key::parse(&secret).expect("a secret")];
    let body = [b'x'; 1_024];
    bencher.bench(|| signature::sign(&key, "msg_1", 1_700_000_000, black_box(&body)));
}
