//! Logging in and out. The leader finds out who somebody is, outside of the state, and writes the token that they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::access::{Caller, OLD_SERVER};
use super::{Error, Node, Server};
use crate::acl::login::{Head, Identity, Jwt, LoggedIn, Login, Refused, Settings, Source, bind};
use crate::rpc::{Answer, Request};
use crate::state::{ANONYMOUS_ACCESSOR, AclMethod, AclStep, Command, Outcome, Store};

mod ask;
mod key_sets;

use ask::Web;
use key_sets::{KeySet, KeySets, Wanted};

/// Logins that are worked on at a time. Anybody may try, and each may have somebody else asked.
const AT_ONCE: usize = 64;

/// The longest reason that is told and logged.
const REASON_CHARS_MAX: usize = 500;

/// What the leader needs for logins.
pub(super) struct Logins {
    turns: Semaphore,
    key_sets: KeySets,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            key_sets: KeySets::default(),
        }
    }
}

impl Node {
    /// A token for whoever an auth method vouches for, whatever token they have.
    ///
    /// # Errors
    /// [`Error::Denied`] when it vouches for nobody, or gives them nothing. Nothing has changed then.
    pub async fn login(&self, login: Login) -> Result<LoggedIn, Error> {
        let nobody = self.by(Caller::Holder("".into()));
        let request = Request::Login(Box::new(login));
        match nobody.lead_or_ask(request).await? {
            Answer::LoggedIn(done) => Ok(*done),
            _ => Err(Error::Unknown),
        }
    }

    /// Ends the token in whose name this handle asks.
    ///
    /// # Errors
    /// [`Error::Denied`] when it is not from a login.
    pub async fn logout(&self) -> Result<(), Error> {
        self.lead_or_ask(Request::Logout).await?;
        // On a client it would count here until it is looked at again.
        self.inner.remembered.keep(&self.secret(), None);
        Ok(())
    }
}

impl Server {
    /// Answers [`Request::Login`], as the leader.
    pub(super) async fn login(
        &self,
        login: &Login,
        node: &Node,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        if self.guard.is_none() {
            return Err(Error::Refused("ACL support disabled".to_owned()));
        }
        if !self.acl_duty.may_begin() {
            return Err(Error::Refused(OLD_SERVER.to_owned()));
        }
        if let Some(why) = login.invalid() {
            return Err(Error::Refused(why));
        }
        let _turn = self.logins.turns.try_acquire().map_err(|_| Error::Busy)?;
        self.up_to_date(deadline).await?;
        let method = method(&self.shared.load(), &login.method)?;
        let found = self.identity(&method, &login.bearer.0, node, deadline);
        let identity = match tokio::time::timeout_at(deadline, found).await {
            Ok(found) => found?,
            Err(_) => return Err(refused(&method, "nobody answered in time who it is of")),
        };
        self.hand_out(login, &method, &identity, node, deadline)
            .await
    }

    async fn identity(
        &self,
        method: &AclMethod,
        bearer: &str,
        node: &Node,
        deadline: Instant,
    ) -> Result<Identity, Error> {
        let settings = Settings::of(method).map_err(|why| {
            Error::Refused(format!(
                "auth method {:?} cannot be used, write it anew: {why}",
                method.name
            ))
        })?;
        let web = Web::new(node.inner.env.net.clone(), deadline);
        match settings {
            Settings::Kubernetes(kubernetes) => {
                let reviewed = ask::review(&web, &kubernetes, bearer).await;
                reviewed
                    .map(Identity::from)
                    .map_err(|why| refused(method, &why))
            }
            Settings::Jwt(jwt) => {
                let unix_s = node.inner.env.clock.unix_ms() / 1000;
                let verified = self.logins.verify(&web, &jwt, bearer, unix_s).await;
                verified.map_err(|why| refused(method, &why))
            }
        }
    }

