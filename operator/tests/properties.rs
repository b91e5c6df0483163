//! Properties of the planner: the rules hold from any state, and without faults everything ends in `Steady`.

#![allow(clippy::unwrap_used)]

mod fake;

use fake::{Fake, desired};
use operator::observe::*;
use operator::plan::{Step, plan};
use proptest::prelude::*;
use uuid::Uuid;

/// Rounds within which everything must be over: a chain of five servers being rebuilt takes about 200.
const ROUNDS: usize = 2000;

fn name(number: usize) -> String {
    format!("demo-server-{number}")
}

fn configure(fake: &mut Fake, revision: &str) {
    fake.desired.revision = revision.to_owned();
    fake.desired.client_revision = revision.to_owned();
}

#[test]
fn the_manual_sequence_is_taken_in_order() {
    let mut fake = Fake::new(desired(3, 2));
    assert!(fake.run(ROUNDS), "{:?}", fake.steps);
    let words: Vec<_> = fake
        .steps
        .iter()
        .map(|step| {
            format!("{step:?}")
                .split([' ', '('])
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    let expected = [
        "Reserve",
        "StartFirst",
        "Record",
        "StartServers",
        "Join",
        "Join",
        "RestartFirstWithoutBootstrap",
        "StartAgain",
        "Join",
        "StartClients",
        "Join",
        "Join",
        "SetMinQuorum",
    ];
    assert_eq!(words, expected, "{:#?}", fake.steps);
    assert_eq!((fake.formed, fake.flagged(), fake.voters()), (1, 0, 3));
}

#[test]
fn one_server_alone_ends_without_the_flag() {
    let mut fake = Fake::new(desired(1, 0));
    assert!(fake.run(ROUNDS), "{:?}", fake.steps);
    assert_eq!((fake.formed, fake.flagged(), fake.voters()), (1, 0, 1));
}

#[test]
fn servers_come_and_go_one_at_a_time() {
    let mut fake = Fake::new(desired(3, 0));
    assert!(fake.run(ROUNDS));
    for servers in [5, 7, 5, 3, 1, 3] {
        fake.desired.servers = servers;
        assert!(fake.run(ROUNDS), "{servers}: {:?}", fake.steps);
        assert_eq!(
            (fake.voters(), fake.formed, fake.flagged()),
            (servers, 1, 0),
            "{servers}"
        );
    }
}

#[test]
fn a_new_configuration_reaches_everybody_leader_last() {
    let mut fake = Fake::new(desired(3, 1));
    assert!(fake.run(ROUNDS));
    fake.steps.clear();
    configure(&mut fake, "next");
    assert!(fake.run(ROUNDS), "{:?}", fake.steps);
    let stopped: Vec<_> = fake
        .steps
        .iter()
        .filter(|s| {
            matches!(
                s,
                Step::ReplaceServer { .. } | Step::TransferLeader { .. } | Step::StopClient { .. }
            )
        })
        .collect();
    let transfer = stopped
        .iter()
        .position(|s| matches!(s, Step::TransferLeader { .. }));
    assert_eq!((stopped.len(), transfer), (5, Some(2)), "{stopped:?}");
    assert_eq!(fake.voters(), 3);
}

#[test]
fn everybody_killed_at_once_comes_back_as_the_same_cluster() {
    for servers in [1, 3, 5] {
        let mut fake = Fake::new(desired(servers, 1));
        assert!(fake.run(ROUNDS));
        fake.kill_all();
        fake.forget_latch();
        assert!(fake.run(ROUNDS), "{:?}", fake.steps);
        assert_eq!((fake.formed, fake.flagged()), (1, 0));
    }
}

#[test]
fn scaled_down_while_everything_is_dead_still_finds_its_quorum() {
    let mut fake = Fake::new(desired(3, 0));
    assert!(fake.run(ROUNDS));
    fake.kill_all();
    fake.desired.servers = 1;
    assert!(fake.run(ROUNDS), "{:?}", fake.steps);
    assert_eq!((fake.voters(), fake.formed), (1, 1));
}

/// What happens to a cluster while the operator works.
#[derive(Debug, Clone)]
enum Fault {
    Kill(usize),
    KillAll,
    KillClient,
    Wipe(usize),
    SecondBootstrap(usize),
    ForgetLatch,
    Scale(i32),
    Configure(u8),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => (0..7usize).prop_map(Fault::Kill),
        1 => Just(Fault::KillAll),
        1 => Just(Fault::KillClient),
        2 => (0..5usize).prop_map(Fault::Wipe),
        2 => (0..5usize).prop_map(Fault::SecondBootstrap),
        2 => Just(Fault::ForgetLatch),
        2 => (0..2i32).prop_map(|up| Fault::Scale(up * 4 - 2)),
        2 => any::<u8>().prop_map(Fault::Configure),
    ]
}

fn strike(fake: &mut Fake, fault: &Fault) {
    match fault {
        Fault::Kill(number) => fake.kill(&name(*number)),
        Fault::KillAll => fake.kill_all(),
        Fault::KillClient => fake.kill("demo-client-0"),
        Fault::Wipe(number) => fake.wipe(&name(*number)),
        Fault::SecondBootstrap(number) => fake.second_bootstrap(&name(*number)),
        // The record may be lost as long as the cluster itself still tells: that is what a cache means.
        Fault::ForgetLatch if fake.state_anywhere() => fake.forget_latch(),
        Fault::ForgetLatch => {}
        Fault::Scale(by) => {
            let servers = i32::try_from(fake.desired.servers).unwrap() + by;
            fake.desired.servers = usize::try_from(servers.clamp(1, 7)).unwrap();
        }
        Fault::Configure(revision) => configure(fake, &format!("r{revision}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every step is checked against the truth by the fake; here: it ends, as one cluster, without the flag.
    #[test]
    fn after_faults_it_ends_steady_as_one_cluster(
        servers in prop::sample::select(vec![1, 3, 5]),
        clients in 0..2i32,
        faults in prop::collection::vec((0..80usize, fault()), 0..6),
    ) {
        let mut fake = Fake::new(desired(servers, clients));
        for (rounds, fault) in &faults {
            for _ in 0..*rounds {
                fake.step();
            }
            strike(&mut fake, fault);
        }
        let ended = fake.run(ROUNDS);
        prop_assert!(ended, "next: {}\nsteps: {:#?}", plan(&fake.desired, &fake.observe()), fake.steps);
        prop_assert_eq!(fake.flagged(), 0);
        prop_assert_eq!(fake.voters(), fake.desired.servers);
        prop_assert_eq!(fake.clusters_alive().len(), 1);
    }

    /// The operator dies after each of its steps: the planner has no memory, so only the record may be stale. Here the
    /// record is lost as well wherever the cluster can tell, at one random round.
    #[test]
    fn one_bootstrap_only_whatever_round_it_is_restarted_in(servers in prop::sample::select(vec![1, 3, 5]), round in 0..60usize) {
        let mut fake = Fake::new(desired(servers, 1));
        for _ in 0..round {
            fake.step();
        }
        strike(&mut fake, &Fault::ForgetLatch);
        prop_assert!(fake.run(ROUNDS));
        prop_assert_eq!(fake.formed, 1);
        prop_assert_eq!(fake.steps.iter().filter(|s| matches!(s, Step::StartFirst(_))).count(), 1);
    }
}

// Any observation at all, also those that no history leads to.

fn cluster_id() -> impl Strategy<Value = Option<Uuid>> {
    prop::option::of((1..4u128).prop_map(Uuid::from_u128))
}

fn latch() -> impl Strategy<Value = Latch> {
    prop_oneof![
        Just(Latch::Open),
        (0..8usize).prop_map(|n| Latch::Reserved(name(n))),
        (1..4u128).prop_map(|id| Latch::Done(Uuid::from_u128(id))),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    let running = (
        any::<bool>(),
        0..3u8,
        0.0..60.0f64,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(bootstrap, revision, uptime_seconds, stopping, trouble)| {
            Process::Running(Running {
                bootstrap,
                revision: ["", "old", "new"][usize::from(revision)].into(),
                uptime_seconds,
                stopping,
                trouble: if trouble {
                    "ErrImagePull".into()
                } else {
                    String::new()
                },
            })
        });
    prop_oneof![
        1 => Just(Process::Absent),
        1 => (0..5u32).prop_map(|failed_starts| Process::Exited(Exited { failed_starts, error: String::new() })),
        4 => running,
    ]
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![6 => Just(Status::Alive), 1 => Just(Status::Leaving), 1 => Just(Status::Left), 1 => Just(Status::Failed)]
}

fn answers() -> impl Strategy<Value = Answers> {
    let raft = (0..3u8, 0..4u64, 0..4u64, 0..3000u64).prop_map(
        |(role, term, num_peers, last_log_index)| Raft {
            role: [Role::Leader, Role::Follower, Role::Candidate][usize::from(role)],
            term,
            num_peers,
            raft_id: "7".into(),
            last_log_index,
            ..Raft::default()
        },
    );
    let members = prop::collection::vec((0..7usize, status(), any::<bool>(), cluster_id()), 0..8);
    let peers = prop::collection::btree_map(0..8usize, any::<bool>(), 0..8);
    (
        cluster_id(),
        prop::option::weighted(0.9, raft),
        members,
        peers,
    )
        .prop_map(|(cluster, raft, members, peers)| Answers {
            cluster,
            raft,
            members: members
                .into_iter()
                .map(|(n, status, bootstrap, cluster)| Seen {
                    name: name(n),
                    status,
                    server: true,
                    bootstrap,
                    cluster,
                    address: String::new(),
                })
                .collect(),
            peers: peers
                .into_iter()
                .map(|(n, voter)| Peer {
                    name: name(n),
                    voter,
                    ..Peer::default()
                })
                .collect(),
            ..Answers::default()
        })
}

fn agent() -> impl Strategy<Value = Agent> {
    let data = prop::sample::select(vec![RaftData::Absent, RaftData::Blank, RaftData::Present]);
    (process(), data, prop::option::of(answers())).prop_map(|(process, raft_data, answers)| {
        // Only what runs answers.
        let answers = answers.filter(|_| matches!(process, Process::Running(_)));
        Agent {
            process,
            raft_data,
            answers,
            ..Agent::default()
        }
    })
}

fn observed() -> impl Strategy<Value = Observed> {
    let servers = prop::collection::btree_map((0..7usize).prop_map(name), agent(), 0..7);
    let clients = prop::collection::btree_map(
        (0..3usize).prop_map(|n| format!("demo-client-{n}")),
        agent(),
        0..3,
    );
    (latch(), servers, clients).prop_map(|(bootstrap, servers, clients)| Observed {
        bootstrap,
        servers,
        clients,
    })
}

/// Voters of the leader's configuration, whether `stopped` is one, and how many of the others can be counted on:
/// computed anew from the raw data.
fn counted(observed: &Observed, stopped: &str, max_lag: u64) -> (usize, bool, usize) {
    let id = observed.bootstrap.clone();
    let leads = |a: &&Answers| {
        a.raft.as_ref().is_some_and(|r| r.role == Role::Leader)
            && !matches!(id, Latch::Done(id) if a.cluster != Some(id))
    };
    let best = observed
        .servers
        .values()
        .filter_map(|a| a.answers.as_ref())
        .filter(leads)
        .max_by_key(|a| a.raft.as_ref().map(|r| r.term));
    let Some(leader) = best else {
        return (0, true, 0);
    };
    let voters: Vec<_> = leader.peers.iter().filter(|p| p.voter).collect();
    let index = leader.raft.as_ref().map_or(0, |r| r.last_log_index);
    let good = voters.iter().filter(|p| p.name != stopped).filter(|p| {
        let Some(answers) = observed
            .servers
            .get(&p.name)
            .and_then(|a| a.answers.as_ref())
        else {
            return false;
        };
        answers.cluster == leader.cluster
            && answers
                .raft
                .as_ref()
                .is_some_and(|r| r.last_log_index + max_lag >= index)
    });
    (
        voters.len(),
        voters.iter().any(|p| p.name == stopped),
        good.count(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn from_any_observation_the_rules_hold(servers in prop::sample::select(vec![1usize, 3, 5, 7]), observed in observed()) {
        let mut desired = desired(3, 1);
        desired.servers = servers;
        desired.revision = "new".into();
        let step = plan(&desired, &observed);
        let agent = |name: &str| observed.servers.get(name).cloned().unwrap_or_default();
        match &step {
            Step::StartFirst(launch) => {
                prop_assert!(observed.servers.values().all(|a| !a.has_state()), "rule 2");
                prop_assert!(observed.servers.values().all(|a| !a.flagged()), "rule 1");
                prop_assert_eq!(&observed.bootstrap, &Latch::Reserved(launch.name.clone()));
            }
            Step::StartServers(launches) | Step::StartClients(launches) => prop_assert!(launches.iter().all(|l| !l.bootstrap)),
            Step::StartAgain(launch) | Step::RestartDead(launch) => prop_assert!(!launch.bootstrap),
            Step::Join { agent: one, to, .. } => {
                if let (Some(a), Some(b)) = (agent(one).cluster(), agent(to).cluster()) {
                    prop_assert_eq!(a, b, "rule 3");
                }
            }
            Step::RestartFirstWithoutBootstrap { server, .. } | Step::RemoveServer { server } | Step::ReplaceServer { server } => {
                let (voters, votes, good) = counted(&observed, server, desired.max_lag);
                let leaves = usize::from(!matches!(step, Step::ReplaceServer { .. }));
                let alone = voters == 1 && servers == 1;
                // One that does not come up is down already; only its pod is made anew.
                let process = agent(server).running().cloned().unwrap_or_default();
                let down = !process.trouble.is_empty() && agent(server).answers.is_none();
                let down = down && matches!(step, Step::ReplaceServer { .. });
                prop_assert!(down || !votes || alone || good > (voters - leaves) / 2, "rule 4: {step}, {good} of {voters}");
            }
            Step::RepairSecondBootstrap { server, cluster } => {
                prop_assert_eq!(agent(server).cluster(), Some(*cluster));
                prop_assert_ne!(&observed.bootstrap, &Latch::Done(*cluster));
                prop_assert_eq!(agent(server).raft().map_or(0, |r| r.num_peers), 0);
            }
            Step::Steady => {
                let running = (0..7).filter(|n| agent(&name(*n)).running().is_some()).count();
                prop_assert_eq!(running, servers, "steady");
                prop_assert!(observed.servers.values().all(|a| !a.flagged()), "steady with the flag");
            }
            _ => {}
        }
    }
}
