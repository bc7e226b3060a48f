//! The contract between what runs programs and what uses them.
//!
//! An [`Engine`] takes a [`Spec`] and gives back a [`Session`]: maps to read and write, programs to attach or test-run,
//! and a stream of [`Record`]s. The Linux kernel is one engine, the machine in user space another; front ends, views and
//! the run loop are written against these traits and work on both.
//!
//! # Invariants
//!
//! - Pure: no IO, no system calls; implementations live in other crates.
//! - Dropping a [`Session`] or a [`Link`] takes everything away that was not pinned.
//! - A lost record is a record ([`Record::Lost`]): nothing is dropped without being counted.

mod command;
mod error;
mod link;
mod map;
mod record;
mod session;

pub use command::{HeldCommand, RunningCommand};
pub use error::{Error, ErrorKind};
pub use link::{
    AttachOptions, Link, NetfilterFamily, NetfilterHook, NetfilterStage, PerfEvent, Position, SampleRate, Spot,
    TcDirection, Watch, XdpMode,
};
pub use map::{BatchCursor, Entry, MapFacts, MapHandle};
pub use record::{Record, RecordSource, Source};
pub use session::{
    Engine, LoadOptions, Loaded, ProgramStream, Progress, Session, TestRun, TestRunOutput, Token, VerifierLog,
};

// The types that every user of the contract needs beside it.
pub use skep_spec::{MapId, ProgId, Spec};
