//! The kill campaign: a process that writes is killed with SIGKILL at random moments; what it
//! acknowledged must be there when the store is opened again, and nothing may be there in part.
//!
//! This program is both sides. The victim's writers each do transactions 1, 2, 3 … whose content
//! follows from (writer, number), and acknowledge every one on a pipe once it is durable. So the whole
//! state is a function of how far each writer came, the campaign compares all of it, and a writer may
//! be ahead of its last acknowledgement by the one transaction that was on its way.
//!
//! `WHARF_KILLS` sets the number of kills (20), `WHARF_SEED` the moments.

#![allow(clippy::print_stdout, reason = "a test program reports what it saw")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_core::{Rng as _, SeededRng};
use wharf_state::{Direction, FjallJournal, Key as _, Record, Snapshot, Store, Transaction};

const WRITERS: u64 = 8;
const ACCOUNTS: u64 = 16;
const BALANCE: i64 = 1000;
/// How many of its newest items and log entries a writer keeps.
const KEPT: u64 = 5;
/// How many kills one data directory lives through.
const KILLS_A_DIRECTORY: u64 = 50;
/// How many of them fall into the time in which the directory is made.
const KILLS_AT_ITS_BIRTH: u64 = 3;

#[derive(Clone, Serialize, Deserialize)]
struct Writer {
    id: u64,
    number: u64,
}

impl Record for Writer {
    const TABLE: &'static str = "writer";
    const VERSION: u32 = 1;
    type Key = u64;

