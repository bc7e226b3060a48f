//! The back end for x86-64.

mod asm;
mod call;
mod emit;
mod fault;
mod glue;
mod lookup;

pub(super) use emit::Emitter;
pub(super) use fault::{Guarded, catch_faults};
