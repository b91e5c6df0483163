//! Intentions: who may connect to whom. They are the sources of entries of the kind `service-intentions`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::check::{list, matches, text};
use super::{Error, body, read};
use crate::state::ConfigEntry;

/// The kind of the entries.
pub const KIND: &str = "service-intentions";
/// The only type of a source.
pub(super) const TYPE: &str = "consul";
/// Stands for every service.
pub const ANY: &str = "*";
/// The key of meta data under which a program says that something is its own.
pub const EXTERNAL_SOURCE: &str = "external-source";

/// One intention: a source of an entry, and its destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Intention {
    /// Who may, or may not, connect: a service's name or [`ANY`].
    pub source: String,
    /// To whom: a service's name or [`ANY`].
    pub destination: String,
    /// The source as its entry has it.
    fields: Map<String, Value>,
    /// For programs: its own where it has an id, else its entry's.
    meta: Option<Value>,
    create_index: u64,
    modify_index: u64,
}

/// How a source ranks at a destination: the higher comes first. Consul's numbers.
pub(super) fn precedence(source: &str, destination: &str) -> i64 {
    match (destination == ANY, source == ANY) {
        (false, false) => 9,
        (false, true) => 8,
        (true, false) => 6,
        (true, true) => 5,
    }
}

impl Intention {
    /// The id, of those that were made with one.
    pub fn id(&self) -> &str {
        self.text("LegacyID")
    }

    /// `allow` or `deny`; empty when permissions decide.
    pub fn action(&self) -> &str {
        self.text("Action")
    }

    /// How it ranks.
    pub fn precedence(&self) -> i64 {
        precedence(&self.source, &self.destination)
    }

    /// Who wrote it, if it was a program that says so.
    pub fn external_source(&self) -> &str {
        let said = self.meta.as_ref().map(|meta| text(meta, EXTERNAL_SOURCE));
        said.unwrap_or_default()
    }

    /// Whether it speaks of connections from this service of the own cluster: one of a peer with the same name is another.
    pub fn is_from(&self, source: &str) -> bool {
        (self.source == source || self.source == ANY) && self.text("Peer").is_empty()
    }

    /// Whether it speaks of connections to this service.
    pub fn is_to(&self, destination: &str) -> bool {
        self.destination == destination || self.destination == ANY
    }

    /// In a sentence of Consul's, as its `authorize` gives for a reason.
    pub fn describe(&self) -> String {
        let (source, destination) = (&self.source, &self.destination);
        let id = match self.id() {
            "" => String::new(),
            id => format!("ID: {id}, "),
        };
        let what = match self.permissions() {
            0 => format!("Action: {}", self.action().to_uppercase()),
            permissions => format!("Permissions: {permissions}"),
        };
        let precedence = self.precedence();
        format!("default/{source} => default/{destination} ({id}Precedence: {precedence}, {what})")
    }

    /// How many kinds of requests it looks at; 0 for one that decides on connections.
    pub fn permissions(&self) -> usize {
        let permissions = self.fields.get("Permissions").and_then(Value::as_array);
        permissions.map_or(0, Vec::len)
    }

    fn text(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// As Consul shows it.
    pub fn show(&self) -> Value {
        let mut shown = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                shown.insert(name.to_owned(), value);
            }
        };
        let given = |name: &str| self.fields.get(name).cloned();
        put("ID", given("LegacyID"));
        put("Description", given("Description"));
        put("SourceNS", Some("default".into()));
        put("SourceName", Some(self.source.as_str().into()));
        put("DestinationNS", Some("default".into()));
        put("DestinationName", Some(self.destination.as_str().into()));
        put("SourcePeer", given("Peer"));
        put("SourceType", Some(TYPE.into()));
        put("Action", given("Action"));
        put("Permissions", given("Permissions"));
        put("Meta", self.meta.clone());
        put("Precedence", Some(self.precedence().into()));
        put("CreatedAt", given("LegacyCreateTime"));
        put("UpdatedAt", given("LegacyUpdateTime"));
        put("CreateIndex", Some(self.create_index.into()));
        put("ModifyIndex", Some(self.modify_index.into()));
        Value::Object(shown)
    }
}

