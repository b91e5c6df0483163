//! Running commands for others (`exec`), where the configuration allows it: everybody who may write to the key/value store
//! and fire events may then run what they like, as the user that the agent runs as. Off by default, as in Consul.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{Error, Node, ReadOptions};
use crate::gossip::UserEvent;
use crate::state::{Answer, Command as StateCommand, KvCommand, KvOp, KvWrite, Outcome, Query};

/// Name of the event that tells of a job.
pub(crate) const EVENT: &str = "_rexec";
/// The job's own entry, below `PREFIX/SESSION/`.
pub(crate) const JOB: &str = "job";
/// What a node writes below `PREFIX/SESSION/NODE/`: that it takes part,
pub(crate) const ACK: &str = "ack";
/// what the command prints, in numbered pieces,
pub(crate) const OUTPUT: &str = "out";
/// and its exit code.
pub(crate) const EXIT: &str = "exit";

/// Most output in one entry. Consul's.
const PIECE: usize = 4 << 10;
/// How long output is gathered before it is written. Consul's.
const GATHER: Duration = Duration::from_millis(500);
/// Most jobs at a time; more are refused, so that a flood of events does not start a flood of programs.
pub(super) const JOBS: usize = 8;
/// Exit code of what could not be started or was ended by a signal. Consul's.
const FAILED: i32 = 255;

/// What is to be run. JSON in the job's entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Spec {
    /// For a shell.
    pub(crate) command: String,
    /// Program and arguments, instead of that.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) args: Vec<String>,
    /// A program's text, instead of both.
    #[serde(with = "base64")]
    pub(crate) script: Vec<u8>,
    /// How long whoever asked waits for a sign of life; nanoseconds.
    #[serde(with = "nanoseconds")]
    pub(crate) wait: Duration,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

mod base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match bytes.is_empty() {
            true => to.serialize_none(),
            false => to.serialize_str(&STANDARD.encode(bytes)),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        let text = text.unwrap_or_default();
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_nanos)
    }
}

/// What the event says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    prefix: String,
    session: Uuid,
}

/// Why a job was not done to its end.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the event's payload is no job: {0}")]
    Payload(serde_json::Error),
    #[error("there is no job {0}")]
    NoJob(String),
    #[error("the job cannot be read: {0}")]
    Job(serde_json::Error),
    #[error("the session of the job is gone: {0} was not written")]
    NoSession(String),
    #[error(transparent)]
    Node(#[from] Error),
    #[error("the script cannot be written: {0}")]
    Script(std::io::Error),
}

impl Node {
    /// Does a job to its end.
    pub(super) async fn run_for_others(self, event: Arc<UserEvent>) {
        let id = event.id;
        tracing::info!(target: "agent", "received remote exec event: id={id}");
        if let Err(error) = self.do_job(&event).await {
            tracing::error!(target: "agent", "remote exec failed: id={id} error={error}");
        }
    }

    async fn do_job(&self, event: &UserEvent) -> Result<(), Failed> {
        let told: Told = serde_json::from_slice(&event.payload).map_err(Failed::Payload)?;
        let folder = format!("{}/{}", told.prefix, told.session);
        let spec = self.job_of(&told, &folder).await?;
        let own = Own {
            node: self,
            session: told.session,
            folder: format!("{folder}/{}", self.inner.config.node_name),
        };
        own.write(ACK, Bytes::new()).await?;
        let script = match spec.script.is_empty() {
            true => None,
            false => Some(write_script(&spec.script).map_err(Failed::Script)?),
        };
        let code = own.run(&spec, script.as_ref()).await?;
        tracing::debug!(target: "agent", "remote exec finished: id={} exit_code={code}", event.id);
        own.write(EXIT, Bytes::from(code.to_string())).await
    }

    /// The job, which must be held by its session: who cannot lock it has not made it.
    async fn job_of(&self, told: &Told, folder: &str) -> Result<Spec, Failed> {
        let key = format!("{folder}/{JOB}");
        let query = Query::KvGet { key: key.clone() };
        let reply = self.read(query, ReadOptions::default()).await?;
        match reply.answer {
            Answer::Kv(Some(entry)) if entry.session == Some(told.session) => {
                serde_json::from_slice(&entry.value).map_err(Failed::Job)
            }
            _ => Err(Failed::NoJob(key)),
        }
    }
}

/// A script in a file that only this user may run; gone when this is dropped.
struct Script(std::path::PathBuf);

impl Drop for Script {
    fn drop(&mut self) {
        // Whatever cleans the folder for temporary files takes it otherwise.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn write_script(text: &[u8]) -> std::io::Result<Script> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = std::env::temp_dir().join(format!("rexec-{}", Uuid::from_u128(rand::random())));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(&path)?;
    let script = Script(path);
    file.write_all(text)?;
    Ok(script)
}

/// This node's part of a job.
struct Own<'a> {
    node: &'a Node,
    session: Uuid,
    folder: String,
}

