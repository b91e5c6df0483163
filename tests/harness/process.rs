use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};

use crate::wait::{DEADLINE, eventually};

/// A signal that a test sends.
pub use rustix::process::Signal;

/// One line that a process printed.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// Without its line end.
    pub text: String,
    /// Whether it came on stderr.
    pub stderr: bool,
}

/// Longest to wait for the last output of a process that has ended.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Log {
    lines: Vec<Line>,
    open_streams: u8,
}

/// A running program whose output is collected line by line. Dropping it kills it (-9).
pub struct Process {
    name: String,
    child: Mutex<Child>,
    log: Arc<(Mutex<Log>, Condvar)>,
}

impl Process {
    /// Starts `command`; `name` is for messages.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let log = Arc::new((
            Mutex::new(Log {
                lines: Vec::new(),
                open_streams: 2,
            }),
            Condvar::new(),
        ));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        collect(stdout, false, &log);
        collect(stderr, true, &log);
        Self {
            name: name.to_owned(),
            child: Mutex::new(child),
            log,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Sends a signal. A process that has ended gets none.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child();
        // Only while it has not been waited for is the id certainly its own.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&child), signal);
        }
    }

    /// Kills it (-9) and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        {
            let mut child = self.child();
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits for the rest of the output of one that ends. Bounded: a child of its own may have inherited the streams and
    /// live on.
    pub fn drain(&self) {
        let log = self.lines_now();
        drop(
            self.log
                .1
                .wait_timeout_while(log, DRAIN, |log| log.open_streams > 0)
                .expect("no reader panics"),
        );
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        let status = eventually(&format!("{name} ends"), || match self.child().try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("still running".to_owned()),
            Err(e) => Err(e.to_string()),
        });
        self.drain();
        status
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no user panics")
    }

    fn lines_now(&self) -> MutexGuard<'_, Log> {
        self.log.0.lock().expect("no reader panics")
    }

    /// Everything printed so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines_now().lines.clone()
    }

    /// How many lines there are so far: a position for [`Process::wait_for_line_after`].
    pub fn mark(&self) -> usize {
        self.lines_now().lines.len()
    }

    /// How many lines contain `part` so far.
    pub fn count(&self, part: &str) -> usize {
        self.lines_now()
            .lines
            .iter()
            .filter(|line| line.text.contains(part))
            .count()
    }

    /// Everything that came on stderr, as one text.
    pub fn stderr(&self) -> String {
        self.text(true)
    }

    /// Everything that came on stdout, as one text.
    pub fn stdout(&self) -> String {
        self.text(false)
    }

    fn text(&self, stderr: bool) -> String {
        self.lines_now()
            .lines
            .iter()
            .filter(|line| line.stderr == stderr)
            .map(|line| format!("{}\n", line.text))
            .collect()
    }

    /// Waits for a line that contains `part`, printed at any time since the start.
    ///
    /// # Panics
    /// When the process ends, or nothing comes, with the end of its log.
    #[track_caller]
    pub fn wait_for_line(&self, part: &str) -> Line {
        self.wait_for_line_after(0, part)
    }

    /// Waits for a line that contains `part`, printed after `mark`.
    ///
    /// # Panics
    /// As [`Process::wait_for_line`].
    #[track_caller]
    pub fn wait_for_line_after(&self, mark: usize, part: &str) -> Line {
        let start = Instant::now();
        let mut seen = mark;
        let mut log = self.lines_now();
        loop {
            if let Some(line) = log
                .lines
                .get(seen..)
                .and_then(|new| new.iter().find(|line| line.text.contains(part)))
            {
                return line.clone();
            }
            seen = seen.max(log.lines.len());
            let left = DEADLINE.saturating_sub(start.elapsed());
            if log.open_streams == 0 || left.is_zero() {
                let why = if left.is_zero() { "hangs" } else { "has ended" };
                let tail = tail(&log.lines);
                drop(log);
                panic!(
                    "{} {why} without a line that contains {part:?}:\n{tail}",
                    self.name
                );
            }
            log = self
                .log
                .1
                .wait_timeout(log, left)
                .expect("no reader panics")
                .0;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            // The test's own message comes first; what the process said explains it.
            eprintln!("--- {}\n{}", self.name, tail(&self.lines_now().lines));
        }
    }
}

fn tail(lines: &[Line]) -> String {
    let from = lines.len().saturating_sub(80);
    lines[from..]
        .iter()
        .map(|line| format!("    {}\n", line.text))
        .collect()
}

fn collect(stream: impl Read + Send + 'static, stderr: bool, log: &Arc<(Mutex<Log>, Condvar)>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while matches!(stream.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
            let line = Line {
                at: Instant::now(),
                text: String::from_utf8_lossy(&bytes).trim_end().to_owned(),
                stderr,
            };
            bytes.clear();
            log.0.lock().expect("no reader panics").lines.push(line);
            log.1.notify_all();
        }
        log.0.lock().expect("no reader panics").open_streams -= 1;
        log.1.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("sh", command)
    }

    #[test]
    fn lines_of_both_streams_are_found() {
        let mut process = shell("echo one; echo two >&2");
        assert!(!process.wait_for_line("one").stderr);
        assert!(process.wait_for_line("two").stderr);
        assert!(process.wait().success());
        assert_eq!(process.stdout(), "one\n");
    }

    #[test]
    #[should_panic(expected = "has ended without a line")]
    fn a_line_that_cannot_come_any_more_is_not_waited_for() {
        shell("echo one").wait_for_line("two");
    }

    #[test]
    fn a_mark_hides_earlier_lines() {
        let process = shell("echo a 1; echo a 2");
        process.wait_for_line("a 1");
        assert_eq!(process.wait_for_line_after(1, "a ").text, "a 2");
    }

    #[test]
    fn a_killed_process_is_gone() {
        let process = shell("exec sleep 1000");
        let pid = Pid::from_child(&process.child());
        process.kill();
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
