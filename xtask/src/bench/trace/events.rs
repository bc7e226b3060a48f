//! What a probe costs: the time that it adds to a system call, and the time that the kernel counts for its program.
//!
//! Both tracers run in turns, and each figure is the least of many short slices spread over all rounds: whatever else the
//! machine does in a slice only adds to it, so the least comes near to what the probe itself costs, for both alike. The kernel's
//! own count costs time of its own and is taken in slices for itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::tracer::{Program, Script, Tracer};
use super::verdict;
use crate::bench::running::Running;
use crate::{paths, sh};

/// Starts of each tracer for each body.
const ROUNDS: usize = 5;
/// Slices of a round, and system calls of each: a few milliseconds.
const SLICES: usize = 20;
const CALLS: usize = 20_000;
/// What two measurements of one program differ by, in nanoseconds.
const NOISE_NS: f64 = 2.0;
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The body of `tracepoint:raw_syscalls:sys_enter`.
struct Body {
    name: &'static str,
    text: &'static str,
    /// How much of bpftrace's time it may add; none where only the kernel's count is judged.
    limit: Option<f64>,
}

const BODIES: &[Body] = &[
    Body { name: "empty", text: "{ }", limit: Some(1.0) },
    Body { name: "count", text: "{ @ = count(); }", limit: Some(1.0) },
    Body { name: "count by comm", text: "{ @[comm] = count(); }", limit: Some(1.0) },
    Body { name: "hist", text: "{ @ = hist(args->id); }", limit: Some(1.0) },
    Body { name: "count by stack", text: "{ @[kstack] = count(); }", limit: Some(0.5) },
    Body { name: "filter", text: "/comm == \"nobody\"/ { @ = count(); }", limit: None },
    Body { name: "hist by two", text: "{ @[pid, comm] = hist(args->id); }", limit: None },
    Body { name: "sum", text: "{ @[args->id] = sum(args->args[0] & 7); }", limit: None },
    Body { name: "stats", text: "{ @[comm] = stats(args->id); }", limit: None },
    Body {
        name: "variable",
        text: "{ $x = nsecs / 1000; if ($x % 2) { @a = count(); } else { @b = count(); } }",
        limit: None,
    },
];

pub(super) fn bench(tracers: &[Tracer; 2]) -> Result<bool> {
    let load = load()?;
    let before = std::fs::read_to_string(STATS).with_context(|| format!("cannot read {STATS}"))?;
    let result = compare(tracers, &load);
    std::fs::write(STATS, before.trim_end())?;
    result
}

fn compare(tracers: &[Tracer; 2], load: &Path) -> Result<bool> {
    println!("added to a system call, in ns; the kernel's own count of the program, in ns; its instructions");
    println!(
        "{:16} {:>9} {:>9} {:>7} {:>6} {:7} | {:>9} {:>9} {:>7} | {:>6} {:>6}",
        "body", "bpftrace", "skep", "ratio", "limit", "", "bpftrace", "skep", "ratio", "theirs", "ours"
    );
    let mut good = true;
    let mut ratios = Vec::new();
    let mut bare = f64::INFINITY;
    let mut stack = None;
    for Body { name, text, limit } in BODIES {
        let text = format!("tracepoint:raw_syscalls:sys_enter {text}");
        let mut costs = [Cost::default(); 2];
        for round in 0..ROUNDS {
            bare = bare.min(per_call(load)?);
            // Who comes first changes, so that neither always has the quieter half of a second.
            for index in [round % 2, 1 - round % 2] {
                let tracing = tracers[index].start(&Script::Text(&text))?;
                costs[index].take(load, tracing.pid())?;
                tracing.stop()?;
            }
        }
        let [theirs, ours] = costs;
        let (their_ns, our_ns) = (theirs.call_ns - bare, ours.call_ns - bare);
        let holds = limit.is_none_or(|limit| our_ns <= their_ns * limit + NOISE_NS);
        let in_kernel = ours.program_ns / theirs.program_ns;
        println!(
            "{name:16} {their_ns:>9.1} {our_ns:>9.1} {:>7.2} {:>6} {:7} | {:>9.1} {:>9.1} {in_kernel:>7.2} | {:>6} {:>6}",
            our_ns / their_ns,
            limit.map_or("-".to_owned(), |limit| format!("{limit:.1}")),
            limit.map_or("", |_| verdict(holds)),
            theirs.program_ns,
            ours.program_ns,
            theirs.insns,
            ours.insns,
        );
        if text.contains("kstack") {
            stack = Some((their_ns, theirs.program_ns));
        }
        ratios.push(in_kernel);
        good &= holds;
    }
    let geometric = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    if let Some((their_ns, their_program_ns)) = stack {
        let walk = walk(&tracers[1].program, load)?;
        let walk_ns = walk.call_ns - bare;
        println!(
            "{:16} {:>9} {walk_ns:>9.1} {:>7.2} {:>14} | {:>9} {:>9.1} {:>7.2} | {:>6} {:>6}",
            "walk alone",
            "",
            walk_ns / their_ns,
            "",
            "",
            walk.program_ns,
            walk.program_ns / their_program_ns,
            "",
            walk.insns
        );
    }
    println!("a system call without a probe: {bare:.1} ns; a difference of {NOISE_NS} ns is noise");
    println!("geometric mean of the kernel's count: {geometric:.2}, limit 1, {}", verdict(geometric <= 1.0));
    Ok(good && geometric <= 1.0)
}

