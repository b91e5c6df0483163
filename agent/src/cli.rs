//! The command line: one file per verb. All but `agent`, `keygen`, `validate` and `version` are thin HTTP clients.
//!
//! Exit codes are Consul's: 0 done, 1 failed, 2 nothing matched (`members -status`), 127 no such command.

use std::ffi::OsString;
use std::process::ExitCode;

mod acl;
mod agent;
mod api;
mod catalog;
mod closed;
mod completion;
mod config;
mod connect;
mod debug;
mod event;
mod exec;
mod flags;
mod force_leave;
mod handler;
mod info;
mod intention;
mod io;
mod join;
mod keygen;
mod keyring;
mod kv;
mod leave;
mod lock;
mod maint;
mod members;
mod monitor;
mod operator;
mod peering;
mod reload;
mod rtt;
mod services;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod validate;
pub mod version;
mod watch;

pub(crate) use io::{Done, Failure, Io};

/// The verbs with what each is for, as the usage lists them.
const VERBS: &[(&str, &str)] = &[
    (
        "agent",
        "Runs an agent: a server or a client (the word may be left out)",
    ),
    ("acl", "Tokens, policies and roles"),
    ("catalog", "Reads the catalog"),
    ("config", "Reads and writes the cluster's config entries"),
    ("connect", "Shows and changes the certificate authority"),
    (
        "debug",
        "Gathers what helps to understand a cluster into an archive",
    ),
    ("event", "Fires an event to all nodes"),
    ("exec", "Runs a command on other nodes"),
    ("force-leave", "Makes a failed member one that left"),
    ("info", "Prints what an agent knows of itself"),
    ("intention", "Says which services may connect to which"),
    ("join", "Makes an agent join a cluster"),
    ("keygen", "Prints a new gossip encryption key"),
    (
        "keyring",
        "Lists and changes the keys that gossip is encrypted with",
    ),
    ("kv", "Reads and writes the key/value store"),
    ("leave", "Makes an agent leave gracefully and stop"),
    ("lock", "Runs a command while holding a lock"),
    ("login", "Gets a token for an identity of somebody else"),
    ("logout", "Ends a token that login got"),
    ("maint", "Takes a node or a service out of use, and back"),
    ("members", "Lists the members of the cluster"),
    ("monitor", "Follows the log of an agent"),
    ("operator", "Tools for operators of a cluster"),
    ("peering", "Connections to other clusters"),
    ("reload", "Makes an agent read its configuration again"),
    (
        "resource",
        "Not supported: an experiment of Consul that has ended",
    ),
    ("rtt", "Estimates the round-trip time between two nodes"),
    ("services", "Registers services on an agent"),
    (
        "snapshot",
        "Saves, restores and shows the state of a cluster",
    ),
    ("tls", "Makes certificates for agents"),
    (
        "troubleshoot",
        "Not supported: reads the configuration of Envoy",
    ),
    ("validate", "Checks configuration files"),
    ("version", "Prints the version"),
    ("watch", "Runs a command at each change of something"),
];

/// Every verb of the command line, in the order of the usage.
pub fn verbs() -> impl Iterator<Item = &'static str> {
    VERBS.iter().map(|(verb, _)| *verb)
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    /// A verb of [`VERBS`] with its arguments.
    Verb(&'a str, &'a [String]),
    Usage,
    /// To put completion into the shells' files, or to take it out.
    Completion(bool),
    /// Nothing was asked: the usage, and exit code 127.
    Nothing,
    Unknown(&'a str),
}

/// Runs one command line, its first element the program's name, to its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Result<Vec<String>, OsString> = args
        .into_iter()
        .skip(1)
        .map(OsString::into_string)
        .collect();
    let env = |name: &str| std::env::var(name).ok();
    let (mut out, mut err, mut input) = (std::io::stdout(), std::io::stderr(), std::io::stdin());
    let mut io = Io {
        out: &mut out,
        err: &mut err,
        input: &mut input,
        env: &env,
    };
    match args {
        Ok(args) => ExitCode::from(run(&args, &mut io)),
        Err(arg) => ExitCode::from(io.fail(format!("the argument {arg:?} is not valid UTF-8"))),
    }
}

