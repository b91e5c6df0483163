use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Root of the source tree.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A path in the source tree.
pub fn program(path: &str) -> PathBuf {
    root().join(path)
}

/// Runs `tests/kube/bed` with these arguments.
///
/// # Errors
/// What it said, when it fails.
pub fn try_bed(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program("tests/kube/bed"))
        .args(arguments)
        .output()
        .map_err(|e| format!("tests/kube/bed does not start: {e}"))?;
    said(&output)
}

/// Runs `kubectl` with these arguments, and gives back what it printed.
///
/// # Errors
/// What it said, when it fails.
pub fn kubectl(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("kubectl")
        .args(arguments)
        .output()
        .map_err(|e| format!("kubectl does not start: {e}"))?;
    said(&output)
}

/// Name of an image under test: `agent` or `operator`. The bed has built and loaded it.
pub fn image(program: &str) -> String {
    format!("localhost/{program}:test")
}

#[track_caller]
pub(super) fn checked(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    said(&output).unwrap_or_else(|said| panic!("{command:?} failed: {said}"))
}

fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}
