//! What happens behind the API server: sets make pods, kubelets run agents.

use operator::observe::{Answers, Role};
use serde_json::{Value, json};

use super::World;

/// The time, always.
pub(super) const NOW: &str = "2026-11-23T12:00:00Z";

/// Whether a pod, or a template of one, has the flag.
pub(super) fn has_flag(pod: &Value) -> bool {
    let args = pod["spec"]["containers"][0]["args"].as_array();
    args.is_some_and(|args| args.iter().any(|arg| arg == "-bootstrap"))
}

/// Whether a pod's flag counts with this permit, as the agent and the kubelet read the arguments.
fn counts(pod: &Value, permit: &Value) -> bool {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let number = name.rsplit('-').next().unwrap_or_default();
    let args = pod["spec"]["containers"][0]["args"].as_array();
    let asked = args.into_iter().flatten().find_map(|arg| {
        let asked = arg.as_str()?.strip_prefix("-bootstrap-permit=")?;
        asked.strip_prefix("AGENT_BOOTSTRAP_PERMIT=")
    });
    let asked = asked.map(|asked| asked.replace("$(POD_NUMBER)", number));
    has_flag(pod) && asked.as_deref() == permit.as_str()
}

fn leaves_on_stop(pod: &Value) -> bool {
    let args = pod["spec"]["containers"][0]["args"].as_array();
    args.is_some_and(|args| {
        args.iter().any(|arg| {
            arg.as_str()
                .is_some_and(|arg| arg.contains("leave_on_terminate"))
        })
    })
}

