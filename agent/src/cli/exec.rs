//! `agent exec`: runs a command on other nodes, over the key/value store and an event, as Consul does.
//!
//! The job is an entry below `PREFIX/SESSION/`, which the event names; nodes that take part write there that they have
//! heard of it, what the command prints, and its exit code. All of it goes with the session.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};
use crate::client::{Client, Error, KvPut, Response, escape_path, query};
use crate::duration::GoDuration;
use crate::node::remote_exec::{ACK, EVENT, EXIT, JOB, OUTPUT, Spec};

/// Time to live of the session, which is renewed twice in it.
const SESSION_TTL: Duration = Duration::from_secs(15);

/// Pause between two looks if the answer to the first did not wait for anything.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs a command on all nodes whose agents allow it (disable_remote_exec = false), and prints what it prints there.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Datacenter to run it in; without it the agent's own
    #[arg(long)]
    datacenter: Option<String>,
    /// Regular expression: only nodes with such a name
    #[arg(long, default_value = "")]
    node: String,
    /// Prefix of the entries that it is done with
    #[arg(long, default_value = "_rexec")]
    prefix: String,
    /// Regular expression: only nodes with such a service
    #[arg(long, default_value = "")]
    service: String,
    /// Whether the command runs in a shell
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    shell: bool,
    /// Regular expression: only nodes on which that service has such a tag
    #[arg(long, default_value = "")]
    tag: String,
    /// Say what is done
    #[arg(long)]
    verbose: Option<bool>,
    /// How long nothing may be heard before it is over
    #[arg(long, default_value = "1s")]
    wait: GoDuration,
    /// Time for the job to reach all servers before nodes are told of it
    #[arg(long, default_value = "200ms")]
    wait_repl: GoDuration,
    /// The command; `-` takes a script from the standard input
    words: Vec<String>,
}

/// A job under way.
struct Job<'a> {
    client: Client,
    flags: &'a Flags,
    session: String,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("exec", args)?;
    let wrong = |text: &str| Err(Failure::Usage(text.to_owned()));
    if flags.service.is_empty() && !flags.tag.is_empty() {
        return wrong("Cannot provide tag filter without service filter.");
    }
    let mut spec = Spec {
        wait: flags.wait.0,
        ..Spec::default()
    };
    match &flags.words[..] {
        [] => return wrong("Must specify a command to execute"),
        [dash] if dash == "-" => {
            let read = io.input.read_to_end(&mut spec.script);
            read.map_err(Failure::because("Failed to read the script"))?;
        }
        words if flags.shell => spec.command = words.join(" "),
        words => spec.args = words.to_vec(),
    }
    let client = flags.api.client(io)?;
    let verbose = flags::on(flags.verbose);
    let session = create_session(&client, &flags).await?;
    if verbose {
        writeln!(io.out, "Created remote execution session: {session}")?;
    }
    let renewing = tokio::spawn(renew(client.clone(), session.clone()));
    let job = Job {
        client,
        flags: &flags,
        session,
    };
    let done = job.run(&spec, io).await;
    renewing.abort();
    job.clean_up().await;
    done
}

async fn create_session(client: &Client, flags: &Flags) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Created {
        #[serde(rename = "ID")]
        id: String,
    }
    let body = json!({
        "Name": "Remote Exec", "TTL": crate::duration::print(SESSION_TTL), "Behavior": "delete", "Checks": [],
    });
    let path = format!("/v1/session/create{}", flags.datacenter_query());
    let created = client.put_json(&path, Bytes::from(body.to_string())).await;
    let created: Created = created.map_err(Failure::because("Failed to create session"))?;
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

impl Flags {
    fn datacenter_query(&self) -> String {
        query(self.params())
    }

    fn params(&self) -> Vec<(&str, Option<&str>)> {
        let given = self.datacenter.as_deref().filter(|dc| !dc.is_empty());
        given.map(|dc| ("dc", Some(dc))).into_iter().collect()
    }
}

