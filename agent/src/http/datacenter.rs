//! `?dc=`: which requests go to another datacenter, and to which.

use super::error::Error;
use super::request::Request;
use super::route::{Catalog, Connect, Coordinate, Event, Route};
use super::server::{Answer, Server};
use super::{Api, Settings};
use crate::node;

/// What a request that names another datacenter, or belongs into one, leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// It is asked there.
    There(String),
    /// This agent answers for itself, provided that there is such a datacenter.
    Own(String),
}

/// Where a request is answered, if not by the own datacenter without further ado. Pure.
pub(super) fn destination(
    settings: &Settings,
    route: Route,
    method: &str,
    asked: Option<&str>,
) -> Option<Destination> {
    let asked = asked.unwrap_or(&settings.datacenter);
    let is_read = matches!(method, "GET" | "HEAD");
    match route {
        Route::Agent(_)
        | Route::Local(_)
        | Route::Tokens(_)
        | Route::Event(Event::List)
        | Route::Catalog(Catalog::Datacenters)
        | Route::Coordinate(Coordinate::Datacenters)
            if asked != settings.datacenter =>
        {
            Some(Destination::Own(asked.to_owned()))
        }
        // Config entries, and the intentions that are part of them, are written in the primary datacenter, whatever the
        // request says: the others copy them from there.
        Route::Config(_) | Route::Connect(Connect::Intentions | Connect::Intention) if !is_read => {
            let primary = &settings.primary_datacenter;
            (*primary != settings.datacenter).then(|| Destination::There(primary.clone()))
        }
        _ => (asked != settings.datacenter).then(|| Destination::There(asked.to_owned())),
    }
}

impl<A: Api> Server<A> {
    /// Answers a request that is not for the own datacenter.
    pub(super) fn elsewhere(
        &self,
        to: Destination,
        route: Route,
        request: Request,
        rest: String,
    ) -> Answer<'_> {
        Box::pin(async move {
            match to {
                Destination::There(datacenter) => {
                    let there = self.at(&datacenter);
                    there.dispatch(route, request, rest).await
                }
                Destination::Own(datacenter) => {
                    let known = self.api().datacenters().await?;
                    if !known.iter().any(|one| one.name == datacenter) {
                        return Err(Error::from(node::Error::NoPath));
                    }
                    self.dispatch(route, request, rest).await
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::route::{Agent, Config};
    use super::super::tests::settings;
    use super::*;

    fn to(route: Route, method: &str, asked: Option<&str>) -> Option<Destination> {
        let settings = Settings {
            primary_datacenter: "dc7".into(),
            ..settings()
        };
        destination(&settings, route, method, asked)
    }

    #[test]
    fn requests_go_where_they_are_answered() {
        let there = |dc: &str| Some(Destination::There(dc.into()));
        let own = |dc: &str| Some(Destination::Own(dc.into()));
        for (route, method, asked, wanted) in [
            (Route::Kv, "GET", None, None),
            (Route::Kv, "GET", Some("dc1"), None),
            (Route::Kv, "PUT", Some("dc2"), there("dc2")),
            (Route::Event(Event::Fire), "PUT", Some("dc2"), there("dc2")),
            (Route::Event(Event::List), "GET", Some("dc2"), own("dc2")),
            (Route::Agent(Agent::Own), "GET", Some("dc2"), own("dc2")),
            (Route::Agent(Agent::Own), "GET", Some("dc1"), None),
            (Route::Catalog(Catalog::Datacenters), "GET", None, None),
            (
                Route::Config(Config::Entries),
                "GET",
                Some("dc2"),
                there("dc2"),
            ),
            (Route::Config(Config::Entries), "GET", None, None),
            (
                Route::Config(Config::Entries),
                "DELETE",
                Some("dc2"),
                there("dc7"),
            ),
            (Route::Config(Config::Apply), "PUT", None, there("dc7")),
            (
                Route::Config(Config::Apply),
                "PUT",
                Some("dc7"),
                there("dc7"),
            ),
            (
                Route::Connect(Connect::Intentions),
                "POST",
                None,
                there("dc7"),
            ),
            (Route::Connect(Connect::Intentions), "GET", None, None),
        ] {
            assert_eq!(
                to(route, method, asked),
                wanted,
                "{route:?} {method} {asked:?}"
            );
        }
    }

    #[test]
    fn a_primary_writes_its_entries_itself_even_if_asked_to_write_them_elsewhere() {
        let to = |asked| {
            let route = Route::Config(Config::Apply);
            destination(&settings(), route, "PUT", asked)
        };
        assert_eq!(to(None), None);
        assert_eq!(to(Some("dc2")), None);
    }
}
