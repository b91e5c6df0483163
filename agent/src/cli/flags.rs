//! Flags as Go's programs take them: one dash or two, `-flag value` or `-flag=value`, `-switch=false`. Pure.
//!
//! [`normalise`] turns them into the one form that clap is given: `--flag=value` for each flag, then `--`, then the
//! rest. As in Go, flags end at the first argument that is not one.

use std::any::TypeId;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, Parser};

use super::Failure;
use crate::config::unsupported::Takes;
use crate::go_bool;

/// A command line in one form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Normal {
    /// For clap, without the program's name.
    pub(crate) args: Vec<String>,
    /// Flags that Consul has and this version does not, with their values.
    pub(crate) unsupported: Vec<(String, String)>,
}

/// What cannot be brought into one form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The help was asked for.
    Help,
    /// No such flag. The wording of this and the others is Go's.
    Unknown(String),
    /// The flag stands last, without its value.
    NoValue(String),
    /// A switch with something that is neither true nor false.
    NotBool { flag: String, value: String },
}

impl Wrong {
    fn sentence(&self) -> String {
        match self {
            Wrong::Help => String::new(),
            Wrong::Unknown(flag) => format!("flag provided but not defined: -{flag}"),
            Wrong::NoValue(flag) => format!("flag needs an argument: -{flag}"),
            Wrong::NotBool { flag, value } => {
                format!("invalid boolean value {value:?} for -{flag}: expected true or false")
            }
        }
    }
}

/// Reads a verb's arguments into `T`; `verb` is what a person types after `agent`.
pub(crate) fn parse<T: Parser>(verb: &str, args: &[String]) -> Result<T, Failure> {
    let normal = normalise(args, &T::command(), |_| None).map_err(|w| explain::<T>(verb, &w))?;
    parse_normal(&normal)
}

/// Whether a switch is on.
pub(crate) fn on(switch: Option<bool>) -> bool {
    switch == Some(true)
}

/// The second half of [`parse`], for callers with unsupported flags.
pub(crate) fn parse_normal<T: Parser>(normal: &Normal) -> Result<T, Failure> {
    // Go takes the last of a repeated flag; clap would refuse the second.
    let command = T::command().no_binary_name(true).args_override_self(true);
    let matches = command.try_get_matches_from(normal.args.iter().map(OsString::from));
    matches
        .and_then(|matches| T::from_arg_matches(&matches))
        .map_err(|error| Failure::Usage(sentence(&error)))
}

/// What [`normalise`] refused, as a failure: the help text where that was asked for.
pub(crate) fn explain<T: Parser>(verb: &str, wrong: &Wrong) -> Failure {
    match wrong {
        Wrong::Help => Failure::Help(help(T::command(), verb)),
        other => Failure::Usage(other.sentence()),
    }
}

fn help(command: Command, verb: &str) -> String {
    let help = command
        .bin_name(format!("agent {verb}"))
        .disable_help_flag(true)
        .render_help()
        .to_string();
    // Consul's way to write flags has one dash.
    help.replace("      --", "  -")
        .replace("[OPTIONS]", "[FLAGS]")
        .replace("Options:", "Flags:")
}

/// clap's complaint in one line, with the flag as a person typed it.
fn sentence(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let flag = context(ContextKind::InvalidArg).unwrap_or_default();
    let flag = flag
        .split(' ')
        .next()
        .unwrap_or_default()
        .replace("--", "-");
    match (
        context(ContextKind::InvalidValue),
        std::error::Error::source(error),
    ) {
        (Some(value), Some(why)) => format!("invalid value {value:?} for flag {flag}: {why}"),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").replace("--", "-")
        }
    }
}

/// Brings `args` into one form. `unsupported` names further flags, which are taken out and returned.
pub(crate) fn normalise(
    args: &[String],
    command: &Command,
    unsupported: impl Fn(&str) -> Option<Takes>,
) -> Result<Normal, Wrong> {
    let mut normal = Normal::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(flag) = arg.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            // The first argument proper. A lone dash is one too: standard input.
            normal.args.push("--".into());
            normal.args.push(arg.clone());
            break;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.is_empty() {
            normal.args.push("--".into());
            break;
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        let ours = command.get_arguments().find(|a| is_called(a, name));
        let takes = match ours {
            Some(arg) if is_switch(arg) => Takes::Nothing,
            Some(_) => Takes::Value,
            None if matches!(name, "h" | "help") => return Err(Wrong::Help),
            None => unsupported(name).ok_or_else(|| Wrong::Unknown(name.to_owned()))?,
        };
        let value = match (takes, value) {
            (Takes::Nothing, None) => "true",
            (Takes::Nothing, Some(value)) => match go_bool::parse(value) {
                Some(true) => "true",
                Some(false) => "false",
                None => {
                    return Err(Wrong::NotBool {
                        flag: name.to_owned(),
                        value: value.to_owned(),
                    });
                }
            },
            (Takes::Value, Some(value)) => value,
            (Takes::Value, None) => rest.next().ok_or_else(|| Wrong::NoValue(name.to_owned()))?,
        };
        match ours {
            Some(_) => normal.args.push(format!("--{name}={value}")),
            None => normal.unsupported.push((name.to_owned(), value.to_owned())),
        }
    }
    normal.args.extend(rest.cloned());
    Ok(normal)
}

