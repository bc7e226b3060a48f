//! `skep run` from its start to the moment when everything is attached; what it holds while nothing happens; its exit.
//!
//! Waiting counts here, so another's load on the machine counts too: the processor time beside it tells how much of it was
//! ours. The exit is shown without a limit.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::running::{Running, median, skep};
use crate::paths;

/// How often each is started.
const ROUNDS: usize = 31;
const RSS_KB: u64 = 15 << 10;

/// Measures, prints, and says whether the limits hold.
pub(super) fn bench() -> Result<bool> {
    let skep = skep()?;
    let object = paths::objects().join("clang19-el/events_typed.bpf.o");
    let source = paths::root().join("examples/execsnoop.bpf.c");
    let rows: [(&str, PathBuf, u64); 2] = [("object", object, 10), ("C, cached", source, 120)];
    let mut good = true;
    println!("{:10} {:>12} {:>8} {:>10} {:>12} {:>10}", "file", "to attached", "limit", "CPU", "idle RSS", "exit");
    for (name, file, limit_ms) in rows {
        let command = || {
            let mut command = Command::new(&skep);
            command.args(["run", "--verbose"]).arg(&file);
            command
        };
        // The first compiles.
        Running::start(&mut command())?.stop()?;
        let (mut attached, mut cpu, mut rss, mut exit) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let running = Running::start(&mut command())?;
            attached.push(running.attached_after);
            cpu.push(running.cpu()?);
            rss.push(running.rss_kb()?);
            exit.push(running.stop()?.1);
        }
        let middle = |values: &mut Vec<Duration>| median(values).context("there were rounds");
        let (attached, cpu, exit) = (middle(&mut attached)?, middle(&mut cpu)?, middle(&mut exit)?);
        let rss = median(&mut rss).context("there were rounds")?;
        println!("{name:10} {attached:>12.1?} {limit_ms:>5} ms {cpu:>10.1?} {rss:>9} kB {exit:>10.1?}");
        good &= attached <= Duration::from_millis(limit_ms) && rss <= RSS_KB;
    }
    println!("limits: medians of {ROUNDS} starts; {RSS_KB} kB for each");
    Ok(good)
}
