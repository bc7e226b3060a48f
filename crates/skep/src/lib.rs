//! eBPF for applications: open an object, change it, load it, attach its programs, read its maps and events.
//!
//! Three steps, each a type, so that what can only be done before loading can only be written before loading:
//!
//! 1. [`Object`]: plain data. Set globals, resize maps, switch programs off. Nothing is in the kernel yet.
//! 2. [`Loaded`]: maps exist, programs are verified, nothing is attached.
//! 3. [`Link`]: an attached program; dropping it detaches.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use skep::{Object, Record};
//!
//! # fn main() -> Result<(), skep::Error> {
//! let mut object = Object::open("execsnoop.bpf.o")?;
//! object.set_global("min_uid", &1000u32)?;
//! let loaded = object.load()?;
//! let _links = loaded.attach_all()?;
//! loaded.events(&["events"])?.for_each(|record| {
//!     match record {
//!         Record::Event { data, .. } => println!("{} bytes", data.len()),
//!         Record::Lost { count, .. } => eprintln!("lost {count} events"),
//!         Record::Text { text, .. } => println!("{text}"),
//!     }
//!     ControlFlow::Continue(())
//! })
//! # }
//! ```
//!
//! # Events are never lost silently
//!
//! A perf buffer that overflows gives [`Record::Lost`]. A ring buffer refuses the event in the program itself, where only
//! the program can notice; `skep run` counts that by changing the program, this library leaves your programs alone.
//!
//! # What outlives the process
//!
//! Nothing, unless it is pinned in a bpffs: [`Map::pin`], [`Program::pin`], [`Link::pin`]. Another process takes it up with
//! [`Map::from_pinned`], [`Program::from_pinned`] and [`link_from_pinned`].
//!
//! # What this crate does not do
//!
//! It prints nothing, starts no thread and needs no runtime. [`Events`] gives its descriptor for event loops, synchronous or
//! not: see [`Events::as_fd`].

#[cfg(feature = "tokio")]
mod asynchronous;
mod batch;
mod events;
mod link;
mod loaded;
mod map;
mod memory;
mod object;
mod pin;
mod program;
mod types;

#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncEvents, AsyncReader};
pub use batch::{Batches, PerCpuBatch};
pub use events::Events;
pub use link::{link_from_id, link_from_pinned, link_from_pinned_as, link_info, links, query};
pub use loaded::Loaded;
pub use map::{Access, ElemFlags, Map};
pub use memory::Memory;
pub use object::Object;
pub use pin::{Pinned, open_pinned, unpin};
pub use program::Program;
pub use types::{kernel_types, module_types};

pub use skep_btf as btf;
pub use skep_engine::{
    AttachOptions, Error, ErrorKind, Link, LoadOptions, Position, Record, TcDirection, TestRun, TestRunOutput, Token,
    VerifierLog, XdpMode,
};
pub use skep_insn as insn;
pub use skep_kernel::attach::{Attached, AttachedProgram, Hook};
pub use skep_kernel::errno_of;
pub use skep_kernel::features::{KernelFeature, kernel_has};
pub use skep_kernel::info::{CodeFunction, CodeLine, MapInfo, ProgramCode, ProgramInfo, types_by_id};
pub use skep_kernel::program::{ProgramStats, Statistics};
pub use skep_kernel::readers::{Flusher, Next, PerfOptions, PerfReader, PerfRecord, RingReader, Wakeup};
pub use skep_spec as spec;
pub use skep_sys::Errno;
pub use skep_sys::bpf::{LinkInfo, LinkKind, LinkType};
pub use skep_sys::ringbuf::RingRecord;
pub use skep_sys::version::KernelVersion;
pub use zerocopy;
