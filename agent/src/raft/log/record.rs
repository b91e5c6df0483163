//! The records of a segment. Pure.
//!
//! ```text
//! 0   u32  CRC32C of (nonce, segment, offset) and of everything below
//! 4   u32  length of the body
//! 8   u64  batch
//! 16  u8   kind
//! 17  u8   1 on the last record of its batch
//! 18       6 zero bytes
//! 24       body, then zeros up to a multiple of 8
//! ```
//! Numbers are little endian. A batch is what one sync made durable: batches have rising numbers, and one is written
//! only after the sync of the one before. So a bad record is the torn end of an interrupted write exactly if nothing
//! of a later batch follows it. The checksum covers the place, which keeps what a recycled file held before, or a
//! record that moved, from passing for a record.

use crate::raft::codec;
use crate::raft::types::{Entry, LogId, Vote};

/// Bytes before a record's body.
pub(super) const HEADER_BYTES: usize = 24;

/// Records start at multiples of this.
pub(super) const ALIGN: usize = 8;

const LAST_OF_BATCH: u8 = 1;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;
const MARK: u8 = 6;

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// The entry after the last one.
    Entry(Entry),
    /// The vote from now on.
    Vote(Vote),
    /// What is known to be committed.
    Committed(Option<LogId>),
    /// Entries after this one are no more.
    Truncate(Option<LogId>),
    /// Entries up to this one are no more.
    Purge(LogId),
    /// Nothing. Written when the log is opened and closed, so that damage before it cannot pass for a torn end.
    Mark,
}

/// Where a record is: what its checksum is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Of the segment, see its header.
    pub(super) nonce: u64,
    /// Number of the segment.
    pub(super) segment: u32,
    /// Of the record's first byte in the file.
    pub(super) offset: u64,
}

impl Position {
    fn seed(self) -> u32 {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.segment.to_le_bytes());
        bytes[12..].copy_from_slice(&self.offset.to_le_bytes());
        crc32c::crc32c(&bytes)
    }
}

/// A record's header, its checksum verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) batch: u64,
    pub(super) last_of_batch: bool,
    pub(super) body_len: usize,
    kind: u8,
}

impl Header {
    /// Length of the whole record with its padding.
    pub(super) fn record_len(&self) -> usize {
        padded(HEADER_BYTES + self.body_len)
    }

    pub(super) fn is_mark(&self) -> bool {
        self.kind == MARK
    }

    /// The length that a record starting with `bytes` claims, if `bytes` can be the start of a record at all.
    ///
    /// Cheap: verifies nothing.
    pub(super) fn claimed_len(bytes: &[u8; HEADER_BYTES]) -> Option<usize> {
        let [.., kind, flags, z0, z1, z2, z3, z4, z5] = *bytes;
        let zeros = [z0, z1, z2, z3, z4, z5];
        let plausible = (ENTRY..=MARK).contains(&kind) && flags <= LAST_OF_BATCH && zeros == [0; 6];
        if !plausible {
            return None;
        }
        let body = usize::try_from(u32::from_le_bytes(word(bytes, 4))).ok()?;
        Some(padded(HEADER_BYTES.checked_add(body)?))
    }

    /// The batch that a record starting with `bytes` claims.
    pub(super) fn claimed_batch(bytes: &[u8; HEADER_BYTES]) -> u64 {
        let mut le = [0; 8];
        le.copy_from_slice(&bytes[8..16]);
        u64::from_le_bytes(le)
    }

