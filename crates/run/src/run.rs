//! The run itself, step by step.

use std::io::Write;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use skep_engine::{AttachOptions, Engine, Link, MapId, Session};
use skep_spec::Spec;
use skep_sys::signal::SignalPipe;
use skep_view::Clock;

use crate::attach::{attach, detach, iterate, refuse_failed};
use crate::command::{cannot_start, hold};
use crate::losses::Counters;
use crate::options::{MapsAtEnd, Options};
use crate::plan::Plan;
use crate::process::Watched;
use crate::pump::{Counts, Pump, Stop, Until};
use crate::stacks::StackMaps;
use crate::streams::Streams;
use crate::writer::Writer;
use crate::{Error, Identity, Notice, Prepared, Summary, events, leave_out, losses, plan, printk, unused};

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
    let Prepared { mut spec, hints, loader } = prepared;
    if loader.is_none() {
        plan::act_at_once(&mut spec);
    }
    let plan = choose(&spec, options, notice)?;
    let watched = options.attach.pid.map(Watched::open).transpose()?;
    let formats = printk::formats(&spec);
    let shapes = events::shapes(&spec, &hints);
    let buffers: Vec<MapId> = shapes.keys().copied().collect();
    let counters = if loader.is_none() { instrument(&mut spec, options, notice) } else { None };

    let session = engine.load(spec, &options.load)?;
    refuse_failed(&*session, &plan.jobs, notice)?;
    for loaded in session.programs() {
        if let Some(identity) = Identity::of(&*session, loaded) {
            notice(Notice::Loaded { program: &session.spec().program(loaded.program).name, identity });
        }
    }

    // Readers stand before the first program is attached: nothing is missed, and a full buffer is counted.
    let source = session.records(&buffers, formats.is_some())?;
    let signals = SignalPipe::new(&SignalPipe::ending())
        .map_err(|cause| Error::new("cannot catch signals").with_source(cause))?;
    let held = options.command.as_deref().map(|command| hold(engine, command)).transpose()?;
    let mut attach_options = options.attach.clone();
    if let Some(held) = &held {
        attach_options.pid.get_or_insert(held.pid());
    }
    let mut streams = Streams::of(&*session);
    for id in &plan.iterators {
        iterate(&*session, *id, &attach_options, out)?;
    }
    if plan.jobs.is_empty() && plan.struct_ops.is_empty() {
        streams.finish(&*session, notice);
        return Ok(Summary::default());
    }
    let links = attach_all(&*session, &plan, &attach_options, notice)?;

    let stacks = StackMaps::of(&*session);
    let silent = shapes.is_empty() && formats.is_none();
    let mut writer = Writer::new(out, options.format, shapes, formats.is_some(), &stacks, clock());
    let start = Instant::now();
    // A command that cannot be executed after all, for want of its interpreter, ends the run before a table has begun.
    let child = held
        .map(|held| held.release())
        .transpose()
        .map_err(|cause| cannot_start(options.command.as_deref().unwrap_or_default(), &cause))?;
    writer.start();
    notice(Notice::Ready);
    if let Some(pid) = options.attach.pid {
        engine.watch(pid)?;
    }
    let mut until = Until {
        deadline: options.duration.map(|duration| start + duration),
        max_events: options.max_events,
        child,
        watched,
        signals: Some(signals),
    };
    let mut pump = Pump { source, writer: &mut writer, formats, counts: Counts::default() };
    let stopped = pump.run(&mut until, &*session, watch(&*session, counters.as_ref(), &stacks, &mut streams, notice));
    let took = start.elapsed();
    let finished = finish(&mut pump, stopped, links, options, silent, &*session);
    streams.finish(&*session, notice);
    finished?;

    let lost_by_function = refused(&*session, counters.as_ref());
    Ok(Summary {
        tells: !silent,
        events: pump.counts.events,
        lost: pump.counts.lost + total(&lost_by_function),
        lost_by_function,
        took,
        // A command outlives its trace unless the trace ended because of it.
        command: until.child.and_then(|mut child| child.try_wait().ok().flatten()),
        ended_process: until.watched.filter(Watched::ended).map(|watched| watched.pid()),
    })
}

