//! Real servers under real faults, in namespaces of their own, while clients read and write: killed (-9), stopped, cut
//! off in one or both directions, with a full disk. What the clients saw must be linearizable, and all servers must
//! have the same in the end.
//!
//! `ROUNDS` (default 6) faults, chosen by `SEED`. The faults follow from the seed; when exactly they strike does not.
//! Needs root and `ip`.

mod clients;
mod net;

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use clients::Clients;
use tests::{Agent, Random, Signal, SmallDisk, eventually, holds, seed};

/// Set in the process that has a network and mounts of its own.
const INSIDE: &str = "CHAOS_INSIDE";

const SERVERS: usize = 3;

const CLIENTS: u64 = 6;

/// Size of the disk of the last server: its log, snapshots and some room.
const DISK_MEBIBYTES: u32 = 192;

/// The log of large values is cut often, so that it fits on the small disk.
const CONFIG: &str = r#"{"raft_snapshot_threshold": 200, "raft_trailing_logs": 50}"#;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        println!("chaos: test");
        return;
    }
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe().expect("this program has a path");
        let error = Command::new("unshare")
            .args(["--net", "--mount", "--"])
            .arg(program)
            .env(INSIDE, "1")
            .exec();
        panic!("cannot run unshare (this test needs root): {error}");
    }
    // Names of namespaces are files: not among anybody else's.
    let _names = SmallDisk::mount("/run/netns".as_ref(), 1);
    tests::self_test();
    net::make(SERVERS);
    let rounds = std::env::var("ROUNDS").map_or(6, |text| text.parse().expect("a number"));
    let mut random = Random::new(seed());
    let mut world = World::form();
    let clients = Clients::new(world.agents.iter().map(Agent::http).collect());
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (clients, seed) = (&clients, random.below(1 << 40) + number);
            scope.spawn(move || clients.run(seed));
        }
        let filler = random.below(1 << 40);
        let filling = &clients;
        scope.spawn(move || filling.fill(filler));
        // Also when a fault finds something wrong, or the clients would go on for ever.
        let stop = StopAtEnd(&clients);
        progress(&clients, 50);
        for round in 1..=rounds {
            let fault = Fault::choose(&mut random);
            println!("round {round}: {fault:?}");
            world.strike(&fault);
            // Long enough for an election, or for none.
            holds(
                "a fault lasts",
                random.time_up_to(Duration::from_secs(3)),
                || Ok::<_, String>(()),
            );
            world.heal(&fault);
            progress(&clients, 100);
        }
        drop(stop);
    });
    world.check_equal();
    clients.registers().check();
    println!("{} operations answered, linearizable", clients.answered());
}

/// Stops the clients when it is dropped.
struct StopAtEnd<'c>(&'c Clients);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn progress(clients: &Clients, more: usize) {
    let from = clients.answered();
    eventually(&format!("{more} more operations are answered"), || {
        let done = clients.answered() - from;
        if done >= more { Ok(()) } else { Err(done) }
    });
}

/// What is done to servers, by number from 1.
#[derive(Debug)]
enum Fault {
    /// Killed at whatever they were doing.
    Kill(Vec<usize>),
    /// Stopped, and continued later.
    Stop(Vec<usize>),
    /// Nothing passes between it and the other servers; clients still reach it.
    Alone(usize),
    /// What it sends to the other servers does not arrive; what they send does.
    Mute(usize),
    /// What the other servers send to it does not arrive; what it sends does.
    Deaf(usize),
    /// These two do not hear each other; the third hears both.
    Apart(usize, usize),
    /// The last server's disk is full.
    Full,
    /// The last server's disk is full, and it is killed.
    FullAndKilled,
}

impl Fault {
    fn choose(random: &mut Random) -> Self {
        let one = 1 + random.below(SERVERS as u64) as usize;
        let other = 1 + one % SERVERS;
        let some = match random.below(4) {
            0 => (1..=SERVERS).collect(),
            1 => vec![one, other],
            _ => vec![one],
        };
        match random.below(9) {
            0 | 1 => Fault::Kill(some),
            2 => Fault::Stop(some),
            3 => Fault::Alone(one),
            4 => Fault::Mute(one),
            5 => Fault::Deaf(one),
            6 => Fault::Apart(one, other),
            7 => Fault::Full,
            _ => Fault::FullAndKilled,
        }
    }

