//! `cargo xtask test`: setup, the checks, every test on every machine, and one closing line.
//!
//! Arguments go to `cargo test` as they are, in front of `--`; with arguments only the host's tests run.

use anyhow::{Result, bail};

use crate::verdicts::{Tally, kernel_version};
use crate::{aarch64, cargo_test, compare, setup, sh, vm};

/// Runs everything; fails if anything did.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    setup::run(&[])?;
    let mut tally = Tally::default();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    tally.kernels.extend(kernel_version(&release));
    if args.is_empty() {
        checks(&mut tally);
    }
    let mut tests = sh::cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]).args(args);
    tests.args(["--", "--show-output"]);
    if args.is_empty() {
        heading("cargo xtask vm");
        if let Err(error) = vm::all("all", "", &mut tally) {
            tally.add_check("cargo xtask vm", Err(error));
        }
    }
    if args.is_empty() {
        heading("cargo xtask compare");
        if let Err(error) = compare::check(&mut tally) {
            tally.add_check("cargo xtask compare", Err(error));
        }
    }
    if args.is_empty() {
        heading("cargo xtask aarch64");
        if let Err(error) = aarch64::all("", &mut tally) {
            tally.add_check("cargo xtask aarch64", Err(error));
        }
    }
    heading("cargo test");
    if let Err(error) = cargo_test::run(&mut tests, "host", &mut tally) {
        tally.add_check("cargo test", Err(error));
    }
    if !tally.close(ci) {
        bail!("not everything passed");
    }
    Ok(())
}

/// The checks that need no test: formatting, lints, documentation.
fn checks(tally: &mut Tally) {
    let checks: [(&str, &[&str]); 3] = [
        ("cargo fmt --check", &["fmt", "--all", "--check"]),
        ("cargo clippy", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        ("cargo doc", &["doc", "--quiet", "--workspace", "--no-deps"]),
    ];
    for (name, args) in checks {
        heading(name);
        let mut command = sh::cargo();
        command.args(args).env("RUSTDOCFLAGS", "-D warnings");
        tally.add_check(name, sh::run(&mut command));
    }
}

fn heading(text: &str) {
    println!("== {text}");
}
