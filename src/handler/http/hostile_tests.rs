//! Servers that misbehave: each meets a limit that says what happened, and the next job runs as if nothing was.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::super::testing::{context, done, job};
use super::*;

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood";

/// What a server sends: this once, then this over and over with these pauses, until the caller hangs up.
#[derive(Clone, Default)]
struct Script {
    first: Vec<u8>,
    then: Vec<u8>,
    pause: Duration,
}

fn once(first: &str) -> Script {
    Script { first: first.as_bytes().to_vec(), ..Script::default() }
}

fn forever(first: &str, then: &str, pause_ms: u64) -> Script {
    let pause = Duration::from_millis(pause_ms);
    Script { then: then.as_bytes().to_vec(), pause, ..once(first) }
}

async fn play(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Script) {
    let mut request = Vec::new();
    // Not the end of a body: the preface of HTTP/2, the first byte of TLS.
    let odd = |request: &[u8]| request.starts_with(b"PRI") || request.starts_with(&[0x16]);
    while !request.ends_with(b"}")
        && !odd(&request)
        && stream.read_buf(&mut request).await.is_ok_and(|n| n > 0)
    {}
    let _ = stream.write_all(&script.first).await;
    while !script.then.is_empty() && stream.write_all(&script.then).await.is_ok() {
        tokio::time::sleep(script.pause).await;
    }
    let _ = stream.shutdown().await;
    // The caller shall read it all before the connection is torn down.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut request)).await;
}

/// Plays a script to the first caller and is good to all that follow.
async fn server(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut script = Some(script);
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(stream, script.take().unwrap_or_else(|| once(GOOD))));
        }
    });
    url
}

async fn attempt(handler: &Arc<HttpHandler>, limit: Duration) -> Outcome {
    handler.clone().run(context(job("{}"), limit)).await
}

/// The outcome of a script, after which the same handler runs the next job normally.
async fn outcome(script: Script, limit: Duration) -> Outcome {
    let settings = HttpSettings { result_bytes_max: 1000, ..HttpSettings::new(server(script).await) };
    let handler = Arc::new(HttpHandler::new(&settings).expect("good settings"));
    let outcome = attempt(&handler, limit).await;
    assert_eq!(attempt(&handler, Duration::from_mins(1)).await, done("\"good\""), "the next job");
    outcome
}

