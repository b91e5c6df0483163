//! What it takes to look at something, and what is left out of an answer. There is no query without an answer here, or this does
//! not compile.

use std::sync::Arc;

use super::{Access, Denied, Holder, Resource, kinds};
use crate::state::{
    AclAnswer, AclQuery, AclToken, Answer, Check, GraphAnswer, Mergeable, PreparedQuery, Query,
    ServiceHealth, TxnResult,
};

use Access::{List, Read, Write};

/// What is shown in place of a secret.
pub const HIDDEN_SECRET: &str = "<hidden>";

impl Holder {
    /// Refuses a query that the holder may not ask at all. What it may not see of the answer, [`Holder::filter`] leaves out.
    ///
    /// # Errors
    /// What is lacking.
    pub fn check_query(&self, query: &Query) -> Result<(), Denied> {
        match query {
            Query::KvGet { key } => self.need(Resource::Key, key, Read),
            Query::KvList { prefix } | Query::KvKeys { prefix, .. } if self.lists_keys() => {
                self.need(Resource::Key, prefix, List)
            }
            Query::Autopilot | Query::CaConfig => self.need(Resource::Operator, "", Read),
            Query::Entry { kind, name } => kinds::need(self, kind, name, Read),
            Query::Chain(asked) => self.need(Resource::Service, &asked.service, Read),
            Query::GatewayServices { gateway } => self.need(Resource::Service, gateway, Read),
            Query::Graph(query) => self.need(Resource::Service, query.service(), Read),
            Query::ExportedServices => self.need(Resource::Mesh, "", Read),
            Query::Acl(query) => self.check_acl_query(query),
            Query::Noop
            | Query::ClusterId
            | Query::KvList { .. }
            | Query::KvKeys { .. }
            | Query::Nodes { .. }
            | Query::Node { .. }
            | Query::Services { .. }
            | Query::ServiceNodes { .. }
            | Query::NodeServices { .. }
            | Query::NodeChecks { .. }
            | Query::ServiceChecks { .. }
            | Query::StateChecks { .. }
            | Query::ServiceHealth { .. }
            | Query::Session { .. }
            | Query::Sessions
            | Query::NodeSessions { .. }
            | Query::Txn(_)
            | Query::AddressOwners { .. }
            | Query::MeshHealth { .. }
            | Query::Instances { .. }
            | Query::ChecksWithMeta { .. }
            | Query::PreparedQueries
            | Query::PreparedQuery { .. }
            | Query::Places
            | Query::NodePlace { .. }
            | Query::Entries { .. }
            | Query::IngressHealth { .. }
            | Query::Merged(_)
            | Query::VirtualIp { .. }
            | Query::NodeInfos { .. }
            | Query::CaRoots => Ok(()),
        }
    }

    /// Whoever knows a secret may see what it stands for.
    fn check_acl_query(&self, query: &AclQuery) -> Result<(), Denied> {
        match query {
            AclQuery::Grants | AclQuery::SecretToken(_) => Ok(()),
            AclQuery::Tokens(_)
            | AclQuery::Token(_)
            | AclQuery::Policies
            | AclQuery::Policy(_)
            | AclQuery::PolicyNamed(_)
            | AclQuery::Roles(_)
            | AclQuery::Role(_)
            | AclQuery::RoleNamed(_)
            | AclQuery::Methods
            | AclQuery::Method(_)
            | AclQuery::BindingRules(_)
            | AclQuery::BindingRule(_) => self.need(Resource::Acl, "", Read),
        }
    }

    /// What to ask instead, so that what the holder may not see can be left out of the answer.
    pub fn instead_of(&self, query: &Query) -> Option<Query> {
        match query {
            // A key that is cut behind a separator does not tell what is behind it.
            Query::KvKeys { prefix, .. } if !self.may_below(Resource::Key, prefix, Read) => {
                let prefix = prefix.clone();
                Some(Query::KvList { prefix })
            }
            _ => None,
        }
    }

    /// Whether nothing can be left out of the catalog and of health.
    pub fn sees_catalog(&self) -> bool {
        self.may_all(Resource::Node, Read) && self.may_all(Resource::Service, Read)
    }

    fn sees_instance(&self, node: &str, service: &str) -> bool {
        self.may(Resource::Service, service, Read) && self.may(Resource::Node, node, Read)
    }

