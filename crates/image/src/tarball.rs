//! Reading tar: POSIX ustar and PAX, GNU long names and old GNU sparse files.
//!
//! The fields of a header are read by the `tar` crate; the walk from header to header is here,
//! because sizes in extended headers decide where the next header begins and must be bounded
//! before they are believed. Nothing here touches a file system. What is not understood is refused.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};
use wharf_core::limits::{TAR_EXTENSION_BYTES_MAX, TAR_NAME_BYTES_MAX};

use crate::error::Error;

const BLOCK_BYTES: usize = 512;
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
/// Regions of one sparse file.
const SPARSE_REGIONS_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// Where a piece of a sparse file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// The target of a link; empty for everything else.
    pub(crate) link: Vec<u8>,
    /// The size of the file. What the archive holds of it is less for a sparse file.
    pub(crate) bytes: u64,
    /// Present for a sparse file: the regions, in the order in which their data follow.
    pub(crate) regions: Option<Vec<Region>>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_s: i64,
    pub(crate) mtime_ns: u32,
    pub(crate) device_major: u32,
    pub(crate) device_minor: u32,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A reader of tar. [`Read`] gives the data of the entry that [`TarReader::next_entry`] returned
/// last; what is not read of it is skipped.
pub(crate) struct TarReader<R> {
    input: R,
    what: &'static str,
    entries: u64,
    entries_max: u64,
    data_left: u64,
    padding: u64,
    ended: bool,
}

