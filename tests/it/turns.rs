//! Workers that share a backlog take turns at claiming, begin behind what the others took, and miss nothing.

use rowcrew::store::sql::{Head, Statements};

use crate::support::{Crew, Db};

/// A worker that does its jobs at once.
const DOES: &str = "[worker]\nconcurrency = 10\n[handlers.job]\ntype = \"noop\"";
/// The first half of the locks that turns are, as `store/claim.rs` has it.
const TURN_CLASS: i64 = 0x726f_7774;

/// Claims up to four jobs of the default lane behind a cursor; answers their ids in order.
async fn claim(db: &Db, worker: i32, after_due_at: &str, in_turn: bool) -> Vec<i64> {
    claim_kinds(db, worker, "job", after_due_at, in_turn).await
}

async fn claim_kinds(db: &Db, worker: i32, kinds: &str, after_due_at: &str, in_turn: bool) -> Vec<i64> {
    let all = Statements::new("rowcrew");
    let statement = if in_turn { &all.job_claim_in_turn } else { &all.job_claim };
    let types: Vec<String> = Head::of(&statement.text).params.into_iter().map(|p| p.type_name).collect();
    db.exec(&format!("deallocate all; prepare claim ({}) as {}", types.join(", "), statement.text)).await;
    let run = format!(
        "execute claim ({worker}, {worker}, '{{{kinds}}}', 4, '{{default}}', '{{5}}', '{{{after_due_at}}}', '{{0}}')"
    );
    let mut ids: Vec<i64> = db.all(&run).await;
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_claim_in_turn_begins_behind_what_others_took_and_a_sweep_finds_what_came_back() {
    let db = Db::new().await;
    let ids = db.insert_many("job", "'{}'", 10).await;
    assert_eq!(claim(&db, 1, "-infinity", true).await, ids[..4]);
    // One comes back before the place that has been reached.
    db.exec(&format!("update rowcrew.jobs set state = 'available' where id = {}", ids[1])).await;
    assert_eq!(claim(&db, 2, "2000-01-01", true).await, ids[4..8]);
    assert_eq!(
        claim(&db, 3, "2000-01-01", false).await,
        [ids[1], ids[8], ids[9]],
        "out of turn, all is walked"
    );
    db.exec(&format!("update rowcrew.jobs set state = 'available' where id = {}", ids[2])).await;
    assert!(claim(&db, 4, "2000-01-01", true).await.is_empty());
    assert_eq!(claim(&db, 5, "-infinity", true).await, [ids[2]]);
}

#[tokio::test]
async fn workers_of_other_kinds_do_not_begin_behind_what_was_left_for_them() {
    let db = Db::new().await;
    let ours = db.insert_many("ours", "'{}'", 2).await;
    let theirs = db.insert_many("theirs", "'{}'", 4).await;
    assert_eq!(claim_kinds(&db, 1, "theirs", "-infinity", true).await, theirs);
    assert_eq!(claim_kinds(&db, 2, "ours,theirs", "2000-01-01", true).await, ours);
}

#[test]
fn a_claim_in_turn_is_a_claim_but_for_its_frontiers() {
    let all = Statements::new("rowcrew");
    let text =
        |of: &str| of.lines().filter(|line| !line.trim().starts_with("--")).collect::<Vec<_>>().join("\n");
    let cut = |from: String, begin: &str, end: &str| {
        let at = from.find(begin).unwrap_or_else(|| panic!("no {begin}"));
        let length = from[at..].find(end).expect(end);
        format!("{}{}", &from[..at], &from[at + length..])
    };
    let turn =
        cut(text(&all.job_claim_in_turn.text), "            left join lateral", "            cross join");
    let turn = cut(turn, ",\nshared as", "\nselect\n");
    let turn = turn.replace(
        "(due.due_at, due.id)\n                        > (coalesce(front.due_at, lane.after_due_at), coalesce(front.id, lane.after_id))",
        "(due.due_at, due.id) > (lane.after_due_at, lane.after_id)",
    );
    assert_eq!(
        turn.replace(")\nselect\n", "\nselect\n"),
        text(&all.job_claim.text).replace(")\nselect\n", "\nselect\n")
    );
}

#[tokio::test]
async fn a_turn_that_somebody_holds_for_ever_stops_nobody() {
    let db = Db::new().await;
    let (_one, _two) = (Crew::start(&db, DOES).await, Crew::start(&db, DOES).await);
    let other = db.connect().await;
    let turns =
        format!("select objid::bigint from pg_locks where locktype = 'advisory' and classid = {TURN_CLASS}");
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(1));
    let key: i64 = loop {
        if let Some(row) = other.query_opt(&format!("{turns} limit 1"), &[]).await.expect("locks") {
            break row.get(0);
        }
        if db.one("select not exists (select from rowcrew.jobs limit 1)").await {
            db.insert_many("job", "'{}'", 3_000).await;
        }
        ticks.tick().await;
    };
    other.execute("select pg_advisory_lock($1)", &[&((TURN_CLASS << 32) | key)]).await.expect("the turn");
    db.insert_many("job", "'{}'", 3_000).await;
    db.until("not exists (select from rowcrew.jobs)").await;
}
