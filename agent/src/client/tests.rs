//! The client against a server that answers from a script.

use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;

/// What the server saw: one request, `METHOD PATH` and its body, and the number of the connection it came over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
    pub(crate) connection: usize,
}

/// An HTTP server that gives one scripted answer after the other.
pub(crate) struct Script {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Status code and body; a status of 0 closes the connection without an answer.
pub(crate) type Answer = (u16, &'static str);

impl Script {
    pub(crate) async fn start(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                tokio::spawn(serve(
                    stream,
                    connection,
                    Arc::clone(&log),
                    Arc::clone(&answers),
                ));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .expect("no test panics while it holds this")
            .clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

async fn serve(
    stream: tokio::net::TcpStream,
    connection: usize,
    log: Arc<Mutex<Vec<Seen>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut headers) = (String::new(), String::new());
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        while !headers.ends_with("\r\n\r\n") && headers != "\r\n" {
            if stream.read_line(&mut headers).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let headers = headers.to_lowercase();
        let length = headers
            .lines()
            .find_map(|h| h.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream
            .read_exact(&mut body)
            .await
            .expect("the announced body");
        let line = line.trim_end_matches(" HTTP/1.1\r\n").to_owned();
        log.lock().expect("unpoisoned").push(Seen {
            line,
            headers,
            body,
            connection,
        });
        let answer = answers.lock().expect("unpoisoned").pop_front();
        let (status, body) = answer.unwrap_or((599, "the script has no more answers"));
        if status == 0 {
            return;
        }
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nX-Consul-Index: 7\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_connection_is_used_again_and_replaced_when_it_was_closed() {
    let server = Script::start(&[
        (200, "a"),
        (500, " No cluster leader\n"),
        (0, ""),
        (200, "d"),
    ])
    .await;
    let client = Client::new(&server.address).expect("an address");
    let first = client.get("/v1/a?x").await.expect("an answer");
    assert_eq!(
        (first.status.as_u16(), &first.body[..], first.index()),
        (200, &b"a"[..], Some(7))
    );
    let second = client
        .put("/v1/b", "body")
        .await
        .expect("any status is an answer");
    let error = second.success().expect_err("a 500");
    assert_eq!(
        error.to_string(),
        "Unexpected response code: 500 (No cluster leader)"
    );
    // Cut off after it was sent: nobody knows whether it was carried out, so it is not sent again.
    let error = client.put("/v1/c", "").await.expect_err("no answer");
    assert!(
        matches!(error, Error::Transport { .. }) && !error.is_before_sending(),
        "{error}"
    );
    client.get("/v1/d").await.expect("over a new connection");
    let seen = server.seen();
    let connections: Vec<_> = seen.iter().map(|s| s.connection).collect();
    assert_eq!(connections, [0, 0, 0, 1]);
    assert_eq!(seen[1].body, b"body");
    assert_eq!(
        server.lines(),
        ["GET /v1/a?x", "PUT /v1/b", "PUT /v1/c", "GET /v1/d"]
    );
}

#[tokio::test]
async fn a_refused_connection_reads_as_gos_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let error = Client::new(&address)
        .expect("an address")
        .get("/v1/x")
        .await
        .expect_err("nobody");
    let wanted =
        format!("Get \"http://{address}/v1/x\": dial tcp {address}: connect: connection refused");
    assert_eq!(error.to_string(), wanted);
    assert!(error.is_before_sending());
    let error = Client::new("unix:///no/such/socket")
        .expect("an address")
        .get("/v1/x")
        .await;
    let text = error.expect_err("nobody").to_string();
    assert!(
        text.ends_with("dial unix /no/such/socket: connect: no such file or directory"),
        "{text}"
    );
}

#[tokio::test]
async fn silence_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let client = Client::new(&address)
        .expect("an address")
        .with_timeout(Duration::from_millis(20));
    let error = client.get("/v1/x").await.expect_err("no answer");
    assert!(matches!(error, Error::Timeout { .. }));
    assert!(
        error.to_string().ends_with("no answer within 20ms"),
        "{error}"
    );
    drop(listener);
}

#[tokio::test]
async fn tokens_go_with_every_request() {
    let server = Script::start(&[(200, ""), (200, "")]).await;
    let client = Client::new(&server.address).expect("an address");
    let client = client.with_token("secret").expect("sendable");
    let client = client.with_basic_auth("user:pass").expect("sendable");
    client.get("/").await.expect("an answer");
    let headers = &server.seen()[0].headers;
    assert!(headers.contains("x-consul-token: secret\r\n"), "{headers}");
    assert!(
        headers.contains("authorization: basic dxnlcjpwyxnz\r\n"),
        "{headers}"
    );
    assert!(client.with_token("a\nb").is_err());
}

#[tokio::test]
async fn typed_requests_send_what_consul_expects() {
    let pair = r#"[{"LockIndex":0,"Key":"a b/ü","Flags":3,"Value":"aGk=","CreateIndex":5,"ModifyIndex":6}]"#;
    let server = Script::start(&[
        (200, pair),
        (404, ""),
        (404, "404 page not found"),
        (200, "true"),
        (200, "false"),
        (200, ""),
        (200, r#"["a/","b"]"#),
        (200, "not json"),
        (200, "\"\""),
    ])
    .await;
    let client = Client::new(&server.address).expect("an address");
    let found = client
        .kv_get("a b/ü", &[("stale", None)])
        .await
        .expect("an answer")
        .expect("there");
    assert_eq!(
        (&found.value[..], found.session, found.modify_index),
        (&b"hi"[..], None, 6)
    );
    assert_eq!(client.kv_get("none", &[]).await.expect("an answer"), None);
    assert!(matches!(
        client.kv_get("x", &[]).await,
        Err(Error::Status { .. })
    ));
    let put = KvPut {
        cas: Some(0),
        flags: Some(1),
        ..KvPut::default()
    };
    assert!(client.kv_put("k", "v", &put).await.expect("an answer"));
    assert!(!client.kv_delete("k", Some(4)).await.expect("an answer"));
    client.join("[::1]:8301").await.expect("an answer");
    assert_eq!(
        client.kv_keys("", "/", &[]).await.expect("an answer"),
        ["a/", "b"]
    );
    assert!(matches!(client.members().await, Err(Error::Decode { .. })));
    assert_eq!(client.leader().await.expect("an answer"), None);
    assert_eq!(
        server.lines(),
        [
            "GET /v1/kv/a%20b/%C3%BC?stale",
            "GET /v1/kv/none",
            "GET /v1/kv/x",
            "PUT /v1/kv/k?flags=1&cas=0",
            "DELETE /v1/kv/k?cas=4",
            "PUT /v1/agent/join/[::1]:8301",
            "GET /v1/kv/?keys&separator=%2F",
            "GET /v1/agent/members",
            "GET /v1/status/leader",
        ]
    );
}

#[tokio::test]
async fn a_stream_is_read_as_it_comes() {
    let server = Script::start(&[(200, "line\n"), (400, "Unknown log level: zz")]).await;
    let client = Client::new(&server.address).expect("an address");
    let mut stream = client.stream("/v1/agent/monitor").await.expect("a stream");
    assert_eq!(
        stream.chunk().await.expect("no error").as_deref(),
        Some(&b"line\n"[..])
    );
    assert_eq!(stream.chunk().await.expect("no error"), None);
    let Err(error) = client.stream("/v1/agent/monitor").await else {
        panic!("should be refused");
    };
    assert_eq!(
        error.to_string(),
        "Unexpected response code: 400 (Unknown log level: zz)"
    );
}
