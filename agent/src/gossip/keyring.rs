//! The keys of a pool: how they are written, what may be done to them, and the file that keeps them. Pure.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::env::Random;

/// Most keys that a member keeps: each is tried on what the ones before do not open.
const KEYS_MAX: usize = 32;

/// A key of a pool: 16, 24 or 32 random bytes, written in base64 (`agent keygen` prints one). Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipKey(Vec<u8>);

/// Why a text is no key. The text itself is not repeated: it may be a key with a typing error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64.
    #[error(
        "a gossip key is 16, 24 or 32 bytes in base64, and this is not base64: 'agent keygen' prints a key"
    )]
    NotBase64,
    /// Base64 of something else.
    #[error(
        "a gossip key is 16, 24 or 32 bytes in base64, and this is {0} bytes long: 'agent keygen' prints a key"
    )]
    Length(usize),
}

impl GossipKey {
    /// A new one of 32 bytes.
    pub fn random(random: &dyn Random) -> Self {
        let numbers = [(); 4].map(|()| random.next_u64().to_le_bytes());
        Self(numbers.concat())
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for GossipKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|_| KeyError::NotBase64)?;
        match bytes.len() {
            16 | 24 | 32 => Ok(Self(bytes)),
            other => Err(KeyError::Length(other)),
        }
    }
}

/// As it is written in files and shown to those who may see it.
impl fmt::Display for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.0))
    }
}

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GossipKey(hidden)")
    }
}

impl<'de> Deserialize<'de> for GossipKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A key as somebody wrote it, whatever it is. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyText(pub String);

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(hidden)")
    }
}

/// What may be done with the keys of every member. Append only: it is asked between servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyringOp {
    /// Tell which there are.
    List,
    /// Open what is sealed with this one, too.
    Install(KeyText),
    /// Seal with this one from now on.
    Use(KeyText),
    /// Open nothing with this one any more.
    Remove(KeyText),
}

impl KeyringOp {
    /// The key that it is about.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::List => None,
            Self::Install(key) | Self::Use(key) | Self::Remove(key) => Some(&key.0),
        }
    }
}

// What nodes report of each other, in the words that Consul's users know.
const REMOVES_PRIMARY: &str = "Removing the primary key is not allowed";
const NOT_INSTALLED: &str = "Requested key is not in the keyring";
const WRONG_SIZE: &str = "key size must be 16, 24 or 32 bytes";
const NOT_BASE64: &str = "key is not base64";
const TOO_MANY: &str = "the keyring is full: remove keys that are not used any more";

/// The keys of one member; the first one, the primary, seals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyring {
    keys: Vec<GossipKey>,
}

impl Keyring {
    /// A ring of one key.
    pub(crate) fn new(key: GossipKey) -> Self {
        Self { keys: vec![key] }
    }

    /// All keys, the primary first.
    pub(crate) fn keys(&self) -> &[GossipKey] {
        &self.keys
    }

    /// Whether this key is among them.
    pub(crate) fn has(&self, key: &GossipKey) -> bool {
        self.keys.contains(key)
    }

