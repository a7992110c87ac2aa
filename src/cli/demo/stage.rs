//! Sets the stage - Postgres, receiver, jobs, workers - and plays the whole piece on it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;

use super::app::{App, ENQUEUE, ODD_JOBS, RECORD};
use super::crew::Crew;
use super::files::{Files, write_samples};
use super::proof::Proof;
use super::receiver::Receiver;
use super::say::Say;
use super::{checksum, course};
use crate::embedded::{Cluster, Environment, Options, locate};

/// Every so manieth file is also told to the receiver of webhooks.
const WEBHOOK_EVERY: usize = 10;
/// Jobs made for each file: its record and its checksum.
const JOBS_A_FILE: usize = 2;

/// All that is running. Dropped from the top: the database goes last.
pub(super) struct Stage {
    crew: Crew,
    app: App,
    _receiver: Receiver,
    cluster: Cluster,
}

impl Stage {
    /// Plays everything up to the proof; what it has built so far goes when it is dropped half-way.
    pub(super) async fn show(dir: &Path, at_most: usize, say: &Say) -> anyhow::Result<(Self, Proof)> {
        let began = Instant::now();
        let root = dir.canonicalize().with_context(|| dir.display().to_string())?;
        // Before anything of the demo's own could be found there.
        let files = Files::below(&root, at_most).with_context(|| dir.display().to_string())?;
        tell_of_files(&super::shown(dir, &root), &files, say);
        let cluster = start_postgres(say).await?;
        let (root, files) =
            if files.found.is_empty() { samples(cluster.socket_dir())? } else { (root, files) };
        let files = Arc::new(files);
        let url = cluster.url("postgres");
        let app = App::start(&url).await?;
        let secret = secret()?;
        let receiver = Receiver::start(&secret).await?;
        let mut crew = Crew::new(cluster.socket_dir(), &root, url, &receiver.url, &secret)?;
        let (hooks, payloads) = payloads(&files);
        app.enqueue(&payloads).await?;
        tell_of_jobs(say, payloads.len(), hooks, began);
        for _ in 0..2 {
            let worker = crew.start()?;
            say.line(&format!("  {} starts (pid {}): rowcrew work", worker.name, worker.pid()));
        }
        let total = (files.found.len() * JOBS_A_FILE + hooks) as u64 + ODD_JOBS;
        let rescue = course::run(&app, &mut crew, say, total).await?;
        let proof = Proof::collect(&app, &root, &files, &receiver.heard(), hooks, rescue).await?;
        say.line(&format!(
            "  {total} jobs have ended; {:.1} s since the start.",
            began.elapsed().as_secs_f64()
        ));
        Ok((Self { crew, app, _receiver: receiver, cluster }, proof))
    }

    pub(super) fn app(&self) -> &App {
        &self.app
    }

    pub(super) fn url(&self) -> String {
        self.cluster.url("postgres")
    }

    pub(super) fn folder(&self) -> &Path {
        self.cluster.socket_dir()
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.crew.pids()
    }

    pub(super) fn psql_line(&self) -> String {
        self.cluster.psql_line("postgres")
    }

    /// The latest job that has ended so far.
    pub(super) async fn last_job(&self) -> anyhow::Result<i64> {
        Ok(self.app.ended_since(0).await?.last().map_or(0, |job| job.id))
    }
}

/// Not on the runtime's own threads, and never half done: an interruption waits until it can be dropped.
async fn start_postgres(say: &Say) -> anyhow::Result<Cluster> {
    let voice = say.clone();
    let cluster = tokio::task::spawn_blocking(move || {
        let binaries = locate(&Environment::read(), None, &mut |line| voice.line(line))?;
        Cluster::start(&Options::new(binaries))
    });
    let cluster = cluster.await??;
    say.line(&format!(
        "A private Postgres {} runs in {}; every commit waits for the disk, as in production.",
        cluster.binaries().major,
        cluster.socket_dir().display()
    ));
    Ok(cluster)
}

/// Says what was found.
fn tell_of_files(name: &str, files: &Files, say: &Say) {
    if files.found.is_empty() {
        say.line(&format!("{name} has no files to work on; some will be made up."));
        return;
    }
    let more = if files.more { ", the first of more" } else { "" };
    let skipped = match files.skipped {
        0 => String::new(),
        n => format!("; {n} left out, unreadable or above 8 MiB"),
    };
    say.line(&format!(
        "{name}: {} files, {:.1} MB{more}{skipped}. They are only read.",
        files.found.len(),
        files.bytes as f64 / 1e6
    ));
}

/// Makes up some files in `folder`, and answers with where they are.
fn samples(folder: &Path) -> anyhow::Result<(PathBuf, Files)> {
    write_samples(folder).context("writing sample files")?;
    let mut samples = Files::below(folder, usize::MAX)?;
    samples.found.retain(|file| file.path.to_string_lossy().starts_with("sample-"));
    samples.bytes = samples.found.iter().map(|file| file.bytes).sum();
    Ok((folder.to_owned(), samples))
}

/// One payload for each file, and how many of them ask for a webhook.
fn payloads(files: &Files) -> (usize, Vec<String>) {
    let payloads = files.found.iter().enumerate();
    let payloads =
        payloads.map(|(at, file)| checksum::payload(at + 1, &file.path, at.is_multiple_of(WEBHOOK_EVERY)));
    (files.found.len().div_ceil(WEBHOOK_EVERY), payloads.collect())
}

fn tell_of_jobs(say: &Say, files: usize, hooks: usize, began: Instant) {
    say.line(&format!(
        "\nOne insert makes a job for each of the {files} files:\n\n{}\n\n\
         Its SQL handler runs this, in one transaction with the job's finish, so it happens exactly once:\n\n{}\n\n\
         demo.checksum is a command handler, run {files} times; demo.notify posts {hooks} signed webhooks.\n\
         {ODD_JOBS} further jobs nap, fail at first, or fail for good. Ready after {:.1} s; now the workers:\n",
        indented(ENQUEUE),
        indented(RECORD),
        began.elapsed().as_secs_f64(),
    ));
}

fn indented(sql: &str) -> String {
    sql.trim_end().lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// What the webhooks of this demo are signed with.
fn secret() -> anyhow::Result<SecretString> {
    let mut bytes = [0; 24];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("/dev/urandom")?;
    Ok(format!("whsec_{}", BASE64_STANDARD.encode(bytes)).into())
}
