//! What can be asked for: the fields of everything that Consul filters.

/// The kind of a value.
#[derive(Debug, Clone, Copy)]
pub enum Schema {
    /// A text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// Values by keys that are data.
    Map(&'static Schema),
    /// Any number of values.
    List(&'static Schema),
    /// Values by known names.
    Object(&'static [(&'static str, Schema)]),
    /// Whatever somebody put there.
    Any,
}

use Schema::{Any, Bool, List, Map, Number, Object, Text};

const TEXTS: Schema = List(&Text);
const TEXT_MAP: Schema = Map(&Text);
const WEIGHTS: Schema = Object(&[("Passing", Number), ("Warning", Number)]);
const ADDRESSES: Schema = Map(&Object(&[("Address", Text), ("Port", Number)]));

/// A node.
pub const NODE: Schema = Object(&[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", TEXT_MAP),
    ("Meta", TEXT_MAP),
    ("Partition", Text),
    ("PeerName", Text),
    ("CreateIndex", Number),
    ("ModifyIndex", Number),
]);

/// A service whose node is known from around it.
pub const NODE_SERVICE: Schema = Object(&[
    ("Kind", Text),
    ("ID", Text),
    ("Service", Text),
    ("Tags", TEXTS),
    ("Address", Text),
    ("TaggedAddresses", ADDRESSES),
    ("Meta", TEXT_MAP),
    ("Port", Number),
    ("SocketPath", Text),
    ("Weights", WEIGHTS),
    ("EnableTagOverride", Bool),
    ("Proxy", Any),
    ("Connect", Any),
    ("PeerName", Text),
    ("CreateIndex", Number),
    ("ModifyIndex", Number),
]);

/// A service of an agent itself.
pub const AGENT_SERVICE: Schema = Object(&[
    ("Kind", Text),
    ("ID", Text),
    ("Service", Text),
    ("Tags", TEXTS),
    ("Meta", TEXT_MAP),
    ("Port", Number),
    ("Address", Text),
    ("SocketPath", Text),
    ("TaggedAddresses", ADDRESSES),
    ("Weights", WEIGHTS),
    ("EnableTagOverride", Bool),
    ("ContentHash", Text),
    ("Proxy", Any),
    ("Connect", Any),
    ("Datacenter", Text),
]);

/// An instance of a service with its node.
pub const SERVICE_NODE: Schema = Object(&[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", TEXT_MAP),
    ("NodeMeta", TEXT_MAP),
    ("ServiceKind", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", TEXTS),
    ("ServiceAddress", Text),
    ("ServiceTaggedAddresses", ADDRESSES),
    ("ServiceWeights", WEIGHTS),
    ("ServiceMeta", TEXT_MAP),
    ("ServicePort", Number),
    ("ServiceSocketPath", Text),
    ("ServiceEnableTagOverride", Bool),
    ("ServiceProxy", Any),
    ("ServiceConnect", Any),
    ("PeerName", Text),
    ("CreateIndex", Number),
    ("ModifyIndex", Number),
]);

/// A check.
pub const CHECK: Schema = Object(&[
    ("Node", Text),
    ("CheckID", Text),
    ("Name", Text),
    ("Status", Text),
    ("Notes", Text),
    ("Output", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", TEXTS),
    ("Type", Text),
    ("Interval", Text),
    ("Timeout", Text),
    ("ExposedPort", Number),
    ("Definition", Any),
    ("PeerName", Text),
    ("CreateIndex", Number),
    ("ModifyIndex", Number),
]);

/// An instance of a service with its node and its checks.
pub const SERVICE_HEALTH: Schema = Object(&[
    ("Node", NODE),
    ("Service", NODE_SERVICE),
    ("Checks", List(&CHECK)),
]);

/// A node with its services and checks.
pub const NODE_INFO: Schema = Object(&[
    ("ID", Text),
    ("Node", Text),
    ("Partition", Text),
    ("PeerName", Text),
    ("Address", Text),
    ("TaggedAddresses", TEXT_MAP),
    ("Meta", TEXT_MAP),
    ("Services", List(&NODE_SERVICE)),
    ("Checks", List(&CHECK)),
]);

/// A member of gossip.
pub const MEMBER: Schema = Object(&[
    ("Name", Text),
    ("Addr", Text),
    ("Port", Number),
    ("Tags", TEXT_MAP),
    ("Status", Number),
    ("ProtocolMin", Number),
    ("ProtocolMax", Number),
    ("ProtocolCur", Number),
    ("DelegateMin", Number),
    ("DelegateMax", Number),
    ("DelegateCur", Number),
]);
