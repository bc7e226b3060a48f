//! The probes that run on request and tell how they went: `test:NAME` and `bench:NAME`.
//!
//! Both are XDP programs, which the kernel runs on a packet of zeroes as often as it is asked to. A test passes when it returns 0
//! and ends the script with no other code than 0 (`assert` ends it with 1); what it prints belongs to it, and is shown with its
//! result. A benchmark runs so often that the clock's grain does not matter, and its result is the mean.

use std::fmt::Write;
use std::time::Duration;

use skep_engine::{ProgId, TestRun};
use skep_script::plan::Attach;
use skep_view::json_string;

use super::attach::programs;
use super::reader::{Batch, Reader};
use super::run::Run;
use super::{Format, Notice};
use crate::Error;

/// The packet: the least that the kernel takes is an Ethernet header.
const PACKET: [u8; 64] = [0; 64];
/// A benchmark that takes so long is long enough.
const ENOUGH: Duration = Duration::from_millis(100);
/// How often a benchmark runs, first and at most.
const REPEAT: std::ops::RangeInclusive<u32> = 1000..=100_000_000;

/// Runs every test and benchmark, and prints how they went; whether a test failed.
///
/// # Errors
///
/// When the kernel does not run one, or the output cannot be written.
pub(super) fn run(
    run: &mut Run<'_, '_>,
    reader: &mut Reader,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<bool, Error> {
    let (mut tests, mut benches) = (Vec::new(), Vec::new());
    for (id, attach) in programs(run.plan, |attach| matches!(attach, Attach::Test { .. })) {
        if let Attach::Test { name, bench } = attach {
            if *bench { benches.push((id, name.as_str())) } else { tests.push((id, name.as_str())) }
        }
    }
    let failed = if tests.is_empty() { 0 } else { self::tests(run, reader, &tests, notice)? };
    if !benches.is_empty() {
        self::benches(run, reader, &benches, notice)?;
    }
    Ok(failed > 0)
}

/// How many failed.
fn tests(
    run: &mut Run<'_, '_>,
    reader: &mut Reader,
    tests: &[(ProgId, &str)],
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<usize, Error> {
    let json = run.performer.output.format == Format::Json;
    let mut failed = Vec::new();
    if !json {
        line(run, &format!("[==========] Running {}", count(tests.len(), "test")));
    }
    for (id, name) in tests {
        if !json {
            line(run, &format!("[ RUN      ] {name}"));
        }
        run.performer.output.keep();
        let ran = run.session.test_run(*id, &TestRun { data: &PACKET, ..TestRun::default() });
        let drained = run.drain(reader, notice);
        let printed = String::from_utf8_lossy(&run.performer.output.take_kept()).into_owned();
        let ran = ran?;
        drained?;
        let exit = ended(run, reader)?;
        let passed = ran.retval == 0 && exit == 0;
        if !passed {
            failed.push(*name);
        }
        let nanoseconds = ran.duration.as_nanos();
        if json {
            let mut text = b"{\"type\": \"test_result\", \"data\": {".to_vec();
            json_string(name, &mut text);
            text.extend_from_slice(
                format!(": {{\"duration\": {nanoseconds}, \"passed\": {passed}, \"output\": ").as_bytes(),
            );
            json_string(&printed, &mut text);
            text.extend_from_slice(b"}}}\n");
            run.performer.output.text.extend_from_slice(&text);
        } else {
            let ends = printed.is_empty() || printed.ends_with('\n');
            let word = if passed { "[       OK ]" } else { "[  FAILED  ]" };
            line(run, &format!("{printed}{}{word} {name} ({nanoseconds} ns)", if ends { "" } else { "\n" }));
        }
        run.performer.output.after_record();
    }
    if !json {
        let mut text = format!("[==========] {} ran\n", count(tests.len(), "test"));
        let _ = write!(text, "[  PASSED  ] {}", count(tests.len() - failed.len(), "test"));
        if !failed.is_empty() {
            let _ = write!(text, "\n[  FAILED  ] {}: {}", count(failed.len(), "test"), failed.join(", "));
        }
        line(run, &text);
    }
    run.performer.output.idle();
    Ok(failed.len())
}

fn benches(
    run: &mut Run<'_, '_>,
    reader: &mut Reader,
    benches: &[(ProgId, &str)],
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<(), Error> {
    let json = run.performer.output.format == Format::Json;
    let width = benches.iter().map(|(_, name)| name.len()).max().unwrap_or(0).max("BENCHMARK".len());
    if !json {
        line(run, &format!("{:<width$}  {:>12}  {:>12}", "BENCHMARK", "AVERAGE", "ITERATIONS"));
    }
    for (id, name) in benches {
        let mut repeat = *REPEAT.start();
        let average = loop {
            let ran = run.session.test_run(*id, &TestRun { data: &PACKET, repeat, ..TestRun::default() })?;
            run.drain(reader, notice)?;
            let ended = run.exit.is_some();
            self::ended(run, reader)?;
            // A mean of less than a nanosecond is given as none.
            let took = ran.duration.max(Duration::from_nanos(1)).saturating_mul(repeat);
            if took >= ENOUGH || repeat == *REPEAT.end() || ended {
                break ran.duration.as_nanos();
            }
            // A tenth more than seems to be needed, but never far beyond what was measured.
            let more = (ENOUGH.as_nanos() * 11 / 10 / took.as_nanos().max(1)).clamp(2, 100) as u32;
            repeat = repeat.saturating_mul(more).min(*REPEAT.end());
        };
        if json {
            let mut text = b"{\"type\": \"benchmark_result\", \"data\": {".to_vec();
            json_string(name, &mut text);
            text.extend_from_slice(format!(": {{\"average\": {average}, \"iters\": {repeat}}}}}}}\n").as_bytes());
            run.performer.output.text.extend_from_slice(&text);
        } else {
            line(run, &format!("{name:<width$}  {:>12}  {repeat:>12}", format!("{average} ns")));
        }
        run.performer.output.idle();
    }
    Ok(())
}

/// The code that the script ended itself with. The next test goes on: what stands in the buffer behind an `exit` is left out.
fn ended(run: &mut Run<'_, '_>, reader: &mut Reader) -> Result<i32, Error> {
    let Some(code) = run.exit.take() else { return Ok(0) };
    while reader.take(&mut Batch::default())? {}
    Ok(code)
}

fn line(run: &mut Run<'_, '_>, text: &str) {
    run.performer.output.text.extend_from_slice(text.as_bytes());
    run.performer.output.text.push(b'\n');
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