    /// Verifies the record at the start of `bytes`; gives its header and body.
    pub(super) fn verify(bytes: &[u8], position: Position) -> Option<(Self, &[u8])> {
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        Self::claimed_len(head)?;
        let body_len = usize::try_from(u32::from_le_bytes(word(head, 4))).ok()?;
        let end = HEADER_BYTES.checked_add(body_len)?;
        let covered = bytes.get(4..end)?;
        if crc32c::crc32c_append(position.seed(), covered) != u32::from_le_bytes(word(head, 0)) {
            return None;
        }
        let header = Self {
            batch: Self::claimed_batch(head),
            last_of_batch: head[17] == LAST_OF_BATCH,
            body_len,
            kind: head[16],
        };
        Some((header, &bytes[HEADER_BYTES..end]))
    }
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::Entry(_) => ENTRY,
            Self::Vote(_) => VOTE,
            Self::Committed(_) => COMMITTED,
            Self::Truncate(_) => TRUNCATE,
            Self::Purge(_) => PURGE,
            Self::Mark => MARK,
        }
    }

    /// An upper bound of the encoded length that is cheap to know; exact for all but the rare kinds.
    pub(super) fn len_bound(&self) -> usize {
        use openraft::EntryPayload;
        // Far above what the fixed-size values take.
        const SMALL: usize = 64;
        let body = match self {
            Self::Entry(entry) => match &entry.payload {
                EntryPayload::Blank => codec::ENTRY_HEADER_BYTES,
                EntryPayload::Normal(payload) => codec::ENTRY_HEADER_BYTES + payload.0.len(),
                EntryPayload::Membership(_) => {
                    let mut bytes = Vec::new();
                    codec::encode_entry(entry, &mut bytes);
                    bytes.len()
                }
            },
            _ => SMALL,
        };
        padded(HEADER_BYTES + body)
    }

    /// Appends the record without its checksum, which needs its place and whether it is the last: see [`seal`].
    pub(super) fn encode(&self, batch: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        match self {
            Self::Entry(entry) => codec::encode_entry(entry, out),
            Self::Vote(vote) => out.extend_from_slice(&codec::encode_vote(vote)),
            Self::Committed(id) | Self::Truncate(id) => {
                let id = id.as_ref().map(codec::WireLogId::from);
                out.extend_from_slice(&codec::encode(&id));
            }
            Self::Purge(id) => out.extend_from_slice(&codec::encode_log_id(id)),
            Self::Mark => {}
        }
        let body = u32::try_from(out.len() - start - HEADER_BYTES)
            .expect("an entry is far below 4 GiB: the store refuses longer ones");
        out[start + 4..start + 8].copy_from_slice(&body.to_le_bytes());
        out[start + 8..start + 16].copy_from_slice(&batch.to_le_bytes());
        out[start + 16] = self.kind();
        out.resize(start + padded(out.len() - start), 0);
    }

    /// Decodes the body of a record whose header was verified.
    pub(super) fn decode(header: &Header, body: &[u8]) -> Result<Self, codec::Error> {
        let optional =
            |body| codec::decode::<Option<codec::WireLogId>>(body).map(|id| id.map(LogId::from));
        match header.kind {
            ENTRY => codec::decode_entry(body).map(Self::Entry),
            VOTE => codec::decode_vote(body).map(Self::Vote),
            COMMITTED => optional(body).map(Self::Committed),
            TRUNCATE => optional(body).map(Self::Truncate),
            PURGE => codec::decode_log_id(body).map(Self::Purge),
            MARK if body.is_empty() => Ok(Self::Mark),
            MARK => Err(codec::Error::Trailing(body.len())),
            kind => Err(codec::Error::Kind(kind)),
        }
    }
}

