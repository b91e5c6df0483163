//! Processes of agents: found in `/proc`, started apart from ours, and never signalled by a bare number.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Environment variable that carries the revision of the configuration. Informative: found again in `/proc`.
pub const REVISION: &str = "CONSULCLUSTER_REVISION";

/// Ticks a second in `/proc/PID/stat`. The kernel's interface has this number on every architecture that Rust's
/// standard library supports on Linux, whatever the kernel runs at.
const TICKS_PER_SECOND: f64 = 100.0;

/// One process for ever: numbers are used again, the pair with the start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// Start time, in ticks since the machine started.
    pub started: u64,
}

/// An agent's process, with what its command line and environment tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which process.
    pub identity: Identity,
    /// Whether it carries `-bootstrap`.
    pub bootstrap: bool,
    /// Revision of the configuration that it was started with. Empty: somebody else started it.
    pub revision: String,
    /// Address that it binds.
    pub bind: Option<String>,
}

/// Finds the running agents whose data dirs are in `dir`, by the name of that data dir. `program` is the file name of
/// the agent's binary: a shell or a tracer with the same words on its command line is no agent.
pub fn find(dir: &Path, program: &OsStr) -> BTreeMap<String, Found> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return found;
    };
    for entry in entries.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if let Some((name, agent)) = agent(pid, dir, program) {
            found.insert(name, agent);
        }
    }
    found
}

fn agent(pid: i32, dir: &Path, program: &OsStr) -> Option<(String, Found)> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let cmdline = fs::read(proc.join("cmdline"))
        .ok()
        .filter(|text| !text.is_empty())?;
    let args: Vec<&OsStr> = cmdline
        .split(|byte| *byte == 0)
        .map(OsStr::from_bytes)
        .collect();
    let data_dir = value(&args, "data-dir")?;
    let cwd = fs::read_link(proc.join("cwd")).ok()?;
    let data_dir = cwd.join(data_dir);
    let name = data_dir.file_name()?.to_str()?.to_owned();
    let parent = fs::canonicalize(data_dir.parent()?).ok()?;
    // A binary that was built anew while it runs shows as "agent (deleted)".
    let exe = fs::read_link(proc.join("exe")).ok()?;
    let exe = exe
        .file_name()?
        .to_str()?
        .trim_end_matches(" (deleted)")
        .to_owned();
    if parent != dir || OsStr::new(&exe) != program {
        return None;
    }
    let found = Found {
        identity: Identity {
            pid,
            started: started(pid)?,
        },
        bootstrap: switch(&args, "bootstrap"),
        revision: environment(&proc, REVISION).unwrap_or_default(),
        bind: value(&args, "bind").and_then(|bind| bind.to_str().map(str::to_owned)),
    };
    Some((name, found))
}

/// The word of a flag without its dashes, and what follows an equals sign.
fn flag(arg: &OsStr) -> Option<(&[u8], Option<&OsStr>)> {
    let word = arg.as_bytes().strip_prefix(b"-")?;
    let word = word.strip_prefix(b"-").unwrap_or(word);
    match word.iter().position(|byte| *byte == b'=') {
        Some(at) => Some((
            word.get(..at)?,
            Some(OsStr::from_bytes(word.get(at + 1..)?)),
        )),
        None => Some((word, None)),
    }
}

fn value<'a>(args: &[&'a OsStr], name: &str) -> Option<&'a OsStr> {
    let at = args
        .iter()
        .position(|arg| flag(arg).is_some_and(|(word, _)| word == name.as_bytes()))?;
    let (_, value) = flag(args[at])?;
    value.or_else(|| args.get(at + 1).copied())
}

fn switch(args: &[&OsStr], name: &str) -> bool {
    let given = args
        .iter()
        .filter_map(|arg| flag(arg))
        .rfind(|(word, _)| *word == name.as_bytes());
    given.is_some_and(|(_, value)| {
        value.is_none_or(|value| !matches!(value.as_bytes(), b"false" | b"0" | b"f"))
    })
}

fn environment(proc: &Path, name: &str) -> Option<String> {
    let text = fs::read(proc.join("environ")).ok()?;
    let own = text
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(own.to_vec()).ok()
}

/// Start time of a process that lives. A zombie does not, but for its other threads: until the last of them has ended
/// its sockets are still bound.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, and may hold anything. Of the others the third is the state, the 20th
    // the number of threads, the 22nd the start.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    let ended = matches!(state, "X" | "x") || (state == "Z" && threads <= 1);
    (!ended).then_some(started)
}

