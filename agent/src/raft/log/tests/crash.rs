//! The power goes after every single operation on the disk, in every way, and the log is opened again.
//!
//! A script runs against the log and against a model, which notes what the log says after each record. After a crash
//! the log must say what the model said after one of the records, none older than the last acknowledged one; and what
//! it says when it is opened is durable.

use super::*;

/// What a log says.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    committed: Option<LogId>,
    last: Option<LogId>,
    purged: Option<LogId>,
    entries: Vec<Entry>,
}

impl Model {
    async fn of(store: &LogStore) -> Self {
        let entries = all(store).await;
        let index = store.shared().index();
        let standing = index.standing().clone();
        Self {
            vote: standing.vote,
            committed: standing.committed,
            last: standing.last,
            purged: standing.purged,
            entries,
        }
    }

    fn next_index(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    /// The log id at `index`, which is an entry's or the purged one.
    fn log_id(&self, index: u64) -> Option<LogId> {
        let entries = self.entries.iter().map(|entry| entry.log_id);
        entries
            .chain(self.purged)
            .find(|log_id| log_id.index == index)
    }
}

/// What a log may be found to say, and from where on it must.
struct Expected {
    states: Vec<Model>,
    acknowledged: usize,
}

impl Expected {
    fn starting_with(model: Model) -> Self {
        Self {
            states: vec![model],
            acknowledged: 0,
        }
    }

    fn latest(&self) -> &Model {
        self.states.last().unwrap()
    }

    fn note(&mut self, change: impl FnOnce(&mut Model)) {
        let mut next = self.latest().clone();
        change(&mut next);
        self.states.push(next);
    }

    fn acknowledge(&mut self) {
        self.acknowledged = self.states.len() - 1;
    }

