//! A stream whose first byte was looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::env::BoxStream;

/// Begins every TLS handshake: the content type "handshake" (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// Whether a connection that begins so speaks TLS.
pub(super) fn is_handshake(first: u8) -> bool {
    first == HANDSHAKE
}

/// A stream whose first byte was looked at, and is read again.
pub(super) struct Prefixed {
    first: u8,
    is_read: bool,
    stream: BoxStream,
}

impl Prefixed {
    /// Waits for the first byte.
    pub(super) async fn peek(mut stream: BoxStream) -> io::Result<Self> {
        let first = stream.read_u8().await?;
        Ok(Self {
            first,
            is_read: false,
            stream,
        })
    }

    pub(super) fn first(&self) -> u8 {
        self.first
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_read && buffer.remaining() > 0 {
            buffer.put_slice(&[self.first]);
            self.is_read = true;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Mostly one record is sent, and a plain write has less to do on its way than one of several pieces.
        match bytes {
            [one] => Pin::new(&mut self.stream).poll_write(cx, one),
            bytes => Pin::new(&mut self.stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
