//! Stacks of the traced task (kernel/bpf/stackmap.c, Linux 6.18).
//!
//! User space's part of a stack is what [`Task::user_stack`](crate::Task::user_stack) finds. The kernel's part is not to be had: a
//! program that asks for it gets `EOPNOTSUPP`, which the kernel gives for stacks that it cannot walk, and its buffer is cleared.

use rustix::io::Errno;
use skep_insn::helpers;

use super::{Family, error, misuse, pay};
use crate::map::MAX_DEPTH;
use crate::{Access, Cpu, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::GET_STACKID, get_stackid),
    (helpers::GET_STACK, |cpu, [_, to, len, flags, _]| get_stack(cpu, to, len, flags)),
    (helpers::GET_TASK_STACK, get_task_stack),
];

/// How many of the innermost frames are left out.
const SKIP_MASK: u64 = 0xff;
const F_USER_STACK: u64 = 1 << 8;
const F_FAST_STACK_CMP: u64 = 1 << 9;
const F_REUSE_STACKID: u64 = 1 << 10;
const F_USER_BUILD_ID: u64 = 1 << 11;

/// The stack without the frames that are left out; how many there are at most is `depth`.
fn walk(cpu: &mut Cpu, depth: usize, flags: u64) -> Result<Vec<u64>, Errno> {
    if flags & F_USER_STACK == 0 {
        return Err(Errno::OPNOTSUPP);
    }
    let skip = (flags & SKIP_MASK) as usize;
    let most = (depth + skip).min(MAX_DEPTH);
    let mut stack = cpu.task().and_then(|task| task.user_stack(most)).ok_or(Errno::FAULT)?;
    stack.truncate(most);
    if stack.len() < skip {
        return Err(Errno::FAULT);
    }
    stack.drain(..skip);
    Ok(stack)
}

fn get_stackid(cpu: &mut Cpu, [_, handle, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    let not_one = || misuse(helpers::GET_STACKID, "the map is not a stack_trace");
    let stacks = map.stack_traces().ok_or_else(not_one)?;
    if flags & !(SKIP_MASK | F_USER_STACK | F_FAST_STACK_CMP | F_REUSE_STACKID) != 0 {
        return Ok(error(Errno::INVAL));
    }
    pay(cpu, 8 * stacks.depth() as u64)?;
    let stack = match walk(cpu, stacks.depth(), flags) {
        Ok(stack) if stack.is_empty() => return Ok(error(Errno::FAULT)),
        Ok(stack) => stack,
        Err(errno) => return Ok(error(errno)),
    };
    Ok(stacks.keep(&stack, flags & F_REUSE_STACKID != 0).map_or_else(|error| error.returned(), u64::from))
}

/// Gives the number of bytes; what is behind them is cleared.
fn get_stack(cpu: &mut Cpu, to: u64, len: u64, flags: u64) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    pay(cpu, len)?;
    cpu.space().check(to, len, Access::Write)?;
    let bad_flags = flags & !(SKIP_MASK | F_USER_STACK | F_USER_BUILD_ID) != 0;
    // Build ids are read from files, by the kernel.
    let stack = if bad_flags || flags & F_USER_BUILD_ID != 0 || !len.is_multiple_of(8) {
        Err(Errno::INVAL)
    } else {
        walk(cpu, len as usize / 8, flags)
    };
    cpu.space().zero(to, len)?;
    match stack {
        Ok(stack) => {
            let bytes: Vec<u8> = stack.iter().take(len as usize / 8).flat_map(|addr| addr.to_ne_bytes()).collect();
            cpu.space().write(to, &bytes)?;
            Ok(bytes.len() as u64)
        }
        Err(errno) => Ok(error(errno)),
    }
}

/// Of other tasks than the current one the kernel walks no user stack.
fn get_task_stack(cpu: &mut Cpu, [task, to, len, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let current = cpu.task().map(|task| task.address());
    if task != 0 && current == Some(task) {
        return get_stack(cpu, to, len, flags);
    }
    cpu.space().zero(to, u64::from(len as u32))?;
    Ok(error(if task == 0 { Errno::INVAL } else { Errno::OPNOTSUPP }))
}
