//! Policies, roles and tokens.

use std::time::Duration;

use super::WAIT;
use crate::acl::copies::{Copying, Rows, steps};
use crate::node::access::{Caller, OLD_SERVER};
use crate::node::{Error, Node, ReadOptions, Reply, Server};
use crate::rpc::{Answer as Told, Request};
use crate::state::{
    AclAnswer, AclPolicy, AclQuery, AclRole, AclToken, Answer, Command, Outcome, Query, TokenFilter,
};

use std::sync::Arc;

impl Node {
    /// How copying of policies, roles and tokens goes, as the leader says.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn copying(&self) -> Result<Copying, Error> {
        let nobody = self.by(Caller::Holder("".into()));
        match nobody.lead_or_ask(Request::Copying).await? {
            Told::Copying(copying) => Ok(*copying),
            _ => Err(Error::Unknown),
        }
    }

    /// Waits for a change after the index `seen`, takes it over, and gives back the new index.
    pub(super) async fn copy_acl(
        &self,
        server: &Server,
        primary: &Node,
        seen: u64,
    ) -> Result<u64, Error> {
        let copied = self.take_over(server, primary, seen).await;
        let now_ms = self.inner.env.clock.unix_ms();
        server.tell_copying(|copying| match &copied {
            Ok((_, indexes)) => {
                (copying.policies, copying.roles, copying.tokens) = *indexes;
                copying.success_ms = Some(now_ms);
            }
            Err(error) => {
                copying.error_ms = Some(now_ms);
                copying.error = error.to_string();
            }
        });
        copied.map(|(index, _)| index)
    }

    async fn take_over(
        &self,
        server: &Server,
        primary: &Node,
        seen: u64,
    ) -> Result<(u64, (u64, u64, u64)), Error> {
        if !server.acl_duty.may_begin() {
            return Err(Error::Refused(OLD_SERVER.to_owned()));
        }
        // By its leader: a server that has just been started has no tokens yet, and all of ours would be removed.
        let options = ReadOptions {
            min_index: seen,
            wait: if seen == 0 { Duration::ZERO } else { WAIT },
            ..ReadOptions::default()
        };
        let index = primary.read(Query::Acl(AclQuery::Grants), options).await?;
        let index = index.index;
        let ask = async |query| {
            primary
                .read(Query::Acl(query), ReadOptions::default())
                .await
        };
        // What a token names was written before it: it is asked for last.
        let (tokens, tokens_index) = tokens(ask(AclQuery::Tokens(TokenFilter::default())).await?)?;
        let (roles, roles_index) = roles(ask(AclQuery::Roles(None)).await?)?;
        let (policies, policies_index) = policies(ask(AclQuery::Policies).await?)?;
        let wanted = Rows {
            policies,
            roles,
            tokens,
        };
        if let Some(why) = wanted.unusable() {
            return Err(Error::Refused(why.to_owned()));
        }
        if !server.leads() {
            return Err(Error::NoLeader);
        }
        let own = server.copied_rows()?;
        for step in steps(&wanted, &own, self.inner.env.clock.unix_ms()) {
            tracing::debug!(target: "acl", "replication: {step:?}");
            if let Outcome::Error { text, .. } = self.propose(Command::Acl(step)).await? {
                return Err(Error::Refused(text));
            }
        }
        Ok((index, (policies_index, roles_index, tokens_index)))
    }
}

fn acl(reply: Reply) -> Result<(AclAnswer, u64), Error> {
    match reply.answer {
        Answer::Acl(answer) => Ok((answer, reply.index)),
        _ => Err(Error::Unknown),
    }
}

fn policies(reply: Reply) -> Result<(Vec<Arc<AclPolicy>>, u64), Error> {
    match acl(reply)? {
        (AclAnswer::Policies(rows), index) => Ok((rows, index)),
        _ => Err(Error::Unknown),
    }
}

fn roles(reply: Reply) -> Result<(Vec<Arc<AclRole>>, u64), Error> {
    match acl(reply)? {
        (AclAnswer::Roles(rows, _), index) => Ok((rows, index)),
        _ => Err(Error::Unknown),
    }
}

fn tokens(reply: Reply) -> Result<(Vec<Arc<AclToken>>, u64), Error> {
    match acl(reply)? {
        (AclAnswer::Tokens(rows, _), index) => Ok((rows, index)),
        _ => Err(Error::Unknown),
    }
}

impl Server {
    fn tell_copying(&self, change: impl FnOnce(&mut Copying)) {
        let mut copying = self.copying.lock().unwrap_or_else(|e| e.into_inner());
        change(&mut copying);
    }

    /// Answers [`Request::Copying`].
    pub(in crate::node) fn copying(&self, node: &Node) -> Copying {
        let config = &node.inner.config;
        let source = match config.is_secondary() {
            true => config.primary_datacenter.clone(),
            false => String::new(),
        };
        let copying = self.copying.lock().unwrap_or_else(|e| e.into_inner());
        Copying {
            enabled: config.copies_tokens(),
            source,
            ..copying.clone()
        }
    }

    /// What is here.
    fn copied_rows(&self) -> Result<Rows, Error> {
        let store = self.shared.load();
        let ask = |query| match store.query(&Query::Acl(query)) {
            Answer::Acl(answer) => Ok(answer),
            _ => Err(Error::Unknown),
        };
        match (
            ask(AclQuery::Policies)?,
            ask(AclQuery::Roles(None))?,
            ask(AclQuery::Tokens(TokenFilter::default()))?,
        ) {
            (
                AclAnswer::Policies(policies),
                AclAnswer::Roles(roles, _),
                AclAnswer::Tokens(tokens, _),
            ) => Ok(Rows {
                policies,
                roles,
                tokens,
            }),
            _ => Err(Error::Unknown),
        }
    }
}
