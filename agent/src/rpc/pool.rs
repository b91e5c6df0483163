use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{Answered, Caller, Error, Purpose, Request};
use crate::env::Net;

/// Longest time a connection may take to come up before another server is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

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

    /// Sends one call of any kind.
    pub async fn call(
        &self,
        address: SocketAddr,
        method: u8,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
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
        let caller = cell
            .get_or_try_init(|| {
                Caller::connect(
                    &*self.net,
                    address,
                    self.purpose,
                    CONNECT_TIMEOUT.min(timeout),
                )
            })
            .await?;
        let answer = caller.call(method, body, timeout).await;
        if matches!(answer, Err(Error::Timeout(_))) {
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
