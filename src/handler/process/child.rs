//! One child's life: its lines out and in, and its end. Never waits for a child that does not read, does not write
//! or does not end.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::super::child::Group;
use super::Launch;
use super::lines::{Lines, TooLong};
use super::pool::{Due, Pool};
use super::protocol::{self, Rubbish};
use super::stderr::Stderr;
use crate::{Failure, FailureClass};

/// A child that lives for so long without a word is taken for one that has started. Longer holds up every start,
/// shorter takes a program that is missing its files for one that works.
const UP_AFTER: Duration = Duration::from_millis(300);
/// Between SIGTERM and SIGKILL. The end of a job that was cut off is written when the child is gone, and the worker
/// waits for that a second at most: with the time to give a job up (400 ms) it must be less.
const TERM_GRACE: Duration = Duration::from_millis(500);
/// How long a child may take to end after the end of its input, before SIGTERM. Together with the next one less
/// than the second that a worker's stop may take beyond its drain time.
const STOP_GRACE: Duration = Duration::from_millis(300);
const STOP_TERM_GRACE: Duration = Duration::from_millis(200);
/// How long the last words of a child that has ended may take to be read, and its exit to be seen after the end of
/// its output. Only a grandchild that holds the pipes makes it longer.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// What a line may hold beside a result: a message, a stack.
const LINE_BYTES_BESIDE: usize = 256 * 1024;
/// Read at once: what a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;

/// What came of a child.
pub(super) struct Life {
    /// Jobs it answered.
    pub(super) answers: u64,
    /// Jobs it had in hand when it ended.
    pub(super) in_hand: usize,
    /// It was ended because it was asked to be: the next one may start at once.
    pub(super) asked: bool,
    /// Why it ended, for the log; `None` when there is nothing to say.
    pub(super) fault: Option<String>,
}

/// Why a child's work is over.
enum Why {
    Exited(io::Result<ExitStatus>),
    /// It cannot be written to, or read from, any more.
    Closed(&'static str),
    Rubbish(Rubbish),
    NotReady,
    /// A job that was cut off did not end.
    Overdue,
    Closing,
}

impl From<Rubbish> for Why {
    fn from(rubbish: Rubbish) -> Self {
        Self::Rubbish(rubbish)
    }
}

struct Child<'a> {
    pool: &'a Pool,
    seat: usize,
    launch: &'a Launch,
    group: Group,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    ears: Ears<'a>,
    stderr: Arc<Stderr>,
    /// Reads the standard error.
    following: JoinHandle<()>,
    bell: Arc<Notify>,
}

/// Understands what a child writes.
struct Ears<'a> {
    pool: &'a Pool,
    seat: usize,
    lines: Lines,
    result_bytes_max: usize,
    answers: u64,
}

/// How it is seen that a child has started.
struct Start {
    until: Instant,
    /// It must have said so by then; else it is taken for started when it still lives then.
    must_say: bool,
}

/// Runs the child until it has ended, or has to end; leaves no process of its group behind.
pub(super) async fn live(pool: &Pool, seat: usize, launch: &Launch, mut group: Group) -> Life {
    let pipes = group.take_pipes();
    let (Some(stdin), Some(stdout), Some(stderr_pipe)) = (pipes.stdin, pipes.stdout, pipes.stderr) else {
        unreachable!("all three are piped");
    };
    let stderr = Arc::new(Stderr::default());
    let following = tokio::spawn({
        let (stderr, kind) = (stderr.clone(), launch.kind.clone());
        async move { stderr.follow(stderr_pipe, &kind, seat + 1).await }
    });
    let lines = Lines::new(launch.command.result_bytes_max + LINE_BYTES_BESIDE);
    let result_bytes_max = launch.command.result_bytes_max;
    let ears = Ears { pool, seat, lines, result_bytes_max, answers: 0 };
    let bell = pool.sit_down(seat, &stderr);
    let mut child =
        Child { pool, seat, launch, group, stdin: Some(stdin), stdout, ears, stderr, following, bell };
    let Err(why) = child.work().await;
    child.end(why).await
}

