//! Objects of S3-compatible storage: read, written and deleted whole.
//!
//! Requests are signed by `rusty-s3`, which sends nothing itself; each goes over a connection of its own.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

use super::S3Flags;
use crate::archive::ARCHIVE_BYTES_MAX;
use crate::env::BoxStream;
use crate::tls::ClientTls;

/// Longest time for one request, with its body.
const TIME_MAX: Duration = Duration::from_secs(600);
/// Longest time for a connection to be made.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Largest answer that tells of an error.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// One bucket, and who asks.
pub(super) struct S3 {
    bucket: Bucket,
    credentials: Credentials,
    endpoint: String,
}

/// An answer.
struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl S3 {
    /// Reads flags and environment; flags win. Nothing is sent yet.
    pub(super) fn new(
        bucket: &str,
        flags: &S3Flags,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let needed = |name: &str| {
            env(name).ok_or_else(|| format!("{name} is not set, and s3:// needs credentials"))
        };
        let key = needed("AWS_ACCESS_KEY_ID")?;
        let secret = needed("AWS_SECRET_ACCESS_KEY")?;
        let credentials = match env("AWS_SESSION_TOKEN") {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        };
        let region = flags.aws_s3_region.clone().or_else(|| env("AWS_REGION"));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let given = flags
            .aws_s3_endpoint
            .clone()
            .or_else(|| env("AWS_ENDPOINT_URL_S3"))
            .or_else(|| env("AWS_ENDPOINT_URL"));
        let style = match flags.aws_s3_path_style.unwrap_or(given.is_some()) {
            true => UrlStyle::Path,
            false => UrlStyle::VirtualHost,
        };
        let endpoint = given.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let wrong = |why: String| format!("the S3 endpoint {endpoint:?} cannot be used: {why}");
        let url: Url = endpoint
            .parse()
            .map_err(|error: url::ParseError| wrong(error.to_string()))?;
        let bucket = Bucket::new(url, style, bucket.to_owned(), region)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(S3 {
            bucket,
            credentials,
            endpoint,
        })
    }

    /// The whole object.
    pub(super) async fn get(&self, key: &str) -> Result<Bytes, String> {
        let action = self.bucket.get_object(Some(&self.credentials), key);
        let answer = self
            .send(Method::GET, action.sign(TIME_MAX), Bytes::new())
            .await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            _ => Err(self.refused("read", key, &answer)),
        }
    }

    /// Writes the object; one of that name is replaced.
    pub(super) async fn put(&self, key: &str, body: Bytes) -> Result<(), String> {
        let action = self.bucket.put_object(Some(&self.credentials), key);
        let answer = self.send(Method::PUT, action.sign(TIME_MAX), body).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(self.refused("write", key, &answer)),
        }
    }

    /// Takes the object away; one that is gone is as good.
    pub(super) async fn delete(&self, key: &str) -> Result<(), String> {
        let action = self.bucket.delete_object(Some(&self.credentials), key);
        let answer = self
            .send(Method::DELETE, action.sign(TIME_MAX), Bytes::new())
            .await?;
        let gone =
            answer.status == StatusCode::NOT_FOUND && code(&answer).as_deref() == Some("NoSuchKey");
        match answer.status.is_success() || gone {
            true => Ok(()),
            false => Err(self.refused("delete", key, &answer)),
        }
    }

    /// What the server said, in one sentence with what can be done.
    fn refused(&self, verb: &str, key: &str, answer: &Answer) -> String {
        let (bucket, endpoint) = (self.bucket.name(), &self.endpoint);
        let status = answer.status.as_u16();
        match code(answer).as_deref() {
            Some("NoSuchBucket") => format!(
                "there is no bucket {bucket:?} at {endpoint}: create it, or name another one"
            ),
            Some("NoSuchKey") => {
                format!("there is no object {key:?} in the bucket {bucket:?} at {endpoint}")
            }
            Some(
                code @ ("InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "AccessDenied"
                | "ExpiredToken"
                | "InvalidToken"),
            ) => format!(
                "the S3 server at {endpoint} does not let these credentials {verb} s3://{bucket}/{key} ({status} \
                 {code}): check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do"
            ),
            Some(code) => format!(
                "the S3 server at {endpoint} refused to {verb} s3://{bucket}/{key}: {status} {code}"
            ),
            None => format!(
                "{endpoint} answered {status} when asked to {verb} s3://{bucket}/{key}: is it an S3 server?"
            ),
        }
    }

    async fn send(&self, method: Method, url: Url, body: Bytes) -> Result<Answer, String> {
        let endpoint = &self.endpoint;
        let sent = async {
            let stream = timeout(CONNECT_TIME_MAX, connect(&url))
                .await
                .map_err(|_| io::Error::other("no answer"))
                .and_then(|connected| connected)
                .map_err(|error| format!("cannot connect to {endpoint}: {error}"))?;
            exchange(stream, method, &url, body)
                .await
                .map_err(|error| format!("{endpoint}: {error}"))
        };
        match timeout(TIME_MAX, sent).await {
            Ok(answer) => answer,
            Err(_) => Err(format!(
                "{endpoint}: no answer within {} s",
                TIME_MAX.as_secs()
            )),
        }
    }
}

