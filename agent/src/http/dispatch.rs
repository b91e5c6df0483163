//! Which endpoint is answered by whom: one function a family, so that the compiler names a route that is forgotten.

use super::request::Request;
use super::route::{
    Agent, Catalog, Closed, Config, Connect, Coordinate, Event, Health, Local, Mesh, Operator,
    Query, Route, Session, Status, Tokens, Ui,
};
use super::server::{Answer, Server};
use super::{
    Api, acl, agent, autopilot, catalog, closed, config, connect, coordinate, event, health,
    intentions, keyring, kv, local, mesh, operator, query, session, snapshot, status, tokens, txn,
    ui, usage,
};
use crate::state::CheckStatus;

/// Each in a box of its own, so that none is as large as the largest.
macro_rules! answer {
    ($answer:expr) => {
        Box::pin(async move { $answer })
    };
}

impl<A: Api> Server<A> {
    /// Answers a request at its endpoint; `rest` is what stands behind the endpoint's pattern.
    pub(super) fn dispatch(&self, route: Route, request: Request, rest: String) -> Answer<'_> {
        match route {
            Route::Kv => Box::pin(kv::handle(self, request, rest)),
            Route::Status(route) => self.of_status(route, request),
            Route::Agent(route) => self.of_agent(route, request, rest),
            Route::Local(route) => self.of_local(route, request, rest),
            Route::Catalog(route) => self.of_catalog(route, request, rest),
            Route::Health(route) => self.of_health(route, request, rest),
            Route::Session(route) => self.of_session(route, request, rest),
            Route::Operator(route) => self.of_operator(route, request),
            Route::Query(route) => self.of_query(route, request, rest),
            Route::Coordinate(route) => self.of_coordinate(route, request, rest),
            Route::Config(route) => self.of_config(route, request, rest),
            Route::Connect(route) => self.of_connect(route, request, rest),
            Route::Event(route) => self.of_event(route, request, rest),
            Route::Mesh(route) => self.of_mesh(route, request, rest),
            Route::Ui(route) => self.of_ui(route, request, rest),
            Route::Snapshot => answer!(snapshot::handle(self, request).await),
            Route::Txn => answer!(txn::handle(self, request).await),
            Route::Acl(route) => answer!(acl::handle(self, route, request, rest).await),
            Route::Tokens(Tokens::OfAgent) => answer!(tokens::set(self, request, rest).await),
            Route::Tokens(Tokens::Authorize) => answer!(tokens::authorize(self, request).await),
            Route::Closed(route) => self.of_closed(route, request, rest),
        }
    }

    fn of_status(&self, route: Status, request: Request) -> Answer<'_> {
        match route {
            Status::Leader => answer!(status::leader(self, &request).await),
            Status::Peers => answer!(status::peers(self, &request).await),
        }
    }

    fn of_agent(&self, route: Agent, request: Request, rest: String) -> Answer<'_> {
        match route {
            Agent::Own => answer!(Ok(agent::self_(self, &request))),
            Agent::Members => answer!(agent::members(self, &request)),
            Agent::Join => answer!(agent::join(self, &request, rest).await),
            Agent::Leave => answer!(agent::leave(self).await),
            Agent::ForceLeave => answer!(agent::force_leave(self, &request, rest).await),
            Agent::Reload => answer!(agent::reload(self)),
            Agent::Metrics => answer!(Ok(agent::metrics(self, &request))),
            Agent::Host => answer!(Ok(agent::host(self, &request))),
            Agent::Version => answer!(Ok(agent::version(self, &request))),
            Agent::Ready => answer!(Ok(agent::ready(self))),
            Agent::Monitor => answer!(agent::monitor(self, &request)),
            Agent::MetricsStream => answer!(Ok(agent::metrics_stream(self))),
        }
    }

    fn of_local(&self, route: Local, request: Request, rest: String) -> Answer<'_> {
        match route {
            Local::Services => answer!(local::services(self, &request)),
            Local::Service => answer!(local::service(self, &request, rest).await),
            Local::ServiceRegister => answer!(local::register_service(self, request).await),
            Local::ServiceDeregister => {
                answer!(local::deregister_service(self, &request, rest).await)
            }
            Local::ServiceMaintenance => answer!(local::maintain(self, &request, Some(rest)).await),
            Local::Maintenance => answer!(local::maintain(self, &request, None).await),
            Local::Checks => answer!(local::checks(self, &request)),
            Local::CheckRegister => answer!(local::register_check(self, request).await),
            Local::CheckDeregister => answer!(local::deregister_check(self, &request, rest).await),
            Local::CheckPass => {
                answer!(local::tell(self, &request, rest, CheckStatus::Passing).await)
            }
            Local::CheckWarn => {
                answer!(local::tell(self, &request, rest, CheckStatus::Warning).await)
            }
            Local::CheckFail => {
                answer!(local::tell(self, &request, rest, CheckStatus::Critical).await)
            }
            Local::CheckUpdate => answer!(local::update(self, request, rest).await),
            Local::HealthById => answer!(local::health_by_id(self, &request, rest)),
            Local::HealthByName => answer!(local::health_by_name(self, &request, rest)),
        }
    }

    fn of_catalog(&self, route: Catalog, request: Request, rest: String) -> Answer<'_> {
        match route {
            Catalog::Register => answer!(catalog::register(self, request).await),
            Catalog::Deregister => answer!(catalog::deregister(self, request).await),
            Catalog::Datacenters => answer!(catalog::datacenters(self, &request).await),
            Catalog::Nodes => catalog::nodes(self, request),
            Catalog::Services => catalog::services(self, request),
            Catalog::Service => catalog::service(self, request, rest),
            Catalog::Node => catalog::node(self, request, rest),
            Catalog::NodeServices => catalog::node_services(self, request, rest),
            Catalog::Connect => catalog::connect(self, request, rest),
            Catalog::GatewayServices => {
                answer!(mesh::gateway_services(self, &request, rest).await)
            }
        }
    }

    fn of_health(&self, route: Health, request: Request, rest: String) -> Answer<'_> {
        match route {
            Health::Node => health::node(self, request, rest),
            Health::Checks => health::service_checks(self, request, rest),
            Health::State => health::state(self, request, rest),
            Health::Service => health::service(self, request, rest),
            Health::Connect => health::connect(self, request, rest),
            Health::Ingress => health::ingress(self, request, rest),
        }
    }

    fn of_session(&self, route: Session, request: Request, rest: String) -> Answer<'_> {
        match route {
            Session::Create => answer!(session::create(self, request).await),
            Session::Destroy => answer!(session::destroy(self, &request, rest).await),
            Session::Renew => answer!(session::renew(self, &request, rest).await),
            Session::Info => answer!(session::info(self, &request, rest).await),
            Session::Node => answer!(session::of_node(self, &request, rest).await),
            Session::List => answer!(session::list(self, &request).await),
        }
    }

    fn of_operator(&self, route: Operator, request: Request) -> Answer<'_> {
        match route {
            Operator::AutopilotConfiguration => {
                answer!(autopilot::configuration(self, request).await)
            }
            Operator::AutopilotHealth => answer!(autopilot::health(self, &request).await),
            Operator::AutopilotState => answer!(autopilot::state(self, &request).await),
            Operator::RaftConfiguration => answer!(operator::configuration(self, &request).await),
            Operator::RaftPeer => answer!(operator::remove_peer(self, &request).await),
            Operator::RaftTransferLeader => {
                answer!(operator::transfer_leader(self, &request).await)
            }
            Operator::Usage => answer!(usage::usage(self, &request).await),
            Operator::Keyring => answer!(keyring::handle(self, request).await),
        }
    }

    fn of_closed(&self, route: Closed, request: Request, rest: String) -> Answer<'_> {
        match route {
            Closed::Peerings | Closed::OfPeers => {
                answer!(Ok(self.json::<[(); 0]>(&request.params, &[])))
            }
            Closed::Peering => answer!(closed::peering(&request, rest)),
            Closed::PeeringWrite => answer!(Err(closed::no_peering())),
            Closed::Profile => answer!(closed::profile(self, &rest)),
        }
    }

    fn of_query(&self, route: Query, request: Request, rest: String) -> Answer<'_> {
        match route {
            Query::All => answer!(query::all(self, request).await),
            Query::One => answer!(query::one(self, request, rest).await),
        }
    }

    fn of_coordinate(&self, route: Coordinate, request: Request, rest: String) -> Answer<'_> {
        match route {
            Coordinate::Datacenters => answer!(coordinate::datacenters(self, &request).await),
            Coordinate::Nodes => answer!(coordinate::nodes(self, &request).await),
            Coordinate::Node => answer!(coordinate::node(self, &request, rest).await),
            Coordinate::Update => answer!(coordinate::update(self, request).await),
        }
    }

    fn of_config(&self, route: Config, request: Request, rest: String) -> Answer<'_> {
        match route {
            Config::Apply => answer!(config::apply(self, request).await),
            Config::Entries => answer!(config::of_kind(self, request, rest).await),
        }
    }

    fn of_connect(&self, route: Connect, request: Request, rest: String) -> Answer<'_> {
        match route {
            Connect::Intentions => answer!(intentions::all(self, request).await),
            Connect::Intention => answer!(intentions::one(self, request, rest).await),
            Connect::CaRoots | Connect::AgentCaRoots => {
                answer!(connect::roots(self, &request).await)
            }
            Connect::CaConfiguration => answer!(connect::configuration(self, request).await),
            Connect::AgentCaLeaf => answer!(connect::leaf(self, &request, rest).await),
            Connect::Authorize => answer!(connect::authorize(self, request).await),
        }
    }

    fn of_mesh(&self, route: Mesh, request: Request, rest: String) -> Answer<'_> {
        match route {
            Mesh::Chain => answer!(mesh::chain(self, request, rest).await),
            Mesh::Exported => answer!(mesh::exported(self, &request).await),
            Mesh::VirtualIp => answer!(mesh::assign(self, request).await),
        }
    }

    fn of_ui(&self, route: Ui, request: Request, rest: String) -> Answer<'_> {
        match route {
            Ui::Nodes => ui::nodes(self, request),
            Ui::Node => ui::node(self, request, rest),
            Ui::Services => ui::services(self, request),
            Ui::Overview => ui::overview(self, request),
            Ui::Topology => ui::graph::topology(self, request, rest),
            Ui::GatewayServices => ui::graph::gateway_services(self, request, rest),
            Ui::GatewayIntentions => ui::graph::gateway_intentions(self, request, rest),
        }
    }

    fn of_event(&self, route: Event, request: Request, rest: String) -> Answer<'_> {
        match route {
            Event::Fire => answer!(event::fire(self, request, rest).await),
            Event::List => answer!(event::list(self, &request).await),
        }
    }
}
