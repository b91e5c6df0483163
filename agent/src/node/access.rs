//! Who asks, and whether they may. A handle of a node asks in somebody's name; whoever answers, decides.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Error, Node, Reply, Server};
use crate::acl::copies::is_of_primary;
use crate::acl::login::check_rule;
use crate::acl::{
    Access, DefaultPolicy, Denied, Granted, Holder, Resolver, Resource, SharedHolder,
};
use crate::config::{DownPolicy, Secret, Tokens};
use crate::env::Env;
use crate::gossip::KeyringOp;
use crate::rate::Operation;
use crate::rpc::{Answer, Request};
use crate::state::{
    ANONYMOUS_SECRET, AclPolicy, AclQuery, AclStep, Command, Outcome, Query, Stamped, Store, TxnOp,
};
use crate::{ca, state};

/// Tokens that a client remembers. Beyond that it forgets all and asks anew.
const REMEMBERED_MAX: usize = 4096;

/// Why nothing is changed while not every server would understand it.
pub(super) const OLD_SERVER: &str = "a server of a version without ACLs is in this cluster, and would stop at this: upgrade it first";

/// In whose name a handle asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Caller {
    /// Its own: this agent's own doing, which its own state never refuses. Other servers take it for nobody.
    #[default]
    Own,
    /// Whoever holds the token with this secret; an empty one stands for the anonymous token.
    Holder(Arc<str>),
}

impl From<Denied> for Error {
    fn from(Denied(why): Denied) -> Self {
        Error::Denied(why)
    }
}

/// How a server decides.
pub(super) struct Guard {
    resolver: Resolver,
    env: Env,
    /// By which a person allows another bootstrap.
    reset_file: PathBuf,
    /// The datacenter that policies, roles and tokens are copied from.
    copies_from: Option<String>,
}

/// What becomes of a command.
pub(super) enum Admitted {
    /// It is proposed as it is.
    Command(Bytes),
    /// The same; when it is done, whoever may reset it must allow it anew.
    Bootstrap(Bytes),
    /// It is answered without being proposed.
    Refused(Outcome),
}

impl Guard {
    /// The index in the file by which a person allows another bootstrap; 0 for none.
    fn reset_index(&self) -> u64 {
        let found = self.env.disk.read(&self.reset_file);
        let text = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        match text {
            Err(_) => 0,
            Ok(text) => text.trim().parse().unwrap_or_else(|_| {
                tracing::error!(target: "acl", "bootstrap reset: {} does not hold the index that a refused bootstrap named", self.reset_file.display());
                0
            }),
        }
    }

    /// What is wrong with a change of who may do what, by itself or beside what there is.
    fn invalid(&self, store: &Store, step: &AclStep) -> Option<String> {
        let acl = store.acl();
        if let Some(primary) = &self.copies_from {
            let local = |accessor: &_| acl.token(accessor).is_none_or(|token| token.local);
            if is_of_primary(step, local) {
                return Some(format!(
                    "policies, roles, and tokens that are not local are copied from the primary datacenter {primary:?}: change them there"
                ));
            }
        }
        if let Some(why) = step.invalid(self.env.clock.unix_ms()) {
            return Some(why);
        }
        let AclStep::SetBindingRule { rule, .. } = step else {
            return None;
        };
        // One that is not there is refused where the rule is applied.
        let method = acl.method(&rule.auth_method)?;
        let checked = check_rule(method, rule);
        checked
            .err()
            .map(|why| format!("Invalid Binding Rule: {why}"))
    }

    fn forget_reset_index(&self) {
        // It is used up: the index is another one now.
        let _ = self.env.disk.remove_file(&self.reset_file);
    }

    pub(super) fn new(config: &crate::config::Config, env: &Env) -> Option<Self> {
        config.acl.enabled.then(|| Self {
            resolver: Resolver::new(&config.acl, &config.datacenter),
            env: env.clone(),
            reset_file: config.data_dir.join("acl-bootstrap-reset"),
            copies_from: config
                .copies_tokens()
                .then(|| config.primary_datacenter.clone()),
        })
    }
}

/// What an agent without tables knows of tokens.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<Box<str>, Known>>);

