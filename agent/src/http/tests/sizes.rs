//! How much memory a request takes that waits.

use super::super::kv;
use super::super::request::Request;
use super::super::route::{Catalog, Health, Route};
use super::super::wire::Wire;
use super::*;

/// A blocking query.
async fn query(path: &str) -> Request {
    let (mut client, stream) = tokio::io::duplex(1024);
    let wire = Wire::new(Box::new(stream), 4096);
    let text = format!("GET {path}?passing&index=7&wait=10m HTTP/1.1\r\nHost: a\r\n\r\n");
    client.write_all(text.as_bytes()).await.unwrap();
    let head = wire.head().await.unwrap().unwrap().unwrap();
    Request::new(head, wire).unwrap()
}

/// Bytes of what is kept at an endpoint while a blocking query waits there.
async fn waiting(route: Route, path: &str, rest: &str) -> usize {
    let server = server();
    let answer = server.dispatch(route, query(path).await, rest.to_owned());
    size_of_val(&*answer)
}

/// What stands around that where tokens are asked for.
#[tokio::test]
async fn who_waits_with_a_token_takes_hardly_more_than_who_waits_without() {
    let server = server();
    let request = query("/v1/kv/a").await;
    let answer = server.on_behalf(Route::Kv, None, "GET", request, "a".to_owned());
    let size = size_of_val(&*answer);
    // With a node, whose handle is larger than the fake one's, it must not grow past this either.
    assert!(size <= 512, "{size} bytes");
}

/// The C library keeps pieces of up to 1032 bytes at hand for the next request; larger ones it has to look for.
#[tokio::test]
async fn a_change_takes_little_while_it_waits() {
    let server = server();
    let (mut client, stream) = tokio::io::duplex(1024);
    let wire = Wire::new(Box::new(stream), 4096);
    let text = "PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    client.write_all(text.as_bytes()).await.unwrap();
    let head = wire.head().await.unwrap().unwrap().unwrap();
    let request = Request::new(head, wire).unwrap();
    let size = size_of_val(&kv::put(&server, request, "a".to_owned()));
    // With a node; the fake one's own answer is smaller.
    assert!(size <= 1032, "{size} bytes");
}

fn server() -> Arc<Server<Arc<Fake>>> {
    let env = Env::real();
    Server::new(Parts {
        api: Arc::new(Fake::new()),
        metrics: Arc::new(Metrics::new(
            env.clock.clone(),
            metrics::Settings::default(),
        )),
        env,
        settings: settings(),
        process: Arc::new(Around),
        shutdown: CancellationToken::new(),
    })
}

#[tokio::test]
async fn who_waits_for_a_service_takes_hardly_more_than_who_waits_for_a_key() {
    let of_key = waiting(Route::Kv, "/v1/kv/a", "a").await;
    for (route, path) in [
        (Route::Health(Health::Service), "/v1/health/service/web"),
        (Route::Health(Health::Checks), "/v1/health/checks/web"),
        (Route::Health(Health::Node), "/v1/health/node/web"),
        (Route::Catalog(Catalog::Service), "/v1/catalog/service/web"),
        (Route::Catalog(Catalog::Node), "/v1/catalog/node/web"),
        (Route::Catalog(Catalog::Services), "/v1/catalog/services"),
        (Route::Catalog(Catalog::Nodes), "/v1/catalog/nodes"),
    ] {
        let size = waiting(route, path, "web").await;
        // A filter, a shared body, and how it is shown.
        let more = 4 * size_of::<usize>();
        assert!(
            size <= of_key + more,
            "{path}: {size} bytes, a key's {of_key}"
        );
    }
}

#[tokio::test]
async fn a_connection_takes_little_besides_its_request() {
    let server = server();
    let (_client, stream) = tokio::io::duplex(1024);
    let seat = server.seat(address("127.0.0.1:1")).unwrap();
    let serving = connection::serve(server, Box::new(stream), address("127.0.0.1:1"), seat);
    let size = size_of_val(&serving);
    // The head of the last request, two waits for the end of the process, a clock for silence.
    assert!(size <= 800, "{size} bytes");
}
