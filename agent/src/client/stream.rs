//! Answers that have no end.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use super::{Call, Error};

/// The body of an answer that has no end.
pub struct Stream {
    pub(super) body: Incoming,
    pub(super) call: Call,
    /// hyper closes the connection when this is gone.
    pub(super) _sender: SendRequest<Full<Bytes>>,
}

impl Stream {
    /// The next bytes, as they come; `None` when the agent ended the answer. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Transport`] when the connection broke.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(self.call.transport(&e)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}
