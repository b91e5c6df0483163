//! Certificates of services that an agent has asked for, until they are due for another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Signed;

/// Most services whose certificates are kept. Who comes after that costs another request; no agent has as many.
const KEPT: usize = 1024;

/// A service's certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The service.
    pub service: String,
    /// PEM.
    pub private_key: String,
    /// The certificate.
    pub signed: Signed,
    /// Grows with each new certificate of the service.
    pub index: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// When it is replaced, likewise.
    pub renew_at_ms: u64,
}

/// A certificate in use by several.
pub type SharedLeaf = Arc<Leaf>;

/// When a certificate is replaced that was made at one time and is good until another: between 60% and 90% of that, so
/// that those which were made together are not replaced together. `random` is any number.
pub fn renewal(made_ms: u64, valid_before_ms: u64, random: u64) -> u64 {
    let life = valid_before_ms.saturating_sub(made_ms);
    made_ms + life / 10 * 6 + crate::env::part(life / 10 * 3, random)
}

/// Whether a certificate is to be replaced: its time has come, or another root signs.
pub fn is_due(leaf: &Leaf, now_ms: u64, active_root: Option<&str>) -> bool {
    now_ms >= leaf.renew_at_ms || active_root.is_some_and(|id| id != leaf.signed.root_id)
}

/// The place of one service's certificate. Who holds it is the one that asks for another.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<SharedLeaf>>>;

/// All of them, by service.
#[derive(Default)]
pub struct Leaves(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    by_service: BTreeMap<String, (Slot, u64)>,
    /// How often one was looked at.
    looks: u64,
}

impl Leaves {
    /// The place of a service's certificate.
    pub(crate) fn slot(&self, service: &str) -> Slot {
        // A map is never half changed.
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.looks += 1;
        let looks = slots.looks;
        if let Some((slot, used)) = slots.by_service.get_mut(service) {
            *used = looks;
            return slot.clone();
        }
        if slots.by_service.len() >= KEPT {
            // Of those that nobody holds, the one that was longest not asked for.
            let idle = slots.by_service.iter();
            let idle = idle.filter(|(_, (slot, _))| Arc::strong_count(slot) == 1);
            let oldest = idle.min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(service, _)| service.clone()) {
                slots.by_service.remove(&oldest);
            }
        }
        let slot = Slot::default();
        let place = (slot.clone(), looks);
        slots.by_service.insert(service.to_owned(), place);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf() -> Leaf {
        Leaf {
            service: "web".into(),
            private_key: String::new(),
            signed: Signed {
                serial_number: "1".into(),
                cert: String::new(),
                uri: String::new(),
                valid_after_ms: 940_000,
                valid_before_ms: 2_000_000,
                root_id: "r1".into(),
                index: 5,
            },
            index: 5,
            made_ms: 1_000_000,
            renew_at_ms: 1_700_000,
        }
    }

    #[test]
    fn certificates_are_replaced_between_60_and_90_percent_of_their_life() {
        assert_eq!(renewal(1_000_000, 2_000_000, 0), 1_600_000);
        let last = renewal(1_000_000, 2_000_000, u64::MAX);
        assert!((1_899_000..1_900_000).contains(&last), "{last}");
        assert_eq!(renewal(5, 1, u64::MAX), 5, "of one that is over");
    }

    #[test]
    fn a_certificate_is_due_by_its_time_or_by_another_root() {
        let leaf = leaf();
        assert!(!is_due(&leaf, 1_699_999, Some("r1")));
        assert!(!is_due(&leaf, 1_699_999, None), "the roots are not known");
        assert!(is_due(&leaf, 1_700_000, Some("r1")));
        assert!(is_due(&leaf, 1_000_001, Some("r2")));
    }

    #[test]
    fn what_was_longest_not_asked_for_gives_way() {
        let leaves = Leaves::default();
        let held = leaves.slot("0");
        for service in 1..KEPT {
            leaves.slot(&service.to_string());
        }
        leaves.slot("1");
        leaves.slot("one more");
        let slots = leaves.0.lock().unwrap();
        let kept = |service: &str| slots.by_service.contains_key(service);
        assert_eq!(slots.by_service.len(), KEPT);
        assert!(kept("0") && kept("1") && kept("one more") && !kept("2"));
        drop(held);
    }
}
