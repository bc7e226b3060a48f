//! From what a tracer sees to programs that run.

use std::collections::HashMap;
use std::sync::Arc;

use skep_engine::PerfEvent;
use skep_spec::{ProgId, Target};
use skep_sys::syscalls;

use super::record::{Layouts, Record};
use super::sample::Counted;
use super::{Calls, Event, Site, Sites, Wanted, What};
use crate::attach::{Attached, Place};
use crate::runner::{Payload, RawArg, Runner};
use crate::session::Shared;

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hook {
    /// `syscalls:sys_enter_*`.
    Enter(u32),
    /// `syscalls:sys_exit_*`.
    Exit(u32),
    /// `raw_syscalls:sys_enter`, or the raw tracepoint `sys_enter`.
    EnterAny,
    /// `raw_syscalls:sys_exit`, or the raw tracepoint `sys_exit`.
    ExitAny,
    /// `sched:sched_process_fork`.
    Born,
    /// `sched:sched_process_exec`.
    Executed,
    /// `sched:sched_process_exit`.
    Ending,
    /// `signal:signal_deliver`.
    Signal,
    /// An event of perf.
    Sampled(PerfEvent),
}

impl Hook {
    /// What a place means here; `None` when a tracer does not see it.
    pub(crate) fn at(place: &Place) -> Option<Hook> {
        let (category, name) = match place {
            Place::Tracepoint { category, name } => (category.as_str(), name.as_str()),
            // Others have structures of the kernel for arguments.
            Place::RawTracepoint { name } => ("raw_syscalls", name.as_str()),
            Place::Sampled { event } => return Some(Hook::Sampled(*event)),
            _ => return None,
        };
        match (category, name) {
            ("raw_syscalls", "sys_enter") => Some(Hook::EnterAny),
            ("raw_syscalls", "sys_exit") => Some(Hook::ExitAny),
            ("sched", "sched_process_fork") => Some(Hook::Born),
            ("sched", "sched_process_exec") => Some(Hook::Executed),
            ("sched", "sched_process_exit") => Some(Hook::Ending),
            ("signal", "signal_deliver") => Some(Hook::Signal),
            ("syscalls", name) => {
                let number =
                    |call: &str| syscalls::all().find(|(_, it)| syscalls::tracepoint(it) == call).map(|(nr, _)| nr);
                match name.strip_prefix("sys_enter_") {
                    Some(call) => number(call).map(Hook::Enter),
                    None => number(name.strip_prefix("sys_exit_")?).map(Hook::Exit),
                }
            }
            _ => None,
        }
    }
}

/// Runs the attached programs for what a tracer sees.
#[derive(Debug)]
pub struct Source {
    runner: Runner,
    layouts: Layouts,
    record: Record,
    /// Who is attached where, as of this many changes.
    table: HashMap<Hook, Vec<Attached>>,
    /// Who is attached at a breakpoint, or at the return of the function there.
    probes: HashMap<(Site, bool), Vec<Probed>>,
    sessions: Sessions,
    changes: Option<u64>,
}

impl Source {
    /// Runs programs of `runner`'s session, with the records of the kernel that `target` describes.
    pub fn new(runner: Runner, target: &dyn Target) -> Source {
        Source {
            runner,
            layouts: Layouts::of(target),
            record: Record::default(),
            table: HashMap::new(),
            probes: HashMap::new(),
            sessions: Sessions::default(),
            changes: None,
        }
    }

    /// Whether these are programs of an object.
    pub(crate) fn belongs_to(&self, shared: &Arc<Shared>) -> bool {
        self.runner.belongs_to(shared)
    }

    /// What a tracer must see for the programs that are attached now.
    pub fn wanted(&mut self) -> Wanted {
        self.look();
        let (mut enter, mut exit) = (Vec::new(), Vec::new());
        let (mut any_enter, mut any_exit, mut signals) = (false, false, false);
        for hook in self.table.keys() {
            match hook {
                Hook::Enter(nr) => enter.push(*nr),
                Hook::Exit(nr) => exit.push(*nr),
                Hook::EnterAny => any_enter = true,
                Hook::ExitAny => any_exit = true,
                Hook::Signal => signals = true,
                Hook::Born | Hook::Executed | Hook::Ending | Hook::Sampled(_) => {}
            }
        }
        let mut sites = Sites::default();
        for attached in self.runner.hooks().all().iter() {
            if let Place::Probe(probe) = &attached.place {
                sites.add(probe);
            }
        }
        Wanted {
            sites: Arc::new(sites),
            enter: if any_enter { Calls::All } else { enter.into_iter().collect() },
            exit: if any_exit { Calls::All } else { exit.into_iter().collect() },
            signals,
        }
    }

