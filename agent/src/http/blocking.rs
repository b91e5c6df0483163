//! How a read is asked for: consistency, blocking, datacenter; and what its headers say.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, ready};

use super::body::{Response, Value};
use super::error::Error;
use super::request::Params;
use super::{Api, Server, Settings};
use crate::duration;
use crate::env::Random;
use crate::node::{self, Consistency, ReadOptions, Reply};
use crate::state::{Answer, Query};
use crate::translate;

/// What the headers of a read say.
pub(super) struct Headers {
    index: u64,
    known_leader: bool,
    last_contact: u64,
    /// Of reads of the catalog only.
    effective: Option<&'static str>,
    /// How old an answer is that may be a cached one, and whether this server gave it from what it has.
    cached: Option<(bool, u64)>,
    /// Whether addresses of other datacenters are those for other datacenters.
    translated: bool,
    /// Whether something was left out that the asker may not see.
    filtered: bool,
}

impl Headers {
    /// The index of the answer.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// Whether something was left out that the asker may not see.
    pub(super) fn is_filtered(&self) -> bool {
        self.filtered
    }

    /// The same where what was left out is shown after all.
    pub(super) fn unfiltered(self) -> Self {
        Self {
            filtered: false,
            ..self
        }
    }

    /// Adds them to a response.
    pub(super) fn on(self, mut response: Response) -> Response {
        let known = if self.known_leader { "true" } else { "false" };
        response.headers.extend([
            ("X-Consul-Index", Value::Number(self.index)),
            ("X-Consul-Knownleader", Value::Static(known)),
            ("X-Consul-Lastcontact", Value::Number(self.last_contact)),
            ("X-Consul-Query-Backend", Value::Static("blocking-query")),
        ]);
        if self.translated {
            response.set("X-Consul-Translate-Addresses", Value::Static("true"));
        }
        if self.filtered {
            response.set("X-Consul-Results-Filtered-By-Acls", Value::Static("true"));
        }
        if let Some(effective) = self.effective {
            response.set("X-Consul-Effective-Consistency", Value::Static(effective));
            if let Some((hit, age)) = self.cached {
                let word = if hit { "HIT" } else { "MISS" };
                response.set("X-Cache", Value::Static(word));
                if hit {
                    response.set("Age", Value::Number(age));
                }
            }
        }
        response
    }
}

/// Asks the node, blocking if the request says so.
pub(super) fn read<'s, A: Api>(
    server: &'s Server<A>,
    params: &Params,
    query: Query,
) -> impl Future<Output = Result<(Answer, Headers), Error>> + Send + use<'s, A> {
    let settings = server.settings();
    let options =
        check_scope(settings, params).and_then(|()| options(settings, server.random(), params));
    let mut options = match options {
        Ok(options) => options,
        Err(error) => return Either::Right(ready(Err(error))),
    };
    let cached = settings.use_cache && params.has("cached") && is_cached(&query);
    if cached && settings.server && options.consistency == Consistency::Default {
        // A server's own state is its cache: as fresh as gossip between servers, and no other is asked.
        options.consistency = Consistency::Stale;
        let seconds = params.max_age.map(u64::from);
        options.max_stale = seconds.map(Duration::from_secs);
    }
    let may_be_old = settings.discovery_max_stale;
    if !may_be_old.is_zero() && options.consistency == Consistency::Default && is_discovery(&query)
    {
        options.consistency = Consistency::Stale;
        options.max_stale = Some(may_be_old);
    }
    let consistency = options.consistency;
    let cached = cached.then_some(settings.server && consistency == Consistency::Stale);
    let blocks = options.min_index > 0;
    let elsewhere = server.is_elsewhere();
    let reply = server.api().read(query, options);
    let reply = match blocks {
        // A query that may block for minutes must not hold up the end of the process.
        true => Either::Left(unless_shut_down(server, reply)),
        false => Either::Right(reply),
    };
    Either::Left(reply.map(move |reply| {
        let mut reply = reply?;
        let translated = settings.translate_wan_addrs;
        if translated && elsewhere {
            translate::to_wan(&mut reply.answer);
        }
        let mut headers = headers(&reply, consistency, cached);
        headers.translated = translated;
        Ok((reply.answer, headers))
    }))
}

/// No `async fn`, which would keep the reply's place twice while it waits.
fn unless_shut_down<'s, A: Api, F>(
    server: &'s Server<A>,
    reply: F,
) -> impl Future<Output = Result<Reply, node::Error>> + Send + use<'s, A, F>
where
    F: Future<Output = Result<Reply, node::Error>> + Send,
{
    let mut reply = Box::pin(reply);
    let mut stopped = Box::pin(server.shutdown().cancelled());
    poll_fn(move |context| match reply.as_mut().poll(context) {
        Poll::Ready(reply) => Poll::Ready(reply),
        Poll::Pending => {
            let stopped = stopped.as_mut().poll(context);
            stopped.map(|()| Err(node::Error::ShuttingDown))
        }
    })
}

