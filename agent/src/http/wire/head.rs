//! The head of a request. Pure.

use std::mem::MaybeUninit;

use hyper::{Method, StatusCode, Uri};

use crate::config::Secret;

/// Header fields that are taken, as many as hyper takes.
const FIELDS_MAX: usize = 100;

/// What this API needs to know of a request before its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Head {
    pub(in crate::http) method: Method,
    /// Path and query as they were sent.
    pub(in crate::http) target: String,
    /// Whether the client speaks HTTP/1.0.
    pub(in crate::http) old: bool,
    /// Whether the client may send another request on this connection.
    pub(in crate::http) keep_alive: bool,
    pub(in crate::http) length: Length,
    /// `Expect: 100-continue`: it wants to hear something before it sends the body.
    pub(in crate::http) asks_permission: bool,
    /// `Accept-Encoding` has gzip in it.
    pub(in crate::http) gzip: bool,
    /// `Cache-Control: max-age`, in seconds; 0 with `must-revalidate`.
    pub(in crate::http) max_age: Option<u32>,
    /// `X-Consul-Namespace` is there and not empty.
    pub(in crate::http) namespace: bool,
    /// `X-Consul-Partition` is there and not empty.
    pub(in crate::http) partition: bool,
    /// `X-Consul-Token`, else the token of `Authorization: Bearer`.
    pub(in crate::http) token: Option<Secret>,
}

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Length {
    Known(u64),
    Chunked,
}

/// Reads a head and how many bytes it has; `None` when there is more to come.
///
/// # Errors
/// What to answer. Nothing behind such a head can be understood.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, StatusCode> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let used = match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    };
    let bad = StatusCode::BAD_REQUEST;
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(bad);
    };
    let old = version == 0;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad)?;
    let mut head = bare(method, origin(target)?, old);
    let mut lengths = None;
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // By length first: most fields are none of these.
        match field.name.len() {
            6 if is("expect") => head.asks_permission = !old && has(field.value, "100-continue"),
            10 if is("connection") => {
                if has(field.value, "close") {
                    head.keep_alive = false;
                } else if old && has(field.value, "keep-alive") {
                    head.keep_alive = true;
                }
            }
            13 if is("authorization") => head.token = head.token.or_else(|| bearer(field.value)),
            13 if is("cache-control") => head.max_age = max_age(field.value).or(head.max_age),
            14 if is("x-consul-token") => head.token = secret(field.value).or(head.token),
            14 if is("content-length") => {
                let length = number(field.value).ok_or(bad)?;
                if lengths.is_some_and(|other| other != length) {
                    return Err(bad);
                }
                lengths = Some(length);
            }
            15 if is("accept-encoding") => head.gzip |= crate::http::gzip::accepts(field.value),
            17 if is("transfer-encoding") => {
                if old || head.length == Length::Chunked {
                    return Err(bad);
                }
                if !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(StatusCode::NOT_IMPLEMENTED);
                }
                head.length = Length::Chunked;
            }
            18 if is("x-consul-namespace") => head.namespace = !field.value.is_empty(),
            18 if is("x-consul-partition") => head.partition = !field.value.is_empty(),
            _ => {}
        }
    }
    match (lengths, head.length) {
        // Two ways to find the end: somebody before us may have taken the other one.
        (Some(_), Length::Chunked) => return Err(bad),
        (Some(length), Length::Known(_)) => head.length = Length::Known(length),
        (None, _) => {}
    }
    Ok(Some((head, used)))
}

/// What a head says without any fields.
fn bare(method: Method, target: String, old: bool) -> Head {
    Head {
        method,
        target,
        old,
        keep_alive: !old,
        length: Length::Known(0),
        asks_permission: false,
        gzip: false,
        max_age: None,
        namespace: false,
        partition: false,
        token: None,
    }
}

/// A token; none for an empty field, and for one that is no text.
fn secret(field: &[u8]) -> Option<Secret> {
    let text = std::str::from_utf8(field.trim_ascii()).ok()?;
    (!text.is_empty()).then(|| Secret(text.to_owned()))
}

/// The token of a bearer.
fn bearer(field: &[u8]) -> Option<Secret> {
    let (scheme, token) = field.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| secret(token))?
}

/// How old a cached answer may be.
fn max_age(field: &[u8]) -> Option<u32> {
    let field = std::str::from_utf8(field).ok()?;
    let mut directives = field.split(',').map(str::trim);
    directives.find_map(|directive| match directive.split_once('=') {
        Some(("max-age", seconds)) => seconds.parse().ok(),
        None if directive == "must-revalidate" => Some(0),
        _ => None,
    })
}

