//! HTTP/1 on one connection, as far as this API needs it.
//!
//! Not hyper's server, which keeps a buffer of 8 KB and a map of headers for every connection: ten thousand blocking
//! queries would take 160 MB, and a read would spend most of its time there. Here a connection holds no buffer while
//! it waits, in either direction, and a request's head is looked at once, where it lies. What it does not do, it
//! refuses: pipelined requests are answered one after the other, `Transfer-Encoding` is `chunked` or an error, and
//! nothing is upgraded. The grammar is `httparse`'s, which hyper uses too.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::StatusCode;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::env::BoxStream;

mod answer;
mod chunked;
mod head;

pub(super) use answer::{Form, chunk, encode};
use chunked::Chunks;
pub(super) use head::{Head, Length};

/// Bytes that are read at once, into memory that all connections of a thread share.
const READ_BYTES: usize = 64 * 1024;

/// Capacity that an idle connection may keep: about one small request.
const KEPT_BYTES: usize = 512;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Why there is no whole body.
#[derive(Debug)]
pub(super) enum BodyError {
    /// It is longer than allowed: at least so many bytes.
    TooLong(u64),
    /// The client broke off, or what it sent is no body.
    Broken(io::Error),
}

/// What is on its way when a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Nothing that is known of.
    Nothing,
    /// The rest of a body.
    Body,
    /// Whatever it may be.
    Anything,
}

/// The connection, shared by its task and the request that it works on; both are polled by the same task.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Inner>>);

struct Inner {
    stream: BoxStream,
    head_bytes_max: usize,
    /// Read and not used yet.
    buffer: Vec<u8>,
    /// What is still to come of the present request's body.
    body: Rest,
    /// What is still to be said before the client sends a body that it asked permission for.
    permission: &'static [u8],
}

enum Rest {
    Known(u64),
    Chunked(Chunks),
}

impl Rest {
    fn is_over(&self) -> bool {
        match self {
            Rest::Known(left) => *left == 0,
            Rest::Chunked(chunks) => chunks.is_over(),
        }
    }
}

impl Wire {
    /// `head_bytes_max` bounds a request's head, and what is read ahead of a body.
    pub(super) fn new(stream: BoxStream, head_bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            stream,
            head_bytes_max,
            buffer: Vec::new(),
            body: Rest::Known(0),
            permission: b"",
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // After a panic the connection is closed in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of the next request; `None` when the client has closed the connection. Cancel safe.
    ///
    /// # Errors
    /// The inner one is what to answer before closing.
    pub(super) async fn head(&self) -> io::Result<Result<Option<Head>, StatusCode>> {
        poll_fn(|context| self.lock().poll_head(context)).await
    }

    /// The body of the present request, of at most `limit` bytes. Cancel safe as far as the connection is closed then.
    pub(super) async fn body(&self, limit: usize) -> Result<Bytes, BodyError> {
        let mut body = Vec::new();
        poll_fn(|context| self.lock().poll_body(context, &mut body, limit)).await?;
        Ok(body.into())
    }

    /// Returns when the client has gone. Reads ahead, but leaves a body that nobody has read yet alone.
    pub(super) async fn gone(&self) {
        poll_fn(|context| self.lock().poll_gone(context)).await;
    }

    /// Whether nothing of the present request is still to come.
    pub(super) fn has_read_body(&self) -> bool {
        let inner = self.lock();
        inner.permission.is_empty() && inner.body.is_over()
    }

    /// Whether the present request's body has been read, or can be read over without asking for it.
    ///
    /// Reads and forgets at most `limit` bytes of it.
    pub(super) async fn skip_body(&self, limit: usize) -> bool {
        if !self.lock().permission.is_empty() {
            // It may or may not come: nobody can tell where the next request begins.
            return false;
        }
        let mut left = limit;
        let mut forgotten = Vec::new();
        loop {
            let step = poll_fn(|context| {
                let mut inner = self.lock();
                forgotten.clear();
                inner.poll_some_body(context, &mut forgotten)
            });
            match step.await {
                Ok(true) => return true,
                Ok(false) if forgotten.len() <= left => left -= forgotten.len(),
                _ => return false,
            }
        }
    }

    /// What the client may still be sending.
    pub(super) fn unread(&self) -> Unread {
        let inner = self.lock();
        if !inner.permission.is_empty() {
            Unread::Anything
        } else if !inner.body.is_over() {
            Unread::Body
        } else if inner.buffer.is_empty() {
            Unread::Nothing
        } else {
            Unread::Anything
        }
    }

    /// Reads until the client ends its side, and forgets it all; at most about `limit` bytes.
    pub(super) async fn forget(&self, limit: usize) {
        let mut left = limit;
        while left > 0 {
            let read = poll_fn(|context| {
                let mut inner = self.lock();
                inner.buffer.clear();
                inner.poll_fill(context)
            });
            match read.await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }

    /// Writes all of it.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|context| self.lock().poll_write(context, &mut bytes)).await
    }

    /// Ends this direction.
    pub(super) async fn finish(&self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut self.lock().stream).poll_shutdown(context)).await
    }
}

