//! Numbers out of bytes, in either order.

use skep_insn::Endian;

pub(crate) const MAGIC: u16 = 0xeb9f;
pub(crate) const VERSION: u8 = 1;
/// The header without the layout fields that came later.
pub(crate) const HEADER_LEN: u32 = 24;
/// `struct btf_type`: name_off, info, size or type.
pub(crate) const TYPE_LEN: usize = 12;

#[inline]
pub(crate) fn u32_from(bytes: [u8; 4], endian: Endian) -> u32 {
    match endian {
        Endian::Little => u32::from_le_bytes(bytes),
        Endian::Big => u32::from_be_bytes(bytes),
    }
}

/// The `u32` at a byte offset, or `None` beyond the end.
#[inline]
pub(crate) fn u32_at(data: &[u8], off: usize, endian: Endian) -> Option<u32> {
    let bytes = data.get(off..)?.first_chunk::<4>()?;
    Some(u32_from(*bytes, endian))
}

/// The bytes of the NUL-terminated string at `off`, or `None` when it starts or ends outside.
#[inline]
pub(crate) fn cstr_at(strings: &[u8], off: usize) -> Option<&[u8]> {
    let rest = strings.get(off..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    rest.get(..end)
}

/// The three fields packed into `info`. Kernel 6.18 uses 16 bits of length and 5 of kind and refuses the bits around them; they are
/// read here as the wider fields that they have room for, so that a kind beyond 31 is reported under its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Info(pub(crate) u32);

impl Info {
    #[inline]
    pub(crate) const fn kind(self) -> u8 {
        (self.0 >> 24) as u8 & 0x7f
    }
    #[inline]
    pub(crate) const fn vlen(self) -> u32 {
        self.0 & 0xff_ffff
    }
    #[inline]
    pub(crate) const fn flag(self) -> bool {
        self.0 >> 31 != 0
    }
    pub(crate) const fn new(kind: u8, vlen: u32, flag: bool) -> Info {
        Info((flag as u32) << 31 | (kind as u32 & 0x7f) << 24 | vlen & 0xff_ffff)
    }
}
