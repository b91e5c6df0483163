//! Do two members know the same? Most of the time they do, and need not tell each other all of it to find that out.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::super::codec::{Digest, Entry, Exchange, FrameKind};
use super::super::identity::Identity;
use super::{Driver, Why};

impl Driver {
    /// Finds out whether `with` knows the same as this node, and if not, has both tell all that they know.
    pub(super) fn compare(&mut self, with: Identity) {
        let request = self.comparison(with.id);
        let why = Why::Compare { with: with.clone() };
        self.send_request(request, &with, FrameKind::Sync, why);
    }

    /// A request that is answered by all that is known only where it differs from what is known here.
    pub(super) fn comparison(&self, with: Uuid) -> Exchange {
        Exchange {
            digest: Some(self.digest()),
            ..self.say_own(Some(with))
        }
    }

    /// The answer to a comparison with somebody who knows what `theirs` stands for.
    pub(super) fn say_what_differs(&self, to: Option<Uuid>, theirs: Digest) -> Exchange {
        let own = self.digest();
        let (states, events) = (theirs.states != own.states, theirs.events != own.events);
        Exchange {
            digest: Some(own),
            ..self.say_known(to, states, events)
        }
    }

    /// `with` has told what is different there, and this node believes it by now. Where it is still not the same,
    /// `with` lacks something; one that says no digest is of an older version, and may.
    pub(super) fn compared(&mut self, with: &Identity, theirs: Option<Digest>) {
        let own = self.digest();
        let states = theirs.is_none_or(|theirs| theirs.states != own.states);
        let events = theirs.is_none_or(|theirs| theirs.events != own.events);
        if states || events {
            let rest = self.say_known(Some(with.id), states, events);
            self.send_request(rest, with, FrameKind::Push, Why::Routine);
        }
    }

    /// All that is known, in short.
    fn digest(&self) -> Digest {
        let events = {
            let ledger = self.ledger.lock();
            sum(ledger.user.known().map(|event| short(event.id.as_bytes())))
        };
        Digest {
            states: sum(self.entries().iter().map(digest_of)),
            events,
        }
    }
}

/// A sum, in which no order counts.
fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::wrapping_add)
}

/// What may differ between what two members know of one. Not how long it has been down: that differs always, and is
/// told where it matters.
fn digest_of(entry: &Entry) -> u64 {
    let (who, record) = (entry.member.id(), entry.record.as_ref());
    // What made a member known as dead is not the same everywhere, and changes nothing.
    let incarnation = match entry.member.state() {
        foca::State::Down => 0,
        _ => entry.member.incarnation(),
    };
    let intent = entry
        .intent
        .map_or((0, 0), |(life, intent)| (life, intent as u8));
    let record = record.map_or((0, 0), |record| {
        (record.generation, record.version.saturating_add(1))
    });
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(who.id.as_bytes());
    bytes.extend_from_slice(&who.generation.to_be_bytes());
    bytes.extend_from_slice(&incarnation.to_be_bytes());
    bytes.push(match entry.member.state() {
        foca::State::Alive => 1,
        foca::State::Suspect => 2,
        foca::State::Down => 3,
    });
    bytes.push(intent.1);
    for number in [intent.0, record.0, record.1] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    short(&bytes)
}

/// The first bytes of what SHA-256 makes of it: the same on every machine and in every version.
fn short(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