/// What becomes of a read.
pub(super) type Shown<'s> = BoxFuture<'s, Result<Response, Error>>;

/// What makes a response of an answer, once it is there.
pub(super) type Show<'s, A, T> = fn(&'s Server<A>, Params, T, Answer, Headers) -> Shown<'s>;

/// Asks the node, and shows its answer, for which `with` is kept.
///
/// Thousands may wait in it: meanwhile it holds the question, the parameters and `with`, each once. What is needed only
/// to show an answer is in a box that is made then.
pub(super) fn read_and_show<'s, A: Api, T: Send + 's>(
    server: &'s Server<A>,
    params: Params,
    asked: Result<(Query, T), Error>,
    show: Show<'s, A, T>,
) -> Shown<'s> {
    let (query, with) = match asked {
        Ok(asked) => asked,
        Err(error) => return Box::pin(ready(Err(error))),
    };
    let found = read(server, &params, query);
    Box::pin(found.then(move |found| match found {
        Ok((answer, headers)) => show(server, params, with, answer, headers),
        Err(error) => Box::pin(ready(Err(error))),
    }))
}

/// Refuses what another edition would have to answer. Which datacenter is asked is settled before that.
///
/// # Errors
/// 400 for namespaces and partitions, with Consul's texts.
pub(super) fn check_scope(_: &Settings, params: &Params) -> Result<(), Error> {
    for (name, what) in [("ns", "Namespaces"), ("partition", "Partitions")] {
        if params.given(name).is_some() {
            return Err(Error::bad_request(format!(
                "Invalid query parameter: \"{name}\" - {what} are a Consul Enterprise feature"
            )));
        }
    }
    Ok(())
}

/// Asks the node for more, without waiting: as fresh as the first answer, or what is in that would not be in this.
pub(super) async fn read_more<A: Api>(
    server: &Server<A>,
    params: &Params,
    query: Query,
) -> Result<Answer, Error> {
    let mut options = options(server.settings(), server.random(), params)?;
    (options.min_index, options.wait) = Default::default();
    Ok(server.api().read(query, options).await?.answer)
}

/// Reads `stale consistent leader max_stale cached index wait`.
pub(super) fn options(
    settings: &Settings,
    random: &dyn Random,
    params: &Params,
) -> Result<ReadOptions, Error> {
    let max_stale = match params.given("max_stale") {
        None => None,
        Some(text) => Some(
            duration::parse(text)
                .map_err(|_| Error::bad_request(format!("Invalid max_stale value {text:?}")))?,
        ),
    };
    let stale = params.has("stale") || max_stale.is_some();
    let consistent = params.has("consistent");
    if consistent && (stale || params.has("cached")) {
        let other = if stale { "stale" } else { "cached" };
        return Err(Error::bad_request(format!(
            "Cannot specify ?{other} with ?consistent, conflicting semantics."
        )));
    }
    let consistency = match (stale, consistent) {
        (true, _) => Consistency::Stale,
        (_, true) => Consistency::Consistent,
        _ => Consistency::Default,
    };
    let (min_index, wait) = wait(settings, random, params, false)?;
    Ok(ReadOptions {
        consistency,
        min_index,
        wait,
        max_stale,
    })
}

/// The index to wait for, and how long; with `always`, without an index too.
pub(super) fn wait(
    settings: &Settings,
    random: &dyn Random,
    params: &Params,
    always: bool,
) -> Result<(u64, Duration), Error> {
    let asked = match params.given("wait") {
        None => Duration::ZERO,
        Some(text) => duration::parse(text).map_err(|_| Error::bad_request("Invalid wait time"))?,
    };
    let min_index = match params.given("index") {
        None => 0,
        Some(text) => {
            super::request::parse_u64(text).map_err(|_| Error::bad_request("Invalid index"))?
        }
    };
    if min_index == 0 && !always {
        return Ok((0, Duration::ZERO));
    }
    let wait = if asked.is_zero() {
        settings.default_query_time
    } else {
        asked.min(settings.max_query_time)
    };
    // So that many watchers that began together do not end together.
    let bound = u64::try_from(wait.as_micros() / JITTER_FRACTION).unwrap_or(u64::MAX);
    Ok((min_index, wait + Duration::from_micros(random.below(bound))))
}

/// A blocking query may last longer than asked for by up to this part of its time.
const JITTER_FRACTION: u128 = 16;

/// The reads of `/v1/catalog` and `/v1/health`.
fn is_discovery(query: &Query) -> bool {
    matches!(
        query,
        Query::Nodes { .. }
            | Query::NodeServices { .. }
            | Query::NodeChecks { .. }
            | Query::ServiceChecks { .. }
            | Query::StateChecks { .. }
            | Query::ChecksWithMeta { .. }
            | Query::Instances { .. }
    ) || is_cached(query)
}