    fn check(&self, found: &Model, context: &str) {
        let allowed = &self.states[self.acknowledged..];
        assert!(
            allowed.contains(found),
            "{context}: found {found:#?}\nwhich is none of {} states, of which the first is {:#?}",
            allowed.len(),
            allowed[0]
        );
    }
}

/// Runs random steps, until one fails. Closes the log in the end.
async fn run_script(
    mut store: LogStore,
    disk: &MemoryDisk,
    options: &Options,
    expected: &mut Expected,
    random: &SeededRandom,
) -> io::Result<()> {
    let mut term = 1 + expected.latest().last.map_or(0, |last| last.leader_id.term);
    for _ in 0..STEPS {
        match random.below(16) {
            0..8 => append_some(&mut store, expected, random, term).await?,
            8 => {
                term += 1;
                let vote = Vote::new(term, random.below(3));
                expected.note(|model| model.vote = Some(vote));
                store.save_vote(&vote).await?;
                expected.acknowledge();
            }
            9..11 => {
                let committed = expected.latest().last;
                expected.note(|model| model.committed = committed);
                store.save_committed(committed).await?;
            }
            11..13 => {
                let model = expected.latest();
                let low = model.purged.map_or(0, |purged| purged.index);
                let index = low + random.below(model.next_index().saturating_sub(low));
                if let Some(after) = model.log_id(index) {
                    expected.note(|model| {
                        model.entries.retain(|entry| entry.log_id.index <= index);
                        model.last = Some(after);
                    });
                    store.truncate_after(Some(after)).await?;
                    term += 1;
                }
            }
            13..15 => {
                let model = expected.latest();
                let low = model.purged.map_or(0, |purged| purged.index);
                let index = low + random.below(model.next_index().saturating_sub(low));
                if let Some(upto) = model.log_id(index) {
                    expected.note(|model| {
                        model.entries.retain(|entry| entry.log_id.index > index);
                        model.purged = Some(upto);
                    });
                    store.purge(upto).await?;
                }
            }
            _ => {
                store.close().await;
                store = open(disk, options).map_err(io::Error::from)?;
                expected.acknowledge();
            }
        }
    }
    store.close().await;
    match store.metrics().failure {
        None => expected.acknowledge(),
        Some(failure) => return Err(io::Error::other(failure)),
    }
    Ok(())
}

/// Lengths of payloads whose records are multiples of the shortest record, so that what is left of a torn write often
/// lies where later records end.
const LENGTHS: [usize; 4] = [6, 30, 54, 246];

/// One to three appends at once, of one to four entries each.
async fn append_some(
    store: &mut LogStore,
    expected: &mut Expected,
    random: &SeededRandom,
    term: u64,
) -> io::Result<()> {
    let mut waiting = Vec::new();
    for _ in 0..=random.below(3) {
        let start = expected.latest().next_index();
        let entries: Vec<Entry> = (start..=start + random.below(4))
            .map(|index| entry(term, index, LENGTHS[random.below(4) as usize]))
            .collect();
        for entry in &entries {
            expected.note(|model| {
                model.entries.push(entry.clone());
                model.last = Some(entry.log_id);
            });
        }
        let (result, receiver) = submit(store, entries).await;
        result?;
        waiting.push((expected.states.len() - 1, receiver));
    }
    for (state, receiver) in waiting {
        receiver.await.expect("every callback is called")?;
        expected.acknowledged = expected.acknowledged.max(state);
    }
    Ok(())
}

const STEPS: usize = 25;

/// Small segments change often; in larger ones a torn batch has many sectors.
fn options_of(seed: u64) -> Options {
    options(if seed.is_multiple_of(2) { 1024 } else { 8192 })
}

/// Crashes the script of `seed` after `operations`, then checks what is found, and again after other power losses.
/// Whether the script ended before the power went.
async fn crash_once(seed: u64, operations: u64, keep: Keep<'_>, context: &str) -> bool {
    let options = &options_of(seed);
    let reopen = |disk: &MemoryDisk| {
        open(disk, options).unwrap_or_else(|error| panic!("{context}: {error}"))
    };
    let disk = MemoryDisk::new();
    disk.cut_power_after(operations);
    let mut expected = Expected::starting_with(Model::default());
    let random = SeededRandom::new(seed);
    let ended = match open(&disk, options) {
        Ok(store) => run_script(store, &disk, options, &mut expected, &random)
            .await
            .is_ok(),
        Err(_) => false,
    };
    disk.crash(keep);
    let mut store = reopen(&disk);
    let found = Model::of(&store).await;
    expected.check(&found, context);

    // Opened is durable, whatever was in memory only before, and so is what is written next.
    let mut expected = Expected::starting_with(found);
    if operations.is_multiple_of(2) {
        append_some(&mut store, &mut expected, &random, 1_000)
            .await
            .unwrap();
    }
    disk.crash(Keep::Nothing);
    let store = reopen(&disk);
    expected.check(&Model::of(&store).await, context);

    // Nothing that was lost comes back, however often the power goes.
    let mut expected = Expected::starting_with(Model::of(&store).await);
    disk.cut_power_after(random.below(40));
    let _ = run_script(store, &disk, options, &mut expected, &random).await;
    for _ in 0..3 {
        disk.crash(Keep::Torn(&random));
        let mut store = reopen(&disk);
        let found = Model::of(&store).await;
        expected.check(&found, context);
        expected = Expected::starting_with(found);
        disk.cut_power_after(random.below(4));
        let _ = append_some(&mut store, &mut expected, &random, 2_000).await;
    }
    ended
}

/// How many scripts; each is crashed after each of its operations. More for a night: `LOG_CRASH_SEEDS=1000`.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("LOG_CRASH_SEEDS").ok();
    0..asked.and_then(|seeds| seeds.parse().ok()).unwrap_or(4)
}

fn crash_everywhere(ways: u64, keep: impl for<'a> Fn(&'a SeededRandom) -> Keep<'a>) {
    for seed in seeds() {
        let mut operations = 0;
        let mut ended = false;
        while !ended {
            for way in 0..ways {
                let random = SeededRandom::new(seed * 1_000_000 + operations * 100 + way);
                let context = format!("seed {seed}, operation {operations}, way {way}");
                // A runtime for each, so that writers of crashed disks do not pile up.
                ended = run(crash_once(seed, operations, keep(&random), &context));
            }
            operations += 1;
        }
        assert!(operations > 20, "the script of seed {seed} does something");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_all_that_was_not_synced_is() {
    crash_everywhere(1, |_| Keep::Nothing);
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_and_what_it_leaves_is_made_durable() {
    crash_everywhere(1, |_| Keep::Everything);
}

#[test]
fn nothing_acknowledged_is_lost_or_invented_by_torn_writes() {
    crash_everywhere(4, |random| Keep::Torn(random));
}
