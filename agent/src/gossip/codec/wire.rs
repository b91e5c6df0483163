//! Single values on the wire.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use foca::{Member, Message, State};
use uuid::Uuid;

use super::super::identity::Identity;
use super::super::ledger::{Intent, Record};
use super::super::user::UserEvent;
use super::{DecodeError, Entry, ITEM_MAX, NAME_MAX, RECORD_MAX, Result, TAGS_MAX};
use crate::coordinate::{Coordinate, DIMENSIONS};

/// Writes all of `bytes` or nothing.
pub(super) fn put_whole(mut buf: impl BufMut, bytes: &[u8]) -> Result<()> {
    if buf.remaining_mut() < bytes.len() {
        return Err(DecodeError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

/// Reads one value off the front of `buf`.
pub(super) fn read_from<T>(
    mut buf: impl Buf,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T>,
) -> Result<T> {
    let (value, used) = {
        let chunk = buf.chunk();
        let mut reader = Reader(chunk);
        (read(&mut reader)?, chunk.len() - reader.0.len())
    };
    buf.advance(used);
    Ok(value)
}

/// Writes a string whose length fits one byte; longer ones are refused where they enter the program.
pub(super) fn put_text8(out: &mut Vec<u8>, text: &str) {
    let length = text.len().min(NAME_MAX);
    out.put_u8(length as u8);
    out.put_slice(&text.as_bytes()[..length]);
}

pub(super) fn put_identity(out: &mut Vec<u8>, identity: &Identity) {
    out.put_slice(identity.id.as_bytes());
    out.put_u64(identity.generation);
    match identity.addr.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(identity.addr.port());
    put_text8(out, &identity.name);
}

pub(super) fn put_member(out: &mut Vec<u8>, member: &Member<Identity>) {
    put_identity(out, member.id());
    out.put_u16(member.incarnation());
    out.put_u8(match member.state() {
        State::Alive => 1,
        State::Suspect => 2,
        State::Down => 3,
    });
}

pub(super) fn put_message(out: &mut Vec<u8>, message: &Message<Identity>) {
    let (tag, who, number) = match message {
        Message::Ping(n) => (1, None, Some(*n)),
        Message::Ack(n) => (2, None, Some(*n)),
        Message::PingReq {
            target,
            probe_number,
        } => (3, Some(target), Some(*probe_number)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => (4, Some(origin), Some(*probe_number)),
        Message::IndirectAck {
            target,
            probe_number,
        } => (5, Some(target), Some(*probe_number)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => (6, Some(origin), Some(*probe_number)),
        Message::Announce => (7, None, None),
        Message::Feed => (8, None, None),
        Message::Gossip => (9, None, None),
        Message::Broadcast => (10, None, None),
        Message::TurnUndead => (11, None, None),
    };
    out.put_u8(tag);
    if let Some(identity) = who {
        put_identity(out, identity);
    }
    if let Some(number) = number {
        out.put_u8(number);
    }
}

pub(super) fn put_record(out: &mut Vec<u8>, record: &Record) {
    out.put_u64(record.generation);
    out.put_u64(record.version);
    out.put_u16(record.tags.len().min(TAGS_MAX) as u16);
    for (name, value) in record.tags.iter().take(TAGS_MAX) {
        put_text8(out, name);
        let length = value.len().min(usize::from(u16::MAX));
        out.put_u16(length as u16);
        out.put_slice(&value.as_bytes()[..length]);
    }
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_member(out, &entry.member);
    out.put_u64(u64::try_from(entry.down_for.as_millis()).unwrap_or(u64::MAX));
    match entry.intent {
        None => out.put_u8(0),
        Some((generation, intent)) => {
            out.put_u8(intent as u8);
            out.put_u64(generation);
        }
    }
    match &entry.record {
        None => out.put_u8(0),
        Some(record) => {
            out.put_u8(1);
            put_record(out, record);
        }
    }
}

pub(super) fn put_coordinate(out: &mut Vec<u8>, place: &Coordinate) {
    for number in place.numbers() {
        out.put_u64(number.to_bits());
    }
}

/// Writes a user event. Its parts are bounded where it is fired.
pub(super) fn put_user_event(out: &mut Vec<u8>, event: &UserEvent) {
    out.put_slice(event.id.as_bytes());
    out.put_u64(event.ltime);
    let texts = [&event.name, &event.node, &event.service, &event.tag];
    let texts = texts.map(|text| text.as_bytes());
    for part in texts.into_iter().chain([&event.payload[..]]) {
        let length = part.len().min(usize::from(u16::MAX));
        out.put_u16(length as u16);
        out.put_slice(&part[..length]);
    }
}

/// Reads values off the front of a slice.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    pub(super) fn text(&mut self, length: usize) -> Result<&'a str> {
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Invalid("text"))
    }

    pub(super) fn text8(&mut self) -> Result<&'a str> {
        let length = self.u8()?.into();
        self.text(length)
    }

    pub(super) fn identity(&mut self) -> Result<Identity> {
        let id = self.uuid()?;
        let generation = self.u64()?;
        let ip = match self.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(DecodeError::Invalid("address family")),
        };
        let port = self.u16()?;
        let name = self.text8()?;
        if name.is_empty() {
            return Err(DecodeError::Invalid("name"));
        }
        Ok(Identity {
            id,
            name: name.into(),
            addr: SocketAddr::new(ip, port),
            generation,
        })
    }

    pub(super) fn member(&mut self) -> Result<Member<Identity>> {
        let identity = self.identity()?;
        let incarnation = self.u16()?;
        let state = match self.u8()? {
            1 => State::Alive,
            2 => State::Suspect,
            3 => State::Down,
            _ => return Err(DecodeError::Invalid("state")),
        };
        Ok(Member::new(identity, incarnation, state))
    }

    pub(super) fn message(&mut self) -> Result<Message<Identity>> {
        Ok(match self.u8()? {
            1 => Message::Ping(self.u8()?),
            2 => Message::Ack(self.u8()?),
            3 => Message::PingReq {
                target: self.identity()?,
                probe_number: self.u8()?,
            },
            4 => Message::IndirectPing {
                origin: self.identity()?,
                probe_number: self.u8()?,
            },
            5 => Message::IndirectAck {
                target: self.identity()?,
                probe_number: self.u8()?,
            },
            6 => Message::ForwardedAck {
                origin: self.identity()?,
                probe_number: self.u8()?,
            },
            7 => Message::Announce,
            8 => Message::Feed,
            9 => Message::Gossip,
            10 => Message::Broadcast,
            11 => Message::TurnUndead,
            _ => return Err(DecodeError::Invalid("message")),
        })
    }

    pub(super) fn intent(&mut self) -> Result<Intent> {
        Intent::decode(self.u8()?).ok_or(DecodeError::Invalid("intent"))
    }

    pub(super) fn user_event(&mut self) -> Result<UserEvent> {
        if self.0.len() > ITEM_MAX {
            return Err(DecodeError::TooLong("user event"));
        }
        let (id, ltime) = (self.uuid()?, self.u64()?);
        let text = |reader: &mut Self| {
            let length = reader.u16()?.into();
            Ok(reader.text(length)?.to_owned())
        };
        let (name, node) = (text(self)?, text(self)?);
        let (service, tag) = (text(self)?, text(self)?);
        let length = self.u16()?.into();
        Ok(UserEvent {
            id,
            ltime,
            name,
            node,
            service,
            tag,
            payload: Bytes::copy_from_slice(self.take(length)?),
        })
    }

    pub(super) fn coordinate(&mut self) -> Result<Coordinate> {
        let mut numbers = [0.0; DIMENSIONS + 3];
        for number in &mut numbers {
            *number = f64::from_bits(self.u64()?);
        }
        Coordinate::from_numbers(numbers).ok_or(DecodeError::Invalid("coordinate"))
    }

    pub(super) fn record(&mut self) -> Result<Record> {
        if self.0.len() > RECORD_MAX {
            return Err(DecodeError::TooLong("record"));
        }
        let generation = self.u64()?;
        let version = self.u64()?;
        let count = usize::from(self.u16()?);
        if count > TAGS_MAX {
            return Err(DecodeError::TooLong("list of tags"));
        }
        let mut tags = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.text8()?;
            let length = self.u16()?.into();
            tags.push((name, self.text(length)?));
        }
        Ok(Record {
            generation,
            version,
            tags: tags.into_iter().collect(),
        })
    }

    pub(super) fn entry(&mut self) -> Result<Entry> {
        let member = self.member()?;
        let down_for = Duration::from_millis(self.u64()?);
        let intent = match self.u8()? {
            0 => None,
            byte => {
                let intent = Intent::decode(byte).ok_or(DecodeError::Invalid("intent"))?;
                Some((self.u64()?, intent))
            }
        };
        let record = match self.u8()? {
            0 => None,
            1 => Some(self.record()?),
            _ => return Err(DecodeError::Invalid("record")),
        };
        Ok(Entry {
            member,
            down_for,
            intent,
            record,
        })
    }
}