#[derive(Clone)]
struct Known {
    since: Instant,
    /// `None`: there is no such token.
    holder: Option<SharedHolder>,
}

impl Remembered {
    fn find(&self, secret: &str) -> Option<Known> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(secret).cloned()
    }

    pub(super) fn keep(&self, secret: &str, holder: Option<SharedHolder>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        let since = Instant::now();
        known.insert(secret.into(), Known { since, holder });
    }
}

impl Node {
    /// The same agent for whoever holds the token with this secret; without one, that which this agent uses for requests
    /// that name none.
    #[must_use]
    pub fn with(&self, secret: &str) -> Self {
        let tokens = self.inner.tokens.load();
        let secret = match secret {
            "" => tokens.default.0.as_str(),
            secret => secret,
        };
        self.by(Caller::Holder(secret.into()))
    }

    /// The secret in whose name this handle asks; that of the anonymous token for none.
    pub fn secret(&self) -> String {
        match &self.caller {
            Caller::Holder(secret) if !secret.is_empty() => secret.to_string(),
            _ => ANONYMOUS_SECRET.to_owned(),
        }
    }

    /// The same agent for what it does itself: its own state refuses it nothing, and other servers take it for nobody.
    #[must_use]
    pub fn own(&self) -> Self {
        self.by(Caller::Own)
    }

    /// For what the agent does on its own, at the servers.
    pub(super) fn with_own(&self) -> Self {
        self.by(Caller::Holder(self.inner.tokens.load().own().into()))
    }

    /// For DNS.
    #[must_use]
    pub fn with_dns(&self) -> Self {
        self.by(Caller::Holder(self.inner.tokens.load().of_dns().into()))
    }

    /// For services and checks of configuration files.
    pub(super) fn with_files(&self) -> Self {
        self.by(Caller::Holder(self.inner.tokens.load().of_files().into()))
    }

    /// Takes other tokens for what this agent does.
    pub(super) fn set_tokens(&self, tokens: Tokens) {
        self.inner.tokens.store(Arc::new(tokens));
    }

    /// For what is copied from the primary datacenter.
    pub(super) fn with_replication(&self) -> Self {
        let tokens = self.inner.tokens.load();
        self.by(Caller::Holder(tokens.of_replication().into()))
    }

    pub(super) fn by(&self, caller: Caller) -> Self {
        Self {
            caller,
            ..self.clone()
        }
    }

    /// A request as it is sent to another server: in the name of whoever asks.
    pub(super) fn signed(&self, request: &Request) -> Option<Request> {
        match (&self.caller, request) {
            (Caller::Own, _) | (_, Request::As { .. }) => None,
            // Nobody's; and servers of before there were tokens are understood.
            (Caller::Holder(secret), _) if secret.is_empty() && !self.inner.config.acl.enabled => {
                None
            }
            (Caller::Holder(secret), request) => Some(Request::As {
                token: Secret(secret.to_string()),
                request: Box::new(request.clone()),
            }),
        }
    }

    /// Whoever asks; `None` while everything is allowed to everybody, and for the agent itself.
    ///
    /// # Errors
    /// When there is no such token; on a client also when no server says what it allows, and nothing is known of it.
    pub async fn holder(&self) -> Result<Option<SharedHolder>, Error> {
        let acl = &self.inner.config.acl;
        let Caller::Holder(secret) = &self.caller else {
            return Ok(None);
        };
        if !acl.enabled {
            return Ok(None);
        }
        if let Some(holder) = self.recovery(secret) {
            return Ok(Some(holder));
        }
        match &self.inner.server {
            Some(server) => server.holder(&server.shared.load(), &self.caller),
            None => self.ask_what_is_granted(secret).await.map(Some),
        }
    }

    /// Refuses whoever may not do this with something of this agent.
    ///
    /// # Errors
    /// See [`Node::holder`]; and what is lacking.
    pub async fn need(&self, resource: Resource, name: &str, access: Access) -> Result<(), Error> {
        match self.holder().await? {
            Some(holder) => Ok(holder.need(resource, name, access)?),
            None => Ok(()),
        }
    }

