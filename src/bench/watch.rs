//! Watches a run from outside: how many of its jobs are gone, ten times a second.
//!
//! It looks at some of the jobs by their ids, evenly spread, so that a look costs the same (about a
//! millisecond, one part in a hundred of the time) whoever drains, in whatever order, with whatever is kept.
//! Every contender is watched, drawn or not.

use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_postgres::{Client, Statement};

use super::Progress;
use super::rig::Rig;

/// Between two looks.
const WATCH_EVERY: Duration = Duration::from_millis(100);
/// Jobs that are looked at. Fewer make the curve coarse, more cost the run time.
const PROBES: i64 = 1_000;

/// What a contender did in one run.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// How many a second, from the first to the last.
    pub(super) rate: f64,
    /// Seconds since the run began, and how many a second just then.
    pub(super) curve: Vec<(f64, f64)>,
}

/// Makes rates of counts.
pub(super) struct Curve {
    began: Instant,
    last: (f64, f64),
    points: Vec<(f64, f64)>,
}

impl Curve {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), last: (0.0, 0.0), points: Vec::new() }
    }

    /// So many are done by now.
    pub(super) fn done(&mut self, count: f64) {
        self.done_at(self.began.elapsed().as_secs_f64(), count);
    }

    fn done_at(&mut self, at: f64, count: f64) {
        let (from, before) = self.last;
        // A look that came late is followed by one that came early; too close together they tell nothing.
        if at - from >= WATCH_EVERY.as_secs_f64() / 2.0 {
            self.points.push((f64::midpoint(from, at), (count - before) / (at - from)));
            self.last = (at, count);
        }
    }

    pub(super) fn points(self) -> Vec<(f64, f64)> {
        self.points
    }
}

/// The jobs that are looked at.
struct Probes {
    client: Client,
    alive: Statement,
    left: Vec<i64>,
    count: usize,
    jobs: i64,
}

impl Probes {
    async fn choose(rig: &Rig<'_>) -> anyhow::Result<Self> {
        let client = rig.connect().await?;
        let row = client
            .query_one(
                "select count(*), coalesce(min(id), 0), coalesce(max(id), 0) from rowcrew.jobs \
                 where shard = 0 and queue = 'default' and priority = 5 and due_at <= now()",
                &[],
            )
            .await?;
        let (jobs, first, last): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        // They came in one insert, so their ids have no gaps.
        let step = (jobs / PROBES).max(1) as usize;
        let left: Vec<i64> = (first..=last).step_by(step).collect();
        let alive = client.prepare("select id from rowcrew.jobs where shard = 0 and id = any ($1)").await?;
        Ok(Self { client, alive, count: left.len().max(1), left, jobs })
    }

    /// How many of all jobs are gone.
    async fn gone(&mut self) -> anyhow::Result<f64> {
        let rows = self.client.query(&self.alive, &[&self.left]).await?;
        self.left = rows.iter().map(|row| row.get(0)).collect();
        Ok(self.jobs as f64 * (1.0 - self.left.len() as f64 / self.count as f64))
    }
}

impl Rig<'_> {
    /// Does the work, which answers its rate, and watches the jobs of priority 5 that are due now.
    pub(super) async fn watched(
        &self,
        work: impl Future<Output = anyhow::Result<f64>>,
    ) -> anyhow::Result<Run> {
        let mut probes = Probes::choose(self).await?;
        let mut work = Box::pin(work);
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + WATCH_EVERY, WATCH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut curve = Curve::begin();
        let rate = loop {
            tokio::select! {
                rate = &mut work => break rate?,
                _ = ticks.tick() => {}
            }
            // The work goes on during the look.
            let gone = tokio::select! {
                rate = &mut work => break rate?,
                gone = probes.gone() => gone?,
            };
            curve.done(gone);
            self.say(Progress::Left((probes.jobs as f64 - gone) as u64));
        };
        curve.done(probes.gone().await?);
        self.say(Progress::Left(0));
        Ok(Run { rate, curve: curve.points() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_the_rate_between_two_looks_in_the_middle_of_them() {
        let mut curve = Curve::begin();
        curve.done_at(0.5, 100.0);
        curve.done_at(0.51, 500.0);
        curve.done_at(1.5, 300.0);
        assert_eq!(curve.points(), [(0.25, 200.0), (1.0, 200.0)]);
    }
}
