//! One run from start to end: what the file is, compile, open, edit, load, attach, print records, count losses, stop.
//!
//! The loop knows no front end and no engine: it takes a [`Spec`] and the [`Engine`] trait. What makes a run need no
//! configuration is decided here, one file for each question:
//!
//! - [`input`]: what is this file?
//! - [`leave_out`]: whose events does it see? (not skep's own)
//! - [`losses`]: what does a full buffer refuse?
//! - [`plan`]: which programs are attached?
//! - [`events`]: what do the records look like?
//! - [`printk`]: which printed lines are ours?
//! - [`maps`]: what do the maps hold in the end?
//!
//! # How a run ends
//!
//! By a signal, a deadline, a number of events, its command's end, or because nobody reads its output. What was in the
//! buffers at that moment is read and printed, then everything is detached, what came meanwhile is read too, and losses are
//! summed up. If the process is killed instead, the kernel closes its descriptors, and with them every attachment: nothing
//! is pinned.

pub mod doctor;
pub mod events;
pub mod input;
pub mod leave_out;
pub mod losses;
pub mod maps;
pub mod options;
pub mod plan;
pub mod printk;
pub mod trial;

mod prepare;
mod pump;
mod writer;

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use prepare::{Prepared, prepare};
pub use skep_engine::{Error, ErrorKind};

use skep_engine::{Engine, Link, MapId, ProgId, Session};
use skep_spec::Spec;
use skep_spec::map::MapContents;
use skep_sys::child::HeldChild;
use skep_sys::signal::SignalPipe;
use skep_sys::undo::Guard;
use skep_view::Clock;

use crate::maps::MapsAtEnd;
use crate::options::{Options, split_command};
use crate::plan::{Job, Plan};
use crate::pump::{Counts, Pump, Stop, Until};
use crate::writer::Writer;

/// What a run tells beside its records, for standard error.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// The source was compiled.
    Compiled {
        /// How long that took; `None` when the object was in the cache.
        took: Option<Duration>,
    },
    /// What the compiler said about a source that compiled.
    CompilerText {
        /// Its own text.
        text: &'a str,
    },
    /// Something is odd, but the run goes on.
    Warning {
        /// What.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A program is attached.
    Attached {
        /// Its name.
        program: &'a str,
        /// Where, for people.
        place: String,
    },
    /// A program is not attached, and need not be.
    Idle {
        /// Its name.
        program: &'a str,
        /// Why.
        reason: String,
    },
    /// Everything is attached; records may come.
    Ready,
    /// More records were lost since the last time.
    Losing {
        /// How many in all.
        lost: u64,
    },
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Whether the programs had a way to tell anything: a buffer, or `bpf_printk`.
    pub tells: bool,
    /// Records printed.
    pub events: u64,
    /// Records lost in buffers.
    pub lost: u64,
    /// Losses by the function that could not put its record into a ring buffer.
    pub lost_by_function: Vec<(String, u64)>,
    /// From attached to stopped.
    pub took: Duration,
    /// How the command ended.
    pub command: Option<ExitStatus>,
}

