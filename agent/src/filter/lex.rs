//! Characters to words, each with its place.

use super::Error;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `Service`, `Meta/a`; also words of the language.
    Word(String),
    /// A quoted text, and whether the quotes were backticks.
    Text(String),
    /// As it was written.
    Number(String),
    Equal,
    NotEqual,
    Dot,
    Comma,
    Open,
    Close,
    OpenIndex,
    CloseIndex,
    OpenBlock,
    CloseBlock,
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Lexed {
    pub(super) token: Token,
    /// Byte at which it starts.
    pub(super) at: usize,
    /// Whether there is a space in front of it.
    pub(super) spaced: bool,
}

/// An error at a byte of the text.
pub(super) fn error(text: &str, offset: usize, message: impl Into<String>) -> Error {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Error::Syntax {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        offset,
        message: message.into(),
    }
}

/// All words of a text, and its end.
pub(super) fn tokens(text: &str) -> Result<Vec<Lexed>, Error> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let space = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        at += space;
        let rest = &text[at..];
        let (token, len) = token(text, rest, at)?;
        let end = token == Token::End;
        let spaced = space > 0;
        found.push(Lexed { token, at, spaced });
        at += len;
        if end {
            return Ok(found);
        }
    }
}

/// The word at the start of `rest`, and its length in bytes.
fn token(text: &str, rest: &str, at: usize) -> Result<(Token, usize), Error> {
    let Some(first) = rest.chars().next() else {
        return Ok((Token::End, 0));
    };
    let one = |token| Ok((token, 1));
    match first {
        '=' if rest.starts_with("==") => Ok((Token::Equal, 2)),
        '!' if rest.starts_with("!=") => Ok((Token::NotEqual, 2)),
        '.' => one(Token::Dot),
        ',' => one(Token::Comma),
        '(' => one(Token::Open),
        ')' => one(Token::Close),
        '[' => one(Token::OpenIndex),
        ']' => one(Token::CloseIndex),
        '{' => one(Token::OpenBlock),
        '}' => one(Token::CloseBlock),
        '`' => match rest[1..].find('`') {
            Some(len) => Ok((Token::Text(rest[1..=len].to_owned()), len + 2)),
            None => Err(error(text, at, "this raw string has no closing backtick")),
        },
        '"' => quoted(text, rest, at),
        '-' | '0'..='9' => number(text, rest, at),
        c if c.is_ascii_alphabetic() || c == '_' => {
            let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/');
            let len = rest.find(|c| !inside(c)).unwrap_or(rest.len());
            Ok((Token::Word(rest[..len].to_owned()), len))
        }
        other => Err(error(
            text,
            at,
            format!(
                "unexpected character {other:?}: values with others than letters and digits need quotes"
            ),
        )),
    }
}

fn number(text: &str, rest: &str, at: usize) -> Result<(Token, usize), Error> {
    let inside = |c: char| c.is_ascii_digit() || matches!(c, '-' | '.');
    let len = rest.find(|c| !inside(c)).unwrap_or(rest.len());
    let (number, after) = rest.split_at(len);
    let ends = after
        .chars()
        .next()
        .is_none_or(|c| !c.is_alphanumeric() && c != '_');
    match number.parse::<f64>() {
        Ok(_) if ends => Ok((Token::Number(number.to_owned()), len)),
        _ => Err(error(
            text,
            at,
            "invalid number: other values that begin with a digit need quotes",
        )),
    }
}

/// A text in double quotes, with Go's escapes.
fn quoted(text: &str, rest: &str, at: usize) -> Result<(Token, usize), Error> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(value), place + 1)),
            '\n' => return Err(error(text, at + place, "a line end inside of quotes")),
            '\\' => {
                let bad = || error(text, at + place, "invalid escape");
                let (_, kind) = chars.next().ok_or_else(bad)?;
                value.push(match kind {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' | '"' => kind,
                    'x' | 'u' | 'U' => {
                        let digits = match kind {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let mut code = 0;
                        for _ in 0..digits {
                            let digit = chars.next().and_then(|(_, c)| c.to_digit(16));
                            code = code * 16 + digit.ok_or_else(bad)?;
                        }
                        char::from_u32(code).ok_or_else(bad)?
                    }
                    _ => return Err(bad()),
                });
            }
            c => value.push(c),
        }
    }
    Err(error(text, at, "this string has no closing quote"))
}
