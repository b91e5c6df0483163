//! How the program is linked, so that an idle server takes little memory. What it saves: DESIGN.md, "Figures".

use std::env::var;
use std::process::Command;

/// The first version of the C library that can read packed relocations.
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=rest.ld");
    let value = |key: &str| var(key).unwrap_or_default();
    let linux = value("CARGO_CFG_TARGET_OS") == "linux" && value("CARGO_CFG_TARGET_ENV") == "gnu";
    // Programs under development are linked often, and their memory is nobody's concern.
    if !linux || value("PROFILE") != "release" {
        return;
    }
    let here = value("CARGO_MANIFEST_DIR");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{here}/rest.ld");
    // A program that may lie anywhere is relocated when it starts. Packed, the list of what to change takes 8 KB and not
    // half a megabyte, which every process would read. An older C library refuses such a program, hence only where the
    // one that it is built for is known.
    if value("HOST") == value("TARGET") && c_library() >= PACKED_SINCE {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library, which `getconf` prints as `glibc 2.36`.
fn c_library() -> (u32, u32) {
    let version = || {
        let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
        let text = String::from_utf8(output.ok()?.stdout).ok()?;
        let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    version().unwrap_or_default()
}
