//! Those who are asked during a login: issuers for their keys, and Kubernetes for its word.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use super::key_sets::KeySet;
use crate::acl::login::{self, Kubernetes, Place, Remote, Reviewed};
use crate::client::{Client, Response};
use crate::env::Net;

/// Longest time for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Largest answer that is read: key sets and reviews have a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where an issuer says where its keys are: OpenID Connect Discovery 1.0, section 4.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Everybody who speaks HTTPS, until the login's time is over.
pub(super) struct Web {
    net: Arc<dyn Net>,
    deadline: Instant,
}

impl Web {
    pub(super) fn new(net: Arc<dyn Net>, deadline: Instant) -> Self {
        Self { net, deadline }
    }

    fn client(&self, place: &Place) -> Result<Client, crate::client::Error> {
        let client = Client::with_net(&place.address, self.net.clone())?;
        let client = match place.authorities.as_str() {
            "" => client,
            pem => client.with_authorities(pem, &place.host)?,
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        Ok(client
            .with_timeout(ANSWER_TIME_MAX.min(left))
            .with_answer_bytes_max(ANSWER_BYTES_MAX))
    }

    async fn get(&self, place: &Place) -> Result<Bytes, String> {
        let fetched = async {
            let response = self.client(place)?.get(&place.path).await?;
            response.success()
        };
        match fetched.await {
            Ok(response) => Ok(response.body),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The keys that are published there now.
    pub(super) async fn key_set(&self, remote: &Remote) -> Result<KeySet, String> {
        let (place, issuer) = match remote {
            Remote::Set(place) => (place.clone(), None),
            Remote::Discovery(place) => {
                let keys = self.discovered(place).await?;
                (keys, Some(place.url.clone()))
            }
        };
        let body = self.get(&place).await;
        let body = body.map_err(|why| format!("its keys cannot be fetched: {why}"))?;
        let keys = login::of_set(&body).map_err(|why| format!("{}: {why}", place.url))?;
        Ok(KeySet { keys, issuer })
    }

    /// Where an issuer has its keys.
    async fn discovered(&self, issuer: &Place) -> Result<Place, String> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let place = issuer.below(DISCOVERY);
        let body = self.get(&place).await;
        let body = body.map_err(|why| format!("its issuer cannot be asked: {why}"))?;
        let found: Document = serde_json::from_slice(&body)
            .map_err(|error| format!("{}{DISCOVERY} cannot be read: {error}", issuer.url))?;
        if found.issuer != issuer.url {
            return Err(format!(
                "{} says that it is issuer {:?}: OIDCDiscoveryURL must be written as that",
                issuer.url, found.issuer
            ));
        }
        issuer
            .with_url(&found.jwks_uri)
            .map_err(|why| format!("its issuer's jwks_uri: {why}"))
    }
}

/// Whom Kubernetes takes a bearer token for.
pub(super) async fn review(
    web: &Web,
    kubernetes: &Kubernetes,
    bearer: &str,
) -> Result<Reviewed, String> {
    let failed = |error: crate::client::Error| format!("Kubernetes cannot be asked: {error}");
    let token = format!("Bearer {}", kubernetes.token.0);
    let client = web.client(&kubernetes.api).map_err(failed)?;
    let client = client.with_header(AUTHORIZATION.as_str(), &token);
    let client = client.map_err(failed)?;
    let json = client.with_header(CONTENT_TYPE.as_str(), "application/json");
    let (place, body) = login::review(&kubernetes.api, bearer);
    let asked = json.map_err(failed)?;
    let asked = asked.request(Method::POST, &place.path, body.into());
    let answer = asked.await.and_then(Response::success).map_err(failed)?;
    let reviewed = login::read_review(&answer.body)?;

    let place = login::path_of_account(&kubernetes.api, &reviewed);
    let answer = client.get(&place.path).await.map_err(failed)?;
    let name = match answer.status {
        // Whoever may only review tokens takes service accounts by their own name.
        StatusCode::FORBIDDEN => {
            tracing::warn!(target: "acl", "the ServiceAccountJWT may not read service accounts, so that their annotations do not count: {}", place.path);
            None
        }
        _ => login::annotation(&answer.success().map_err(failed)?.body)?,
    };
    Ok(match name {
        Some(name) => Reviewed { name, ..reviewed },
        None => reviewed,
    })
}
