//! Reading the log when it is opened: which segments there are, what they say, where the last one ends.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::error::Error;
use super::index::{Index, Place};
use super::record::{ALIGN, Record};
use super::segment::{self, HEADER_BYTES, Header, Previous, Segment, Window};
use crate::env::Disk;

/// A segment and what of it matters for removing it.
pub(super) struct Used {
    pub(super) segment: Arc<Segment>,
    /// Greatest index of an entry in it, also of entries dropped since.
    pub(super) max_index: Option<u64>,
}

/// The log as it was found.
pub(super) struct Found {
    pub(super) index: Index,
    /// Oldest first; the last one is to be written on.
    pub(super) segments: VecDeque<Used>,
    /// Header of the last segment.
    pub(super) header: Header,
    /// Where the last segment's valid records end.
    pub(super) end: u64,
    /// Greatest batch number seen, also in the torn end.
    pub(super) batch: u64,
}

/// Reads the segments in `folder`; `None` when there are none. Changes nothing.
pub(super) fn read(
    disk: &dyn Disk,
    folder: &Path,
    cache_bytes: usize,
) -> Result<Option<Found>, Error> {
    let names = disk.read_dir(folder).map_err(|source| Error::ListFolder {
        path: folder.to_owned(),
        source,
    })?;
    let numbers: Vec<u32> = names
        .iter()
        .filter_map(|name| segment::number(name))
        .collect();
    if let Some(gap) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(Error::MissingSegment {
            path: segment::path(folder, gap[0] + 1),
        });
    }
    let Some((first, later)) = numbers.split_first() else {
        return Ok(None);
    };
    let mut replay = Replay::start(open(disk, folder, *first)?, cache_bytes);
    for number in later {
        replay.next(open(disk, folder, *number)?)?;
    }
    replay.finish(folder).map(Some)
}

fn open(disk: &dyn Disk, folder: &Path, number: u32) -> Result<(Segment, Header), Error> {
    let path = segment::path(folder, number);
    let file = disk.open(&path).map_err(|source| Error::OpenSegment {
        path: path.clone(),
        source,
    })?;
    let mut segment = Segment {
        path,
        file,
        nonce: 0,
        number,
    };
    let mut bytes = vec![0; HEADER_BYTES as usize];
    let read = segment.read(&mut bytes, 0)?;
    let header = Header::decode(&bytes[..read], &segment.path)?;
    if header.number != number {
        let reason = format!("segment header: belongs to segment {}", header.number);
        return Err(Error::corrupt(&segment.path, 0, reason));
    }
    segment.nonce = header.nonce;
    Ok((segment, header))
}

/// Where the valid records of a segment end.
struct End {
    offset: u64,
    /// Batch of the last valid record.
    batch: u64,
    /// Whether that record is the last of its batch.
    complete: bool,
}

struct Replay {
    index: Index,
    segments: VecDeque<Used>,
    current: Segment,
    header: Header,
}

impl Replay {
    fn start((current, header): (Segment, Header), cache_bytes: usize) -> Self {
        Self {
            index: Index::new(header.standing.clone(), cache_bytes),
            segments: VecDeque::new(),
            current,
            header,
        }
    }

    /// Goes on with the next segment, after checking that the current one ends as that one says.
    fn next(&mut self, (segment, header): (Segment, Header)) -> Result<(), Error> {
        let (end, used) = self.replay_current()?;
        let expected = header.previous.map(|previous| previous.end);
        if expected != Some(end.offset) {
            let expected = expected.unwrap_or(HEADER_BYTES);
            return Err(Error::corrupt(
                &self.current.path,
                end.offset.min(expected),
                format!("no valid record, but this segment's records go to offset {expected}"),
            ));
        }
        if header.standing != *self.index.standing() {
            let reason = "segment header: does not continue the segment before";
            return Err(Error::corrupt(&segment.path, 0, reason));
        }
        let done = std::mem::replace(&mut self.current, segment);
        self.header = header;
        self.segments.push_back(Used {
            segment: Arc::new(done),
            max_index: used,
        });
        Ok(())
    }

