//! Drains a form's table: sessions that claim and finish in turn, as the halves of a worker do.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Row, Statement};

use super::form::{Claim, Cursor, Form};
use super::sql;
use crate::bench::rig::Rig;
use crate::bench::workers::TICK_US;

/// How long a drain may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// Before a session that found nothing looks again: the others have what is left, or it lies behind the cursor.
const PAUSE: Duration = Duration::from_millis(1);

/// The place in the order of jobs that a claim starts behind.
type Place = (String, i64);

/// What the sessions of a drain share.
struct Shared {
    form: Form,
    jobs: i64,
    claimed: AtomicI64,
    batches: AtomicI64,
    cursor: Mutex<Place>,
    began: Instant,
}

/// What a drain took.
pub(super) struct Drained {
    pub(super) jobs_per_second: f64,
    /// Of the server's processors; `None` where the server does not tell.
    pub(super) processor_us_per_job: Option<f64>,
}

/// Claims and finishes all jobs.
pub(super) async fn drain(rig: &Rig<'_>, form: &Form, jobs: i64) -> anyhow::Result<Drained> {
    let mut sessions = Vec::new();
    for _ in 0..form.sessions {
        sessions.push(Session::open(rig, form).await?);
    }
    let shared = Arc::new(Shared {
        form: *form,
        jobs,
        claimed: AtomicI64::new(0),
        batches: AtomicI64::new(0),
        cursor: Mutex::new(start()),
        began: Instant::now(),
    });
    let loops: Vec<_> =
        sessions.into_iter().map(|session| tokio::spawn(session.work(shared.clone()))).collect();
    let mut ticks = Some(0);
    for one in loops {
        ticks = ticks.zip(one.await??).map(|(sum, more)| sum + more);
    }
    Ok(Drained {
        jobs_per_second: jobs as f64 / shared.began.elapsed().as_secs_f64(),
        processor_us_per_job: ticks.map(|ticks| ticks as f64 * TICK_US / jobs as f64),
    })
}

fn start() -> Place {
    ("-infinity".to_owned(), 0)
}

struct Session {
    client: Client,
    claim: Statement,
    finish: Statement,
}

impl Session {
    async fn open(rig: &Rig<'_>, form: &Form) -> anyhow::Result<Self> {
        let client = rig.connect().await?;
        let mode = if form.generic_plan { "force_generic_plan" } else { "force_custom_plan" };
        // As in the engine's sessions.
        client
            .batch_execute(&format!(
                "set application_name = 'forms'; set enable_bitmapscan = off; set jit = off; \
                 set plan_cache_mode = {mode}"
            ))
            .await?;
        let claim = client.prepare_typed(&sql::claim(form), &sql::CLAIM_PARAMS).await?;
        let finish = client.prepare_typed(&sql::finish(form), &sql::FINISH_PARAMS).await?;
        Ok(Self { client, claim, finish })
    }

    /// Works until all jobs are claimed; answers the ticks of processor time that it took the server.
    async fn work(self, shared: Arc<Shared>) -> anyhow::Result<Option<i64>> {
        let before = self.ticks().await;
        let holds = shared.form.claim == Claim::Hold;
        let mut own = start();
        while shared.claimed.load(Ordering::Relaxed) < shared.jobs {
            ensure!(shared.began.elapsed() < PATIENCE, "{} does not end", shared.form.name);
            let batch = shared.batches.fetch_add(1, Ordering::Relaxed) + 1;
            let (due_at, id) = match shared.form.cursor {
                Cursor::None => start(),
                Cursor::Own => own.clone(),
                Cursor::Shared => shared.cursor.lock().await.clone(),
            };
            if holds {
                self.client.batch_execute("begin").await?;
            }
            let rows = self.client.query(&self.claim, &[&due_at, &id, &shared.form.batch, &batch]).await?;
            if let Some(place) = last(&rows) {
                shared.claimed.fetch_add(rows.len() as i64, Ordering::Relaxed);
                advance(&mut own, place.clone());
                advance(&mut *shared.cursor.lock().await, place);
                self.end(&rows, batch).await?;
            } else {
                own = start();
                *shared.cursor.lock().await = start();
                tokio::time::sleep(PAUSE).await;
            }
            if holds {
                self.client.batch_execute("commit").await?;
            }
        }
        Ok(before.zip(self.ticks().await).map(|(before, after)| after - before))
    }

    async fn ticks(&self) -> Option<i64> {
        self.client.query_one(sql::PROCESSOR_TIME, &[]).await.ok().map(|row| row.get(0))
    }

    async fn end(&self, rows: &[Row], batch: i64) -> anyhow::Result<()> {
        let mut order: Vec<&Row> = rows.iter().collect();
        order.sort_by_key(|row| row.get::<_, i64>(0));
        let ids: Vec<i64> = order.iter().map(|row| row.get(0)).collect();
        let places: Vec<&str> = order.iter().map(|row| row.get(3)).collect();
        self.client.execute(&self.finish, &[&ids, &places, &batch]).await?;
        Ok(())
    }
}

/// Where the batch ends. All jobs of a bench are due in the order of their ids.
fn last(rows: &[Row]) -> Option<Place> {
    let last = rows.iter().max_by_key(|row| row.get::<_, i64>(0))?;
    Some((last.get(2), last.get(0)))
}

fn advance(cursor: &mut Place, place: Place) {
    if place.1 > cursor.1 {
        *cursor = place;
    }
}
