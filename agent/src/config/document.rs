//! A document in HCL or JSON that is no configuration of an agent, such as a config entry.

use super::hcl;
use super::tree::{Node, Value};

/// Reads it. A block that is written several times is a list.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn read(text: &str) -> Result<serde_json::Value, String> {
    let node = hcl::parse(text).map_err(|error| error.to_string())?;
    Ok(json(node))
}

pub(super) fn json(node: Node) -> serde_json::Value {
    match node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(is) => is.into(),
        Value::Integer(number) => number.into(),
        Value::Float(number) => number.into(),
        Value::String(text) => text.into(),
        Value::List(nodes) => nodes.into_iter().map(json).collect(),
        Value::Object(entries) => {
            let mut fields = serde_json::Map::new();
            for entry in entries {
                let value = json(entry.node);
                match fields.get_mut(&entry.key) {
                    None => drop(fields.insert(entry.key, value)),
                    Some(serde_json::Value::Array(all)) => all.push(value),
                    Some(one) => *one = vec![one.take(), value].into(),
                }
            }
            serde_json::Value::Object(fields)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_languages_are_read_and_repeated_blocks_are_lists() {
        let hcl = r#"
            Kind = "service-intentions" # a comment
            Name = "db"
            Sources { Name = "web" Action = "allow" }
            Sources { Name = "*" Action = "deny" }
            weight = 1.5
        "#;
        let sources = json!([{"Name": "web", "Action": "allow"}, {"Name": "*", "Action": "deny"}]);
        let wanted =
            json!({"Kind": "service-intentions", "Name": "db", "Sources": sources, "weight": 1.5});
        assert_eq!(read(hcl), Ok(wanted.clone()));
        assert_eq!(read(&wanted.to_string()), Ok(wanted));
        assert!(read("Kind = ").is_err());
    }
}
