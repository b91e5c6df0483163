//! The certificate authority of the service mesh (Consul's Connect): who gets which certificate, and from which root.
//!
//! The replicated state holds its rows (`crate::state`). What becomes of them is decided here, without a clock: the time
//! and serial numbers come from whoever asks. Only keys, and the signatures that are made with them, are random by
//! themselves: they come from the operating system, in a simulation too, for a key must never follow from a seed.

mod cert;
mod change;
mod leaves;
mod limit;
pub mod secondary;
pub mod settings;
mod sign;
pub mod spiffe;

pub use cert::check_brought;
pub use change::{Update, change, change_of_secondary, current, due, first, sign_with};
pub use leaves::{Leaf, Leaves, SharedLeaf, is_due, renewal};
pub use limit::CsrLimit;
pub use settings::Settings;
pub use sign::{Place, Requested, Signed, Subject, request, request_of_agent, sign, subject_of};

/// Why there is no certificate, or no change of the authority. The texts are shown as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The servers' configuration switches the mesh off.
    #[error("Connect must be enabled in order to use this endpoint")]
    Disabled,
    /// There is no root yet: nobody has led for long enough.
    #[error("CA is uninitialized and unable to sign certificates yet: no root certificate")]
    Uninitialized,
    /// More requests than are signed at a time.
    #[error("Rate limit reached, try again later")]
    RateLimited,
    /// Another provider than the one that there is.
    #[error("unknown CA provider {0:?}: this version has the provider \"consul\"")]
    Provider(String),
    /// Why a datacenter that has a primary has no authority, or not a new one.
    #[error("{0}")]
    Primary(String),
    /// Settings that cannot be.
    #[error("{0}")]
    Settings(String),
    /// A request for a certificate that is not given.
    #[error("{0}")]
    Request(String),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Error::Make(error.to_string())
    }
}

#[cfg(test)]
mod tests;
