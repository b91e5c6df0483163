//! The certificate authority of a datacenter that has a primary: the leader here takes over the primary's roots, and has
//! the key that it signs with vouched for by the leader there. What the primary's servers fail to do is waited for.

use std::time::Duration;

use tokio::time::Instant;

use super::super::{Error, Node, ReadOptions, Server};
use super::{Seen, WAIT};
use crate::ca::secondary::{self, Next};
use crate::ca::settings::KeyKind;
use crate::leader::{KNOWS_INTERMEDIATE, knows};
use crate::raft::off_loop;
use crate::rpc::{Answer, Request};
use crate::state::{self, CaRoots, CaStep, Command, Outcome, Query};

/// How often a step is tried when another change of the authority comes between.
const TRIES: usize = 5;

/// Longest time that a step may take.
const STEP_TIME_MAX: Duration = Duration::from_secs(30);

impl Node {
    /// Waits for a change, or until something is due, and does what follows from it.
    pub(super) async fn look_at_primary(
        &self,
        server: &Server,
        primary: &Node,
        seen: Seen,
    ) -> Result<Seen, Error> {
        if !knows(&self.members(), KNOWS_INTERMEDIATE) {
            return Err(Error::Refused(
                "a server here is of a version that cannot sign with an intermediate certificate: upgrade it first"
                    .to_owned(),
            ));
        }
        let left = seen.until_ms.saturating_sub(self.inner.env.clock.unix_ms());
        // By its leader: a server that has just been started has no roots yet.
        let options = ReadOptions {
            min_index: seen.index,
            wait: Duration::from_millis(left).min(WAIT),
            ..ReadOptions::default()
        };
        let reply = primary.read(Query::CaRoots, options).await?;
        let state::Answer::CaRoots(roots) = reply.answer else {
            return Err(Error::Unknown);
        };
        for _ in 0..TRIES {
            let deadline = Instant::now() + STEP_TIME_MAX;
            server.up_to_date(deadline).await?;
            let step = match self.next_step(server, &roots).await? {
                Next::Nothing(until_ms) => {
                    let index = reply.index;
                    return Ok(Seen { index, until_ms });
                }
                Next::Take(step) => step,
                Next::Ask(kind, why) => {
                    tracing::info!(target: "connect", "asking the primary datacenter for an intermediate certificate: {why}");
                    self.intermediate(server, primary, &roots, kind).await?
                }
            };
            let proposed = server.propose_own(Command::Ca(step), self, deadline);
            if proposed.await? == Outcome::Bool(true) {
                tracing::info!(target: "connect", "the certificate authority has the primary datacenter's roots");
            }
        }
        Err(Error::Busy)
    }

    /// Keys are read and compared, away from the loop.
    async fn next_step(&self, server: &Server, roots: &CaRoots) -> Result<Next, Error> {
        let (store, roots, env) = (server.shared.load(), roots.clone(), self.inner.env.clone());
        let config = self.inner.config.clone();
        let next = off_loop(env.disk.wants_threads(), move || {
            secondary::next(&store, &roots, &config.connect.ca, env.clock.unix_ms())
        });
        Ok(next.await.map_err(|_| Error::ShuttingDown)??)
    }

    /// Has a new key vouched for, and gives the step that makes it the one that signs.
    async fn intermediate(
        &self,
        server: &Server,
        primary: &Node,
        roots: &CaRoots,
        kind: KeyKind,
    ) -> Result<CaStep, Error> {
        let requested = secondary::request_intermediate(roots, kind)?;
        let request = Request::SignIntermediate(requested.csr.into());
        let signed = match primary.lead_or_ask(request).await? {
            Answer::Signed(signed) => (requested.private_key, *signed),
            _ => return Err(Error::Unknown),
        };
        let (store, now_ms) = (server.shared.load(), self.inner.env.clock.unix_ms());
        let given = &self.inner.config.connect.ca;
        Ok(secondary::take(&store, roots, signed, given, now_ms)?)
    }
}
