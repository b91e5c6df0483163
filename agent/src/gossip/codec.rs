//! Bytes of the gossip: datagrams, broadcast items, and the frames of the TCP exchange.
//!
//! All numbers are big-endian. Everything that is decoded comes from outside: a decoder returns an error for what
//! it does not understand, never allocates by a length that it has only read, and never panics. Entries and items
//! carry their length, so that a later version can append fields which this one passes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message};
use tokio::time::Instant;
use uuid::Uuid;

use super::Tags;
use super::identity::Identity;
use super::ledger::{Intent, Record, SharedLedger};
use super::sealed::is_sealed_datagram;
use super::user::UserEvent;
use crate::coordinate::Coordinate;

mod wire;

use wire::{
    Reader, put_coordinate, put_entry, put_identity, put_member, put_message, put_record,
    put_text8, put_user_event, put_whole, read_from,
};

/// First bytes of a datagram. No text protocol starts so.
const DATAGRAM_MAGIC: [u8; 2] = [0xC7, 0x5E];
/// First bytes of a stream frame. The first is no token character, so an HTTP server answers at once with an error
/// instead of waiting for the end of a request.
const FRAME_MAGIC: [u8; 4] = [0xC7, b'g', b's', b'p'];
/// Version of both formats.
const VERSION: u8 = 1;

/// Largest datagram: fits an Ethernet frame with room for tunnels.
pub(crate) const DATAGRAM_MAX: usize = 1400;
/// What an envelope adds to a datagram.
pub(crate) const DATAGRAM_OVERHEAD: usize = DATAGRAM_MAGIC.len() + 1;
/// Length of a frame's head: magic, version, kind, payload length.
pub(crate) const FRAME_HEAD: usize = FRAME_MAGIC.len() + 1 + 1 + 4;
/// Largest payload of a frame: some thirty thousand members.
pub(crate) const FRAME_MAX: usize = 16 << 20;
/// Longest node name, in bytes: its length is one byte on the wire.
pub(crate) const NAME_MAX: usize = 255;
/// Most tags of one member.
pub(crate) const TAGS_MAX: usize = 256;
/// Largest encoded record: a bound for what one member can make all others keep.
pub(crate) const RECORD_MAX: usize = 32 << 10;
/// Largest item that is sent in datagrams: leaves room for a header with two names of the greatest length. A larger
/// record is announced by its version and fetched over TCP.
pub(crate) const ITEM_MAX: usize = 700;

/// Why bytes were not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Ends in the middle of a value.
    #[error("truncated")]
    Truncated,
    /// Does not start as this protocol does.
    #[error("not a message of the gossip protocol")]
    Magic,
    /// A version that is not spoken here.
    #[error("version {0} of the gossip protocol is not spoken here")]
    Version(u8),
    /// Encrypted, and this node has no keys.
    #[error("it is encrypted, and this node has no key ('encrypt')")]
    Sealed,
    /// A value outside its range.
    #[error("invalid {0}")]
    Invalid(&'static str),
    /// Longer than allowed.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// No room in the output buffer.
    #[error("does not fit")]
    Full,
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Wraps what foca sends. Encryption is around that (`sealed`).
pub(crate) fn seal_datagram(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(DATAGRAM_OVERHEAD + plain.len());
    out.extend_from_slice(&DATAGRAM_MAGIC);
    out.push(VERSION);
    out.extend_from_slice(plain);
    out
}

/// Checks the envelope of a datagram and takes it off.
pub(crate) fn open_datagram(sealed: &[u8]) -> Result<&[u8]> {
    if is_sealed_datagram(sealed) {
        return Err(DecodeError::Sealed);
    }
    let rest = sealed
        .strip_prefix(&DATAGRAM_MAGIC)
        .ok_or(DecodeError::Magic)?;
    match rest.split_first() {
        Some((&VERSION, plain)) => Ok(plain),
        Some((&other, _)) => Err(DecodeError::Version(other)),
        None => Err(DecodeError::Truncated),
    }
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Asks to join the receiver's pool; all states both ways.
    Join = 1,
    /// All states both ways, between members; with a digest ([`Exchange::digest`]) only where they differ.
    Sync = 2,
    /// Asks for the receiver's own entry; brings the sender's.
    Fetch = 3,
    /// Brings the sender's own entry; only a receipt comes back.
    Push = 4,
    /// Asks for something about the receiver's keys.
    Keyring = 5,
    /// Answer: merged, and the states asked for.
    Accept = 128,
    /// Answer: not merged, and why.
    Refuse = 129,
    /// Answer: the receiver's keys.
    Keys = 130,
}

impl FrameKind {
    fn decode(byte: u8) -> Result<Self> {
        [
            Self::Join,
            Self::Sync,
            Self::Fetch,
            Self::Push,
            Self::Keyring,
            Self::Accept,
            Self::Refuse,
            Self::Keys,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
        .ok_or(DecodeError::Invalid("frame kind"))
    }
}

/// Wraps a payload into a frame.
pub(crate) fn seal_frame(kind: FrameKind, payload: &[u8]) -> Result<Vec<u8>> {
    if payload.len() > FRAME_MAX {
        return Err(DecodeError::TooLong("frame"));
    }
    let mut out = Vec::with_capacity(FRAME_HEAD + payload.len());
    out.extend_from_slice(&FRAME_MAGIC);
    out.push(VERSION);
    out.push(kind as u8);
    out.put_u32(payload.len() as u32);
    out.extend_from_slice(payload);
    Ok(out)
}

/// Reads a frame's head: its kind and the length of the payload that follows.
pub(crate) fn open_frame(head: &[u8; FRAME_HEAD]) -> Result<(FrameKind, usize)> {
    let mut reader = Reader(head);
    if reader.take(FRAME_MAGIC.len())? != FRAME_MAGIC {
        return Err(DecodeError::Magic);
    }
    match reader.u8()? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let kind = FrameKind::decode(reader.u8()?)?;
    let length = reader.u32()? as usize;
    if length > FRAME_MAX {
        return Err(DecodeError::TooLong("frame"));
    }
    Ok((kind, length))
}

/// Who speaks on a stream, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Random number of the process: tells a node that reached itself from one that meets its own copied id.
    pub(crate) instance: u64,
    /// Who speaks.
    pub(crate) identity: Identity,
    /// Whom the speaker means to reach; `None` when only an address is known. Keeps a pool from merging with a
    /// stranger that was given a former member's address.
    pub(crate) to: Option<Uuid>,
    /// The speaker's datacenter.
    pub(crate) datacenter: String,
}

/// What a node knows of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// SWIM's part: identity, incarnation and state.
    pub(crate) member: Member<Identity>,
    /// How long it has been down; zero while it is up.
    pub(crate) down_for: Duration,
    /// What was said about its staying, and in which generation.
    pub(crate) intent: Option<(u64, Intent)>,
    /// What it says of itself.
    pub(crate) record: Option<Record>,
}

