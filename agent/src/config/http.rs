//! The HTTP API: where it listens, and the block `http_config`. Pure.

use std::net::{Ipv4Addr, SocketAddr};

use super::build::{invalid, parsed, within};
use super::cidr::Cidr;
use super::layer::{Layer, Number};
use super::{Error, HttpAddress, HttpConfig, Tls};

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

/// Where the HTTPS API listens.
pub(super) fn secured(
    layer: &Layer,
    port: Option<u16>,
    tls: &Tls,
    comes_by_itself: bool,
) -> Result<Vec<HttpAddress>, Error> {
    let addresses = addresses(layer, "addresses.https", &layer.addresses.https, port)?;
    if !addresses.is_empty() && !tls.https.has_certificate() && !comes_by_itself {
        return invalid(
            "ports.https is set, and no certificate: set cert_file and key_file in tls.https or tls.defaults, or on a client auto_encrypt.tls",
        );
    }
    Ok(addresses)
}

/// Where the HTTP API listens.
pub(super) fn addresses(
    layer: &Layer,
    key: &'static str,
    addresses: &Option<String>,
    port: Option<u16>,
) -> Result<Vec<HttpAddress>, Error> {
    let Some(port) = port else {
        return Ok(Vec::new());
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let (key, text) = match (given(addresses), given(&layer.client_addr)) {
        (Some(text), _) => (key, text),
        (None, Some(text)) => ("client_addr", text),
        (None, None) => ("client_addr", Ipv4Addr::LOCALHOST.to_string()),
    };
    text.split_whitespace()
        .map(|text| match text.strip_prefix("unix://") {
            Some("") => invalid(format!("{key}: unix:// needs a path")),
            Some(_) if key == "client_addr" => invalid("client_addr cannot be a unix socket"),
            Some(path) => Ok(HttpAddress::Unix(path.into())),
            None => parsed(key, text, "an ip address")
                .map(|ip| HttpAddress::Tcp(SocketAddr::new(ip, port))),
        })
        .collect()
}
