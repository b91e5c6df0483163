//! This node's coordinate: told to the leader when it has moved.

use std::time::Duration;

use tokio::time::Instant;

use super::{Error, Node};
use crate::coordinate::Coordinate;
use crate::gossip::Status;
use crate::rpc::{Answer, Request};

/// Shortest time between two messages. Consul's.
const INTERVAL: Duration = Duration::from_secs(15);
/// Messages of all nodes together in a second, which make the time longer in large clusters. Consul's.
const RATE: u32 = 64;
/// A node that has moved less, in seconds, says nothing: nobody could tell. In a cluster at rest nothing is written.
const MOVED: f64 = 100e-6;
/// How long it may say nothing at all: somebody may have taken it out of the catalog and put it back.
const REPEAT: Duration = Duration::from_secs(600);

/// What was last told, and when.
#[derive(Default)]
struct Told(Option<(Coordinate, Instant)>);

impl Told {
    /// Whether there is something to tell.
    fn is_old(&self, place: &Coordinate, now: Instant) -> bool {
        self.0.as_ref().is_none_or(|(told, at)| {
            place.moved_since(told) > MOVED || now.duration_since(*at) >= REPEAT
        })
    }
}

/// Time between two messages in a cluster of so many nodes.
fn interval(nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    (Duration::from_secs(1) * (nodes / RATE)).max(INTERVAL)
}

impl Node {
    /// Where this node is, by the times of its probes.
    pub fn coordinate(&self) -> Coordinate {
        self.inner.gossip.coordinate()
    }

    /// Tells the leader where a node is. It is written with the next batch, if the catalog has that node.
    ///
    /// # Errors
    /// When nobody leads.
    pub async fn tell_place(&self, node: &str, place: Coordinate) -> Result<(), Error> {
        let request = Request::Place(node.to_owned(), Box::new(place));
        match self.lead_or_ask(request).await? {
            Answer::Done => Ok(()),
            _ => Err(Error::Unknown),
        }
    }

    /// Tells where this node is, as often as makes sense.
    pub(super) async fn follow_place(self) {
        let mut told = Told::default();
        // The first words are those of many that start together, and need the node in the catalog.
        let mut pause = Duration::from_secs(1);
        loop {
            let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
            let jitter = Duration::from_micros(self.inner.env.random.below(micros));
            tokio::time::sleep(pause + jitter).await;
            let (place, now) = (self.coordinate(), Instant::now());
            let mut nodes = self.members();
            nodes.retain(|member| member.status == Status::Alive);
            pause = interval(nodes.len());
            if !told.is_old(&place, now) {
                continue;
            }
            let own = self.with_own();
            match own.tell_place(&self.inner.config.node_name, place).await {
                Ok(()) => told = Told(Some((place, now))),
                Err(error) => {
                    tracing::debug!(target: "agent", "Coordinate update error: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_rarer_with_the_cluster() {
        let seconds = [1, 960, 1024, 6400].map(|nodes| interval(nodes).as_secs());
        assert_eq!(seconds, [15, 15, 16, 100]);
    }

    #[test]
    fn a_node_that_stays_where_it_is_says_nothing() {
        let now = Instant::now();
        let place = Coordinate::default();
        assert!(Told::default().is_old(&place, now));
        let told = Told(Some((place, now)));
        let near = Coordinate {
            height: place.height + MOVED / 2.0,
            ..place
        };
        let far = Coordinate {
            height: place.height + MOVED * 2.0,
            ..place
        };
        assert!(!told.is_old(&near, now));
        assert!(told.is_old(&far, now));
        assert!(told.is_old(&near, now + REPEAT));
    }
}
