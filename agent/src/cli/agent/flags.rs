//! The flags of `agent agent`, and what they say about the configuration. Pure.

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser};

use crate::cli::{Failure, flags};
use crate::config::layer::{Layer, Number};
use crate::config::{FlagSettings, Format, unsupported};
use crate::duration::GoDuration;

/// Runs an agent, a server or a client, until it leaves or is stopped. Every flag but -config-*, -hcl and -dev has a
/// key in configuration files; flags win.
#[derive(Debug, Default, Parser)]
struct AgentFlags {
    /// Address that other agents are told to use [default: -bind]
    #[arg(long)]
    advertise: Option<String>,
    /// Address that servers of other datacenters are told to use [default: -advertise]
    #[arg(long)]
    advertise_wan: Option<String>,
    /// Network from which the HTTP API takes writes, as 10.0.0.0/8; may be repeated [default: all]
    #[arg(long)]
    allow_write_http_from: Vec<String>,
    /// Address on which servers' RPC and gossip listen [default: 0.0.0.0]
    #[arg(long)]
    bind: Option<String>,
    /// Form a new cluster, alone, when the data folder is empty; for one server, once
    #[arg(long)]
    bootstrap: Option<bool>,
    /// Ignore -bootstrap unless this environment variable has this value: NAME=VALUE
    #[arg(long)]
    bootstrap_permit: Option<String>,
    /// Form a new cluster with so many servers that expect the same number
    #[arg(long, allow_negative_numbers = true)]
    bootstrap_expect: Option<i64>,
    /// Longest output of a check that is kept, in bytes [default: 4096]
    #[arg(long = "check_output_max_size")]
    check_output_max_size: Option<i64>,
    /// Addresses on which the HTTP API listens, separated by spaces [default: 127.0.0.1]
    #[arg(long)]
    client: Option<String>,
    /// Configuration file, or folder of files; -config-dir is the same; may be repeated
    #[arg(long, alias = "config-dir")]
    config_file: Vec<PathBuf>,
    /// Language of all configuration files, whatever their names: json or hcl
    #[arg(long)]
    config_format: Option<String>,
    /// Folder for everything that outlives the process
    #[arg(long)]
    data_dir: Option<String>,
    /// Datacenter [default: dc1]
    #[arg(long)]
    datacenter: Option<String>,
    /// Hold of a blocking query without a wait [default: 300s]
    #[arg(long)]
    default_query_time: Option<GoDuration>,
    /// Development mode: a lone server on loopback with a temporary data folder
    #[arg(long)]
    dev: Option<bool>,
    /// Keep the keys of gossip nowhere
    #[arg(long)]
    disable_keyring_file: Option<bool>,
    /// Key of gossip encryption: 16, 24 or 32 bytes in base64
    #[arg(long)]
    encrypt: Option<String>,
    /// A second domain of DNS names
    #[arg(long)]
    alt_domain: Option<String>,
    /// Port of DNS; -1 switches it off [default: 8600]
    #[arg(long)]
    dns_port: Option<i64>,
    /// Domain of DNS names [default: consul.]
    #[arg(long)]
    domain: Option<String>,
    /// Let checks of configuration files run programs
    #[arg(long)]
    enable_local_script_checks: Option<bool>,
    /// Let all checks run programs, those from the API too
    #[arg(long)]
    enable_script_checks: Option<bool>,
    /// Configuration in HCL, over everything else; may be repeated
    #[arg(long)]
    hcl: Vec<String>,
    /// Port of the HTTP API; -1 switches it off [default: 8500]
    #[arg(long)]
    http_port: Option<i64>,
    /// Port of the HTTPS API, which needs a certificate; -1 switches it off [default: -1]
    #[arg(long)]
    https_port: Option<i64>,
    /// Address to join once at start; may be repeated
    #[arg(long)]
    join: Vec<String>,
    /// Address of a server of another datacenter to join once at start; may be repeated
    #[arg(long)]
    join_wan: Vec<String>,
    /// File that gets every log line too
    #[arg(long)]
    log_file: Option<String>,
    /// Log lines as JSON objects
    #[arg(long)]
    log_json: Option<bool>,
    /// Least important log lines: trace, debug, info, warn or error [default: info]
    #[arg(long)]
    log_level: Option<String>,
    /// Longest hold of a blocking query [default: 600s]
    #[arg(long)]
    max_query_time: Option<GoDuration>,
    /// Name of this node [default: the host's name]
    #[arg(long)]
    node: Option<String>,
    /// Node id, a UUID [default: made at the first start]
    #[arg(long)]
    node_id: Option<String>,
    /// Key and value of this node: KEY:VALUE; may be repeated
    #[arg(long)]
    node_meta: Vec<String>,
    /// File that holds the process id while the agent runs
    #[arg(long)]
    pid_file: Option<String>,
    /// Address of a DNS server for names outside the domain; may be repeated
    #[arg(long)]
    recursor: Vec<String>,
    /// Contact remembered members at start also after a graceful leave
    #[arg(long)]
    rejoin: Option<bool>,
    /// Pause between two rounds of -retry-join [default: 30s]
    #[arg(long)]
    retry_interval: Option<GoDuration>,
    /// Pause between two rounds of -retry-join-wan [default: 30s]
    #[arg(long)]
    retry_interval_wan: Option<GoDuration>,
    /// Address to join at start, tried again until one succeeds; may be repeated
    #[arg(long)]
    retry_join: Vec<String>,
    /// Address of a server of another datacenter to join at start, tried again until one succeeds; may be repeated
    #[arg(long)]
    retry_join_wan: Vec<String>,
    /// Rounds of -retry-join after which the agent gives up; 0 is never [default: 0]
    #[arg(long)]
    retry_max: Option<i64>,
    /// Rounds of -retry-join-wan after which the agent gives up; 0 is never [default: 0]
    #[arg(long)]
    retry_max_wan: Option<i64>,
    /// Address on which gossip listens [default: -bind]
    #[arg(long)]
    serf_lan_bind: Option<String>,
    /// Port of gossip, UDP and TCP [default: 8301]
    #[arg(long)]
    serf_lan_port: Option<i64>,
    /// Address on which gossip with servers of other datacenters listens [default: -bind]
    #[arg(long)]
    serf_wan_bind: Option<String>,
    /// Its port, UDP and TCP; -1 switches it off [default: 8302]
    #[arg(long, allow_negative_numbers = true)]
    serf_wan_port: Option<i64>,
    /// Run a server
    #[arg(long)]
    server: Option<bool>,
    /// Port of servers' RPC [default: 8300]
    #[arg(long)]
    server_port: Option<i64>,
}

