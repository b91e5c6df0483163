//! From a question to its answer: what to read, and which part of it to show.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Query as Question, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::Api;
use super::answer::{Basis, Content, Group, Writer, is_healthy};
use super::name::{Asked, Domains};
use crate::config::Dns;
use crate::coordinate::Nearness;
use crate::env::{Env, Random as _, SeededRandom};
use crate::node::{self, Consistency, ReadOptions, Reply};
use crate::prepared;
use crate::state::{Answer, PreparedQuery, Query, QueryFailover, ServiceHealth};
use crate::translate;

/// The service that servers are registered as.
const SERVERS: &str = "consul";

/// Answers what is ours.
pub(super) struct Lookup<A> {
    pub(super) api: A,
    pub(super) env: Env,
    pub(super) settings: Dns,
    pub(super) domains: Domains,
    /// Whether answers of other datacenters show the addresses that are meant for other datacenters.
    pub(super) translate_wan_addrs: bool,
    /// Whether this one does.
    pub(super) translates: bool,
}

impl<A: Api> Lookup<A> {
    /// Answers a question in one of our domains.
    pub(super) async fn ours(
        &self,
        asked: Asked,
        question: &Question,
        domain: &Name,
    ) -> Result<Content, node::Error> {
        if let Asked::Elsewhere(datacenter, asked) = asked {
            // A future cannot hold itself, but in a box.
            let there = self.at(datacenter);
            let found = Box::pin(there.ours(*asked, question, domain)).await;
            return match found {
                Err(node::Error::NoPath) => Ok(self.writer(question, domain).no_such_name()),
                // What was read there says nothing of whether it is still so.
                found => found.map(|content| Content {
                    basis: None,
                    ..content
                }),
            };
        }
        let writer = self.writer(question, domain);
        match question.query_type() {
            RecordType::AXFR | RecordType::IXFR => return Ok(Content::bare(ResponseCode::NotImp)),
            RecordType::SOA => {
                let mut servers = writer.name_servers(&self.servers().await?);
                let mut content = writer.found(vec![Group {
                    answers: vec![writer.soa()],
                    extras: Vec::new(),
                }]);
                content
                    .authorities
                    .extend(servers.iter_mut().flat_map(|s| s.answers.drain(..)));
                if let Some(group) = content.groups.first_mut() {
                    group.extras = servers.into_iter().flat_map(|s| s.extras).collect();
                }
                return Ok(content);
            }
            RecordType::NS => {
                let servers = self.servers().await?;
                return Ok(writer.found(writer.name_servers(&servers)));
            }
            _ => {}
        }
        Ok(match asked {
            Asked::Apex => writer.found(Vec::new()),
            Asked::Node(node) => match self.read(Query::Node { node }).await?.answer {
                Answer::Node(Some(node)) => writer.node(&node),
                _ => writer.no_such_name(),
            },
            Asked::Service { name, tag } => {
                let query = instances_of(&name, tag);
                let (instances, index) = self.instances(query.clone()).await?;
                let content = writer.service(&name, &instances);
                // With a limit, which addresses are left depends on their order.
                let basis = (self.settings.a_record_limit == 0).then_some(Basis { query, index });
                Content { basis, ..content }
            }
            Asked::Connect(service) => {
                let query = Query::MeshHealth {
                    service: service.clone(),
                    tags: Vec::new(),
                    passing: false,
                };
                writer.service(&service, &self.instances(query).await?.0)
            }
            Asked::Ingress(service) => {
                let query = Query::IngressHealth {
                    service: service.clone(),
                    tags: Vec::new(),
                    passing: false,
                };
                writer.service(&service, &self.instances(query).await?.0)
            }
            Asked::Virtual(service) => {
                match self.read(Query::VirtualIp { service }).await?.answer {
                    Answer::VirtualIp(Some(ips)) => writer.address(ips.address().into()),
                    _ => writer.no_such_name(),
                }
            }
            Asked::Address(ip) => writer.address(ip),
            Asked::Query(name) => self.prepared(&name, &writer).await?,
            Asked::Nothing | Asked::Elsewhere(..) => writer.no_such_name(),
        })
    }

    /// The same, of another datacenter.
    fn at(&self, datacenter: String) -> Self {
        Self {
            api: self.api.at(&datacenter),
            env: self.env.clone(),
            settings: self.settings.clone(),
            translates: self.translate_wan_addrs,
            translate_wan_addrs: self.translate_wan_addrs,
            domains: Domains {
                datacenter,
                ..self.domains.clone()
            },
        }
    }

    /// What a prepared query finds.
    async fn prepared(&self, name: &str, writer: &Writer<'_>) -> Result<Content, node::Error> {
        let id_or_name = name.to_owned();
        let query = match self.read(Query::PreparedQuery { id_or_name }).await?.answer {
            Answer::PreparedQuery(Some(query)) => query,
            _ => return Ok(writer.no_such_name()),
        };
        let query = prepared::render(&query, name).map_err(node::Error::Refused)?;
        let mut instances = self.meant(&query).await?;
        self.nearest_first(&query.service.near, &mut instances)
            .await?;
        let ttl = crate::duration::parse(&query.dns.ttl).ok();
        let service = &query.service.service;
        if instances.is_empty() {
            for datacenter in self.failover(&query.service.failover).await? {
                let there = self.at(datacenter);
                match there.meant(&query).await {
                    Ok(found) if found.is_empty() => {}
                    Ok(found) => {
                        let datacenter = &there.domains.datacenter;
                        let writer = Writer {
                            datacenter,
                            ..*writer
                        };
                        return Ok(writer.instances(service, &found, ttl));
                    }
                    Err(error) => {
                        let datacenter = &there.domains.datacenter;
                        tracing::error!(target: "dns", %datacenter, %error, "Failed querying for service in datacenter");
                    }
                }
            }
        }
        Ok(writer.instances(service, &instances, ttl))
    }

