//! Checks that are programs.

use std::process::{Output, Stdio};

use tokio::process::Command;

use super::{Outcome, critical};
use crate::state::CheckStatus;

/// Exit code 0 passes, 1 warns, everything else is critical.
pub(super) async fn run(args: &[String]) -> Outcome {
    match execute(args).await {
        Err(error) => critical(format!("failed to run {:?}: {error}", args.join(" "))),
        Ok(output) => {
            let status = match output.status.code() {
                Some(0) => CheckStatus::Passing,
                Some(1) => CheckStatus::Warning,
                _ => CheckStatus::Critical,
            };
            (status, text(&output))
        }
    }
}

/// Asks the system's service manager for a unit.
pub(super) async fn os_service(name: &str) -> Outcome {
    let args = ["systemctl", "is-active", "--", name].map(str::to_owned);
    match execute(&args).await {
        Err(error) => critical(format!(
            "service {name:?} cannot be asked for, there is no systemctl: {error}"
        )),
        Ok(output) => {
            let word = text(&output).trim().to_owned();
            let status = match (output.status.success(), word.as_str()) {
                (true, _) => CheckStatus::Passing,
                (false, "activating" | "reloading" | "deactivating") => CheckStatus::Warning,
                _ => CheckStatus::Critical,
            };
            (status, format!("service {name:?} is {word}"))
        }
    }
}

async fn execute(args: &[String]) -> std::io::Result<Output> {
    let (program, rest) = args
        .split_first()
        .ok_or_else(|| super::other("no program is named"))?;
    let mut command = Command::new(program);
    command
        .args(rest)
        .stdin(Stdio::null())
        // A group of its own, so that a signal to the agent's is not the program's.
        .process_group(0)
        .kill_on_drop(true);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut group = Group(child.id());
    let output = child.wait_with_output().await;
    // What it leaves behind on purpose may live on; and its id may soon be somebody else's.
    group.0 = None;
    output
}

/// A program with all that it started: stopped when nobody waits for it any more.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(rustix::process::Pid::from_raw) {
            // An error means that everything has ended by itself just now.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}
