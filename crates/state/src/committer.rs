//! The queue of transactions and the one committer that makes them durable, in groups.
//!
//! Invariant: `latest` is the durable state plus the queue plus what is being written. The committer
//! alone moves a transaction to the durable side, and it is the only one who takes `durable` forward.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::journal::{Batch, Change, Journal, JournalError};
use crate::map::KeyBytes;
use crate::table::{Registry, State};
use crate::watch::Watches;

/// How many bytes one journal write takes at most, the last transaction excepted.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(crate) type Durable = Result<(), Arc<JournalError>>;

enum Work {
    /// No changes: a caller who must know that all before it is durable.
    Barrier,
    Write {
        changes: Vec<Change>,
        state: Arc<State>,
    },
    Wipe {
        state: Arc<State>,
    },
}

struct Waiting {
    work: Work,
    done: oneshot::Sender<Durable>,
}

pub(crate) struct Inner {
    latest: Arc<State>,
    queue: Vec<Waiting>,
    /// A group is being written.
    writing: bool,
    broken: Option<Arc<JournalError>>,
    closed: bool,
}

pub(crate) struct Committer {
    pub registry: Arc<Registry>,
    pub journal: Arc<dyn Journal>,
    pub watches: Watches,
    durable: ArcSwap<State>,
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Held while a group is written, so that groups keep their order when callers commit inline.
    turn: Mutex<()>,
}

/// When a submitted transaction is durable.
pub(crate) enum Receipt {
    Now,
    Later(oneshot::Receiver<Durable>),
}

impl Committer {
    pub fn new(registry: Arc<Registry>, journal: Arc<dyn Journal>, state: State) -> Self {
        let state = Arc::new(state);
        Self {
            watches: Watches::new(registry.tables.len()),
            registry,
            journal,
            durable: ArcSwap::new(Arc::clone(&state)),
            inner: Mutex::new(Inner {
                latest: state,
                queue: Vec::new(),
                writing: false,
                broken: None,
                closed: false,
            }),
            wake: Condvar::new(),
            turn: Mutex::new(()),
        }
    }

    pub fn durable(&self) -> Arc<State> {
        self.durable.load_full()
    }

    /// Runs `decide` alone on the newest state and queues the changes that it returns.
    ///
    /// `Err` from `decide` queues a barrier, because the error may rest on unfinished transactions.
    pub fn submit<T>(
        &self,
        decide: impl FnOnce(&State) -> (T, Option<(Vec<Change>, State)>),
    ) -> (Option<T>, Durable, Receipt) {
        let mut inner = self.inner.lock();
        if let Some(error) = &inner.broken {
            return (None, Err(Arc::clone(error)), Receipt::Now);
        }
        let (answer, written) = decide(&inner.latest);
        let work = match written {
            Some((changes, mut state)) => {
                state.revision += 1;
                let state = Arc::new(state);
                inner.latest = Arc::clone(&state);
                Work::Write { changes, state }
            }
            None if inner.queue.is_empty() && !inner.writing => return (Some(answer), Ok(()), Receipt::Now),
            None => Work::Barrier,
        };
        let receipt = self.enqueue(inner, work);
        (Some(answer), Ok(()), receipt)
    }

    pub fn submit_wipe(&self) -> Result<Receipt, Arc<JournalError>> {
        let mut inner = self.inner.lock();
        if let Some(error) = &inner.broken {
            return Err(Arc::clone(error));
        }
        let state = Arc::new(State::empty(&self.registry, inner.latest.revision + 1));
        inner.latest = Arc::clone(&state);
        Ok(self.enqueue(inner, Work::Wipe { state }))
    }

    fn enqueue(&self, mut inner: parking_lot::MutexGuard<'_, Inner>, work: Work) -> Receipt {
        let (done, receipt) = oneshot::channel();
        inner.queue.push(Waiting { work, done });
        drop(inner);
        if self.journal.commits_inline() {
            self.drain();
        } else {
            self.wake.notify_one();
        }
        Receipt::Later(receipt)
    }

