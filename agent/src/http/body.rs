//! Responses, and those that every endpoint makes.

use bytes::Bytes;
use futures::stream::BoxStream;
use hyper::StatusCode;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

/// A response of this API.
pub(super) struct Response {
    pub(super) status: StatusCode,
    /// Names as they are sent.
    pub(super) headers: Vec<(&'static str, Value)>,
    pub(super) body: Body,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Static(&'static str),
    Number(u64),
    Text(String),
}

/// What is sent behind the head.
pub(super) enum Body {
    /// All of it at once.
    Whole(Bytes),
    /// As it comes.
    Stream(BoxStream<'static, Bytes>),
}

impl Response {
    pub(super) fn new(status: StatusCode, body: Body) -> Self {
        Self {
            status,
            // All that a read has.
            headers: Vec::with_capacity(8),
            body,
        }
    }

    /// Sets a header, in place of one of the same name.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        match self.headers.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.headers.push((name, value)),
        }
    }
}

/// No body.
pub(super) fn empty(status: StatusCode) -> Response {
    Response::new(status, Body::Whole(Bytes::new()))
}

/// Plain text without a final newline, as Consul's errors are.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(status, Body::Whole(text.into()));
    let kind = Value::Static("text/plain; charset=utf-8");
    response.set("Content-Type", kind);
    response
}

/// JSON; indented by 4 spaces and with a final newline if `pretty`.
pub(super) fn json<T: Serialize + ?Sized>(value: &T, pretty: bool) -> Response {
    let mut bytes = Vec::with_capacity(512);
    let written = if pretty {
        let formatter = PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        value.serialize(&mut serializer).map(|()| bytes.push(b'\n'))
    } else {
        serde_json::to_writer(&mut bytes, value)
    };
    // Maps have string keys and numbers are finite, and a vector takes every byte.
    written.expect("every value of this API has a JSON form");
    whole_json(bytes.into())
}

/// JSON that is written already.
pub(super) fn whole_json(bytes: Bytes) -> Response {
    let mut response = Response::new(StatusCode::OK, Body::Whole(bytes));
    response.set("Content-Type", Value::Static("application/json"));
    response
}
