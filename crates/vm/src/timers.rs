//! Timers: functions of programs that run when their time has come (`bpf_timer`; kernel/bpf/helpers.c, Linux 6.18).
//!
//! A timer is a `struct bpf_timer` in a value of a map. What it is lies here, by its address, where no program reaches it; so the bytes in the
//! value mean nothing. It is idle after `bpf_timer_init`, waits after `bpf_timer_start`, and runs its callback with the map, the key and the
//! value once the clock is there. It ends with its element: whoever deletes that, or puts another value in its place, ends it.
//!
//! Nothing here waits by itself. Whoever has a thread for it asks for how long there is nothing to do ([`Timers::wait_time`]), listens to the
//! bell for changes, and runs what is due ([`Cpu::run_timer`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::map::Bell;
use crate::{Cpu, Program, Trap};

/// Bytes of a `struct bpf_timer`.
pub(crate) const TIMER_BYTES: u32 = 16;

/// For how long one may wait at most: clocks that are set move, and no bell tells.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The clocks that a timer may have (`CLOCK_*`).
const CLOCKS: [(u64, ClockId); 3] = [(0, ClockId::Realtime), (1, ClockId::Monotonic), (7, ClockId::Boottime)];

/// The timers of a machine.
#[derive(Debug, Default)]
pub struct Timers {
    state: Mutex<State>,
    bell: Bell,
}

#[derive(Debug, Default)]
struct State {
    /// By their addresses.
    timers: HashMap<u64, Timer>,
    /// For each clock, when, in which order of starting, and the address.
    waiting: [BTreeSet<(i64, u64, u64)>; CLOCKS.len()],
    /// Timers made and started so far.
    count: u64,
}

#[derive(Debug)]
struct Timer {
    /// No other one has it, also none at the same address.
    id: u64,
    /// The map's.
    map: u32,
    /// Address of the value.
    value: u64,
    /// Index among the clocks.
    clock: usize,
    callback: Option<(Arc<Program>, usize)>,
    waits: Option<(i64, u64)>,
    /// Its callback runs.
    runs: bool,
    /// The processor that started it.
    cpu: u32,
}

/// What is wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Invalid,
    Busy,
    Deadlock,
    /// Its callback runs elsewhere: to be tried again.
    Runs,
}

/// A callback that is to run.
#[derive(Debug)]
struct Due {
    addr: u64,
    id: u64,
    map: u32,
    value: u64,
    program: Arc<Program>,
    function: usize,
    cpu: u32,
}

/// A callback that ran.
#[derive(Debug)]
pub struct Expired {
    /// The program whose function it was.
    pub program: Arc<Program>,
    /// How it ended.
    pub result: Result<(), Box<Trap>>,
}

fn now(clock: usize) -> i64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(CLOCKS[clock].1);
    tv_sec.saturating_mul(1_000_000_000).saturating_add(tv_nsec)
}

impl State {
    fn stop(&mut self, addr: u64) -> bool {
        let Some(timer) = self.timers.get_mut(&addr) else { return false };
        let Some((when, order)) = timer.waits.take() else { return false };
        self.waiting[timer.clock].remove(&(when, order, addr))
    }

