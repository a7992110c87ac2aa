//! Gives jobs that workers were lost with a process of their own: this program, started again for them.
//!
//! The new process enters the crew as a worker that claims nothing: it takes over what it is handed, and leaves when it
//! is told to. Should it die, it takes no other job with it, and the crew knows which to blame. Its standard input is its
//! tie to the worker that started it. Over it, it is handed jobs, says that they are its own, and when each has ended;
//! and when the other end is gone, it gives them back unharmed.

use std::fmt;
use std::io::{BufRead as _, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::{Settings, Stopping};
use crate::{ClaimId, JobId, config};

/// Says to a process that it is started for jobs, and for which.
const VARIABLE: &str = "ROWCREW_HANDED";
/// How long a worker whose starter is gone may take to give its jobs back; its database may be gone too.
const ORPHAN_WAIT: Duration = Duration::from_secs(4);

/// What a process is started for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Purpose {
    /// Kinds of the jobs that it may be handed.
    pub(super) kinds: Vec<String>,
    /// The one whose last try it is; else several that were in one crash.
    pub(super) last_try: Option<JobId>,
}

impl Purpose {
    /// That of this process, if it was started for jobs.
    pub(super) fn of_this_process(settings: &Settings) -> Option<Self> {
        settings.program.as_ref()?;
        serde_json::from_str(&config::variable(VARIABLE)?).ok()
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_try {
            Some(id) => write!(f, "job {id}"),
            None => f.write_str("suspects"),
        }
    }
}

/// What such a process has of it.
pub(super) struct Handed {
    pub(super) last_try: bool,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
}

/// What such a process is told, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// To take these jobs over from the worker that holds them by these claims.
    Take(Vec<(JobId, ClaimId)>),
    /// To leave: no more will come.
    Leave,
}

/// What it says, a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// So many of the jobs of the next order are its own; the others it could not have.
    Taken(usize),
    /// It could not take the jobs of the next order over, or does not know whether it has: then it gives them back.
    Failed,
    /// So many have ended.
    Ended(usize),
}

/// News of such a process.
pub(super) enum News {
    Said(Word),
    Gone(std::io::Result<ExitStatus>),
}

/// A process that was started for jobs.
pub(super) struct OwnProcess {
    process: Child,
    words: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
}

impl OwnProcess {
    /// Starts this program again, as it was started itself. In a group of its own: whoever kills the worker's group
    /// must not seem to be a job.
    pub(super) fn start(program: &Path, purpose: &Purpose) -> std::io::Result<Self> {
        let (tie, its_end) = UnixStream::pair()?;
        tie.set_nonblocking(true)?;
        let mut arguments = config::arguments();
        let mut command = Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        let command = command.args(arguments).env(VARIABLE, serde_json::to_string(purpose)?).process_group(0);
        let process = command.stdin(Stdio::from(OwnedFd::from(its_end))).spawn()?;
        let (words, orders) = tokio::net::UnixStream::from_std(tie)?.into_split();
        Ok(Self { process, words: BufReader::new(words).lines(), orders })
    }

    /// Gives it an order. One that it does not hear any more is none: its end comes as news.
    pub(super) async fn tell(&mut self, order: &Order) {
        let mut line = serde_json::to_vec(order).expect("numbers have a text");
        line.push(b'\n');
        let _ = self.orders.write_all(&line).await;
    }

    /// The next that is heard of it; may be dropped half-way.
    pub(super) async fn news(&mut self) -> News {
        let Self { process, words, .. } = self;
        let said = async {
            let line = words.next_line().await.ok().flatten()?;
            serde_json::from_str(&line).ok()
        };
        tokio::select! {
            // What it has said before its end comes first.
            biased;
            Some(word) = said => News::Said(word),
            status = process.wait() => News::Gone(status),
        }
    }

    /// Waits for its end.
    pub(super) async fn gone(&mut self) {
        let _ = self.process.wait().await;
    }

    /// Has it give its jobs back, and answers how it ended.
    pub(super) async fn stop(self) -> std::io::Result<ExitStatus> {
        let Self { mut process, words, orders } = self;
        drop((words, orders));
        process.wait().await
    }
}

/// Says something to the worker that started this process.
pub(super) fn say(word: Word) {
    let line = serde_json::to_string(&word).expect("numbers have a text") + "\n";
    // It may be gone; then the end of standard input says so.
    let _ = rustix::io::write(rustix::stdio::stdin(), line.as_bytes());
}

/// Orders for this process, and the wish to stop, which comes also when whoever started it is gone.
pub(super) fn orders(
    mut stopping: watch::Receiver<Stopping>,
) -> (mpsc::UnboundedReceiver<Order>, watch::Receiver<Stopping>) {
    let (stop, either) = watch::channel(*stopping.borrow_and_update());
    let (order, orders) = mpsc::unbounded_channel();
    let at_end = stop.clone();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        for heard in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
            let _ = order.send(heard);
        }
        orphaned(&at_end);
    });
    tokio::spawn(async move {
        while stopping.changed().await.is_ok() {
            let asked = *stopping.borrow_and_update();
            stop.send_modify(|now| *now = asked.max(*now));
        }
    });
    (orders, either)
}

/// Asks the worker to stop at once when standard input ends, as it does when the process that started this one is
/// gone. For a thread of its own: a runtime would wait for the read before it ends.
pub(crate) fn stop_at_end_of_stdin(stop: &watch::Sender<Stopping>) {
    let mut stdin = std::io::stdin().lock();
    while matches!(stdin.read(&mut [0; 64]), Ok(1..)) {}
    orphaned(stop);
}

/// Asks the worker to stop at once, and ends the process if that takes too long.
fn orphaned(stop: &watch::Sender<Stopping>) {
    stop.send_replace(Stopping::Now);
    std::thread::sleep(ORPHAN_WAIT);
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_words_are_lines() {
        let text = |order: &Order| serde_json::to_string(order).expect("text");
        assert_eq!(text(&Order::Take(vec![(7, 12), (9, 13)])), r#"{"take":[[7,12],[9,13]]}"#);
        assert_eq!(text(&Order::Leave), r#""leave""#);
        for word in [Word::Taken(2), Word::Failed, Word::Ended(1)] {
            let line = serde_json::to_string(&word).expect("text");
            assert_eq!(serde_json::from_str::<Word>(&line).ok(), Some(word), "{line}");
        }
    }
}
