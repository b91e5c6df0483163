//! Services and checks of configuration files.

use std::time::Duration;

use super::build::{at_least, invalid, within};
use super::layer::Layer;
use super::{CheckSettings, Error};
use crate::local::definition::Raw;

/// The services, in the order of the files; an id may be defined once.
pub(super) fn services(layer: &Layer) -> Result<Vec<Raw>, Error> {
    let all = layer.service.iter().chain(&layer.services);
    let mut ids = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    for text in all {
        let definition = match text.0.to_service() {
            Ok(definition) => definition,
            Err(error) => return invalid(format!("service: {error}")),
        };
        let id = definition.service.id;
        if !ids.insert(id.clone()) {
            return invalid(format!(
                "duplicate service definition: {id:?} is defined twice"
            ));
        }
        found.push(text.0.clone());
    }
    Ok(found)
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
