//! What is opened, what is not, and how keys change.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::keyring::KeyText;
use super::*;
use crate::env::{BoxStream, MemoryDisk, SeededRandom};

fn env(seed: u64) -> Env {
    Env {
        disk: Arc::new(MemoryDisk::default()),
        random: Arc::new(SeededRandom::new(seed)),
        ..Env::real()
    }
}

fn key(byte: u8) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode([byte; 32])
}

fn encryption(byte: u8) -> Encryption {
    Encryption {
        key: Some(key(byte).parse().expect("a key")),
        file: None,
        verify_incoming: true,
        verify_outgoing: true,
    }
}

fn sealer(seed: u64, pool: &str, byte: u8) -> Sealer {
    let opened = Sealer::open(&env(seed), pool, &encryption(byte));
    opened.expect("it opens").expect("there is a key")
}

fn open(by: &Sealer, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut bytes = sealed.to_vec();
    by.open_in_place(&mut bytes).map(<[u8]>::to_vec)
}

#[test]
fn a_datagram_is_opened_once_and_hides_what_it_holds() {
    let (a, b) = (sealer(1, "dc1", 7), sealer(2, "dc1", 7));
    let (one, other) = (a.seal(b"node-name"), a.seal(b"node-name"));
    assert!(one.len() == b"node-name".len() + DATAGRAM_OVERHEAD);
    assert!(!one.windows(9).any(|part| part == b"node-name"));
    assert_eq!(open(&b, &other), Ok(b"node-name".to_vec()));
    assert_eq!(open(&b, &one), Ok(b"node-name".to_vec()));
    assert_eq!(open(&b, &one), Err(OpenError::Replayed));
    assert_eq!(open(&b, &other), Err(OpenError::Replayed));
}

#[test]
fn what_was_tampered_with_is_not_opened_and_does_not_count_as_taken() {
    let (a, b) = (sealer(1, "dc1", 7), sealer(2, "dc1", 7));
    let sealed = a.seal(b"plain");
    for at in 0..sealed.len() {
        let mut wrong = sealed.clone();
        wrong[at] ^= 1;
        assert!(open(&b, &wrong).is_err(), "byte {at}");
    }
    for length in 0..sealed.len() {
        assert!(open(&b, &sealed[..length]).is_err(), "{length} bytes");
    }
    assert_eq!(open(&b, &sealed), Ok(b"plain".to_vec()));
    // Of a sender that is known by now, likewise.
    let sealed = a.seal(b"more");
    for at in 0..sealed.len() {
        let mut wrong = sealed.clone();
        wrong[at] ^= 1;
        assert!(open(&b, &wrong).is_err(), "byte {at}");
    }
    assert_eq!(open(&b, &sealed), Ok(b"more".to_vec()));
}

#[test]
fn another_key_and_another_pool_open_nothing() {
    let sealed = sealer(1, "dc1", 7).seal(b"plain");
    assert_eq!(open(&sealer(2, "dc1", 8), &sealed), Err(OpenError::NoKey));
    assert_eq!(open(&sealer(2, "dc2", 7), &sealed), Err(OpenError::NoKey));
    assert_eq!(open(&sealer(2, "dc1", 7), b"plain"), Err(OpenError::Plain));
    let moved = Encryption {
        verify_incoming: false,
        ..encryption(7)
    };
    let moved = Sealer::open(&env(3), "dc1", &moved).unwrap().unwrap();
    assert_eq!(open(&moved, b"plain"), Ok(b"plain".to_vec()));
    assert_eq!(open(&moved, &sealed), Ok(b"plain".to_vec()));
}

#[test]
fn a_rotation_loses_nothing_and_a_removed_key_opens_nothing() {
    let (a, b) = (sealer(1, "dc1", 7), sealer(2, "dc1", 7));
    let op = |op: fn(KeyText) -> KeyringOp| op(KeyText(key(8)));
    let before = a.seal(b"before");
    for each in [&a, &b] {
        each.change(&op(KeyringOp::Install)).unwrap();
    }
    a.change(&op(KeyringOp::Use)).unwrap();
    assert_eq!(open(&b, &a.seal(b"new")), Ok(b"new".to_vec()));
    assert_eq!(open(&a, &b.seal(b"old")), Ok(b"old".to_vec()));
    assert_eq!(open(&b, &before), Ok(b"before".to_vec()));
    assert_eq!(open(&b, &before), Err(OpenError::Replayed));
    let late = b.seal(b"late");
    b.change(&op(KeyringOp::Use)).unwrap();
    for each in [&a, &b] {
        each.change(&KeyringOp::Remove(KeyText(key(7)))).unwrap();
    }
    assert_eq!(open(&a, &late), Err(OpenError::NoKey));
    assert_eq!(open(&a, &b.seal(b"done")), Ok(b"done".to_vec()));
    assert_eq!(a.keys(), [key(8)]);
}

