//! Running a check once.

mod connect;
mod docker;
mod h2;
mod http;
mod script;
#[cfg(test)]
mod tests;

use std::io;

use super::definition::{CheckDefinition, Kind};
use crate::env::Env;
use crate::state::CheckStatus;

/// What a run says.
type Outcome = (CheckStatus, String);

/// Runs a check within its time.
pub(super) async fn run(env: &Env, definition: &CheckDefinition) -> Outcome {
    let timeout = definition.timeout();
    let probe = async {
        match &definition.kind {
            Kind::Http(check) => http::run(env, check).await,
            Kind::Tcp { address, tls } => connect::tcp(env, address, tls.as_ref()).await,
            Kind::Udp { address } => connect::udp(env, address).await,
            Kind::Grpc { address, tls } => h2::grpc(env, address, tls.as_ref()).await,
            Kind::H2ping { address, tls } => h2::ping(env, address, tls.as_ref()).await,
            Kind::Script { args } => script::run(args).await,
            Kind::Docker { container, args } => docker::run(env, container, args).await,
            Kind::OsService { name } => script::os_service(name).await,
            Kind::Ttl(_) | Kind::Alias { .. } | Kind::Maintenance => {
                critical("this check is not run")
            }
        }
    };
    match tokio::time::timeout(timeout, probe).await {
        Ok(outcome) => outcome,
        Err(_) if matches!(definition.kind, Kind::Script { .. }) => {
            critical("Timed out: the program was stopped")
        }
        Err(_) => critical(format!(
            "Timed out after {}",
            crate::duration::print(timeout)
        )),
    }
}

fn critical(output: impl Into<String>) -> Outcome {
    (CheckStatus::Critical, output.into())
}

fn passing(output: impl Into<String>) -> Outcome {
    (CheckStatus::Passing, output.into())
}

fn other(message: impl Into<String>) -> io::Error {
    io::Error::other(message.into())
}
