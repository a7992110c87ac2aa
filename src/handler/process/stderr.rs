//! What a child writes to its standard error: logged line by line as far as that is bearable, and its end kept for
//! the errors of its jobs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Instant;

use super::super::output::Tail;
use super::lines::{Lines, TooLong};
use crate::text::{DETAIL_BYTES_MAX, printable, truncated};

/// Over how long lines and bytes are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// Lines logged of one child in a window. More would bury what others say.
const LINES_IN_WINDOW: u32 = 50;
/// Bytes read in a window; a child that writes more waits, and costs nobody else any time.
const BYTES_IN_WINDOW: usize = 4 * 1024 * 1024;
/// Of a longer line this much is logged.
const LINE_BYTES_MAX: usize = 1_000;
const CHUNK_BYTES: usize = 16 * 1024;

/// The end of what a child wrote.
pub(super) struct Stderr {
    tail: Mutex<Tail>,
}

impl Default for Stderr {
    fn default() -> Self {
        Self { tail: Mutex::new(Tail::new(DETAIL_BYTES_MAX)) }
    }
}

impl Stderr {
    pub(super) fn text(&self) -> String {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).clone().text()
    }

    /// Reads to the end.
    pub(super) async fn follow(&self, mut pipe: impl AsyncRead + Unpin, kind: &str, number: usize) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut log = Log { kind, number, window_ends: Instant::now(), lines: 0, bytes: 0 };
        let mut lines = Lines::new(CHUNK_BYTES * 2);
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            let bytes = &chunk[..length];
            self.tail.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
            log.turn_over();
            log.bytes += length;
            let logged = lines.push(bytes, |line| {
                log.line(line);
                Ok::<_, TooLong>(())
            });
            if logged.is_err() {
                // Without an end: logged as it comes.
                log.line(lines.rest());
                lines = Lines::new(CHUNK_BYTES * 2);
            }
            if log.bytes > BYTES_IN_WINDOW {
                tokio::time::sleep_until(log.window_ends).await;
            }
        }
        log.line(lines.rest());
        log.close();
    }
}

struct Log<'a> {
    kind: &'a str,
    number: usize,
    window_ends: Instant,
    lines: u32,
    bytes: usize,
}

impl Log<'_> {
    fn turn_over(&mut self) {
        let now = Instant::now();
        if now >= self.window_ends {
            self.close();
            (self.window_ends, self.lines, self.bytes) = (now + WINDOW, 0, 0);
        }
    }

    fn line(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        self.lines += 1;
        if self.lines <= LINES_IN_WINDOW {
            let head = &line[..line.len().min(LINE_BYTES_MAX)];
            let line = truncated(printable(head).trim_end(), LINE_BYTES_MAX);
            tracing::info!(handler.kind = self.kind, process.number = self.number, "stderr: {line}");
        }
    }

    fn close(&self) {
        if let Some(more @ 1..) = self.lines.checked_sub(LINES_IN_WINDOW) {
            tracing::warn!(
                handler.kind = self.kind,
                process.number = self.number,
                "{more} more lines of stderr are not logged"
            );
        }
    }
}
