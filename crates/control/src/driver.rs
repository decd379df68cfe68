//! The driver: a queue of keys without doubles, and a bounded set of workers.
//!
//! There is no dispatcher task: whoever signals a key starts a worker when there is room, so that
//! the way from a signal to the run is one `spawn`. A worker goes on with the next waiting key.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use wharf_core::Rng;

use crate::backoff::Backoff;
use crate::status::{FailingKey, ReconcilerStatus};

/// How many failing keys a status lists.
pub const FAILING_KEYS_SHOWN_MAX: usize = 100;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until the next signal.
    Done,
    /// Nothing to do until this time has passed, or the next signal.
    After(Duration),
    /// It failed, with this error; the driver runs it again after a backoff, or at the next signal.
    Retry(String),
}

/// Makes desired state true, one key at a time.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Debug + Send + Sync + 'static;

    fn name(&self) -> &'static str;

    /// Looks at the state of `key` and does what is missing. Idempotent.
    async fn reconcile(&self, key: &Self::Key) -> Outcome;

    /// Every key that may need work: what a driver starts with, and goes through again at each resync.
    fn all_keys(&self) -> Vec<Self::Key>;
}

/// How a driver runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many keys may run at once; at least 1.
    pub concurrency: usize,
    pub backoff: Backoff,
    /// How often all keys are signalled without a reason. `None`: never.
    pub resync: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrency: 64, backoff: Backoff::default(), resync: None }
    }
}

/// A running reconciler. Clones are handles to the same one.
pub struct Driver<R: Reconciler> {
    shared: Arc<Shared<R>>,
}

impl<R: Reconciler> Clone for Driver<R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<R: Reconciler> {
    reconciler: Arc<R>,
    rng: Arc<dyn Rng>,
    options: Options,
    state: Mutex<State<R::Key>>,
    /// Told each time a worker ends.
    idle: Notify,
}

struct State<K> {
    /// Keys that are queued, running, delayed or failing; no others.
    keys: HashMap<K, KeyState>,
    queue: VecDeque<K>,
    workers: usize,
    running: usize,
    runs: u64,
    failures: u64,
    stopping: bool,
    resync: Option<AbortHandle>,
}

#[derive(Default)]
struct KeyState {
    phase: Phase,
    failures: u32,
    error: Option<String>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    Queued,
    Running,
    /// Signalled while it ran: it runs once more.
    RunningAgain,
    Delayed {
        timer: AbortHandle,
    },
}

impl<R: Reconciler> Driver<R> {
    /// Starts a driver and signals every key that the reconciler knows. Needs a tokio runtime.
    pub fn spawn(reconciler: Arc<R>, rng: Arc<dyn Rng>, options: Options) -> Self {
        let shared = Arc::new(Shared {
            reconciler,
            rng,
            options,
            state: Mutex::new(State {
                keys: HashMap::new(),
                queue: VecDeque::new(),
                workers: 0,
                running: 0,
                runs: 0,
                failures: 0,
                stopping: false,
                resync: None,
            }),
            idle: Notify::new(),
        });
        let driver = Self { shared };
        driver.signal_all();
        if let Some(every) = options.resync {
            let again = driver.clone();
            let resync = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(every).await;
                    again.signal_all();
                }
            });
            driver.shared.state.lock().resync = Some(resync.abort_handle());
        }
        driver
    }

    /// Something about `key` may have changed. Cheap, never blocks; after [`Driver::stop`] it does nothing.
    pub fn signal(&self, key: R::Key) {
        Shared::signal(&self.shared, key);
    }

    pub fn signal_all(&self) {
        for key in self.shared.reconciler.all_keys() {
            self.signal(key);
        }
    }

    /// Starts nothing more and waits for what runs. Queued and delayed keys are dropped: after the
    /// next start [`Reconciler::all_keys`] names them again.
    pub async fn stop(&self) {
        {
            let mut state = self.shared.state.lock();
            state.stopping = true;
            state.queue.clear();
            if let Some(resync) = state.resync.take() {
                resync.abort();
            }
            for key in state.keys.values_mut() {
                if let Phase::Delayed { timer } = &key.phase {
                    timer.abort();
                    key.phase = Phase::Idle;
                }
            }
        }
        loop {
            let idle = self.shared.idle.notified();
            if self.shared.state.lock().workers == 0 {
                return;
            }
            idle.await;
        }
    }

    pub fn status(&self) -> ReconcilerStatus {
        let state = self.shared.state.lock();
        let failing = state.keys.iter().filter_map(|(key, of_key)| {
            let error = of_key.error.clone()?;
            Some(FailingKey { key: format!("{key:?}"), error, attempts: of_key.failures })
        });
        ReconcilerStatus {
            name: self.shared.reconciler.name(),
            queued: state.queue.len(),
            running: state.running,
            delayed: state.keys.values().filter(|key| matches!(key.phase, Phase::Delayed { .. })).count(),
            runs: state.runs,
            failures: state.failures,
            failing: failing.take(FAILING_KEYS_SHOWN_MAX).collect(),
        }
    }
}

