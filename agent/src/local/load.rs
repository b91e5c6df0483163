//! What an agent starts with and reloads: definitions of files, and those that were kept in the data dir.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::definition::{Raw, ServiceDefinition};
use super::disk::{self, Kept};
use super::register::say_what_is_not_done;
use super::{Error, Local, Source};

impl Local {
    /// Reads what the data dir has, beside what files define; these win.
    pub async fn open(&self, services: &[Raw], checks: &[Raw]) -> Result<(), Error> {
        let found = self.inner.kept.as_ref().map(Kept::load).unwrap_or_default();
        // Ports that sidecars were given before are not given to others.
        let kept_ports = found
            .services
            .iter()
            .filter_map(|raw| raw.to_service().ok());
        let kept_ports = kept_ports
            .filter(|definition| definition.sidecar)
            .map(|definition| definition.service.port);
        self.reload_beside(services, checks, &kept_ports.collect())?;
        let Some(kept) = &self.inner.kept else {
            return Ok(());
        };
        let unix_ms = self.inner.env.clock.unix_ms();
        for raw in found.services {
            if let Err(error) = self.restore_service(&raw, kept) {
                tracing::warn!(target: "agent", "a service of the data dir is left out: {error}");
            }
        }
        for raw in found.checks {
            if let Err(error) = self.restore_check(&raw, kept) {
                tracing::warn!(target: "agent", "a check of the data dir is left out: {error}");
            }
        }
        let now = Instant::now();
        for state in found.states {
            // Later ones were written by a clock that was ahead, or before this one was put back.
            let left = Duration::from_millis(state.expires_unix_ms.saturating_sub(unix_ms));
            if !left.is_zero() {
                let mut table = self.table();
                table.restore(&state.id, state.status, &state.output, now + left, now);
            }
        }
        self.changed();
        Ok(())
    }

    fn restore_service(&self, raw: &Raw, kept: &Kept) -> Result<(), Error> {
        let (raw, sidecar) = raw.split()?;
        let definition = raw.to_service()?;
        let id = &definition.service.id;
        if self.table().services.contains_key(id) {
            return kept.forget_service(id);
        }
        self.allow_scripts(&definition.checks, Source::Api)?;
        if let Some(sidecar) = sidecar {
            // Kept by a version that did not know what this stands for.
            let (id, sidecar_id) = (id.clone(), sidecar.id());
            let sidecar = self.give_port(sidecar, &BTreeSet::new())?;
            kept.keep_service(&sidecar_id, &sidecar)?;
            kept.keep_service(&id, &raw)?;
            self.restore_service(&sidecar, kept)?;
        }
        let now = Instant::now();
        self.table()
            .put_service(&definition, Source::Api, false, now);
        self.restart(definition.checks.iter().map(|check| check.id.clone()));
        Ok(())
    }

    fn restore_check(&self, raw: &Raw, kept: &Kept) -> Result<(), Error> {
        let definition = disk::check(raw)?;
        let id = definition.id.clone();
        if self.table().checks.contains_key(&id) {
            return kept.forget_check(&id);
        }
        self.put_check(definition, Source::Api)
    }

    /// Makes files' definitions these: others go, and those that are as they were are left alone.
    ///
    /// # Errors
    /// The first one that is wrong; nothing has changed then.
    pub fn reload(&self, services: &[Raw], checks: &[Raw]) -> Result<(), Error> {
        self.reload_beside(services, checks, &BTreeSet::new())
    }

    /// [`Local::reload`], while these ports are kept free.
    fn reload_beside(
        &self,
        services: &[Raw],
        checks: &[Raw],
        taken: &BTreeSet<u16>,
    ) -> Result<(), Error> {
        let services = self.with_sidecars(services, taken)?;
        let checks = checks.iter().map(Raw::to_check);
        let checks = checks.collect::<Result<Vec<_>, _>>()?;
        for service in &services {
            self.allow_scripts(&service.checks, Source::File)?;
        }
        self.allow_scripts(&checks, Source::File)?;
        let of_service = |id: &str| services.iter().any(|service| service.service.id == id);
        for check in &checks {
            let id = &check.service_id;
            if !id.is_empty() && !of_service(id) && !self.table().services.contains_key(id) {
                return Err(Error::NoService(id.clone()));
            }
        }
        let named: BTreeSet<&String> = services
            .iter()
            .flat_map(|service| service.checks.iter())
            .chain(&checks)
            .map(|check| &check.id)
            .collect();
        let mut touched: Vec<String> = Vec::new();
        {
            let mut table = self.table();
            touched.extend(table.drop_unnamed(of_service, |id| named.contains(&id.to_owned())));
            let now = Instant::now();
            for service in &services {
                if !table.has_service(service) {
                    say_what_is_not_done(service);
                    touched.extend(service.checks.iter().map(|check| check.id.clone()));
                    touched.extend(table.put_service(service, Source::File, false, now));
                }
            }
            for check in checks {
                if !table.has_check(&check) {
                    touched.push(check.id.clone());
                    table.put_check(Arc::new(check), Source::File, now);
                }
            }
        }
        self.restart(touched);
        self.changed();
        Ok(())
    }

    /// Each service with the sidecar that it asks for behind it.
    fn with_sidecars(
        &self,
        services: &[Raw],
        taken: &BTreeSet<u16>,
    ) -> Result<Vec<ServiceDefinition>, Error> {
        let split = services.iter().map(Raw::split);
        let split = split.collect::<Result<Vec<_>, _>>()?;
        let mut taken = taken.clone();
        for (raw, _) in &split {
            taken.insert(raw.to_service()?.service.port);
        }
        let mut all = Vec::new();
        for (raw, sidecar) in split {
            all.push(raw.to_service()?);
            if let Some(sidecar) = sidecar {
                let definition = self.give_port(sidecar, &taken)?.to_service()?;
                taken.insert(definition.service.port);
                all.push(definition);
            }
        }
        Ok(all)
    }
}
