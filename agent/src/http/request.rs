//! A request as endpoints see it: decoded path, parameters, and a body that is read with a bound.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::error::Error;
use super::wire::{BodyError, Head, Wire};
use crate::config::Secret;

/// How long a client may take to send a body. The largest one needs 9 KB/s.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// One request.
pub(super) struct Request {
    pub(super) method: Method,
    /// Percent-decoded.
    pub(super) path: String,
    /// Parameters of the query string.
    pub(super) params: Params,
    /// The token of whoever asks; empty for none.
    pub(super) token: Secret,
    /// Until the body is read.
    wire: Option<Wire>,
}

impl Request {
    /// # Errors
    /// 400 when the path cannot be decoded or has characters that cannot be printed.
    pub(super) fn new(head: Head, wire: Wire) -> Result<Self, Error> {
        let (mut path, mut params) = (head.target, Params::default());
        if let Some(query) = path.find('?') {
            params = Params::parse(&path[query + 1..]);
            path.truncate(query);
        }
        params.max_age = head.max_age;
        match decode(&path, false) {
            // As it is, without a copy.
            Some(Cow::Borrowed(_)) => {}
            Some(Cow::Owned(decoded)) => path = decoded,
            None => {
                return Err(Error::bad_request(
                    "Invalid URL path: not percent-encoded UTF-8",
                ));
            }
        }
        if !is_printable(&path) {
            return Err(Error::bad_request(
                "Invalid URL path: a character is not printable",
            ));
        }
        for (is_there, what) in [
            (head.namespace, "Namespaces"),
            (head.partition, "Partitions"),
        ] {
            if is_there {
                return Err(Error::bad_request(format!(
                    "Invalid header: \"X-Consul-{}\" - {what} are a Consul Enterprise feature",
                    what.trim_end_matches('s')
                )));
            }
        }
        let token = match params.given("token") {
            Some(token) => Secret(token.to_owned()),
            None => head.token.unwrap_or_default(),
        };
        Ok(Self {
            method: head.method,
            path,
            params,
            token,
            wire: Some(wire),
        })
    }

    /// The body, if it has at most `limit` bytes; nothing when it was read before.
    ///
    /// # Errors
    /// 413 when it is larger, before it is read if the client announced it; 408 when it takes too long; 400 when the
    /// client breaks off.
    pub(super) async fn body(&mut self, limit: usize) -> Result<Bytes, Error> {
        self.body_within(limit, BODY_TIMEOUT).await
    }

    /// As [`Request::body`], with another time.
    pub(super) async fn body_within(
        &mut self,
        limit: usize,
        time: Duration,
    ) -> Result<Bytes, Error> {
        let Some(wire) = self.wire.take() else {
            return Ok(Bytes::new());
        };
        match tokio::time::timeout(time, wire.body(limit)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(BodyError::TooLong(len))) => Err(Error::too_large(len, limit)),
            Ok(Err(BodyError::Broken(error))) => Err(Error::bad_request(error.to_string())),
            Err(_) => Err(Error {
                status: StatusCode::REQUEST_TIMEOUT,
                text: "The request body was not sent in time".into(),
            }),
        }
    }
}

/// The parameters of a query string, in their order.
///
/// In two pieces, however many they are: ten thousand blocking queries keep theirs for as long as they wait.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Params {
    /// Each name and its value, one behind the other.
    text: Box<str>,
    /// Where in it each name ends, and its value.
    ends: Box<[(u32, u32)]>,
    /// How old a cached answer may be, in seconds, from the header `Cache-Control`.
    pub(super) max_age: Option<u32>,
}

impl Params {
    /// Pairs that cannot be decoded are left out, as Go does.
    pub(super) fn parse(query: &str) -> Self {
        let mut text = String::with_capacity(query.len());
        let mut ends = Vec::with_capacity(query.matches('&').count() + 1);
        for pair in query.split('&') {
            if pair.is_empty() || pair.contains(';') {
                continue;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name, true), decode(value, true)) else {
                continue;
            };
            let name_end = text.len() + name.len();
            let ends_at = (
                u32::try_from(name_end),
                u32::try_from(name_end + value.len()),
            );
            // A head is far shorter.
            let (Ok(name_end), Ok(value_end)) = ends_at else {
                break;
            };
            text.push_str(&name);
            text.push_str(&value);
            ends.push((name_end, value_end));
        }
        Self {
            text: text.into(),
            ends: ends.into(),
            max_age: None,
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut from = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let (name_end, value_end) = (name_end as usize, value_end as usize);
            let pair = (&self.text[from..name_end], &self.text[name_end..value_end]);
            from = value_end;
            pair
        })
    }

    /// Whether it is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs().any(|(n, _)| n == name)
    }

    /// The first value; `?name` alone has the value "".
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value unless it is empty.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value of a repeated parameter.
    pub(super) fn all<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.pairs()
            .filter(move |(n, _)| *n == name)
            .map(|(_, value)| value)
    }

    /// An unsigned number, read as strictly as Go reads it.
    ///
    /// # Errors
    /// 500 with Go's text, as Consul answers.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        parse_u64(value).map(Some).map_err(|reason| {
            Error::internal(format!("strconv.ParseUint: parsing {value:?}: {reason}"))
        })
    }

    /// A switch: there without a value, or with a true one.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| !matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False"))
    }

    /// Refuses two of these at once.
    ///
    /// # Errors
    /// 400 that repeats all parameters, by name.
    pub(super) fn exclusive(&self, names: &[&str]) -> Result<(), Error> {
        if names.iter().filter(|name| self.has(name)).count() < 2 {
            return Ok(());
        }
        let mut pairs: Vec<_> = self.pairs().collect();
        pairs.sort_by_key(|(name, _)| *name);
        let pairs = pairs
            .iter()
            .map(|(n, v)| format!("{}={}", encode(n), encode(v)));
        let pairs = pairs.collect::<Vec<_>>().join("&");
        Err(Error::bad_request(format!("Conflicting flags: {pairs}\n")))
    }
}

