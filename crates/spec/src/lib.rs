//! The waist of skep: what a BPF object is before any machine sees it, and how it is resolved for one.
//!
//! Whatever a person brings (C, an object file, a script, a package) becomes a [`Spec`]: plain data, the same on every
//! machine, editable, comparable, printable. A [`Target`] answers what may be asked of one machine. Resolving
//! ([`resolve`]) is a pure function of the two and gives a [`Resolved`]: instructions with CO-RE applied, subprograms
//! appended and externs found, plus an [`Explanation`](resolved::Explanation) for every relocation. An engine only has
//! to put its own map handles into the places named by [`Bind`](resolved::Bind) and run the result.
//!
//! ```text
//! ELF bytes ── elf::read ──►  Spec  ── edit ──►  Spec
//!                              │  + Target (BTF, kconfig, symbols, features)
//!                              ▼
//!                           Resolved  ──► engine: bind maps, load
//! ```
//!
//! # Invariants
//!
//! - Pure: no IO, no system calls, no clock, no printing, no unsafe.
//! - The only crate that knows ELF.
//! - Hostile bytes give an [`Error`] with its section and offset, never a panic. An object that no kernel could load
//!   still opens; what is wrong with it stands in [`Spec::warnings`].
//! - Nothing here holds a descriptor.
//!
//! Everything counts instructions in 8-byte slots ([`InsnIdx`](skep_insn::InsnIdx)), as the kernel, its verifier log and
//! the relocations do; a wide load takes two.

pub mod diagnostic;
pub mod digest;
pub mod edit;
pub mod elf;
pub mod external;
pub mod function;
pub mod glob;
pub mod insert;
pub mod loader;
pub mod map;
pub mod merge;
pub mod nearest;
pub mod program;
pub mod resolve;
pub mod resolved;
pub mod section;
pub mod target;

mod error;
mod listing;
mod load_btf;
mod names;
mod spec;

pub use diagnostic::Diagnostic;
pub use elf::MAX_OBJECT_BYTES;
pub use error::Error;
pub use external::{Extern, ExternId, ExternKind};
pub use function::{FuncId, Function};
pub use map::{Map, MapId, MapType};
pub use program::{AttachPoint, AttachType, ProgId, ProgType, Program};
pub use resolved::Resolved;
pub use spec::Spec;
pub use target::Target;