/// Path and query of a target: nearly always the target itself, else without scheme and host.
fn origin(target: &str) -> Result<String, StatusCode> {
    if target.starts_with('/') || target == "*" {
        return Ok(target.to_owned());
    }
    let uri: Uri = target.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    match (uri.scheme(), uri.path_and_query()) {
        (Some(_), Some(path)) => Ok(path.as_str().to_owned()),
        _ => Err(StatusCode::BAD_REQUEST),
    }
}

/// Whether a list has this word, in any case.
fn has(list: &[u8], word: &str) -> bool {
    list.split(|b| *b == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Digits and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value.trim_ascii()).ok()?;
    let only = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    only.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Head {
        let (head, used) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(used, text.len());
        head
    }

    fn refused(fields: &str) -> u16 {
        let text = format!("PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        parse(text.as_bytes()).unwrap_err().as_u16()
    }

    #[test]
    fn a_head_is_read_where_it_ends() {
        let text = "PUT /v1/kv/a?b=%2F HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n";
        let head = whole(text);
        assert_eq!(
            (head.method, head.target.as_str()),
            (Method::PUT, "/v1/kv/a?b=%2F")
        );
        assert_eq!(head.length, Length::Known(12));
        assert!(head.keep_alive && !head.old && !head.asks_permission);
        for len in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..len]), Ok(None), "{len}");
        }
    }

    #[test]
    fn connections_are_kept_as_their_version_says() {
        let kept = |version: &str, field: &str| {
            whole(&format!("GET / HTTP/{version}\r\n{field}\r\n")).keep_alive
        };
        assert!(kept("1.1", ""));
        assert!(!kept("1.1", "Connection: Close\r\n"));
        assert!(!kept("1.1", "Connection: te, close\r\n"));
        assert!(!kept("1.0", ""));
        assert!(kept("1.0", "Connection: Keep-Alive\r\n"));
    }

    #[test]
    fn a_body_has_one_end() {
        let length = |fields: &str| whole(&format!("PUT / HTTP/1.1\r\n{fields}\r\n")).length;
        assert_eq!(length(""), Length::Known(0));
        assert_eq!(length("Transfer-Encoding: Chunked\r\n"), Length::Chunked);
        assert_eq!(
            length("Content-Length: 5\r\ncontent-length: 5\r\n"),
            Length::Known(5)
        );
        assert_eq!(refused("Content-Length: 5\r\nContent-Length: 6\r\n"), 400);
        assert_eq!(
            refused("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            400
        );
        for bad in ["", "x", "-1", "+1", "1,1", "99999999999999999999"] {
            assert_eq!(refused(&format!("Content-Length: {bad}\r\n")), 400, "{bad}");
        }
        assert_eq!(refused("Transfer-Encoding: gzip, chunked\r\n"), 501);
        let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(refused(twice), 400);
        let old = b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(parse(old), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_proxys_target_loses_its_host() {
        let target = |target: &str| whole(&format!("GET {target} HTTP/1.1\r\n\r\n")).target;
        assert_eq!(target("http://a:1/v1/kv/x?y"), "/v1/kv/x?y");
        assert_eq!(target("*"), "*");
        let bad = parse(b"CONNECT a:1 HTTP/1.1\r\n\r\n");
        assert_eq!(bad, Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn too_many_fields_are_refused() {
        let fields = "X: y\r\n".repeat(FIELDS_MAX);
        assert_eq!(refused(&fields), 431);
    }

    #[test]
    fn no_request_head_makes_the_parsers_panic() {
        let seeds = [
            "GET /v1/kv/a?recurse&index=7&wait=10s HTTP/1.1\r\nHost: x\r\n\r\n",
            "PUT /v1/kv/a%20b?cas=3&flags=9 HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
            "PUT http://h/v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        ]
        .map(|text| text.as_bytes().to_vec());
        crate::fuzz::run("http-head", &seeds, |bytes| match parse(bytes) {
            Err(status) => ["bad", "large", "other"][match status {
                StatusCode::BAD_REQUEST => 0,
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => 1,
                _ => 2,
            }]
            .to_owned(),
            Ok(None) => "more".to_owned(),
            Ok(Some((head, used))) => {
                assert!(used <= bytes.len());
                let query = head.target.split_once('?').map_or("", |(_, query)| query);
                let params = crate::http::request::Params::parse(query);
                let index = params.number("index").map_err(|error| error.text);
                let wait = params.get("wait").map(crate::duration::parse);
                format!(
                    "{} {} {} {} {:?}",
                    head.method.is_safe(),
                    head.keep_alive,
                    head.length == Length::Chunked,
                    index.is_ok(),
                    wait.map(|wait| wait.is_ok())
                )
            }
        });
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"PUT / HTTP/1.1\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat());
        }
    }
}