    /// The committer thread: writes groups until the store is closed and the queue is empty.
    pub fn run(&self) {
        let _guard = Unwinding(self);
        loop {
            let mut inner = self.inner.lock();
            while inner.queue.is_empty() {
                if inner.closed {
                    return;
                }
                self.wake.wait(&mut inner);
            }
            drop(inner);
            self.drain();
        }
    }

    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.wake.notify_one();
        self.watches.close();
    }

    fn drain(&self) {
        let _turn = self.turn.lock();
        loop {
            let group = {
                let mut inner = self.inner.lock();
                let group = take_group(&mut inner.queue);
                inner.writing = !group.is_empty();
                group
            };
            if group.is_empty() {
                return;
            }
            self.commit(group);
        }
    }

    fn commit(&self, mut group: Vec<Waiting>) {
        let mut changes = Vec::new();
        // Per transaction: its revision and where its changes end.
        let mut transactions = Vec::new();
        let mut last = None;
        let mut wiped = false;
        for waiting in &mut group {
            match &mut waiting.work {
                Work::Barrier => {}
                Work::Write { changes: own, state } => {
                    changes.append(own);
                    transactions.push((state.revision, changes.len()));
                    last = Some(Arc::clone(state));
                }
                Work::Wipe { state } => {
                    wiped = true;
                    last = Some(Arc::clone(state));
                }
            }
        }
        if let Some(state) = last {
            let revision = state.revision;
            let outcome = if wiped {
                self.journal.wipe(revision)
            } else {
                self.journal.commit(&Batch { revision, changes: &changes })
            };
            if let Err(error) = outcome {
                self.fail(group, error);
                return;
            }
            self.durable.store(state);
            if wiped {
                self.watches.tell_wiped();
            }
            self.tell(&transactions, &changes);
        }
        for waiting in group {
            // The caller may have gone; the transaction stays.
            let _ = waiting.done.send(Ok(()));
        }
    }

    fn tell(&self, transactions: &[(u64, usize)], changes: &[Change]) {
        let mut start = 0;
        for &(revision, end) in transactions {
            let own = &changes[start..end];
            start = end;
            for (table, spec) in self.registry.tables.iter().enumerate() {
                if own.iter().any(|change| record_key(change, spec.name).is_some()) {
                    self.watches.tell(table, revision, || {
                        let mut keys: Vec<KeyBytes> = Vec::new();
                        for key in own.iter().filter_map(|change| record_key(change, spec.name)) {
                            if !keys.contains(key) {
                                keys.push(Arc::clone(key));
                            }
                        }
                        keys
                    });
                }
            }
        }
    }

    /// Takes the newest state back to the durable one and refuses everybody who waits: what they
    /// wait for was built upon what failed.
    fn fail(&self, group: Vec<Waiting>, error: JournalError) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the journal failed, transactions are refused"
        );
        let error = Arc::new(error);
        let queued = {
            let mut inner = self.inner.lock();
            inner.latest = self.durable.load_full();
            if !error.is_passing() {
                inner.broken = Some(Arc::clone(&error));
            }
            std::mem::take(&mut inner.queue)
        };
        for waiting in group.into_iter().chain(queued) {
            let _ = waiting.done.send(Err(Arc::clone(&error)));
        }
    }
}

/// Refuses everybody when the committer thread unwinds: nobody may wait for a thread that is gone.
struct Unwinding<'a>(&'a Committer);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Vec::new(), JournalError::Broken("the committer panicked".into()));
        }
    }
}

fn record_key<'a>(change: &'a Change, of: &str) -> Option<&'a KeyBytes> {
    match change {
        Change::Put { table, key, .. } | Change::Delete { table, key } if *table == of => Some(key),
        _ => None,
    }
}

/// The front of the queue, up to the bytes of one journal write. A wipe is a group of its own.
fn take_group(queue: &mut Vec<Waiting>) -> Vec<Waiting> {
    let mut bytes = 0;
    let mut end = 0;
    for waiting in queue.iter() {
        match &waiting.work {
            Work::Barrier => {}
            Work::Wipe { .. } if end == 0 => {
                end = 1;
                break;
            }
            Work::Wipe { .. } => break,
            Work::Write { changes, .. } => {
                if bytes >= GROUP_BYTES_MAX {
                    break;
                }
                bytes += changes.iter().map(change_bytes).sum::<usize>();
            }
        }
        end += 1;
    }
    if end == queue.len() { std::mem::take(queue) } else { queue.drain(..end).collect() }
}

fn change_bytes(change: &Change) -> usize {
    match change {
        Change::Put { key, value, .. } => key.len() + value.len(),
        Change::Delete { key, .. } => key.len(),
        Change::Append { key, value, .. } => key.len() + value.len(),
        Change::Remove { key, .. } => key.len(),
    }
}
