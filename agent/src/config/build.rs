//! From sources to a checked [`Config`]. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracing::Level;
use uuid::Uuid;

use super::files::{self, Format, SourceFile};
use super::gossip::GossipTimes;
use super::layer::{Layer, Merge as _, Number};
use super::names;
use super::raft::{check_quorum_recovery, check_raft, check_raft_set_aside};
use super::services;
use super::unsupported::Found;
use super::{Autopilot, Bootstrap, Config, Error, Limits, LogSettings, Machine, Ports, wan};
use crate::duration::{self, GoDuration};

/// What the command line says about the configuration. Made by `cli::flags`; the default says nothing.
#[derive(Debug, Clone, Default)]
pub struct FlagSettings {
    pub(crate) layer: Layer,
    pub(crate) unsupported: Vec<Found>,
    /// `-hcl` fragments: they win over everything else.
    pub(crate) hcl: Vec<String>,
}

/// A configuration with what its user should be told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// One sentence each.
    pub warnings: Vec<String>,
}

/// Merges and checks everything that was said.
///
/// # Errors
/// The first thing that is wrong, files before flags. Nothing is touched.
pub fn load(
    files: &[SourceFile],
    flags: &FlagSettings,
    machine: &Machine,
) -> Result<Loaded, Error> {
    let fragments: Vec<_> = flags
        .hcl
        .iter()
        .enumerate()
        .map(|(i, text)| SourceFile {
            name: format!("-hcl (number {})", i + 1),
            format: Format::Hcl,
            text: text.clone(),
        })
        .collect();
    let mut warnings = Vec::new();
    let mut layer = Layer::default();
    for file in files {
        layer.overlay(read_layer(file, &mut warnings)?);
    }
    for found in &flags.unsupported {
        note(found, found.name.clone(), &mut warnings)?;
    }
    layer.overlay(flags.layer.clone());
    for fragment in &fragments {
        layer.overlay(read_layer(fragment, &mut warnings)?);
    }
    let config = check(layer, machine, &mut warnings)?;
    Ok(Loaded { config, warnings })
}

fn read_layer(file: &SourceFile, warnings: &mut Vec<String>) -> Result<Layer, Error> {
    let (layer, unsupported) = files::parse(file)?;
    for found in &unsupported {
        let place = found.at.map_or_else(String::new, |at| format!(":{at}"));
        note(
            found,
            format!("{}{place}: {}", file.name, found.name),
            warnings,
        )?;
    }
    Ok(layer)
}

fn note(found: &Found, setting: String, warnings: &mut Vec<String>) -> Result<(), Error> {
    match found.refusal {
        Some(why) => Err(Error::Refused { setting, why }),
        None => {
            warnings.push(format!(
                "{setting} has no effect here: this version does not support it"
            ));
            Ok(())
        }
    }
}

pub(super) fn invalid<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(message.into()))
}

/// `number` as a `T` within `min..=max`.
pub(super) fn within<T>(
    key: &str,
    number: Option<Number>,
    default: T,
    min: i64,
    max: i64,
) -> Result<T, Error>
where
    T: TryFrom<i64>,
{
    let Some(Number(number)) = number else {
        return Ok(default);
    };
    match T::try_from(number) {
        Ok(value) if (min..=max).contains(&number) => Ok(value),
        _ if max == i64::MAX => {
            invalid(format!("{key} cannot be {number}. Must be at least {min}"))
        }
        _ => invalid(format!(
            "{key} cannot be {number}. Must be between {min} and {max}"
        )),
    }
}

pub(super) fn at_least(
    key: &str,
    value: Option<GoDuration>,
    default: Duration,
    min: Duration,
) -> Result<Duration, Error> {
    let value = value.map_or(default, |GoDuration(d)| d);
    if value < min {
        return invalid(format!("{key} must be >= {}", duration::print(min)));
    }
    Ok(value)
}