    fn finish(mut self, folder: &Path) -> Result<Found, Error> {
        let (end, max_index) = self.replay_current()?;
        let batch = self.check_tail(&end)?;
        self.segments.push_back(Used {
            segment: Arc::new(self.current),
            max_index,
        });
        check_complete(&self.index, &self.segments, folder)?;
        Ok(Found {
            index: self.index,
            segments: self.segments,
            header: self.header,
            end: end.offset,
            batch,
        })
    }

    /// Takes in the records of the current segment up to the first that is not valid. Also gives the greatest
    /// index of an entry in it.
    fn replay_current(&mut self) -> Result<(End, Option<u64>), Error> {
        let segment = &self.current;
        let mut window = Window::new(segment)?;
        let mut max_index = None;
        let mut end = End {
            offset: HEADER_BYTES,
            batch: self.header.previous.map_or(0, |previous| previous.batch),
            complete: true,
        };
        while let Some((header, body)) = window.record(end.offset)? {
            // A batch that was cut is followed by the mark of the next start, never by anything else.
            let follows = if end.complete {
                header.batch > end.batch
            } else {
                header.batch == end.batch || (header.batch > end.batch && header.is_mark())
            };
            if !follows {
                break;
            }
            let offset = end.offset;
            let bad = |e| Error::undecodable(&segment.path, offset, &e);
            let record = Record::decode(&header, body).map_err(bad)?;
            let mut place = Place {
                term: 0,
                segment: segment.number,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                len: u32::try_from(header.record_len()).unwrap_or(u32::MAX),
            };
            if let Record::Entry(entry) = &record {
                place.term = entry.log_id.leader_id.term;
                max_index = max_index.max(Some(entry.log_id.index));
            }
            self.index
                .replay(record, place)
                .map_err(|reason| Error::corrupt(&segment.path, offset, reason))?;
            end = End {
                offset: offset + header.record_len() as u64,
                batch: header.batch,
                complete: header.last_of_batch,
            };
        }
        Ok((end, max_index))
    }

    /// Tells the torn end of an interrupted write from damage, and gives the greatest batch number in use.
    ///
    /// Batch `n + 1` is written only once batch `n` is durable. What is bad at `end` belongs to the batch of the
    /// record before it, or to the next one when that record was the last of its batch; if anything of a later
    /// batch than that is here, the bad record had been durable.
    fn check_tail(&self, end: &End) -> Result<u64, Error> {
        let torn = if end.complete {
            end.batch + 1
        } else {
            end.batch
        };
        let mut greatest = end.batch;
        let mut window = Window::new(&self.current)?;
        // What a recycled file held before has lower numbers, which spares nearly all checksums.
        let mut offset = end.offset;
        while let Some(claim) = window.next_claim(offset, end.batch)? {
            if let Some((header, _)) = window.record(claim)? {
                if header.batch > torn {
                    let reason = format!("no valid record, but one follows at offset {claim}");
                    return Err(Error::corrupt(&self.current.path, end.offset, reason));
                }
                greatest = greatest.max(header.batch);
            }
            offset = claim + ALIGN as u64;
        }
        Ok(greatest)
    }
}

/// Checks that every entry after the last purged one is there.
fn check_complete(index: &Index, segments: &VecDeque<Used>, folder: &Path) -> Result<(), Error> {
    let oldest = segments.front().map_or(1, |used| used.segment.number);
    let standing = index.standing();
    let complete = match (standing.purged, index.first()) {
        (None, _) => oldest == 1,
        (Some(purged), Some(first)) => first <= purged.index + 1,
        (purged, None) => standing.last == purged,
    };
    if complete {
        Ok(())
    } else {
        Err(Error::MissingSegment {
            path: segment::path(folder, oldest.saturating_sub(1)),
        })
    }
}

impl Found {
    /// The end of the log, for the header of the next segment.
    pub(super) fn previous(&self) -> Previous {
        Previous {
            end: self.end,
            batch: self.batch,
        }
    }
}
