//! Network coordinates: places in a space in which distance is round-trip time. Pure.
//!
//! Vivaldi (Dabek, Cox, Kaashoek, Morris: "Vivaldi: A Decentralized Network Coordinate System", SIGCOMM 2004) with a height for
//! the way to the core of the network, an adjustment for what the space cannot show, and gravity, so that nobody drifts away
//! from the origin. Every constant is Serf's, so that estimates can be compared.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Dimensions of the space. More do not make estimates better.
pub const DIMENSIONS: usize = 8;
/// How wrong a new coordinate is, and the most that one can be.
const ERROR_MAX: f64 = 1.5;
/// How much one sample counts for the error (the paper's c_e).
const ERROR_SHARE: f64 = 0.25;
/// How much one sample counts for the place (the paper's c_c).
const FORCE_SHARE: f64 = 0.25;
/// Samples whose mean error becomes the adjustment.
const ADJUSTMENT_WINDOW: usize = 20;
/// Lowest height, in seconds.
const HEIGHT_MIN: f64 = 10e-6;
/// Samples of one peer whose median counts, so that a single slow answer moves nobody.
const LATENCY_WINDOW: usize = 3;
/// Distance from the origin, in seconds, at which gravity is a second.
const GRAVITY_RHO: f64 = 150.0;
/// Seconds below which a time says nothing.
const ZERO: f64 = 1e-6;
/// Longest time that is believed.
const RTT_MAX: Duration = Duration::from_secs(10);

/// A place; seconds in all its numbers but the error.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Coordinate {
    /// The place itself.
    pub vec: [f64; DIMENSIONS],
    /// How sure it is: 0 is certain, 1.5 a guess.
    pub error: f64,
    /// Added to every distance.
    pub adjustment: f64,
    /// The way to the space in which the place is.
    pub height: f64,
}

impl Default for Coordinate {
    /// The origin, of which nothing is known.
    fn default() -> Self {
        Self {
            vec: [0.0; DIMENSIONS],
            error: ERROR_MAX,
            adjustment: 0.0,
            height: HEIGHT_MIN,
        }
    }
}

impl PartialEq for Coordinate {
    /// Bit by bit, which is what replicated rows are compared by.
    fn eq(&self, other: &Self) -> bool {
        let bits = |c: &Self| c.numbers().map(f64::to_bits);
        bits(self) == bits(other)
    }
}

impl Eq for Coordinate {}

impl Coordinate {
    /// Every number of it, the place first.
    pub fn numbers(&self) -> [f64; DIMENSIONS + 3] {
        let mut numbers = [0.0; DIMENSIONS + 3];
        numbers[..DIMENSIONS].copy_from_slice(&self.vec);
        numbers[DIMENSIONS..].copy_from_slice(&[self.error, self.adjustment, self.height]);
        numbers
    }

    /// The coordinate with these numbers, if all of them are numbers.
    pub fn from_numbers(numbers: [f64; DIMENSIONS + 3]) -> Option<Self> {
        let mut vec = [0.0; DIMENSIONS];
        vec.copy_from_slice(&numbers[..DIMENSIONS]);
        let coordinate = Self {
            vec,
            error: numbers[DIMENSIONS],
            adjustment: numbers[DIMENSIONS + 1],
            height: numbers[DIMENSIONS + 2],
        };
        coordinate.is_valid().then_some(coordinate)
    }

    /// Whether it is a place at all.
    pub fn is_valid(&self) -> bool {
        self.numbers().iter().all(|number| number.is_finite())
    }