/// The agent's command line.
#[derive(Debug, Clone, Default)]
pub(super) struct Parsed {
    pub(super) paths: Vec<PathBuf>,
    pub(super) format: Option<Format>,
    pub(super) settings: FlagSettings,
    /// Name and value of the environment variable without which `-bootstrap` counts for nothing.
    pub(super) permit: Option<(String, String)>,
}

/// Reads the agent's command line.
pub(super) fn parse(args: &[String]) -> Result<Parsed, Failure> {
    let normal = flags::normalise(args, &AgentFlags::command(), unsupported::flag)
        .map_err(|wrong| flags::explain::<AgentFlags>("agent", &wrong))?;
    if let Some(extra) = normal.args.iter().skip_while(|arg| *arg != "--").nth(1) {
        return Err(Failure::Usage(format!(
            "unexpected argument {extra:?}: flags start with a dash"
        )));
    }
    let flags: AgentFlags = flags::parse_normal(&normal)?;
    let format = flags
        .config_format
        .as_deref()
        .filter(|text| !text.is_empty());
    let format = format.map(str::parse).transpose().map_err(Failure::Usage)?;
    let paths = flags.config_file.clone();
    let hcl = flags.hcl.clone();
    let permit = flags.bootstrap_permit.as_deref().map(permit).transpose()?;
    let unsupported = normal
        .unsupported
        .iter()
        .filter_map(|(name, value)| unsupported::judge_flag(name, value))
        .collect();
    let layer = layer(flags)?;
    Ok(Parsed {
        paths,
        format,
        settings: FlagSettings {
            layer,
            unsupported,
            hcl,
        },
        permit,
    })
}

