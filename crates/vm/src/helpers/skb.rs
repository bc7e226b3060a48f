//! Packets of the network stack: bytes of them, their length, checksums, VLAN tags (net/core/filter.c, net/core/skbuff.c, Linux 6.18).
//!
//! All packets are in one piece, belong to nobody else, and are of a device like loopback: up to 64 KiB long, checksums neither
//! checked nor left for the device.

use rustix::io::Errno;
use skep_insn::helpers;

use super::packet::buffer;
use super::{Family, bytes, error, pay};
use crate::buffer::{PacketBuffer, SKB_MAX_LEN};
use crate::offsets::sk_buff as skb;
use crate::{Access, Cpu, PacketKind, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::SKB_LOAD_BYTES, load_bytes),
    (helpers::SKB_LOAD_BYTES_RELATIVE, load_bytes_relative),
    (helpers::SKB_STORE_BYTES, store_bytes),
    (helpers::SKB_PULL_DATA, pull_data),
    (helpers::SKB_CHANGE_HEAD, change_head),
    (helpers::SKB_CHANGE_TAIL, change_tail),
    (helpers::SKB_CHANGE_TYPE, change_type),
    (helpers::SKB_VLAN_PUSH, vlan_push),
    (helpers::SKB_VLAN_POP, vlan_pop),
    (helpers::L3_CSUM_REPLACE, l3_csum_replace),
    (helpers::L4_CSUM_REPLACE, l4_csum_replace),
    (helpers::CSUM_UPDATE, |cpu, [ctx, ..]| packet(cpu, helpers::CSUM_UPDATE, ctx).map(|_| error(NOTSUPP))),
    (helpers::CSUM_LEVEL, csum_level),
    (helpers::GET_HASH_RECALC, get_hash_recalc),
    (helpers::SET_HASH, set_hash),
    (helpers::SET_HASH_INVALID, set_hash_invalid),
    (helpers::CLONE_REDIRECT, clone_redirect),
];

/// `ENOTSUPP`, which user space has no name for.
pub(super) const NOTSUPP: Errno = Errno::from_raw_os_error(524);

fn packet(cpu: &mut Cpu, id: u32, ctx: u64) -> Result<&mut PacketBuffer, Stop> {
    buffer(cpu, id, ctx, |kind| kind != PacketKind::Xdp)
}

fn number(result: Result<(), Errno>) -> Result<u64, Stop> {
    Ok(result.map_or_else(error, |()| 0))
}

/// Reads into the program's memory, which is cleared when the packet has not all of it.
fn load(
    cpu: &mut Cpu,
    id: u32,
    ctx: u64,
    at: impl Fn(&PacketBuffer) -> Option<i64>,
    to: [u64; 2],
) -> Result<u64, Stop> {
    let [to, len] = to;
    pay(cpu, len)?;
    cpu.space().check(to, len, Access::Write)?;
    let packet = packet(cpu, id, ctx)?;
    let mut bytes = vec![0; len as usize];
    let read = at(packet).and_then(|at| packet.read(at, &mut bytes));
    if read.is_none() {
        bytes.fill(0);
    }
    cpu.space().write(to, &bytes)?;
    Ok(read.map_or(error(Errno::FAULT), |()| 0))
}

fn load_bytes(cpu: &mut Cpu, [ctx, off, to, len, _]: [u64; 5]) -> Result<u64, Stop> {
    let off = off as u32;
    let at = |_: &PacketBuffer| i32::try_from(off).ok().map(i64::from);
    load(cpu, helpers::SKB_LOAD_BYTES, ctx, at, [to, u64::from(len as u32)])
}

/// Offsets count from the link layer's header (0) or the network layer's (1).
fn load_bytes_relative(cpu: &mut Cpu, [ctx, off, to, len, from]: [u64; 5]) -> Result<u64, Stop> {
    let off = off as u32;
    let at = |packet: &PacketBuffer| {
        let start = match from as u32 {
            0 => packet.mac_off(),
            1 => packet.network_off(),
            _ => return None,
        };
        (off <= 0xffff).then_some(start + i64::from(off))
    };
    load(cpu, helpers::SKB_LOAD_BYTES_RELATIVE, ctx, at, [to, u64::from(len as u32)])
}

const F_RECOMPUTE_CSUM: u64 = 1;
const F_INVALIDATE_HASH: u64 = 2;

fn store_bytes(cpu: &mut Cpu, [ctx, off, from, len, flags]: [u64; 5]) -> Result<u64, Stop> {
    let data = bytes(cpu, from, u64::from(len as u32))?;
    let packet = packet(cpu, helpers::SKB_STORE_BYTES, ctx)?;
    if flags & !(F_RECOMPUTE_CSUM | F_INVALIDATE_HASH) != 0 {
        return Ok(error(Errno::INVAL));
    }
    let Ok(off) = i32::try_from(off as u32) else { return Ok(error(Errno::FAULT)) };
    if packet.write(off.into(), &data).is_none() {
        return Ok(error(Errno::FAULT));
    }
    if flags & F_INVALIDATE_HASH != 0 {
        packet.put(skb::HASH, 0);
    }
    Ok(0)
}

