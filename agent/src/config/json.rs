//! JSON into a tree with places. Strict: no comments, no trailing commas.

use super::cursor::{Cursor, MAX_DEPTH};
use super::tree::{Entry, Node, Position, TreeError, Value};

/// Reads a whole file. An empty one is an empty object.
pub(crate) fn parse(text: &str) -> Result<Node, TreeError> {
    let mut cursor = Cursor::new(text);
    skip_space(&mut cursor);
    if cursor.peek().is_none() {
        let at = Position { line: 1, column: 1 };
        let value = Value::Object(Vec::new());
        return Ok(Node { at, value });
    }
    if cursor.peek() != Some('{') {
        return Err(cursor.expected("an object in braces"));
    }
    let node = value(&mut cursor, 0)?;
    skip_space(&mut cursor);
    match cursor.peek() {
        None => Ok(node),
        Some(_) => Err(cursor.expected("the end of the file")),
    }
}

fn skip_space(cursor: &mut Cursor<'_>) {
    cursor.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
}

fn value(cursor: &mut Cursor<'_>, depth: usize) -> Result<Node, TreeError> {
    if depth > MAX_DEPTH {
        return Err(cursor.error("nested too deeply"));
    }
    let at = cursor.at();
    let value = match cursor.peek() {
        Some('{') => object(cursor, depth)?,
        Some('[') => list(cursor, depth)?,
        Some('"') => Value::String(cursor.string()?),
        Some('-' | '0'..='9') => cursor.number()?,
        _ if cursor.eat_str("true") => Value::Bool(true),
        _ if cursor.eat_str("false") => Value::Bool(false),
        _ if cursor.eat_str("null") => Value::Null,
        _ => return Err(cursor.expected("a value")),
    };
    Ok(Node { at, value })
}

fn list(cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, TreeError> {
    cursor.bump();
    let mut nodes = Vec::new();
    skip_space(cursor);
    if cursor.eat(']') {
        return Ok(Value::List(nodes));
    }
    loop {
        skip_space(cursor);
        nodes.push(value(cursor, depth + 1)?);
        skip_space(cursor);
        if cursor.eat(']') {
            return Ok(Value::List(nodes));
        }
        if !cursor.eat(',') {
            return Err(cursor.expected("',' or ']'"));
        }
    }
}

fn object(cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, TreeError> {
    cursor.bump();
    let mut entries = Vec::new();
    skip_space(cursor);
    if cursor.eat('}') {
        return Ok(Value::Object(entries));
    }
    loop {
        skip_space(cursor);
        let at = cursor.at();
        let key = cursor.string()?;
        skip_space(cursor);
        if !cursor.eat(':') {
            return Err(cursor.expected("':'"));
        }
        skip_space(cursor);
        let node = value(cursor, depth + 1)?;
        entries.push(Entry { key, at, node });
        skip_space(cursor);
        if cursor.eat('}') {
            return Ok(Value::Object(entries));
        }
        if !cursor.eat(',') {
            return Err(cursor.expected("',' or '}'"));
        }
    }
}
