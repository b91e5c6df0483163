//! User events: from gossip to what this agent shows of them, and back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::{Error, Node};
use crate::events::{Events, Filters};
use crate::gossip::UserEvent;
use crate::rpc::Request;

/// Longest time in which a server of another datacenter must have taken an event.
const FIRE_TIMEOUT: Duration = Duration::from_secs(7);

impl Node {
    /// Tells everybody of an event, here or in another datacenter.
    ///
    /// # Errors
    /// When another datacenter is asked, and is not reached.
    pub async fn fire(&self, event: UserEvent) -> Result<(), Error> {
        match &self.elsewhere {
            None => self.inner.gossip.fire(event).await,
            Some(datacenter) => {
                let deadline = Instant::now() + FIRE_TIMEOUT;
                let request = || Request::Fire(event.clone());
                self.across(datacenter, request, deadline).await?;
            }
        }
        Ok(())
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
