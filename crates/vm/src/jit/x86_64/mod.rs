//! The back end for x86-64.

mod asm;
mod emit;
mod glue;

pub(super) use emit::Emitter;