fn permit(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(Failure::Usage(format!(
            "-bootstrap-permit must be NAME=VALUE, not {text:?}"
        ))),
    }
}

fn layer(flags: AgentFlags) -> Result<Layer, Failure> {
    // Taken apart without `..`: a flag that nothing reads would be accepted and ignored.
    let AgentFlags {
        advertise,
        advertise_wan,
        allow_write_http_from,
        bind,
        bootstrap,
        bootstrap_permit: _,
        bootstrap_expect,
        check_output_max_size,
        client,
        config_file: _,
        config_format: _,
        data_dir,
        datacenter,
        default_query_time,
        dev,
        disable_keyring_file,
        encrypt,
        alt_domain,
        dns_port,
        domain,
        enable_local_script_checks,
        enable_script_checks,
        hcl: _,
        http_port,
        https_port,
        join,
        join_wan,
        log_file,
        log_json,
        log_level,
        max_query_time,
        node,
        node_id,
        node_meta,
        pid_file,
        recursor,
        rejoin,
        retry_interval,
        retry_interval_wan,
        retry_join,
        retry_join_wan,
        retry_max,
        retry_max_wan,
        serf_lan_bind,
        serf_lan_port,
        serf_wan_bind,
        serf_wan_port,
        server,
        server_port,
    } = flags;
    let mut layer = Layer {
        advertise_addr: advertise,
        advertise_addr_wan: advertise_wan,
        alt_domain,
        bind_addr: bind,
        bootstrap,
        bootstrap_expect: bootstrap_expect.map(Number),
        check_output_max_size: check_output_max_size.map(Number),
        client_addr: client,
        data_dir,
        datacenter,
        default_query_time,
        dev,
        disable_keyring_file,
        domain,
        encrypt,
        enable_local_script_checks,
        enable_script_checks,
        log_file,
        log_json,
        log_level,
        max_query_time,
        node_id,
        node_name: node,
        pid_file,
        recursors: recursor,
        rejoin_after_leave: rejoin,
        retry_interval,
        retry_interval_wan,
        retry_join,
        retry_join_wan,
        retry_max: retry_max.map(Number),
        retry_max_wan: retry_max_wan.map(Number),
        serf_lan: serf_lan_bind,
        serf_wan: serf_wan_bind,
        server,
        start_join: join,
        start_join_wan: join_wan,
        ..Layer::default()
    };
    layer.http_config.allow_write_http_from = allow_write_http_from;
    layer.ports.dns = dns_port.map(Number);
    layer.ports.http = http_port.map(Number);
    layer.ports.https = https_port.map(Number);
    layer.ports.serf_lan = serf_lan_port.map(Number);
    layer.ports.serf_wan = serf_wan_port.map(Number);
    layer.ports.server = server_port.map(Number);
    for pair in node_meta {
        let (key, value) = pair.split_once(':').unwrap_or((&pair, ""));
        layer.node_meta.insert(key.to_owned(), value.to_owned());
    }
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bootstrap, Config, Machine};

    fn parse(line: &str) -> Result<Parsed, Failure> {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        super::parse(&args)
    }

    fn config(line: &str) -> Config {
        let parsed = parse(line).expect("valid flags");
        let machine = Machine {
            hostname: "host".into(),
            private_ipv4: Vec::new(),
            public_ipv6: Vec::new(),
            temporary_dir: "/tmp/x".into(),
        };
        crate::config::load(&[], &parsed.settings, &machine)
            .expect("valid")
            .config
    }

    #[test]
    fn the_manuals_command_line_is_understood() {
        let config = config(
            "-server -bootstrap -node A -bind 127.0.0.1 -client 127.0.0.2 -data-dir /d --http-port=81 \
             -node-meta rack:r:1 -retry-join a -retry-join=b -retry-interval 100ms -log-level warn",
        );
        assert!(config.server);
        assert_eq!(config.bootstrap, Bootstrap::Alone);
        assert_eq!(
            (config.node_name.as_str(), config.data_dir.to_str()),
            ("A", Some("/d"))
        );
        assert_eq!(config.http[0].to_string(), "127.0.0.2:81");
        assert_eq!(config.node_meta["rack"], "r:1");
        assert_eq!(config.retry_join, ["a", "b"]);
        assert_eq!(config.retry_interval.as_millis(), 100);
    }

    #[test]
    fn every_flag_reaches_the_configuration() {
        let given = config(
            "-server -bootstrap-expect 3 -node n -node-id 3e1ab0e5-2ed7-4d10-b2b6-d9cbb0a2ab31 -datacenter dc9 \
             -data-dir /d -bind 127.0.0.3 -advertise 127.0.0.4 -client 127.0.0.5 -http-port 1 -server-port 2 \
             -serf-lan-port 3 -serf-lan-bind 127.0.0.6 -dns-port 4 -join j -retry-join r -retry-interval 1s \
             -retry-max 5 -join-wan w -retry-join-wan w -retry-interval-wan 1s -retry-max-wan 2 -serf-wan-bind 127.0.0.7 \
             -serf-wan-port 9 -advertise-wan 127.0.0.8 -rejoin -hcl raft_trailing_logs=7 -log-level debug -log-json -log-file /l -pid-file /p \
             -node-meta a:b -allow-write-http-from 10.0.0.0/8 -check_output_max_size 9 -enable-script-checks -domain d -alt-domain e -recursor 9.9.9.9 -default-query-time 1s -max-query-time 2s \
             -encrypt pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s= -disable-keyring-file",
        );
        let plain = config("-data-dir /x -bind 127.0.0.1");
        let diff = Config::reloadable_diff(&plain, &given);
        for key in [
            "server",
            "bootstrap",
            "node_name",
            "node_id",
            "datacenter",
            "data_dir",
            "bind_addr",
            "advertise_addr",
            "addresses.http",
            "http_config",
            "ports",
            "serf_lan",
            "start_join",
            "retry_join",
            "retry_interval",
            "retry_max",
            "rejoin_after_leave",
            "log_json",
            "log_file",
            "pid_file",
            "domain",
            "dns_config",
            "default_query_time",
            "max_query_time",
            "raft_trailing_logs",
            "check_output_max_size and the like",
            "retry_join_wan and the like",
        ] {
            assert!(diff.restart.contains(&key), "{key}");
        }
        // A server does not leave on SIGTERM by default.
        assert_eq!(diff.live, ["node_meta", "leave_on_terminate", "log_level"]);
        assert_eq!(
            (given.ports.server, given.ports.serf_lan, given.ports.dns),
            (2, 3, Some(4))
        );
        let (wan, default) = (&given.wan, &plain.wan);
        assert_eq!(given.ports.serf_wan, Some(9));
        assert_ne!((wan.bind, wan.advertise), (default.bind, default.advertise));
        assert_eq!(
            (&wan.start_join, &wan.retry_join),
            (&vec!["w".to_owned()], &vec!["w".to_owned()])
        );
        assert_eq!((wan.retry_interval.as_secs(), wan.retry_max), (1, 2));
    }

    #[test]
    fn files_keep_the_order_of_the_command_line() {
        let parsed =
            parse("-config-dir b -config-file a -config-dir=c -config-format hcl").expect("valid");
        assert_eq!(parsed.paths, ["b", "a", "c"].map(PathBuf::from));
        assert_eq!(parsed.format, Some(Format::Hcl));
    }

    #[test]
    fn wrong_command_lines_are_refused_with_a_sentence() {
        for (line, wanted) in [
            ("-zz", "flag provided but not defined: -zz"),
            (
                "-server false",
                "unexpected argument \"false\": flags start with a dash",
            ),
            (
                "-http-port x",
                "invalid value \"x\" for flag -http-port: invalid digit found in string",
            ),
            (
                "-retry-interval 5",
                "invalid value \"5\" for flag -retry-interval: time: missing unit in duration \"5\"",
            ),
            (
                "-config-format yaml",
                "-config-format must be json or hcl, not \"yaml\"",
            ),
        ] {
            match parse(line) {
                Err(Failure::Usage(text)) => assert_eq!(text, wanted),
                other => panic!("{line}: {other:?}"),
            }
        }
        let parsed = parse("-segment abc -ui").expect("judged later");
        assert_eq!(parsed.settings.unsupported.len(), 2);
    }
}