pub(super) fn parsed<T: FromStr>(key: &str, text: &str, wanted: &str) -> Result<T, Error> {
    text.trim().parse().or_else(|_| {
        let hint = match text.contains("{{") {
            true => ": this version does not evaluate templates",
            false => "",
        };
        invalid(format!("{key} must be {wanted}, not {text:?}{hint}"))
    })
}

const NO_TIME: Duration = Duration::ZERO;
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

fn check(layer: Layer, machine: &Machine, warnings: &mut Vec<String>) -> Result<Config, Error> {
    let dev = layer.dev == Some(true);
    let server = layer.server.unwrap_or(dev);
    let bootstrap = check_bootstrap(&layer, dev, server, warnings)?;
    let ports = check_ports(&layer)?;
    let (bind_addr, serf_lan_bind, advertise_addr) = check_addresses(&layer, dev, machine)?;
    let (default_query_time, max_query_time) = check_query_times(&layer)?;
    let (data_dir, data_dir_is_temporary) = check_data_dir(&layer, dev, machine)?;
    let (leave_drain_time, rpc_hold_timeout, raft_multiplier) = check_performance(&layer, dev)?;
    let reconnect = layer.reconnect_timeout;
    let session_ttl_min = layer.session_ttl_min;
    let datacenter = names::datacenter(&layer)?;
    let primary_datacenter = wan::primary(&layer, &datacenter)?;
    let is_secondary = primary_datacenter != datacenter;
    let serf_wan = ports.serf_wan;
    let auto_encrypt = super::auto_encrypt::check(&layer, server)?;
    let tls = super::tls::check(&layer, &auto_encrypt, warnings)?;
    warn_without_effect(&layer, warnings);
    Ok(Config {
        server,
        bootstrap,
        dev,
        node_name: names::node_name(&layer, machine, warnings)?,
        node_id: match layer.node_id.as_deref().unwrap_or("") {
            "" => None,
            text => Some(parsed::<Uuid>("node_id", text, "a UUID")?),
        },
        primary_datacenter,
        translate_wan_addrs: layer.translate_wan_addrs.unwrap_or(false),
        wan: wan::check(
            &layer,
            server,
            serf_wan,
            bind_addr,
            advertise_addr,
            warnings,
        )?,
        datacenter,
        domain: names::domain(&layer)?,
        data_dir,
        data_dir_is_temporary,
        bind_addr,
        serf_lan_bind,
        advertise_addr,
        http: super::http::addresses(&layer, "addresses.http", &layer.addresses.http, ports.http)?,
        http_config: super::http::check(&layer)?,
        enable_debug: layer.enable_debug.unwrap_or(false),
        https: super::http::secured(&layer, ports.https, &tls, auto_encrypt.tls)?,
        auto_encrypt,
        tls,
        dns: super::dns::check(&layer, ports.dns)?,
        ports,
        start_join: check_join("start_join", &layer.start_join)?,
        retry_join: check_join("retry_join", &layer.retry_join)?,
        retry_interval: check_retry(&layer)?,
        retry_max: within("retry_max", layer.retry_max, 0, 0, u32::MAX.into())?,
        disable_remote_exec: layer.disable_remote_exec.unwrap_or(true),
        disable_coordinates: layer.disable_coordinates.unwrap_or(false),
        rejoin_after_leave: layer.rejoin_after_leave.unwrap_or(false),
        leave_on_terminate: layer.leave_on_terminate.unwrap_or(!server),
        skip_leave_on_interrupt: layer.skip_leave_on_interrupt.unwrap_or(false),
        leave_drain_time,
        rpc_hold_timeout,
        raft_multiplier,
        raft: check_raft(&layer)?,
        quorum_recovery: check_quorum_recovery(&layer)?,
        raft_set_aside: check_raft_set_aside(&layer)?,
        autopilot: check_autopilot(&layer)?,
        gossip_lan: GossipTimes::LAN.with("gossip_lan", &layer.gossip_lan)?,
        acl: super::acl::check(&layer, warnings)?,
        encryption: super::encrypt::check(&layer)?,
        connect: super::connect::check(&layer.connect, is_secondary, warnings)?,
        reconnect_timeout: at_least("reconnect_timeout", reconnect, HOUR * 72, HOUR * 8)?,
        default_query_time,
        max_query_time,
        discovery_max_stale: check_discovery(&layer)?,
        session_ttl_min: at_least("session_ttl_min", session_ttl_min, SECOND * 10, MILLISECOND)?,
        limits: check_limits(&layer)?,
        rates: super::rates::check(&layer.limits)?,
        prometheus: (layer.telemetry.prometheus_retention_time)
            .is_some_and(|GoDuration(time)| !time.is_zero()),
        disable_hostname: layer.telemetry.disable_hostname.unwrap_or(false),
        log: check_log(&layer, dev)?,
        pid_file: path(layer.pid_file.as_deref()),
        tagged_addresses: layer.tagged_addresses.clone(),
        services: services::services(&layer)?,
        checks: services::checks(&layer)?,
        check_settings: services::settings(&layer)?,
        config_entries: layer.config_entries.clone(),
        node_meta: names::node_meta(layer)?,
    })
}

