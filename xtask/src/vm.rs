//! `cargo xtask vm [--kernel 6.1|6.12|all] [FILTER]`: the kernel tests on Debian's kernels.
//!
//! One boot per kernel runs everything, all kernels at the same time. qemu emulates the processor (`-accel tcg`), so no virtualisation is needed. The
//! machine has two serial ports: the kernel's messages go to a file, the verdicts of `xtask/src/bin/guest.rs` to us. A
//! kernel that panics ends qemu; one that says nothing for [`SILENCE`] is stopped; both count as a failure of the test
//! that was running, shown with the kernel's last lines.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::image::{self, Binaries, Extra};
use crate::kernels::{self, Kernel};
use crate::verdicts::{Tally, Verdict, kernel_version};
use crate::{setup, sh};

static BUILDING: Mutex<()> = Mutex::new(());

/// Longer than the guest gives one test, and than a boot takes.
const SILENCE: Duration = Duration::from_secs(200);

/// Runs the tests, all or those whose name holds the filter.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut wanted = "all".to_owned();
    let mut filter = String::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--kernel" => wanted.clone_from(args.next().context("--kernel wants 6.1, 6.12 or all")?),
            _ if arg.starts_with('-') => {
                bail!("unknown option `{arg}`: usage is `cargo xtask vm [--kernel 6.1|6.12|all] [FILTER]`")
            }
            _ => filter.clone_from(arg),
        }
    }
    setup::run(&[])?;
    let mut tally = Tally::default();
    all(&wanted, &filter, &mut tally)?;
    if !tally.close(false) {
        bail!("not everything passed");
    }
    Ok(())
}

/// Boots each wanted kernel line and collects the verdicts.
pub(crate) fn all(wanted: &str, filter: &str, tally: &mut Tally) -> Result<()> {
    let lines: Vec<_> = kernels::LINES.iter().filter(|line| wanted == "all" || wanted == line.name).collect();
    if lines.is_empty() {
        let known: Vec<&str> = kernels::LINES.iter().map(|line| line.name).collect();
        bail!("no kernel line is called `{wanted}`: there are {}", known.join(", "));
    }
    let binaries = image::compile()?;
    let kernels = lines.into_iter().map(kernels::get).collect::<Result<Vec<Kernel>>>()?;
    // qemu keeps one processor busy for each of them.
    let booted: Vec<(Tally, Result<_>)> = std::thread::scope(|scope| {
        let machines: Vec<_> = kernels
            .iter()
            .map(|kernel| {
                let binaries = &binaries;
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    let outcome = boot(kernel, binaries, filter, &Extra::default(), &mut tally);
                    (tally, outcome)
                })
            })
            .collect();
        let panicked = |_| (Tally::default(), Err(anyhow!("the thread of a machine panicked")));
        machines.into_iter().map(|machine| machine.join().unwrap_or_else(panicked)).collect()
    });
    for (of_machine, _) in &booted {
        tally.extend(of_machine);
    }
    booted.into_iter().try_for_each(|(_, outcome)| outcome.map(drop))
}

/// Boots one kernel with the tests, and gives back the output of the programs that `extra` asked for.
pub(crate) fn boot(
    kernel: &Kernel,
    binaries: &Binaries,
    filter: &str,
    extra: &Extra,
    tally: &mut Tally,
) -> Result<Vec<(String, String)>> {
    let start = Instant::now();
    let initramfs = {
        // One after the other: they are made of the same files.
        let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        image::build(kernel, binaries, filter, extra)?
    };
    let console = initramfs.with_extension("console.txt");
    let _ = std::fs::remove_file(&console);
    let mut qemu = qemu(kernel, &initramfs, &console)?;
    let stdout = qemu.stdout.take().context("qemu's output is piped")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut reader = Reader::new(kernel.name, tally);
    let broken = loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) if line == "end" => break None,
            Ok(line) => reader.line(&line),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                break Some(format!("the machine said nothing for {} seconds", SILENCE.as_secs()));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break Some("the machine went down".to_owned()),
        }
    };
    stop(&mut qemu, broken.is_none());
    let output = std::mem::take(&mut reader.programs);
    if let Some(reason) = broken {
        reader.broken(&format!("{reason}; the kernel's last lines, from {}:\n{}", console.display(), tail(&console)));
    }
    let (passed, failed, skipped) = (reader.passed, reader.failed, reader.skipped);
    println!(
        "kernel {}: {passed} passed, {failed} failed, {skipped} skipped in {:.0} s",
        kernel.name,
        start.elapsed().as_secs_f64()
    );
    Ok(output)
}