impl<R: Reconciler> Shared<R> {
    fn signal(self: &Arc<Self>, key: R::Key) {
        let mut state = self.state.lock();
        if state.stopping {
            return;
        }
        let of_key = state.keys.entry(key.clone()).or_default();
        match &of_key.phase {
            Phase::Queued | Phase::RunningAgain => return,
            Phase::Running => {
                of_key.phase = Phase::RunningAgain;
                return;
            }
            Phase::Delayed { timer } => timer.abort(),
            Phase::Idle => {}
        }
        of_key.phase = Phase::Queued;
        state.queue.push_back(key);
        if state.workers < self.options.concurrency.max(1) {
            state.workers += 1;
            tokio::spawn(Arc::clone(self).work());
        }
    }

    /// Runs waiting keys until there are none.
    async fn work(self: Arc<Self>) {
        while let Some(key) = self.take() {
            let run = AssertUnwindSafe(self.reconciler.reconcile(&key)).catch_unwind();
            let outcome = run.await.unwrap_or_else(|_| Outcome::Retry("the reconciler panicked".to_owned()));
            self.finish(key, outcome);
        }
        self.idle.notify_waiters();
    }

    /// The next key to run. `None` ends the worker: that is decided under the same lock as a
    /// signal's choice to start one, so that no key is left behind.
    fn take(&self) -> Option<R::Key> {
        let mut state = self.state.lock();
        let Some(key) = state.queue.pop_front() else {
            state.workers -= 1;
            return None;
        };
        state.running += 1;
        state.runs += 1;
        if let Some(of_key) = state.keys.get_mut(&key) {
            of_key.phase = Phase::Running;
        }
        Some(key)
    }

