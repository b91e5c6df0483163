//! The core against etcd: speed, tail, processor time, memory and disk traffic of both, measured in turns in one run.
//!
//! `BENCH_CORE_ROUNDS` (default 3) is how often each load is put on, `BENCH_CORE_SECONDS` (default 3) for how long;
//! medians count. `BENCH_CORE_KEYS` (default 1000000) is how many keys there are in the end. Needs Go and wrk.

pub(crate) mod load;
mod peer;
mod usage;
mod waiters;

use std::collections::BTreeMap;

use load::{Op, Plan, Reached, VALUE_BYTES};
use peer::{Etcd, Ours, Peer};
use usage::written_to_disk;
pub(crate) use usage::{Usage, memory};

/// Connections of the loads that are about throughput.
const CONNECTIONS: usize = 64;

/// Keys that the loads go through, and that memory is measured with.
const KEYS: usize = 20_000;

/// Keys at first when the cost of a write is measured as they grow.
const FEW_KEYS: usize = 1000;

/// Which figure of a load the goal is about.
#[derive(Clone, Copy)]
enum Figure {
    /// At least so many times the peer's.
    Rate(f64),
    /// At most so many times the peer's.
    Median(f64),
}

/// One load on ours, and the one on etcd that it is compared with.
struct Subject {
    what: &'static str,
    op: Op,
    at_leader: bool,
    connections: usize,
    goal: Figure,
    /// Number of the subject whose figures of etcd count here too.
    same_as: Option<usize>,
}

const fn subject(
    what: &'static str,
    (op, at_leader, connections): (Op, bool, usize),
    goal: Figure,
    same_as: Option<usize>,
) -> Subject {
    Subject {
        what,
        op,
        at_leader,
        connections,
        goal,
        same_as,
    }
}

#[rustfmt::skip]
const SUBJECTS: [Subject; 6] = [
    subject("PUT, 64 connections, leader", (Op::Put, true, CONNECTIONS), Figure::Rate(5.0), None),
    subject("PUT, 64 connections, follower", (Op::Put, false, CONNECTIONS), Figure::Rate(4.0), Some(0)),
    subject("PUT, 1 connection, leader, median", (Op::Put, true, 1), Figure::Median(0.4), None),
    subject("GET default, 64 connections, leader", (Op::Default, true, CONNECTIONS), Figure::Rate(10.0), Some(4)),
    subject("GET consistent, 64 connections, leader", (Op::Consistent, true, CONNECTIONS), Figure::Rate(6.0), None),
    subject("GET stale, 64 connections, follower", (Op::Stale, false, CONNECTIONS), Figure::Rate(5.0), None),
];

/// A load and what the servers used meanwhile, the leader first.
struct Sample {
    reached: Reached,
    used: [Usage; 3],
    /// Bytes that went to the disk meanwhile.
    written: Option<u64>,
}

impl Sample {
    fn take(peer: &dyn Peer, at_leader: bool, plan: &Plan) -> Self {
        let before = peer.pids().map(Usage::of);
        let disk = written_to_disk();
        let reached = peer.load(at_leader, plan);
        let written = disk.and_then(|before| Some(written_to_disk()? - before));
        let after = peer.pids().map(Usage::of);
        let mut used = after;
        for (used, before) in used.iter_mut().zip(&before) {
            *used = std::mem::take(used) - before;
        }
        Self {
            reached,
            used,
            written,
        }
    }

    /// Seconds on a processor for a thousand requests, all servers together; as many milliseconds a request.
    fn cpu(&self) -> f64 {
        let all: f64 = self.used.iter().map(|used| used.cpu().as_secs_f64()).sum();
        all * 1000.0 / self.reached.requests as f64
    }

    /// Bytes written to the disk, by all three servers, for each byte put.
    fn written(&self) -> f64 {
        let all = self.written.map_or(f64::NAN, |bytes| bytes as f64);
        all / (self.reached.requests as f64 * VALUE_BYTES as f64)
    }
}

/// Samples of one subject, a round each.
#[derive(Default)]
struct Samples {
    ours: Vec<Sample>,
    etcd: Vec<Sample>,
}