impl Child<'_> {
    /// Passes lines on in both directions until something ends it.
    async fn work(&mut self) -> Result<std::convert::Infallible, Why> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut outbox = Vec::new();
        let mut written = 0;
        let start = Start::of(self.launch, self.pool.is_proven());
        loop {
            let Due { up, over_at, closing } = self.pool.collect(self.seat, &mut outbox);
            if closing {
                return Err(Why::Closing);
            }
            if !up && start.is_over() {
                if start.must_say {
                    return Err(Why::NotReady);
                }
                self.pool.up(self.seat);
                continue;
            }
            let timer = if up { over_at.map(Instant::from_std) } else { Some(start.until) };
            tokio::select! {
                wrote = write(&mut self.stdin, &outbox[written..]), if !outbox.is_empty() => {
                    written += wrote.map_err(|_| Why::Closed("closed its standard input"))?;
                    if written == outbox.len() {
                        outbox.clear();
                        outbox.shrink_to(CHUNK_BYTES * 4);
                        written = 0;
                    }
                }
                read = self.stdout.read(&mut chunk) => match read {
                    Ok(length @ 1..) => self.ears.hear(&chunk[..length])?,
                    _ => return Err(Why::Closed("closed its standard output")),
                },
                status = self.group.wait() => return Err(Why::Exited(status)),
                // Jobs that are just starting come along in the same write.
                () = self.bell.notified() => tokio::task::yield_now().await,
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => if up {
                    return Err(Why::Overdue);
                },
            }
        }
    }

    /// Sees to it that it ends, and tells its jobs.
    async fn end(mut self, why: Why) -> Life {
        let was_up = self.pool.retire(self.seat);
        let exit = match &why {
            // Only a look at why the pipe is closed.
            Why::Closed(_) => self.wait(LAST_WORDS).await,
            Why::Overdue => {
                self.stdin = None;
                self.group.terminate();
                let closing = self.pool.closing.clone();
                let hurry = async {
                    closing.cancelled().await;
                    tokio::time::sleep(STOP_TERM_GRACE).await;
                };
                tokio::select! {
                    exit = self.wait(TERM_GRACE) => exit,
                    () = hurry => None,
                }
            }
            Why::Closing => {
                self.stdin = None;
                let exit = self.wait(STOP_GRACE).await;
                if exit.is_none() {
                    self.group.terminate();
                    self.wait(STOP_TERM_GRACE).await;
                }
                None
            }
            Why::Exited(_) => {
                self.last_answers().await;
                None
            }
            Why::Rubbish(_) | Why::NotReady => None,
        };
        self.group.kill().await;
        let _ = timeout(LAST_WORDS, &mut self.following).await;
        match (why, exit) {
            (Why::Closed(_), Some(status)) => self.tell(&Why::Exited(status), was_up),
            (why, _) => self.tell(&why, was_up),
        }
    }

    /// Tells the jobs in hand what has become of the child.
    fn tell(self, why: &Why, was_up: bool) -> Life {
        let answers = self.ears.answers;
        if matches!(why, Why::Overdue | Why::Closing) {
            let in_hand = self.pool.gone(self.seat, None);
            return Life { answers, in_hand, asked: true, fault: None };
        }
        let (class, what) = why.words();
        let message = format!("`{}`: the child process {what}", self.launch.command.program());
        let failure = Failure::retry_as(class, message.clone()).with_detail(self.stderr.text());
        let in_hand = self.pool.gone(self.seat, Some(&failure));
        // A child may end in peace when it has nothing to do, to be replaced by a fresh one.
        let clean = matches!(why, Why::Exited(Ok(status)) if status.success());
        let fault = (!clean || in_hand > 0 || !was_up).then_some(message);
        Life { answers, in_hand, asked: false, fault }
    }

    /// Waits for its end while its answers are still heard; `None` when it did not come.
    async fn wait(&mut self, at_most: Duration) -> Option<io::Result<ExitStatus>> {
        let until = Instant::now() + at_most;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut listens = true;
        loop {
            tokio::select! {
                status = self.group.wait() => {
                    self.last_answers().await;
                    return Some(status);
                }
                () = sleep_until(until) => return None,
                read = self.stdout.read(&mut chunk), if listens => {
                    listens = matches!(read, Ok(length @ 1..) if self.ears.hear(&chunk[..length]).is_ok());
                }
            }
        }
    }

    /// Reads what it had written before its end. Rubbish in it changes nothing any more.
    async fn last_answers(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(Ok(length @ 1..)) = timeout_at(until, self.stdout.read(&mut chunk)).await
            && self.ears.hear(&chunk[..length]).is_ok()
        {}
    }
}

impl Start {
    fn of(launch: &Launch, proven: bool) -> Self {
        let wait = match launch.ready_within {
            Some(time) => time,
            None if proven => Duration::ZERO,
            None => UP_AFTER,
        };
        Self { until: Instant::now() + wait, must_say: launch.ready_within.is_some() }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

impl Why {
    /// The sort of failure it is, and words that go on behind "the child process".
    fn words(&self) -> (FailureClass, String) {
        match self {
            Self::Exited(Err(fault)) => {
                (FailureClass::Error, format!("ended, and how was not seen: {fault}"))
            }
            Self::Exited(Ok(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => (FailureClass::ExitCode, format!("ended with exit code {code}")),
                (None, Some(9)) => (
                    FailureClass::Signal,
                    "was ended by signal 9 (SIGKILL), often because memory ran out".to_owned(),
                ),
                (None, signal) => {
                    (FailureClass::Signal, format!("was ended by signal {}", signal.unwrap_or_default()))
                }
            },
            Self::Closed(what) => (FailureClass::Protocol, format!("{what} and lived on")),
            Self::Rubbish(Rubbish(what)) => (FailureClass::Protocol, what.clone()),
            Self::NotReady => {
                (FailureClass::Protocol, "did not say that it is ready within ready_within".to_owned())
            }
            Self::Overdue => (FailureClass::Error, "had a job in hand whose time was over".to_owned()),
            Self::Closing => (FailureClass::Error, "was asked to end".to_owned()),
        }
    }
}

/// Writes as much as the pipe takes; never, once it is closed.
async fn write(stdin: &mut Option<ChildStdin>, bytes: &[u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(bytes).await,
        None => std::future::pending().await,
    }
}

impl Ears<'_> {
    fn hear(&mut self, bytes: &[u8]) -> Result<(), Rubbish> {
        let Self { pool, seat, lines, result_bytes_max, answers, .. } = self;
        lines.push(bytes, |line| {
            if let Some(said) = protocol::read(line, *result_bytes_max)? {
                *answers += u64::from(pool.heard(*seat, said)?);
            }
            Ok::<_, Rubbish>(())
        })
    }
}

impl From<TooLong> for Rubbish {
    fn from(_: TooLong) -> Self {
        Self("wrote a line without an end".to_owned())
    }
}