/// The reads that Consul's agents keep in their cache.
fn is_cached(query: &Query) -> bool {
    matches!(
        query,
        Query::Services { .. }
            | Query::ServiceNodes { .. }
            | Query::ServiceHealth { .. }
            | Query::MeshHealth { .. }
    )
}

/// With `cached`, whether this server answers from what it has.
fn headers(reply: &Reply, consistency: Consistency, cached: Option<bool>) -> Headers {
    let is_catalog = matches!(
        reply.answer,
        Answer::Nodes(_)
            | Answer::NodeInfos(_)
            | Answer::Graph(_)
            | Answer::Services(_)
            | Answer::ServiceNodes(_)
            | Answer::NodeServices(_)
            | Answer::Checks(_)
            | Answer::ServiceHealth(_)
            | Answer::GatewayServices(_)
            | Answer::Chain(_)
            | Answer::ExportedServices(_)
    );
    let effective = match consistency {
        Consistency::Default => "leader",
        Consistency::Consistent => "consistent",
        Consistency::Stale => "stale",
    };
    Headers {
        index: reply.index.max(1),
        known_leader: reply.known_leader,
        last_contact: u64::try_from(reply.last_contact.as_millis()).unwrap_or(u64::MAX),
        effective: is_catalog.then_some(effective),
        cached: cached.map(|hit| (hit, reply.last_contact.as_secs())),
        translated: false,
        filtered: reply.filtered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::settings;

    /// Always the largest number.
    struct Most;

    impl Random for Most {
        fn next_u64(&self) -> u64 {
            u64::MAX
        }
    }

    fn parse(query: &str) -> Result<ReadOptions, Error> {
        options(&settings(), &Most, &Params::parse(query))
    }

    fn refused(query: &str) -> String {
        let error = parse(query).unwrap_err();
        assert_eq!(error.status, hyper::StatusCode::BAD_REQUEST);
        error.text.into_owned()
    }

    #[test]
    fn waits_have_consuls_default_cap_and_jitter() {
        let wait = |query: &str| parse(query).unwrap().wait;
        let with_jitter = |seconds: u64| {
            let most = Duration::from_secs(seconds) + Duration::from_secs(seconds) / 16;
            most - Duration::from_micros(1)
        };
        assert_eq!(wait("index=5"), with_jitter(300));
        assert_eq!(wait("index=5&wait=0"), with_jitter(300));
        assert_eq!(wait("index=5&wait="), with_jitter(300));
        assert_eq!(wait("index=5&wait=32s"), with_jitter(32));
        assert_eq!(wait("index=5&wait=11m"), with_jitter(600));
        // Index 0 never waits.
        assert_eq!(wait("wait=10s"), Duration::ZERO);
        assert_eq!(parse("index=0&wait=10s").unwrap().min_index, 0);
        assert_eq!(parse("index=7").unwrap().min_index, 7);
    }

    #[test]
    fn bad_values_are_refused() {
        assert_eq!(refused("index=x"), "Invalid index");
        assert_eq!(refused("index=-1"), "Invalid index");
        assert_eq!(refused("wait=5"), "Invalid wait time");
        assert_eq!(refused("wait=abc&index=1"), "Invalid wait time");
        assert_eq!(refused("wait=-5s&index=1"), "Invalid wait time");
        assert_eq!(refused("max_stale=x"), "Invalid max_stale value \"x\"");
        assert_eq!(
            refused("stale&consistent"),
            "Cannot specify ?stale with ?consistent, conflicting semantics."
        );
        assert_eq!(
            refused("max_stale=5s&consistent"),
            "Cannot specify ?stale with ?consistent, conflicting semantics."
        );
        assert_eq!(
            refused("cached&consistent"),
            "Cannot specify ?cached with ?consistent, conflicting semantics."
        );
    }

    #[test]
    fn consistency_is_chosen_by_presence() {
        let consistency = |query: &str| parse(query).unwrap().consistency;
        assert_eq!(consistency(""), Consistency::Default);
        assert_eq!(consistency("leader"), Consistency::Default);
        assert_eq!(consistency("stale"), Consistency::Stale);
        assert_eq!(consistency("stale=false"), Consistency::Stale);
        assert_eq!(consistency("consistent"), Consistency::Consistent);
        let options = parse("max_stale=10s").unwrap();
        assert_eq!(options.consistency, Consistency::Stale);
        assert_eq!(options.max_stale, Some(Duration::from_secs(10)));
    }

    #[test]
    fn other_editions_are_refused() {
        let check = |query: &str| check_scope(&settings(), &Params::parse(query));
        assert_eq!(check("dc=dc1"), Ok(()));
        assert_eq!(
            check("ns=x"),
            Err(Error::bad_request(
                "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature"
            ))
        );
        assert_eq!(
            check("partition=x"),
            Err(Error::bad_request(
                "Invalid query parameter: \"partition\" - Partitions are a Consul Enterprise feature"
            ))
        );
    }
}
