//! A burst of events through a ring buffer and the whole of `skep run`, to a pipe that somebody reads.
//!
//! Every event that was offered must be a line or be counted as lost. How fast lines come out is measured in the processor
//! time of the process between attached and idle, so the first row's buffer is large enough to take the burst; the small
//! one of the last row must lose most of it.

use std::io::Read;
use std::path::Path;
use std::process::{ChildStdout, Command};
use std::time::Duration;

use anyhow::{Context, Result};

use super::running::{Running, skep};
use crate::{paths, sh};

/// Calls of the burst, each of [`EVENTS`] events.
const CALLS: u64 = 2_000;
/// As in burst.bpf.c.
const EVENTS: u64 = 1_000;
/// Text lines in a second of one core.
const LINES_PER_SECOND: f64 = 1e6;

/// Measures, prints, and says whether the limits hold.
pub(super) fn bench() -> Result<bool> {
    let skep = skep()?;
    let burst = paths::build_cache().join("oracle/burst");
    std::fs::create_dir_all(burst.parent().context("it lies in a folder")?)?;
    sh::bytes(
        Command::new("gcc").args(["-O2", "-Wall", "-o"]).arg(&burst).arg(paths::root().join("tests/bench/burst.c")),
    )?;
    let mut good = true;
    println!(
        "{:18} {:>9} {:>9} {:>9} {:>10} {:>16}",
        "format, buffer", "offered", "lines", "lost", "CPU", "lines a second"
    );
    for (name, ring_bytes, json, limit) in [
        ("text, 128 MiB", 128 << 20, false, Some(LINES_PER_SECOND)),
        ("JSON, 128 MiB", 128 << 20, true, None),
        ("text, 64 KiB", 64 << 10, false, None),
    ] {
        let outcome = once(&skep, &burst, ring_bytes, json)?;
        let rate = outcome.lines as f64 / outcome.cpu.as_secs_f64();
        let offered = CALLS * EVENTS;
        println!("{name:18} {offered:>9} {:>9} {:>9} {:>10.1?} {rate:>16.0}", outcome.lines, outcome.lost, outcome.cpu);
        good &= outcome.lines + outcome.lost == offered && limit.is_none_or(|limit| rate >= limit);
    }
    println!("limits: lines and lost make up what was offered; {LINES_PER_SECOND:.0} lines of text a second");
    Ok(good)
}

struct Outcome {
    /// Without the header.
    lines: u64,
    lost: u64,
    cpu: Duration,
}

fn once(skep: &Path, burst: &Path, ring_bytes: u32, json: bool) -> Result<Outcome> {
    let mut command = Command::new(skep);
    command.args(["run", "--verbose", "-D", &format!("RING_BYTES={ring_bytes}")]);
    command.args(json.then_some("--json")).arg(paths::root().join("tests/bench/burst.bpf.c"));
    let mut running = Running::start(&mut command)?;
    let stdout = running.stdout.take().context("stdout is a pipe")?;
    let reader = std::thread::spawn(move || count_lines(stdout));
    let before = running.cpu()?;
    sh::run(Command::new(burst).arg(CALLS.to_string()))?;
    // Its loop wakes once a second when nothing comes, which costs less than a millisecond.
    let mut cpu = running.cpu()?;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = running.cpu()?;
        if now - cpu < Duration::from_millis(1) {
            break;
        }
        cpu = now;
    }
    let cpu = running.cpu()? - before;
    let (said, _) = running.stop()?;
    let lines = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let lost = lost(&said).with_context(|| format!("the last line does not tell losses:\n{said}"))?;
    Ok(Outcome { lines: lines - u64::from(!json), lost, cpu })
}

fn count_lines(mut from: ChildStdout) -> std::io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut lines = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(lines),
            len => lines += buffer[..len].iter().filter(|&&byte| byte == b'\n').count() as u64,
        }
    }
}

/// The number before `lost` in `12 events, 3 lost, 0.5 s`.
fn lost(said: &str) -> Option<u64> {
    let words: Vec<&str> = said.lines().last()?.split(' ').collect();
    let at = words.iter().position(|word| *word == "lost,")?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_from_the_last_line() {
        let said = "5 events lost so far\n21745 events, 1978255 lost, 0.3 s (no room in the ring buffer: 1978255 in `burst`)\n";
        assert_eq!(lost(said), Some(1_978_255));
        assert_eq!(lost("0.3 s\n"), None);
    }
}
