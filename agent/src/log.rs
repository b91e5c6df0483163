//! The log: Consul's line format, levels that change at run time, and the hub that `monitor` listens to.
//!
//! Every event names its module as the tracing target: `tracing::info!(target: "raft", ...)`. The modules are agent, connect,
//! consul, raft, serf, http, dns and rpc. What libraries say is kept back, see `log/line.rs`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::config::LogSettings;

pub mod line;
#[cfg(test)]
mod tests;
mod told;

use line::Line;
pub use told::Told;

/// Lines that wait for one slow `monitor`; more are dropped and counted. Consul keeps as many.
const MONITOR_QUEUE_LINES: usize = 512;

/// Handle of the process's log. Cloning is cheap.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    /// Rank of the least important level that the console and the file show.
    level: AtomicU8,
    /// Rank of the least important level that anybody wants, monitors included.
    wanted: AtomicU8,
    json: bool,
    console: Box<dyn Fn(&str) + Send + Sync>,
    file: Mutex<Option<LogFile>>,
    monitors: Mutex<Vec<Sink>>,
}

struct LogFile {
    path: PathBuf,
    file: File,
}

/// The hub's side of a [`Monitor`].
struct Sink {
    level: Level,
    json: bool,
    lines: mpsc::Sender<Arc<str>>,
    dropped: Arc<AtomicU64>,
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log file cannot be opened.
    #[error("cannot write to the log file {}: {source}", path.display())]
    OpenFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else has set up tracing in this process before.
    #[error("the log was set up twice in one process")]
    SetUpTwice,
}

impl Log {
    /// Sends the events of this whole process to standard output, and to the file of the settings.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn install(settings: &LogSettings) -> Result<Log, Error> {
        let log = Log::new(settings, Box::new(print_line))?;
        let subscriber = tracing_subscriber::registry().with(log.layer());
        tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::SetUpTwice)?;
        Ok(log)
    }

    /// A log that no event reaches, for nodes without a process of their own (simulations).
    pub fn detached() -> Log {
        Log {
            inner: Arc::new(Inner {
                level: AtomicU8::new(rank(Level::INFO)),
                wanted: AtomicU8::new(rank(Level::INFO)),
                json: false,
                console: Box::new(|_| {}),
                file: Mutex::default(),
                monitors: Mutex::default(),
            }),
        }
    }

    fn new(settings: &LogSettings, console: Box<dyn Fn(&str) + Send + Sync>) -> Result<Log, Error> {
        let file = settings.file.clone().map(open).transpose()?;
        Ok(Log {
            inner: Arc::new(Inner {
                level: AtomicU8::new(rank(settings.level)),
                wanted: AtomicU8::new(rank(settings.level)),
                json: settings.json,
                console,
                file: Mutex::new(file),
                monitors: Mutex::default(),
            }),
        })
    }

    fn layer(&self) -> LineLayer {
        LineLayer(Arc::clone(&self.inner))
    }

    /// Changes the least important level that the console and the file show.
    pub fn set_level(&self, level: Level) {
        self.inner.level.store(rank(level), Ordering::Relaxed);
        self.inner.refresh();
    }

    /// Opens the log file anew, so that one that was moved away (by logrotate) is replaced.
    ///
    /// # Errors
    /// [`Error::OpenFile`]; the old one goes on being used.
    pub fn reopen(&self) -> Result<(), Error> {
        let mut file = lock(&self.inner.file);
        if let Some(old) = &*file {
            *file = Some(open(old.path.clone())?);
        }
        Ok(())
    }

    /// Follows the log from now on, at a level of its own.
    pub fn monitor(&self, level: Level, json: bool) -> Monitor {
        let (sender, lines) = mpsc::channel(MONITOR_QUEUE_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        lock(&self.inner.monitors).push(Sink {
            level,
            json,
            lines: sender,
            dropped: Arc::clone(&dropped),
        });
        self.inner.refresh();
        Monitor {
            lines,
            dropped,
            json,
            log: Arc::clone(&self.inner),
        }
    }
}

/// A follower of the log; dropping it ends that.
pub struct Monitor {
    lines: mpsc::Receiver<Arc<str>>,
    dropped: Arc<AtomicU64>,
    json: bool,
    log: Arc<Inner>,
}

impl Monitor {
    /// The next line, with its line end. Cancel safe.
    ///
    /// Where lines were dropped because this was called too rarely, a line that says how many stands in their place.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let line = Line {
                unix_ms: now_ms(),
                level: Level::WARN,
                module: "agent",
                message: "log lines were dropped, because this monitor reads too slowly".into(),
                fields: vec![("count", dropped.into())],
            };
            return Some(line.print(self.json).into());
        }
        self.lines.recv().await
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.lines.close();
        lock(&self.log.monitors).retain(|sink| !sink.lines.is_closed());
        self.log.refresh();
    }
}

impl Inner {
    /// Works out anew which events anybody wants, and tells tracing, which remembers the answer for each place in the code.
    fn refresh(&self) {
        let monitors = lock(&self.monitors)
            .iter()
            .map(|sink| rank(sink.level))
            .max();
        let level = self.level.load(Ordering::Relaxed);
        self.wanted
            .store(level.max(monitors.unwrap_or(0)), Ordering::Relaxed);
        tracing_core::callsite::rebuild_interest_cache();
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let (_, level) = line::shown_as(metadata.target(), *metadata.level());
        rank(level) <= self.wanted.load(Ordering::Relaxed)
    }

    fn write(&self, line: &Line<'_>) {
        // Each form is made at most once, however many want it.
        let (mut text, mut json) = (None, None);
        let mut form = |as_json: bool| -> Arc<str> {
            let slot = if as_json { &mut json } else { &mut text };
            Arc::clone(slot.get_or_insert_with(|| line.print(as_json).into()))
        };
        if rank(line.level) <= self.level.load(Ordering::Relaxed) {
            let printed = form(self.json);
            (self.console)(&printed);
            if let Some(file) = &mut *lock(&self.file) {
                // A full disk must not stop the node, and there is nowhere left to complain.
                let _ = file.file.write_all(printed.as_bytes());
            }
        }
        for sink in lock(&self.monitors).iter() {
            if line.level <= sink.level && sink.lines.try_send(form(sink.json)).is_err() {
                sink.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The tracing side.
struct LineLayer(Arc<Inner>);

impl<S: Subscriber> Layer<S> for LineLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Spans are never printed. Refusing them keeps openraft's many off the hot path. What is left is events, and
        // the question of `enabled!` whether one would be printed.
        match !metadata.is_span() && self.0.wants(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !metadata.is_span() && self.0.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // A library's warning may be shown as DEBUG, but never anything as more important than it was said.
        Some(match self.0.wanted.load(Ordering::Relaxed) {
            0 => LevelFilter::ERROR,
            1 => LevelFilter::WARN,
            2 => LevelFilter::INFO,
            3 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.write(&Line::of(event, now_ms()));
    }
}

fn print_line(line: &str) {
    // A closed pipe must not stop the node.
    let _ = io::stdout().lock().write_all(line.as_bytes());
}

fn open(path: PathBuf) -> Result<LogFile, Error> {
    match OpenOptions::new().create(true).append(true).open(&path) {
        Ok(file) => Ok(LogFile { path, file }),
        Err(source) => Err(Error::OpenFile { path, source }),
    }
}

/// 0 for ERROR to 4 for TRACE.
fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 0,
        Level::WARN => 1,
        Level::INFO => 2,
        Level::DEBUG => 3,
        Level::TRACE => 4,
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
