//! Keys `encrypt` and what belongs to it.

use super::Error;
use super::build::invalid;
use super::layer::Layer;
use crate::gossip::GossipKey;

/// How gossip is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipEncryption {
    /// The key to begin with: 16, 24 or 32 bytes in base64. Later the keyring in the data dir counts. Key `encrypt`, flag `-encrypt`. Default
    /// none: gossip is not encrypted, unless there is a keyring.
    pub key: Option<GossipKey>,
    /// Whether what is not encrypted is dropped. False only while a running cluster is moved. Default true.
    pub verify_incoming: bool,
    /// Whether what leaves is encrypted. False only while a running cluster is moved. Default true.
    pub verify_outgoing: bool,
    /// Whether the keys are kept in the data dir. Key and flag `disable_keyring_file` say the opposite. Default true.
    pub keyring_file: bool,
}

/// # Errors
/// When the key is none. It is not repeated: it may be a key with a typing error.
pub(super) fn check(layer: &Layer) -> Result<GossipEncryption, Error> {
    let key = match layer.encrypt.as_deref().map(str::trim).unwrap_or("") {
        "" => None,
        text => match text.parse::<GossipKey>() {
            Ok(key) => Some(key),
            Err(error) => return invalid(format!("encrypt: {error}")),
        },
    };
    Ok(GossipEncryption {
        key,
        verify_incoming: layer.encrypt_verify_incoming.unwrap_or(true),
        verify_outgoing: layer.encrypt_verify_outgoing.unwrap_or(true),
        keyring_file: !layer.disable_keyring_file.unwrap_or(false),
    })
}
