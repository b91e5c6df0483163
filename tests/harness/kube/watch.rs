use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Connection;

/// Longest that one watch stays open; then it is opened anew where it ended.
const WATCH_SECONDS: u64 = 5;

/// Longest without an answer on a connection.
const SILENCE: Duration = Duration::from_secs(60);

/// One thing that happened to an object.
#[derive(Debug, Clone)]
pub struct Event {
    /// When it was heard of.
    pub at: Instant,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub what: String,
    /// The object after it.
    pub object: Value,
}

/// A list that is followed from its beginning: every change of every object in it is seen, in order.
pub struct Watch {
    stop: Arc<AtomicBool>,
    events: Arc<Mutex<Vec<Event>>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Follows the list at `path`; `each` is called with every event, and what it answers as an `Err` makes
    /// [`Watch::stop`] panic.
    pub fn start(
        address: SocketAddr,
        path: String,
        mut each: impl FnMut(&Event) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let events = Arc::new(Mutex::new(Vec::new()));
        let thread = std::thread::spawn({
            let (stop, events) = (Arc::clone(&stop), Arc::clone(&events));
            move || {
                let mut follower = Follower::new(address, path);
                while !stop.load(Ordering::Relaxed) {
                    follower.follow(&stop, &mut |event| {
                        each(&event);
                        events.lock().expect("no panic").push(event);
                    });
                }
            }
        });
        Self {
            stop,
            events,
            thread: Some(thread),
        }
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no panic").clone()
    }

    /// Ends it.
    ///
    /// # Panics
    /// When a call of `each` did.
    #[track_caller]
    pub fn stop(mut self) -> Vec<Event> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a watcher found nothing wrong");
        }
        self.events()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Follower {
    address: SocketAddr,
    path: String,
    /// Where to go on; empty: list first.
    version: String,
    known: BTreeMap<String, Value>,
}

impl Follower {
    fn new(address: SocketAddr, path: String) -> Self {
        Self {
            address,
            path,
            version: String::new(),
            known: BTreeMap::new(),
        }
    }

    /// Follows until the server ends the watch or something breaks; the next call goes on.
    fn follow(&mut self, stop: &AtomicBool, each: &mut dyn FnMut(Event)) {
        if self.version.is_empty() && self.list(each).is_err() {
            std::thread::sleep(super::POLL);
            return;
        }
        if self.watch(stop, each).is_err() {
            // Too old a version among other things: what is there is compared with what was known.
            self.version.clear();
        }
    }

    fn list(&mut self, each: &mut dyn FnMut(Event)) -> std::io::Result<()> {
        let reply = Connection::open(self.address, SILENCE)?.request("GET", &self.path, b"")?;
        let mut list: Value = serde_json::from_slice(&reply.body)?;
        let Value::Array(items) = list["items"].take() else {
            return Err(std::io::Error::other("no list"));
        };
        let mut gone = std::mem::take(&mut self.known);
        for object in items {
            let before = gone.remove(&uid(&object));
            if before.as_ref() != Some(&object) {
                let what = if before.is_some() {
                    "MODIFIED"
                } else {
                    "ADDED"
                };
                each(event(what, object.clone()));
            }
            self.known.insert(uid(&object), object);
        }
        for object in gone.into_values() {
            each(event("DELETED", object));
        }
        self.version = text(&list["metadata"]["resourceVersion"]);
        Ok(())
    }

    fn watch(&mut self, stop: &AtomicBool, each: &mut dyn FnMut(Event)) -> std::io::Result<()> {
        let join = if self.path.contains('?') { '&' } else { '?' };
        let path = format!(
            "{}{join}watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
            self.path, self.version
        );
        let mut connection = Connection::open(self.address, SILENCE)?;
        connection.follow(&path)?;
        while let Some(lines) = connection.next_lines()? {
            for line in lines.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
                self.one(serde_json::from_slice(line)?, each)?;
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    fn one(&mut self, mut said: Value, each: &mut dyn FnMut(Event)) -> std::io::Result<()> {
        let what = text(&said["type"]);
        let object = said["object"].take();
        if what == "ERROR" {
            return Err(std::io::Error::other(object.to_string()));
        }
        self.version = text(&object["metadata"]["resourceVersion"]);
        match what.as_str() {
            "BOOKMARK" => return Ok(()),
            "DELETED" => drop(self.known.remove(&uid(&object))),
            _ => drop(self.known.insert(uid(&object), object.clone())),
        }
        each(event(&what, object));
        Ok(())
    }
}

fn event(what: &str, object: Value) -> Event {
    Event {
        at: Instant::now(),
        what: what.to_owned(),
        object,
    }
}

fn uid(object: &Value) -> String {
    text(&object["metadata"]["uid"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
