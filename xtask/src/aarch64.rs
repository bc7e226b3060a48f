//! `cargo xtask aarch64 [FILTER]`: the tests of `skep-vm` on an emulated aarch64.
//!
//! What the compiler makes for another processor is run by qemu's user mode, which knows the instructions and hands system calls to the
//! running kernel, all but bpf(2). The tests that ask the kernel are left out by name: [`ASK_THE_KERNEL`].
//! Fewer random programs are tried than on the host: `SKEP_VM_COUNT` says how many, to hunt for more.

use anyhow::{Context, Result, bail};

use crate::verdicts::Tally;
use crate::{cargo_test, setup, sh};

/// The name of this machine in the verdicts.
const MACHINE: &str = "aarch64 under qemu";
/// Random programs, unless the environment says how many.
const PROGRAMS: &str = "1500";

/// Parts of the names of tests that need bpf(2), or `/proc/self/maps`: qemu makes that up, and leaves out what other threads are just mapping.
const ASK_THE_KERNEL: [&str; 8] = [
    "the_kernel_gives_the_same",
    "do_the_same_in_the_kernel",
    "give_in_the_kernel",
    "texts_become_numbers_as_in_the_kernel",
    "checksums_differ_as_in_the_kernel",
    "answer_as_the_kernels_do",
    "walked_as_the_kernels_are",
    "code_is_executable_and_not_writable",
];

/// Runs the tests whose names contain the filter.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let filter = match args {
        [] => "",
        [filter] if !filter.starts_with('-') => filter,
        _ => bail!("usage is `cargo xtask aarch64 [FILTER]`"),
    };
    setup::rust_target(setup::AARCH64)?;
    let mut tally = Tally::default();
    all(filter, &mut tally)?;
    if !tally.close(false) {
        bail!("not everything passed");
    }
    Ok(())
}

/// Builds and runs them, and adds the verdicts.
pub(crate) fn all(filter: &str, tally: &mut Tally) -> Result<()> {
    let qemu = sh::find("qemu-aarch64-static").context("qemu-user-static is missing: run `cargo xtask setup`")?;
    let mut tests = sh::cargo();
    // Doc tests are of no use here: what they show does not depend on the processor.
    tests.args(["test", "--package", "skep-vm", "--lib", "--tests", "--no-fail-fast", "--target", setup::AARCH64]);
    tests.args(["--", "--show-output"]);
    tests.args(ASK_THE_KERNEL.iter().flat_map(|name| ["--skip", name]));
    if !filter.is_empty() {
        tests.arg(filter);
    }
    // The linker of the toolchain itself: no other one for this target need be installed.
    tests.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
    tests.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER", qemu);
    if std::env::var_os("SKEP_VM_COUNT").is_none() {
        tests.env("SKEP_VM_COUNT", PROGRAMS);
    }
    cargo_test::run(&mut tests, MACHINE, tally)
}
