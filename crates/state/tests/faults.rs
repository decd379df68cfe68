//! What happens while the journal writes, and when it fails. The journal here does as it is told, at
//! the moment it is told, so that every order of events is chosen and none is waited for.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use std::ops::Bound;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use wharf_state::{
    Batch, Direction, Entry, HistoryStats, Journal, JournalError, MemoryJournal, Record, Store, TransactError,
};

/// How long a test waits for something that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counter {
    name: String,
    value: u64,
}

impl Record for Counter {
    const TABLE: &'static str = "counter";
    const VERSION: u32 = 1;
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }
}

#[derive(Clone, Copy)]
enum Verdict {
    Durable,
    Full,
    SyncFails,
    Panics,
}

/// Announces every commit (the number of its changes) and then waits for the verdict.
struct Gate {
    inner: MemoryJournal,
    entered: mpsc::Sender<usize>,
    verdicts: Mutex<mpsc::Receiver<Verdict>>,
}

impl Journal for Gate {
    fn load(
        &self,
        visit: &mut dyn FnMut(&str, &[u8], &[u8]) -> Result<(), JournalError>,
    ) -> Result<u64, JournalError> {
        self.inner.load(visit)
    }

    fn commit(&self, batch: &Batch<'_>) -> Result<(), JournalError> {
        let _ = self.entered.send(batch.changes.len());
        match self.verdicts.lock().unwrap().recv_timeout(DEADLINE).unwrap() {
            Verdict::Durable => self.inner.commit(batch),
            Verdict::Full => Err(JournalError::Full { available: 0, needed: 1 }),
            Verdict::SyncFails => Err(JournalError::Broken("fdatasync: input/output error".into())),
            Verdict::Panics => panic!("the journal has a bug"),
        }
    }

    fn wipe(&self, revision: u64) -> Result<(), JournalError> {
        self.inner.wipe(revision)
    }

    fn history_get(&self, history: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.inner.history_get(history, key)
    }

    fn history_range(
        &self,
        history: &'static str,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        self.inner.history_range(history, low, high, direction, limit)
    }

    fn history_stats(&self, history: &'static str) -> Result<HistoryStats, JournalError> {
        self.inner.history_stats(history)
    }
}

struct Bench {
    store: Store,
    content: MemoryJournal,
    entered: mpsc::Receiver<usize>,
    verdicts: mpsc::Sender<Verdict>,
}

fn bench() -> Bench {
    let content = MemoryJournal::new();
    let (announce, entered) = mpsc::channel();
    let (verdicts, receiver) = mpsc::channel();
    let gate = Gate { inner: content.clone(), entered: announce, verdicts: Mutex::new(receiver) };
    let store = Store::builder(Arc::new(gate)).table::<Counter>().history("log").open().unwrap();
    Bench { store, content, entered, verdicts }
}

impl Bench {
    fn entered(&self) -> usize {
        self.entered.recv_timeout(DEADLINE).expect("a commit begins")
    }

    fn rule(&self, verdict: Verdict) {
        self.verdicts.send(verdict).unwrap();
    }

    /// Adds one to the counter and returns the new value.
    async fn count(&self) -> Result<u64, TransactError<Infallible>> {
        self.store
            .transact(|transaction| {
                let value =
                    1 + transaction.get::<Counter>(&"c".to_owned()).map_or(0, |counter| counter.value);
                transaction.put(Counter { name: "c".into(), value });
                transaction.append("log", value.to_be_bytes(), b"counted");
                Ok(value)
            })
            .await
    }

