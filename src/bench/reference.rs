//! What the same server does without rowcrew: bare loops through the same driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::rig::Rig;
use super::watch::Run;

/// Jobs of one claim.
const BATCH: i64 = 1_000;

/// The best form of claim that ARCHITECTURE.md's table has, with its cursor.
const CLAIM: &str = "
    update rowcrew.jobs j
    set state = 'running', attempts = j.attempts + 1, claimed_by = 1, claim_id = 1, claimed_at = now()
    where j.ctid = any (array(
            select due.ctid
            from rowcrew.jobs due
            where due.shard = 0 and due.queue = 'default' and due.priority = 5
                and (due.due_at, due.id) > ($1::text::timestamptz, $2) and due.due_at <= now()
                and due.state = 'available'
            order by due.due_at, due.id
            limit $3
            for update skip locked
        ))
        and j.state = 'available'
    returning j.id, j.payload::text, j.due_at::text";
const TAKE: &str = "
    select id, payload::text from rowcrew.jobs
    where shard = 0 and queue = 'default' and priority = 5 and due_at <= now() and state = 'available'
    order by due_at, id limit 1 for update skip locked";
const FINISH: &str = "delete from rowcrew.jobs where shard = 0 and id = any ($1) and claim_id = 1";

/// Claims and finishes in bare SQL: batches of 1,000, a cursor, two connections, durable commits, no handler
/// and no record.
pub(super) async fn bare_sql(rig: &Rig<'_>, jobs: i64) -> anyhow::Result<Run> {
    let cursor = Arc::new(Mutex::new(("-infinity".to_owned(), 0_i64)));
    let done = Arc::new(AtomicI64::new(0));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = rig.connect().await?;
        client.batch_execute("set enable_bitmapscan = off; set jit = off").await?;
        clients.push(client);
    }
    rig.watched(async {
        let began = Instant::now();
        let loops = clients
            .into_iter()
            .map(|client| tokio::spawn(claim_and_finish(client, cursor.clone(), done.clone(), jobs)));
        for one in loops.collect::<Vec<_>>() {
            one.await??;
        }
        Ok(jobs as f64 / began.elapsed().as_secs_f64())
    })
    .await
}

async fn claim_and_finish(
    client: Client,
    cursor: Arc<Mutex<(String, i64)>>,
    done: Arc<AtomicI64>,
    jobs: i64,
) -> anyhow::Result<()> {
    let claim = client.prepare(CLAIM).await?;
    let finish = client.prepare(FINISH).await?;
    while done.load(Ordering::Relaxed) < jobs {
        let (due_at, id) = cursor.lock().await.clone();
        let params: [&(dyn ToSql + Sync); 3] = [&due_at, &id, &BATCH];
        let rows = client.query(&claim, &params).await?;
        let Some(last) = rows.iter().max_by_key(|row| row.get::<_, i64>(0)) else {
            // What is left is on its way in the other connection, or behind the cursor.
            *cursor.lock().await = ("-infinity".to_owned(), 0);
            continue;
        };
        let place = (last.get::<_, String>(2), last.get::<_, i64>(0));
        let mut shared = cursor.lock().await;
        if place.1 > shared.1 {
            *shared = place;
        }
        drop(shared);
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let gone = client.execute(&finish, &[&ids]).await?;
        done.fetch_add(gone as i64, Ordering::Relaxed);
    }
    Ok(())
}

/// The worker of the textbooks: one row, one transaction, on four connections, for so long or until there is
/// nothing left.
pub(super) async fn textbook(rig: &Rig<'_>, time: Duration) -> anyhow::Result<Run> {
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(rig.connect().await?);
    }
    rig.watched(async {
        let loops = clients.into_iter().map(|client| tokio::spawn(one_by_one(client, time)));
        let mut rate = 0.0;
        for one in loops.collect::<Vec<_>>() {
            rate += one.await??;
        }
        Ok(rate)
    })
    .await
}

async fn one_by_one(client: Client, time: Duration) -> anyhow::Result<f64> {
    let take = client.prepare(TAKE).await?;
    let remove = client.prepare("delete from rowcrew.jobs where shard = 0 and id = $1").await?;
    let began = Instant::now();
    let mut done = 0_u64;
    while began.elapsed() < time {
        client.batch_execute("begin").await?;
        let row = client.query_opt(&take, &[]).await?;
        if let Some(row) = &row {
            client.execute(&remove, &[&row.get::<_, i64>(0)]).await?;
            done += 1;
        }
        client.batch_execute("commit").await?;
        if row.is_none() {
            break;
        }
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}
