use std::sync::atomic::AtomicU16;

use foca::{Codec as _, Message, State};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn identities() -> impl Strategy<Value = Identity> {
    let addresses = (any::<std::net::IpAddr>(), any::<u16>());
    let names = proptest::string::string_regex("[a-zA-Zé.-]{1,60}").unwrap();
    (any::<u128>(), names, addresses, any::<u64>()).prop_map(|(id, name, addr, generation)| {
        Identity {
            id: Uuid::from_u128(id),
            name: name.as_str().into(),
            addr: addr.into(),
            generation,
        }
    })
}

fn members() -> impl Strategy<Value = Member<Identity>> {
    let states = prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Down)];
    (identities(), any::<u16>(), states).prop_map(|(id, inc, state)| Member::new(id, inc, state))
}

fn intents() -> impl Strategy<Value = Intent> {
    (1_u8..=4).prop_map(|byte| Intent::decode(byte).unwrap())
}

fn records() -> impl Strategy<Value = Record> {
    let tags = btree_map("[a-z_]{0,20}", "\\PC{0,40}", 0..8);
    (any::<u64>(), any::<u64>(), tags).prop_map(|(generation, version, tags)| Record {
        generation,
        version,
        tags: tags.into_iter().collect(),
    })
}

fn entries() -> impl Strategy<Value = Entry> {
    let intent = proptest::option::of((any::<u64>(), intents()));
    let record = proptest::option::of(records());
    (members(), any::<u64>(), intent, record).prop_map(|(member, down, intent, record)| Entry {
        member,
        down_for: Duration::from_millis(down),
        intent,
        record,
    })
}

fn exchanges() -> impl Strategy<Value = Exchange> {
    let hello = (
        any::<u64>(),
        identities(),
        proptest::option::of(any::<u128>()),
        "[a-z0-9-]{0,20}",
    );
    let events = (any::<u64>(), vec(user_events(), 0..4));
    let digest = (any::<u64>(), any::<u64>());
    let digest = digest.prop_map(|(states, events)| Digest { states, events });
    let rest = (events, proptest::option::of(digest));
    (hello, vec(entries(), 0..6), rest).prop_map(|(hello, entries, rest)| {
        let ((event_clock, events), digest) = rest;
        let (instance, identity, to, datacenter) = hello;
        Exchange {
            hello: Hello {
                instance,
                identity,
                to: to.map(Uuid::from_u128),
                datacenter,
            },
            entries,
            event_clock,
            events,
            digest,
        }
    })
}

fn coordinates() -> impl Strategy<Value = Coordinate> {
    let numbers = proptest::array::uniform11(-1e3..1e3_f64);
    numbers.prop_map(|numbers| Coordinate::from_numbers(numbers).unwrap())
}

fn user_events() -> impl Strategy<Value = UserEvent> {
    let texts = ("[a-z]{1,20}", "\\PC{0,9}", "\\PC{0,9}", "\\PC{0,9}");
    let rest = (any::<u128>(), any::<u64>(), vec(any::<u8>(), 0..100));
    (rest, texts).prop_map(
        |((id, ltime, payload), (name, node, service, tag))| UserEvent {
            id: Uuid::from_u128(id),
            ltime,
            name,
            payload: payload.into(),
            node,
            service,
            tag,
        },
    )
}

fn items() -> impl Strategy<Value = Item> {
    let id = any::<u128>().prop_map(Uuid::from_u128);
    prop_oneof![
        (id.clone(), records()).prop_map(|(id, record)| Item::Record(id, record)),
        (id.clone(), any::<u64>(), any::<u64>()).prop_map(|(id, g, v)| Item::Notice(id, g, v)),
        (id, any::<u64>(), intents()).prop_map(|(id, g, intent)| Item::Intent(id, g, intent)),
        user_events().prop_map(Item::User),
        coordinates().prop_map(Item::Coordinate),
    ]
}

