use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

fn pair() -> (DuplexStream, Wire) {
    let (client, server) = duplex(1 << 20);
    (client, Wire::new(Box::new(server), 65536))
}

async fn next(wire: &Wire) -> Head {
    wire.head().await.unwrap().unwrap().unwrap()
}

fn too_long(result: Result<Bytes, BodyError>) -> u64 {
    match result {
        Err(BodyError::TooLong(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests_that_come_together_are_taken_one_after_the_other() {
    let (mut client, wire) = pair();
    let first = b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let second = b"PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let third = b"GET /c HTTP/1.1\r\n\r\n";
    client
        .write_all(&[first.as_slice(), second, third].concat())
        .await
        .unwrap();
    assert_eq!(next(&wire).await.target, "/a");
    assert_eq!(wire.body(3).await.unwrap(), "abc");
    assert_eq!(next(&wire).await.target, "/b");
    assert_eq!(wire.body(3).await.unwrap(), "x");
    assert_eq!(next(&wire).await.target, "/c");
    assert_eq!(wire.body(3).await.unwrap(), "");
    assert_eq!(wire.unread(), Unread::Nothing);
    drop(client);
    assert_eq!(wire.head().await.unwrap(), Ok(None));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let (mut client, wire) = pair();
    client
        .write_all(b"PUT /a HTTP/1.1\r\nContent-Length: 11\r\n\r\n")
        .await
        .unwrap();
    next(&wire).await;
    assert_eq!(too_long(wire.body(10).await), 11);
    assert_eq!(wire.unread(), Unread::Body);
    client
        .write_all(b"0123456789aGET /b HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    assert!(wire.skip_body(11).await);
    assert_eq!(next(&wire).await.target, "/b");
}

#[tokio::test]
async fn chunks_over_the_limit_are_refused_and_not_skipped_for_ever() {
    let (mut client, wire) = pair();
    client
        .write_all(b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n")
        .await
        .unwrap();
    next(&wire).await;
    assert_eq!(too_long(wire.body(3).await), 4);
    client.write_all(b"4\r\nabcd\r\n").await.unwrap();
    assert!(!wire.skip_body(3).await);
}

#[tokio::test]
async fn permission_is_given_when_the_body_is_wanted() {
    let (mut client, wire) = pair();
    let head = b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    client.write_all(head).await.unwrap();
    next(&wire).await;
    assert_eq!(wire.unread(), Unread::Anything);
    assert!(!wire.skip_body(10).await, "nobody knows whether it comes");
    let ask = async {
        let mut said = vec![0; CONTINUE.len()];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(said, CONTINUE);
        client.write_all(b"abc").await.unwrap();
    };
    let (body, ()) = tokio::join!(wire.body(3), ask);
    assert_eq!(body.unwrap(), "abc");
    // A body that came unasked needs none.
    client
        .write_all(&[head.as_slice(), b"def"].concat())
        .await
        .unwrap();
    next(&wire).await;
    assert_eq!(wire.body(3).await.unwrap(), "def");
    drop(wire);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error() {
    let (mut client, wire) = pair();
    client
        .write_all(b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab")
        .await
        .unwrap();
    next(&wire).await;
    drop(client);
    assert!(matches!(wire.body(3).await, Err(BodyError::Broken(_))));
}

#[tokio::test]
async fn a_connection_at_rest_holds_no_buffer() {
    let (mut client, wire) = pair();
    let body = vec![b'x'; 100_000];
    client
        .write_all(b"PUT /a HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        .await
        .unwrap();
    client.write_all(&body).await.unwrap();
    next(&wire).await;
    assert_eq!(wire.body(100_000).await.unwrap(), body);
    assert!(wire.lock().buffer.capacity() <= KEPT_BYTES);
}
