//! Doors for hostile bytes: the code and the tables of programs that are watched. Nothing here is needed to use the crate.

use skep_binary::decode::decode;
use skep_binary::unwind;

use super::displace::{SLOT_BYTES, displaced};

/// Any bytes as machine code: what is decoded lies in them, and its copy elsewhere fits its slot.
pub fn code(data: &[u8]) {
    const FROM: u64 = 0x55d0_0000_1000;
    for at in 0..data.len().min(4096) {
        let bytes = &data[at..];
        let Ok(insn) = decode(bytes) else { continue };
        assert!((1..=15).contains(&insn.len) && usize::from(insn.len) <= bytes.len(), "{insn:?}");
        for slot in [FROM + 0x4000, FROM - 0x7000_0000, FROM + (1 << 40)] {
            let copy = displaced(bytes, &[insn], FROM, slot);
            assert!(copy.is_none_or(|copy| copy.code.len() as u64 <= SLOT_BYTES), "{insn:?}");
        }
    }
}

/// Any bytes as a program whose tables tell the callers of its functions, with any memory behind them.
pub fn tables(data: &[u8]) {
    unwind::walk(data);
}
