use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Largest frame, in bytes. A batch of appended entries is the largest thing that one frame carries.
pub const MAX_FRAME: usize = 64 << 20;

/// Memory is set aside in steps of this size, so that a length alone cannot make a node allocate [`MAX_FRAME`].
const READ_STEP: usize = 1 << 20;

/// Reads one frame; `None` when the other side closed the connection between two frames.
///
/// Not cancel safe: a dropped call may have read half a frame.
pub async fn read_frame<R: AsyncRead + Unpin + ?Sized>(
    reader: &mut R,
) -> io::Result<Option<Bytes>> {
    let mut header = [0; 4];
    match reader.read_exact(&mut header).await {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let len = u32::from_le_bytes(header) as usize;
    if len > MAX_FRAME {
        return Err(too_long(len, io::ErrorKind::InvalidData));
    }
    let mut body = Vec::with_capacity(len.min(READ_STEP));
    while body.len() < len {
        let start = body.len();
        let step = (len - start).min(READ_STEP.max(start));
        body.resize(start + step, 0);
        reader.read_exact(&mut body[start..]).await?;
    }
    Ok(Some(body.into()))
}

/// Writes one frame, made of `parts` in order.
pub async fn write_frame<W: AsyncWrite + Unpin + ?Sized>(
    writer: &mut W,
    parts: &[&[u8]],
) -> io::Result<()> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    if len > MAX_FRAME {
        return Err(too_long(len, io::ErrorKind::InvalidInput));
    }
    writer.write_all(&(len as u32).to_le_bytes()).await?;
    for part in parts {
        writer.write_all(part).await?;
    }
    Ok(())
}

/// Appends one frame to `out`, whose body is what `body` appends: for connections on which each frame leaves in one
/// system call.
pub(crate) fn put_frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = out.len() - start - 4;
    if len > MAX_FRAME {
        out.truncate(start);
        return Err(too_long(len, io::ErrorKind::InvalidInput));
    }
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

fn too_long(len: usize, kind: io::ErrorKind) -> io::Error {
    io::Error::new(
        kind,
        format!("frame of {len} bytes is over the limit of {MAX_FRAME}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_that_was_put_is_the_frame_that_would_be_written() {
        let (mut put, mut wire) = (vec![7], vec![7]);
        put_frame(&mut put, |out| out.extend_from_slice(b"abcde")).unwrap();
        write_frame(&mut wire, &[b"ab", b"cde"]).await.unwrap();
        assert_eq!(put, wire);
        let long = put_frame(&mut put, |out| out.resize(out.len() + MAX_FRAME + 1, 0));
        assert_eq!(long.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(put, wire, "nothing of it is left");
    }

    #[tokio::test]
    async fn a_frame_comes_back_as_it_was_written() {
        let mut wire = Vec::new();
        write_frame(&mut wire, &[b"ab", b"", b"cde"]).await.unwrap();
        write_frame(&mut wire, &[]).await.unwrap();
        let mut reader = wire.as_slice();
        assert_eq!(read_frame(&mut reader).await.unwrap().unwrap(), "abcde");
        assert_eq!(read_frame(&mut reader).await.unwrap().unwrap(), "");
        assert!(read_frame(&mut reader).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_length_over_the_limit_is_refused_before_memory_is_set_aside() {
        let mut reader: &[u8] = &u32::MAX.to_le_bytes();
        let error = read_frame(&mut reader).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_frame_that_ends_early_is_an_error() {
        let mut reader: &[u8] = &[5, 0, 0, 0, b'x'];
        assert_eq!(
            read_frame(&mut reader).await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    /// What is read is what was there, and nothing more is set aside than came.
    #[test]
    fn any_bytes_are_frames_or_an_error() {
        let mut seed = Vec::new();
        for body in [b"ab".as_slice(), b"", b"cde"] {
            put_frame(&mut seed, |out| out.extend_from_slice(body)).unwrap();
        }
        crate::fuzz::run("frame", &[seed], |bytes| {
            let mut reader = bytes;
            let mut again = Vec::new();
            loop {
                match futures::executor::block_on(read_frame(&mut reader)) {
                    Ok(Some(body)) => {
                        put_frame(&mut again, |out| out.extend_from_slice(&body)).unwrap();
                        assert!(bytes.starts_with(&again));
                    }
                    Ok(None) => break format!("{} frames", again.is_empty()),
                    Err(error) => break format!("{}: {:?}", again.is_empty(), error.kind()),
                }
            }
        });
    }
}
