//! Segment files: names, headers, and reading them.
//!
//! A segment is `NNNNNNNNNN.wal`: a header of 512 bytes, then records (see `record`). Its header holds all that the
//! segments before it said beside entries, so that these can be removed once their entries are purged.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::record::{self, Header as RecordHeader, Position, Record};
use crate::env::File;
use crate::raft::codec::{WireLogId, WireVote};
use crate::raft::types::{LogId, Vote};

/// Version of headers and records.
pub(super) const VERSION: u16 = 1;

/// Where a segment's records begin.
pub(super) const HEADER_BYTES: u64 = 512;

const MAGIC: [u8; 8] = *b"ccRaftWL";

/// Bytes of a header before its body: magic, version, two zeros, length of the body, CRC32C of all but itself.
const PREFIX_BYTES: usize = 20;

/// What is known beside the entries after some record.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Standing {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    /// Last entry; the last purged one when there are none.
    pub(super) last: Option<LogId>,
    pub(super) purged: Option<LogId>,
}

impl Standing {
    /// Notes what `record` changes.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Entry(entry) => self.last = Some(entry.log_id),
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Committed(committed) => self.committed = *committed,
            Record::Truncate(after) => {
                if after.map(|id| id.index) < self.last.map(|id| id.index) {
                    self.last = (*after).max(self.purged);
                }
            }
            Record::Purge(upto) => {
                self.purged = self.purged.max(Some(*upto));
                if self.last.is_none_or(|last| last.index <= upto.index) {
                    self.last = self.purged;
                }
            }
            Record::Mark => {}
        }
    }

    /// Index of the entry that is next, where that is certain.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }
}

/// A segment's header.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    /// Random, part of every checksum in the segment.
    pub(super) nonce: u64,
    /// Rises by one from segment to segment, from 1.
    pub(super) number: u32,
    /// Where the next segment begins to be used, unless a single record is longer.
    pub(super) limit: u64,
    /// Where the segment before ended; `None` in the first one.
    pub(super) previous: Option<Previous>,
    /// What all segments before said.
    pub(super) standing: Standing,
}

/// The end of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    /// Offset after its last record.
    pub(super) end: u64,
    /// Greatest batch number that may have been used up to there.
    pub(super) batch: u64,
}

#[derive(Serialize, Deserialize)]
struct WireHeader {
    nonce: u64,
    number: u32,
    limit: u64,
    previous: Option<Previous>,
    vote: Option<WireVote>,
    committed: Option<WireLogId>,
    last: Option<WireLogId>,
    purged: Option<WireLogId>,
}

impl Header {
    /// The header's form on disk, padded with zeros.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self {
            nonce,
            number,
            limit,
            previous,
            standing,
        } = self;
        let wire = WireHeader {
            nonce: *nonce,
            number: *number,
            limit: *limit,
            previous: *previous,
            vote: standing.vote.map(WireVote::from),
            committed: standing.committed.map(WireLogId::from),
            last: standing.last.map(WireLogId::from),
            purged: standing.purged.map(WireLogId::from),
        };
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.resize(PREFIX_BYTES, 0);
        bytes = postcard::to_extend(&wire, bytes).expect("plain data always has a postcard form");
        let body =
            u32::try_from(bytes.len() - PREFIX_BYTES).expect("numbers only, below 200 bytes");
        bytes[12..16].copy_from_slice(&body.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(HEADER_BYTES as usize, 0);
        bytes
    }

    /// Decodes what [`Header::encode`] made; `path` is for the message only.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let bad = |reason: &str| Error::corrupt(path, 0, format!("segment header: {reason}"));
        let prefix: &[u8; PREFIX_BYTES] = bytes.first_chunk().ok_or_else(|| bad("cut short"))?;
        if prefix[..8] != MAGIC {
            return Err(bad("not a log segment"));
        }
        let version = u16::from_le_bytes([prefix[8], prefix[9]]);
        if version != VERSION {
            return Err(Error::Version {
                path: path.to_owned(),
                found: version,
            });
        }
        let le = |at: usize| {
            u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]])
        };
        let used = usize::try_from(le(12))
            .ok()
            .and_then(|body| bytes.get(..PREFIX_BYTES.checked_add(body)?))
            .ok_or_else(|| bad("cut short"))?;
        if checksum(used) != le(16) {
            return Err(bad("wrong checksum"));
        }
        let (wire, _) = postcard::take_from_bytes::<WireHeader>(&used[PREFIX_BYTES..])
            .map_err(|e| bad(&e.to_string()))?;
        Ok(Self {
            nonce: wire.nonce,
            number: wire.number,
            limit: wire.limit,
            previous: wire.previous,
            standing: Standing {
                vote: wire.vote.map(Vote::from),
                committed: wire.committed.map(LogId::from),
                last: wire.last.map(LogId::from),
                purged: wire.purged.map(LogId::from),
            },
        })
    }
}

/// CRC32C of a header's used bytes without the four that hold it.
fn checksum(used: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&used[..16]), &used[PREFIX_BYTES..])
}

/// Path of segment `number`.
pub(super) fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:010}.wal"))
}

/// The number in a segment's name; `None` for other files.
pub(super) fn number(name: &OsStr) -> Option<u32> {
    let digits = name.to_str()?.strip_suffix(".wal")?;
    let number = digits.parse().ok()?;
    (digits.len() == 10).then_some(number)
}

/// An open segment.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) nonce: u64,
    pub(super) number: u32,
}

impl Segment {
    /// Where a record at `offset` is.
    pub(super) fn position(&self, offset: u64) -> Position {
        Position {
            nonce: self.nonce,
            segment: self.number,
            offset,
        }
    }