    fn sees_check(&self, check: &Check) -> bool {
        let service = check.service_name.as_str();
        self.may(Resource::Node, &check.node, Read)
            && (service.is_empty() || self.may(Resource::Service, service, Read))
    }

    /// Leaves out of an answer what the holder may not see; whether there was anything. `query` is what was asked for.
    pub fn filter(&self, query: &Query, answer: &mut Answer) -> bool {
        match answer {
            Answer::KvList(entries) => {
                let left = keep(entries, |entry| self.may(Resource::Key, &entry.key, Read));
                if let Query::KvKeys { prefix, separator } = query {
                    let keys = entries.iter().map(|entry| &*entry.key);
                    *answer = Answer::Keys(cut(keys, prefix, separator));
                }
                left
            }
            Answer::Nodes(nodes) => keep(nodes, |node| self.may(Resource::Node, &node.node, Read)),
            Answer::Node(node) => keep_one(node, |node| self.may(Resource::Node, &node.node, Read)),
            Answer::Services(services) => {
                let before = services.len();
                services.retain(|name, _| self.may(Resource::Service, name, Read));
                services.len() < before
            }
            Answer::ServiceNodes(rows) => keep(rows, |row| {
                self.sees_instance(&row.node.node, &row.service.service)
            }),
            Answer::NodeServices(found) => {
                let left = keep_one(found, |row| self.may(Resource::Node, &row.node.node, Read));
                let services = found.as_mut().map(|row| &mut row.services);
                let some = services.is_some_and(|services| {
                    keep(services, |row| {
                        self.may(Resource::Service, &row.service, Read)
                    })
                });
                left || some
            }
            Answer::NodeInfos(found) => {
                let mut left = keep(found, |row| self.may(Resource::Node, &row.node.node, Read));
                for row in found {
                    left |= keep(&mut row.services, |row| {
                        self.may(Resource::Service, &row.service, Read)
                    });
                    left |= keep(&mut row.checks, |check| self.sees_check(check));
                }
                left
            }
            Answer::Checks(checks) => keep(checks, |check| self.sees_check(check)),
            Answer::ServiceHealth(rows) => {
                if let Some(target) = mesh_target(query)
                    && !self.may(Resource::Service, target, Read)
                {
                    return keep(rows, |_| false);
                }
                self.keep_instances(rows)
            }
            Answer::Session(session) => {
                keep_one(session, |row| self.may(Resource::Session, &row.node, Read))
            }
            Answer::Sessions(rows) => {
                keep(rows, |row| self.may(Resource::Session, &row.node, Read))
            }
            Answer::Txn(Ok(results)) => keep(results, |result| self.sees_result(result)),
            Answer::AddressOwners { nodes, services } => {
                let some = keep(nodes, |node| self.may(Resource::Node, &node.node, Read));
                let others = keep(services, |row| {
                    self.may(Resource::Service, &row.service, Read)
                });
                some || others
            }
            Answer::PreparedQueries(rows) => {
                let left = keep(rows, |row| self.sees_prepared(row));
                for row in rows {
                    self.hide_token(row);
                }
                left
            }
            Answer::PreparedQuery(Some(row)) => {
                self.hide_token(row);
                false
            }
            Answer::Places(rows) => keep(rows, |row| self.may(Resource::Node, &row.node, Read)),
            Answer::Entries(rows) => keep(rows, |row| kinds::may(self, &row.kind, &row.name, Read)),
            Answer::GatewayServices(rows) => {
                keep(rows, |row| self.may(Resource::Service, &row.service, Read))
            }
            Answer::Graph(answer) => self.filter_graph(answer),
            Answer::VirtualIp(found) => match query {
                Query::VirtualIp { service } => {
                    keep_one(found, |_| self.may(Resource::Service, service, Read))
                }
                _ => false,
            },
            Answer::Acl(answer) => {
                self.hide_secrets(query, answer);
                false
            }
            // Refused before, or nobody's secret.
            Answer::Nothing
            | Answer::Kv(_)
            | Answer::Keys(_)
            | Answer::ClusterId(_)
            | Answer::Autopilot(_)
            | Answer::Txn(Err(_))
            | Answer::PreparedQuery(None)
            | Answer::Chain(_)
            | Answer::ExportedServices(_)
            | Answer::CaRoots(_)
            | Answer::CaConfig(_) => false,
        }
    }