/// All intentions of entries, the highest first; those of the same rank by their names.
pub fn all(entries: &[Arc<ConfigEntry>]) -> Vec<Intention> {
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| entry.kind == KIND) {
        let whole = body(entry);
        for source in list(&whole, "Sources") {
            let Value::Object(fields) = source else {
                continue;
            };
            let meta = match text(source, "LegacyID") {
                "" => whole.get("Meta"),
                _ => source.get("LegacyMeta"),
            };
            found.push(Intention {
                source: text(source, "Name").to_owned(),
                destination: entry.name.clone(),
                fields: fields.clone(),
                meta: meta.cloned(),
                create_index: entry.create_index,
                modify_index: entry.modify_index,
            });
        }
    }
    found.sort_by(|a, b| {
        let order = |one: &Intention| {
            let (source, destination) = (one.source.clone(), one.destination.clone());
            (-one.precedence(), destination, source)
        };
        order(a).cmp(&order(b))
    });
    found
}

/// Those that concern a service on one side, the highest first.
pub fn of_source<'a>(all: &'a [Intention], name: &str) -> Vec<&'a Intention> {
    all.iter()
        .filter(|one| one.source == name || one.source == ANY)
        .collect()
}

/// As [`of_source`], on the other side.
pub fn of_destination<'a>(all: &'a [Intention], name: &str) -> Vec<&'a Intention> {
    all.iter().filter(|one| one.is_to(name)).collect()
}

/// Whether a service may connect to another: the highest intention decides, `default` when there is none. One that looks at
/// requests allows no connection as such.
pub fn allows(all: &[Intention], source: &str, destination: &str, default: bool) -> bool {
    deciding(all, source, destination).map_or(default, |one| one.action() == "allow")
}

/// The intention that decides whether a service may connect to another.
pub fn deciding<'a>(
    all: &'a [Intention],
    source: &str,
    destination: &str,
) -> Option<&'a Intention> {
    all.iter()
        .find(|one| one.is_to(destination) && one.is_from(source))
}

/// What somebody wants an intention to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// A service's name or [`ANY`].
    pub source: String,
    /// A service's name or [`ANY`].
    pub destination: String,
    /// `allow` or `deny`; empty when there are permissions.
    pub action: String,
    /// Kinds of requests, each allowed or denied; `Null` for none.
    pub permissions: Value,
    /// For people.
    pub description: String,
    /// For programs.
    pub meta: Map<String, Value>,
    /// The id, of one that has one.
    pub id: String,
    /// The time of the change (RFC 3339).
    pub now: String,
}

/// The entry of a destination with an intention put into it, in place of one from the same source.
///
/// # Errors
/// When the intention cannot be.
pub fn put(entry: Option<&ConfigEntry>, wanted: &Wanted) -> Result<ConfigEntry, Error> {
    check_wanted(wanted)?;
    let mut fields = entry.map_or_else(|| new_entry(&wanted.destination), body);
    let sources = sources(&mut fields);
    let old = sources
        .iter()
        .position(|source| text(source, "Name") == wanted.source);
    let kept = old.map(|at| sources.remove(at)).unwrap_or(Value::Null);
    let mut source = Map::new();
    let mut put = |name: &str, value: Value| {
        let empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !empty {
            source.insert(name.to_owned(), value);
        }
    };
    put("Name", wanted.source.as_str().into());
    put("Action", wanted.action.as_str().into());
    put("Permissions", wanted.permissions.clone());
    put("Description", wanted.description.as_str().into());
    let id = match wanted.id.as_str() {
        "" => text(&kept, "LegacyID"),
        id => id,
    };
    put("LegacyID", id.into());
    if !id.is_empty() {
        put("LegacyMeta", Value::Object(wanted.meta.clone()));
        let created = match text(&kept, "LegacyCreateTime") {
            "" => &wanted.now,
            created => created,
        };
        put("LegacyCreateTime", created.into());
        put("LegacyUpdateTime", wanted.now.as_str().into());
    }
    sources.push(Value::Object(source));
    read(fields)
}

/// The entry of a destination without the intentions that `gone` names; `None` when nothing is left of it.
///
/// # Errors
/// When what is left cannot be.
pub fn remove(
    entry: &ConfigEntry,
    gone: impl Fn(&Value) -> bool,
) -> Result<Option<ConfigEntry>, Error> {
    let mut fields = body(entry);
    let sources = sources(&mut fields);
    sources.retain(|source| !gone(source));
    match sources.is_empty() {
        true => Ok(None),
        false => read(fields).map(Some),
    }
}

