use proptest::prelude::*;

use super::*;
use crate::env::{Random as _, SeededRandom};

fn at(x: f64, height: f64, adjustment: f64) -> Coordinate {
    let mut coordinate = Coordinate {
        height,
        adjustment,
        ..Coordinate::default()
    };
    coordinate.vec[0] = x;
    coordinate
}

/// Nodes that measure each other in turns, with the true times given by `rtt`; afterwards their coordinates.
fn converge(
    nodes: usize,
    rounds: usize,
    seed: u64,
    rtt: impl Fn(usize, usize) -> f64,
) -> Vec<Coordinate> {
    let random = SeededRandom::new(seed);
    let mut all = vec![Vivaldi::default(); nodes];
    for _ in 0..rounds {
        for a in 0..nodes {
            let b = (a + 1 + random.below(nodes as u64 - 1) as usize) % nodes;
            let other = *all[b].coordinate();
            let mut unit = || random.below(1 << 20) as f64 / f64::from(1 << 20);
            let time = Duration::from_secs_f64(rtt(a, b));
            all[a].update(Uuid::from_u128(b as u128), &other, time, &mut unit);
        }
    }
    all.iter().map(|one| *one.coordinate()).collect()
}

/// The mean of |estimate - truth| / truth over all pairs.
fn wrongness(found: &[Coordinate], rtt: impl Fn(usize, usize) -> f64) -> f64 {
    let pairs = (0..found.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let errors: Vec<f64> = pairs
        .map(|(a, b)| (found[a].distance(&found[b]) - rtt(a, b)).abs() / rtt(a, b))
        .collect();
    errors.iter().sum::<f64>() / errors.len() as f64
}

#[test]
fn distance_is_place_height_and_adjustment() {
    let (a, b) = (at(0.1, 0.01, 0.0), at(-0.2, 0.02, 0.0));
    assert!((a.distance(&b) - 0.33).abs() < 1e-12);
    let adjusted = at(-0.2, 0.02, -0.03);
    assert!((a.distance(&adjusted) - 0.30).abs() < 1e-12);
    let absurd = at(-0.2, 0.02, -9.0);
    assert!(
        (a.distance(&absurd) - 0.33).abs() < 1e-12,
        "no time is negative"
    );
    assert_eq!(a.rtt(&b), Duration::from_secs_f64(a.distance(&b)));
}

#[test]
fn nodes_on_a_line_find_their_places() {
    let rtt = |a: usize, b: usize| 0.01 * a.abs_diff(b) as f64;
    let found = converge(10, 1000, 1, rtt);
    let wrong = wrongness(&found, rtt);
    assert!(wrong < 0.05, "{wrong}");
}

#[test]
fn two_datacenters_are_told_apart() {
    let rtt = |a: usize, b: usize| if a / 8 == b / 8 { 0.001 } else { 0.100 };
    let found = converge(16, 1000, 2, rtt);
    let far = found[0].distance(&found[15]);
    let near = found[0].distance(&found[7]);
    assert!(
        (0.090..0.110).contains(&far) && near < 0.010,
        "{near} {far}"
    );
}

#[test]
fn one_slow_answer_moves_nobody() {
    let mut one = Vivaldi::default();
    let (peer, other) = (Uuid::from_u128(1), at(0.0, 10e-6, 0.0));
    let mut half = || 0.7;
    for _ in 0..50 {
        one.update(peer, &other, Duration::from_millis(10), &mut half);
    }
    let before = one.coordinate().distance(&other);
    one.update(peer, &other, Duration::from_secs(9), &mut half);
    assert!((one.coordinate().distance(&other) - before).abs() < 0.001);
    let placed = *one.coordinate();
    one.update(peer, &other, Duration::from_secs(11), &mut half);
    assert_eq!(*one.coordinate(), placed, "not believed");
}

#[test]
fn what_is_no_place_is_left_out() {
    let mut one = Vivaldi::default();
    let mut half = || 0.5;
    let broken = at(f64::NAN, 0.0, 0.0);
    one.update(Uuid::nil(), &broken, Duration::from_millis(1), &mut half);
    assert_eq!(*one.coordinate(), Coordinate::default());
    let huge = at(f64::MAX, f64::MAX, 0.0);
    one.update(Uuid::nil(), &huge, Duration::from_millis(1), &mut half);
    assert!(one.coordinate().is_valid());
    assert_eq!(Coordinate::from_numbers(broken.numbers()), None);
    let good = at(0.1, 0.2, 0.3);
    assert_eq!(Coordinate::from_numbers(good.numbers()), Some(good));
}

#[test]
fn the_nearest_come_first_and_those_without_a_place_last() {
    let places = [at(0.0, 0.0, 0.0), at(0.5, 0.0, 0.0), at(0.1, 0.0, 0.0)];
    let named = ["Own", "far", "near"].into_iter().zip(&places);
    let nearness = Nearness::new("own", named.clone()).unwrap();
    let mut entries = ["z", "far", "NEAR", "a", "own"];
    nearness.sort(&mut entries, |entry| entry);
    assert_eq!(entries, ["own", "NEAR", "far", "z", "a"]);
    assert!(Nearness::new("z", named).is_none());
}

#[test]
fn consuls_json() {
    let json = serde_json::to_string(&at(0.5, 0.25, 0.125)).unwrap();
    assert_eq!(
        json,
        r#"{"Vec":[0.5,0.0,0.0,0.0,0.0,0.0,0.0,0.0],"Error":1.5,"Adjustment":0.125,"Height":0.25}"#
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nodes_anywhere_on_a_plane_converge(
        places in proptest::collection::vec((0.0..0.1_f64, 0.0..0.1_f64), 4..12),
        seed in any::<u64>(),
    ) {
        // A millisecond of access line on either side, so that no two nodes are at the same place.
        let rtt = |a: usize, b: usize| {
            let ((ax, ay), (bx, by)) = (places[a], places[b]);
            (ax - bx).hypot(ay - by) + 0.002
        };
        let start = vec![Coordinate::default(); places.len()];
        let found = converge(places.len(), 600, seed, rtt);
        prop_assert!(found.iter().all(Coordinate::is_valid));
        let (before, after) = (wrongness(&start, rtt), wrongness(&found, rtt));
        prop_assert!(after < 0.25 && after < before, "{} then {}", before, after);
    }

    #[test]
    fn distance_is_the_same_both_ways_and_never_negative(
        a in proptest::array::uniform11(-1.0..1.0_f64),
        b in proptest::array::uniform11(-1.0..1.0_f64),
    ) {
        let height = |mut numbers: [f64; 11]| {
            numbers[10] = numbers[10].abs();
            Coordinate::from_numbers(numbers).unwrap()
        };
        let (a, b) = (height(a), height(b));
        prop_assert!((a.distance(&b) - b.distance(&a)).abs() < 1e-12);
        prop_assert!(a.distance(&b) >= 0.0);
    }
}