    fn forget(&mut self, addr: u64) {
        self.stop(addr);
        self.timers.remove(&addr);
    }
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is rung when there may be less time to wait than there was.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// How many wait for their time.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.iter().map(BTreeSet::len).sum()
    }

    /// For how long nothing is due; a second at most, since clocks that are set move.
    pub fn wait_time(&self) -> Duration {
        let state = self.lock();
        let first = (0..CLOCKS.len()).filter_map(|clock| {
            let (when, ..) = state.waiting[clock].first()?;
            Some(Duration::from_nanos(when.saturating_sub(now(clock)).max(0) as u64))
        });
        first.min().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
    }

    pub(crate) fn init(&self, addr: u64, map: u32, value: u64, flags: u64) -> Result<(), Wrong> {
        let clock = CLOCKS.iter().position(|(number, _)| *number == flags).ok_or(Wrong::Invalid)?;
        let mut state = self.lock();
        if state.timers.contains_key(&addr) {
            return Err(Wrong::Busy);
        }
        state.count += 1;
        let id = state.count;
        state.timers.insert(addr, Timer { id, map, value, clock, callback: None, waits: None, runs: false, cpu: 0 });
        Ok(())
    }

    pub(crate) fn set_callback(&self, addr: u64, program: &Arc<Program>, function: usize) -> Result<(), Wrong> {
        let mut state = self.lock();
        let timer = state.timers.get_mut(&addr).ok_or(Wrong::Invalid)?;
        timer.callback = Some((program.clone(), function));
        Ok(())
    }

    /// Starts it, or starts it again; `ns` counts from now unless it is `absolute`.
    pub(crate) fn start(&self, addr: u64, ns: u64, absolute: bool, cpu: u32) -> Result<(), Wrong> {
        let mut state = self.lock();
        let startable = state.timers.get(&addr).is_some_and(|timer| timer.callback.is_some());
        if !startable {
            return Err(Wrong::Invalid);
        }
        state.stop(addr);
        state.count += 1;
        let order = state.count;
        let Some(timer) = state.timers.get_mut(&addr) else { return Err(Wrong::Invalid) };
        let when = if absolute { ns as i64 } else { now(timer.clock).saturating_add(ns as i64) };
        let clock = timer.clock;
        timer.waits = Some((when, order));
        timer.cpu = cpu;
        state.waiting[clock].insert((when, order, addr));
        let is_next = state.waiting[clock].first().is_some_and(|(_, first, _)| *first == order);
        drop(state);
        if is_next {
            self.bell.ring();
        }
        Ok(())
    }

    /// Stops it and takes its callback away; whether it waited. `own` is the timer whose callback asks for it.
    pub(crate) fn cancel(&self, addr: u64, own: Option<u64>) -> Result<bool, Wrong> {
        let mut state = self.lock();
        let timer = state.timers.get_mut(&addr).ok_or(Wrong::Invalid)?;
        if own == Some(timer.id) {
            return Err(Wrong::Deadlock);
        }
        timer.callback = None;
        if timer.runs {
            return Err(Wrong::Runs);
        }
        Ok(state.stop(addr))
    }

    /// Its element is gone.
    pub(crate) fn forget(&self, addr: u64) {
        self.lock().forget(addr);
    }

    /// A map is gone.
    pub(crate) fn forget_map(&self, map: u32) {
        let mut state = self.lock();
        let gone: Vec<u64> = state.timers.iter().filter(|(_, timer)| timer.map == map).map(|(addr, _)| *addr).collect();
        for addr in gone {
            state.forget(addr);
        }
    }

    /// The next one whose time has come; it no longer waits.
    fn take_due(&self) -> Option<Due> {
        let mut state = self.lock();
        let of_clock = |clock: usize| {
            let (when, _, addr) = *state.waiting[clock].first()?;
            let late = now(clock).saturating_sub(when);
            (late >= 0).then_some((late, addr))
        };
        let (_, addr) = (0..CLOCKS.len()).filter_map(of_clock).max()?;
        state.stop(addr);
        let timer = state.timers.get_mut(&addr)?;
        let (program, function) = timer.callback.clone()?;
        timer.runs = true;
        Some(Due { addr, id: timer.id, map: timer.map, value: timer.value, program, function, cpu: timer.cpu })
    }

    fn ran(&self, due: &Due) {
        if let Some(timer) = self.lock().timers.get_mut(&due.addr)
            && timer.id == due.id
        {
            timer.runs = false;
        }
    }
}

impl Cpu {
    /// Runs the callback of a timer whose time has come, with the number of the processor that started it; `None` when there is none.
    pub fn run_timer(&mut self) -> Option<Expired> {
        let machine = self.machine().clone();
        loop {
            let due = machine.timers().take_due()?;
            // An element of an LRU map goes without a word.
            let element = machine.map(due.map).and_then(|map| Some((map.key_at(due.value)?, map)));
            let block = element.as_ref().and_then(|(key, _)| {
                let len = key.len() as u64;
                let kept = self.key_blocks.pop().filter(|block| block.len() == len);
                let block = kept.or_else(|| machine.space().allocate(len, false).ok())?;
                block.write(0, key)?;
                Some(block)
            });
            let (Some((_, map)), Some(block)) = (element, block) else {
                machine.timers().forget(due.addr);
                continue;
            };
            let number = self.number();
            self.set_number(due.cpu);
            self.timer = Some(due.id);
            let result = self.run_function(&due.program, due.function, &[map.handle(), block.addr(), due.value]);
            self.timer = None;
            self.set_number(number);
            machine.timers().ran(&due);
            self.key_blocks.push(block);
            return Some(Expired { program: due.program, result: result.map(drop) });
        }
    }
}
