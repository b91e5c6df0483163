//! Saving the state: frozen on one server, fetched from there piece by piece.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Error, Node, Server};
use crate::archive::About;
use crate::gossip::Status;
use crate::leader::peers::server_addr;
use crate::rate::Operation;
use crate::rpc::{Answer, Answered, Request};

/// Longest time that a server may take to encode its state.
const ENCODE_TIME_MAX: Duration = Duration::from_secs(300);

/// Longest time for one piece.
const PIECE_TIME_MAX: Duration = Duration::from_secs(30);

/// States that a server keeps encoded for others at a time: each takes as much memory as all its keys.
const KEPT_MAX: usize = 2;

/// Time after which one is forgotten whose fetcher has not come back.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// A state as of one index, encoded.
#[derive(Debug, Clone)]
pub struct Saved {
    /// What it is.
    pub about: About,
    /// Its bytes, in order.
    pub pieces: Vec<Bytes>,
}

/// Encoded states that others are fetching.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<BTreeMap<Uuid, (Instant, Vec<Bytes>)>>);

impl Kept {
    /// Keeps one; false when there are too many.
    fn add(&self, id: Uuid, pieces: Vec<Bytes>) -> bool {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (used, _)| now.duration_since(*used) < KEPT_FOR);
        if kept.len() >= KEPT_MAX {
            return false;
        }
        kept.insert(id, (now, pieces));
        true
    }

    /// One piece; the last one ends it.
    fn piece(&self, id: Uuid, number: u32) -> Option<Bytes> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, pieces) = kept.get_mut(&id)?;
        *used = Instant::now();
        let number = usize::try_from(number).ok()?;
        let piece = pieces.get(number)?.clone();
        if number + 1 == pieces.len() {
            kept.remove(&id);
        }
        Some(piece)
    }
}

impl Node {
    /// The whole state: as the leader has it, or with `stale` as any server does.
    ///
    /// # Errors
    /// As for a read; and when a server has begun too many of these, or stops in the middle of one.
    pub async fn save(&self, stale: bool) -> Result<Saved, Error> {
        self.enter(|| Operation::SNAPSHOT)?;
        if let Some(datacenter) = &self.elsewhere {
            return self.save_across(datacenter, stale).await;
        }
        if let Some(server) = &self.inner.server
            && (stale || server.leads())
        {
            server.check_request(&self.caller, &Request::Save { stale })?;
            return server.freeze(self, !stale).await;
        }
        let servers: Vec<SocketAddr> = if stale {
            let members = self.members();
            let alive = members.iter().filter(|m| m.status == Status::Alive);
            alive.filter_map(|member| server_addr(member)).collect()
        } else {
            let leader = self.clone().uncounted().leader_address().await?;
            leader.into_iter().collect()
        };
        let mut last = Error::NoLeader;
        for server in servers {
            match self.fetch(server, Request::Save { stale }).await {
                Ok(saved) => return Ok(saved),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The state of another datacenter. Whoever is asked fetches it, keeps it, and hands it out piece by piece.
    async fn save_across(&self, datacenter: &str, stale: bool) -> Result<Saved, Error> {
        let (servers, forwarded) = self.next_servers(datacenter)?;
        let mut last = Error::Unreachable;
        for server in servers {
            let request = Request::In {
                datacenter: datacenter.to_owned(),
                forwarded,
                request: Box::new(Request::Save { stale }),
            };
            match self.fetch(server, request).await {
                Ok(saved) => return Ok(saved),
                // It is not reached, or nobody leads there.
                Err(Error::NoLeader) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn fetch(&self, server: SocketAddr, request: Request) -> Result<Saved, Error> {
        let opened = self
            .ask(server, &request, Instant::now() + ENCODE_TIME_MAX)
            .await
            .0?;
        let Answer::Saved { id, about, pieces } = opened else {
            return Err(Error::Unknown);
        };
        let mut fetched = Vec::new();
        for number in 0..pieces {
            let request = Request::SavedPiece { id, number };
            match self
                .ask(server, &request, Instant::now() + PIECE_TIME_MAX)
                .await
                .0?
            {
                Answer::Bytes(piece) => fetched.push(piece),
                _ => return Err(Error::Unknown),
            }
        }
        Ok(Saved {
            about,
            pieces: fetched,
        })
    }

    /// Answers [`Request::Save`] and [`Request::SavedPiece`].
    pub(super) async fn answer_save(&self, server: &Server, request: &Request) -> Answered {
        Answered(match request {
            Request::Save { stale } if !stale && !server.leads() => Err(Error::NoLeader),
            Request::Save { stale } => {
                let frozen = server.freeze(self, !stale).await;
                frozen.and_then(|saved| self.keep_saved(saved))
            }
            Request::SavedPiece { id, number } => match server.kept.piece(*id, *number) {
                Some(piece) => Ok(Answer::Bytes(piece)),
                None => Err(Error::Refused(
                    "the saved state is no longer kept: begin again".to_owned(),
                )),
            },
            _ => Err(Error::Refused("not about a saved state".to_owned())),
        })
    }
}

impl Node {
    /// Keeps a state until whoever asked has fetched it.
    pub(super) fn keep_saved(&self, saved: Saved) -> Result<Answer, Error> {
        let id = self.inner.env.random.uuid();
        let Ok(pieces) = u32::try_from(saved.pieces.len()) else {
            return Err(Error::Refused("the state is too large".to_owned()));
        };
        let server = self.inner.server.as_ref();
        if !server.is_some_and(|server| server.kept.add(id, saved.pieces)) {
            return Err(Error::Busy);
        }
        let about = saved.about;
        Ok(Answer::Saved { id, about, pieces })
    }
}

impl Server {
    /// The state of this moment, encoded away from the thread that answers.
    async fn freeze(&self, node: &Node, as_leader: bool) -> Result<Saved, Error> {
        if as_leader {
            self.consensus.linearize(false).await?;
        }
        let store = self.shared.load();
        let index = store.last_index();
        let encode = move || {
            let mut pieces = Vec::new();
            let Ok(()) = store.encode_pieces(|piece| {
                pieces.push(Bytes::from(piece));
                Ok::<_, std::convert::Infallible>(())
            });
            pieces
        };
        let pieces = tokio::task::spawn_blocking(encode)
            .await
            .map_err(|error| Error::Refused(error.to_string()))?;
        let size = pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        let term = self.consensus.status().term;
        let now = node.inner.env.clock.unix_ms();
        let about = About::new(term, index, now, size);
        Ok(Saved { about, pieces })
    }
}