/// Runs it all and prints the tables; whether every goal was reached.
pub(crate) fn run() -> bool {
    let rounds = crate::setting("BENCH_CORE_ROUNDS", 3).max(1);
    let seconds = crate::setting("BENCH_CORE_SECONDS", 3).max(1);
    let many = crate::setting("BENCH_CORE_KEYS", 1_000_000) as usize;
    let (etcd, ours) = (Etcd::start(), Ours::start());
    let few = write_costs(&ours, &etcd, FEW_KEYS, seconds);
    for peer in [&etcd as &dyn Peer, &ours] {
        peer.fill(FEW_KEYS, KEYS);
    }
    let samples = put_loads_on(&etcd, &ours, rounds, seconds);
    let largest = |peer: &dyn Peer| peer.pids().map(memory).into_iter().max().unwrap_or(0) as f64;
    let memories = (largest(&ours), largest(&etcd));
    let waited = waiters::measure(ours.leader());
    for peer in [&etcd as &dyn Peer, &ours] {
        peer.fill(KEYS, many);
    }
    let grown = write_costs(&ours, &etcd, many, seconds);
    let reached = print_loads(&samples);
    print_tails(&samples);
    print_profile(&samples[0]);
    let rest = Rest {
        memories,
        waited,
        many,
        growth: (grown.0 / few.0, grown.1 / few.1),
    };
    print_rest(&rest, &samples) & reached
}

/// Every load in turns, so that what the machine does meanwhile counts for both.
fn put_loads_on(etcd: &Etcd, ours: &Ours, rounds: u64, seconds: u64) -> Vec<Samples> {
    let mut all: Vec<Samples> = SUBJECTS.iter().map(|_| Samples::default()).collect();
    for _ in 0..rounds {
        for (subject, samples) in SUBJECTS.iter().zip(&mut all) {
            let plan = Plan {
                op: subject.op,
                connections: subject.connections,
                seconds,
                keys: KEYS,
                first_key: 0,
            };
            if subject.same_as.is_none() {
                let sample = Sample::take(etcd, subject.at_leader, &plan);
                samples.etcd.push(sample);
            }
            let sample = Sample::take(ours, subject.at_leader, &plan);
            samples.ours.push(sample);
        }
    }
    all
}

/// What is measured beside the loads; of pairs, ours first.
struct Rest {
    /// Bytes.
    memories: (f64, f64),
    waited: waiters::Waited,
    /// Keys in the end.
    many: usize,
    /// Cost of a write then, times that at first.
    growth: (f64, f64),
}

/// Whether every goal was reached.
fn print_rest(rest: &Rest, samples: &[Samples]) -> bool {
    println!();
    println!(
        "{:<60}  {:>10}  {:>10}  {:>10}",
        "what else", "etcd", "ours", "goal"
    );
    let mut reached = true;
    let mut row = |what: &str, etcd: f64, ours: f64, goal: f64| {
        let [etcd, shown, wanted] = [etcd, ours, goal].map(|number| {
            if number.is_nan() {
                "-".to_owned()
            } else {
                format!("{number:.2}")
            }
        });
        println!("{what:<60}  {etcd:>10}  {shown:>10}  {wanted:>10}");
        reached &= goal.is_nan() || ours <= goal;
    };
    let Rest {
        memories,
        waited,
        many,
        growth,
    } = rest;
    let megabytes = |bytes: f64| bytes / f64::from(1 << 20);
    row(
        &format!("memory after {KEYS} keys and the load, MB (RSS, largest)"),
        megabytes(memories.1),
        megabytes(memories.0),
        40.0,
    );
    row(
        &format!(
            "{} blocking queries on a key: KB for each",
            waiters::WAITERS
        ),
        f64::NAN,
        waited.bytes_each / 1024.0,
        4.0,
    );
    row(
        "the last of them awake after the write, ms",
        f64::NAN,
        waited.last_awake_ms,
        100.0,
    );
    row(
        &format!("cost of a PUT with {many} keys, times that with {FEW_KEYS}"),
        growth.1,
        growth.0,
        2.0,
    );
    let written = |samples: &[Sample]| median(samples.iter().map(Sample::written));
    for subject in [0, 2] {
        row(
            &format!("{}: bytes to the disk a byte put", SUBJECTS[subject].what),
            written(&samples[subject].etcd),
            written(&samples[subject].ours),
            f64::NAN,
        );
    }
    reached
}