    /// The directions that are cut.
    fn cuts(&self) -> Vec<(usize, usize)> {
        let others = |one: usize| (1..=SERVERS).filter(move |other| *other != one);
        match *self {
            Fault::Alone(one) => others(one).flat_map(|o| [(one, o), (o, one)]).collect(),
            Fault::Mute(one) => others(one).map(|other| (one, other)).collect(),
            Fault::Deaf(one) => others(one).map(|other| (other, one)).collect(),
            Fault::Apart(one, other) => vec![(one, other), (other, one)],
            _ => Vec::new(),
        }
    }
}

/// The servers and what is around them.
struct World {
    agents: Vec<Agent>,
    disk: SmallDisk,
    flags: Vec<String>,
    _folder: tempfile::TempDir,
}

impl World {
    /// A cluster through the manual's steps.
    fn form() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("chaos-")
            .tempdir()
            .expect("a folder");
        let config = folder.path().join("config.json");
        std::fs::write(&config, CONFIG).expect("a writable folder");
        let mut agents: Vec<Agent> = (1..=SERVERS)
            .map(|number| {
                let name = net::namespace(number);
                let data = folder.path().join(&name);
                let mut agent = Agent::new(&name, net::address(number), &data);
                agent.start_through(&["ip", "netns", "exec", &name]);
                agent
            })
            .collect();
        let disk = SmallDisk::mount(&agents[SERVERS - 1].data, DISK_MEBIBYTES);
        let mut flags = vec!["-server".to_owned(), "-config-file".to_owned()];
        flags.push(config.display().to_string());
        for number in 1..=SERVERS {
            flags.extend(["-retry-join".to_owned(), net::address(number).to_string()]);
        }
        agents[0].start(&["-server", "-bootstrap"]);
        agents[0].wait_for_line("consul: cluster leadership acquired");
        let mut world = Self {
            agents,
            disk,
            flags,
            _folder: folder,
        };
        for number in 2..=SERVERS {
            world.start(number);
        }
        world.wait_for_voters();
        // The manual's last step: nobody runs with the flag.
        world.agents[0].kill();
        world.start(1);
        world.wait_for_voters();
        world
    }

    fn start(&mut self, number: usize) {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        self.agents[number - 1].start(&flags);
    }

    fn wait_for_voters(&self) {
        for agent in &self.agents {
            eventually(&format!("{} sees three voters", agent.name), || {
                let voters = agent.voters()?;
                if voters.len() == SERVERS {
                    Ok(())
                } else {
                    Err(format!("{voters:?}"))
                }
            });
        }
    }

    fn strike(&mut self, fault: &Fault) {
        for (from, to) in fault.cuts() {
            net::cut(from, to);
        }
        match fault {
            Fault::Kill(victims) => victims.iter().for_each(|n| self.agents[n - 1].kill()),
            Fault::Stop(victims) => {
                for number in victims {
                    self.agents[number - 1].signal(Signal::STOP);
                }
            }
            Fault::Full => self.disk.fill(),
            Fault::FullAndKilled => {
                self.disk.fill();
                self.agents[SERVERS - 1].kill();
            }
            _ => {}
        }
    }

    fn heal(&mut self, fault: &Fault) {
        for (from, to) in fault.cuts() {
            net::heal(from, to);
        }
        match fault {
            Fault::Kill(victims) => victims.iter().for_each(|number| self.start(*number)),
            Fault::Stop(victims) => {
                for number in victims {
                    self.agents[number - 1].signal(Signal::CONT);
                }
            }
            Fault::Full => self.disk.make_room(),
            Fault::FullAndKilled => {
                self.disk.make_room();
                self.start(SERVERS);
            }
            _ => {}
        }
        for agent in &self.agents {
            assert!(
                agent.is_running(),
                "{} ended by itself: {}",
                agent.name,
                agent.stderr()
            );
        }
    }

    /// Waits until all servers have applied the same, and compares it.
    fn check_equal(&self) {
        self.wait_for_voters();
        let copies = eventually("all servers have applied the same log", || {
            let applied: Vec<String> = self
                .agents
                .iter()
                .map(|agent| agent.info("raft", "applied_index"))
                .collect::<Result<_, _>>()?;
            if applied.iter().any(|index| *index != applied[0]) {
                return Err(format!("{applied:?}"));
            }
            let copy = |agent: &Agent| agent.get("/v1/kv/r/?recurse&stale").text();
            Ok(self.agents.iter().map(copy).collect::<Vec<_>>())
        });
        assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:#?}");
    }
}
