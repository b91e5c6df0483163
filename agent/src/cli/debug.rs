//! `agent debug`: gathers for a while what helps to understand a cluster, into an archive with Consul's layout.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};
use crate::client::{Client, Error, Response};
use crate::duration::{self, GoDuration};

mod pack;
mod profiles;

/// What can be gathered, in the order in which it is named.
const TARGETS: [&str; 6] = ["metrics", "logs", "pprof", "host", "agent", "members"];

/// Shortest times that make sense. Consul's.
const DURATION_MIN: Duration = Duration::from_secs(10);
const INTERVAL_MIN: Duration = Duration::from_secs(5);

/// Version of the layout, as `index.json` names it.
const LAYOUT: u8 = 1;

/// Gathers what an agent knows, its log and its metrics for a while, into an archive.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Whether the files are put into one archive
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    archive: bool,
    /// What to gather: metrics, logs, pprof, host, agent or members; may be repeated [default: all]
    #[arg(long)]
    capture: Vec<String>,
    /// How long to gather
    #[arg(long, default_value = "5m")]
    duration: GoDuration,
    /// Time between two profiles
    #[arg(long, default_value = "30s")]
    interval: GoDuration,
    /// Folder to be made, and with .tar.gz behind it the archive [default: consul-debug-UNIXTIME]
    #[arg(long, default_value = "")]
    output: String,
}

/// What is gathered, and where to.
struct Plan {
    client: Client,
    targets: Vec<&'static str>,
    duration: Duration,
    interval: Duration,
    folder: PathBuf,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("debug", args)?;
    let (duration, interval) = times(&flags)?;
    let client = flags.api.client(io)?;
    let own: Value = client.get_json("/v1/agent/self").await.map_err(|error| {
        Failure::Message(format!(
            "Capture validation failed: error querying target agent: {error}. verify connectivity and agent address"
        ))
    })?;
    let mut targets = chosen(&flags.capture)?;
    if own["DebugConfig"]["EnableDebug"] != true && targets.contains(&"pprof") {
        targets.retain(|target| *target != "pprof");
        writeln!(
            io.err,
            "[WARN] Unable to capture pprof. Set enable_debug to true on target agent to enable profiling."
        )?;
    }
    let folder = match flags.output.as_str() {
        "" => PathBuf::from(format!(
            "consul-debug-{}",
            jiff::Timestamp::now().as_second()
        )),
        output => PathBuf::from(output),
    };
    make(&folder)?;
    let plan = Plan {
        client,
        targets,
        duration,
        interval,
        folder,
    };
    let version = own["Config"]["Version"].as_str().unwrap_or_default();
    let output = plan.output(flags.archive);
    writeln!(
        io.out,
        "Starting debugger and capturing static information..."
    )?;
    for (label, value) in [
        ("Agent Version", version),
        ("Interval", &duration::print(interval)),
        ("Duration", &duration::print(duration)),
        ("Output", &output),
        ("Capture", &plan.targets.join(", ")),
    ] {
        writeln!(io.out, "{label:>14}: '{value}'")?;
    }
    plan.write_index(version)?;
    plan.capture_static(io).await?;
    plan.capture_for_a_while(io).await?;
    if flags.archive {
        pack::pack(&plan.folder).map_err(Failure::because("Archive creation failed"))?;
    }
    writeln!(io.out, "Saved debug archive: {output}")?;
    Ok(0)
}

fn times(flags: &Flags) -> Result<(Duration, Duration), Failure> {
    let (GoDuration(duration), GoDuration(interval)) = (flags.duration, flags.interval);
    let print = duration::print;
    let wrong = if duration < DURATION_MIN {
        format!("duration must be longer than {}", print(DURATION_MIN))
    } else if interval < INTERVAL_MIN {
        format!("interval must be longer than {}", print(INTERVAL_MIN))
    } else if duration < interval {
        let (duration, interval) = (print(duration), print(interval));
        format!("duration ({duration}) must be longer than interval ({interval})")
    } else {
        return Ok((duration, interval));
    };
    Err(Failure::Message(format!(
        "Capture validation failed: {wrong}"
    )))
}

/// The targets that were asked for; all without a word.
fn chosen(names: &[String]) -> Result<Vec<&'static str>, Failure> {
    if names.is_empty() {
        return Ok(TARGETS.to_vec());
    }
    let find = |name: &String| {
        // The old name of the members.
        let wanted = if name == "cluster" { "members" } else { name };
        let found = TARGETS.into_iter().find(|target| *target == wanted);
        found.ok_or_else(|| {
            Failure::Message(format!(
                "Capture validation failed: target not found: {name}"
            ))
        })
    };
    names.iter().map(find).collect()
}

