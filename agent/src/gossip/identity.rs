//! Who a member is to SWIM: the node, which of its lives, and where it listens.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use uuid::Uuid;

/// One life of one node.
///
/// The node id is foca's *address*: it never changes, so a node that comes back elsewhere replaces itself instead
/// of appearing twice. Every life has a higher generation than the one before, which is what lets a node that was
/// declared dead return at once.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The Consul node id.
    pub(crate) id: Uuid,
    /// Node name.
    pub(crate) name: Arc<str>,
    /// Where its gossip listens.
    pub(crate) addr: SocketAddr,
    /// Which life.
    pub(crate) generation: u64,
}

impl Identity {
    /// The same node in a later life.
    pub(crate) fn with_generation(&self, generation: u64) -> Self {
        Self {
            generation,
            ..self.clone()
        }
    }

    /// The name as it is compared: without regard to case.
    pub(crate) fn folded_name(&self) -> String {
        fold(&self.name)
    }
}

/// A node name as it is compared.
pub(crate) fn fold(name: &str) -> String {
    name.to_lowercase()
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.name, self.addr, self.generation)
    }
}

impl foca::Identity for Identity {
    type Addr = Uuid;

    fn renew(&self) -> Option<Self> {
        Some(self.with_generation(self.generation.checked_add(1)?))
    }

    fn addr(&self) -> Uuid {
        self.id
    }

    /// Two processes that were given the same id and generation by mistake are told apart by address and name, so
    /// that all members keep the same one.
    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.generation, self.addr, &self.name) > (other.generation, other.addr, &other.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Identity as _;

    fn identity(generation: u64) -> Identity {
        Identity {
            id: Uuid::from_u128(1),
            name: "A".into(),
            addr: "127.0.0.1:8301".parse().unwrap(),
            generation,
        }
    }

    #[test]
    fn a_renewed_identity_wins_over_the_old_one() {
        let old = identity(7);
        let new = old.renew().unwrap();
        assert!(new.win_addr_conflict(&old));
        assert!(!old.win_addr_conflict(&new));
        assert_eq!(old.addr(), new.addr());
    }

    #[test]
    fn an_equal_generation_is_decided_the_same_way_from_both_sides() {
        let one = identity(7);
        let other = Identity {
            addr: "127.0.0.2:8301".parse().unwrap(),
            ..identity(7)
        };
        assert_ne!(one.win_addr_conflict(&other), other.win_addr_conflict(&one));
    }

    #[test]
    fn the_last_generation_has_no_successor() {
        assert_eq!(identity(u64::MAX).renew(), None);
    }
}
