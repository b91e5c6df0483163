//! The value tree that both file formats are read into, with the place of every part, and its serde side.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

/// A place in a text. Counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

/// One key of an object with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) node: Node,
}

/// What is wrong, where. Both parsers and the decoding below speak of errors this way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeError {
    pub(crate) at: Option<Position>,
    /// Keys from the root to the value, innermost first.
    path: Vec<String>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Message(String),
    UnknownKey(String),
}

impl TreeError {
    pub(crate) fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            path: Vec::new(),
            kind: Kind::Message(message.into()),
        }
    }

    fn located(mut self, at: Position) -> Self {
        self.at.get_or_insert(at);
        self
    }

    fn under(mut self, key: &str) -> Self {
        self.path.push(key.to_owned());
        self
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.iter().rev().map(String::as_str);
        match &self.kind {
            Kind::UnknownKey(key) => {
                let path: Vec<_> = path.chain([key.as_str()]).collect();
                write!(f, "invalid config key {}", path.join("."))
            }
            Kind::Message(message) if self.path.is_empty() => f.write_str(message),
            Kind::Message(message) => {
                let path: Vec<_> = path.collect();
                write!(f, "{}: {message}", path.join("."))
            }
        }
    }
}

impl std::error::Error for TreeError {}

impl de::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            at: None,
            path: Vec::new(),
            kind: Kind::Message(message.to_string()),
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self::custom(format_args!("expected {wanted}, found {found}"))
    }

    fn invalid_value(found: de::Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self {
            at: None,
            path: Vec::new(),
            kind: Kind::UnknownKey(field.to_owned()),
        }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format_args!("{field} is set twice"))
    }
}

impl Value {
    fn unexpected(&self) -> de::Unexpected<'_> {
        match self {
            Value::Null => de::Unexpected::Unit,
            Value::Bool(b) => de::Unexpected::Bool(*b),
            Value::Integer(n) => de::Unexpected::Signed(*n),
            Value::Float(n) => de::Unexpected::Float(*n),
            Value::String(s) => de::Unexpected::Str(s),
            Value::List(_) => de::Unexpected::Other("a list"),
            Value::Object(_) => de::Unexpected::Other("an object"),
        }
    }

    /// Whether writing this value is the same as not writing it: switched off, empty, or a disabled block.
    pub(crate) fn is_off(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Integer(n) => *n <= 0,
            Value::Float(n) => *n <= 0.0,
            Value::String(s) => s.is_empty(),
            Value::List(nodes) => nodes.iter().all(|node| node.value.is_off()),
            Value::Object(entries) => {
                entries.is_empty()
                    || entries.iter().any(|e| {
                        e.key.eq_ignore_ascii_case("enabled") && e.node.value == Value::Bool(false)
                    })
            }
        }
    }
}

/// Reads typed values out of a node.
///
/// Two habits of Consul's files are built in. Keys of a struct are matched without regard to case. A list of one
/// object stands for the object, and one value for a list of one: HCL's blocks are lists, and people leave brackets out.
impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = TreeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Integer(n) => visitor.visit_i64(*n),
            Value::Float(n) => visitor.visit_f64(*n),
            Value::String(s) => visitor.visit_borrowed_str(s),
            Value::List(nodes) => visitor.visit_seq(Elements(nodes.iter())),
            Value::Object(entries) => visitor.visit_map(Entries::new(entries, Case::Exact)),
        }
        .map_err(|e: TreeError| e.located(self.at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        match &self.value {
            Value::List(nodes) => visitor.visit_seq(Elements(nodes.iter())),
            Value::Null => visitor.visit_seq(Elements([].iter())),
            _ => visitor.visit_seq(Elements(std::slice::from_ref(self).iter())),
        }
        .map_err(|e: TreeError| e.located(self.at))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        let entries = self.entries("an object")?;
        visitor.visit_map(Entries::new(entries, Case::Exact))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        let entries = self.entries("an object")?;
        visitor.visit_map(Entries::new(entries, Case::Folded))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

impl Node {
    fn entries(&self, wanted: &'static str) -> Result<&[Entry], TreeError> {
        match &self.value {
            Value::Object(entries) => Ok(entries),
            Value::List(nodes) if nodes.len() == 1 => nodes[0].entries(wanted),
            other => Err(de::Error::invalid_type(other.unexpected(), &wanted))
                .map_err(|e: TreeError| e.located(self.at)),
        }
    }
}

struct Elements<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = TreeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TreeError> {
        let next = self.0.next().map(|node| seed.deserialize(node));
        next.transpose()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Case {
    /// Keys are data (node metadata).
    Exact,
    /// Keys are names of settings.
    Folded,
}

struct Entries<'de> {
    all: &'de [Entry],
    next: usize,
    case: Case,
}

impl<'de> Entries<'de> {
    fn new(all: &'de [Entry], case: Case) -> Self {
        Self { all, next: 0, case }
    }

    /// An earlier entry with the same key.
    fn earlier(&self, entry: &Entry) -> Option<&Entry> {
        self.all[..self.next].iter().find(|other| match self.case {
            Case::Exact => other.key == entry.key,
            Case::Folded => other.key.eq_ignore_ascii_case(&entry.key),
        })
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = TreeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TreeError> {
        let Some(entry) = self.all.get(self.next) else {
            return Ok(None);
        };
        if let Some(first) = self.earlier(entry) {
            let message = format!(
                "{} is set twice, first in line {}",
                entry.key, first.at.line
            );
            return Err(TreeError::new(entry.at, message));
        }
        let result = match self.case {
            Case::Exact => seed.deserialize(plain(&entry.key)),
            Case::Folded => seed.deserialize(plain(&entry.key.to_ascii_lowercase())),
        };
        result.map(Some).map_err(|e| e.located(entry.at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TreeError> {
        let entry = &self.all[self.next];
        self.next += 1;
        seed.deserialize(&entry.node)
            .map_err(|e| e.located(entry.node.at).under(&entry.key))
    }
}

fn plain(text: &str) -> StrDeserializer<'_, TreeError> {
    text.into_deserializer()
}
