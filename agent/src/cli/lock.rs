//! `agent lock`: runs a command while holding a lock.

use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags, handler};
use crate::client::{Client, Error, KvPair, KvPut, Response, escape_path};
use crate::duration::GoDuration;

mod semaphore;

use semaphore::Semaphore;

/// What Consul's own client writes into its locks, so that both see each other's.
const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// Time to live of the session, which is renewed twice in it.
const SESSION_TTL: Duration = Duration::from_secs(15);

/// How long one blocking query waits, and the longest answer to it takes.
const WAIT: &str = "15s";
const TIME_MAX: Duration = Duration::from_secs(60);

/// Pause before another try when nothing says why the lock was refused: its delay after a lost session, above all.
const RETRY: Duration = Duration::from_secs(2);

/// Pause between two looks that failed while the command runs.
const MONITOR_PAUSE: Duration = Duration::from_secs(1);

/// How long a command may take to end once the lock is lost.
const KILL_AFTER: Duration = Duration::from_secs(10);

/// Runs a command while PREFIX/.lock is held, and ends it when the lock is lost.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Datacenter to ask; without it the agent's own
    #[arg(long)]
    datacenter: Option<String>,
    /// Exit with 2 when the command fails
    #[arg(long)]
    child_exit_code: Option<bool>,
    /// Tries in a row that may fail to see the lock while the command runs, before it counts as lost
    #[arg(long, default_value_t = 3)]
    monitor_retry: u32,
    /// Most holders at a time
    #[arg(long, short = 'n', default_value_t = 1)]
    n: u32,
    /// Name of the session
    #[arg(long, default_value = "")]
    name: String,
    /// Give this program's standard input to the command
    #[arg(long)]
    pass_stdin: Option<bool>,
    /// Whether the command runs in a shell
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    shell: bool,
    /// How long to wait for the lock; 0 is for ever
    #[arg(long, default_value = "0s")]
    timeout: GoDuration,
    /// Do not wait longer than this for the lock
    #[arg(long = "try")]
    try_for: Option<GoDuration>,
    /// Say what is done
    #[arg(long)]
    verbose: Option<bool>,
    /// PREFIX and the command
    words: Vec<String>,
}

/// A lock to be had.
struct Lock {
    client: Client,
    key: String,
    session: String,
}

/// What is held while the command runs.
enum Held {
    Lock(Lock),
    Place(Semaphore),
}

impl Held {
    async fn acquire(&self) -> Result<(), String> {
        match self {
            Held::Lock(lock) => lock.acquire().await.map_err(|error| error.to_string()),
            Held::Place(place) => place.acquire().await.map_err(|error| error.to_string()),
        }
    }

    async fn lost(&self, retries: u32) -> String {
        match self {
            Held::Lock(lock) => lock.lost(retries).await,
            Held::Place(place) => place.lost(retries).await,
        }
    }

    async fn give_back(&self) {
        match self {
            Held::Lock(lock) => lock.give_back().await,
            Held::Place(place) => place.give_back().await,
        }
    }
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("lock", args)?;
    let (prefix, command) = match &flags.words[..] {
        [prefix, command @ ..] if !command.is_empty() => (prefix.trim_matches('/'), command),
        _ => {
            let text = "Key prefix and child command must be specified";
            return Err(Failure::Usage(text.into()));
        }
    };
    if flags.n == 0 {
        return Err(Failure::Usage("Limit must be greater than 0".into()));
    }
    let verbose = flags.verbose == Some(true);
    let client = flags.api.client(io)?.with_timeout(TIME_MAX);
    let client = client.in_datacenter(flags.datacenter.as_deref());
    let key = format!("{prefix}/.lock");
    let session = create_session(&client, &flags, &key, command).await?;
    let renewing = tokio::spawn(renew(client.clone(), session.clone()));
    if verbose {
        match flags.n {
            1 => writeln!(io.out, "Setting up lock at path: {key}")?,
            n => writeln!(
                io.out,
                "Setting up semaphore (limit {n}) at prefix: {prefix}"
            )?,
        }
    }
    let lock = match flags.n {
        1 => Held::Lock(Lock {
            client,
            key,
            session,
        }),
        limit => Held::Place(Semaphore {
            client,
            prefix: prefix.to_owned(),
            session,
            limit: limit as usize,
        }),
    };
    let done = hold(&flags, &lock, command, verbose, io).await;
    renewing.abort();
    lock.give_back().await;
    done
}

async fn create_session(
    client: &Client,
    flags: &Flags,
    key: &str,
    command: &[String],
) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Created {
        #[serde(rename = "ID")]
        id: String,
    }
    let name = match flags.name.as_str() {
        "" => format!("Consul lock for '{}' at '{key}'", command.join(" ")),
        name => name.to_owned(),
    };
    let body = json!({"Name": name, "TTL": crate::duration::print(SESSION_TTL)});
    let created = client
        .put_json("/v1/session/create", Bytes::from(body.to_string()))
        .await;
    let created: Created = created.map_err(Failure::because("Lock setup failed"))?;
    Ok(created.id)
}

/// Keeps the session alive. A renewal that fails is tried again: the session lasts for two more.
async fn renew(client: Client, session: String) {
    let path = format!("/v1/session/renew/{session}");
    loop {
        sleep(SESSION_TTL / 2).await;
        if let Err(error) = client.put(&path, Bytes::new()).await {
            tracing::debug!("cannot renew session {session}: {error}");
        }
    }
}

