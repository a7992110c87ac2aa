//! Numbers that are large and texts that are odd.

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::Run;
use crate::support::site::Site;

/// Every sequence stands before, or beyond, what 32 bits hold.
#[tokio::test(flavor = "multi_thread")]
async fn x02_ids_and_claims_beyond_32_bits_are_as_good_as_others() {
    let run = Run::begin("X02");
    let site = Site::shared(&run).await;
    let sequences = "select s.relname::text, s.seqrelid::regclass::text from (
        select c.relname, q.seqrelid from pg_sequence q join pg_class c on c.oid = q.seqrelid
        where c.relnamespace = 'rowcrew'::regnamespace and c.relname <> 'wake_gate') s";
    let rows = site.rows(sequences).await;
    assert!(rows.len() >= 3, "jobs, claims, workers, events");
    let mut rng = run.rng("values");
    for row in &rows {
        let value = [(1_i64 << 31) - 2, (1_i64 << 32) - 2, (1_i64 << 33) + 5][rng.usize(..3)];
        site.exec(&format!("select setval('{}', {value})", row.get::<_, String>(1))).await;
    }
    let narrow = "select count(*) from pg_sequence where seqtypid <> 'bigint'::regtype
        and (select relnamespace from pg_class where oid = seqrelid) = 'rowcrew'::regnamespace";
    assert_eq!(site.one::<i64>(narrow).await, 0, "a sequence that ends at 32 bits");
    let mut crew = Crew::new(&site);
    crew.start(&site, 2).await;
    let load = Load { long_percent: 2, fail_percent: 10, ..Load::usual(run.size(300, 5_000)) };
    load.put_in(&run, &site).await;
    // The largest counts that are allowed, and one beyond what 16 bits hold.
    site.exec(
        "insert into rowcrew.jobs (kind, attempts, crashes, max_attempts) values
            ('nap', 9998, 0, 10000), ('nap', 40000, 35000, 10000)",
    )
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    crew.kill(0);
    crew.replace(0);
    site.drained().await;
    crew.stop().await;
    Evidence::gather(&site, &crew).await.hold(&Allowed::default());
    let errors = site.server_log().lines().filter(|line| line.contains("ERROR")).count();
    run.figure("errors in the server's log", errors, errors == 0, "0");
    assert_eq!(errors, 0, "{}", site.server_log());
    run.end();
}

/// Texts and numbers in payloads, results and errors that some program on the way may not bear.
#[tokio::test(flavor = "multi_thread")]
async fn x01_odd_data_is_refused_when_it_is_put_in_or_goes_its_way_and_sticks_nowhere() {
    let run = Run::begin("X01");
    let site = Site::shared(&run).await;
    let client = site.client().await;
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let odd = [
        r#""\u0000""#.to_owned(),
        r#""\ud800""#.to_owned(),
        r#""\udc00\ud800""#.to_owned(),
        "1e400".to_owned(),
        "-1e-400".to_owned(),
        "99999999999999999999999999999999999999".to_owned(),
        nested(200),
        nested(5_000),
        nested(100_000),
        r#"{"a": 1, "a": 2}"#.to_owned(),
        "{".to_owned(),
        String::new(),
        format!("\"{}\"", "x".repeat(2 * 1024 * 1024)),
        format!("\"{}\"", "\u{1F980}\u{202E}\u{FEFF}".repeat(50)),
    ];
    let (mut taken, mut refused) = (0, 0);
    for (n, text) in odd.iter().enumerate() {
        // As a payload: put in and run, or refused by the server.
        let payload = format!(r#"{{"n": {n}, "odd": {text}}}"#);
        for kind in ["nap", "effect"] {
            let sql = "insert into rowcrew.jobs (kind, payload) values ($1, $2::text::jsonb)";
            match client.execute(sql, &[&kind, &payload]).await {
                Ok(_) => taken += 1,
                Err(error) => {
                    refused += 1;
                    assert!(error.as_db_error().is_some(), "{error:?}");
                }
            }
        }
        // As a result and as an error: spelled in a string, since the payload itself must be taken.
        for field in ["result", "error"] {
            let told = serde_json::json!({ field: text, "fails": 0 }).to_string();
            client
                .execute("insert into rowcrew.jobs (kind, payload, max_attempts) values ('babble', $1::text::jsonb, 2)", &[&told])
                .await
                .expect("a payload");
        }
    }
    client
        .execute("insert into rowcrew.jobs (kind, max_attempts) values ('babble', 2)", &[])
        .await
        .expect("a job");
    let mut crew = Crew::new(&site);
    crew.start(&site, 1).await;
    site.drained().await;
    crew.stop().await;
    Evidence::gather(&site, &crew).await.hold(&Allowed::default());
    run.note("payloads taken, refused by the server", format!("{taken}, {refused}"));
    let same = "select count(*) from rowcrew.finished_jobs where kind = 'effect' and state = 'completed'";
    let effects: i64 = site.one(same).await;
    assert_eq!(effects * 2, taken, "every payload that was taken ran in SQL");
    let large = site.client().await;
    let sql = "insert into rowcrew.jobs (kind, payload) values ('nap', jsonb_build_object('x', (select string_agg(md5(g::text), '') from generate_series(1, 2200000) g)))";
    let error = large.execute(sql, &[]).await.expect_err("larger than the limit");
    let constraint = error.as_db_error().and_then(|error| error.constraint().map(str::to_owned));
    run.note("70 MB are refused by", constraint.clone().unwrap_or_default());
    assert_eq!(constraint.as_deref(), Some("jobs_payload_bytes"));
    run.end();
}
