//! What of the log is in memory: where each entry is, and the newest entries themselves. Pure.

use std::collections::VecDeque;

use openraft::EntryPayload;

use super::record::Record;
use super::segment::Standing;
use crate::raft::codec::WireLogId;
use crate::raft::types::{Entry, LogId, Vote};

/// Where an entry's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) term: u64,
    /// Number of its segment; 0 while it is not written yet.
    pub(super) segment: u32,
    pub(super) offset: u32,
    /// Of the whole record.
    pub(super) len: u32,
}

impl Place {
    fn unwritten(term: u64) -> Self {
        Self {
            term,
            segment: 0,
            offset: 0,
            len: 0,
        }
    }
}

/// Entries that room is made for before they are counted: many more are asked for than there are bytes for.
const PLANNED: u64 = 64;

/// What to read for a range of entries: first those on disk, then those at hand.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) on_disk: Vec<(u64, Place)>,
    pub(super) at_hand: Vec<Entry>,
}

/// How often an index has changed: who looks again and again need not look where nothing has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Version {
    changes: u64,
    /// Of these, how often entries were dropped at the end.
    pub(super) cuts: u64,
}

/// The entries after the last purged one.
pub(super) struct Index {
    standing: Standing,
    version: Version,
    /// Index of the entry of `places[0]`, or of the next entry.
    first: u64,
    places: VecDeque<Place>,
    /// The newest entries. Holds at least those that are not written yet.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    cache_limit: usize,
}

impl Index {
    /// An index that begins after what `standing` says, and keeps about `cache_limit` bytes of entries.
    pub(super) fn new(standing: Standing, cache_limit: usize) -> Self {
        Self {
            first: standing.next_index().unwrap_or(0),
            standing,
            version: Version::default(),
            places: VecDeque::new(),
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_limit,
        }
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Index of the first entry, or of the next one when there is none.
    pub(super) fn begin(&self) -> u64 {
        self.first
    }

    /// Index of the first entry from `from` on that is not written yet, or of the next one when all are.
    pub(super) fn written_end(&self, from: u64) -> u64 {
        let from = from.clamp(self.first, self.end());
        let places = self.places.range((from - self.first) as usize..);
        from + places.take_while(|place| place.segment != 0).count() as u64
    }

    /// Index of the first entry, if there is any.
    pub(super) fn first(&self) -> Option<u64> {
        (!self.places.is_empty()).then_some(self.first)
    }

    /// Index after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// The index that an entry must have to be appended; any when nothing was ever appended.
    pub(super) fn expected(&self) -> Option<u64> {
        self.standing.next_index()
    }

    /// Adds an entry whose record is not written yet.
    pub(super) fn push(&mut self, entry: Entry) {
        let place = Place::unwritten(entry.log_id.leader_id.term);
        self.push_at(entry, place);
    }

    fn push_at(&mut self, entry: Entry, place: Place) {
        if self.places.is_empty() {
            self.first = entry.log_id.index;
        }
        self.version.changes += 1;
        self.standing.last = Some(entry.log_id);
        self.places.push_back(place);
        self.cache_bytes += weight(&entry);
        self.cache.push_back(entry);
        self.evict();
    }

    pub(super) fn set_vote(&mut self, vote: Vote) {
        self.standing.vote = Some(vote);
    }

    pub(super) fn set_committed(&mut self, committed: Option<LogId>) {
        self.standing.committed = committed;
    }

    /// Drops the entries after `after`. Whether that changed anything.
    pub(super) fn truncate(&mut self, after: Option<LogId>) -> bool {
        let before = self.standing.last;
        self.standing.apply(&Record::Truncate(after));
        let end = self.standing.next_index().unwrap_or(0);
        if self.standing.last == before {
            return false;
        }
        self.version.changes += 1;
        self.version.cuts += 1;
        self.places
            .truncate(usize::try_from(end.saturating_sub(self.first)).unwrap_or(usize::MAX));
        self.first = self.first.min(end);
        while self
            .cache
            .back()
            .is_some_and(|entry| entry.log_id.index >= end)
        {
            let entry = self.cache.pop_back();
            self.cache_bytes -= entry.as_ref().map_or(0, weight);
        }
        true
    }

    /// Drops the entries up to `upto`. Whether that changed anything.
    pub(super) fn purge(&mut self, upto: LogId) -> bool {
        if self.standing.purged >= Some(upto) {
            return false;
        }
        self.standing.apply(&Record::Purge(upto));
        self.version.changes += 1;
        let gone = (upto.index + 1).saturating_sub(self.first);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX);
        if gone >= self.places.len() && self.standing.last == self.standing.purged {
            self.places.clear();
            self.cache.clear();
            self.cache_bytes = 0;
            self.first = upto.index + 1;
        } else {
            self.places.drain(..gone);
            self.first += gone as u64;
            while self.cache.len() > self.places.len() {
                let entry = self.cache.pop_front();
                self.cache_bytes -= entry.as_ref().map_or(0, weight);
            }
        }
        // A burst is over: give back what it took.
        self.places.shrink_to(self.places.len() * 2);
        self.cache.shrink_to(self.cache.len() * 2);
        true
    }