#[test]
fn the_keyring_is_kept_and_wins_over_the_settings() {
    let env = env(1);
    let kept = |byte| Encryption {
        file: Some(PathBuf::from("/d/local.keyring")),
        ..encryption(byte)
    };
    env.disk.create_dir_all("/d".as_ref()).unwrap();
    let first = Sealer::open(&env, "dc1", &kept(7)).unwrap().unwrap();
    first
        .change(&KeyringOp::Install(KeyText(key(8))))
        .expect("a key");
    first
        .change(&KeyringOp::Use(KeyText(key(8))))
        .expect("it is there");
    let second = Sealer::open(&env, "dc1", &kept(9)).unwrap().unwrap();
    assert_eq!(second.keys(), [key(8), key(7)]);
    let without = Encryption {
        key: None,
        ..kept(9)
    };
    let third = Sealer::open(&env, "dc1", &without).unwrap().unwrap();
    assert_eq!(third.keys(), second.keys());
    let file = env.disk.create("/d/local.keyring".as_ref()).unwrap();
    file.write_all_at(b"[\"half", 0).unwrap();
    let error = Sealer::open(&env, "dc1", &kept(7)).err().expect("cut");
    assert!(error.contains("/d/local.keyring cannot be read"), "{error}");
}

#[test]
fn no_datagram_makes_the_opener_panic() {
    let a = sealer(1, "dc1", 7);
    let seeds = [
        a.seal(b"plain"),
        a.seal(&[0; 900]),
        b"\xC7\x5F\x01".to_vec(),
    ];
    crate::fuzz::run("sealed-datagram", &seeds, |bytes| {
        match open(&sealer(2, "dc1", 7), bytes) {
            Ok(plain) => format!("{} bytes", plain.len()),
            Err(error) => error.to_string(),
        }
    });
}

#[tokio::test]
async fn a_stream_is_opened_by_whoever_has_the_key_and_never_twice() {
    let (a, b) = (sealer(1, "dc1", 7), sealer(2, "dc1", 7));
    let (ours, theirs) = tokio::io::duplex(4096);
    let (mut ours, mut theirs): (BoxStream, BoxStream) = (Box::new(ours), Box::new(theirs));
    let answering = async {
        let mut first = [0; 4];
        theirs.read_exact(&mut first).await.unwrap();
        assert!(is_sealed(&first));
        let (frame, key) = b.listen(&mut theirs).await.unwrap().unwrap();
        assert_eq!(frame, b"question");
        answer(&mut theirs, &key, b"answer").await.unwrap();
    };
    let (asked, ()) = tokio::join!(a.ask(&mut ours, b"question"), answering);
    assert_eq!(asked.unwrap(), b"answer");

    // One that was recorded: the other side says something else first.
    let recorded = {
        let keys = a.of_stream(&[1; NAME], &[2; NAME]);
        let mut sealed = b"question".to_vec();
        let number = nonce(stream::Direction::Request as u64);
        let seal = keys[0].seal_in_place_append_tag(number, Aad::empty(), &mut sealed);
        seal.unwrap();
        sealed
    };
    let (ours, theirs) = tokio::io::duplex(4096);
    let (mut ours, mut theirs): (BoxStream, BoxStream) = (Box::new(ours), Box::new(theirs));
    let replaying = async {
        ours.write_all(&[1; NAME]).await.unwrap();
        let length = recorded.len() as u32;
        ours.write_all(&length.to_be_bytes()).await.unwrap();
        ours.write_all(&recorded).await.unwrap();
    };
    let (heard, ()) = tokio::join!(b.listen(&mut theirs), replaying);
    assert!(matches!(heard, Ok(Err(OpenError::NoKey))));
}
