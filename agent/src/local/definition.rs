//! Definitions of services and checks, from configuration files and from the API: reading and checking them. Pure.
//!
//! Both sources use Consul's fields: `DeregisterCriticalServiceAfter` in JSON is `deregister_critical_service_after` in a
//! file. They are brought to one form first (`shape.rs`), which is also the form that is kept on disk.

mod check;
mod mesh;
mod service;
mod shape;
mod sidecar;
#[cfg(test)]
mod tests;

pub use check::{CheckDefinition, Http, Kind, Tls};
pub(crate) use mesh::of_given as mesh_of;
pub use service::ServiceDefinition;
pub use sidecar::{Sidecar, choose_port, sidecar_id};

use serde_json::Value;

use crate::config::Secret;
use crate::state::Service;

use shape::{Unknown, fold};

/// Why a definition cannot be used. The texts are Consul's where it has them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("Request decode failed: {0}")]
    Decode(String),
    /// A service without a name.
    #[error("Missing service name")]
    NoServiceName,
    /// A check without a name.
    #[error("Missing check name")]
    NoCheckName,
    /// A status that does not exist.
    #[error("Bad check status")]
    BadStatus,
    /// A check that cannot be run as it says.
    #[error("Invalid check: {0}")]
    Check(String),
    /// A service that cannot be as it says.
    #[error("{0}")]
    Service(String),
}

/// The definition of a service or a check as it was given, in the form of the API, whatever it was written in.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw(pub(super) Value);

impl Raw {
    /// Reads a service's definition from the API. What is unknown is left out, as Consul does.
    ///
    /// # Errors
    /// When it is no object.
    pub fn service(value: Value) -> Result<Self, Error> {
        let mut folded = fold(value, shape::SERVICE, Unknown::Drop).map_err(Error::Decode)?;
        sidecar::fold_inside(&mut folded, Unknown::Drop).map_err(Error::Decode)?;
        Ok(Self(folded))
    }

    /// Reads a check's definition from the API.
    ///
    /// # Errors
    /// When it is no object.
    pub fn check(value: Value) -> Result<Self, Error> {
        let folded = fold(value, shape::CHECK, Unknown::Drop).map_err(Error::Decode)?;
        Ok(Self(folded))
    }

    /// Reads a service's definition from a configuration file, where what is unknown is an error.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn service_in_file(value: Value) -> Result<Self, String> {
        let mut folded = fold(value, shape::SERVICE, Unknown::Refuse)?;
        sidecar::fold_inside(&mut folded, Unknown::Refuse)?;
        Ok(Self(folded))
    }

    /// Reads a check's definition from a configuration file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_in_file(value: Value) -> Result<Self, String> {
        fold(value, shape::CHECK, Unknown::Refuse).map(Self)
    }

    /// The service without the short form for a sidecar, and the sidecar that it asked for.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn split(&self) -> Result<(Self, Option<Sidecar>), Error> {
        let (service, sidecar) = sidecar::split(&self.0)?;
        Ok((Self(service), sidecar))
    }

    /// The same in the name of whoever holds this token, unless it names one itself.
    #[must_use]
    pub fn or_token(mut self, token: &Secret) -> Self {
        let given = self.0.get("token").and_then(Value::as_str).unwrap_or("");
        if given.is_empty()
            && !token.0.is_empty()
            && let Some(fields) = self.0.as_object_mut()
        {
            fields.insert("token".to_owned(), Value::String(token.0.clone()));
        }
        self
    }

    /// The services that it defines: itself, and the sidecar that it asks for, which has no port yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn services(&self) -> Result<Vec<Service>, Error> {
        let (own, sidecar) = self.split()?;
        let mut all = vec![own.to_service()?.service];
        if let Some(sidecar) = sidecar {
            // Any port: it is given one when it is registered.
            all.push(sidecar.at(1).to_service()?.service);
        }
        Ok(all)
    }

    /// Checks it as a service.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn to_service(&self) -> Result<ServiceDefinition, Error> {
        service::read(&self.0)
    }

    /// Checks it as a check of its own, beside any service's definition.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn to_check(&self) -> Result<CheckDefinition, Error> {
        check::read_alone(&self.0)
    }
}
