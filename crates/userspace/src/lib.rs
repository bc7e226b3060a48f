//! The engine without privileges: the machine in user space (`skep-vm`), fed with real events.
//!
//! [`UserEngine`] takes a [`Spec`](skep_spec::Spec), fits it to a [`Target`](skep_spec::Target) (the running kernel's types where they
//! can be read), and gives back a [`UserSession`]: maps, programs to attach or to run on request, and the stream of what programs tell. It
//! needs no right at all.
//!
//! - Programs of any type can be run on a given context ([`Session::test_run`](skep_engine::Session::test_run)); XDP, tc and
//!   socket filters on a packet, with the answers that the kernel's `BPF_PROG_TEST_RUN` gives (`test_run`).
//! - [`Replay`] is a source of packets: a file (`pcap`), whose packets go through the programs that are attached.
//! - [`Wire`] is a source of live ones: a network of two hosts that the kernel makes for everybody, with the programs between them.
//! - [`process`] is a source of what processes do.
//! - Other sources run programs through a [`Runner`]: it is told which programs, in which task, with which record.
//!
//! # Invariants
//!
//! - No privilege is needed, and nothing that is observed is changed, but for code where breakpoints are, while they are there
//!   ([`process`]), and what a program asks for (`bpf_send_signal`, `bpf_probe_write_user`).
//! - What fails alone fails alone: a program that needs the kernel is refused with the name of what it needs.
//! - A program that does wrong is stopped, and the run ends with an error that names its line: the kernel would not have taken it.
//! - What has no source here is refused when it is attached, with the nearest thing that works.

mod attach;
mod chain;
mod context;
mod load;
mod map;
mod records;
mod replay;
mod runner;
mod session;
mod target;
mod test_run;
mod timer;
mod wire;

pub mod pcap;
pub mod probe;
pub mod process;

pub use attach::{Attached, Hooks, Place};
pub use chain::Verdicts;
pub use map::UserMap;
pub use replay::{Replay, Report};
pub use runner::{Payload, RawArg, Runner};
pub use session::{UserEngine, UserSession};
pub use wire::Wire;
