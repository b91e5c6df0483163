//! What is new in a log since the last look at it.

use std::io;

use super::LogReader;
use super::index::Version;
use crate::raft::types::{Entry, LogId};

/// How much of a log was seen already.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::raft) struct Seen {
    version: Option<Version>,
    end: u64,
    written: u64,
}

/// What a log has that was not seen.
#[derive(Debug)]
pub(in crate::raft) struct News {
    /// The last entry that is purged.
    pub(in crate::raft) purged: Option<LogId>,
    /// Entries that were seen have been dropped, or none was seen before: `entries` is all that there is.
    pub(in crate::raft) anew: bool,
    /// In order, each the next one after what was seen.
    pub(in crate::raft) entries: Vec<Entry>,
    /// Index of the first entry that is not on disk yet, or of the next one when all are.
    pub(in crate::raft) written: u64,
}

impl LogReader {
    /// What was not seen before, which is seen then; `None` when nothing has changed.
    pub(in crate::raft) fn news(&self, seen: &mut Seen) -> io::Result<Option<News>> {
        let (version, purged, begin, end, written, anew) = {
            let index = self.shared.index();
            let version = index.version();
            if seen.version == Some(version) {
                return Ok(None);
            }
            let anew = seen.version.is_none_or(|seen| seen.cuts != version.cuts);
            let written = index.written_end(if anew { 0 } else { seen.written });
            let purged = index.standing().purged;
            (version, purged, index.begin(), index.end(), written, anew)
        };
        let start = if anew { begin } else { seen.end.max(begin) };
        let mut entries = Vec::new();
        while start + (entries.len() as u64) < end {
            let piece = self.read(start + entries.len() as u64, end, super::READ_BYTES)?;
            if piece.is_empty() {
                break;
            }
            entries.extend(piece);
        }
        *seen = Seen {
            version: Some(version),
            end,
            written,
        };
        Ok(Some(News {
            purged,
            anew,
            entries,
            written,
        }))
    }
}