/// Runs a prepared object until something ends it. Records go to `out`, everything else to `notice`.
///
/// # Errors
///
/// When a program does not load and no other does its job, when nothing can be attached, or when the output cannot be
/// written. Everything that was attached is detached then.
pub fn run(
    prepared: Prepared,
    options: &Options,
    engine: &dyn Engine,
    out: &mut dyn Write,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<Summary, Error> {
    let Prepared { mut spec, hints } = prepared;
    plan::act_at_once(&mut spec);
    let Plan { jobs, iterators, idle } = plan::plan(&spec);
    if let Some(pid) = options.attach.pid {
        leave_out::check_process(pid)?;
    }
    for idle in &idle {
        notice(Notice::Idle { program: &spec.program(idle.program).name, reason: idle.reason.into() });
    }
    let ops: Vec<MapId> = spec
        .maps()
        .filter(|(_, map)| map.autocreate && matches!(map.contents, MapContents::StructOps(_)))
        .map(|(id, _)| id)
        .collect();
    if jobs.is_empty() && iterators.is_empty() && ops.is_empty() {
        return Err(nothing_to_attach(&spec, &options.file));
    }
    if let Some(names) = plan::rival_xdp(&spec, &jobs) {
        return Err(Error::new(format!(
            "an interface takes one xdp program, and this object has {}",
            names.join(", ")
        ))
        .with_hint(format!("choose with `--prog {}`", names[0])));
    }
    let formats = printk::formats(&spec);
    let shapes = events::shapes(&spec, &hints);
    let silent = shapes.is_empty() && formats.is_none();
    let whose = match options.attach.pid {
        Some(pid) => leave_out::Whose::Only(leave_out::Process::in_our_namespace(pid)),
        None => leave_out::Whose::Except(leave_out::Process::in_our_namespace(std::process::id())),
    };
    for program in leave_out::apply(&mut spec, whose) {
        notice(Notice::Warning {
            message: format!("program `{program}` is too long to tell processes apart: it sees all of them"),
            hint: None,
        });
    }
    let counters = losses::count(&mut spec);
    let buffers: Vec<MapId> = shapes.keys().copied().collect();

    let session = engine.load(spec, &options.load)?;
    refuse_failed(&*session, &jobs, notice)?;

    // Readers stand before the first program is attached: nothing is missed, and a full buffer is counted.
    let source = session.records(&buffers, formats.is_some())?;
    let signals =
        SignalPipe::new(SignalPipe::ENDING).map_err(|cause| Error::new("cannot catch signals").with_source(cause))?;
    let held = options.command.as_deref().map(hold).transpose()?;
    let mut attach_options = options.attach.clone();
    if let Some(held) = &held {
        attach_options.pid.get_or_insert(held.pid());
    }
    for id in iterators {
        iterate(&*session, id, &attach_options, out)?;
    }
    if jobs.is_empty() && ops.is_empty() {
        return Ok(Summary::default());
    }
    let mut links = attach(&*session, &jobs, &attach_options, notice)?;
    for map in ops {
        let link = session.attach_map(map)?;
        notice(Notice::Attached { program: &session.spec().map(map).name, place: link.describe() });
        links.push(link);
    }

    let mut writer = Writer::new(out, options.format, shapes, formats.is_some(), clock());
    writer.start();
    notice(Notice::Ready);
    let start = Instant::now();
    let child = held
        .map(HeldChild::release)
        .transpose()
        .map_err(|cause| cannot_start(options.command.as_deref().unwrap_or_default(), &cause))?;
    let mut until = Until {
        deadline: options.duration.map(|duration| start + duration),
        max_events: options.max_events,
        child,
        signals: Some(signals),
    };
    let mut pump = Pump { source, writer: &mut writer, formats, counts: Counts::default() };
    let refused = || -> Vec<(String, u64)> {
        let Some(counters) = &counters else { return vec![] };
        let value = session.map(counters.map).and_then(|map| map.lookup(&0u32.to_ne_bytes()).ok().flatten());
        let counts = counters.read(session.spec(), value.as_deref().unwrap_or_default());
        counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    };
    let mut told = 0;
    let stopped = pump.run(&mut until, |counts| {
        let lost = counts.lost + refused().iter().map(|(_, count)| count).sum::<u64>();
        if lost > told {
            told = lost;
            notice(Notice::Losing { lost });
        }
    });
    let took = start.elapsed();
    let drained = match stopped {
        Ok(Stop::ClosedPipe) => Ok(()),
        _ => pump.read(options.max_events).map(drop),
    };
    let show_maps = match options.maps {
        MapsAtEnd::Auto => silent,
        MapsAtEnd::Never => false,
        MapsAtEnd::Always => true,
    };
    if show_maps && !matches!(stopped, Ok(Stop::ClosedPipe)) {
        pump.writer.maps(&*session);
    }
    detach(links);
    let drained = drained.and_then(|()| match stopped {
        Ok(Stop::ClosedPipe) => Ok(()),
        _ => pump.drain(options.max_events),
    });
    stopped?;
    drained?;
    let lost_by_function = refused();
    let lost = pump.counts.lost + lost_by_function.iter().map(|(_, count)| count).sum::<u64>();
    let command = match until.child {
        Some(mut child) => {
            // A command outlives its trace unless the trace ended because of it.
            child.try_wait().ok().flatten()
        }
        None => None,
    };
    Ok(Summary { tells: !silent, events: pump.counts.events, lost, lost_by_function, took, command })
}

/// Fails when a program did not load and nothing else does its job.
fn refuse_failed(session: &dyn Session, jobs: &[Job], notice: &mut dyn FnMut(Notice<'_>)) -> Result<(), Error> {
    let loaded = |id| session.programs().iter().any(|program| program.program == id && program.result.is_ok());
    let any = jobs.iter().any(|job| job.alternatives.iter().any(|id| loaded(*id)));
    for program in session.programs() {
        let Err(error) = &program.result else { continue };
        let job = jobs.iter().find(|job| job.alternatives.contains(&program.program));
        let covered = job.is_some_and(|job| job.alternatives.iter().any(|id| loaded(*id)));
        let absent = matches!(error.kind(), ErrorKind::Absent | ErrorKind::Unsupported);
        if covered || (absent && any) {
            let name = &session.spec().program(program.program).name;
            notice(Notice::Idle { program: name, reason: error.to_string() });
        } else {
            return Err(error.clone());
        }
    }
    Ok(())
}

/// Attaches the first alternative of every job that can be.
fn attach(
    session: &dyn Session,
    jobs: &[Job],
    options: &skep_engine::AttachOptions,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<Vec<Box<dyn Link>>, Error> {
    let mut links: Vec<Box<dyn Link>> = Vec::new();
    let mut absent: Vec<(&str, Error)> = Vec::new();
    for job in jobs {
        let mut refused = None;
        for id in &job.alternatives {
            if !session.programs().iter().any(|program| program.program == *id && program.result.is_ok()) {
                continue;
            }
            let name = &session.spec().program(*id).name;
            match session.attach(*id, options) {
                Ok(link) => {
                    notice(Notice::Attached { program: name, place: link.describe() });
                    for note in link.notes() {
                        notice(Notice::Warning { message: format!("`{name}`: {note}"), hint: None });
                    }
                    links.push(link);
                    refused = None;
                    break;
                }
                Err(error) => refused = Some((name.as_str(), error)),
            }
        }
        match refused {
            Some((name, error)) if matches!(error.kind(), ErrorKind::Absent | ErrorKind::Unsupported) => {
                absent.push((name, error));
            }
            Some((_, error)) => return Err(error),
            None => {}
        }
    }
    if links.is_empty()
        && let Some((_, error)) = absent.pop()
    {
        return Err(error);
    }
    for (name, error) in absent {
        notice(Notice::Idle { program: name, reason: error.to_string() });
    }
    Ok(links)
}

/// Detaches everything without waiting for the kernel where that would take long: a helper holds those descriptors too, and so
/// it is the one who closes them last. It ends with that, or when this process is killed before.
fn detach(links: Vec<Box<dyn Link>>) {
    let (slow, others): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| !link.slow_to_close().is_empty());
    drop(others);
    let descriptors: Vec<_> = slow.iter().flat_map(|link| link.slow_to_close()).collect();
    // Without a helper we wait ourselves.
    let helper = if descriptors.is_empty() { None } else { Guard::keep(&descriptors).ok() };
    drop(descriptors);
    drop(slow);
    if let Some(helper) = helper {
        helper.dismiss();
    }
}

/// Runs an iterator and prints its text.
fn iterate(
    session: &dyn Session,
    id: ProgId,
    options: &skep_engine::AttachOptions,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut text = session.iterate(id, options)?;
    match std::io::copy(&mut text, out).and_then(|_| out.flush()) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            let name = &session.spec().program(id).name;
            Err(Error::new(format!("iterator `{name}`: {}", input::io_text(&cause))))
        }
        _ => Ok(()),
    }
}

