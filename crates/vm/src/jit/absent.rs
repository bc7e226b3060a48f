//! Where there is no compiler.

use std::sync::Arc;

use crate::cpu::Cpu;
use crate::interpreter::{Event, Left, State};
use crate::map::Registry;
use crate::program::Program;
use crate::{CompileError, CompileOptions, Stop};

/// A program that was compiled: there is none.
#[derive(Debug)]
pub(crate) enum Native {}

/// Refuses.
pub(crate) fn compile(_: &Program, _: CompileOptions) -> Result<Native, CompileError> {
    Err(CompileError::Architecture)
}

/// What compiled code works with.
#[derive(Debug)]
pub(crate) enum Context {}

impl Native {
    pub(crate) fn holds(&self, _: &Registry) -> bool {
        match *self {}
    }

    pub(crate) fn start(
        &self,
        _: &mut Cpu,
        _: &Arc<Program>,
        _: &[u64],
        _: &mut State,
        _: usize,
    ) -> Result<Event, Stop> {
        match *self {}
    }

    pub(crate) fn steps(&self, _: &mut Cpu, _: &Arc<Program>, _: &mut State, _: usize) -> Result<Event, Stop> {
        match *self {}
    }

    pub(crate) fn begin(&self, _: &mut Cpu, _: &Arc<Program>, _: [u64; 2]) -> Result<u64, Box<Left>> {
        match *self {}
    }
}
