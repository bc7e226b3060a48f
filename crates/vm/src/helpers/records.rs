//! Records for user space: ring buffers and perf event arrays (kernel/bpf/ringbuf.c, kernel/trace/bpf_trace.c, Linux 6.18).
//!
//! What a program has reserved and not ended when its run ends is discarded, so that what comes behind it is not held up.

use rustix::io::Errno;
use skep_insn::helpers;

use super::{Family, bytes, error, misuse};
use crate::{Cpu, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::RINGBUF_OUTPUT, output),
    (helpers::RINGBUF_RESERVE, reserve),
    (helpers::RINGBUF_SUBMIT, submit),
    (helpers::RINGBUF_DISCARD, discard),
    (helpers::RINGBUF_QUERY, query),
    (helpers::PERF_EVENT_OUTPUT, perf_event_output),
];

/// `BPF_RB_NO_WAKEUP` and `BPF_RB_FORCE_WAKEUP`.
const WAKEUPS: u64 = 3;

fn output(cpu: &mut Cpu, [handle, data, len, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    let ring = map.ring().ok_or_else(|| misuse(helpers::RINGBUF_OUTPUT, "the map is not a ringbuf"))?;
    if flags & !WAKEUPS != 0 {
        return Ok(error(Errno::INVAL));
    }
    if len > ring.query()[1] {
        return Ok(error(Errno::AGAIN));
    }
    let data = bytes(cpu, data, len)?;
    Ok(ring.output(&data, flags).map_or_else(|error| error.returned(), |()| 0))
}

pub(super) fn reserve(cpu: &mut Cpu, [handle, len, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    let ring = map.ring().ok_or_else(|| misuse(helpers::RINGBUF_RESERVE, "the map is not a ringbuf"))?;
    let Some(addr) = (flags == 0).then(|| ring.reserve(len)).flatten() else { return Ok(0) };
    cpu.reserved.push((addr, map));
    Ok(addr)
}

pub(super) fn finish(cpu: &mut Cpu, id: u32, addr: u64, flags: u64, submit: bool) -> Result<u64, Stop> {
    let index = cpu.reserved.iter().position(|(reserved, _)| *reserved == addr);
    let index = index.ok_or_else(|| misuse(id, format!("{addr:#x} is no record that this program has reserved")))?;
    let (_, map) = cpu.reserved.swap_remove(index);
    let finished = map.ring().and_then(|ring| ring.finish(addr, flags, submit));
    finished.map(|()| 0).ok_or_else(|| misuse(id, "the record was ended before"))
}

fn submit(cpu: &mut Cpu, [addr, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    finish(cpu, helpers::RINGBUF_SUBMIT, addr, flags, true)
}

fn discard(cpu: &mut Cpu, [addr, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    finish(cpu, helpers::RINGBUF_DISCARD, addr, flags, false)
}

fn query(cpu: &mut Cpu, [handle, what, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0;
    let ring = map.ring().ok_or_else(|| misuse(helpers::RINGBUF_QUERY, "the map is not a ringbuf"))?;
    Ok(ring.query().get(what as usize).copied().unwrap_or(0))
}

/// Bits of the flags that say which slot; all of them: that of this CPU.
const INDEX_MASK: u64 = 0xffff_ffff;
/// Bits of the flags that say how many bytes of the packet follow.
const PACKET_MASK: u64 = 0xf_ffff << 32;
/// The longest record.
const MAX_RECORD: u64 = u16::MAX as u64;

fn perf_event_output(cpu: &mut Cpu, [_, handle, flags, data, len]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    let not_one = || misuse(helpers::PERF_EVENT_OUTPUT, "the map is not a perf_event_array");
    let array = map.perf_array().ok_or_else(not_one)?;
    if flags & !(INDEX_MASK | PACKET_MASK) != 0 {
        return Ok(error(Errno::INVAL));
    }
    let wanted = (flags & PACKET_MASK) >> 32;
    if len.saturating_add(wanted) > MAX_RECORD {
        return Ok(error(Errno::TOOBIG));
    }
    let mut data = bytes(cpu, data, len)?;
    if wanted != 0 {
        let Some(packet) = cpu.packet() else { return Ok(error(Errno::INVAL)) };
        if wanted > packet.len.into() {
            return Ok(error(Errno::FAULT));
        }
        match cpu.buffer() {
            Some(buffer) => data.extend_from_slice(&buffer.bytes()[..wanted as usize]),
            None => data.extend(bytes(cpu, packet.addr, wanted)?),
        }
    }
    let index = flags & INDEX_MASK;
    let index = if index == INDEX_MASK { cpu.number() } else { index as u32 };
    if index < array.len() && index != cpu.number() && array.is_open(index) {
        return Ok(error(Errno::OPNOTSUPP));
    }
    Ok(array.output(index, data.into()).map_or_else(|error| error.returned(), |()| 0))
}
