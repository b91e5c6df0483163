//! User events as an agent keeps them: the newest that concern it, for `/v1/event/list`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use crate::filter::pattern;
use crate::gossip::UserEvent;

/// How many events are kept. Consul's.
pub const KEPT: usize = 256;
/// Largest event in the form in which Serf would send it. Serf's default.
const SIZE_MAX: usize = 512;
/// What Serf sends in front of a name that Consul gives it.
const SERF_PREFIX: usize = "consul:event:".len();

/// Which nodes something is for: regular expressions, empty for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filters<'a> {
    /// Of a node's name.
    pub node: &'a str,
    /// Of the id of one of its services.
    pub service: &'a str,
    /// Of a tag of that service.
    pub tag: &'a str,
}

impl<'a> Filters<'a> {
    /// Those of an event.
    pub fn of(event: &'a UserEvent) -> Self {
        Self {
            node: &event.node,
            service: &event.service,
            tag: &event.tag,
        }
    }

    /// Finds out whether they can be understood.
    ///
    /// # Errors
    /// The first thing that is wrong, in Consul's words.
    pub fn check(self) -> Result<(), String> {
        if !self.tag.is_empty() && self.service.is_empty() {
            return Err("Cannot provide tag filter without service filter".to_owned());
        }
        for (what, text) in [
            ("node", self.node),
            ("service", self.service),
            ("tag", self.tag),
        ] {
            pattern(text).map_err(|error| format!("Invalid {what} filter: {error}"))?;
        }
        Ok(())
    }

    /// Whether a node of this name, with these services (ids with tags), is meant. Nobody is by what cannot be understood.
    pub fn mean<'s>(
        self,
        node: &str,
        services: impl IntoIterator<Item = (&'s str, &'s [String])>,
    ) -> bool {
        let matches =
            |filter: &str, text: &str| pattern(filter).is_ok_and(|regex| regex.is_match(text));
        let has_tag =
            |tags: &[String]| self.tag.is_empty() || tags.iter().any(|tag| matches(self.tag, tag));
        let has_service = || {
            services
                .into_iter()
                .any(|(id, tags)| matches(self.service, id) && has_tag(tags))
        };
        (self.node.is_empty() || matches(self.node, node))
            && (self.service.is_empty() || has_service())
    }
}

/// Finds out whether an event may be fired.
///
/// # Errors
/// What is wrong with it, in Consul's and Serf's words.
pub fn check(event: &UserEvent) -> Result<(), String> {
    if event.name.is_empty() {
        return Err("User event missing name".to_owned());
    }
    Filters::of(event).check()?;
    let inner = inner_size(event);
    let name = SERF_PREFIX + event.name.len();
    if name + inner > SIZE_MAX {
        return Err(format!(
            "user event exceeds configured limit of {SIZE_MAX} bytes before encoding"
        ));
    }
    // A type byte, then a map of the clock (at its largest), the name, what Consul gives it, and a switch.
    if 1 + 1 + 6 + 9 + 5 + text_size(name) + 8 + text_size(inner) + 4 > SIZE_MAX {
        return Err(format!(
            "encoded user event exceeds configured limit of {SIZE_MAX} bytes after encoding"
        ));
    }
    Ok(())
}

/// Bytes of the MessagePack map that Consul hands to Serf: what fits there fits here, and nothing else does.
fn inner_size(event: &UserEvent) -> usize {
    let optional = |key: usize, len: usize| match len {
        0 => 0,
        len => 1 + key + text_size(len),
    };
    let id = 3 + text_size(36);
    let filters = [&event.node, &event.service, &event.tag].map(|text| optional(2, text.len()));
    let filters: usize = filters.iter().sum();
    1 + id + 2 + text_size(event.name.len()) + optional(1, event.payload.len()) + filters + 3
}

/// A text of this length with its head.
fn text_size(len: usize) -> usize {
    if len < 32 { 1 + len } else { 3 + len }
}

/// `X-Consul-Index` of a list that ends with this event. It does not grow: two lists are told apart, not ordered.
pub fn index_of(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    high ^ low
}

/// The newest events that concern an agent, in the order in which it heard of them.
#[derive(Debug)]
pub struct Events {
    kept: Mutex<VecDeque<Arc<UserEvent>>>,
    count: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }
}

impl Events {
    /// Takes one that concerns this agent.
    pub fn push(&self, event: Arc<UserEvent>) {
        tracing::debug!(target: "agent", "new event: event_name={} event_id={}", event.name, event.id);
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event);
        drop(kept);
        self.count.send_modify(|count| *count += 1);
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<Arc<UserEvent>> {
        self.lock().iter().cloned().collect()
    }

    /// Follows changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<UserEvent>>> {
        // A queue is never half changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters<'a>(node: &'a str, service: &'a str, tag: &'a str) -> Filters<'a> {
        Filters { node, service, tag }
    }

    #[test]
    fn filters_name_nodes_services_and_tags_of_those_services() {
        let tags = ["v1".to_owned(), "eu".to_owned()];
        let services = [("web-1", &tags[..]), ("db", &[][..])];
        let mean = |node, service, tag| filters(node, service, tag).mean("n1", services);
        assert!(mean("", "", ""));
        assert!(mean("^n", "", "") && !mean("^x", "", ""));
        assert!(mean("", "web", "") && !mean("", "^web$", ""));
        assert!(mean("", "web", "^v[0-9]$") && !mean("", "db", "v1"));
        assert!(!mean("n1", "web", "us"));
        assert!(!mean("(", "", ""), "what cannot be understood");
    }

    #[test]
    fn filters_that_cannot_be_are_refused() {
        let wrong = |node, service, tag| filters(node, service, tag).check().unwrap_err();
        assert_eq!(
            wrong("", "", "x"),
            "Cannot provide tag filter without service filter"
        );
        assert!(wrong("(", "", "").starts_with("Invalid node filter: "));
        assert!(wrong("", "(", "").starts_with("Invalid service filter: "));
        assert!(wrong("", "x", "(").starts_with("Invalid tag filter: "));
        let large = wrong("((a{99}){99}){9}", "", "");
        assert!(large.contains("size limit"), "{large}");
    }

    #[test]
    fn events_have_serfs_size() {
        let event = |payload: usize| UserEvent {
            name: "deploy".into(),
            payload: vec![0; payload].into(),
            ..UserEvent::default()
        };
        assert_eq!(
            check(&UserEvent::default()),
            Err("User event missing name".into())
        );
        assert_eq!(check(&event(300)), Ok(()));
        let largest = (0..600).filter(|len| check(&event(*len)).is_ok()).max();
        assert!(matches!(largest, Some(380..=430)), "{largest:?}");
        assert!(check(&event(500)).unwrap_err().contains("before encoding"));
    }

    #[test]
    fn indexes_are_those_that_clients_compute() {
        let id = "b54fe110-7af5-cafc-d1fb-afc8ba432b1c".parse().unwrap();
        assert_eq!(index_of(id), 0xb54f_e110_7af5_cafc ^ 0xd1fb_afc8_ba43_2b1c);
    }

    #[test]
    fn the_newest_are_kept() {
        let events = Events::default();
        let mut watch = events.watch();
        for number in 0..KEPT as u64 + 2 {
            events.push(Arc::new(UserEvent {
                ltime: number,
                ..UserEvent::default()
            }));
        }
        let kept = events.list();
        assert_eq!((kept.len(), kept[0].ltime), (KEPT, 2));
        assert!(watch.has_changed().unwrap());
        assert_eq!(*watch.borrow_and_update(), KEPT as u64 + 2);
    }
}
