use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Faults that are remembered. Beyond that nothing more is told: who makes so many does it on purpose.
const MAX: usize = 64;

/// What was told of whom: a fault that a stranger can cause by the thousand fills no log with the same line.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeSet<(IpAddr, String)>>);

impl Told {
    /// Whether `fault` of this address was not told yet; it counts as told from now on.
    pub fn is_news(&self, from: IpAddr, fault: &str) -> bool {
        // Whole at any time.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < MAX && told.insert((from, fault.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_once_of_each_address_and_there_is_an_end() {
        let told = Told::default();
        let address = |n| IpAddr::from([127, 0, 0, n]);
        assert!(told.is_news(address(1), "version 3"));
        assert!(!told.is_news(address(1), "version 3"));
        assert!(told.is_news(address(1), "version 4"));
        assert!(told.is_news(address(2), "version 3"));
        let more = (0..=255).filter(|n| told.is_news(address(*n), "version 5"));
        assert_eq!(more.count(), MAX - 3);
    }
}
