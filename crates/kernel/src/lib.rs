//! The Linux engine: the live target, loading, attaching, maps and buffers.
//!
//! [`KernelEngine`] takes a [`Spec`](skep_spec::Spec), fits it to the [`LiveTarget`], and gives back a [`KernelSession`]: maps
//! ([`KernelMap`]), programs to attach or to run on request, and [`Records`], the stream of what programs tell. Who has to do
//! something between the two halves of loading stops at the [`PreparedObject`]: its maps are there, its programs are not.
//!
//! # Invariants
//!
//! - Links first, and nothing stays behind when the process dies, however it dies, unless it was pinned.
//! - What fails alone fails alone: a program that is refused leaves the others, and has its reason.
//! - Nothing is dropped without being counted: what a buffer could not hold is a record itself.
//! - The kernel is asked by trying. What it can do is found out once per process, and only when it matters.

mod command;
mod load;
mod loader;
mod permission;
mod prepared;
mod session;

pub mod attach;
pub mod features;
pub mod fuzz;
pub mod info;
pub mod map;
pub mod program;
pub mod readers;
pub mod records;
pub mod target;
pub mod uprobe;
pub mod user_ring;

use skep_binary::near;

pub use features::Features;
pub use load::errno_of;
pub use loader::{LoaderEngine, SESSION_KEYRING};
pub use map::KernelMap;
pub use prepared::{CloneOptions, EditInsns, PreparedObject};
pub use program::KernelProgram;
pub use records::Records;
pub use session::{KernelEngine, KernelSession};
pub use target::LiveTarget;
pub use user_ring::UserRing;
