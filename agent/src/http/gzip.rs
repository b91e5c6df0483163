//! Compressing answers for clients that ask for it.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::body::{Body, Response, Value};

/// Bodies below this are sent as they are: they fit one packet anyway. Consul's bound.
const MIN_BYTES: usize = 1400;

/// Bodies above this are compressed away from the thread that answers requests.
const OFF_LOOP_BYTES: usize = 64 << 10;

/// Whether `Accept-Encoding` has gzip in it, and not with the weight 0.
pub(super) fn accepts(field: &[u8]) -> bool {
    let Ok(field) = std::str::from_utf8(field) else {
        return false;
    };
    field.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        name.trim().eq_ignore_ascii_case("gzip") && weight.parse().is_ok_and(|q: f32| q > 0.0)
    })
}

/// Whether compressing it is worth it.
pub(super) fn is_worth_it(response: &Response) -> bool {
    let large = matches!(&response.body, Body::Whole(bytes) if bytes.len() >= MIN_BYTES);
    let headers = &response.headers;
    large
        && !headers.iter().any(|(name, _)| *name == "Content-Encoding")
        && headers.iter().any(|(name, value)| {
            let text = match value {
                Value::Static(text) => text,
                Value::Text(text) => text.as_str(),
                Value::Number(_) => "",
            };
            *name == "Content-Type"
                && (text.starts_with("application/json") || text.starts_with("text/"))
        })
}

/// The response with its body compressed. `threads` says whether there may be threads for it.
pub(super) async fn compress(mut response: Response, threads: bool) -> Response {
    let Body::Whole(bytes) = &response.body else {
        return response;
    };
    let bytes = bytes.clone();
    let packed = match threads && bytes.len() > OFF_LOOP_BYTES {
        true => tokio::task::spawn_blocking(move || pack(&bytes)).await.ok(),
        false => Some(pack(&bytes)),
    };
    // Without a thread it goes out as it is.
    if let Some(packed) = packed {
        response.body = Body::Whole(packed);
        response.set("Content-Encoding", Value::Static("gzip"));
    }
    response.set("Vary", Value::Static("Accept-Encoding"));
    response
}

fn pack(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("a vector takes every byte").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_ask_for_it_get_it() {
        for (field, wanted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("gzip;q=x", false),
            ("", false),
        ] {
            assert_eq!(accepts(field.as_bytes()), wanted, "{field}");
        }
    }
}
