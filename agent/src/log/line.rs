//! One line of the log. Pure.
//!
//! Text: `2026-11-23T10:40:31.911Z [INFO] consul: message: key=value key="two words"`. With `log_json` an object of
//! `@timestamp`, `@level`, `@module`, `@message` and the keys.

use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// What is printed of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Line<'a> {
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// How important.
    pub level: Level,
    /// Who says it.
    pub module: &'a str,
    /// What.
    pub message: String,
    /// With which values, in the order in which they were given.
    pub fields: Vec<(&'static str, Value)>,
}

/// Module and level under which an event is shown.
///
/// Our own events as they are. openraft's worries are our debugging: it warns of every unreachable peer at every
/// heartbeat, which the lines of `consul` and `raft` say once. Of other libraries, warnings and errors.
pub(super) fn shown_as(target: &str, level: Level) -> (&str, Level) {
    let module = target.split("::").next().unwrap_or(target);
    match module {
        "agent" | "connect" | "consul" | "raft" | "serf" | "http" | "dns" | "rpc" => {
            (module, level)
        }
        _ if module.starts_with("openraft") && level <= Level::WARN => ("raft", Level::DEBUG),
        _ if module.starts_with("openraft") => ("raft", Level::TRACE),
        _ if level <= Level::WARN => (module, level),
        _ => (module, Level::TRACE),
    }
}

impl Line<'_> {
    pub(super) fn of(event: &Event<'_>, unix_ms: i64) -> Line<'static> {
        let metadata = event.metadata();
        let (module, level) = shown_as(metadata.target(), *metadata.level());
        let mut line = Line {
            unix_ms,
            level,
            module,
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut Fields(&mut line));
        line
    }

    /// The line with its line end.
    pub fn print(&self, json: bool) -> String {
        match json {
            true => self.json(),
            false => self.text(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} [{}] {}:", self.timestamp(), self.level, self.module);
        if !self.message.is_empty() {
            text.push(' ');
            push_without_controls(&mut text, &self.message);
        }
        for (i, (key, value)) in self.fields.iter().enumerate() {
            let colon = if i == 0 && !self.message.is_empty() {
                ":"
            } else {
                ""
            };
            // Writing to a string cannot fail.
            let _ = write!(text, "{colon} {key}={}", Quoted(value));
        }
        text.push('\n');
        text
    }

    fn json(&self) -> String {
        let mut object = serde_json::Map::new();
        object.insert("@level".into(), self.level.as_str().to_lowercase().into());
        object.insert("@message".into(), self.message.as_str().into());
        object.insert("@module".into(), self.module.into());
        object.insert("@timestamp".into(), self.timestamp().into());
        for (key, value) in &self.fields {
            object.insert((*key).to_owned(), value.clone());
        }
        let mut text = Value::Object(object).to_string();
        text.push('\n');
        text
    }

    fn timestamp(&self) -> String {
        match jiff::Timestamp::from_millisecond(self.unix_ms) {
            Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            Err(_) => self.unix_ms.to_string(),
        }
    }
}

/// Names and values come from other machines too: none of them may start a line of its own or move the cursor.
fn push_without_controls(text: &mut String, part: &str) {
    for c in part.chars() {
        match c.is_control() {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        }
    }
}

/// A value, in quotes where it would be misread without.
struct Quoted<'a>(&'a Value);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Value::String(text) = self.0 else {
            return self.0.fmt(f);
        };
        let plain =
            |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
        match !text.is_empty() && text.chars().all(plain) {
            true => f.write_str(text),
            false => write!(f, "{text:?}"),
        }
    }
}

struct Fields<'a, 'b>(&'a mut Line<'b>);

impl Fields<'_, '_> {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.0.message = text,
            ("message", value) => self.0.message = value.to_string(),
            (name, value) => self.0.fields.push((name, value)),
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}
