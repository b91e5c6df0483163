//! One form for definitions: keys in lower case without underscores, blocks as objects, data as it is.

use serde_json::{Map, Value};

/// What stands behind a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// A scalar, or a list of them.
    Plain,
    /// An object whose keys are data.
    Data,
    /// An object whose keys are data, and its values blocks.
    DataOf(Fields),
    /// One object.
    Block(Fields),
    /// A list of objects.
    Blocks(Fields),
    /// Fields of the service mesh, which are kept under Consul's names.
    Mesh,
}

pub(super) type Fields = &'static [(&'static str, Shape)];

use Shape::{Block, Blocks, Data, DataOf, Mesh, Plain};

pub(super) const SERVICE: Fields = &[
    ("address", Plain),
    ("check", Block(CHECK)),
    ("checks", Blocks(CHECK)),
    ("connect", Mesh),
    ("enabletagoverride", Plain),
    ("enterprisemeta", Data),
    ("id", Plain),
    ("kind", Plain),
    ("locality", Data),
    ("meta", Data),
    ("name", Plain),
    ("namespace", Plain),
    ("partition", Plain),
    ("port", Plain),
    ("ports", Plain),
    ("proxy", Mesh),
    ("socketpath", Plain),
    ("taggedaddresses", DataOf(ADDRESS)),
    ("tags", Plain),
    ("token", Plain),
    ("weights", Block(WEIGHTS)),
];

const ADDRESS: Fields = &[("address", Plain), ("port", Plain)];

const WEIGHTS: Fields = &[("passing", Plain), ("warning", Plain)];

pub(super) const CHECK: Fields = &[
    ("aliasnode", Plain),
    ("aliasservice", Plain),
    ("args", Plain),
    ("body", Plain),
    ("checkid", Plain),
    ("deregistercriticalserviceafter", Plain),
    ("disableredirects", Plain),
    ("dockercontainerid", Plain),
    ("enterprisemeta", Data),
    ("failuresbeforecritical", Plain),
    ("failuresbeforewarning", Plain),
    ("grpc", Plain),
    ("grpcusetls", Plain),
    ("h2ping", Plain),
    ("h2pingusetls", Plain),
    ("header", Data),
    ("http", Plain),
    ("id", Plain),
    ("interval", Plain),
    ("method", Plain),
    ("name", Plain),
    ("namespace", Plain),
    ("notes", Plain),
    ("osservice", Plain),
    ("outputmaxsize", Plain),
    ("partition", Plain),
    ("scriptargs", Plain),
    ("serviceid", Plain),
    ("shell", Plain),
    ("status", Plain),
    ("successbeforepassing", Plain),
    ("tcp", Plain),
    ("tcpusetls", Plain),
    ("timeout", Plain),
    ("tlsservername", Plain),
    ("tlsskipverify", Plain),
    ("token", Plain),
    ("ttl", Plain),
    ("udp", Plain),
];

/// What becomes of an unknown key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Drop,
    Refuse,
}

/// A key without what its writers differ in.
pub(super) fn folded(key: &str) -> String {
    key.chars()
        .filter(|c| *c != '_')
        .flat_map(char::to_lowercase)
        .collect()
}

/// Brings a block to the one form.
pub(super) fn fold(value: Value, fields: Fields, unknown: Unknown) -> Result<Value, String> {
    let object = match value {
        Value::Object(object) => object,
        // HCL's blocks are lists.
        Value::Array(mut list) if list.len() == 1 => {
            return fold(list.remove(0), fields, unknown);
        }
        other => return Err(format!("expected an object, found {}", kind(&other))),
    };
    let mut result = Map::new();
    for (key, value) in object {
        let name = folded(&key);
        let Ok(at) = fields.binary_search_by(|(field, _)| (*field).cmp(&name)) else {
            match unknown {
                Unknown::Drop => continue,
                Unknown::Refuse => return Err(format!("invalid config key {key}")),
            }
        };
        // Go's null leaves a field as it is.
        if value.is_null() {
            continue;
        }
        let value = shaped(value, fields[at].1, unknown).map_err(|e| format!("{key}: {e}"))?;
        result.insert(name, value);
    }
    Ok(Value::Object(result))
}

fn shaped(value: Value, shape: Shape, unknown: Unknown) -> Result<Value, String> {
    match shape {
        Plain => Ok(value),
        Data => Ok(block(value)),
        Mesh => Ok(super::mesh::named(block(value))),
        Block(fields) => fold(value, fields, unknown),
        DataOf(fields) => {
            let Value::Object(object) = block(value) else {
                return Err("expected an object".to_owned());
            };
            let entries = object.into_iter().map(|(key, value)| {
                let value = fold(value, fields, unknown).map_err(|e| format!("{key}: {e}"))?;
                Ok((key, value))
            });
            entries
                .collect::<Result<Map<_, _>, String>>()
                .map(Value::Object)
        }
        Blocks(fields) => {
            let list = match value {
                Value::Array(list) => list,
                one => vec![one],
            };
            let blocks = list.into_iter().map(|value| fold(value, fields, unknown));
            blocks.collect::<Result<_, _>>().map(Value::Array)
        }
    }
}

/// The object that a list of one object stands for.
fn block(value: Value) -> Value {
    match value {
        Value::Array(mut list) if list.len() == 1 && list[0].is_object() => list.remove(0),
        value => value,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
