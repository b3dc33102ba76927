//! Tells the program which compiler built it, for the version line.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = env::var_os("RUSTC").expect("cargo sets RUSTC for build scripts");
    let output = Command::new(compiler).arg("--version").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let version =
        text.split_whitespace().nth(1).expect("`rustc --version` prints `rustc <version>`");
    println!("cargo::rustc-env=RINGMAIN_RUSTC_VERSION={version}");
}
