//! Which path is which endpoint.

/// An endpoint, by family. Its handler is chosen in [`super::dispatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Kv,
    Status(Status),
    Agent(Agent),
    Local(Local),
    Catalog(Catalog),
    Health(Health),
    Session(Session),
    Operator(Operator),
    Query(Query),
    Coordinate(Coordinate),
    Config(Config),
    Connect(Connect),
    Event(Event),
    Mesh(Mesh),
    Ui(Ui),
    Snapshot,
    Txn,
    Acl(Acl),
    Tokens(Tokens),
    Closed(Closed),
}

/// `/v1/acl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acl {
    Bootstrap,
    Login,
    Logout,
    Replication,
    Tokens,
    TokenNew,
    TokenSelf,
    Token,
    Policies,
    PolicyNew,
    PolicyNamed,
    Policy,
    Roles,
    RoleNew,
    RoleNamed,
    Role,
    Methods,
    MethodNew,
    Method,
    BindingRules,
    BindingRuleNew,
    BindingRule,
    Templates,
    TemplateNamed,
    TemplatePreview,
}

/// Tokens that an agent uses, and what one allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tokens {
    OfAgent,
    Authorize,
}

/// `/v1/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Leader,
    Peers,
}

/// What an agent says of itself and is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agent {
    Own,
    Members,
    Join,
    Leave,
    ForceLeave,
    Reload,
    Metrics,
    Host,
    Version,
    Ready,
    Monitor,
    MetricsStream,
}

/// An agent's own services and checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Local {
    Services,
    Service,
    ServiceRegister,
    ServiceDeregister,
    ServiceMaintenance,
    Maintenance,
    Checks,
    CheckRegister,
    CheckDeregister,
    CheckPass,
    CheckWarn,
    CheckFail,
    CheckUpdate,
    HealthById,
    HealthByName,
}

/// `/v1/catalog`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Catalog {
    Register,
    Deregister,
    Datacenters,
    Nodes,
    Services,
    Service,
    Node,
    NodeServices,
    Connect,
    GatewayServices,
}

/// `/v1/health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Node,
    Checks,
    State,
    Service,
    Connect,
    Ingress,
}

/// `/v1/session`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    Create,
    Destroy,
    Renew,
    Info,
    Node,
    List,
}

/// `/v1/operator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    AutopilotConfiguration,
    AutopilotHealth,
    AutopilotState,
    RaftConfiguration,
    RaftPeer,
    RaftTransferLeader,
    Usage,
    Keyring,
}

/// `/v1/query`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    All,
    One,
}

/// `/v1/coordinate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coordinate {
    Datacenters,
    Nodes,
    Node,
    Update,
}

/// `/v1/config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Config {
    Apply,
    Entries,
}

/// `/v1/connect` and `/v1/agent/connect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connect {
    Intentions,
    Intention,
    CaRoots,
    CaConfiguration,
    AgentCaRoots,
    AgentCaLeaf,
    Authorize,
}

/// What is made of config entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mesh {
    Chain,
    Exported,
    VirtualIp,
}

/// `/v1/internal/ui`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ui {
    Nodes,
    Node,
    Services,
    Overview,
    Topology,
    GatewayServices,
    GatewayIntentions,
}

/// `/v1/event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Fire,
    List,
}

/// What Consul answers where a feature is not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    Peerings,
    OfPeers,
    Peering,
    PeeringWrite,
    Profile,
}

/// One line of the table.
pub(super) struct Endpoint {
    /// The whole path; one that ends in `/` stands for everything below it.
    pub(super) pattern: &'static str,
    /// In the order of the `Allow` header.
    pub(super) methods: &'static [&'static str],
    pub(super) route: Route,
}

const GET: &[&str] = &["GET"];
const PUT: &[&str] = &["PUT"];
const POST: &[&str] = &["POST"];

