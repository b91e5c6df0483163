//! One replica at a time: a Lease of `coordination.k8s.io`, in the way of Kubernetes' own components.
//!
//! No clock of another machine is believed: a Lease counts as abandoned when this process has seen it unchanged for its
//! whole duration. Whoever leads stops writing well before others may take over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

/// Time for which a Lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// Time after the last renewal from which its holder writes nothing any more.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// Time between two renewals, and between two looks at somebody else's.
const INTERVAL: Duration = Duration::from_secs(2);
/// Longest time for one call: two may fail, and the third still renews in time.
const CALL_TIME_MAX: Duration = Duration::from_secs(3);

/// The right to lead, shared with whoever writes.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<Mutex<Option<Instant>>>);

impl Held {
    /// Whether this process may still write.
    pub fn holds(&self) -> bool {
        self.renewed().is_some_and(|at| at.elapsed() < WRITE_TIME)
    }

    fn renewed(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// What to do about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Create,
    Take,
    Renew,
    Wait,
}

/// Decides. `unchanged`: for how long this process has seen the Lease as it is.
fn decide(lease: Option<&LeaseSpec>, own: &str, unchanged: Duration) -> Action {
    let Some(lease) = lease else {
        return Action::Create;
    };
    match lease.holder_identity.as_deref() {
        Some(holder) if holder == own => Action::Renew,
        None | Some("") => Action::Take,
        Some(_) => {
            let seconds = u64::try_from(lease.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
            if unchanged >= Duration::from_secs(seconds).max(DURATION) {
                Action::Take
            } else {
                Action::Wait
            }
        }
    }
}

/// One replica's part in the election.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    held: Held,
    /// The Lease as it was last seen, by its version, and since when.
    seen: Option<(String, Instant)>,
}

impl Elector {
    /// Nothing is sent yet.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Elector {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            held: Held::default(),
            seen: None,
        }
    }

    /// The right to lead, as it is at any moment.
    pub fn held(&self) -> Held {
        self.held.clone()
    }

    /// Waits until this replica leads.
    pub async fn win(&mut self) {
        loop {
            match self.turn().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(lease = self.name, error, "cannot take part in the election")
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Renews until that fails for too long; then another replica may lead, and this one has to end.
    pub async fn keep(&mut self) {
        while self.held.holds() {
            tokio::time::sleep(INTERVAL).await;
            match self.turn().await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(lease = self.name, "another replica leads");
                    self.held.set(None);
                }
                Err(error) => tracing::warn!(lease = self.name, error, "the lease was not renewed"),
            }
        }
    }

    /// Gives the Lease back, so that the next replica need not wait for it to run out.
    pub async fn release(&mut self) {
        self.held.set(None);
        let released = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(self.identity.as_str()) {
                spec.holder_identity = Some(String::new());
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await?;
            }
            Ok::<(), kube::Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(CALL_TIME_MAX, released).await {
            tracing::warn!(lease = self.name, %error, "the lease was not given back; it runs out by itself");
        }
    }

    /// One look, and one write if it is ours to write; whether this replica leads now.
    async fn turn(&mut self) -> Result<bool, String> {
        // Counted from before the call: the others count from when they see what it wrote.
        let now = Instant::now();
        match tokio::time::timeout(CALL_TIME_MAX, self.look(now)).await {
            Ok(Ok(leads)) => Ok(leads),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", CALL_TIME_MAX.as_secs())),
        }
    }

    async fn look(&mut self, now: Instant) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        let version = lease
            .as_ref()
            .and_then(|lease| lease.metadata.resource_version.clone())
            .unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.seen = Some((version, now));
                now
            }
        };
        let spec = lease
            .as_ref()
            .map(|lease| lease.spec.clone().unwrap_or_default());
        let action = decide(spec.as_ref(), &self.identity, now.duration_since(since));
        if action == Action::Wait {
            return Ok(false);
        }
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        self.fill(lease.spec.get_or_insert_default(), action);
        // With the version that was read: of two that take it at the same time one gets a conflict.
        let written = match action {
            Action::Create => self.api.create(&PostParams::default(), &lease).await,
            _ => {
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await
            }
        };
        match written {
            Ok(_) => {
                self.held.set(Some(now));
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn fill(&self, spec: &mut LeaseSpec, action: Action) {
        let now = Some(MicroTime(Timestamp::now()));
        if action != Action::Renew {
            spec.acquire_time = now.clone();
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
        }
        spec.renew_time = now;
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            // A clock that is wrong by years changes nothing.
            renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_was_seen_unchanged_for_its_whole_duration() {
        let seconds = Duration::from_secs;
        assert_eq!(decide(None, "a", seconds(0)), Action::Create);
        assert_eq!(decide(Some(&held_by("a")), "a", seconds(0)), Action::Renew);
        assert_eq!(decide(Some(&held_by("b")), "a", seconds(14)), Action::Wait);
        assert_eq!(decide(Some(&held_by("b")), "a", seconds(15)), Action::Take);
        assert_eq!(decide(Some(&held_by("")), "a", seconds(0)), Action::Take);
        let longer = LeaseSpec {
            lease_duration_seconds: Some(60),
            ..held_by("b")
        };
        assert_eq!(decide(Some(&longer), "a", seconds(59)), Action::Wait);
        let never = LeaseSpec {
            lease_duration_seconds: Some(-1),
            ..held_by("b")
        };
        assert_eq!(decide(Some(&never), "a", seconds(14)), Action::Wait);
    }

    #[test]
    fn nothing_is_written_long_before_others_may_take_over() {
        assert!(WRITE_TIME + CALL_TIME_MAX < DURATION);
        let held = Held::default();
        assert!(!held.holds());
        held.set(Some(Instant::now()));
        assert!(held.holds());
        held.set(Instant::now().checked_sub(WRITE_TIME));
        assert!(!held.holds());
    }
}
