use std::path::PathBuf;

/// The program `name`, built beforehand in the same profile as the running test.
///
/// # Panics
/// When it has not been built: cargo builds the binaries of a package only for that package's own tests.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the running test has a path");
    // target/PROFILE/deps/TEST for a test, target/PROFILE/bench for a program.
    let folder = test
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .expect("the running test lies in a folder");
    let program = folder.join(name);
    assert!(
        program.is_file(),
        "{} is missing: build it first, with `cargo build --workspace --bins` in the same profile (`make test` does)",
        program.display()
    );
    program
}