/// What a node knows, in short: sums over what each of these has for a number, whatever their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Of members.
    pub(crate) states: u64,
    /// Of user events. A newcomer leaves out those of before it: they differ for long, and are few.
    pub(crate) events: u64,
}

/// A request or an accepting answer on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Who speaks.
    pub(crate) hello: Hello,
    /// What the speaker knows, as far as the kind of frame asks for it.
    pub(crate) entries: Vec<Entry>,
    /// The speaker's Lamport time of user events.
    pub(crate) event_clock: u64,
    /// The user events that it remembers, where all states are exchanged.
    pub(crate) events: Vec<UserEvent>,
    /// What the speaker knows, in short: with a [`FrameKind::Sync`], that all of it is wanted only where this differs,
    /// and with the answer, what the one that answers knows then.
    pub(crate) digest: Option<Digest>,
}

impl Exchange {
    /// The payload of a frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 256 * self.entries.len());
        out.put_u64(self.hello.instance);
        put_identity(&mut out, &self.hello.identity);
        match self.hello.to {
            None => out.put_u8(0),
            Some(id) => {
                out.put_u8(1);
                out.put_slice(id.as_bytes());
            }
        }
        put_text8(&mut out, &self.hello.datacenter);
        out.put_u32(self.entries.len() as u32);
        for entry in &self.entries {
            let start = out.len();
            out.put_u32(0);
            put_entry(&mut out, entry);
            let length = (out.len() - start - 4) as u32;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        out.put_u64(self.event_clock);
        out.put_u32(self.events.len() as u32);
        for event in &self.events {
            let start = out.len();
            out.put_u32(0);
            put_user_event(&mut out, event);
            let length = (out.len() - start - 4) as u32;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        if let Some(digest) = self.digest {
            out.put_u64(digest.states);
            out.put_u64(digest.events);
        }
        out
    }

    /// Reads a payload back.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self> {
        let mut reader = Reader(payload);
        let hello = Hello {
            instance: reader.u64()?,
            identity: reader.identity()?,
            to: match reader.u8()? {
                0 => None,
                1 => Some(reader.uuid()?),
                _ => return Err(DecodeError::Invalid("recipient")),
            },
            datacenter: reader.text8()?.to_owned(),
        };
        let count = reader.u32()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let length = reader.u32()? as usize;
            entries.push(Reader(reader.take(length)?).entry()?);
        }
        let (mut event_clock, mut events, mut digest) = (0, Vec::new(), None);
        // The first release said no more than that, others no more than the events.
        if !reader.0.is_empty() {
            event_clock = reader.u64()?;
            for _ in 0..reader.u32()? {
                let length = reader.u32()? as usize;
                events.push(Reader(reader.take(length)?).user_event()?);
            }
        }
        if !reader.0.is_empty() {
            digest = Some(Digest {
                states: reader.u64()?,
                events: reader.u64()?,
            });
        }
        Ok(Self {
            hello,
            entries,
            event_clock,
            events,
            digest,
        })
    }
}

