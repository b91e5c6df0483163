//! Encryption of a pool: what leaves a member is sealed with the pool's primary key, and what arrives is opened with any of its
//! keys, or dropped.
//!
//! A datagram is `magic 3 | sender 16 | number 8 | sealed`, with AES-256-GCM. Each run of a member names itself by 16 random bytes
//! and derives a key of its own from the pool's (HKDF-SHA256), under which it numbers its datagrams: no number is used twice under a
//! key, however many members there are and however long they run. Whoever opens them remembers which numbers it took.
//!
//! A stream carries one request and one answer. Both sides first say 16 random bytes, of which a key for this stream alone is
//! derived, so that a recorded stream opens nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::future::{BoxFuture, FutureExt as _};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

mod stream;
#[cfg(test)]
mod tests;

pub(super) use stream::{answer, is_sealed, was_closed};

use super::keyring::{GossipKey, Keyring, KeyringOp};
use super::window::Window;
use crate::env::{Datagrams, Env, Random, write_atomic};

/// First bytes of a sealed datagram; the last is a version.
const DATAGRAM_MAGIC: [u8; 3] = [0xC7, 0x5F, 1];
/// Bytes of a sender's name, and of what each side of a stream says first.
const NAME: usize = 16;
/// Bytes before what is sealed.
const HEAD: usize = DATAGRAM_MAGIC.len() + NAME + 8;
/// Bytes of a seal.
const TAG: usize = 16;
/// What sealing adds to a datagram.
pub(super) const DATAGRAM_OVERHEAD: usize = HEAD + TAG;
/// The largest datagram that is opened.
const DATAGRAM_BYTES_MAX: usize = 2048;
/// Senders that are remembered: more than any pool has members. Beyond that, the one that was silent for longest is forgotten, and its
/// datagrams would be taken once more.
const SENDERS_MAX: usize = 16 * 1024;

/// How a pool is encrypted.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// The key to begin with. Without one, and without a file, nothing is encrypted.
    pub key: Option<GossipKey>,
    /// Where the keys are kept; `None` keeps them nowhere.
    pub file: Option<PathBuf>,
    /// Whether what is not sealed is dropped.
    pub verify_incoming: bool,
    /// Whether what leaves is sealed.
    pub verify_outgoing: bool,
}

/// Why something was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    /// It is not sealed.
    #[error("it is not encrypted, which encrypt_verify_incoming demands")]
    Plain,
    /// No key of this node opens it.
    #[error("No installed keys could decrypt the message")]
    NoKey,
    /// It was taken before.
    #[error("it was received before")]
    Replayed,
    /// Too short to be anything.
    #[error("truncated")]
    Truncated,
}

/// The keys of a pool and what was opened with them. One for each pool that a node is in.
pub(super) struct Sealer {
    pool: String,
    ring: RwLock<Ring>,
    file: Option<PathBuf>,
    verify_incoming: bool,
    verify_outgoing: bool,
    env: Env,
    /// The name of this run.
    own: [u8; NAME],
    number: AtomicU64,
    senders: Mutex<Senders>,
    /// What was dropped because it was not sealed, or not with a key of this node.
    pub(super) unopened: AtomicU64,
    /// What was dropped because it was taken before.
    pub(super) replayed: AtomicU64,
}

/// The keys, with what the primary one seals.
struct Ring {
    keys: Keyring,
    seals: LessSafeKey,
}

#[derive(Default)]
struct Senders {
    by_name: BTreeMap<[u8; NAME], Sender>,
    taken: u64,
}

struct Sender {
    key: LessSafeKey,
    window: Window,
    /// When it was last heard, in datagrams.
    at: u64,
    /// Whether the keys have changed since: all are tried again.
    stale: bool,
}

struct Length;

impl ring::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

/// A key for one purpose.
fn derive(key: &GossipKey, salt: &[u8], purpose: &[&[u8]]) -> LessSafeKey {
    let secret = Salt::new(HKDF_SHA256, salt).extract(key.bytes());
    let mut bytes = [0; 32];
    let expanded = secret.expand(purpose, Length);
    expanded
        .and_then(|okm| okm.fill(&mut bytes))
        .expect("32 bytes are as many as this hash gives at once");
    let unbound = UnboundKey::new(&AES_256_GCM, &bytes).expect("32 bytes are a key of AES-256");
    LessSafeKey::new(unbound)
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Random bytes.
fn noise(random: &dyn Random) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&random.next_u64().to_be_bytes());
    }
    bytes
}

