//! Services and checks of configuration files.

use std::time::Duration;

use super::build::{at_least, invalid, within};
use super::layer::{Layer, Number};
use super::{CheckSettings, Error};
use crate::local::definition::{self, Raw};

/// The services, in the order of the files; an id may be defined once.
pub(super) fn services(layer: &Layer) -> Result<Vec<Raw>, Error> {
    let all = layer.service.iter().chain(&layer.services);
    let mut ids = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    for text in all {
        for id in ids_of(&text.0).or_else(|error| invalid(format!("service: {error}")))? {
            if !ids.insert(id.clone()) {
                return invalid(format!(
                    "duplicate service definition: {id:?} is defined twice"
                ));
            }
        }
        found.push(text.0.clone());
    }
    Ok(found)
}

/// The ids of a service and of its sidecar, both found to be right.
fn ids_of(raw: &Raw) -> Result<Vec<String>, definition::Error> {
    let (service, sidecar) = raw.split()?;
    let mut ids = vec![service.to_service()?.service.id];
    if let Some(sidecar) = sidecar {
        // Which port it gets is decided later.
        ids.push(sidecar.at(1).to_service()?.service.id);
    }
    Ok(ids)
}

/// The ports that sidecars are given.
pub(super) fn sidecar_ports(layer: &Layer) -> Result<Option<(u16, u16)>, Error> {
    let port = |key, value, default: u16| match value {
        Some(Number(number)) if number < 1 => Ok(None),
        value => within(key, value, default, 1, 65535).map(Some),
    };
    let min = port(
        "ports.sidecar_min_port",
        layer.ports.sidecar_min_port,
        21000,
    )?;
    let max = port(
        "ports.sidecar_max_port",
        layer.ports.sidecar_max_port,
        21255,
    )?;
    match min.zip(max) {
        Some((min, max)) if min > max => invalid(format!(
            "sidecar_min_port must be less than sidecar_max_port: {min} is more than {max}"
        )),
        range => Ok(range),
    }
}

/// The checks beside those of services.
pub(super) fn checks(layer: &Layer) -> Result<Vec<Raw>, Error> {
    let all = layer.check.iter().chain(&layer.checks);
    let mut ids = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    for text in all {
        let id = match text.0.to_check() {
            Ok(definition) => definition.id,
            Err(error) => return invalid(format!("check: {error}")),
        };
        if !ids.insert(id.clone()) {
            return invalid(format!(
                "duplicate check definition: {id:?} is defined twice"
            ));
        }
        found.push(text.0.clone());
    }
    Ok(found)
}

pub(super) fn settings(layer: &Layer) -> Result<CheckSettings, Error> {
    Ok(CheckSettings {
        output_max_size: within(
            "check_output_max_size",
            layer.check_output_max_size,
            4096,
            1,
            16 << 20,
        )?,
        update_interval: at_least(
            "check_update_interval",
            layer.check_update_interval,
            Duration::from_secs(300),
            Duration::ZERO,
        )?,
        discard_output: layer.discard_check_output.unwrap_or(false),
        enable_script_checks: layer.enable_script_checks.unwrap_or(false),
        enable_local_script_checks: layer.enable_local_script_checks.unwrap_or(false),
    })
}
