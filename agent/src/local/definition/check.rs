use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;

use super::Error;
use crate::config::Secret;
use crate::duration;
use crate::state::{Check, CheckStatus};

/// How long a probe may take unless its definition says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a program.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Shortest pause between two runs.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Shortest time after which a critical service may be deregistered.
const DEREGISTER_MIN: Duration = Duration::from_secs(60);

/// A check that an agent runs, or is told the result of.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckDefinition {
    /// Unique on the agent. Empty in a service's definition: the service gives it one.
    pub id: String,
    /// For people.
    pub name: String,
    /// For people.
    pub notes: String,
    /// The service that it checks; empty for the node.
    pub service_id: String,
    /// What it is until its first result.
    pub status: CheckStatus,
    /// What is done.
    pub kind: Kind,
    /// Pause between two runs; none for checks that are not run.
    pub interval: Duration,
    /// How long a run may take; as given, so 0 where the default holds.
    pub timeout_given: Duration,
    /// Longest output that is kept, in bytes; none for the agent's.
    pub output_max: Option<usize>,
    /// How long it may be critical before its service is deregistered.
    pub deregister_after: Option<Duration>,
    /// Good results in a row before it passes.
    pub success_before_passing: u32,
    /// Bad results in a row before it warns.
    pub failures_before_warning: u32,
    /// Bad results in a row before it is critical.
    pub failures_before_critical: u32,
    /// In whose name the catalog is told; empty for that of its service, or the agent's choice.
    pub token: Secret,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Somebody tells the agent, at least this often.
    Ttl(Duration),
    /// A request that must be answered with 2xx.
    Http(Http),
    /// A connection that must be accepted.
    Tcp {
        /// `HOST:PORT`.
        address: String,
        /// Whether TLS must come about too.
        tls: Option<Tls>,
    },
    /// A datagram that must not be refused.
    Udp {
        /// `HOST:PORT`.
        address: String,
    },
    /// The health protocol of gRPC.
    Grpc {
        /// `HOST:PORT`, with `/SERVICE` for one service.
        address: String,
        /// Whether it is spoken over TLS.
        tls: Option<Tls>,
    },
    /// A ping of HTTP/2.
    H2ping {
        /// `HOST:PORT`.
        address: String,
        /// Whether it is spoken over TLS.
        tls: Option<Tls>,
    },
    /// A program's exit code.
    Script {
        /// Program and arguments.
        args: Vec<String>,
    },
    /// The exit code of a program inside of a container.
    Docker {
        /// The container's id or name.
        container: String,
        /// Program and arguments.
        args: Vec<String>,
    },
    /// A unit of the system's service manager.
    OsService {
        /// Its name.
        name: String,
    },
    /// The worst of the checks of another node or service.
    Alias {
        /// The node; empty for this one.
        node: String,
        /// The service; empty for the node itself.
        service: String,
    },
    /// Maintenance mode: nothing is run.
    Maintenance,
}

/// The request of an HTTP check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Http {
    /// Where to.
    pub url: String,
    /// GET unless said otherwise.
    pub method: String,
    /// Headers, each with its values.
    pub header: BTreeMap<String, Vec<String>>,
    /// The body.
    pub body: String,
    /// Whether a redirect is the answer.
    pub disable_redirects: bool,
    /// For https.
    pub tls: Tls,
}

/// How a check speaks TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whether any certificate will do.
    pub skip_verify: bool,
    /// The name that the certificate must have; empty for the host's.
    pub server_name: String,
}

impl Kind {
    /// Consul's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Ttl(_) => "ttl",
            Kind::Http(_) => "http",
            Kind::Tcp { .. } => "tcp",
            Kind::Udp { .. } => "udp",
            Kind::Grpc { .. } => "grpc",
            Kind::H2ping { .. } => "h2ping",
            Kind::Script { .. } => "script",
            Kind::Docker { .. } => "docker",
            Kind::OsService { .. } => "os_service",
            Kind::Alias { .. } => "alias",
            Kind::Maintenance => "maintenance",
        }
    }
}

impl CheckDefinition {
    /// How long a run may take.
    pub fn timeout(&self) -> Duration {
        match (self.timeout_given.is_zero(), &self.kind) {
            (false, _) => self.timeout_given,
            (true, Kind::Script { .. } | Kind::Docker { .. } | Kind::OsService { .. }) => {
                SCRIPT_TIMEOUT
            }
            (true, _) => TIMEOUT,
        }
    }

