//! What is seen of the protection in force: what agents say of their files, keys and tokens, and who else is a member.

use std::collections::BTreeSet;

use http::Method;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use serde_json::Value;

use super::super::agents::Target;
use super::super::{Error, Kube, names, see};
use crate::crd::Stage;
use crate::observe::{Observed, Status, tls_files};
use crate::secure::{self, Evidence, Keyring, Vault};

impl Kube {
    /// All that [`secure::decide`] goes by. What cannot be read is not known, which is waited for.
    pub(super) async fn evidence(&self, observed: &Observed, vault: &Vault) -> Evidence {
        let mut evidence = Evidence {
            now: Timestamp::now().as_second(),
            ..Evidence::default()
        };
        let servers = observed
            .servers
            .iter()
            .map(|(name, agent)| (name, agent, true));
        let clients = observed
            .clients
            .iter()
            .map(|(name, agent)| (name, agent, false));
        for (name, agent, server) in servers.chain(clients) {
            match (&agent.answers, agent.running()) {
                (Some(answers), _) => {
                    let files = (server, answers.tls_files.clone());
                    evidence.files.insert(name.clone(), files);
                }
                (None, Some(_)) => evidence.unknown.push(name.clone()),
                (None, None) => {}
            }
        }
        let mut own: BTreeSet<String> = observed.servers.keys().cloned().collect();
        own.extend(observed.clients.keys().cloned());
        if self.needs_daemons(vault) {
            own.extend(self.look_at_daemons(&mut evidence).await);
        }
        evidence.outside = outside(observed, &own);
        if vault.stages.acl > Stage::Disabled {
            let mut known = true;
            for token in [&vault.tokens.agent, &vault.tokens.dns] {
                let said = self.ask_leader(
                    observed,
                    Method::GET,
                    "/v1/acl/token/self",
                    String::new(),
                    Some(token),
                );
                known &= said.await.is_ok();
            }
            evidence.tokens_known = known;
        }
        if secure::under_way(vault) {
            let path = "/v1/operator/keyring";
            let token = Some(vault.tokens.management.as_str());
            let said = self.ask_leader(observed, Method::GET, path, String::new(), token);
            let pools = said.await.ok();
            evidence.keyring =
                pools.and_then(|text| serde_json::from_str::<Vec<Keyring>>(&text).ok());
        }
        evidence
    }

    /// One agent on each host may be thousands: they are asked only while it matters.
    fn needs_daemons(&self, vault: &Vault) -> bool {
        let changes =
            vault.next.is_some() || secure::next(&self.cluster.spec, vault.stages).is_some();
        self.cluster.spec.client_daemon_set && changes
    }

    /// The names of their nodes, also of those that cannot be asked.
    async fn look_at_daemons(&self, evidence: &mut Evidence) -> Vec<String> {
        let name = names::client_agent(&self.name);
        let rolled = match self.api::<DaemonSet>().get_opt(&name).await {
            Ok(Some(set)) => see::rolled(&set),
            Ok(None) => true,
            Err(_) => false,
        };
        if !rolled {
            evidence.unknown.push(format!("DaemonSet {name}"));
        }
        let Ok(pods) = self.daemon_pods().await else {
            evidence.unknown.push(format!("DaemonSet {name}"));
            return Vec::new();
        };
        let targets = self.daemons(&pods);
        let asked = targets.iter().map(|target| async {
            let path = "/v1/agent/self";
            let said = self
                .shared
                .agents
                .call(target, Method::GET, path, String::new(), None)
                .await;
            let own: Option<Value> = said.ok().and_then(|text| serde_json::from_str(&text).ok());
            own.as_ref().map(tls_files)
        });
        let found = futures::future::join_all(asked).await;
        for (target, digest) in targets.iter().zip(found) {
            match digest {
                Some(digest) => {
                    let files = (false, digest);
                    evidence.files.insert(target.node.clone(), files);
                }
                None => evidence.unknown.push(target.pod.clone()),
            }
        }
        pods.iter()
            .filter_map(|pod| self.daemon_node(pod))
            .collect()
    }

    /// The pods of the DaemonSet.
    pub(super) async fn daemon_pods(&self) -> Result<Vec<Pod>, Error> {
        if !self.cluster.spec.client_daemon_set {
            return Ok(Vec::new());
        }
        let labels = format!(
            "{},{}=client-agent",
            names::selector(&self.name),
            names::ROLE
        );
        let pods = self
            .api::<Pod>()
            .list(&ListParams::default().labels(&labels))
            .await?;
        Ok(pods.items)
    }

    /// The name that the agent in a pod of the DaemonSet has in gossip; none before the pod has a host.
    fn daemon_node(&self, pod: &Pod) -> Option<String> {
        let prefix = self.cluster.spec.prefix(&self.name);
        let host = pod.spec.as_ref()?.node_name.as_ref()?;
        Some(format!("{prefix}-client-{host}"))
    }

    /// The agents of the DaemonSet that can be asked.
    pub(super) fn daemons(&self, pods: &[Pod]) -> Vec<Target> {
        let access = self.accesses();
        let target = |pod: &Pod| {
            Some(Target {
                node: self.daemon_node(pod)?,
                pod: pod.metadata.name.clone()?,
                namespace: self.namespace.clone(),
                address: see::address(pod)?.to_owned(),
                access: access(pod, false),
            })
        };
        pods.iter().filter_map(target).collect()
    }
}

/// Members that some server sees alive, and that are none of `own`: agents from outside of Kubernetes, or of another
/// namespace.
fn outside(observed: &Observed, own: &BTreeSet<String>) -> BTreeSet<String> {
    let own: BTreeSet<_> = own.iter().map(|name| name.to_lowercase()).collect();
    let servers = observed.servers.values();
    let members = servers.filter_map(|agent| Some(&agent.answers.as_ref()?.members));
    let alive = members
        .flatten()
        .filter(|member| member.status == Status::Alive);
    let names = alive.map(|member| &member.name);
    let others = names.filter(|name| !own.contains(&name.to_lowercase()));
    others.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Agent, Answers, Seen};

    #[test]
    fn whoever_is_alive_and_no_pod_is_from_outside() {
        let seen = |(name, status): (&str, Status)| Seen {
            name: name.to_owned(),
            status,
            ..Seen::default()
        };
        let agent = |members: &[(&str, Status)]| Agent {
            answers: Some(Answers {
                members: members.iter().copied().map(seen).collect(),
                ..Answers::default()
            }),
            ..Agent::default()
        };
        let (alive, failed) = (Status::Alive, Status::Failed);
        let first = [("s0", alive), ("vm-1", failed), ("demo-client-Host", alive)];
        // One server may know of it before the others do.
        let second = [
            ("S1", alive),
            ("vm-1", alive),
            ("vm-2", Status::Left),
            ("vm-3", failed),
        ];
        let mut observed = Observed::default();
        observed.servers.insert("s0".to_owned(), agent(&first));
        observed.servers.insert("s1".to_owned(), agent(&second));
        observed.servers.insert("s2".to_owned(), Agent::default());
        let own = ["s0", "s1", "demo-client-host"].map(str::to_owned).into();
        assert_eq!(outside(&observed, &own), ["vm-1".to_owned()].into());
    }
}