fn make(folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    let exists = |path: &Path| path.symlink_metadata().is_ok();
    if exists(folder) || exists(&pack::archive_of(folder)) {
        return Err(Failure::Message(format!(
            "Capture validation failed: output directory already exists: {shown}"
        )));
    }
    std::fs::create_dir_all(folder).map_err(Failure::because(&format!(
        "Capture validation failed: could not create output directory {shown}"
    )))
}

impl Plan {
    fn wants(&self, target: &str) -> bool {
        self.targets.contains(&target)
    }

    fn output(&self, archive: bool) -> String {
        match archive {
            true => pack::archive_of(&self.folder).display().to_string(),
            false => self.folder.display().to_string(),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.folder.join(name);
        let failed = format!("cannot write {}", path.display());
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder
            .and_then(|()| std::fs::write(&path, bytes))
            .map_err(Failure::because(&failed))
    }

    fn write_index(&self, version: &str) -> Result<(), Failure> {
        let index = json!({
            "Version": LAYOUT,
            "AgentVersion": version,
            "Interval": duration::print(self.interval),
            "Duration": duration::print(self.duration),
            "Targets": self.targets,
        });
        self.write("index.json", format!("{index:#}\n").as_bytes())
    }

    /// What does not change: one file each. One that cannot be had is named, and does not keep others away.
    async fn capture_static(&self, io: &mut Io<'_>) -> Result<(), Failure> {
        for (target, path) in [
            ("host", "/v1/agent/host"),
            ("agent", "/v1/agent/self"),
            ("members", "/v1/agent/members"),
        ] {
            if !self.wants(target) {
                continue;
            }
            match self.client.get_json::<Value>(path).await {
                Ok(value) => {
                    self.write(&format!("{target}.json"), format!("{value:#}\n").as_bytes())?
                }
                Err(error) => writeln!(io.err, "Static capture failed: {target}: {error}")?,
            }
        }
        Ok(())
    }

    /// What comes as time goes by, until it is over or Ctrl-C.
    async fn capture_for_a_while(&self, io: &mut Io<'_>) -> Result<(), Failure> {
        let end = Instant::now() + self.duration;
        let now = jiff::Timestamp::now();
        writeln!(
            io.out,
            "Beginning capture interval {now} ({})",
            self.interval.as_secs()
        )?;
        // More than DEBUG would be every step of Raft: megabytes in seconds.
        let follow = async {
            let all = tokio::join!(
                self.follow("metrics", "/v1/agent/metrics/stream", "metrics.json", end),
                self.follow(
                    "logs",
                    "/v1/agent/monitor?loglevel=DEBUG",
                    "consul.log",
                    end
                ),
                profiles::capture(self, end),
            );
            [all.0, all.1, all.2]
        };
        let ended = tokio::select! {
            ended = follow => ended,
            _ = tokio::signal::ctrl_c() => {
                writeln!(io.out, "Capture interrupted: what there is so far is kept")?;
                return Ok(());
            }
        };
        for failure in ended.into_iter().filter_map(Result::err) {
            writeln!(io.err, "Error encountered during collection: {failure}")?;
        }
        Ok(())
    }

    /// Writes an answer that has no end into a file as it comes.
    async fn follow(
        &self,
        target: &str,
        path: &str,
        name: &str,
        end: Instant,
    ) -> Result<(), String> {
        if !self.wants(target) {
            return Ok(());
        }
        let failed = |error: &dyn std::fmt::Display| format!("{target}: {error}");
        let file = self.folder.join(name);
        let mut file = std::fs::File::create(file).map_err(|error| failed(&error))?;
        let stream = self.client.stream(path).await;
        let mut stream = stream.map_err(|error| failed(&error))?;
        loop {
            let chunk = tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                chunk = stream.chunk() => chunk.map_err(|error| failed(&error))?,
            };
            match chunk {
                Some(chunk) => {
                    std::io::Write::write_all(&mut file, &chunk).map_err(|e| failed(&e))?;
                }
                None => return Err(failed(&"the agent ended it")),
            }
        }
    }

    async fn get(&self, path: &str, time: Duration) -> Result<Response, Error> {
        let client = self.client.with_timeout(time);
        client.get(path).await.and_then(Response::success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_known_ones_and_all_by_default() {
        assert_eq!(chosen(&[]).unwrap(), TARGETS);
        let names = ["cluster", "host"].map(str::to_owned);
        assert_eq!(chosen(&names).unwrap(), ["members", "host"]);
        let wrong = chosen(&["zz".to_owned()]);
        assert!(
            matches!(wrong, Err(Failure::Message(text)) if text.ends_with("target not found: zz"))
        );
    }
}
