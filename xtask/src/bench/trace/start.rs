//! From exec to attached, from exec to the end, memory and size.
//!
//! Elapsed time is also everybody else's on the machine, who only add to it: the least of some starts is judged, and the median
//! stands beside it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::tracer::{Script, Tracer};
use super::verdict;
use crate::bench::running::median;
use crate::{paths, setup};

/// How often each is started.
const ROUNDS: usize = 15;
/// Greatest resident memory of skep.
const RSS_KB: u64 = 12 << 10;
/// Size of the static binary, all of skep.
const BINARY_BYTES: u64 = 12 << 20;
/// The tool of the same name that the distribution's bpftrace brings.
const THEIR_TOOL: &str = "/usr/sbin/statsnoop.bt";

pub(super) fn bench(tracers: &[Tracer; 2]) -> Result<bool> {
    let tool = paths::root().join("tools/statsnoop.bt");
    let rows = [
        ("one tracepoint", Script::Text("tracepoint:syscalls:sys_enter_execve { @[comm] = count(); }"), 5),
        ("statsnoop, 12 probes", Script::File(&tool), 15),
        ("bpftrace's, 10", Script::File(Path::new(THEIR_TOOL)), 15),
    ];
    let mut good = true;
    println!(
        "{:20} {:>17} {:>17} {:>7} {:>6} {:7} {:>8} {:>9} {:7}",
        "to attached", "bpftrace, least", "skep, least", "ratio", "limit", "", "CPU", "peak", ""
    );
    for (name, script, limit_ms) in rows {
        let mut attached = [vec![], vec![]];
        let (mut cpu, mut peak) = (vec![], 0);
        for _ in 0..ROUNDS {
            for (index, tracer) in tracers.iter().enumerate() {
                let tracing = match tracer.start(&script) {
                    Ok(tracing) => tracing,
                    Err(error) if index == 1 => return Err(error),
                    // The distribution's version does not take a tool in today's spelling: then there is no peer.
                    Err(_) => continue,
                };
                attached[index].push(tracing.attached_after);
                if index == 1 {
                    cpu.push(tracing.cpu()?);
                    peak = peak.max(tracing.peak_kb()?);
                }
                tracing.stop()?;
            }
        }
        let limit = Duration::from_millis(limit_ms);
        let holds = row(name, attached, limit)?;
        let cpu = median(&mut cpu).context("there were rounds")?;
        println!(" {:>5.1} ms {peak:>6} kB {:7}", millis(cpu), verdict(peak <= RSS_KB));
        good &= holds && peak <= RSS_KB;
    }
    good &= to_exit(tracers)?;
    let binary = paths::target().join(setup::MUSL).join("release/skep");
    let bytes = std::fs::metadata(&binary)?.len();
    println!(
        "static binary: {:.1} MB, limit {} MB, {}",
        bytes as f64 / 1e6,
        BINARY_BYTES >> 20,
        verdict(bytes <= BINARY_BYTES)
    );
    println!(
        "of {ROUNDS} starts the least (the median in brackets); CPU: median; peak: greatest resident memory, limit {RSS_KB} kB"
    );
    Ok(good && bytes <= BINARY_BYTES)
}

/// `BEGIN { exit(); }` to its end.
fn to_exit(tracers: &[Tracer; 2]) -> Result<bool> {
    let mut took = [vec![], vec![]];
    for _ in 0..ROUNDS {
        for (index, tracer) in tracers.iter().enumerate() {
            let start = Instant::now();
            let status = tracer.command(&Script::Text("BEGIN { exit(); }")).stdout(Stdio::null()).status()?;
            anyhow::ensure!(status.success(), "{} ended with {status}", tracer.name);
            took[index].push(start.elapsed());
        }
    }
    let holds = row("exit() to the end", took, Duration::from_millis(10))?;
    println!();
    Ok(holds)
}

/// Prints both tracers' times without ending the line; whether the second's least holds the limit.
fn row(name: &str, times: [Vec<Duration>; 2], limit: Duration) -> Result<bool> {
    let [theirs, ours] = times.map(|mut times| median(&mut times).map(|middle| (times[0], middle)));
    let ours = ours.with_context(|| format!("skep does not start `{name}`"))?;
    let shown = |(least, middle): (Duration, Duration)| format!("{:.1} ({:.1}) ms", millis(least), millis(middle));
    print!(
        "{name:20} {:>17} {:>17} {:>7} {:>3} ms {:7}",
        theirs.map_or("-".to_owned(), shown),
        shown(ours),
        theirs.map_or("-".to_owned(), |theirs| format!("{:.3}", ours.0.as_secs_f64() / theirs.0.as_secs_f64())),
        limit.as_millis(),
        verdict(ours.0 <= limit)
    );
    Ok(ours.0 <= limit)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
