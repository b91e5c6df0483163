//! HCL, as Consul reads it, into a tree with places.
//!
//! Consul's files are HCL version 1: keys may be quoted, commas between entries are optional, there are no
//! expressions, and `${` is plain text. Parsers of version 2 refuse half of that (`node_meta { "rack" = "r1" }`), so
//! this is our own. A file that starts with a brace is JSON, as it is for Consul.

use super::cursor::{Cursor, MAX_DEPTH};
use super::json;
use super::tree::{Entry, Node, TreeError, Value};

/// Reads a whole file. An empty one is an empty object.
pub(crate) fn parse(text: &str) -> Result<Node, TreeError> {
    let mut cursor = Cursor::new(text);
    let at = cursor.at();
    skip_space(&mut cursor)?;
    if cursor.peek() == Some('{') {
        return json::parse(text);
    }
    let value = Value::Object(entries(&mut cursor, 0)?);
    match cursor.peek() {
        None => Ok(Node { at, value }),
        Some(_) => Err(cursor.expected("a key")),
    }
}

/// Skips spaces, line ends and the three kinds of comments.
fn skip_space(cursor: &mut Cursor<'_>) -> Result<(), TreeError> {
    loop {
        cursor.take_while(char::is_whitespace);
        if cursor.peek() == Some('#') || cursor.rest().starts_with("//") {
            cursor.take_while(|c| c != '\n');
        } else if cursor.rest().starts_with("/*") {
            let start = cursor.at();
            while !cursor.eat_str("*/") {
                if cursor.bump().is_none() {
                    return Err(TreeError::new(start, "this comment has no end"));
                }
            }
        } else {
            return Ok(());
        }
    }
}

/// Entries up to something that cannot start one.
fn entries(cursor: &mut Cursor<'_>, depth: usize) -> Result<Vec<Entry>, TreeError> {
    let mut found = Vec::new();
    loop {
        skip_space(cursor)?;
        if !starts_key(cursor) {
            return Ok(found);
        }
        add(&mut found, entry(cursor, depth)?);
        skip_space(cursor)?;
        cursor.eat(',');
    }
}

/// Blocks of which there may be several: written one after the other, they are a list.
const REPEATED: [&str; 6] = [
    "check",
    "checks",
    "service",
    "services",
    "upstreams",
    "watches",
];

fn add(found: &mut Vec<Entry>, entry: Entry) {
    let repeated = REPEATED
        .iter()
        .any(|key| key.eq_ignore_ascii_case(&entry.key));
    let earlier = found
        .iter_mut()
        .find(|other| repeated && other.key.eq_ignore_ascii_case(&entry.key));
    let Some(earlier) = earlier else {
        found.push(entry);
        return;
    };
    let at = earlier.node.at;
    let list = |value| match value {
        Value::List(nodes) => nodes,
        value => vec![Node { at, value }],
    };
    let mut all = list(std::mem::replace(&mut earlier.node.value, Value::Null));
    match entry.node.value {
        Value::List(nodes) => all.extend(nodes),
        value => all.push(Node {
            at: entry.node.at,
            value,
        }),
    }
    earlier.node.value = Value::List(all);
}

fn starts_key(cursor: &Cursor<'_>) -> bool {
    cursor
        .peek()
        .is_some_and(|c| c == '"' || c == '_' || c.is_alphabetic())
}

/// `key = value`, `key { ... }` or `key "label" { ... }`.
fn entry(cursor: &mut Cursor<'_>, depth: usize) -> Result<Entry, TreeError> {
    if depth > MAX_DEPTH {
        return Err(cursor.error("nested too deeply"));
    }
    let at = cursor.at();
    let key = key(cursor)?;
    skip_space(cursor)?;
    let node = match cursor.peek() {
        // ':' is what people type who come from JSON; HCL takes it in objects.
        Some('=' | ':') => {
            cursor.bump();
            skip_space(cursor)?;
            value(cursor, depth + 1)?
        }
        Some('{') => value(cursor, depth + 1)?,
        _ if starts_key(cursor) => {
            let at = cursor.at();
            let label = entry(cursor, depth + 1)?;
            let value = Value::Object(vec![label]);
            Node { at, value }
        }
        _ => return Err(cursor.expected("'=' or '{'")),
    };
    Ok(Entry { key, at, node })
}

