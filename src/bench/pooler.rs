//! A drain through PgBouncer in transaction mode, against one with direct connections.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::drain::{CONCURRENCY, drained};
use super::report::{Goal, Report};
use super::rig::{Rig, connect};
use super::workers::WorkerKind;

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("pooler");
    let Some(pooler) = Pooler::start(rig).await? else {
        report.notes.push("skipped: pgbouncer is not on PATH, or there is no private server".to_owned());
        return Ok(report);
    };
    let (jobs, bytes) = (rig.settings.jobs, rig.settings.payload_bytes);
    rig.keep_finished(false).await?;
    for round in 1..=rig.settings.rounds {
        rig.begin(round, "direct");
        report.ran("direct", "jobs", drained(rig, jobs, bytes).await?);
        rig.begin(round, "through PgBouncer");
        rig.fill(jobs, bytes).await?;
        let through = WorkerKind { url: Some(&pooler.url), ..WorkerKind::default() };
        let mut workers = rig.workers_of(1, CONCURRENCY, &through).await?;
        report.ran("through PgBouncer", "jobs", rig.drain(&mut workers, jobs).await?);
    }
    report.ratio(
        "through PgBouncer / direct",
        "through PgBouncer, jobs/s",
        "direct, jobs/s",
        Goal::AtLeast(0.8),
    );
    Ok(report)
}

/// A private PgBouncer; ended when dropped.
struct Pooler {
    child: Child,
    folder: std::path::PathBuf,
    url: String,
}

impl Pooler {
    async fn start(rig: &Rig<'_>) -> anyhow::Result<Option<Self>> {
        let Some(socket_dir) = rig.socket_dir() else { return Ok(None) };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = rig.settings.scratch.join(format!("rowcrew-pooler-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("pgbouncer.ini");
        std::fs::write(
            &config,
            format!(
                "[databases]\npostgres = host={socket_dir} dbname=postgres user=postgres\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
                 default_pool_size = 20\nmax_client_conn = 500\nignore_startup_parameters = extra_float_digits,options\n\
                 logfile =\n"
            ),
        )?;
        let mut command = Command::new("pgbouncer");
        // It refuses root, and nobody but the server's own user may enter the folder of its socket.
        if rustix::process::geteuid().is_root() {
            let owner = std::fs::metadata(&socket_dir)?;
            command.uid(owner.uid()).gid(owner.gid());
        }
        let child = command
            .arg("-q")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            let _ = std::fs::remove_dir_all(&folder);
            return Ok(None);
        };
        let url = format!("postgresql://postgres@127.0.0.1:{port}/postgres");
        let pooler = Self { child, folder, url };
        let began = Instant::now();
        while connect(&pooler.url).await.is_err() {
            ensure!(began.elapsed() < Duration::from_secs(20), "pgbouncer does not answer at port {port}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        connect(&pooler.url).await?.simple_query("select 1").await.context("a query through pgbouncer")?;
        Ok(Some(pooler))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
