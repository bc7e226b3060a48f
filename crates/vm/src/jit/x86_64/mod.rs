//! The back end for x86-64.

mod asm;
mod call;
mod emit;
mod glue;

pub(super) use emit::Emitter;
