//! The back end for aarch64.

mod asm;
mod call;
mod emit;
mod glue;

pub(super) use emit::Emitter;

#[cfg(test)]
mod tests;
