//! The threads that blocking handlers run on: so many and no more, never queued for, and counted.
//!
//! Whoever starts a blocking job holds one of the pool's permits, so that the pool itself never has anything
//! waiting. A permit comes back when its thread does: work that is cut off at its deadline cannot be taken off
//! its thread, and until it returns the worker claims one blocking job less.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::{Failure, Outcome};

/// Utilisation is that of the last one to two of these.
const WINDOW: Duration = Duration::from_secs(30);
/// All threads busy for longer than this at a stretch is worth a line in the log.
const EXHAUSTED_LONG: Duration = Duration::from_secs(30);

/// What a thread's work came to: an outcome, or the panic that ended it.
pub(super) type Ran = Result<Outcome, Box<dyn std::any::Any + Send>>;

/// The pool of one worker.
pub(super) struct Blocking {
    /// Nothing runs in it but its blocking threads, which come as they are needed and leave after 10 s of idleness.
    runtime: Option<Runtime>,
    free: Arc<Semaphore>,
    usage: Arc<Mutex<Usage>>,
}

/// How busy the threads were.
struct Usage {
    threads: usize,
    busy: usize,
    since: Instant,
    busy_time: Duration,
    exhausted_time: Duration,
    exhausted_since: Option<Instant>,
    warned: bool,
    /// Two looks back: when, and the busy time until then.
    marks: [(Instant, Duration); 2],
}

impl Blocking {
    pub(super) fn new(threads: usize) -> Self {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(threads)
            .thread_name("blocking")
            .build()
            .expect("a runtime without drivers needs nothing that could be missing");
        let usage = Arc::new(Mutex::new(Usage::new(threads, Instant::now())));
        Self { runtime: Some(runtime), free: Arc::new(Semaphore::new(threads)), usage }
    }

    /// Threads that have nothing to do.
    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Takes one of them, if there is one.
    pub(super) fn try_thread(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// Runs the work on a thread and waits for it. Dropped meanwhile, it leaves the work to its thread.
    pub(super) async fn run(
        &self,
        thread: Option<OwnedSemaphorePermit>,
        freed: impl FnOnce() + Send + 'static,
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Ran {
        let thread = match thread {
            Some(thread) => thread,
            None => self.free.clone().acquire_owned().await.expect("never closed"),
        };
        let busy = Busy::new(self.usage.clone());
        let home = Handle::current();
        let body = move || {
            // Futures that the work waits for belong to the worker's runtime.
            let _home = home.enter();
            let ran = catch_unwind(AssertUnwindSafe(work));
            drop(busy);
            drop(thread);
            freed();
            ran
        };
        let runtime = self.runtime.as_ref().expect("there until dropped");
        let over = |_| Ok(Err(Failure::retry("the worker has stopped")));
        runtime.spawn_blocking(body).await.unwrap_or_else(over)
    }

    /// What the worker says of its pool with each beat.
    pub(super) fn figures(&self) -> Value {
        lock(&self.usage).figures(Instant::now())
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Threads that do not return are not waited for.
            runtime.shutdown_background();
        }
    }
}

/// One busy thread, counted while this lives.
struct Busy(Arc<Mutex<Usage>>);

impl Busy {
    fn new(usage: Arc<Mutex<Usage>>) -> Self {
        lock(&usage).change(Instant::now(), |busy| busy + 1);
        Self(usage)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        lock(&self.0).change(Instant::now(), |busy| busy - 1);
    }
}

impl Usage {
    fn new(threads: usize, now: Instant) -> Self {
        Self {
            threads,
            busy: 0,
            since: now,
            busy_time: Duration::ZERO,
            exhausted_time: Duration::ZERO,
            exhausted_since: None,
            warned: false,
            marks: [(now, Duration::ZERO); 2],
        }
    }

    /// Counts the time up to now as it was, then changes the number of busy threads.
    fn change(&mut self, now: Instant, to: impl FnOnce(usize) -> usize) {
        let passed = now.saturating_duration_since(self.since);
        self.since = now;
        self.busy_time += passed * self.busy as u32;
        if self.busy == self.threads {
            self.exhausted_time += passed;
        }
        self.busy = to(self.busy);
        if self.busy < self.threads {
            self.exhausted_since = None;
            self.warned = false;
        } else {
            self.exhausted_since.get_or_insert(now);
        }
    }

