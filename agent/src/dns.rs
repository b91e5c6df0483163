//! DNS: names of nodes and services, answered from the state; everything else through recursors, if there are any.
//!
//! `name` understands a question's name, `answer` puts records together, `size` makes them fit, `kept` has some of what
//! they made ready for the next asker: all four are pure. The wire format is hickory's; sockets are our own, so that
//! an answer from the local state leaves in the same turn of the loop in which its question came, and so that a simulation
//! could carry it.

use futures::future::Either;
use std::future::Future;

use crate::node::{Error as NodeError, Node, ReadOptions, Reply};
use crate::state::Query;

mod answer;
mod kept;
mod lookup;
mod name;
mod recursor;
mod server;
mod size;

#[cfg(test)]
mod tests;

pub use server::{BindError, Bound, Server, Settings, bind};

/// What DNS needs of a node. Tests put a fake in its place.
pub trait Api: Send + Sync + Sized + 'static {
    /// See [`Node::at`].
    fn at(&self, datacenter: &str) -> Self;
    /// Names of [`Node::datacenters`].
    fn datacenters(&self) -> impl Future<Output = Result<Vec<String>, NodeError>> + Send;
    /// See [`Node::read`].
    fn read(
        &self,
        query: Query,
        options: ReadOptions,
    ) -> impl Future<Output = Result<Reply, NodeError>> + Send + '_;

    /// See [`Node::is_unchanged`].
    fn is_unchanged(&self, query: &Query, options: &ReadOptions, index: u64) -> bool;
}

impl Api for Node {
    fn at(&self, datacenter: &str) -> Self {
        Node::at(self, datacenter)
    }

    async fn datacenters(&self) -> Result<Vec<String>, NodeError> {
        let found = Node::datacenters(self).await?;
        Ok(found.into_iter().map(|one| one.name).collect())
    }

    fn read(
        &self,
        query: Query,
        options: ReadOptions,
    ) -> impl Future<Output = Result<Reply, NodeError>> + Send + '_ {
        match self.config().acl.enabled {
            false => Either::Left(Node::read(self, query, options)),
            // Its token may be another one after a reload.
            true => {
                let asker = self.with_dns();
                Either::Right(async move { asker.read(query, options).await })
            }
        }
    }

    fn is_unchanged(&self, query: &Query, options: &ReadOptions, index: u64) -> bool {
        match self.config().acl.enabled {
            false => Node::is_unchanged(self, query, options, index),
            true => self.with_dns().is_unchanged(query, options, index),
        }
    }
}
