//! Reading entries back, from memory or from disk.

use super::error::Error;
use super::index::{Place, Plan};
use super::record::{Header, Record};
use super::shared::Shared;
use crate::raft::codec::WireLogId;
use crate::raft::types::Entry;

/// Most bytes read at once.
const SPAN_BYTES: u64 = 1024 * 1024;

/// The entries of `start..end` that there are; at least one of them, then up to about `max_bytes`.
pub(super) fn entries(
    shared: &Shared,
    start: u64,
    end: u64,
    max_bytes: usize,
) -> Result<Vec<Entry>, Error> {
    loop {
        let Plan { on_disk, at_hand } = shared.index().plan(start, end, max_bytes);
        if on_disk.is_empty() {
            return Ok(at_hand);
        }
        match fetch(shared, &on_disk) {
            Ok(mut entries) => {
                entries.extend(at_hand);
                return Ok(entries);
            }
            Err(error) => {
                // Not under a lock: an entry may have been purged and its file used again. Then look anew.
                let index = shared.index();
                if on_disk
                    .iter()
                    .all(|(at, place)| index.place(*at) == Some(*place))
                {
                    return Err(error);
                }
            }
        }
    }
}

/// Reads entries from disk, neighbours together.
fn fetch(shared: &Shared, mut places: &[(u64, Place)]) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::with_capacity(places.len());
    while let [(_, first), ..] = places {
        let (segment, start) = (first.segment, u64::from(first.offset));
        let near = |place: &Place| {
            place.segment == segment && end(place).wrapping_sub(start) <= SPAN_BYTES
        };
        // A single entry may be longer than a span.
        let count = places
            .iter()
            .take_while(|(_, place)| near(place))
            .count()
            .max(1);
        let (span, rest) = places.split_at(count);
        fetch_span(shared, span, &mut entries)?;
        places = rest;
    }
    Ok(entries)
}

fn fetch_span(
    shared: &Shared,
    places: &[(u64, Place)],
    entries: &mut Vec<Entry>,
) -> Result<(), Error> {
    let (Some((_, first)), Some((_, last))) = (places.first(), places.last()) else {
        return Ok(());
    };
    let segment = shared.file(first.segment).ok_or(Error::Closed)?;
    let start = u64::from(first.offset);
    let mut bytes = vec![0; usize::try_from(end(last) - start).unwrap_or(usize::MAX)];
    let read = segment.read(&mut bytes, start)?;
    for (index, place) in places {
        let offset = u64::from(place.offset);
        let bad = |reason: &str| Error::corrupt(&segment.path, offset, reason);
        let record = usize::try_from(offset - start)
            .ok()
            .and_then(|at| bytes[..read].get(at..at + place.len as usize))
            .ok_or_else(|| bad("the file is too short"))?;
        let (header, body) = Header::verify(record, segment.position(offset))
            .ok_or_else(|| bad("no valid record"))?;
        let entry = match Record::decode(&header, body) {
            Ok(Record::Entry(entry)) => entry,
            Ok(_) => return Err(bad("not an entry")),
            Err(error) => return Err(Error::undecodable(&segment.path, offset, &error)),
        };
        let expected = WireLogId {
            term: place.term,
            index: *index,
        };
        if WireLogId::from(entry.log_id) != expected {
            return Err(bad("another entry"));
        }
        entries.push(entry);
    }
    Ok(())
}

fn end(place: &Place) -> u64 {
    u64::from(place.offset) + u64::from(place.len)
}