async fn hold(
    flags: &Flags,
    lock: &Held,
    command: &[String],
    verbose: bool,
    io: &mut Io<'_>,
) -> Done {
    let limit = match &flags.try_for {
        Some(GoDuration(time)) => *time,
        None => flags.timeout.0,
    };
    let got = if limit.is_zero() {
        lock.acquire().await
    } else {
        match timeout_at(Instant::now() + limit, lock.acquire()).await {
            Ok(got) => got,
            Err(_) => {
                return Err(Failure::Message(
                    "Lock acquisition failed: timed out".into(),
                ));
            }
        }
    };
    got.map_err(Failure::because("Lock acquisition failed"))?;
    if verbose {
        writeln!(
            io.out,
            "Attempting lock acquisition: got it, running the command"
        )?;
    }
    let child = start(flags, command).map_err(Failure::because("Child process died"))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut ended = wait(child);
    let status = tokio::select! {
        status = &mut ended => status,
        why = lock.lost(flags.monitor_retry) => {
            writeln!(io.err, "Lock lost, killing child: {why}")?;
            end(pid, ended).await;
            return Ok(1);
        }
    };
    match status {
        Ok(Ok(status)) if status.success() => Ok(0),
        Ok(Ok(status)) => {
            writeln!(io.err, "Child process exited with error: {status}")?;
            Ok(if flags.child_exit_code == Some(true) {
                2
            } else {
                0
            })
        }
        Ok(Err(error)) => Err(Failure::Message(format!("Child process died: {error}"))),
        Err(_) => Err(Failure::Message("Child process died".into())),
    }
}

fn start(flags: &Flags, words: &[String]) -> std::io::Result<Child> {
    let mut command = handler::command(flags.shell, words);
    if flags.pass_stdin != Some(true) {
        command.stdin(Stdio::null());
    }
    command.env("CONSUL_LOCK_HELD", "true").spawn()
}

/// Its end, seen by a thread that does nothing else.
fn wait(mut child: Child) -> oneshot::Receiver<std::io::Result<ExitStatus>> {
    let (tell, ended) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody may be left to hear it.
        let _ = tell.send(child.wait());
    });
    ended
}

/// Asks a command to end, then makes it.
async fn end(pid: Option<Pid>, mut ended: oneshot::Receiver<std::io::Result<ExitStatus>>) {
    let Some(pid) = pid else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
        let over = timeout_at(Instant::now() + KILL_AFTER, &mut ended).await;
        if over.is_ok() {
            return;
        }
    }
}

impl Lock {
    /// Waits until the lock is ours.
    async fn acquire(&self) -> Result<(), Error> {
        let put = KvPut {
            flags: Some(LOCK_FLAGS),
            acquire: Some(self.session.clone()),
            ..KvPut::default()
        };
        let mut index = 0;
        loop {
            let (pair, next) = self.look(index).await?;
            index = next;
            if pair.is_some_and(|pair| pair.session.is_some_and(|id| id != self.session)) {
                continue;
            }
            if self.client.kv_put(&self.key, Vec::new(), &put).await? {
                return Ok(());
            }
            sleep(RETRY).await;
            index = 0;
        }
    }

    /// Returns once the lock is not ours any more, and why.
    async fn lost(&self, retries: u32) -> String {
        let (mut index, mut failures) = (0, 0);
        loop {
            match self.look(index).await {
                Ok((Some(pair), next)) if pair.session.as_deref() == Some(&self.session) => {
                    (index, failures) = (next, 0);
                }
                Ok(_) => return "the session does not hold it any more".to_owned(),
                Err(error) if failures >= retries => return error.to_string(),
                Err(_) => {
                    failures += 1;
                    sleep(MONITOR_PAUSE).await;
                }
            }
        }
    }

    /// The entry, once its index is above the given one.
    async fn look(&self, index: u64) -> Result<(Option<KvPair>, u64), Error> {
        let wait = match index {
            0 => String::new(),
            index => format!("&index={index}&wait={WAIT}"),
        };
        let path = format!("/v1/kv/{}?consistent{wait}", escape_path(&self.key));
        let response = self.client.get(&path).await?;
        let next = response.index().unwrap_or(0);
        if response.status.as_u16() == 404 {
            return Ok((None, next));
        }
        let response = Response::success(response)?;
        let pairs: Vec<KvPair> = serde_json::from_slice(&response.body)
            .map_err(|source| Error::Decode { url: path, source })?;
        Ok((pairs.into_iter().next(), next))
    }

    /// Lets go of everything. What fails here ends by itself with the session.
    async fn give_back(&self) {
        let put = KvPut {
            flags: Some(LOCK_FLAGS),
            release: Some(self.session.clone()),
            ..KvPut::default()
        };
        let released = self.client.kv_put(&self.key, Vec::new(), &put).await;
        if matches!(released, Ok(true))
            && let Ok((Some(pair), _)) = self.look(0).await
            && pair.session.is_none()
        {
            let _ = self
                .client
                .kv_delete(&self.key, Some(pair.modify_index))
                .await;
        }
        let path = format!("/v1/session/destroy/{}", self.session);
        let _ = self.client.put(&path, Bytes::new()).await;
    }
}
