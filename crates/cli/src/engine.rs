//! Which engine runs, and why.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use skep_engine::{Engine, Error, ErrorKind};
use skep_kernel::{KernelEngine, LiveTarget, features};
use skep_spec::{ProgType, Spec};
use skep_sys::Errno;
use skep_sys::caps::{Cap, Caps};
use skep_sys::front::Worker;
use skep_userspace::pcap::{Reader, Writer};
use skep_userspace::process::Unwatched;
use skep_userspace::{Replay, UserEngine, Verdicts, Wire};

use crate::args::EngineChoice;
use crate::report;

/// Where events come from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// A file of packets.
    pub(crate) packets: Option<PathBuf>,
    /// Where those that pass go.
    pub(crate) packets_out: Option<PathBuf>,
    /// A network for the command.
    pub(crate) network: bool,
    /// What runs at its other end.
    pub(crate) far: Option<String>,
    /// A command, or a process that runs.
    pub(crate) processes: bool,
}

/// An engine, and why it is this one.
pub(crate) struct Chosen {
    pub(crate) engine: Either,
    pub(crate) why: String,
}

/// One of both.
pub(crate) enum Either {
    Kernel(KernelEngine),
    User(Box<UserEngine>),
}

impl Either {
    pub(crate) fn as_dyn(&self) -> &dyn Engine {
        match self {
            Either::Kernel(engine) => engine,
            Either::User(engine) => &**engine,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.as_dyn().name()
    }

    /// Splits this process in two where the engine traces processes: who traces must not be who is waited for and killed, since tasks may
    /// need it to the end of their lives.
    pub(crate) fn split(&self, sources: &Sources) -> Option<Worker> {
        let traces = matches!(self, Either::User(_)) && sources.processes;
        // Where it cannot be split, it works all the same until it is killed.
        if traces { Worker::split().ok() } else { None }
    }

    /// Ends with a status: at once for who waits, and in truth when no task needs us any more.
    pub(crate) fn finish(&self, worker: Option<Worker>, status: u8) -> ExitCode {
        let Either::User(engine) = self else { return ExitCode::from(status) };
        for tracer in engine.tracers() {
            // A command's end is told by those who run it.
            if let Some(status) = tracer.end_of_joined().filter(|status| status.signal().is_some()) {
                report::line(&format!("process {} ended with {status}", tracer.pid()));
            }
        }
        let foreign: u64 = engine.tracers().iter().map(|tracer| tracer.tally().foreign).sum();
        if foreign > 0 {
            report::warning(
                &format!("{foreign} programs of another architecture were executed: their system calls were not seen"),
                None,
            );
        }
        for Unwatched { probe, why, count } in engine.tracers().iter().flat_map(|tracer| tracer.unwatched()) {
            let probe = if probe.is_empty() { "a return".to_owned() } else { format!("`{probe}`") };
            let times = if count == 1 { String::new() } else { format!(" {count} times") };
            report::warning(
                &format!("{probe} was not watched{times}: {why}"),
                Some("as root, `--engine kernel` has fewer limits"),
            );
        }
        let needed: Vec<_> = engine.tracers().into_iter().filter(|tracer| tracer.is_needed()).collect();
        if let (Some(worker), false) = (worker, needed.is_empty()) {
            worker.finish(status);
            for tracer in needed {
                tracer.stay();
            }
        }
        ExitCode::from(status)
    }

    /// As [`Either::finish`], with an error: tasks need their tracer all the same.
    pub(crate) fn fail(&self, worker: Option<Worker>, error: Error) -> Result<ExitCode, Error> {
        if worker.is_none() {
            return Err(error);
        }
        report::error(&error);
        Ok(self.finish(worker, 1))
    }

    /// What became of the packets of a file.
    pub(crate) fn sum_up(&self) {
        let Either::User(engine) = self else { return };
        let Some(report) = engine.report() else { return };
        for Verdicts { program, place, counts } in &report.programs {
            let mut text: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
            if text.is_empty() {
                text.push("no packets".to_owned());
            }
            report::line(&format!("`{program}` ({place}): {}", text.join(", ")));
        }
        // Where there is no other packet, that is an error.
        for (link, count) in report.left_out.iter().filter(|_| report.packets > 0) {
            let packets = if *count == 1 { "packet" } else { "packets" };
            report::warning(
                &format!("{count} {packets} of link layer {link} left out"),
                Some("Ethernet (1), raw IP (101) and Linux' own (113, 276) are understood"),
            );
        }
        let plural = if report.packets == 1 { "" } else { "s" };
        let written = report.written.map_or(String::new(), |count| format!(", {count} written"));
        report::line(&format!(
            "{} packet{plural}, {} bytes{written}, {:.0} packets per second",
            report.packets,
            report.bytes,
            report.packets_per_second()
        ));
    }
}

/// Chooses an engine for an object.
pub(crate) fn choose(
    choice: Option<EngineChoice>,
    spec: &Spec,
    sources: &Sources,
    target: LiveTarget,
) -> Result<Chosen, Error> {
    if let Some(input) = &sources.packets {
        if choice == Some(EngineChoice::Kernel) {
            return Err(Error::new("the kernel takes packets from interfaces, not from files")
                .with_kind(ErrorKind::Unsupported)
                .with_hint("leave `--engine kernel` away, or `--iface IF` instead of `--pcap`"));
        }
        let engine = UserEngine::new(target).with_packets(replay(input, sources.packets_out.as_deref())?);
        return Ok(Chosen { engine: Either::User(Box::new(engine)), why: "since packets come from a file".to_owned() });
    }
    if sources.network {
        if choice == Some(EngineChoice::Kernel) {
            return Err(Error::new("the network of `--tap` is one of user space")
                .with_kind(ErrorKind::Unsupported)
                .with_hint("leave `--engine kernel` away, or `--iface IF` instead of `--tap`"));
        }
        let mut wire = Wire::new()?;
        if let Some(far) = &sources.far {
            wire = wire.with_far(skep_run::command(far)?);
        }
        let engine = UserEngine::new(target).with_processes().with_wire(wire);
        let why = format!("since the command has a network of its own ({}; {} answers)", Wire::NEAR, Wire::FAR);
        return Ok(Chosen { engine: Either::User(Box::new(engine)), why });
    }
    let denied = || denied(spec);
    let (kernel, why) = match choice {
        Some(EngineChoice::Kernel) => (true, "as asked".to_owned()),
        Some(EngineChoice::User) => (false, "as asked".to_owned()),
        Some(EngineChoice::Auto) | None => match denied() {
            Some(why) => (false, why),
            None => (true, "which gives the right to load these programs".to_owned()),
        },
    };
    let engine = match kernel {
        true => Either::Kernel(KernelEngine::with_target(target)),
        false if sources.processes => Either::User(Box::new(UserEngine::new(target).with_processes())),
        false => Either::User(Box::new(UserEngine::new(target))),
    };
    Ok(Chosen { engine, why })
}

/// Why the kernel gives no right to load the object's programs; `None` when it does, or refuses for another reason.
fn denied(spec: &Spec) -> Option<String> {
    // A kernel that is locked down refuses some types to everybody; what it says to that is for the person to read.
    if may_all() {
        return None;
    }
    let mut types: Vec<_> =
        spec.programs.iter().filter(|program| program.autoload).map(|program| program.prog_type).collect();
    types.sort_unstable();
    types.dedup();
    types.into_iter().find_map(|of| match features::prog_type(of) {
        Err(errno @ (Errno::EPERM | Errno::EACCES | Errno::ENOSYS)) => {
            Some(format!("since the kernel gives no right to load programs of type {of} ({})", words(errno)))
        }
        _ => None,
    })
}

/// Whether this process may load programs as such: it has every right, and nothing keeps it from bpf(2), as the filter of a container does.
fn may_all() -> bool {
    Caps::effective().has(Cap::SYS_ADMIN) && features::prog_type(ProgType::SCHED_CLS).is_ok()
}

fn words(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOSYS => "it has no bpf() call",
        _ => "`skep doctor` tells what is missing",
    }
}