/// Processor time of a PUT while `keys` exist, ours and etcd's.
fn write_costs(ours: &Ours, etcd: &Etcd, keys: usize, seconds: u64) -> (f64, f64) {
    let plan = Plan {
        op: Op::Put,
        connections: CONNECTIONS,
        seconds: seconds * 2,
        keys,
        first_key: 0,
    };
    let cost = |peer: &dyn Peer| Sample::take(peer, true, &plan).cpu();
    (cost(ours), cost(etcd))
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The samples of etcd that a subject is compared with.
fn etcd_of(samples: &[Samples], subject: usize) -> &[Sample] {
    &samples[SUBJECTS[subject].same_as.unwrap_or(subject)].etcd
}

fn print_loads(samples: &[Samples]) -> bool {
    println!();
    println!(
        "{:<40}  {:>10}  {:>10}  {:>7}  {:>7}  {:>12}  {:>12}",
        "load", "etcd", "ours", "ratio", "goal", "etcd CPU/op", "ours CPU/op"
    );
    let mut all = true;
    for (number, subject) in SUBJECTS.iter().enumerate() {
        let (ours, etcd) = (&samples[number].ours, etcd_of(samples, number));
        let figure = |sample: &Sample| match subject.goal {
            Figure::Rate(_) => sample.reached.rate(),
            Figure::Median(_) => sample.reached.p50 / 1e3,
        };
        // Of one round each, so that what the machine does meanwhile counts for both.
        let ratio = median(
            ours.iter()
                .zip(etcd)
                .map(|(ours, etcd)| figure(ours) / figure(etcd)),
        );
        let (goal, met) = match subject.goal {
            Figure::Rate(goal) => (goal, ratio >= goal),
            Figure::Median(goal) => (goal, ratio <= goal),
        };
        all &= met;
        let shown = |samples: &[Sample]| match subject.goal {
            Figure::Rate(_) => format!("{:.0}/s", median(samples.iter().map(figure))),
            Figure::Median(_) => format!("{:.2} ms", median(samples.iter().map(figure))),
        };
        let cpu =
            |samples: &[Sample]| format!("{:.1} us", median(samples.iter().map(Sample::cpu)) * 1e3);
        println!(
            "{:<40}  {:>10}  {:>10}  {ratio:>7.2}  {goal:>7.1}  {:>12}  {:>12}",
            subject.what,
            shown(etcd),
            shown(ours),
            cpu(etcd),
            cpu(ours)
        );
    }
    println!(
        "CPU/op: of all three servers; a microsecond each is a millisecond for a thousand. Disk: all three, and all else that writes."
    );
    all
}

fn print_tails(samples: &[Samples]) {
    println!();
    println!(
        "{:<40}  {:>26}  {:>26}",
        "time in ms (median, 99%, 99.9%)", "etcd", "ours"
    );
    for (number, subject) in SUBJECTS.iter().enumerate() {
        let tail = |samples: &[Sample]| {
            let at = |of: fn(&Reached) -> f64| median(samples.iter().map(|s| of(&s.reached))) / 1e3;
            format!(
                "{:>8.2} {:>8.2} {:>8.2}",
                at(|r| r.p50),
                at(|r| r.p99),
                at(|r| r.p999)
            )
        };
        println!(
            "{:<40}  {:>26}  {:>26}",
            subject.what,
            tail(etcd_of(samples, number)),
            tail(&samples[number].ours)
        );
    }
}

/// Where the time of a PUT at the leader goes, by server and thread.
fn print_profile(puts: &Samples) {
    println!();
    println!("a PUT at the leader, microseconds on a processor by thread");
    let mut times: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    for sample in &puts.ours {
        for (server, used) in sample.used.iter().enumerate() {
            for (thread, time) in &used.threads {
                let each = time.as_secs_f64() * 1e6 / sample.reached.requests as f64;
                times.entry((server, thread)).or_default().push(each);
            }
        }
    }
    for ((server, thread), times) in times {
        let name = ["leader", "follower 1", "follower 2"][server];
        println!(
            "{:<40}  {:>10.1}",
            format!("{name}, {thread}"),
            median(times.into_iter())
        );
    }
}
