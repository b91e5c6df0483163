//! What a reload changes: which settings apply to a running agent, and which wait for its restart. Pure.

use super::{Config, LogSettings};

/// The settings, by key, in which two configurations differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Apply at once.
    pub live: Vec<&'static str>,
    /// Have no effect until the agent is started again.
    pub restart: Vec<&'static str>,
}

impl Config {
    /// In what `new` differs from `old`.
    pub fn reloadable_diff(old: &Config, new: &Config) -> Diff {
        let mut diff = Diff::default();
        // Taken apart without `..`: a new setting must be sorted into one of the two groups.
        let Config {
            server,
            bootstrap,
            dev,
            node_name,
            node_id,
            node_meta,
            datacenter,
            domain,
            data_dir,
            data_dir_is_temporary,
            bind_addr,
            serf_lan_bind,
            advertise_addr,
            http,
            ports,
            start_join,
            retry_join,
            retry_interval,
            retry_max,
            rejoin_after_leave,
            leave_on_terminate,
            skip_leave_on_interrupt,
            leave_drain_time,
            rpc_hold_timeout,
            raft_multiplier,
            raft,
            autopilot,
            gossip_lan,
            reconnect_timeout,
            default_query_time,
            max_query_time,
            limits,
            log: LogSettings { level, json, file },
            pid_file,
        } = old;
        let mut live = |key, same: bool| {
            if !same {
                diff.live.push(key);
            }
        };
        live(
            "leave_on_terminate",
            *leave_on_terminate == new.leave_on_terminate,
        );
        live("log_level", *level == new.log.level);
        live("node_meta", *node_meta == new.node_meta);
        live(
            "raft_snapshot_interval",
            raft.snapshot_interval == new.raft.snapshot_interval,
        );
        live(
            "raft_snapshot_threshold",
            raft.snapshot_threshold == new.raft.snapshot_threshold,
        );
        live(
            "raft_trailing_logs",
            raft.trailing_logs == new.raft.trailing_logs,
        );
        live(
            "skip_leave_on_interrupt",
            *skip_leave_on_interrupt == new.skip_leave_on_interrupt,
        );
        let mut restart = |key, same: bool| {
            if !same {
                diff.restart.push(key);
            }
        };
        restart("server", *server == new.server);
        restart("bootstrap", *bootstrap == new.bootstrap);
        restart("dev", *dev == new.dev);
        restart("node_name", *node_name == new.node_name);
        restart("node_id", *node_id == new.node_id);
        restart("datacenter", *datacenter == new.datacenter);
        restart("domain", *domain == new.domain);
        let same_folder = *data_dir_is_temporary == new.data_dir_is_temporary
            && (*data_dir_is_temporary || *data_dir == new.data_dir);
        restart("data_dir", same_folder);
        restart("bind_addr", *bind_addr == new.bind_addr);
        restart("serf_lan", *serf_lan_bind == new.serf_lan_bind);
        restart("advertise_addr", *advertise_addr == new.advertise_addr);
        restart("addresses.http", *http == new.http);
        restart("ports", *ports == new.ports);
        restart("start_join", *start_join == new.start_join);
        restart("retry_join", *retry_join == new.retry_join);
        restart("retry_interval", *retry_interval == new.retry_interval);
        restart("retry_max", *retry_max == new.retry_max);
        restart(
            "rejoin_after_leave",
            *rejoin_after_leave == new.rejoin_after_leave,
        );
        restart(
            "performance.leave_drain_time",
            *leave_drain_time == new.leave_drain_time,
        );
        restart(
            "performance.rpc_hold_timeout",
            *rpc_hold_timeout == new.rpc_hold_timeout,
        );
        restart(
            "performance.raft_multiplier",
            *raft_multiplier == new.raft_multiplier,
        );
        restart("autopilot", *autopilot == new.autopilot);
        restart("gossip_lan", *gossip_lan == new.gossip_lan);
        restart(
            "reconnect_timeout",
            *reconnect_timeout == new.reconnect_timeout,
        );
        restart(
            "default_query_time",
            *default_query_time == new.default_query_time,
        );
        restart("max_query_time", *max_query_time == new.max_query_time);
        restart("limits", *limits == new.limits);
        restart("log_json", *json == new.log.json);
        restart("log_file", *file == new.log.file);
        restart("pid_file", *pid_file == new.pid_file);
        diff
    }

    /// This configuration with everything of `new` that applies live: what the agent runs with after a reload.
    #[must_use]
    pub fn reloaded(&self, new: &Config) -> Config {
        let mut config = self.clone();
        config.leave_on_terminate = new.leave_on_terminate;
        config.skip_leave_on_interrupt = new.skip_leave_on_interrupt;
        config.log.level = new.log.level;
        config.node_meta = new.node_meta.clone();
        config.raft = new.raft;
        config
    }
}