fn check_discovery(layer: &Layer) -> Result<Duration, Error> {
    let given = layer.discovery_max_stale;
    at_least("discovery_max_stale", given, NO_TIME, NO_TIME)
}

fn check_retry(layer: &Layer) -> Result<Duration, Error> {
    let given = layer.retry_interval;
    at_least("retry_interval", given, SECOND * 30, MILLISECOND)
}

/// Names the settings that are checked, but that nothing reads yet.
fn warn_without_effect(layer: &Layer, warnings: &mut Vec<String>) {
    if layer.raft_snapshot_interval.is_some() {
        warnings.push(
            "raft_snapshot_interval has no effect here: a snapshot is taken as soon as raft_snapshot_threshold says so"
                .into(),
        );
    }
}

/// The data folder, and whether it belongs to this process alone.
fn check_data_dir(layer: &Layer, dev: bool, machine: &Machine) -> Result<(PathBuf, bool), Error> {
    match layer.data_dir.as_deref().unwrap_or("") {
        "" if dev => Ok((machine.temporary_dir.clone(), true)),
        "" => invalid("data_dir cannot be empty"),
        path => Ok((path.into(), false)),
    }
}

/// `leave_drain_time`, `rpc_hold_timeout` and `raft_multiplier`.
fn check_performance(layer: &Layer, dev: bool) -> Result<(Duration, Duration, u32), Error> {
    let performance = &layer.performance;
    let time = |key, value, default| at_least(key, value, default, NO_TIME);
    let multiplier = performance.raft_multiplier;
    let default = if dev { 1 } else { 5 };
    Ok((
        time(
            "performance.leave_drain_time",
            performance.leave_drain_time,
            SECOND * 5,
        )?,
        time(
            "performance.rpc_hold_timeout",
            performance.rpc_hold_timeout,
            SECOND * 7,
        )?,
        within("performance.raft_multiplier", multiplier, default, 1, 10)?,
    ))
}

fn check_limits(layer: &Layer) -> Result<Limits, Error> {
    let connections = layer.limits.http_max_conns_per_client;
    let value_size = layer.limits.kv_max_value_size;
    let most = i64::from(u32::MAX);
    Ok(Limits {
        http_max_conns_per_client: within(
            "limits.http_max_conns_per_client",
            connections,
            200,
            0,
            most,
        )?,
        rpc_max_conns_per_client: within(
            "limits.rpc_max_conns_per_client",
            layer.limits.rpc_max_conns_per_client,
            100,
            0,
            most,
        )?,
        rpc_handshake_timeout: at_least(
            "limits.rpc_handshake_timeout",
            layer.limits.rpc_handshake_timeout,
            crate::rpc::HANDSHAKE_TIMEOUT,
            Duration::from_millis(1),
        )?,
        kv_max_value_size: within(
            "limits.kv_max_value_size",
            value_size,
            512 << 10,
            1,
            16 << 20,
        )?,
        txn_max_req_len: within(
            "limits.txn_max_req_len",
            layer.limits.txn_max_req_len,
            512 << 10,
            1,
            16 << 20,
        )?,
    })
}