    /// The holder of the token that opens this agent whatever the servers say.
    fn recovery(&self, secret: &str) -> Option<SharedHolder> {
        let tokens = self.inner.tokens.load();
        let recovery = &tokens.agent_recovery.0;
        if recovery.is_empty() || secret != recovery {
            return None;
        }
        let name = &self.inner.config.node_name;
        let rules = format!(
            "agent {name:?} {{ policy = \"write\" }}\nnode_prefix \"\" {{ policy = \"read\" }}"
        );
        let granted = Granted {
            accessor: uuid::Uuid::nil(),
            rules: vec![rules],
            expires_ms: None,
        };
        let holder = Holder::new(&granted, DefaultPolicy::Deny, false);
        holder.ok().map(Arc::new)
    }

    async fn ask_what_is_granted(&self, secret: &Arc<str>) -> Result<SharedHolder, Error> {
        let acl = &self.inner.config.acl;
        let now_ms = self.inner.env.clock.unix_ms();
        let known = self.inner.remembered.find(secret);
        let known = known.filter(|known| {
            let expired = |holder: &SharedHolder| holder.is_expired(now_ms);
            !known.holder.as_ref().is_some_and(expired)
        });
        let lasts = |known: &Known| known.since.elapsed() < acl.token_ttl;
        match known {
            Some(known) if lasts(&known) => shown(known.holder),
            // Somebody else waits for the servers.
            Some(known) if acl.down_policy == DownPolicy::AsyncCache => {
                self.inner.remembered.keep(secret, known.holder.clone());
                let (node, secret) = (self.by(Caller::Own), secret.clone());
                tokio::spawn(async move {
                    // What it says is remembered; a failure leaves what is known in force.
                    let _ = node.fetch_what_is_granted(&secret).await;
                });
                shown(known.holder)
            }
            known => match self.fetch_what_is_granted(secret).await {
                Ok(holder) => Ok(holder),
                // A token that could not be looked at is not one that may do nothing.
                Err(error @ (Error::Denied(_) | Error::CallRateExceeded | Error::RateExceeded)) => {
                    Err(error)
                }
                Err(error) => self.without_servers(known, error),
            },
        }
    }

    async fn fetch_what_is_granted(&self, secret: &str) -> Result<SharedHolder, Error> {
        let request = Request::Grant(Secret(secret.to_owned()));
        self.enter(|| Operation::GRANT)?;
        match self.by(Caller::Own).ask_servers(&request).await {
            Ok(Answer::Granted(granted)) => {
                let acl = &self.inner.config.acl;
                let resolver = Resolver::new(acl, &self.inner.config.datacenter);
                let holder = Arc::new(resolver.holder_of(&granted)?);
                self.inner.remembered.keep(secret, Some(holder.clone()));
                Ok(holder)
            }
            Ok(_) => Err(Error::Unknown),
            Err(denied @ Error::Denied(_)) => {
                self.inner.remembered.keep(secret, None);
                Err(denied)
            }
            Err(error) => Err(error),
        }
    }

    /// What `acl.down_policy` says.
    fn without_servers(&self, known: Option<Known>, error: Error) -> Result<SharedHolder, Error> {
        let holder = |rules: Vec<String>| {
            let granted = Granted {
                accessor: uuid::Uuid::nil(),
                rules,
                expires_ms: None,
            };
            let holder = Holder::new(&granted, DefaultPolicy::Deny, false);
            holder.map(Arc::new).map_err(Error::from)
        };
        match (self.inner.config.acl.down_policy, known) {
            (DownPolicy::Allow, _) => {
                holder(AclPolicy::builtin().map(|policy| policy.rules).to_vec())
            }
            (DownPolicy::ExtendCache | DownPolicy::AsyncCache, Some(known)) => shown(known.holder),
            (DownPolicy::Deny | DownPolicy::ExtendCache | DownPolicy::AsyncCache, _) => {
                tracing::warn!(target: "acl", "no server says what a token allows, so it allows nothing: {error}");
                holder(Vec::new())
            }
        }
    }
}

fn shown(holder: Option<SharedHolder>) -> Result<SharedHolder, Error> {
    holder.ok_or_else(|| Error::Denied("ACL not found".to_owned()))
}