    /// Whether a program is run for it.
    pub fn runs_a_program(&self) -> bool {
        matches!(self.kind, Kind::Script { .. } | Kind::Docker { .. })
    }

    /// The catalog's row of it, without a result yet.
    pub fn row(&self, node: &str) -> Check {
        let print = |time: Duration| match time.is_zero() {
            true => String::new(),
            false => duration::print(time),
        };
        Check {
            node: node.to_owned(),
            check_id: self.id.clone(),
            name: self.name.clone(),
            status: self.status,
            notes: self.notes.clone(),
            service_id: self.service_id.clone(),
            kind: self.kind.word().to_owned(),
            interval: print(self.interval),
            timeout: print(self.timeout_given),
            ..Check::default()
        }
    }
}

/// A check's fields in the one form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    aliasnode: String,
    aliasservice: String,
    args: Vec<String>,
    body: String,
    checkid: String,
    deregistercriticalserviceafter: Time,
    disableredirects: bool,
    dockercontainerid: String,
    failuresbeforecritical: u32,
    failuresbeforewarning: u32,
    grpc: String,
    grpcusetls: bool,
    h2ping: String,
    h2pingusetls: Option<bool>,
    header: BTreeMap<String, Texts>,
    http: String,
    id: String,
    interval: Time,
    method: String,
    name: String,
    notes: String,
    osservice: String,
    outputmaxsize: i64,
    scriptargs: Vec<String>,
    serviceid: String,
    shell: String,
    status: String,
    successbeforepassing: u32,
    tcp: String,
    tcpusetls: bool,
    timeout: Time,
    tlsservername: String,
    tlsskipverify: bool,
    token: Secret,
    ttl: Time,
    udp: String,
}

/// A Go duration, or nanoseconds.
#[derive(Debug, Default, Clone, Copy)]
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text.is_empty() => Ok(Self::default()),
            Value::String(text) => duration::parse(&text).map(Self).map_err(D::Error::custom),
            Value::Number(number) => number
                .as_u64()
                .map(|n| Self(Duration::from_nanos(n)))
                .ok_or_else(|| D::Error::custom(format!("{number} is no duration"))),
            other => Err(D::Error::custom(format!("{other} is no duration"))),
        }
    }
}

/// One text or several.
#[derive(Debug, Default)]
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(vec![text])),
            other => serde_json::from_value(other)
                .map(Self)
                .map_err(D::Error::custom),
        }
    }
}

/// Reads a check of its own, which must have a name.
pub(super) fn read_alone(value: &Value) -> Result<CheckDefinition, Error> {
    let mut check = read(value)?;
    if check.name.is_empty() {
        return Err(Error::NoCheckName);
    }
    if check.id.is_empty() {
        check.id = check.name.clone();
    }
    Ok(check)
}

/// Reads a check in the one form.
pub(super) fn read(value: &Value) -> Result<CheckDefinition, Error> {
    let fields = Fields::deserialize(value).map_err(|e| Error::Decode(e.to_string()))?;
    let status = match fields.status.as_str() {
        "" => CheckStatus::default(),
        text => CheckStatus::parse(text).ok_or(Error::BadStatus)?,
    };
    let kind = kind(&fields)?;
    let Time(deregister) = fields.deregistercriticalserviceafter;
    let critical = fields.failuresbeforecritical;
    let warning = match fields.failuresbeforewarning {
        0 => critical,
        warning => warning,
    };
    if warning > critical {
        return Err(Error::Check(
            "FailuresBeforeWarning can't be higher than FailuresBeforeCritical".to_owned(),
        ));
    }
    if fields.outputmaxsize < 0 {
        return Err(Error::Check("MaxOutputMaxSize must be positive".to_owned()));
    }
    Ok(CheckDefinition {
        id: match fields.checkid.is_empty() {
            true => fields.id,
            false => fields.checkid,
        },
        name: fields.name,
        notes: fields.notes,
        service_id: fields.serviceid,
        status,
        kind,
        interval: match fields.interval.0 {
            Duration::ZERO => Duration::ZERO,
            interval => interval.max(INTERVAL_MIN),
        },
        timeout_given: fields.timeout.0,
        output_max: usize::try_from(fields.outputmaxsize)
            .ok()
            .filter(|n| *n > 0),
        deregister_after: (!deregister.is_zero()).then(|| deregister.max(DEREGISTER_MIN)),
        success_before_passing: fields.successbeforepassing,
        failures_before_warning: warning,
        failures_before_critical: critical,
        token: fields.token,
    })
}