fn path(text: Option<&str>) -> Option<PathBuf> {
    text.filter(|text| !text.is_empty()).map(PathBuf::from)
}

fn check_bootstrap(
    layer: &Layer,
    dev: bool,
    server: bool,
    warnings: &mut Vec<String>,
) -> Result<Bootstrap, Error> {
    let expect = layer.bootstrap_expect.map_or(0, |Number(n)| n);
    if expect < 0 {
        return invalid(format!(
            "bootstrap_expect cannot be {expect}. Must be greater than or equal to zero"
        ));
    }
    if expect > 0 && dev {
        return invalid("'bootstrap_expect > 0' not allowed in dev mode");
    }
    let bootstrap = layer.bootstrap.unwrap_or(dev && server);
    if bootstrap && !server {
        return invalid("'bootstrap = true' requires 'server = true'");
    }
    if expect > 0 && !server {
        return invalid("'bootstrap_expect > 0' requires 'server = true'");
    }
    if expect > 0 && bootstrap {
        return invalid("'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive");
    }
    if expect == 1 {
        warnings.push("BootstrapExpect is set to 1; this is the same as Bootstrap mode.".into());
    }
    if bootstrap || expect == 1 {
        if !dev {
            warnings.push("bootstrap = true: do not enable unless necessary".into());
        }
        return Ok(Bootstrap::Alone);
    }
    let Some(number) = NonZeroU32::new(within(
        "bootstrap_expect",
        Some(Number(expect)),
        0,
        0,
        1000,
    )?) else {
        return Ok(Bootstrap::Never);
    };
    if expect == 2 {
        warnings.push(
            "bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance."
                .into(),
        );
    } else if expect % 2 == 0 {
        warnings.push(
            "bootstrap_expect is even number: A cluster with an even number of servers does not achieve optimum fault tolerance."
                .into(),
        );
    }
    warnings.push(format!("bootstrap_expect > 0: expecting {expect} servers"));
    Ok(Bootstrap::Expect(number))
}

fn check_ports(layer: &Layer) -> Result<Ports, Error> {
    let optional = |key, value: Option<Number>, default: u16| match value {
        Some(Number(-1)) => Ok(None),
        // 0 asks the system for a free port; tests do.
        value => within(key, value, default, 0, 65535).map(Some),
    };
    Ok(Ports {
        server: within("ports.server", layer.ports.server, 8300, 1, 65535)?,
        serf_lan: within("ports.serf_lan", layer.ports.serf_lan, 8301, 1, 65535)?,
        serf_wan: optional("ports.serf_wan", layer.ports.serf_wan, 8302)?,
        http: optional("ports.http", layer.ports.http, 8500)?,
        https: optional("ports.https", layer.ports.https.or(Some(Number(-1))), 0)?,
        dns: optional("ports.dns", layer.ports.dns, 8600)?,
        sidecar: services::sidecar_ports(layer)?,
    })
}

/// The bind address, the gossip bind address, and the advertised one.
fn check_addresses(
    layer: &Layer,
    dev: bool,
    machine: &Machine,
) -> Result<(IpAddr, IpAddr, IpAddr), Error> {
    let address = |key, text: &Option<String>| match text.as_deref().unwrap_or("") {
        "" => Ok(None),
        text => parsed::<IpAddr>(key, text, "an ip address").map(Some),
    };
    let default = match dev {
        true => Ipv4Addr::LOCALHOST,
        false => Ipv4Addr::UNSPECIFIED,
    };
    let bind = address("bind_addr", &layer.bind_addr)?.unwrap_or(default.into());
    let serf = address("serf_lan", &layer.serf_lan)?.unwrap_or(bind);
    let advertise = match address("advertise_addr", &layer.advertise_addr)? {
        Some(address) if address.is_unspecified() => {
            return invalid("Advertise address cannot be 0.0.0.0, :: or [::]");
        }
        Some(address) => address,
        None if !bind.is_unspecified() => bind,
        None if bind == IpAddr::from(Ipv6Addr::UNSPECIFIED) => {
            only("public IPv6", &machine.public_ipv6)?.into()
        }
        None => only("private IPv4", &machine.private_ipv4)?.into(),
    };
    Ok((bind, serf, advertise))
}

