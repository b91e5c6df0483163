//! Config entries: settings of the mesh that are part of the state, by kind and name. Pure.
//!
//! An entry is kept as the JSON that Consul would show of it. What comes in is read against the fields of its kind
//! (`entries/kinds.rs`), in either spelling of keys, then filled in and checked (`entries/check.rs`). Intentions are read from
//! entries of the kind `service-intentions` (`entries/intentions.rs`).

pub mod central;
pub mod chain;
mod check;
pub mod gateways;
pub mod intentions;
mod kinds;
pub mod rules;
mod shape;
pub mod topology;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::state::ConfigEntry;
use kinds::{KINDS, Kind};
use shape::{Shape, plain};

/// Entries of this kind are what the leader makes of gateways and routes; nobody writes them.
const BOUND: &str = "bound-api-gateway";
/// A kind of Consul Enterprise.
const SAMENESS: &str = "sameness-group";
/// Fields of every kind that say nothing about it.
const APART: [&str; 6] = [
    "kind",
    "name",
    "createindex",
    "modifyindex",
    "hash",
    "entmeta",
];
/// Features of Consul Enterprise, of which there is the default only.
const SCOPES: [(&str, &str); 2] = [("namespace", "namespaces"), ("partition", "partitions")];

/// Why something is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// It says what cannot be.
    #[error("{0}")]
    Invalid(String),
}

/// Reads an entry, fills in what it leaves out, and checks it. Its indexes are 0.
///
/// # Errors
/// What is wrong with it, in Consul's words where it has them.
pub fn read(raw: Value) -> Result<ConfigEntry, Error> {
    let malformed = |text: String| Err(Error::Malformed(text));
    let Value::Object(mut fields) = raw else {
        return malformed("the entry is not an object".to_owned());
    };
    let kind = match take(&mut fields, "kind") {
        None => {
            let text = "Payload does not contain a kind/Kind key at the top level";
            return malformed(text.to_owned());
        }
        Some(Value::String(kind)) => kind,
        Some(_) => return malformed("Kind value in payload is not a string".to_owned()),
    };
    if kind == SAMENESS {
        let text = "sameness-groups are an enterprise-only feature";
        return Err(Error::Invalid(text.to_owned()));
    }
    let kind = find(&kind).map_err(Error::Malformed)?;
    if kind.name == BOUND {
        let text = "bound-api-gateway config entries cannot be written";
        return Err(Error::Invalid(text.to_owned()));
    }
    let name = match take(&mut fields, "name") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(name)) => name,
        Some(_) => return malformed("'Name' expected a text".to_owned()),
    };
    let mut wrong = Vec::new();
    refuse_scopes(&mut fields, &mut wrong);
    for key in APART {
        take(&mut fields, key);
    }
    let mut unknown = Vec::new();
    let shape = Shape::Object(kind.fields);
    let value = shape
        .read(Value::Object(fields), "", &mut unknown)
        .map_err(|text| Error::Malformed(format!("1 error(s) decoding:\n\n* {text}")))?;
    let unknown = unknown.iter();
    wrong.extend(unknown.map(|key| format!("invalid config key {key:?}")));
    if !wrong.is_empty() {
        return malformed(together(&wrong));
    }
    let Value::Object(mut fields) = value else {
        return malformed("the entry is not an object".to_owned());
    };
    let name = match kind.named {
        true => name,
        // One of its kind: there is nothing to tell apart.
        false => kind.only.to_owned(),
    };
    check::fill_in(kind.name, &mut fields);
    if kind.name == intentions::KIND {
        check::rank(&name, &mut fields);
    }
    check::check(kind, &name, &fields).map_err(Error::Invalid)?;
    Ok(entry(kind, name, fields))
}

/// The one kind of this name.
///
/// # Errors
/// When there is none, in Consul's words.
fn find(name: &str) -> Result<&'static Kind, String> {
    let found = KINDS.iter().find(|kind| kind.name == name);
    found.ok_or_else(|| format!("invalid config entry kind: {name}"))
}

/// Names of all kinds.
#[cfg(test)]
pub(crate) fn kind_names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name)
}

/// Finds out whether entries of a kind may be asked for.
///
/// # Errors
/// When there is no such kind, in Consul's words.
pub fn check_kind(name: &str) -> Result<(), String> {
    match name {
        SAMENESS => Ok(()),
        name => find(name).map(|_| ()),
    }
}

/// An entry as it is kept.
fn entry(kind: &Kind, name: String, fields: Map<String, Value>) -> ConfigEntry {
    let mut all = Map::new();
    all.insert("Kind".to_owned(), Value::String(kind.name.to_owned()));
    if kind.named {
        all.insert("Name".to_owned(), Value::String(name.clone()));
    }
    all.extend(fields);
    ConfigEntry {
        kind: kind.name.to_owned(),
        name,
        json: Value::Object(all).to_string(),
        create_index: 0,
        modify_index: 0,
    }
}

/// The entry in Consul's JSON, with its indexes.
pub fn show(entry: &ConfigEntry) -> Value {
    let mut value = body(entry);
    if let Value::Object(fields) = &mut value {
        fields.insert("CreateIndex".to_owned(), entry.create_index.into());
        fields.insert("ModifyIndex".to_owned(), entry.modify_index.into());
    }
    value
}

/// The entry in Consul's JSON, without indexes.
pub(crate) fn body(entry: &ConfigEntry) -> Value {
    // It was written by this module; a server of another version may know what this one does not.
    serde_json::from_str(&entry.json).unwrap_or(Value::Null)
}

/// Takes a field out of an object, by its name in any case.
fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    let key = fields.keys().find(|key| plain(key) == name).cloned()?;
    fields.shift_remove(&key)
}

fn refuse_scopes(fields: &mut Map<String, Value>, wrong: &mut Vec<String>) {
    for (name, what) in SCOPES {
        let Some(key) = fields.keys().find(|key| plain(key) == name).cloned() else {
            continue;
        };
        let value = fields.shift_remove(&key).unwrap_or(Value::Null);
        if !matches!(value.as_str(), Some("" | "default")) && !value.is_null() {
            wrong.push(format!(
                "invalid config key {key:?}, {what} are a consul enterprise feature"
            ));
        }
    }
}

/// Several errors as one text, as Consul's are.
fn together(errors: &[String]) -> String {
    let count = match errors.len() {
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    };
    let lines: String = errors
        .iter()
        .map(|error| format!("\t* {error}\n"))
        .collect();
    format!("{count} occurred:\n{lines}\n")
}
