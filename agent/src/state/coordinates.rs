//! Where the nodes of the catalog are, by what they say of themselves.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Change, Indexes};
use crate::coordinate::Coordinate;

/// A node's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlace {
    /// Its name.
    pub node: String,
    /// Where it is.
    pub place: Coordinate,
}

/// All places.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Places {
    /// By node name in lower case.
    pub(super) rows: OrdMap<Arc<str>, Arc<NodePlace>>,
    /// The last index that changed anything here.
    pub(super) index: u64,
}

impl Places {
    pub(super) fn restore(rows: Vec<Arc<NodePlace>>, index: u64) -> Self {
        let rows = rows
            .into_iter()
            .map(|row| (Arc::from(row.node.to_lowercase()), row));
        Self {
            rows: rows.collect(),
            index,
        }
    }

    /// Writes those of nodes that are in the catalog.
    pub(super) fn set(
        &mut self,
        change: &mut Change<'_>,
        places: &[NodePlace],
        exists: impl Fn(&str) -> bool,
    ) {
        for row in places.iter().filter(|row| exists(&row.node)) {
            let key: Arc<str> = row.node.to_lowercase().into();
            if self.rows.get(&key).is_some_and(|old| **old == *row) {
                continue;
            }
            self.rows.insert(key, Arc::new(row.clone()));
            self.changed(change);
        }
    }

    /// Removes that of a node (lower case) which is gone.
    pub(super) fn drop_node(&mut self, change: &mut Change<'_>, node: &str) {
        if self.rows.remove(node).is_some() {
            self.changed(change);
        }
    }

    fn changed(&mut self, change: &mut Change<'_>) {
        self.index = change.index;
        change.touched.places();
    }

    pub(super) fn of(&self, node: &str) -> Option<&Arc<NodePlace>> {
        self.rows.get(node.to_lowercase().as_str())
    }

    pub(super) fn indexes(&self) -> Indexes {
        Indexes::same(self.index)
    }
}
