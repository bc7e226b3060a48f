//! Running programs for events: what a source of events needs to know.
//!
//! A source finds out which programs are attached ([`Hooks`](crate::Hooks)), and for each event says which of them run, in which task and
//! with which record. It may do so in a thread of its own, with a [`Runner`] of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use skep_engine::Error;
use skep_spec::ProgId;
use skep_vm::{Block, Cpu, Event, Memory, Moment, Task};

use crate::attach::{Attached, Hooks};
use crate::process::Images;
use crate::session::Shared;

/// The longest record of an event, in bytes.
const MAX_RECORD: u64 = 64 << 10;
/// Most arguments of a raw tracepoint (`MAX_BPF_FUNC_ARGS`).
const MAX_ARGS: usize = 12;

/// What an event is to a program.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// The record of a tracepoint, as its format describes it: the context itself.
    Record(&'a [u8]),
    /// The arguments of a raw tracepoint: the context is an array of them.
    Raw(&'a [RawArg<'a>]),
}

/// An argument of a raw tracepoint.
#[derive(Clone, Copy, Debug)]
pub enum RawArg<'a> {
    /// A number.
    Value(u64),
    /// A structure such as `struct pt_regs`; the program gets its address, from where it can read.
    Memory(&'a [u8]),
}

/// Runs programs of a session, one at a time.
#[derive(Debug)]
pub struct Runner {
    shared: Arc<Shared>,
    cpu: Cpu,
    /// The processor's number where events do not tell theirs.
    number: u32,
    record: Block,
    /// What arguments point at.
    memory: Block,
    /// What a session's program keeps between entry and return.
    word: Block,
    /// Tasks as the kernel has them, where programs look at them.
    images: Option<Images>,
}

impl Runner {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Runner, Error> {
        let cpu = shared.cpu()?;
        let block = || {
            let block = shared.machine().space().allocate(MAX_RECORD, true);
            block.map_err(|error| Error::new(format!("no memory for events: {error}")))
        };
        let (record, memory) = (block()?, block()?);
        let word = shared.machine().space().allocate(8, true);
        let word = word.map_err(|error| Error::new(format!("no memory for events: {error}")))?;
        let layout = shared.task_layout.clone();
        let images = layout.map(|layout| Images::new(layout, shared.machine().space().clone()));
        let number = cpu.number();
        Ok(Runner { shared, cpu, number, record, memory, word, images })
    }

    /// Whether it runs programs of an object.
    pub(crate) fn belongs_to(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// Which programs are attached where.
    pub fn hooks(&self) -> &Arc<Hooks> {
        &self.shared.hooks
    }

    /// In which task events happen from now on, and how its memory is read.
    pub fn set_task(&mut self, task: Option<Arc<dyn Task>>, memory: Option<Arc<dyn Memory>>) {
        let task = match (&mut self.images, task) {
            (Some(images), Some(task)) => Some(images.show(task)),
            (_, task) => task,
        };
        self.cpu.set_task(task);
        self.cpu.set_memory(memory);
    }

    /// On which processor events happen from now on, where that is known. Programs run one at a time, so no two are on the same.
    pub(crate) fn set_cpu(&mut self, number: Option<u32>) {
        self.cpu.set_number(number.unwrap_or(self.number));
    }

    /// A task has ended: what programs keep for it goes.
    pub(crate) fn forget_task(&self, tid: u32) {
        self.shared.machine().forget_task(tid);
    }

    /// Runs an attached program for an event; what it returned. `None` when it was stopped because it did wrong: whoever reads the
    /// records is told, and the source should end.
    pub fn fire(&mut self, attached: &Attached, payload: Payload<'_>) -> Option<u64> {
        self.fire_at(attached, attached.cookie, 0, payload)
    }

    /// As [`Runner::fire`], for one place of a probe: with its cookie, and the address of the function.
    pub fn fire_at(&mut self, attached: &Attached, cookie: u64, func_ip: u64, payload: Payload<'_>) -> Option<u64> {
        self.fire_event(attached, Event { cookie, func_ip, session: None }, payload)
    }

    /// As [`Runner::fire_at`], of a program that runs at the entry and at the return of a function: with the word that both share.
    pub(crate) fn fire_session(
        &mut self,
        attached: &Attached,
        (cookie, func_ip): (u64, u64),
        is_return: bool,
        word: &mut u64,
        payload: Payload<'_>,
    ) -> Option<u64> {
        let session = Some(Moment { is_return, cookie_at: self.word.addr() });
        self.word.write(0, &word.to_ne_bytes())?;
        let value = self.fire_event(attached, Event { cookie, func_ip, session }, payload)?;
        let mut bytes = [0; 8];
        self.word.read(0, &mut bytes)?;
        *word = u64::from_ne_bytes(bytes);
        Some(value)
    }

    fn fire_event(&mut self, attached: &Attached, event: Event, payload: Payload<'_>) -> Option<u64> {
        self.cpu.set_event(event);
        match self.run(attached.program, payload) {
            Ok(value) => Some(value),
            Err(error) => {
                self.shared.stop(error);
                None
            }
        }
    }

    /// Tells whoever reads the records of events that no program will run for.
    pub(crate) fn lose(&self, events: u64) {
        self.shared.lost.fetch_add(events, Ordering::Relaxed);
        self.shared.machine().bell().ring();
    }

    /// Runs a program for an event.
    ///
    /// # Errors
    ///
    /// When it is not loaded, was stopped, or the event is larger than events are.
    pub fn run(&mut self, id: ProgId, payload: Payload<'_>) -> Result<u64, Error> {
        let name = || &self.shared.spec.program(id).name;
        let ready = self.shared.ready(id).ok_or_else(|| Error::new(format!("program `{}` is not loaded", name())))?;
        let program = ready.program.clone();
        let too_large = || Error::new(format!("the event for program `{}` has more than {MAX_RECORD} bytes", name()));
        let len = match payload {
            Payload::Record(bytes) => {
                self.record.write(0, bytes).ok_or_else(too_large)?;
                bytes.len() as u64
            }
            Payload::Raw(args) => {
                let mut end = 0;
                for (index, arg) in (0u64..).zip(args.iter().take(MAX_ARGS)) {
                    let value = match arg {
                        RawArg::Value(value) => *value,
                        RawArg::Memory(bytes) => {
                            self.memory.write(end, bytes).ok_or_else(too_large)?;
                            let addr = self.memory.addr() + end;
                            end += bytes.len().next_multiple_of(8) as u64;
                            addr
                        }
                    };
                    self.record.write(8 * index, &value.to_ne_bytes()).ok_or_else(too_large)?;
                }
                self.memory.set_window(0, end);
                8 * args.len().min(MAX_ARGS) as u64
            }
        };
        self.record.set_window(0, len);
        let turn = self.shared.turn();
        let result = self.cpu.run(&program, [self.record.addr(), 0]);
        drop(turn);
        result.map_err(|trap| self.shared.trapped(id, &trap))
    }
}