fn kind(fields: &Fields) -> Result<Kind, Error> {
    let args = match fields.args.is_empty() {
        true => &fields.scriptargs,
        false => &fields.args,
    };
    let alias = !fields.aliasnode.is_empty() || !fields.aliasservice.is_empty();
    let probes = [
        &fields.http,
        &fields.tcp,
        &fields.udp,
        &fields.grpc,
        &fields.h2ping,
        &fields.osservice,
    ];
    let is_run = !args.is_empty() || probes.iter().any(|probe| !probe.is_empty());
    if let Some(why) = contradiction(fields, is_run, alias) {
        return Err(Error::Check(why.to_owned()));
    }
    let Time(ttl) = fields.ttl;
    let tls = || Tls {
        skip_verify: fields.tlsskipverify,
        server_name: fields.tlsservername.clone(),
    };
    Ok(if alias {
        let (node, service) = (fields.aliasnode.clone(), fields.aliasservice.clone());
        Kind::Alias { node, service }
    } else if !is_run {
        Kind::Ttl(ttl)
    } else if !fields.http.is_empty() {
        Kind::Http(Http {
            url: fields.http.clone(),
            method: match fields.method.as_str() {
                "" => "GET".to_owned(),
                method => method.to_owned(),
            },
            header: fields
                .header
                .iter()
                .map(|(name, Texts(values))| (name.clone(), values.clone()))
                .collect(),
            body: fields.body.clone(),
            disable_redirects: fields.disableredirects,
            tls: tls(),
        })
    } else if !fields.tcp.is_empty() {
        let (address, tls) = (fields.tcp.clone(), fields.tcpusetls.then(tls));
        Kind::Tcp { address, tls }
    } else if !fields.udp.is_empty() {
        let address = fields.udp.clone();
        Kind::Udp { address }
    } else if !fields.grpc.is_empty() {
        let (address, tls) = (fields.grpc.clone(), fields.grpcusetls.then(tls));
        Kind::Grpc { address, tls }
    } else if !fields.h2ping.is_empty() {
        // Consul's default for this one is TLS.
        let address = fields.h2ping.clone();
        let tls = fields.h2pingusetls.unwrap_or(true).then(tls);
        Kind::H2ping { address, tls }
    } else if !fields.osservice.is_empty() {
        let name = fields.osservice.clone();
        Kind::OsService { name }
    } else if !fields.dockercontainerid.is_empty() {
        if !fields.shell.is_empty() {
            // It ran what was not split into arguments, which Consul does not take any more.
            tracing::warn!(
                target: "agent",
                "check {:?}: Shell has no effect, Args are run as they are", fields.name
            );
        }
        let (container, args) = (fields.dockercontainerid.clone(), args.clone());
        Kind::Docker { container, args }
    } else {
        Kind::Script { args: args.clone() }
    })
}

/// Why a check cannot be run as it says, in Consul's words where it has them.
fn contradiction(fields: &Fields, is_run: bool, alias: bool) -> Option<&'static str> {
    let (Time(interval), Time(ttl)) = (fields.interval, fields.ttl);
    Some(match (is_run, alias) {
        _ if !fields.dockercontainerid.is_empty()
            && fields.args.is_empty()
            && fields.scriptargs.is_empty() =>
        {
            "Args must be set for Docker checks: the program to run in the container"
        }
        _ if !interval.is_zero() && !ttl.is_zero() => "Interval and TTL cannot both be specified",
        (true, true) => "Interval cannot be set for Alias checks",
        (true, _) if interval.is_zero() => {
            "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"
        }
        (_, true) if !interval.is_zero() => "Interval cannot be set for Alias checks",
        (_, true) if !ttl.is_zero() => "TTL must be not be set for Alias checks",
        (false, false) if ttl.is_zero() => "TTL must be > 0 for TTL checks",
        _ => return None,
    })
}
