//! The steps of a run.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};
use skep_engine::{AttachOptions, Engine, ErrorKind, ProgId, RunningCommand, Session, TestRun};
use skep_script::plan::{Attach, Missing, Plan};
use skep_sys::signal::SignalPipe;

use super::attach::{self, programs};
use super::callers::Callers;
use super::losses::{Told, counters};
use super::names::MachineNames;
use super::output::Output;
use super::parameters::{self, Known};
use super::perform::{Flow, Performer, has_user_addresses};
use super::reader::{Batch, Message, Reader, SHORT_TICK, TICK};
use super::scope::Scope;
use super::{Notice, Options, Outcome, Script, container, signals, switch, trials};
use crate::command::{cannot_start, hold};
use crate::leave_out::Process;
use crate::process::{Watched, is_over, pidfd};
use crate::{Error, Identity};

/// How long what was committed before the end is still read: the flag has stopped every program, but one that is too long for
/// it goes on filling.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a tracer may take to hear how a command that is over has ended.
const BURIAL: Duration = Duration::from_secs(2);

/// The signal that prints every map, unless the script has a probe for it.
const PRINT: i32 = Signal::USR1.as_raw();

/// Runs a script until something ends it. Its output goes to `out`, everything else to `notice`.
///
/// # Errors
///
/// When its programs do not load or cannot be attached, when its command cannot be started, or when the output cannot be
/// written. Everything that was attached is detached then.
pub fn run(
    script: Script,
    options: &Options,
    engine: &dyn Engine,
    out: &mut dyn Write,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<Outcome, Error> {
    let Script { mut spec, plan, sources } = script;
    let cgroup = match (&options.cgroup, &options.container) {
        (Some(_), Some(_)) => return Err(Error::new("a cgroup and a container are two answers to one question")),
        (Some(path), None) => Some(container::cgroup_at(path)?),
        (None, Some(name)) => Some(container::cgroup_of(name)?),
        (None, None) => None,
    };
    if options.follow && options.pid.is_none() && options.command.is_none() {
        return Err(
            Error::new("there is nobody to follow").with_hint("name a process with `-p` or a command with `-c`")
        );
    }
    let watched = options.pid.map(Watched::open).transpose()?;
    let held = match (&options.command, options.dry_run) {
        (Some(command), false) => Some(hold(engine, command).map_err(|error| match options.bpftrace {
            true => Error::new(format!("Failed to fork child: {error}")),
            false => error,
        })?),
        _ => None,
    };
    let known = Known { child: held.as_ref().map(|held| held.pid()), pid: options.pid };
    let mut callers = Callers::collect(&mut spec, &plan, options);
    parameters::fill(&mut spec, &plan.parameters, known);
    let root = options.pid.or(known.child).filter(|_| options.follow && !engine.sees_family_only());
    let scope = Scope::add(&mut spec, &plan, root.map(Process::in_our_namespace), cgroup.as_ref())?;
    for probe in &scope.unlimited {
        let message = format!("{probe}: the program is too long to be limited to some processes; it sees all");
        notice(Notice::Warning { message, hint: None });
    }
    let switch = switch::add(&mut spec, &plan);
    let session = engine.load(spec, &options.load)?;
    let session = &*session;
    let plan = loaded(session, plan, notice)?;
    for loaded in session.programs() {
        if let Some(identity) = Identity::of(session, loaded) {
            notice(Notice::Loaded { program: &session.spec().program(loaded.program).name, identity });
        }
    }
    if options.dry_run {
        return Ok(Outcome::default());
    }

    let mut caught = SignalPipe::ending();
    let own_signals: Vec<(i32, ProgId)> = own_signals(&plan)?;
    caught.extend(own_signals.iter().map(|(signal, _)| *signal));
    caught.extend((!caught.contains(&PRINT)).then_some(PRINT));
    if let Some(callers) = &mut callers {
        callers.tell(session, notice)?;
    }
    let source = plan.events.map(|events| session.records(&[events], false)).transpose()?;
    let mut reader = Reader {
        source,
        signals: SignalPipe::new(&caught).map_err(|cause| Error::new("cannot catch signals").with_source(cause))?,
        processes: Vec::new(),
        deadline: None,
        tick: if callers.is_some() { SHORT_TICK } else { TICK },
    };
    let names = MachineNames::new(session, &plan);
    if has_user_addresses(&plan) {
        names.watch();
    }
    let output = Output::new(out, options.format, options.buffering, options.terminals.output);
    let mut performer = Performer::new(session, (&plan, &sources), &names, output, options);

    for (id, _) in programs(&plan, |attach| matches!(attach, Attach::Begin)) {
        session.test_run(id, &TestRun::default())?;
    }
    let following = scope.start(session)?;
    let attached = attach::attach(session, &plan, options.pid.filter(|_| !options.follow), notice)?;
    let happens = !attached.links.is_empty() || !own_signals.is_empty();
    performer.links = attached.links;
    performer.links.extend(following.into_iter().map(|link| (None, link)));
    if !options.quiet {
        performer.count("attached_probes", "probes", attached.probes as u64);
    }
    performer.output.flush();
    notice(Notice::Attached { probes: attached.probes });

    let mut run =
        Run { session, plan: &plan, performer, names: &names, callers, told: Told::default(), exit: None, happens };
    run.iterators(&mut reader, options.pid, notice)?;
    let failed = trials::run(&mut run, &mut reader, notice)?;
    // While it waits, its number is its own.
    let child_fd = held.as_ref().and_then(|held| pidfd(held.pid()));
    let mut child = held
        .map(|held| held.release())
        .transpose()
        .map_err(|cause| cannot_start(options.command.as_deref().unwrap_or_default(), &cause))?
        .map(|command| Ending { command, fd: child_fd });
    reader.processes.extend(child.as_ref().and_then(|child| child.fd.as_ref()?.try_clone().ok()));
    if let Some(pid) = options.pid {
        engine.watch(pid)?;
    }
    reader.processes.extend(watched.as_ref().and_then(|it| it.fd()).and_then(|fd| fd.try_clone().ok()));
    reader.deadline = options.duration.map(|duration| Instant::now() + duration);

    // What BEGIN has sent may end the run already.
    run.drain(&mut reader, notice)?;
    if run.exit.is_none() && run.waits() && run.performer.output.is_open()? {
        let ended = |child: &mut Option<Ending>| {
            let child = child.as_mut().is_some_and(|child| !matches!(child.command.try_wait(), Ok(None)));
            child || watched.as_ref().is_some_and(Watched::ended)
        };
        reader = run.wait(reader, &own_signals, switch, &mut || ended(&mut child), notice)?;
    }
    switch.off(session);
    if run.happens {
        // Neither records nor maps change behind this line.
        session.settle();
    }
    // What its end leaves behind, as samples, is drained, too.
    let status = child.as_mut().and_then(Ending::status);
    if run.exit.is_some() {
        // What stands in the buffer came behind `exit`.
        while reader.take(&mut Batch::default())? {}
    } else {
        run.drain(&mut reader, notice)?;
    }
    if let Some(status) = status.filter(|status| status.signal().is_some() && !options.bpftrace) {
        notice(Notice::Warning { message: format!("the command ended with {status}"), hint: None });
    }
    drop(child);
    let links = std::mem::take(&mut run.performer.links);
    crate::attach::detach(links.into_iter().map(|(_, link)| link).collect());
    run.performer.commands.always = true;
    for (id, _) in programs(&plan, |attach| matches!(attach, Attach::End)) {
        session.test_run(id, &TestRun::default())?;
    }
    let exit = run.exit.take();
    run.drain(&mut reader, notice)?;
    // The last one counts, as in bpftrace: whoever ends the run may leave the verdict to `END`.
    run.exit = run.exit.or(exit);
    if plan.config.print_maps_on_exit {
        run.performer.print_all_maps(options.bpftrace)?;
    }
    run.performer.output.flush();
    run.performer.output.is_open()?;
    let lost = counters(session, plan.losses);
    run.tell_losses(&lost, notice);
    let missed = scope.missed(session);
    if missed > 0 {
        let message = format!("{missed} processes were not followed: too many were there at one time");
        notice(Notice::Warning { message, hint: None });
    }
    if run.performer.commands.left_out > 0 {
        let count = run.performer.commands.left_out;
        let message = format!("{count} commands of system() were not run: they came behind the signal to stop");
        notice(Notice::Warning { message, hint: None });
    }
    let named = |(index, count): (usize, u64)| (plan.probe_names.get(index).cloned().unwrap_or_default(), count);
    let lost = lost.into_iter().enumerate().filter(|(_, count)| *count > 0).map(named).collect();
    Ok(Outcome { exit_code: run.exit.unwrap_or(i32::from(failed)), lost })
}

/// Leaves out programs that did not load where the script says that missing probes are no error.
fn loaded(session: &dyn Session, mut plan: Plan, notice: &mut dyn FnMut(Notice<'_>)) -> Result<Plan, Error> {
    for program in session.programs() {
        let Err(error) = &program.result else { continue };
        let absent = matches!(error.kind(), ErrorKind::Absent | ErrorKind::Unsupported);
        let index = plan.programs.iter().position(|planned| planned.program == program.program);
        let (true, Some(index)) = (absent && plan.config.missing_probes != Missing::Error, index) else {
            return Err(error.clone());
        };
        let planned = plan.programs.remove(index);
        if plan.config.missing_probes == Missing::Warn {
            let name = planned.places.first().map_or("", |place| place.name.as_str());
            let message = format!("{name}: not attached: {error}");
            notice(Notice::Warning { message, hint: error.hint().map(str::to_owned) });
        }
    }
    Ok(plan)
}

/// The programs that run when skep gets a signal.
fn own_signals(plan: &Plan) -> Result<Vec<(i32, ProgId)>, Error> {
    programs(plan, |attach| matches!(attach, Attach::Signal(_)))
        .map(|(id, attach)| {
            let Attach::Signal(name) = attach else { return Err(Error::new("a signal has no name")) };
            let number = signals::number(name)
                .ok_or_else(|| Error::new(format!("there is no signal `{name}`")).with_hint("write it as `SIGUSR1`"))?;
            Ok((number, id))
        })
        .collect()
}

/// A command that was started for the trace is asked to end with it, unless the trace was killed.
struct Ending {
    command: Box<dyn RunningCommand>,
    /// `None` before kernel 5.3.
    fd: Option<OwnedFd>,
}

impl Ending {
    /// How it ended, if it has. The descriptor tells of an end a moment before a tracer, which is another thread, has heard how it was.
    fn status(&mut self) -> Option<ExitStatus> {
        let give_up = Instant::now() + BURIAL;
        loop {
            let status = self.command.try_wait().ok()?;
            if status.is_some() || !self.fd.as_ref().is_some_and(is_over) || Instant::now() >= give_up {
                return status;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if skep_sys::front::is_abandoned() {
            return;
        }
        // Its number may be another process's by now: a tracer buries the command in a thread of its own.
        let _ = match (&self.fd, Pid::from_raw(self.command.pid() as i32)) {
            (Some(fd), _) => pidfd_send_signal(fd, Signal::TERM),
            (None, Some(pid)) if matches!(self.command.try_wait(), Ok(None)) => kill_process(pid, Signal::TERM),
            (None, _) => Ok(()),
        };
    }
}

pub(super) struct Run<'a, 'o> {
    pub(super) session: &'a dyn Session,
    pub(super) plan: &'a Plan,
    pub(super) performer: Performer<'a, 'o>,
    names: &'a MachineNames<'a>,
    callers: Option<Callers>,
    told: Told,
    /// What `exit` was given.
    pub(super) exit: Option<i32>,
    /// Something is attached, or a signal of ours is asked for.
    happens: bool,
}

impl Run<'_, '_> {
    /// Whether anything can still happen: a script of `BEGIN`, `END` and iterators alone ends by itself, and so does one whose other
    /// probes may be missing and are.
    fn waits(&self) -> bool {
        let mut places = self.plan.programs.iter().flat_map(|program| &program.places);
        self.happens
            && places.any(|place| {
                !matches!(place.attach, Attach::Begin | Attach::End | Attach::Iter { .. } | Attach::Test { .. })
            })
    }

    /// Runs iterators, or pins them. What they send is printed between two reads of their text.
    fn iterators(
        &mut self,
        reader: &mut Reader,
        pid: Option<u32>,
        notice: &mut dyn FnMut(Notice<'_>),
    ) -> Result<(), Error> {
        let plan = self.plan;
        for (id, attach) in programs(plan, |attach| matches!(attach, Attach::Iter { .. })) {
            let options = AttachOptions { pid, ..AttachOptions::default() };
            if let Attach::Iter { pin: Some(path) } = attach {
                let mut link = self.session.attach(id, &options)?;
                let path = std::path::Path::new("/sys/fs/bpf").join(path);
                link.pin(&path)?;
                notice(Notice::Pinned { path: &path });
                continue;
            }
            let mut text = self.session.iterate(id, &options)?;
            let mut buffer = [0; 8192];
            loop {
                let got = text.read(&mut buffer).map_err(|cause| {
                    let name = &self.session.spec().program(id).name;
                    Error::new(format!("iterator `{name}`: {}", skep_sys::io_text(&cause)))
                })?;
                self.performer.output.text.extend_from_slice(&buffer[..got]);
                self.drain(reader, notice)?;
                if got == 0 || self.exit.is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Does what the records ask for that are there now, until there are none or the script ends itself.
    pub(super) fn drain(&mut self, reader: &mut Reader, notice: &mut dyn FnMut(Notice<'_>)) -> Result<(), Error> {
        let end = Instant::now() + DRAIN;
        while self.exit.is_none() && Instant::now() < end {
            let mut batch = Batch::default();
            if !reader.take(&mut batch)? {
                break;
            }
            self.perform(&batch, notice)?;
        }
        self.performer.output.idle();
        Ok(())
    }

    fn perform(&mut self, batch: &Batch, notice: &mut dyn FnMut(Notice<'_>)) -> Result<(), Error> {
        if let Flow::Exit(code) = self.performer.batch(batch, notice)? {
            self.exit = Some(code);
        }
        Ok(())
    }

    /// Until something ends the run. Gives the reader back, with all that it has read done.
    fn wait(
        &mut self,
        reader: Reader,
        own_signals: &[(i32, ProgId)],
        switch: switch::Switch,
        ended: &mut dyn FnMut() -> bool,
        notice: &mut dyn FnMut(Notice<'_>),
    ) -> Result<Reader, Error> {
        let mut running = reader.start()?;
        let mut open = true;
        loop {
            let message = match running.try_next() {
                Some(message) => message,
                None => {
                    self.performer.output.idle();
                    open &= self.performer.output.is_open()?;
                    if !open {
                        running.stop();
                    }
                    match running.next() {
                        Some(message) => message,
                        None => break,
                    }
                }
            };
            match message {
                Message::Batch(batch) => {
                    if self.exit.is_none() && open {
                        self.perform(&batch, notice)?;
                    }
                    running.reuse(batch);
                    if self.exit.is_some() {
                        switch.off(self.session);
                        running.stop();
                    }
                }
                Message::Signal(signal) => {
                    let programs: Vec<_> = own_signals.iter().filter(|(own, _)| *own == signal).collect();
                    for (_, id) in &programs {
                        self.session.test_run(*id, &TestRun::default())?;
                    }
                    if programs.is_empty() && signal == PRINT {
                        self.performer.print_maps()?;
                    } else if programs.is_empty() {
                        switch.off(self.session);
                        running.stop();
                    }
                }
                Message::Ended => {
                    switch.off(self.session);
                    running.stop();
                }
                Message::Tick => {
                    self.names.catch_up();
                    if let Some(callers) = &mut self.callers {
                        callers.tell(self.session, notice)?;
                    }
                    self.tell_losses(&counters(self.session, self.plan.losses), notice);
                    if ended() {
                        running.stop();
                    }
                }
                Message::Failed(error) => return Err(error),
            }
        }
        running.join()
    }

    fn tell_losses(&mut self, counts: &[u64], notice: &mut dyn FnMut(Notice<'_>)) {
        for (index, count) in self.told.news(counts) {
            self.performer.count("lost_events", "events", count);
            let probe = self.plan.probe_names.get(index).map_or("", String::as_str);
            notice(Notice::Lost { probe, count });
        }
    }
}
