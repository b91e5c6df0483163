//! The one place where errors become replies.

use std::borrow::Cow;

use hyper::StatusCode;

use super::body::{self, Response, Value};
use crate::node;

/// Why a request has no other answer: a code and a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) status: StatusCode,
    pub(super) text: Cow<'static, str>,
}

impl Error {
    /// The client's fault.
    pub(super) fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            text: text.into(),
        }
    }

    /// There is no such thing.
    pub(super) fn not_found(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            text: text.into(),
        }
    }

    /// Everything else. Consul uses 500 for refusals of the state machine too.
    pub(super) fn internal(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            text: text.into(),
        }
    }

    /// A body above the limit. `len` is what was announced, or read until it was too much.
    pub(super) fn too_large(len: u64, limit: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            text: format!(
                "Request body({len} bytes) too large, max size: {limit} bytes. See https://developer.hashicorp.com/docs/agent/config/config-files#kv_max_value_size."
            )
            .into(),
        }
    }
}

impl From<node::Error> for Error {
    fn from(error: node::Error) -> Self {
        match error {
            node::Error::NoRoom(_) | node::Error::Busy | node::Error::LeaderRateExceeded => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                text: error.to_string().into(),
            },
            node::Error::RateExceeded | node::Error::CallRateExceeded => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                text: error.to_string().into(),
            },
            node::Error::Denied(why) => Self {
                status: StatusCode::FORBIDDEN,
                text: why.into(),
            },
            // Consul answers 500 for all of these, and clients tell them apart by their text.
            _ => Self::internal(error.to_string()),
        }
    }
}

impl From<Error> for Response {
    fn from(error: Error) -> Self {
        let passes = matches!(
            error.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        let mut response = body::text(error.status, error.text.into_owned());
        if passes {
            // Nothing was done: seconds after which another try makes sense.
            response.set("Retry-After", Value::Number(1));
        }
        response
    }
}

/// 405, or with `OPTIONS` 200 and nothing else.
pub(super) fn wrong_method(method: &str, allowed: &[&str]) -> Response {
    let mut response = if method == "OPTIONS" {
        body::empty(StatusCode::OK)
    } else {
        body::text(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("method {method} not allowed"),
        )
    };
    let allow = format!("OPTIONS,{}", allowed.join(","));
    response.set("Allow", Value::Text(allow));
    response
}
