//! Progress for a person: one line a step, with its time; below it the lines that prove it.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::driver::local::Evidence;

/// Time that something is waited for before it is said where lines cannot be taken back.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints progress. On a terminal what is being waited for is shown at the foot, and goes when it is over.
pub(super) struct Progress {
    since: Instant,
    terminal: bool,
    foot: bool,
    waiting: Option<(String, Instant, bool)>,
}

impl Progress {
    /// Starts the clock.
    pub(super) fn new() -> Self {
        Progress {
            since: Instant::now(),
            terminal: std::io::stdout().is_terminal(),
            foot: false,
            waiting: None,
        }
    }

    /// A line without a time.
    pub(super) fn say(&mut self, text: &str) {
        self.line(text);
    }

    /// A step, or another event, with its time.
    pub(super) fn step(&mut self, text: &str) {
        self.waiting = None;
        let time = self.since.elapsed().as_secs_f64();
        self.line(&format!("{time:8.2} s  {text}"));
    }

    /// What proves a step.
    pub(super) fn evidence(&mut self, evidence: &[Evidence]) {
        for Evidence { node, line } in evidence {
            self.proof(&format!("{node}: {line}"));
        }
    }

    /// The same, in the operator's own words.
    pub(super) fn proof(&mut self, text: &str) {
        self.line(&format!("            {text}"));
    }

    /// What is waited for. Said once, and only when it lasts.
    pub(super) fn waiting(&mut self, text: &str) {
        let (since, said) = match &self.waiting {
            Some((known, since, said)) if known == text => (*since, *said),
            _ => (Instant::now(), false),
        };
        let time = self.since.elapsed().as_secs_f64();
        if self.terminal {
            self.show(&format!("\r\x1b[K{time:8.2} s  {text} ..."));
            self.foot = true;
        }
        let say = !self.terminal && !said && since.elapsed() > PATIENCE;
        if say {
            self.line(&format!("{time:8.2} s  {text}"));
        }
        self.waiting = Some((text.to_owned(), since, said || say));
    }

    fn line(&mut self, text: &str) {
        let clear = if self.foot { "\r\x1b[K" } else { "" };
        self.foot = false;
        self.show(&format!("{clear}{text}\n"));
    }

    /// Progress that cannot be printed is no reason to leave a cluster half formed.
    fn show(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
