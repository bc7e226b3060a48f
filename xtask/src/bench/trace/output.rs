//! Lines of printf to a pipe, and a burst of 2,000,000 events.

use std::io::BufRead;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use super::tracer::{Script, Tracer};
use crate::{paths, sh};

const EVENTS: u64 = 2_000_000;
/// In a second of one core.
const LINES_PER_SECOND: f64 = 2e6;

pub(super) fn bench(tracers: &[Tracer; 2]) -> Result<bool> {
    let load = paths::build_cache().join("oracle/syscalls");
    let mut good = true;
    println!("printf of three fields: {EVENTS} events in a burst");
    println!(
        "{:18} {:>9} {:>9} {:>9} {:>10} {:>16}",
        "tracer, buffer", "offered", "lines", "lost", "CPU", "lines a second"
    );
    for (tracer, pages) in [(&tracers[0], 64), (&tracers[1], 4096), (&tracers[1], 64 << 10)] {
        let outcome = once(tracer, &load, pages)?;
        let rate = outcome.lines as f64 / outcome.cpu.as_secs_f64();
        println!(
            "{:18} {EVENTS:>9} {:>9} {:>9} {:>10.1?} {rate:>16.0}",
            format!("{}, {} MiB", tracer.name, pages / 256),
            outcome.lines,
            outcome.lost,
            outcome.cpu
        );
        if tracer.name == "skep" {
            good &= outcome.lines + outcome.lost == EVENTS;
            good &= pages < 64 << 10 || rate >= LINES_PER_SECOND;
        }
    }
    println!("limits for skep: lines and lost make up what was offered; {LINES_PER_SECOND:.0} lines a second");
    Ok(good)
}

struct Outcome {
    lines: u64,
    lost: u64,
    cpu: Duration,
}

fn once(tracer: &Tracer, load: &std::path::Path, pages: u32) -> Result<Outcome> {
    let script = Script::Text(
        "tracepoint:syscalls:sys_enter_getppid /comm == \"syscalls\"/ { printf(\"event %d %s %d\\n\", pid, comm, cpu); }",
    );
    let mut command = tracer.command(&script);
    command.env("BPFTRACE_PERF_RB_PAGES", pages.to_string());
    let mut tracing = tracer.start_command(command)?;
    let before = tracing.cpu()?;
    let mut said = String::new();
    let mut lines = 0u64;
    let cpu = std::thread::scope(|scope| -> Result<Duration> {
        let reader = tracing.take_output();
        let counting = scope.spawn(|| count(reader));
        sh::run(Command::new(load).arg(EVENTS.to_string()).stdout(Stdio::null()))?;
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
        tracing.interrupt()?;
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
