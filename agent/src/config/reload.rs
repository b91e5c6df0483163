//! What a reload changes: which settings apply to a running agent, and which wait for its restart. Pure.

use super::{Acl, Config, LogSettings, RaftSettings, Tokens};

/// The settings, by key, in which two configurations differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Apply at once.
    pub live: Vec<&'static str>,
    /// Have no effect until the agent is started again.
    pub restart: Vec<&'static str>,
}

/// Compares two configurations setting by setting, each named with its key.
///
/// The old one is taken apart without `..`: a new setting must be sorted into one of the groups.
macro_rules! compare {
    ($old:expr, $new:expr,
     live { $($live:ident: $live_key:literal,)* }
     restart { $($restart:ident: $restart_key:literal,)* }
     apart { $($apart:ident,)* }) => {{
        let Config { $($live,)* $($restart,)* $($apart: _,)* } = $old;
        let live = [$((*$live == $new.$live, $live_key),)*];
        let restart = [$((*$restart == $new.$restart, $restart_key),)*];
        let changed = |pairs: &[(bool, &'static str)]| -> Vec<&'static str> {
            pairs.iter().filter(|(same, _)| !same).map(|(_, key)| *key).collect()
        };
        Diff { live: changed(&live), restart: changed(&restart) }
    }};
}

impl Config {
    /// In what `new` differs from `old`.
    pub fn reloadable_diff(old: &Config, new: &Config) -> Diff {
        let mut diff = compare!(old, new,
            live {
                node_meta: "node_meta",
                services: "services",
                checks: "checks",
                tls: "tls",
                rates: "limits.request_limits and limits.rpc_rate",
                leave_on_terminate: "leave_on_terminate",
                skip_leave_on_interrupt: "skip_leave_on_interrupt",
            }
            restart {
                server: "server",
                bootstrap: "bootstrap",
                dev: "dev",
                node_name: "node_name",
                node_id: "node_id",
                datacenter: "datacenter",
                domain: "domain",
                data_dir_is_temporary: "data_dir",
                bind_addr: "bind_addr",
                serf_lan_bind: "serf_lan",
                advertise_addr: "advertise_addr",
                http: "addresses.http",
                http_config: "http_config",
                enable_debug: "enable_debug",
                https: "addresses.https",
                dns: "dns_config",
                ports: "ports",
                start_join: "start_join",
                retry_join: "retry_join",
                retry_interval: "retry_interval",
                retry_max: "retry_max",
                rejoin_after_leave: "rejoin_after_leave",
                disable_coordinates: "disable_coordinates",
                disable_remote_exec: "disable_remote_exec",
                leave_drain_time: "performance.leave_drain_time",
                rpc_hold_timeout: "performance.rpc_hold_timeout",
                raft_multiplier: "performance.raft_multiplier",
                auto_encrypt: "auto_encrypt",
                autopilot: "autopilot",
                connect: "connect",
                encryption: "encrypt and the like",
                quorum_recovery: "quorum_recovery",
                raft_set_aside: "raft_set_aside",
                gossip_lan: "gossip_lan",
                reconnect_timeout: "reconnect_timeout",
                default_query_time: "default_query_time",
                max_query_time: "max_query_time",
                discovery_max_stale: "discovery_max_stale",
                session_ttl_min: "session_ttl_min",
                limits: "limits",
                prometheus: "telemetry.prometheus_retention_time",
                disable_hostname: "telemetry.disable_hostname",
                pid_file: "pid_file",
                tagged_addresses: "tagged_addresses",
                config_entries: "config_entries",
                check_settings: "check_output_max_size and the like",
                wan: "retry_join_wan and the like",
                primary_datacenter: "primary_datacenter",
                translate_wan_addrs: "translate_wan_addrs",
            }
            apart { data_dir, raft, log, acl, }
        );
        diff.add_apart(old, new);
        diff
    }

    /// This configuration with everything of `new` that applies live: what the agent runs with after a reload.
    #[must_use]
    pub fn reloaded(&self, new: &Config) -> Config {
        let mut config = self.clone();
        config.leave_on_terminate = new.leave_on_terminate;
        config.skip_leave_on_interrupt = new.skip_leave_on_interrupt;
        config.log.level = new.log.level;
        config.node_meta.clone_from(&new.node_meta);
        config.services.clone_from(&new.services);
        config.checks.clone_from(&new.checks);
        config.tls.clone_from(&new.tls);
        config.rates = new.rates;
        config.acl.tokens.clone_from(&new.acl.tokens);
        config
    }
}

impl Diff {
    /// The settings whose key is not one with their field's.
    fn add_apart(&mut self, old: &Config, new: &Config) {
        // A temporary folder is another one at each look.
        let both_kept = !old.data_dir_is_temporary && !new.data_dir_is_temporary;
        let RaftSettings {
            snapshot_threshold,
            snapshot_interval,
            trailing_logs,
        } = old.raft;
        let but_tokens = |config: &Config| Acl {
            tokens: Tokens::default(),
            ..config.acl.clone()
        };
        if old.acl.tokens != new.acl.tokens {
            self.live.push("acl.tokens");
        }
        let LogSettings { level, json, file } = &old.log;
        if *level != new.log.level {
            self.live.push("log_level");
        }
        for (same, key) in [
            (!both_kept || old.data_dir == new.data_dir, "data_dir"),
            (
                snapshot_threshold == new.raft.snapshot_threshold,
                "raft_snapshot_threshold",
            ),
            (
                snapshot_interval == new.raft.snapshot_interval,
                "raft_snapshot_interval",
            ),
            (
                trailing_logs == new.raft.trailing_logs,
                "raft_trailing_logs",
            ),
            (but_tokens(old) == but_tokens(new), "acl"),
            (*json == new.log.json, "log_json"),
            (*file == new.log.file, "log_file"),
        ] {
            if !same {
                self.restart.push(key);
            }
        }
    }
}
