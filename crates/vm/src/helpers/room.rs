//! Room in packets of the network stack: what encapsulating and translating programs ask for (net/core/filter.c, Linux 6.18).
//!
//! Only programs of tc call these: the packet starts at its link layer's header. Checksums that a device has checked, and offsets of inner headers, are of
//! no consequence here. A packet that a device would cut (its `gso_size` is not 0, which only a given context says) is not one of TCP to the kernel either.

use rustix::io::Errno;
use skep_insn::helpers;

use super::packet::buffer;
use super::skb::NOTSUPP;
use super::{Family, error, pay};
use crate::buffer::PacketBuffer;
use crate::offsets::sk_buff as skb;
use crate::{Cpu, PacketKind, Stop};

pub(super) const FAMILY: Family = &[(helpers::SKB_ADJUST_ROOM, adjust_room), (helpers::SKB_CHANGE_PROTO, change_proto)];

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const IP_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;
const ETH_HLEN: u64 = 14;

/// `BPF_F_ADJ_ROOM_*`.
const F_FIXED_GSO: u64 = 1 << 0;
const F_ENCAP_L3_IPV4: u64 = 1 << 1;
const F_ENCAP_L3_IPV6: u64 = 1 << 2;
const F_ENCAP_L3: u64 = F_ENCAP_L3_IPV4 | F_ENCAP_L3_IPV6;
const F_ENCAP_L4_GRE: u64 = 1 << 3;
const F_ENCAP_L4_UDP: u64 = 1 << 4;
const F_ENCAP_L4: u64 = F_ENCAP_L4_GRE | F_ENCAP_L4_UDP;
const F_NO_CSUM_RESET: u64 = 1 << 5;
const F_ENCAP_L2_ETH: u64 = 1 << 6;
const F_DECAP_L3_IPV4: u64 = 1 << 7;
const F_DECAP_L3_IPV6: u64 = 1 << 8;
const F_DECAP_L3: u64 = F_DECAP_L3_IPV4 | F_DECAP_L3_IPV6;
/// From this bit on: how long the inner link layer's header is.
const ENCAP_L2_SHIFT: u32 = 56;
const F_ENCAP_L2: u64 = 0xff << ENCAP_L2_SHIFT;

const SHRINK_FLAGS: u64 = F_FIXED_GSO | F_DECAP_L3 | F_NO_CSUM_RESET;
const FLAGS: u64 = SHRINK_FLAGS | F_ENCAP_L3 | F_ENCAP_L4 | F_ENCAP_L2_ETH | F_ENCAP_L2;

/// `BPF_ADJ_ROOM_NET` and `BPF_ADJ_ROOM_MAC`: behind the network layer's header, and behind the link layer's.
const NET: u32 = 0;
const MAC: u32 = 1;

const MAX_DIFF: u32 = 0xfff;
/// Longest packet that this makes (`SKB_MAX_ALLOC`, of pages of 4 KiB).
const MAX_LEN: u32 = (4096 << 2) - 320;

fn packet(cpu: &mut Cpu, id: u32, ctx: u64) -> Result<&mut PacketBuffer, Stop> {
    let len = buffer(cpu, id, ctx, |kind| kind == PacketKind::Link)?.len();
    pay(cpu, len.into())?;
    buffer(cpu, id, ctx, |kind| kind == PacketKind::Link)
}

fn number(result: Result<(), Errno>) -> Result<u64, Stop> {
    Ok(result.map_or_else(error, |()| 0))
}

/// Bytes of the least header of the network layer.
fn base_len(packet: &PacketBuffer) -> Result<u32, Errno> {
    match packet.protocol() {
        ETH_P_IP => Ok(IP_BYTES),
        ETH_P_IPV6 => Ok(IPV6_BYTES),
        _ => Err(NOTSUPP),
    }
}

fn mac_len(packet: &PacketBuffer) -> u32 {
    (packet.network_off() - packet.mac_off()) as u32
}

fn is_gso(packet: &PacketBuffer) -> bool {
    packet.get(skb::GSO_SIZE) != 0
}