fn name(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn number(set: &str, pod: &str) -> Option<u64> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

impl World {
    /// Whether this pod would form a cluster if it was started now.
    pub(super) fn may_form(&self, pod: &Value) -> bool {
        let permit = self.get("configmaps", "demo-bootstrap-permit");
        permit.is_some_and(|map| counts(pod, &map["data"]["AGENT_BOOTSTRAP_PERMIT"]))
    }

    /// Everything but the operator does what it does in a second or so.
    pub(crate) fn turn(&mut self) {
        self.remember();
        for set in ["demo-server", "demo-client"] {
            self.turn_set(set);
        }
        let pods: Vec<_> = self.list("pods").map(name).collect();
        pods.iter().for_each(|pod| self.turn_pod(pod));
        self.turn_claims();
        self.agents.latch = operator::observe::Latch::Open;
        self.agents.pass();
    }

    fn turn_set(&mut self, set_name: &str) {
        let Some(set) = self.get("statefulsets", set_name).cloned() else {
            return;
        };
        let pods: Vec<_> = self
            .list("pods")
            .map(name)
            .filter(|pod| number(set_name, pod).is_some())
            .collect();
        if !set["metadata"]["deletionTimestamp"].is_null() {
            if pods.is_empty() {
                self.remove("statefulsets", set_name);
            }
            pods.iter().for_each(|pod| self.terminate(pod, false));
            return;
        }
        let replicas = set["spec"]["replicas"].as_u64().unwrap_or(1);
        for pod in &pods {
            if number(set_name, pod).is_some_and(|number| number >= replicas) {
                self.terminate(pod, false);
                let gone =
                    set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Delete";
                let claim = ("persistentvolumeclaims".to_owned(), format!("data-{pod}"));
                if let Some(claim) = self.objects.get_mut(&claim).filter(|_| gone) {
                    claim["metadata"]["deletionTimestamp"] = json!(NOW);
                }
            }
        }
        for number in 0..replicas {
            let pod = format!("{set_name}-{number}");
            let claims = set["spec"]["volumeClaimTemplates"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for template in claims {
                let claim = format!("data-{pod}");
                if self.get("persistentvolumeclaims", &claim).is_none() {
                    let mut object = template.clone();
                    object["metadata"]["name"] = json!(claim);
                    self.store("persistentvolumeclaims", &claim, object);
                }
            }
            if self.get("pods", &pod).is_none() {
                let mut object = set["spec"]["template"].clone();
                object["metadata"]["name"] = json!(pod);
                self.store("pods", &pod, object);
            }
        }
        let generation = set["metadata"]["generation"].clone();
        self.edit("statefulsets", set_name)["status"] =
            json!({"replicas": replicas, "observedGeneration": generation});
    }

    /// SIGTERM. The rules are only checked when it was the operator that asked for it.
    pub(crate) fn terminate(&mut self, pod: &str, checked: bool) {
        let object = self.edit("pods", pod);
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return;
        }
        object["metadata"]["deletionTimestamp"] = json!(NOW);
        let leave = leaves_on_stop(object);
        if checked {
            self.agents.stop_checked(pod, leave);
        } else {
            self.agents.kill(pod);
        }
    }

    /// The kubelet: starts what should run, with the arguments of the pod and the environment of this moment, again and
    /// again; removes what was stopped.
    fn turn_pod(&mut self, pod: &str) {
        let Some(object) = self.get("pods", pod).cloned() else {
            return;
        };
        let runs = self.agents.runs(pod);
        if !object["metadata"]["deletionTimestamp"].is_null() {
            if !runs {
                self.remove("pods", pod);
            }
            return;
        }
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "not found"}});
        let bad = object["spec"]["containers"][0]["image"] == self.bad_image.as_str();
        if !runs && !bad {
            self.obey(pod, &object);
        }
        let mut restarts = 0;
        let state = if bad {
            waiting("ErrImagePull")
        } else if self.agents.is_corrupt(pod) {
            restarts = 5;
            waiting("CrashLoopBackOff")
        } else {
            if !runs {
                let flag = self.may_form(&object);
                self.agents
                    .launch(pod, pod.starts_with("demo-server-"), flag);
            }
            json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        };
        let address = format!(
            "10.0.{}.{}",
            self.made_at(&object) / 250,
            self.made_at(&object) % 250 + 1
        );
        let container = json!({"name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": restarts, "state": state});
        let ready = if self.is_ready(&object) {
            "True"
        } else {
            "False"
        };
        let status = json!({"phase": "Running", "podIP": address, "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": ready}]});
        if object["status"] != status {
            self.version += 1;
            let version = self.version.to_string();
            let object = self.edit("pods", pod);
            object["status"] = status;
            object["metadata"]["resourceVersion"] = json!(version);
        }
    }

    /// What the agent reads before it starts: whether its data is to be moved aside, or to be gone on with alone.
    fn obey(&mut self, pod: &str, object: &Value) {
        let env = object["spec"]["containers"][0]["env"].as_array();
        let asks = |name: &str| env.is_some_and(|env| env.iter().any(|var| var["name"] == name));
        if !pod.starts_with("demo-server-") {
            return;
        }
        let config = self
            .get("configmaps", "demo-config")
            .cloned()
            .unwrap_or_default();
        if let Some(cluster) = config["data"]["AGENT_SET_ASIDE_CLUSTER"].as_str()
            && asks("AGENT_SET_ASIDE_CLUSTER")
        {
            self.agents.set_aside(pod, cluster.parse().unwrap());
        }
        let orders = config["data"]["recovery.json"].as_str().unwrap_or("{}");
        let orders: Value = serde_json::from_str(orders).unwrap();
        let (alone, aside) = (&orders["quorum_recovery"], &orders["raft_set_aside"]);
        if aside["node_name"] == pod {
            let token = aside["token"].as_str().unwrap();
            self.agents.move_aside_on(pod, token);
        }
        if let Some(id) = alone["raft_id"].as_str() {
            let index = alone["last_log_index"].as_u64().unwrap();
            self.agents.go_on_alone(pod, id, index);
        }
    }

    /// A person drains the host of a pod; false: the budget does not allow it now.
    pub(crate) fn drain(&mut self, pod: &str) -> bool {
        let uid = self.edit("pods", pod)["metadata"]["uid"].clone();
        let body = json!({"deleteOptions": {"preconditions": {"uid": uid}}});
        self.evict(pod, &body).0.is_success()
    }

    fn made_at(&self, object: &Value) -> u64 {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        uid.rsplit('-')
            .next()
            .and_then(|end| end.parse().ok())
            .unwrap_or(0)
    }

    /// A claim that was deleted is gone when no pod uses it, and its disk with it.
    fn turn_claims(&mut self) {
        let gone = |claim: &&Value| !claim["metadata"]["deletionTimestamp"].is_null();
        let names: Vec<_> = self
            .list("persistentvolumeclaims")
            .filter(gone)
            .map(name)
            .collect();
        for claim in names {
            let pod = claim.trim_start_matches("data-").to_owned();
            if self.get("pods", &pod).is_none() {
                self.remove("persistentvolumeclaims", &claim);
                self.agents.lose(&pod);
            }
        }
    }

    /// A person deletes a pod, with its volume.
    pub(crate) fn delete_with_volume(&mut self, pod: &str) {
        let claim = format!("data-{pod}");
        if self.get("persistentvolumeclaims", &claim).is_some() {
            self.edit("persistentvolumeclaims", &claim)["metadata"]["deletionTimestamp"] =
                json!(NOW);
        }
        if self.get("pods", pod).is_some() {
            self.terminate(pod, false);
        }
    }

    pub(super) fn is_ready(&self, pod: &Value) -> bool {
        let pod = name(pod);
        let answers = self.agents.ask(&pod);
        answers.is_some_and(|answers| {
            answers
                .peers
                .iter()
                .any(|peer| peer.voter && peer.name == pod)
        })
    }
}