    /// The instances that a prepared query means here, in random order.
    async fn meant(&self, query: &PreparedQuery) -> Result<Vec<ServiceHealth>, node::Error> {
        let search = prepared::search(query, false);
        let (mut instances, _) = self.all_instances(search).await?;
        instances.retain(|entry| prepared::fits(query, entry));
        self.shuffle(&mut instances);
        Ok(instances)
    }

    /// The datacenters in which to look too.
    async fn failover(&self, settings: &QueryFailover) -> Result<Vec<String>, node::Error> {
        if settings.nearest_n == 0 && settings.datacenters.is_empty() {
            return Ok(Vec::new());
        }
        let mut others = self.api.datacenters().await?;
        others.retain(|name| *name != self.domains.datacenter);
        Ok(prepared::failover(settings, &others))
    }

    /// Sorts by the distance from a node, if its place is known.
    async fn nearest_first(
        &self,
        near: &str,
        instances: &mut [ServiceHealth],
    ) -> Result<(), node::Error> {
        let near = match near {
            "" => return Ok(()),
            "_agent" => &self.domains.node,
            node => node,
        };
        if let Answer::Places(rows) = self.read(Query::Places).await?.answer {
            let places = rows.iter().map(|row| (row.node.as_str(), &row.place));
            if let Some(nearness) = Nearness::new(near, places) {
                nearness.sort(instances, |entry| &entry.node.node);
            }
        }
        Ok(())
    }

    /// The names of an address; `None` when it is nobody's that we know.
    pub(super) async fn reverse(
        &self,
        ip: IpAddr,
        question: &Question,
    ) -> Result<Option<Content>, node::Error> {
        if !matches!(question.query_type(), RecordType::PTR | RecordType::ANY) {
            return Ok(None);
        }
        let address = ip.to_string();
        let Answer::AddressOwners { nodes, services } =
            self.read(Query::AddressOwners { address }).await?.answer
        else {
            return Ok(None);
        };
        if nodes.is_empty() && services.is_empty() {
            return Ok(None);
        }
        let writer = self.writer(question, &self.domains.main);
        Ok(Some(writer.pointer(&nodes, &services)))
    }

    fn writer<'a>(&'a self, question: &'a Question, domain: &'a Name) -> Writer<'a> {
        Writer {
            settings: &self.settings,
            datacenter: &self.domains.datacenter,
            domain,
            name: question.name(),
            kind: question.query_type(),
            unix_seconds: self.env.clock.unix_ms() / 1000,
        }
    }

    async fn servers(&self) -> Result<Vec<ServiceHealth>, node::Error> {
        Ok(self.instances(instances_of(SERVERS, None)).await?.0)
    }

    /// Healthy instances in random order, and the index of all.
    async fn instances(&self, query: Query) -> Result<(Vec<ServiceHealth>, u64), node::Error> {
        let (mut instances, index) = self.all_instances(query).await?;
        instances.retain(|entry| is_healthy(entry, self.settings.only_passing));
        self.shuffle(&mut instances);
        Ok((instances, index))
    }

    fn shuffle(&self, instances: &mut [ServiceHealth]) {
        let mut below = self.dice();
        for at in (1..instances.len()).rev() {
            let other = below(at as u64 + 1) as usize;
            instances.swap(at, other);
        }
    }

    /// Numbers smaller than those it is given, for an order that nobody has to keep secret: asking the system for each
    /// of them would take longer than all the rest of an answer.
    pub(super) fn dice(&self) -> impl FnMut(u64) -> u64 + use<A> {
        let random = SeededRandom::new(self.env.random.next_u64());
        move |bound| random.below(bound)
    }

    async fn all_instances(&self, query: Query) -> Result<(Vec<ServiceHealth>, u64), node::Error> {
        let reply = self.read(query).await?;
        Ok(match reply.answer {
            Answer::ServiceHealth(instances) => (instances, reply.index),
            _ => (Vec::new(), reply.index),
        })
    }

    /// Whether what was read is still what [`Lookup::read`] would find, here and now.
    pub(super) fn is_current(&self, basis: &Basis) -> bool {
        let options = if self.settings.allow_stale {
            ReadOptions {
                max_stale: Some(self.settings.max_stale),
                ..at_once(Consistency::Stale)
            }
        } else {
            at_once(Consistency::Default)
        };
        self.api.is_unchanged(&basis.query, &options, basis.index)
    }

    /// From what this node has, unless that is older than the settings allow.
    async fn read(&self, query: Query) -> Result<Reply, node::Error> {
        let mut reply = self.read_fresh(query).await?;
        if self.translates {
            translate::to_wan(&mut reply.answer);
        }
        Ok(reply)
    }

    async fn read_fresh(&self, query: Query) -> Result<Reply, node::Error> {
        if !self.settings.allow_stale {
            return self.api.read(query, at_once(Consistency::Default)).await;
        }
        let again = query.clone();
        let reply = self.api.read(query, at_once(Consistency::Stale)).await?;
        if reply.last_contact <= self.settings.max_stale {
            return Ok(reply);
        }
        self.api.read(again, at_once(Consistency::Default)).await
    }
}

/// A read that waits for no change.
fn at_once(consistency: Consistency) -> ReadOptions {
    ReadOptions {
        consistency,
        min_index: 0,
        wait: Duration::ZERO,
        max_stale: None,
    }
}

/// All instances of a service with their checks.
fn instances_of(service: &str, tag: Option<String>) -> Query {
    Query::ServiceHealth {
        service: service.to_owned(),
        tags: tag.into_iter().collect(),
        passing: false,
    }
}