fn adjust_room(cpu: &mut Cpu, [ctx, diff, mode, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::SKB_ADJUST_ROOM, ctx)?;
    number(adjust(packet, diff as i32, mode as u32, flags))
}

fn adjust(packet: &mut PacketBuffer, diff: i32, mode: u32, flags: u64) -> Result<(), Errno> {
    let (shrinks, diff) = (diff < 0, diff.unsigned_abs());
    if flags & !FLAGS != 0 {
        return Err(Errno::INVAL);
    }
    if diff > MAX_DIFF {
        return Err(Errno::FAULT);
    }
    let base = base_len(packet)?;
    let off = match mode {
        NET => mac_len(packet) + base,
        MAC => mac_len(packet),
        _ => return Err(NOTSUPP),
    };
    let least = match flags & F_DECAP_L3 {
        0 => base,
        F_DECAP_L3_IPV4 if shrinks => IP_BYTES,
        F_DECAP_L3_IPV6 if shrinks => IPV6_BYTES,
        _ => return Err(Errno::INVAL),
    };
    let content = i64::from(packet.len()) - packet.network_off();
    let fits = match shrinks {
        true => i64::from(diff) < content && content - i64::from(diff) >= i64::from(least),
        false => packet.len() + diff <= MAX_LEN || is_gso(packet),
    };
    if !fits {
        return Err(NOTSUPP);
    }
    if shrinks { shrink(packet, off, diff, flags) } else { grow(packet, off, diff, flags) }
}

fn grow(packet: &mut PacketBuffer, off: u32, diff: u32, flags: u64) -> Result<(), Errno> {
    if is_gso(packet) {
        return Err(NOTSUPP);
    }
    let encapsulates = flags & F_ENCAP_L3 != 0;
    if encapsulates {
        let inner_mac_len = flags >> ENCAP_L2_SHIFT;
        let both = |of: u64| flags & of == of;
        if both(F_ENCAP_L3) || both(F_ENCAP_L4) || (flags & F_ENCAP_L2_ETH != 0 && inner_mac_len < ETH_HLEN) {
            return Err(Errno::INVAL);
        }
        if packet.is_encapsulated() {
            return Err(Errno::ALREADY);
        }
        if inner_mac_len > diff.into() {
            return Err(Errno::INVAL);
        }
    }
    packet.make_room(off, diff).ok_or(Errno::NOMEM)?;
    if encapsulates {
        packet.set_encapsulated();
        packet.set_protocol(if flags & F_ENCAP_L3_IPV4 != 0 { ETH_P_IP } else { ETH_P_IPV6 });
    }
    Ok(())
}

fn shrink(packet: &mut PacketBuffer, off: u32, diff: u32, flags: u64) -> Result<(), Errno> {
    if flags & !SHRINK_FLAGS != 0 {
        return Err(Errno::INVAL);
    }
    if is_gso(packet) {
        return Err(NOTSUPP);
    }
    packet.take_room(off, diff).ok_or(Errno::NOMEM)?;
    match flags & F_DECAP_L3 {
        F_DECAP_L3_IPV4 => packet.set_protocol(ETH_P_IP),
        F_DECAP_L3_IPV6 => packet.set_protocol(ETH_P_IPV6),
        _ => {}
    }
    Ok(())
}

/// The header is made longer or shorter; the program writes it, and the checksums.
fn change_proto(cpu: &mut Cpu, [ctx, to, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let packet = packet(cpu, helpers::SKB_CHANGE_PROTO, ctx)?;
    if flags != 0 {
        return Ok(error(Errno::INVAL));
    }
    let (from, to) = (packet.protocol(), u16::from_be(to as u16));
    let (off, diff) = (mac_len(packet), IPV6_BYTES - IP_BYTES);
    let changed = match (from, to) {
        (ETH_P_IP, ETH_P_IPV6) => packet.make_room(off, diff),
        (ETH_P_IPV6, ETH_P_IP) => packet.take_room(off, diff),
        _ => return Ok(error(NOTSUPP)),
    };
    if changed.is_some() {
        packet.set_protocol(to);
        packet.put(skb::HASH, 0);
    }
    number(changed.ok_or(Errno::NOMEM))
}
