//! The expression language of `?filter=`, as Consul's users write it. Pure.
//!
//! `ServiceName == web and not ("v1" in ServiceTags or Node.Meta["my rack"] is empty)`. An expression is read against the
//! fields of what is filtered, so that a name that does not exist is an error, and not an answer that is always empty.
//! A selector that leads through a list holds when it does for any of the list's elements.

mod check;
mod eval;
mod lex;
mod parse;
pub mod schema;
#[cfg(test)]
mod tests;

use regex_lite::{Regex, RegexBuilder};
use serde_json::Value;

use schema::Schema;

/// Most memory that a regular expression may take, in bytes.
const PATTERN_MAX: usize = 1 << 20;

/// A regular expression of somebody else, here and in events and prepared queries: what is short to write may be large to
/// keep. It takes time in proportion to the text that it is held against, whatever is in it.
pub(crate) fn pattern(text: &str) -> Result<Regex, regex_lite::Error> {
    RegexBuilder::new(text).size_limit(PATTERN_MAX).build()
}

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{line}:{column} ({offset}): {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// In bytes, from 0.
        offset: usize,
        /// What is wrong there.
        message: String,
    },
    /// It asks for a field that there is not.
    #[error("Selector {0:?} is not valid")]
    Selector(String),
    /// A field that cannot be asked this.
    #[error("Invalid match operator {operator:?} for selector {selector:?}")]
    Operator {
        /// The operator.
        operator: &'static str,
        /// The field.
        selector: String,
    },
    /// A value that the field cannot have.
    #[error("Selector {selector:?} cannot be compared with {value:?}: {why}")]
    Value {
        /// The field.
        selector: String,
        /// The value.
        value: String,
        /// Why not.
        why: String,
    },
}

/// An expression that fits what it filters.
#[derive(Debug)]
pub struct Filter(Expression);

impl Filter {
    /// Reads an expression about values of this shape.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(text: &str, schema: &Schema) -> Result<Self, Error> {
        let expression = parse::expression(text)?;
        check::expression(expression, schema).map(Self)
    }

    /// Whether a value is to stay.
    pub fn keeps(&self, value: &Value) -> bool {
        eval::holds(&self.0, value, &mut Vec::new())
    }
}

#[derive(Debug)]
enum Expression {
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    Match(Match),
    Collection(Box<Collection>),
}

/// What is asked of one field.
#[derive(Debug)]
struct Match {
    selector: Vec<String>,
    operator: Operator,
    operand: Operand,
}

/// Operators without their negation, which is beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal { not: bool },
    In { not: bool },
    Empty { not: bool },
    Matches { not: bool },
}

impl Operator {
    /// Consul's name for it.
    fn name(self) -> &'static str {
        match self {
            Operator::Equal { not: false } => "Equal",
            Operator::Equal { not: true } => "Not Equal",
            Operator::In { not: false } => "In",
            Operator::In { not: true } => "Not In",
            Operator::Empty { not: false } => "Is Empty",
            Operator::Empty { not: true } => "Is Not Empty",
            Operator::Matches { not: false } => "Matches",
            Operator::Matches { not: true } => "Not Matches",
        }
    }

    fn is_negated(self) -> bool {
        match self {
            Operator::Equal { not }
            | Operator::In { not }
            | Operator::Empty { not }
            | Operator::Matches { not } => not,
        }
    }
}

/// The other side of an operator.
#[derive(Debug)]
enum Operand {
    None,
    Text(String),
    Number(f64),
    Bool(bool),
    Pattern(Regex),
}

/// `any` and `all`.
#[derive(Debug)]
struct Collection {
    all: bool,
    selector: Vec<String>,
    /// What the key or place is called inside.
    key: Option<String>,
    /// What the element is called inside.
    element: Option<String>,
    inner: Expression,
}