/// Every endpoint. The key/value store comes first because it is asked most.
#[rustfmt::skip]
pub(super) static ENDPOINTS: &[Endpoint] = &[
    endpoint("/v1/kv/", &["GET", "PUT", "DELETE"], Route::Kv),
    endpoint("/v1/health/service/", GET, Route::Health(Health::Service)),
    endpoint("/v1/health/connect/", GET, Route::Health(Health::Connect)),
    endpoint("/v1/health/ingress/", GET, Route::Health(Health::Ingress)),
    endpoint("/v1/health/node/", GET, Route::Health(Health::Node)),
    endpoint("/v1/health/checks/", GET, Route::Health(Health::Checks)),
    endpoint("/v1/health/state/", GET, Route::Health(Health::State)),
    endpoint("/v1/catalog/service/", GET, Route::Catalog(Catalog::Service)),
    endpoint("/v1/catalog/services", GET, Route::Catalog(Catalog::Services)),
    endpoint("/v1/catalog/nodes", GET, Route::Catalog(Catalog::Nodes)),
    endpoint("/v1/catalog/node/", GET, Route::Catalog(Catalog::Node)),
    endpoint("/v1/catalog/node-services/", GET, Route::Catalog(Catalog::NodeServices)),
    endpoint("/v1/catalog/connect/", GET, Route::Catalog(Catalog::Connect)),
    endpoint("/v1/catalog/gateway-services/", GET, Route::Catalog(Catalog::GatewayServices)),
    endpoint("/v1/catalog/datacenters", GET, Route::Catalog(Catalog::Datacenters)),
    endpoint("/v1/catalog/register", PUT, Route::Catalog(Catalog::Register)),
    endpoint("/v1/catalog/deregister", PUT, Route::Catalog(Catalog::Deregister)),
    endpoint("/v1/session/create", PUT, Route::Session(Session::Create)),
    endpoint("/v1/session/destroy/", PUT, Route::Session(Session::Destroy)),
    endpoint("/v1/session/renew/", PUT, Route::Session(Session::Renew)),
    endpoint("/v1/session/info/", GET, Route::Session(Session::Info)),
    endpoint("/v1/session/node/", GET, Route::Session(Session::Node)),
    endpoint("/v1/session/list", GET, Route::Session(Session::List)),
    endpoint("/v1/agent/self", GET, Route::Agent(Agent::Own)),
    endpoint("/v1/agent/members", GET, Route::Agent(Agent::Members)),
    endpoint("/v1/agent/join/", PUT, Route::Agent(Agent::Join)),
    endpoint("/v1/agent/leave", PUT, Route::Agent(Agent::Leave)),
    endpoint("/v1/agent/force-leave/", PUT, Route::Agent(Agent::ForceLeave)),
    endpoint("/v1/agent/reload", PUT, Route::Agent(Agent::Reload)),
    endpoint("/v1/agent/metrics", GET, Route::Agent(Agent::Metrics)),
    endpoint("/v1/agent/metrics/stream", GET, Route::Agent(Agent::MetricsStream)),
    endpoint("/v1/agent/host", GET, Route::Agent(Agent::Host)),
    endpoint("/v1/agent/version", GET, Route::Agent(Agent::Version)),
    // Not Consul's: what a readiness probe asks.
    endpoint("/v1/agent/ready", GET, Route::Agent(Agent::Ready)),
    endpoint("/v1/agent/monitor", GET, Route::Agent(Agent::Monitor)),
    endpoint("/v1/query", &["GET", "POST"], Route::Query(Query::All)),
    endpoint("/v1/query/", &["GET", "PUT", "DELETE"], Route::Query(Query::One)),
    endpoint("/v1/coordinate/datacenters", GET, Route::Coordinate(Coordinate::Datacenters)),
    endpoint("/v1/coordinate/nodes", GET, Route::Coordinate(Coordinate::Nodes)),
    endpoint("/v1/coordinate/node/", GET, Route::Coordinate(Coordinate::Node)),
    endpoint("/v1/coordinate/update", PUT, Route::Coordinate(Coordinate::Update)),
    endpoint("/v1/config", PUT, Route::Config(Config::Apply)),
    endpoint("/v1/config/", &["GET", "DELETE"], Route::Config(Config::Entries)),
    endpoint("/v1/connect/intentions", &["GET", "POST"], Route::Connect(Connect::Intentions)),
    endpoint("/v1/connect/intentions/", &["GET", "PUT", "DELETE"], Route::Connect(Connect::Intention)),
    endpoint("/v1/discovery-chain/", &["GET", "POST"], Route::Mesh(Mesh::Chain)),
    endpoint("/v1/exported-services", GET, Route::Mesh(Mesh::Exported)),
    endpoint("/v1/imported-services", GET, Route::Closed(Closed::OfPeers)),
    endpoint("/v1/internal/ui/nodes", GET, Route::Ui(Ui::Nodes)),
    endpoint("/v1/internal/ui/node/", GET, Route::Ui(Ui::Node)),
    endpoint("/v1/internal/ui/services", GET, Route::Ui(Ui::Services)),
    endpoint("/v1/internal/ui/catalog-overview", GET, Route::Ui(Ui::Overview)),
    endpoint("/v1/internal/ui/service-topology/", GET, Route::Ui(Ui::Topology)),
    endpoint("/v1/internal/ui/gateway-services-nodes/", GET, Route::Ui(Ui::GatewayServices)),
    endpoint("/v1/internal/ui/gateway-intentions/", GET, Route::Ui(Ui::GatewayIntentions)),
    endpoint("/v1/internal/ui/exported-services", GET, Route::Closed(Closed::OfPeers)),
    endpoint("/v1/internal/service-virtual-ip", PUT, Route::Mesh(Mesh::VirtualIp)),
    endpoint("/v1/connect/ca/roots", GET, Route::Connect(Connect::CaRoots)),
    endpoint("/v1/connect/ca/configuration", &["GET", "PUT"], Route::Connect(Connect::CaConfiguration)),
    endpoint("/v1/agent/connect/ca/roots", GET, Route::Connect(Connect::AgentCaRoots)),
    endpoint("/v1/agent/connect/ca/leaf/", GET, Route::Connect(Connect::AgentCaLeaf)),
    endpoint("/v1/agent/connect/authorize", &["POST"], Route::Connect(Connect::Authorize)),
    endpoint("/v1/event/fire/", PUT, Route::Event(Event::Fire)),
    endpoint("/v1/event/list", GET, Route::Event(Event::List)),
    endpoint("/v1/snapshot", &["GET", "PUT"], Route::Snapshot),
    endpoint("/v1/txn", PUT, Route::Txn),
    endpoint("/v1/agent/services", GET, Route::Local(Local::Services)),
    // Before the pattern that would take them for ids.
    endpoint("/v1/agent/service/register", PUT, Route::Local(Local::ServiceRegister)),
    endpoint("/v1/agent/service/deregister/", PUT, Route::Local(Local::ServiceDeregister)),
    endpoint("/v1/agent/service/maintenance/", PUT, Route::Local(Local::ServiceMaintenance)),
    endpoint("/v1/agent/service/", GET, Route::Local(Local::Service)),
    endpoint("/v1/agent/maintenance", PUT, Route::Local(Local::Maintenance)),
    endpoint("/v1/agent/checks", GET, Route::Local(Local::Checks)),
    endpoint("/v1/agent/check/register", PUT, Route::Local(Local::CheckRegister)),
    endpoint("/v1/agent/check/deregister/", PUT, Route::Local(Local::CheckDeregister)),
    endpoint("/v1/agent/check/pass/", PUT, Route::Local(Local::CheckPass)),
    endpoint("/v1/agent/check/warn/", PUT, Route::Local(Local::CheckWarn)),
    endpoint("/v1/agent/check/fail/", PUT, Route::Local(Local::CheckFail)),
    endpoint("/v1/agent/check/update/", PUT, Route::Local(Local::CheckUpdate)),
    endpoint("/v1/agent/health/service/id/", GET, Route::Local(Local::HealthById)),
    endpoint("/v1/agent/health/service/name/", GET, Route::Local(Local::HealthByName)),
    endpoint("/v1/status/leader", GET, Route::Status(Status::Leader)),
    endpoint("/v1/status/peers", GET, Route::Status(Status::Peers)),
    endpoint("/v1/operator/autopilot/configuration", &["GET", "PUT"], Route::Operator(Operator::AutopilotConfiguration)),
    endpoint("/v1/operator/autopilot/health", GET, Route::Operator(Operator::AutopilotHealth)),
    endpoint("/v1/operator/autopilot/state", GET, Route::Operator(Operator::AutopilotState)),
    endpoint("/v1/operator/raft/configuration", GET, Route::Operator(Operator::RaftConfiguration)),
    endpoint("/v1/operator/raft/peer", &["DELETE"], Route::Operator(Operator::RaftPeer)),
    // Consul's documentation and client say POST; PUT is what everything else takes.
    endpoint("/v1/operator/raft/transfer-leader", &["POST", "PUT"], Route::Operator(Operator::RaftTransferLeader)),
    endpoint("/v1/operator/usage", GET, Route::Operator(Operator::Usage)),
    endpoint("/v1/operator/keyring", &["GET", "POST", "PUT", "DELETE"], Route::Operator(Operator::Keyring)),
    endpoint("/v1/peerings", GET, Route::Closed(Closed::Peerings)),
    // Before the pattern that would take them for names.
    endpoint("/v1/peering/token", POST, Route::Closed(Closed::PeeringWrite)),
    endpoint("/v1/peering/establish", POST, Route::Closed(Closed::PeeringWrite)),
    endpoint("/v1/peering/", &["GET", "DELETE"], Route::Closed(Closed::Peering)),
    endpoint("/debug/pprof/", GET, Route::Closed(Closed::Profile)),
    endpoint("/v1/acl/bootstrap", PUT, Route::Acl(Acl::Bootstrap)),
    endpoint("/v1/acl/login", POST, Route::Acl(Acl::Login)),
    endpoint("/v1/acl/logout", POST, Route::Acl(Acl::Logout)),
    endpoint("/v1/acl/replication", GET, Route::Acl(Acl::Replication)),
    endpoint("/v1/acl/tokens", GET, Route::Acl(Acl::Tokens)),
    endpoint("/v1/acl/token", PUT, Route::Acl(Acl::TokenNew)),
    endpoint("/v1/acl/token/self", GET, Route::Acl(Acl::TokenSelf)),
    endpoint("/v1/acl/token/", &["GET", "PUT", "DELETE"], Route::Acl(Acl::Token)),
    endpoint("/v1/acl/policies", GET, Route::Acl(Acl::Policies)),
    endpoint("/v1/acl/policy", PUT, Route::Acl(Acl::PolicyNew)),
    endpoint("/v1/acl/policy/name/", GET, Route::Acl(Acl::PolicyNamed)),
    endpoint("/v1/acl/policy/", &["GET", "PUT", "DELETE"], Route::Acl(Acl::Policy)),
    endpoint("/v1/acl/roles", GET, Route::Acl(Acl::Roles)),
    endpoint("/v1/acl/role", PUT, Route::Acl(Acl::RoleNew)),
    endpoint("/v1/acl/role/name/", GET, Route::Acl(Acl::RoleNamed)),
    endpoint("/v1/acl/role/", &["GET", "PUT", "DELETE"], Route::Acl(Acl::Role)),
    endpoint("/v1/acl/auth-methods", GET, Route::Acl(Acl::Methods)),
    endpoint("/v1/acl/auth-method", PUT, Route::Acl(Acl::MethodNew)),
    endpoint("/v1/acl/auth-method/", &["GET", "PUT", "DELETE"], Route::Acl(Acl::Method)),
    endpoint("/v1/acl/binding-rules", GET, Route::Acl(Acl::BindingRules)),
    endpoint("/v1/acl/binding-rule", PUT, Route::Acl(Acl::BindingRuleNew)),
    endpoint("/v1/acl/binding-rule/", &["GET", "PUT", "DELETE"], Route::Acl(Acl::BindingRule)),
    endpoint("/v1/acl/templated-policies", GET, Route::Acl(Acl::Templates)),
    endpoint("/v1/acl/templated-policy/name/", GET, Route::Acl(Acl::TemplateNamed)),
    endpoint("/v1/acl/templated-policy/preview/", POST, Route::Acl(Acl::TemplatePreview)),
    endpoint("/v1/internal/acl/authorize", POST, Route::Tokens(Tokens::Authorize)),
    endpoint("/v1/agent/token/", PUT, Route::Tokens(Tokens::OfAgent)),
];

