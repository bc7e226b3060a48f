//! What a person sees who types `skep run`, `skep load` and `skep doctor`: the binary, real programs, a real kernel.
//!
//! The cases run on the host and, compiled statically, on older kernels in virtual machines. Each says what it needs
//! ([`support::needs`]); each that attaches something checks afterwards that nothing of it is left
//! ([`support::kernel_objects`]).

mod support;

mod bad_input;
mod buffers;
mod docs;
mod doctor;
mod kprobes;
mod link;
mod load;
mod loader;
mod maps;
mod network;
mod scope;
mod stacks;
mod stop;
mod streams;
mod terminal;
mod tool;
mod tools;
mod trace;
mod trace_end;
mod tracepoints;
mod unwind;
mod uprobes;
mod user;
mod user_calls;
mod user_gates;
mod user_probes;
mod vm;
