//! A client's certificate that comes by itself (`auto_encrypt.tls`): asked for at the start, and again before it ends or
//! when another root signs. It is kept in memory alone: a restart asks anew.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Error, Node, ReadOptions};
use crate::ca::{self, Signed, spiffe};
use crate::rpc::{self, Answer, Answered, Pool, Purpose, Request};
use crate::state::{self, CaRoots, Query};

/// Longest time that one server has for one answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(7);

/// Pause after all servers were asked in vain; each further one is twice as long, up to the maximum. Up to as much again is
/// added, for all clients of a cluster may ask at the same time.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Longest time between two looks at which root signs.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

impl Node {
    /// Keeps this client's certificate for as long as it runs.
    pub(super) async fn keep_own_certificate(self) {
        let (mut pause, mut told) = (PAUSE, String::new());
        loop {
            match self.certificate_of_any().await {
                Ok(signed) => {
                    (pause, told) = (PAUSE, String::new());
                    self.inner.lacks_certificate.store(None);
                    tracing::info!(target: "agent", "this agent has its certificate: uri={} serial={}", signed.uri, signed.serial_number);
                    self.until_due(&signed).await;
                }
                // Gossip is about to bring one.
                Err(_) if self.living_servers().is_empty() => self.pause(pause).await,
                Err(why) => {
                    if why != told {
                        tracing::warn!(target: "agent", "no certificate for this agent yet, will retry: {why}");
                        told.clone_from(&why);
                    }
                    self.inner.lacks_certificate.store(Some(Arc::new(why)));
                    self.pause(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Waits, and less when gossip brings news while no server is known.
    async fn pause(&self, pause: Duration) {
        let bound = pause.as_millis() as u64;
        let jitter = Duration::from_millis(self.inner.env.random.below(bound));
        let mut members = self.inner.gossip.watch();
        members.mark_unchanged();
        let alone = self.living_servers().is_empty();
        tokio::select! {
            () = sleep(pause + jitter) => {}
            _ = members.changed(), if alone => {}
        }
    }

    /// Asks all living servers, in random order, until one gives a certificate, which counts then.
    async fn certificate_of_any(&self) -> Result<Signed, String> {
        // New connections each time: they are needed once in days.
        let net = self.tls().asking(self.inner.env.net.clone());
        let pool = Pool::new(net, Purpose::Certify);
        let mut servers = self.living_servers();
        let mut why = "no server is known".to_owned();
        while !servers.is_empty() {
            let pick = self.inner.env.random.below(servers.len() as u64) as usize;
            match self.certificate_of(servers.swap_remove(pick), &pool).await {
                Ok(signed) => return Ok(signed),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn certificate_of(&self, server: SocketAddr, pool: &Pool) -> Result<Signed, String> {
        let own = self.with_own();
        let ask = async |request: Request| {
            let signed = own.signed(&request).unwrap_or(request);
            match pool.request(server, &signed, CALL_TIMEOUT).await {
                Ok(Answered(Ok(answer))) => Ok(answer),
                Ok(Answered(Err(error))) => Err(format!("{server}: {error}")),
                // What a server does that demands a certificate and gives none, or that is of a version before.
                Err(error @ rpc::Error::Lost(_)) => Err(format!(
                    "{server}: {error}: is auto_encrypt.allow_tls = true set there?"
                )),
                Err(error) => Err(error.to_string()),
            }
        };
        let unexpected = || format!("{server}: an answer to another question");
        let roots = Request::Read(Query::CaRoots, ReadOptions::default());
        let roots = match ask(roots).await? {
            Answer::Read(reply) => match reply.answer {
                state::Answer::CaRoots(roots) => roots,
                _ => return Err(unexpected()),
            },
            _ => return Err(unexpected()),
        };
        let requested = self.request_for_own(&roots);
        let requested = requested.map_err(|error| format!("{server}: {error}"))?;
        match ask(Request::SignLeaf(requested.csr.into())).await? {
            Answer::Signed(signed) => {
                let taken = self.tls().set_own(&signed.cert, &requested.private_key);
                taken.map_err(|error| format!("{server}: {error}"))?;
                Ok(*signed)
            }
            _ => Err(unexpected()),
        }
    }

    fn request_for_own(&self, roots: &CaRoots) -> Result<ca::Requested, ca::Error> {
        let (Some(cluster_id), Some(root)) = (roots.cluster_id, roots.active()) else {
            return Err(ca::Error::Uninitialized);
        };
        let config = &self.inner.config;
        let (datacenter, auto) = (&config.datacenter, &config.auto_encrypt);
        let domain = config.domain.trim_end_matches('.');
        let mut dns = vec![
            "localhost".to_owned(),
            format!("client.{datacenter}.{domain}"),
        ];
        dns.extend(auto.dns_san.iter().cloned());
        let mut ips: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        ips.extend(&auto.ip_san);
        let trust_domain = spiffe::trust_domain(cluster_id);
        let name = spiffe::of_agent(&trust_domain, datacenter, &config.node_name);
        ca::request_of_agent(&name, &dns, &ips, root)
    }

    /// Waits until a certificate is to be replaced: before it ends, or when another root signs.
    async fn until_due(&self, signed: &Signed) {
        let env = &self.inner.env;
        let (now, random) = (env.clock.unix_ms(), env.random.next_u64());
        let renew_at = ca::renewal(now, signed.valid_before_ms, random);
        let own = self.with_own();
        // What is older than the certificate says nothing of the root that signed it.
        let mut seen = signed.index;
        loop {
            let left = Duration::from_millis(renew_at.saturating_sub(env.clock.unix_ms()));
            if left.is_zero() {
                return;
            }
            match own.ca_roots(seen, left.min(LOOK_AGAIN)).await {
                Ok((roots, index)) if index > seen => {
                    seen = index;
                    if roots.active().is_some_and(|root| root.id != signed.root_id) {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    log_no_roots(&error);
                    self.pause(PAUSE_MAX.min(left)).await;
                }
            }
        }
    }
}

fn log_no_roots(error: &Error) {
    tracing::debug!(target: "agent", "no server says which root signs: {error}");
}