    /// Takes in a record that was read when the log was opened.
    ///
    /// # Errors
    /// A sentence, when the record cannot follow those before it.
    pub(super) fn replay(&mut self, record: Record, place: Place) -> Result<(), String> {
        match record {
            Record::Entry(entry) => {
                let index = entry.log_id.index;
                if let Some(expected) = self.expected().filter(|expected| *expected != index) {
                    return Err(format!("entry {index} where {expected} should be"));
                }
                self.push_at(entry, place);
            }
            Record::Vote(vote) => self.set_vote(vote),
            Record::Committed(committed) => self.set_committed(committed),
            Record::Truncate(after) => {
                self.truncate(after);
            }
            Record::Purge(upto) => {
                self.purge(upto);
            }
            Record::Mark => {}
        }
        Ok(())
    }

    /// Notes where the entry (`index`, `place.term`) was written, unless it has been dropped meanwhile.
    pub(super) fn written(&mut self, index: u64, place: Place) {
        let known = index
            .checked_sub(self.first)
            .and_then(|at| self.places.get_mut(usize::try_from(at).ok()?))
            // An entry that replaced a dropped one has another term, and its own record is still to come.
            .filter(|known| known.term == place.term);
        if let Some(known) = known {
            *known = place;
            self.version.changes += 1;
        }
    }

    /// Drops the oldest cached entries beyond the limit, as far as they are written.
    pub(super) fn evict(&mut self) {
        while self.cache_bytes > self.cache_limit {
            let at = self.places.len() - self.cache.len();
            if self.places[at].segment == 0 {
                return;
            }
            let Some(entry) = self.cache.pop_front() else {
                return;
            };
            self.cache_bytes -= weight(&entry);
        }
    }

    /// Where the entries of `start..end` are, as far as there are any; at least one, then up to about `max_bytes`.
    pub(super) fn plan(&self, start: u64, end: u64, max_bytes: usize) -> Plan {
        let mut plan = Plan::default();
        let cache_start = self.end() - self.cache.len() as u64;
        let mut bytes = 0_usize;
        let wanted = start.max(self.first)..end.min(self.end());
        let at_hand = wanted.end.saturating_sub(wanted.start.max(cache_start));
        plan.at_hand.reserve(at_hand.min(PLANNED) as usize);
        for index in wanted {
            if bytes >= max_bytes {
                break;
            }
            if index < cache_start {
                let place = self.places[(index - self.first) as usize];
                bytes = bytes.saturating_add(place.len as usize);
                plan.on_disk.push((index, place));
            } else {
                let entry = self.cache[(index - cache_start) as usize].clone();
                bytes = bytes.saturating_add(weight(&entry));
                plan.at_hand.push(entry);
            }
        }
        plan
    }

    /// Where the entry `index` is now, if it is there and written.
    pub(super) fn place(&self, index: u64) -> Option<Place> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.places
            .get(at)
            .copied()
            .filter(|place| place.segment != 0)
    }

    /// The last log id of each term within `start..=end`.
    pub(super) fn last_of_terms(&self, start: LogId, end: LogId) -> Vec<LogId> {
        let mut found: Vec<LogId> = Vec::new();
        let known = start.index.max(self.first)..(end.index + 1).min(self.end());
        let inner = known.map(|index| {
            let term = self.places[(index - self.first) as usize].term;
            LogId::from(WireLogId { term, index })
        });
        for id in std::iter::once(start).chain(inner).chain([end]) {
            match found.last_mut() {
                Some(last) if last.leader_id == id.leader_id => *last = id,
                _ => found.push(id),
            }
        }
        found
    }
}