    fn durable_value(&self) -> Option<u64> {
        self.store.snapshot().get::<Counter>(&"c".to_owned()).map(|counter| counter.value)
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn nobody_is_told_of_a_transaction_before_the_journal_says_that_it_is_durable() {
    let bench = bench();
    let mut watch = bench.store.watch::<Counter>();
    let mut told = pin!(watch.recv());
    let mut count = pin!(bench.count());
    assert!(poll(count.as_mut()).is_pending());
    assert_eq!(bench.entered(), 2);

    // The write is under way and not yet synced.
    assert!(poll(count.as_mut()).is_pending());
    assert!(poll(told.as_mut()).is_pending());
    assert_eq!((bench.store.snapshot().revision(), bench.durable_value()), (0, None));
    assert_eq!(bench.store.history("log").stats().unwrap().entries, 0);

    bench.rule(Verdict::Durable);
    assert_eq!(count.await.unwrap(), 1);
    assert_eq!(bench.durable_value(), Some(1));
    assert_eq!(told.await.unwrap().revision, 1);
}

#[tokio::test]
async fn transactions_that_wait_become_one_write() {
    let bench = bench();
    let mut first = pin!(bench.count());
    assert!(poll(first.as_mut()).is_pending());
    assert_eq!(bench.entered(), 2);
    let mut others: Vec<_> = (0..10).map(|_| Box::pin(bench.count())).collect();
    for other in &mut others {
        assert!(poll(other.as_mut()).is_pending());
    }
    bench.rule(Verdict::Durable);
    assert_eq!(bench.entered(), 20);
    bench.rule(Verdict::Durable);
    assert_eq!(first.await.unwrap(), 1);
    for (number, other) in others.into_iter().enumerate() {
        assert_eq!(other.await.unwrap(), number as u64 + 2);
    }
    assert_eq!(bench.store.snapshot().revision(), 11);
}

#[tokio::test]
async fn answers_that_rest_on_an_unfinished_transaction_wait_for_it_and_fail_with_it() {
    let bench = bench();
    let mut write = pin!(bench.count());
    assert!(poll(write.as_mut()).is_pending());
    bench.entered();
    let mut read =
        pin!(bench.store.transact(|transaction| Ok::<_, Infallible>(transaction.count::<Counter>())));
    let mut abort = pin!(bench.store.transact(|transaction| {
        if transaction.count::<Counter>() > 0 { Err("it exists already") } else { Ok(()) }
    }));
    assert!(poll(read.as_mut()).is_pending());
    assert!(poll(abort.as_mut()).is_pending());
    bench.rule(Verdict::Full);
    assert!(matches!(write.await, Err(TransactError::Journal(_))));
    assert!(matches!(read.await, Err(TransactError::Journal(_))));
    assert!(matches!(abort.await, Err(TransactError::Journal(_))));
}

#[tokio::test]
async fn a_full_disk_fails_what_waits_and_what_was_built_upon_it_and_nothing_later() {
    let bench = bench();
    let mut first = pin!(bench.count());
    assert!(poll(first.as_mut()).is_pending());
    bench.entered();
    let mut second = pin!(bench.count());
    assert!(poll(second.as_mut()).is_pending());
    bench.rule(Verdict::Full);
    for result in [first.await, second.await] {
        let Err(TransactError::Journal(error)) = result else { panic!("{result:?}") };
        assert!(matches!(*error, JournalError::Full { .. }));
    }
    assert_eq!(bench.durable_value(), None);

    bench.rule(Verdict::Durable);
    assert_eq!(bench.count().await.unwrap(), 1, "the failed counts are not seen");
    assert_eq!((bench.store.snapshot().revision(), bench.durable_value()), (1, Some(1)));
    assert_eq!(bench.store.history("log").stats().unwrap().entries, 1);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_until_the_store_is_opened_again() {
    let bench = bench();
    bench.rule(Verdict::Durable);
    bench.count().await.unwrap();
    bench.rule(Verdict::SyncFails);
    assert!(matches!(bench.count().await, Err(TransactError::Journal(_))));
    assert_eq!((bench.entered(), bench.entered()), (2, 2));

    assert!(matches!(bench.count().await, Err(TransactError::Journal(_))));
    assert!(matches!(bench.store.wipe().await, Err(TransactError::Journal(_))));
    assert!(bench.entered.try_recv().is_err(), "the journal was not asked again");
    assert_eq!(bench.durable_value(), Some(1), "reads go on");

    let again = Store::builder(Arc::new(bench.content.clone())).table::<Counter>().open().unwrap();
    assert_eq!(again.snapshot().get::<Counter>(&"c".to_owned()).unwrap().value, 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_its_transaction_along() {
    let bench = bench();
    {
        let mut gone = Box::pin(bench.count());
        assert!(poll(gone.as_mut()).is_pending());
    }
    bench.rule(Verdict::Durable);
    bench.rule(Verdict::Durable);
    assert_eq!(bench.count().await.unwrap(), 2);
}

#[tokio::test]
async fn a_closure_that_panics_changes_nothing() {
    let bench = bench();
    let store = bench.store.clone();
    let panicked = tokio::spawn(async move {
        store
            .transact(|transaction| {
                transaction.put(Counter { name: "c".into(), value: 99 });
                assert!(transaction.revision() > 1, "the closure panics");
                Ok::<_, Infallible>(())
            })
            .await
    });
    assert!(panicked.await.unwrap_err().is_panic());
    bench.rule(Verdict::Durable);
    assert_eq!(bench.count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_journal_that_panics_breaks_the_store_and_hangs_nobody() {
    let bench = bench();
    bench.rule(Verdict::Panics);
    assert!(bench.count().await.is_err());
    assert!(tokio::time::timeout(DEADLINE, bench.count()).await.expect("an answer").is_err());
    assert_eq!(bench.durable_value(), None);
}

#[tokio::test]
async fn closing_waits_for_what_was_accepted() {
    let Bench { store, content, entered, verdicts } = bench();
    {
        let mut gone = Box::pin(store.transact(|transaction| {
            transaction.put(Counter { name: "c".into(), value: 7 });
            Ok::<_, Infallible>(())
        }));
        assert!(poll(gone.as_mut()).is_pending());
    }
    let closer = std::thread::spawn(move || drop(store));
    entered.recv_timeout(DEADLINE).unwrap();
    verdicts.send(Verdict::Durable).unwrap();
    closer.join().unwrap();
    let again = Store::builder(Arc::new(content)).table::<Counter>().open().unwrap();
    assert_eq!(again.snapshot().get::<Counter>(&"c".to_owned()).unwrap().value, 7);
}
