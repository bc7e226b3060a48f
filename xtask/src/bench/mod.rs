//! `cargo xtask bench [NAME]`: the measurements that the project promises something about.
//!
//! Machines differ and are shared, so what counts is a ratio of two programs measured in the same minute, in turns, by
//! their medians. Limits are printed beside the numbers; a number beyond its limit fails the task.

use anyhow::{Result, bail};

use crate::setup;

mod load;
mod ringbuf;
mod run;
mod running;
mod split;
mod trace;
mod user;
mod vm;

/// One measurement.
struct Bench {
    name: &'static str,
    run: fn() -> Result<bool>,
    help: &'static str,
}

const BENCHES: &[Bench] = &[
    Bench { name: "load", run: load::bench, help: "load an object and exit, beside libbpf" },
    Bench { name: "run", run: run::bench, help: "`skep run` from exec to attached, its memory, its exit" },
    Bench { name: "ringbuf", run: ringbuf::bench, help: "a burst of 2,000,000 events through `skep run`" },
    Bench { name: "trace", run: trace::bench, help: "scripts beside bpftrace: start, cost of an event, output" },
    Bench {
        name: "user",
        run: user::bench,
        help: "without rights: what the traced pay, beside strace; packets of a file",
    },
    Bench {
        name: "vm",
        run: vm::bench,
        help: "programs natively, interpreted, compiled, in the kernel, on other machines",
    },
];

/// Runs the named measurement, or all.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(unknown) = args.iter().find(|arg| BENCHES.iter().all(|bench| bench.name != **arg)) {
        let known: Vec<String> = BENCHES.iter().map(|bench| format!("  {:8} {}", bench.name, bench.help)).collect();
        bail!("no measurement is called `{unknown}`:\n{}", known.join("\n"));
    }
    setup::run(&[])?;
    let mut good = true;
    for bench in BENCHES.iter().filter(|bench| args.is_empty() || args.iter().any(|arg| arg == bench.name)) {
        println!("== bench {}: {}", bench.name, bench.help);
        good &= (bench.run)()?;
    }
    if !good {
        bail!("a measurement is beyond its limit");
    }
    Ok(())
}