fn pull_data(cpu: &mut Cpu, [ctx, len, ..]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::SKB_PULL_DATA, ctx)?;
    Ok(if len as u32 > packet.len() { error(Errno::NOMEM) } else { 0 })
}

fn change_head(cpu: &mut Cpu, [ctx, room, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::SKB_CHANGE_HEAD, ctx)?;
    let room = room as u32;
    let fits = packet.len().checked_add(room).is_some_and(|len| len <= SKB_MAX_LEN);
    if flags != 0 || !fits {
        return Ok(error(Errno::INVAL));
    }
    Ok(packet.push(room).map_or(error(Errno::NOMEM), |()| 0))
}

fn change_tail(cpu: &mut Cpu, [ctx, len, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::SKB_CHANGE_TAIL, ctx)?;
    let len = len as u32;
    let least = packet.network_off().max(0);
    if flags != 0 || len > SKB_MAX_LEN || i64::from(len) < least {
        return Ok(error(Errno::INVAL));
    }
    Ok(packet.set_len(len).map_or(error(Errno::NOMEM), |()| 0))
}

/// `PACKET_OTHERHOST`: the last type that a program may see and set.
const LAST_TYPE: u32 = 3;

fn change_type(cpu: &mut Cpu, [ctx, to, ..]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::SKB_CHANGE_TYPE, ctx)?;
    let to = to as u32;
    if packet.get(skb::PKT_TYPE) > LAST_TYPE || to > LAST_TYPE {
        return Ok(error(Errno::INVAL));
    }
    packet.put(skb::PKT_TYPE, to);
    Ok(0)
}

const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;

fn is_vlan(protocol: u16) -> bool {
    matches!(protocol, ETH_P_8021Q | ETH_P_8021AD)
}

/// The tag is kept apart; one that was there goes into the packet.
fn vlan_push(cpu: &mut Cpu, [ctx, protocol, tci, ..]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::SKB_VLAN_PUSH, ctx)?;
    let protocol = u16::from_be(protocol as u16);
    let protocol = if is_vlan(protocol) { protocol } else { ETH_P_8021Q };
    if let Some(tag) = packet.vlan()
        && packet.insert_vlan(tag).is_none()
    {
        return Ok(error(Errno::NOMEM));
    }
    packet.set_vlan(Some((protocol, tci as u16)));
    Ok(0)
}

/// The next tag in the packet is kept apart then.
fn vlan_pop(cpu: &mut Cpu, [ctx, ..]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::SKB_VLAN_POP, ctx)?;
    if packet.vlan().is_some() {
        packet.set_vlan(None);
    } else {
        if !is_vlan(packet.protocol()) {
            return Ok(0);
        }
        if packet.remove_vlan().is_none() {
            return Ok(error(Errno::NOMEM));
        }
    }
    let protocol = packet.protocol();
    if is_vlan(protocol) {
        match packet.remove_vlan() {
            Some(tci) => packet.set_vlan(Some((protocol, tci))),
            None => return Ok(error(Errno::NOMEM)),
        }
    }
    Ok(0)
}

/// Sums of 16-bit and 32-bit words in ones' complement (include/net/checksum.h).
mod sum {
    pub(super) fn add(one: u32, two: u32) -> u32 {
        let (sum, carry) = one.overflowing_add(two);
        sum + u32::from(carry)
    }

    pub(super) fn fold(sum: u32) -> u16 {
        let sum = (sum & 0xffff) + (sum >> 16);
        !(((sum & 0xffff) + (sum >> 16)) as u16)
    }

    fn add16(one: u16, two: u16) -> u16 {
        let (sum, carry) = one.overflowing_add(two);
        sum + u16::from(carry)
    }

    /// Checksums with a word of 16 bits replaced, with one of 32 bits, and with a difference added.
    pub(super) fn replace2(sum: u16, from: u16, to: u16) -> u16 {
        !add16(add16(!sum, !from), to)
    }

    pub(super) fn replace4(sum: u16, from: u32, to: u32) -> u16 {
        fold(add(add(!u32::from(sum), !from), to))
    }

    pub(super) fn by_diff(sum: u16, diff: u32) -> u16 {
        fold(add(diff, !u32::from(sum)))
    }
}

const HDR_FIELD_MASK: u64 = 0xf;

/// A checksum in the packet, if the offset is one that it may have.
fn checksum(packet: &PacketBuffer, off: u64) -> Result<(i64, u16), Errno> {
    let off = off as u32;
    if off > 0xffff || off & 1 != 0 {
        return Err(Errno::FAULT);
    }
    let mut sum = [0; 2];
    packet.read(off.into(), &mut sum).ok_or(Errno::FAULT)?;
    Ok((off.into(), u16::from_ne_bytes(sum)))
}

