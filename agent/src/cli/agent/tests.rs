//! Signals to exit codes, with a node that only pretends.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::drive::{Ended, Running, drive};
use super::reload::Reloader;
use super::signals::{Action, Signal, decide};
use super::{Failure, PidFile, Temporary, flags, load, lock_data_dir};
use crate::config::{Config, Machine};
use crate::log::Log;

/// Bounds a hang; nothing here depends on how long things take.
const HANG: Duration = Duration::from_secs(60);

fn machine(dir: &tempfile::TempDir) -> Machine {
    Machine {
        hostname: "host".into(),
        private_ipv4: Vec::new(),
        public_ipv6: Vec::new(),
        temporary_dir: dir.path().join("dev"),
    }
}

fn parsed(line: &str) -> flags::Parsed {
    let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
    flags::parse(&args).expect("valid flags")
}

fn config(line: &str) -> Config {
    let dir = tempfile::tempdir().expect("a folder");
    load(&parsed(line), &machine(&dir)).expect("valid").config
}

#[test]
fn signals_mean_what_the_configuration_says() {
    use Action::{ExitNow, GracefulLeave, Ignore, Reload, Stop};
    use Signal::{Hangup, Interrupt, Terminate};
    let client = "-data-dir=/d -bind=127.0.0.1";
    let server = "-data-dir=/d -bind=127.0.0.1 -server";
    let leaves = "-data-dir=/d -bind=127.0.0.1 -server -hcl=leave_on_terminate=true";
    let skips = "-data-dir=/d -bind=127.0.0.1 -hcl=skip_leave_on_interrupt=true";
    for (line, signal, leaving, wanted) in [
        (client, Interrupt, false, GracefulLeave),
        (client, Terminate, false, GracefulLeave),
        (server, Interrupt, false, GracefulLeave),
        (server, Terminate, false, Stop),
        (leaves, Terminate, false, GracefulLeave),
        (skips, Interrupt, false, Stop),
        (skips, Terminate, false, GracefulLeave),
        (client, Hangup, false, Reload),
        (client, Hangup, true, Ignore),
        (client, Interrupt, true, ExitNow),
        (server, Terminate, true, ExitNow),
    ] {
        assert_eq!(
            decide(signal, leaving, &config(line)),
            wanted,
            "{line} {signal:?} {leaving}"
        );
    }
}

/// A node whose leave ends when it is told to, and which notes what is asked of it.
struct Fake {
    asked: Mutex<Vec<&'static str>>,
    leaving: Notify,
    leave: tokio::sync::Mutex<oneshot::Receiver<Result<(), String>>>,
    end: tokio::sync::Mutex<oneshot::Receiver<Ended>>,
}

impl Running for Fake {
    async fn leave(&self) -> Result<(), String> {
        self.asked.lock().expect("unpoisoned").push("leave");
        self.leaving.notify_one();
        let end = (&mut *self.leave.lock().await).await;
        end.expect("the test says how the leave ends")
    }

    async fn stop(&self) {
        self.asked.lock().expect("unpoisoned").push("stop");
    }

    async fn ended(&self) -> Ended {
        match (&mut *self.end.lock().await).await {
            Ok(ended) => ended,
            Err(_) => std::future::pending().await,
        }
    }
}

struct Bed {
    node: Fake,
    leave: Option<oneshot::Sender<Result<(), String>>>,
    end: Option<oneshot::Sender<Ended>>,
    signal: mpsc::Sender<Signal>,
    signals: mpsc::Receiver<Signal>,
    reloader: Reloader,
    dir: tempfile::TempDir,
}

impl Bed {
    fn new(more: &str) -> Self {
        let (leave, leave_end) = oneshot::channel();
        let (end, node_end) = oneshot::channel();
        let (signal, signals) = mpsc::channel(8);
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("a.hcl"), "node_name = \"a\"").expect("written");
        let line = format!(
            "-data-dir=/d -bind=127.0.0.1 -config-file={} {more}",
            dir.path().join("a.hcl").display()
        );
        let flags = parsed(line.trim_end());
        let config = load(&flags, &machine(&dir)).expect("valid").config;
        let reloader = Reloader::new(flags, machine(&dir), Log::detached(), config);
        Self {
            node: Fake {
                asked: Mutex::default(),
                leaving: Notify::new(),
                leave: leave_end.into(),
                end: node_end.into(),
            },
            leave: Some(leave),
            end: Some(end),
            signal,
            signals,
            reloader,
            dir,
        }
    }

    async fn drive(&mut self, leave_time_max: Duration) -> u8 {
        drive(
            &self.node,
            &mut self.signals,
            &self.reloader,
            leave_time_max,
        )
        .await
    }

    fn asked(&self) -> Vec<&'static str> {
        self.node.asked.lock().expect("unpoisoned").clone()
    }
}

