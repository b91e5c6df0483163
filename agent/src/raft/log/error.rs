use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::raft::codec;

/// Why the log could not do what it was asked. Every one is fatal for a server: stop, do not retry. (A full disk is waited
/// out within the log, and is an error only for one that is closed meanwhile.)
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log's folder could not be made.
    #[error("cannot create folder {}: {source}", .path.display())]
    CreateFolder {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The log's folder could not be read.
    #[error("cannot list folder {}: {source}", .path.display())]
    ListFolder {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Changes of names in a folder could not be made durable.
    #[error("cannot sync folder {}: {source}", .path.display())]
    SyncFolder {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A new segment could not be made.
    #[error("cannot create log segment {}: {source}", .path.display())]
    CreateSegment {
        /// The segment's file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A segment could not be opened.
    #[error("cannot open log segment {}: {source}", .path.display())]
    OpenSegment {
        /// The segment's file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A segment could not be read.
    #[error("cannot read log segment {} at offset {offset}: {source}", .path.display())]
    ReadSegment {
        /// The segment's file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the disk said.
        source: io::Error,
    },
    /// Records could not be written. Nothing of them was acknowledged.
    #[error("cannot write log segment {} at offset {offset}: {source}", .path.display())]
    WriteSegment {
        /// The segment's file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the disk said.
        source: io::Error,
    },
    /// Written records could not be made durable. Never tried again: the kernel may have dropped them.
    #[error("cannot sync log segment {}: {source}", .path.display())]
    SyncSegment {
        /// The segment's file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A purged segment could not be put away.
    #[error("cannot remove log segment {}: {source}", .path.display())]
    RemoveSegment {
        /// The segment's file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The log has been damaged outside of an interrupted write. Nothing was changed.
    #[error("corrupt log: {} at offset {offset}: {reason}", .path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A segment between others is gone. Nothing was changed.
    #[error("corrupt log: {} is missing", .path.display())]
    MissingSegment {
        /// The file that should be there.
        path: PathBuf,
    },
    /// The log was written by a newer program.
    #[error("log segment {} has format version {found}, this program reads {}", .path.display(), super::segment::VERSION)]
    Version {
        /// The segment's file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// An entry that does not follow the last one. Nothing was written.
    #[error("log entry {found} does not follow the last one, {expected} does")]
    OutOfOrder {
        /// The index that is next.
        expected: u64,
        /// The index that was given.
        found: u64,
    },
    /// A reset to an entry before what is purged. Nothing was changed.
    #[error("cannot reset the log to entry {asked}: it is purged up to {purged}")]
    ResetBeforePurged {
        /// Last purged index.
        purged: u64,
        /// The index that was given.
        asked: u64,
    },
    /// An entry that is longer than a record can be. Nothing was written.
    #[error("log entry of {bytes} bytes is longer than {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The greatest length.
        max: usize,
    },
    /// The thread that writes could not be started.
    #[error("cannot start the log writer: {source}")]
    StartWriter {
        /// What the system said.
        source: io::Error,
    },
    /// The log has been closed.
    #[error("the log is closed")]
    Closed,
}

impl Error {
    pub(super) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            reason: reason.into(),
        }
    }

    pub(super) fn undecodable(path: &Path, offset: u64, error: &codec::Error) -> Self {
        Self::corrupt(path, offset, format!("valid checksum, but {error}"))
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::CreateFolder { source, .. }
            | Self::ListFolder { source, .. }
            | Self::SyncFolder { source, .. }
            | Self::CreateSegment { source, .. }
            | Self::OpenSegment { source, .. }
            | Self::ReadSegment { source, .. }
            | Self::WriteSegment { source, .. }
            | Self::SyncSegment { source, .. }
            | Self::RemoveSegment { source, .. }
            | Self::StartWriter { source } => source.kind(),
            Self::Corrupt { .. } | Self::MissingSegment { .. } | Self::Version { .. } => {
                io::ErrorKind::InvalidData
            }
            Self::OutOfOrder { .. } | Self::ResetBeforePurged { .. } | Self::TooLong { .. } => {
                io::ErrorKind::InvalidInput
            }
            Self::Closed => io::ErrorKind::BrokenPipe,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// One failure, for as many callers as wait.
pub(super) fn shared(error: &Arc<Error>) -> io::Error {
    io::Error::new(error.kind(), error.clone())
}