fn key(cursor: &mut Cursor<'_>) -> Result<String, TreeError> {
    if cursor.peek() == Some('"') {
        return cursor.string();
    }
    let word = cursor.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    Ok(word.to_owned())
}

fn value(cursor: &mut Cursor<'_>, depth: usize) -> Result<Node, TreeError> {
    if depth > MAX_DEPTH {
        return Err(cursor.error("nested too deeply"));
    }
    let at = cursor.at();
    let value = match cursor.peek() {
        Some('{') => {
            cursor.bump();
            let entries = entries(cursor, depth + 1)?;
            if !cursor.eat('}') {
                return Err(cursor.expected("a key or '}'"));
            }
            Value::Object(entries)
        }
        Some('[') => list(cursor, depth)?,
        Some('"') => Value::String(cursor.string()?),
        Some('<') => Value::String(heredoc(cursor)?),
        Some('-' | '0'..='9') => cursor.number()?,
        Some(c) if c == '_' || c.is_alphabetic() => word(cursor)?,
        _ => return Err(cursor.expected("a value")),
    };
    Ok(Node { at, value })
}

fn word(cursor: &mut Cursor<'_>) -> Result<Value, TreeError> {
    let at = cursor.at();
    match cursor.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')) {
        "true" => Ok(Value::Bool(true)),
        "false" => Ok(Value::Bool(false)),
        other => {
            let message = format!("expected a value, found the word {other}: text needs quotes");
            Err(TreeError::new(at, message))
        }
    }
}

fn list(cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, TreeError> {
    cursor.bump();
    let mut nodes = Vec::new();
    loop {
        skip_space(cursor)?;
        if cursor.eat(']') {
            return Ok(Value::List(nodes));
        }
        nodes.push(value(cursor, depth + 1)?);
        skip_space(cursor)?;
        if !cursor.eat(',') && cursor.peek() != Some(']') {
            return Err(cursor.expected("',' or ']'"));
        }
    }
}

/// `<<END` or `<<-END` up to a line that holds only `END`. The second form drops the indent that all lines share.
fn heredoc(cursor: &mut Cursor<'_>) -> Result<String, TreeError> {
    let start = cursor.at();
    if !cursor.eat_str("<<") {
        return Err(cursor.expected("a value"));
    }
    let indented = cursor.eat('-');
    let marker = cursor.take_while(|c| c.is_alphanumeric() || c == '_');
    cursor.take_while(|c| c == '\r');
    if marker.is_empty() || !cursor.eat('\n') {
        return Err(TreeError::new(
            start,
            "<< must be followed by a word and a line end",
        ));
    }
    let mut lines = Vec::new();
    loop {
        let line = cursor.take_while(|c| c != '\n');
        if line.trim() == marker {
            break;
        }
        lines.push(line);
        if !cursor.eat('\n') {
            return Err(TreeError::new(
                start,
                format!("no line {marker} ends this text"),
            ));
        }
    }
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let common = match indented {
        true => lines
            .iter()
            .filter(|l| !l.trim().is_empty())
            .map(|l| indent(l))
            .min(),
        false => None,
    };
    let common = common.unwrap_or(0);
    Ok(lines
        .iter()
        .flat_map(|line| [line.get(common.min(indent(line))..).unwrap_or(""), "\n"])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_makes_the_parsers_panic() {
        let seeds = [
            "server = true\nports { http = 8500, dns = -1 }\nnode_meta { \"rack\" = \"r1\" } # c\n",
            "a = [1, 2.5, <<EOF\ntext\nEOF\n]\n// c\n/* c */ b \"x\" { c = \"\\u00e9\" }\n",
            "{\"a\": [true, null, {\"b\": 1e3}], \"c\": \"\\n\"}",
        ]
        .map(|text| text.as_bytes().to_vec());
        crate::fuzz::run("hcl", &seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let word = parse(&text).map_or_else(|error| error.to_string(), |_| "ok".to_owned());
            // Behind the first words is what was found.
            word.split_whitespace().take(2).collect()
        });
    }
}
