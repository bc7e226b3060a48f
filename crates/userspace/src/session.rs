//! The machine in user space as an engine, and an object loaded into it.

use std::io::Read;
use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_binary::usdt_specs::UsdtIds;
use skep_engine::{
    AttachOptions, Engine, Error, ErrorKind, HeldCommand, Link, LoadOptions, Loaded, MapHandle, Progress, RecordSource,
    Session, TestRun, TestRunOutput,
};
use skep_spec::map::Slot;
use skep_spec::{MapId, ProgId, Spec, Target, resolve};
use skep_sys::io_text;
use skep_sys::tap::Network;
use skep_vm::{Cpu, Machine, Trap};

use crate::attach::{Hooks, Place, Sources, place};
use crate::load::{self, Objects, Ready};
use crate::map::UserMap;
use crate::probe::{UsdtMap, probe};
use crate::process::{Source, TaskLayout, Tracer, Tracing};
use crate::records::Records;
use crate::replay::{Replay, Report};
use crate::runner::Runner;
use crate::target::UserTarget;
use crate::test_run;
use crate::timer::{Callbacks, Timer};
use crate::wire::{Plugged, Wire};

/// Bytes of a perf buffer for each CPU when nobody asks for another size.
const PERF_BYTES: usize = 256 << 10;

/// The machine in user space.
pub struct UserEngine {
    target: Arc<dyn Target + Send + Sync>,
    replay: Mutex<Option<Replay>>,
    report: Arc<Mutex<Option<Report>>>,
    /// `None`: nobody looks at processes.
    tracing: Option<Tracing>,
    wire: Mutex<Option<Wire>>,
    /// Where commands run, if not where we are.
    network: Option<Arc<Network>>,
}

impl UserEngine {
    /// For programs that are written for the kernel that `target` describes.
    pub fn new(target: impl Target + Send + Sync + 'static) -> UserEngine {
        UserEngine {
            target: Arc::new(target),
            replay: Mutex::default(),
            report: Arc::default(),
            tracing: None,
            wire: Mutex::default(),
            network: None,
        }
    }

    /// With packets for XDP, tc and socket filter programs. They go through the first object that is loaded.
    #[must_use]
    pub fn with_packets(self, replay: Replay) -> UserEngine {
        *self.replay.lock().unwrap_or_else(PoisonError::into_inner) = Some(replay);
        self
    }

    /// With live packets for XDP, tc and socket filter programs: those of the command that is held ([`Engine::hold`]), which runs on the wire's near host.
    #[must_use]
    pub fn with_wire(mut self, wire: Wire) -> UserEngine {
        self.network = Some(wire.network());
        *self.wire.lock().unwrap_or_else(PoisonError::into_inner) = Some(wire);
        self
    }

    /// With events of processes: of commands ([`Engine::hold`]) and of running ones ([`Engine::watch`]).
    #[must_use]
    pub fn with_processes(mut self) -> UserEngine {
        self.tracing = Some(Tracing::default());
        self
    }

    /// Who traces commands and processes: tasks may need their tracer for longer than the programs do ([`Tracer::is_needed`]).
    pub fn tracers(&self) -> Vec<Arc<Tracer>> {
        self.tracing.as_ref().map(Tracing::tracers).unwrap_or_default()
    }