    fn filter_graph(&self, answer: &mut GraphAnswer) -> bool {
        match answer {
            GraphAnswer::Topology(found) => {
                let mut left = false;
                for side in [&mut found.upstreams, &mut found.downstreams] {
                    // One that routes only has no instance by which it would be left out.
                    left |= keep(&mut side.links, |link| {
                        self.may(Resource::Service, &link.name, Read)
                    });
                    left |= self.keep_instances(&mut side.instances);
                }
                left
            }
            GraphAnswer::Gateway(behind) => {
                let mut left = keep(behind, |one| {
                    self.may(Resource::Service, &one.service, Read)
                });
                behind.retain_mut(|one| {
                    let some = self.keep_instances(&mut one.instances);
                    left |= some;
                    !(some && one.instances.is_empty())
                });
                left
            }
        }
    }

    fn keep_instances(&self, rows: &mut Vec<ServiceHealth>) -> bool {
        keep(rows, |row| {
            self.sees_instance(&row.node.node, &row.service.service)
        })
    }

    /// What a transaction shows.
    pub fn sees_result(&self, result: &TxnResult) -> bool {
        match result {
            TxnResult::Kv(entry) => self.may(Resource::Key, &entry.key, Read),
            TxnResult::Node(node) => self.may(Resource::Node, &node.node, Read),
            TxnResult::Service(row) => self.may(Resource::Service, &row.service, Read),
            TxnResult::Check(check) => self.sees_check(check),
        }
    }

    /// One without a name is for those who know its id, and for those who may do everything.
    fn sees_prepared(&self, query: &PreparedQuery) -> bool {
        match query.ruled_name() {
            Some(name) => self.may(Resource::Query, name, Read),
            None => self.may(Resource::Acl, "", Write),
        }
    }

    fn hide_token(&self, query: &mut Arc<PreparedQuery>) {
        if !query.token.is_empty() && !self.may(Resource::Acl, "", Write) {
            HIDDEN_SECRET.clone_into(&mut Arc::make_mut(query).token);
        }
    }

    fn hide_secrets(&self, query: &Query, answer: &mut AclAnswer) {
        let AclAnswer::Tokens(rows, _) = answer else {
            return;
        };
        if self.may(Resource::Acl, "", Write) {
            return;
        }
        let known = match query {
            Query::Acl(AclQuery::SecretToken(secret)) => secret.as_str(),
            _ => "",
        };
        for row in rows.iter_mut().filter(|row| row.secret != known) {
            *row = Arc::new(AclToken {
                secret: HIDDEN_SECRET.to_owned(),
                ..AclToken::clone(row)
            });
        }
    }
}

/// The service whose mesh is asked for.
fn mesh_target(query: &Query) -> Option<&str> {
    match query {
        Query::MeshHealth { service, .. }
        | Query::IngressHealth { service, .. }
        | Query::Merged(Mergeable::Mesh { service, .. } | Mergeable::Ingress { service, .. }) => {
            Some(service)
        }
        _ => None,
    }
}

fn keep<T>(rows: &mut Vec<T>, seen: impl Fn(&T) -> bool) -> bool {
    let before = rows.len();
    rows.retain(seen);
    rows.len() < before
}

fn keep_one<T>(row: &mut Option<T>, seen: impl Fn(&T) -> bool) -> bool {
    let there = row.is_some();
    row.take_if(|row| !seen(row));
    there && row.is_none()
}

/// Sorted keys up to the separator's first occurrence behind the prefix, each once.
fn cut<'a>(keys: impl Iterator<Item = &'a str>, prefix: &str, separator: &str) -> Vec<Arc<str>> {
    let mut all: Vec<Arc<str>> = Vec::new();
    for key in keys {
        let behind = key.get(prefix.len()..).unwrap_or_default();
        let shown = match separator {
            "" => key,
            _ => behind
                .find(separator)
                .map_or(key, |at| &key[..prefix.len() + at + separator.len()]),
        };
        if all.last().is_none_or(|last| **last != *shown) {
            all.push(shown.into());
        }
    }
    all
}
