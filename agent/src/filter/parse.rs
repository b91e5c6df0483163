//! Words to an expression, without a look at what it is about.

use super::lex::{Lexed, Token, error, tokens};
use super::{Collection, Error, Expression, Match, Operand, Operator};

/// Deepest nesting; a stack holds far more.
const DEPTH_MAX: usize = 64;

/// Longest expression in bytes.
const LEN_MAX: usize = 64 * 1024;

/// Reads a whole expression. Operands are texts and numbers as they were written.
pub(super) fn expression(text: &str) -> Result<Expression, Error> {
    if text.len() > LEN_MAX {
        return Err(error(text, 0, "the expression is too long"));
    }
    let mut parser = Parser {
        text,
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
    };
    let found = parser.or()?;
    match parser.peek() {
        Token::End => Ok(found),
        _ => Err(parser.expected("\"and\", \"or\" or the end of the expression")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Lexed>,
    next: usize,
    depth: usize,
}

/// What stands on one side of an operator.
enum Term {
    /// A path that was written with words.
    Path(Vec<String>),
    Text(String, usize),
    Number(String),
}

impl Parser<'_> {
    fn at(&self, ahead: usize) -> &Lexed {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.next + ahead).min(last)]
    }

    fn peek(&self) -> &Token {
        &self.at(0).token
    }

    fn bump(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn is_word(&self, ahead: usize, word: &str) -> bool {
        matches!(&self.at(ahead).token, Token::Word(found) if found == word)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(0, word);
        self.next += usize::from(found);
        found
    }

    fn eat(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        self.next += usize::from(found);
        found
    }

    fn expected(&self, what: &str) -> Error {
        let at = self.at(0);
        error(
            self.text,
            at.at,
            format!("no match found, expected: {what}"),
        )
    }

    fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        match self.depth > DEPTH_MAX {
            true => Err(error(self.text, self.at(0).at, "nested too deeply")),
            false => Ok(()),
        }
    }

    fn or(&mut self) -> Result<Expression, Error> {
        self.joined("or", Self::and, Expression::Or)
    }

    fn and(&mut self) -> Result<Expression, Error> {
        self.joined("and", Self::not, Expression::And)
    }

    /// One part, or several with a word between each two.
    fn joined(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Result<Expression, Error>,
        join: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, Error> {
        let first = part(self)?;
        if !self.is_word(0, word) {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.eat_word(word) {
            all.push(part(self)?);
        }
        Ok(join(all))
    }

    fn not(&mut self) -> Result<Expression, Error> {
        if !self.eat_word("not") {
            return self.unit();
        }
        self.deeper()?;
        let inner = self.not()?;
        self.depth -= 1;
        Ok(Expression::Not(Box::new(inner)))
    }

    fn unit(&mut self) -> Result<Expression, Error> {
        if self.eat(&Token::Open) {
            self.deeper()?;
            let inner = self.or()?;
            self.depth -= 1;
            return match self.eat(&Token::Close) {
                true => Ok(inner),
                false => Err(self.expected("\"and\", \"or\" or \")\"")),
            };
        }
        let collection = self.is_word(0, "any") || self.is_word(0, "all");
        // A field may have that name: then an operator follows.
        if collection && matches!(self.at(1).token, Token::Word(_) | Token::Text(_)) {
            let before = self.next;
            if let Some(found) = self.collection()? {
                return Ok(found);
            }
            self.next = before;
        }
        self.comparison()
    }

    /// `any SELECTOR as NAME { ... }`; `None` when it turns out to be something else.
    fn collection(&mut self) -> Result<Option<Expression>, Error> {
        let all = self.bump() == Token::Word("all".to_owned());
        let term = self.term()?;
        if !self.eat_word("as") {
            return Ok(None);
        }
        let selector = self.selector(term)?;
        let parenthesised = self.eat(&Token::Open);
        let first = self.name()?;
        let second = match self.eat(&Token::Comma) {
            true => Some(self.name()?),
            false => None,
        };
        if parenthesised && !self.eat(&Token::Close) {
            return Err(self.expected("\")\""));
        }
        if !self.eat(&Token::OpenBlock) {
            return Err(self.expected("\"{\""));
        }
        self.deeper()?;
        let inner = self.or()?;
        self.depth -= 1;
        if !self.eat(&Token::CloseBlock) {
            return Err(self.expected("\"and\", \"or\" or \"}\""));
        }
        // With one name it is the kind of the collection that says what is meant.
        let (key, element) = match second {
            Some(second) => (Some(first), Some(second)),
            None => (None, Some(first)),
        };
        Ok(Some(Expression::Collection(Box::new(Collection {
            all,
            selector,
            key,
            element,
            inner,
        }))))
    }

    fn name(&mut self) -> Result<String, Error> {
        match self.peek().clone() {
            Token::Word(name) => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.expected("a name")),
        }
    }

    fn comparison(&mut self) -> Result<Expression, Error> {
        let left = self.term()?;
        let operator = self.operator()?;
        let (selector, operand) = match operator {
            Written::ValueIn { not } => {
                let operand = operand(left);
                let right = self.term()?;
                let operator = Operator::In { not };
                let selector = self.selector(right)?;
                return Ok(Expression::Match(Match {
                    selector,
                    operator,
                    operand,
                }));
            }
            Written::Empty { .. } => (self.selector(left)?, Operand::None),
            _ => {
                let selector = self.selector(left)?;
                (selector, operand(self.term()?))
            }
        };
        let operator = match operator {
            Written::Equal { not } => Operator::Equal { not },
            Written::Contains { not } | Written::ValueIn { not } => Operator::In { not },
            Written::Empty { not } => Operator::Empty { not },
            Written::Matches { not } => Operator::Matches { not },
        };
        Ok(Expression::Match(Match {
            selector,
            operator,
            operand,
        }))
    }

    fn operator(&mut self) -> Result<Written, Error> {
        if self.eat(&Token::Equal) {
            return Ok(Written::Equal { not: false });
        }
        if self.eat(&Token::NotEqual) {
            return Ok(Written::Equal { not: true });
        }
        if self.is_word(0, "is") {
            let not = self.is_word(1, "not");
            if self.is_word(1 + usize::from(not), "empty") {
                self.next += 2 + usize::from(not);
                return Ok(Written::Empty { not });
            }
        }
        let not = self.is_word(0, "not");
        let ahead = usize::from(not);
        let found = if self.is_word(ahead, "in") {
            Written::ValueIn { not }
        } else if self.is_word(ahead, "contains") {
            Written::Contains { not }
        } else if self.is_word(ahead, "matches") {
            Written::Matches { not }
        } else {
            return Err(self.expected(
                "\"!=\", \".\", \"==\", \"[\", \"contains\", \"in\", \"is empty\", \"is not empty\", \"matches\" or \"not\" before one of them",
            ));
        };
        self.next += ahead + 1;
        Ok(found)
    }

    fn term(&mut self) -> Result<Term, Error> {
        let at = self.at(0).at;
        match self.peek().clone() {
            Token::Word(word) => {
                self.next += 1;
                let mut path = vec![word];
                self.path(&mut path)?;
                Ok(Term::Path(path))
            }
            Token::Text(text) => {
                self.next += 1;
                Ok(Term::Text(text, at))
            }
            Token::Number(number) => {
                self.next += 1;
                Ok(Term::Number(number))
            }
            _ => Err(self.expected("a selector, a number or a string")),
        }
    }

    /// `.name`, `.0` and `["any text"]`, as many as there are.
    fn path(&mut self, path: &mut Vec<String>) -> Result<(), Error> {
        loop {
            // A space ends a selector.
            if self.at(0).spaced {
                return Ok(());
            }
            if self.eat(&Token::Dot) {
                match self.bump() {
                    Token::Word(word) => path.push(word),
                    Token::Number(number) if number.bytes().all(|b| b.is_ascii_digit()) => {
                        path.push(number);
                    }
                    _ => {
                        self.next -= 1;
                        return Err(self.expected("a name or a place behind the dot"));
                    }
                }
            } else if self.eat(&Token::OpenIndex) {
                let Token::Text(text) = self.peek().clone() else {
                    return Err(self.expected("a string"));
                };
                self.next += 1;
                path.push(text);
                if !self.eat(&Token::CloseIndex) {
                    return Err(self.expected("\"]\""));
                }
            } else {
                return Ok(());
            }
        }
    }

    /// A term where a field must be named: a path, or a JSON pointer in quotes.
    fn selector(&self, term: Term) -> Result<Vec<String>, Error> {
        match term {
            Term::Path(path) => Ok(path),
            Term::Text(text, at) => match text.strip_prefix('/') {
                Some(pointer) if !pointer.is_empty() => {
                    let parts = pointer.split('/');
                    Ok(parts
                        .map(|part| part.replace("~1", "/").replace("~0", "~"))
                        .collect())
                }
                _ => Err(error(
                    self.text,
                    at,
                    "expected a selector here: a name, or a JSON pointer in quotes",
                )),
            },
            Term::Number(number) => {
                let at = self.at(0).at;
                let message = format!("expected a selector, found the number {number}");
                Err(error(self.text, at, message))
            }
        }
    }
}

/// Operators as they are written.
#[derive(Clone, Copy)]
enum Written {
    Equal { not: bool },
    ValueIn { not: bool },
    Contains { not: bool },
    Empty { not: bool },
    Matches { not: bool },
}

fn operand(term: Term) -> Operand {
    Operand::Text(match term {
        // A bare word with dots is a value as it was written.
        Term::Path(path) => path.join("."),
        Term::Text(text, _) => text,
        Term::Number(number) => number,
    })
}
