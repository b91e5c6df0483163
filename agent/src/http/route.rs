//! Which path is which endpoint.

/// An endpoint. Its handler is chosen in [`super::server`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Kv,
    StatusLeader,
    StatusPeers,
    AgentSelf,
    AgentMembers,
    AgentJoin,
    AgentLeave,
    AgentForceLeave,
    AgentReload,
    AgentMetrics,
    AgentHost,
    AgentVersion,
    AgentReady,
    AgentMonitor,
    AgentServices,
    AgentService,
    AgentServiceRegister,
    AgentServiceDeregister,
    AgentServiceMaintenance,
    AgentMaintenance,
    AgentChecks,
    AgentCheckRegister,
    AgentCheckDeregister,
    AgentCheckPass,
    AgentCheckWarn,
    AgentCheckFail,
    AgentCheckUpdate,
    AgentHealthById,
    AgentHealthByName,
    CatalogRegister,
    CatalogDeregister,
    CatalogDatacenters,
    CatalogNodes,
    CatalogServices,
    CatalogService,
    CatalogNode,
    CatalogNodeServices,
    CatalogConnect,
    CatalogGatewayServices,
    HealthNode,
    HealthChecks,
    HealthState,
    HealthService,
    HealthConnect,
    HealthIngress,
    SessionCreate,
    SessionDestroy,
    SessionRenew,
    SessionInfo,
    SessionNode,
    SessionList,
    AutopilotConfiguration,
    AutopilotHealth,
    AutopilotState,
    RaftConfiguration,
    RaftPeer,
    RaftTransferLeader,
    Queries,
    PreparedQuery,
    CoordinateDatacenters,
    CoordinateNodes,
    CoordinateNode,
    CoordinateUpdate,
    ConfigApply,
    ConfigEntries,
    Intentions,
    Intention,
    EventFire,
    EventList,
    Snapshot,
    Txn,
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

