//! Sessions: what locks are held by, bound to the health of a node.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Change, Indexes};

/// A session, as `/v1/session` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// Random, by the proposer.
    #[serde(rename = "ID")]
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// The node that it depends on.
    pub node: String,
    /// Nanoseconds for which its keys refuse new locks after it was ended. The leader measures them.
    pub lock_delay: u64,
    /// What becomes of the keys.
    pub behavior: Behavior,
    /// Go duration, or empty for a session without end. The leader measures it.
    #[serde(rename = "TTL")]
    pub ttl: String,
    /// Checks of the node that it depends on.
    pub node_checks: Vec<String>,
    /// Checks of services on the node that it depends on.
    pub service_checks: Option<Vec<ServiceCheck>>,
    /// The log index that created it.
    pub create_index: u64,
    /// The log index of its last change.
    pub modify_index: u64,
}

impl Session {
    /// Every check id that it depends on.
    pub fn check_ids(&self) -> impl Iterator<Item = &str> {
        let services = self.service_checks.iter().flatten().map(|c| c.id.as_str());
        self.node_checks.iter().map(String::as_str).chain(services)
    }
}

#[cfg(test)]
impl Session {
    /// One that asks for nothing: no TTL, no lock delay, no checks.
    pub(crate) fn plain(id: Uuid, node: &str) -> Self {
        Self {
            id,
            name: String::new(),
            node: node.to_owned(),
            lock_delay: 0,
            behavior: Behavior::Release,
            ttl: String::new(),
            node_checks: Vec::new(),
            service_checks: None,
            create_index: 0,
            modify_index: 0,
        }
    }
}

/// What becomes of a session's keys when it ends. Append only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// They are unlocked.
    #[default]
    Release,
    /// They are deleted.
    Delete,
}

/// A service's check that a session depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceCheck {
    /// Check id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Always empty: namespaces are not part of this edition.
    #[serde(default)]
    pub namespace: String,
}

/// All sessions.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Sessions {
    pub(super) rows: OrdMap<Uuid, Arc<Session>>,
    /// Ids by the node's name in lower case.
    by_node: OrdMap<Arc<str>, OrdSet<Uuid>>,
    /// The last index that changed anything here.
    pub(super) index: u64,
    /// The last index that ended a session.
    pub(super) ended: u64,
}

impl Sessions {
    pub(super) fn restore(rows: Vec<Arc<Session>>, index: u64, ended: u64) -> Self {
        let mut sessions = Sessions {
            index,
            ended,
            ..Sessions::default()
        };
        for session in rows {
            sessions.link(&session);
            sessions.rows.insert(session.id, session);
        }
        sessions
    }

    /// Adds a session whose node and checks were found good.
    pub(super) fn create(&mut self, change: &mut Change<'_>, session: &Session) {
        let session = Arc::new(Session {
            create_index: change.index,
            modify_index: change.index,
            ..session.clone()
        });
        self.link(&session);
        self.index = change.index;
        change.touched.session(session.id);
        self.rows.insert(session.id, session);
    }

    /// Ends a session; its keys are the caller's business.
    pub(super) fn remove(&mut self, change: &mut Change<'_>, id: &Uuid) -> Option<Arc<Session>> {
        let session = self.rows.remove(id)?;
        let node = session.node.to_lowercase();
        if let Some(ids) = self.by_node.get_mut(node.as_str()) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_node.remove(node.as_str());
            }
        }
        self.index = change.index;
        self.ended = change.index;
        change.touched.session(*id);
        Some(session)
    }

    /// Sessions bound to a node, given in lower case.
    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &Arc<Session>> {
        let ids = self.by_node.get(node).into_iter().flat_map(OrdSet::iter);
        ids.filter_map(|id| self.rows.get(id))
    }

    pub(super) fn indexes(&self, id: &Uuid) -> Indexes {
        match self.rows.get(id) {
            Some(session) => Indexes::same(session.modify_index),
            None => Indexes {
                shown: self.index,
                changed: self.ended,
            },
        }
    }

    fn link(&mut self, session: &Session) {
        self.by_node
            .entry(Arc::from(session.node.to_lowercase()))
            .or_default()
            .insert(session.id);
    }
}