const fn endpoint(
    pattern: &'static str,
    methods: &'static [&'static str],
    route: Route,
) -> Endpoint {
    Endpoint {
        pattern,
        methods,
        route,
    }
}

/// Every endpoint: its path, and its methods. A path that ends in `/` stands for everything below it.
pub fn endpoints() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    ENDPOINTS.iter().map(|one| (one.pattern, one.methods))
}

/// The endpoint that answers a path, as [`endpoints`] names it.
pub fn endpoint_of(path: &str) -> Option<&'static str> {
    match find(path) {
        Found::Endpoint(at, _) => Some(ENDPOINTS[at].pattern),
        _ => None,
    }
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// The endpoint's place in [`ENDPOINTS`], and what stands behind its pattern.
    Endpoint(usize, &'a str),
    /// Only the final `/` is missing.
    Slash,
    /// The address itself.
    Root,
    /// No such path.
    Nothing,
}

/// Finds the endpoint of a decoded path.
pub(super) fn find(path: &str) -> Found<'_> {
    for (at, endpoint) in ENDPOINTS.iter().enumerate() {
        let Some(rest) = path.strip_prefix(endpoint.pattern) else {
            continue;
        };
        if rest.is_empty() || endpoint.pattern.ends_with('/') {
            return Found::Endpoint(at, rest);
        }
    }
    if path == "/" {
        return Found::Root;
    }
    let without_slash = |pattern: &str| pattern.strip_suffix('/') == Some(path);
    if ENDPOINTS
        .iter()
        .any(|endpoint| without_slash(endpoint.pattern))
    {
        return Found::Slash;
    }
    Found::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Option<(Route, &str)> {
        match find(path) {
            Found::Endpoint(at, rest) => Some((ENDPOINTS[at].route, rest)),
            _ => None,
        }
    }

    #[test]
    fn paths_lead_to_their_endpoints() {
        assert_eq!(route("/v1/kv/a//b/"), Some((Route::Kv, "a//b/")));
        assert_eq!(route("/v1/kv/"), Some((Route::Kv, "")));
        assert_eq!(
            route("/v1/catalog/service/web"),
            Some((Route::Catalog(Catalog::Service), "web"))
        );
        assert_eq!(
            route("/v1/catalog/services"),
            Some((Route::Catalog(Catalog::Services), ""))
        );
        assert_eq!(
            route("/v1/catalog/node-services/n"),
            Some((Route::Catalog(Catalog::NodeServices), "n"))
        );
        assert_eq!(find("/v1/kv"), Found::Slash);
        assert_eq!(find("/"), Found::Root);
        for path in [
            "/v1/agent/selfish",
            "/v1/agent/self/",
            "/v2/kv/a",
            "",
            "/v1/",
            "/V1/kv/a",
        ] {
            assert_eq!(find(path), Found::Nothing, "{path}");
        }
    }

    #[test]
    fn no_pattern_hides_another() {
        for (at, endpoint) in ENDPOINTS.iter().enumerate() {
            assert_eq!(
                find(endpoint.pattern),
                Found::Endpoint(at, ""),
                "{}",
                endpoint.pattern
            );
        }
    }
}