/// Every endpoint. The key/value store comes first because it is asked most.
#[rustfmt::skip]
pub(super) static ENDPOINTS: &[Endpoint] = &[
    endpoint("/v1/kv/", &["GET", "PUT", "DELETE"], Route::Kv),
    endpoint("/v1/health/service/", GET, Route::HealthService),
    endpoint("/v1/health/connect/", GET, Route::HealthConnect),
    endpoint("/v1/health/ingress/", GET, Route::HealthIngress),
    endpoint("/v1/health/node/", GET, Route::HealthNode),
    endpoint("/v1/health/checks/", GET, Route::HealthChecks),
    endpoint("/v1/health/state/", GET, Route::HealthState),
    endpoint("/v1/catalog/service/", GET, Route::CatalogService),
    endpoint("/v1/catalog/services", GET, Route::CatalogServices),
    endpoint("/v1/catalog/nodes", GET, Route::CatalogNodes),
    endpoint("/v1/catalog/node/", GET, Route::CatalogNode),
    endpoint("/v1/catalog/node-services/", GET, Route::CatalogNodeServices),
    endpoint("/v1/catalog/connect/", GET, Route::CatalogConnect),
    endpoint("/v1/catalog/gateway-services/", GET, Route::CatalogGatewayServices),
    endpoint("/v1/catalog/datacenters", GET, Route::CatalogDatacenters),
    endpoint("/v1/catalog/register", PUT, Route::CatalogRegister),
    endpoint("/v1/catalog/deregister", PUT, Route::CatalogDeregister),
    endpoint("/v1/session/create", PUT, Route::SessionCreate),
    endpoint("/v1/session/destroy/", PUT, Route::SessionDestroy),
    endpoint("/v1/session/renew/", PUT, Route::SessionRenew),
    endpoint("/v1/session/info/", GET, Route::SessionInfo),
    endpoint("/v1/session/node/", GET, Route::SessionNode),
    endpoint("/v1/session/list", GET, Route::SessionList),
    endpoint("/v1/agent/self", GET, Route::AgentSelf),
    endpoint("/v1/agent/members", GET, Route::AgentMembers),
    endpoint("/v1/agent/join/", PUT, Route::AgentJoin),
    endpoint("/v1/agent/leave", PUT, Route::AgentLeave),
    endpoint("/v1/agent/force-leave/", PUT, Route::AgentForceLeave),
    endpoint("/v1/agent/reload", PUT, Route::AgentReload),
    endpoint("/v1/agent/metrics", GET, Route::AgentMetrics),
    endpoint("/v1/agent/host", GET, Route::AgentHost),
    endpoint("/v1/agent/version", GET, Route::AgentVersion),
    // Not Consul's: what a readiness probe asks.
    endpoint("/v1/agent/ready", GET, Route::AgentReady),
    endpoint("/v1/agent/monitor", GET, Route::AgentMonitor),
    endpoint("/v1/query", &["GET", "POST"], Route::Queries),
    endpoint("/v1/query/", &["GET", "PUT", "DELETE"], Route::PreparedQuery),
    endpoint("/v1/coordinate/datacenters", GET, Route::CoordinateDatacenters),
    endpoint("/v1/coordinate/nodes", GET, Route::CoordinateNodes),
    endpoint("/v1/coordinate/node/", GET, Route::CoordinateNode),
    endpoint("/v1/coordinate/update", PUT, Route::CoordinateUpdate),
    endpoint("/v1/config", PUT, Route::ConfigApply),
    endpoint("/v1/config/", &["GET", "DELETE"], Route::ConfigEntries),
    endpoint("/v1/connect/intentions", &["GET", "POST"], Route::Intentions),
    endpoint("/v1/connect/intentions/", &["GET", "PUT", "DELETE"], Route::Intention),
    endpoint("/v1/event/fire/", PUT, Route::EventFire),
    endpoint("/v1/event/list", GET, Route::EventList),
    endpoint("/v1/snapshot", &["GET", "PUT"], Route::Snapshot),
    endpoint("/v1/txn", PUT, Route::Txn),
    endpoint("/v1/agent/services", GET, Route::AgentServices),
    // Before the pattern that would take them for ids.
    endpoint("/v1/agent/service/register", PUT, Route::AgentServiceRegister),
    endpoint("/v1/agent/service/deregister/", PUT, Route::AgentServiceDeregister),
    endpoint("/v1/agent/service/maintenance/", PUT, Route::AgentServiceMaintenance),
    endpoint("/v1/agent/service/", GET, Route::AgentService),
    endpoint("/v1/agent/maintenance", PUT, Route::AgentMaintenance),
    endpoint("/v1/agent/checks", GET, Route::AgentChecks),
    endpoint("/v1/agent/check/register", PUT, Route::AgentCheckRegister),
    endpoint("/v1/agent/check/deregister/", PUT, Route::AgentCheckDeregister),
    endpoint("/v1/agent/check/pass/", PUT, Route::AgentCheckPass),
    endpoint("/v1/agent/check/warn/", PUT, Route::AgentCheckWarn),
    endpoint("/v1/agent/check/fail/", PUT, Route::AgentCheckFail),
    endpoint("/v1/agent/check/update/", PUT, Route::AgentCheckUpdate),
    endpoint("/v1/agent/health/service/id/", GET, Route::AgentHealthById),
    endpoint("/v1/agent/health/service/name/", GET, Route::AgentHealthByName),
    endpoint("/v1/status/leader", GET, Route::StatusLeader),
    endpoint("/v1/status/peers", GET, Route::StatusPeers),
    endpoint("/v1/operator/autopilot/configuration", &["GET", "PUT"], Route::AutopilotConfiguration),
    endpoint("/v1/operator/autopilot/health", GET, Route::AutopilotHealth),
    endpoint("/v1/operator/autopilot/state", GET, Route::AutopilotState),
    endpoint("/v1/operator/raft/configuration", GET, Route::RaftConfiguration),
    endpoint("/v1/operator/raft/peer", &["DELETE"], Route::RaftPeer),
    // Consul's documentation and client say POST; PUT is what everything else takes.
    endpoint("/v1/operator/raft/transfer-leader", &["POST", "PUT"], Route::RaftTransferLeader),
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
            Some((Route::CatalogService, "web"))
        );
        assert_eq!(
            route("/v1/catalog/services"),
            Some((Route::CatalogServices, ""))
        );
        assert_eq!(
            route("/v1/catalog/node-services/n"),
            Some((Route::CatalogNodeServices, "n"))
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
