//! Certificates for clients that have none (`auto_encrypt.allow_tls`): what a server answers to those who ask, and by which
//! roots it knows them then.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::access::Caller;
use super::{Error, Node, ReadOptions};
use crate::ca::{self, spiffe};
use crate::rpc::{self, Answer, Answered, Handler, Request};
use crate::state::{self, CaRoots, Query};

/// What is said where nobody gets a certificate.
pub(super) const NOT_ALLOWED: &str = "auto_encrypt.allow_tls is off on this server: set it on all servers, so that clients with auto_encrypt.tls get a certificate";

/// Answers the calls of clients that ask for a certificate.
pub(super) struct Applications {
    pub(super) node: Node,
    /// Where whoever asks is.
    pub(super) from: SocketAddr,
}

impl Handler for Applications {
    async fn handle(
        &self,
        method: u8,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Option<Bytes>, rpc::Error> {
        if method != Request::METHOD {
            return Err(rpc::Error::Protocol(format!("unknown method {method}")));
        }
        let request = Request::decode(&body)?;
        if let Err(refused) = self.node.enter_from(self.from, &request) {
            return Ok(Some(Answered(Err(refused)).encode()));
        }
        let answered = match self.node.inner.gate.request() {
            None => Answered(Err(Error::Busy)),
            Some(_place) => {
                let answer = self.node.answer_applicant(request);
                match timeout_at(deadline, answer).await {
                    Ok(answered) => Answered(answered),
                    // Nobody waits for it any more.
                    Err(_) => return Ok(None),
                }
            }
        };
        Ok(Some(answered.encode()))
    }
}

impl Node {
    /// Unlike for other requests, the leader is asked from here: whoever asks reaches servers, but none that demands a
    /// certificate.
    async fn answer_applicant(&self, request: Request) -> Result<Answer, Error> {
        if !self.inner.config.auto_encrypt.allow_tls {
            return Err(Error::Refused(NOT_ALLOWED.to_owned()));
        }
        let (token, request) = match request {
            Request::As { token, request } => (token.0, *request),
            request => (String::new(), request),
        };
        let node = self.by(Caller::Holder(token.into())).uncounted();
        match request {
            Request::Read(Query::CaRoots, _) => {
                let reply = node.read(Query::CaRoots, ReadOptions::default()).await?;
                Ok(Answer::Read(Box::new(reply)))
            }
            Request::SignLeaf(csr)
                if matches!(ca::subject_of(&csr), Some(ca::Subject::Agent(_))) =>
            {
                node.lead_or_ask(Request::SignLeaf(csr)).await
            }
            _ => Err(Error::Refused(
                "without a certificate, nothing is answered here but how to get one".to_owned(),
            )),
        }
    }

    /// Keeps the roots by which clients' certificates are known, as this server's state has them.
    pub(super) async fn follow_mesh_roots(self) {
        let Some(server) = &self.inner.server else {
            return;
        };
        loop {
            let store = server.shared.load();
            let index = store.index_of(&Query::CaRoots);
            let answer = store.query(&Query::CaRoots);
            drop(store);
            if let state::Answer::CaRoots(roots) = answer {
                self.take_mesh_roots(&roots);
            }
            server.shared.changed(&Query::CaRoots, index).await;
        }
    }

    fn take_mesh_roots(&self, roots: &CaRoots) {
        let certs: String = roots.roots.iter().map(|r| r.root_cert.as_str()).collect();
        let domain = roots.cluster_id.map(spiffe::trust_domain);
        let taken = self.tls().set_mesh(&certs, &domain.unwrap_or_default());
        if let Err(error) = taken {
            tracing::error!(target: "connect", "clients with certificates of the mesh are not let in: {error}");
        }
    }
}
