//! Legacy packet loads: bytes of the packet that is being looked at, in network order
//! (`bpf_skb_load_helper_convert_offset`, net/core/filter.c, Linux 6.18).

use crate::cpu::Cpu;
use crate::{Stop, TrapKind};

/// Offsets from here up to 0 count from the network header.
const SKF_NET_OFF: i32 = -0x10_0000;
/// Offsets from here up to [`SKF_NET_OFF`] count from the link layer's header.
const SKF_LL_OFF: i32 = -0x20_0000;

/// `len` (1, 2 or 4) bytes at `off` as a number; `None` when the packet has them not, which ends the function with r0 = 0.
pub(crate) fn load(cpu: &Cpu, off: i32, len: u32) -> Result<Option<u64>, Stop> {
    let packet = cpu.packet().ok_or(TrapKind::NoPacket)?;
    let (off, base) = match off {
        0.. => (off, 0),
        SKF_NET_OFF.. => (off - SKF_NET_OFF, packet.network_off),
        SKF_LL_OFF.. => (off - SKF_LL_OFF, packet.mac_off),
        _ => return Ok(None),
    };
    let start = i64::from(off) + i64::from(base);
    if start < i64::from(packet.mac_off.min(0)) || start + i64::from(len) > i64::from(packet.len) {
        return Ok(None);
    }
    let mut bytes = [0; 8];
    let wanted = &mut bytes[8 - len as usize..];
    if let Some(buffer) = cpu.buffer() {
        return Ok(buffer.read(start, wanted).map(|()| u64::from_be_bytes(bytes)));
    }
    cpu.space().read(packet.addr.wrapping_add_signed(start), wanted)?;
    Ok(Some(u64::from_be_bytes(bytes)))
}