/// An unsigned number without a sign.
pub(super) fn parse_u64(text: &str) -> Result<u64, &'static str> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("invalid syntax");
    }
    text.parse().map_err(|_| "value out of range")
}

/// Percent-decodes; in a query string `+` stands for a space. None when an escape is broken or the result is not
/// UTF-8.
fn decode(text: &str, plus: bool) -> Option<Cow<'_, str>> {
    let special = |b: &u8| *b == b'%' || (plus && *b == b'+');
    if !text.as_bytes().iter().any(special) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let high = digit(bytes.next())?;
                let low = digit(bytes.next())?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// As Go encodes a query string.
fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => {
                encoded.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            byte => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// Whether each character is a letter, mark, number, punctuation, symbol or an ordinary space.
fn is_printable(text: &str) -> bool {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return true;
    }
    let mut buffer = String::with_capacity(8);
    text.chars().all(|c| {
        if c.is_ascii() {
            return (' '..='~').contains(&c);
        }
        // The standard library's table of what needs no escape in a debug print is the same set. The letter before
        // keeps a combining mark from being escaped for standing first.
        buffer.clear();
        buffer.push('a');
        buffer.push(c);
        buffer.escape_debug().count() == 2
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_go_reads_them() {
        let params =
            Params::parse("recurse&cas=5&key=a+b%2Fc&tag=x&tag=y&=empty&bad=%zz&semi;colon=1&");
        assert!(params.has("recurse") && !params.has("bad") && !params.has("semi"));
        assert_eq!(params.get("recurse"), Some(""));
        assert_eq!(params.given("recurse"), None);
        assert_eq!(params.get("key"), Some("a b/c"));
        assert_eq!(params.all("tag").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(params.number("cas").unwrap(), Some(5));
        assert_eq!(params.number("none").unwrap(), None);
    }

    #[test]
    fn numbers_are_strict_and_their_errors_are_gos() {
        let text = |query: &str| Params::parse(query).number("n").unwrap_err().text;
        assert_eq!(
            text("n=x"),
            "strconv.ParseUint: parsing \"x\": invalid syntax"
        );
        assert_eq!(text("n"), "strconv.ParseUint: parsing \"\": invalid syntax");
        assert_eq!(
            text("n=-1"),
            "strconv.ParseUint: parsing \"-1\": invalid syntax"
        );
        assert_eq!(
            text("n=%2B1"),
            "strconv.ParseUint: parsing \"+1\": invalid syntax"
        );
        assert_eq!(
            text("n=18446744073709551616"),
            "strconv.ParseUint: parsing \"18446744073709551616\": value out of range"
        );
    }

    #[test]
    fn conflicting_parameters_are_repeated_by_name() {
        let params = Params::parse("cas=1&acquire=x%20y");
        let error = params
            .exclusive(&["cas", "acquire", "release"])
            .unwrap_err();
        assert_eq!(
            error,
            Error::bad_request("Conflicting flags: acquire=x+y&cas=1\n")
        );
        assert_eq!(params.exclusive(&["cas", "release"]), Ok(()));
        let error = Params::parse("recurse&cas=0").exclusive(&["recurse", "cas"]);
        assert_eq!(
            error.unwrap_err().text,
            "Conflicting flags: cas=0&recurse=\n"
        );
    }

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(decode("/v1/kv/a%252Fb", false).unwrap(), "/v1/kv/a%2Fb");
        assert_eq!(decode("a+b", false).unwrap(), "a+b");
        assert_eq!(decode("%C3%A4", false).unwrap(), "ä");
        for broken in ["%", "%1", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(broken, false), None, "{broken}");
        }
    }

    #[test]
    fn what_cannot_be_printed_is_found() {
        for good in ["a b", "ä/ö", "e\u{301}", "漢字", "😀", "'\"\\"] {
            assert!(is_printable(good), "{good:?}");
        }
        for bad in [
            "\0", "a\nb", "\u{7f}", "\u{200b}", "\u{a0}", "\u{e000}", "\u{2028}",
        ] {
            assert!(!is_printable(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_switch_is_on_without_a_value() {
        assert!(Params::parse("passing").is_set("passing"));
        assert!(Params::parse("passing=1").is_set("passing"));
        assert!(!Params::parse("passing=false").is_set("passing"));
        assert!(!Params::parse("").is_set("passing"));
    }
}
