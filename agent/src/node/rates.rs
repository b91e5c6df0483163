//! How many requests a second this agent answers as a server (`limits.request_limits`), and how many it makes
//! (`limits.rpc_rate`). Both are off by default, and cost a look at an empty pointer then.
//!
//! Raft and gossip never come here: they have connections and code of their own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{Error, Node};
use crate::config::{self, CallLimit, Config, RequestLimits, RequestMode};
use crate::metrics::{Counter, Metrics};
use crate::rate::{Bucket, Kind, Operation};
use crate::rpc::Request;

/// Lines of the log a second about requests over a limit. More are counted as dropped: whoever floods a server should not
/// fill its log as well. Consul keeps as many for a writer that lags behind.
const LINES: f64 = 100.0;

/// Both limits of an agent.
pub(super) struct Rates {
    /// What a server answers; none while that is not limited.
    requests: ArcSwapOption<Requests>,
    /// What the agent asks of servers; none while that is not limited.
    calls: ArcSwapOption<Calls>,
    counters: OnceLock<Counters>,
}

struct Requests {
    limits: RequestLimits,
    reads: Option<Mutex<Bucket>>,
    writes: Option<Mutex<Bucket>>,
    lines: Mutex<Bucket>,
}

struct Calls {
    limit: CallLimit,
    bucket: Mutex<Bucket>,
}

/// Where it is counted, once somebody looks: a node is started before its metrics are.
struct Counters {
    metrics: Arc<Metrics>,
    made: Counter,
}

impl Requests {
    fn new(limits: RequestLimits) -> Self {
        let bucket = |rate: Option<f64>| rate.map(Bucket::of_ten_seconds).map(Mutex::new);
        Self {
            limits,
            reads: bucket(limits.read_rate),
            writes: bucket(limits.write_rate),
            lines: Mutex::new(Bucket::new(LINES, LINES)),
        }
    }
}

/// What a server's request limits say to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Within,
    /// Over the limit, which has this name.
    Over(&'static str),
}

impl Requests {
    fn judge(&self, operation: Operation, now: Instant) -> Verdict {
        let (bucket, name) = match operation.kind {
            Kind::Read => (&self.reads, "global/read"),
            Kind::Write => (&self.writes, "global/write"),
            Kind::Exempt => return Verdict::Within,
        };
        match bucket {
            Some(bucket) if !take(bucket, now) => Verdict::Over(name),
            _ => Verdict::Within,
        }
    }
}

impl Rates {
    pub(super) fn new(config: &Config) -> Self {
        let rates = Self::unlimited();
        rates.reload(config);
        rates
    }

    fn unlimited() -> Self {
        Self {
            requests: ArcSwapOption::empty(),
            calls: ArcSwapOption::empty(),
            counters: OnceLock::new(),
        }
    }

    /// Takes other limits. One that stays as it is goes on: a reload lets nobody begin anew.
    pub(super) fn reload(&self, config: &Config) {
        self.take_over(config.server, config.rates);
    }

    fn take_over(&self, server: bool, rates: config::Rates) {
        let config::Rates { requests, calls } = rates;
        let is_limited = server && requests.mode != RequestMode::Disabled;
        match (is_limited, &*self.requests.load()) {
            (false, _) => self.requests.store(None),
            (true, Some(now)) if now.limits == requests => {}
            (true, _) => self.requests.store(Some(Arc::new(Requests::new(requests)))),
        }
        match (calls.rate, &*self.calls.load()) {
            (None, _) => self.calls.store(None),
            (Some(_), Some(now)) if now.limit == calls => {}
            (Some(rate), _) => self.calls.store(Some(Arc::new(Calls {
                limit: calls,
                bucket: Mutex::new(Bucket::new(rate, f64::from(calls.max_burst))),
            }))),
        }
    }

    fn attach(&self, metrics: &Arc<Metrics>) {
        // There is one node a process; a second call changes nothing.
        let _ = self.counters.set(Counters {
            metrics: Arc::clone(metrics),
            made: metrics.counter("client.rpc", &[]),
        });
    }

    /// Whether any request is counted.
    pub(super) fn counts(&self) -> bool {
        self.requests.load().is_some() || self.calls.load().is_some()
    }

    /// Counts a request that this agent makes.
    fn make(&self) -> Result<(), Error> {
        let counters = self.counters.get();
        if let Some(counters) = counters {
            counters.made.count();
        }
        match &*self.calls.load() {
            Some(calls) if !take(&calls.bucket, Instant::now()) => {
                if let Some(counters) = counters {
                    counters.metrics.count("client.rpc.exceeded", &[]);
                }
                Err(Error::CallRateExceeded)
            }
            _ => Ok(()),
        }
    }

