use std::path::Path;

use super::{
    Error, MAGIC, Meta, PREFIX_BYTES, SECTION_BYTES_MAX, SECTION_PREFIX_BYTES, SnapshotFile,
    TRAILER_BYTES, VERSION, le_u32, read_exactly,
};
use crate::env::File;

/// Longest body of a header that is believed.
const META_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The sections of a snapshot, one after the other.
///
/// Ends after the first error.
pub struct SnapshotReader {
    snapshot: SnapshotFile,
    offset: u64,
    crc: u32,
    sections: u64,
    ended: bool,
}

impl SnapshotReader {
    pub(super) fn new(snapshot: SnapshotFile) -> Self {
        Self {
            snapshot,
            // The header is read with the first section, for the checksum of the whole.
            offset: 0,
            crc: 0,
            sections: 0,
            ended: false,
        }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, Error> {
        let SnapshotFile { path, file, .. } = &self.snapshot;
        let bytes = read_exactly(path, &**file, self.offset, len)?;
        self.offset += len as u64;
        Ok(bytes)
    }

    fn corrupt(&self, offset: u64, reason: &str) -> Error {
        Error::corrupt(&self.snapshot.path, offset, reason)
    }

    fn section(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.offset == 0 {
            let len = usize::try_from(self.snapshot.body_start).unwrap_or(usize::MAX);
            let header = self.take(len)?;
            self.crc = crc32c::crc32c(&header);
        }
        let start = self.offset;
        let len = le_u32(&self.take(4)?, 0);
        self.crc = crc32c::crc32c_append(self.crc, &len.to_le_bytes());
        if len == 0 {
            return self.trailer(start).map(|()| None);
        }
        let room = self
            .snapshot
            .len
            .saturating_sub(start + SECTION_PREFIX_BYTES);
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= SECTION_BYTES_MAX && *len as u64 <= room)
            .ok_or_else(|| self.corrupt(start, "impossible length of a section"))?;
        let expected = self.take(4)?;
        let content = self.take(len)?;
        if crc32c::crc32c(&content) != le_u32(&expected, 0) {
            return Err(self.corrupt(start, "wrong checksum of a section"));
        }
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, &expected), &content);
        self.sections += 1;
        Ok(Some(content))
    }

    fn trailer(&mut self, start: u64) -> Result<(), Error> {
        let rest = self.take(TRAILER_BYTES - 4)?;
        let (sections, crc) = rest.split_at(8);
        self.crc = crc32c::crc32c_append(self.crc, sections);
        if sections != self.sections.to_le_bytes() {
            return Err(self.corrupt(start, "wrong number of sections"));
        }
        if self.crc != le_u32(crc, 0) {
            return Err(self.corrupt(start, "wrong checksum of the whole file"));
        }
        if self.offset != self.snapshot.len {
            return Err(self.corrupt(self.offset, "bytes after the end"));
        }
        Ok(())
    }
}

impl Iterator for SnapshotReader {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let section = self.section();
        self.ended = !matches!(section, Ok(Some(_)));
        section.transpose()
    }
}

/// Checks the header of a snapshot and that there is room for a trailer. Gives the meta data, where the sections
/// begin, and the length of the file.
pub(super) fn check(path: &Path, file: &dyn File) -> Result<(Meta, u64, u64), Error> {
    let bad = |reason: &str| Error::corrupt(path, 0, format!("snapshot header: {reason}"));
    let len = file.len().map_err(|source| Error::Read {
        path: path.to_owned(),
        offset: 0,
        source,
    })?;
    let mut header = read_exactly(path, file, 0, PREFIX_BYTES)?;
    if header[..8] != MAGIC {
        return Err(bad("not a snapshot"));
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != VERSION {
        return Err(Error::Version {
            path: path.to_owned(),
            found: version,
        });
    }
    let body = u64::from(le_u32(&header, 12));
    let body_start = PREFIX_BYTES as u64 + body;
    if body > META_BYTES_MAX || body_start + TRAILER_BYTES as u64 > len {
        return Err(bad("impossible length"));
    }
    let expected = le_u32(&header, 16);
    let body = usize::try_from(body).unwrap_or(usize::MAX);
    header.extend(read_exactly(path, file, PREFIX_BYTES as u64, body)?);
    if header_checksum(&header) != expected {
        return Err(bad("wrong checksum"));
    }
    let meta = postcard::from_bytes(&header[PREFIX_BYTES..])
        .map_err(|error| bad(&format!("valid checksum, but {error}")))?;
    Ok((meta, body_start, len))
}

/// CRC32C of a header without the four bytes that hold it.
pub(super) fn header_checksum(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..16]), &header[PREFIX_BYTES..])
}
