//! Cuts the bytes of a Postgres connection into messages, as far as the proxy must understand them.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

/// Codes in the place of a protocol version.
const SSL_REQUEST: u32 = 80_877_103;
const CANCEL_REQUEST: u32 = 80_877_102;

/// One message, head included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// The client asks for TLS.
    SslRequest,
    /// The first message of a session, or a request to cancel.
    Startup(Bytes),
    /// Any other.
    Tagged(u8, Bytes),
}

/// One direction of one connection.
pub(crate) struct Frames {
    pub bytes: BytesMut,
    /// Messages have a tag: always from the server, after the first ones from the client.
    tagged: bool,
}

impl Frames {
    pub(crate) fn of_client() -> Self {
        Self { bytes: BytesMut::new(), tagged: false }
    }

    pub(crate) fn of_server() -> Self {
        Self { bytes: BytesMut::new(), tagged: true }
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Option<Message> {
        let head = usize::from(self.tagged);
        let mut size = self.bytes.get(head..head + 4)?;
        let length = size.get_u32() as usize + head;
        if self.bytes.len() < length {
            return None;
        }
        let message = self.bytes.split_to(length).freeze();
        if self.tagged {
            return Some(Message::Tagged(message[0], message));
        }
        let code = (&message[4..]).get_u32();
        if code == SSL_REQUEST {
            return Some(Message::SslRequest);
        }
        self.tagged = code != CANCEL_REQUEST;
        Some(Message::Startup(message))
    }
}

/// What a session is doing, read from what its client sends.
#[derive(Default)]
pub(crate) struct Session {
    prepared: HashMap<Bytes, String>,
    /// When it last asked to listen.
    pub listens: Option<Instant>,
}

impl Session {
    /// The name of the statement that this message executes: its file's stem, or else its text.
    pub(crate) fn executed(&mut self, tag: u8, message: &Bytes) -> Option<String> {
        let body = &message[5..];
        match tag {
            b'P' => {
                let (name, rest) = text(body);
                self.prepared.insert(Bytes::copy_from_slice(name), name_of(text(rest).0));
                None
            }
            b'B' => {
                let (_, rest) = text(body);
                self.prepared.get(text(rest).0).cloned()
            }
            b'Q' => {
                let name = name_of(text(body).0);
                if name.starts_with("listen") {
                    self.listens.get_or_insert_with(Instant::now);
                }
                Some(name)
            }
            _ => None,
        }
    }
}

/// The bytes up to a zero, and those behind it.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// The name of a statement (its file's stem) by its first line; of any other its text.
pub(super) fn name_of(sql: &[u8]) -> String {
    static NAMES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
        let heads = rowcrew::store::sql::FILES.iter();
        heads.map(|(name, text)| (text.lines().next().expect("a head"), *name)).collect()
    });
    let sql = String::from_utf8_lossy(sql);
    let head = sql.lines().next().unwrap_or_default();
    NAMES.get(head).map_or_else(|| sql.to_lowercase(), |name| (*name).to_owned())
}

#[test]
fn messages_are_cut_wherever_the_bytes_were() {
    let mut all = Vec::new();
    all.extend_from_slice(&[0, 0, 0, 8, 4, 210, 22, 47]);
    all.extend_from_slice(&[0, 0, 0, 9, 0, 3, 0, 0, 0]);
    all.extend_from_slice(b"Q\0\0\0\x0dselect 1\0");
    let mut frames = Frames::of_client();
    let mut found = Vec::new();
    for byte in all {
        frames.bytes.extend_from_slice(&[byte]);
        found.extend(frames.next());
    }
    assert_eq!(found.len(), 3);
    assert_eq!(found[0], Message::SslRequest);
    let Message::Tagged(b'Q', query) = &found[2] else { panic!("{found:?}") };
    assert_eq!(Session::default().executed(b'Q', query).as_deref(), Some("select 1"));
}
