use std::io;
use std::path::{Path, PathBuf};

/// Why a snapshot could not be saved or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder of snapshots could not be made.
    #[error("cannot create folder {}: {source}", .path.display())]
    CreateFolder {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The folder of snapshots could not be read.
    #[error("cannot list folder {}: {source}", .path.display())]
    ListFolder {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Changes of names could not be made durable.
    #[error("cannot sync folder {}: {source}", .path.display())]
    SyncFolder {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A snapshot could not be opened.
    #[error("cannot open snapshot {}: {source}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A snapshot could not be read.
    #[error("cannot read snapshot {} at offset {offset}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the disk said.
        source: io::Error,
    },
    /// A snapshot could not be written, for instance because the disk is full. The ones before are untouched.
    #[error("cannot write snapshot {} at offset {offset}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the disk said.
        source: io::Error,
    },
    /// A snapshot could not be made durable. The ones before are untouched.
    #[error("cannot sync snapshot {}: {source}", .path.display())]
    Sync {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A finished snapshot could not get its name. The ones before are untouched.
    #[error("cannot rename snapshot {}: {source}", .path.display())]
    Rename {
        /// The name that it should get.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// An old snapshot, or the rest of an interrupted save, could not be removed.
    #[error("cannot remove snapshot {}: {source}", .path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A section is too long to be read back whole.
    #[error(
        "snapshot section of {bytes} bytes is longer than {}",
        super::SECTION_BYTES_MAX
    )]
    SectionTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The snapshot has been damaged.
    #[error("corrupt snapshot: {} at offset {offset}: {reason}", .path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The snapshot was written by a newer program.
    #[error("snapshot {} has format version {found}, this program reads {}", .path.display(), super::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
}

impl Error {
    pub(super) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            reason: reason.into(),
        }
    }

    pub(super) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::CreateFolder { source, .. }
            | Self::ListFolder { source, .. }
            | Self::SyncFolder { source, .. }
            | Self::Open { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Sync { source, .. }
            | Self::Rename { source, .. }
            | Self::Remove { source, .. } => source.kind(),
            Self::SectionTooLong { .. } => io::ErrorKind::InvalidInput,
            Self::Corrupt { .. } | Self::Version { .. } => io::ErrorKind::InvalidData,
        }
    }
}
