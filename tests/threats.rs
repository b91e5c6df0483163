//! `agent/THREATS.md` says what stops whom, and by which test one sees it: those tests are there.

use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What stands in backquotes as `file.rs::test`.
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let pairs = quoted.filter_map(|quoted| quoted.split_once("::"));
    pairs.filter(|(file, _)| file.ends_with(".rs")).collect()
}

/// Whether this source has a test of that name: the function, with an attribute of a test above it.
fn has_test(source: &str, name: &str) -> bool {
    let Some(at) = source.find(&format!("fn {name}(")) else {
        return false;
    };
    let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
    let mut own = source[..line].lines().rev().take_while(|line| {
        let line = line.trim_start();
        line.starts_with("#[") || line.starts_with("//")
    });
    own.any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
}

/// What is wrong with a page.
fn wrong(page: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, test) in named(page) {
        match fs::read_to_string(Path::new(ROOT).join(file)) {
            Ok(source) if has_test(&source, test) => {}
            Ok(_) => wrong.push(format!("{file} has no test {test}")),
            Err(error) => wrong.push(format!("{file}: {error}")),
        }
    }
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let is_head = row.starts_with("| who ") || row.starts_with("| input ");
        let is_rule = row.starts_with("| ---");
        if !is_head && !is_rule && named(row).is_empty() && !row.contains("no test") {
            wrong.push(format!("no test is named in: {row}"));
        }
    }
    wrong
}

#[test]
fn the_page_names_tests_that_exist() {
    let page = fs::read_to_string(Path::new(ROOT).join("agent/THREATS.md")).expect("the page");
    assert!(named(&page).len() > 50, "the page has lost its tests");
    assert_eq!(wrong(&page), Vec::<String>::new());
}

#[test]
fn what_is_not_there_is_missed() {
    let found = wrong("| a | `tests/threats.rs::what_is_not_there_is_missed` |\n");
    assert_eq!(found, Vec::<String>::new());
    for page in [
        "`tests/threats.rs::no_such_thing`",
        "`tests/nowhere.rs::wrong`",
        "`tests/threats.rs::wrong`",
        "| a claim | nothing that shows it |",
    ] {
        assert_eq!(wrong(page).len(), 1, "{page}");
    }
}