impl Sealer {
    /// With the keys of the file, or the one of the settings if there is no file yet; `None` when there is neither.
    ///
    /// # Errors
    /// When the file cannot be read or written. Nothing is lost then.
    pub(super) fn open(
        env: &Env,
        pool: &str,
        settings: &Encryption,
    ) -> Result<Option<Self>, String> {
        let keys = match (&settings.file, &settings.key) {
            (Some(file), given) if env.disk.exists(file) => {
                let read = env.disk.read(file).map_err(|error| error.to_string());
                let keys = read.and_then(|bytes| Keyring::decode(&bytes));
                let keys = keys.map_err(|error| {
                    format!(
                        "the keyring {} cannot be read: {error}; put it back, or remove it to begin with the key of 'encrypt'",
                        file.display()
                    )
                })?;
                if given.as_ref().is_some_and(|key| !keys.has(key)) {
                    tracing::warn!(target: "agent", "the keyring {} exists and does not have the key of 'encrypt', which counts for nothing then", file.display());
                }
                keys
            }
            (_, Some(key)) => Keyring::new(key.clone()),
            (_, None) => return Ok(None),
        };
        let own = noise(&*env.random);
        let seals = derive(&keys.keys()[0], &own, &purpose(pool));
        let sealer = Self {
            pool: pool.to_owned(),
            file: settings.file.clone(),
            verify_incoming: settings.verify_incoming,
            verify_outgoing: settings.verify_outgoing,
            env: env.clone(),
            own,
            number: AtomicU64::new(0),
            senders: Mutex::default(),
            unopened: AtomicU64::new(0),
            replayed: AtomicU64::new(0),
            ring: RwLock::new(Ring {
                keys: keys.clone(),
                seals,
            }),
        };
        sealer.keep(&keys).map_err(|error| {
            let file = settings.file.as_deref().unwrap_or("".as_ref()).display();
            format!("the keyring {file} cannot be written: {error}")
        })?;
        Ok(Some(sealer))
    }

    fn keep(&self, keys: &Keyring) -> io::Result<()> {
        match &self.file {
            Some(file) => write_atomic(&*self.env.disk, file, &keys.encode()),
            None => Ok(()),
        }
    }

    /// All keys in base64, the primary first.
    pub(super) fn keys(&self) -> Vec<String> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.keys.keys().iter().map(ToString::to_string).collect()
    }

    /// Changes the keys, and keeps them.
    ///
    /// # Errors
    /// Why it may not be, in Consul's words; all is as it was then.
    pub(super) fn change(&self, op: &KeyringOp) -> Result<(), String> {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let keys = ring.keys.after(op)?;
        if keys == ring.keys {
            return Ok(());
        }
        self.keep(&keys)
            .map_err(|error| format!("the keyring could not be written: {error}"))?;
        ring.seals = derive(&keys.keys()[0], &self.own, &purpose(&self.pool));
        ring.keys = keys;
        drop(ring);
        // A key that was taken away opens nothing, also of senders that are known. What was taken of them stays so.
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in senders.by_name.values_mut() {
            sender.stale = true;
        }
        Ok(())
    }

    /// A datagram as it leaves.
    pub(super) fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut out = Vec::with_capacity(plain.len() + DATAGRAM_OVERHEAD);
        out.extend_from_slice(&DATAGRAM_MAGIC);
        out.extend_from_slice(&self.own);
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(plain);
        let (head, body) = out.split_at_mut(HEAD);
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let tag = ring
            .seals
            .seal_in_place_separate_tag(nonce(number), Aad::from(&*head), body)
            .expect("a datagram is far smaller than what can be sealed");
        out.extend_from_slice(tag.as_ref());
        out
    }

    /// What a datagram holds, written over itself.
    pub(super) fn open_in_place<'a>(&self, bytes: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        if !bytes.starts_with(&DATAGRAM_MAGIC) {
            return match self.verify_incoming {
                true => Err(OpenError::Plain),
                false => Ok(bytes),
            };
        }
        if bytes.len() < DATAGRAM_OVERHEAD {
            return Err(OpenError::Truncated);
        }
        let (head, body) = bytes.split_at_mut(HEAD);
        let mut sender = [0; NAME];
        sender.copy_from_slice(&head[DATAGRAM_MAGIC.len()..][..NAME]);
        let mut number = [0; 8];
        number.copy_from_slice(&head[HEAD - 8..]);
        self.open_of(sender, u64::from_be_bytes(number), head, body)
    }

    fn open_of<'a>(
        &self,
        name: [u8; NAME],
        number: u64,
        head: &[u8],
        body: &'a mut [u8],
    ) -> Result<&'a [u8], OpenError> {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.taken += 1;
        let at = senders.taken;
        let length = body.len() - TAG;
        let known = senders.by_name.get(&name).filter(|sender| !sender.stale);
        // A sender goes on to another key of the pool whenever it is told to.
        let is_open = match known {
            Some(sender) => try_open(&sender.key, number, head, body),
            None => false,
        };
        if !is_open {
            let key = self.key_that_opens(&name, number, head, body)?;
            senders.remember(name, key, at);
        }
        let Some(sender) = senders.by_name.get_mut(&name) else {
            return Err(OpenError::NoKey);
        };
        sender.at = at;
        match sender.window.admit(number) {
            true => Ok(&body[..length]),
            false => Err(OpenError::Replayed),
        }
    }

    /// Tries all keys.
    fn key_that_opens(
        &self,
        name: &[u8; NAME],
        number: u64,
        head: &[u8],
        body: &mut [u8],
    ) -> Result<LessSafeKey, OpenError> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        for key in ring.keys.keys() {
            let key = derive(key, name, &purpose(&self.pool));
            if try_open(&key, number, head, body) {
                return Ok(key);
            }
        }
        Err(OpenError::NoKey)
    }

    /// Whether what leaves is sealed.
    pub(super) fn seals(&self) -> bool {
        self.verify_outgoing
    }

    /// Whether what is not sealed is dropped.
    pub(super) fn demands(&self) -> bool {
        self.verify_incoming
    }
}

