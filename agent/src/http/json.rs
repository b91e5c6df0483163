//! Reading JSON bodies as leniently as Consul does.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::Error;

/// Objects whose keys are data, so that their case is kept.
const DATA: [&str; 4] = ["meta", "nodemeta", "servicemeta", "taggedaddresses"];

/// Decodes an object whose keys match in any case: `T` names its fields in lower case. Unknown keys are left out.
///
/// # Errors
/// 400 `Request decode failed: ...`.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    parse(body).map_err(|reason| Error::bad_request(format!("Request decode failed: {reason}")))
}

/// As [`decode`], with the bare reason.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut value = value(body)?;
    fold(&mut value);
    T::deserialize(value).map_err(|error| error.to_string())
}

/// Reads JSON as it is.
///
/// # Errors
/// What is wrong with it, in Go's words where it has them.
pub(super) fn value(body: &[u8]) -> Result<Value, String> {
    if body.trim_ascii().is_empty() {
        return Err("EOF".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| match error.is_eof() {
        true => "unexpected EOF".to_owned(),
        false => error.to_string(),
    })
}

/// Objects that are kept as they are.
const OPAQUE: [&str; 2] = ["config", "definition"];

fn fold(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(fold),
        Value::Object(fields) => {
            let folded = std::mem::take(fields)
                .into_iter()
                .filter_map(|(key, mut value)| {
                    // Go's null leaves a field as it is.
                    if value.is_null() {
                        return None;
                    }
                    let key = key.to_lowercase();
                    if OPAQUE.contains(&key.as_str()) {
                        return Some((key, value));
                    }
                    if DATA.contains(&key.as_str()) {
                        fold_values(&mut value);
                    } else {
                        fold(&mut value);
                    }
                    Some((key, value))
                });
            *fields = folded.collect::<Map<_, _>>();
        }
        _ => {}
    }
}

fn fold_values(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(fold);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Sample {
        #[serde(default)]
        node: String,
        #[serde(default)]
        nodemeta: BTreeMap<String, String>,
    }

    fn failure(body: &str) -> String {
        let error = decode::<Sample>(body.as_bytes()).unwrap_err();
        assert_eq!(error.status, hyper::StatusCode::BAD_REQUEST);
        error.text.into_owned()
    }

    #[test]
    fn keys_match_in_any_case_and_data_keeps_its_own() {
        let body = br#"{"NODE":"n","NodeMeta":{"Rack":"A"},"Unknown":{"x":1},"Node":null}"#;
        let expected = Sample {
            node: "n".into(),
            nodemeta: BTreeMap::from([("Rack".into(), "A".into())]),
        };
        assert_eq!(decode::<Sample>(body).unwrap(), expected);
    }

    #[test]
    fn failures_say_what_is_wrong() {
        assert_eq!(failure(""), "Request decode failed: EOF");
        assert_eq!(failure("  \n"), "Request decode failed: EOF");
        assert_eq!(
            failure(r#"{"node":"#),
            "Request decode failed: unexpected EOF"
        );
        assert_eq!(
            failure("{]"),
            "Request decode failed: key must be a string at line 1 column 2"
        );
        assert_eq!(
            failure(r#"{"node":5}"#),
            "Request decode failed: invalid type: integer `5`, expected a string"
        );
    }

    #[test]
    fn nesting_has_a_bound() {
        let deep = "[".repeat(100_000);
        assert!(
            failure(&deep).contains("recursion limit"),
            "{}",
            failure(&deep)
        );
    }
}