impl Own<'_> {
    async fn write(&self, name: &str, value: Bytes) -> Result<(), Failed> {
        let key = format!("{}/{name}", self.folder);
        let op = KvOp::Lock {
            write: KvWrite { value, flags: 0 },
            session: self.session,
        };
        let key_shown = key.clone();
        match self
            .node
            .propose(StateCommand::Kv(KvCommand { key, op }))
            .await?
        {
            Outcome::Bool(true) => Ok(()),
            _ => Err(Failed::NoSession(key_shown)),
        }
    }

    /// Runs the command to its end, writing what it prints; its exit code.
    async fn run(&self, spec: &Spec, script: Option<&Script>) -> Result<i32, Failed> {
        let mut number = 0;
        let mut child = match start(spec, script) {
            Ok(child) => child,
            Err(error) => {
                let text = format!("failed to start the command: {error}");
                self.piece(&mut number, text.into_bytes()).await?;
                return Ok(FAILED);
            }
        };
        let (send, mut pieces) = mpsc::channel(16);
        tokio::spawn(read(child.stdout.take(), send.clone()));
        tokio::spawn(read(child.stderr.take(), send));
        // Half of the time, so that one that is lost does not count for an end.
        let silence = (spec.wait / 2).max(GATHER);
        let mut gathered = Vec::new();
        let mut due = Instant::now() + silence;
        loop {
            tokio::select! {
                piece = pieces.recv() => match piece {
                    None => break,
                    Some(piece) => {
                        if gathered.is_empty() {
                            due = Instant::now() + GATHER;
                        }
                        gathered.extend(piece);
                    }
                },
                () = sleep_until(due) => {
                    // Nothing gathered is a sign of life.
                    self.piece(&mut number, std::mem::take(&mut gathered)).await?;
                    due = Instant::now() + silence;
                }
            }
            while gathered.len() >= PIECE {
                let rest = gathered.split_off(PIECE);
                self.piece(&mut number, std::mem::replace(&mut gathered, rest))
                    .await?;
                due = Instant::now() + silence;
            }
        }
        if !gathered.is_empty() {
            self.piece(&mut number, gathered).await?;
        }
        let status = child.wait().await;
        Ok(status
            .ok()
            .and_then(|status| status.code())
            .unwrap_or(FAILED))
    }

    async fn piece(&self, number: &mut u32, text: Vec<u8>) -> Result<(), Failed> {
        let name = format!("{OUTPUT}/{number:05x}");
        *number += 1;
        self.write(&name, text.into()).await
    }
}

fn start(spec: &Spec, script: Option<&Script>) -> std::io::Result<Child> {
    let mut command = match (script, &spec.args[..]) {
        (Some(Script(path)), _) => Command::new(path),
        (None, [program, args @ ..]) => {
            let mut command = Command::new(program);
            command.args(args);
            command
        }
        (None, []) => {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(&spec.command);
            command
        }
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that a signal to the agent's is not the program's.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Passes on what comes, until it ends or nobody listens.
async fn read(from: Option<impl AsyncRead + Unpin>, to: mpsc::Sender<Vec<u8>>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; PIECE];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 || to.send(buffer[..length].to_vec()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_the_form_that_consuls_clients_write() {
        let text = r#"{"Command":"uptime","Args":null,"Script":null,"Wait":1000000000}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.command, "uptime");
        assert_eq!(spec.wait, Duration::from_secs(1));
        let text = r#"{"Script":"IyEvYmluL3No","Args":["a"]}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!(
            (spec.script, spec.args),
            (b"#!/bin/sh".to_vec(), vec!["a".into()])
        );
        let spec = Spec {
            command: "x".into(),
            wait: Duration::from_secs(2),
            ..Spec::default()
        };
        assert_eq!(
            serde_json::to_string(&spec).unwrap(),
            r#"{"Command":"x","Args":[],"Script":null,"Wait":2000000000}"#
        );
    }

    #[tokio::test]
    async fn what_is_started_prints_and_ends_with_its_code() {
        let spec = Spec {
            command: "echo out; echo err >&2; exit 3".into(),
            ..Spec::default()
        };
        let output = start(&spec, None)
            .unwrap()
            .wait_with_output()
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(
            (&output.stdout[..], &output.stderr[..]),
            (&b"out\n"[..], &b"err\n"[..])
        );
        let script = write_script(b"#!/bin/sh\necho script\n").unwrap();
        let path = script.0.clone();
        let output = start(&Spec::default(), Some(&script)).unwrap();
        let output = output.wait_with_output().await.unwrap();
        assert_eq!(&output.stdout[..], b"script\n");
        drop(script);
        assert!(!path.exists());
    }
}
