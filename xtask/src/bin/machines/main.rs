//! Runs one program of `tests/bench/vm` on one machine and prints its result in hex, the nanoseconds of a run, and those of compiling it:
//! `machines ENGINE OBJECT INPUT BATCHES`. `cargo xtask bench vm` calls it.
//!
//! The least of the batches counts, since others share the processors.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, bail};

mod kernel;
mod object;
mod other;
mod own;

/// Nanoseconds that a batch takes at least.
const BATCH_NS: u128 = 1_000_000;

/// What a machine did with a program.
struct Measured {
    result: u64,
    ns: f64,
    /// Compiling it once; 0 where nothing is compiled.
    compile_ns: u64,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [engine, object, input, batches] = args.as_slice() else {
        bail!("usage: machines ENGINE OBJECT INPUT BATCHES");
    };
    let object = std::fs::read(object).with_context(|| format!("cannot read {object}"))?;
    let input = std::fs::read(input).with_context(|| format!("cannot read {input}"))?;
    let batches: u32 = batches.parse()?;
    let Measured { result, ns, compile_ns } = match engine.as_str() {
        "kernel" => kernel::measure(&object, &input, batches)?,
        "rbpf-jit" => other::measure(&object, &input, batches, true)?,
        "rbpf-interpreter" => other::measure(&object, &input, batches, false)?,
        own => own::measure(&object, &input, batches, own)?,
    };
    println!("{result:x} {ns:.3} {compile_ns}");
    Ok(())
}

/// The result, and the nanoseconds of a run.
fn timed(batches: u32, mut run: impl FnMut() -> Result<u64>) -> Result<(u64, f64)> {
    // The first run makes what the maps begin with.
    let mut result = run()?;
    let mut batch = |runs: u64| -> Result<u128> {
        let start = Instant::now();
        for _ in 0..runs {
            result = black_box(run()?);
        }
        Ok(start.elapsed().as_nanos())
    };
    let mut runs = 1;
    while batch(runs)? < BATCH_NS {
        runs *= 2;
    }
    let mut least = u128::MAX;
    for _ in 0..batches {
        least = least.min(batch(runs)?);
    }
    Ok((result, least as f64 / runs as f64))
}

/// The nanoseconds that something takes, the least of some times.
fn once<T>(times: u32, mut make: impl FnMut() -> Result<T>) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..times {
        let start = Instant::now();
        let made = make()?;
        least = least.min(start.elapsed().as_nanos() as u64);
        drop(made);
    }
    Ok(least)
}