fn nothing_to_attach(spec: &Spec, file: &Path) -> Error {
    let error = Error::new(format!("`{}` has no program to attach", file.display()));
    match spec.programs.iter().find(|program| !program.autoload) {
        Some(program) => error.with_hint(format!(
            "`{}` is switched off by the `?` in its section; take that away to load it",
            program.name
        )),
        None if spec.programs.is_empty() => error.with_hint("a program is a function with `SEC(\"...\")` before it"),
        None => error,
    }
}

fn hold(command: &str) -> Result<HeldChild, Error> {
    let words = split_command(command).map_err(Error::new)?;
    let mut child = Command::new(&words[0]);
    child.args(&words[1..]);
    HeldChild::spawn(child).map_err(|cause| cannot_start(command, &cause))
}

/// Names the command's program.
fn cannot_start(command: &str, cause: &std::io::Error) -> Error {
    let words = split_command(command).unwrap_or_default();
    let program = words.first().map_or(command, String::as_str);
    Error::new(format!("cannot start `{program}`: {}", input::io_text(cause)))
}

/// The local zone, and the distance between the kernel's clock and the wall's.
fn clock() -> Clock {
    let wall_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let boot_ns = boot.tv_sec * 1_000_000_000 + boot.tv_nsec;
    Clock::new(jiff::Zoned::now().offset().seconds(), wall_ns - boot_ns)
}