fn only<T: Copy>(kind: &str, found: &[T]) -> Result<T, Error> {
    let advice = "Please configure one with 'bind' and/or 'advertise'.";
    match found {
        [one] => Ok(*one),
        [] => invalid(format!("No {kind} address found. {advice}")),
        _ => invalid(format!("Multiple {kind} addresses found. {advice}")),
    }
}

pub(super) fn check_join(key: &str, addresses: &[String]) -> Result<Vec<String>, Error> {
    for address in addresses {
        if address.trim().is_empty() {
            return invalid(format!("{key} has an empty address"));
        }
        if address.contains("provider=") || address.contains("exec=") {
            return invalid(format!(
                "{key}: cloud auto-join ({address:?}) is not supported: give addresses or a DNS name"
            ));
        }
    }
    Ok(addresses.to_vec())
}

fn check_query_times(layer: &Layer) -> Result<(Duration, Duration), Error> {
    let max = at_least(
        "max_query_time",
        layer.max_query_time,
        SECOND * 600,
        MILLISECOND,
    )?;
    let default = (SECOND * 300).min(max);
    let default = at_least(
        "default_query_time",
        layer.default_query_time,
        default,
        MILLISECOND,
    )?;
    if default > max {
        return invalid("default_query_time must not be longer than max_query_time");
    }
    Ok((default, max))
}

fn check_autopilot(layer: &Layer) -> Result<Autopilot, Error> {
    let autopilot = &layer.autopilot;
    let most = i64::from(u32::MAX);
    Ok(Autopilot {
        cleanup_dead_servers: autopilot.cleanup_dead_servers.unwrap_or(true),
        last_contact_threshold: at_least(
            "autopilot.last_contact_threshold",
            autopilot.last_contact_threshold,
            MILLISECOND * 200,
            MILLISECOND,
        )?,
        max_trailing_logs: within(
            "autopilot.max_trailing_logs",
            autopilot.max_trailing_logs,
            250,
            0,
            i64::MAX,
        )?,
        min_quorum: within("autopilot.min_quorum", autopilot.min_quorum, 0, 0, most)?,
        server_stabilization_time: at_least(
            "autopilot.server_stabilization_time",
            autopilot.server_stabilization_time,
            NO_TIME,
            NO_TIME,
        )?,
    })
}

fn check_log(layer: &Layer, dev: bool) -> Result<LogSettings, Error> {
    let level = layer.log_level.as_deref();
    let level = level.unwrap_or(if dev { "DEBUG" } else { "INFO" });
    Ok(LogSettings {
        level: parse_level(level).ok_or_else(|| {
            Error::Invalid(format!(
                "Invalid log level: {level}. Valid log levels are: [TRACE DEBUG INFO WARN ERROR]"
            ))
        })?,
        json: layer.log_json.unwrap_or(false),
        file: path(layer.log_file.as_deref()).map(|path| match layer.log_file.as_deref() {
            Some(text) if text.ends_with('/') => path.join("agent.log"),
            _ => path,
        }),
    })
}

/// Reads a level as Consul's users write it, in any case. `ERR` is the old spelling of `ERROR`.
pub(crate) fn parse_level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Some(Level::TRACE),
        "debug" => Some(Level::DEBUG),
        "info" => Some(Level::INFO),
        "warn" => Some(Level::WARN),
        "err" | "error" => Some(Level::ERROR),
        _ => None,
    }
}
