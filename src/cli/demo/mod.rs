//! `rowcrew demo`: what rowcrew promises, shown on the user's own files, with a proof at the end.
//!
//! Everything it makes lies in the folder of its private Postgres, whose watchdog removes it even when the demo
//! is killed; its workers end with the pipe they have from it.

mod app;
mod checksum;
mod course;
mod crew;
mod files;
mod proof;
mod receiver;
mod report;
mod say;
mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) use self::checksum::run as checksum;
use self::say::Say;
use self::stage::Stage;

/// The most files of one demo, and the number that is taken when none is given.
const FILES_MAX: u16 = 5_000;
/// How often is looked for jobs inserted by hand.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rowcrew demo ~/src/project --keep\n\n\
    Starts a private Postgres and two workers in a temporary folder, runs jobs about every file below DIR (it \
    only reads them), kills a worker half-way, and proves that nothing was lost or done twice. \
    Exit code 1 if the proof does not hold.")]
pub(super) struct Args {
    /// The folder whose files are worked on [default: the current one].
    #[arg(default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Files at most.
    #[arg(long, value_name = "N", default_value_t = FILES_MAX, value_parser = clap::value_parser!(u16).range(1..=i64::from(FILES_MAX)))]
    files: u16,
    /// Print the proof as JSON on standard output, and the story on standard error.
    #[arg(long)]
    json: bool,
    /// Stay up after the proof, to look around and to insert jobs by hand, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // First of all, so that no signal finds the demo without care.
    let mut interruption = Interruption::new()?;
    let say = Say::new(args.json);
    let shown = tokio::select! {
        biased;
        () = interruption.wait() => None,
        shown = Stage::show(&args.dir, args.files.into(), &say) => {
            say.end();
            Some(shown?)
        }
    };
    let Some((stage, proof)) = shown else {
        say.interrupted();
        return Ok(ExitCode::from(1));
    };
    if args.json {
        let mut report = serde_json::to_value(&proof)?;
        report["database_url"] = stage.url().into();
        report["folder"] = stage.folder().to_string_lossy().into();
        report["pids"] = stage.pids().into();
        super::output::print_bytes(format!("{report}\n").as_bytes())?;
    } else {
        say.line(&report::text(&proof));
    }
    if args.keep {
        tokio::select! {
            () = interruption.wait() => {}
            outcome = keep(&stage, &say) => outcome?,
        }
    } else {
        say.line("\nTo look around in psql and insert jobs by hand: rowcrew demo --keep");
    }
    drop(stage);
    say.line("Ended: the workers, the private Postgres and its folder are gone.");
    Ok(if proof.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Tells of every job that somebody inserts, until it is dropped.
async fn keep(stage: &Stage, say: &Say) -> anyhow::Result<()> {
    say.line(&format!(
        "\nStill running. Look around in another terminal:\n\n  {}\n\n\
         \x20 insert into rowcrew.jobs (kind, payload) values ('demo.echo', '{{\"hello\": \"world\"}}') returning id;\n\
         \x20 select * from rowcrew.job_status order by id desc limit 5;\n\
         \x20 select * from rowcrew.throughput;\n\
         \x20 select * from rowcrew.workers;\n\n\
         The killed worker took the counts of its last 2 s with it: throughput has less than the table above.\n\
         Your job is run at once, and told of here. Ctrl-C ends everything.\n",
        stage.psql_line()
    ));
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut last = stage.last_job().await?;
    loop {
        looks.tick().await;
        for job in stage.app().ended_since(last).await? {
            last = last.max(job.id);
            say.line(&format!(
                "  job {} ({}) is {}, {:.1} ms after it was due",
                job.id, job.kind, job.state, job.after_ms
            ));
        }
    }
}

/// Ctrl-C, SIGTERM, and the end of the terminal.
struct Interruption([Signal; 3]);

impl Interruption {
    fn new() -> std::io::Result<Self> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The folder as a person wrote it, or where they stand.
fn shown(dir: &Path, root: &Path) -> String {
    if dir == Path::new(".") { root.display().to_string() } else { dir.display().to_string() }
}
