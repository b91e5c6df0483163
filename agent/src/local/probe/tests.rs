//! Every kind of check against a real socket or program.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use crate::env::Env;
use crate::local::definition::Raw;
use crate::state::CheckStatus::{self, Critical, Passing, Warning};

async fn run(value: Value) -> (CheckStatus, String) {
    let mut value = value;
    value["Name"] = json!("c");
    value["Interval"] = json!("10s");
    let definition = Raw::check(value).expect("an object").to_check();
    super::run(&Env::real(), &definition.expect("valid")).await
}

/// Answers every connection with the next of these texts; where it listens.
async fn serve(answers: &[&str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    tokio::spawn(async move {
        for answer in answers.iter().cycle() {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = [0; 4096];
            let read = stream.read(&mut head).await.expect("a request");
            let head = String::from_utf8_lossy(&head[..read]).replace("\r\n", "|");
            let text = answer.replace("{}", &head);
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn http_is_judged_by_its_status() {
    for (line, wanted) in [
        ("200 OK", Passing),
        ("204 No Content", Passing),
        ("429 Too Many Requests", Warning),
        ("301 Moved", Critical),
        ("404 Not Found", Critical),
        ("500 Oh", Critical),
    ] {
        let address = serve(&[&format!("HTTP/1.1 {line}\r\nConnection: close\r\n\r\n{{}}")]).await;
        let (status, output) = run(json!({"HTTP": format!("http://{address}/a?b")})).await;
        assert_eq!(status, wanted, "{line}: {output}");
        if wanted == Passing && line.starts_with("200") {
            assert!(
                output.starts_with(&format!(
                    "HTTP GET http://{address}/a?b: 200 OK Output: GET /a?b HTTP/1.1"
                )),
                "{output}"
            );
            assert!(
                output
                    .to_lowercase()
                    .contains("user-agent: consul health check"),
                "{output}"
            );
        }
    }
}

#[tokio::test]
async fn http_sends_what_it_is_told_and_follows_redirects() {
    let address = serve(&["HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}"]).await;
    let check = json!({"HTTP": format!("http://{address}"), "Method": "PUT", "Body": "hello", "Header": {"X-A": ["1", "2"], "Host": ["me"]}});
    let (status, output) = run(check).await;
    assert_eq!(status, Passing, "{output}");
    let lower = output.to_lowercase();
    for part in ["put / http/1.1|", "x-a: 1|x-a: 2|", "host: me|", "||hello"] {
        assert!(lower.contains(part), "{part}: {output}");
    }
    let redirect =
        "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let address = serve(&[redirect, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}"]).await;
    let (status, output) = run(json!({"HTTP": format!("http://{address}/here")})).await;
    assert!(
        status == Passing && output.contains("GET /there"),
        "{output}"
    );
    let address = serve(&[redirect]).await;
    let (status, _) =
        run(json!({"HTTP": format!("http://{address}"), "DisableRedirects": true})).await;
    assert_eq!(status, Critical);
    let (status, output) = run(json!({"HTTP": format!("http://{address}")})).await;
    assert!(
        status == Critical && output.contains("stopped after 10 redirects"),
        "{output}"
    );
    let (status, output) = run(json!({"HTTP": "ftp://127.0.0.1/"})).await;
    assert!(
        status == Critical && output.contains("unsupported protocol scheme"),
        "{output}"
    );
}

#[tokio::test]
async fn ports_are_open_or_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    assert_eq!(
        run(json!({"TCP": address})).await,
        (Passing, format!("TCP connect {address}: Success"))
    );
    // Bound, so that nobody else listens there.
    let closed = TcpSocket::new_v4().expect("a socket");
    closed
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .expect("a port");
    let address = closed.local_addr().expect("bound").to_string();
    let (status, output) = run(json!({"TCP": address})).await;
    assert!(
        status == Critical && output.starts_with(&format!("dial tcp {address}: ")),
        "{output}"
    );
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound").to_string();
    assert_eq!(run(json!({"UDP": address})).await.0, Passing);
    // From now on it takes datagrams from nobody else.
    socket.connect("127.0.0.1:9").await.expect("an address");
    let (status, output) = run(json!({"UDP": address})).await;
    assert!(status == Critical && output.contains("refused"), "{output}");
    let (status, output) = run(json!({"TCP": "nowhere"})).await;
    assert!(
        status == Critical && output.contains("missing port"),
        "{output}"
    );
}

#[tokio::test]
async fn programs_are_judged_by_their_exit_code() {
    for (script, wanted) in [
        ("echo out; echo err >&2", (Passing, "out\nerr\n")),
        ("echo so so; exit 1", (Warning, "so so\n")),
        ("exit 2", (Critical, "")),
        ("kill -9 $$", (Critical, "")),
    ] {
        let (status, output) = run(json!({"Args": ["sh", "-c", script]})).await;
        assert_eq!((status, output.as_str()), wanted, "{script}");
    }
    let (status, output) = run(json!({"Args": ["/no/such/program"]})).await;
    assert!(
        status == Critical && output.starts_with("failed to run"),
        "{output}"
    );
}

#[tokio::test]
async fn what_takes_too_long_is_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let (status, output) = run(json!({"Args": ["sh", "-c", script], "Timeout": "500ms"})).await;
    assert_eq!(
        (status, output.as_str()),
        (Critical, "Timed out: the program was stopped")
    );
    // What the program started is gone too, if it got that far.
    if let Ok(pid) = std::fs::read_to_string(&file)
        && !pid.trim().is_empty()
    {
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        while state().is_ok_and(|text| !text.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (status, output) =
        run(json!({"HTTP": format!("http://{address}"), "Timeout": "50ms"})).await;
    assert_eq!(
        (status, output.as_str()),
        (Critical, "Timed out after 50ms")
    );
}

/// A health service that says this status for `web`, and that it does not know any other.
async fn health_service(status: u8) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    tokio::spawn(async move {
                        let mut body = request.into_body();
                        let asked = body.data().await.expect("a message").expect("a message");
                        let known = asked[5..] == [0x0a, 3, b'w', b'e', b'b'];
                        let response = hyper::Response::builder();
                        let response = response.header("content-type", "application/grpc").body(());
                        let mut stream = respond
                            .send_response(response.expect("valid"), false)
                            .expect("open");
                        let mut trailers = hyper::HeaderMap::new();
                        if known {
                            let answer = vec![0, 0, 0, 0, 2, 0x08, status];
                            stream.send_data(answer.into(), false).expect("open");
                            trailers.insert("grpc-status", "0".parse().expect("valid"));
                        } else {
                            trailers.insert("grpc-status", "5".parse().expect("valid"));
                            trailers
                                .insert("grpc-message", "unknown service".parse().expect("valid"));
                        }
                        stream.send_trailers(trailers).expect("open");
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn grpc_asks_the_health_service_and_h2_is_pinged() {
    let address = health_service(1).await;
    let check = |service: &str| json!({"GRPC": format!("{address}{service}")});
    assert_eq!(
        run(check("/web")).await,
        (Passing, format!("gRPC check {address}/web: success"))
    );
    let (status, output) = run(check("/other")).await;
    assert!(
        status == Critical && output.contains("code = 5 desc = unknown service"),
        "{output}"
    );
    let ping = json!({"H2PING": address, "H2PingUseTLS": false});
    assert_eq!(
        run(ping).await,
        (Passing, "HTTP2 ping was successful".into())
    );
    let address = health_service(2).await;
    let (status, output) = run(json!({"GRPC": format!("{address}/web")})).await;
    assert!(
        status == Critical && output.contains("NOT_SERVING"),
        "{output}"
    );
}