impl Job<'_> {
    fn folder(&self) -> String {
        format!("{}/{}/", self.flags.prefix.trim_matches('/'), self.session)
    }

    async fn run(&self, spec: &Spec, io: &mut Io<'_>) -> Done {
        let verbose = flags::on(self.flags.verbose);
        let put = KvPut {
            acquire: Some(self.session.clone()),
            datacenter: self.flags.datacenter.clone().filter(|dc| !dc.is_empty()),
            ..KvPut::default()
        };
        let failed = "Failed to create job file";
        let text = serde_json::to_vec(spec).map_err(Failure::because(failed))?;
        let key = format!("{}{JOB}", self.folder());
        let written = self.client.kv_put(&key, text, &put).await;
        if !written.map_err(Failure::because(failed))? {
            let text = format!("{failed}: {key} is locked");
            return Err(Failure::Message(text));
        }
        if verbose {
            writeln!(io.out, "Uploaded remote execution spec")?;
        }
        sleep(self.flags.wait_repl.0).await;
        let id = self.fire().await;
        let id = id.map_err(Failure::because("Failed to fire event"))?;
        if verbose {
            writeln!(io.out, "Fired remote execution event: {id}")?;
        }
        self.listen(io).await
    }

    async fn fire(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Fired {
            #[serde(rename = "ID")]
            id: String,
        }
        let prefix = self.flags.prefix.trim_matches('/');
        let payload = json!({"Prefix": prefix, "Session": self.session});
        let mut params = self.flags.params();
        for (name, value) in [
            ("node", &self.flags.node),
            ("service", &self.flags.service),
            ("tag", &self.flags.tag),
        ] {
            if !value.is_empty() {
                params.push((name, Some(value)));
            }
        }
        let path = format!("/v1/event/fire/{EVENT}{}", query(params));
        let fired: Fired = self
            .client
            .put_json(&path, Bytes::from(payload.to_string()))
            .await?;
        Ok(fired.id)
    }

    /// Prints what nodes write until nothing comes any more.
    async fn listen(&self, io: &mut Io<'_>) -> Done {
        let (folder, start) = (self.folder(), Instant::now());
        let (mut seen, mut index) = (BTreeSet::new(), 0);
        let (mut heard, mut ended, mut bad) = (0, 0, false);
        loop {
            // Longer where it is known that somebody is at work.
            let patience = self.flags.wait.0 * if heard > ended { 2 } else { 1 };
            let news = async {
                loop {
                    let (keys, next) = self.keys(index).await?;
                    let is_new = |key: &String| !key.ends_with(JOB) && seen.insert(key.clone());
                    let mut new: Vec<String> = keys.into_iter().filter(is_new).collect();
                    let moved = next != index;
                    index = next;
                    if !new.is_empty() {
                        // What was printed comes before the end of the command.
                        new.sort_by_key(|key| key.ends_with(EXIT));
                        return Ok::<_, Error>(new);
                    }
                    if !moved {
                        sleep(PAUSE).await;
                    }
                }
            };
            let keys = match timeout_at(Instant::now() + patience, news).await {
                Err(_) => break,
                Ok(found) => found.map_err(Failure::because("Failed to read results"))?,
            };
            for key in keys {
                let rest = key.strip_prefix(&folder).unwrap_or_default();
                let (node, what) = rest.split_once('/').unwrap_or((rest, ""));
                match self.show(node, what, &key, io).await? {
                    Told::Heard => heard += 1,
                    Told::Ended(code) => {
                        ended += 1;
                        bad |= code != "0";
                    }
                    Told::Other => {}
                }
            }
        }
        writeln!(io.out, "{ended} / {heard} node(s) completed / acknowledged")?;
        if flags::on(self.flags.verbose) {
            let took = start.elapsed().as_secs_f64();
            writeln!(io.out, "Completed in {took:.2} seconds")?;
        }
        Ok(if bad || ended < heard { 2 } else { 0 })
    }

    async fn show(
        &self,
        node: &str,
        what: &str,
        key: &str,
        io: &mut Io<'_>,
    ) -> Result<Told, Failure> {
        let verbose = flags::on(self.flags.verbose);
        if what == ACK {
            if verbose {
                writeln!(io.out, "==> {node}: acknowledged")?;
            }
            return Ok(Told::Heard);
        }
        if what != EXIT && !what.starts_with(OUTPUT) {
            return Ok(Told::Other);
        }
        let pair = self.client.kv_get(key, &self.flags.params()).await;
        let pair = pair.map_err(Failure::because("Failed to read results"))?;
        let value = pair.map(|pair| pair.value).unwrap_or_default();
        let text = String::from_utf8_lossy(&value);
        if what == EXIT {
            writeln!(io.out, "==> {node}: finished with exit code {text}")?;
            return Ok(Told::Ended(text.into_owned()));
        }
        if value.is_empty() {
            // A sign of life.
            if verbose {
                writeln!(io.out, "==> {node}: heartbeat received")?;
            }
            return Ok(Told::Other);
        }
        for line in text.split('\n') {
            writeln!(io.out, "{}", format!("    {node}: {line}").trim_end())?;
        }
        Ok(Told::Other)
    }

    /// The keys of the job once their index is above the given one, and it.
    async fn keys(&self, index: u64) -> Result<(Vec<String>, u64), Error> {
        let number = index.to_string();
        let mut params = self.flags.params();
        params.push(("keys", None));
        if index > 0 {
            params.extend([("index", Some(number.as_str())), ("wait", Some("10s"))]);
        }
        let folder = self.folder();
        let path = format!("/v1/kv/{}{}", escape_path(&folder), query(params));
        let response = self
            .client
            .request(Method::GET, &path, Bytes::new())
            .await?;
        let next = response.index().unwrap_or(0);
        if response.status.as_u16() == 404 {
            return Ok((Vec::new(), next));
        }
        let response = Response::success(response)?;
        let keys = serde_json::from_slice(&response.body)
            .map_err(|source| Error::Decode { url: path, source })?;
        Ok((keys, next))
    }

    /// Removes everything. What fails here goes with the session.
    async fn clean_up(&self) {
        let query = self.flags.datacenter_query();
        let path = format!("/v1/session/destroy/{}{query}", self.session);
        let _ = self.client.put(&path, Bytes::new()).await;
        let mut params = self.flags.params();
        params.push(("recurse", None));
        let folder = self.folder();
        let path = format!("/v1/kv/{}{}", escape_path(&folder), self::query(params));
        let _ = self.client.delete(&path).await;
    }
}

/// What an entry says.
enum Told {
    /// A node takes part.
    Heard,
    /// Its command ended, with this code.
    Ended(String),
    Other,
}
