//! Packets of XDP: their room, and bytes of them (net/core/filter.c, Linux 6.18). All packets are in one piece.

use rustix::io::Errno;
use skep_insn::helpers;

use super::packet::buffer;
use super::{Family, bytes, error, pay};
use crate::buffer::PacketBuffer;
use crate::{Access, Cpu, PacketKind, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::XDP_ADJUST_HEAD, adjust_head),
    (helpers::XDP_ADJUST_META, adjust_meta),
    (helpers::XDP_ADJUST_TAIL, adjust_tail),
    (helpers::XDP_GET_BUFF_LEN, |cpu, [ctx, ..]| Ok(packet(cpu, helpers::XDP_GET_BUFF_LEN, ctx)?.len().into())),
    (helpers::XDP_LOAD_BYTES, load_bytes),
    (helpers::XDP_STORE_BYTES, store_bytes),
];

fn packet(cpu: &mut Cpu, id: u32, ctx: u64) -> Result<&mut PacketBuffer, Stop> {
    buffer(cpu, id, ctx, |kind| kind == PacketKind::Xdp)
}

fn done(it: Option<()>) -> u64 {
    it.map_or(error(Errno::INVAL), |()| 0)
}

fn adjust_head(cpu: &mut Cpu, [ctx, by, ..]: [u64; 5]) -> Result<u64, Stop> {
    Ok(done(packet(cpu, helpers::XDP_ADJUST_HEAD, ctx)?.adjust_head(by as i32)))
}

fn adjust_tail(cpu: &mut Cpu, [ctx, by, ..]: [u64; 5]) -> Result<u64, Stop> {
    Ok(done(packet(cpu, helpers::XDP_ADJUST_TAIL, ctx)?.adjust_tail(by as i32)))
}

fn adjust_meta(cpu: &mut Cpu, [ctx, by, ..]: [u64; 5]) -> Result<u64, Stop> {
    Ok(match packet(cpu, helpers::XDP_ADJUST_META, ctx)?.adjust_meta(by as i32) {
        Some(true) => 0,
        Some(false) => error(Errno::ACCESS),
        None => error(Errno::INVAL),
    })
}

/// Where a helper may go on (`bpf_xdp_pointer`).
fn check(packet: &PacketBuffer, off: u32, len: u32) -> Result<i64, Errno> {
    match (off, len) {
        (0x1_0000.., _) | (_, 0x1_0000..) => Err(Errno::FAULT),
        _ if off + len > packet.len() => Err(Errno::INVAL),
        _ => Ok(off.into()),
    }
}

fn load_bytes(cpu: &mut Cpu, [ctx, off, to, len, _]: [u64; 5]) -> Result<u64, Stop> {
    let (off, len) = (off as u32, len as u32);
    pay(cpu, len.into())?;
    cpu.space().check(to, len.into(), Access::Write)?;
    let packet = packet(cpu, helpers::XDP_LOAD_BYTES, ctx)?;
    let at = match check(packet, off, len) {
        Ok(at) => at,
        Err(errno) => return Ok(error(errno)),
    };
    let mut bytes = vec![0; len as usize];
    if packet.read(at, &mut bytes).is_none() {
        return Ok(error(Errno::INVAL));
    }
    cpu.space().write(to, &bytes)?;
    Ok(0)
}

fn store_bytes(cpu: &mut Cpu, [ctx, off, from, len, _]: [u64; 5]) -> Result<u64, Stop> {
    let (off, len) = (off as u32, len as u32);
    let data = bytes(cpu, from, len.into())?;
    let packet = packet(cpu, helpers::XDP_STORE_BYTES, ctx)?;
    Ok(match check(packet, off, len) {
        Ok(at) => done(packet.write(at, &data)),
        Err(errno) => error(errno),
    })
}
