//! Cuts a piece of output into log records. Pure.

use wharf_engine::log::{LinePart, RECORD_TEXT_BYTES_MAX, Stream, encode_record};

/// Records made of one piece of output: enough for 64 KiB of lines of 5 bytes; what is beyond waits
/// in the pipe for the next round.
pub const RECORDS_BYTES_MAX: usize = 256 * 1024;

/// What to do with an unterminated line at the end of the piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Leave it where it is: the rest of the line is to come.
    Keep,
    /// Write it as a part of a line.
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of the piece that are in records now.
    pub consumed: usize,
    /// The last record's line goes on.
    pub open_line: bool,
}

/// Appends the records of `piece` to `out`, all with the same time.
pub fn cut(piece: &[u8], unix_nanos: u64, stream: Stream, tail: Tail, out: &mut Vec<u8>) -> Cut {
    let mut done = Cut { consumed: 0, open_line: false };
    while out.len() < RECORDS_BYTES_MAX {
        let rest = &piece[done.consumed..];
        // A line is looked for no further than a record reaches.
        let window = &rest[..rest.len().min(RECORD_TEXT_BYTES_MAX + 1)];
        if let Some(end) = window.iter().position(|&byte| byte == b'\n') {
            encode_record(out, unix_nanos, stream, LinePart::Ends, &window[..end]);
            done = Cut { consumed: done.consumed + end + 1, open_line: false };
        } else if window.len() > RECORD_TEXT_BYTES_MAX || (tail == Tail::Write && !window.is_empty()) {
            let text = &window[..window.len().min(RECORD_TEXT_BYTES_MAX)];
            encode_record(out, unix_nanos, stream, LinePart::GoesOn, text);
            done = Cut { consumed: done.consumed + text.len(), open_line: true };
        } else {
            break;
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_engine::log::{Decoded, LogRecord, decode_record};

    use super::*;

    fn records(mut bytes: &[u8]) -> Vec<LogRecord> {
        let mut found = Vec::new();
        while let Decoded::Record(record) = decode_record(bytes, 0) {
            bytes = &bytes[record.next as usize..];
            found.push(record);
        }
        assert!(bytes.is_empty());
        found
    }

    fn texts(piece: &[u8], tail: Tail) -> (Vec<(Vec<u8>, bool)>, Cut) {
        let mut out = Vec::new();
        let done = cut(piece, 1, Stream::Stdout, tail, &mut out);
        (records(&out).into_iter().map(|record| (record.text, record.partial)).collect(), done)
    }

    #[test]
    fn an_unterminated_line_waits_or_is_written_as_a_part() {
        let (found, done) = texts(b"a\n\nbc", Tail::Keep);
        assert_eq!(found, [(b"a".to_vec(), false), (Vec::new(), false)]);
        assert_eq!(done, Cut { consumed: 3, open_line: false });
        let (found, done) = texts(b"bc", Tail::Write);
        assert_eq!(found, [(b"bc".to_vec(), true)]);
        assert_eq!(done, Cut { consumed: 2, open_line: true });
    }

    #[test]
    fn a_line_of_exactly_one_record_is_whole_and_a_longer_one_is_cut() {
        let line = [vec![b'x'; RECORD_TEXT_BYTES_MAX], vec![b'\n']].concat();
        let (found, _) = texts(&line, Tail::Keep);
        assert_eq!(
            found.iter().map(|(text, partial)| (text.len(), *partial)).collect::<Vec<_>>(),
            [(RECORD_TEXT_BYTES_MAX, false)]
        );
        let longer = [vec![b'x'; RECORD_TEXT_BYTES_MAX * 2 + 5], vec![b'\n']].concat();
        let (found, _) = texts(&longer, Tail::Keep);
        let shape: Vec<_> = found.iter().map(|(text, partial)| (text.len(), *partial)).collect();
        assert_eq!(shape, [(RECORD_TEXT_BYTES_MAX, true), (RECORD_TEXT_BYTES_MAX, true), (5, false)]);
    }

    proptest! {
        /// However the output is cut into pieces, the text that comes out is the text that went in.
        #[test]
        fn nothing_is_lost_or_made(
            lines in prop::collection::vec((any::<u8>(), 0usize..40_000), 0..8),
            step in 1_000usize..70_000,
        ) {
            let line = |&(byte, length): &(u8, usize)| vec![byte; length];
            let text = lines.iter().map(line).collect::<Vec<_>>().join(&b'\n');
            let (mut found, mut start, mut end) = (Vec::new(), 0, 0);
            loop {
                let tail = if end == text.len() { Tail::Write } else { Tail::Keep };
                let mut out = Vec::new();
                let done = cut(&text[start..end], 1, Stream::Stderr, tail, &mut out);
                found.extend(records(&out));
                start += done.consumed;
                if done.consumed == 0 {
                    if end == text.len() { break; }
                    end = (end + step).min(text.len());
                }
            }
            prop_assert_eq!(start, text.len());
            let joined: Vec<u8> = found.into_iter().flat_map(|record| {
                let ends = !record.partial;
                record.text.into_iter().chain(ends.then_some(b'\n'))
            }).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
