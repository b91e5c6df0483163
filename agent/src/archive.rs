//! A saved state as a file: what `snapshot save` writes and `snapshot restore` reads. Pure.
//!
//! Not Consul's format, whose content is Consul's own memory layout. Numbers are little endian:
//!
//! ```text
//! magic, u32 length, JSON of About      the header
//! bytes                                 what `Store::encode` wrote
//! u32 CRC32C                            of everything before it
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 8] = *b"CCSTATE\n";

/// How an archive of Consul begins, which is compressed.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Largest archive that is taken back: it is held in memory while it is checked.
pub const ARCHIVE_BYTES_MAX: usize = 1 << 30;

/// Longest header that is believed.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Version of the format.
const VERSION: u32 = 1;

/// What a saved state says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct About {
    /// `TERM-INDEX-MILLISECONDS`.
    #[serde(rename = "ID")]
    pub id: String,
    /// Bytes of the state.
    pub size: u64,
    /// The log index of the last command in it.
    pub index: u64,
    /// The term of the leader that saved it.
    pub term: u64,
    /// Of the format.
    pub version: u32,
}

impl About {
    /// Describes a state that is saved now.
    pub fn new(term: u64, index: u64, unix_ms: u64, size: u64) -> Self {
        Self {
            id: format!("{term}-{index}-{unix_ms}"),
            size,
            index,
            term,
            version: VERSION,
        }
    }
}

/// Why bytes are no saved state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Made by Consul.
    #[error(
        "this is an archive of Consul, which this agent cannot restore: export the keys there with 'consul kv export' and import them here with 'kv import'"
    )]
    OfConsul,
    /// Something else.
    #[error("this is no saved state: its first bytes are not those of one")]
    Foreign,
    /// It ends too early, or something in it has changed.
    #[error("the saved state is cut or damaged: {0}")]
    Damaged(&'static str),
    /// A newer program made it.
    #[error("the saved state is of version {found}, and this agent understands version {VERSION}")]
    Version {
        /// What it says.
        found: u32,
    },
}

/// What stands before the state.
pub fn header(about: &About) -> Vec<u8> {
    let json = serde_json::to_vec(about).expect("numbers and a text have a JSON form");
    let mut bytes = MAGIC.to_vec();
    bytes.extend((json.len() as u32).to_le_bytes());
    bytes.extend(json);
    bytes
}

/// All of it in pieces, of which the state's are shared.
pub fn write(about: &About, state: Vec<Bytes>) -> Vec<Bytes> {
    let mut pieces = vec![Bytes::from(header(about))];
    pieces.extend(state);
    let crc = |crc, piece: &Bytes| crc32c::crc32c_append(crc, piece);
    let crc = pieces.iter().fold(0, crc);
    pieces.push(Bytes::copy_from_slice(&crc.to_le_bytes()));
    pieces
}

/// Takes a saved state apart. The state itself is not looked into.
///
/// # Errors
/// When it is none, or not whole.
pub fn read(bytes: &Bytes) -> Result<(About, Bytes), Error> {
    if bytes.starts_with(&GZIP) {
        return Err(Error::OfConsul);
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(Error::Foreign);
    }
    let cut = Error::Damaged("it ends too early");
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
        return Err(cut);
    };
    let Some((len, rest)) = body.get(MAGIC.len()..).and_then(<[u8]>::split_first_chunk) else {
        return Err(cut);
    };
    let len = u32::from_le_bytes(*len) as usize;
    let Some(json) = rest.get(..len).filter(|_| len <= HEADER_BYTES_MAX) else {
        return Err(cut);
    };
    let about = serde_json::from_slice::<About>(json)
        .map_err(|_| Error::Damaged("its header cannot be read"))?;
    if about.version != VERSION {
        return Err(Error::Version {
            found: about.version,
        });
    }
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(Error::Damaged("it does not have its checksum"));
    }
    let state = bytes.slice(MAGIC.len() + 4 + len..body.len());
    if state.len() as u64 != about.size {
        return Err(Error::Damaged("it does not have its length"));
    }
    Ok((about, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> (About, Bytes) {
        let about = About::new(3, 9, 1000, 6);
        let pieces = write(&about, vec![Bytes::from("sta"), Bytes::from("te!")]);
        (about, pieces.concat().into())
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (about, bytes) = archive();
        assert_eq!(about.id, "3-9-1000");
        assert_eq!(read(&bytes), Ok((about, Bytes::from("state!"))));
    }

    #[test]
    fn every_cut_and_every_changed_bit_is_found() {
        let (_, bytes) = archive();
        for len in 0..bytes.len() {
            assert!(read(&bytes.slice(..len)).is_err(), "cut at {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged.into()).is_err(), "bit {bit}");
        }
        let padded = [&bytes[..], b"x"].concat();
        assert!(read(&padded.into()).is_err());
    }

    #[test]
    fn archives_of_consul_are_told_apart() {
        let error = read(&Bytes::from_static(&[0x1f, 0x8b, 8, 0])).unwrap_err();
        assert_eq!(error, Error::OfConsul);
        assert_eq!(read(&Bytes::from("{}")), Err(Error::Foreign));
    }

    #[test]
    fn changed_archives_do_no_harm() {
        let (_, bytes) = archive();
        crate::fuzz::run("archive", &[bytes.to_vec()], |bytes| {
            match read(&Bytes::copy_from_slice(bytes)) {
                Ok((about, _)) => format!("version {}", about.version),
                Err(error) => error.to_string(),
            }
        });
    }
}
