//! What a server says of itself, as a person would see it in `info`.

use agent::node::Node;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) cluster: String,
    pub(crate) leads: bool,
    pub(crate) term: u64,
    pub(crate) leader: String,
    /// Voters in its configuration, itself included.
    pub(crate) voters: usize,
    /// Index of the entry that set its configuration.
    pub(crate) configured: u64,
    pub(crate) committed: u64,
    pub(crate) last_index: u64,
}

impl View {
    /// `None` for a client.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let info = node.info();
        let (raft, consul) = (info.get("raft")?, info.get("consul")?);
        let number = |key: &str| raft[key].parse().expect("a number");
        Some(Self {
            cluster: consul["cluster_id"].clone(),
            leads: raft["state"] == "Leader",
            term: number("term"),
            leader: consul["leader_addr"].clone(),
            voters: raft["latest_configuration"]
                .matches("Suffrage:Voter")
                .count(),
            configured: number("latest_configuration_index"),
            committed: number("commit_index"),
            last_index: number("last_log_index"),
        })
    }
}
