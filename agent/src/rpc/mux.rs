//! Many calls over one connection, answered in any order.
//!
//! A request frame is `u64` call number, `u8` method, body; a response frame is `u64` call number, body.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncWriteExt as _, BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::{Error, HANDSHAKE_TIMEOUT, MAGIC, Purpose, read_frame, write_frame};
use crate::env::{BoxStream, Net};

/// Calls that may wait for the connection's writer; more are held back in their callers.
const QUEUE: usize = 1024;

/// Requests of one connection that may be worked on at a time; more stay in the socket's buffer.
const MAX_CONCURRENT: usize = 4096;

struct Outgoing {
    number: u64,
    method: Option<u8>,
    body: Bytes,
}

/// Callers that wait for an answer, by call number; `None` once the connection has ended.
type Waiters = Arc<Mutex<Option<BTreeMap<u64, oneshot::Sender<Bytes>>>>>;

/// The calling side of one connection.
pub struct Caller {
    queue: mpsc::Sender<Outgoing>,
    waiters: Waiters,
    next: AtomicU64,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Caller {
    /// Connects to `address` and says what for, within `timeout`.
    pub async fn connect(
        net: &dyn Net,
        address: SocketAddr,
        purpose: Purpose,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let stream = open(net, address, purpose, timeout).await?;
        let (read, write) = tokio::io::split(stream);
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let waiters: Waiters = Arc::new(Mutex::new(Some(BTreeMap::new())));
        let writer = tokio::spawn(write_loop(write, outgoing));
        let reader = tokio::spawn(read_answers(read, waiters.clone()));
        Ok(Self {
            queue,
            waiters,
            next: AtomicU64::new(1),
            _tasks: [
                AbortOnDropHandle::new(writer),
                AbortOnDropHandle::new(reader),
            ],
        })
    }

    /// Whether the connection has ended: every further call fails.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed() || lock(&self.waiters).is_none()
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// Any error leaves the outcome unknown: the request may have been sent.
    pub async fn call(&self, method: u8, body: Bytes, timeout: Duration) -> Result<Bytes, Error> {
        let lost = || Error::Lost(io::ErrorKind::ConnectionReset.into());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, waiting) = oneshot::channel();
        lock(&self.waiters)
            .as_mut()
            .ok_or_else(lost)?
            .insert(number, answer);
        let _forget = Forget {
            waiters: &self.waiters,
            number,
        };
        let exchange = async {
            let outgoing = Outgoing {
                number,
                method: Some(method),
                body,
            };
            self.queue.send(outgoing).await.map_err(|_| lost())?;
            waiting.await.map_err(|_| lost())
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(Error::Timeout(timeout)))
    }
}

/// Forgets a call whose caller went away, so that abandoned calls leave nothing behind.
struct Forget<'a> {
    waiters: &'a Waiters,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiters) = lock(self.waiters).as_mut() {
            waiters.remove(&self.number);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds this lock")
}

/// Connects and writes the preamble.
pub(crate) async fn open(
    net: &dyn Net,
    address: SocketAddr,
    purpose: Purpose,
    timeout: Duration,
) -> Result<BoxStream, Error> {
    let connect = async {
        let mut stream = net.connect(address).await?;
        let [a, b, c, d] = MAGIC;
        stream.write_all(&[a, b, c, d, purpose as u8]).await?;
        stream.flush().await?;
        io::Result::Ok(stream)
    };
    tokio::time::timeout(timeout, connect)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| Error::Connect { address, source })
}

async fn write_loop(write: WriteHalf<BoxStream>, mut outgoing: mpsc::Receiver<Outgoing>) {
    let mut write = BufWriter::with_capacity(16 << 10, write);
    while let Some(first) = outgoing.recv().await {
        let mut next = Some(first);
        // Whatever is queued leaves in one system call.
        while let Some(item) = next {
            let number = item.number.to_le_bytes();
            let written = match item.method {
                Some(method) => write_frame(&mut write, &[&number, &[method], &item.body]).await,
                None => write_frame(&mut write, &[&number, &item.body]).await,
            };
            if written.is_err() {
                return;
            }
            next = outgoing.try_recv().ok();
        }
        if write.flush().await.is_err() {
            return;
        }
    }
}

async fn read_answers(read: ReadHalf<BoxStream>, waiters: Waiters) {
    let mut read = BufReader::with_capacity(16 << 10, read);
    while let Ok(Some(mut frame)) = read_frame(&mut read).await {
        if frame.len() < 8 {
            break;
        }
        let number = frame.get_u64_le();
        let waiter = lock(&waiters)
            .as_mut()
            .and_then(|waiters| waiters.remove(&number));
        if let Some(waiter) = waiter {
            // A caller that has given up is not an error.
            let _ = waiter.send(frame);
        }
    }
    // Dropping the senders wakes every caller with "connection lost".
    lock(&waiters).take();
}

/// Answers calls.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; `None` leaves it without an answer, for a request that is not of this protocol.
    fn handle(&self, method: u8, body: Bytes) -> impl Future<Output = Option<Bytes>> + Send;
}

/// Answers the calls of one connection until it ends. Requests are worked on concurrently.
pub async fn serve<H: Handler>(stream: BoxStream, handler: Arc<H>) -> Result<(), Error> {
    let (read, write) = tokio::io::split(stream);
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let writer = AbortOnDropHandle::new(tokio::spawn(write_loop(write, outgoing)));
    let mut read = BufReader::with_capacity(16 << 10, read);
    let mut working = tokio::task::JoinSet::new();
    while let Some(mut frame) = read_frame(&mut read).await.map_err(Error::Lost)? {
        if frame.len() < 9 {
            return Err(Error::Protocol(format!("request of {} bytes", frame.len())));
        }
        let number = frame.get_u64_le();
        let method = frame.get_u8();
        while working.try_join_next().is_some() {}
        if working.len() >= MAX_CONCURRENT {
            working.join_next().await;
        }
        let (handler, queue) = (handler.clone(), queue.clone());
        working.spawn(async move {
            if let Some(body) = handler.handle(method, frame).await {
                // The connection may have ended meanwhile; then nobody waits for the answer.
                let _ = queue
                    .send(Outgoing {
                        number,
                        method: None,
                        body,
                    })
                    .await;
            }
        });
    }
    drop(queue);
    // The caller has closed its side: nobody reads what is still being worked on.
    working.abort_all();
    let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, writer).await;
    Ok(())
}