fn l3_csum_replace(cpu: &mut Cpu, [ctx, off, from, to, flags]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::L3_CSUM_REPLACE, ctx)?;
    if flags & !HDR_FIELD_MASK != 0 {
        return Ok(error(Errno::INVAL));
    }
    let replaced = checksum(packet, off).and_then(|(at, sum)| {
        let sum = match flags & HDR_FIELD_MASK {
            0 if from != 0 => return Err(Errno::INVAL),
            0 => sum::by_diff(sum, to as u32),
            2 => sum::replace2(sum, from as u16, to as u16),
            4 => sum::replace4(sum, from as u32, to as u32),
            _ => return Err(Errno::INVAL),
        };
        packet.write(at, &sum.to_ne_bytes()).ok_or(Errno::FAULT)
    });
    number(replaced)
}

const F_PSEUDO_HDR: u64 = 0x10;
const F_MARK_MANGLED_0: u64 = 0x20;
const F_MARK_ENFORCE: u64 = 0x40;
const F_IPV6: u64 = 0x80;

fn l4_csum_replace(cpu: &mut Cpu, [ctx, off, from, to, flags]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::L4_CSUM_REPLACE, ctx)?;
    if flags & !(HDR_FIELD_MASK | F_PSEUDO_HDR | F_MARK_MANGLED_0 | F_MARK_ENFORCE | F_IPV6) != 0 {
        return Ok(error(Errno::INVAL));
    }
    let mangled = flags & F_MARK_MANGLED_0 != 0;
    let replaced = checksum(packet, off).and_then(|(at, sum)| {
        if mangled && flags & F_MARK_ENFORCE == 0 && sum == 0 {
            return Ok(());
        }
        let sum = match flags & HDR_FIELD_MASK {
            0 if from != 0 => return Err(Errno::INVAL),
            0 => sum::by_diff(sum, to as u32),
            2 => sum::replace4(sum, u32::from(from as u16), u32::from(to as u16)),
            4 => sum::replace4(sum, from as u32, to as u32),
            _ => return Err(Errno::INVAL),
        };
        let sum = if mangled && sum == 0 { 0xffff } else { sum };
        packet.write(at, &sum.to_ne_bytes()).ok_or(Errno::FAULT)
    });
    number(replaced)
}

/// Levels of checksums that a device has checked: none has here.
fn csum_level(cpu: &mut Cpu, [ctx, level, ..]: [u64; 5]) -> Result<u64, Stop> {
    packet(cpu, helpers::CSUM_LEVEL, ctx)?;
    Ok(match level {
        0 => error(Errno::ACCESS),
        1..=3 => 0,
        _ => error(Errno::INVAL),
    })
}

/// The kernel's hash is keyed by a secret; this one, FNV-1a, is as good to tell flows apart, and the same in each run.
fn get_hash_recalc(cpu: &mut Cpu, [ctx, ..]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::GET_HASH_RECALC, ctx)?;
    let known = packet.get(skb::HASH);
    if known != 0 {
        return Ok(known.into());
    }
    // Addresses, protocol and ports: what the packets of one flow share. IPv4 header, then IPv6's.
    let mut header = [0; 80];
    let start = packet.network_off();
    let len = (i64::from(packet.len()) - start).clamp(0, header.len() as i64) as usize;
    let _ = packet.read(start, &mut header[..len]);
    let (addresses, protocol, ports) = match header[0] >> 4 {
        6 => (8..40, header[6], 40),
        _ => (12..20, header[9], usize::from(header[0] & 15) * 4),
    };
    let has_ports = matches!(protocol, 6 | 17 | 132);
    let ports = if has_ports { header.get(ports..ports + 4).unwrap_or_default() } else { &[] };
    let hash = header[addresses]
        .iter()
        .chain(&[protocol])
        .chain(ports)
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let hash = hash.max(1);
    packet.put(skb::HASH, hash);
    Ok(hash.into())
}

fn set_hash(cpu: &mut Cpu, [ctx, hash, ..]: [u64; 5]) -> Result<u64, Stop> {
    packet(cpu, helpers::SET_HASH, ctx)?.put(skb::HASH, hash as u32);
    Ok(0)
}

fn set_hash_invalid(cpu: &mut Cpu, [ctx, ..]: [u64; 5]) -> Result<u64, Stop> {
    packet(cpu, helpers::SET_HASH_INVALID, ctx)?.put(skb::HASH, 0);
    Ok(0)
}

const F_INGRESS: u64 = 1;
/// Copies of one packet that are kept.
const MAX_CLONES: usize = 64;

fn clone_redirect(cpu: &mut Cpu, [ctx, ifindex, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let len = packet(cpu, helpers::CLONE_REDIRECT, ctx)?.len();
    pay(cpu, len.into())?;
    let packet = packet(cpu, helpers::CLONE_REDIRECT, ctx)?;
    if flags & !F_INGRESS != 0 || ifindex as u32 == 0 {
        return Ok(error(Errno::INVAL));
    }
    if packet.clones().len() == MAX_CLONES {
        return Ok(error(Errno::NOMEM));
    }
    packet.send_clone(ifindex as u32);
    Ok(0)
}
