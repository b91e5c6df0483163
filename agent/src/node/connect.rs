//! Certificates of services: this agent makes a key, the leader signs, and what comes of it is kept until it is due.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::certify::NOT_ALLOWED;
use super::{Consistency, Error, Node, ReadOptions, Server};
use crate::ca::{self, Leaf, SharedLeaf, Signed, Update, spiffe};
use crate::raft::off_loop;
use crate::rpc::{Answer, Request};
use crate::state::{self, CaRoots, CaStep, Command, Outcome, Query};

/// Pause after a certificate could not be replaced that is still good: at least this, and at most twice as much. All
/// agents of a cluster ask at about the same time when the root has changed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How often a change of the authority is tried when another comes between.
const TRIES: usize = 5;

impl From<ca::Error> for Error {
    fn from(error: ca::Error) -> Self {
        Error::Refused(error.to_string())
    }
}

impl Node {
    /// Changes the configuration of the certificate authority, and its root where another key is asked for; false when
    /// the configuration was not the one that was to be changed.
    ///
    /// # Errors
    /// [`Error::Refused`] says what is wrong with it; nothing has changed then.
    pub async fn set_ca_config(&self, update: Update) -> Result<bool, Error> {
        match self.lead_or_ask(Request::SetCa(Box::new(update))).await? {
            Answer::Applied(Outcome::Bool(done)) => Ok(done),
            _ => Err(Error::Unknown),
        }
    }

    /// The certificate of a service, and whether it was there already. Waits for one with an index above `min_index`, for
    /// `wait` at the longest; then it is the old one.
    ///
    /// # Errors
    /// When there is none that is still good, and the leader gives none.
    pub async fn leaf(
        &self,
        service: &str,
        min_index: u64,
        wait: Duration,
    ) -> Result<(SharedLeaf, bool), Error> {
        let until = Instant::now() + wait;
        let mut roots = self.ca_roots(0, Duration::ZERO).await;
        loop {
            let (leaf, known) = self.leaf_now(service, roots.as_ref().ok()).await?;
            let now = Instant::now();
            if leaf.index > min_index || now >= until {
                return Ok((leaf, known));
            }
            let now_ms = self.inner.env.clock.unix_ms();
            let life = Duration::from_millis(leaf.renew_at_ms.saturating_sub(now_ms));
            let pause = life.min(until - now);
            match &roots {
                Ok((found, index)) if !is_due(&leaf, now_ms, Some(found)) => {
                    let index = *index;
                    tokio::select! {
                        () = sleep(pause) => {}
                        found = self.ca_roots(index, pause) => roots = found,
                    }
                }
                // It could not be replaced just now, or nobody says by which root.
                _ => {
                    let micros = AFTER_FAILURE.as_micros() as u64;
                    let jitter = Duration::from_micros(self.inner.env.random.below(micros));
                    sleep((AFTER_FAILURE + jitter).min(until - now)).await;
                    roots = self.ca_roots(0, Duration::ZERO).await;
                }
            }
        }
    }

    /// The roots as some server has them, once their index is above the given one; with that index.
    pub(super) async fn ca_roots(
        &self,
        min_index: u64,
        wait: Duration,
    ) -> Result<(CaRoots, u64), Error> {
        let options = ReadOptions {
            consistency: Consistency::Stale,
            min_index,
            wait,
            max_stale: None,
        };
        let reply = self.read(Query::CaRoots, options).await?;
        match reply.answer {
            state::Answer::CaRoots(roots) => Ok((roots, reply.index)),
            _ => Err(Error::Unknown),
        }
    }

    /// The certificate that is there, or a new one in its place if it is due. One that is still good outlives a leader that
    /// gives none.
    async fn leaf_now(
        &self,
        service: &str,
        roots: Option<&(CaRoots, u64)>,
    ) -> Result<(SharedLeaf, bool), Error> {
        let env = &self.inner.env;
        let slot = self.inner.leaves.slot(service);
        // Who waits here finds what the one before has fetched.
        let mut place = slot.lock().await;
        let now_ms = env.clock.unix_ms();
        if let Some(leaf) = &*place
            && !is_due(leaf, now_ms, roots.map(|(roots, _)| roots))
        {
            return Ok((leaf.clone(), true));
        }
        match self.new_leaf(service, roots).await {
            Ok((private_key, signed)) => {
                let before = place.as_ref().map_or(0, |leaf| leaf.index);
                let made_ms = env.clock.unix_ms();
                let random = env.random.next_u64();
                let leaf = Arc::new(Leaf {
                    service: service.to_owned(),
                    private_key,
                    index: signed.index.max(before + 1),
                    made_ms,
                    renew_at_ms: ca::renewal(made_ms, signed.valid_before_ms, random),
                    signed,
                });
                *place = Some(leaf.clone());
                Ok((leaf, false))
            }
            Err(error) => match &*place {
                Some(leaf) if leaf.signed.valid_before_ms > now_ms => {
                    tracing::debug!(target: "connect", "keeping the certificate of {service}: {error}");
                    Ok((leaf.clone(), true))
                }
                _ => Err(error),
            },
        }
    }

