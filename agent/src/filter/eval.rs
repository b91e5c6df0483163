//! Whether an expression holds of a value.

use std::borrow::Cow;

use serde_json::Value;

use super::{Collection, Expression, Match, Operand, Operator};

/// Names that are bound inside of collections, the innermost last.
type Bound<'a> = Vec<(&'a str, Cow<'a, Value>)>;

pub(super) fn holds<'a>(
    expression: &'a Expression,
    value: &'a Value,
    bound: &mut Bound<'a>,
) -> bool {
    match expression {
        Expression::And(list) => list.iter().all(|inner| holds(inner, value, bound)),
        Expression::Or(list) => list.iter().any(|inner| holds(inner, value, bound)),
        Expression::Not(inner) => !holds(inner, value, bound),
        Expression::Match(found) => {
            let (start, path) = start(&found.selector, value, bound);
            descend(&start, path, found)
        }
        Expression::Collection(found) => collection(found, value, bound),
    }
}

/// Where a selector starts, and what of it is left.
fn start<'a, 's>(
    selector: &'s [String],
    value: &'a Value,
    bound: &Bound<'a>,
) -> (Cow<'a, Value>, &'s [String]) {
    let first = selector.first().map_or("", String::as_str);
    match bound.iter().rev().find(|(name, _)| *name == first) {
        Some((_, bound)) => (bound.clone(), &selector[1..]),
        None => (Cow::Borrowed(value), selector),
    }
}

/// Follows the path; through a list it is enough that one of its elements fits.
fn descend(value: &Value, path: &[String], found: &Match) -> bool {
    let Some((name, rest)) = path.split_first() else {
        return compare(value, found);
    };
    match value {
        Value::Array(list) => match name.parse::<usize>() {
            Ok(place) => list.get(place).map_or_else(
                || absent(found.operator),
                |element| descend(element, rest, found),
            ),
            Err(_) => list.iter().any(|element| descend(element, path, found)),
        },
        Value::Object(fields) => match fields.get(name) {
            Some(field) => descend(field, rest, found),
            None => absent(found.operator),
        },
        _ => absent(found.operator),
    }
}

/// What holds of something that is not there: it equals nothing, is in nothing, and is empty.
fn absent(operator: Operator) -> bool {
    match operator {
        Operator::Empty { not } => !not,
        other => other.is_negated(),
    }
}

fn compare(value: &Value, found: &Match) -> bool {
    let result = match (found.operator, &found.operand) {
        (Operator::Equal { .. }, operand) => equals(value, operand),
        (Operator::Empty { .. }, _) => is_empty(value),
        (Operator::In { .. }, Operand::Text(text)) => contains(value, text),
        (Operator::Matches { .. }, Operand::Pattern(pattern)) => {
            value.as_str().is_some_and(|text| pattern.is_match(text))
        }
        _ => false,
    };
    result != found.operator.is_negated()
}

fn equals(value: &Value, operand: &Operand) -> bool {
    match (value, operand) {
        (Value::String(text), Operand::Text(other)) => text == other,
        (Value::Number(number), Operand::Number(other)) => number.as_f64() == Some(*other),
        (Value::Bool(value), Operand::Bool(other)) => value == other,
        // Below fields of any kind the operand is what was written.
        (Value::Number(number), Operand::Text(other)) => other.parse().ok() == number.as_f64(),
        (Value::Bool(value), Operand::Text(other)) => {
            other == if *value { "true" } else { "false" }
        }
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a text has this part, a list this element, a map this key.
fn contains(value: &Value, text: &str) -> bool {
    match value {
        Value::String(whole) => whole.contains(text),
        Value::Array(list) => {
            let operand = Operand::Text(text.to_owned());
            list.iter().any(|element| equals(element, &operand))
        }
        Value::Object(fields) => fields.contains_key(text),
        _ => false,
    }
}

fn collection<'a>(found: &'a Collection, value: &'a Value, bound: &mut Bound<'a>) -> bool {
    let (start, path) = start(&found.selector, value, bound);
    let Some(collection) = lead(&start, path) else {
        // Of nothing all are so, and none is.
        return found.all;
    };
    let entries: Vec<(Value, Value)> = match collection {
        Value::Array(list) => list
            .into_iter()
            .enumerate()
            .map(|(place, element)| (Value::from(place), element))
            .collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, element)| (Value::from(key), element))
            .collect(),
        _ => return found.all,
    };
    let before = bound.len();
    for (key, element) in entries {
        for (name, value) in [(&found.key, key), (&found.element, element)] {
            if let Some(name) = name.as_deref().filter(|name| *name != "_") {
                bound.push((name, Cow::Owned(value)));
            }
        }
        let holds = holds(&found.inner, value, bound);
        bound.truncate(before);
        if holds != found.all {
            return holds;
        }
    }
    found.all
}

/// The value at the end of a path; through a list, what all of its elements have there, one after the other.
fn lead(value: &Value, path: &[String]) -> Option<Value> {
    let Some((name, rest)) = path.split_first() else {
        return Some(value.clone());
    };
    match value {
        Value::Object(fields) => lead(fields.get(name)?, rest),
        Value::Array(list) => match name.parse::<usize>() {
            Ok(place) => lead(list.get(place)?, rest),
            Err(_) => {
                let mut joined = Vec::new();
                for element in list {
                    match lead(element, path) {
                        Some(Value::Array(more)) => joined.extend(more),
                        Some(one) => joined.push(one),
                        None => {}
                    }
                }
                Some(Value::Array(joined))
            }
        },
        _ => None,
    }
}