/// Completes the encoded record at the start of `record` for its place. Returns its length.
pub(super) fn seal(record: &mut [u8], position: Position, last_of_batch: bool) -> usize {
    let body = u32::from_le_bytes([record[4], record[5], record[6], record[7]]) as usize;
    if last_of_batch {
        record[17] = LAST_OF_BATCH;
    }
    let crc = crc32c::crc32c_append(position.seed(), &record[4..HEADER_BYTES + body]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    padded(HEADER_BYTES + body)
}

/// `len` rounded up to the next place where a record may start.
pub(super) fn padded(len: usize) -> usize {
    len.saturating_add(ALIGN - 1) & !(ALIGN - 1)
}

fn word(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::EntryPayload;
    use proptest::prelude::*;

    use super::*;
    use crate::raft::codec::WireLogId;
    use crate::raft::types::Payload;

    const AT: Position = Position {
        nonce: 7,
        segment: 3,
        offset: 512,
    };

    fn records() -> Vec<Record> {
        let id = LogId::from(WireLogId { term: 2, index: 9 });
        vec![
            Record::Entry(Entry {
                log_id: id,
                payload: EntryPayload::Normal(Payload(Bytes::from_static(b"set x"))),
            }),
            Record::Vote(Vote::new_committed(2, 5)),
            Record::Committed(Some(id)),
            Record::Truncate(None),
            Record::Purge(id),
            Record::Mark,
        ]
    }

    fn encoded(record: &Record, last: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(11, &mut bytes);
        assert_eq!(seal(&mut bytes, AT, last), bytes.len());
        bytes
    }

    #[test]
    fn every_record_comes_back_unchanged() {
        for record in records() {
            for last in [false, true] {
                let bytes = encoded(&record, last);
                assert!(bytes.len() <= record.len_bound());
                let (header, body) = Header::verify(&bytes, AT).unwrap();
                assert_eq!((header.batch, header.last_of_batch), (11, last));
                assert_eq!(header.record_len(), bytes.len());
                assert_eq!(Record::decode(&header, body).unwrap(), record);
            }
        }
    }

    #[test]
    fn a_record_is_valid_in_its_own_place_only() {
        let bytes = encoded(&records()[0], true);
        for other in [
            Position { nonce: 8, ..AT },
            Position { segment: 4, ..AT },
            Position { offset: 520, ..AT },
        ] {
            assert_eq!(Header::verify(&bytes, other), None);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for record in records() {
            let bytes = encoded(&record, true);
            let used = HEADER_BYTES + Header::verify(&bytes, AT).unwrap().0.body_len;
            for bit in 0..used * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Header::verify(&bytes, AT), None, "bit {bit} of {record:?}");
            }
            for len in 0..used {
                assert_eq!(Header::verify(&bytes[..len], AT), None);
            }
        }
    }

    #[test]
    fn no_record_makes_the_decoders_panic() {
        let seeds = records().into_iter().map(|record| {
            let mut bytes = Vec::new();
            record.encode(7, &mut bytes);
            seal(&mut bytes, AT, true);
            bytes
        });
        crate::fuzz::run("log-record", &seeds.collect::<Vec<_>>(), |bytes| {
            let as_it_is = Header::verify(bytes, AT).is_some();
            // Most changes only break the checksum; what is behind it must be met as well.
            let mut sealed = bytes.to_vec();
            if sealed.len() < HEADER_BYTES {
                return format!("{as_it_is}");
            }
            let body = sealed.len() - HEADER_BYTES;
            sealed[4..8].copy_from_slice(&(body as u32).to_le_bytes());
            sealed.resize(padded(sealed.len()), 0);
            seal(&mut sealed, AT, false);
            let decoded = Header::verify(&sealed, AT).map(|(header, body)| {
                Record::decode(&header, body)
                    .map_or_else(|error| error.to_string(), |_| "ok".into())
            });
            format!("{as_it_is}, {decoded:?}")
        });
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Header::verify(&bytes, AT), None);
        }

        #[test]
        fn a_garbage_body_is_an_error_at_most(kind in ENTRY..=MARK, body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = vec![0; HEADER_BYTES];
            bytes.extend_from_slice(&body);
            bytes[4..8].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            bytes[16] = kind;
            bytes.resize(padded(bytes.len()), 0);
            seal(&mut bytes, AT, false);
            let (header, body) = Header::verify(&bytes, AT).unwrap();
            let _ = Record::decode(&header, body);
        }
    }
}
