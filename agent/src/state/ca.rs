//! The certificate authority of the service mesh: its roots with the active key, and its configuration. What they mean,
//! `crate::ca` knows; here they are rows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::Outcome;
use super::{Change, Indexes};

/// What answers show instead of a private key. Given back, it stands for the key that there is.
pub const HIDDEN: &str = "hidden";

/// How the certificate authority works.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaConfig {
    /// The trust domain is this with `.consul` behind it.
    pub cluster_id: Uuid,
    /// Who makes the certificates: `consul`.
    pub provider: String,
    /// The provider's settings as Consul shows them, a JSON object without the private key.
    pub config: String,
    /// The private key among the settings, in PEM; empty when the provider makes its own. In answers [`HIDDEN`].
    pub private_key: String,
    /// Log index that first set it. Set by the state.
    pub create_index: u64,
    /// Log index of its last change. Set by the state.
    pub modify_index: u64,
}

/// A root certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRoot {
    /// Its fingerprint: SHA-1, in hexadecimal with colons.
    pub id: String,
    /// For people.
    pub name: String,
    /// Of the certificate; 0 for one that is longer than 64 bits.
    pub serial_number: u64,
    /// Its key's identifier, in hexadecimal with colons.
    pub signing_key_id: String,
    /// The cluster id of the trust domain in which it was made.
    pub external_trust_domain: String,
    /// Milliseconds since the Unix epoch.
    pub not_before_ms: u64,
    /// Likewise.
    pub not_after_ms: u64,
    /// PEM.
    pub root_cert: String,
    /// PEM: this root's key signed by the one before, for those who know only that. In front of it, where the primary
    /// datacenter is another one: the certificate of the key that signs here.
    pub intermediate_certs: Vec<String>,
    /// `ec` or `rsa`.
    pub private_key_type: String,
    /// Length of the key.
    pub private_key_bits: u32,
    /// The private key in PEM, of the active root alone, or of the certificate below it that signs here: never shown, and never sent to a client.
    pub signing_key: String,
    /// Whether it signs. One does.
    pub active: bool,
    /// Since when it signs no more, in milliseconds since the Unix epoch.
    pub rotated_out_at_ms: Option<u64>,
    /// Log index that added it. Set by the state.
    pub create_index: u64,
    /// Log index of its last change. Set by the state.
    pub modify_index: u64,
}

/// What everybody may know of the roots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRoots {
    /// The cluster id of the trust domain; `None` before there is a certificate authority.
    pub cluster_id: Option<Uuid>,
    /// Those to be trusted, the newest first, without their keys.
    pub roots: Vec<Arc<CaRoot>>,
}

impl CaRoots {
    /// The one that signs.
    pub fn active(&self) -> Option<&CaRoot> {
        self.roots
            .iter()
            .map(|root| &**root)
            .find(|root| root.active)
    }
}

/// A change of the certificate authority. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaStep {
    /// Writes the configuration and all of the roots.
    Set {
        /// What to write; its indexes do not count.
        config: Box<CaConfig>,
        /// All roots from now on, likewise.
        roots: Vec<CaRoot>,
        /// Only if the authority was last changed at this index; 0 stands for never.
        cas: u64,
    },
}

/// The authority.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Ca {
    pub(super) config: Option<Arc<CaConfig>>,
    /// The newest first.
    pub(super) roots: Arc<Vec<Arc<CaRoot>>>,
    /// The last index that changed the roots.
    pub(super) roots_index: u64,
}

impl Ca {
    pub(super) fn restore(
        config: Option<Arc<CaConfig>>,
        roots: Vec<Arc<CaRoot>>,
        roots_index: u64,
    ) -> Self {
        Self {
            config,
            roots: Arc::new(roots),
            roots_index,
        }
    }

    pub(super) fn apply(&mut self, change: &mut Change<'_>, step: &CaStep) -> Outcome {
        let CaStep::Set { config, roots, cas } = step;
        if *cas != self.index() {
            return Outcome::Bool(false);
        }
        let index = change.index;
        let old = self.config.as_deref();
        if old.is_some_and(|old| old.cluster_id != config.cluster_id) {
            // The names in chains have this trust domain.
            change.touched.entries();
        }
        let config = CaConfig {
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: index,
            ..CaConfig::clone(config)
        };
        self.config = Some(Arc::new(config));
        let rows: Vec<_> = roots.iter().map(|root| self.row(root, index)).collect();
        if rows != *self.roots {
            self.roots = Arc::new(rows);
            self.roots_index = index;
        }
        change.touched.ca();
        Outcome::Bool(true)
    }

    /// A root as it is kept; one that stays as it was keeps its index.
    fn row(&self, root: &CaRoot, index: u64) -> Arc<CaRoot> {
        let old = self.roots.iter().find(|old| old.id == root.id);
        let mut row = CaRoot {
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: old.map_or(index, |old| old.modify_index),
            ..root.clone()
        };
        if old.is_none_or(|old| **old != row) {
            row.modify_index = index;
        }
        Arc::new(row)
    }

    /// The cluster id of the trust domain.
    pub(super) fn cluster_id(&self) -> Option<Uuid> {
        self.config.as_ref().map(|row| row.cluster_id)
    }

    /// The last index that changed anything here, for [`CaStep::Set`].
    pub(super) fn index(&self) -> u64 {
        let config = self.config.as_ref().map_or(0, |row| row.modify_index);
        config.max(self.roots_index)
    }

    /// The roots without their keys.
    pub(super) fn shown(&self) -> CaRoots {
        let without_key = |root: &Arc<CaRoot>| {
            Arc::new(CaRoot {
                signing_key: String::new(),
                ..CaRoot::clone(root)
            })
        };
        CaRoots {
            cluster_id: self.cluster_id(),
            roots: self.roots.iter().map(without_key).collect(),
        }
    }

    /// The configuration without its key.
    pub(super) fn shown_config(&self) -> Option<CaConfig> {
        let mut config = self.config.as_deref()?.clone();
        if !config.private_key.is_empty() {
            HIDDEN.clone_into(&mut config.private_key);
        }
        Some(config)
    }

    /// The same rows, all written at one index.
    pub(super) fn moved_to(&self, index: u64) -> Self {
        let config = self.config.as_deref().map(|row| {
            Arc::new(CaConfig {
                create_index: row.create_index.min(index),
                modify_index: index,
                ..row.clone()
            })
        });
        let roots = self.roots.iter().map(|row| {
            Arc::new(CaRoot {
                create_index: row.create_index.min(index),
                modify_index: index,
                ..CaRoot::clone(row)
            })
        });
        Self::restore(config, roots.collect(), index)
    }

    pub(super) fn roots_indexes(&self) -> Indexes {
        Indexes::same(self.roots_index)
    }

    pub(super) fn config_indexes(&self) -> Indexes {
        Indexes::same(self.config.as_ref().map_or(0, |row| row.modify_index))
    }
}
