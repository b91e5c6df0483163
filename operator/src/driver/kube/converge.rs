//! Keeping what stands around the servers, and the templates of later pods, as the spec says. None of it stops or
//! starts a server.

use std::collections::BTreeMap;

use kube::api::{ListParams, PropagationPolicy, TypeMeta};
use serde_json::{Value, json};

use super::diff::{holds, quantity};
use super::objects::{self, Kind, Object, replica_count};
use super::rest::Versions;
use super::{Error, Kube, names, see};
use crate::observe::{Latch, Observed};
use crate::plan::{Step, View};
use crate::secure;

/// What decides how the objects around the servers should be: when it is as it was, and nobody has touched them, they
/// need not be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    generation: Option<i64>,
    evictable: u32,
    /// Whether the bootstrap is over.
    pub bootstrapped: bool,
    recorded: bool,
    /// Of what protects the cluster, and of what agents see of it, as they were found.
    secrets: Versions,
    /// Whether every server that is wanted is a caught-up voter: nobody is waited for who was given an order.
    whole: bool,
}

/// How many servers a drain may take at a time: none that a quorum needs. One and two voters need each of them; of a cluster that
/// is to have one server, that one may be moved. Also none while the first server holds the only copy, and while a step makes
/// them two, because a drain is faster than any look: `needed`.
fn evictable(voters: usize, wanted: usize, needed: bool) -> u32 {
    let each_counts = voters == 2 || (voters == 1 && wanted > 1);
    if needed || each_counts { 0 } else { 1 }
}

impl Kube {
    /// What the objects around the servers should follow, before this step is taken.
    pub fn surroundings(&self, observed: &Observed, step: &Step) -> Surroundings {
        let view = View::new(&self.desired, observed);
        let wanted = self.desired.wanted();
        let whole = wanted.iter().all(|seat| view.caught_up(seat));
        Surroundings {
            generation: self.cluster.metadata.generation,
            evictable: evictable(
                view.voters(),
                wanted.len(),
                (view.flagged().is_some() && !whole) || self.are_two(step),
            ),
            bootstrapped: view.bootstrapped(),
            recorded: matches!(observed.bootstrap, Latch::Done(_)),
            secrets: self.secret_versions.clone(),
            whole,
        }
    }

    /// Whether the servers are two, or are about to be, or one of several that are to come: the budget counts pods, and
    /// the loss of one of two voters is the loss of the quorum. With three pods all of which are ready there are three
    /// voters, and the budget says no by itself as soon as one is missing. It must say no before the step, as a drain
    /// may come right after it.
    fn are_two(&self, step: &Step) -> bool {
        let replicas = self.snapshot.servers.as_ref().map_or(0, replica_count);
        let left = match step {
            Step::RemoveServer { .. } => replicas.saturating_sub(1),
            _ => replicas,
        };
        left == 2 || (left < 2 && self.desired.servers > 1)
    }

    /// Makes the objects around the servers what they should be, and takes away those that should not be.
    ///
    /// # Errors
    /// The API server's.
    pub async fn converge_surroundings(&self, wanted: &Surroundings) -> Result<(), Error> {
        // First, as pods mount them.
        self.converge_secrets().await?;
        let mut objects = objects::base(&self.cluster, wanted.evictable);
        if wanted.bootstrapped && self.cluster.spec.client_daemon_set {
            objects.push(objects::client_daemon(&self.cluster, &self.image()?));
        }
        let live = self.live().await?;
        let find = |kind: Kind, name: &str| live.get(&(kind, name.to_owned()));
        for object in &objects {
            let live = find(object.kind, object.name());
            let order = live.is_some_and(|live| !live["data"][names::RECOVERY].is_null());
            if live.is_some_and(|live| holds(live, &object.value)) && !(order && wanted.whole) {
                continue;
            }
            if live.is_some() {
                tracing::info!(
                    cluster = self.name,
                    kind = ?object.kind,
                    object = object.name(),
                    "not as it should be, applied again"
                );
            }
            self.put(object).await?;
        }
        for (kind, name) in objects::unwanted(&self.cluster) {
            if find(kind, &name).is_some() {
                self.delete(kind, &name, None, PropagationPolicy::Background)
                    .await?;
            }
        }
        // Also one that an operator left behind which did not live to delete it.
        if wanted.recorded && find(Kind::ConfigMap, &names::permit(&self.name)).is_some() {
            self.withdraw_permit().await?;
        }
        Ok(())
    }