fn messages() -> impl Strategy<Value = Message<Identity>> {
    let with_number = |make: fn(u8) -> Message<Identity>| any::<u8>().prop_map(make);
    let with_both =
        |make: fn((Identity, u8)) -> Message<Identity>| (identities(), any::<u8>()).prop_map(make);
    prop_oneof![
        with_number(Message::Ping),
        with_number(Message::Ack),
        with_both(|(target, probe_number)| Message::PingReq {
            target,
            probe_number
        }),
        with_both(|(origin, probe_number)| Message::IndirectPing {
            origin,
            probe_number
        }),
        with_both(|(target, probe_number)| Message::IndirectAck {
            target,
            probe_number
        }),
        with_both(|(origin, probe_number)| Message::ForwardedAck {
            origin,
            probe_number
        }),
        Just(Message::Announce),
        Just(Message::Feed),
        Just(Message::Gossip),
        Just(Message::Broadcast),
        Just(Message::TurnUndead),
    ]
}

fn codec() -> super::Codec {
    super::Codec {
        incarnation: Arc::new(AtomicU16::new(0)),
        ledger: SharedLedger::new(super::super::ledger::Ledger::new(Uuid::nil())),
    }
}

proptest! {
    #[test]
    fn exchanges_come_back(exchange in exchanges()) {
        prop_assert_eq!(Exchange::decode(&exchange.encode()), Ok(exchange));
    }

    #[test]
    fn a_cut_exchange_is_an_error(exchange in exchanges(), cut in any::<prop::sample::Index>()) {
        let bytes = exchange.encode();
        // What ends behind its entries is of the first release, which had no events.
        let decoded = Exchange::decode(&bytes[..cut.index(bytes.len())]);
        let is_first = |found: Exchange| found.event_clock == 0 && found.events.is_empty();
        prop_assert!(decoded.map_or(true, is_first));
    }

    #[test]
    fn items_come_back(item in items()) {
        prop_assert_eq!(Item::decode(&item.encode()), Ok(Some(item)));
    }

    #[test]
    fn headers_come_back_and_tell_the_incarnation(
        src in identities(),
        src_incarnation in any::<u16>(),
        dst in identities(),
        message in messages(),
    ) {
        let header = Header { src, src_incarnation, dst, message };
        let mut codec = codec();
        let mut bytes = Vec::new();
        codec.encode_header(&header, &mut bytes).unwrap();
        prop_assert_eq!(codec.incarnation.load(Ordering::Relaxed), src_incarnation);
        bytes.extend_from_slice(b"rest");
        let mut rest = &bytes[..];
        prop_assert_eq!(codec.decode_header(&mut rest), Ok(header));
        prop_assert_eq!(rest, b"rest");
    }

    #[test]
    fn a_member_is_written_whole_or_not_at_all(member in members(), room in 0_usize..120) {
        let mut codec = codec();
        let mut bytes = Vec::new();
        match codec.encode_member(&member, (&mut bytes).limit(room)) {
            Ok(()) => prop_assert_eq!(codec.decode_member(&mut &bytes[..]), Ok(member)),
            Err(e) => {
                prop_assert_eq!(e, DecodeError::Full);
                prop_assert!(bytes.is_empty());
            }
        }
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Exchange::decode(&bytes);
        let _ = Item::decode(&bytes);
        let _ = open_datagram(&bytes);
        let _ = codec().decode_header(&mut &bytes[..]);
        let _ = codec().decode_member(&mut &bytes[..]);
    }

    #[test]
    fn a_damaged_exchange_never_panics(
        exchange in exchanges(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = exchange.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Exchange::decode(&bytes);
    }

    #[test]
    fn datagrams_come_back(bytes in vec(any::<u8>(), 0..100)) {
        let sealed = seal_datagram(&bytes);
        prop_assert_eq!(open_datagram(&sealed), Ok(&bytes[..]));
    }
}

#[test]
fn a_frame_says_its_kind_and_length() {
    let frame = seal_frame(FrameKind::Sync, b"payload").unwrap();
    let head = frame[..FRAME_HEAD].try_into().unwrap();
    assert_eq!(open_frame(head), Ok((FrameKind::Sync, 7)));
}

#[test]
fn frames_of_strangers_are_refused() {
    let good = seal_frame(FrameKind::Join, b"").unwrap();
    let altered = |at: usize, byte: u8| {
        let mut head: [u8; FRAME_HEAD] = good[..].try_into().unwrap();
        head[at] = byte;
        open_frame(&head)
    };
    assert_eq!(open_frame(b"HTTP/1.1 4"), Err(DecodeError::Magic));
    assert_eq!(altered(4, 9), Err(DecodeError::Version(9)));
    assert_eq!(altered(5, 77), Err(DecodeError::Invalid("frame kind")));
    assert_eq!(altered(6, 0xFF), Err(DecodeError::TooLong("frame")));
}

#[test]
fn an_announced_count_does_not_allocate() {
    let exchange = Exchange {
        hello: Hello {
            instance: 1,
            identity: Identity {
                id: Uuid::nil(),
                name: "A".into(),
                addr: "127.0.0.1:1".parse().unwrap(),
                generation: 1,
            },
            to: None,
            datacenter: String::new(),
        },
        entries: Vec::new(),
        event_clock: 7,
        events: Vec::new(),
        digest: None,
    };
    let bytes = exchange.encode();
    // Of events, and of entries.
    for end in [bytes.len(), bytes.len() - 12] {
        let mut cut = bytes[..end].to_vec();
        cut[end - 4..].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Exchange::decode(&cut), Err(DecodeError::Truncated));
    }
    // The first release ended after the entries.
    let first = Exchange {
        event_clock: 0,
        ..exchange
    };
    assert_eq!(Exchange::decode(&bytes[..bytes.len() - 12]), Ok(first));
}

