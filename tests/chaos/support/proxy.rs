//! A TCP proxy before the server's socket that breaks connections: at a statement's request or reply, in the
//! middle of a reply, with a reset, or by going silent while all sockets stay open.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::frames::{Frames, Message, Session};

/// More than a socket's buffer holds.
const READ_BYTES: usize = 256 * 1024;

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never sees the statement.
    Request,
    /// The server has done it; no byte of its answer arrives.
    Reply,
    /// The server has done it; the answer breaks off after so many bytes.
    MidReply(usize),
}

/// What happens to one statement.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The statement's name (its file's stem), or the beginning of a text that has no file.
    pub statement: &'static str,
    pub cut: Cut,
    /// How many of a hundred executions.
    pub percent: u32,
    /// How often at most.
    pub left: usize,
}

/// What all connections do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Bytes pass.
    Open,
    /// Nothing passes, nothing is closed, new connections get no answer; what waited goes on afterwards.
    Silent,
    /// As silent, but only for connections that listened before this moment.
    SilentListeners(Instant),
}

/// The running proxy; ends when dropped.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepts: JoinHandle<()>,
}

struct Shared {
    socket: PathBuf,
    faults: Mutex<Vec<Fault>>,
    rng: Mutex<fastrand::Rng>,
    done: Mutex<HashMap<&'static str, usize>>,
    line: watch::Sender<Line>,
    /// Counts up when every connection shall be reset.
    resets: watch::Sender<u64>,
    delay: watch::Sender<Duration>,
}

/// How a connection ends.
enum End {
    Closed,
    Cut,
}

impl Proxy {
    pub(crate) async fn start(socket: PathBuf, rng: fastrand::Rng) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            socket,
            faults: Mutex::default(),
            rng: Mutex::new(rng),
            done: Mutex::default(),
            line: watch::Sender::new(Line::Open),
            resets: watch::Sender::new(0),
            delay: watch::Sender::new(Duration::ZERO),
        });
        let accepting = shared.clone();
        let accepts = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = accepting.clone();
                tokio::spawn(async move { shared.serve(client).await });
            }
        });
        Self { port, shared, accepts }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Breaks statements from now on.
    pub(crate) fn break_statements(&self, faults: &[Fault]) {
        *self.shared.faults.lock().expect("no panic") = faults.to_vec();
    }

    /// How often each statement was broken.
    pub(crate) fn broken(&self, statement: &str) -> usize {
        self.shared.done.lock().expect("no panic").get(statement).copied().unwrap_or(0)
    }

    pub(crate) fn set_line(&self, line: Line) {
        self.shared.line.send_replace(line);
    }

    /// Adds to the way of every message, in each direction.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.shared.delay.send_replace(delay);
    }

    /// Resets all connections there are.
    pub(crate) fn reset_all(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
        self.reset_all();
    }
}

impl Shared {
    async fn serve(&self, mut client: TcpStream) {
        let _ = client.set_nodelay(true);
        let mut resets = self.resets.subscribe();
        let end = tokio::select! {
            end = self.pass(&mut client) => end.unwrap_or(End::Closed),
            _ = resets.changed() => End::Cut,
        };
        if matches!(end, End::Cut) {
            // Closing with this set sends a reset.
            let _ = client.set_zero_linger();
        }
    }

    async fn pass(&self, client: &mut TcpStream) -> std::io::Result<End> {
        let mut server = UnixStream::connect(&self.socket).await?;
        let (mut asked, mut answered) = (Frames::of_client(), Frames::of_server());
        let mut session = Session::default();
        let mut cut = None;
        loop {
            // All that has arrived is read at once, so that a delay is paid once for it.
            asked.bytes.reserve(READ_BYTES);
            answered.bytes.reserve(READ_BYTES);
            tokio::select! {
                read = client.read_buf(&mut asked.bytes) => {
                    if read? == 0 {
                        return Ok(End::Closed);
                    }
                    self.held_up(&session).await;
                    while let Some(message) = asked.next() {
                        match message {
                            // There is no TLS behind a local socket.
                            Message::SslRequest => client.write_all(b"N").await?,
                            Message::Startup(bytes) => server.write_all(&bytes).await?,
                            Message::Tagged(tag, bytes) => {
                                if let Some(name) = session.executed(tag, &bytes) {
                                    cut = cut.or_else(|| self.draw(&name));
                                }
                                if cut == Some(Cut::Request) {
                                    return Ok(End::Cut);
                                }
                                server.write_all(&bytes).await?;
                            }
                        }
                    }
                }
                read = server.read_buf(&mut answered.bytes) => {
                    if read? == 0 {
                        return Ok(End::Closed);
                    }
                    self.held_up(&session).await;
                    if self.answer(client, &mut answered, &mut cut).await? {
                        return Ok(End::Cut);
                    }
                }
            }
        }
    }

    /// Passes the server's messages on, up to where the answer is cut; says whether it was.
    async fn answer(
        &self,
        client: &mut TcpStream,
        answered: &mut Frames,
        cut: &mut Option<Cut>,
    ) -> std::io::Result<bool> {
        while let Some(message) = answered.next() {
            let Message::Tagged(tag, bytes) = message else { continue };
            let ready = tag == b'Z';
            match cut {
                None | Some(Cut::Request) => client.write_all(&bytes).await?,
                Some(Cut::Reply) => {}
                Some(Cut::MidReply(left)) => {
                    let part = bytes.len().min(*left);
                    client.write_all(&bytes[..part]).await?;
                    *left -= part;
                }
            }
            // Ready for the next: the server has committed what it was asked.
            if ready && cut.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn draw(&self, name: &str) -> Option<Cut> {
        let mut faults = self.faults.lock().expect("no panic");
        let fault = faults.iter_mut().find(|fault| name.starts_with(fault.statement) && fault.left > 0)?;
        if self.rng.lock().expect("no panic").u32(..100) >= fault.percent {
            return None;
        }
        fault.left -= 1;
        *self.done.lock().expect("no panic").entry(fault.statement).or_default() += 1;
        Some(fault.cut)
    }

    /// Waits as long as nothing passes, and then the delay.
    async fn held_up(&self, session: &Session) {
        let delay = *self.delay.borrow();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut line = self.line.subscribe();
        let passes = |line: &Line| match line {
            Line::Open => true,
            Line::Silent => false,
            Line::SilentListeners(since) => session.listens.is_none_or(|at| at > *since),
        };
        let _ = line.wait_for(passes).await;
    }
}
