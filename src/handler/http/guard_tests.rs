//! A payload tries to lead a call to a server that it may not reach: the canary, on 127.0.0.1.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::dns::{Addrs, Name, Resolving};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::testing::run;
use super::*;

/// Answers every call with this, hangs up, and counts the connections.
async fn server(address: &str, reply: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let hits = Arc::new(AtomicUsize::new(0));
    let count = hits.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"}") && stream.read_buf(&mut request).await.is_ok_and(|n| n > 0) {}
                let _ = stream.write_all(reply.as_bytes()).await;
            });
        }
    });
    (at, hits)
}

/// A canary and, on the same port of 127.0.0.2, a server that a payload may reach.
async fn both() -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (at, canary) = server("127.0.0.1:0", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
    let (_, good) =
        server(&format!("127.0.0.2:{}", at.port()), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
    (at, canary, good)
}

/// A payload may name any host; 127.0.0.2 stands for the internet.
fn settings() -> HttpSettings {
    HttpSettings {
        allow_hosts: vec!["*:*".to_owned()],
        allow_networks: vec!["127.0.0.2/32".to_owned()],
        ..HttpSettings::new("{url}")
    }
}

/// Names that lead to the next set of addresses each time they are asked for.
struct Rebinding {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Resolve for Rebinding {
    fn resolve(&self, _: Name) -> Resolving {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[number % self.answers.len()].clone();
        let addresses = answer.into_iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 0));
        let addresses: Vec<_> = addresses.collect();
        Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
    }
}

async fn call(handler: &Arc<HttpHandler>, url: &str) -> Outcome {
    let job = super::super::testing::job(&serde_json::json!({ "url": url }).to_string());
    handler.clone().run(super::super::testing::context(job, super::super::testing::PATIENCE)).await
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_the_second_time_never_leads_to_the_canary() {
    let (at, canary, good) = both().await;
    let names = Arc::new(Rebinding {
        answers: vec![vec!["127.0.0.2"], vec!["127.0.0.1"], vec!["127.0.0.2", "127.0.0.1"], vec!["::1"]],
        asked: AtomicUsize::new(0),
    });
    let handler = Arc::new(HttpHandler::with_names(&settings(), names.clone()).expect("good settings"));
    let url = format!("http://rebinding.example:{}/", at.port());
    for round in 0..100 {
        let outcome = call(&handler, &url).await;
        if round % 4 == 0 {
            assert_eq!(outcome, Ok(Success::Done(None)), "{round}");
            continue;
        }
        let failure = outcome.expect_err("not called");
        assert_eq!((failure.class, failure.verdict), (FailureClass::Network, Verdict::Bury), "{failure:?}");
        assert!(failure.message.contains("rebinding.example leads to a place"), "{failure:?}");
        assert!(failure.message.contains("is not public"), "{failure:?}");
    }
    assert_eq!(names.asked.load(Ordering::SeqCst), 100, "each is looked up once");
    assert_eq!((canary.load(Ordering::SeqCst), good.load(Ordering::SeqCst)), (0, 25));
}

#[tokio::test]
async fn no_way_to_write_an_address_leads_to_the_canary() {
    let (at, canary, good) = both().await;
    let handler = Arc::new(HttpHandler::new(&settings()).expect("good settings"));
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "2130706433",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.０.０.１",
        "127。0。0。1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "user@127.0.0.1",
        "127.0.0.2@127.0.0.1",
        "127.0.0.2:80@127.0.0.1",
        "@127.0.0.1",
        "127.0.0.2\\@127.0.0.1",
        "127.0.0.1\t",
        "127.0.0.2#@127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "metadata.invalid",
    ] {
        for form in
            ["http://HOST/", "http:\\\\HOST/", "http:HOST/", "https://HOST/", "//HOST/", "ftp://HOST/"]
        {
            let url = form.replace("HOST", &format!("{host}:{}", at.port()));
            if let Err(failure) = call(&handler, &url).await {
                // Some machines know no such name; none takes it for another.
                // And what follows a # is no host: such a call goes to the server that may be reached.
                let unknown =
                    failure.message.contains("dns error") || failure.message.contains("//127.0.0.2");
                assert!(failure.verdict == Verdict::Bury || unknown, "{url}: {failure:?}");
            }
        }
    }
    assert_eq!(canary.load(Ordering::SeqCst), 0);
    let url = format!("http://127.0.0.2:{}/", at.port());
    assert_eq!(call(&handler, &url).await, Ok(Success::Done(None)));
    assert!(good.load(Ordering::SeqCst) > 0, "the allowed server can be reached");
}

