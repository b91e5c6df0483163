//! Random changes of valid input for every decoder of bytes from outside, on the stable toolchain.
//!
//! A target says in a word what became of an input; one with a new word joins the pool that further inputs are made
//! from, so that the search gets past the first checks without looking into the program. What was found worth keeping is
//! in `agent/corpus/TARGET/`, and every run begins with it. `FUZZ=100000` tries as many inputs per target (default
//! 2000), `FUZZ_SEED` changes which, `FUZZ_KEEP=1` writes down what is new. A panic is written to `crash-*` there, so that
//! it is met again until it is repaired.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use crate::env::{Random as _, SeededRandom};

/// Inputs tried per target.
const TRIES: u64 = 2000;

/// Outcomes that are told apart; a target with more of them says too much.
const WORDS_MAX: usize = 100;

/// Longest input that is made.
const LEN_MAX: usize = 4096;

/// Numbers at which lengths and counts go wrong.
const EDGES: [u64; 9] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX,
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Gives `target` what is kept under `name`, then `seeds`, then changes of all of these.
///
/// # Panics
/// When the target does.
pub(crate) fn run(name: &str, seeds: &[Vec<u8>], target: impl Fn(&[u8]) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let keep = std::env::var_os("FUZZ_KEEP").is_some();
    let mut fuzzer = Fuzzer {
        folder,
        pool: Vec::new(),
        words: BTreeSet::new(),
        target,
    };
    for path in fuzzer.kept() {
        let input = fs::read(&path).expect("a readable file");
        fuzzer.meet(input, false);
    }
    assert!(!fuzzer.pool.is_empty() || keep, "no corpus for {name}");
    for seed in seeds {
        fuzzer.meet(seed.clone(), keep);
    }
    let random = SeededRandom::new(number("FUZZ_SEED", 1));
    for _ in 0..number("FUZZ", TRIES) {
        let input = change(&fuzzer.pool, &random);
        fuzzer.meet(input, keep);
    }
}

struct Fuzzer<T> {
    folder: PathBuf,
    pool: Vec<Vec<u8>>,
    words: BTreeSet<String>,
    target: T,
}

impl<T: Fn(&[u8]) -> String> Fuzzer<T> {
    fn kept(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    fn meet(&mut self, input: Vec<u8>, keep: bool) {
        let word = match catch_unwind(AssertUnwindSafe(|| (self.target)(&input))) {
            Ok(word) => word,
            Err(panic) => {
                let path = self.write("crash", &input);
                eprintln!("the input is in {}", path.display());
                resume_unwind(panic);
            }
        };
        // Numbers and quoted parts of the input in a sentence make no new one.
        let unquoted: String = word.split(['"', '\'', '`']).step_by(2).collect();
        let word: String = unquoted.chars().filter(|c| !c.is_ascii_digit()).collect();
        let new = self.words.len() < WORDS_MAX && self.words.insert(word);
        if new && keep {
            self.write("kept", &input);
        }
        if new || self.pool.len() < 16 {
            self.pool.push(input);
        }
    }

    fn write(&self, kind: &str, input: &[u8]) -> PathBuf {
        fs::create_dir_all(&self.folder).expect("a writable folder");
        let path = self
            .folder
            .join(format!("{kind}-{:08x}", crc32c::crc32c(input)));
        fs::write(&path, input).expect("a writable file");
        path
    }
}

/// One of the pool, changed a few times.
fn change(pool: &[Vec<u8>], random: &SeededRandom) -> Vec<u8> {
    let below = |bound: usize| random.below(bound as u64) as usize;
    let empty = Vec::new();
    let pick = || pool.get(below(pool.len())).unwrap_or(&empty);
    let mut input = pick().clone();
    for _ in 0..=below(4) {
        let at = below(input.len() + 1);
        match below(8) {
            0 => input.truncate(at),
            1 => input.insert(at, random.next_u64() as u8),
            2 if at < input.len() => input[at] ^= 1 << below(8),
            3 if at < input.len() => drop(input.remove(at)),
            4 if at < input.len() => input[at] = random.next_u64() as u8,
            // An edge of a number, in any width.
            5 => {
                let edge = EDGES[below(EDGES.len())].to_le_bytes();
                for (byte, new) in input[at..].iter_mut().zip(&edge[..1 << below(4)]) {
                    *byte = *new;
                }
            }
            // A part of another input.
            6 => {
                let other = pick();
                let from = below(other.len() + 1);
                let part = other[from..].iter().take(1 + below(64));
                input.splice(at..at, part.copied());
            }
            // A part of itself once more.
            _ => {
                let from = below(input.len() + 1);
                let part: Vec<u8> = input[from..].iter().take(1 + below(64)).copied().collect();
                input.splice(at..at, part);
            }
        }
    }
    input.truncate(LEN_MAX);
    input
}