#[tokio::test]
async fn a_graceful_leave_ends_with_0_and_a_failed_one_with_1() {
    for (result, wanted) in [(Ok(()), 0), (Err("no".to_owned()), 1)] {
        let mut bed = Bed::new("");
        bed.signal
            .send(Signal::Interrupt)
            .await
            .expect("listened to");
        let leave = bed.leave.take().expect("there");
        leave.send(result).expect("waited for");
        assert_eq!(bed.drive(HANG).await, wanted);
        assert_eq!(bed.asked(), ["leave"]);
    }
}

#[tokio::test]
async fn a_stop_without_a_leave_ends_with_1() {
    let mut bed = Bed::new("-server");
    bed.signal
        .send(Signal::Terminate)
        .await
        .expect("listened to");
    assert_eq!(bed.drive(HANG).await, 1);
    assert_eq!(bed.asked(), ["stop"]);
}

#[tokio::test]
async fn a_second_signal_ends_a_leave_at_once() {
    let mut bed = Bed::new("");
    bed.signal
        .send(Signal::Interrupt)
        .await
        .expect("listened to");
    let second = async {
        bed.node.leaving.notified().await;
        bed.signal.send(Signal::Hangup).await.expect("listened to");
        bed.signal
            .send(Signal::Terminate)
            .await
            .expect("listened to");
    };
    let (code, ()) = tokio::join!(
        drive(&bed.node, &mut bed.signals, &bed.reloader, HANG),
        second
    );
    assert_eq!(code, 1);
}

#[tokio::test]
async fn a_leave_without_an_end_is_given_up() {
    let mut bed = Bed::new("-hcl=performance{leave_drain_time=\"1ms\"}");
    bed.signal
        .send(Signal::Interrupt)
        .await
        .expect("listened to");
    assert_eq!(bed.drive(Duration::from_millis(1)).await, 1);
    assert_eq!(bed.asked(), ["leave"]);
}

#[tokio::test]
async fn the_nodes_own_end_decides_the_code() {
    for (ended, wanted, asked) in [
        (Ended::Left, 0, &[][..]),
        (Ended::Failed("disk".into()), 1, &["stop"]),
    ] {
        let mut bed = Bed::new("");
        bed.end
            .take()
            .expect("there")
            .send(ended)
            .expect("waited for");
        assert_eq!(bed.drive(HANG).await, wanted);
        assert_eq!(bed.asked(), asked);
    }
}

#[tokio::test]
async fn a_reload_applies_what_it_can_and_keeps_the_rest() {
    let bed = Bed::new("-server");
    let path = bed.dir.path().join("a.hcl");
    assert!(!bed.reloader.current().leave_on_terminate);
    std::fs::write(&path, "leave_on_terminate = true\nnode_name = \"b\"").expect("written");
    bed.reloader.reload().expect("valid");
    assert!(bed.reloader.current().leave_on_terminate);
    assert_eq!(bed.reloader.current().node_name, "a", "needs a restart");
    std::fs::write(&path, "leave_on_terminate = fals").expect("written");
    let error = bed.reloader.reload().expect_err("broken");
    assert!(
        error.ends_with("a.hcl:1:22: expected a value, found the word fals: text needs quotes"),
        "{error}"
    );
    assert!(
        bed.reloader.current().leave_on_terminate,
        "the old settings stay"
    );
}

#[test]
fn files_that_belong_to_the_process_go_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let pid = dir.path().join("pid");
    let line = format!("-dev -pid-file={}", pid.display());
    let config = load(&parsed(&line), &machine(&dir)).expect("valid").config;
    let made = (
        PidFile::write(&config).expect("writable"),
        Temporary::make(&config).expect("writable"),
    );
    assert_eq!(
        std::fs::read_to_string(&pid).expect("there"),
        format!("{}\n", std::process::id())
    );
    assert!(config.data_dir.is_dir());
    assert!(
        Temporary::make(&config).is_err(),
        "a stranger's folder is not taken over"
    );
    assert!(config.data_dir.is_dir(), "and not removed");
    drop(made);
    assert!(!pid.exists() && !config.data_dir.exists());
}

#[test]
fn a_data_dir_has_one_agent_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = lock_data_dir(dir.path()).unwrap();
    let Err(Failure::Message(text)) = lock_data_dir(dir.path()) else {
        panic!("locked twice")
    };
    assert!(text.contains("is in use by another agent"), "{text}");
    drop(first);
    lock_data_dir(dir.path()).unwrap();
}
