//! What every request is counted as, under the name that Consul's metrics and logs have for it. There is no command, query or
//! request without a line here, or this does not compile.

use crate::rpc::Request;
use crate::state::{
    AclQuery, AclStep, Command, EntryStep, GraphQuery, Mergeable, Query, Stamped, VirtualStep,
};

/// Which limit a request is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It changes nothing.
    Read,
    /// It changes the state.
    Write,
    /// It is never refused: what keeps the cluster together, or shows how it is.
    Exempt,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Consul's name of the RPC endpoint.
    pub name: &'static str,
    /// Against what it counts.
    pub kind: Kind,
}

const fn read(name: &'static str) -> Operation {
    let kind = Kind::Read;
    Operation { name, kind }
}

const fn write(name: &'static str) -> Operation {
    let kind = Kind::Write;
    Operation { name, kind }
}

const fn exempt(name: &'static str) -> Operation {
    let kind = Kind::Exempt;
    Operation { name, kind }
}

/// What only the cluster itself proposes. It proposes at the leader and is not counted there; whoever else sends it is.
const INTERNAL: Operation = write("Internal.Apply");

impl Operation {
    /// Saving the whole state, and putting it back. As in Consul, they are not requests like others.
    pub const SNAPSHOT: Self = exempt("Snapshot");
    /// Who leads, and who votes.
    pub const STATUS: Self = exempt("Status.Peers");
    /// The list of datacenters.
    pub const DATACENTERS: Self = read("Catalog.ListDatacenters");
    /// An event for everybody.
    pub const FIRE: Self = write("Internal.EventFire");
    /// The keys of gossip. A read in Consul, too: nothing of it is in the state.
    pub const KEYRING: Self = read("Internal.KeyringOperation");
    /// What a token allows, for an agent without tables.
    pub const GRANT: Self = read("ACL.TokenRead");
    /// The servers that Raft knows.
    pub const RAFT_CONFIGURATION: Self = exempt("Operator.RaftGetConfiguration");

    /// What a request of another node is. Whoever passes it on, and in whose name it is, does not matter.
    pub fn of_request(request: &Request) -> Self {
        match request {
            Request::As { request, .. } | Request::In { request, .. } => Self::of_request(request),
            Request::Propose(command) => Stamped::decode(command)
                .map_or(INTERNAL, |stamped| Self::of_command(&stamped.command)),
            Request::Read(query, _) => Self::of_query(query),
            Request::Peers => Self::STATUS,
            Request::RaftConfiguration(_) => Self::RAFT_CONFIGURATION,
            Request::RemovePeer(_) => exempt("Operator.RaftRemovePeerByAddress"),
            Request::TransferLeader(_) => exempt("Operator.TransferLeader"),
            Request::Health => exempt("Operator.ServerHealth"),
            Request::RenewSession(_) => write("Session.Renew"),
            Request::Save { .. } | Request::SavedPiece { .. } => Self::SNAPSHOT,
            Request::Place(..) => write("Coordinate.Update"),
            Request::Datacenters => Self::DATACENTERS,
            Request::Fire(_) => Self::FIRE,
            Request::SignLeaf(_) => write("ConnectCA.Sign"),
            Request::SetCa(_) => write("ConnectCA.ConfigurationSet"),
            Request::SignIntermediate(_) => write("ConnectCA.SignIntermediate"),
            Request::Grant(_) => Self::GRANT,
            Request::Keyring { .. } => Self::KEYRING,
            Request::Login(_) => write("ACL.Login"),
            Request::Logout => write("ACL.Logout"),
            Request::Copying => read("ACL.ReplicationStatus"),
            // One of these stands for many reads, which were counted where they came in.
            Request::ReadIndex { .. } => exempt("Internal.ReadIndex"),
            // Servers that form a cluster, or hand leadership over.
            Request::Promise(_) | Request::Release(_) | Request::Confirm(_) => {
                exempt("Internal.Form")
            }
            Request::HasRoom => exempt("Internal.HasRoom"),
        }
    }

