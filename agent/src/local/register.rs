//! Registering services from the API, each with its sidecar.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::time::Instant;

use super::definition::{Raw, ServiceDefinition, Sidecar, choose_port};
use super::{Error, Local, Source};

impl Local {
    /// Registers a service from the API, and the sidecar that its definition asks for.
    ///
    /// # Errors
    /// See [`Error`]; nothing has changed then.
    pub async fn register_service(&self, raw: &Raw, replace_checks: bool) -> Result<(), Error> {
        let (raw, sidecar) = raw.split()?;
        let definition = raw.to_service()?;
        self.allow_scripts(&definition.checks, Source::Api)?;
        let _one = self.inner.registering.lock().await;
        let mut all = vec![(raw, definition)];
        if let Some(sidecar) = sidecar {
            let own_port = BTreeSet::from([all[0].1.service.port]);
            let raw = self.give_port(sidecar, &own_port)?;
            let definition = raw.to_service()?;
            self.allow_scripts(&definition.checks, Source::Api)?;
            all.push((raw, definition));
        }
        for (raw, definition) in all {
            let id = definition.service.id.clone();
            self.keep(move |kept, raw: Raw| kept.keep_service(&id, &raw), raw)
                .await?;
            let gone = self.take_service(&definition, replace_checks);
            self.forget_checks(&gone).await?;
        }
        Ok(())
    }

    fn take_service(&self, definition: &ServiceDefinition, replace: bool) -> Vec<String> {
        say_what_is_not_done(definition);
        let now = Instant::now();
        let gone = self
            .table()
            .put_service(definition, Source::Api, replace, now);
        let checks = definition.checks.iter().map(|check| check.id.clone());
        self.restart(checks.chain(gone.iter().cloned()));
        self.changed();
        gone
    }

    /// A sidecar with its port: the one it has already, or one that no service here has, `taken` included.
    pub(super) fn give_port(&self, sidecar: Sidecar, taken: &BTreeSet<u16>) -> Result<Raw, Error> {
        if !sidecar.wants_port() {
            return Ok(sidecar.at(0));
        }
        let table = self.table();
        let known = table.services.get(&sidecar.id());
        let known = known.filter(|own| own.sidecar && own.row.port != 0);
        let port = match known {
            Some(own) => own.row.port,
            None => {
                let used: BTreeSet<u16> = table.services.values().map(|own| own.row.port).collect();
                let range = self.inner.settings.sidecar_ports;
                choose_port(range, |port| used.contains(&port) || taken.contains(&port))?
            }
        };
        Ok(sidecar.at(port))
    }

    /// Removes a service with its checks, and its sidecar if it was registered with it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn deregister_service(&self, id: &str) -> Result<(), Error> {
        let _one = self.inner.registering.lock().await;
        let ids = self.table().with_sidecar(id);
        if ids.is_empty() {
            return Err(Error::UnknownService(id.to_owned()));
        }
        for id in ids {
            let checks = self.table().drop_service(&id).unwrap_or_default();
            self.restart(checks.iter().cloned());
            self.changed();
            self.forget_checks(&checks).await?;
            self.keep(|kept, id: String| kept.forget_service(&id), id)
                .await?;
        }
        Ok(())
    }
}

/// Says what of a definition is kept and shown, but not acted upon.
pub(super) fn say_what_is_not_done(definition: &ServiceDefinition) {
    let Some(mesh) = &definition.service.mesh else {
        return;
    };
    // Kept as text that was made from JSON.
    let proxy: Value = serde_json::from_str(&mesh.proxy).unwrap_or_default();
    if proxy["Expose"]["Checks"] == true {
        tracing::warn!(
            target: "agent",
            "Proxy.Expose.Checks is kept for the proxy, but checks go to the service itself, not through the proxy: service={}",
            definition.service.id
        );
    }
}
