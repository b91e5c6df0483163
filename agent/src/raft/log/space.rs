//! Whether there is room on the disk for what the log will be given.
//!
//! A full disk is met in two places. The next segment is filled with zeros while the present one is half used: when
//! that finds no room, the log still has half a segment whose blocks are its own, enough for votes and for what has
//! been accepted already, and there is time to hand over. Only what goes beyond that meets the full disk itself.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::error::Error;

/// What the log lacks room for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    next: Option<Arc<str>>,
    present: Option<Arc<str>>,
}

impl Room {
    /// Why no more entries should be given to the log; `None` while there is room.
    pub fn lacking(&self) -> Option<&str> {
        self.present.as_deref().or(self.next.as_deref())
    }

    /// Whether even what has been accepted waits for room, votes included. Nothing of it has been acknowledged.
    pub fn is_blocked(&self) -> bool {
        self.present.is_some()
    }
}

/// The writer's and the preparation's word on the [`Room`]. Clones are the same.
#[derive(Clone)]
pub(super) struct Space(Arc<watch::Sender<Room>>);

impl Space {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Room::default())))
    }

    pub(super) fn watch(&self) -> watch::Receiver<Room> {
        self.0.subscribe()
    }

    /// The next segment could not be prepared for this reason, or could.
    pub(super) fn set_next(&self, why: Option<String>) {
        self.set(|room| &mut room.next, why);
    }

    /// What has been accepted could not be written for this reason, or could.
    pub(super) fn set_present(&self, why: Option<String>) {
        self.set(|room| &mut room.present, why);
    }

    fn set(&self, part: impl Fn(&mut Room) -> &mut Option<Arc<str>>, why: Option<String>) {
        self.0.send_if_modified(|room| {
            let part = part(room);
            // The first reason stands: each try may meet the end at another offset.
            let changed = part.is_some() != why.is_some();
            if changed {
                *part = why.map(Arc::from);
            }
            changed
        });
    }
}

/// Whether a disk that was given more room would have done it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl Error {
    /// Whether the disk was full before anything was synced: the same can be tried again. A failed sync never is.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::CreateSegment { source, .. } | Self::WriteSegment { source, .. } => {
                is_full(source)
            }
            _ => false,
        }
    }
}