    /// Writes the token that the method's rules give to an identity.
    async fn hand_out(
        &self,
        login: &Login,
        method: &AclMethod,
        identity: &Identity,
        node: &Node,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let (config, env) = (&node.inner.config, &node.inner.env);
        let store = self.shared.load();
        if method_index(&store, &method.name) != Some(method.modify_index) {
            return Err(Error::Denied(format!(
                "Permission denied: auth method {:?} was changed meanwhile, log in again",
                method.name
            )));
        }
        let bound = bind(store.acl(), &method.name, identity, &config.datacenter);
        let bound = bound.map_err(|why| refused(method, &why))?;
        if bound.is_empty() {
            return Err(Error::Denied("Permission denied".to_owned()));
        }
        drop(store);
        let ids = (env.random.uuid(), env.random.uuid());
        let token = login.token(method, bound, ids, env.clock.unix_ms());
        if !token.local && config.copies_tokens() {
            let why = "TokenLocality is global, and such tokens are the primary datacenter's";
            return Err(refused(method, why));
        }
        let step = AclStep::SetToken {
            token: Box::new(token.clone()),
            cas: 0,
        };
        if let Some(why) = step.invalid(token.created_ms) {
            return Err(refused(method, &why));
        }
        self.write(step, node, deadline).await?;
        let store = self.shared.load();
        let acl = store.acl();
        let token = acl
            .token(&token.accessor)
            .map_or(token, Arc::unwrap_or_clone);
        let names: BTreeMap<_, _> = acl.names_of(&token);
        Ok(Answer::LoggedIn(Box::new(LoggedIn { token, names })))
    }

    /// Answers [`Request::Logout`], as the leader.
    pub(super) async fn logout(&self, node: &Node, deadline: Instant) -> Result<Answer, Error> {
        let none = || Error::Denied("ACL not found".to_owned());
        self.up_to_date(deadline).await?;
        let holder = self.holder(&self.shared.load(), &node.caller)?;
        let accessor = holder.ok_or_else(none)?.accessor();
        if accessor == ANONYMOUS_ACCESSOR {
            return Err(none());
        }
        let token = self.shared.load().acl().token(&accessor).ok_or_else(none)?;
        if !token.local && node.inner.config.copies_tokens() {
            let primary = node.at(&node.inner.config.primary_datacenter);
            return Box::pin(primary.lead_or_ask(Request::Logout)).await;
        }
        if token.auth_method.is_empty() {
            return Err(Error::Denied(
                "Permission denied: token wasn't created via login".to_owned(),
            ));
        }
        self.write(AclStep::DeleteTokens(vec![accessor]), node, deadline)
            .await?;
        Ok(Answer::Done)
    }

    /// Proposes a change that was decided on here.
    async fn write(&self, step: AclStep, node: &Node, deadline: Instant) -> Result<(), Error> {
        match self.propose_own(Command::Acl(step), node, deadline).await? {
            Outcome::Error { text, .. } => Err(Error::Refused(text)),
            _ => Ok(()),
        }
    }
}

impl Logins {
    /// Whom a signed bearer token stands for.
    async fn verify(
        &self,
        web: &Web,
        settings: &Jwt,
        bearer: &str,
        unix_s: u64,
    ) -> Result<Identity, String> {
        let head = Head::read(bearer, settings)?;
        let remote = match &settings.source {
            Source::Keys(keys) => {
                let found = head.identity(bearer, keys, settings, None, unix_s);
                return found.map_err(Refused::why);
            }
            Source::Remote(remote) => remote,
        };
        let by = |set: &KeySet| {
            let issuer = set.issuer.as_deref();
            head.identity(bearer, &set.keys, settings, issuer, unix_s)
        };
        let fetch = || web.key_set(remote);
        let known = self.key_sets.find(remote, Wanted::Known, fetch).await?;
        match by(&known) {
            // Its issuer may have a new key.
            Err(Refused::UnknownKey(_)) => {
                let newer = Wanted::NewerThan(&known);
                let newer = self.key_sets.find(remote, newer, fetch).await?;
                by(&newer).map_err(Refused::why)
            }
            found => found.map_err(Refused::why),
        }
    }
}

fn method(store: &Store, name: &str) -> Result<Arc<AclMethod>, Error> {
    let found = store.acl().method(name).cloned();
    found.ok_or_else(|| Error::Denied(format!("ACL not found: auth method {name:?} not found")))
}

fn method_index(store: &Store, name: &str) -> Option<u64> {
    store.acl().method(name).map(|method| method.modify_index)
}

/// The method vouches for nobody.
fn refused(method: &AclMethod, why: &str) -> Error {
    let name = &method.name;
    // It may quote what anybody sends.
    let why: String = why.chars().take(REASON_CHARS_MAX).collect();
    tracing::info!(target: "acl", "login refused: auth_method={name} error={why}");
    Error::Denied(format!(
        "Permission denied: auth method {name:?} does not take the bearer token: {why}"
    ))
}
