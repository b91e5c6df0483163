//! Verbs of features that this version does not have: they say so, instead of "no such command".

use super::{Done, Failure};

/// The verbs, with what is to be known of each.
const VERBS: &[(&str, &str)] = &[
    (
        "resource",
        "resource is not supported: Consul's resource API (v2) was experimental and is gone from its later versions",
    ),
    (
        "troubleshoot",
        "troubleshoot is not supported: it reads the configuration of Envoy, which this version does not give out",
    ),
];

/// Says that it is not there.
pub(super) fn run(verb: &str, args: &[String]) -> Done {
    let found = VERBS.iter().find(|(name, _)| *name == verb);
    let text = found.map_or("not supported", |(_, text)| text);
    match args.iter().any(|arg| super::is_help(arg)) {
        true => Err(Failure::Help(format!("Usage: agent {verb}\n\n{text}\n"))),
        false => Err(Failure::Message(text.to_owned())),
    }
}