    /// What a change is.
    pub fn of_command(command: &Command) -> Self {
        match command {
            Command::Kv(_) => write("KVS.Apply"),
            Command::Txn(_) => write("Txn.Apply"),
            Command::FirstRegister(_) | Command::Register(_) => write("Catalog.Register"),
            Command::Deregister(_) => write("Catalog.Deregister"),
            Command::SessionCreate(_) | Command::SessionDestroy { .. } => write("Session.Apply"),
            Command::Prepared(_) => write("PreparedQuery.Apply"),
            Command::SetPlaces(_) => write("Coordinate.Update"),
            Command::Entry(step) | Command::CheckedEntry(step) => match step {
                EntryStep::Set { .. } => write("ConfigEntry.Apply"),
                EntryStep::Delete { .. } => write("ConfigEntry.Delete"),
            },
            Command::Virtual(VirtualStep::Assign { .. }) => {
                write("Internal.AssignManualServiceVIPs")
            }
            Command::Acl(step) => Self::of_acl_step(step),
            Command::SetAutopilot { .. } => exempt("Operator.AutopilotSetConfiguration"),
            Command::Restore(_) => Self::SNAPSHOT,
            Command::Noop
            | Command::ReapTombstones { .. }
            | Command::SetClusterId(_)
            | Command::EndLockDelays(_)
            | Command::Virtual(VirtualStep::Begin)
            | Command::Ca(_) => INTERNAL,
        }
    }

    fn of_acl_step(step: &AclStep) -> Self {
        write(match step {
            // A read in Consul's list, although it writes.
            AclStep::Bootstrap { .. } => "ACL.BootstrapTokens",
            AclStep::SetToken { .. } => "ACL.TokenSet",
            AclStep::DeleteTokens(_) => "ACL.TokenDelete",
            AclStep::SetPolicy { .. } => "ACL.PolicySet",
            AclStep::DeletePolicy(_) => "ACL.PolicyDelete",
            AclStep::SetRole { .. } => "ACL.RoleSet",
            AclStep::DeleteRole(_) => "ACL.RoleDelete",
            AclStep::SetMethod { .. } => "ACL.AuthMethodSet",
            AclStep::DeleteMethod(_) => "ACL.AuthMethodDelete",
            AclStep::SetBindingRule { .. } => "ACL.BindingRuleSet",
            AclStep::DeleteBindingRule(_) => "ACL.BindingRuleDelete",
        })
    }

    /// What a query is.
    pub fn of_query(query: &Query) -> Self {
        read(match query {
            Query::Autopilot => return exempt("Operator.AutopilotGetConfiguration"),
            // They tell nothing but an index, or a name.
            Query::Noop | Query::ClusterId => return exempt("Status.Ping"),
            Query::KvGet { .. } => "KVS.Get",
            Query::KvList { .. } => "KVS.List",
            Query::KvKeys { .. } => "KVS.ListKeys",
            Query::Nodes { .. } | Query::AddressOwners { .. } => "Catalog.ListNodes",
            Query::Services { .. } => "Catalog.ListServices",
            Query::ServiceNodes { .. } | Query::Merged(Mergeable::Instances { .. }) => {
                "Catalog.ServiceNodes"
            }
            Query::NodeServices { .. } | Query::Merged(Mergeable::Node { .. }) => {
                "Catalog.NodeServices"
            }
            Query::GatewayServices { .. } => "Catalog.GatewayServices",
            Query::VirtualIp { .. } => "Catalog.VirtualIPForService",
            Query::NodeChecks { .. } => "Health.NodeChecks",
            Query::ServiceChecks { .. }
            | Query::ChecksWithMeta {
                service: Some(_), ..
            } => "Health.ServiceChecks",
            Query::StateChecks { .. } | Query::ChecksWithMeta { service: None, .. } => {
                "Health.ChecksInState"
            }
            Query::ServiceHealth { .. }
            | Query::MeshHealth { .. }
            | Query::IngressHealth { .. }
            | Query::Merged(
                Mergeable::Health { .. } | Mergeable::Mesh { .. } | Mergeable::Ingress { .. },
            ) => "Health.ServiceNodes",
            Query::Instances { .. } => "Internal.ServiceDump",
            Query::Node { .. } | Query::NodeInfos { node: Some(_) } => "Internal.NodeInfo",
            Query::NodeInfos { node: None } => "Internal.NodeDump",
            Query::ExportedServices => "Internal.ExportedPeeredServices",
            Query::Session { .. } => "Session.Get",
            Query::Sessions => "Session.List",
            Query::NodeSessions { .. } => "Session.NodeSessions",
            Query::Txn(_) => "Txn.Read",
            Query::PreparedQueries => "PreparedQuery.List",
            Query::PreparedQuery { .. } => "PreparedQuery.Get",
            Query::Places => "Coordinate.ListNodes",
            Query::NodePlace { .. } => "Coordinate.Node",
            Query::Entries { .. } => "ConfigEntry.List",
            Query::Entry { .. } => "ConfigEntry.Get",
            Query::Chain(_) => "DiscoveryChain.Get",
            Query::Graph(GraphQuery::Topology(_)) => "Internal.ServiceTopology",
            Query::Graph(GraphQuery::Gateway { .. }) => "Internal.GatewayServiceDump",
            Query::Graph(GraphQuery::Intentions { .. }) => "Internal.GatewayIntentions",
            Query::CaRoots => "ConnectCA.Roots",
            Query::CaConfig => "ConnectCA.ConfigurationGet",
            Query::Acl(query) => of_acl_query(query),
        })
    }
}

