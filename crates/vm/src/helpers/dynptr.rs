//! Dynptrs: memory with a length that programs pass around (kernel/bpf/helpers.c, Linux 6.18).
//!
//! A dynptr is 16 bytes of the program's stack: the address, the length, and an offset that is 0 here. In the kernel the verifier sees
//! to it that nobody else writes there; here a program that does gains nothing, since what a dynptr says is checked like any pointer.

use rustix::io::Errno;
use skep_insn::helpers;

use super::records::{finish, reserve};
use super::{Family, bytes, error, misuse};
use crate::{Cpu, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::DYNPTR_FROM_MEM, from_mem),
    (helpers::DYNPTR_READ, read),
    (helpers::DYNPTR_WRITE, write),
    (helpers::DYNPTR_DATA, data),
    (helpers::USER_RINGBUF_DRAIN, drain),
    (helpers::RINGBUF_RESERVE_DYNPTR, reserve_dynptr),
    (helpers::RINGBUF_SUBMIT_DYNPTR, |cpu, args| end(cpu, args, helpers::RINGBUF_SUBMIT_DYNPTR, true)),
    (helpers::RINGBUF_DISCARD_DYNPTR, |cpu, args| end(cpu, args, helpers::RINGBUF_DISCARD_DYNPTR, false)),
];

/// The longest memory behind a dynptr.
const MAX_LEN: u64 = (1 << 24) - 1;

/// What a dynptr says; an address of 0 is none.
pub(super) struct Dynptr {
    addr: u64,
    len: u64,
}

impl Dynptr {
    const NONE: Dynptr = Dynptr { addr: 0, len: 0 };

    pub(super) fn load(cpu: &Cpu, at: u64) -> Result<Dynptr, Stop> {
        let mut bytes = [0; 16];
        cpu.space().read(at, &mut bytes)?;
        let words = bytes.as_chunks().0;
        Ok(Dynptr { addr: u64::from_ne_bytes(words[0]), len: u64::from_ne_bytes(words[1]) & MAX_LEN })
    }

    pub(super) fn store(&self, cpu: &Cpu, at: u64) -> Result<(), Stop> {
        cpu.space().write(at, &self.addr.to_ne_bytes())?;
        Ok(cpu.space().write(at.wrapping_add(8), &self.len.to_ne_bytes())?)
    }

    pub(super) fn is_null(&self) -> bool {
        self.addr == 0
    }

    /// Its length; none has an error in place of one.
    pub(super) fn size(&self) -> u64 {
        if self.is_null() { error(Errno::INVAL) } else { self.len }
    }

    /// The part of it between two offsets.
    pub(super) fn adjusted(&self, start: u64, end: u64) -> Result<Dynptr, Errno> {
        if self.is_null() || start > end {
            return Err(Errno::INVAL);
        }
        if end > self.len {
            return Err(Errno::RANGE);
        }
        Ok(Dynptr { addr: self.addr + start, len: end - start })
    }

    /// The address of some of its bytes.
    pub(super) fn part(&self, off: u64, len: u64) -> Result<u64, Errno> {
        match self.len.checked_sub(len) {
            _ if self.addr == 0 => Err(Errno::INVAL),
            Some(last) if off <= last => Ok(self.addr.wrapping_add(off)),
            _ => Err(Errno::TOOBIG),
        }
    }
}

fn from_mem(cpu: &mut Cpu, [addr, len, flags, to, _]: [u64; 5]) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    let wrong = match (len > MAX_LEN, flags != 0) {
        (true, _) => Some(Errno::TOOBIG),
        (_, true) => Some(Errno::INVAL),
        _ => None,
    };
    let dynptr = if wrong.is_some() { Dynptr::NONE } else { Dynptr { addr, len } };
    dynptr.store(cpu, to)?;
    Ok(wrong.map_or(0, error))
}

fn read(cpu: &mut Cpu, [to, len, from, off, flags]: [u64; 5]) -> Result<u64, Stop> {
    let (len, off) = (u64::from(len as u32), u64::from(off as u32));
    let part = if flags == 0 { Dynptr::load(cpu, from)?.part(off, len) } else { Err(Errno::INVAL) };
    match part {
        Ok(addr) => {
            let bytes = bytes(cpu, addr, len)?;
            cpu.space().write(to, &bytes)?;
            Ok(0)
        }
        Err(errno) => Ok(error(errno)),
    }
}

fn write(cpu: &mut Cpu, [to, off, from, len, flags]: [u64; 5]) -> Result<u64, Stop> {
    let (len, off) = (u64::from(len as u32), u64::from(off as u32));
    let part = if flags == 0 { Dynptr::load(cpu, to)?.part(off, len) } else { Err(Errno::INVAL) };
    match part {
        Ok(addr) => {
            let bytes = bytes(cpu, from, len)?;
            cpu.space().write(addr, &bytes)?;
            Ok(0)
        }
        Err(errno) => Ok(error(errno)),
    }
}

fn data(cpu: &mut Cpu, [from, off, len, ..]: [u64; 5]) -> Result<u64, Stop> {
    Ok(Dynptr::load(cpu, from)?.part(u64::from(off as u32), u64::from(len as u32)).unwrap_or(0))
}

fn reserve_dynptr(cpu: &mut Cpu, [handle, len, flags, to, _]: [u64; 5]) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    Dynptr::NONE.store(cpu, to)?;
    if flags != 0 {
        return Ok(error(Errno::INVAL));
    }
    if len > MAX_LEN {
        return Ok(error(Errno::TOOBIG));
    }
    let addr = reserve(cpu, [handle, len, 0, 0, 0])?;
    if addr == 0 {
        return Ok(error(Errno::INVAL));
    }
    Dynptr { addr, len }.store(cpu, to)?;
    Ok(0)
}

/// One for which there was no room may and must be ended, too.
fn end(cpu: &mut Cpu, [at, flags, ..]: [u64; 5], id: u32, submit: bool) -> Result<u64, Stop> {
    let dynptr = Dynptr::load(cpu, at)?;
    if dynptr.addr == 0 {
        return Ok(0);
    }
    Dynptr::NONE.store(cpu, at)?;
    finish(cpu, id, dynptr.addr, flags, submit)
}

/// Most records that a call takes (`BPF_MAX_USER_RINGBUF_SAMPLES`).
const MAX_SAMPLES: u64 = 128 << 10;
/// `BPF_RB_NO_WAKEUP` and `BPF_RB_FORCE_WAKEUP`.
const WAKEUPS: u64 = 3;

/// The callback gets a dynptr of the record, and the context.
fn drain(cpu: &mut Cpu, [handle, function, context, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    let not_one = || misuse(helpers::USER_RINGBUF_DRAIN, "the map is not a user_ringbuf");
    let ring = map.user_ring().ok_or_else(not_one)?;
    if flags & !WAKEUPS != 0 {
        return Ok(error(Errno::INVAL));
    }
    if !ring.acquire() {
        return Ok(error(Errno::BUSY));
    }
    let mut each = || {
        for sample in 0..MAX_SAMPLES {
            let Some((addr, len)) = ring.next() else { return Ok(sample) };
            Dynptr { addr, len }.store(cpu, ring.dynptr.addr())?;
            if cpu.call(function, &[ring.dynptr.addr(), context])? != 0 {
                return Ok(sample + 1);
            }
        }
        Ok(MAX_SAMPLES)
    };
    let taken = each();
    ring.release();
    taken
}