/// The error's code, of the XML that tells of it.
fn code(answer: &Answer) -> Option<String> {
    let text = String::from_utf8_lossy(&answer.body);
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let word = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    word.then(|| code.to_owned())
}

async fn exchange(
    stream: BoxStream,
    method: Method,
    url: &Url,
    body: Bytes,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer; its error is the request's, too.
    tokio::spawn(async move { drop(connection.await) });
    let authority = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(hyper::header::HOST, authority)
        .body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let most = match status.is_success() {
        true => ARCHIVE_BYTES_MAX,
        false => ERROR_BYTES_MAX,
    };
    let body = Limited::new(response.into_body(), most)
        .collect()
        .await?
        .to_bytes();
    Ok(Answer { status, body })
}

async fn connect(url: &Url) -> io::Result<BoxStream> {
    // In brackets, for an IPv6 address; a name otherwise.
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(443);
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    if url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    // SSL_CERT_FILE, where it is set, is read instead of the system's authorities.
    let config = ClientTls::default().load().map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(config);
    Ok(Box::new(connector.connect(name, stream).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(flags: &S3Flags, env: &[(&str, &str)]) -> Result<S3, String> {
        let find = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        S3::new("bucket", flags, &find)
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let flags = S3Flags::default();
        let said = s3(&flags, &[]).err().expect("no key");
        assert!(said.starts_with("AWS_ACCESS_KEY_ID is not set"), "{said}");
        let said = s3(&flags, &KEYS[..1]).err().expect("no secret");
        assert!(
            said.starts_with("AWS_SECRET_ACCESS_KEY is not set"),
            "{said}"
        );
        for wrong in ["minio:9000/x", "ftp://minio", "nothing"] {
            let flags = S3Flags {
                aws_s3_endpoint: Some(wrong.into()),
                ..S3Flags::default()
            };
            let said = s3(&flags, &KEYS).err().expect(wrong);
            assert!(said.contains(wrong), "{said}");
        }
    }

    #[test]
    fn amazon_has_the_bucket_in_its_name_and_others_in_the_path() {
        let amazon = s3(&S3Flags::default(), &KEYS).expect("usable");
        let url = amazon.bucket.object_url("a/b");
        assert_eq!(
            url.as_str(),
            "https://bucket.s3.us-east-1.amazonaws.com/a/b"
        );
        let env = [KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "http://minio:9000")];
        let other = s3(&S3Flags::default(), &env).expect("usable");
        let url = other.bucket.object_url("a/b");
        assert_eq!(url.as_str(), "http://minio:9000/bucket/a/b");
    }

    #[test]
    fn refusals_say_what_to_do() {
        let s3 = s3(&S3Flags::default(), &KEYS).expect("usable");
        let refused = |status: u16, body: &str| {
            let answer = Answer {
                status: StatusCode::from_u16(status).expect("a status"),
                body: Bytes::copy_from_slice(body.as_bytes()),
            };
            s3.refused("write", "k", &answer)
        };
        let xml = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        for (code, wanted) in [
            ("NoSuchBucket", "create it"),
            ("NoSuchKey", "no object \"k\""),
            ("SignatureDoesNotMatch", "check AWS_ACCESS_KEY_ID"),
            ("SlowDown", "refused to write s3://bucket/k: 403 SlowDown"),
        ] {
            let said = refused(403, &xml(code));
            assert!(said.contains(wanted), "{said}");
        }
        assert!(refused(418, "<html>").ends_with("is it an S3 server?"));
    }
}
