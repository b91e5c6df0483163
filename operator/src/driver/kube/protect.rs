//! What protects the cluster: the vault is read, evidence gathered, and the one thing done that `crate::secure` decides.

mod effects;
mod evidence;
mod vault;

use std::sync::Arc;
use std::time::Duration;

use agent::env::OsRandom;
use k8s_openapi::api::core::v1::{Pod, Secret};

use super::agents::Access;
use super::{Error, Kube, names, see};
use crate::crd::{ConsulCluster, ConsulClusterStatus, Stage, condition};
use crate::observe::Observed;
use crate::secure::{self, Data, Next, Stages, Vault, certificate_name, decide, render};

/// What became of a look at what protects a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protected {
    /// What is done or waited for, or what is wrong; none: all is as asked for.
    pub message: Option<String>,
    /// When to look again; none: there is nothing more to come.
    pub again: Option<Duration>,
}

/// What the resource allows in its status.
const MESSAGE_CHARS_MAX: usize = 1024;

/// After something was done.
const SOON: Duration = Duration::from_secs(1);
/// While something is waited for, of which files that have to reach pods take a minute or two.
const LATER: Duration = Duration::from_secs(4);

impl Kube {
    /// See [`accesses`].
    pub(super) fn accesses(&self) -> impl Fn(&Pod, bool) -> Arc<Access> {
        accesses(&self.cluster, self.vault.as_ref())
    }

    /// Looks at what protects a cluster that needs nothing else, and does the next thing.
    ///
    /// # Errors
    /// The API server's, an agent's, or what is wrong with a Secret when nothing is there to go on with.
    pub async fn protect(&mut self, observed: &Observed) -> Result<Protected, Error> {
        let wanted = secure::wanted(&self.cluster.spec, Stages::default());
        let Some(vault) = self.vault.clone() else {
            if wanted.contains(&true) {
                self.make_vault(Stages::default()).await?;
                return Ok(Protected {
                    message: Some("keys, certificates and tokens were made".to_owned()),
                    again: Some(SOON),
                });
            }
            return Ok(Protected::default());
        };
        let evidence = self.evidence(observed, &vault).await;
        let next = decide(&self.cluster, &vault, &self.given, &evidence, &OsRandom);
        match self.do_next(&next, observed).await {
            // Nothing is broken by it, and it is tried again.
            Err(Error::Agent(refused)) => {
                return Ok(Protected {
                    message: Some(refused.to_string()),
                    again: Some(LATER),
                });
            }
            other => other?,
        }
        let (message, again) = match next {
            Next::Rest => (self.given.problem().or_else(|| self.refused()), None),
            Next::Wait(_) | Next::Reload(_) => (Some(next.to_string()), Some(LATER)),
            _ => (Some(next.to_string()), Some(SOON)),
        };
        let message = match (self.made_again(), message) {
            (Some(again), Some(message)) => Some(format!("{again}; {message}")),
            (again, message) => message.or(again),
        };
        if let (Some(message), Some(SOON)) = (&message, again) {
            tracing::info!(cluster = self.name, "protection: {message}");
        }
        Ok(Protected { message, again })
    }

    /// What the spec asks for in vain.
    fn refused(&self) -> Option<String> {
        let off = self
            .cluster
            .spec
            .gossip
            .as_ref()
            .is_some_and(|g| !g.enabled);
        let on = secure::stages(&self.cluster).gossip > Stage::Disabled;
        (off && on).then(|| "spec.gossip.enabled: encryption of gossip cannot be turned off again, as its keys are in the servers' data folders".to_owned())
    }

    /// Puts what became of the protection into the status that is about to be written.
    pub fn note_protection(&self, status: &mut ConsulClusterStatus, message: Option<String>) {
        let message = message.map(|text| text.chars().take(MESSAGE_CHARS_MAX).collect::<String>());
        if let Some(message) = &message {
            let mut all = status.conditions.iter_mut();
            if let Some(found) = all.find(|c| c.type_ == condition::RECONCILING) {
                found.message = format!("{}; protection: {message}", found.message);
            }
        }
        if let Some(security) = &mut status.security {
            security.message = message;
        }
    }
}

/// How agents let themselves be asked, servers or clients: by what their own pods were started with.
pub fn accesses(
    cluster: &ConsulCluster,
    vault: Option<&Vault>,
) -> impl Fn(&Pod, bool) -> Arc<Access> + use<> {
    let of = |server: bool, https: bool, full: bool| {
        let tokens = vault.map(|vault| &vault.tokens);
        let authorities = vault.map(|vault| vault.authorities.clone());
        let name = certificate_name(cluster, server);
        Arc::new(Access {
            https: https.then(|| (authorities.unwrap_or_default(), name)),
            management: tokens
                .filter(|_| full)
                .map(|tokens| tokens.management.clone()),
            recovery: tokens.filter(|_| full).map(|tokens| match server {
                true => tokens.recovery.clone(),
                false => tokens.client_recovery.clone(),
            }),
        })
    };
    const EITHER: [bool; 2] = [false, true];
    let all = EITHER.map(|server| EITHER.map(|https| EITHER.map(|full| of(server, https, full))));
    move |pod, server| {
        let https = see::listens(pod, names::HTTPS);
        // Before that stage, a server may not know the token yet, and allows everything to everybody.
        let full = see::started_with(pod, &render::acl_file(Stage::Full));
        Arc::clone(&all[usize::from(server)][usize::from(https)][usize::from(full)])
    }
}

/// What protects a cluster, for whoever may read it.
///
/// # Errors
/// It does not hold what it should.
pub fn vault(secret: Secret) -> Result<Vault, secure::Broken> {
    let annotations = secret.metadata.annotations.clone().unwrap_or_default();
    Vault::read(&annotations, &data(secret))
}

fn data(secret: Secret) -> Data {
    let data = secret.data.unwrap_or_default();
    data.into_iter()
        .map(|(key, bytes)| (key, bytes.0))
        .collect()
}
