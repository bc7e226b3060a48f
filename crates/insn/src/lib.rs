//! The eBPF instruction set: types, encoding, assembler and disassembler text.
//!
//! Two tiers. [`RawInsn`] is one 8-byte slot with any bits whatever, as files and the kernel hold it; programs are runs
//! of such slots everywhere, because the kernel's log, its relocations and jump distances count them. [`Insn`] is one
//! instruction with its meaning: [`Insn::decode`] names what is wrong with bits that mean nothing, [`Insn::encode`]
//! gives the same bits back. [`build`] holds short constructors for programs written in Rust, [`text`] writes and reads
//! both spellings of assembly.
//!
//! ```
//! use skep_insn::text::{Printer, Spelling, assemble};
//!
//! let code = assemble("r0 = 2\nif r1 == 0 goto out\nr0 = 1\nout:\nexit")?.code;
//! let listing = Printer::new(Spelling::Kernel).listing(&code);
//! assert!(listing.starts_with("   0: (b7) r0 = 2\n   1: (15) if r1 == 0x0 goto pc+1\n"));
//! # Ok::<(), Vec<skep_insn::text::AsmError>>(())
//! ```
//!
//! Pure: no IO, no dependencies, no unsafe. What a program may *do* (types of registers, which helper a program type
//! may call, loops) is the verifier's business and not told here.

pub mod build;
pub mod consts;
mod decode;
#[doc(hidden)]
pub mod fuzz;
pub mod helpers;
mod insn;
mod operand;
mod operation;
mod raw;
pub mod text;

pub use decode::{DecodeError, DecodeErrorKind, Field};
pub use insn::{Imm64, Insn, PacketSize, Slots};
pub use operand::{LoadType, Operand, Reg, Size, Width};
pub use operation::{AluOp, AtomicOp, Cond, SignExtend, SwapBits, SwapKind};
pub use raw::{Endian, InsnIdx, RawInsn, slots_from_bytes, slots_to_bytes};
