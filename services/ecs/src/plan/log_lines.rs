//! From the records of a container's log to the events of its log stream.
//!
//! As Docker's `awslogs` driver does: a line is an event; a long line is joined from its parts and
//! cut at the size that CloudWatch Logs accepts; an empty line is none; what is not UTF-8 is
//! replaced. The time of an event is that of its first part.
//!
//! Nothing is lost and nothing comes twice when the reader restarts: an event's position is one
//! from which reading can go on. While a long line of one stream is incomplete, finished lines of the
//! other are held back, and leave together with it.

/// The most bytes of an event: CloudWatch Logs' 262,144 less the 26 that it counts for each.
pub const EVENT_BYTES_MAX: usize = 262_144 - 26;
/// Finished lines that may wait behind an unfinished one of the other stream.
const HELD_BYTES_MAX: usize = 1024 * 1024;

/// A part of the output, as the engine recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub unix_nanos: u64,
    /// 0 for stdout, 1 for stderr.
    pub stream: usize,
    pub partial: bool,
    pub text: Vec<u8>,
    /// The position behind it.
    pub next: u64,
}

/// An event of the log stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub timestamp_ms: i64,
    pub message: String,
    /// Where reading goes on.
    pub next: u64,
}

#[derive(Debug)]
struct Open {
    unix_nanos: u64,
    text: Vec<u8>,
    next: u64,
}

/// Joins parts into lines.
#[derive(Debug, Default)]
pub struct Assembler {
    open: [Option<Open>; 2],
    held: Vec<Line>,
    held_bytes: usize,
}

impl Assembler {
    /// Takes parts in the order of their positions; returns the lines that may be stored now, in
    /// the order in which they ended.
    pub fn push(&mut self, parts: Vec<Part>) -> Vec<Line> {
        let mut out = Vec::new();
        for part in parts {
            self.take(&part);
            if self.open.iter().all(Option::is_none) || self.held_bytes > HELD_BYTES_MAX {
                out.append(&mut self.flush());
            }
        }
        out
    }

    /// What is unfinished, as it is: the output has ended, or must not wait any longer.
    pub fn flush(&mut self) -> Vec<Line> {
        for stream in 0..self.open.len() {
            if let Some(open) = self.open[stream].take() {
                self.finish(&open);
            }
        }
        self.held_bytes = 0;
        let mut lines = std::mem::take(&mut self.held);
        // Positions grow within a stream.
        lines.sort_by_key(|line| line.next);
        lines
    }

    fn take(&mut self, part: &Part) {
        let stream = part.stream.min(1);
        let mut open = self.open[stream].take().unwrap_or(Open {
            unix_nanos: part.unix_nanos,
            text: Vec::new(),
            next: part.next,
        });
        // Cut between parts, so that each piece ends at a position.
        if !open.text.is_empty() && open.text.len() + part.text.len() > EVENT_BYTES_MAX {
            let unix_nanos = open.unix_nanos;
            self.finish(&open);
            open = Open { unix_nanos, text: Vec::new(), next: part.next };
        }
        open.text.extend_from_slice(&part.text);
        open.next = part.next;
        if part.partial {
            self.open[stream] = Some(open);
        } else {
            self.finish(&open);
        }
    }

    fn finish(&mut self, open: &Open) {
        if open.text.is_empty() {
            return;
        }
        let mut message = String::from_utf8_lossy(&open.text).into_owned();
        if message.len() > EVENT_BYTES_MAX {
            // Replacement made it longer than the limit: bytes that are no text anyway.
            let end = (0..=EVENT_BYTES_MAX).rev().find(|&end| message.is_char_boundary(end)).unwrap_or(0);
            message.truncate(end);
        }
        self.held_bytes += message.len();
        let timestamp_ms = i64::try_from(open.unix_nanos / 1_000_000).unwrap_or(i64::MAX);
        self.held.push(Line { timestamp_ms, message, next: open.next });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(next: u64, stream: usize, partial: bool, text: &[u8]) -> Part {
        Part { unix_nanos: next * 1_000_000, stream, partial, text: text.to_vec(), next }
    }

    fn line(timestamp_ms: i64, message: &str, next: u64) -> Line {
        Line { timestamp_ms, message: message.into(), next }
    }

    #[test]
    fn a_line_is_an_event_and_an_empty_line_is_none() {
        let mut assembler = Assembler::default();
        let lines = assembler.push(vec![
            part(1, 0, false, b"one"),
            part(2, 1, false, b""),
            part(3, 1, false, b"tw\xffo"),
        ]);
        assert_eq!(lines, [line(1, "one", 1), line(3, "tw\u{fffd}o", 3)]);
    }

    #[test]
    fn a_long_line_is_joined_and_the_other_stream_waits_for_it() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(vec![part(1, 0, true, b"be")]), []);
        assert_eq!(assembler.push(vec![part(2, 1, false, b"err")]), []);
        let lines = assembler.push(vec![part(3, 0, false, b"gin"), part(4, 1, false, b"late")]);
        assert_eq!(lines, [line(2, "err", 2), line(1, "begin", 3), line(4, "late", 4)]);
    }

    #[test]
    fn a_line_beyond_the_limit_is_cut_between_its_parts() {
        let mut assembler = Assembler::default();
        let parts: Vec<_> = (1..=20).map(|n| part(n, 0, n < 20, &[b'x'; 16 * 1024])).collect();
        let lines = assembler.push(parts);
        assert_eq!(lines.iter().map(|line| line.next).collect::<Vec<_>>(), [15, 20]);
        assert_eq!(lines.iter().map(|line| line.message.len()).sum::<usize>(), 20 * 16 * 1024);
        assert!(lines.iter().all(|line| line.message.len() <= EVENT_BYTES_MAX && line.timestamp_ms == 1));
    }

    proptest! {
        /// Cut a log anywhere, drop the reader, and go on from the position of the last event that
        /// was stored: every byte arrives exactly once.
        #[test]
        fn nothing_is_lost_or_repeated_over_a_restart(
            shape in proptest::collection::vec((0_usize..2, any::<bool>(), 1_usize..4), 1..40),
            stop_after in 0_usize..40,
        ) {
            let parts: Vec<_> = shape.iter().enumerate().map(|(n, (stream, partial, len))| {
                part(n as u64 + 1, *stream, *partial, vec![b'a' + (n % 26) as u8; *len].as_slice())
            }).collect();
            let run = |parts: &[Part], end: bool| {
                let mut assembler = Assembler::default();
                let mut lines: Vec<Line> = parts.iter().flat_map(|part| assembler.push(vec![part.clone()])).collect();
                if end { lines.extend(assembler.flush()); }
                lines
            };
            let cut = stop_after.min(parts.len());
            let mut lines = run(&parts[..cut], false);
            let position = lines.iter().map(|line| line.next).max().unwrap_or(0);
            lines.extend(run(&parts[usize::try_from(position).unwrap()..], true));
            let mut got: Vec<u8> = lines.iter().flat_map(|line| line.message.bytes()).collect();
            let mut expected: Vec<u8> = parts.iter().flat_map(|part| part.text.clone()).collect();
            got.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(got, expected);
        }
    }
}
