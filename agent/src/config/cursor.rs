//! A reading position in a text, and the words that JSON and HCL share.

use std::str::Chars;

use super::tree::{Position, TreeError, Value};

/// Deepest nesting that is read. Real files have three levels; the bound keeps hostile ones off the stack.
pub(crate) const MAX_DEPTH: usize = 64;

pub(crate) struct Cursor<'a> {
    rest: Chars<'a>,
    at: Position,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        // Editors on some systems put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            rest: text.chars(),
            at: Position { line: 1, column: 1 },
        }
    }

    pub(crate) fn at(&self) -> Position {
        self.at
    }

    pub(crate) fn rest(&self) -> &'a str {
        self.rest.as_str()
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    pub(crate) fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.at.line = self.at.line.saturating_add(1);
            self.at.column = 1;
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(c)
    }

    /// Takes `c` if it comes next.
    pub(crate) fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.bump();
        }
        found
    }

    /// Takes `text` if it comes next.
    pub(crate) fn eat_str(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            text.chars().for_each(|_| {
                self.bump();
            });
        }
        found
    }

    /// Takes characters as long as `wanted` holds.
    pub(crate) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.rest();
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        &start[..start.len() - self.rest().len()]
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> TreeError {
        TreeError::new(self.at, message)
    }

    /// An error that says what should stand here and what does.
    pub(crate) fn expected(&self, wanted: &str) -> TreeError {
        match self.peek() {
            None => self.error(format!("expected {wanted}, but the file ends here")),
            Some('\n') => self.error(format!("expected {wanted}, but the line ends here")),
            Some(c) => self.error(format!("expected {wanted}, found {c:?}")),
        }
    }

    /// A decimal number, as JSON writes it.
    pub(crate) fn number(&mut self) -> Result<Value, TreeError> {
        let start = self.at;
        let text = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-'));
        // The letters are for the message: `1x` is one wrong number, not a number and something else.
        if serde_json::from_str::<serde_json::Number>(text).is_ok() {
            if let Ok(n) = text.parse() {
                return Ok(Value::Integer(n));
            }
            if let Some(n) = text.parse().ok().filter(|n: &f64| n.is_finite()) {
                return Ok(Value::Float(n));
            }
        }
        Err(TreeError::new(start, format!("{text:?} is not a number")))
    }

    /// A string in double quotes, with JSON's escapes.
    pub(crate) fn string(&mut self) -> Result<String, TreeError> {
        let start = self.at;
        if !self.eat('"') {
            return Err(self.expected("a string in double quotes"));
        }
        let mut text = String::new();
        loop {
            match self.peek() {
                None | Some('\n') => {
                    return Err(TreeError::new(start, "this string has no closing quote"));
                }
                Some('"') => {
                    self.bump();
                    return Ok(text);
                }
                Some('\\') => text.push(self.escape()?),
                Some(c) => {
                    self.bump();
                    text.push(c);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, TreeError> {
        let start = self.at;
        self.bump();
        let escaped = self.bump();
        Ok(match escaped {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => self.unicode(start)?,
            _ => return Err(TreeError::new(start, "no such escape in a string")),
        })
    }

    /// The rest of `\uXXXX`, or of a surrogate pair of them.
    fn unicode(&mut self, start: Position) -> Result<char, TreeError> {
        let error = || TreeError::new(start, "\\u must be followed by four hexadecimal digits");
        let high = self.hex4().ok_or_else(error)?;
        let code = if (0xd800..0xdc00).contains(&high) {
            let low = self.eat_str("\\u").then(|| self.hex4()).flatten();
            let low = low
                .filter(|l| (0xdc00..0xe000).contains(l))
                .ok_or_else(error)?;
            0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
        } else {
            high
        };
        char::from_u32(code).ok_or_else(error)
    }

    fn hex4(&mut self) -> Option<u32> {
        let mut code = 0;
        for _ in 0..4 {
            code = code * 16 + self.peek()?.to_digit(16)?;
            self.bump();
        }
        Some(code)
    }
}
