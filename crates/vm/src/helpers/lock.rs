//! `bpf_spin_lock`: a word of a map's value that one program holds at a time (kernel/bpf/helpers.c, Linux 6.18).
//!
//! What the kernel's verifier sees to is seen to here as it happens: a program holds one lock at most, and gives back what it took. A run
//! that ends in any way gives its lock back. Waiting costs fuel.

use std::sync::atomic::Ordering;

use skep_insn::helpers;

use super::{Family, misuse};
use crate::{Access, Cpu, Stop};

pub(super) const FAMILY: Family = &[(helpers::SPIN_LOCK, lock), (helpers::SPIN_UNLOCK, unlock)];

/// What a round of waiting costs.
const WAIT_FUEL: u64 = 64;

fn lock(cpu: &mut Cpu, [addr, ..]: [u64; 5]) -> Result<u64, Stop> {
    if cpu.lock.is_some() {
        return Err(misuse(helpers::SPIN_LOCK, "the program holds a lock already"));
    }
    loop {
        let space = cpu.space();
        let Some(word) = space.near().atomic32(addr, Access::Atomic) else {
            return Err(space.explain(addr, 4, Access::Atomic).into());
        };
        if word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            break;
        }
        cpu.burn(WAIT_FUEL)?;
        std::thread::yield_now();
    }
    cpu.lock = Some(addr);
    Ok(0)
}

fn unlock(cpu: &mut Cpu, [addr, ..]: [u64; 5]) -> Result<u64, Stop> {
    if cpu.lock != Some(addr) {
        return Err(misuse(helpers::SPIN_UNLOCK, format!("{addr:#x} is no lock that the program holds")));
    }
    cpu.unlock();
    Ok(0)
}