/// What extended headers say of the entry behind them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R, what: &'static str, entries_max: u64) -> Self {
        Self { input, what, entries: 0, entries_max, data_left: 0, padding: 0, ended: false }
    }

    /// The next entry; `None` at the archive's end, behind which nothing has been read yet.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        loop {
            self.skip(self.data_left + self.padding)?;
            (self.data_left, self.padding) = (0, 0);
            let Some(block) = self.next_header()? else {
                return Ok(None);
            };
            let header = Header::from_byte_slice(&block);
            let size = header.entry_size().ok().filter(|size| *size <= i64::MAX as u64);
            let size = size.ok_or_else(|| self.corrupt("a header has no valid size"))?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.name = Some(self.long_name(size)?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name(size)?),
                EntryType::XHeader => {
                    let bytes = self.extension(size)?;
                    extensions.pax.extend(self.records(&bytes)?);
                }
                EntryType::XGlobalHeader => {
                    let bytes = self.extension(size)?;
                    if let Some((key, _)) =
                        self.records(&bytes)?.into_iter().find(|(key, _)| key != b"comment")
                    {
                        return Err(self
                            .corrupt(format!("global header \"{}\" is not supported", key.escape_ascii())));
                    }
                }
                _ => return self.entry(header, size, extensions).map(Some),
            }
        }
    }

    /// The source, with all of the archive's blocks behind the end still in it.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Entry, Error> {
        let name = extensions.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extensions
            .link
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let invalid = |field: &str| Error::entry(self.what, &name, format!("has an invalid {field}"));
        let kind = match header.entry_type() {
            EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char => Kind::CharacterDevice,
            EntryType::Block => Kind::BlockDevice,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => {
                let kind = other.as_byte().escape_ascii();
                return Err(Error::entry(self.what, &name, format!("is of the unsupported type '{kind}'")));
            }
        };
        let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
        let device = |number: io::Result<Option<u32>>| match number {
            Ok(number) => Ok(number.unwrap_or(0)),
            Err(_) if !is_device => Ok(0),
            Err(_) => Err(invalid("device number")),
        };
        let fields = header.as_old();
        // An empty field is 0, as in every other reader.
        let number = |value: io::Result<u64>, field: &[u8], name: &str| match value {
            Ok(value) => Ok(value),
            Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
            Err(_) => Err(invalid(name)),
        };
        let mut entry = Entry {
            kind,
            bytes: size,
            regions: None,
            mode: number(header.mode().map(u64::from), &fields.mode, "mode")? as u32 & 0o7777,
            uid: u32::try_from(number(header.uid(), &fields.uid, "owner")?).map_err(|_| invalid("owner"))?,
            gid: u32::try_from(number(header.gid(), &fields.gid, "group")?).map_err(|_| invalid("group"))?,
            mtime_s: number(header.mtime(), &fields.mtime, "time")?.cast_signed(),
            mtime_ns: 0,
            device_major: device(header.device_major())?,
            device_minor: device(header.device_minor())?,
            xattrs: Vec::new(),
            name,
            link,
        };
        for (key, value) in extensions.pax {
            self.apply(&mut entry, &key, value)?;
        }
        let mut stored = match entry.kind {
            Kind::File => entry.bytes,
            // A size here is legal and means nothing (pax(1), "ustar Interchange Format").
            _ => 0,
        };
        if header.entry_type() == EntryType::GNUSparse {
            entry.regions = Some(self.sparse_regions(header, &mut stored, &mut entry)?);
        }
        if entry.name.is_empty() || entry.name.len() > TAR_NAME_BYTES_MAX || entry.name.contains(&0) {
            return Err(Error::entry(self.what, &entry.name, "has an invalid name"));
        }
        if entry.link.len() > TAR_NAME_BYTES_MAX || entry.link.contains(&0) {
            return Err(Error::entry(self.what, &entry.name, "has an invalid link target"));
        }
        self.data_left = stored;
        self.padding = stored.next_multiple_of(BLOCK_BYTES as u64) - stored;
        Ok(entry)
    }

    /// Applies one PAX record (pax(1), "pax Extended Header Keyword/Value Pairs").
    fn apply(&self, entry: &mut Entry, key: &[u8], value: Vec<u8>) -> Result<(), Error> {
        let invalid = || {
            let key = key.escape_ascii();
            Error::entry(self.what, &entry.name, format!("has an invalid extended header \"{key}\""))
        };
        let number =
            || std::str::from_utf8(&value).ok().and_then(|text| text.parse::<u64>().ok()).ok_or_else(invalid);
        match key {
            b"path" => entry.name = value,
            b"linkpath" => entry.link = value,
            b"size" => {
                entry.bytes = number()?;
                if entry.bytes > i64::MAX as u64 {
                    return Err(invalid());
                }
            }
            b"uid" => entry.uid = u32::try_from(number()?).map_err(|_| invalid())?,
            b"gid" => entry.gid = u32::try_from(number()?).map_err(|_| invalid())?,
            b"mtime" => (entry.mtime_s, entry.mtime_ns) = pax_time(&value).ok_or_else(invalid)?,
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::entry(
                    self.what,
                    &entry.name,
                    "is a sparse file of the PAX form, which is not supported",
                ));
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    if name.is_empty() || name.contains(&0) {
                        return Err(invalid());
                    }
                    entry.xattrs.push((name.to_vec(), value));
                }
            }
        }
        Ok(())
    }

    /// Reads the map of an old GNU sparse file: four regions in the header, more in blocks behind it.
    fn sparse_regions(
        &mut self,
        header: &Header,
        stored: &mut u64,
        entry: &mut Entry,
    ) -> Result<Vec<Region>, Error> {
        let invalid = |name: &[u8]| Error::entry(self.what, name, "has an invalid sparse map");
        let gnu = header.as_gnu().ok_or_else(|| invalid(&entry.name))?;
        let real_bytes = gnu.real_size().map_err(|_| invalid(&entry.name))?;
        let mut regions: Vec<Region> = Vec::new();
        let mut end = 0_u64;
        let mut data = 0_u64;
        let mut add = |sparse: &tar::GnuSparseHeader| -> Option<()> {
            if sparse.is_empty() {
                return Some(());
            }
            let region = Region { offset: sparse.offset().ok()?, bytes: sparse.length().ok()? };
            if region.offset < end || regions.len() >= SPARSE_REGIONS_MAX {
                return None;
            }
            end = region.offset.checked_add(region.bytes)?;
            data = data.checked_add(region.bytes)?;
            regions.push(region);
            Some(())
        };
        for sparse in &gnu.sparse {
            add(sparse).ok_or_else(|| invalid(&entry.name))?;
        }
        let mut more = gnu.is_extended();
        while more {
            let mut extension = GnuExtSparseHeader::new();
            self.input.read_exact(extension.as_mut_bytes()).map_err(|error| Error::read(self.what, error))?;
            for sparse in &extension.sparse {
                add(sparse)
                    .ok_or_else(|| Error::entry(self.what, &entry.name, "has an invalid sparse map"))?;
            }
            more = extension.is_extended();
        }
        if data != *stored || end > real_bytes || real_bytes > i64::MAX as u64 {
            return Err(Error::entry(self.what, &entry.name, "has an invalid sparse map"));
        }
        entry.bytes = real_bytes;
        Ok(regions)
    }

    /// The next header block, its checksum verified; `None` at the end.
    fn next_header(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, Error> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 && self.entries > 0 => {
                    // Some writers leave out the two blocks of zeros.
                    self.ended = true;
                    return Ok(None);
                }
                Ok(0) => return Err(self.corrupt("it ends too early")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::read(self.what, error)),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        self.entries += 1;
        if self.entries > self.entries_max {
            return Err(Error::TooLarge {
                what: format!("the {}", self.what),
                max: self.entries_max,
                unit: "entries",
            });
        }
        let sum = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if Header::from_byte_slice(&block).cksum().ok() != Some(sum) {
            return Err(self.corrupt("it is not a tar archive, or a header has a wrong checksum"));
        }
        Ok(Some(block))
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > TAR_NAME_BYTES_MAX as u64 + 1 {
            return Err(self.corrupt(format!("a name is longer than {TAR_NAME_BYTES_MAX} bytes")));
        }
        let mut name = self.extension(size)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// The data of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > TAR_EXTENSION_BYTES_MAX {
            return Err(
                self.corrupt(format!("an extended header is larger than {TAR_EXTENSION_BYTES_MAX} bytes"))
            );
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.input.read_exact(&mut bytes).map_err(|error| Error::read(self.what, error))?;
        self.skip(size.next_multiple_of(BLOCK_BYTES as u64) - size)?;
        Ok(bytes)
    }

    /// Splits `length key=value\n` records.
    fn records(&self, mut bytes: &[u8]) -> Result<Vec<PaxRecord>, Error> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (record, rest) =
                pax_record(bytes).ok_or_else(|| self.corrupt("an extended header is malformed"))?;
            records.push(record);
            bytes = rest;
        }
        Ok(records)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Error> {
        let skipped = io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink())
            .map_err(|error| Error::read(self.what, error))?;
        if skipped < bytes {
            return Err(self.corrupt("it ends too early"));
        }
        Ok(())
    }

    fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(self.what, reason)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.data_left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.data_left -= count as u64;
        Ok(count)
    }
}