    /// What became of the packets so far; `None` when there were none.
    pub fn report(&self) -> Option<Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Engine::load`], with this engine's own session.
    ///
    /// # Errors
    ///
    /// When the machine could not be set up, or the object is for another byte order.
    pub fn load(&self, spec: Spec, options: &LoadOptions) -> Result<UserSession, Error> {
        if let Some(name) = options.existing_maps.keys().next() {
            return Err(Error::new(format!(
                "map `{name}` cannot be one of the kernel's: this engine's memory is its own"
            ))
            .with_kind(ErrorKind::Unsupported)
            .with_hint("load it into the kernel, or copy the entries"));
        }
        let Objects { machine, maps, programs, loaded, warnings } = load::load(&spec, &*self.target)?;
        let replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner).take();
        let wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner).take();
        let perf_bytes = if options.perf_buffer_bytes == 0 { PERF_BYTES } else { options.perf_buffer_bytes };
        let loaded_spec = spec.clone();
        let looks = programs.iter().flatten().any(|ready| {
            ready.program.insns().iter().filter_map(|insn| insn.helper()).any(|helper| {
                matches!(helper, skep_insn::helpers::GET_CURRENT_TASK | skep_insn::helpers::GET_CURRENT_TASK_BTF)
            })
        });
        let target = UserTarget::new(&*self.target, spec.btf.as_ref());
        let task_layout = if looks { TaskLayout::of(&target) } else { None };
        let shared = Arc::new(Shared {
            spec: loaded_spec,
            objects: Objects { machine, maps, programs, loaded: Vec::new(), warnings: Vec::new() },
            hooks: Arc::default(),
            turn: Mutex::default(),
            fault: Mutex::default(),
            lost: AtomicU64::new(0),
            task_layout,
        });
        if let Some(tracing) = &self.tracing {
            // The object that was loaded last sees what happens.
            tracing.set(Source::new(Runner::new(shared.clone())?, &target));
        }
        let has_timers = shared.objects.maps.iter().flatten().any(|map| map.map().spec().timer_off.is_some());
        let callbacks = has_timers.then(|| Callbacks::start(&shared)).transpose()?;
        let wire = wire.map(|wire| wire.plug_in(shared.clone(), self.report.clone())).transpose()?;
        Ok(UserSession {
            shared,
            callbacks,
            wire,
            tracing: self.tracing.clone(),
            loaded,
            warnings,
            perf_bytes,
            usdt_ids: UsdtIds::default(),
            replay: Mutex::new(replay),
            report: self.report.clone(),
        })
    }
}

impl std::fmt::Debug for UserEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserEngine").finish_non_exhaustive()
    }
}

impl Engine for UserEngine {
    fn name(&self) -> &'static str {
        "user"
    }

    fn load(&self, spec: Spec, options: &LoadOptions) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(UserEngine::load(self, spec, options)?))
    }

    fn hold(&self, mut command: Command) -> Result<Box<dyn HeldCommand>, Error> {
        if let Some(network) = &self.network {
            network.near.take_in(&mut command).map_err(|cause| Error::new(io_text(&cause)))?;
        }
        match &self.tracing {
            Some(tracing) => Ok(Box::new(tracing.hold(command)?)),
            None => Err(Error::new("this engine does not look at processes")),
        }
    }

    fn walks_by_tables(&self) -> bool {
        true
    }

    fn sees_family_only(&self) -> bool {
        true
    }

    fn watch(&self, pid: u32) -> Result<(), Error> {
        match &self.tracing {
            Some(tracing) => tracing.join(pid),
            None => Ok(()),
        }
    }
}

/// What a session and its sources of events share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) spec: Spec,
    pub(crate) objects: Objects,
    pub(crate) hooks: Arc<Hooks>,
    /// Programs run one at a time, so that nobody else changes a processor's own values of a map meanwhile.
    turn: Mutex<()>,
    /// What stopped a program that ran for an event; told to who reads the records.
    pub(crate) fault: Mutex<Option<Error>>,
    /// Events that no program ran for, since somebody read of them.
    pub(crate) lost: AtomicU64,
    /// Tasks as the kernel has them, where programs look at them.
    pub(crate) task_layout: Option<TaskLayout>,
}

impl Shared {
    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.objects.machine
    }

    /// The loaded program `id`; `None` also when it was refused.
    pub(crate) fn ready(&self, id: ProgId) -> Option<&Ready> {
        self.objects.programs.get(id.0 as usize)?.as_ref()
    }

    /// Waits for one's turn to run a program.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A processor for a thread.
    pub(crate) fn cpu(&self) -> Result<Cpu, Error> {
        Cpu::new(self.machine()).map_err(|error| Error::new(format!("no memory for a processor: {error}")))
    }

    /// What stopped a program, for people.
    pub(crate) fn trapped(&self, id: ProgId, trap: &Trap) -> Error {
        let helper = trap.insn.helper().and_then(|number| i32::try_from(number).ok());
        let poisoned = helper
            .zip(self.ready(id))
            .and_then(|(helper, ready)| resolve::poison_reason(&self.spec, &ready.explanations, trap.at.0, helper));
        match poisoned {
            Some(reason) => Error::new(format!("program `{}`, instruction {}: {reason}", trap.program, trap.at)),
            None => Error::new(trap.to_string()),
        }
    }

    /// Keeps what stopped a program until somebody reads records; the first one counts.
    pub(crate) fn stop(&self, error: Error) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.machine().bell().ring();
    }

    pub(crate) fn take_fault(&self) -> Option<Error> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An object in the machine.
#[derive(Debug)]
pub struct UserSession {
    shared: Arc<Shared>,
    #[expect(dead_code, reason = "held for the timers of its programs")]
    callbacks: Option<Callbacks>,
    wire: Option<Plugged>,
    tracing: Option<Tracing>,
    loaded: Vec<Loaded>,
    warnings: Vec<Error>,
    perf_bytes: usize,
    usdt_ids: UsdtIds,
    replay: Mutex<Option<Replay>>,
    report: Arc<Mutex<Option<Report>>>,
}

impl UserSession {
    /// A map with all that this machine can do with it.
    pub fn user_map(&self, id: MapId) -> Option<&UserMap> {
        self.shared.objects.maps.get(id.0 as usize)?.as_ref()
    }

    /// What went wrong without keeping a program from loading.
    pub fn warnings(&self) -> &[Error] {
        &self.warnings
    }

    /// Runs programs for events, in the thread that asks for it.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn runner(&self) -> Result<Runner, Error> {
        Runner::new(self.shared.clone())
    }

    /// Which programs are attached where.
    pub fn hooks(&self) -> &Arc<Hooks> {
        &self.shared.hooks
    }

    /// The loaded program `id`, or why there is none.
    fn ready(&self, id: ProgId) -> Result<&Ready, Error> {
        if let Some(ready) = self.shared.ready(id) {
            return Ok(ready);
        }
        let name = &self.shared.spec.program(id).name;
        let reason = self.loaded.iter().find(|it| it.program == id).and_then(|it| it.result.as_ref().err());
        Err(match reason {
            Some(reason) => Error::new(format!("program `{name}` is not loaded: {reason}")),
            None => Error::new(format!("program `{name}` is not loaded: it is switched off")),
        })
    }
}

impl Drop for UserSession {
    fn drop(&mut self) {
        if let Some(tracing) = &self.tracing {
            tracing.leave(&self.shared);
        }
    }
}

impl Session for UserSession {
    fn spec(&self) -> &Spec {
        &self.shared.spec
    }

    fn programs(&self) -> &[Loaded] {
        &self.loaded
    }

    fn map(&self, id: MapId) -> Option<&dyn MapHandle> {
        self.user_map(id).map(|map| map as &dyn MapHandle)
    }

    fn attach(&self, id: ProgId, options: &AttachOptions) -> Result<Box<dyn Link>, Error> {
        self.ready(id)?;
        let has_packets = self.wire.is_some() || self.replay.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let sources = Sources { has_packets, has_processes: self.tracing.is_some() };
        let program = self.shared.spec.program(id);
        if sources.has_processes {
            let usdt = self.shared.spec.map_named("__bpf_usdt_specs").and_then(|id| self.user_map(id));
            let usdt = usdt.map(|specs| UsdtMap { specs, ids: &self.usdt_ids });
            if let Some((probe, kept)) = probe(program, options, usdt)? {
                let link = Hooks::add(&self.shared.hooks, id, Place::Probe(Arc::new(probe)), options);
                return Ok(Box::new(link.keeping(kept)));
            }
        }
        let place = place(program, options, sources)?;
        let timer = match place {
            Place::Interval { period } => Some(Timer::start(self.runner()?, id, period, options)?),
            _ => None,
        };
        let samples = if let Place::Sampled { .. } = place { self.tracing.clone() } else { None };
        let mut link = Hooks::add(&self.shared.hooks, id, place, options);
        if let Some(timer) = timer {
            link = link.timed(timer);
        }
        if let Some(tracing) = samples {
            link = link.sampled(tracing);
        }
        Ok(Box::new(link))
    }

    fn attach_map(&self, id: MapId) -> Result<Box<dyn Link>, Error> {
        let name = &self.shared.spec.map(id).name;
        Err(Error::new(format!(
            "map `{name}` is for the kernel, which calls its programs; nothing does so in user space"
        ))
        .with_kind(ErrorKind::Unsupported)
        .with_hint("run it with `--engine kernel` as root"))
    }

    fn set_slot(&self, id: MapId, index: u32, slot: Slot) -> Result<(), Error> {
        self.shared.objects.set_slot(&self.shared.spec, id, index, slot)
    }

    fn iterate(&self, id: ProgId, _: &AttachOptions) -> Result<Box<dyn Read>, Error> {
        let name = &self.shared.spec.program(id).name;
        Err(Error::new(format!("iterator `{name}` walks structures of the kernel, which user space does not see"))
            .with_kind(ErrorKind::Unsupported)
            .with_hint("run it with `--engine kernel` as root"))
    }

    fn test_run(&self, id: ProgId, input: &TestRun<'_>) -> Result<TestRunOutput, Error> {
        let ready = self.ready(id)?;
        test_run::run(&self.shared, id, ready, input)
    }

    fn settle(&self) {
        drop(self.shared.turn());
    }

    fn records(&self, maps: &[MapId], printk: bool) -> Result<Box<dyn RecordSource>, Error> {
        let named = |id| Ok((id, self.shared.objects.made(&self.shared.spec, id)?.map().clone()));
        let maps = maps.iter().map(|id| named(*id)).collect::<Result<Vec<_>, Error>>()?;
        Ok(Box::new(Records::new(self.shared.clone(), maps, printk, self.perf_bytes)?))
    }

    fn advance(&self) -> Result<Progress, Error> {
        let mut replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(replay) = &mut *replay else { return Ok(Progress::ByItself) };
        let progress = replay.advance(&self.shared);
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(replay.report(&self.shared));
        progress
    }
}