#[test]
fn a_later_versions_items_are_passed_over() {
    assert_eq!(Item::decode(&[200, 1, 2]), Ok(None));
    let mut longer = Item::Notice(Uuid::nil(), 1, 2).encode();
    longer.push(9);
    assert_eq!(
        Item::decode(&longer),
        Ok(Some(Item::Notice(Uuid::nil(), 1, 2)))
    );
}

#[test]
fn tags_beyond_the_limits_do_not_fit() {
    let tags = |name: usize, value: usize| Tags::from([("n".repeat(name), "v".repeat(value))]);
    assert!(tags_fit(&tags(255, 20_000)));
    assert!(!tags_fit(&tags(256, 1)));
    assert!(!tags_fit(&tags(1, RECORD_MAX)));
    let many = (0..=TAGS_MAX).map(|n| (n.to_string(), String::new()));
    assert!(!tags_fit(&many.collect()));
}

/// The word for an outcome: what kind of value, or which error.
fn word<T, E: std::fmt::Display>(kind: &str, result: std::result::Result<T, E>) -> String {
    match result {
        Ok(_) => format!("{kind}: ok"),
        Err(error) => format!("{kind}: {error}"),
    }
}

#[test]
fn no_datagram_makes_the_decoders_panic() {
    let src = Identity {
        id: uuid::Uuid::from_u128(1),
        name: "A".into(),
        addr: "127.0.0.1:8301".parse().unwrap(),
        generation: 3,
    };
    let header = Header {
        src: src.clone(),
        src_incarnation: 1,
        dst: src,
        message: Message::Gossip,
    };
    let mut plain = Vec::new();
    codec().encode_header(&header, &mut plain).unwrap();
    crate::fuzz::run("gossip-datagram", &[seal_datagram(&plain)], |bytes| {
        let plain = match open_datagram(bytes) {
            Ok(plain) => plain,
            Err(error) => return error.to_string(),
        };
        let mut codec = codec();
        let mut rest = plain;
        let header = word("header", codec.decode_header(&mut rest));
        let member = word("member", codec.decode_member(&mut rest));
        let item = match Item::decode(plain) {
            Ok(item) => format!("item: {}", item.is_some()),
            Err(error) => error.to_string(),
        };
        format!("{header}, {member}, {item}")
    });
}

#[test]
fn no_frame_of_an_exchange_makes_the_decoder_panic() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let made = (0..4).map(|_| {
        let tree = exchanges().new_tree(&mut runner).unwrap();
        tree.current().encode()
    });
    crate::fuzz::run("gossip-exchange", &made.collect::<Vec<_>>(), |bytes| {
        if let Some(head) = bytes.first_chunk() {
            let _ = open_frame(head);
        }
        word("exchange", Exchange::decode(bytes))
    });
}
