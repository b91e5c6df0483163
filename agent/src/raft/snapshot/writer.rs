use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{
    Error, MAGIC, Meta, Name, PREFIX_BYTES, SECTION_BYTES_MAX, SnapshotFile, SnapshotStore,
    TRAILER_BYTES, VERSION,
};
use crate::env::File;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Bytes that may wait in the kernel's cache. All of a large snapshot, synced in the end, would keep the disk busy for so
/// long that the log's own syncs, and with them writes, stood still.
const UNSYNCED_BYTES_MAX: u64 = 1024 * 1024;

/// A snapshot that is being saved. Dropped unfinished, it leaves no trace.
pub struct SnapshotWriter {
    store: SnapshotStore,
    name: Name,
    meta: Meta,
    path: PathBuf,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    written: u64,
    /// Up to where it is on the disk for certain.
    synced: u64,
    /// Of everything before the buffer's end.
    crc: u32,
    sections: u64,
    body_start: u64,
    finished: bool,
}

impl SnapshotWriter {
    pub(super) fn create(store: SnapshotStore, name: Name, meta: Meta) -> Result<Self, Error> {
        let path = store.inner.folder.join(format!("{}.tmp", name.id()));
        let file = store
            .inner
            .disk
            .create(&path)
            .map_err(|source| Error::Write {
                path: path.clone(),
                offset: 0,
                source,
            })?;
        let header = header(&meta);
        let mut writer = Self {
            store,
            name,
            meta,
            path,
            file,
            buffer: Vec::new(),
            written: 0,
            synced: 0,
            crc: 0,
            sections: 0,
            body_start: header.len() as u64,
            finished: false,
        };
        writer.put(&header)?;
        Ok(writer)
    }

    /// What the snapshot says of itself, its id included.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Adds a section; an empty one is left out.
    ///
    /// # Errors
    /// The disk's, or a section longer than [`SECTION_BYTES_MAX`].
    pub fn push(&mut self, section: &[u8]) -> Result<(), Error> {
        if section.is_empty() {
            return Ok(());
        }
        let len = u32::try_from(section.len())
            .ok()
            .filter(|_| section.len() <= SECTION_BYTES_MAX)
            .ok_or(Error::SectionTooLong {
                bytes: section.len(),
            })?;
        self.sections += 1;
        self.put(&len.to_le_bytes())?;
        self.put(&crc32c::crc32c(section).to_le_bytes())?;
        self.put(section)
    }

    /// Ends the snapshot and makes it the newest one, durably.
    ///
    /// # Errors
    /// The disk's. Then no snapshot was added, unless only removing the oldest failed.
    pub fn finish(self) -> Result<SnapshotFile, Error> {
        self.stage()?.publish()
    }

    /// Ends the snapshot and makes it durable, but not yet one of the snapshots.
    ///
    /// # Errors
    /// The disk's. Then nothing is left of it.
    pub fn stage(mut self) -> Result<Staged, Error> {
        let mut trailer = [0; TRAILER_BYTES];
        trailer[4..12].copy_from_slice(&self.sections.to_le_bytes());
        self.put(&trailer[..TRAILER_BYTES - 4])?;
        let crc = self.crc.to_le_bytes();
        self.put(&crc)?;
        self.flush()?;
        self.sync()?;
        Ok(Staged(self))
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.file.sync_data().map_err(|source| Error::Sync {
            path: self.path.clone(),
            source,
        })?;
        self.synced = self.written;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file
            .write_all_at(&self.buffer, self.written)
            .map_err(|source| Error::Write {
                path: self.path.clone(),
                offset: self.written,
                source,
            })?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.synced >= UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        Ok(())
    }
}

/// A whole snapshot on disk that does not count yet. Dropped, it leaves no trace.
pub struct Staged(SnapshotWriter);

impl Staged {
    /// Makes it the newest snapshot, durably.
    ///
    /// # Errors
    /// The disk's. Then no snapshot was added, unless only removing the oldest failed.
    pub fn publish(self) -> Result<SnapshotFile, Error> {
        let mut writer = self.0;
        let path = writer.store.inner.publish(&writer.path, writer.name)?;
        writer.finished = true;
        let latest = &writer.store.inner.latest_bytes;
        latest.store(writer.written, Ordering::Relaxed);
        Ok(SnapshotFile {
            path,
            file: writer.file.clone(),
            meta: Arc::new(writer.meta.clone()),
            body_start: writer.body_start,
            len: writer.written,
        })
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Failing is no harm: the next start clears away what is left.
            let _ = self.store.inner.disk.remove_file(&self.path);
        }
    }
}

fn header(meta: &Meta) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.resize(PREFIX_BYTES, 0);
    bytes = postcard::to_extend(meta, bytes).expect("plain data always has a postcard form");
    let body = u32::try_from(bytes.len() - PREFIX_BYTES).expect("a few servers, and some ids");
    bytes[12..16].copy_from_slice(&body.to_le_bytes());
    let crc = super::reader::header_checksum(&bytes);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}
