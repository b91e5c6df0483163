//! HTTP checks, on hyper's client.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::{Outcome, connect, critical, other};
use crate::env::Env;
use crate::local::definition::Http;
use crate::state::CheckStatus;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// Bytes of an answer that are read at most; fewer are kept.
const BODY_MAX: usize = 64 * 1024;

/// 2xx passes, 429 warns, everything else is critical.
pub(super) async fn run(env: &Env, check: &Http) -> Outcome {
    let (status, body) = match follow(env, check).await {
        Ok(answer) => answer,
        Err(error) => {
            return critical(format!("{} {:?}: {error}", check.method, check.url));
        }
    };
    let reason = status.canonical_reason().unwrap_or_default();
    let output = format!(
        "HTTP {} {}: {} {reason} Output: {}",
        check.method,
        check.url,
        status.as_u16(),
        String::from_utf8_lossy(&body)
    );
    let result = match status {
        status if status.is_success() => CheckStatus::Passing,
        StatusCode::TOO_MANY_REQUESTS => CheckStatus::Warning,
        _ => CheckStatus::Critical,
    };
    (result, output)
}

/// The answer at the end of all redirects.
async fn follow(env: &Env, check: &Http) -> io::Result<(StatusCode, Bytes)> {
    let mut uri: Uri = check.url.parse().map_err(io::Error::other)?;
    let mut method = Method::from_bytes(check.method.as_bytes()).map_err(io::Error::other)?;
    for _ in 0..=REDIRECTS_MAX {
        let response = ask(env, check, &method, &uri).await?;
        let (status, location) = (response.status(), response.headers().get(LOCATION));
        let next = location.filter(|_| status.is_redirection() && !check.disable_redirects);
        let Some(next) = next else {
            let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
            // What is too long to be read in full is judged by its status alone.
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            return Ok((status, body));
        };
        uri = resolve(&uri, next)?;
        let keeps = matches!(
            status,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        if !keeps && method != Method::HEAD {
            method = Method::GET;
        }
    }
    Err(other(format!("stopped after {REDIRECTS_MAX} redirects")))
}

/// Where a redirect leads.
fn resolve(from: &Uri, location: &HeaderValue) -> io::Result<Uri> {
    let text = location.to_str().map_err(io::Error::other)?;
    let (scheme, authority) = (from.scheme_str().unwrap_or("http"), authority(from)?);
    let whole = match text {
        text if text.contains("://") => text.to_owned(),
        text if text.starts_with("//") => format!("{scheme}:{text}"),
        text if text.starts_with('/') => format!("{scheme}://{authority}{text}"),
        text => {
            let folder = from
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{text}")
        }
    };
    whole.parse().map_err(io::Error::other)
}

fn authority(uri: &Uri) -> io::Result<&str> {
    let found = uri.authority().map(|authority| authority.as_str());
    found.ok_or_else(|| {
        other("unsupported protocol scheme: the URL must begin with http:// or https://")
    })
}

async fn ask(
    env: &Env,
    check: &Http,
    method: &Method,
    uri: &Uri,
) -> io::Result<Response<hyper::body::Incoming>> {
    let host = authority(uri)?;
    let tls = match uri.scheme_str() {
        Some("http") => None,
        Some("https") => Some(&check.tls),
        other_scheme => {
            return Err(other(format!(
                "unsupported protocol scheme {other_scheme:?}"
            )));
        }
    };
    let port = uri
        .port_u16()
        .unwrap_or(if tls.is_some() { 443 } else { 80 });
    let name = uri.host().unwrap_or_default();
    let stream = connect::open(env, &format!("{name}:{port}"), tls, &[b"http/1.1"]).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = Request::builder()
        .method(method)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(USER_AGENT, "Consul Health Check")
        .header("accept", "text/plain, text/*, */*")
        .body(Full::new(Bytes::from(check.body.clone())))
        .map_err(io::Error::other)?;
    let headers = request.headers_mut();
    for (name, values) in &check.header {
        let name: HeaderName = name.parse().map_err(io::Error::other)?;
        headers.remove(&name);
        for value in values {
            headers.append(&name, value.parse().map_err(io::Error::other)?);
        }
    }
    if !headers.contains_key(HOST) {
        headers.insert(HOST, host.parse().map_err(io::Error::other)?);
    }
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    // The body comes through the connection, which lives as long as it.
    let (parts, body) = response.into_parts();
    driver.detach();
    Ok(Response::from_parts(parts, body))
}
