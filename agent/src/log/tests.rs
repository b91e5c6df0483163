use super::line::shown_as;
use super::*;
use serde_json::json;

fn line<'a>(message: &str, fields: &[(&'static str, serde_json::Value)]) -> Line<'a> {
    Line {
        unix_ms: 1_795_430_431_911,
        level: Level::INFO,
        module: "consul",
        message: message.into(),
        fields: fields.to_vec(),
    }
}

#[test]
fn text_lines_have_consuls_form() {
    for (message, fields, wanted) in [
        (
            "cluster leadership acquired",
            vec![],
            "cluster leadership acquired",
        ),
        (
            "message",
            vec![
                ("key", json!("value")),
                ("other", json!("two words")),
                ("n", json!(3)),
            ],
            "message: key=value other=\"two words\" n=3",
        ),
        ("", vec![("a", json!(true))], "a=true"),
        (
            "evil\n\u{1b}[2Jname",
            vec![("a", json!("b\nc"))],
            "evil\\n\\u{1b}[2Jname: a=\"b\\nc\"",
        ),
        (
            "m",
            vec![("a", json!("")), ("b", json!("x=y"))],
            "m: a=\"\" b=\"x=y\"",
        ),
    ] {
        let printed = line(message, &fields).print(false);
        assert_eq!(
            printed,
            format!("2026-11-23T10:40:31.911Z [INFO] consul: {wanted}\n")
        );
    }
}

#[test]
fn json_lines_have_consuls_keys() {
    let printed = line("a \"b\"", &[("peer", json!("x")), ("n", json!(2))]).print(true);
    assert_eq!(
        printed,
        "{\"@level\":\"info\",\"@message\":\"a \\\"b\\\"\",\"@module\":\"consul\",\
         \"@timestamp\":\"2026-11-23T10:40:31.911Z\",\"peer\":\"x\",\"n\":2}\n"
    );
}

#[test]
fn libraries_are_kept_back() {
    for (target, level, wanted) in [
        ("raft", Level::WARN, ("raft", Level::WARN)),
        (
            "agent::gossip::driver",
            Level::DEBUG,
            ("agent", Level::DEBUG),
        ),
        (
            "openraft::core::heartbeat",
            Level::ERROR,
            ("raft", Level::DEBUG),
        ),
        ("openraft::core", Level::INFO, ("raft", Level::TRACE)),
        ("hyper::proto", Level::INFO, ("hyper", Level::TRACE)),
        ("foca", Level::WARN, ("foca", Level::WARN)),
    ] {
        assert_eq!(shown_as(target, level), wanted, "{target} {level}");
    }
}

/// A log of its own, whose console is the returned text.
fn captured(level: Level) -> (Log, Arc<Mutex<String>>) {
    let text = Arc::new(Mutex::new(String::new()));
    let console = Arc::clone(&text);
    let settings = LogSettings {
        level,
        json: false,
        file: None,
    };
    let print = Box::new(move |line: &str| lock(&console).push_str(line));
    (Log::new(&settings, print).expect("no file to open"), text)
}

/// What was printed, without the times.
fn printed(text: &Mutex<String>) -> Vec<String> {
    let text = lock(text);
    text.lines().map(|line| line[25..].to_owned()).collect()
}

#[test]
fn levels_change_while_running_and_monitors_have_their_own() {
    let (log, text) = captured(Level::INFO);
    let subscriber = tracing_subscriber::registry().with(log.layer());
    let _guard = tracing::subscriber::set_default(subscriber);
    let say = || {
        tracing::debug!(target: "raft", peer = "b", "detail");
        tracing::warn!(target: "openraft::core", "not for people");
        tracing::info!(target: "consul", count = 2, "news");
    };
    say();
    assert_eq!(printed(&text), ["[INFO] consul: news: count=2"]);
    let mut monitor = log.monitor(Level::DEBUG, false);
    say();
    assert_eq!(
        printed(&text).len(),
        2,
        "a monitor does not change what the console shows"
    );
    let mut seen = Vec::new();
    while let Ok(line) = monitor.lines.try_recv() {
        seen.push(line[25..].to_owned());
    }
    assert_eq!(
        seen,
        [
            "[DEBUG] raft: detail: peer=b\n",
            "[DEBUG] raft: not for people\n",
            "[INFO] consul: news: count=2\n"
        ]
    );
    drop(monitor);
    assert_eq!(log.inner.wanted.load(Ordering::Relaxed), rank(Level::INFO));
    log.set_level(Level::ERROR);
    say();
    assert_eq!(printed(&text).len(), 2);
}

#[test]
fn whoever_asks_first_hears_whether_a_line_would_be_printed() {
    let (log, _) = captured(Level::INFO);
    let subscriber = tracing_subscriber::registry().with(log.layer());
    let _guard = tracing::subscriber::set_default(subscriber);
    let asked = || tracing::enabled!(target: "http", Level::DEBUG);
    assert!(!asked());
    let monitor = log.monitor(Level::DEBUG, false);
    assert!(asked());
    drop(monitor);
    assert!(!asked());
}

#[tokio::test]
async fn a_slow_monitor_is_told_how_much_it_missed() {
    let (log, _) = captured(Level::ERROR);
    let mut monitor = log.monitor(Level::INFO, false);
    for _ in 0..MONITOR_QUEUE_LINES + 7 {
        log.inner.write(&line("x", &[]));
    }
    let first = monitor.next().await.expect("a line");
    assert!(first.ends_with("count=7\n"), "{first}");
    for _ in 0..MONITOR_QUEUE_LINES {
        let next = monitor.next().await.expect("a line");
        assert!(next.ends_with("consul: x\n"));
    }
}

#[test]
fn a_moved_file_is_replaced_when_reopened() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("agent.log");
    let settings = LogSettings {
        level: Level::INFO,
        json: false,
        file: Some(path.clone()),
    };
    let log = Log::new(&settings, Box::new(|_| {})).expect("writable");
    log.inner.write(&line("one", &[]));
    std::fs::rename(&path, dir.path().join("old.log")).expect("moved");
    log.inner.write(&line("two", &[]));
    log.reopen().expect("writable");
    log.inner.write(&line("three", &[]));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("there");
    assert_eq!(read("old.log").lines().count(), 2);
    assert!(read("agent.log").ends_with("consul: three\n"));
    let settings = LogSettings {
        file: Some(dir.path().join("no/such/file")),
        ..settings
    };
    let Err(error) = Log::new(&settings, Box::new(|_| {})) else {
        panic!("should fail");
    };
    assert!(
        error
            .to_string()
            .starts_with("cannot write to the log file ")
    );
}
