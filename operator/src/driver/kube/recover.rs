//! What is done only because a person asked for it.
//!
//! Nobody but the agent reaches its disk, so it is told by a file beside its configuration, which every pod mounts and
//! which names the one server that it is for. It does what is asked when it starts next, and only once; so the file may
//! stay until the cluster is whole again.

use serde_json::{Value, json};

use super::objects;
use super::{Error, Kube, names};
use crate::plan::Alone;

impl Kube {
    /// The survivor goes on alone when it is started next: its log is named by where it ends.
    pub(super) async fn recover(&self, alone: &Alone) -> Result<(), Error> {
        let Alone {
            server,
            address: _,
            node_id: _,
            cluster,
            raft_id,
            last_log_term,
            last_log_index,
        } = alone;
        let number = self.number(server)?;
        let order = json!({"quorum_recovery": {
            "cluster_id": cluster,
            "raft_id": raft_id,
            "last_log_term": last_log_term,
            "last_log_index": last_log_index,
        }});
        self.give_order(&order).await?;
        self.make_anew(number).await
    }

    /// The server moves its data aside when it is started next.
    pub(super) async fn move_aside(&self, server: &str, token: &str) -> Result<(), Error> {
        let number = self.number(server)?;
        let Some(claim) = self.snapshot.claim(&self.name, number) else {
            return Err(Error::Incomplete(format!(
                "{server} has no volume whose data could be moved aside"
            )));
        };
        let order = json!({"raft_set_aside": {"node_name": server, "token": token}});
        self.give_order(&order).await?;
        // Noted before the pod goes: should the operator die in between, the kubelet starts the container again, which is
        // as good.
        let note = json!({"metadata": {"annotations": {names::MOVED_ASIDE: token}}});
        self.patch_claim(claim, note).await?;
        self.make_anew(number).await
    }

    async fn give_order(&self, order: &Value) -> Result<(), Error> {
        let mut config = objects::config(&self.cluster);
        config.value["data"][names::RECOVERY] = json!(order.to_string());
        self.put(&config).await.map(drop)
    }
}