    /// The ring after `op`; why it may not be, in Consul's words.
    pub(crate) fn after(&self, op: &KeyringOp) -> Result<Self, &'static str> {
        let Some(text) = op.key() else {
            return Ok(self.clone());
        };
        let key: GossipKey = text.parse().map_err(|error| match error {
            KeyError::NotBase64 => NOT_BASE64,
            KeyError::Length(_) => WRONG_SIZE,
        })?;
        let mut keys = self.keys.clone();
        let at = keys.iter().position(|known| *known == key);
        match (op, at) {
            (KeyringOp::Install(_), None) if keys.len() >= KEYS_MAX => return Err(TOO_MANY),
            (KeyringOp::Install(_), None) => keys.push(key),
            (KeyringOp::Use(_), None) => return Err(NOT_INSTALLED),
            (KeyringOp::Use(_), Some(at)) => keys[..=at].rotate_right(1),
            (KeyringOp::Remove(_), Some(0)) => return Err(REMOVES_PRIMARY),
            (KeyringOp::Remove(_), Some(at)) => drop(keys.remove(at)),
            // It is as it shall be.
            (KeyringOp::Install(_), Some(_)) | (KeyringOp::Remove(_), None) => {}
            (KeyringOp::List, _) => {}
        }
        Ok(Self { keys })
    }

    /// The file's content, which Consul reads and writes too: a JSON list, the primary first.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let keys: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        serde_json::to_vec_pretty(&keys).expect("a list of texts is always valid JSON")
    }

    /// Reads a file's content. Keys that are there twice count once.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let keys: Vec<GossipKey> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let mut ring = Self {
            keys: Vec::with_capacity(keys.len()),
        };
        for key in keys {
            if !ring.has(&key) {
                ring.keys.push(key);
            }
        }
        match ring.keys.len() {
            0 => Err("it has no key".to_owned()),
            1..=KEYS_MAX => Ok(ring),
            many => Err(format!("it has {many} keys, more than {KEYS_MAX}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> GossipKey {
        GossipKey(vec![byte; 32])
    }

    fn text(byte: u8) -> KeyText {
        KeyText(key(byte).to_string())
    }

    fn firsts(ring: &Keyring) -> Vec<u8> {
        ring.keys().iter().map(|key| key.bytes()[0]).collect()
    }

    #[test]
    fn keys_have_the_lengths_of_aes_and_are_not_shown() {
        for length in [16, 24, 32] {
            let text = STANDARD.encode(vec![7; length]);
            let key: GossipKey = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
            assert_eq!(format!("{key:?}"), "GossipKey(hidden)");
            assert!(!format!("{:?}", KeyringOp::Use(KeyText(text.clone()))).contains(&text));
        }
        assert_eq!("not base64!".parse::<GossipKey>(), Err(KeyError::NotBase64));
        for length in [0, 15, 17, 33] {
            let text = STANDARD.encode(vec![7; length]);
            assert_eq!(text.parse::<GossipKey>(), Err(KeyError::Length(length)));
        }
    }

    #[test]
    fn a_rotation_is_install_use_remove() {
        let ring = Keyring::new(key(1));
        let ring = ring.after(&KeyringOp::Install(text(2))).unwrap();
        assert_eq!(firsts(&ring), [1, 2]);
        assert_eq!(
            ring.after(&KeyringOp::Remove(text(1))),
            Err("Removing the primary key is not allowed")
        );
        let ring = ring.after(&KeyringOp::Use(text(2))).unwrap();
        assert_eq!(firsts(&ring), [2, 1]);
        let ring = ring.after(&KeyringOp::Remove(text(1))).unwrap();
        assert_eq!(firsts(&ring), [2]);
    }

    #[test]
    fn what_is_so_already_is_no_error_and_what_cannot_be_is_one() {
        let ring = Keyring::new(key(1));
        let again = KeyringOp::Install(text(1));
        assert_eq!(ring.after(&again), Ok(ring.clone()));
        assert_eq!(ring.after(&KeyringOp::Remove(text(9))), Ok(ring.clone()));
        assert_eq!(ring.after(&KeyringOp::List), Ok(ring.clone()));
        assert_eq!(
            ring.after(&KeyringOp::Use(text(9))),
            Err("Requested key is not in the keyring")
        );
        let short = KeyringOp::Install(KeyText("YWJj".to_owned()));
        assert_eq!(
            ring.after(&short),
            Err("key size must be 16, 24 or 32 bytes")
        );
        let mut full = ring;
        for byte in 2..=KEYS_MAX as u8 {
            full = full.after(&KeyringOp::Install(text(byte))).unwrap();
        }
        assert_eq!(full.after(&KeyringOp::Install(text(99))), Err(TOO_MANY));
    }

    #[test]
    fn the_file_is_a_list_with_the_primary_first() {
        let ring = Keyring::new(key(1))
            .after(&KeyringOp::Install(text(2)))
            .unwrap();
        let file = String::from_utf8(ring.encode()).unwrap();
        let wanted = format!("[\n  \"{}\",\n  \"{}\"\n]", key(1), key(2));
        assert_eq!(file, wanted);
        assert_eq!(Keyring::decode(file.as_bytes()), Ok(ring));
        for (file, wanted) in [
            ("[]", "it has no key"),
            ("", "EOF"),
            ("[\"YWJj\"]", "3 bytes long"),
        ] {
            let error = Keyring::decode(file.as_bytes()).unwrap_err();
            assert!(error.contains(wanted), "{file}: {error}");
        }
    }

    #[test]
    fn no_keyring_file_makes_the_decoder_panic_and_what_is_read_is_written_again() {
        let seeds: Vec<_> = [
            Keyring::new(key(1)).encode(),
            Keyring::new(key(1))
                .after(&KeyringOp::Install(text(2)))
                .unwrap()
                .encode(),
            b"[]".to_vec(),
        ]
        .into();
        crate::fuzz::run("keyring", &seeds, |bytes| match Keyring::decode(bytes) {
            Ok(ring) => {
                assert_eq!(Keyring::decode(&ring.encode()), Ok(ring.clone()));
                format!("{} keys", ring.keys().len().min(3))
            }
            Err(error) => error,
        });
    }
}
