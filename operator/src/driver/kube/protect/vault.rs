//! The vault: read, made, made again when it is lost, and kept.

use std::collections::BTreeMap;

use agent::env::OsRandom;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::super::milestones::Milestone;
use super::super::rest::{Versions, versions_of};
use super::super::{Error, Kube, names, objects};
use super::{data, vault};
use crate::crd::{Security, Stage};
use crate::secure::{self, Data, Given, MadeAgain, Stages, Vault, render};

impl Kube {
    /// [`Kube::read_vault`], with what only a person can mend kept as a sentence.
    pub(in super::super) async fn look_at_vault(&mut self) -> Result<(), Error> {
        self.problem = match self.read_vault().await {
            Err(Error::Incomplete(problem)) => Some(problem),
            other => other.map(|()| None)?,
        };
        Ok(())
    }

    /// Reads the vault, and the Secrets that the spec names. How far things are on is from now on in the status that
    /// objects are made from. A vault that is lost is made again, for the time being in memory alone.
    ///
    /// # Errors
    /// It is lost together with what it could be made from, or does not hold what it should: nothing is changed then, as
    /// nobody can tell what would still fit.
    async fn read_vault(&mut self) -> Result<(), Error> {
        let name = names::vault(&self.name);
        let found = self.api::<Secret>().get_opt(&name).await?;
        let version = |secret: &Secret| secret.metadata.resource_version.clone();
        self.vault_version = found.as_ref().and_then(version);
        self.vault = found.map(|secret| self.vault_of(secret)).transpose()?;
        let mut versions = Versions::new();
        let mut secrets = BTreeMap::new();
        for name in secure::given_names(&self.cluster) {
            let found = self.api::<Secret>().get_opt(name).await?;
            versions.insert(name.to_owned(), found.as_ref().and_then(version));
            if let Some(secret) = found {
                secrets.insert(name.to_owned(), data(secret));
            }
        }
        let now = Timestamp::now().as_second();
        self.given = Given::read(&self.cluster, &secrets, now);
        if self.vault.is_none() {
            self.vault = self.lost_vault(now).await?;
        }
        if let Some(vault) = &self.vault {
            versions.insert(name, self.vault_version.clone());
            versions.extend(versions_of(&self.api(), &self.rendered()).await?);
            let security = in_force(vault);
            let status = self.cluster.status.get_or_insert_default();
            let message = status.security.take().and_then(|before| before.message);
            status.security = Some(Security {
                message,
                ..security
            });
        }
        self.secret_versions = versions;
        Ok(())
    }

    async fn secret(&self, name: &str) -> Result<Option<Data>, Error> {
        Ok(self.api::<Secret>().get_opt(name).await?.map(data))
    }

    fn vault_of(&self, secret: Secret) -> Result<Vault, Error> {
        let name = names::vault(&self.name);
        let labels = secret.metadata.labels.clone().unwrap_or_default();
        if labels.get(names::CLUSTER) != Some(&self.name) {
            return Err(Error::Incomplete(format!(
                "Secret {name} is not the operator's: its label {} is not {}; rename it, or take it away",
                names::CLUSTER,
                self.name
            )));
        }
        vault(secret).map_err(|why| {
            Error::Incomplete(format!(
                "Secret {name}: {why}; put it back from a copy, or delete it, and it is made again from {}; until then what runs stays as it is",
                self.rendered_said()
            ))
        })
    }

    /// The vault of a cluster that runs with one which is not there any more, from what its agents see of it. None: the
    /// cluster never had any.
    async fn lost_vault(&self, now: i64) -> Result<Option<Vault>, Error> {
        let name = names::vault(&self.name);
        let sorry = |why: String| {
            Error::Incomplete(format!(
                "Secret {name} is missing, which holds the keys, certificates and tokens that this cluster runs with, and it cannot be made again: {why}; put Secret {name} back from a copy, or {}; until then what runs stays as it is",
                self.rendered_said()
            ))
        };
        let Some(stages) = self.stages_that_run().map_err(sorry)? else {
            return Ok(None);
        };
        let [servers, clients] = self.rendered();
        let servers = self.secret(&servers).await?;
        let clients = self.secret(&clients).await?;
        let again = secure::again(
            &self.cluster,
            stages,
            servers.as_ref(),
            clients.as_ref(),
            now,
        );
        again.map(Some).map_err(|why| sorry(why.to_string()))
    }

    /// Names of the Secrets that are made from the vault, for servers and for clients.
    fn rendered(&self) -> [String; 2] {
        [true, false].map(|server| names::secure(&self.name, server))
    }

    /// The same in a sentence.
    fn rendered_said(&self) -> String {
        self.rendered().join(" and ")
    }

    /// How far things are on for the agents, when the vault does not tell: as the servers' template says, which is ahead
    /// of every pod; without one, as the status does; of a resource that was made again, as its volumes do. None:
    /// everything is off, and always was.
    fn stages_that_run(&self) -> Result<Option<Stages>, String> {
        let noted = self.cluster.status.as_ref();
        let noted = noted.filter(|status| status.security.is_some());
        let noted = noted.map(|_| secure::stages(&self.cluster));
        let set = self.snapshot.servers.as_ref();
        let started = set.map(|set| render::stages_of(arguments(set)));
        if let (Some(noted), Some(started)) = (noted, started)
            && !noted.is_near(started)
        {
            // One of them was changed by hand.
            return Err(format!(
                "the status says {noted} and StatefulSet {} says {started}, so nobody can tell how far agents are",
                names::server(&self.name)
            ));
        }
        let stages = started.or(noted).or_else(|| self.stages_of_volumes());
        let stages = stages.unwrap_or_default();
        Ok((stages != Stages::default() || self.runs_secured()).then_some(stages))
    }

