//! The receiver of the calls of `http`, and the bare loop of calls that is its floor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::ensure;
use reqwest::header::CONTENT_TYPE;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::CALLS;
use super::floors::Share;

/// No call of a bench has more.
const BODY_BYTES_MAX: usize = 1 << 20;
const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// Answers every call with 200; listens until dropped.
pub(super) struct Server {
    url: String,
    connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/job", listener.local_addr()?);
        let connections = Arc::new(AtomicU64::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream));
            }
        });
        Ok(Self { url, connections, task })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How many were opened since it started.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many calls a second a bare loop makes.
    pub(super) async fn called(&self, jobs: i64) -> anyhow::Result<f64> {
        let client = client()?;
        // Connections stand before the clock starts.
        call_all(&client, &self.url, CALLS as i64).await?;
        let began = Instant::now();
        call_all(&client, &self.url, jobs).await?;
        Ok(jobs as f64 / began.elapsed().as_secs_f64())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The same client as the handler's, with the defaults of its makers.
fn client() -> anyhow::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?)
}

async fn call_all(client: &reqwest::Client, url: &str, jobs: i64) -> anyhow::Result<()> {
    let share = Share::of(jobs);
    let loops: Vec<_> = (0..CALLS)
        .map(|_| {
            let (client, url, share) = (client.clone(), url.to_owned(), share.clone());
            tokio::spawn(async move {
                while let Some(number) = share.next() {
                    let body = json!({ "n": number }).to_string();
                    let call = client.post(&url).header(CONTENT_TYPE, "application/json").body(body);
                    let reply = call.send().await?.error_for_status()?.bytes().await?;
                    ensure!(&*reply == b"{}", "an answer of another server");
                }
                Ok(())
            })
        })
        .collect();
    for one in loops {
        one.await??;
    }
    Ok(())
}

/// Answers the calls of one connection.
async fn serve(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    while let Some(length) = body_length(&mut stream).await.filter(|length| *length <= BODY_BYTES_MAX) {
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() || stream.write_all(REPLY).await.is_err() {
            return;
        }
    }
}

/// Reads the head of a call; `None` when there is none.
async fn body_length(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
        if line == "\r\n" {
            return Some(length);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
}
