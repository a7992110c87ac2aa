//! The course of events: workers start, one is killed half-way, the others go on to the end.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::app::{App, NAPS, Progress};
use super::crew::Crew;
use super::say::Say;

/// Each look counts all rows; more of them would show in the figures.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// With no job ended for so long something is wrong, and waiting on helps nobody.
const STALL: Duration = Duration::from_secs(45);

/// What happened to the worker that was killed.
#[derive(Debug, Serialize)]
pub(super) struct Rescue {
    pub(super) worker: String,
    pub(super) pid: u32,
    /// Jobs it held when it was killed: it was frozen first, so that the count stands still.
    pub(super) held: i64,
    /// Jobs the other worker gave back.
    pub(super) given_back: i64,
    pub(super) after_ms: u64,
}

/// Where the story is.
enum Chapter {
    Working,
    /// Half of the jobs have ended, and some have begun that take their time.
    HalfWay,
    Killed {
        rescue: Rescue,
        at: Instant,
    },
    Rescued(Rescue),
}

/// Goes on until all jobs have ended.
pub(super) async fn run(app: &App, crew: &mut Crew, say: &Say, total: u64) -> anyhow::Result<Rescue> {
    let mut chapter = Chapter::Working;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut last = (0, Instant::now());
    say.begin(total);
    loop {
        looks.tick().await;
        let progress = app.progress().await?;
        say.count(progress.ended, total);
        crew.check()?;
        if progress.ended != last.0 {
            last = (progress.ended, Instant::now());
        }
        if last.1.elapsed() > STALL {
            bail!("no job has ended for {} s. {}", STALL.as_secs(), crew.last_words());
        }
        chapter = match chapter {
            // Not before both live: else one might be done with all of it before the other has begun.
            Chapter::Working if progress.ended * 2 < total - NAPS || progress.workers < 2 => Chapter::Working,
            Chapter::Working => {
                app.enqueue_naps().await?;
                Chapter::HalfWay
            }
            Chapter::HalfWay => half_way(app, crew, say, progress).await?,
            Chapter::Killed { rescue, at } => rescued(app, crew, say, rescue, at).await?,
            Chapter::Rescued(rescue) if progress.open == 0 => {
                say.end();
                return Ok(rescue);
            }
            rescued @ Chapter::Rescued(_) => rescued,
        };
    }
}

/// Kills the worker that holds most, while it holds something.
async fn half_way(app: &App, crew: &mut Crew, say: &Say, progress: Progress) -> anyhow::Result<Chapter> {
    let Some(name) = app.busiest().await?.or_else(|| (progress.open == 0).then(|| "worker-1".to_owned()))
    else {
        return Ok(Chapter::HalfWay);
    };
    // What is counted must still be there when the kill comes.
    crew.freeze(&name)?;
    let held = app.held_by_frozen(&name).await?;
    if held == 0 && progress.open > 0 {
        crew.thaw(&name)?;
        return Ok(Chapter::HalfWay);
    }
    let killed = crew.kill(&name)?;
    let rescue = Rescue { worker: name, pid: killed.pid(), held, given_back: 0, after_ms: 0 };
    say.line(&format!(
        "  Half-way: SIGKILL to {} (pid {}), which holds {held} jobs at this moment.",
        rescue.worker, rescue.pid
    ));
    Ok(Chapter::Killed { rescue, at: Instant::now() })
}

/// Waits for the other worker to notice, then starts a new one.
async fn rescued(
    app: &App,
    crew: &mut Crew,
    say: &Say,
    rescue: Rescue,
    at: Instant,
) -> anyhow::Result<Chapter> {
    let Some(given_back) = app.rescued(&rescue.worker).await? else {
        return Ok(Chapter::Killed { rescue, at });
    };
    let after_ms = at.elapsed().as_millis() as u64;
    say.line(&format!(
        "  After {after_ms} ms the other worker has noticed and given its {given_back} unfinished jobs back."
    ));
    let new = crew.start()?;
    say.line(&format!("  {} (pid {}) takes its place.", new.name, new.pid()));
    Ok(Chapter::Rescued(Rescue { given_back, after_ms, ..rescue }))
}
