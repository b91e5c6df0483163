//! An S3 server that checks signatures.

use std::net::SocketAddr;
use std::path::Path;

use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

/// Access key that it knows.
pub(crate) const KEY: &str = "AKIDEXAMPLE";
/// Its secret.
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// Serves buckets that are folders at that address until the test ends. Where it listens.
pub(crate) fn serve(root: &Path, at: &str) -> SocketAddr {
    let root = root.to_owned();
    let files = s3s_fs::FileSystem::new(&root).expect("a folder");
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = builder.build();
    let listener = std::net::TcpListener::bind(at).expect("a port");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // This server makes a bucket that is written to; others say that there is none.
            let answer = service_fn(move |request: Request<Incoming>| {
                let bucket = request
                    .uri()
                    .path()
                    .split('/')
                    .nth(1)
                    .map(|name| root.join(name));
                let there = bucket.is_some_and(|folder| folder.is_dir());
                let answered = there.then(|| Service::call(&service, request));
                async move {
                    match answered {
                        Some(answered) => answered.await,
                        None => {
                            let body = "<Error><Code>NoSuchBucket</Code></Error>".to_owned();
                            let mut response = Response::new(s3s::Body::from(body));
                            *response.status_mut() = StatusCode::NOT_FOUND;
                            Ok(response)
                        }
                    }
                }
            });
            while let Ok((stream, _)) = listener.accept().await {
                let connection = server
                    .serve_connection(TokioIo::new(stream), answer.clone())
                    .into_owned();
                tokio::spawn(connection);
            }
        });
    });
    address
}
