//! Kinds that are paused: by people, and by servers that ask for quiet or want no more calls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Crew, Db, rowcrew_on};

/// A server that gives every call the same answer, until it is told another.
struct Server {
    url: String,
    calls: Arc<AtomicUsize>,
    answer: Arc<Mutex<&'static str>>,
}

const OK: &str = "200 OK\r\nContent-Length: 0";

impl Server {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let server = Self { url, calls: Arc::default(), answer: Arc::new(Mutex::new(answer)) };
        let (calls, answer) = (server.calls.clone(), server.answer.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, calls.clone(), answer.clone()));
            }
        });
        server
    }

    fn answer(&self, answer: &'static str) {
        *self.answer.lock().expect("no panic") = answer;
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn config(&self) -> String {
        format!(
            "[worker]\nconcurrency = 5\n[handlers.web]\ntype = \"http\"\nurl = \"{}\"\n[handlers.noop]\ntype = \"noop\"\n",
            self.url
        )
    }
}

/// Answers the calls of one connection.
async fn serve(stream: TcpStream, calls: Arc<AtomicUsize>, answer: Arc<Mutex<&'static str>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        stream.read_exact(&mut vec![0; length]).await.expect("a body");
        calls.fetch_add(1, Ordering::SeqCst);
        let answer = *answer.lock().expect("no panic");
        if stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn why(db: &Db, id: i64) -> String {
    db.one(&format!("select rowcrew.why({id})")).await
}

async fn events(db: &Db) -> Vec<String> {
    db.all("select action || ' ' || target from rowcrew.events order by id").await
}

/// Runs a job of another kind that comes after: then every job before it that could be claimed was.
async fn claims_have_gone_past(db: &Db) {
    for _ in 0..2 {
        let other = db.insert("noop", "{}").await;
        db.until_state(other, "completed").await;
    }
}

#[tokio::test]
async fn a_paused_kind_waits_while_others_run_and_begins_again_when_it_is_resumed() {
    let db = Db::new().await;
    let server = Server::start(OK).await;
    let out = rowcrew_on(&db, &["kinds", "pause", "web", "--reason", "the key is changed"], b"");
    assert!(out.stdout.contains("kind web is paused until it is resumed"), "{out:?}");
    let _worker = Crew::start(&db, &server.config()).await;
    let id = db.insert("web", "{}").await;
    claims_have_gone_past(&db).await;
    assert_eq!(server.calls(), 0);
    assert_eq!(db.one::<i32>(&format!("select attempts from rowcrew.jobs where id = {id}")).await, 0);
    let words = why(&db, id).await;
    assert!(
        words.contains("its kind web is paused until somebody resumes it, because the key is changed"),
        "{words}"
    );
    assert_eq!(db.all::<String>("select reason from rowcrew.blocked").await, ["its kind is paused"]);
    let list = rowcrew_on(&db, &["kinds", "list", "--json"], b"").json();
    let web = list.as_array().expect("a list").iter().find(|kind| kind["kind"] == "web").expect("web");
    assert_eq!((&web["state"], &web["workers"]), (&"paused".into(), &1.into()), "{web}");
    assert_eq!(
        (&web["paused_until"], &web["reason"]),
        (&"infinity".into(), &"the key is changed".into()),
        "{web}"
    );
    assert!(rowcrew_on(&db, &["kinds", "list"], b"").stdout.contains("the key is changed"));
    assert!(rowcrew_on(&db, &["kinds", "resume", "web"], b"").stdout.contains("kind web is resumed"));
    db.until_state(id, "completed").await;
    assert!(rowcrew_on(&db, &["kinds", "resume", "web"], b"").stdout.contains("kind web was not paused"));
    assert_eq!(events(&db).await, ["pause kind web", "resume kind web"]);
}

#[tokio::test]
async fn a_pause_that_ends_by_itself_needs_nobody() {
    let db = Db::new().await;
    let server = Server::start(OK).await;
    assert!(rowcrew_on(&db, &["kinds", "pause", "web", "--for", "3s"], b"").ok);
    let id = db.insert("web", "{}").await;
    let _worker = Crew::start(&db, &server.config()).await;
    db.until_state(id, "completed").await;
    let late: bool = db
        .one(&format!(
            "select f.claimed_at >= k.paused_until from rowcrew.finished_jobs f, rowcrew.kinds k where f.id = {id}"
        ))
        .await;
    assert!(late);
}

#[tokio::test]
async fn a_server_that_asks_for_quiet_pauses_the_kind_for_all_workers_and_costs_no_attempt() {
    let db = Db::new().await;
    let server = Server::start("429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 0").await;
    let config = server.config();
    let (_one, _two) = (Crew::start(&db, &config).await, Crew::start(&db, &config).await);
    let ids = db.insert_many("web", "jsonb_build_object('n', n)", 300).await;
    db.until("exists (select from rowcrew.kinds where name = 'web' and paused_until > now())").await;
    let words = why(&db, ids[299]).await;
    assert!(
        words.contains("its kind web is paused until") && words.contains("because POST http://127.0.0.1:"),
        "{words}"
    );
    assert!(words.contains("429 Too Many Requests"), "{words}");
    // All that ran at once were told, and nothing after them: without the pause each of the 300 is.
    claims_have_gone_past(&db).await;
    server.answer(OK);
    db.until("(select count(*) from rowcrew.finished_jobs where kind = 'web') = 300").await;
    let told = server.calls() - 300;
    assert!((1..100).contains(&told), "{told} calls were told to wait");
    assert_eq!(
        db.all::<i32>("select distinct attempts from rowcrew.finished_jobs where kind = 'web'").await,
        [1],
        "none has lost an attempt"
    );
    let pauses = events(&db).await.iter().filter(|event| *event == "pause kind web").count();
    assert!(
        pauses > 0 && pauses * 2 <= told + 2,
        "many replies are one pause: {told} replies, {pauses} pauses"
    );
}

#[tokio::test]
async fn a_server_that_is_gone_disables_the_kind_until_somebody_resumes_it() {
    let db = Db::new().await;
    let server = Server::start("410 Gone\r\nContent-Length: 0").await;
    let _worker = Crew::start(&db, &server.config()).await;
    let first = db.insert("web", "{}").await;
    db.until_state(first, "dead").await;
    assert_eq!(db.one::<String>("select reason from rowcrew.dead_jobs").await, "permanent");
    db.until(
        "exists (select from rowcrew.kinds where disabled_at is not null and paused_until = 'infinity')",
    )
    .await;
    let second = db.insert("web", "{}").await;
    claims_have_gone_past(&db).await;
    assert_eq!(server.calls(), 1, "nobody calls it again");
    let words = why(&db, second).await;
    assert!(words.contains("is disabled since") && words.contains("410 Gone"), "{words}");
    assert!(rowcrew_on(&db, &["kinds", "list"], b"").stdout.contains("disabled"));
    server.answer(OK);
    assert!(rowcrew_on(&db, &["kinds", "resume", "web"], b"").ok);
    db.until_state(second, "completed").await;
    assert_eq!(events(&db).await, ["disable kind web", "resume kind web"]);
}

#[tokio::test]
async fn a_worker_never_shortens_a_pause_and_a_person_may() {
    let db = Db::new().await;
    let left = "select extract(epoch from paused_until - now())::float8 from rowcrew.kinds";
    assert!(db.one::<bool>("select rowcrew.hold_kind('k', interval '1 h', 'busy')").await);
    assert!(!db.one::<bool>("select rowcrew.hold_kind('k', interval '1 min', 'busy')").await);
    assert!(!db.one::<bool>("select rowcrew.hold_kind('k', interval '1 h', 'busy')").await, "the same again");
    assert!(db.one::<f64>(left).await > 3500.0);
    db.exec("select rowcrew.pause_kind('k', now() + interval '1 min')").await;
    assert!(db.one::<f64>(left).await <= 60.0);
    assert!(db.one::<bool>("select rowcrew.hold_kind('k', null, 'gone')").await);
    assert!(!db.one::<bool>("select rowcrew.hold_kind('k', interval '1 h', 'busy')").await, "it is disabled");
    assert!(db.one::<bool>("select disabled_at is not null and reason = 'gone' from rowcrew.kinds").await);
    assert!(db.one::<bool>("select rowcrew.resume_kind('k')").await);
    assert!(!db.one::<bool>("select rowcrew.resume_kind('k')").await);
    assert_eq!(events(&db).await, ["pause kind k", "pause kind k", "disable kind k", "resume kind k"]);
    db.exec("select rowcrew.pause_kind('k', now() + interval '1 h')").await;
    assert!(
        db.one::<bool>(
            "select rowcrew.kind_pause('k') like 'paused until %' and rowcrew.kind_pause('other') is null"
        )
        .await
    );
}