fn new_entry(destination: &str) -> Value {
    serde_json::json!({"Kind": KIND, "Name": destination, "Sources": []})
}

fn sources(entry: &mut Value) -> &mut Vec<Value> {
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    let slot = &mut entry["Sources"];
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().expect("it was made a list above")
}

fn check_wanted(wanted: &Wanted) -> Result<(), Error> {
    let mut wrong = Vec::new();
    for (what, name) in [
        ("SourceName", &wanted.source),
        ("DestinationName", &wanted.destination),
    ] {
        if name.is_empty() {
            wrong.push(format!("{what} must be set"));
        } else if name.contains(ANY) && name != ANY {
            wrong.push(format!(
                "{what}: wildcard character '*' cannot be used with partial values"
            ));
        }
    }
    let permits = wanted
        .permissions
        .as_array()
        .is_some_and(|all| !all.is_empty());
    match (wanted.action.as_str(), permits) {
        ("allow" | "deny", false) | ("", true) => {}
        (_, true) => wrong.push("Action must be omitted if Permissions are specified".to_owned()),
        (_, false) => wrong.push("Action must be set to 'allow' or 'deny'".to_owned()),
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(super::together(&wrong))),
    }
}

/// Finds out whether an entry's sources can be.
pub(super) fn check_entry(name: &str, fields: &Value) -> Result<(), String> {
    let sources = list(fields, "Sources");
    let is_partial = |name: &str| name.contains(ANY) && name != ANY;
    if is_partial(name) {
        return Err("Name: wildcard character '*' cannot be used with partial values".to_owned());
    }
    if sources.is_empty() && fields.get("JWT").is_none() {
        return Err("At least one source is required.".to_owned());
    }
    let mut names = BTreeSet::new();
    for (at, source) in sources.iter().enumerate() {
        let what = format!("Sources[{at}]");
        let from = text(source, "Name");
        if from.is_empty() {
            return Err(format!("{what}.Name is required"));
        }
        if is_partial(from) {
            return Err(format!(
                "{what}.Name: wildcard character '*' cannot be used with partial values"
            ));
        }
        if !names.insert((from, text(source, "Peer"))) {
            return Err(format!("{what} defines {from:?} more than once"));
        }
        if text(source, "Type") != TYPE {
            return Err(format!("{what}.Type must be set to 'consul'"));
        }
        let permissions = list(source, "Permissions");
        match (text(source, "Action"), permissions.is_empty()) {
            ("allow" | "deny", true) | ("", false) => {}
            ("", true) => {
                return Err(format!("{what}.Action must be set to 'allow' or 'deny'"));
            }
            (_, false) => {
                return Err(format!(
                    "{what}.Action must be omitted if Permissions are specified"
                ));
            }
            (_, true) => {
                return Err(format!("{what}.Action must be set to 'allow' or 'deny'"));
            }
        }
        if name == ANY && !permissions.is_empty() {
            return Err(format!(
                "{what}.Permissions cannot be specified on intentions with wildcarded destinations"
            ));
        }
        for (number, permission) in permissions.iter().enumerate() {
            check_permission(&format!("{what}.Permissions[{number}]"), permission)?;
        }
    }
    Ok(())
}

fn check_permission(what: &str, permission: &Value) -> Result<(), String> {
    if !matches!(text(permission, "Action"), "allow" | "deny") {
        return Err(format!("{what}.Action must be set to 'allow' or 'deny'"));
    }
    let http = permission.get("HTTP").unwrap_or(&Value::Null);
    let paths = ["PathExact", "PathPrefix", "PathRegex"];
    if paths
        .iter()
        .filter(|name| !text(http, name).is_empty())
        .count()
        > 1
    {
        return Err(format!(
            "{what}.HTTP should only contain at most one of PathExact, PathPrefix, or PathRegex"
        ));
    }
    for name in &paths[..2] {
        let path = text(http, name);
        if !path.is_empty() && !path.starts_with('/') {
            return Err(format!(
                "{what}.HTTP.{name} doesn't start with '/': {path:?}"
            ));
        }
    }
    matches(&format!("{what}.HTTP.Header"), list(http, "Header"))
}
