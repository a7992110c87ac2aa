//! Calls to a server that this file plays itself, byte by byte.

use std::collections::HashMap;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::signature;
use super::super::testing::{PATIENCE, context, done, job, run};
use super::*;
use crate::{FailureClass, Success, Verdict};

/// What the server received.
struct Received {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

async fn receive(stream: &mut BufReader<TcpStream>) -> Received {
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a line");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            headers.insert(name.to_owned(), value.to_owned());
        } else {
            headers.insert("request".to_owned(), line.to_owned());
        }
    }
    let length = headers.get("content-length").map_or(0, |text: &String| text.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a body");
    Received { headers, body }
}

/// Serves one call: replies these bytes, then goes on with `more` until the caller hangs up or it ends.
async fn serve<F>(
    reply: &str,
    more: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (String, JoinHandle<Received>)
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook?token=hidden", listener.local_addr().expect("an address"));
    let reply = reply.replace('\n', "\r\n");
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a call");
        let mut stream = BufReader::new(stream);
        let received = receive(&mut stream).await;
        let mut stream = stream.into_inner();
        stream.write_all(reply.as_bytes()).await.expect("a reply");
        more(stream).await;
        received
    });
    (url, server)
}

/// One attempt against a server that replies this and hangs up.
async fn attempt(reply: &str) -> Outcome {
    let (url, _server) = serve(reply, |_| async {}).await;
    run(HttpHandler::new(&HttpSettings::new(url)).expect("good settings"), "{}").await
}

/// One attempt that gets this status line and these further headers.
async fn refused(status: &str) -> Failure {
    attempt(&format!("HTTP/1.1 {status}\nContent-Length: 9\n\nno\0 today")).await.expect_err(status)
}

#[tokio::test]
async fn a_call_is_signed_and_says_which_job_it_is() {
    let (url, server) = serve("HTTP/1.1 204 No Content\n\n", |_| async {}).await;
    let secrets = vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(), "raw".into()];
    let settings = HttpSettings {
        secrets: secrets.clone(),
        headers: vec![("Authorization".into(), "Bearer x".into())],
        ..HttpSettings::new(url.replace("http://", "http://me:pw@"))
    };
    let mut job = job(r#"{"to": "å"}"#);
    job.attempt = 3;
    job.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let handler = Arc::new(HttpHandler::new(&settings).expect("good settings"));
    assert_eq!(handler.run(context(job.clone(), PATIENCE)).await, Ok(Success::Done(None)));

    let received = server.await.expect("the server");
    let header = |name: &str| received.headers[name].as_str();
    assert_eq!(received.body, job.payload.as_bytes());
    assert_eq!(header("request"), "POST /hook?token=hidden HTTP/1.1");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("user-agent"), concat!("rowcrew/", env!("CARGO_PKG_VERSION")));
    assert_eq!(header("rowcrew-kind"), "email.send");
    assert_eq!(header("rowcrew-attempt"), "3");
    assert_eq!(header("rowcrew-job-id"), "42");
    // The third attempt, and the id of every attempt.
    assert_eq!(header("webhook-id"), "job_42");
    assert_eq!(header("idempotency-key"), "job_42");
    assert_eq!(header("webhook-signature").split(' ').count(), 2);
    assert_eq!(Some(header("traceparent")), job.traceparent.as_deref());
    assert_eq!(header("authorization"), "Bearer x");
    assert!(!received.headers.contains_key("accept-encoding"));
    let headers = signature::Headers {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    for secret in &secrets {
        let key = Key::parse(secret).expect("a good secret");
        let now = Utc::now().timestamp();
        signature::verify(&[key], &headers, &received.body, now, Duration::from_mins(1)).expect("signed");
    }
}

#[tokio::test]
async fn a_2xx_body_becomes_the_result() {
    assert_eq!(attempt("HTTP/1.1 200 OK\n\n{\"a\": 1}").await, done("{\"a\": 1}"));
    assert_eq!(attempt("HTTP/1.1 201 Created\nContent-Length: 2\n\nok").await, done("\"ok\""));
    assert_eq!(attempt("HTTP/1.1 202 Accepted\nContent-Length: 0\n\n").await, Ok(Success::Done(None)));
}

