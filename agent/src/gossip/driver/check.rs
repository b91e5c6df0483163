//! Is a suspect really dead? And does somebody that is held for dead really live?
//!
//! SWIM's verdict is final until the member starts a new life, and everybody would notice both. So before it falls
//! the suspect is asked over TCP, and no verdict is taken over from others without that.

use std::io;

use foca::{Incarnation, State};

use super::super::JoinError;
use super::super::codec::{Entry, FrameKind};
use super::super::identity::Identity;
use super::super::swim::{Check, Due};
use super::{Driver, Phase, Why, log_failure};

/// Times the probe interval: how long a member has to refute that somebody else declared it dead.
const RUMOUR_MULT: u32 = 2;
/// How often, one probe interval apart, a machine must say that nobody listens there until that is believed. Once
/// is not enough: a process that is being restarted looks the same for a moment.
const REFUSALS: u32 = 2;
/// Members held for dead that are tried at once because somebody else says that they live. The others get their
/// turn with the failed members.
const REVIVED_MAX: usize = 8;

impl Driver {
    /// Starts to ask a suspect, unless that is going on.
    pub(super) fn suspect(&mut self, check: Check) {
        if self.checking.insert(check.who.id) {
            self.check(check);
        }
    }

    /// Follows up on deaths that others have told of.
    pub(super) fn look_into_rumours(&mut self) {
        let rumours = self.ledger.lock().take_rumours();
        for (who, incarnation) in rumours {
            if self.checking.contains(&who.id) || !self.is_suspect(&who, incarnation) {
                continue;
            }
            let check = Check {
                who,
                incarnation,
                token: self.token,
                rumour: true,
                refusals: 0,
            };
            let after = self
                .health
                .stretch(self.settings.probe_interval * RUMOUR_MULT);
            self.set_timer(after, Due::Swim(check.verdict()));
            self.suspect(check);
        }
    }

    /// Asks a suspect, and tells it that it is one: its answer refutes.
    pub(super) fn check(&mut self, check: Check) {
        if self.phase == Phase::Left || !self.is_suspect(&check.who, check.incarnation) {
            self.checking.remove(&check.who.id);
            return;
        }
        let suspicion = self
            .swim
            .iter_membership_state()
            .find(|member| *member.id() == check.who)
            .map(|member| self.entry(member.clone()));
        let entries = std::iter::once(self.own_entry()).chain(suspicion).collect();
        let who = check.who.clone();
        let request = self.say_hello(Some(who.id), entries);
        self.send_request(request, &who, FrameKind::Fetch, Why::Check(check));
    }

    /// A suspect was asked; `failure` is why there is no answer.
    pub(super) fn checked(&mut self, mut check: Check, failure: Option<&JoinError>) {
        let refused = matches!(failure, Some(JoinError::Connect { source, .. })
            if source.kind() == io::ErrorKind::ConnectionRefused);
        if refused {
            check.refusals += 1;
            if check.refusals < REFUSALS {
                self.set_timer(self.settings.probe_interval, Due::Check(check));
                return;
            }
            // Probes are unanswered, and its machine says that nobody listens: waiting longer would change nothing.
            if self.is_suspect(&check.who, check.incarnation) {
                let result = self.swim.handle_timer(check.verdict(), &mut self.outbox);
                log_failure("verdict", result);
            }
        } else if failure.is_none() && !check.rumour {
            tracing::warn!(
                target: "serf",
                "'{}' at {} answers over TCP but not by datagrams: it is slow, or the network does not let UDP through",
                check.who.name, check.who.addr,
            );
        }
        self.checking.remove(&check.who.id);
    }

    /// Whether foca suspects this life in this incarnation.
    pub(super) fn is_suspect(&self, who: &Identity, incarnation: Incarnation) -> bool {
        self.swim.iter_membership_state().any(|member| {
            member.id() == who
                && member.incarnation() == incarnation
                && member.state() == State::Suspect
        })
    }

    /// Contacts members that others know as living in the very life that is held for dead here: they learn of it,
    /// and start a new one.
    pub(super) fn revive(&mut self, entries: &[Entry]) {
        let living: Vec<Identity> = entries
            .iter()
            .filter(|entry| entry.member.state() == State::Alive)
            .map(|entry| entry.member.id())
            .filter(|who| self.view.seen(who.id) == Some((*who, false)))
            .filter(|who| self.ledger.lock().intent_for(who).is_none())
            .take(REVIVED_MAX)
            .cloned()
            .collect();
        for who in living {
            self.start_exchange(&who, FrameKind::Sync, Why::Routine);
        }
    }
}
