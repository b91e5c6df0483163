//! Streams: one request and one answer, under a key that both sides made up.

use std::io;
use std::sync::PoisonError;

use ring::aead::{Aad, LessSafeKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::codec::{FRAME_HEAD, FRAME_MAX};
use super::{NAME, OpenError, Sealer, TAG, derive, noise, nonce};
use crate::env::BoxStream;

/// First bytes of a sealed stream; the last is a version.
const STREAM_MAGIC: [u8; 4] = [0xC7, b'g', b'e', 1];

impl Sealer {
    /// The keys that open a stream, for what both sides said first; the first one seals it.
    pub(super) fn of_stream(&self, asker: &[u8; NAME], answerer: &[u8; NAME]) -> Vec<LessSafeKey> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let salt = [*asker, *answerer].concat();
        let derived = ring
            .keys
            .keys()
            .iter()
            .map(|key| derive(key, &salt, &[b"gossip stream", self.pool.as_bytes()]));
        derived.collect()
    }

    /// Sends a request and reads its answer, both sealed.
    pub(in crate::gossip) async fn ask(
        &self,
        stream: &mut BoxStream,
        frame: &[u8],
    ) -> io::Result<Vec<u8>> {
        let own = noise(&*self.env.random);
        stream.write_all(&STREAM_MAGIC).await?;
        stream.write_all(&own).await?;
        stream.flush().await?;
        let mut theirs = [0; NAME];
        let read = stream.read_exact(&mut theirs).await;
        read.map_err(|error| match was_closed(&error) {
            true => io::Error::other(
                "it closed the connection: it may not encrypt its gossip, as this node does",
            ),
            false => error,
        })?;
        let keys = self.of_stream(&own, &theirs);
        let Some(key) = keys.first() else {
            return Err(io::Error::other("there is no key"));
        };
        write_sealed(stream, key, Direction::Request, frame).await?;
        let answer = read_sealed(stream)
            .await
            .map_err(|error| match was_closed(&error) {
                true => io::Error::other(
                    "it closed the connection: it may have none of this node's gossip keys",
                ),
                false => error,
            })?;
        opened(key, Direction::Answer, answer).ok_or_else(|| io::Error::other(OpenError::NoKey))
    }

    /// Reads the request of a sealed stream behind its first bytes; with it the key for the answer.
    pub(in crate::gossip) async fn listen(
        &self,
        stream: &mut BoxStream,
    ) -> io::Result<Result<(Vec<u8>, LessSafeKey), OpenError>> {
        let mut theirs = [0; NAME];
        stream.read_exact(&mut theirs).await?;
        let own = noise(&*self.env.random);
        stream.write_all(&own).await?;
        stream.flush().await?;
        let request = read_sealed(stream).await?;
        for key in self.of_stream(&theirs, &own) {
            if let Some(frame) = opened(&key, Direction::Request, request.clone()) {
                return Ok(Ok((frame, key)));
            }
        }
        Ok(Err(OpenError::NoKey))
    }
}

/// Whether the other side ended it, with or without regard for what it had not read.
pub(in crate::gossip) fn was_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Whether a stream's first bytes say that it is sealed.
pub(in crate::gossip) fn is_sealed(first: &[u8; 4]) -> bool {
    *first == STREAM_MAGIC
}

/// Answers on a sealed stream.
pub(in crate::gossip) async fn answer(
    stream: &mut BoxStream,
    key: &LessSafeKey,
    frame: &[u8],
) -> io::Result<()> {
    write_sealed(stream, key, Direction::Answer, frame).await
}

/// Which way a frame goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    Request = 1,
    Answer = 2,
}

async fn write_sealed(
    stream: &mut BoxStream,
    key: &LessSafeKey,
    direction: Direction,
    frame: &[u8],
) -> io::Result<()> {
    let mut sealed = frame.to_vec();
    key.seal_in_place_append_tag(nonce(direction as u64), Aad::empty(), &mut sealed)
        .map_err(|_| io::Error::other("the frame is too large to be sealed"))?;
    let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&sealed).await?;
    stream.flush().await
}

/// The buffer grows with what arrives, not with what is announced.
async fn read_sealed(stream: &mut BoxStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    if length > FRAME_MAX + FRAME_HEAD + TAG {
        return Err(io::Error::other("a frame is too long"));
    }
    let mut sealed = Vec::new();
    let read = stream.take(length as u64).read_to_end(&mut sealed).await?;
    match read < length {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(sealed),
    }
}

fn opened(key: &LessSafeKey, direction: Direction, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    let opened = key.open_in_place(nonce(direction as u64), Aad::empty(), &mut sealed);
    let length = opened.ok()?.len();
    sealed.truncate(length);
    Some(sealed)
}
