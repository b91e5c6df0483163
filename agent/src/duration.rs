//! Durations as Go writes them: `30s`, `1h30m`, `1.5ms`. Pure.
//!
//! Consul takes and prints every duration this way, in its configuration, on its command line and in its HTTP API,
//! so programs written for it send exactly these.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};

/// Why a text is no duration. The wording is Go's, because Consul passes it through to its users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A number without a unit: `5`.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that does not exist: `5d`.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// Anything else, also a value beyond 292 years.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// Below zero. Go has such durations; nothing here means anything by them.
    #[error("time: negative duration {0:?}")]
    Negative(String),
}

/// Go counts in signed 64-bit nanoseconds, so nothing longer exists on the wire.
const NANOSECONDS_MAX: u128 = i64::MAX as u128;

/// Reads a Go duration: one or more numbers, each with a unit (`ns us ms s m h`), with or without a fraction.
///
/// A bare `0` needs no unit; every other number does.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let invalid = || ParseError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = parse_part(text, rest)?;
        total += nanoseconds;
        if total > NANOSECONDS_MAX {
            return Err(invalid());
        }
        rest = after;
    }
    if negative && total > 0 {
        return Err(ParseError::Negative(text.to_owned()));
    }
    let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| invalid())?;
    Ok(Duration::new(seconds, (total % 1_000_000_000) as u32))
}

/// Reads the first number with its unit; returns nanoseconds, at most a little above the maximum, and the rest.
fn parse_part<'a>(text: &str, part: &'a str) -> Result<(u128, &'a str), ParseError> {
    let invalid = || ParseError::Invalid(text.to_owned());
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let whole_len = digits(part);
    let (whole, mut rest) = part.split_at(whole_len);
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        let len = digits(after);
        (fraction, rest) = after.split_at(len);
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let unit_len = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_len);
    let scale: u128 = match unit {
        "" => return Err(ParseError::MissingUnit(text.to_owned())),
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => {
            return Err(ParseError::UnknownUnit {
                unit: unit.to_owned(),
                text: text.to_owned(),
            });
        }
    };
    // 19 digits hold every valid value; more can only be leading zeros or too much.
    let whole = whole.trim_start_matches('0');
    if whole.len() > 19 {
        return Err(invalid());
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| invalid())?
    };
    let mut nanoseconds = whole * scale;
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        if place == 0 {
            break;
        }
        nanoseconds += u128::from(digit - b'0') * place;
    }
    Ok((nanoseconds, after))
}

/// Prints a duration as Go does: `1h30m0s`, `1.5s`, `200ms`, `0s`. [`parse`] reads it back unchanged.
pub fn print(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    if nanoseconds < 1_000 {
        return format!("{nanoseconds}ns");
    }
    if nanoseconds < 1_000_000 {
        return format!("{}\u{b5}s", decimal(nanoseconds, 1_000));
    }
    if nanoseconds < 1_000_000_000 {
        return format!("{}ms", decimal(nanoseconds, 1_000_000));
    }
    let minutes = nanoseconds / 60_000_000_000;
    let seconds = decimal(nanoseconds % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

/// `value / scale` with as many decimals as it has.
fn decimal(value: u128, scale: u128) -> String {
    let width = scale.ilog10() as usize;
    let fraction = format!("{:0width$}", value % scale);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        (value / scale).to_string()
    } else {
        format!("{}.{fraction}", value / scale)
    }
}

/// A duration that is written as a Go duration wherever it is text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self.0))
    }
}

impl fmt::Debug for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for GoDuration {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text).map(GoDuration)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes, like \"30s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        let ms = Duration::from_millis;
        for (text, wanted) in [
            ("0", ms(0)),
            ("0s", ms(0)),
            ("-0", ms(0)),
            ("30s", ms(30_000)),
            ("+5s", ms(5_000)),
            ("1h30m", ms(5_400_000)),
            ("1.5s", ms(1_500)),
            (".5s", ms(500)),
            ("5.s", ms(5_000)),
            ("200ms", ms(200)),
            ("1m0.5s", ms(60_500)),
            ("1\u{b5}s", Duration::from_micros(1)),
            ("1us", Duration::from_micros(1)),
            ("0.0000000000001h", Duration::from_nanos(0)),
            ("00000000000000000000000000001s", ms(1_000)),
        ] {
            assert_eq!(parse(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (text, wanted) in [
            ("5", "time: missing unit in duration \"5\""),
            ("1m5", "time: missing unit in duration \"1m5\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("1e3s", "time: unknown unit \"e\" in duration \"1e3s\""),
            (
                "9999999999999h",
                "time: invalid duration \"9999999999999h\"",
            ),
            ("-3s", "time: negative duration \"-3s\""),
        ] {
            assert_eq!(parse(text).expect_err("no duration").to_string(), wanted);
        }
    }

    #[test]
    fn prints_as_go_prints() {
        for (nanoseconds, wanted) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (200_000_000, "200ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (5_400_000_000_000, "1h30m0s"),
            (259_200_000_000_000, "72h0m0s"),
        ] {
            assert_eq!(print(Duration::from_nanos(nanoseconds)), wanted);
        }
    }

    proptest! {
        #[test]
        fn printed_durations_read_back(nanoseconds in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse(&print(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "\\PC{0,24}|[0-9.hmsnuµ+-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