/// About what an entry takes in memory.
fn weight(entry: &Entry) -> usize {
    size_of::<Entry>()
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(payload) => payload.0.len(),
            // Names, addresses and tree nodes of a few servers.
            EntryPayload::Membership(_) => 1024,
        }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::raft::types::Payload;

    fn id(term: u64, index: u64) -> LogId {
        WireLogId { term, index }.into()
    }

    fn entry(term: u64, index: u64) -> Entry {
        Entry {
            log_id: id(term, index),
            payload: EntryPayload::Normal(Payload(Bytes::from(vec![0; 100]))),
        }
    }

    fn place(term: u64, offset: u32) -> Place {
        Place {
            term,
            segment: 1,
            offset,
            len: 150,
        }
    }

    fn index_of(entries: &[(u64, u64)], cache_limit: usize) -> Index {
        let mut index = Index::new(Standing::default(), cache_limit);
        for (term, at) in entries {
            index.push(entry(*term, *at));
        }
        index
    }

    fn indexes(plan: &Plan) -> (Vec<u64>, Vec<u64>) {
        (
            plan.on_disk.iter().map(|(index, _)| *index).collect(),
            plan.at_hand
                .iter()
                .map(|entry| entry.log_id.index)
                .collect(),
        )
    }

    #[test]
    fn only_written_entries_leave_the_cache() {
        let mut index = index_of(&[(1, 0), (1, 1), (1, 2), (1, 3)], 2 * weight(&entry(1, 0)));
        assert_eq!(indexes(&index.plan(0, 9, usize::MAX)).1, [0, 1, 2, 3]);
        index.written(0, place(1, 512));
        index.evict();
        assert_eq!(
            indexes(&index.plan(0, 9, usize::MAX)),
            (vec![0], vec![1, 2, 3])
        );
        for at in 1..4 {
            index.written(at, place(1, 512));
        }
        index.evict();
        assert_eq!(
            indexes(&index.plan(0, 9, usize::MAX)),
            (vec![0, 1], vec![2, 3])
        );
    }

    #[test]
    fn a_replaced_entry_does_not_take_the_place_of_the_dropped_one() {
        let mut index = index_of(&[(1, 0), (1, 1)], 0);
        assert!(index.truncate(Some(id(1, 0))));
        index.push(entry(2, 1));
        index.written(1, place(1, 700));
        assert_eq!(index.place(1), None);
        index.written(1, place(2, 900));
        assert_eq!(index.place(1), Some(place(2, 900)));
    }

    #[test]
    fn truncating_and_purging_at_and_beyond_the_ends() {
        let mut index = index_of(&[(1, 0), (1, 1), (2, 2)], 1 << 20);
        assert!(!index.truncate(Some(id(2, 2))));
        assert!(!index.truncate(Some(id(2, 5))));
        assert!(index.purge(id(1, 0)));
        assert!(!index.purge(id(1, 0)));
        assert_eq!(index.first(), Some(1));
        assert!(index.truncate(None), "keeps what is purged");
        assert_eq!(index.standing().last, Some(id(1, 0)));
        assert_eq!(index.expected(), Some(1));
        assert!(index.purge(id(3, 9)));
        assert_eq!(index.standing().last, Some(id(3, 9)));
        index.push(entry(3, 10));
        assert_eq!(indexes(&index.plan(0, 99, usize::MAX)).1, [10]);
    }

    #[test]
    fn a_plan_stops_at_its_size_but_never_before_the_first_entry() {
        let index = index_of(&[(1, 0), (1, 1), (1, 2)], 1 << 20);
        assert_eq!(indexes(&index.plan(1, 3, 1)).1, [1]);
        assert_eq!(
            indexes(&index.plan(0, 3, weight(&entry(1, 0)) + 1)).1,
            [0, 1]
        );
        assert_eq!(indexes(&index.plan(3, 9, usize::MAX)).1, [] as [u64; 0]);
    }

    #[test]
    fn key_log_ids_are_the_last_of_each_term() {
        let index = index_of(&[(0, 0), (1, 1), (1, 2), (2, 3)], 0);
        assert_eq!(
            index.last_of_terms(id(0, 0), id(2, 3)),
            [id(0, 0), id(1, 2), id(2, 3)]
        );
        assert_eq!(index.last_of_terms(id(1, 1), id(1, 2)), [id(1, 2)]);
    }

    #[test]
    fn an_entry_out_of_order_is_not_replayed() {
        let mut index = index_of(&[(1, 0)], 0);
        let error = index.replay(Record::Entry(entry(1, 2)), place(1, 0));
        assert_eq!(error.unwrap_err(), "entry 2 where 1 should be");
    }
}
