//! What processes use, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// Used by some processes since they started, or between two looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// On a processor, by the name of the thread.
    pub(crate) threads: BTreeMap<String, Duration>,
    /// Bytes that went to the disk.
    pub(crate) written: u64,
}

impl Usage {
    /// Of one process so far.
    pub(crate) fn of(pid: u32) -> Self {
        let mut usage = Self {
            threads: BTreeMap::new(),
            written: field(&read(&format!("/proc/{pid}/io")), "write_bytes:"),
        };
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
        self.written -= earlier.written;
        self
    }
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