#[tokio::test]
async fn a_reply_that_is_none_is_tried_again_and_the_next_job_runs() {
    let line = format!("X-Long: {}\r\n", "x".repeat(8000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(1000));
    for (script, words) in [
        (once(""), "connection closed before message completed"),
        (once("HTTP/1.1 200"), "connection closed before message completed"),
        (once("220 smtp.example ESMTP\r\n\r\n"), "invalid HTTP version"),
        (once("HTTP/1.1 2000000 Odd\r\n\r\n"), "invalid HTTP status-code"),
        (once("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), "invalid HTTP header"),
        (once("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), "invalid content-length"),
        (
            once("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
            "invalid content-length",
        ),
        (
            once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "200 OK, but the reply broke off",
        ),
        (
            once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
            "200 OK, but the reply broke off",
        ),
        (once("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "200 OK, but the reply broke off"),
        (once(&many), "message head is too large"),
        (forever("HTTP/1.1 200 OK\r\n", &line, 0), "message head is too large"),
        (forever("HTTP/1.1 200 OK\r\nX: ", &"x".repeat(8000), 0), "message head is too large"),
    ] {
        let failure = outcome(script, Duration::from_mins(1)).await.expect_err(words);
        assert_eq!((failure.class, failure.verdict), (FailureClass::Network, Verdict::Retry), "{failure:?}");
        assert!(failure.message.contains(words), "{words}: {failure:?}");
    }
}

#[tokio::test]
async fn a_server_that_takes_its_time_meets_the_attempts_limit() {
    for script in [
        forever("", "\r\n", 20),
        forever("HTTP/1.1 200 OK\r\nX: ", "x", 20),
        forever("", "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n", 1),
        forever("HTTP/1.1 200 OK\r\n\r\n", "x", 20),
        forever("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", 20),
    ] {
        let failure = outcome(script, Duration::from_millis(150)).await.expect_err("too slow");
        assert_eq!((failure.class, failure.verdict), (FailureClass::Timeout, Verdict::Retry), "{failure:?}");
    }
}

#[tokio::test]
async fn a_packed_reply_is_never_unpacked_and_an_endless_one_is_cut() {
    let bomb = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f";
    for script in [
        forever(bomb, &"z".repeat(4096), 0),
        forever(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            &format!("1000\r\n{}\r\n", "x".repeat(4096)),
            0,
        ),
    ] {
        let Ok(Success::Done(Some(result))) = outcome(script, Duration::from_mins(1)).await else {
            panic!("no result")
        };
        assert!(result.len() < 1200, "{} bytes", result.len());
    }
}

/// An authority, a server's certificate by it for 127.0.0.1, and a caller's.
struct Certificates {
    ca: String,
    server: [String; 2],
    caller: [String; 2],
}

fn certificates() -> Certificates {
    let params = |names: &[&str]| {
        CertificateParams::new(names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>()).expect("names")
    };
    let key = KeyPair::generate().expect("a key");
    let mut authority = params(&[]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(authority, key);
    let signed = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        [params(&[name]).signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem()]
    };
    Certificates { server: signed("127.0.0.1"), caller: signed("caller.example"), ca }
}

/// A server with TLS that plays a script to every caller; `mutual` asks callers for a certificate.
async fn tls_server(certificates: &Certificates, protocols: &[&str], mutual: bool, script: Script) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = if mutual {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificates.ca.as_bytes()).expect("PEM")).expect("a root");
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_slice(certificates.server[0].as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(certificates.server[1].as_bytes()).expect("PEM");
    let mut config = builder.with_single_cert(chain, key).expect("a key that fits");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/hook", listener.local_addr().expect("an address"));
    let accept = async |acceptor: TlsAcceptor, stream: TcpStream, script: Script| {
        if let Ok(stream) = acceptor.accept(stream).await {
            play(stream, script).await;
        }
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            accept(acceptor.clone(), stream, script.clone()).await;
        }
    });
    url
}

async fn tls_attempt(url: &str, tls: HttpTls) -> Outcome {
    let settings = HttpSettings { tls, ..HttpSettings::new(url) };
    let handler =
        HttpHandler::new(&settings).map_err(|fault| Failure::bury_as(FailureClass::Start, fault))?;
    attempt(&Arc::new(handler), Duration::from_secs(20)).await
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate_and_a_caller_by_its_own() {
    let certificates = certificates();
    let ca = Some(certificates.ca.as_bytes().to_vec());
    let [chain, key] = &certificates.caller;
    let caller = Some((chain.as_bytes().to_vec(), key.as_str().into()));
    let believing = HttpTls { ca: ca.clone(), client: None };
    let known = HttpTls { ca, client: caller };
    let plain = tls_server(&certificates, &["http/1.1"], false, once(GOOD)).await;
    let mutual = tls_server(&certificates, &["http/1.1"], true, once(GOOD)).await;
    assert_eq!(tls_attempt(&plain, believing.clone()).await, done("\"good\""));
    assert_eq!(tls_attempt(&mutual, known).await, done("\"good\""));
    let clear = server(once(GOOD)).await.replace("http://", "https://");
    for (url, tls, words) in [
        (plain.clone(), HttpTls::default(), "invalid peer certificate: UnknownIssuer"),
        (plain.replace("127.0.0.1", "localhost"), believing.clone(), "invalid peer certificate"),
        (clear, believing.clone(), "received corrupt message"),
        (mutual, believing, "CertificateRequired"),
    ] {
        let failure = tls_attempt(&url, tls).await.expect_err(words);
        assert_eq!((failure.class, failure.verdict), (FailureClass::Network, Verdict::Retry), "{failure:?}");
        assert!(failure.message.contains(words), "{words}: {failure:?}");
    }
    for (tls, words) in [
        (HttpTls { ca: Some(b"nothing".to_vec()), client: None }, "ca_file"),
        (HttpTls { ca: None, client: Some((chain.as_bytes().to_vec(), "hidden".into())) }, "client_key_file"),
        (HttpTls { ca: None, client: Some((b"".to_vec(), key.as_str().into())) }, "client_cert_file"),
        (
            HttpTls {
                ca: None,
                client: Some((chain.as_bytes().to_vec(), certificates.server[1].as_str().into())),
            },
            "client_cert_file",
        ),
    ] {
        let fault = tls_attempt(&plain, tls).await.expect_err(words);
        assert!(fault.message.contains(words) && !fault.message.contains("hidden"), "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_broken_http_2_is_tried_again() {
    let certificates = certificates();
    let tls = || HttpTls { ca: Some(certificates.ca.as_bytes().to_vec()), client: None };
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    // A frame of 16 MiB less one; GOAWAY with an error before anything; a reply to a stream that nobody opened.
    let frames: [(&[u8], &str); 4] = [
        (b"HTTP/1.1 200 OK\r\n\r\n", "http2 error"),
        (&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], "http2 error"),
        (&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], "http2 error"),
        (&[0, 0, 1, 0, 0, 0, 0, 0, 9, 0], "http2 error"),
    ];
    for (frame, words) in frames {
        let first = [settings, frame].concat();
        let script = Script { first, ..Script::default() };
        let url = tls_server(&certificates, &["h2"], false, script).await;
        let failure = tls_attempt(&url, tls()).await.expect_err(words);
        assert_eq!((failure.class, failure.verdict), (FailureClass::Network, Verdict::Retry), "{failure:?}");
        assert!(failure.message.contains(words), "{words}: {failure:?}");
    }
}
