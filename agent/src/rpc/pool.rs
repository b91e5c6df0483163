use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::{Answered, Caller, Error, Purpose, Request};
use crate::env::Net;

/// Longest time a connection may take to come up before another server is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A call that had less time than this and got no answer says nothing about its connection: a last try before a deadline.
const TELLING: Duration = Duration::from_millis(50);

/// Connections to servers, one an address, made when first needed and replaced when broken.
pub struct Pool {
    net: Arc<dyn Net>,
    purpose: Purpose,
    callers: Mutex<BTreeMap<SocketAddr, Arc<OnceCell<Caller>>>>,
}

impl Pool {
    /// An empty pool of connections with this purpose.
    pub fn new(net: Arc<dyn Net>, purpose: Purpose) -> Self {
        Self {
            net,
            purpose,
            callers: Mutex::default(),
        }
    }

    /// Sends `request` to the server at `address`.
    ///
    /// # Errors
    /// [`Error::never_sent`] says whether it is safe to send the request to another server.
    pub async fn request(
        &self,
        address: SocketAddr,
        request: &Request,
        timeout: Duration,
    ) -> Result<Answered, Error> {
        let body = self
            .call(address, Request::METHOD, request.encode(), timeout)
            .await?;
        Answered::decode(&body).ok_or_else(|| {
            Error::Protocol(format!("{address} sent an answer that does not decode"))
        })
    }

    /// Sends one call of any kind. Connecting is part of its time.
    pub async fn call(
        &self,
        address: SocketAddr,
        method: u8,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        let deadline = Instant::now() + timeout;
        let cell = {
            let mut callers = self
                .callers
                .lock()
                .expect("no code panics while it holds this lock");
            let cell = callers.entry(address).or_default();
            if cell.get().is_some_and(Caller::is_closed) {
                *cell = Arc::default();
            }
            cell.clone()
        };
        let connect = cell.get_or_try_init(|| {
            Caller::connect(&*self.net, address, self.purpose, CONNECT_TIMEOUT)
        });
        // Others may be trying before, one after the other.
        let caller = timeout_at(deadline, connect).await.unwrap_or_else(|_| {
            let source = io::ErrorKind::TimedOut.into();
            Err(Error::Connect { address, source })
        })?;
        let answer = caller.call(method, body, deadline).await;
        if matches!(answer, Err(Error::Timeout(given)) if given >= TELLING) {
            self.retire(address, &cell);
        }
        answer
    }

    /// Gives no more calls to a connection that did not answer in time; those that wait on it go on waiting.
    ///
    /// After an outage TCP sends again only after a pause as long as the outage was, up to two minutes. A fresh
    /// connection gets through at once.
    fn retire(&self, address: SocketAddr, silent: &Arc<OnceCell<Caller>>) {
        let mut callers = self
            .callers
            .lock()
            .expect("no code panics while it holds this lock");
        if callers
            .get(&address)
            .is_some_and(|cell| Arc::ptr_eq(cell, silent))
        {
            callers.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{BoxFuture, FutureExt as _, join_all};
    use tokio::io::DuplexStream;

    use super::*;
    use crate::env::{BoxStream, Datagrams, Listener};

    const ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A net where connecting takes a while, and nobody says a word then.
    struct Silent {
        connecting: Duration,
        others: Mutex<Vec<DuplexStream>>,
    }

    impl Net for Silent {
        fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
            unreachable!("nobody listens here")
        }

        fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
            async {
                tokio::time::sleep(self.connecting).await;
                let (near, far) = tokio::io::duplex(1024);
                self.others.lock().unwrap().push(far);
                Ok(Box::new(near) as BoxStream)
            }
            .boxed()
        }

        fn bind_udp(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Datagrams>>> {
            unreachable!("there are no datagrams here")
        }

        fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            unreachable!("addresses are known here")
        }
    }

    fn pool(connecting: Duration) -> Pool {
        let net = Silent {
            connecting,
            others: Mutex::default(),
        };
        Pool::new(Arc::new(net), Purpose::Call)
    }

    #[tokio::test(start_paused = true)]
    async fn connecting_is_part_of_a_calls_time() {
        let pool = pool(ms(700));
        let begun = Instant::now();
        let answer = pool.call(ADDRESS, 0, Bytes::new(), ms(1000)).await;
        assert!(matches!(answer, Err(Error::Timeout(_))), "{answer:?}");
        assert_eq!(begun.elapsed(), ms(1000));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_because_others_try_to_connect_before() {
        let pool = pool(ms(3_600_000));
        let begun = Instant::now();
        let calls = (0..5).map(|_| pool.call(ADDRESS, 0, Bytes::new(), ms(1500)));
        for answer in join_all(calls).await {
            assert!(answer.is_err_and(|error| error.never_sent()));
        }
        assert_eq!(begun.elapsed(), ms(1500));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_call_that_had_time_says_something_about_its_connection() {
        let pool = pool(ms(0));
        let connections = || pool.callers.lock().unwrap().len();
        for (given, left) in [(ms(10), 1), (ms(1000), 0)] {
            let answer = pool.call(ADDRESS, 0, Bytes::new(), given).await;
            assert!(matches!(answer, Err(Error::Timeout(_))), "{answer:?}");
            assert_eq!(connections(), left);
        }
    }
}
