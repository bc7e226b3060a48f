//! Commands under a tracer's eyes.

use std::io;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use skep_engine::{Error, HeldCommand, RunningCommand};

use super::sample::{Counted, Sampler};
use super::{Event, Source, Tracer, Wanted, procfs};
use crate::session::Shared;

/// The tracers of an engine, and the programs that run for what they see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracing {
    /// Filled as an object is loaded.
    source: Arc<Mutex<Option<Source>>>,
    tracers: Arc<Mutex<Vec<Arc<Tracer>>>>,
    samplers: Arc<Mutex<Vec<Sampler>>>,
}

impl Tracing {
    fn with_source<T>(&self, look: impl FnOnce(&mut Option<Source>) -> T) -> T {
        look(&mut self.source.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whose programs run from now on.
    pub(crate) fn set(&self, source: Source) {
        self.with_source(|slot| *slot = Some(source));
    }

    /// The programs of an object run no more.
    pub(crate) fn leave(&self, shared: &Arc<Shared>) {
        self.with_source(|slot| slot.take_if(|source| source.belongs_to(shared)));
        self.samplers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Samples these tasks as the attached programs want it.
    fn sample(&self, tids: &[u32], on_exec: bool) -> Result<(), Error> {
        let events = self.with_source(|slot| slot.as_mut().map_or_else(Vec::new, Source::sampled));
        if events.is_empty() {
            return Ok(());
        }
        let source = Arc::clone(&self.source);
        let sink = move |counted: &Counted| {
            if let Some(source) = &mut *source.lock().unwrap_or_else(PoisonError::into_inner) {
                source.count(counted);
            }
        };
        let sampler = Sampler::start(tids, &events, on_exec, Box::new(sink))?;
        self.samplers.lock().unwrap_or_else(PoisonError::into_inner).push(sampler);
        Ok(())
    }

    /// Runs programs for everything that was sampled so far.
    pub(crate) fn drain(&self) {
        for sampler in &*self.samplers.lock().unwrap_or_else(PoisonError::into_inner) {
            sampler.drain();
        }
    }

    /// What must be seen for the programs that are attached now.
    fn wanted(&self) -> Wanted {
        self.with_source(|slot| slot.as_mut().map_or_else(Wanted::default, Source::wanted))
    }

    fn sink(&self) -> impl FnMut(Event<'_>) + Send + use<> {
        let source = Arc::clone(&self.source);
        move |event| {
            if let Some(source) = &mut *source.lock().unwrap_or_else(PoisonError::into_inner) {
                source.fire(&event);
            }
        }
    }

    fn keep(&self, tracer: Tracer) -> Arc<Tracer> {
        let tracer = Arc::new(tracer);
        self.tracers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tracer));
        tracer
    }

    pub(crate) fn hold(&self, command: Command) -> Result<Held, Error> {
        let tracer = Tracer::hold(command, self.sink())?;
        Ok(Held { tracer: self.keep(tracer), tracing: self.clone() })
    }

    pub(crate) fn join(&self, pid: u32) -> Result<(), Error> {
        let tracer = Tracer::join(pid, self.wanted(), self.sink())?;
        self.keep(tracer);
        self.sample(&procfs::threads(pid), false)
    }

    /// All tracers so far.
    pub(crate) fn tracers(&self) -> Vec<Arc<Tracer>> {
        self.tracers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A command that waits.
#[derive(Debug)]
pub(crate) struct Held {
    tracer: Arc<Tracer>,
    tracing: Tracing,
}

impl HeldCommand for Held {
    fn pid(&self) -> u32 {
        self.tracer.pid()
    }

    fn release(self: Box<Self>) -> io::Result<Box<dyn RunningCommand>> {
        self.tracing.sample(&[self.tracer.pid()], true).map_err(io::Error::other)?;
        self.tracer.release(self.tracing.wanted())?;
        Ok(Box::new(Running { tracer: self.tracer, tracing: self.tracing }))
    }
}

/// A command that runs.
#[derive(Debug)]
struct Running {
    tracer: Arc<Tracer>,
    tracing: Tracing,
}

impl RunningCommand for Running {
    fn pid(&self) -> u32 {
        self.tracer.pid()
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.tracer.status();
        if status.is_some() {
            self.tracing.drain();
        }
        Ok(status)
    }
}
