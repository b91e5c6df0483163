use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::binary::binary;
use crate::http::{Http, Reply};
use crate::process::{Process, Signal};
use crate::wait::eventually;

/// One agent of a test: its name, address and data dir, and its process while it runs.
///
/// Reads of its log (`wait_for_line` and so on) go to the [`Process`] it dereferences to.
pub struct Agent {
    /// Node name.
    pub name: String,
    /// The address that it binds, for everything.
    pub ip: Ipv4Addr,
    /// Its data dir.
    pub data: PathBuf,
    process: Option<Process>,
    /// What starts it, before its own name; empty for nothing.
    launcher: Vec<String>,
    /// Flags of every start.
    always: Vec<String>,
}

/// What a finished command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

impl Output {
    /// What it printed, when it ended well.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Its one sentence on stderr, when it ended badly.
    ///
    /// # Panics
    /// When it ended well, or said nothing.
    #[track_caller]
    pub fn failure(self) -> String {
        assert!(matches!(self.code, Some(code) if code != 0), "{self:?}");
        assert!(!self.stderr.trim().is_empty(), "no reason given: {self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self.stderr
    }
}

/// Runs a program of this workspace to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Output {
    let output = Command::new(binary(program))
        .args(arguments)
        .env_remove("CONSUL_HTTP_ADDR")
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Agent {
    /// An agent that does not run yet.
    pub fn new(name: &str, ip: Ipv4Addr, data: &Path) -> Self {
        Self {
            name: name.to_owned(),
            ip,
            data: data.to_owned(),
            process: None,
            launcher: Vec::new(),
            always: Vec::new(),
        }
    }

    /// Gives it these flags at every start from now on, too.
    pub fn always(&mut self, flags: &[&str]) {
        self.always = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Starts it through another program from now on, which must become it: `ip netns exec NAME`.
    pub fn start_through(&mut self, launcher: &[&str]) {
        self.launcher = launcher.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Starts it: the flags that say who it is, then `flags`.
    ///
    /// # Panics
    /// When it runs already, or cannot be started.
    pub fn start(&mut self, flags: &[&str]) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = match self.launcher.split_first() {
            None => Command::new(binary("agent")),
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).arg(binary("agent"));
                command
            }
        };
        command.args(self.identity()).args(&self.always).args(flags);
        self.process = Some(Process::start(&self.name, command));
    }

    /// The flags that say who it is.
    pub fn identity(&self) -> Vec<String> {
        let ip = self.ip.to_string();
        [
            "-node",
            &self.name,
            "-bind",
            &ip,
            "-client",
            &ip,
            "-data-dir",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain([self.data.display().to_string()])
        .collect()
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_running)
    }

    /// Kills it (-9), at whatever it was doing.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Sends SIGINT, waits until it has ended by itself, and gives back its exit code and log.
    ///
    /// # Panics
    /// When it does not run or does not end.
    #[track_caller]
    pub fn interrupt(&mut self) -> (Option<i32>, Process) {
        self.signal(Signal::INT);
        self.ended()
    }

    /// Waits until it has ended by itself, and gives back its exit code and log.
    ///
    /// # Panics
    /// When it does not run or does not end.
    #[track_caller]
    pub fn ended(&mut self) -> (Option<i32>, Process) {
        let mut process = self.process.take().expect("the agent runs");
        let status = process.wait();
        (status.code(), process)
    }

    /// Its HTTP API.
    pub fn http(&self) -> Http {
        Http {
            address: SocketAddr::from((self.ip, 8500)),
        }
    }

    /// Its server RPC address, as `raft` names it.
    pub fn server_address(&self) -> String {
        format!("{}:8300", self.ip)
    }

    /// Runs a verb against it: `agent VERB -http-addr=... REST`.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        // The address goes behind the words of the verb (`kv get`, `operator raft list-peers`), before its own flags.
        let words = match arguments {
            ["operator" | "connect", ..] => 3,
            [
                "kv" | "catalog" | "config" | "intention" | "services" | "snapshot",
                ..,
            ] => 2,
            _ => 1,
        };
        let (verb, rest) = arguments.split_at(words.min(arguments.len()));
        let address = format!("-http-addr={}", self.http().address);
        run("agent", &[verb, &[address.as_str()], rest].concat())
    }

    /// Waits until the API answers.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_until_up(&self) {
        eventually(&format!("{} answers", self.name), || {
            self.http().get("/v1/agent/self").map(drop)
        });
    }

    /// One GET that must succeed, as JSON.
    ///
    /// # Panics
    /// When there is no answer, or not 200.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    /// One GET.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.http()
            .get(path)
            .unwrap_or_else(|e| panic!("{} {path}: {e}", self.name))
    }

    /// One PUT that must be answered with `true`.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn put(&self, path: &str, body: &str) {
        let reply = self
            .http()
            .put(path, body)
            .unwrap_or_else(|e| panic!("{} {path}: {e}", self.name));
        assert_eq!(
            (reply.status, reply.text().trim()),
            (200, "true"),
            "{} {path}",
            self.name
        );
    }

    /// One key's value, read as `mode` says (empty, `stale` or `consistent`). `None`: there is no such key.
    ///
    /// # Panics
    /// When the answer is neither.
    #[track_caller]
    pub fn value(&self, key: &str, mode: &str) -> Option<String> {
        let reply = self.get(&format!("/v1/kv/{key}?raw&{mode}"));
        match reply.status {
            200 => Some(reply.text()),
            404 => None,
            other => panic!("{} {key}: {other} {}", self.name, reply.text()),
        }
    }

    /// A value of `info`: `("raft", "num_peers")`.
    ///
    /// # Errors
    /// What came instead.
    pub fn info(&self, block: &str, key: &str) -> Result<String, String> {
        let reply = self
            .http()
            .get("/v1/agent/self")
            .map_err(|e| e.to_string())?;
        reply.json()["Stats"][block][key]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("no {block}.{key} in {}", reply.text()))
    }

    /// The leader's server address, as this agent knows it; empty without one.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn leader(&self) -> Result<String, String> {
        let reply = self
            .http()
            .get("/v1/status/leader")
            .map_err(|e| e.to_string())?;
        serde_json::from_slice(&reply.body).map_err(|_| reply.text())
    }

    /// Waits until it knows a leader, and gives back its server address.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn wait_for_leader(&self) -> String {
        eventually(&format!("{} knows a leader", self.name), || {
            self.leader().and_then(|leader| {
                if leader.is_empty() {
                    Err("no leader".to_owned())
                } else {
                    Ok(leader)
                }
            })
        })
    }

    /// Addresses of the voters, in order, as this agent's servers know them.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn voters(&self) -> Result<Vec<String>, String> {
        let reply = self
            .http()
            .get("/v1/operator/raft/configuration?stale")
            .map_err(|e| e.to_string())?;
        if reply.status != 200 {
            return Err(reply.text());
        }
        let mut voters: Vec<String> = reply.json()["Servers"]
            .as_array()
            .ok_or_else(|| reply.text())?
            .iter()
            .filter(|server| server["Voter"] == true)
            .map(|server| server["Address"].as_str().unwrap_or_default().to_owned())
            .collect();
        voters.sort();
        Ok(voters)
    }
}

impl Deref for Agent {
    type Target = Process;

    fn deref(&self) -> &Process {
        self.process
            .as_ref()
            .unwrap_or_else(|| panic!("{} does not run", self.name))
    }
}
