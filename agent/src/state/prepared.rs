//! Prepared queries: look-ups of services under a name or an id.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::{Outcome, Refusal};
use super::session::Sessions;
use super::{Change, Indexes};

/// A prepared query, as `/v1/query` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PreparedQuery {
    /// Random, by the proposer.
    #[serde(rename = "ID")]
    pub id: Uuid,
    /// Unique without regard to case; may be empty. Of a template the prefix of the names that it answers.
    pub name: String,
    /// The session with which it ends; empty for none.
    pub session: String,
    /// Secret of the token that it runs with; empty for that of whoever runs it.
    pub token: String,
    /// Whether, and how, it answers more names than its own.
    pub template: QueryTemplate,
    /// What is looked for.
    pub service: QueryService,
    /// How DNS answers it.
    #[serde(rename = "DNS")]
    pub dns: QueryDns,
    /// The log index that created it.
    pub create_index: u64,
    /// The log index of its last change.
    pub modify_index: u64,
}

impl PreparedQuery {
    /// The name that rules are about; `None` for one that belongs to whoever knows its id. A template without a prefix
    /// answers every name, and so is about all of them.
    pub fn ruled_name(&self) -> Option<&str> {
        let is_template = !self.template.kind.is_empty();
        (is_template || !self.name.is_empty()).then_some(&self.name)
    }
}

/// How a template understands the names that it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueryTemplate {
    /// `name_prefix_match`; empty for a query that is no template.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Takes the name apart, for `${match(N)}`.
    pub regexp: String,
    /// Whether tags that come out empty are left out.
    pub remove_empty_tags: bool,
}

/// What a prepared query looks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueryService {
    /// Name of the service.
    pub service: String,
    /// Where else to look when the own datacenter has no instance.
    pub failover: QueryFailover,
    /// Whether instances with a warning check are left out.
    pub only_passing: bool,
    /// Checks that do not count.
    #[serde(rename = "IgnoreCheckIDs")]
    pub ignore_check_ids: Vec<String>,
    /// A node, or `_agent` for that of whoever is asked: the nearest instances come first. Empty for any order.
    pub near: String,
    /// All of these, and with `!` in front none of these.
    pub tags: Vec<String>,
    /// Only on nodes with these.
    pub node_meta: BTreeMap<String, String>,
    /// Only instances with these.
    pub service_meta: BTreeMap<String, String>,
    /// Kept and shown.
    pub connect: bool,
}

/// Where to look when there are no healthy instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueryFailover {
    /// So many of the nearest datacenters.
    pub nearest_n: u32,
    /// Then these.
    pub datacenters: Vec<String>,
}

/// How DNS answers a prepared query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryDns {
    /// Go duration; empty for that of `dns_config`.
    #[serde(rename = "TTL")]
    pub ttl: String,
}

/// A change of the prepared queries. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PreparedStep {
    /// Adds one. Its indexes do not count.
    Create(Box<PreparedQuery>),
    /// Puts it in place of the one with its id.
    Update(Box<PreparedQuery>),
    /// Removes one; done as well when there is none.
    Delete(Uuid),
}

/// All prepared queries.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Prepared {
    pub(super) rows: OrdMap<Uuid, Arc<PreparedQuery>>,
    /// The last index that changed anything here.
    pub(super) index: u64,
}

impl Prepared {
    pub(super) fn restore(rows: Vec<Arc<PreparedQuery>>, index: u64) -> Self {
        let rows = rows.into_iter().map(|row| (row.id, row)).collect();
        Self { rows, index }
    }

    pub(super) fn apply(
        &mut self,
        change: &mut Change<'_>,
        sessions: &Sessions,
        step: &PreparedStep,
    ) -> Outcome {
        let (query, existing) = match step {
            PreparedStep::Create(query) => (query, None),
            PreparedStep::Update(query) => match self.rows.get(&query.id) {
                Some(existing) => (query, Some(existing.create_index)),
                None => return Outcome::refuse(Refusal::MissingQuery, "Query not found"),
            },
            PreparedStep::Delete(id) => {
                self.remove(change, |query| query.id == *id);
                return Outcome::Done;
            }
        };
        if let Some(refusal) = self.refuse(sessions, query) {
            return refusal;
        }
        let row = PreparedQuery {
            create_index: existing.unwrap_or(change.index),
            modify_index: change.index,
            ..PreparedQuery::clone(query)
        };
        self.rows.insert(row.id, Arc::new(row));
        self.index = change.index;
        change.touched.prepared();
        Outcome::Done
    }

    fn refuse(&self, sessions: &Sessions, query: &PreparedQuery) -> Option<Outcome> {
        let refuse = |why: String| Some(Outcome::refuse(Refusal::InvalidQuery, why));
        if !query.session.is_empty() {
            let id = Uuid::try_parse(&query.session).ok();
            if id.is_none_or(|id| !sessions.rows.contains_key(&id)) {
                return refuse(format!("invalid session {:?}", query.session));
            }
        }
        let is_template = !query.template.kind.is_empty();
        let same = |other: &&Arc<PreparedQuery>| {
            other.id != query.id
                && other.name.eq_ignore_ascii_case(&query.name)
                && other.template.kind.is_empty() != is_template
        };
        let named = !query.name.is_empty() || is_template;
        if named && self.rows.values().any(|other| same(&other)) {
            return refuse(format!(
                "name '{}' aliases an existing query name",
                query.name
            ));
        }
        None
    }

    /// Removes those that end with a session.
    pub(super) fn end_session(&mut self, change: &mut Change<'_>, session: &Uuid) {
        if self.rows.is_empty() {
            return;
        }
        let session = session.to_string();
        self.remove(change, |query| query.session == session);
    }

    fn remove(&mut self, change: &mut Change<'_>, gone: impl Fn(&PreparedQuery) -> bool) {
        let doomed: Vec<Uuid> = self
            .rows
            .values()
            .filter(|query| gone(query))
            .map(|query| query.id)
            .collect();
        for id in &doomed {
            self.rows.remove(id);
        }
        if !doomed.is_empty() {
            self.index = change.index;
            change.touched.prepared();
        }
    }

    /// By id, then by name, then the template with the longest prefix of the name.
    pub(super) fn find(&self, id_or_name: &str) -> Option<Arc<PreparedQuery>> {
        if let Ok(id) = Uuid::try_parse(id_or_name)
            && let Some(query) = self.rows.get(&id)
        {
            return Some(query.clone());
        }
        let name = id_or_name.to_lowercase();
        let plain = |query: &&Arc<PreparedQuery>| {
            query.template.kind.is_empty() && !name.is_empty() && query.name.to_lowercase() == name
        };
        if let Some(query) = self.rows.values().find(plain) {
            return Some(query.clone());
        }
        let templates = self.rows.values().filter(|query| {
            !query.template.kind.is_empty() && name.starts_with(&query.name.to_lowercase())
        });
        templates.max_by_key(|query| query.name.len()).cloned()
    }

    /// The same rows, all written at one index.
    pub(super) fn moved_to(&self, index: u64) -> Self {
        let rows = self.rows.values().map(|row| {
            Arc::new(PreparedQuery {
                create_index: row.create_index.min(index),
                modify_index: index,
                ..PreparedQuery::clone(row)
            })
        });
        Self::restore(rows.collect(), index)
    }

    pub(super) fn indexes(&self) -> Indexes {
        Indexes::same(self.index)
    }
}