fn qemu(kernel: &Kernel, initramfs: &Path, console: &Path) -> Result<Child> {
    let program = sh::find("qemu-system-x86_64").context("qemu is missing: run `cargo xtask setup`")?;
    Command::new(program)
        // Both processors on one thread: with a thread each, qemu 7.2 can run code that the other one is just patching
        // (tracepoints are switched by `int3`), and the kernel falls over now and then.
        .args(["-accel", "tcg,thread=single", "-M", "q35", "-nodefaults", "-no-reboot", "-net", "none"])
        .args(["-display", "none", "-smp", "2", "-m", "2048"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off random.trust_cpu=on"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-serial", "stdio"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run qemu")
}

/// Waits for a machine that powers itself off, or ends it.
fn stop(qemu: &mut Child, powering_off: bool) {
    let end = Instant::now() + Duration::from_secs(if powering_off { 10 } else { 0 });
    while Instant::now() < end {
        if matches!(qemu.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // It may have ended in between; then there is nothing to kill.
    let _ = qemu.kill();
    let _ = qemu.wait();
}

/// The kernel's last words: from its first complaint on, if there is one.
fn tail(console: &Path) -> String {
    let text = std::fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    let complains =
        |line: &&str| ["BUG: ", "Oops: ", "Kernel panic", "sysrq: Trigger"].iter().any(|it| line.contains(it));
    let from = lines.iter().position(complains).unwrap_or(lines.len().saturating_sub(30));
    let shown = &lines[from..];
    shown[..shown.len().min(80)].join("\n")
}

/// Reads what the guest says.
struct Reader<'a> {
    machine: String,
    tally: &'a mut Tally,
    /// Suite and name of the test that runs.
    running: Option<(String, String)>,
    output: Vec<String>,
    /// The lines of programs, by the name that the plan gave them.
    programs: Vec<(String, String)>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl<'a> Reader<'a> {
    fn new(machine: &str, tally: &'a mut Tally) -> Reader<'a> {
        Reader {
            machine: format!("kernel {machine}"),
            tally,
            running: None,
            output: Vec::new(),
            programs: Vec::new(),
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    fn line(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "kernel" => {
                println!("{}: {rest} is up", self.machine);
                self.tally.kernels.extend(kernel_version(rest));
            }
            "note" => println!("{}: {rest}", self.machine),
            "test" => {
                let (suite, name) = rest.split_once(' ').unwrap_or((rest, ""));
                self.running = Some((suite.to_owned(), name.to_owned()));
                self.output.clear();
            }
            "out" => self.output.push(rest.to_owned()),
            "passed" => self.verdict(Verdict::Passed),
            "skipped" => self.verdict(Verdict::Skipped(rest.to_owned())),
            "failed" => self.verdict(Verdict::Failed(rest.to_owned())),
            _ => println!("{}: {line}", self.machine),
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        let Some((suite, name)) = self.running.take() else { return };
        if suite == "program" && !matches!(verdict, Verdict::Skipped(_)) {
            self.programs.extend(self.output.drain(..).map(|line| (name.clone(), line)));
            return;
        }
        match &verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Skipped(_) => self.skipped += 1,
            Verdict::Failed(reason) => {
                self.failed += 1;
                // In one piece: other machines print as well.
                let lines: String = self.output.iter().map(|line| format!("    {line}\n")).collect();
                print!("\n{}: {suite} {name} failed: {reason}\n{lines}", self.machine);
            }
        }
        self.tally.add(&self.machine, &suite, &name, verdict);
    }

    /// The machine stopped before its plan ended.
    fn broken(&mut self, reason: &str) {
        let (suite, name) = self.running.take().unwrap_or_else(|| ("machine".to_owned(), "boot".to_owned()));
        println!("\n{}: {suite} {name} failed: {reason}", self.machine);
        self.failed += 1;
        self.tally.add(&self.machine, &suite, &name, Verdict::Failed(reason.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn the_guests_lines_become_verdicts() {
        let mut tally = Tally::default();
        let mut reader = Reader::new("6.1", &mut tally);
        for line in [
            "kernel 6.1.0-56-amd64",
            "test skep_sys a::b",
            "passed",
            "test skep_sys c",
            "skipped kernel 6.6",
            "test skep_sys d",
            "out boom",
            "failed exit status: 101",
            "test program who",
            "out line",
            "passed",
            "test skep_sys e",
        ] {
            reader.line(line);
        }
        assert_eq!(reader.programs, [("who".to_owned(), "line".to_owned())]);
        reader.broken("panic");
        assert_eq!(tally.kernels, [(6, 1)]);
        let verdicts: Vec<_> = tally.cases.iter().map(|case| (case.name.as_str(), &case.verdict)).collect();
        assert_eq!(
            verdicts,
            [
                ("a::b", &Verdict::Passed),
                ("c", &Verdict::Skipped("kernel 6.6".into())),
                ("d", &Verdict::Failed("exit status: 101".into())),
                ("e", &Verdict::Failed("panic".into())),
            ]
        );
    }

    #[test]
    fn a_kernel_that_panics_fails_the_test_that_runs_and_shows_its_last_words() {
        let kernel = kernels::get(&kernels::LINES[0]).unwrap();
        let letter = paths::build_cache().join("letter");
        std::fs::create_dir_all(paths::build_cache()).unwrap();
        std::fs::write(&letter, "c").unwrap();
        let extra = Extra {
            tests: false,
            plan: "program harmless /bin/echo alive\nprogram fatal /bin/cp /etc/letter /proc/sysrq-trigger\n"
                .to_owned(),
            files: vec![("/etc/letter".to_owned(), letter)],
            ..Extra::default()
        };
        let mut tally = Tally::default();
        let output = boot(&kernel, &image::bare().unwrap(), "", &extra, &mut tally).unwrap();
        assert_eq!(output, [("harmless".to_owned(), "alive".to_owned())]);
        let [case] = &tally.cases[..] else { panic!("{:?}", tally.cases) };
        assert_eq!(case.name, "fatal");
        let Verdict::Failed(reason) = &case.verdict else { panic!("{case:?}") };
        assert!(reason.contains("went down") && reason.contains("sysrq"), "{reason}");
    }
}