    fn figures(&mut self, now: Instant) -> Value {
        self.change(now, |busy| busy);
        let (began, busy_time) = self.marks[0];
        let could = now.saturating_duration_since(began).as_secs_f64() * self.threads as f64;
        let was = self.busy_time.saturating_sub(busy_time).as_secs_f64();
        if now.saturating_duration_since(self.marks[1].0) >= WINDOW {
            self.marks = [self.marks[1], (now, self.busy_time)];
        }
        self.warn_if_long(now);
        let tenths = |time: Duration| (time.as_secs_f64() * 10.0).round() / 10.0;
        json!({
            "threads": self.threads,
            "busy": self.busy,
            "utilisation": if could > 0.0 { ((was / could).min(1.0) * 100.0).round() / 100.0 } else { 0.0 },
            "busy_seconds": tenths(self.busy_time),
            "exhausted_seconds": tenths(self.exhausted_time),
        })
    }

    fn warn_if_long(&mut self, now: Instant) {
        let long = self.exhausted_since.map(|since| now.saturating_duration_since(since));
        if let Some(long) = long.filter(|long| *long >= EXHAUSTED_LONG)
            && !std::mem::replace(&mut self.warned, true)
        {
            tracing::warn!(
                threads = self.threads,
                "all blocking threads have been busy for {} s; blocking jobs wait in their queues: \
                 raise worker.blocking_threads, or start another worker",
                long.as_secs()
            );
        }
    }
}

fn lock(usage: &Mutex<Usage>) -> MutexGuard<'_, Usage> {
    usage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the dispatcher when a thread is free again.
pub(super) fn waker(shared: &Arc<super::Shared>) -> impl FnOnce() + Send + 'static {
    // Not the worker itself: a thread that never returns must not keep its connections open.
    let shared = Arc::downgrade(shared);
    move || {
        if let Some(shared) = shared.upgrade() {
            Notify::notify_one(&shared.changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utilisation_and_exhaustion_are_counted_as_times() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut usage = Usage::new(2, start);
        usage.change(at(0), |busy| busy + 1);
        usage.change(at(4), |busy| busy + 1);
        usage.change(at(7), |busy| busy - 1);
        usage.change(at(8), |busy| busy - 1);
        let figures = usage.figures(at(10));
        assert_eq!(figures["busy"], 0);
        assert_eq!(figures["busy_seconds"], 11.0, "4 + 2 * 3 + 1");
        assert_eq!(figures["exhausted_seconds"], 3.0);
        assert_eq!(figures["utilisation"], 0.55);
        usage.change(at(10), |busy| busy + 2);
        for second in 11..=90 {
            usage.figures(at(second));
        }
        let figures = usage.figures(at(91));
        assert_eq!(figures["utilisation"], 1.0, "the idle times are more than a minute ago");
        assert_eq!(figures["exhausted_seconds"], 84.0);
    }

    #[tokio::test]
    async fn a_thread_whose_work_is_given_up_is_free_only_when_it_returns() {
        let pool = Blocking::new(1);
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (told, freed) = tokio::sync::oneshot::channel();
        let work = move || {
            wait.recv().expect("a word");
            Ok(crate::Success::Done(None))
        };
        let run = pool.run(pool.try_thread(), move || told.send(()).expect("somebody waits"), work);
        assert!(tokio::time::timeout(Duration::from_millis(20), run).await.is_err(), "given up");
        assert_eq!((pool.free(), pool.figures()["busy"].clone()), (0, 1.into()));
        assert!(pool.try_thread().is_none());
        go_on.send(()).expect("it waits");
        freed.await.expect("it returns");
        assert_eq!((pool.free(), pool.figures()["busy"].clone()), (1, 0.into()));
        let panicked = pool.run(pool.try_thread(), || {}, || panic!("on the thread")).await;
        assert_eq!(panicked.expect_err("a panic").downcast_ref::<&str>(), Some(&"on the thread"));
    }
}