impl Inner {
    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Result<Option<Head>, StatusCode>>> {
        loop {
            if !self.buffer.is_empty() {
                match head::parse(&self.buffer) {
                    Ok(Some((head, used))) => {
                        self.take(used);
                        self.body = match head.length {
                            Length::Known(bytes) => Rest::Known(bytes),
                            Length::Chunked => Rest::Chunked(Chunks::default()),
                        };
                        let asks = head.asks_permission && !self.body.is_over();
                        self.permission = if asks { CONTINUE } else { b"" };
                        return Poll::Ready(Ok(Ok(Some(head))));
                    }
                    Ok(None) if self.buffer.len() < self.head_bytes_max => {}
                    Ok(None) => {
                        return Poll::Ready(Ok(Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)));
                    }
                    Err(status) => return Poll::Ready(Ok(Err(status))),
                }
            }
            if ready!(self.poll_fill(context))? == 0 {
                return Poll::Ready(Ok(Ok(None)));
            }
        }
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        body: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<(), BodyError>> {
        if let Rest::Known(left) = self.body {
            let whole = body.len() as u64 + left;
            match usize::try_from(whole) {
                Ok(whole) if whole <= limit => body.reserve_exact(whole - body.len()),
                _ => return Poll::Ready(Err(BodyError::TooLong(whole))),
            }
        }
        loop {
            let over = ready!(self.poll_some_body(context, body)).map_err(BodyError::Broken)?;
            if body.len() > limit {
                return Poll::Ready(Err(BodyError::TooLong(body.len() as u64)));
            }
            if over {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Adds what is there of the body; whether that was the end of it.
    fn poll_some_body(
        &mut self,
        context: &mut Context<'_>,
        body: &mut Vec<u8>,
    ) -> Poll<io::Result<bool>> {
        loop {
            let used = match &mut self.body {
                Rest::Known(left) => {
                    let used = usize::try_from(*left)
                        .map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
                    body.extend_from_slice(&self.buffer[..used]);
                    *left -= used as u64;
                    used
                }
                Rest::Chunked(chunks) => chunks.decode(&self.buffer, body)?,
            };
            self.take(used);
            if self.body.is_over() {
                // Whoever has sent it all waits for no permission.
                self.permission = b"";
                return Poll::Ready(Ok(true));
            }
            if used > 0 {
                return Poll::Ready(Ok(false));
            }
            let mut permission = self.permission;
            let said = self.poll_write(context, &mut permission);
            self.permission = permission;
            ready!(said)?;
            if ready!(self.poll_fill(context))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.body.is_over() && self.buffer.len() < self.head_bytes_max {
            match ready!(self.poll_fill(context)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Reads what is there; 0 at the end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
            self.buffer.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &mut &[u8]) -> Poll<io::Result<()>> {
        let any = !bytes.is_empty();
        while !bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *bytes = &bytes[written..];
        }
        if any {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Forgets what has been used.
    fn take(&mut self, used: usize) {
        self.buffer.drain(..used);
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;
