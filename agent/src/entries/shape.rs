//! The shape of an entry: which fields it has, how they are read, and how they are shown.

use std::time::Duration;

use serde_json::{Map, Number, Value};

use crate::duration;

/// The kind of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// A text.
    Text,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// A time: a Go duration, or nanoseconds. Shown as a Go duration.
    Duration,
    /// The same, shown in nanoseconds: what Consul's JSON does where nobody has said otherwise.
    Nanos,
    /// A point in time (RFC 3339). Kept as it is.
    Time,
    /// Texts by keys that are data.
    TextMap,
    /// Whatever somebody puts there.
    Any,
    /// Any number of values.
    List(&'static Shape),
    /// Values by keys that are data.
    Map(&'static Shape),
    /// Values by known names, in the order in which they are shown.
    Object(&'static [Field]),
}

/// One field of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// As it is shown. Read in any case, with or without underscores.
    pub(super) name: &'static str,
    /// A further name under which it is read; may be empty.
    pub(super) alias: &'static str,
    pub(super) shape: Shape,
    /// Whether it is shown when it is empty.
    pub(super) always: bool,
}

/// A field that is shown when there is something in it.
pub(super) const fn given(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        alias: "",
        shape,
        always: false,
    }
}

/// A field that is always shown.
pub(super) const fn always(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        alias: "",
        shape,
        always: true,
    }
}

/// A field with a further name.
pub(super) const fn alias(name: &'static str, alias: &'static str, shape: Shape) -> Field {
    Field {
        name,
        alias,
        shape,
        always: false,
    }
}

impl Shape {
    /// Brings a value into the form in which it is kept and shown. `path` is where it stands. What has no place goes to
    /// `unknown`.
    ///
    /// # Errors
    /// When it is of another kind.
    pub(super) fn read(
        &self,
        value: Value,
        path: &str,
        unknown: &mut Vec<String>,
    ) -> Result<Value, String> {
        // A block of HCL is a list of one.
        let value = match (self, value) {
            (Shape::List(_) | Shape::Any, value) => value,
            (_, Value::Array(mut one)) if one.len() == 1 => one.remove(0),
            (_, value) => value,
        };
        if value.is_null() {
            return Ok(self.empty());
        }
        let wrong = |wanted: &str| Err(format!("'{path}' expected {wanted}"));
        match (self, value) {
            (Shape::Any, value) => Ok(value),
            (Shape::Text | Shape::Time, Value::String(text)) => Ok(Value::String(text)),
            (Shape::Text, Value::Number(number)) => Ok(Value::String(number.to_string())),
            (Shape::Text | Shape::Time, _) => wrong("a text"),
            (Shape::Bool, Value::Bool(is)) => Ok(Value::Bool(is)),
            (Shape::Bool, Value::String(text)) => match text.as_str() {
                "true" | "1" => Ok(Value::Bool(true)),
                "false" | "0" | "" => Ok(Value::Bool(false)),
                _ => wrong("true or false"),
            },
            (Shape::Bool, _) => wrong("true or false"),
            (Shape::Int, value) => match whole(&value) {
                Some(number) => Ok(Value::Number(number.into())),
                None => wrong("a whole number"),
            },
            (Shape::Float, value) => match real(&value) {
                Some(number) => Ok(Value::Number(number)),
                None => wrong("a number"),
            },
            (Shape::Duration | Shape::Nanos, value) => match (time(&value), self) {
                (Some(time), Shape::Nanos) => {
                    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                    Ok(Value::Number(nanos.into()))
                }
                (Some(time), _) => Ok(Value::String(duration::print(time))),
                (None, _) => wrong("a duration, such as \"5s\""),
            },
            (Shape::TextMap, value) => Shape::Map(&Shape::Text).read(value, path, unknown),
            (Shape::List(of), Value::Array(items)) => {
                let items = items.into_iter().enumerate();
                let items =
                    items.map(|(at, item)| of.read(item, &format!("{path}[{at}]"), unknown));
                items.collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            // One of a list, as HCL writes it.
            (Shape::List(of), one @ (Value::Object(_) | Value::String(_))) => of
                .read(one, path, unknown)
                .map(|one| Value::Array(vec![one])),
            (Shape::List(_), _) => wrong("a list"),
            (Shape::Map(of), Value::Object(fields)) => {
                let fields = fields.into_iter().map(|(key, value)| {
                    let value = of.read(value, &join(path, &key), unknown)?;
                    Ok::<_, String>((key, value))
                });
                fields.collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
            (Shape::Object(known), Value::Object(fields)) => {
                object(known, fields, path, unknown).map(Value::Object)
            }
            (Shape::Map(_) | Shape::Object(_), _) => wrong("an object"),
        }
    }

    /// What is shown of a field that nobody has set.
    fn empty(&self) -> Value {
        match self {
            Shape::Text | Shape::Time => Value::String(String::new()),
            Shape::Bool => Value::Bool(false),
            Shape::Int | Shape::Float | Shape::Nanos => Value::Number(0.into()),
            Shape::Duration => Value::String("0s".to_owned()),
            Shape::TextMap | Shape::Any | Shape::List(_) | Shape::Map(_) => Value::Null,
            Shape::Object(known) => {
                let fields = known.iter().filter(|field| field.always);
                let fields = fields.map(|field| (field.name.to_owned(), field.shape.empty()));
                Value::Object(fields.collect())
            }
        }
    }
}

/// Reads the fields of an object, in their own order.
fn object(
    known: &[Field],
    mut fields: Map<String, Value>,
    path: &str,
    unknown: &mut Vec<String>,
) -> Result<Map<String, Value>, String> {
    let mut read = Map::new();
    for field in known {
        let is_it = |key: &&String| {
            let key = plain(key);
            key == plain(field.name) || (!field.alias.is_empty() && key == plain(field.alias))
        };
        let key = fields.keys().find(is_it).cloned();
        let given = match key {
            Some(key) => fields.shift_remove(&key).unwrap_or(Value::Null),
            None => Value::Null,
        };
        let is_given = !given.is_null();
        let value = field.shape.read(given, &join(path, field.name), unknown)?;
        let shown = match (&field.shape, field.always) {
            (_, true) => true,
            // Whoever writes an empty block means something by it.
            (Shape::Object(_), false) => is_given,
            _ => !is_empty(&value),
        };
        if shown {
            read.insert(field.name.to_owned(), value);
        }
    }
    unknown.extend(fields.keys().map(|key| join(path, key)));
    Ok(read)
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// A key as it is compared: both spellings are one.
pub(super) fn plain(key: &str) -> String {
    let letters = key.chars().filter(|c| *c != '_');
    letters.flat_map(char::to_lowercase).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0s",
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let number = number.as_f64().filter(|n| n.fract() == 0.0)?;
            (number.abs() < 9e15).then_some(number as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn real(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => text.parse().ok().and_then(Number::from_f64),
        _ => None,
    }
}

fn time(value: &Value) -> Option<Duration> {
    match value {
        Value::String(text) if text.is_empty() => Some(Duration::ZERO),
        Value::String(text) => duration::parse(text).ok(),
        Value::Number(number) => number.as_u64().map(Duration::from_nanos),
        _ => None,
    }
}
