use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::Keep;

const PAGE: usize = 4096;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

type Pages = BTreeMap<u64, Arc<[u8; PAGE]>>;

/// The bytes of one file, as programs see them and as they are on the medium.
///
/// The two share every page that is the same in both; pages of zeros are absent.
#[derive(Default)]
pub(super) struct Content {
    live: Pages,
    live_len: u64,
    durable: Pages,
    durable_len: u64,
    /// Pages that may differ.
    dirty: BTreeSet<u64>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.live_len
    }

    #[cfg(test)]
    pub(super) fn is_all_absent(&self) -> bool {
        self.live.is_empty() && self.durable.is_empty()
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let end = self
            .live_len
            .min(offset.saturating_add(buffer.len() as u64));
        let wanted = usize::try_from(end.saturating_sub(offset)).unwrap_or(0);
        let mut done = 0;
        while done < wanted {
            let (page, at, count) = piece(offset + done as u64, wanted - done);
            let target = &mut buffer[done..done + count];
            match self.live.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[at..at + count]),
                None => target.fill(0),
            }
            done += count;
        }
        wanted
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        let mut done = 0;
        while done < data.len() {
            let (page, at, count) = piece(offset + done as u64, data.len() - done);
            let source = &data[done..done + count];
            done += count;
            if !self.live.contains_key(&page) && source.iter().all(|byte| *byte == 0) {
                continue;
            }
            let bytes = self.live.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(bytes)[at..at + count].copy_from_slice(source);
            self.dirty.insert(page);
        }
        self.live_len = self.live_len.max(offset + data.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.live_len {
            let (page, at, _) = piece(len, PAGE);
            if at > 0
                && let Some(bytes) = self.live.get_mut(&page)
            {
                Arc::make_mut(bytes)[at..].fill(0);
                self.dirty.insert(page);
            }
            let first_gone = page + u64::from(at > 0);
            for page in self.live.split_off(&first_gone).into_keys() {
                self.dirty.insert(page);
            }
        }
        self.live_len = len;
    }

    pub(super) fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            match self.live.get(&page) {
                Some(bytes) => self.durable.insert(page, bytes.clone()),
                None => self.durable.remove(&page),
            };
        }
        self.durable_len = self.live_len;
    }

    /// What a failed sync leaves: nothing more on the medium, and no memory of what should be there.
    pub(super) fn lose(&mut self) {
        self.dirty.clear();
    }

    pub(super) fn crash(&mut self, keep: Keep<'_>) {
        match keep {
            Keep::Everything => return,
            Keep::Nothing => {}
            Keep::Torn(random) => {
                let sectors: Vec<(u64, usize)> = self
                    .dirty
                    .iter()
                    .flat_map(|page| (0..PAGE).step_by(SECTOR).map(move |at| (*page, at)))
                    .collect();
                // Disks mostly write in order, and then a first part is found; but they need not.
                let first = (random.below(2) == 0).then(|| random.below(sectors.len() as u64 + 1));
                for (number, (page, at)) in (0_u64..).zip(sectors) {
                    if first.map_or_else(|| random.below(2) == 0, |first| number < first) {
                        self.keep_sector(page, at);
                    }
                }
                if random.below(2) == 0 {
                    self.durable_len = self.live_len;
                }
            }
        }
        self.dirty.clear();
        self.live = self.durable.clone();
        self.live_len = self.durable_len;
        // Sectors that were kept beyond the length that was not: the file system never shows them.
        let len = self.live_len;
        self.live_len = u64::MAX;
        self.set_len(len);
        self.sync();
    }

    fn keep_sector(&mut self, page: u64, at: usize) {
        let range = at..at + SECTOR;
        let target = self
            .durable
            .entry(page)
            .or_insert_with(|| Arc::new([0; PAGE]));
        match self.live.get(&page) {
            Some(bytes) => {
                Arc::make_mut(target)[range.clone()].copy_from_slice(&bytes[range]);
            }
            None => Arc::make_mut(target)[range].fill(0),
        }
    }

    pub(super) fn corrupt(&mut self, offset: u64) -> io::Result<()> {
        if offset >= self.live_len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (page, at, _) = piece(offset, 1);
        for pages in [&mut self.live, &mut self.durable] {
            let bytes = pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
            let byte = &mut Arc::make_mut(bytes)[at];
            *byte = !*byte;
        }
        Ok(())
    }
}

/// The page of `offset`, the place in it, and how many of `wanted` bytes are in that page.
fn piece(offset: u64, wanted: usize) -> (u64, usize, usize) {
    let page = offset / PAGE as u64;
    let at = (offset % PAGE as u64) as usize;
    (page, at, wanted.min(PAGE - at))
}