#[tokio::test]
async fn a_redirect_does_not_lead_to_the_canary() {
    let (at, canary, _) = both().await;
    let location = format!("HTTP/1.1 302 Found\r\nLocation: http://{at}/\r\nContent-Length: 0\r\n\r\n");
    let (from, _) = server("127.0.0.2:0", Box::leak(location.into_boxed_str())).await;
    let handler = Arc::new(HttpHandler::new(&settings()).expect("good settings"));
    let failure = call(&handler, &format!("http://{from}/")).await.expect_err("a redirect");
    assert_eq!(failure.verdict, Verdict::Bury);
    assert!(failure.message.contains("redirects are not followed"), "{failure:?}");
    assert_eq!(canary.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_fixed_host_may_be_private_and_a_payload_fills_in_the_path() {
    let (at, hits) = server("127.0.0.1:0", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
    let settings = HttpSettings::new(format!("http://{at}/users/{{id}}"));
    let handler = || HttpHandler::new(&settings).expect("good settings");
    assert_eq!(run(handler(), r#"{"id": "a b"}"#).await, Ok(Success::Done(None)));
    for (payload, words) in
        [("{}", "not called: the payload has no field id"), (r#"{"id": "../x"}"#, "id holds / or \\")]
    {
        let failure = run(handler(), payload).await.expect_err(payload);
        assert_eq!((failure.class, failure.verdict), (FailureClass::Start, Verdict::Bury));
        assert!(failure.message.contains(words), "{failure:?}");
    }
    assert_eq!(hits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_receivers_wish_concerns_only_the_jobs_that_name_it() {
    for (reply, verdict) in [
        (
            "HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n",
            Verdict::RetryAfter(std::time::Duration::from_secs(9)),
        ),
        ("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", Verdict::Bury),
    ] {
        let (at, _) = server("127.0.0.2:0", reply).await;
        let handler = Arc::new(HttpHandler::new(&settings()).expect("good settings"));
        let failure = call(&handler, &format!("http://{at}/secret-path")).await.expect_err(reply);
        assert_eq!(failure.verdict, verdict);
        assert!(failure.message.starts_with(&format!("POST http://{at}: ")), "{failure:?}");
    }
}

#[test]
fn where_a_payload_may_lead_must_be_said_and_agree() {
    let bearer = Some(HttpAuth::Bearer("hidden".into()));
    for (settings, words) in [
        (HttpSettings::new("{url}"), "expected allow_hosts"),
        (HttpSettings::new("http://{a}.example.org/"), "expected allow_hosts"),
        (HttpSettings { allow_hosts: vec!["x y".into()], ..HttpSettings::new("{url}") }, "expected a host"),
        (HttpSettings { allow_networks: vec!["x".into()], ..settings() }, "expected a network"),
        (
            HttpSettings { allow_hosts: vec!["x.org".into()], ..HttpSettings::new("http://host/{a}") },
            "is fixed",
        ),
        (HttpSettings { auth: bearer.clone(), ..settings() }, "would tell every host the password"),
        (HttpSettings { method: "TRACE".into(), ..HttpSettings::new("http://host/") }, "method"),
        (
            HttpSettings {
                auth: bearer,
                headers: vec![("authorization".into(), "hidden".into())],
                ..HttpSettings::new("http://host/")
            },
            "one of the two",
        ),
    ] {
        let fault = HttpHandler::new(&settings).expect_err(words);
        assert!(fault.contains(words) && !fault.contains("hidden"), "{fault}");
        assert!(!format!("{settings:?}").contains("hidden"));
    }
}