    /// Counts a request that this server is to answer. `from` is nobody for its own clients.
    fn answer(
        &self,
        operation: impl FnOnce() -> Operation,
        leads: impl FnOnce() -> bool,
        from: Option<SocketAddr>,
    ) -> Result<(), Error> {
        let requests = self.requests.load();
        let Some(requests) = &*requests else {
            return Ok(());
        };
        let (operation, now) = (operation(), Instant::now());
        let Verdict::Over(limit) = requests.judge(operation, now) else {
            return Ok(());
        };
        let mode = requests.limits.mode;
        let enforced = mode == RequestMode::Enforcing;
        if let Some(Counters { metrics, .. }) = self.counters.get() {
            let labels = [
                ("limit_type", limit),
                ("op", operation.name),
                ("mode", mode.name()),
            ];
            metrics.count("rpc.rate_limit.exceeded", &labels);
        }
        self.log(requests, operation, limit, from, now);
        match (enforced, operation.kind) {
            (false, _) => Ok(()),
            // No other server could do it.
            (true, Kind::Write) if leads() => Err(Error::LeaderRateExceeded),
            (true, _) => Err(Error::RateExceeded),
        }
    }

    fn log(
        &self,
        requests: &Requests,
        operation: Operation,
        limit: &str,
        from: Option<SocketAddr>,
        now: Instant,
    ) {
        if !tracing::enabled!(target: "rpc", tracing::Level::DEBUG) {
            return;
        }
        if take(&requests.lines, now) {
            let source_addr = from.map_or_else(|| "own".to_owned(), |from| from.to_string());
            let limit_enforced = requests.limits.mode == RequestMode::Enforcing;
            tracing::debug!(target: "rpc", rpc = operation.name, source_addr, limit_type = limit, limit_enforced, "RPC exceeded allowed rate limit");
        } else if let Some(Counters { metrics, .. }) = self.counters.get() {
            metrics.count("rpc.rate_limit.log_dropped", &[]);
        }
    }
}

fn take(bucket: &Mutex<Bucket>, now: Instant) -> bool {
    // Its numbers are never half changed.
    let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
    bucket.take(now)
}

impl Node {
    /// Has requests counted where everybody can see it.
    pub fn count_requests(&self, metrics: &Arc<Metrics>) {
        self.inner.rates.attach(metrics);
    }

    /// The same agent for requests that its own limits do not count: they were counted where they came in, or keep the
    /// cluster together.
    pub(super) fn uncounted(self) -> Self {
        Self {
            uncounted: true,
            ..self
        }
    }

    /// Counts a request of this agent's clients, or of its own, before anything of it is done.
    ///
    /// # Errors
    /// When there are more than one of the limits allows.
    pub(super) fn enter(&self, operation: impl FnOnce() -> Operation) -> Result<(), Error> {
        if self.uncounted {
            return Ok(());
        }
        self.inner.rates.make()?;
        match &self.inner.server {
            Some(server) => self.inner.rates.answer(operation, || server.leads(), None),
            None => Ok(()),
        }
    }