    async fn live(&self) -> Result<BTreeMap<(Kind, String), Value>, Error> {
        let kinds = [
            Kind::ServiceAccount,
            Kind::ConfigMap,
            Kind::Service,
            Kind::PodDisruptionBudget,
            Kind::NetworkPolicy,
            Kind::DaemonSet,
        ];
        let params = ListParams::default().labels(&names::selector(&self.name));
        let lists = kinds.map(|kind| {
            let (api, params) = (self.dynamic(kind), &params);
            async move { api.list(params).await.map(|list| (kind, list)) }
        });
        let mut live = BTreeMap::new();
        for (kind, list) in futures::future::try_join_all(lists).await? {
            // The elements of a list do not say what they are.
            let resource = kind.resource();
            let types = TypeMeta {
                api_version: resource.api_version,
                kind: resource.kind,
            };
            for mut object in list {
                let name = object.metadata.name.clone().unwrap_or_default();
                object.types = Some(types.clone());
                let value = serde_json::to_value(&object).unwrap_or_default();
                live.insert((kind, name), value);
            }
        }
        Ok(live)
    }

    /// Puts hand-edited sets back and lets later pods be of the newest template. During the bootstrap the set that still
    /// has the flag is left alone: a step takes it away, not a repair. Afterwards somebody has put it there by hand, and
    /// it must not reach a pod. The number of replicas is a matter of steps, too.
    ///
    /// # Errors
    /// The API server's.
    pub async fn converge_sets(&mut self, bootstrapped: bool) -> Result<(), Error> {
        let image = self.image()?;
        let mut wanted: Vec<(Object, Value)> = Vec::new();
        if let Some(set) = self
            .snapshot
            .servers
            .as_ref()
            .filter(|set| bootstrapped || !see::set_flagged(set))
        {
            let (mut object, _) =
                objects::servers(&self.cluster, &image, replica_count(set), Some(set));
            let live = serde_json::to_value(set).unwrap_or_default();
            if !holds(&live, &object.value) {
                object.over(Some(set));
            }
            wanted.push((object, live));
        }
        if let Some(set) = &self.snapshot.clients {
            let (mut object, _) = objects::client_set(&self.cluster, &image);
            object.value["spec"]["replicas"] = json!(replica_count(set));
            wanted.push((object, serde_json::to_value(set).unwrap_or_default()));
        }
        for (object, live) in wanted {
            if !holds(&live, &object.value) {
                tracing::info!(
                    cluster = self.name,
                    set = object.name(),
                    "not as it should be, applied again"
                );
                self.put_set(&object).await?;
            }
        }
        Ok(())
    }

    /// Asks for larger volumes, and notes on each claim whose data it holds, and how far that was protected: what backs
    /// volumes up keeps such notes, and rarely a status.
    ///
    /// # Errors
    /// The API server's: a storage class may not allow volumes to grow.
    pub async fn converge_claims(&self, observed: &Observed) -> Result<(), Error> {
        let size = self.cluster.spec.storage.clone().unwrap_or_default().size.0;
        for (number, seat) in self.desired.server_seats.iter().enumerate() {
            let Some(claim) = self.snapshot.claim(&self.name, number) else {
                continue;
            };
            let answered = observed
                .servers
                .get(&seat.name)
                .and_then(|agent| agent.cluster());
            if let (Latch::Done(id), Some(told)) = (&observed.bootstrap, answered)
                && told == *id
            {
                let mut notes = BTreeMap::from([(names::CLUSTER_ID, id.to_string())]);
                if let Some(vault) = &self.vault {
                    notes.insert(secure::STAGES, vault.stages.to_string());
                }
                let noted = claim.metadata.annotations.as_ref();
                notes.retain(|key, note| noted.and_then(|all| all.get(*key)) != Some(note));
                if !notes.is_empty() {
                    let patch = json!({"metadata": {"annotations": notes}});
                    self.patch_claim(claim, patch).await?;
                }
            }
            let asked = claim
                .spec
                .as_ref()
                .and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
            let smaller = asked.and_then(|asked| Some(quantity(&asked.0)? < quantity(&size)?));
            if smaller == Some(true) {
                self.patch_claim(
                    claim,
                    json!({"spec": {"resources": {"requests": {"storage": size}}}}),
                )
                .await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_takes_no_server_that_a_quorum_needs() {
        let all = |voters: usize, wanted: usize| evictable(voters, wanted, false);
        // On the way from one server to three, and back.
        assert_eq!([all(1, 1), all(1, 3), all(2, 3), all(3, 3)], [1, 0, 0, 1]);
        assert_eq!([all(3, 1), all(2, 1), all(1, 1)], [1, 0, 1]);
        // One of three is lost for good, and taken out.
        assert_eq!(all(2, 3), 0);
        assert_eq!([all(5, 5), all(4, 5)], [1, 1]);
        assert_eq!(evictable(1, 1, true), 0);
    }
}
