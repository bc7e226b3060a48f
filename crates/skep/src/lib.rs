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
//! # Where things are
//!
//! | to | there is |
//! |---|---|
//! | open, compile, link objects | [`Object::open`], [`Object::from_bytes`], `Object::from_source`, [`Object::link`] |
//! | change one before it is loaded | [`Object::set_global`], [`Object::map_mut`], [`Object::program_mut`], [`Object::spec_mut`]; a clone is changed on its own |
//! | use a map that exists | [`Object::replace_map`] |
//! | choose how it is loaded | [`Object::load_with`] and [`LoadOptions`]: pins, verifier log, token, buffers |
//! | know why it was refused | [`Error`]: message, [`Error::hint`], [`Error::log`], [`Error::log_tail`]; [`errno_of`] |
//! | use maps | [`Map`]: [`get`](Map::get), [`set`](Map::set), [`entries`](Map::entries), per CPU, many at once, [`batches`](Map::batches), [`memory`](Map::memory), [`freeze`](Map::freeze) |
//! | run and attach programs | [`Program::attach`], [`Program::attach_with`], [`Program::test_run`], [`Program::iterate`] |
//! | know what is in the kernel | [`Map::info`], [`Program::info`], [`Program::code`], [`Program::stats`] with [`Statistics`]; [`Map::all`], [`Program::all`] |
//! | change and find attachments | [`Link`], [`Program::replace_at`], [`link_info`], [`links`], [`query`] |
//! | let things outlive the process | [`Map::pin`], [`Program::pin`], [`Link::pin`], [`open_pinned`], [`unpin`] |
//! | keep one thing of an object | [`Map::to_owned`], [`Program::to_owned`] |
//! | read events | [`Loaded::events`] for many buffers; [`Map::ring_reader`], [`Map::perf_reader`] for one, with its controls |
//! | wait for them in tokio | feature `tokio`: `Events::into_async`, `AsyncReader` |
//! | send samples to programs | [`Map::user_ring`] |
//! | ask what the kernel can do | [`kernel_has`], [`KernelVersion`], [`syscall_function`] |
//! | look at types and instructions | [`kernel_types`], [`types_by_id`], the crates [`btf`] and [`insn`] |
//!
//! The limit of locked memory (`RLIMIT_MEMLOCK`) is raised only where a kernel before 5.11 asks for it.
//!
//! # Events are never lost silently
//!
//! A perf buffer that overflows gives [`Record::Lost`], or [`PerfRecord::Lost`]. A ring buffer refuses the event in the program
//! itself, where only the program can notice; `skep run` counts that by changing the program, this library leaves your programs
//! alone.
//!
//! # What outlives the process
//!
//! Nothing, unless it is pinned in a bpffs: [`Map::pin`], [`Program::pin`], [`Link::pin`]. Another process takes it up with
//! [`Map::from_pinned`], [`Program::from_pinned`] and [`link_from_pinned`], or with the same and `_as` when it must be of a shape or
//! kind.
//!
//! # What this crate does not do
//!
//! It prints nothing, starts no thread and needs no runtime. [`Events`] gives its descriptor for event loops ([`Events::as_fd`]), and
//! everything may be used by any thread.

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
pub use skep_kernel::UserRing;
pub use skep_kernel::attach::{Attached, AttachedProgram, Hook, syscall_function};
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
