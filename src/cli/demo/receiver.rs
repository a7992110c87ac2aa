//! The other end of the demo's webhooks: a small HTTP server that believes nothing without a signature.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::handler::signature::{self, Headers, Key, TOLERANCE_DEFAULT};

/// The largest body that is read; the demo's payloads have some hundred bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// So many webhooks are refused on their first call, so that a repeated delivery can be seen.
const REFUSED: usize = 2;

/// What came in.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    pub(super) calls: usize,
    /// The ids of calls that were signed well and answered with 200.
    pub(super) ids: BTreeSet<String>,
    pub(super) bad_signatures: usize,
    /// Answered with 503 on purpose.
    pub(super) refused: BTreeSet<String>,
}

/// Listens until dropped.
pub(super) struct Receiver {
    pub(super) url: String,
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(super) async fn start(secret: &SecretString) -> anyhow::Result<Self> {
        let key = Key::parse(secret).map_err(anyhow::Error::msg)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (keys, sink) = (Arc::new([key]), heard.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, keys.clone(), sink.clone()));
            }
        });
        Ok(Self { url, heard, task })
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers the calls of one connection; a connection that breaks is the caller's to repeat.
async fn serve(stream: TcpStream, keys: Arc<[Key; 1]>, heard: Arc<Mutex<Heard>>) {
    let mut stream = BufReader::new(stream);
    while let Some(call) = Call::read(&mut stream).await {
        let status = {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.take(&call, &keys[..])
        };
        let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Heard {
    fn take(&mut self, call: &Call, keys: &[Key]) -> &'static str {
        self.calls += 1;
        let id = call.header(signature::ID_HEADER);
        let headers = Headers {
            id,
            timestamp: call.header(signature::TIMESTAMP_HEADER),
            signature: call.header(signature::SIGNATURE_HEADER),
        };
        let now = chrono::Utc::now().timestamp();
        if signature::verify(keys, &headers, &call.body, now, TOLERANCE_DEFAULT).is_err() {
            self.bad_signatures += 1;
            return "401 Unauthorized";
        }
        if self.refused.len() < REFUSED && self.refused.insert(id.to_owned()) {
            return "503 Service Unavailable";
        }
        self.ids.insert(id.to_owned());
        "200 OK"
    }
}

/// One request.
struct Call {
    /// In lower case, as the names of headers go.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    async fn read(stream: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut headers = vec![];
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        loop {
            line.clear();
            stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut call = Self { headers, body: vec![] };
        let length = call.header("content-length").parse().ok().filter(|length| *length <= BODY_BYTES_MAX)?;
        call.body = vec![0; length];
        stream.read_exact(&mut call.body).await.ok()?;
        Some(call)
    }

    /// A header's value, empty where there is none.
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}
