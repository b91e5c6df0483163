//! The block `http_config`. Pure.

use super::build::{invalid, within};
use super::cidr::Cidr;
use super::layer::{Layer, Number};
use super::{Error, HttpConfig};

/// What Go's server takes beside the number that it is given.
const SLOP_BYTES: usize = 4096;

/// Largest bound on a request's head.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// The default bound: what real clients send has a few kilobytes.
const HEADER_BYTES: usize = 64 << 10;

pub(super) fn check(layer: &Layer) -> Result<HttpConfig, Error> {
    let http = &layer.http_config;
    let allowed = http.allow_write_http_from.iter().map(|text| {
        let wrong = format!("allow_write_http_from: invalid cidr: {text}");
        text.parse::<Cidr>().or_else(|()| invalid(wrong))
    });
    for (name, value) in &http.response_headers {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return invalid(format!(
                "http_config.response_headers: {name:?} is no name of a header"
            ));
        }
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return invalid(format!(
                "http_config.response_headers: the value of {name:?} has a control character in it"
            ));
        }
    }
    let most = i64::from(i32::MAX);
    let header_bytes = match http.max_header_bytes {
        None | Some(Number(0)) => HEADER_BYTES,
        number => {
            let bytes: usize = within("http_config.max_header_bytes", number, 0, 0, most)?;
            (bytes + SLOP_BYTES).min(HEADER_BYTES_MAX)
        }
    };
    Ok(HttpConfig {
        allow_write_http_from: allowed.collect::<Result<_, _>>()?,
        block_endpoints: http.block_endpoints.clone(),
        header_bytes_max: header_bytes,
        response_headers: http.response_headers.clone(),
        use_cache: http.use_cache.unwrap_or(true),
    })
}
