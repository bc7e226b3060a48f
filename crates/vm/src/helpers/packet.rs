//! What packets of XDP and of the network stack have in common: redirects.
//!
//! Nothing goes anywhere: where to is noted at the packet ([`PacketBuffer::redirect`]) and the program gets what the kernel gives it
//! (net/core/filter.c, Linux 6.18).

use skep_insn::helpers;

use super::{Family, misuse};
use crate::buffer::PacketBuffer;
use crate::{Cpu, PacketKind, Redirect, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::REDIRECT, redirect),
    (helpers::REDIRECT_MAP, redirect_map),
    (helpers::REDIRECT_PEER, |cpu, [ifindex, flags, ..]| redirect_skb(cpu, helpers::REDIRECT_PEER, ifindex, flags, 0)),
    (helpers::REDIRECT_NEIGH, redirect_neigh),
];

const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;
const TC_ACT_SHOT: u64 = 2;
const TC_ACT_REDIRECT: u64 = 7;
const F_INGRESS: u64 = 1;

/// The packet whose context a program has given, of a kind that `fits`.
pub(super) fn buffer(
    cpu: &mut Cpu,
    id: u32,
    ctx: u64,
    fits: fn(PacketKind) -> bool,
) -> Result<&mut PacketBuffer, Stop> {
    let base = cpu.space().base();
    let buffer = cpu.buffer_mut().filter(|buffer| fits(buffer.kind()));
    let buffer = buffer.ok_or_else(|| misuse(id, "there is no packet of the right kind"))?;
    if ctx != buffer.ctx_addr() && ctx | base != buffer.ctx_addr() {
        return Err(misuse(id, format!("{ctx:#x} is not the context of the packet")));
    }
    Ok(buffer)
}

pub(super) fn any(cpu: &mut Cpu, id: u32) -> Result<&mut PacketBuffer, Stop> {
    cpu.buffer_mut().ok_or_else(|| misuse(id, "there is no packet"))
}

fn redirect(cpu: &mut Cpu, [ifindex, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let packet = any(cpu, helpers::REDIRECT)?;
    if packet.kind() != PacketKind::Xdp {
        return redirect_skb(cpu, helpers::REDIRECT, ifindex, flags, F_INGRESS);
    }
    if flags != 0 {
        return Ok(XDP_ABORTED);
    }
    packet.set_redirect(Redirect::Interface { ifindex: ifindex as u32, flags });
    Ok(XDP_REDIRECT)
}

fn redirect_skb(cpu: &mut Cpu, id: u32, ifindex: u64, flags: u64, allowed: u64) -> Result<u64, Stop> {
    if flags & !allowed != 0 {
        return Ok(TC_ACT_SHOT);
    }
    any(cpu, id)?.set_redirect(Redirect::Interface { ifindex: ifindex as u32, flags });
    Ok(TC_ACT_REDIRECT)
}

/// Bytes of `struct bpf_redir_neigh`.
const REDIR_NEIGH_BYTES: u64 = 20;

fn redirect_neigh(cpu: &mut Cpu, [ifindex, _, len, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    let wrong = len != 0 && len < REDIR_NEIGH_BYTES;
    redirect_skb(cpu, helpers::REDIRECT_NEIGH, ifindex, if wrong { !0 } else { flags }, 0)
}

/// `BPF_F_BROADCAST` and `BPF_F_EXCLUDE_INGRESS`, of maps of devices.
const F_BROADCAST: u64 = 1 << 3;
const F_EXCLUDE_INGRESS: u64 = 1 << 4;
/// What is returned when nothing is in the map.
const ACTION_MASK: u64 = 3;

fn redirect_map(cpu: &mut Cpu, [handle, key, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    let kind = map.spec().kind;
    if !kind.is_of_targets() {
        return Err(misuse(helpers::REDIRECT_MAP, "the map has no devices, processors or sockets"));
    }
    let devices = matches!(kind, crate::MapKind::DevMap | crate::MapKind::DevMapHash);
    let allowed = ACTION_MASK | if devices { F_BROADCAST | F_EXCLUDE_INGRESS } else { 0 };
    if flags & !allowed != 0 {
        return Ok(XDP_ABORTED);
    }
    let key = key as u32;
    if flags & F_BROADCAST == 0 && map.store().find(&key.to_ne_bytes(), 0).is_none() {
        return Ok(flags & ACTION_MASK);
    }
    any(cpu, helpers::REDIRECT_MAP)?.set_redirect(Redirect::Map { map, key });
    Ok(XDP_REDIRECT)
}
