//! From exec to attached, from exec to exit, and the memory that takes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::tracer::{Script, Tracer};
use crate::bench::running::median;
use crate::{paths, setup};

/// How often each is started.
const ROUNDS: usize = 11;
/// Greatest resident memory of skep.
const RSS_KB: u64 = 12 << 10;
/// Size of the static binary, all of skep.
const BINARY_BYTES: u64 = 12 << 20;

pub(super) fn bench(tracers: &[Tracer; 2]) -> Result<bool> {
    let tool = paths::root().join("tools/statsnoop.bt");
    let rows = [
        ("one tracepoint", Script::Text("tracepoint:syscalls:sys_enter_execve { @[comm] = count(); }"), 5),
        ("a tool of eleven", Script::File(&tool), 15),
    ];
    let mut good = true;
    println!(
        "{:18} {:>14} {:>14} {:>7} {:>8} {:>12} {:>12}",
        "to attached", tracers[0].name, tracers[1].name, "ratio", "limit", "skep CPU", "skep peak"
    );
    for (name, script, limit_ms) in rows {
        let mut attached = [vec![], vec![]];
        let (mut cpu, mut peak) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            for (index, tracer) in tracers.iter().enumerate() {
                // The distribution's version may not take a tool in today's spelling: then there is no peer.
                let Ok(tracing) = tracer.start(&script) else { continue };
                attached[index].push(tracing.attached_after);
                if index == 1 {
                    cpu.push(tracing.cpu()?);
                    peak.push(tracing.peak_kb()?);
                }
                tracing.stop()?;
            }
        }
        let theirs = median(&mut attached[0]);
        let ours = median(&mut attached[1]).with_context(|| format!("skep does not start `{name}`"))?;
        let peak = median(&mut peak).context("there were rounds")?;
        let cpu = median(&mut cpu).context("there were rounds")?;
        println!(
            "{name:18} {:>14} {ours:>14.1?} {:>7} {limit_ms:>5} ms {cpu:>12.1?} {peak:>9} kB",
            theirs.map_or("-".to_owned(), |theirs| format!("{theirs:.1?}")),
            ratio(theirs, ours),
        );
        good &= ours <= Duration::from_millis(limit_ms) && peak <= RSS_KB;
    }
    good &= to_exit(tracers)?;
    let binary = paths::target().join(setup::MUSL).join("release/skep");
    let bytes = std::fs::metadata(&binary)?.len();
    println!("static binary: {:.1} MB", bytes as f64 / 1e6);
    println!("limits: as shown; {RSS_KB} kB; {} MB", BINARY_BYTES >> 20);
    Ok(good && bytes <= BINARY_BYTES)
}

fn to_exit(tracers: &[Tracer; 2]) -> Result<bool> {
    const LIMIT: Duration = Duration::from_millis(10);
    let mut took = [vec![], vec![]];
    for _ in 0..ROUNDS {
        for (index, tracer) in tracers.iter().enumerate() {
            let start = Instant::now();
            let status = tracer.command(&Script::Text("BEGIN { exit(); }")).stdout(Stdio::null()).status()?;
            anyhow::ensure!(status.success(), "{} ended with {status}", tracer.name);
            took[index].push(start.elapsed());
        }
    }
    let [theirs, ours] = took.map(|mut took| median(&mut took));
    let ours = ours.context("there were rounds")?;
    println!(
        "{:18} {:>14.1?} {ours:>14.1?} {:>7} {LIMIT:>8.0?}",
        "to exit",
        theirs.unwrap_or_default(),
        ratio(theirs, ours)
    );
    Ok(ours <= LIMIT)
}

fn ratio(theirs: Option<Duration>, ours: Duration) -> String {
    theirs.map_or("-".to_owned(), |theirs| format!("{:.3}", ours.as_secs_f64() / theirs.as_secs_f64()))
}
