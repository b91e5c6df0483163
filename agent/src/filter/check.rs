//! Whether an expression fits what it filters; operands become what the field holds.

use super::schema::Schema;
use super::{Collection, Error, Expression, Match, Operand, Operator, pattern};
use crate::go_bool;

/// Checks an expression against the fields.
pub(super) fn expression(found: Expression, schema: &Schema) -> Result<Expression, Error> {
    within(found, &mut vec![], schema)
}

/// The names that are bound inside of collections, the innermost last.
type Bound = Vec<(String, Schema)>;

fn within(found: Expression, bound: &mut Bound, schema: &Schema) -> Result<Expression, Error> {
    let all = |list: Vec<Expression>, bound: &mut Bound| {
        let checked = list.into_iter().map(|inner| within(inner, bound, schema));
        checked.collect::<Result<Vec<_>, _>>()
    };
    Ok(match found {
        Expression::And(list) => Expression::And(all(list, bound)?),
        Expression::Or(list) => Expression::Or(all(list, bound)?),
        Expression::Not(inner) => Expression::Not(Box::new(within(*inner, bound, schema)?)),
        Expression::Match(found) => Expression::Match(comparison(found, bound, schema)?),
        Expression::Collection(found) => {
            Expression::Collection(Box::new(collection(*found, bound, schema)?))
        }
    })
}

fn collection(found: Collection, bound: &mut Bound, schema: &Schema) -> Result<Collection, Error> {
    let Collection {
        all,
        selector,
        mut key,
        mut element,
        inner,
    } = found;
    let (key_kind, element_kind) = match resolve(&selector, bound, schema)? {
        Schema::List(inner) => (Schema::Number, *inner),
        Schema::Map(inner) => {
            if key.is_none() {
                // One name of a map's entry is its key's.
                (key, element) = (element, None);
            }
            (Schema::Text, *inner)
        }
        Schema::Any => (Schema::Any, Schema::Any),
        _ => {
            return Err(Error::Operator {
                operator: if all { "All" } else { "Any" },
                selector: selector.join("."),
            });
        }
    };
    let before = bound.len();
    for (name, kind) in [(&key, key_kind), (&element, element_kind)] {
        if let Some(name) = name.as_deref().filter(|name| *name != "_") {
            bound.push((name.to_owned(), kind));
        }
    }
    let inner = within(inner, bound, schema);
    bound.truncate(before);
    Ok(Collection {
        all,
        selector,
        key,
        element,
        inner: inner?,
    })
}

/// The kind of what a selector leads to.
fn resolve(selector: &[String], bound: &Bound, schema: &Schema) -> Result<Schema, Error> {
    let invalid = || Error::Selector(selector.join("."));
    let (first, rest) = selector.split_first().ok_or_else(invalid)?;
    let known = bound.iter().rev().find(|(name, _)| name == first);
    let (mut kind, path) = match known {
        Some((_, kind)) => (*kind, rest),
        None => (*schema, selector),
    };
    for name in path {
        loop {
            match kind {
                // Through a list: to a place in it, or to any of its elements.
                Schema::List(inner) => {
                    kind = *inner;
                    if name.bytes().all(|b| b.is_ascii_digit()) {
                        break;
                    }
                }
                Schema::Map(inner) => {
                    kind = *inner;
                    break;
                }
                Schema::Object(fields) => {
                    let field = fields.iter().find(|(field, _)| field == name);
                    kind = field.ok_or_else(invalid)?.1;
                    break;
                }
                Schema::Any => break,
                Schema::Text | Schema::Number | Schema::Bool => return Err(invalid()),
            }
        }
    }
    Ok(kind)
}

fn comparison(found: Match, bound: &Bound, schema: &Schema) -> Result<Match, Error> {
    let Match {
        selector,
        operator,
        operand,
    } = found;
    let kind = resolve(&selector, bound, schema)?;
    let fits = match (operator, kind) {
        (_, Schema::Any | Schema::Text) => true,
        (Operator::Equal { .. }, Schema::Number | Schema::Bool) => true,
        (Operator::In { .. } | Operator::Empty { .. }, Schema::Map(_)) => true,
        (Operator::Empty { .. }, Schema::List(_)) => true,
        (Operator::In { .. }, Schema::List(inner)) => !matches!(inner, Schema::Object(_)),
        _ => false,
    };
    if !fits {
        return Err(Error::Operator {
            operator: operator.name(),
            selector: selector.join("."),
        });
    }
    let operand = match operand {
        Operand::Text(text) => {
            coerced(text, operator, kind).map_err(|(value, why)| Error::Value {
                selector: selector.join("."),
                value,
                why,
            })?
        }
        other => other,
    };
    Ok(Match {
        selector,
        operator,
        operand,
    })
}

/// A value as the field holds it, or why it cannot.
fn coerced(text: String, operator: Operator, kind: Schema) -> Result<Operand, (String, String)> {
    if let Operator::Matches { .. } = operator {
        return match pattern(&text) {
            Ok(pattern) => Ok(Operand::Pattern(pattern)),
            Err(error) => Err((text, error.to_string())),
        };
    }
    match kind {
        Schema::Number => match text.parse() {
            Ok(number) => Ok(Operand::Number(number)),
            Err(_) => Err((text, "it is no number".to_owned())),
        },
        Schema::Bool => match go_bool::parse(&text) {
            Some(value) => Ok(Operand::Bool(value)),
            None => Err((text, "it is neither true nor false".to_owned())),
        },
        _ => Ok(Operand::Text(text)),
    }
}
