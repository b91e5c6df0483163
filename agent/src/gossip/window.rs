//! Which numbers of one sender were taken already. Pure.
//!
//! A sender never takes a number twice in one run, and names each run anew. How far a datagram may be overtaken is bounded
//! by the window: older numbers count as taken.

/// Numbers behind the highest one that are told apart. A member's datagrams to all others share their numbers, so that
/// this is what it sends in several seconds, even in a large pool.
const WINDOW: u64 = 512;
const WORDS: usize = (WINDOW / 64) as usize;

/// What was taken of one sender.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    highest: u64,
    bits: [u64; WORDS],
}

impl Window {
    fn bit(number: u64) -> (usize, u64) {
        let place = number % WINDOW;
        ((place / 64) as usize, 1 << (place % 64))
    }

    /// Whether the number, from 1, is new; it counts as taken from now on.
    pub(super) fn admit(&mut self, number: u64) -> bool {
        if number > self.highest {
            if number - self.highest >= WINDOW {
                self.bits = [0; WORDS];
            } else {
                for passed in self.highest + 1..=number {
                    let (word, bit) = Self::bit(passed);
                    self.bits[word] &= !bit;
                }
            }
            self.highest = number;
        } else if self.highest - number >= WINDOW {
            return false;
        }
        let (word, bit) = Self::bit(number);
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_taken_twice_in_any_order() {
        let mut window = Window::default();
        for number in [1, 3, 2, 10, 9] {
            assert!(window.admit(number), "{number}");
        }
        for number in [1, 2, 3, 9, 10] {
            assert!(!window.admit(number), "{number}");
        }
    }

    #[test]
    fn what_is_behind_the_window_counts_as_taken() {
        let mut window = Window::default();
        assert!(window.admit(1000));
        assert!(window.admit(1000 - WINDOW + 1));
        assert!(!window.admit(1000 - WINDOW));
        assert!(window.admit(u64::MAX));
        assert!(!window.admit(u64::MAX));
        assert!(!window.admit(1001));
    }

    proptest! {
        /// The window against a set of all numbers.
        #[test]
        fn the_window_is_a_set_with_an_end(steps in proptest::collection::vec(1_u64..1500, 1..400)) {
            let (mut window, mut all, mut highest) = (Window::default(), BTreeSet::new(), 0);
            for number in steps {
                let is_behind = highest >= WINDOW && number <= highest - WINDOW;
                let is_new = !is_behind && all.insert(number);
                highest = highest.max(number);
                prop_assert_eq!(window.admit(number), is_new, "{}", number);
            }
        }
    }
}