#[tokio::test]
async fn a_status_decides_between_retry_and_burial() {
    let gone = refused("410 Gone").await;
    assert_eq!((gone.class, gone.verdict), (FailureClass::Status, Verdict::BuryAndDisableKind));
    for status in ["408", "425", "429", "500", "501", "502", "503", "504", "599"] {
        let failure = refused(&format!("{status} Odd")).await;
        assert_eq!((failure.class, failure.verdict), (FailureClass::Status, Verdict::Retry), "{status}");
    }
    for status in ["304", "400", "401", "403", "404", "409", "422", "451"] {
        let failure = refused(&format!("{status} Odd")).await;
        assert_eq!((failure.class, failure.verdict), (FailureClass::Status, Verdict::Bury), "{status}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_one_line_and_its_body_is_kept() {
    let failure = refused("422 Unprocessable Content").await;
    assert!(failure.message.starts_with("POST http://127.0.0.1:"), "{}", failure.message);
    assert!(failure.message.ends_with("/hook: 422 Unprocessable Entity"), "{}", failure.message);
    assert_eq!(failure.detail.as_deref(), Some("no\u{FFFD} today"));
}

#[tokio::test]
async fn a_server_may_say_when_to_come_back() {
    let failure = refused("429 Too Many Requests\nRetry-After: 17").await;
    assert_eq!(failure.verdict, Verdict::PauseKind(Duration::from_secs(17)));
    let failure = refused("500 Internal Server Error\nRetry-After: 17").await;
    assert_eq!(failure.verdict, Verdict::RetryAfter(Duration::from_secs(17)));

    let at = (Utc::now() + chrono::Duration::hours(1)).format("%a, %d %b %Y %H:%M:%S GMT");
    let failure = refused(&format!("503 Service Unavailable\nRetry-After: {at}")).await;
    let Verdict::PauseKind(wait) = failure.verdict else { panic!("{failure:?}") };
    assert!(wait > Duration::from_mins(59) && wait <= Duration::from_hours(1), "{wait:?}");

    let failure = refused("404 Not Found\nRetry-After: 17").await;
    assert_eq!(failure.verdict, Verdict::Bury);
}

#[tokio::test]
async fn a_redirect_is_not_followed_but_named() {
    for (location, shown) in [
        ("https://u:p@other.example/new?key=1", "https://other.example/new"),
        ("/moved", "/moved"),
        ("http://[", "an address that cannot be read"),
    ] {
        let failure = refused(&format!("301 Moved Permanently\nLocation: {location}")).await;
        assert_eq!(failure.verdict, Verdict::Bury);
        assert!(failure.message.contains(&format!("{shown}; redirects are not followed")), "{failure:?}");
        assert!(!failure.message.contains("key=1"), "{failure:?}");
    }
}

#[tokio::test]
async fn no_reply_is_tried_again_and_names_no_secret() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let (broken, _server) = serve("HTTP/1.1 200 OK\nContent-Length: 100\n\nhalf", |_| async {}).await;
    let (silent, _server) = serve("", |_| async {}).await;
    let unknown = "http://user:hidden@nowhere.invalid/?hidden".to_owned();
    for url in [format!("http://user:hidden@{closed}/?hidden"), broken, silent, unknown] {
        let failure = run(HttpHandler::new(&HttpSettings::new(&url)).expect("good settings"), "{}")
            .await
            .expect_err(&url);
        assert_eq!((failure.class, failure.verdict), (FailureClass::Network, Verdict::Retry), "{url}");
        assert!(failure.message.starts_with("POST http://"), "{failure:?}");
        assert!(!failure.message.contains("hidden"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_slow_body_is_cut_off_at_the_deadline() {
    let (url, server) = serve("HTTP/1.1 200 OK\n\n", |mut stream| async move {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let handler = Arc::new(HttpHandler::new(&HttpSettings::new(url)).expect("good settings"));
    let failure = handler.run(context(job("{}"), Duration::from_millis(300))).await.expect_err("too slow");
    assert_eq!((failure.class, failure.verdict), (FailureClass::Timeout, Verdict::Retry));
    server.await.expect("the server sees the caller hang up");
}

#[tokio::test]
async fn a_huge_body_is_cut_and_says_so() {
    for (length, bytes) in [("Content-Length: 9000000000\n", "9000000000"), ("", "null")] {
        let (url, server) = serve(&format!("HTTP/1.1 200 OK\n{length}\n"), |mut stream| async move {
            while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
        })
        .await;
        let settings = HttpSettings { result_bytes_max: 1000, ..HttpSettings::new(url) };
        let outcome = run(HttpHandler::new(&settings).expect("good settings"), "{}").await;
        let text = "x".repeat(1000);
        assert_eq!(outcome, done(&format!(r#"{{"truncated":true,"bytes":{bytes},"text":"{text}"}}"#)));
        server.await.expect("the server sees the caller hang up");
    }
}

#[tokio::test]
async fn a_cancelled_call_is_broken_off() {
    let mut context = context(job("{}"), PATIENCE);
    let cancelled = CancellationToken::new();
    context.cancelled = cancelled.clone();
    let (url, server) = serve("", |mut stream| async move {
        cancelled.cancel();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "the caller hangs up");
    })
    .await;
    let handler = Arc::new(HttpHandler::new(&HttpSettings::new(url)).expect("good settings"));
    let failure = handler.run(context).await.expect_err("cancelled");
    assert_eq!(failure.class, FailureClass::Cancelled);
    server.await.expect("the server sees the caller hang up");
}

#[test]
fn faulty_settings_are_named_without_their_secrets() {
    let with_header = |name: &str, value: &str| HttpSettings {
        headers: vec![(name.into(), value.into())],
        ..HttpSettings::new("http://host")
    };
    let good = HttpSettings::new("http://host");
    for (settings, word) in [
        (HttpSettings::new("http://u:hidden@"), "url"),
        (HttpSettings::new("ftp://hidden"), "ftp"),
        (HttpSettings::new("host/path"), "url"),
        (HttpSettings { secrets: vec!["whsec_hidden!".into()], ..good.clone() }, "secret"),
        (HttpSettings { result_bytes_max: usize::MAX, ..good.clone() }, "result_bytes_max"),
        (with_header("bad name", "x"), "bad name"),
        (with_header("x-key", "hidden\n"), "x-key"),
        (with_header("Webhook-Id", "x"), "Webhook-Id"),
        (with_header("Host", "x"), "Host"),
    ] {
        assert!(!format!("{settings:?}").contains("whsec_hidden"), "{settings:?}");
        let fault = HttpHandler::new(&settings).expect_err(word);
        assert!(fault.contains(word) && !fault.contains("hidden"), "{fault}");
    }
}

#[tokio::test]
async fn a_method_without_a_body_signs_an_empty_one_and_credentials_are_sent() {
    for (method, auth, sent) in [
        ("GET", HttpAuth::Bearer("tok".into()), "Bearer tok"),
        ("PUT", HttpAuth::Basic { user: "me".into(), password: "pä:ss".into() }, "Basic bWU6cMOkOnNz"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/{{id}}?q={{id}}", listener.local_addr().expect("an address"));
        let settings = HttpSettings {
            method: method.into(),
            auth: Some(auth),
            secrets: vec!["raw".into()],
            ..HttpSettings::new(url)
        };
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a call");
            let mut stream = BufReader::new(stream);
            let received = receive(&mut stream).await;
            stream.into_inner().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("a reply");
            received
        });
        let payload = r#"{"id": "a/b"}"#.replace('/', "+");
        let outcome = run(HttpHandler::new(&settings).expect("good settings"), &payload).await;
        assert_eq!(outcome, Ok(Success::Done(None)));
        let received = server.await.expect("the server");
        let header = |name: &str| received.headers[name].as_str();
        assert_eq!(header("request"), format!("{method} /a%2Bb?q=a%2Bb HTTP/1.1"));
        assert_eq!(header("authorization"), sent);
        assert_eq!(received.body, if method == "GET" { b"" } else { payload.as_bytes() });
        let headers = signature::Headers {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        let key = Key::parse(&"raw".into()).expect("a good secret");
        let now = Utc::now().timestamp();
        signature::verify(&[key], &headers, &received.body, now, Duration::from_mins(1)).expect("signed");
    }
}
