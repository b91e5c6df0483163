//! What an agent prints before its log.

use std::fmt::Write as _;

use crate::cli::version::{AGENT_VERSION, BUILD_DATE};
use crate::config::{Bootstrap, Config, TlsInterface};
use crate::{REVISION, VERSION};

/// Whether there is a key, given or kept.
fn is_encrypted(config: &Config) -> bool {
    let settings = &config.encryption;
    let kept = config.data_dir.join("serf/local.keyring");
    settings.key.is_some() || (settings.keyring_file && kept.exists())
}

/// The banner. The node id is known only when the data folder has one already.
pub(super) fn print(config: &Config, node_id: Option<&str>) -> String {
    let port = |port: Option<u16>| port.map_or("-1".to_owned(), |port| port.to_string());
    let verified = |tls: &TlsInterface| {
        let (incoming, outgoing) = (tls.verify_incoming, tls.verify_outgoing);
        format!("Verify Incoming: {incoming}, Verify Outgoing: {outgoing}")
    };
    let rpc_tls = format!(
        "{} (Verify Hostname: {})",
        verified(&config.tls.rpc),
        config.tls.verify_server_hostname
    );
    let http: Vec<_> = config.http.iter().map(ToString::to_string).collect();
    let lines = [
        ("Version", format!("'{VERSION}'")),
        ("Agent", format!("'{AGENT_VERSION}'")),
        ("Revision", format!("'{REVISION}'")),
        ("Build Date", format!("'{BUILD_DATE}'")),
        (
            "Node ID",
            node_id.map_or("made at this start".to_owned(), |id| format!("'{id}'")),
        ),
        ("Node name", format!("'{}'", config.node_name)),
        (
            "Datacenter",
            format!(
                "'{}' (Segment: '{}')",
                config.datacenter,
                if config.server { "<all>" } else { "" }
            ),
        ),
        (
            "Server",
            format!(
                "{} (Bootstrap: {})",
                config.server,
                config.bootstrap == Bootstrap::Alone
            ),
        ),
        (
            "Client Addr",
            format!(
                "{http:?} (HTTP: {}, HTTPS: {}, DNS: {})",
                port(config.ports.http),
                port(config.ports.https),
                port(config.ports.dns)
            ),
        ),
        (
            "Cluster Addr",
            format!(
                "{} (LAN: {}, WAN: {})",
                config.advertise_addr,
                config.ports.serf_lan,
                port(config.ports.serf_wan)
            ),
        ),
        ("Gossip Encryption", is_encrypted(config).to_string()),
        ("ACL Enabled", config.acl.enabled.to_string()),
        ("HTTPS TLS", verified(&config.tls.https)),
        ("Internal RPC TLS", rpc_tls),
    ];
    let mut text = String::from("==> Starting Consul agent...\n");
    for (label, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{label:>20}: {value}");
    }
    text.push_str("\n==> Log data will now stream in as it occurs:\n\n");
    text
}
