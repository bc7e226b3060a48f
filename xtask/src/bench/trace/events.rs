//! What a probe costs: the time that it adds to a system call, and the time that the kernel counts for its program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::tracer::{Script, Tracer};
use crate::{paths, sh};

/// System calls of one round.
const CALLS: &str = "1000000";
const ROUNDS: usize = 5;
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Body of `tracepoint:raw_syscalls:sys_enter`, and how much of bpftrace's time it may take.
const BODIES: &[(&str, &str, f64)] = &[
    ("empty", "{ }", 1.0),
    ("count", "{ @ = count(); }", 1.0),
    ("count by comm", "{ @[comm] = count(); }", 1.0),
    ("hist", "{ @ = hist(args->id); }", 1.0),
    ("count by stack", "{ @[kstack] = count(); }", 0.5),
    ("filter", "/comm == \"nobody\"/ { @ = count(); }", 1.0),
    ("hist by two", "{ @[pid, comm] = hist(args->id); }", 1.0),
    ("sum", "{ @[args->id] = sum(args->args[0] & 7); }", 1.0),
    ("stats", "{ @[comm] = stats(args->id); }", 1.0),
    ("variable", "{ $x = nsecs / 1000; if ($x % 2) { @a = count(); } else { @b = count(); } }", 1.0),
];

pub(super) fn bench(tracers: &[Tracer; 2]) -> Result<bool> {
    let load = load()?;
    let bare = per_call(&load)?;
    let before = std::fs::read_to_string(STATS).with_context(|| format!("cannot read {STATS}"))?;
    let result = compare(tracers, &load, bare);
    std::fs::write(STATS, before.trim_end())?;
    result
}

fn compare(tracers: &[Tracer; 2], load: &Path, bare: f64) -> Result<bool> {
    println!(
        "added to a system call of {bare:.0} ns, in ns; the kernel's own count of the program, in ns; its instructions"
    );
    println!(
        "{:16} {:>9} {:>9} {:>7} {:>6} | {:>9} {:>9} {:>7} | {:>6} {:>6}",
        "body", "bpftrace", "skep", "ratio", "limit", "bpftrace", "skep", "ratio", "theirs", "ours"
    );
    let mut good = true;
    let mut ratios = Vec::new();
    for (name, body, limit) in BODIES {
        let text = format!("tracepoint:raw_syscalls:sys_enter {body}");
        let script = Script::Text(&text);
        let mut added = [vec![], vec![]];
        let mut program = [None, None];
        for round in 0..ROUNDS {
            for (index, tracer) in tracers.iter().enumerate() {
                let before = if round == 0 { newest()? } else { 0 };
                let tracing = tracer.start(&script)?;
                // The kernel's own count costs time: it is taken in a round of its own.
                if round == 0 {
                    std::fs::write(STATS, "1")?;
                }
                let cost = per_call(load)? - bare;
                if round == 0 {
                    program[index] = Some(in_kernel(before)?);
                    std::fs::write(STATS, "0")?;
                } else {
                    added[index].push(cost);
                }
                tracing.stop()?;
            }
        }
        let [theirs, ours] = added.map(|mut values| middle(&mut values));
        let ratio = ours / theirs;
        let [Some((their_ns, their_insns)), Some((our_ns, our_insns))] = program else { continue };
        ratios.push(our_ns / their_ns);
        println!(
            "{name:16} {theirs:>9.1} {ours:>9.1} {ratio:>7.2} {limit:>6.1} | {their_ns:>9.1} {our_ns:>9.1} {:>7.2} | \
             {their_insns:>6} {our_insns:>6}",
            our_ns / their_ns
        );
        // A few nanoseconds are the noise of two runs.
        good &= ours <= theirs * limit + 5.0;
    }
    let geometric = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    println!("geometric mean of the kernel's count: {geometric:.2} (limit 1)");
    Ok(good && geometric <= 1.0)
}

/// Builds the load.
fn load() -> Result<PathBuf> {
    let program = paths::build_cache().join("oracle/syscalls");
    std::fs::create_dir_all(program.parent().context("it lies in a folder")?)?;
    let source = paths::root().join("tests/bench/syscalls.c");
    sh::bytes(Command::new("gcc").args(["-O2", "-Wall", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// Nanoseconds of processor time for one system call: the least of three rounds.
fn per_call(load: &Path) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let text = sh::output(Command::new(load).arg(CALLS))?;
        least = least.min(text.trim().parse().context("the load prints a number")?);
    }
    Ok(least)
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All loaded programs.
fn programs() -> Result<Vec<Value>> {
    let text = sh::output(
        Command::new(sh::find("bpftool").context("bpftool is not installed")?).args(["-j", "prog", "show"]),
    )?;
    serde_json::from_str(&text).context("bpftool prints JSON")
}

fn number(program: &Value, key: &str) -> u64 {
    program.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// The greatest number of a program.
fn newest() -> Result<u64> {
    Ok(programs()?.iter().map(|program| number(program, "id")).max().unwrap_or(0))
}

/// Mean time and number of instructions of the tracepoint program that was loaded after `before` and ran most often.
fn in_kernel(before: u64) -> Result<(f64, u64)> {
    let programs = programs()?;
    let of_tracer = |program: &&Value| {
        number(program, "id") > before && program.get("type").and_then(Value::as_str) == Some("tracepoint")
    };
    let busiest = programs.iter().filter(of_tracer).max_by_key(|program| number(program, "run_cnt"));
    let program = busiest.context("the tracer holds no program")?;
    let runs = number(program, "run_cnt").max(1);
    // Instructions as they are run, after the kernel's own rewriting: the same for both.
    Ok((number(program, "run_time_ns") as f64 / runs as f64, number(program, "bytes_xlated") / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_taken_by_value() {
        assert_eq!(middle(&mut [3.0, -1.0, 2.0]), 2.0);
    }
}