/// Runs one command line, without the program's name, to its exit code.
fn run(args: &[String], io: &mut Io<'_>) -> u8 {
    // A shell asks what may stand at the end of a line.
    if let Some(line) = (io.env)("COMP_LINE") {
        let point = (io.env)("COMP_POINT").and_then(|point| point.parse().ok());
        let line = point
            .and_then(|point: usize| line.get(..point))
            .unwrap_or(&line);
        let done = completion::answer(line, io);
        return io.finish("agent", done);
    }
    let (verb, rest) = match ask(args) {
        Asked::Verb(verb, rest) => (verb, rest),
        Asked::Completion(on) => {
            let done = completion::install(on, io);
            return io.finish("agent", done);
        }
        Asked::Usage => return io.finish("agent", Err(Failure::Help(usage()))),
        Asked::Nothing => {
            io.finish("agent", Err(Failure::Help(usage())));
            return 127;
        }
        Asked::Unknown(verb) => {
            io.fail(format!(
                "There is no command {verb:?}. Run 'agent -help' for all commands."
            ));
            return 127;
        }
    };
    let result = match verb {
        "agent" => agent::run(rest, io),
        "resource" | "troubleshoot" => closed::run(verb, rest),
        "keygen" => keygen::run(rest, io),
        "tls" => tls::run(rest, io),
        "validate" => validate::run(rest, io),
        "version" => version::run(rest, io),
        _ => block_on(async {
            match verb {
                "acl" => acl::run(rest, io).await,
                "catalog" => catalog::run(rest, io).await,
                "config" => config::run(rest, io).await,
                "connect" => connect::run(rest, io).await,
                "debug" => debug::run(rest, io).await,
                "event" => event::run(rest, io).await,
                "exec" => exec::run(rest, io).await,
                "force-leave" => force_leave::run(rest, io).await,
                "info" => info::run(rest, io).await,
                "intention" => intention::run(rest, io).await,
                "join" => join::run(rest, io).await,
                "keyring" => keyring::run(rest, io).await,
                "kv" => kv::run(rest, io).await,
                "leave" => leave::run(rest, io).await,
                "lock" => lock::run(rest, io).await,
                "login" => acl::login(rest, io).await,
                "logout" => acl::logout(rest, io).await,
                "maint" => maint::run(rest, io).await,
                "members" => members::run(rest, io).await,
                "monitor" => monitor::run(rest, io).await,
                "operator" => operator::run(rest, io).await,
                "peering" => peering::run(rest, io).await,
                "rtt" => rtt::run(rest, io).await,
                "services" => services::run(rest, io).await,
                "snapshot" => snapshot::run(rest, io).await,
                "watch" => watch::run(rest, io).await,
                _ => reload::run(rest, io).await,
            }
        }),
    };
    io.finish(verb, result)
}

/// The help of a verb.
#[cfg(test)]
pub(crate) fn help_of(verb: &str) -> String {
    completion::help(&[verb])
}

fn ask(args: &[String]) -> Asked<'_> {
    let Some(first) = args.first() else {
        return Asked::Nothing;
    };
    match first.as_str() {
        "-h" | "-help" | "--help" | "help" => Asked::Usage,
        "-autocomplete-install" | "--autocomplete-install" => Asked::Completion(true),
        "-autocomplete-uninstall" | "--autocomplete-uninstall" => Asked::Completion(false),
        "-v" | "-version" | "--version" => Asked::Verb("version", &[]),
        // `agent -server ...`: the verb is left out.
        flag if flag.starts_with('-') => Asked::Verb("agent", args),
        word => match VERBS.iter().find(|(verb, _)| *verb == word) {
            Some((verb, _)) => Asked::Verb(verb, &args[1..]),
            None => Asked::Unknown(word),
        },
    }
}

/// Whether this asks for the help of a command.
fn is_help(word: &str) -> bool {
    matches!(word, "-h" | "-help" | "--help")
}

fn usage() -> String {
    let mut text = String::from("Usage: agent [COMMAND] [FLAGS] [ARGUMENTS]\n\nCommands:\n");
    for (verb, about) in VERBS {
        text.push_str(&format!("    {verb:<12}  {about}\n"));
    }
    text.push_str("\nRun 'agent COMMAND -help' for the flags of a command.\n");
    text
}

/// Runs a verb that waits for the network. One thread is enough for one request.
fn block_on(verb: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Message(format!("cannot start: {e}")))?
        .block_on(verb)
}
