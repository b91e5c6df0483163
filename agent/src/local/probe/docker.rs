//! Programs inside of containers, by the API of the Docker Engine on this machine.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::{Outcome, connect, critical, other};
use crate::env::{BoxStream, Env};
use crate::state::CheckStatus;

/// Where the engine listens unless `DOCKER_HOST` says otherwise.
const ENGINE: &str = "unix:///var/run/docker.sock";

/// Bytes of an answer that are read at most; fewer are kept.
const ANSWER_MAX: usize = 1 << 20;

/// Exit code 0 passes, 1 warns, everything else is critical.
pub(super) async fn run(env: &Env, container: &str, args: &[String]) -> Outcome {
    let engine = std::env::var("DOCKER_HOST").unwrap_or_default();
    let engine = match engine.as_str() {
        "" => ENGINE,
        engine => engine,
    };
    run_at(env, engine, container, args).await
}

pub(super) async fn run_at(env: &Env, engine: &str, container: &str, args: &[String]) -> Outcome {
    let engine = Engine { env, engine };
    match engine.execute(container, args).await {
        Err(error) => critical(format!(
            "failed to run {:?} in container {container:?} by {}: {error}",
            args.join(" "),
            engine.engine
        )),
        Ok((code, output)) => {
            let status = match code {
                0 => CheckStatus::Passing,
                1 => CheckStatus::Warning,
                _ => CheckStatus::Critical,
            };
            (status, output)
        }
    }
}

struct Engine<'a> {
    env: &'a Env,
    engine: &'a str,
}

impl Engine<'_> {
    /// Exit code and output of a program.
    async fn execute(&self, container: &str, args: &[String]) -> io::Result<(i64, String)> {
        let wanted = json!({"AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Tty": false, "Cmd": args});
        let path = format!("/containers/{}/exec", escaped(container));
        let (status, body) = self.ask(Method::POST, &path, &wanted).await?;
        let created = expect(&[StatusCode::CREATED, StatusCode::OK], status, &body)?;
        let id = match created.get("Id").and_then(Value::as_str) {
            Some(id) if !id.is_empty() => escaped(id),
            _ => return Err(other("the engine names no id of what it is to run")),
        };
        // Answered once the program has ended.
        let wanted = json!({"Detach": false, "Tty": false});
        let path = format!("/exec/{id}/start");
        let (status, output) = self.ask(Method::POST, &path, &wanted).await?;
        if status != StatusCode::OK {
            expect(&[], status, &output)?;
        }
        let path = format!("/exec/{id}/json");
        let (status, body) = self.ask(Method::GET, &path, &Value::Null).await?;
        let ended = expect(&[StatusCode::OK], status, &body)?;
        let code = ended.get("ExitCode").and_then(Value::as_i64);
        let code = code.ok_or_else(|| other("the engine names no exit code"))?;
        Ok((code, demultiplexed(&output)))
    }

    /// One request on a connection of its own: the answer to a start takes the connection for itself.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> io::Result<(StatusCode, Bytes)> {
        let body = match body {
            Value::Null => Bytes::new(),
            body => Bytes::from(body.to_string()),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "docker")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        let stream: BoxStream = match self.engine.split_once("://") {
            Some(("unix", path)) => Box::new(UnixStream::connect(path).await?),
            Some(("tcp" | "http", address)) => connect::open(self.env, address, None, &[]).await?,
            _ => {
                return Err(other(
                    "DOCKER_HOST must begin with unix:// or tcp://, without TLS",
                ));
            }
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let response = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(io::Error::other)?;
        drop(driver);
        Ok((status, body.to_bytes()))
    }
}

/// An answer as JSON, if its status is one of these.
fn expect(wanted: &[StatusCode], status: StatusCode, body: &[u8]) -> io::Result<Value> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    if wanted.contains(&status) {
        return Ok(value);
    }
    let why = value.get("message").and_then(Value::as_str);
    let why = why.map_or_else(
        || String::from_utf8_lossy(body).trim().to_owned(),
        str::to_owned,
    );
    Err(other(format!("{status}: {why}")))
}

/// A name as a part of a path.
fn escaped(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                path.push(char::from(byte));
            }
            byte => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// Both outputs of a program, in the order in which they were written: each piece has a head of eight bytes, the last four
