//! In which order things are turned on and off.

use std::fmt;

use serde_json::json;

use crate::crd::{ConsulClusterSpec, Stage, TlsMode};

/// How far each of the three is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Encryption of gossip.
    pub gossip: Stage,
    /// Encryption of everything else.
    pub tls: Stage,
    /// Access control lists, which know no [`Stage::Outgoing`].
    pub acl: Stage,
}

impl Stages {
    /// Where a new cluster begins: nobody is there whom it could lock out.
    pub fn at_birth(spec: &ConsulClusterSpec) -> Self {
        let full = |on: Option<bool>| match on.unwrap_or(true) {
            true => Stage::Full,
            false => Stage::Disabled,
        };
        let [gossip, tls, acl] = asked(spec).map(full);
        Stages { gossip, tls, acl }
    }

    /// What [`fmt::Display`] writes. None: it is something else.
    pub fn read(text: &str) -> Option<Self> {
        let mut stages = Stages::default();
        for part in text.split(',') {
            let (name, stage) = part.split_once('=')?;
            let stage = serde_json::from_value(json!(stage)).ok()?;
            match name {
                "gossip" => stages.gossip = stage,
                "tls" => stages.tls = stage,
                "acl" => stages.acl = stage,
                _ => return None,
            }
        }
        Some(stages)
    }

    /// Whether at most one step is between the two.
    pub fn is_near(self, other: Self) -> bool {
        let near = |one: Stage, other: Stage| (one as i8 - other as i8).abs() <= 1;
        // They know no `Outgoing`.
        let both = self.acl.min(other.acl) > Stage::Disabled;
        near(self.gossip, other.gossip)
            && near(self.tls, other.tls)
            && (both || near(self.acl, other.acl))
    }
}

/// As the annotation of the vault has it.
impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stages { gossip, tls, acl } = self;
        write!(f, "gossip={gossip:?},tls={tls:?},acl={acl:?}")
    }
}

/// What the spec says of gossip, TLS and access control lists.
fn asked(spec: &ConsulClusterSpec) -> [Option<bool>; 3] {
    [
        spec.gossip.as_ref().map(|gossip| gossip.enabled),
        spec.tls.as_ref().map(|tls| tls.mode != TlsMode::Disabled),
        spec.acl.as_ref().map(|acl| acl.enabled),
    ]
}

/// Which of the three are wanted, where they have come so far: what the spec does not mention stays as it is.
pub fn wanted(spec: &ConsulClusterSpec, stages: Stages) -> [bool; 3] {
    let [gossip, tls, acl] = asked(spec);
    let on = |asked: Option<bool>, stage: Stage| asked.unwrap_or(stage > Stage::Disabled);
    [
        // A key in the servers' data folders counts more than what they are started with: there is no way back.
        on(gossip, stages.gossip) || stages.gossip > Stage::Disabled,
        on(tls, stages.tls),
        on(acl, stages.acl),
    ]
}

/// One step further towards what is wanted. None: there it is. All three take their step at the same time, as each is
/// safe by itself and a rolling change serves them all.
pub fn next(spec: &ConsulClusterSpec, stages: Stages) -> Option<Stages> {
    let [gossip, tls, acl] = wanted(spec, stages);
    let next = Stages {
        gossip: step(stages.gossip, gossip),
        tls: step(stages.tls, tls),
        acl: match step(stages.acl, acl) {
            Stage::Outgoing if acl => Stage::Full,
            Stage::Outgoing => Stage::Prepared,
            other => other,
        },
    };
    (next != stages).then_some(next)
}

fn step(stage: Stage, on: bool) -> Stage {
    match (stage, on) {
        (Stage::Disabled, true) | (Stage::Outgoing, false) => Stage::Prepared,
        (Stage::Prepared, true) | (Stage::Full, false) => Stage::Outgoing,
        (Stage::Outgoing | Stage::Full, true) => Stage::Full,
        (Stage::Prepared | Stage::Disabled, false) => Stage::Disabled,
    }
}
