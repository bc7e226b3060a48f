//! One run from start to end: what the file is, compile, open, edit, load, attach, print records, count losses, stop.
//!
//! The loop knows no front end and no engine: it takes a [`Spec`](skep_spec::Spec) and the [`Engine`](skep_engine::Engine) trait. What makes a run need no
//! configuration is decided here, one file for each question:
//!
//! - `input`: what is this file?
//! - `leave_out`: whose events does it see? (not skep's own)
//! - `losses`: what does a full buffer refuse?
//! - `plan`: which programs are attached?
//! - `unused`: which options did nothing?
//! - `events`: what do the records look like?
//! - `printk`: which printed lines are ours?
//! - `streams`: what do programs write to streams of their own?
//! - `maps`: what do the maps hold in the end?
//!
//! # How a run ends
//!
//! By a signal, a deadline, a number of events, the end of its command or of the only process that it watches, or because nobody
//! reads its output. What was in the buffers at that moment is read and printed, then everything is detached, what came
//! meanwhile is read too, and losses are summed up. If the process is killed instead, the kernel closes its descriptors, and with
//! them every attachment: nothing is pinned.

pub mod doctor;
pub mod options;
pub mod tool;
pub mod trace;
pub mod trial;

mod attach;
mod command;
mod events;
mod family;
mod identity;
mod input;
mod leave_out;
mod losses;
mod maps;
mod notice;
mod plan;
mod prepare;
mod printk;
mod process;
mod pump;
mod run;
mod sizes;
mod stacks;
mod streams;
mod unused;
mod writer;

pub use command::command;
pub use identity::{Identity, KernelIdentity};
pub use input::{is_c_or_object, loader_of};
pub use notice::{Notice, Summary};
pub use prepare::{Prepared, link, prepare};
pub use run::run;
pub use skep_engine::{Error, ErrorKind};
