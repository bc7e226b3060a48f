//! The machine that runs eBPF programs in user space: no rights, no kernel.
//!
//! ```
//! use skep_insn::text::assemble;
//! use skep_vm::{Cpu, Helpers, Image, Machine};
//!
//! let machine = Machine::new(Helpers::none())?;
//! let insns = assemble("r0 = *(u32 *)(r1 + 4)\nr0 += r2\nexit").map_err(|errors| errors[0].to_string())?.code;
//! let program = machine.load(&Image { name: "sum", insns: &insns, ..Image::default() })?;
//!
//! let input = machine.space().allocate(8, true)?;
//! input.write(4, &40u32.to_ne_bytes());
//! let mut cpu = Cpu::new(&machine)?;
//! assert_eq!(cpu.run(&program, [input.addr(), 2])?, 42);
//!
//! let trap = cpu.run(&program, [input.addr() + 1, 2]).unwrap_err();
//! assert!(trap.to_string().starts_with("program `sum`, instruction 0: read of 4 byte(s) at "));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Program::compile`] makes code of the processor out of a program, where it can; nothing else changes by it but the speed.
//!
//! A [`Machine`] is for the programs of one object: it has their memory ([`Space`]) and the [`Helpers`] that they may call. It takes
//! an [`Image`] and gives a [`Program`], or names the instruction that is wrong; a [`Cpu`] runs it, or says what stopped it,
//! at which instruction and which line of the source ([`Trap`]). [`Machine::create_map`] makes a [`Map`], whose handle a
//! wide load is bound to; [`Helpers::all`] are the helpers that mean something here, and what they know of the task
//! and its memory ([`Task`], [`Memory`]) is set on the processor.
//! Timers that programs start ([`Machine::timers`]) wait for somebody with a thread, who calls [`Cpu::run_timer`] when one is due.
//! A function of the kernel is called by its name ([`Image::kfuncs`]); those that mean something here are there whatever the kernel
//! of the target has.
//!
//! # Memory
//!
//! The addresses that programs see are true ones: r10, the context, a packet and the value of a map are where the register says, in
//! this process. So nothing is translated when a helper, a reader of a map or compiled code follows a program's pointer, and
//! pointers that programs leave in their maps mean something to everybody. What makes this safe is that all of it lies in one
//! reservation of 4 GiB at a multiple of 4 GiB, the [`Space`]:
//!
//! - *Checked* access (the interpreter, compiled code, helpers): the upper half of an address must be that of the space, and a table says for the
//!   lower half whether the bytes belong to some [`Block`], and whether they may be written. One load and two compares.
//! - *Masked* access ([`CompileOptions::masked`]): base + the lower half of the address. For every address that is
//!   right this is the same place; for every other one it is some place in the same space, at worst a page without memory.
//!   No compare, and nothing outside can be reached. The first slot and a gap behind every block have no memory, and neither have
//!   64 KiB on either side of the space, where the offset of an access may lead.
//! - *Plain* access ([`CompileOptions::plain`]; in all compiled code for what is known to be right): the address.
//!
//! All three agree on programs that are right, and share the layout of frames (the module `cpu`), the memory of maps, and fuel.
//!
//! An address whose upper half is zero is the short form of the same address. That is what the 32 bits of `data` in `struct xdp_md`
//! can hold, so contexts look as they do in the kernel without the rewriting that its verifier does. And it is what an arena does:
//! in the kernel its pointers are base + 32 bits as well, `addr_space_cast` to space 0 cuts them and to space 1 makes
//! them whole (0 stays 0). Here the whole memory is like an arena, and the two casts are the same two.
//! A map of kind [`MapKind::Arena`] is a block of it, whose pages `bpf_arena_alloc_pages` gives out.
//!
//! Maps, the code and the state of helpers are *not* in that memory: only the values of maps are. A program that runs wild can
//! spoil data that its object owns; it cannot spoil the machine. Numbers that stand for maps or functions are no addresses.
//!
//! # What this is not
//!
//! Not a verifier: a program is stopped when it does wrong, not refused because it might. Not a copy of what kernels get wrong: where a
//! kernel's verifier removes code that is not dead (`tests/vm/verifier.data` has such programs, and which kernels), a program does here
//! what it says. Not a source of events: contexts, packets and other processes come from the user of this crate. It does no IO of its own.

mod alu;
mod buffer;
mod cpu;
mod environment;
mod error;
mod helper;
mod helpers;
mod interpreter;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "what only the back end for x86-64 makes use of"))]
mod jit;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "jit/absent.rs"]
mod jit;
mod load;
mod machine;
mod map;
mod memory;
pub mod offsets;
mod op;
mod options;
mod packet;
mod program;
mod steps;
mod timers;

pub use buffer::{MAX_PACKET_BYTES, PacketBuffer, PacketKind, Redirect, SK_BUFF_BYTES, SentClone, XDP_MD_BYTES};
pub use cpu::{Cpu, DEFAULT_FUEL, MAX_FRAMES, MAX_MAY_GOTO, MAX_TAIL_CALLS, Packet, STACK_BYTES};
pub use environment::{Event, Memory, Moment, Printed, Task, Text};
pub use error::{CompileError, LoadError, LoadErrorKind, Stop, Trap, TrapKind};
pub use helper::{Helper, HelperFn, Helpers};
pub use machine::Machine;
pub use map::{Bell, Entry, F_NO_PREALLOC, F_RDONLY_PROG, Listener, Map, MapError, MapKind, MapSpec};
pub use memory::{Access, Block, Fault, FaultReason, SPACE_BYTES, Space, SpaceError};
pub use options::CompileOptions;
pub use program::{Image, Line, Program};
pub use timers::{Expired, Timers};

/// The longest program, in slots (`BPF_COMPLEXITY_LIMIT_INSNS`).
pub const MAX_INSNS: usize = 1_000_000;