impl Server {
    /// Whoever asks; `None` for those to whom nothing is refused.
    pub(super) fn holder(
        &self,
        store: &Store,
        caller: &Caller,
    ) -> Result<Option<SharedHolder>, Error> {
        let (Some(guard), Caller::Holder(secret)) = (&self.guard, caller) else {
            return Ok(None);
        };
        let now_ms = guard.env.clock.unix_ms();
        let holder = guard.resolver.holder(store.acl(), secret, now_ms)?;
        Ok(Some(holder))
    }

    /// Answers [`Request::Grant`].
    pub(super) fn granted(&self, secret: &str) -> Result<Answer, Error> {
        let Some(guard) = &self.guard else {
            let why = "ACLs are off on this server, and on for whoever asks it about a token";
            return Err(Error::Refused(why.to_owned()));
        };
        let store = self.shared.load();
        let now_ms = guard.env.clock.unix_ms();
        let granted = guard.resolver.granted(store.acl(), secret, now_ms)?;
        Ok(Answer::Granted(granted))
    }

    /// What to do with a command: whether it is the caller's to propose, and whether it makes sense.
    pub(super) fn admit(&self, caller: &Caller, bytes: Bytes) -> Result<Admitted, Error> {
        let (Some(guard), Caller::Holder(_)) = (&self.guard, caller) else {
            return Ok(Admitted::Command(bytes));
        };
        let store = self.shared.load();
        let Some(holder) = self.holder(&store, caller)? else {
            return Ok(Admitted::Command(bytes));
        };
        let stamped = Stamped::decode(&bytes);
        let mut stamped = stamped.map_err(|error| Error::Refused(error.to_string()))?;
        holder.check_command(&store, &stamped.command)?;
        let outcome = match &mut stamped.command {
            Command::Txn(ops) => refused_txn(&holder, &store, ops),
            Command::Acl(_) if !self.acl_duty.may_begin() => Some(Outcome::Error {
                code: state::Refusal::InvalidAcl,
                text: OLD_SERVER.to_owned(),
            }),
            Command::Acl(step) => match (guard.invalid(&store, step), step) {
                (Some(text), _) => Some(Outcome::Error {
                    code: state::Refusal::InvalidAcl,
                    text,
                }),
                (None, AclStep::Bootstrap { reset, .. }) => {
                    *reset = guard.reset_index();
                    return Ok(Admitted::Bootstrap(stamped.encode()));
                }
                (None, _) => None,
            },
            _ => None,
        };
        Ok(match outcome {
            Some(outcome) => Admitted::Refused(outcome),
            None => Admitted::Command(bytes),
        })
    }

    /// Nobody can use that index once more.
    pub(super) fn bootstrapped(&self) {
        if let Some(guard) = &self.guard {
            guard.forget_reset_index();
        }
    }

    /// Answers from what there is now, as far as the caller may see it.
    pub(super) fn reply(
        &self,
        caller: &Caller,
        query: &Query,
        last_contact: Duration,
    ) -> Result<Reply, Error> {
        let store = self.shared.load();
        let holder = self.holder(&store, caller)?;
        let (mut answer, mut filtered) = (None, false);
        if let Some(holder) = &holder {
            holder.check_query(query)?;
            answer = match query {
                Query::Txn(ops) => refused_txn(holder, &store, ops).and_then(|refused| {
                    let state::Outcome::TxnFailed(errors) = refused else {
                        return None;
                    };
                    Some(state::Answer::Txn(Err(errors)))
                }),
                query => holder.instead_of(query).map(|other| store.query(&other)),
            };
        }
        let mut answer = answer.unwrap_or_else(|| store.query(query));
        if let Some(holder) = &holder {
            filtered = holder.filter(query, &mut answer);
        }
        Ok(Reply {
            answer,
            index: store.index_of(query).max(1),
            known_leader: self.consensus.leader().is_some(),
            last_contact,
            filtered,
        })
    }

    /// Refuses a read that is not the caller's to ask, before anything is waited for.
    pub(super) fn check_query(&self, caller: &Caller, query: &Query) -> Result<(), Error> {
        match self.holder(&self.shared.load(), caller)? {
            Some(holder) => Ok(holder.check_query(query)?),
            None => Ok(()),
        }
    }

