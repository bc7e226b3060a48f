//! C to ELF: finds clang, brings the headers, makes vmlinux.h.
//!
//! A person writes one C file and has nothing else: no libbpf, no kernel headers, no Makefile. This crate is everything
//! between that file and an ELF object: it finds a compiler that knows the BPF target ([`Compiler`]), gives it the headers
//! that the file asks for (our own `bpf/*.h`, stand-ins for the C library, a `vmlinux.h` from the kernel's BTF), runs it, and
//! keeps what it made, so that the same file costs no compiler the second time ([`Clang`]).
//!
//! ```no_run
//! # fn main() -> Result<(), skep_clang::Error> {
//! use std::path::Path;
//! use skep_clang::{Clang, Request};
//!
//! let object = Clang::find()?.compile(&Request::new(Path::new("prog.bpf.c")))?;
//! eprint!("{}", object.warnings);
//! std::fs::write("prog.bpf.o", object.bytes).expect("the current folder can be written to");
//! # Ok(())
//! # }
//! ```
//!
//! Two things about a program are best known where it is compiled, and are given as data over the object's BTF, without
//! any IO: which C type travels through which buffer ([`event_types`]), and what looks wrong in the source ([`lint()`]).
//!
//! What this crate does not do: load anything, look at the running kernel (the caller brings the BTF), print.
//! It is the only crate that runs a compiler.

mod cache;
mod compile;
mod compiler;
mod deps;
mod error;
mod events;
mod hash;
mod headers;
mod lint;
mod message;
mod object;
mod target;
mod vmlinux;

pub use cache::Cache;
pub use compile::{Clang, Request};
pub use compiler::Compiler;
pub use error::Error;
pub use events::{EventTypes, SECTION as EVENTS_SECTION, event_types};
pub use lint::{Warning, lint};
pub use object::Object;
pub use target::{Arch, Target};
pub use vmlinux::Vmlinux;
