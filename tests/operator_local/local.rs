//! One cluster of `operator local`: its file, its folder, its agents.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tests::{Block, Http, Output, binary, eventually, run};

/// A cluster's file, folder and addresses. What is still running when the test ends is killed.
pub(crate) struct Local {
    pub(crate) block: Block,
    pub(crate) folder: tempfile::TempDir,
}

impl Local {
    pub(crate) fn new(spec: &str) -> Self {
        let local = Self {
            block: Block::take(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        local.write(spec);
        local
    }

    pub(crate) fn write(&self, spec: &str) {
        let head = "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata:\n  name: demo\nspec: ";
        // Replaced in one go, as editors do.
        let next = self.folder.path().join("next.yaml");
        fs::write(&next, format!("{head}{spec}\n")).expect("a writable folder");
        fs::rename(next, self.file()).expect("a writable folder");
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("cluster.yaml")
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn arguments(&self, verb: &str) -> Vec<String> {
        let mut arguments = vec!["local".to_owned(), verb.to_owned()];
        if verb == "up" {
            arguments.push(self.file().display().to_string());
            arguments.extend(["--bind-base".to_owned(), self.block.ip(1).to_string()]);
        }
        arguments.extend(["--dir".to_owned(), self.dir().display().to_string()]);
        arguments
    }

    pub(crate) fn operator(&self, verb: &str, more: &[&str]) -> Output {
        let mut arguments = self.arguments(verb);
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        run("operator", &arguments)
    }

    /// Starts `up` and lets it run beside the test.
    pub(crate) fn up(&self) -> Up {
        let log = fs::File::create(self.folder.path().join("up.log")).expect("a writable folder");
        let mut command = Command::new(binary("operator"));
        command
            .args(self.arguments("up"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        Up {
            child: command.spawn().expect("the operator starts"),
        }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> Value {
        let output = self.operator("status", &["-o", "json"]).success();
        serde_json::from_str(&output).expect("JSON")
    }

    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || {
            let output = self.operator("status", &["-o", "json"]);
            // In its first moments there is nothing to look at.
            let Ok(resource) = serde_json::from_str::<Value>(&output.stdout) else {
                return Err(format!("{output:?}\n{}", self.said()));
            };
            let status = resource["status"].clone();
            if condition(&status) {
                Ok(status)
            } else {
                Err(format!("{status}\n{}", self.said()))
            }
        })
    }

    pub(crate) fn wait_until_steady(&self, servers: usize) -> Value {
        self.wait_for("the cluster is as wanted", |status| {
            status["phase"] == "Running"
                && status["readyServers"] == servers
                && status["voters"] == servers
        })
    }

    pub(crate) fn server(&self, number: u8) -> Http {
        Http {
            address: self.block.socket(number + 1, 8500),
        }
    }

    /// Agents of this cluster that run, with their command lines.
    pub(crate) fn agents(&self) -> Vec<(u32, String)> {
        let mark = self.dir().display().to_string();
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let lines = pids.filter_map(|pid: u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .ok()?
                .replace('\0', " ");
            (line.contains(&mark) && line.contains("-data-dir")).then_some((pid, line))
        });
        lines.collect()
    }

    pub(crate) fn pid(&self, name: &str) -> u32 {
        let node = format!("-node {name} ");
        let agents = self.agents();
        agents
            .iter()
            .find(|(_, line)| line.contains(&node))
            .unwrap_or_else(|| panic!("{name} runs: {agents:?}"))
            .0
    }

    /// How often a cluster was formed, as three servers' logs tell.
    pub(crate) fn clusters_formed(&self) -> usize {
        let logs = (0..3).map(|n| self.dir().join(format!("demo-server-{n}.log")));
        logs.map(|log| count(&log, "consul: formed cluster")).sum()
    }

    pub(crate) fn kill(&self, name: &str) {
        kill(self.pid(name));
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.agents().into_iter().for_each(|(pid, _)| kill(pid));
    }
}

/// Kills a process that this test started, if it is still there.
pub(crate) fn kill(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone already.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A running `operator local up`.
pub(crate) struct Up {
    child: Child,
}

impl Up {
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn interrupt(&mut self) -> Option<i32> {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).expect("the operator runs");
        self.child.wait().expect("the operator ends").code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

pub(crate) fn condition<'a>(status: &'a Value, name: &str) -> &'a str {
    let conditions = status["conditions"].as_array().expect("conditions");
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == name);
    found
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or("absent")
}

fn count(log: &Path, part: &str) -> usize {
    fs::read_to_string(log)
        .unwrap_or_default()
        .lines()
        .filter(|line| line.contains(part))
        .count()
}
