//! What the leader does for tokens: makes the first one, and ends those whose time is over.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::config;
use crate::env::Random;
use crate::state::{Acl, AclGrants, AclStep, AclToken, GLOBAL_MANAGEMENT};

/// Tag of servers that understand commands about tokens. One of before stops at them.
pub const KNOWS_ACL: &str = "ft_acl";

/// Tokens that end with one command.
const ENDED_AT_ONCE: usize = 256;

/// The duty, and what others know of it.
#[derive(Debug)]
pub struct AclDuty {
    enabled: bool,
    initial_management: config::Secret,
    all_know: AtomicBool,
}

impl AclDuty {
    /// With the settings of this server.
    pub fn new(settings: &config::Acl) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            enabled: settings.enabled,
            initial_management: settings.tokens.initial_management.clone(),
            all_know: AtomicBool::new(false),
        })
    }

    /// Notes whether every living server understands commands about tokens.
    pub fn note(&self, all_know: bool) {
        self.all_know.store(all_know, Ordering::Relaxed);
    }

    /// Whether commands about tokens may be proposed.
    pub fn may_begin(&self) -> bool {
        self.all_know.load(Ordering::Relaxed)
    }

    /// What is due, if anything; with `look` also of tokens whose time is over. `seen` is what this leader remembers
    /// between two of these looks; nothing at first.
    pub fn next_step(
        &self,
        acl: &Acl,
        unix_ms: u64,
        look: bool,
        random: &dyn Random,
        seen: &mut Option<u64>,
    ) -> Option<AclStep> {
        if !self.enabled || !self.may_begin() {
            return None;
        }
        if let Some(step) = self.configured_token(acl, unix_ms, random, seen) {
            return Some(step);
        }
        let ended = match look {
            true => acl.expired(unix_ms, ENDED_AT_ONCE),
            false => Vec::new(),
        };
        (!ended.is_empty()).then_some(AclStep::DeleteTokens(ended))
    }
}

impl AclDuty {
    /// The token of the configuration, where it is missing. Looked at once by each leader, and again when another
    /// state was put back: whoever deletes it later has it deleted, and whoever has lost all others starts a server with a
    /// new one.
    fn configured_token(
        &self,
        acl: &Acl,
        unix_ms: u64,
        random: &dyn Random,
        seen: &mut Option<u64>,
    ) -> Option<AclStep> {
        let secret = &self.initial_management.0;
        if secret.is_empty() || *seen == Some(acl.bootstrapped()) {
            return None;
        }
        if acl.token_of(secret).is_some() {
            *seen = Some(acl.bootstrapped());
            return None;
        }
        let token = Box::new(AclToken {
            description: "Initial Management Token".to_owned(),
            ..management(random.uuid(), secret.clone(), unix_ms)
        });
        if acl.bootstrapped() == 0 {
            tracing::info!(target: "acl", "Bootstrapped ACL initial management token from configuration");
            return Some(AclStep::Bootstrap { token, reset: 0 });
        }
        tracing::info!(target: "acl", "Created ACL initial management token from configuration");
        Some(AclStep::SetToken { token, cas: 0 })
    }
}

/// A token that may do everything.
fn management(accessor: uuid::Uuid, secret: String, unix_ms: u64) -> AclToken {
    AclToken {
        accessor,
        secret,
        grants: AclGrants {
            policies: vec![GLOBAL_MANAGEMENT],
            ..AclGrants::default()
        },
        created_ms: unix_ms,
        ..AclToken::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Acl as Settings, Secret, Tokens};
    use crate::env::SeededRandom;
    use crate::state::{Command, Outcome, Stamped, Store};

    fn duty(secret: &str) -> std::sync::Arc<AclDuty> {
        AclDuty::new(&Settings {
            enabled: true,
            tokens: Tokens {
                initial_management: Secret(secret.to_owned()),
                ..Tokens::default()
            },
            ..Settings::default()
        })
    }

    fn next(duty: &AclDuty, store: &Store, seen: &mut Option<u64>) -> Option<AclStep> {
        duty.next_step(store.acl(), 5, true, &SeededRandom::new(1), seen)
    }

    fn apply(store: &mut Store, step: AclStep) -> Outcome {
        let index = store.last_index() + 1;
        let command = Command::Acl(step);
        store.apply(
            index,
            &Stamped {
                unix_ms: 5,
                command,
            },
        )
    }

    #[test]
    fn the_first_token_is_made_once_and_only_when_all_servers_know_tokens() {
        let mut store = Store::default();
        let duty = duty("s");
        let mut seen = None;
        assert_eq!(next(&duty, &store, &mut seen), None);
        duty.note(true);
        let step = next(&duty, &store, &mut seen).unwrap();
        assert_eq!(apply(&mut store, step), Outcome::Done);
        assert!(store.acl().token_of("s").is_some());
        assert_eq!(next(&duty, &store, &mut seen), None);
    }

    #[test]
    fn a_lost_first_token_is_made_again_by_the_next_leader_and_by_no_other() {
        let mut store = Store::default();
        let (first, second) = (duty("s"), duty("other"));
        first.note(true);
        second.note(true);
        let mut seen = None;
        let step = next(&first, &store, &mut seen).unwrap();
        apply(&mut store, step);
        assert_eq!(next(&first, &store, &mut seen), None);
        let accessor = store.acl().token_of("s").unwrap().accessor;
        apply(&mut store, AclStep::DeleteTokens(vec![accessor]));
        assert_eq!(
            next(&first, &store, &mut seen),
            None,
            "a person took it away"
        );
        // All tokens are lost: a server is started with another one, and leads.
        let mut seen = None;
        let step = next(&second, &store, &mut seen).unwrap();
        assert!(matches!(step, AclStep::SetToken { .. }), "{step:?}");
        assert_eq!(apply(&mut store, step), Outcome::Done);
        let token = store.acl().token_of("other").unwrap();
        assert_eq!(token.grants.policies, [GLOBAL_MANAGEMENT]);
        assert_eq!(next(&second, &store, &mut seen), None);
    }

    #[test]
    fn tokens_end_when_their_time_is_over() {
        let (mut store, random) = (Store::default(), SeededRandom::new(1));
        let duty = duty("");
        duty.note(true);
        for (number, end) in [(7, Some(100)), (8, Some(101)), (9, None)] {
            let token = Box::new(AclToken {
                accessor: uuid::Uuid::from_u128(number),
                secret: number.to_string(),
                expires_ms: end,
                ..AclToken::default()
            });
            apply(&mut store, AclStep::SetToken { token, cas: 0 });
        }
        let next = |store: &Store, look| duty.next_step(store.acl(), 100, look, &random, &mut None);
        assert_eq!(next(&store, false), None);
        let step = next(&store, true).unwrap();
        assert_eq!(step, AclStep::DeleteTokens(vec![uuid::Uuid::from_u128(7)]));
        apply(&mut store, step);
        assert_eq!(next(&store, true), None);
    }
}