/// its length. What has no such head is taken as it is.
fn demultiplexed(mut bytes: &[u8]) -> String {
    let mut output = Vec::new();
    while let [0..=2, 0, 0, 0, a, b, c, d, rest @ ..] = bytes {
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (piece, after) = rest.split_at(len.min(rest.len()));
        output.extend_from_slice(piece);
        bytes = after;
    }
    output.extend_from_slice(bytes);
    String::from_utf8_lossy(&output).into_owned()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// An engine that answers requests in turn, and keeps what it was asked.
    async fn asked(answers: Vec<&'static [u8]>, container: &str) -> (Outcome, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let engine = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                loop {
                    let mut bytes = [0; 4096];
                    let count = stream.read(&mut bytes).await.unwrap();
                    request.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
                    let Some((head, body)) = request.split_once("\r\n\r\n") else {
                        continue;
                    };
                    let len = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() == len.map_or(0, |len| len.parse().unwrap()) {
                        let line = head.lines().next().unwrap();
                        requests.push(format!("{line} {body}"));
                        break;
                    }
                }
                stream.write_all(answer).await.unwrap();
            }
            requests
        });
        let at = format!("unix://{}", path.display());
        let args = ["/check".to_owned(), "-a".to_owned()];
        let outcome = run_at(&Env::real(), &at, container, &args).await;
        (outcome, engine.await.unwrap())
    }

    const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 12\r\n\r\n{\"Id\":\"e/1\"}";
    const STARTED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.docker.raw-stream\r\nconnection: close\r\n\r\n\
        \x01\x00\x00\x00\x00\x00\x00\x04well\x02\x00\x00\x00\x00\x00\x00\x01!";

    #[tokio::test]
    async fn the_exit_code_decides_and_both_outputs_are_kept() {
        let with = async |ended: &'static [u8]| asked(vec![CREATED, STARTED, ended], "web/1").await;
        let (outcome, requests) =
            with(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"ExitCode\":0}").await;
        assert_eq!(outcome, (CheckStatus::Passing, "well!".to_owned()));
        assert_eq!(
            requests,
            [
                "POST /containers/web%2F1/exec HTTP/1.1 {\"AttachStdin\":false,\"AttachStdout\":true,\"AttachStderr\":true,\"Tty\":false,\"Cmd\":[\"/check\",\"-a\"]}",
                "POST /exec/e%2F1/start HTTP/1.1 {\"Detach\":false,\"Tty\":false}",
                "GET /exec/e%2F1/json HTTP/1.1 "
            ]
        );
        let (outcome, _) =
            with(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"ExitCode\":1}").await;
        assert_eq!(outcome.0, CheckStatus::Warning);
        let (outcome, _) =
            with(b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"ExitCode\":137}").await;
        assert_eq!(outcome.0, CheckStatus::Critical);
        let (outcome, _) = with(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        assert!(outcome.1.contains("names no exit code"), "{}", outcome.1);
    }

    #[tokio::test]
    async fn what_the_engine_says_is_passed_on() {
        let gone = b"HTTP/1.1 404 Not Found\r\ncontent-length: 36\r\n\r\n{\"message\":\"No such container: web\"}";
        let (outcome, _) = asked(vec![gone], "web").await;
        assert_eq!(outcome.0, CheckStatus::Critical);
        assert!(
            outcome.1.contains("404 Not Found: No such container: web"),
            "{}",
            outcome.1
        );
        let env = Env::real();
        let (status, why) = run_at(&env, "unix:///nowhere.sock", "web", &["/c".into()]).await;
        assert_eq!(status, CheckStatus::Critical);
        assert!(
            why.starts_with("failed to run \"/c\" in container \"web\" by unix:///nowhere.sock: "),
            "{why}"
        );
        let (_, why) = run_at(&env, "npipe:x", "web", &["/c".into()]).await;
        assert!(why.contains("DOCKER_HOST must begin with"), "{why}");
    }

    #[test]
    fn output_without_heads_is_taken_as_it_is() {
        assert_eq!(demultiplexed(b"plain"), "plain");
        assert_eq!(demultiplexed(b"\x01\0\0\0\0\0\0\x09cut"), "cut");
        assert_eq!(demultiplexed(b""), "");
    }
}
