//! The tasks of this repository: `cargo xtask TASK`.
//!
//! [`TASKS`] is the whole command line: a name, a function and a help line each. A task lives in the file of its name and
//! may be run alone; `test` is what a developer and CI run, and it calls `setup` first, so a machine with nothing but
//! Rust, a C compiler and root gets everything else from the package registries.
//!
//! # Writing a test that needs more than Rust
//! - *Compiled BPF objects* lie in the folder that the environment variable `SKEP_TEST_OBJECTS` names, on the host and in the
//!   virtual machines alike, where no clang exists; [`corpus`] describes the layout. Cargo sets the variable for every
//!   test of this workspace, to `.cache/objects`; the folder is filled by `cargo xtask setup`.
//! - *Tools* (clang, bpftool, `ip`, …) are found through `PATH`. A missing one fails the test with
//!   ``run `cargo xtask setup` ``.
//! - *A capability of the machine* (root, BPF, kprobes, a kernel version) that is missing is a skip: print the line
//!   `skipped: needs <capability>` and return. [`verdicts`] reads that line. A test skipped on the host usually runs in a
//!   virtual machine, and the other way round; under CI a test that ran on no machine is a failure, except where the
//!   capability is `kernel X.Y` and no machine at hand has a kernel that new, or programs that lie outside of the repository.
//! - *Files of the repository* are at the same absolute path in the virtual machines, so `env!("CARGO_MANIFEST_DIR")` and
//!   `env!("CARGO_BIN_EXE_skep")` work there.

use std::process::ExitCode;

mod aarch64;
mod bench;
mod ci;
mod compare;
mod dist;
mod fuzz;
mod setup;
mod test;
mod vm;

mod cargo_test;
mod corpus;
mod cpio;
mod image;
mod kernels;
mod oracle;
mod paths;
mod sh;
mod verdicts;

/// One row of the command line.
struct Task {
    name: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
    help: &'static str,
}

const TASKS: &[Task] = &[
    Task { name: "setup", run: setup::run, help: "install what the tests need, compile the test objects" },
    Task { name: "test", run: test::run, help: "setup, then every check and test there is" },
    Task {
        name: "ci",
        run: ci::run,
        help: "test, as CI judges it: a skip that some machine could have served is a failure",
    },
    Task { name: "vm", run: vm::run, help: "the kernel tests on Debian's kernels: [--kernel 6.1|6.12|all] [FILTER]" },
    Task {
        name: "aarch64",
        run: aarch64::run,
        help: "the tests of the machine in user space on an emulated aarch64: [FILTER]",
    },
    Task {
        name: "compare",
        run: compare::run,
        help: "skep against libbpf on objects: [--kernel 6.1|6.12] [DIR|FILE...]",
    },
    Task { name: "fuzz", run: fuzz::run, help: "hunt for inputs that break a parser: [TARGET...] [--seconds N]" },
    Task { name: "bench", run: bench::run, help: "what the project promises about speed and size, measured: [NAME]" },
    Task { name: "dist", run: dist::run, help: "the static release binary, in target/dist" },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        print_help();
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        print_help();
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprintln!("xtask: no task is called `{name}`\n");
        print_help();
        return ExitCode::from(2);
    };
    match (task.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_help() {
    println!("usage: cargo xtask TASK [ARGUMENTS]\n");
    for task in TASKS {
        println!("  {:8} {}", task.name, task.help);
    }
}
