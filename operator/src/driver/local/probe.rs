//! Asking agents over HTTP. What is no answer of the very agent that was asked is no answer.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::client::{Client, Error};
use futures::future::join_all;
use serde_json::Value;

use super::super::ask::{self, Fetch};
use crate::observe::Answers;

/// Longest time for one agent's answers. On one machine an agent that takes longer is stuck, and must not hold up
/// the others.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// HTTP port of every agent: Consul's.
const HTTP_PORT: u16 = 8500;

/// Clients by address, so that connections are used again.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_address: BTreeMap<String, Client>,
    leader: Option<String>,
}

impl Clients {
    /// The client for the agent at that address.
    pub(super) fn of(&mut self, address: &str) -> Result<Client, Error> {
        if let Some(client) = self.by_address.get(address) {
            return Ok(client.clone());
        }
        let client = Client::new(&format!("{address}:{HTTP_PORT}"))?;
        self.by_address.insert(address.to_owned(), client.clone());
        Ok(client)
    }

    /// Asks all of them, given as name and address; who does not answer is not in the result. The leader is asked
    /// first: whoever then has its last entry has all that was acknowledged when it answered.
    pub(super) async fn ask_all(
        &mut self,
        asked: Vec<(String, String)>,
    ) -> BTreeMap<String, Answers> {
        let (first, others): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .partition(|(name, _)| Some(name) == self.leader.as_ref());
        let mut all = BTreeMap::new();
        for group in [first, others] {
            let clients = group
                .into_iter()
                .filter_map(|(name, address)| Some((name, self.of(&address).ok()?)));
            let asked = clients.map(|(name, client)| async move {
                ask_one(&name, &client).await.map(|answers| (name, answers))
            });
            all.extend(join_all(asked).await.into_iter().flatten());
        }
        self.leader = ask::leader(&all);
        all
    }
}

async fn ask_one(name: &str, client: &Client) -> Option<Answers> {
    let client = client.with_timeout(ANSWER_TIME_MAX);
    let asked = ask::ask(name, &client);
    tokio::time::timeout(ANSWER_TIME_MAX, asked).await.ok()?
}

impl Fetch for Client {
    type Error = Error;

    async fn fetch(&self, path: &str) -> Result<Value, Error> {
        self.get_json(path).await
    }
}
