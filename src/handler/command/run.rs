//! Runs one command to its end, and never waits for ever: not for a child that does not read, not for a grandchild
//! that keeps a pipe open, not past the attempt's time.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::future::{join, maybe_done};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::time::timeout;

use super::super::child::{Group, Pipes};
use super::super::output::{Head, Tail};
use super::super::{Context, Cut};
use crate::text::DETAIL_BYTES_MAX;

/// Between the request to end and the kill. Longer, and the worker drops the attempt before what left the group is
/// found and killed; shorter spoils tidy ends.
const CANCEL_GRACE: Duration = Duration::from_millis(250);
/// How long the pipes may stay open after the command's end. What a dead command wrote is there already, so only
/// a grandchild takes longer.
const PIPES_WAIT: Duration = Duration::from_millis(100);
/// Read at once from a pipe.
const CHUNK_BYTES: usize = 16 * 1024;

/// What came of a command.
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) stdout: Head,
    pub(super) stderr: Tail,
}

/// How a command ended.
pub(super) enum End {
    Exited(ExitStatus),
    /// The system did not say how.
    Lost(io::Error),
    Cut(Cut),
}

/// Feeds the payload, keeps the output, waits for the end, and leaves no process of the group behind.
pub(super) async fn run(mut group: Group, context: &Context, result_bytes_max: usize) -> Ended {
    let mut stdout = Head::new(result_bytes_max);
    let mut stderr = Tail::new(DETAIL_BYTES_MAX);
    let pipes = group.take_pipes();
    let end = supervise(&mut group, pipes, context, &mut stdout, &mut stderr).await;
    Ended { end, stdout, stderr }
}

async fn supervise(
    group: &mut Group,
    pipes: Pipes,
    context: &Context,
    stdout: &mut Head,
    stderr: &mut Tail,
) -> End {
    let mut reading = pin!(maybe_done(join(
        read(pipes.stdout, |bytes| stdout.push(bytes)),
        read(pipes.stderr, |bytes| stderr.push(bytes)),
    )));
    let feeding = feed(pipes.stdin, &context.job.payload);
    let end = match context.within(alongside(group.wait(), join(feeding, reading.as_mut()))).await {
        Ok(Ok(status)) => End::Exited(status),
        Ok(Err(fault)) => End::Lost(fault),
        Err(Cut::Cancelled) => {
            group.terminate();
            // It may have last words, and must not be held up by a full pipe.
            let _ = timeout(CANCEL_GRACE, alongside(group.wait(), reading.as_mut())).await;
            End::Cut(Cut::Cancelled)
        }
        Err(Cut::Deadline) => {
            group.kill().await;
            End::Cut(Cut::Deadline)
        }
    };
    // One that was cut short has no words left to wait for, and what it started must be gone soon.
    if !matches!(end, End::Cut(_)) {
        let _ = timeout(PIPES_WAIT, reading.as_mut()).await;
    }
    group.kill().await;
    // Once more, for what a slow machine had no time to read; now only an escaped grandchild holds the pipes.
    let _ = timeout(PIPES_WAIT, reading).await;
    end
}

/// Awaits the work, with something else going on until it is done.
async fn alongside<T, E>(work: impl Future<Output = T>, other: impl Future<Output = E>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        output = &mut work => output,
        _ = other => work.await,
    }
}

/// Writes the payload and closes the pipe. A command need not read: that its end is closed is no failure.
async fn feed(stdin: Option<ChildStdin>, payload: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(payload.as_bytes()).await;
    }
}

/// Reads to the end, however little of it is kept: a command must not wait for somebody to read.
async fn read(pipe: Option<impl AsyncRead + Unpin>, mut keep: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
        keep(&chunk[..length]);
    }
}
