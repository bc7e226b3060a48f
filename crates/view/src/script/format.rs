//! Formats of printf.

use skep_script::Type;
use skep_script::plan::{Conversion, Format, Part, Value};

use super::number::{append, read_int, sign_extend, write_radix};
use super::text::{buffer, write_escaped};
use super::{ScriptView, read_u32, read_u64, slice};

impl ScriptView<'_> {
    /// Writes a format with the values `args` of `record`.
    pub fn format(&self, format: &Format, args: &[Value], record: &[u8], out: &mut Vec<u8>) {
        let mut args = args.iter();
        for part in &format.parts {
            match part {
                Part::Text(text) => append(text, out),
                Part::Conversion(conversion) => {
                    let Some(value) = args.next() else { continue };
                    let bytes = slice(record, value.off as usize, value.ty.size() as usize);
                    self.convert(conversion, &value.ty, bytes, out);
                }
            }
        }
    }

    fn convert(&self, conversion: &Conversion, ty: &Type, bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        match conversion.letter {
            'd' | 'i' | 'u' | 'o' | 'x' | 'X' | 'p' => self.integer(conversion, ty, bytes, out),
            'c' => {
                out.push(number(ty, bytes) as u8);
                self.guard(start, out);
            }
            'r' => write_escaped(raw(ty, bytes), out),
            'R' => raw(ty, bytes).iter().for_each(|byte| {
                out.extend_from_slice(b"\\x");
                write_byte(*byte, out);
            }),
            'H' => raw(ty, bytes).iter().enumerate().for_each(|(index, byte)| {
                if index > 0 {
                    out.push(b' ');
                }
                write_byte(*byte, out);
            }),
            'G' => write_gfp_flags(number(ty, bytes) as u64, out),
            _ => {
                // The precision counts the value's own bytes.
                self.for_terminal(false).text(ty, bytes, out);
                if let Some(precision) = conversion.precision {
                    out.truncate(out.len().min(start + precision as usize));
                }
                self.guard(start, out);
            }
        }
        pad(conversion, start, out);
    }

    /// An integer cut to the bytes that the length modifier keeps, as C's printf writes it.
    fn integer(&self, conversion: &Conversion, ty: &Type, bytes: &[u8], out: &mut Vec<u8>) {
        let size = usize::from(conversion.size.clamp(1, 8));
        let raw = number(ty, bytes) as u64;
        let cut = if size == 8 { raw } else { raw & ((1 << (8 * size)) - 1) };
        let (mut sign, mut prefix): (&[u8], &[u8]) = (b"", b"");
        let (magnitude, radix) = match conversion.letter {
            'd' | 'i' => {
                let value = sign_extend(cut, size);
                sign = match (value < 0, conversion.plus, conversion.blank) {
                    (true, _, _) => b"-",
                    (_, true, _) => b"+",
                    (_, _, true) => b" ",
                    _ => b"",
                };
                (value.unsigned_abs(), 10)
            }
            'u' => (cut, 10),
            'o' => {
                prefix = if conversion.alternate && cut != 0 { b"0" } else { b"" };
                (cut, 8)
            }
            'x' => {
                prefix = if conversion.alternate && cut != 0 { b"0x" } else { b"" };
                (cut, 16)
            }
            'X' => {
                prefix = if conversion.alternate && cut != 0 { b"0X" } else { b"" };
                (cut, 16)
            }
            _ => {
                prefix = b"0x";
                (raw, 16)
            }
        };
        append(sign, out);
        append(prefix, out);
        let digits = out.len();
        if !(magnitude == 0 && conversion.precision == Some(0)) {
            write_radix(magnitude, radix, conversion.letter == 'X', out);
        }
        let mut least = conversion.precision.unwrap_or(0) as usize;
        if conversion.zero && !conversion.left && conversion.precision.is_none() {
            least = (conversion.width.unwrap_or(0) as usize).saturating_sub(sign.len() + prefix.len());
        }
        insert(digits, least.saturating_sub(out.len() - digits), b'0', out);
    }
}