    fn finish(self: &Arc<Self>, key: R::Key, outcome: Outcome) {
        let mut state = self.state.lock();
        state.running -= 1;
        if matches!(outcome, Outcome::Retry(_)) {
            state.failures += 1;
        }
        let stopping = state.stopping;
        let Some(of_key) = state.keys.get_mut(&key) else { return };
        let again = matches!(of_key.phase, Phase::RunningAgain);
        of_key.phase = Phase::Idle;
        let delay = match outcome {
            Outcome::Done | Outcome::After(_) => {
                of_key.failures = 0;
                of_key.error = None;
                if let Outcome::After(delay) = outcome { Some(delay) } else { None }
            }
            Outcome::Retry(error) => {
                tracing::warn!(reconciler = self.reconciler.name(), ?key, %error, "reconcile failed");
                of_key.failures = of_key.failures.saturating_add(1);
                of_key.error = Some(error);
                Some(self.options.backoff.delay(of_key.failures, &*self.rng))
            }
        };
        if stopping {
            return;
        }
        if again {
            of_key.phase = Phase::Queued;
            state.queue.push_back(key);
            return;
        }
        match delay {
            None => {
                state.keys.remove(&key);
            }
            Some(delay) => {
                let (shared, delayed) = (Arc::clone(self), key.clone());
                let timer = tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    Self::signal(&shared, delayed);
                });
                of_key.phase = Phase::Delayed { timer: timer.abort_handle() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;
    use tokio::time::Instant;
    use wharf_core::SeededRng;

    use super::*;

    /// Announces each run, and waits for permission to end it with an outcome.
    struct Scripted {
        started: mpsc::UnboundedSender<u32>,
        outcomes: tokio::sync::Mutex<mpsc::UnboundedReceiver<Outcome>>,
        at_once: AtomicUsize,
        at_once_max: AtomicUsize,
        keys: Vec<u32>,
    }

    struct Script {
        driver: Driver<Scripted>,
        started: mpsc::UnboundedReceiver<u32>,
        outcomes: mpsc::UnboundedSender<Outcome>,
    }

    #[async_trait]
    impl Reconciler for Scripted {
        type Key = u32;

        fn name(&self) -> &'static str {
            "scripted"
        }

        async fn reconcile(&self, key: &u32) -> Outcome {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.at_once_max.fetch_max(now, Ordering::SeqCst);
            self.started.send(*key).unwrap();
            let outcome = self.outcomes.lock().await.recv().await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            outcome.expect("an outcome")
        }

        fn all_keys(&self) -> Vec<u32> {
            self.keys.clone()
        }
    }

    fn script(concurrency: usize, keys: &[u32], resync: Option<Duration>) -> Script {
        let (started, started_out) = mpsc::unbounded_channel();
        let (outcomes, outcomes_out) = mpsc::unbounded_channel();
        let scripted = Scripted {
            started,
            outcomes: tokio::sync::Mutex::new(outcomes_out),
            at_once: AtomicUsize::new(0),
            at_once_max: AtomicUsize::new(0),
            keys: keys.to_vec(),
        };
        let options = Options { concurrency, resync, ..Options::default() };
        let driver = Driver::spawn(Arc::new(scripted), Arc::new(SeededRng::new(1)), options);
        Script { driver, started: started_out, outcomes }
    }

    impl Script {
        async fn started(&mut self) -> u32 {
            self.started.recv().await.expect("a run")
        }
        fn end(&self, outcome: Outcome) {
            self.outcomes.send(outcome).unwrap();
        }
        /// No run begins for as long as the clock can be moved without one.
        async fn quiet(&mut self) {
            let next = tokio::time::timeout(Duration::from_secs(3600), self.started.recv()).await;
            assert!(next.is_err(), "{next:?} ran");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_signals_before_a_run_make_one_run() {
        let mut script = script(4, &[], None);
        for _ in 0..1000 {
            script.driver.signal(7);
        }
        assert_eq!(script.started().await, 7);
        script.end(Outcome::Done);
        script.quiet().await;
        assert_eq!(script.driver.status().runs, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_during_a_run_makes_one_more_run_and_never_two_at_once() {
        let mut script = script(4, &[], None);
        script.driver.signal(7);
        assert_eq!(script.started().await, 7);
        script.driver.signal(7);
        script.driver.signal(7);
        assert_eq!(script.driver.status().running, 1);
        script.end(Outcome::After(Duration::from_secs(999)));
        assert_eq!(script.started().await, 7);
        script.end(Outcome::Done);
        script.quiet().await;
        assert_eq!(script.driver.shared.reconciler.at_once_max.load(Ordering::SeqCst), 1);
        assert_eq!(script.driver.status().delayed, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_keys_run_than_there_are_places_and_they_run_in_order() {
        let mut script = script(2, &[1, 2, 3, 4, 5], None);
        assert_eq!((script.started().await, script.started().await), (1, 2));
        assert_eq!((script.driver.status().running, script.driver.status().queued), (2, 3));
        for expected in 3..=5 {
            script.end(Outcome::Done);
            assert_eq!(script.started().await, expected);
        }
        script.end(Outcome::Done);
        script.end(Outcome::Done);
        script.quiet().await;
        assert_eq!(script.driver.shared.reconciler.at_once_max.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_runs_its_key_when_due_and_a_signal_comes_before_it() {
        let mut script = script(1, &[9], None);
        script.started().await;
        let begin = Instant::now();
        script.end(Outcome::After(Duration::from_secs(60)));
        script.started().await;
        assert_eq!(begin.elapsed().as_secs(), 60);
        script.end(Outcome::After(Duration::from_secs(60)));
        while script.driver.status().delayed == 0 {
            tokio::task::yield_now().await;
        }
        script.driver.signal(9);
        script.started().await;
        assert_eq!(begin.elapsed().as_secs(), 60);
        script.end(Outcome::Done);
        script.quiet().await;
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_are_reported_and_are_forgotten_after_a_success() {
        let mut script = script(1, &[3], None);
        let mut waits = Vec::new();
        script.started().await;
        for _ in 0..12 {
            let begin = Instant::now();
            script.end(Outcome::Retry("no route".into()));
            script.started().await;
            waits.push(begin.elapsed());
        }
        let status = script.driver.status();
        assert_eq!(status.failing, [FailingKey { key: "3".into(), error: "no route".into(), attempts: 12 }]);
        assert!(waits[0] <= Duration::from_millis(101), "{waits:?}");
        assert!(waits[11] >= Duration::from_secs(15) && waits[11] <= Duration::from_secs(31), "{waits:?}");
        script.end(Outcome::Done);
        script.quiet().await;
        let status = script.driver.status();
        assert_eq!((status.failing.len(), status.failures, status.runs), (0, 12, 13));
    }

    #[tokio::test(start_paused = true)]
    async fn a_resync_signals_all_keys_again() {
        let mut script = script(1, &[5], Some(Duration::from_secs(10)));
        for _ in 0..3 {
            assert_eq!(script.started().await, 5);
            script.end(Outcome::Done);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stop_waits_for_what_runs_and_starts_nothing_more() {
        let mut script = script(1, &[1, 2], None);
        assert_eq!(script.started().await, 1);
        let driver = script.driver.clone();
        let stop = tokio::spawn(async move { driver.stop().await });
        while !script.driver.shared.state.lock().stopping {
            tokio::task::yield_now().await;
        }
        assert!(!stop.is_finished());
        script.end(Outcome::After(Duration::from_secs(1)));
        stop.await.unwrap();
        script.driver.signal(3);
        script.quiet().await;
    }

    struct Panics(mpsc::UnboundedSender<u32>);

    #[async_trait]
    impl Reconciler for Panics {
        type Key = u32;
        fn name(&self) -> &'static str {
            "panics"
        }
        async fn reconcile(&self, key: &u32) -> Outcome {
            self.0.send(*key).unwrap();
            assert_ne!(*key, 1, "key 1 panics");
            Outcome::Done
        }
        fn all_keys(&self) -> Vec<u32> {
            vec![1, 2]
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failure_of_its_key_alone() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let options = Options { concurrency: 1, ..Options::default() };
        let driver = Driver::spawn(Arc::new(Panics(sender)), Arc::new(SeededRng::new(1)), options);
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(receiver.recv().await, Some(1), "retried");
        assert!(driver.status().failing[0].error.contains("panicked"));
    }
}