    /// What is to be sampled for the programs that are attached now.
    pub(super) fn sampled(&mut self) -> Vec<PerfEvent> {
        self.look();
        self.table.keys().filter_map(|hook| if let Hook::Sampled(event) = hook { Some(*event) } else { None }).collect()
    }

    /// Runs the programs for a sample, as [`Source::fire`] does for an event.
    pub(super) fn count(&mut self, counted: &Counted) {
        self.look();
        let sample = match counted {
            Counted::Sample(sample) => sample,
            Counted::Lost(count) => return self.runner.lose(*count),
        };
        let Some(all) = self.table.get(&Hook::Sampled(sample.event)) else { return };
        self.runner.set_task(Some(sample.task.clone()), Some(sample.task.clone()));
        self.runner.set_cpu(Some(sample.cpu));
        let good = all.iter().all(|attached| self.runner.fire(attached, Payload::Record(&sample.context)).is_some());
        self.runner.set_cpu(None);
        if !good {
            self.table.clear();
        }
    }

    /// Looks again who is attached, if something changed.
    fn look(&mut self) {
        let changes = self.runner.hooks().changes();
        if self.changes == Some(changes) {
            return;
        }
        self.changes = Some(changes);
        self.table.clear();
        self.probes.clear();
        for attached in self.runner.hooks().all().iter() {
            if let Place::Probe(probe) = &attached.place {
                for spot in &probe.spots {
                    let site = Site { file: probe.file, off_bytes: spot.off_bytes };
                    let both = probe.at_entry() && probe.at_return();
                    for ret in [false, true] {
                        let wanted = if ret { probe.at_return() } else { probe.at_entry() };
                        if wanted {
                            let list = self.probes.entry((site, ret)).or_default();
                            list.push(Probed { attached: attached.clone(), cookie: spot.cookie, both });
                        }
                    }
                }
            }
            if let Some(hook) = Hook::at(&attached.place) {
                self.table.entry(hook).or_default().push(attached.clone());
            }
        }
    }

    /// Runs the programs for an event. A program that does wrong is stopped, and whoever reads the session's records is told.
    pub fn fire(&mut self, event: &Event<'_>) {
        self.look();
        let ended = matches!(event.what, What::Ending { .. }).then_some(event.task.tid());
        self.fire_hooks(event);
        if let What::Born { tid, .. } = event.what {
            self.sessions.born(event.task.tid(), tid);
        }
        if let Some(tid) = ended {
            self.sessions.forget(tid);
            self.runner.forget_task(tid);
        }
    }

    fn fire_hooks(&mut self, event: &Event<'_>) {
        if let What::Probe { site, ret, func, registers } = &event.what {
            self.probe((*site, *ret), *func, event, registers);
            return;
        }
        let hooks: &[Hook] = match event.what {
            What::Enter { nr, .. } => &[Hook::EnterAny, Hook::Enter(nr)],
            What::Exit { nr, .. } => &[Hook::ExitAny, Hook::Exit(nr)],
            What::Born { .. } => &[Hook::Born],
            What::Executed { .. } => &[Hook::Executed],
            What::Ending { .. } => &[Hook::Ending],
            What::Signal { .. } => &[Hook::Signal],
            What::Probe { .. } => &[],
        };
        if !hooks.iter().any(|hook| self.table.contains_key(hook)) {
            return;
        }
        let task = event.task;
        self.runner.set_task(Some(task.clone()), Some(task.clone()));
        match event.what {
            What::Enter { nr, ref args, .. } => self.record.enter(task, nr, args),
            What::Exit { nr, ret, .. } => self.record.exit(task, nr, ret),
            _ => {
                self.layouts.record(event, &mut self.record);
            }
        }
        let mut good = true;
        for hook in hooks {
            for attached in self.table.get(hook).into_iter().flatten() {
                if let Place::RawTracepoint { .. } = attached.place {
                    let registers = task.registers();
                    let number = match event.what {
                        What::Enter { nr, .. } => u64::from(nr),
                        What::Exit { ret, .. } => ret as u64,
                        _ => 0,
                    };
                    let args = [RawArg::Memory(&registers), RawArg::Value(number)];
                    good &= self.runner.fire(attached, Payload::Raw(&args)).is_some();
                } else {
                    good &= self.runner.fire(attached, Payload::Record(self.record.bytes())).is_some();
                }
            }
        }
        if !good {
            // The run is over as soon as its reader looks; until then nothing happens any more.
            self.table.clear();
        }
    }

