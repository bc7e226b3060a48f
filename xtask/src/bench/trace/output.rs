//! Lines of printf to a pipe, and a burst of 2,000,000 events.

use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::tracer::{Script, Tracer};
use super::{events, verdict};
use crate::sh;

/// Events of a burst. bpftrace 0.17 wakes for each one, which takes 35 us: it gets a tenth.
const EVENTS: u64 = 2_000_000;
/// In a second of one core.
const LINES_PER_SECOND: f64 = 2e6;
/// How often each burst is made; the fastest is judged, since what others do only takes time.
const ROUNDS: usize = 3;

/// A tracer and the size of its buffer.
struct Row {
    name: &'static str,
    tracer: usize,
    /// Pages for each processor; none for what the tracer takes by itself.
    pages: Option<u32>,
}

const ROWS: &[Row] = &[
    Row { name: "bpftrace", tracer: 0, pages: None },
    Row { name: "skep, 4 MiB", tracer: 1, pages: None },
    Row { name: "skep, 8 MiB a core", tracer: 1, pages: Some(2 << 10) },
    Row { name: "skep, 256 MiB a core", tracer: 1, pages: Some(64 << 10) },
];

pub(super) fn bench(tracers: &[Tracer; 2]) -> Result<bool> {
    let load = events::load()?;
    let mut good = true;
    println!("printf of three fields to a pipe, a burst of events");
    println!(
        "{:20} {:>9} {:>9} {:>9} {:7} {:>8} {:>16} {:7}",
        "tracer, buffer", "offered", "lines", "lost", "", "CPU", "lines a second", ""
    );
    for row in ROWS {
        let (tracer, ours) = (&tracers[row.tracer], row.tracer == 1);
        let (offered, rounds) = if ours { (EVENTS, ROUNDS) } else { (EVENTS / 10, 1) };
        let mut best: Option<Outcome> = None;
        let mut exact = true;
        for _ in 0..rounds {
            let outcome = once(tracer, &load, row.pages, offered)?;
            exact &= outcome.lines + outcome.lost == offered;
            if best.as_ref().is_none_or(|best| outcome.rate() > best.rate()) {
                best = Some(outcome);
            }
        }
        let best = best.context("there were rounds")?;
        let fast = best.rate() >= LINES_PER_SECOND;
        println!(
            "{:20} {offered:>9} {:>9} {:>9} {:7} {:>5.0} ms {:>16.0} {:7}",
            row.name,
            best.lines,
            best.lost,
            if ours { verdict(exact) } else { "" },
            best.cpu.as_secs_f64() * 1e3,
            best.rate(),
            if ours { verdict(fast) } else { "" },
        );
        good &= !ours || exact && fast;
    }
    println!(
        "the fastest of {ROUNDS} bursts; limits: lines and lost make up what was offered in each; \
         {LINES_PER_SECOND:.0} lines in a second of one core"
    );
    Ok(good)
}

struct Outcome {
    lines: u64,
    lost: u64,
    cpu: Duration,
}

impl Outcome {
    /// Lines in a second of one core.
    fn rate(&self) -> f64 {
        self.lines as f64 / self.cpu.as_secs_f64()
    }
}

fn once(tracer: &Tracer, load: &Path, pages: Option<u32>, offered: u64) -> Result<Outcome> {
    let script = Script::Text(
        "tracepoint:syscalls:sys_enter_getppid /comm == \"syscalls\"/ { printf(\"event %d %s %d\\n\", pid, comm, cpu); }",
    );
    let mut command = tracer.command(&script);
    command.envs(pages.map(|pages| ("BPFTRACE_PERF_RB_PAGES", pages.to_string())));
    let mut tracing = tracer.start_command(command)?;
    let before = tracing.cpu()?;
    let mut said = String::new();
    let mut lines = 0u64;
    let cpu = std::thread::scope(|scope| -> Result<Duration> {
        let reader = tracing.take_output();
        let counting = scope.spawn(|| count(reader));
        sh::run(Command::new(load).arg(offered.to_string()).stdout(Stdio::null()))?;
        let mut cpu = tracing.cpu()?;
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = tracing.cpu()?;
            if now - cpu < Duration::from_millis(2) {
                break;
            }
            cpu = now;
        }
        let cpu = tracing.cpu()? - before;
        tracing.interrupt_until(|| counting.is_finished())?;
        let (counted, lost) = counting.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        lines = counted;
        said = lost;
        Ok(cpu)
    })?;
    tracing.wait()?;
    Ok(Outcome { lines, lost: lost(&said), cpu })
}

/// Lines of events, and all other lines.
fn count(from: Option<impl BufRead>) -> std::io::Result<(u64, String)> {
    let Some(mut from) = from else { return Ok((0, String::new())) };
    let (mut lines, mut others, mut line) = (0, String::new(), Vec::new());
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok((lines, others));
        }
        if line.starts_with(b"event ") {
            lines += 1;
        } else {
            others.push_str(&String::from_utf8_lossy(&line));
        }
    }
}

/// The sum of all `Lost N events`, or the total when it is told.
fn lost(said: &str) -> u64 {
    let number = |line: &str, prefix: &str| -> Option<u64> {
        line.strip_prefix(prefix)?.split_ascii_whitespace().next()?.parse().ok()
    };
    let total = said.lines().filter_map(|line| number(line, "Total lost event count: ")).next_back();
    total.unwrap_or_else(|| said.lines().filter_map(|line| number(line, "Lost ")).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_in_both_spellings() {
        assert_eq!(lost("Lost 5 events\nx\nLost 7 events\n"), 12);
        assert_eq!(lost("Lost 5 events\nTotal lost event count: 9\n"), 9);
        assert_eq!(lost(""), 0);
    }

    #[test]
    fn lines_of_events_are_counted_and_others_kept() {
        let (lines, others) = count(Some(&b"event 1\nother\nevent 2\n"[..])).unwrap();
        assert_eq!((lines, others.as_str()), (2, "other\n"));
    }
}
