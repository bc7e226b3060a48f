//! One instruction slot as it lies in memory: the 8 bytes that the kernel calls `struct bpf_insn`.
//!
//! Layout (ISA document, section "Instruction encoding"): one byte of opcode, one byte with both register numbers, a
//! signed 16-bit offset, a signed 32-bit immediate. The byte order of the machine decides the order inside `off` and
//! `imm` **and** which half of the register byte is the destination: the low nibble on little-endian machines, the high
//! one on big-endian. [`RawInsn`] holds the fields in host order; the byte order matters only in
//! [`RawInsn::from_bytes`] and [`RawInsn::to_bytes`].

use std::fmt;

/// The byte order of an object file or of the machine a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endian {
    /// Least significant byte first (`bpfel`).
    Little,
    /// Most significant byte first (`bpfeb`).
    Big,
}

impl Endian {
    /// The byte order of the machine this code was compiled for.
    pub const NATIVE: Endian = if cfg!(target_endian = "big") { Endian::Big } else { Endian::Little };
}

/// Index of an 8-byte slot inside one function or one program; never a byte offset.
///
/// The kernel's log, its relocations and jump distances all count slots, and a wide load takes two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsnIdx(pub u32);

impl InsnIdx {
    /// The index of the slot that starts `byte` bytes into the code, or `None` if `byte` is not a multiple of 8.
    pub fn from_byte_offset(byte: u32) -> Option<InsnIdx> {
        byte.is_multiple_of(RawInsn::LEN_BYTES as u32).then_some(InsnIdx(byte / RawInsn::LEN_BYTES as u32))
    }

    /// Where this slot starts, in bytes from the start of the code.
    pub fn byte_offset(self) -> u64 {
        u64::from(self.0) * RawInsn::LEN_BYTES as u64
    }
}

impl fmt::Display for InsnIdx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One 8-byte slot, any bits whatever; [`crate::Insn::decode`] says what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "bpf_insn")]
pub struct RawInsn {
    /// The opcode: class in the low three bits, the rest depends on the class.
    pub code: u8,
    /// Destination register, 4 bits.
    pub dst_reg: u8,
    /// Source register or a `BPF_PSEUDO_*` number, 4 bits.
    pub src_reg: u8,
    /// Jump distance in slots, memory offset in bytes, or a modifier of the operation.
    pub off: i16,
    /// The immediate.
    pub imm: i32,
}

impl RawInsn {
    /// Size of a slot in bytes.
    pub const LEN_BYTES: usize = 8;

    /// A slot from its five fields.
    ///
    /// Register numbers above 15 do not fit a slot; they are kept here, and lose their high bits in
    /// [`RawInsn::to_bytes`].
    pub const fn new(code: u8, dst_reg: u8, src_reg: u8, off: i16, imm: i32) -> RawInsn {
        RawInsn { code, dst_reg, src_reg, off, imm }
    }

    /// Reads a slot written in the given byte order. Every eight bytes are some slot.
    pub const fn from_bytes(b: [u8; 8], endian: Endian) -> RawInsn {
        let (off, imm) = ([b[2], b[3]], [b[4], b[5], b[6], b[7]]);
        match endian {
            Endian::Little => RawInsn {
                code: b[0],
                dst_reg: b[1] & 15,
                src_reg: b[1] >> 4,
                off: i16::from_le_bytes(off),
                imm: i32::from_le_bytes(imm),
            },
            Endian::Big => RawInsn {
                code: b[0],
                dst_reg: b[1] >> 4,
                src_reg: b[1] & 15,
                off: i16::from_be_bytes(off),
                imm: i32::from_be_bytes(imm),
            },
        }
    }

    /// Writes the slot in the given byte order.
    pub const fn to_bytes(self, endian: Endian) -> [u8; 8] {
        let (dst, src) = (self.dst_reg & 15, self.src_reg & 15);
        let (regs, o, i) = match endian {
            Endian::Little => (dst | src << 4, self.off.to_le_bytes(), self.imm.to_le_bytes()),
            Endian::Big => (dst << 4 | src, self.off.to_be_bytes(), self.imm.to_be_bytes()),
        };
        [self.code, regs, o[0], o[1], i[0], i[1], i[2], i[3]]
    }

    /// The instruction class, the low three bits of the opcode (`BPF_ALU`, `BPF_LDX`, ...).
    #[doc(alias = "BPF_CLASS")]
    pub const fn class(self) -> u8 {
        self.code & 7
    }

    /// The helper that this slot calls, one of [`crate::helpers`]; `None` when it is no call of a helper.
    pub const fn helper(self) -> Option<u32> {
        use crate::consts::{BPF_CALL, BPF_JMP, BPF_K};
        if self.code == BPF_JMP | BPF_CALL | BPF_K && self.src_reg == 0 { Some(self.imm as u32) } else { None }
    }

    /// Whether this slot is the first half of a 64-bit immediate load, which takes the next slot too.
    pub const fn is_wide(self) -> bool {
        self.code == crate::consts::BPF_LD_IMM64
    }
}

/// All slots of a code section.
///
/// # Errors
/// Gives back the number of bytes that are left over if the length is not a multiple of 8.
pub fn slots_from_bytes(bytes: &[u8], endian: Endian) -> Result<Vec<RawInsn>, usize> {
    let (slots, rest) = bytes.as_chunks::<8>();
    if rest.is_empty() { Ok(slots.iter().map(|b| RawInsn::from_bytes(*b, endian)).collect()) } else { Err(rest.len()) }
}

/// The bytes of a run of slots, in the given byte order.
pub fn slots_to_bytes(slots: &[RawInsn], endian: Endian) -> Vec<u8> {
    slots.iter().flat_map(|s| s.to_bytes(endian)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_nibbles_swap_with_the_byte_order() {
        let add = RawInsn::new(0x07, 1, 2, -2, 0x0102_0304);
        assert_eq!(add.to_bytes(Endian::Little), [7, 0x21, 0xfe, 0xff, 4, 3, 2, 1]);
        assert_eq!(add.to_bytes(Endian::Big), [7, 0x12, 0xff, 0xfe, 1, 2, 3, 4]);
    }

    #[test]
    fn bytes_survive_a_round_trip_in_both_orders() {
        for code in 0..=255u8 {
            for regs in 0..=255u8 {
                let bytes = [code, regs, code ^ 0x5a, regs, 1, code, 3, regs];
                for endian in [Endian::Little, Endian::Big] {
                    assert_eq!(RawInsn::from_bytes(bytes, endian).to_bytes(endian), bytes);
                }
            }
        }
    }

    #[test]
    fn a_section_that_ends_inside_a_slot_says_how_many_bytes_are_left() {
        assert_eq!(slots_from_bytes(&[0; 19], Endian::Little), Err(3));
        assert_eq!(slots_from_bytes(&[0; 16], Endian::Big).map(|s| s.len()), Ok(2));
    }

    #[test]
    fn slot_indexes_convert_from_bytes_only_at_slot_starts() {
        assert_eq!(InsnIdx::from_byte_offset(24), Some(InsnIdx(3)));
        assert_eq!(InsnIdx::from_byte_offset(25), None);
        assert_eq!(InsnIdx(3).byte_offset(), 24);
    }
}