fn is_called(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name)
        || arg
            .get_all_aliases()
            .is_some_and(|aliases| aliases.contains(&name))
}

fn is_switch(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<bool>()
}

/// Go's spellings of the two values, as clap's.
#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser, PartialEq)]
    struct Sample {
        #[arg(long)]
        server: Option<bool>,
        #[arg(long)]
        node: Option<String>,
        #[arg(long, alias = "config-dir")]
        config_file: Vec<String>,
        #[arg(long)]
        cas: Option<u64>,
        rest: Vec<String>,
    }

    fn read(args: &[&str]) -> Result<Normal, Wrong> {
        let args: Vec<_> = args.iter().map(|&a| a.to_owned()).collect();
        normalise(
            &args,
            &<Sample as clap::CommandFactory>::command(),
            |name| match name {
                "ui" => Some(Takes::Nothing),
                "encrypt" => Some(Takes::Value),
                _ => None,
            },
        )
    }

    #[test]
    fn every_spelling_becomes_one() {
        for (args, wanted) in [
            (&["-server"][..], &["--server=true"][..]),
            (&["--server"], &["--server=true"]),
            (
                &["-server=false", "-node=a"],
                &["--server=false", "--node=a"],
            ),
            (
                &["-server=F", "--node", "a"],
                &["--server=false", "--node=a"],
            ),
            (&["-node", "-1"], &["--node=-1"]),
            (&["-node", ""], &["--node="]),
            (&["-node=a=b"], &["--node=a=b"]),
            (
                &["-config-dir", "x", "-config-file=y"],
                &["--config-dir=x", "--config-file=y"],
            ),
            (&["-server", "false"], &["--server=true", "--", "false"]),
            (&["a", "-node", "b"], &["--", "a", "-node", "b"]),
            (
                &["-server", "--", "-node"],
                &["--server=true", "--", "-node"],
            ),
            (&["-"], &["--", "-"]),
            (&[], &[]),
        ] {
            let wanted: Vec<_> = wanted.iter().map(|&a| a.to_owned()).collect();
            assert_eq!(read(args).map(|n| n.args), Ok(wanted), "{args:?}");
        }
    }

    #[test]
    fn wrong_flags_are_named_as_go_names_them() {
        for (args, wanted) in [
            (&["-zz"][..], "flag provided but not defined: -zz"),
            (&["--zz=1"], "flag provided but not defined: -zz"),
            (&["-node"], "flag needs an argument: -node"),
            (
                &["-server=maybe"],
                "invalid boolean value \"maybe\" for -server: expected true or false",
            ),
        ] {
            assert_eq!(
                read(args).expect_err("should be refused").sentence(),
                wanted
            );
        }
        assert_eq!(read(&["-server", "-h"]), Err(Wrong::Help));
        assert_eq!(read(&["--help"]), Err(Wrong::Help));
    }

    #[test]
    fn unsupported_flags_are_taken_out() {
        let normal = read(&["-ui", "-encrypt", "abc", "-node=a"]).expect("known");
        assert_eq!(normal.args, ["--node=a"]);
        let wanted = [("ui", "true"), ("encrypt", "abc")];
        assert_eq!(
            normal.unsupported,
            wanted.map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
    }

    #[test]
    fn clap_reads_the_one_form() {
        let parse = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(|&a| a.to_owned()).collect();
            super::parse::<Sample>("sample", &args)
        };
        let sample = parse(&[
            "-server",
            "-node",
            "a",
            "-node",
            "b",
            "-config-file=1",
            "-config-dir=2",
            "x",
            "-y",
        ]);
        let wanted = Sample {
            server: Some(true),
            node: Some("b".into()),
            config_file: vec!["1".into(), "2".into()],
            cas: None,
            rest: vec!["x".into(), "-y".into()],
        };
        assert_eq!(sample.expect("valid"), wanted);
        let Err(Failure::Usage(text)) = parse(&["-cas", "x"]) else {
            panic!("should be refused");
        };
        assert_eq!(
            text,
            "invalid value \"x\" for flag -cas: invalid digit found in string"
        );
        let Err(Failure::Help(text)) = parse(&["-help"]) else {
            panic!("should be the help");
        };
        assert!(
            text.contains("  -node <NODE>") && !text.contains("--"),
            "{text}"
        );
    }
}