    /// Runs the programs of a breakpoint.
    fn probe(&mut self, at: (Site, bool), func: u64, event: &Event<'_>, registers: &[u8]) {
        let Some(list) = self.probes.get(&at) else { return };
        self.runner.set_task(Some(event.task.clone()), Some(event.task.clone()));
        let mut good = true;
        let (site, ret) = at;
        let stack = stack_pointer(registers);
        if !ret && list.iter().any(|it| it.both) {
            self.sessions.prune(event.task.tid(), stack);
        }
        for Probed { attached, cookie, both } in list {
            if !both {
                good &= self.runner.fire_at(attached, *cookie, func, Payload::Record(registers)).is_some();
                continue;
            }
            // The return address was between both.
            let frame = if ret { stack.wrapping_sub(8) } else { stack };
            let call = Call { frame, site, program: attached.program };
            // The program said at the entry whether it wants the return.
            let known = self.sessions.take(event.task.tid(), call);
            let Some(mut word) = (if ret { known } else { Some(0) }) else { continue };
            let payload = Payload::Record(registers);
            let value = self.runner.fire_session(attached, (*cookie, func), ret, &mut word, payload);
            good &= value.is_some();
            if !ret && value == Some(0) {
                self.sessions.add(event.task.tid(), call, word);
            }
        }
        if !good {
            self.table.clear();
            self.probes.clear();
        }
    }

    /// Runs a program that nothing in the target makes run: a script's `BEGIN`, an interval's tick.
    ///
    /// # Errors
    ///
    /// When it is not loaded, or was stopped.
    pub fn run(&mut self, program: ProgId, record: &[u8]) -> Result<u64, skep_engine::Error> {
        self.runner.set_task(None, None);
        self.runner.run(program, Payload::Record(record))
    }
}

/// A program at a breakpoint.
#[derive(Clone, Debug)]
struct Probed {
    attached: Attached,
    cookie: u64,
    /// It runs at the return as well.
    both: bool,
}

/// A call of a function, as a program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    /// Where its return address is on the stack.
    frame: u64,
    site: Site,
    program: ProgId,
}

/// Calls whose return a program waits for, of each task, with the word that it keeps.
#[derive(Debug, Default)]
struct Sessions {
    calls: HashMap<u32, Vec<(Call, u64)>>,
}

impl Sessions {
    fn add(&mut self, tid: u32, call: Call, word: u64) {
        self.calls.entry(tid).or_default().push((call, word));
    }

    /// The word of a call that returns, once.
    fn take(&mut self, tid: u32, call: Call) -> Option<u64> {
        let calls = self.calls.get_mut(&tid)?;
        let at = calls.iter().rposition(|(it, _)| *it == call)?;
        Some(calls.remove(at).1)
    }

    /// A function begins: those further down the stack are over, whether they returned or not.
    fn prune(&mut self, tid: u32, frame: u64) {
        if let Some(calls) = self.calls.get_mut(&tid) {
            calls.retain(|(it, _)| it.frame >= frame);
        }
    }

    /// A task comes out of the functions that its maker was in.
    fn born(&mut self, maker: u32, tid: u32) {
        if let Some(calls) = self.calls.get(&maker).filter(|calls| !calls.is_empty()).cloned() {
            self.calls.insert(tid, calls);
        }
    }

    fn forget(&mut self, tid: u32) {
        self.calls.remove(&tid);
    }
}

/// The stack pointer in a `struct pt_regs` of x86-64, the only machine with breakpoints.
fn stack_pointer(registers: &[u8]) -> u64 {
    const SP_OFF: usize = 19 * 8;
    let word = registers.get(SP_OFF..).and_then(|rest| rest.first_chunk().copied());
    word.map_or(0, u64::from_ne_bytes)
}