    /// Counts a request of another node.
    ///
    /// # Errors
    /// See [`Node::enter`].
    pub(super) fn enter_from(&self, from: SocketAddr, request: &Request) -> Result<(), Error> {
        let Some(server) = &self.inner.server else {
            return Ok(());
        };
        let operation = || Operation::of_request(request);
        self.inner
            .rates
            .answer(operation, || server.leads(), Some(from))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::env::SystemClock;
    use crate::metrics::Settings;

    const READ: Operation = Operation::DATACENTERS;
    const WRITE: Operation = Operation::FIRE;

    fn limits(mode: RequestMode, read: Option<f64>, write: Option<f64>) -> config::Rates {
        config::Rates {
            requests: RequestLimits {
                mode,
                read_rate: read,
                write_rate: write,
            },
            calls: CallLimit {
                rate: None,
                max_burst: 1,
            },
        }
    }

    fn calls(rate: Option<f64>, max_burst: u32) -> config::Rates {
        config::Rates {
            calls: CallLimit { rate, max_burst },
            ..limits(RequestMode::Disabled, None, None)
        }
    }

    fn server(rates: config::Rates) -> Rates {
        let limits = Rates::unlimited();
        limits.take_over(true, rates);
        limits
    }

    /// Whether a follower answers.
    fn ask(rates: &Rates, operation: Operation) -> Result<(), Error> {
        rates.answer(|| operation, || false, None)
    }

    #[tokio::test(start_paused = true)]
    async fn reads_and_writes_have_limits_of_their_own_and_what_is_exempt_has_none() {
        let rates = server(limits(RequestMode::Enforcing, Some(0.1), Some(0.2)));
        assert_eq!(ask(&rates, READ), Ok(()));
        assert_eq!(ask(&rates, READ), Err(Error::RateExceeded));
        for expected in [Ok(()), Ok(()), Err(Error::RateExceeded)] {
            assert_eq!(ask(&rates, WRITE), expected);
        }
        for _ in 0..100 {
            assert_eq!(ask(&rates, Operation::STATUS), Ok(()));
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        for expected in [Ok(()), Err(Error::RateExceeded)] {
            assert_eq!(ask(&rates, READ), expected);
        }
    }

    #[test]
    fn a_leader_sends_reads_elsewhere_and_says_that_writes_are_its_own() {
        let rates = server(limits(RequestMode::Enforcing, Some(0.0), Some(0.0)));
        let leader = |operation| rates.answer(|| operation, || true, None);
        assert_eq!(leader(READ), Err(Error::RateExceeded));
        assert_eq!(leader(WRITE), Err(Error::LeaderRateExceeded));
        assert_eq!(ask(&rates, WRITE), Err(Error::RateExceeded));
    }

    #[test]
    fn what_is_over_a_limit_is_counted_in_every_mode_but_disabled() {
        for (mode, name, counted) in [
            (RequestMode::Disabled, "", 0),
            (RequestMode::Permissive, "permissive", 2),
            (RequestMode::Enforcing, "enforcing", 2),
        ] {
            let rates = server(limits(mode, Some(0.0), None));
            let metrics = Arc::new(Metrics::new(Arc::new(SystemClock), Settings::default()));
            rates.attach(&metrics);
            for _ in 0..2 {
                let expected = match mode {
                    RequestMode::Enforcing => Err(Error::RateExceeded),
                    RequestMode::Disabled | RequestMode::Permissive => Ok(()),
                };
                assert_eq!(ask(&rates, READ), expected);
            }
            assert_eq!(ask(&rates, WRITE), Ok(()), "without end");
            let shown = serde_json::to_value(metrics.summary()).unwrap();
            let counters = shown["Counters"].as_array().unwrap();
            let found = counters
                .iter()
                .find(|one| one["Name"] == "consul.rpc.rate_limit.exceeded");
            let count = found.map_or(0, |one| one["Count"].as_u64().unwrap());
            assert_eq!(count, counted, "{mode:?}");
            if let Some(found) = found {
                let wanted = serde_json::json!(
                    {"limit_type": "global/read", "op": "Catalog.ListDatacenters", "mode": name}
                );
                assert_eq!(found["Labels"], wanted);
            }
        }
    }

    #[test]
    fn the_log_says_so_often_a_second_and_the_rest_is_counted() {
        let rates = server(limits(RequestMode::Permissive, Some(0.0), None));
        let metrics = Arc::new(Metrics::new(Arc::new(SystemClock), Settings::default()));
        rates.attach(&metrics);
        let requests = rates.requests.load_full().unwrap();
        let now = Instant::now();
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            for _ in 0..105 {
                rates.log(&requests, READ, "global/read", None, now);
            }
        });
        let shown = serde_json::to_value(metrics.summary()).unwrap();
        let counters = shown["Counters"].as_array().unwrap();
        assert_eq!(counters[0]["Name"], "consul.rpc.rate_limit.log_dropped");
        assert_eq!(counters[0]["Count"], 5);
    }

    #[test]
    fn an_agent_makes_no_more_requests_than_its_limit_allows() {
        let rates = server(calls(Some(1e-9), 2));
        for expected in [Ok(()), Ok(()), Err(Error::CallRateExceeded)] {
            assert_eq!(rates.make(), expected);
        }
        // That is another limit than the one on what is answered.
        assert_eq!(ask(&rates, READ), Ok(()));
    }

    #[test]
    fn a_reload_changes_a_limit_and_fills_none_that_stays() {
        let enforcing = limits(RequestMode::Enforcing, Some(1e-9), Some(1e-9));
        let rates = server(enforcing);
        assert!(rates.counts());
        assert_eq!(ask(&rates, READ), Ok(()));
        rates.take_over(true, enforcing);
        assert_eq!(ask(&rates, READ), Err(Error::RateExceeded));
        rates.take_over(true, limits(RequestMode::Enforcing, Some(1e-8), None));
        assert_eq!(ask(&rates, READ), Ok(()), "another one");
        rates.take_over(true, calls(Some(1e-9), 1));
        assert_eq!(ask(&rates, READ), Ok(()));
        assert_eq!((rates.make(), rates.make().is_err()), (Ok(()), true));
        rates.take_over(true, calls(Some(1e-9), 1));
        assert!(rates.make().is_err());
        rates.take_over(true, calls(None, 1));
        assert_eq!(rates.make(), Ok(()));
        assert!(!rates.counts());
        // A client answers nobody.
        rates.take_over(false, enforcing);
        assert!(!rates.counts());
    }
}