/// Fills what was written since `start` up to the width.
fn pad(conversion: &Conversion, start: usize, out: &mut Vec<u8>) {
    let Some(width) = conversion.width else { return };
    let missing = (width as usize).saturating_sub(out.len() - start);
    if conversion.left {
        out.resize(out.len() + missing, b' ');
    } else {
        insert(start, missing, b' ', out);
    }
}

/// Inserts `count` times `byte` at `at`.
fn insert(at: usize, count: usize, byte: u8, out: &mut Vec<u8>) {
    if count == 0 {
        return;
    }
    let end = out.len();
    out.resize(end + count, byte);
    out.copy_within(at..end, at + count);
    out[at..at + count].fill(byte);
}

/// The number that a value is.
fn number(ty: &Type, bytes: &[u8]) -> i128 {
    match ty {
        Type::Usym | Type::CgroupPath | Type::Timestamp => i128::from(read_u64(bytes, 0)),
        Type::Inet => i128::from(u32::from_be(read_u32(bytes, 4))),
        _ => read_int(bytes, ty.size().clamp(1, 8) as usize, ty.is_signed()),
    }
}

/// The bytes that a value is.
fn raw<'b>(ty: &Type, bytes: &'b [u8]) -> &'b [u8] {
    match ty {
        Type::Buffer { size } => buffer(*size, bytes),
        Type::String { .. } => &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())],
        _ => bytes,
    }
}

fn write_byte(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Allocation flags of the kernel, the names that stand for several flags first (include/linux/gfp_types.h, 6.18; the bits are
/// those of 6.10 and later).
const GFP: &[(u64, &str)] = &[
    (0x400 | 0x800 | 0x40 | 0x80 | 0x10_0000 | 0x08 | 0x02, "GFP_HIGHUSER_MOVABLE"),
    (0x400 | 0x800 | 0x40 | 0x80 | 0x10_0000 | 0x02, "GFP_HIGHUSER"),
    (0x400 | 0x800 | 0x40 | 0x80 | 0x10_0000, "GFP_USER"),
    (0x400 | 0x800 | 0x40 | 0x80 | 0x40_0000, "GFP_KERNEL_ACCOUNT"),
    (0x400 | 0x800 | 0x40 | 0x80, "GFP_KERNEL"),
    (0x400 | 0x800 | 0x40, "GFP_NOFS"),
    (0x400 | 0x800, "GFP_NOIO"),
    (0x20 | 0x800, "GFP_ATOMIC"),
    (0x800 | 0x2000, "GFP_NOWAIT"),
    (0x01, "__GFP_DMA"),
    (0x02, "__GFP_HIGHMEM"),
    (0x04, "__GFP_DMA32"),
    (0x08, "__GFP_MOVABLE"),
    (0x10, "__GFP_RECLAIMABLE"),
    (0x20, "__GFP_HIGH"),
    (0x40, "__GFP_IO"),
    (0x80, "__GFP_FS"),
    (0x100, "__GFP_ZERO"),
    (0x400, "__GFP_DIRECT_RECLAIM"),
    (0x800, "__GFP_KSWAPD_RECLAIM"),
    (0x1000, "__GFP_WRITE"),
    (0x2000, "__GFP_NOWARN"),
    (0x4000, "__GFP_RETRY_MAYFAIL"),
    (0x8000, "__GFP_NOFAIL"),
    (0x1_0000, "__GFP_NORETRY"),
    (0x2_0000, "__GFP_MEMALLOC"),
    (0x4_0000, "__GFP_COMP"),
    (0x8_0000, "__GFP_NOMEMALLOC"),
    (0x10_0000, "__GFP_HARDWALL"),
    (0x20_0000, "__GFP_THISNODE"),
    (0x40_0000, "__GFP_ACCOUNT"),
    (0x80_0000, "__GFP_ZEROTAGS"),
];

fn write_gfp_flags(flags: u64, out: &mut Vec<u8>) {
    let mut rest = flags;
    let mut first = true;
    for (bits, name) in GFP {
        if rest & bits == *bits {
            if !first {
                out.push(b'|');
            }
            first = false;
            out.extend_from_slice(name.as_bytes());
            rest &= !bits;
        }
    }
    if rest != 0 || first {
        if !first {
            out.push(b'|');
        }
        super::number::write_hex(rest, out);
    }
}