/// Opens the files of packets.
fn replay(input: &Path, output: Option<&Path>) -> Result<Replay, Error> {
    let shown = input.display().to_string();
    let file: Box<dyn Read + Send> = if input == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let open = File::open(input);
        Box::new(open.map_err(|cause| Error::new(format!("cannot open `{shown}`: {}", skep_sys::io_text(&cause))))?)
    };
    let reader = Reader::new(file).map_err(|error| error.about(format_args!("`{shown}`")))?.named(&shown);
    let writer = match output {
        None => None,
        Some(path) => {
            if same_file(input, path) {
                return Err(Error::new(format!("`{shown}` cannot be read and written at once")));
            }
            let failed = |cause: &std::io::Error| {
                Error::new(format!("cannot write `{}`: {}", path.display(), skep_sys::io_text(cause)))
            };
            let file: Box<dyn std::io::Write + Send> = Box::new(File::create(path).map_err(|cause| failed(&cause))?);
            Some(Writer::new(file).map_err(|cause| failed(&cause))?)
        }
    };
    Ok(Replay::new(reader, writer))
}

fn same_file(one: &Path, two: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(one), Ok(two)) = (one.metadata(), two.metadata()) else { return false };
    (one.dev(), one.ino()) == (two.dev(), two.ino()) && one.is_file()
}
