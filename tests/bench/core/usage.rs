//! What processes use, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Sub;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

/// Used by some processes since they started, or between two looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// On a processor, by the name of the thread.
    pub(crate) threads: BTreeMap<String, Duration>,
}

impl Usage {
    /// Of one process so far.
    pub(crate) fn of(pid: u32) -> Self {
        let mut usage = Self::default();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
        for task in tasks.flatten() {
            // A thread may have ended since the folder was listed.
            let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
            if let (Some(name), Some(times)) = (read("comm"), read("schedstat")) {
                let nanos = times.split(' ').next().and_then(|n| n.parse().ok());
                let time = Duration::from_nanos(nanos.expect("nanoseconds come first"));
                *usage.threads.entry(name.trim().to_owned()).or_default() += time;
            }
        }
        usage
    }

    /// On a processor, all threads together.
    pub(crate) fn cpu(&self) -> Duration {
        self.threads.values().sum()
    }
}

impl Sub<&Usage> for Usage {
    type Output = Self;

    fn sub(mut self, earlier: &Self) -> Self {
        for (thread, time) in &mut self.threads {
            *time = time.saturating_sub(earlier.threads.get(thread).copied().unwrap_or_default());
        }
        self
    }
}

/// Bytes written so far to the disk that temporary files are on, by whomever: the kernel counts for processes only what they
/// make dirty in its cache, a page at a time. `None` where there is no disk of its own behind them.
pub(crate) fn written_to_disk() -> Option<u64> {
    let device = fs::metadata(std::env::temp_dir()).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    // Sectors of 512 bytes, whatever the disk's own are.
    let sectors: u64 = text.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * 512)
}

/// Memory of a process that is in use (RSS), in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    field(&read(&format!("/proc/{pid}/status")), "VmRSS:") * 1024
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The number behind a name that begins a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no number behind {name} in {text:?}"))
}
