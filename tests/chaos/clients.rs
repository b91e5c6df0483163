//! Clients that read, write, compare and delete a few keys through any server, and note what they saw.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tests::{Http, Op, Random, Registers, Reply, Ticket};

/// Longest one request may take before its outcome counts as unknown.
const PATIENCE: Duration = Duration::from_secs(3);

/// Time between two operations of one client, so that the search for an order stays short.
const PAUSE: Duration = Duration::from_millis(4);

/// Size of the values that make the logs grow, so that a full disk is met soon.
const FILLER: usize = 200_000;

/// What all clients share.
pub(crate) struct Clients {
    servers: Vec<Http>,
    registers: Mutex<Registers>,
    answered: AtomicUsize,
    stop: AtomicBool,
}

/// What became of a request.
enum Came {
    /// An answer to be taken at its word.
    Answer(Reply),
    /// Nothing was done.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Clients {
    pub(crate) fn new(servers: Vec<Http>) -> Self {
        Self {
            servers,
            registers: Mutex::default(),
            answered: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        }
    }

    pub(crate) fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().expect("no client panics")
    }

    /// How many operations have been answered.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// One client, until all are stopped.
    pub(crate) fn run(&self, seed: u64) {
        let mut random = Random::new(seed);
        while self.goes_on() {
            let server = *random.pick(&self.servers);
            let key = self.registers().pick(random.below(1 << 20));
            match random.below(8) {
                0..=2 => self.put(server, &key),
                3 => self.delete(server, &key),
                4 => self.swap(server, &key),
                5 => self.stale(server, &key),
                6 => drop(self.read(server, &key, "consistent")),
                _ => drop(self.read(server, &key, "")),
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Writes large values, each over the one before.
    pub(crate) fn fill(&self, seed: u64) {
        let mut random = Random::new(seed);
        let value = "x".repeat(FILLER);
        while self.goes_on() {
            let server = *random.pick(&self.servers);
            let _ = server.request_within(PATIENCE, "PUT", "/v1/kv/filler", value.as_bytes());
            std::thread::sleep(PAUSE * 5);
        }
    }

    fn send(&self, server: Http, method: &str, path: &str, body: &str) -> Came {
        match server.request_within(PATIENCE, method, path, body.as_bytes()) {
            Ok(reply) if reply.status == 200 || reply.status == 404 => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                Came::Answer(reply)
            }
            // These say that nothing was done, and that must be true.
            Ok(reply) if reply.status == 503 || reply.text().contains("No cluster leader") => {
                Came::Refused
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Came::Refused,
            _ => Came::Unknown,
        }
    }

    fn note(&self, ticket: &Ticket, came: Came, answer: impl FnOnce(Reply) -> Op) {
        match came {
            Came::Answer(reply) => {
                let op = answer(reply);
                self.registers().answer(ticket, op);
            }
            Came::Refused => self.registers().refused(ticket),
            Came::Unknown => self.registers().unknown(ticket),
        }
    }

    fn put(&self, server: Http, key: &str) {
        let (value, ticket) = {
            let mut registers = self.registers();
            let value = registers.fresh_value();
            (value, registers.call(key, Op::Put(value)))
        };
        let path = format!("/v1/kv/{key}?flags={value}");
        let came = self.send(server, "PUT", &path, &value.to_string());
        self.note(&ticket, came, |_| Op::Put(value));
    }

    fn delete(&self, server: Http, key: &str) {
        let ticket = self.registers().call(key, Op::Delete);
        let came = self.send(server, "DELETE", &format!("/v1/kv/{key}"), "");
        self.note(&ticket, came, |_| Op::Delete);
    }

    /// Reads, and writes only if nobody has written meanwhile.
    fn swap(&self, server: Http, key: &str) {
        let Some(found) = self.read(server, key, "consistent") else {
            return;
        };
        let expected = found.map(|(value, _)| value);
        let index = found.map_or(0, |(_, index)| index);
        let (new, ticket) = {
            let mut registers = self.registers();
            let new = registers.fresh_value();
            let done = None;
            let call = Op::Swap {
                expected,
                new,
                done,
            };
            (new, registers.call(key, call))
        };
        let path = format!("/v1/kv/{key}?flags={new}&cas={index}");
        let came = self.send(server, "PUT", &path, &new.to_string());
        self.note(&ticket, came, |reply| Op::Swap {
            expected,
            new,
            done: Some(reply.text().trim() == "true"),
        });
    }

    /// What the key has, with the index that wrote it; `None` without an answer.
    fn read(&self, server: Http, key: &str, mode: &str) -> Option<Option<(u64, u64)>> {
        let ticket = self.registers().call(key, Op::Read(None));
        let came = self.send(server, "GET", &format!("/v1/kv/{key}?{mode}"), "");
        let found = match &came {
            Came::Answer(reply) => Some(entry(reply)),
            _ => None,
        };
        self.note(&ticket, came, |reply| {
            Op::Read(entry(&reply).map(|(value, _)| value))
        });
        found
    }

    fn stale(&self, server: Http, key: &str) {
        let path = format!("/v1/kv/{key}?stale");
        if let Came::Answer(reply) = self.send(server, "GET", &path, "")
            && let Some((value, index)) = entry(&reply)
        {
            let mut registers = self.registers();
            registers.stale(key, value);
            registers.written(index, key, &value.to_le_bytes());
        }
    }
}

/// The value of an entry, which its flags repeat as a number, and the index that wrote it.
fn entry(reply: &Reply) -> Option<(u64, u64)> {
    if reply.status == 404 {
        return None;
    }
    let json = reply.json();
    let number = |name: &str| json[0][name].as_u64().expect("a number");
    Some((number("Flags"), number("ModifyIndex")))
}
