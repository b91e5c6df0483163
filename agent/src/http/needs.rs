//! Who decides about a request, and what it takes: one line an endpoint, so that the compiler names one that is forgotten.
//!
//! What servers hold is decided where it is answered (`crate::acl`), whoever passes the request on. What an agent says of
//! itself is decided here.

use super::Api;
use super::error::Error;
use super::route::{
    Acl, Agent, Catalog, Closed, Connect, Coordinate, Event, Operator, Route, Session, Tokens, Ui,
};
use super::server::Server;
use crate::acl::{Access, Resource, SharedHolder};

/// Who decides, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nobody: it is for everybody.
    Nothing,
    /// The servers, by what is asked for.
    Servers,
    /// This agent: this much of this resource, under the name of its node where it has one.
    Own(Resource, Access),
    /// This agent, by what is named, and by what is shown.
    Handler,
}

use Access::{Read, Write};
use Need::{Handler, Nothing, Own, Servers};

/// What a request to an endpoint takes.
pub(super) fn need(route: Route, method: &str) -> Need {
    let is_read = matches!(method, "GET" | "HEAD");
    match route {
        Route::Kv
        | Route::Health(_)
        | Route::Session(
            Session::Create
            | Session::Destroy
            | Session::Renew
            | Session::Info
            | Session::Node
            | Session::List,
        )
        | Route::Query(_)
        | Route::Config(_)
        | Route::Mesh(_)
        | Route::Ui(
            Ui::Nodes
            | Ui::Node
            | Ui::Services
            | Ui::Topology
            | Ui::GatewayServices
            | Ui::GatewayIntentions,
        )
        | Route::Txn => Servers,
        Route::Ui(Ui::Overview) => Own(Resource::Operator, Read),
        // It holds every key and every token; said before a body of any size is taken.
        Route::Snapshot => Own(Resource::Acl, Write),
        // Who leads is what a client must know before it can do anything.
        Route::Status(_) => Nothing,
        Route::Agent(agent) => of_agent(agent),
        Route::Local(_) => Handler,
        Route::Catalog(Catalog::Datacenters) => Nothing,
        Route::Catalog(_) => Servers,
        Route::Operator(Operator::Usage) => Own(Resource::Operator, Read),
        Route::Operator(Operator::Keyring) if is_read => Own(Resource::Keyring, Read),
        Route::Operator(Operator::Keyring) => Own(Resource::Keyring, Write),
        Route::Operator(_) => Servers,
        Route::Coordinate(Coordinate::Datacenters) => Nothing,
        Route::Coordinate(_) => Servers,
        Route::Connect(Connect::AgentCaLeaf | Connect::Authorize) => Handler,
        Route::Connect(Connect::Intentions | Connect::Intention) if !is_read => Handler,
        Route::Connect(_) => Servers,
        // Where it is fired; what is shown is filtered.
        Route::Event(Event::Fire | Event::List) => Handler,
        Route::Acl(acl) => of_acl(acl, is_read),
        Route::Tokens(Tokens::OfAgent) => Own(Resource::Agent, Write),
        // Everybody may know what their own token allows.
        Route::Tokens(Tokens::Authorize) => Handler,
        Route::Closed(Closed::Peering | Closed::Peerings | Closed::OfPeers) if is_read => {
            Own(Resource::Peering, Read)
        }
        Route::Closed(
            Closed::Peering | Closed::Peerings | Closed::OfPeers | Closed::PeeringWrite,
        ) => Own(Resource::Peering, Write),
        Route::Closed(Closed::Profile) => Own(Resource::Operator, Read),
    }
}

fn of_acl(route: Acl, is_read: bool) -> Need {
    match route {
        // Whoever may do that, knows an index; whoever asks for their own token, knows its secret.
        Acl::Bootstrap | Acl::TokenSelf => Servers,
        // Whoever logs in has no token yet, and whatever they send in place of one does not matter.
        Acl::Login => Nothing,
        // By the token that is to end.
        Acl::Logout => Servers,
        Acl::Replication => Nothing,
        Acl::Tokens
        | Acl::TokenNew
        | Acl::Token
        | Acl::Policies
        | Acl::PolicyNew
        | Acl::PolicyNamed
        | Acl::Policy
        | Acl::Roles
        | Acl::RoleNew
        | Acl::RoleNamed
        | Acl::Role
        | Acl::Methods
        | Acl::MethodNew
        | Acl::Method
        | Acl::BindingRules
        | Acl::BindingRuleNew
        | Acl::BindingRule => Own(Resource::Acl, if is_read { Read } else { Write }),
        // They hold nothing.
        Acl::Templates | Acl::TemplateNamed | Acl::TemplatePreview => Own(Resource::Acl, Read),
    }
}

fn of_agent(route: Agent) -> Need {
    match route {
        // Not in Consul. A probe has no token, and learns nothing that a connection would not tell.
        Agent::Ready | Agent::Version => Nothing,
        Agent::Own | Agent::Metrics | Agent::MetricsStream | Agent::Monitor => {
            Own(Resource::Agent, Read)
        }
        Agent::Members => Handler,
        Agent::Join | Agent::Leave | Agent::Reload => Own(Resource::Agent, Write),
        Agent::ForceLeave => Own(Resource::Operator, Write),
        Agent::Host => Own(Resource::Operator, Read),
    }
}

/// Whether this agent must know what a token allows, to decide about a request.
pub(super) fn is_decided_here(need: Need) -> bool {
    matches!(need, Own(..) | Handler)
}

/// What handlers ask.
impl<A: Api> Server<A> {
    /// Refuses whoever may not do this.
    pub(super) fn need(&self, resource: Resource, name: &str, access: Access) -> Result<(), Error> {
        match self.holder() {
            Some(holder) => Ok(holder
                .need(resource, name, access)
                .map_err(crate::node::Error::from)?),
            None => Ok(()),
        }
    }

    /// Whether whoever asks may look at this.
    pub(super) fn sees(&self, resource: Resource, name: &str) -> bool {
        let may = |holder: &SharedHolder| holder.may(resource, name, Read);
        self.holder().is_none_or(may)
    }

    /// Refuses whoever may not change a service of this agent, or its node if the name is empty.
    pub(super) fn need_service(&self, service: &str) -> Result<(), Error> {
        match service {
            "" => self.need(Resource::Node, &self.settings().node_name, Write),
            service => self.need(Resource::Service, service, Write),
        }
    }

    /// The same for a check that is here; one that is not is somebody else's error.
    pub(super) fn need_check(&self, id: &str) -> Result<(), Error> {
        match self.api().local().check(id) {
            Some(check) => self.need_service(&check.row.service_name),
            None => Ok(()),
        }
    }

    /// The same for a service that is here.
    pub(super) fn need_service_id(&self, id: &str) -> Result<(), Error> {
        match self.api().local().service(id) {
            Some(own) => self.need_service(&own.row.service),
            None => Ok(()),
        }
    }
}