/// A program that walks the stack and does nothing with it, beside what bpftrace takes for a stack's count.
fn walk(skep: &Path, load: &Path) -> Result<Cost> {
    let mut cost = Cost::default();
    for _ in 0..ROUNDS {
        let mut command = Command::new(skep);
        // By its own name: as `bpftrace` it would take the file for a script.
        std::os::unix::process::CommandExt::arg0(&mut command, "skep");
        command.args(["run", "--verbose"]).arg(paths::root().join("tests/bench/walk.bpf.c"));
        let running = Running::start(&mut command)?;
        cost.take(load, running.pid())?;
        running.stop()?;
    }
    Ok(cost)
}

/// The least of each so far.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// A system call with the probe, in nanoseconds.
    call_ns: f64,
    /// One run of the program by the kernel's count, in nanoseconds.
    program_ns: f64,
    /// As they are run, after the kernel's own rewriting: the same for both tracers.
    insns: u64,
}

impl Default for Cost {
    fn default() -> Cost {
        Cost { call_ns: f64::INFINITY, program_ns: f64::INFINITY, insns: 0 }
    }
}

impl Cost {
    fn take(&mut self, load: &Path, pid: u32) -> Result<()> {
        self.call_ns = self.call_ns.min(per_call(load)?);
        std::fs::write(STATS, "1")?;
        let mut before = Program::busiest(pid)?;
        for _ in 0..SLICES / 2 {
            sh::output(Command::new(load).arg(CALLS.to_string()))?;
            let after = Program::busiest(pid)?;
            let runs = after.runs.saturating_sub(before.runs);
            // Another program was the busiest before the first slice.
            if after.id == before.id && runs >= CALLS as u64 {
                self.program_ns = self.program_ns.min((after.run_ns - before.run_ns) as f64 / runs as f64);
            }
            before = after;
        }
        std::fs::write(STATS, "0")?;
        if self.insns == 0 {
            self.insns = insns(before.id)?;
        }
        Ok(())
    }
}

/// Builds the load.
pub(super) fn load() -> Result<PathBuf> {
    let program = paths::build_cache().join("oracle/syscalls");
    std::fs::create_dir_all(program.parent().context("it lies in a folder")?)?;
    let source = paths::root().join("tests/bench/syscalls.c");
    sh::bytes(Command::new("gcc").args(["-O2", "-Wall", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// Nanoseconds of processor time for one system call: the least of some slices.
fn per_call(load: &Path) -> Result<f64> {
    let text = sh::output(Command::new(load).args([CALLS, SLICES].map(|number| number.to_string())))?;
    text.trim().parse().context("the load prints a number")
}

/// Instructions of a loaded program.
fn insns(id: u64) -> Result<u64> {
    let bpftool = sh::find("bpftool").context("bpftool is not installed")?;
    let text = sh::output(Command::new(bpftool).args(["-j", "prog", "show", "id", &id.to_string()]))?;
    let program: serde_json::Value = serde_json::from_str(&text).context("bpftool prints JSON")?;
    let bytes = program.get("bytes_xlated").and_then(serde_json::Value::as_u64);
    Ok(bytes.context("bpftool tells the size of a program")? / 8)
}
