//! `rowcrew enqueue --from`: a file of JSON lines, read as fast as the database takes it.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, bail};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::json;
use super::row::Row;
use crate::config::Config;
use crate::store::{NewJob, Store};

const READ_BYTES: usize = 256 * 1024;
/// How many bytes of a line one byte of its payload may take: `\u0041` is one A. With room for the other columns.
const ESCAPE_BYTES: usize = 6;
const OTHER_COLUMNS_BYTES: usize = 1024 * 1024;
/// Lines between two looks of the progress bar.
const LINES_A_LOOK: u64 = 1_000;

/// Enqueues every line, or none; answers how many. `base` has what a line does not say.
pub(super) async fn run(
    store: &Store,
    config: &Config,
    path: &Path,
    rows: bool,
    base: &NewJob,
) -> anyhow::Result<u64> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let file = if path == Path::new("-") {
        standard_input()?
    } else {
        File::open(path).await.context(name.clone())?
    };
    let size = file.metadata().await.ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
    let mut lines = Lines::new(file, config.limits.payload_bytes_max);
    let progress = bar(size);
    let mut import = store.import().await?;
    while let Some(number) = lines.next().await.with_context(|| name.clone())? {
        let read = if rows { Row::read(lines.text(), base) } else { payload(lines.text(), base) };
        let mut job =
            read.map_err(|fault| anyhow::anyhow!("{name}, line {number}, {fault}; nothing was enqueued"))?;
        if job.queue.is_none() {
            job.queue = config.handlers.get(&job.kind).map(|handler| handler.queue.clone());
        }
        import.push(&job, number).await.with_context(|| name.clone())?;
        if number % LINES_A_LOOK == 0 {
            progress.set_position(lines.bytes);
            progress.set_message(HumanCount(number).to_string());
        }
    }
    let enqueued = import.finish().await.with_context(|| name.clone())?;
    progress.finish_and_clear();
    Ok(enqueued)
}

/// Standard input as a file; this process reads it nowhere else.
pub(super) fn standard_input() -> anyhow::Result<File> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("reading from the terminal; Ctrl-D ends it");
    }
    Ok(File::from_std(std::fs::File::from(stdin.as_fd().try_clone_to_owned()?)))
}

fn payload(line: &[u8], base: &NewJob) -> Result<NewJob, String> {
    let text = json::check(line).map_err(|fault| format!("column {}: {}", fault.column, fault.problem))?;
    Ok(NewJob { payload: text.to_owned(), ..base.clone() })
}

/// A bar where the end is known, else a count; drawn only on a terminal.
fn bar(size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (
            ProgressBar::new(size),
            "{wide_bar} {msg} jobs, {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left)",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} jobs, {bytes} ({bytes_per_sec}, {elapsed})"),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("a template of known words"));
    bar
}

/// The lines of a file, one in memory at a time.
struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
    line_max: usize,
    number: u64,
    bytes: u64,
}

impl Lines {
    fn new(file: File, payload_bytes_max: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(READ_BYTES, file),
            line: Vec::new(),
            line_max: payload_bytes_max * ESCAPE_BYTES + OTHER_COLUMNS_BYTES,
            number: 0,
            bytes: 0,
        }
    }

    /// Reads on to the next line that is not blank and answers its number, counted from 1.
    async fn next(&mut self) -> anyhow::Result<Option<u64>> {
        loop {
            self.line.clear();
            let limit = self.line_max as u64 + 1;
            let read = (&mut self.reader).take(limit).read_until(b'\n', &mut self.line).await?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.bytes += read as u64;
            if read > self.line_max {
                bail!(
                    "line {} is longer than {} bytes; nothing was enqueued. Is it one JSON value a line?",
                    self.number,
                    self.line_max
                );
            }
            if self.number == 1 && self.line.starts_with(b"\xEF\xBB\xBF") {
                self.line.drain(..3);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some(self.number));
            }
        }
    }

    /// The line without its end.
    fn text(&self) -> &[u8] {
        self.line.trim_ascii_end()
    }
}
