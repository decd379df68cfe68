//! Compressed streams: told apart by their first bytes, undone while they flow, and cut off when
//! they grow beyond a size or a ratio. Nothing here keeps more than a buffer of the stream.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use crate::error::Error;
use crate::limits::Limits;

const BUFFER_BYTES: usize = 128 * 1024;
/// The largest window that a zstd stream may ask for: 128 MiB, zstd's own default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

type Input<R> = BufReader<Counting<Chain<Cursor<Vec<u8>>, R>>>;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// From the first four bytes.
    pub(crate) fn of(magic: &[u8]) -> Self {
        if magic.starts_with(GZIP_MAGIC) {
            Self::Gzip
        } else if magic.starts_with(ZSTD_MAGIC) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

enum Decoder<R: Read> {
    None(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Input<R>>>),
}

/// The uncompressed bytes of a stream, at most `bytes_max` of them.
pub(crate) struct Stream<R: Read> {
    decoder: Decoder<R>,
    what: &'static str,
    compressed: Rc<Cell<u64>>,
    bytes: u64,
    bytes_max: u64,
    ratio_max: u64,
    free_bytes: u64,
}

impl<R: Read> Stream<R> {
    /// `what` names the stream in errors.
    pub(crate) fn open(
        mut input: R,
        what: &'static str,
        bytes_max: u64,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let mut magic = Vec::with_capacity(ZSTD_MAGIC.len());
        input
            .by_ref()
            .take(ZSTD_MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(|error| Error::read(what, error))?;
        let compression = Compression::of(&magic);
        let compressed = Rc::new(Cell::new(0));
        let counting = Counting { inner: Cursor::new(magic).chain(input), bytes: Rc::clone(&compressed) };
        let input = BufReader::with_capacity(BUFFER_BYTES, counting);
        let decoder = match compression {
            Compression::None => Decoder::None(input),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)
                    .map_err(|error| Error::read(what, error))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| Error::read(what, error))?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Ok(Self {
            decoder,
            what,
            compressed,
            bytes: 0,
            bytes_max,
            ratio_max: limits.compression_ratio_max,
            free_bytes: limits.compression_free_bytes,
        })
    }
}

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.decoder {
            Decoder::None(input) => input.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }?;
        self.bytes += count as u64;
        if self.bytes > self.bytes_max {
            return Err(io::Error::other(Error::TooLarge {
                what: format!("the {}", self.what),
                max: self.bytes_max,
                unit: "bytes",
            }));
        }
        if self.bytes > self.free_bytes && self.bytes / self.ratio_max > self.compressed.get() {
            return Err(io::Error::other(Error::Ratio { what: self.what, ratio: self.ratio_max }));
        }
        Ok(count)
    }
}

impl<R: Read> Stream<R> {
    /// Reads to the end. What is behind a gzip or zstd stream is read too, so that bytes that a
    /// decoder has no use for still count.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink())?;
        match &mut self.decoder {
            Decoder::None(input) => drain(input),
            Decoder::Gzip(decoder) => drain(decoder.get_mut()),
            Decoder::Zstd(decoder) => drain(decoder.get_mut()),
        }
    }
}

fn drain(input: &mut impl BufRead) -> io::Result<()> {
    io::copy(input, &mut io::sink()).map(|_| ())
}

struct Counting<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + count as u64);
        Ok(count)
    }
}