    /// Makes a write durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|source| Error::SyncSegment {
            path: self.path.clone(),
            source,
        })
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|source| Error::WriteSegment {
                path: self.path.clone(),
                offset,
                source,
            })
    }

    /// Reads as much of `buffer` from `offset` as the file has.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        self.file
            .read_at(buffer, offset)
            .map_err(|source| Error::ReadSegment {
                path: self.path.clone(),
                offset,
                source,
            })
    }
}

/// A view of a segment that is read from front to back, a part at a time.
pub(super) struct Window<'a> {
    segment: &'a Segment,
    base: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` is valid.
    filled: usize,
    len: u64,
}

/// Bytes read at once: large enough that calls do not matter, small enough that memory does not.
const WINDOW_BYTES: usize = 256 * 1024;

impl<'a> Window<'a> {
    pub(super) fn new(segment: &'a Segment) -> Result<Self, Error> {
        let len = segment.file.len().map_err(|source| Error::ReadSegment {
            path: segment.path.clone(),
            offset: 0,
            source,
        })?;
        Ok(Self {
            segment,
            base: 0,
            buffer: Vec::new(),
            filled: 0,
            len,
        })
    }

    /// `wanted` bytes from `offset`; fewer at the end of the file.
    pub(super) fn get(&mut self, offset: u64, wanted: usize) -> Result<&[u8], Error> {
        let rest = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = wanted.min(rest);
        let inside =
            offset >= self.base && offset + wanted as u64 <= self.base + self.filled as u64;
        if !inside {
            let size = wanted.max(WINDOW_BYTES.min(rest));
            if self.buffer.len() < size {
                self.buffer.resize(size, 0);
            }
            self.filled = self.segment.read(&mut self.buffer[..size], offset)?;
            self.base = offset;
        }
        let from = usize::try_from(offset - self.base).unwrap_or(usize::MAX);
        let end = (from + wanted).min(self.filled);
        Ok(self.buffer.get(from..end).unwrap_or_default())
    }

    /// The record at `offset`, if there is a valid one.
    pub(super) fn record(&mut self, offset: u64) -> Result<Option<(RecordHeader, &[u8])>, Error> {
        let Some(head) = self.get(offset, record::HEADER_BYTES)?.first_chunk() else {
            return Ok(None);
        };
        let Some(len) = RecordHeader::claimed_len(head) else {
            return Ok(None);
        };
        if len as u64 > self.len - offset {
            return Ok(None);
        }
        let position = self.segment.position(offset);
        Ok(RecordHeader::verify(self.get(offset, len)?, position))
    }

    /// The first place from `offset` on where a record of batch `min_batch` or later may start. Verifies nothing.
    pub(super) fn next_claim(
        &mut self,
        mut offset: u64,
        min_batch: u64,
    ) -> Result<Option<u64>, Error> {
        loop {
            let bytes = self.ahead(offset, record::HEADER_BYTES)?;
            let claims = bytes
                .windows(record::HEADER_BYTES)
                .step_by(record::ALIGN)
                .filter_map(|head| head.first_chunk())
                .position(|head| {
                    RecordHeader::claimed_len(head).is_some()
                        && RecordHeader::claimed_batch(head) >= min_batch
                });
            if let Some(steps) = claims {
                return Ok(Some(offset + (steps * record::ALIGN) as u64));
            }
            if bytes.len() < record::HEADER_BYTES {
                return Ok(None);
            }
            let looked_at = (bytes.len() - record::HEADER_BYTES) / record::ALIGN + 1;
            offset += (looked_at * record::ALIGN) as u64;
        }
    }

    /// What is at hand from `offset` on, and at least `wanted` bytes; fewer at the end of the file.
    fn ahead(&mut self, offset: u64, wanted: usize) -> Result<&[u8], Error> {
        self.get(offset, wanted)?;
        let from = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
        Ok(self.buffer[..self.filled].get(from..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let id = |term, index| Some(LogId::from(WireLogId { term, index }));
        Header {
            nonce: u64::MAX,
            number: 3,
            limit: 1 << 24,
            previous: Some(Previous {
                end: 700,
                batch: 12,
            }),
            standing: Standing {
                vote: Some(Vote::new(4, u64::MAX)),
                committed: id(3, 8),
                last: id(3, 9),
                purged: id(1, 2),
            },
        }
    }

    #[test]
    fn a_header_comes_back_unchanged() {
        let bytes = header().encode();
        assert_eq!(bytes.len() as u64, HEADER_BYTES);
        assert_eq!(Header::decode(&bytes, Path::new("f")).unwrap(), header());
    }

    #[test]
    fn a_damaged_header_names_the_file_and_a_newer_one_its_version() {
        let path = Path::new("/d/0000000003.wal");
        let used = PREFIX_BYTES + 20;
        for at in (0..used).filter(|at| !(8..10).contains(at)) {
            let mut bytes = header().encode();
            bytes[at] ^= 1;
            let message = Header::decode(&bytes, path).unwrap_err().to_string();
            assert!(
                message.starts_with("corrupt log: /d/0000000003.wal at offset 0: segment header: "),
                "{message}"
            );
        }
        let mut bytes = header().encode();
        bytes[8] = 2;
        let error = Header::decode(&bytes, path).unwrap_err();
        assert!(matches!(error, Error::Version { found: 2, .. }), "{error}");
        assert!(Header::decode(&[], path).is_err());
    }

    #[test]
    fn names_and_numbers_belong_together() {
        let path = path(Path::new("/d"), 42);
        assert_eq!(path, Path::new("/d/0000000042.wal"));
        assert_eq!(number(path.file_name().unwrap()), Some(42));
        for other in ["spare.wal", "42.wal", "0000000042.tmp", "+000000042.wal2"] {
            assert_eq!(number(OsStr::new(other)), None, "{other}");
        }
    }
}