fn of_acl_query(query: &AclQuery) -> &'static str {
    match query {
        AclQuery::Tokens(_) => "ACL.TokenList",
        AclQuery::Grants | AclQuery::Token(_) | AclQuery::SecretToken(_) => "ACL.TokenRead",
        AclQuery::Policies => "ACL.PolicyList",
        AclQuery::Policy(_) | AclQuery::PolicyNamed(_) => "ACL.PolicyRead",
        AclQuery::Roles(_) => "ACL.RoleList",
        AclQuery::Role(_) | AclQuery::RoleNamed(_) => "ACL.RoleRead",
        AclQuery::Methods => "ACL.AuthMethodList",
        AclQuery::Method(_) => "ACL.AuthMethodRead",
        AclQuery::BindingRules(_) => "ACL.BindingRuleList",
        AclQuery::BindingRule(_) => "ACL.BindingRuleRead",
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::config::Secret;
    use crate::node::{PeerRef, ReadOptions};
    use crate::state::{Autopilot, KvCommand, KvOp, RestoreStep};

    fn propose(command: Command) -> Request {
        let stamped = Stamped {
            unix_ms: 1,
            command,
        };
        Request::Propose(stamped.encode())
    }

    #[test]
    fn a_request_counts_as_what_is_in_it_however_it_is_wrapped() {
        let delete = Command::Kv(KvCommand {
            key: "k".into(),
            op: KvOp::Delete,
        });
        let get = Request::Read(Query::KvGet { key: "k".into() }, ReadOptions::default());
        for (request, wanted) in [
            (propose(delete), write("KVS.Apply")),
            (get, read("KVS.Get")),
            (Request::RenewSession(Uuid::nil()), write("Session.Renew")),
            (Request::Health, exempt("Operator.ServerHealth")),
        ] {
            assert_eq!(Operation::of_request(&request), wanted);
            let inside = Request::In {
                datacenter: "dc2".into(),
                forwarded: false,
                request: Box::new(request),
            };
            let wrapped = Request::As {
                token: Secret::default(),
                request: Box::new(inside),
            };
            assert_eq!(Operation::of_request(&wrapped), wanted);
        }
    }

    #[test]
    fn what_keeps_the_cluster_together_is_never_refused() {
        let restore = Command::Restore(RestoreStep::Commit {
            id: Uuid::nil(),
            parts: 0,
            crc32c: 0,
        });
        let autopilot = Command::SetAutopilot {
            config: Box::new(Autopilot::default()),
            cas: None,
        };
        for request in [
            propose(restore),
            propose(autopilot),
            Request::Peers,
            Request::RaftConfiguration(true),
            Request::RemovePeer(PeerRef::Id("x".into())),
            Request::TransferLeader(None),
            Request::ReadIndex { quorum: true },
            Request::HasRoom,
            Request::Save { stale: true },
        ] {
            let operation = Operation::of_request(&request);
            assert_eq!(operation.kind, Kind::Exempt, "{operation:?}");
        }
    }

    /// Or whoever sends what nobody but the leader proposes, or nothing at all, would get around the limit.
    #[test]
    fn what_is_not_a_clients_to_send_counts_as_a_write() {
        let garbage = Request::Propose(bytes::Bytes::from_static(b"garbage"));
        for request in [propose(Command::Noop), garbage] {
            assert_eq!(Operation::of_request(&request).kind, Kind::Write);
        }
    }
}
