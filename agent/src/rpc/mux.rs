//! Many calls over one connection, answered in any order.
//!
//! A request frame is `u64` call number, `u8` method, `u32` milliseconds that are left until its caller gives up, body; a
//! response frame is `u64` call number, body. A request whose time is over is neither sent nor worked on.

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
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Error, HANDSHAKE_TIMEOUT, MAGIC, Purpose, read_frame, write_frame};
use crate::env::{BoxStream, Net};

/// Calls that may wait for the connection's writer; more are held back in their callers.
const QUEUE: usize = 1024;

/// Calls of one connection that may wait for answers, blocking queries among them; more fail at once.
const MAX_WAITING: usize = 65_536;

/// Requests of one connection that may be worked on at a time; more stay in the socket's buffer. Above what a caller of
/// ours sends, so that a request that waits for long holds up no other.
const MAX_CONCURRENT: usize = MAX_WAITING + QUEUE;

/// Bytes of a request before its body.
const REQUEST_HEAD: usize = 13;

struct Outgoing {
    number: u64,
    /// For a request: its method, and when its caller gives up.
    method: Option<(u8, Instant)>,
    body: Bytes,
}

/// Callers that wait for an answer, by call number; `None` once the connection has ended.
type Waiters = Arc<Mutex<Option<BTreeMap<u64, oneshot::Sender<Bytes>>>>>;

/// The calling side of one connection.
pub struct Caller {
    address: SocketAddr,
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
            address,
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

    /// Sends one request and waits for its answer until `deadline`.
    ///
    /// # Errors
    /// Any but [`Error::Busy`] leaves the outcome unknown: the request may have been sent.
    pub async fn call(&self, method: u8, body: Bytes, deadline: Instant) -> Result<Bytes, Error> {
        let begun = Instant::now();
        let lost = || Error::Lost(io::ErrorKind::ConnectionReset.into());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, waiting) = oneshot::channel();
        {
            let mut waiters = lock(&self.waiters);
            let waiters = waiters.as_mut().ok_or_else(lost)?;
            if waiters.len() >= MAX_WAITING {
                return Err(Error::Busy(self.address));
            }
            waiters.insert(number, answer);
        }
        let _forget = Forget {
            waiters: &self.waiters,
            number,
        };
        let exchange = async {
            let outgoing = Outgoing {
                number,
                method: Some((method, deadline)),
                body,
            };
            self.queue.send(outgoing).await.map_err(|_| lost())?;
            waiting.await.map_err(|_| lost())
        };
        tokio::time::timeout_at(deadline, exchange)
            .await
            .unwrap_or_else(|_| Err(Error::Timeout(deadline - begun)))
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
                Some((method, deadline)) => match left_ms(deadline) {
                    0 => Ok(()),
                    left => {
                        let left = left.to_le_bytes();
                        write_frame(&mut write, &[&number, &[method], &left, &item.body]).await
                    }
                },
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

/// Whole milliseconds until `deadline`; 0 when it has come.
fn left_ms(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now());
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
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
    /// Answers one request, whose caller gives up at `deadline`; not called for one that comes later. `None` leaves it
    /// without an answer: nobody waits any more.
    ///
    /// # Errors
    /// It is not of this protocol: the connection ends.
    fn handle(
        &self,
        method: u8,
        body: Bytes,
        deadline: Instant,
    ) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;
}

/// Answers the calls of one connection until it ends. Requests are worked on concurrently.
pub async fn serve<H: Handler>(stream: BoxStream, handler: Arc<H>) -> Result<(), Error> {
    let (read, write) = tokio::io::split(stream);
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let writer = AbortOnDropHandle::new(tokio::spawn(write_loop(write, outgoing)));
    let mut read = BufReader::with_capacity(16 << 10, read);
    let mut working = tokio::task::JoinSet::new();
    let (breach, mut breached) = mpsc::channel(1);
    loop {
        let frame = tokio::select! {
            frame = read_frame(&mut read) => frame.map_err(Error::Lost)?,
            // What has been read of the next frame is of no interest then.
            Some(error) = breached.recv() => return Err(error),
        };
        let Some(mut frame) = frame else {
            break;
        };
        if frame.len() < REQUEST_HEAD {
            return Err(Error::Protocol(format!("request of {} bytes", frame.len())));
        }
        let number = frame.get_u64_le();
        let method = frame.get_u8();
        let deadline = Instant::now() + Duration::from_millis(frame.get_u32_le().into());
        while working.try_join_next().is_some() {}
        if working.len() >= MAX_CONCURRENT {
            working.join_next().await;
        }
        let (handler, queue, breach) = (handler.clone(), queue.clone(), breach.clone());
        working.spawn(async move {
            // It may have waited here for its turn.
            if Instant::now() >= deadline {
                return;
            }
            // The connection may have ended meanwhile; then nobody waits for the answer, and the same below.
            match handler.handle(method, frame, deadline).await {
                Ok(Some(body)) => {
                    let _ = queue
                        .send(Outgoing {
                            number,
                            method: None,
                            body,
                        })
                        .await;
                }
                Ok(None) => {}
                Err(error) => {
                    let _ = breach.try_send(error);
                }
            }
        });
    }
    drop(queue);
    // The caller has closed its side: nobody reads what is still being worked on.
    working.abort_all();
    let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, writer).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says which requests it was given.
    struct Echo;

    impl Handler for Echo {
        async fn handle(&self, _: u8, body: Bytes, _: Instant) -> Result<Option<Bytes>, Error> {
            match &body[..] {
                b"nonsense" => Err(Error::Protocol("nonsense".to_owned())),
                _ => Ok(Some(body)),
            }
        }
    }

    fn request(number: u64, left_ms: u32, body: &[u8]) -> Vec<u8> {
        let mut frame = number.to_le_bytes().to_vec();
        frame.push(1);
        frame.extend_from_slice(&left_ms.to_le_bytes());
        frame.extend_from_slice(body);
        frame
    }

    #[tokio::test]
    async fn a_request_whose_time_is_over_is_not_worked_on() {
        let (mut near, far) = tokio::io::duplex(1024);
        let serving = tokio::spawn(serve(Box::new(far) as BoxStream, Arc::new(Echo)));
        write_frame(&mut near, &[&request(1, 0, b"late")])
            .await
            .unwrap();
        write_frame(&mut near, &[&request(2, 60_000, b"in time")])
            .await
            .unwrap();
        let mut answer = read_frame(&mut near).await.unwrap().unwrap();
        assert_eq!(answer.get_u64_le(), 2);
        assert_eq!(answer, "in time");
        drop(near);
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_request_that_is_not_of_the_protocol_ends_the_connection() {
        let (mut near, far) = tokio::io::duplex(1024);
        let serving = tokio::spawn(serve(Box::new(far) as BoxStream, Arc::new(Echo)));
        write_frame(&mut near, &[&request(1, 60_000, b"nonsense")])
            .await
            .unwrap();
        assert!(matches!(serving.await.unwrap(), Err(Error::Protocol(_))));
        assert!(read_frame(&mut near).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_request_that_is_too_short_is_refused() {
        let (mut near, far) = tokio::io::duplex(1024);
        let serving = tokio::spawn(serve(Box::new(far) as BoxStream, Arc::new(Echo)));
        write_frame(&mut near, &[&[0; REQUEST_HEAD - 1]])
            .await
            .unwrap();
        assert!(matches!(serving.await.unwrap(), Err(Error::Protocol(_))));
    }
}
