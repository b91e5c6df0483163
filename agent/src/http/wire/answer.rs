//! The head of a response. Pure.

use std::io::Write as _;

use crate::http::body::{Body, Response, Value};

/// How a response goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Form {
    /// The client speaks HTTP/1.0.
    pub(in crate::http) old: bool,
    /// The connection goes on.
    pub(in crate::http) keep_alive: bool,
    /// To a `HEAD`: nothing behind the head.
    pub(in crate::http) without_body: bool,
}

/// Appends the head, and the body if it is there as a whole. `date` is the value of `Date`; of `more` headers those are
/// added that the response does not have.
pub(in crate::http) fn encode(
    response: &Response,
    form: Form,
    date: &str,
    more: &[(String, String)],
    out: &mut Vec<u8>,
) {
    let status = response.status;
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &response.headers {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        match value {
            Value::Static(text) => out.extend_from_slice(text.as_bytes()),
            Value::Number(number) => put_number(out, *number),
            // A line end would begin another header.
            Value::Text(text) => out.extend(text.bytes().map(|b| if b < b' ' { b' ' } else { b })),
        }
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in more {
        let is = |(known, _): &(&str, Value)| known.eq_ignore_ascii_case(name);
        if !response.headers.iter().any(is) {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(date.as_bytes());
    let connection = match (form.old, form.keep_alive) {
        (false, false) => "\r\nConnection: close",
        (true, true) => "\r\nConnection: keep-alive",
        _ => "",
    };
    out.extend_from_slice(connection.as_bytes());
    match &response.body {
        Body::Whole(bytes) => {
            out.extend_from_slice(b"\r\nContent-Length: ");
            put_number(out, bytes.len() as u64);
            out.extend_from_slice(b"\r\n\r\n");
            if !form.without_body {
                out.extend_from_slice(bytes);
            }
        }
        Body::Stream(_) if form.old => out.extend_from_slice(b"\r\n\r\n"),
        Body::Stream(_) => out.extend_from_slice(b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
    }
}

/// One piece of a streamed body; the empty one ends it.
pub(in crate::http) fn chunk(form: Form, bytes: &[u8]) -> Vec<u8> {
    if form.old {
        return bytes.to_vec();
    }
    let mut chunk = Vec::with_capacity(bytes.len() + 16);
    // Writing to a vector cannot fail; the same below.
    let _ = write!(chunk, "{:x}\r\n", bytes.len());
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn encoded(response: &Response, old: bool, keep_alive: bool) -> String {
        let form = Form {
            old,
            keep_alive,
            without_body: false,
        };
        let mut out = Vec::new();
        let more = [("X-Own", "1"), ("location", "never")];
        let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
        encode(response, form, "now", &more, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_has_its_headers_and_its_length() {
        let mut response = Response::new(StatusCode::OK, Body::Whole("true".into()));
        response.set("X-Consul-Index", Value::Number(7));
        response.set("Location", Value::Text("/a\r\nX: y".to_owned()));
        assert_eq!(
            encoded(&response, false, true),
            "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nLocation: /a  X: y\r\nX-Own: 1\r\nDate: now\r\nContent-Length: 4\r\n\r\ntrue"
        );
        let closes = encoded(&response, false, false);
        assert!(closes.contains("\r\nConnection: close\r\n"), "{closes}");
        let kept = encoded(&response, true, true);
        assert!(kept.contains("\r\nConnection: keep-alive\r\n"), "{kept}");
    }

    #[test]
    fn a_stream_is_sent_in_chunks() {
        let form = Form {
            old: false,
            keep_alive: true,
            without_body: false,
        };
        assert_eq!(
            chunk(form, b"0123456789abcdef0"),
            b"11\r\n0123456789abcdef0\r\n"
        );
        assert_eq!(chunk(form, b""), b"0\r\n\r\n");
    }
}