    /// Whether nothing that the caller may not see is left out of the catalog's answers.
    pub(super) fn sees_catalog(&self, caller: &Caller) -> bool {
        match self.holder(&self.shared.load(), caller) {
            Ok(Some(holder)) => holder.sees_catalog(),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Refuses any other request than a read or a proposal.
    pub(super) fn check_request(&self, caller: &Caller, request: &Request) -> Result<(), Error> {
        let store = self.shared.load();
        let Some(holder) = self.holder(&store, caller)? else {
            return Ok(());
        };
        let need = |resource, name: &str, access| Ok(holder.need(resource, name, access)?);
        match request {
            Request::RaftConfiguration(_) | Request::Health => {
                need(Resource::Operator, "", Access::Read)
            }
            Request::RemovePeer(_)
            | Request::TransferLeader(_)
            | Request::SetCa(_)
            | Request::SignIntermediate(_) => need(Resource::Operator, "", Access::Write),
            Request::RenewSession(id) => match store.session(id) {
                Some(session) => need(Resource::Session, &session.node, Access::Write),
                None => Ok(()),
            },
            // It holds every key and every token.
            Request::Save { .. } => need(Resource::Acl, "", Access::Write),
            Request::Place(node, _) => need(Resource::Node, node, Access::Write),
            Request::Keyring { op, .. } => {
                let access = match op {
                    KeyringOp::List => Access::Read,
                    KeyringOp::Install(_) | KeyringOp::Use(_) | KeyringOp::Remove(_) => {
                        Access::Write
                    }
                };
                need(Resource::Keyring, "", access)
            }
            Request::Fire(event) => need(Resource::Event, &event.name, Access::Write),
            Request::SignLeaf(csr) => match ca::subject_of(csr) {
                Some(ca::Subject::Service(name)) => need(Resource::Service, &name, Access::Write),
                Some(ca::Subject::Agent(name)) => need(Resource::Node, &name, Access::Write),
                // It will be refused.
                None => Ok(()),
            },
            // Checked by themselves, open to everybody, or between servers.
            Request::Propose(_)
            | Request::Read(..)
            | Request::In { .. }
            | Request::As { .. }
            | Request::Grant(_)
            | Request::Peers
            | Request::Datacenters
            | Request::Promise(_)
            | Request::Release(_)
            | Request::Confirm(_)
            | Request::HasRoom
            | Request::Login(_)
            | Request::Logout
            | Request::Copying
            | Request::ReadIndex { .. }
            | Request::SavedPiece { .. } => Ok(()),
        }
    }

    /// Waits until a query's answer may be another one for the caller: it has changed, or what the caller may do has.
    pub(super) async fn changed(&self, caller: &Caller, query: &Query, beyond: u64) {
        let store = self.shared.load();
        let Ok(Some(before)) = self.holder(&store, caller) else {
            return self.shared.changed(query, beyond).await;
        };
        let mut seen = store.acl().grants_index();
        drop(store);
        loop {
            tokio::select! {
                biased;
                () = self.shared.changed(query, beyond) => return,
                () = self.shared.changed(&Query::Acl(AclQuery::Grants), seen) => {
                    let store = self.shared.load();
                    seen = store.acl().grants_index();
                    match self.holder(&store, caller) {
                        Ok(Some(now)) if now == before => {}
                        _ => return,
                    }
                }
                () = self.until_expired(&before) => return,
            }
        }
    }

    async fn until_expired(&self, holder: &Holder) {
        let (Some(guard), Some(end)) = (&self.guard, holder.expires_ms()) else {
            return std::future::pending().await;
        };
        let left = end.saturating_sub(guard.env.clock.unix_ms());
        tokio::time::sleep(Duration::from_millis(left)).await;
    }
}

fn refused_txn(holder: &Holder, store: &Store, ops: &[TxnOp]) -> Option<Outcome> {
    let errors = holder.check_txn(store, ops);
    (!errors.is_empty()).then_some(Outcome::TxnFailed(errors))
}
