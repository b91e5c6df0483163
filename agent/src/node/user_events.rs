//! User events: from gossip to what this agent shows of them, and back.

use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Node;
use crate::events::{Events, Filters};
use crate::gossip::UserEvent;

impl Node {
    /// Tells everybody of an event.
    pub async fn fire(&self, event: UserEvent) {
        self.inner.gossip.fire(event).await;
    }

    /// The newest events that concern this agent.
    pub fn events(&self) -> &Events {
        &self.inner.events
    }

    /// Keeps those that concern this agent, until gossip ends.
    pub(super) async fn follow_user_events(self, mut heard: Receiver<Arc<UserEvent>>) {
        loop {
            match heard.recv().await {
                Ok(event) if self.concerned(&event) => self.inner.events.push(event),
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(target: "agent", "user events came faster than they were read: lost={lost}");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn concerned(&self, event: &UserEvent) -> bool {
        let services = self.local().services();
        let own = services
            .iter()
            .map(|(id, own)| (id.as_str(), own.row.tags.as_slice()));
        Filters::of(event).mean(&self.inner.config.node_name, own)
    }
}