    async fn new_leaf(
        &self,
        service: &str,
        roots: Option<&(CaRoots, u64)>,
    ) -> Result<(String, Signed), Error> {
        let fresh;
        let roots = match roots {
            Some((roots, _)) if roots.active().is_some() => roots,
            // A server that has just started need not know them yet.
            _ => {
                let reply = self.read(Query::CaRoots, ReadOptions::default()).await?;
                let state::Answer::CaRoots(found) = reply.answer else {
                    return Err(Error::Unknown);
                };
                fresh = found;
                &fresh
            }
        };
        let (Some(cluster_id), Some(root)) = (roots.cluster_id, roots.active()) else {
            return Err(ca::Error::Uninitialized.into());
        };
        let domain = spiffe::trust_domain(cluster_id);
        let name = spiffe::of_service(&domain, &self.inner.config.datacenter, service);
        let requested = ca::request(&name, root)?;
        let request = Request::SignLeaf(requested.csr.into());
        match self.lead_or_ask(request).await? {
            Answer::Signed(signed) => Ok((requested.private_key, *signed)),
            _ => Err(Error::Unknown),
        }
    }
}

fn is_due(leaf: &Leaf, now_ms: u64, roots: Option<&CaRoots>) -> bool {
    let active = roots.and_then(CaRoots::active);
    ca::is_due(leaf, now_ms, active.map(|root| root.id.as_str()))
}

impl Server {
    /// Signs a request, as the leader.
    pub(super) async fn sign_leaf(&self, csr: &[u8], node: &Node) -> Result<Answer, Error> {
        if !node.inner.config.connect.enabled {
            return Err(ca::Error::Disabled.into());
        }
        let store = self.shared.load();
        let (config, env) = (node.inner.config.clone(), &node.inner.env);
        let of_agent = matches!(ca::subject_of(csr), Some(ca::Subject::Agent(_)));
        if of_agent && !config.auto_encrypt.allow_tls {
            return Err(Error::Refused(NOT_ALLOWED.to_owned()));
        }
        let settings = ca::current(&store)?;
        let _turn = self.csr_limit.turn(&settings).await?;
        let by = (env.clock.unix_ms(), env.random.next_u64());
        let csr = csr.to_vec();
        let signed = off_loop(env.disk.wants_threads(), move || {
            let place = ca::Place {
                datacenter: &config.datacenter,
                domain: config.domain.trim_end_matches('.'),
            };
            ca::sign_with(&store, &settings, &csr, place, by)
        });
        let signed = signed.await.map_err(|_| Error::ShuttingDown)??;
        Ok(Answer::Signed(Box::new(signed)))
    }

    /// Vouches for another datacenter's authority, as the leader of the primary one.
    pub(super) async fn sign_intermediate(&self, csr: &[u8], node: &Node) -> Result<Answer, Error> {
        if !node.inner.config.connect.enabled {
            return Err(ca::Error::Disabled.into());
        }
        let store = self.shared.load();
        let settings = ca::current(&store)?;
        let _turn = self.csr_limit.turn(&settings).await?;
        let env = &node.inner.env;
        let by = (env.clock.unix_ms(), env.random.next_u64());
        let csr = csr.to_vec();
        let signed = off_loop(env.disk.wants_threads(), move || {
            ca::secondary::sign_intermediate(&store, &settings, &csr, by)
        });
        let signed = signed.await.map_err(|_| Error::ShuttingDown)??;
        tracing::info!(target: "connect", "vouched for the authority of another datacenter: serial={}", signed.serial_number);
        Ok(Answer::Signed(Box::new(signed)))
    }

    /// Changes the authority, as the leader.
    pub(super) async fn set_ca(
        &self,
        update: &Update,
        node: &Node,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        if !node.inner.config.connect.enabled {
            return Err(ca::Error::Disabled.into());
        }
        for _ in 0..TRIES {
            self.up_to_date(deadline).await?;
            let (store, update) = (self.shared.load(), update.clone());
            let before = store.ca_roots().first().map(|root| root.id.clone());
            let env = node.inner.env.clone();
            let is_secondary = node.inner.config.is_secondary();
            let change = off_loop(env.disk.wants_threads(), move || match is_secondary {
                true => ca::change_of_secondary(&store, &update),
                false => ca::change(&store, &update, env.clock.unix_ms(), &*env.random),
            });
            let Some((step, unknown)) = change.await.map_err(|_| Error::ShuttingDown)?? else {
                return Ok(Answer::Applied(Outcome::Bool(false)));
            };
            let CaStep::Set { roots, .. } = &step;
            let after = roots.first().map(|root| root.id.clone());
            let proposed = self.propose_own(Command::Ca(step), node, deadline);
            if proposed.await? != Outcome::Bool(true) {
                continue;
            }
            for name in unknown {
                tracing::warn!(target: "connect", "{name} of the CA configuration has no effect here: this version does not support it");
            }
            match before == after {
                true => tracing::info!(target: "connect", "CA provider config updated"),
                false => {
                    tracing::info!(target: "connect", "CA rotated to new root under provider: provider=consul");
                }
            }
            return Ok(Answer::Applied(Outcome::Bool(true)));
        }
        Err(Error::Busy)
    }
}
