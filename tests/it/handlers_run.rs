//! HTTP calls, commands and SQL as jobs: what is kept, what is tried again, what is buried, and what is cleaned up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rowcrew::FailureClass;
use rowcrew::handler::signature::{self, Headers, Key};

use crate::support::{Crew, Db, Scratch, until_gone};

/// One request as the server read it.
#[derive(Clone, Default)]
struct Request {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// A server that answers each request by what its path says; ends with the test's process.
struct Receiver {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = seen.clone();
                std::thread::spawn(move || answer(stream, &seen));
            }
        });
        Self { port, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

/// Answers one request and closes the connection; errors are the client's going away.
fn answer(mut stream: TcpStream, seen: &Mutex<Vec<Request>>) {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    let head = loop {
        match stream.read(&mut chunk) {
            Ok(length @ 1..) => text.extend_from_slice(&chunk[..length]),
            _ => return,
        }
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let lines = String::from_utf8_lossy(&text[..head]).into_owned();
    let headers: Vec<(String, String)> = lines
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut request = Request { headers, body: text[head + 4..].to_vec() };
    let length = request.header("content-length").parse().unwrap_or(0);
    while request.body.len() < length {
        match stream.read(&mut chunk) {
            Ok(length @ 1..) => request.body.extend_from_slice(&chunk[..length]),
            _ => return,
        }
    }
    seen.lock().expect("no panic").push(request);
    let reply = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
            body.len()
        )
    };
    let path = lines.split(' ').nth(1).unwrap_or_default();
    let text = match path {
        "/ok" => reply("200 OK", "", r#"{"stored": 7}"#),
        "/busy" => reply("503 Service Unavailable", "Retry-After: 300\r\n", "later"),
        "/gone" => reply("404 Not Found", "", "no such thing"),
        "/moved" => reply("302 Found", "Location: /ok\r\n", ""),
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(text.as_bytes());
    // A body that comes byte by byte for far longer than the job may take; ends when the client goes.
    while path == "/drip" && stream.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What became of a job's last attempt: state, class, error and detail.
async fn last_failure(db: &Db, id: i64) -> (String, String) {
    let row = db
        .client
        .query_one(
            "select errors -> -1 ->> 'class', errors -> -1 ->> 'error' from rowcrew.jobs where id = $1
            union all select errors -> -1 ->> 'class', errors -> -1 ->> 'error' from rowcrew.dead_jobs where id = $1",
            &[&id],
        )
        .await
        .expect("a row");
    (row.get(0), row.get(1))
}

async fn reason(db: &Db, id: i64) -> String {
    db.until_state(id, "dead").await;
    db.one(&format!("select reason from rowcrew.dead_jobs where id = {id}")).await
}

#[tokio::test]
async fn an_http_job_posts_its_payload_signed_and_keeps_the_reply() {
    let db = Db::new().await;
    let receiver = Receiver::start();
    let secret = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0";
    let config = format!(
        "[handlers.\"hook.send\"]\ntype = \"http\"\nurl = \"{}\"\nsecret = \"{secret}\"\n",
        receiver.url("/ok")
    );
    let _crew = Crew::start(&db, &config).await;
    let id: i64 = db
        .one(
            r#"insert into rowcrew.jobs (kind, payload, meta)
            values ('hook.send', '{"to": "ä"}', '{"traceparent": "00-1-2-01"}') returning id"#,
        )
        .await;
    db.until_state(id, "completed").await;
    let result: String =
        db.one(&format!("select result::text from rowcrew.job_status where id = {id}")).await;
    assert_eq!(result, r#"{"stored": 7}"#);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.body, r#"{"to": "ä"}"#.as_bytes());
    let headers = Headers {
        id: request.header(signature::ID_HEADER),
        timestamp: request.header(signature::TIMESTAMP_HEADER),
        signature: request.header(signature::SIGNATURE_HEADER),
    };
    let now: i64 = db.one("select extract(epoch from now())::bigint").await;
    let verified = |secret: &str, body: &[u8]| {
        let key = Key::parse(&secret.to_owned().into()).expect("a key");
        signature::verify(&[key], &headers, body, now, signature::TOLERANCE_DEFAULT)
    };
    assert_eq!(verified(secret, &request.body), Ok(()));
    assert!(verified("another", &request.body).is_err());
    assert!(verified(secret, b"{}").is_err());
    assert_eq!(headers.id, format!("job_{id}"));
    assert_eq!(request.header("traceparent"), "00-1-2-01");
    assert_eq!(request.header("content-type"), "application/json");
}

#[tokio::test]
async fn an_http_reply_decides_whether_the_job_is_tried_again_or_buried() {
    let db = Db::new().await;
    let receiver = Receiver::start();
    let kind = |kind: &str, url: &str, more: &str| {
        format!("[handlers.{kind}]\ntype = \"http\"\nurl = \"{url}\"\n{more}\n")
    };
    let config = [
        kind("busy", &receiver.url("/busy"), "backoff = { type = \"fixed\", delay_ms = 1 }"),
        kind("gone", &receiver.url("/gone"), ""),
        kind("moved", &receiver.url("/moved"), ""),
        kind("drip", &receiver.url("/drip"), "timeout = \"300ms\"\nmax_attempts = 1"),
        kind("nowhere", "http://no-such-host.invalid/", "backoff = { type = \"fixed\", delay_ms = 600000 }"),
    ]
    .concat();
    let _crew = Crew::start(&db, &config).await;
    let busy = db.insert("busy", "{}").await;
    let gone = db.insert("gone", "{}").await;
    let moved = db.insert("moved", "{}").await;
    let drip = db.insert("drip", "{}").await;
    let nowhere = db.insert("nowhere", "{}").await;

    db.until_state(busy, "retrying").await;
    let wait: f64 = db
        .one(&format!(
            "select extract(epoch from retry_at - now())::float8 from rowcrew.jobs where id = {busy}"
        ))
        .await;
    assert!((200.0..=300.0).contains(&wait), "Retry-After: 300, and it waits {wait} s");
    let kept = format!("select attempts || ' ' || last_error from rowcrew.jobs where id = {busy}");
    let kept: String = db.one(&kept).await;
    assert!(kept.starts_with("0 POST http://"), "it says why, and costs no attempt: {kept}");

    assert_eq!(reason(&db, gone).await, "permanent");
    assert!(last_failure(&db, gone).await.1.contains("404"));
    assert_eq!(reason(&db, moved).await, "permanent");
    assert!(last_failure(&db, moved).await.1.contains("redirects"));
    let to_moved = receiver.requests().iter().filter(|r| r.header("rowcrew-kind") == "moved").count();
    assert_eq!(to_moved, 1, "a redirect is not followed");

    assert_eq!(reason(&db, drip).await, "exhausted");
    assert_eq!(last_failure(&db, drip).await.0, "timeout");
    db.until_state(nowhere, "retrying").await;
    assert_eq!(last_failure(&db, nowhere).await.0, "network");
}

#[tokio::test]
async fn what_a_command_prints_is_kept_whatever_it_is_and_cut_where_it_is_too_much() {
    let db = Db::new().await;
    let config = r#"
        [limits]
        result_bytes_max = 4096
        [handlers.flood]
        type = "command"
        command = ["sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' a"]
        [handlers.binary]
        type = "command"
        command = ["printf", "a\\000b\\377c"]
        [handlers.reads]
        type = "command"
        command = ["sh", "-c", "cat; echo $ROWCREW_KIND $ROWCREW_ATTEMPT >&2"]
        [handlers.noisy]
        type = "command"
        command = ["sh", "-c", "printf 'x\\000\\377y' >&2; exit 65"]
    "#;
    let _crew = Crew::start(&db, config).await;
    let flood = db.insert("flood", "{}").await;
    let binary = db.insert("binary", "{}").await;
    let reads = db.insert("reads", r#"{"a": [1]}"#).await;
    let noisy = db.insert("noisy", "{}").await;
    db.until("not exists (select from rowcrew.jobs)").await;
    let result =
        |id: i64, part: &str| format!("select result {part} from rowcrew.finished_jobs where id = {id}");
    assert_eq!(db.one::<String>(&result(flood, "->> 'truncated'")).await, "true");
    assert_eq!(db.one::<String>(&result(flood, "->> 'bytes'")).await, "100000000");
    assert_eq!(db.one::<String>(&result(flood, "->> 'text'")).await, "a".repeat(4096));
    assert_eq!(db.one::<String>(&result(binary, "#>> '{}'")).await, "a\u{FFFD}b\u{FFFD}c");
    assert_eq!(db.one::<String>(&result(reads, "::text")).await, r#"{"a": [1]}"#);
    assert_eq!(reason(&db, noisy).await, "permanent");
    assert_eq!(last_failure(&db, noisy).await.0, "exit_code");
    let detail: String = db.one("select errors -> -1 ->> 'detail' from rowcrew.dead_jobs").await;
    assert_eq!(detail, "x\u{FFFD}\u{FFFD}y");
}

#[tokio::test]
async fn a_command_that_cannot_start_or_hangs_fails_and_leaves_no_process() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    std::fs::write(scratch.path("script"), "#!/bin/sh\n").expect("a file");
    let config = format!(
        r#"
        [handlers.missing]
        type = "command"
        command = ["no-such-program-anywhere"]
        max_attempts = 1
        [handlers.forbidden]
        type = "command"
        command = ["{script}"]
        max_attempts = 1
        [handlers.hangs]
        type = "command"
        command = ["sh", "-c", "echo $$ > {pids}; (trap '' TERM; sleep 120) & echo $! >> {pids}; wait"]
        timeout = "500ms"
        max_attempts = 1
        [handlers.codes]
        type = "command"
        command = ["sh", "-c", "exit 3"]
        max_attempts = 2
        backoff = {{ type = "fixed", delay_ms = 1 }}
        "#,
        script = scratch.path("script"),
        pids = scratch.path("pids"),
    );
    let _crew = Crew::start(&db, &config).await;
    let mut found = Vec::new();
    for kind in ["missing", "forbidden", "hangs", "codes"] {
        let id = db.insert(kind, "{}").await;
        found.push((kind, reason(&db, id).await, last_failure(&db, id).await.0));
    }
    let expected = |kind, class: &str| (kind, "exhausted".to_owned(), class.to_owned());
    let classes = [
        expected("missing", "start"),
        expected("forbidden", "start"),
        expected("hangs", "timeout"),
        expected("codes", "exit_code"),
    ];
    assert_eq!(found, classes);
    for pid in scratch.pids("pids", 2).await {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn a_sql_effect_happens_once_though_its_worker_is_killed_in_the_middle() {
    let db = Db::new().await;
    db.exec("create table effects (n int)").await;
    let with = |seconds: u32| {
        format!(
            "[handlers.effect]\ntype = \"sql\"\nstatement = \"with slow as materialized (select pg_sleep({seconds})) \
             insert into public.effects select ($1 ->> 'n')::int from slow\"\n"
        )
    };
    let mut dies = Crew::start(&db, &with(3)).await;
    let id = db.insert("effect", r#"{"n": 42}"#).await;
    let sleeping = "pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
    db.until(&format!("exists (select from {sleeping})")).await;
    dies.kill();
    let _next = Crew::start(&db, &with(0)).await;
    db.until_state(id, "completed").await;
    // The killed worker's statement goes on in the server for a while, and must come to nothing.
    db.until(&format!("not exists (select from {sleeping})")).await;
    assert_eq!(db.all::<i32>("select n from effects").await, [42]);
    assert_eq!(db.one::<i32>("select attempts from rowcrew.finished_jobs").await, 2);
    let lost: String = db.one("select errors -> 0 ->> 'fingerprint' from rowcrew.finished_jobs").await;
    assert_eq!(lost, rowcrew::fingerprint("effect", FailureClass::LostWorker, ""), "SQL makes the same");
}

#[tokio::test]
async fn a_sql_job_keeps_its_first_row_and_its_error_decides_what_follows() {
    let db = Db::new().await;
    db.exec("create table effects (n int primary key); insert into effects values (1)").await;
    let config = r#"
        [handlers.answers]
        type = "sql"
        statement = "select $1 ->> 'a' as a, 2 as b"
        [handlers.twice]
        type = "sql"
        statement = "insert into public.effects select ($1 ->> 'n')::int"
        [handlers.slow]
        type = "sql"
        statement = "select pg_sleep(600)"
        max_attempts = 1
        [handlers.raises]
        type = "sql"
        statement = "do $$ begin raise exception 'not now'; end $$"
        max_attempts = 2
        backoff = { type = "fixed", delay_ms = 1 }
    "#;
    let _crew = Crew::start(&db, config).await;
    let answers = db.insert("answers", r#"{"a": "x"}"#).await;
    let constraint = db.insert("twice", r#"{"n": 1}"#).await;
    let data = db.insert("twice", r#"{"n": "no number"}"#).await;
    let slow: i64 =
        db.one("insert into rowcrew.jobs (kind, timeout) values ('slow', '0.3 s') returning id").await;
    let raises = db.insert("raises", "{}").await;
    db.until("not exists (select from rowcrew.jobs)").await;
    let result: String =
        db.one(&format!("select result::text from rowcrew.finished_jobs where id = {answers}")).await;
    assert_eq!(result, r#"{"rows": 1, "first": {"a": "x", "b": 2}}"#);
    assert_eq!(reason(&db, constraint).await, "permanent");
    assert_eq!(reason(&db, data).await, "permanent");
    assert!(last_failure(&db, constraint).await.1.contains("23505"));
    assert_eq!(reason(&db, slow).await, "exhausted");
    assert_eq!(last_failure(&db, slow).await.0, "timeout");
    assert_eq!(last_failure(&db, raises).await.0, "sql");
    assert_eq!(db.one::<i64>("select count(*) from effects").await, 1);
    let sleeping = "pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
    db.until(&format!("not exists (select from {sleeping})")).await;
    db.until("not exists (select from rowcrew.claims)").await;
}
