//! Runs seeds, each in a process of its own, and says how a failed one is run again.

use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rand::SeedableRng as _;

use crate::Scenario;

/// Seeds of each scenario, unless `SEEDS` says otherwise: one to two minutes on two cores.
const DEFAULT_SEEDS: u64 = 6;

/// Something that is wrong on purpose. One of its first seeds must fail.
#[derive(Clone, Copy)]
pub(crate) struct Wrong {
    /// The course of events that shows it.
    pub(crate) scenario: &'static str,
    /// The bug that is to be switched on, where it was put back.
    pub(crate) bug: Option<&'static str>,
    /// Part of what the failure says.
    pub(crate) says: &'static str,
    /// How many seeds may go by.
    pub(crate) seeds: u64,
}

/// What there is to run.
pub(crate) struct Programme {
    /// What must pass.
    pub(crate) scenarios: &'static [(&'static str, Scenario)],
    /// Run only by name.
    pub(crate) aside: &'static [(&'static str, Scenario)],
    /// What must fail.
    pub(crate) wrong: &'static [Wrong],
    /// What must fail where old bugs were put back.
    pub(crate) old_bugs: &'static [Wrong],
}

/// Runs what the environment and the arguments ask for.
pub(crate) fn main(programme: &Programme) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    if let Some(seed) = number("SEED") {
        let all = programme.scenarios.iter().chain(programme.aside);
        for (name, scenario) in all.filter(|(name, _)| is_wanted(name)) {
            let digest = run_here(*scenario, seed);
            println!("{name}: seed {seed}: digest {digest:016x}");
        }
        return ExitCode::SUCCESS;
    }
    tests::self_test();
    if arguments.iter().any(|a| a == "--old-bugs") {
        println!("{} old bugs", programme.old_bugs.len());
        return work(programme.old_bugs.iter().copied().map(Job::Wrong));
    }
    let seeds = number("SEEDS").unwrap_or(DEFAULT_SEEDS);
    let names = programme.scenarios.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names.filter(|name| is_wanted(name)).collect();
    let wrong = programme.wrong.iter().copied();
    let wrong = wrong.filter(|wrong| is_wanted(wrong.scenario));
    let right = (0..seeds).flat_map(|seed| names.iter().map(move |name| Job::Seed(name, seed)));
    println!("{} scenarios, {seeds} seeds each", names.len());
    work(wrong.map(Job::Wrong).chain(right))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
    )
}

/// Runs one seed. From here on the whole process draws its random numbers from it.
fn run_here(scenario: Scenario, seed: u64) -> u64 {
    mad_turmoil::rand::set_rng(rand::rngs::StdRng::seed_from_u64(seed));
    if let Ok(filter) = std::env::var("SIM_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_timer(SimTime)
            .with_ansi(false)
            .init();
    }
    // tokio keeps a task's panic to itself; here every one is a failure.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
    // A fresh thread: hash maps keep their seed in a thread local, and this one has drawn its own already.
    thread::spawn(move || scenario(seed))
        .join()
        .expect("a panic has ended the process")
}

/// Log lines carry the simulated time.
struct SimTime;

impl tracing_subscriber::fmt::time::FormatTime for SimTime {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        write!(w, "{:>9.3}", elapsed.as_secs_f64())
    }
}

/// One thing that a worker does.
enum Job {
    Seed(&'static str, u64),
    Wrong(Wrong),
}

/// Does all of it, with as many workers as there are processors.
fn work(jobs: impl Iterator<Item = Job> + Send) -> ExitCode {
    let queue = Mutex::new(jobs);
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let job = queue.lock().expect("no user panics").next();
                    let passed = match job {
                        None => break,
                        Some(Job::Seed(name, seed)) => passes(name, seed),
                        Some(Job::Wrong(wrong)) => is_found(wrong),
                    };
                    if !passed {
                        failed.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if failed.into_inner() {
        return ExitCode::FAILURE;
    }
    println!("all passed");
    ExitCode::SUCCESS
}

fn run_in_child(name: &str, seed: u64, bug: Option<&str>) -> Output {
    Command::new(std::env::current_exe().expect("this program has a path"))
        .arg(name)
        .env("SEED", seed.to_string())
        .envs(bug.map(|bug| ("OLD_BUG", bug)))
        .output()
        .expect("this program can be started")
}

fn text(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr)
    )
}

/// Runs one seed, some of them twice, and says what went wrong, if something did.
fn passes(name: &str, seed: u64) -> bool {
    let output = run_in_child(name, seed, None);
    if !output.status.success() {
        println!(
            "{}{name}: seed {seed} FAILED ({}): run it again with\n    SEED={seed} cargo test -p tests --test simulation -- {name}",
            text(&output),
            output.status,
        );
        return false;
    }
    // Now and then the same seed again: a failure is of little use if it cannot be repeated.
    if seed.is_multiple_of(10) && run_in_child(name, seed, None).stdout != output.stdout {
        println!("{name}: seed {seed} ran differently the second time");
        return false;
    }
    true
}

/// Whether one of the first seeds fails, and for the right reason.
fn is_found(wrong: Wrong) -> bool {
    let Wrong {
        scenario,
        bug,
        says,
        seeds,
    } = wrong;
    let name = bug.unwrap_or(scenario);
    for seed in 0..seeds {
        let output = run_in_child(scenario, seed, bug);
        if output.status.success() {
            continue;
        }
        let said = text(&output);
        if said.contains(says) {
            println!("{name}: found by seed {seed}");
            return true;
        }
        println!("{said}{name}: seed {seed} FAILED, but not because {says:?}");
        return false;
    }
    println!("{name}: NOT FOUND by {seeds} seeds");
    false
}