/// What is passed on from member to member beside SWIM's own updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// What a member says of itself.
    Record(Uuid, Record),
    /// That a member has a record of this generation and version, too large for a datagram.
    Notice(Uuid, u64, u64),
    /// That a member is leaving, has left or shall be forgotten, as of this generation.
    Intent(Uuid, u64, Intent),
    /// What somebody said to everybody.
    User(UserEvent),
    /// Where whoever answers a probe is. Only with such an answer, and not passed on.
    Coordinate(Coordinate),
}

impl Item {
    /// The item's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Record(id, record) => {
                out.put_u8(1);
                out.put_slice(id.as_bytes());
                put_record(&mut out, record);
            }
            Self::Notice(id, generation, version) => {
                out.put_u8(2);
                out.put_slice(id.as_bytes());
                out.put_u64(*generation);
                out.put_u64(*version);
            }
            Self::Intent(id, generation, intent) => {
                out.put_u8(3);
                out.put_slice(id.as_bytes());
                out.put_u64(*generation);
                out.put_u8(*intent as u8);
            }
            Self::User(event) => {
                out.put_u8(4);
                put_user_event(&mut out, event);
            }
            Self::Coordinate(place) => {
                out.put_u8(5);
                put_coordinate(&mut out, place);
            }
        }
        out
    }

    /// Reads an item; `None` for a kind that a later version added.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>> {
        let mut reader = Reader(bytes);
        Ok(Some(match reader.u8()? {
            0 => return Err(DecodeError::Invalid("item kind")),
            1 => Self::Record(reader.uuid()?, reader.record()?),
            2 => Self::Notice(reader.uuid()?, reader.u64()?, reader.u64()?),
            3 => Self::Intent(reader.uuid()?, reader.u64()?, reader.intent()?),
            4 => Self::User(reader.user_event()?),
            5 => Self::Coordinate(reader.coordinate()?),
            _ => return Ok(None),
        }))
    }
}

/// Encodes what foca sends and decodes what it receives.
pub(crate) struct Codec {
    /// The own incarnation as last sent: foca does not tell it otherwise, and the TCP exchange needs it.
    pub(crate) incarnation: Arc<AtomicU16>,
    /// Weighs what is received before foca believes it.
    pub(crate) ledger: SharedLedger,
}

impl foca::Codec<Identity> for Codec {
    type Error = DecodeError;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<()> {
        self.incarnation
            .store(header.src_incarnation, Ordering::Relaxed);
        if let Message::Ping(number) = header.message {
            let mut ledger = self.ledger.lock();
            ledger.probes.sent(header.dst.id, number, Instant::now());
        }
        let mut out = Vec::with_capacity(256);
        put_identity(&mut out, &header.src);
        out.put_u16(header.src_incarnation);
        put_identity(&mut out, &header.dst);
        put_message(&mut out, &header.message);
        put_whole(buf, &out)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>> {
        let header = read_from(buf, |reader| {
            Ok(Header {
                src: reader.identity()?,
                src_incarnation: reader.u16()?,
                dst: reader.identity()?,
                message: reader.message()?,
            })
        })?;
        if let Message::Ack(number) = header.message {
            let mut ledger = self.ledger.lock();
            ledger
                .probes
                .answered(header.src.id, number, Instant::now());
        }
        Ok(header)
    }

    fn encode_member(&mut self, member: &Member<Identity>, buf: impl BufMut) -> Result<()> {
        let mut out = Vec::with_capacity(96);
        put_member(&mut out, member);
        put_whole(buf, &out)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>> {
        let member = read_from(buf, |reader| reader.member())?;
        Ok(self.ledger.lock().weigh(member))
    }
}

/// Adds an item to a datagram that answers a probe, if there is room. Other datagrams stay as they are.
pub(crate) fn add_to_answer(datagram: &mut Vec<u8>, item: &[u8]) {
    let mut reader = Reader(datagram);
    let mut message = || {
        reader.identity()?;
        reader.u16()?;
        reader.identity()?;
        reader.message()
    };
    let is_answer = matches!(message(), Ok(Message::Ack(_)));
    let room = DATAGRAM_MAX - DATAGRAM_OVERHEAD;
    if is_answer && datagram.len() + 2 + item.len() <= room {
        datagram.put_u16(item.len() as u16);
        datagram.put_slice(item);
    }
}

/// Whether tags can be carried: the limits that [`put_record`] would otherwise cut at.
pub(crate) fn tags_fit(tags: &Tags) -> bool {
    let lengths_fit = tags
        .iter()
        .all(|(name, value)| name.len() <= NAME_MAX && value.len() <= usize::from(u16::MAX));
    let total: usize = tags.iter().map(|(n, v)| n.len() + v.len() + 3).sum();
    lengths_fit && tags.len() <= TAGS_MAX && total + 32 <= RECORD_MAX
}

#[cfg(test)]
mod tests;