    fn key(&self) -> u64 {
        self.id
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Account {
    id: u64,
    /// Differs from the start by what was transferred.
    balance: i64,
}

impl Record for Account {
    const TABLE: &'static str = "account";
    const VERSION: u32 = 1;
    type Key = u64;

    fn key(&self) -> u64 {
        self.id
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Item {
    writer: u64,
    number: u64,
    text: String,
}

impl Record for Item {
    const TABLE: &'static str = "item";
    const VERSION: u32 = 1;
    type Key = (u64, u64);

    fn key(&self) -> (u64, u64) {
        (self.writer, self.number)
    }
}

fn open(directory: &Path) -> Store {
    let journal = FjallJournal::open(directory).expect("the directory opens");
    Store::builder(Arc::new(journal))
        .table::<Writer>()
        .table::<Account>()
        .table::<Item>()
        .history("log")
        .open()
        .expect("the store opens")
}

/// The transfer of transaction `number`: from, to, amount.
fn transfer(writer: u64, number: u64) -> (u64, u64, i64) {
    let mix = (writer * 7919 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mix >> 20) % ACCOUNTS, (mix >> 40) % ACCOUNTS, i64::try_from(mix % 100).unwrap())
}

fn text(writer: u64, number: u64) -> String {
    let mix = (writer * 104_729 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let length = if number.is_multiple_of(97) { 60_000 } else { mix % 1500 };
    format!("{writer}/{number} ").repeat(1 + usize::try_from(length).unwrap() / 8)
}

fn log_key(writer: u64, number: u64) -> Vec<u8> {
    (writer, number).to_bytes()
}

fn apply(transaction: &mut Transaction<'_>, writer: u64, number: u64) {
    transaction.put(Writer { id: writer, number });
    let (from, to, amount) = transfer(writer, number);
    for (id, amount) in [(from, -amount), (to, amount)] {
        let balance = transaction.get::<Account>(&id).map_or(BALANCE, |account| account.balance);
        transaction.put(Account { id, balance: balance + amount });
    }
    transaction.put(Item { writer, number, text: text(writer, number) });
    transaction.append("log", log_key(writer, number), text(writer, number));
    if number > KEPT {
        transaction.delete::<Item>(&(writer, number - KEPT));
        transaction.remove("log", log_key(writer, number - KEPT));
    }
}

fn numbers(snapshot: &Snapshot) -> BTreeMap<u64, u64> {
    snapshot.range::<Writer>(..).map(|writer| (writer.id, writer.number)).collect()
}

fn sum(snapshot: &Snapshot) -> i64 {
    snapshot.range::<Account>(..).map(|account| account.balance - BALANCE).sum()
}

/// Writes until it is killed.
fn victim(directory: &Path, wipes: bool) {
    fn tell(text: &str) {
        if std::io::stdout().lock().write_all(text.as_bytes()).is_err() {
            std::process::exit(1); // The campaign is gone.
        }
    }
    let store = open(directory);
    tell("ready 0\n");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        if wipes {
            tell("wiping 0\n");
            store.wipe().await.expect("a wipe succeeds");
            tell("wiped 0\n");
        }
        let start = numbers(&store.snapshot());
        for writer in 0..WRITERS {
            let store = store.clone();
            let mut number = start.get(&writer).copied().unwrap_or(0);
            tokio::spawn(async move {
                loop {
                    number += 1;
                    let write = |transaction: &mut Transaction<'_>| {
                        apply(transaction, writer, number);
                        Ok::<_, Infallible>(())
                    };
                    if let Err(error) = store.transact(write).await {
                        tell(&format!("failed {error:?}\n"));
                        std::process::exit(1);
                    }
                    tell(&format!("{writer} {number}\n"));
                }
            });
        }
        let mut watch = store.watch::<Account>();
        loop {
            let told = watch.recv().await;
            let snapshot = store.snapshot();
            let told_later = told.is_ok_and(|changed| changed.revision > snapshot.revision());
            if sum(&snapshot) != 0 || told_later {
                tell("half 0\n");
            }
        }
    });
}

/// What the campaign knows.
#[derive(Default)]
struct Campaign {
    /// How far each writer is known to have come.
    acknowledged: BTreeMap<u64, u64>,
    /// The balances that follow from `counted`.
    balances: BTreeMap<u64, i64>,
    counted: BTreeMap<u64, u64>,
}

impl Campaign {
    /// Compares everything that the store holds; returns how many transactions it holds.
    fn check(&mut self, store: &Store, wipe_in_doubt: bool) -> u64 {
        let snapshot = store.snapshot();
        let numbers = numbers(&snapshot);
        if wipe_in_doubt && numbers.is_empty() {
            *self = Self::default();
        }
        for writer in 0..WRITERS {
            let (acknowledged, found) = (get(&self.acknowledged, writer), get(&numbers, writer));
            assert!(
                found >= acknowledged,
                "writer {writer}: {acknowledged} was acknowledged, {found} is found"
            );
            assert!(
                found <= acknowledged + 1,
                "writer {writer}: {found} was never asked for after {acknowledged}"
            );
            for number in get(&self.counted, writer) + 1..=found {
                let (from, to, amount) = transfer(writer, number);
                for (id, amount) in [(from, -amount), (to, amount)] {
                    *self.balances.entry(id).or_insert(BALANCE) += amount;
                }
            }
        }
        let balances: BTreeMap<_, _> =
            snapshot.range::<Account>(..).map(|account| (account.id, account.balance)).collect();
        assert_eq!(balances, self.balances, "the balances follow from the transactions");

        let expected = || {
            let each = |(&writer, &number): (&u64, &u64)| {
                (number.saturating_sub(KEPT) + 1..=number).map(move |number| (writer, number))
            };
            numbers.iter().flat_map(each).collect::<Vec<_>>()
        };
        let items: Vec<_> = snapshot.range::<Item>(..).map(|item| item.key()).collect();
        assert_eq!(items, expected(), "the items follow from the transactions");
        assert!(snapshot.range::<Item>(..).all(|item| item.text == text(item.writer, item.number)));

        let log = store.history("log").prefix(b"", Direction::Forward, usize::MAX).unwrap();
        let entries: Vec<_> =
            expected().into_iter().map(|(w, n)| (log_key(w, n), text(w, n).into_bytes())).collect();
        assert!(log == entries, "the log follows from the transactions");
        let stats = store.history("log").stats().unwrap();
        let bytes: usize = log.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!((stats.entries, stats.bytes), (log.len() as u64, bytes as u64), "the log's size is right");

        assert_eq!(sum(&snapshot), 0);
        self.acknowledged.clone_from(&numbers);
        self.counted = numbers;
        self.counted.values().sum()
    }
}

fn get(numbers: &BTreeMap<u64, u64>, writer: u64) -> u64 {
    numbers.get(&writer).copied().unwrap_or(0)
}

fn campaign(kills: u64, seed: u64) {
    let mut directory = tempfile::tempdir().unwrap();
    let rng = SeededRng::new(seed);
    let mut campaign = Campaign::default();
    let (mut acknowledgements, mut in_opening, mut wipes_in_doubt, mut in_flight) = (0u64, 0u64, 0u64, 0u64);
    for kill in 0..kills {
        if kill > 0 && kill.is_multiple_of(KILLS_A_DIRECTORY) {
            directory = tempfile::tempdir().unwrap();
            campaign = Campaign::default();
        }
        let wipes = rng.below(30) == 0;
        // A third of the kills fall into the opening or close behind it, the others among the writes:
        // so many lines are waited for before the delay begins, however slow the disk is.
        let (lines_before, delay_us_max) = if kill % KILLS_A_DIRECTORY < KILLS_AT_ITS_BIRTH {
            (0, 20_000)
        } else if rng.below(3) == 0 {
            (0, 60_000)
        } else {
            (1 + rng.below(100), 5_000)
        };
        let delay = Duration::from_micros(rng.below(delay_us_max));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env("WHARF_KILL_VICTIM", directory.path())
            .env("WHARF_KILL_WIPES", if wipes { "1" } else { "0" })
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.expect("text"));
        let mut lines: Vec<String> = output.by_ref().take(usize::try_from(lines_before).unwrap()).collect();
        assert_eq!(lines.len() as u64, lines_before, "the victim of kill {kill} died by itself");
        let (ended, end) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            lines.extend(output);
            let _ = ended.send(());
            lines
        });
        assert_eq!(
            end.recv_timeout(delay),
            Err(RecvTimeoutError::Timeout),
            "the victim of kill {kill} died by itself"
        );
        child.kill().unwrap();
        child.wait().unwrap();

        let lines = reader.join().unwrap();
        let mut wipe_in_doubt = false;
        let mut opened = false;
        for line in &lines {
            let (word, number) = line.split_once(' ').expect("a line is two words");
            match word {
                "failed" => panic!("kill {kill}: a transaction failed: {number}"),
                "half" => panic!("kill {kill}: the victim saw a half-applied transaction"),
                "ready" => opened = true,
                "wiping" => wipe_in_doubt = true,
                "wiped" => {
                    wipe_in_doubt = false;
                    campaign = Campaign::default();
                }
                writer => {
                    campaign.acknowledged.insert(writer.parse().unwrap(), number.parse().unwrap());
                    acknowledgements += 1;
                }
            }
        }
        in_opening += u64::from(!opened);
        wipes_in_doubt += u64::from(wipe_in_doubt);
        let before: u64 = campaign.acknowledged.values().sum();
        let found = campaign.check(&open(directory.path()), wipe_in_doubt);
        in_flight += found.saturating_sub(before);
        if (kill + 1).is_multiple_of(100) {
            println!("{} kills: {acknowledgements} acknowledged, {found} held now", kill + 1);
        }
    }
    assert!(kills < 10 || acknowledgements > kills, "the victims did something");
    println!(
        "{kills} kills, seed {seed}: {acknowledgements} transactions acknowledged, none lost, none half-applied; \
         {in_flight} more were durable but not yet acknowledged; {in_opening} kills fell into an opening, \
         {wipes_in_doubt} into a wipe"
    );
}

fn main() {
    let number =
        |name: &str, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"));
    match std::env::var_os("WHARF_KILL_VICTIM") {
        Some(directory) => victim(Path::new(&directory), number("WHARF_KILL_WIPES", 0) == 1),
        None => campaign(number("WHARF_KILLS", 20), number("WHARF_SEED", 1)),
    }
}
