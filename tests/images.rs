//! What is in an image: a program, the C library that it was linked with, and nothing that could be run beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tests::binary;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// Every file below a folder, as its path from there.
fn files(folder: &Path, below: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        // A link counts as a file: in a folder or not, it is there to be opened.
        if path.is_dir() && !path.is_symlink() {
            files(&path, below, found);
        } else {
            let path = path.strip_prefix(below).expect("it is below");
            found.insert(path.display().to_string());
        }
    }
}

/// Whether a file may be in the image of this program: an image that has these alone has no shell and no package manager.
fn may_be_there(file: &str, program: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    let is_library = file.contains("lib") && (name.ends_with(".so") || name.contains(".so."));
    let is_text = ["etc/nsswitch.conf", "etc/ssl/certs/ca-certificates.crt"].contains(&file);
    file == format!("bin/{program}") || is_library || is_text
}

#[test]
fn an_image_holds_its_program_and_no_other() {
    for program in ["agent", "operator"] {
        let folder = tempfile::tempdir().expect("room");
        let image = folder.path().join("image");
        let made = Command::new(format!("{DEPLOY}/image-context"))
            .arg(binary(program))
            .arg(&image)
            .output()
            .expect("bash, strip and ldd are there");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        let mut found = BTreeSet::new();
        files(&image, &image, &mut found);
        assert!(found.contains(&format!("bin/{program}")), "{found:?}");
        let more = found.iter().filter(|file| !may_be_there(file, program));
        assert_eq!(more.collect::<Vec<_>>(), Vec::<&String>::new());
    }
    for file in [
        "bin/sh",
        "bin/busybox",
        "usr/bin/apt-get",
        "lib/apk/db/installed",
    ] {
        assert!(!may_be_there(file, "agent"), "{file}");
    }
}

/// The base is empty, nothing is run or fetched while the image is made, and whoever starts it is nobody.
#[test]
fn images_are_made_of_nothing_else_and_run_as_nobody() {
    for program in ["agent", "operator"] {
        let text = fs::read_to_string(format!("{DEPLOY}/{program}.Dockerfile")).expect("a file");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let start = format!("ENTRYPOINT [\"/bin/{program}\"]");
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "ARG BASE=scratch",
                "FROM ${BASE}",
                "COPY . /",
                "USER 65532:65532",
                &start
            ]
        );
    }
}