impl Identity {
    /// Of a process that was just started; it cannot be another while it is not waited for.
    pub fn of(child: &Child) -> Option<Self> {
        let pid = i32::try_from(child.id()).ok()?;
        Some(Identity {
            pid,
            started: started(pid)?,
        })
    }

    /// Whether this very process still lives.
    pub fn lives(self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// How long it has been running.
    pub fn uptime(self) -> Duration {
        let now = fs::read_to_string("/proc/uptime").ok();
        let now = now
            .and_then(|text| text.split_ascii_whitespace().next()?.parse::<f64>().ok())
            .unwrap_or(0.0);
        // Exact enough: 2^53 ticks are three million years.
        let since = self.started as f64 / TICKS_PER_SECOND;
        Duration::try_from_secs_f64(now - since).unwrap_or_default()
    }

    /// Signals this very process; false when it is gone. The descriptor is opened before the start time is compared,
    /// so the signal cannot reach another process with the same number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn signal(self, signal: Signal) -> std::io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(false);
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if !self.lives() {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Starts an agent in a process group of its own, so that a Ctrl-C meant for the operator does not reach it. What it
/// prints is appended to `log`.
///
/// # Errors
/// The log cannot be opened or the program not be started.
pub fn start(
    program: &Path,
    args: &[String],
    revision: &str,
    log: &Path,
) -> std::io::Result<Child> {
    let out = fs::OpenOptions::new().create(true).append(true).open(log)?;
    let err = out.try_clone()?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env(REVISION, revision)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0);
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'a>(text: &'a [&'a str]) -> Vec<&'a OsStr> {
        text.iter().map(OsStr::new).collect()
    }

    #[test]
    fn flags_are_read_in_all_their_spellings() {
        let args = words(&[
            "agent",
            "-server",
            "--bootstrap",
            "-data-dir=/a/b",
            "--bind",
            "127.0.0.1",
        ]);
        assert_eq!(value(&args, "data-dir"), Some(OsStr::new("/a/b")));
        assert_eq!(value(&args, "bind"), Some(OsStr::new("127.0.0.1")));
        assert!(switch(&args, "bootstrap"));
        assert!(!switch(&words(&["agent", "-bootstrap=false"]), "bootstrap"));
        assert!(!switch(
            &words(&["agent", "-bootstrap-expect=3"]),
            "bootstrap"
        ));
        assert!(!switch(&words(&["agent", "bootstrap"]), "bootstrap"));
    }

    #[test]
    fn a_process_is_known_by_number_and_start_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        let identity = Identity {
            pid: own,
            started: started(own).unwrap(),
        };
        assert!(identity.lives());
        let another = Identity {
            started: identity.started + 1,
            ..identity
        };
        assert!(!another.lives());
        assert!(
            !another.signal(Signal::TERM).unwrap(),
            "never signalled: this test would be gone"
        );
        assert!(identity.uptime() < Duration::from_secs(86_400));
    }

    #[test]
    fn a_child_that_ended_and_was_not_waited_for_does_not_live() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = start(Path::new("/bin/true"), &[], "r", &dir.path().join("log")).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while started(pid).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn an_agent_is_found_by_its_data_dir_and_its_revision_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(dir.path()).unwrap();
        let data = folder.join("demo-server-1");
        let args = [
            "-c",
            "read line",
            "-data-dir",
            data.to_str().unwrap(),
            "-bootstrap",
        ]
        .map(str::to_owned);
        // Blocks on its standard input, which is held open here.
        let mut command = Command::new("/bin/sh");
        command
            .args(&args)
            .env(REVISION, "abc")
            .stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The parent goes on before the kernel has laid out the child's arguments and environment.
        let environ = format!("/proc/{}/environ", child.id());
        while fs::read(&environ).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let shell = fs::read_link(format!("/proc/{}/exe", child.id())).unwrap();
        let found = find(&folder, shell.file_name().unwrap());
        let other = find(&folder, OsStr::new("agent"));
        child.kill().unwrap();
        child.wait().unwrap();
        let agent = found.get("demo-server-1").unwrap();
        assert_eq!((agent.revision.as_str(), agent.bootstrap), ("abc", true));
        assert!(other.is_empty(), "another program is no agent");
        assert!(!agent.identity.lives());
    }
}