    fn stages_of_volumes(&self) -> Option<Stages> {
        let claims = self.snapshot.claims.iter();
        let notes =
            claims.filter_map(|claim| claim.metadata.annotations.as_ref()?.get(secure::STAGES));
        notes.filter_map(|note| Stages::read(note)).next()
    }

    /// Whether pods are made that mount what is rendered from a vault.
    fn runs_secured(&self) -> bool {
        let template = || {
            let set = self.snapshot.servers.as_ref()?;
            set.spec.as_ref()?.template.spec.as_ref()?.volumes.as_ref()
        };
        template().is_some_and(|volumes| volumes.iter().any(|volume| volume.name == "secure"))
    }

    /// Makes the vault of a cluster that is about to be formed. One that is there already is kept.
    pub(in super::super) async fn protect_from_birth(&mut self) -> Result<(), Error> {
        let stages = Stages::at_birth(&self.cluster.spec);
        if self.vault.is_some() || stages == Stages::default() {
            return Ok(());
        }
        self.make_vault(stages).await
    }

    pub(super) async fn make_vault(&mut self, stages: Stages) -> Result<(), Error> {
        let now = Timestamp::now().as_second();
        let vault = secure::make(&self.cluster, &self.given, stages, now, &OsRandom)
            .map_err(Error::Incomplete)?;
        self.create_vault(&vault).await?;
        tracing::info!(
            cluster = self.name,
            secret = names::vault(&self.name),
            "made keys, certificates and tokens"
        );
        Ok(())
    }

    async fn create_vault(&mut self, vault: &Vault) -> Result<(), Error> {
        if !self.create(&objects::vault(&self.cluster, vault)).await? {
            return Err(Error::Changed("the vault exists already".to_owned()));
        }
        self.read_vault().await
    }

    /// Keeps a vault that was made again, before anything else is written that was computed from it. One that is there
    /// after all wins.
    ///
    /// # Errors
    /// The API server's.
    pub async fn keep_vault_made_again(&mut self) -> Result<(), Error> {
        let (Some(vault), None) = (self.vault.clone(), &self.vault_version) else {
            return Ok(());
        };
        self.create_vault(&vault).await?;
        tracing::warn!(
            cluster = self.name,
            secret = names::vault(&self.name),
            "was lost, and is made again from what agents see of it"
        );
        Ok(())
    }

    /// What a person is told of a vault that was lost, while it is not whole again.
    pub fn vault_made_again(&self) -> Option<Milestone> {
        let note = self.made_again()?;
        let name = names::vault(&self.name);
        let authority = match secure::own_authority(&self.cluster) {
            true => {
                "; the private key of the authority was lost with it, so that another authority takes its place, one step after the other: give its new ca.crt to applications and agents from outside that trust the old one"
            }
            false => "",
        };
        Some(Milestone {
            reason: "VaultMadeAgain",
            note: format!(
                "{note}, and no agent is restarted{authority}; find out who deleted it, and keep a copy of Secret {name}"
            ),
            warning: true,
        })
    }

    /// The same in short.
    pub(super) fn made_again(&self) -> Option<String> {
        let vault = self.vault.as_ref()?;
        // Only once it is there again.
        self.vault_version.as_ref()?;
        (vault.made_again == MadeAgain::UnderWay).then(|| {
            format!(
                "Secret {} was lost and made again from {}",
                names::vault(&self.name),
                self.rendered_said()
            )
        })
    }

    /// Over the very vault that was read.
    pub(super) async fn keep_vault(&self, vault: &Vault) -> Result<(), Error> {
        let Some(version) = &self.vault_version else {
            return Err(Error::Changed("the vault was not there".to_owned()));
        };
        let mut object = objects::vault(&self.cluster, vault);
        object.value["metadata"]["resourceVersion"] = json!(version);
        self.put(&object).await.map(drop)
    }
}

/// For the status, without a sentence.
fn in_force(vault: &Vault) -> Security {
    let Stages { gossip, tls, acl } = vault.stages;
    let ends = [Some(&vault.server), vault.client.as_ref()];
    let ends = ends.into_iter().flatten();
    let ends = ends.filter_map(|pair| Some(agent::tls::inspect::validity(&pair.cert).ok()?.ends));
    let ends = ends.min().filter(|_| tls > Stage::Disabled);
    Security {
        gossip,
        tls,
        acl,
        certificates_end: ends.and_then(|ends| Timestamp::from_second(ends).ok().map(Time)),
        message: None,
    }
}

/// What the agents of a set are started with.
fn arguments(set: &StatefulSet) -> impl Iterator<Item = &str> {
    let pod = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let containers = pod.into_iter().flat_map(|pod| &pod.containers);
    let agent = containers.filter(|container| container.name == names::CONTAINER);
    agent.flat_map(|container| container.args.iter().flatten().map(String::as_str))
}
