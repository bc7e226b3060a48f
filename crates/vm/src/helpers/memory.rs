//! Reading memory that is not the program's (kernel/trace/bpf_trace.c, mm/maccess.c, Linux 6.18).
//!
//! What the kernel's memory is to a program there, its own space is here: contexts, packets, values of maps. Every other address is the
//! traced task's, which [`Memory`](crate::Memory) reads. There is nothing else, so a pointer into the kernel cannot be read: the helper
//! says so, as for any bad pointer, and the program goes on.

use rustix::io::Errno;
use skep_insn::helpers;

use super::{Family, bytes, error, pay};
use crate::{Access, Cpu, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::PROBE_READ, |cpu, args| read(cpu, args, From::Any)),
    (helpers::PROBE_READ_USER, |cpu, args| read(cpu, args, From::Task)),
    (helpers::PROBE_READ_KERNEL, |cpu, args| read(cpu, args, From::Space)),
    (helpers::COPY_FROM_USER, |cpu, args| read(cpu, args, From::Task)),
    (helpers::PROBE_READ_STR, |cpu, args| read_str(cpu, args, From::Any)),
    (helpers::PROBE_READ_USER_STR, |cpu, args| read_str(cpu, args, From::Task)),
    (helpers::PROBE_READ_KERNEL_STR, |cpu, args| read_str(cpu, args, From::Space)),
    (helpers::PROBE_WRITE_USER, write_user),
];

/// Whose memory an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The programs' space.
    Space,
    /// The traced task.
    Task,
    /// The space if the address is one of it, else the task.
    Any,
}

fn fetch(cpu: &Cpu, addr: u64, to: &mut [u8], from: From) -> Option<()> {
    let in_space = addr >> 32 == cpu.space().base() >> 32;
    match from {
        From::Space | From::Any if in_space => cpu.space().read(addr, to).ok(),
        From::Space => None,
        From::Task | From::Any => cpu.memory()?.read(addr, to),
    }
}

/// The bytes up to a zero, or `max` of them; `None` when they cannot be read.
pub(super) fn fetch_text(cpu: &Cpu, addr: u64, max: usize, from: From) -> Option<Vec<u8>> {
    /// Smallest pages of any machine, and a piece that does not cost much when the text is short.
    const PIECE: u64 = 256;
    let mut text = Vec::new();
    while text.len() < max {
        let at = addr.wrapping_add(text.len() as u64);
        // Never over the end of a page, since the next one may be missing and not be needed; nor, for the space, of a block.
        let in_space = at >> 32 == cpu.space().base() >> 32 && from != From::Task;
        let len = if in_space { 1 } else { PIECE - at % PIECE };
        let mut piece = [0; PIECE as usize];
        let piece = &mut piece[..(len as usize).min(max - text.len())];
        fetch(cpu, at, piece, from)?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&piece[..end]);
            return Some(text);
        }
        text.extend_from_slice(piece);
    }
    Some(text)
}

fn read(cpu: &mut Cpu, [to, len, addr, ..]: [u64; 5], from: From) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    pay(cpu, len)?;
    cpu.space().check(to, len, Access::Write)?;
    let mut bytes = vec![0; len as usize];
    let done = len == 0 || fetch(cpu, addr, &mut bytes, from).is_some();
    if done {
        cpu.space().write(to, &bytes)?;
        return Ok(0);
    }
    cpu.space().zero(to, len)?;
    Ok(error(Errno::FAULT))
}

/// Gives the length with the zero, which is always there.
fn read_str(cpu: &mut Cpu, [to, len, addr, ..]: [u64; 5], from: From) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    pay(cpu, len)?;
    cpu.space().check(to, len, Access::Write)?;
    if len == 0 {
        return Ok(0);
    }
    let Some(mut text) = fetch_text(cpu, addr, len as usize - 1, from) else {
        cpu.space().zero(to, len)?;
        return Ok(error(Errno::FAULT));
    };
    text.push(0);
    cpu.space().write(to, &text)?;
    Ok(text.len() as u64)
}

fn write_user(cpu: &mut Cpu, [addr, data, len, ..]: [u64; 5]) -> Result<u64, Stop> {
    let data = bytes(cpu, data, u64::from(len as u32))?;
    let written = cpu.memory().and_then(|memory| memory.write(addr, &data));
    Ok(written.map_or(error(Errno::FAULT), |()| 0))
}