type PaxRecord = (Vec<u8>, Vec<u8>);

fn pax_record(bytes: &[u8]) -> Option<(PaxRecord, &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((record[..equals].to_vec(), record[equals + 1..].to_vec()), &bytes[length..]))
}

/// Decimal seconds with an optional fraction, before the epoch too.
fn pax_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
        let mut reader = TarReader::new(bytes, "archive", 1000);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    fn one(header: &mut Header, data: &[u8]) -> Vec<u8> {
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        bytes
    }

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_path("name").unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header
    }

    #[test]
    fn a_size_in_an_extended_header_moves_the_next_header() {
        let mut bytes = one(&mut header(EntryType::XHeader, 12), b"12 size=600\n");
        bytes.extend(one(&mut header(EntryType::Regular, 0), &[7; 600]));
        bytes.extend(one(&mut header(EntryType::Directory, 0), &[]));
        let entries = entries(&bytes).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.bytes).collect::<Vec<_>>(), [600, 0]);
        assert_eq!(entries[1].kind, Kind::Directory);
    }

    #[test]
    fn extended_headers_are_bounded_and_checked() {
        let huge = one(&mut header(EntryType::XHeader, 1 << 32), b"");
        assert!(entries(&huge).unwrap_err().to_string().contains("larger than"));
        let long = one(&mut header(EntryType::GNULongName, 1 << 32), b"");
        assert!(entries(&long).unwrap_err().to_string().contains("longer than"));
        for malformed in
            ["5 a=b\n", "99 a=b\n", "x a=b\n", "7 a=bbb", "0 a=b\n", "18446744073709551616 a=b\n", "6 abc\n"]
        {
            let bytes = one(&mut header(EntryType::XHeader, malformed.len() as u64), malformed.as_bytes());
            assert!(entries(&bytes).is_err(), "{malformed}");
        }
    }

    #[test]
    fn times_before_the_epoch_and_fractions_are_read() {
        assert_eq!(pax_time(b"12"), Some((12, 0)));
        assert_eq!(pax_time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(pax_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(pax_time(b"1.0000000019"), Some((1, 1)));
        for text in ["", "x", "1.x", "1.-5", "99999999999999999999"] {
            assert_eq!(pax_time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_truncated_archive_is_an_error_wherever_it_is_cut_in_a_member() {
        let bytes = one(&mut header(EntryType::Regular, 1000), &[1; 1000]);
        for cut in (1..bytes.len()).step_by(17) {
            assert!(entries(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = entries(&bytes);
        }

        #[test]
        fn any_fields_under_a_right_checksum_are_read_or_refused(
            changes in proptest::collection::vec((0_usize..512, any::<u8>()), 0..24),
            kind in proptest::sample::select(vec![b'0', b'1', b'2', b'3', b'5', b'L', b'K', b'x', b'g', b'S', b'V']),
            data in proptest::collection::vec(any::<u8>(), 0..1024),
        ) {
            let mut header = Header::new_gnu();
            header.set_size(data.len() as u64);
            for (at, byte) in changes {
                header.as_mut_bytes()[at] = byte;
            }
            header.as_mut_bytes()[156] = kind;
            let _ = entries(&one(&mut header, &data));
        }
    }
}
