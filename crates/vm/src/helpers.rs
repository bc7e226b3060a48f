//! The helpers that have a meaning in user space, a file for each family.
//!
//! What they return is what the kernel's return: a number, or an error number below zero. What the kernel's verifier refuses before a
//! program runs (a pointer to nothing, a map of the wrong kind) stops the program here, where it happens.
//!
//! Every pointer that a program gives is checked as an access of its own would be. Bytes that a helper goes over cost fuel, or
//! a loop around a helper could take for ever.

mod dynptr;
mod format;
mod kfuncs;
mod lock;
mod loops;
mod maps;
mod memory;
mod packet;
mod print;
mod records;
mod refused;
mod room;
mod skb;
mod stack;
mod task;
mod text;
mod timer;
mod world;
mod xdp;

use rustix::io::Errno;
use skep_insn::helpers;

use crate::helper::{Helper, HelperFn, Helpers};
use crate::{Cpu, Stop, TrapKind};

pub(crate) use kfuncs::kfunc;
pub(crate) use refused::needs;

/// A family: numbers and functions.
type Family = &'static [(u32, HelperFn)];

const FAMILIES: &[Family] = &[
    maps::FAMILY,
    loops::FAMILY,
    records::FAMILY,
    dynptr::FAMILY,
    world::FAMILY,
    memory::FAMILY,
    print::FAMILY,
    text::FAMILY,
    packet::FAMILY,
    xdp::FAMILY,
    skb::FAMILY,
    room::FAMILY,
    stack::FAMILY,
    lock::FAMILY,
    task::FAMILY,
    timer::FAMILY,
];

impl Helpers {
    /// All that this crate has.
    pub fn all() -> Helpers {
        let mut all = Helpers::none();
        for (id, run) in FAMILIES.iter().copied().flatten() {
            let name = helpers::name(*id).unwrap_or_default();
            all = all.add(Helper { id: *id, name, run: *run, own: true });
        }
        all
    }
}

/// What a helper returns for an error.
fn error(errno: Errno) -> u64 {
    i64::from(-errno.raw_os_error()) as u64
}

/// Pays for bytes that are gone over: as much as a program's own loop over words would.
fn pay(cpu: &mut Cpu, len: u64) -> Result<(), Stop> {
    Ok(cpu.burn(len / 8)?)
}

/// Bytes of the program's memory.
fn bytes(cpu: &mut Cpu, addr: u64, len: u64) -> Result<Vec<u8>, Stop> {
    pay(cpu, len)?;
    // Before there is memory for them.
    cpu.space().check(addr, len, crate::Access::Read)?;
    let mut bytes = vec![0; len as usize];
    cpu.space().read(addr, &mut bytes)?;
    Ok(bytes)
}

fn misuse(id: u32, message: impl Into<String>) -> Stop {
    TrapKind::Misuse { helper: helpers::name(id).unwrap_or_default(), message: message.into() }.into()
}
