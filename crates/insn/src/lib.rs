//! The eBPF instruction set: types, encoding, assembler and disassembler text.

pub mod consts;
mod raw;

pub use raw::{Endian, InsnIdx, RawInsn, slots_from_bytes, slots_to_bytes};
