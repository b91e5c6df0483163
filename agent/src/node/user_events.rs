//! User events: from gossip to what this agent shows of them, and back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Error, Node, remote_exec};
use crate::acl::{Access, Resource};
use crate::events::{Events, Filters};
use crate::gossip::UserEvent;
use crate::rate::Operation;
use crate::rpc::Request;

/// Longest time in which a server of another datacenter must have taken an event.
const FIRE_TIMEOUT: Duration = Duration::from_secs(7);

impl Node {
    /// Tells everybody of an event, here or in another datacenter.
    ///
    /// # Errors
    /// When another datacenter is asked, and is not reached.
    pub async fn fire(&self, event: UserEvent) -> Result<(), Error> {
        self.enter(|| Operation::FIRE)?;
        match &self.elsewhere {
            None => {
                let holder = self.holder().await?;
                if holder.is_some_and(|h| !h.may(Resource::Event, &event.name, Access::Write)) {
                    return Err(Error::Denied("Permission denied".to_owned()));
                }
                self.inner.gossip.fire(event).await;
            }
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
        // Those that run commands end with this task.
        let mut jobs = JoinSet::new();
        loop {
            while jobs.try_join_next().is_some() {}
            match heard.recv().await {
                Ok(event) if event.name == remote_exec::EVENT && self.concerned(&event) => {
                    if self.inner.config.disable_remote_exec {
                        tracing::info!(target: "agent", "ignoring remote exec event, disabled.: event_name={} event_id={}", event.name, event.id);
                    } else if jobs.len() >= remote_exec::JOBS {
                        tracing::warn!(target: "agent", "ignoring remote exec event, too many are run already: event_id={}", event.id);
                    } else {
                        jobs.spawn(self.with_own().run_for_others(event));
                    }
                }
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
