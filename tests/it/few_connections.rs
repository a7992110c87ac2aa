//! A server that has hardly a connection left is still worked on.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Crew, OwnServer};

const CONFIG: &str = r#"
    [worker]
    concurrency = 10
    [handlers.nap]
    type = "sleep"
"#;

/// A server with a role that may have so many connections at a time, and the configuration of its workers.
async fn server_with_limit(connections: i32) -> (OwnServer, String) {
    let server = OwnServer::start().await;
    server
        .exec(&format!("create role few login connection limit {connections}; grant postgres to few"))
        .await;
    let url = server.cluster.url("postgres").replace("postgres@", "few@");
    let config = format!("database_url = \"{url}\"\n{CONFIG}");
    (server, config)
}

#[tokio::test]
async fn a_worker_works_with_two_connections() {
    let (server, config) = server_with_limit(2).await;
    let mut crew = Crew::spawn_configured(&server, &config);
    server.insert_many("nap", "jsonb_build_object('ms', n % 20)", 200).await;
    server.until("not exists (select from rowcrew.jobs)").await;
    server.insert("nap", r#"{"ms": 1}"#).await;
    server.until("not exists (select from rowcrew.jobs)").await;
    crew.signal(Signal::TERM);
    let (status, _) = crew.ended(Duration::from_secs(10)).await;
    assert!(status.success(), "{}", crew.log());
    assert_eq!(server.one::<i64>("select count(*) from rowcrew.workers").await, 0, "{}", crew.log());
}

#[tokio::test]
async fn workers_that_have_too_few_connections_for_all_of_them_make_room_for_one_another() {
    let (server, config) = server_with_limit(-1).await;
    let mut crew = Vec::new();
    for _ in 0..6 {
        crew.push(Crew::spawn_configured(&server, &config));
    }
    server.until("(select count(*) = 6 from rowcrew.workers where locked_at is not null)").await;
    // Two get one back each, for the beat at first: then none has one to claim over.
    server
        .exec(
            "alter role few connection limit 2;
             select pg_terminate_backend(pid) from pg_stat_activity where usename = 'few'",
        )
        .await;
    server.insert_many("nap", "jsonb_build_object('ms', n % 20)", 500).await;
    server.until("not exists (select from rowcrew.jobs)").await;
    for worker in &mut crew {
        assert!(!worker.has_ended(), "{}", worker.log());
    }
    // With room for all, all are back.
    server.exec("alter role few connection limit -1").await;
    server.until("(select count(*) = 6 from rowcrew.workers where locked_at is not null)").await;
}