    /// The round-trip time to another place, in seconds.
    pub fn distance(&self, other: &Self) -> f64 {
        let raw = self.raw_distance(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        if adjusted > 0.0 { adjusted } else { raw }
    }

    /// As [`Coordinate::distance`], as a time.
    pub fn rtt(&self, other: &Self) -> Duration {
        Duration::try_from_secs_f64(self.distance(other)).unwrap_or(Duration::MAX)
    }

    /// How far it has come since `before`, in seconds. The error counts for nothing.
    pub fn moved_since(&self, before: &Self) -> f64 {
        magnitude(&difference(&self.vec, &before.vec))
            + (self.height - before.height).abs()
            + (self.adjustment - before.adjustment).abs()
    }

    fn raw_distance(&self, other: &Self) -> f64 {
        magnitude(&difference(&self.vec, &other.vec)) + self.height + other.height
    }

    /// Pushes it away from another place, or for a negative force towards it.
    fn push(&mut self, force: f64, from: &Self, random: &mut dyn FnMut() -> f64) {
        let away = difference(&self.vec, &from.vec);
        let apart = magnitude(&away);
        let direction = match apart > ZERO {
            true => away.map(|x| x / apart),
            false => any_direction(random),
        };
        for (x, d) in self.vec.iter_mut().zip(direction) {
            *x += d * force;
        }
        if apart > ZERO {
            let height = (self.height + from.height) * force / apart + self.height;
            self.height = height.max(HEIGHT_MIN);
        }
    }
}

fn difference(a: &[f64; DIMENSIONS], b: &[f64; DIMENSIONS]) -> [f64; DIMENSIONS] {
    std::array::from_fn(|at| a[at] - b[at])
}

fn magnitude(vec: &[f64; DIMENSIONS]) -> f64 {
    vec.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Two that stand on the same place must part in some direction, and not all in the same one.
fn any_direction(random: &mut dyn FnMut() -> f64) -> [f64; DIMENSIONS] {
    let vec = std::array::from_fn(|_| random() - 0.5);
    let length = magnitude(&vec);
    if length > ZERO {
        return vec.map(|x| x / length);
    }
    let mut vec = [0.0; DIMENSIONS];
    vec[0] = 1.0;
    vec
}

/// A node's own coordinate, and what it has learnt it from.
#[derive(Debug, Clone, Default)]
pub struct Vivaldi {
    coordinate: Coordinate,
    /// The newest errors of distance, oldest first.
    errors: VecDeque<f64>,
    /// The newest times of each peer.
    latencies: BTreeMap<Uuid, VecDeque<f64>>,
    resets: u64,
}

impl Vivaldi {
    /// Where the node is.
    pub fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    /// How often it had to begin anew, because a number was none any more.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Learns from a peer that answered within `rtt` and says that it is at `other`. `random` gives numbers in 0..1.
    /// What cannot be true is left out.
    pub fn update(
        &mut self,
        peer: Uuid,
        other: &Coordinate,
        rtt: Duration,
        random: &mut dyn FnMut() -> f64,
    ) {
        if !other.is_valid() || rtt > RTT_MAX {
            return;
        }
        let rtt = self.filter(peer, rtt.as_secs_f64());
        self.step(other, rtt.max(ZERO), random);
        self.adjust(other, rtt);
        let origin = Coordinate::default();
        let pull = -(origin.distance(&self.coordinate) / GRAVITY_RHO).powi(2);
        self.coordinate.push(pull, &origin, random);
        if !self.coordinate.is_valid() {
            self.coordinate = Coordinate::default();
            self.resets += 1;
        }
    }

    /// Forgets the times of a peer that is gone.
    pub fn forget(&mut self, peer: Uuid) {
        self.latencies.remove(&peer);
    }

    /// The median of a peer's newest times.
    fn filter(&mut self, peer: Uuid, seconds: f64) -> f64 {
        let window = self.latencies.entry(peer).or_default();
        window.push_back(seconds);
        if window.len() > LATENCY_WINDOW {
            window.pop_front();
        }
        let mut sorted: Vec<f64> = window.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    /// The paper's algorithm: who is surer moves less.
    fn step(&mut self, other: &Coordinate, rtt: f64, random: &mut dyn FnMut() -> f64) {
        let own = &mut self.coordinate;
        let distance = own.distance(other);
        let wrong = (distance - rtt).abs() / rtt;
        let weight = own.error / (own.error + other.error).max(ZERO);
        let share = ERROR_SHARE * weight;
        own.error = (wrong * share + own.error * (1.0 - share)).min(ERROR_MAX);
        own.push(FORCE_SHARE * weight * (rtt - distance), other, random);
    }

    /// Half of the mean error: the other side adds its own half.
    fn adjust(&mut self, other: &Coordinate, rtt: f64) {
        self.errors
            .push_back(rtt - self.coordinate.raw_distance(other));
        if self.errors.len() > ADJUSTMENT_WINDOW {
            self.errors.pop_front();
        }
        let sum: f64 = self.errors.iter().sum();
        self.coordinate.adjustment = sum / (2 * ADJUSTMENT_WINDOW) as f64;
    }
}

/// How near nodes are to one of them.
pub struct Nearness {
    from: Coordinate,
    places: BTreeMap<String, Coordinate>,
}

impl Nearness {
    /// Distances from the node `from`, if it has a place. Names are compared without regard to case.
    pub fn new<'a>(
        from: &str,
        places: impl IntoIterator<Item = (&'a str, &'a Coordinate)>,
    ) -> Option<Self> {
        let places: BTreeMap<_, _> = places
            .into_iter()
            .map(|(node, place)| (node.to_lowercase(), *place))
            .collect();
        let from = *places.get(&from.to_lowercase())?;
        Some(Self { from, places })
    }

    /// Brings the nearest to the front. Those that are equally near stay in their order, and those without a place behind.
    pub fn sort<T>(&self, entries: &mut [T], node: impl Fn(&T) -> &str) {
        entries.sort_by_cached_key(|entry| {
            let place = self.places.get(&node(entry).to_lowercase());
            // No distance is negative, so that the bits of two are in the order of their numbers.
            place.map_or(u64::MAX, |place| self.from.distance(place).to_bits())
        });
    }
}

#[cfg(test)]
mod tests;