/// Whether a datagram says that it is sealed.
pub(super) fn is_sealed_datagram(bytes: &[u8]) -> bool {
    bytes.starts_with(&DATAGRAM_MAGIC[..2])
}

fn purpose(pool: &str) -> [&[u8]; 2] {
    [b"gossip datagram", pool.as_bytes()]
}

/// Opens what this key opens; anything else stays as it is.
fn try_open(key: &LessSafeKey, number: u64, head: &[u8], body: &mut [u8]) -> bool {
    let mut copy = [0; DATAGRAM_BYTES_MAX];
    let Some(copy) = copy.get_mut(..body.len()) else {
        return false;
    };
    copy.copy_from_slice(body);
    let opened = key.open_in_place(nonce(number), Aad::from(head), copy);
    let Ok(plain) = opened else {
        return false;
    };
    body[..plain.len()].copy_from_slice(plain);
    true
}

impl Senders {
    /// Keeps a key for a sender; what was taken of it stays so.
    fn remember(&mut self, name: [u8; NAME], key: LessSafeKey, at: u64) {
        if !self.by_name.contains_key(&name) && self.by_name.len() >= SENDERS_MAX {
            let oldest = self.by_name.iter().min_by_key(|(_, sender)| sender.at);
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                self.by_name.remove(&oldest);
            }
        }
        let window = self.by_name.remove(&name).map(|sender| sender.window);
        let sender = Sender {
            key,
            window: window.unwrap_or_default(),
            at,
            stale: false,
        };
        self.by_name.insert(name, sender);
    }
}

/// A socket whose datagrams are sealed.
pub(super) struct SealedSocket {
    pub(super) socket: Arc<dyn Datagrams>,
    pub(super) sealer: Arc<Sealer>,
    /// Told, once an address, of what was not opened.
    pub(super) told: Box<dyn Fn(SocketAddr, OpenError) + Send + Sync>,
}

impl Datagrams for SealedSocket {
    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        async move {
            if !self.sealer.seals() {
                return self.socket.send_to(data, to).await;
            }
            let sealed = self.sealer.seal(data);
            self.socket.send_to(&sealed, to).await?;
            Ok(data.len())
        }
        .boxed()
    }

    fn recv_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        async move {
            let mut sealed = [0; DATAGRAM_BYTES_MAX];
            loop {
                let (length, from) = self.socket.recv_from(&mut sealed).await?;
                match self.sealer.open_in_place(&mut sealed[..length]) {
                    Ok(plain) => {
                        let length = plain.len().min(buffer.len());
                        buffer[..length].copy_from_slice(&plain[..length]);
                        return Ok((length, from));
                    }
                    Err(error) => {
                        let counter = match error {
                            OpenError::Replayed => &self.sealer.replayed,
                            _ => &self.sealer.unopened,
                        };
                        counter.fetch_add(1, Ordering::Relaxed);
                        (self.told)(from, error);
                    }
                }
            }
        }
        .boxed()
    }
}