/// What is to be attached, and what need not be.
fn choose(spec: &Spec, options: &Options, notice: &mut dyn FnMut(Notice<'_>)) -> Result<Plan, Error> {
    let plan = plan::plan(spec);
    for idle in &plan.idle {
        notice(Notice::Idle { program: &spec.program(idle.program).name, reason: idle.reason.into() });
    }
    if plan.jobs.is_empty() && plan.iterators.is_empty() && plan.struct_ops.is_empty() {
        return Err(nothing_to_attach(spec, &options.file));
    }
    if let Some(names) = plan::rival_xdp(spec, &plan.jobs) {
        return Err(Error::new(format!(
            "an interface takes one xdp program, and this object has {}",
            names.join(", ")
        ))
        .with_hint(format!("choose with `--prog {}`", names[0])));
    }
    for message in unused::messages(spec, &plan, options) {
        notice(Notice::Warning { message, hint: None });
    }
    Ok(plan)
}

/// Puts what a run needs into the programs: whose events they see, and what full buffers refuse.
fn instrument(spec: &mut Spec, options: &Options, notice: &mut dyn FnMut(Notice<'_>)) -> Option<Counters> {
    let whose = match options.attach.pid {
        Some(pid) => leave_out::Whose::Only(leave_out::Process::in_our_namespace(pid)),
        None => leave_out::Whose::Except(leave_out::Process::in_our_namespace(std::process::id())),
    };
    for program in leave_out::apply(spec, whose) {
        notice(Notice::Warning {
            message: format!("program `{program}` is too long to tell processes apart: it sees all of them"),
            hint: None,
        });
    }
    losses::count(spec)
}

/// Attaches the programs, then registers the struct_ops maps.
fn attach_all(
    session: &dyn Session,
    plan: &Plan,
    options: &AttachOptions,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<Vec<Box<dyn Link>>, Error> {
    let mut links = attach(session, &plan.jobs, options, notice)?;
    for map in &plan.struct_ops {
        let link = session.attach_map(*map)?;
        notice(Notice::Attached { program: &session.spec().map(*map).name, place: link.describe() });
        links.push(link);
    }
    Ok(links)
}

/// Reads what was committed before the end, shows the maps, detaches, and reads what came meanwhile.
fn finish(
    pump: &mut Pump<'_, '_>,
    stopped: Result<Stop, Error>,
    links: Vec<Box<dyn Link>>,
    options: &Options,
    silent: bool,
    session: &dyn Session,
) -> Result<(), Error> {
    let nobody_reads = matches!(stopped, Ok(Stop::ClosedPipe));
    let drained = if nobody_reads { Ok(()) } else { pump.read(options.max_events).map(drop) };
    let show_maps = match options.maps {
        MapsAtEnd::Auto => silent,
        MapsAtEnd::Never => false,
        MapsAtEnd::Always => true,
    };
    if show_maps && !nobody_reads {
        pump.writer.maps(session);
    }
    detach(links);
    let drained = drained.and_then(|()| if nobody_reads { Ok(()) } else { pump.drain(options.max_events) });
    stopped?;
    drained
}

/// Tells what came through streams and when more was lost than before; called with what buffers counted, about once a second.
fn watch<'s>(
    session: &'s dyn Session,
    counters: Option<&'s Counters>,
    stacks: &'s StackMaps<'s>,
    streams: &'s mut Streams,
    notice: &'s mut dyn FnMut(Notice<'_>),
) -> impl FnMut(&Counts) + 's {
    let mut told = 0;
    move |counts| {
        streams.read(session, notice);
        stacks.catch_up();
        let lost = counts.lost + total(&refused(session, counters));
        if lost > told {
            told = lost;
            notice(Notice::Losing { lost });
        }
    }
}

/// What full ring buffers refused so far, by function.
fn refused(session: &dyn Session, counters: Option<&Counters>) -> Vec<(String, u64)> {
    let Some(counters) = counters else { return vec![] };
    let value = session.map(counters.map).and_then(|map| map.lookup(&0u32.to_ne_bytes()).ok().flatten());
    let counts = counters.read(session.spec(), value.as_deref().unwrap_or_default());
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn total(by_function: &[(String, u64)]) -> u64 {
    by_function.iter().map(|(_, count)| count).sum()
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

/// The local zone, and the distance between the kernel's clock and the wall's.
fn clock() -> Clock {
    let wall_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let boot_ns = boot.tv_sec * 1_000_000_000 + boot.tv_nsec;
    Clock::new(jiff::Zoned::now().offset().seconds(), wall_ns - boot_ns)
}