fn tags(server: bool, bootstrap: bool, cluster: Option<uuid::Uuid>) -> Value {
    let mut tags = json!({"role": if server { "consul" } else { "node" }, "port": "8300"});
    if bootstrap {
        tags["bootstrap"] = json!("1");
    }
    if let Some(cluster) = cluster {
        tags["cluster"] = json!(cluster.to_string());
    }
    tags
}

/// `/v1/agent/self`.
pub(super) fn own(name: &str, answers: &Answers) -> Value {
    let seen = answers.member(name).unwrap();
    let member = json!({"Name": name, "Addr": "10.0.0.1", "Port": 8301, "Status": 1, "Tags": tags(seen.server, seen.bootstrap, answers.cluster)});
    let stats = answers.raft.as_ref().map(|raft| {
        let state = match raft.role {
            Role::Leader => "Leader",
            Role::Candidate => "Candidate",
            Role::Shutdown => "Shutdown",
            Role::Follower => "Follower",
        };
        json!({"state": state, "term": raft.term.to_string(), "num_peers": raft.num_peers.to_string(),
            "raft_id": raft.raft_id, "latest_configuration_index": raft.configuration_index.to_string(), "last_log_term": raft.last_log_term.to_string(),
            "last_log_index": raft.last_log_index.to_string(), "commit_index": raft.commit_index.to_string()})
    });
    let config = json!({"NodeName": name, "NodeID": answers.node_id, "Version": "1", "Server": answers.raft.is_some()});
    json!({"Config": config, "Member": member, "Stats": {"raft": stats}})
}

/// `/v1/agent/members`.
pub(super) fn members(answers: &Answers) -> Value {
    let member = |seen: &operator::observe::Seen| {
        use operator::observe::Status::{Alive, Failed, Leaving, Left};
        let status = match seen.status {
            Alive => 1,
            Leaving => 2,
            Left => 3,
            Failed => 4,
        };
        json!({"Name": seen.name, "Addr": "10.0.0.1", "Port": 8301, "Status": status, "Tags": tags(seen.server, seen.bootstrap, seen.cluster)})
    };
    answers.members.iter().map(member).collect()
}

/// `/v1/operator/raft/configuration`.
pub(super) fn configuration(answers: &Answers) -> Value {
    let server = |peer: &operator::observe::Peer| json!({"ID": peer.name, "Node": peer.name, "Address": "10.0.0.1:8300", "Voter": peer.voter});
    json!({"Servers": answers.peers.iter().map(server).collect::<Vec<_>>()})
}
