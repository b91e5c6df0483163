//! What agents see of the vault: files of a Secret that their pods mount.
//!
//! Each stage has a file of its own, and the command line names it. So a pod that is started for a stage never starts with
//! a copy of the Secret from before it, and one that was started for an earlier stage starts again as it was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Stages, Vault, has_http, stages};
use crate::crd::{ConsulCluster, Stage};

/// Where the files are in the pods.
pub const MOUNT: &str = "/consul/secure";
/// File with the authorities.
pub const AUTHORITIES: &str = "ca.pem";
/// File with the management token, in servers' pods: for a person who is allowed to enter them.
pub const TOKEN: &str = "token";

/// Those that have files.
const STAGES: [Stage; 3] = [Stage::Prepared, Stage::Outgoing, Stage::Full];

/// Port of every agent's HTTPS API.
pub const HTTPS_PORT: u16 = 8501;

/// Data of the Secret that servers, or clients, mount; in base64.
pub fn data(vault: &Vault, server: bool) -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |name: &str, text: &str| {
        all.insert(name.to_owned(), json!(STANDARD.encode(text)));
    };
    put(AUTHORITIES, &vault.authorities);
    let pair = if server {
        Some(&vault.server)
    } else {
        vault.client.as_ref()
    };
    if let Some(pair) = pair {
        put("cert.pem", &pair.cert);
        put("key.pem", &pair.key);
    }
    if server {
        put(TOKEN, &vault.tokens.management);
    }
    for stage in STAGES {
        put(&gossip_file(stage), &gossip(vault, stage).to_string());
        put(&acl_file(stage), &acl(vault, stage, server).to_string());
        for http in [true, false] {
            put(
                &tls_file(stage, http),
                &tls(stage, http, server).to_string(),
            );
        }
    }
    all
}

/// The agent's arguments that name the files which count now.
pub fn arguments(cluster: &ConsulCluster) -> Vec<String> {
    let Stages { gossip, tls, acl } = stages(cluster);
    let files = [
        (gossip, gossip_file(gossip)),
        (tls, tls_file(tls, has_http(cluster))),
        (acl, acl_file(acl)),
    ];
    let on = files
        .into_iter()
        .filter(|(stage, _)| *stage > Stage::Disabled);
    on.map(|(_, file)| format!("-config-file={MOUNT}/{file}"))
        .collect()
}

/// How far things were on when these arguments were made: the reverse of [`arguments`].
pub fn stages_of<'a>(arguments: impl Iterator<Item = &'a str>) -> Stages {
    let mut found = Stages::default();
    let files = arguments.filter_map(|argument| {
        let path = argument.strip_prefix("-config-file=")?;
        path.strip_prefix(MOUNT)?.strip_prefix('/')
    });
    for file in files {
        for stage in STAGES {
            if file == gossip_file(stage) {
                found.gossip = stage;
            }
            if [true, false]
                .into_iter()
                .any(|http| file == tls_file(stage, http))
            {
                found.tls = stage;
            }
            if file == acl_file(stage) {
                found.acl = stage;
            }
        }
    }
    found
}

fn word(stage: Stage) -> String {
    format!("{stage:?}").to_lowercase()
}

/// Name of the file that turns encryption of gossip on, as far as that stage.
pub(super) fn gossip_file(stage: Stage) -> String {
    format!("gossip-{}.json", word(stage))
}

fn tls_file(stage: Stage, http: bool) -> String {
    let more = if http { "" } else { "-https-only" };
    format!("tls-{}{more}.json", word(stage))
}

/// Name of the file that turns tokens on, as far as that stage.
pub fn acl_file(stage: Stage) -> String {
    format!("acl-{}.json", word(stage))
}

fn gossip(vault: &Vault, stage: Stage) -> Value {
    json!({
        "encrypt": vault.gossip_key,
        "encrypt_verify_outgoing": stage >= Stage::Outgoing,
        "encrypt_verify_incoming": stage == Stage::Full,
    })
}

fn tls(stage: Stage, http: bool, server: bool) -> Value {
    let file = |name: &str| format!("{MOUNT}/{name}");
    let mut ports = json!({"https": HTTPS_PORT});
    if !http {
        ports["http"] = json!(-1);
    }
    json!({
        "ports": ports,
        "tls": {
            "defaults": {
                "ca_file": file(AUTHORITIES),
                "cert_file": file("cert.pem"),
                "key_file": file("key.pem"),
                "verify_outgoing": stage >= Stage::Outgoing,
            },
            "internal_rpc": {
                // Clients are connected to by nobody; what they check is in the next line.
                "verify_incoming": server && stage == Stage::Full,
                "verify_server_hostname": stage == Stage::Full,
            },
        },
    })
}

fn acl(vault: &Vault, stage: Stage, server: bool) -> Value {
    let tokens = &vault.tokens;
    let mut given = json!({
        "agent": tokens.agent,
        "dns": tokens.dns,
        "agent_recovery": if server { &tokens.recovery } else { &tokens.client_recovery },
    });
    if server {
        given["initial_management"] = json!(tokens.management);
    }
    json!({"acl": {
        "enabled": true,
        "default_policy": if stage == Stage::Full { "deny" } else { "allow" },
        "down_policy": "extend-cache",
        "tokens": given,
    }})
}
