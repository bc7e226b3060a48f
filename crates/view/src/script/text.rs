//! A value as text.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use skep_script::Type;
use skep_script::typed::{Bits, Struct};
use skep_script::types::{Clock, Enum, Stack};

use super::number::{append, read_int, write_decimal, write_hex};
use super::{ScriptView, read, read_u32, read_u64, slice};

/// Spaces before each frame of a stack that is a value of its own.
const STACK_INDENT: usize = 8;
/// Spaces before each frame of a stack in a map's key.
pub(super) const KEY_STACK_INDENT: usize = 4;

impl ScriptView<'_> {
    /// Writes the value of type `ty` at the start of `bytes`; what is missing at the end counts as zero.
    pub fn text(&self, ty: &Type, bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.text_indented(ty, bytes, STACK_INDENT, out);
        self.guard(start, out);
    }

    pub(super) fn text_indented(&self, ty: &Type, bytes: &[u8], indent: usize, out: &mut Vec<u8>) {
        match ty {
            Type::Void => {}
            Type::Int { size, signed } => write_decimal(read_int(bytes, usize::from(*size), *signed), out),
            Type::Bool => out.extend_from_slice(if read::<1>(bytes, 0)[0] != 0 { b"true" } else { b"false" }),
            Type::Float { size } => write_float(*size, bytes, out),
            Type::Enum(names) => write_enum(names, bytes, out),
            Type::String { size } => self.string(*size, bytes, out),
            Type::Buffer { size } => write_escaped(buffer(*size, bytes), out),
            Type::Inet => write_inet(bytes, out),
            Type::Mac => write_mac(bytes, out),
            Type::Pointer { .. } => write_hex(read_u64(bytes, 0), out),
            Type::Array { elem, count } => self.list(b"[", b",", b"]", out, *count as usize, |view, index, out| {
                let size = elem.size() as usize;
                view.text_indented(elem, slice(bytes, index * size, size), indent, out);
            }),
            Type::Tuple(_) => {
                let fields = ty.fields();
                self.list(b"(", b", ", b")", out, fields.len(), |view, index, out| {
                    let (off, ty) = fields[index];
                    view.text_indented(ty, slice(bytes, off as usize, ty.size() as usize), indent, out);
                });
            }
            Type::Record(names) => {
                let fields = ty.fields();
                self.list(b"{ ", b", ", b" }", out, fields.len(), |view, index, out| {
                    let (off, ty) = fields[index];
                    let _ = write!(out, ".{} = ", names[index].0);
                    view.text_indented(ty, slice(bytes, off as usize, ty.size() as usize), indent, out);
                });
            }
            Type::Struct(it) => match self.plan.structs.get(it.id as usize) {
                Some(it) => self.structure(it, bytes, indent, out),
                None => write_escaped(slice(bytes, 0, it.size as usize), out),
            },
            Type::Ksym => self.names.ksym(read_u64(bytes, 0), out),
            Type::Usym => self.names.usym(read_u32(bytes, 8), read_u64(bytes, 0), out),
            Type::Stack(stack) => self.stack(stack, bytes, indent, out),
            Type::Timestamp => {
                let (ns, format, clock) = (read_u64(bytes, 0), read_u32(bytes, 8), clock(read_u32(bytes, 12)));
                let format = self.plan.time_formats.get(format as usize).map_or("", String::as_str);
                self.names.time(format, clock, ns, out);
            }
            Type::Word(word) => self.names.word(*word, read_u64(bytes, 0), out),
            Type::CgroupPath => {
                let filter = self.plan.cgroup_filters.get(read_u64(bytes, 8) as usize).map_or("", String::as_str);
                self.names.cgroup_path(read_u64(bytes, 0), filter, out);
            }
            // One CPU's part of a total says nothing; totals are printed from their maps.
            _ => write_decimal(read_int(bytes, 8, ty.is_signed()), out),
        }
    }

    fn list(
        &self,
        open: &[u8],
        between: &[u8],
        close: &[u8],
        out: &mut Vec<u8>,
        count: usize,
        mut item: impl FnMut(&Self, usize, &mut Vec<u8>),
    ) {
        out.extend_from_slice(open);
        for index in 0..count {
            if index > 0 {
                out.extend_from_slice(between);
            }
            item(self, index, out);
        }
        out.extend_from_slice(close);
    }

    /// Text up to its NUL. A string that fills the space that `max_strlen` gives was cut, and says so.
    fn string(&self, size: u32, bytes: &[u8], out: &mut Vec<u8>) {
        let (text, cut) = self.string_bytes(size, bytes);
        append(text, out);
        if cut {
            out.extend_from_slice(self.plan.config.str_trunc_trailer.as_bytes());
        }
    }

    /// The text of a string, and whether it was cut.
    pub(super) fn string_bytes<'b>(&self, size: u32, bytes: &'b [u8]) -> (&'b [u8], bool) {
        let bytes = slice(bytes, 0, size as usize);
        let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        (&bytes[..len], size >= self.plan.config.max_strlen && len + 1 >= size as usize)
    }

    fn structure(&self, it: &Struct, bytes: &[u8], indent: usize, out: &mut Vec<u8>) {
        self.list(b"{ ", b", ", b" }", out, it.fields.len(), |view, index, out| {
            let field = &it.fields[index];
            let _ = write!(out, ".{} = ", field.name);
            let bytes = slice(bytes, field.off as usize, field.ty.size() as usize);
            match field.bits {
                Some(bits) => write_decimal(bit_field(&field.ty, bits, bytes), out),
                None => view.text_indented(&field.ty, bytes, indent, out),
            }
        });
    }

    fn stack(&self, stack: &Stack, bytes: &[u8], indent: usize, out: &mut Vec<u8>) {
        let (id, pid, tid) = (read_u64(bytes, 0), read_u32(bytes, 8), read_u32(bytes, 12));
        out.push(b'\n');
        for frame in self.names.frames(stack, id, pid, tid) {
            out.resize(out.len() + indent, b' ');
            out.extend_from_slice(&frame);
            out.push(b'\n');
        }
    }
}

/// The number in a bit-field of the storage unit at the start of `bytes`.
pub(super) fn bit_field(unit: &Type, bits: Bits, bytes: &[u8]) -> i128 {
    let raw = read_int(bytes, unit.size() as usize, false) as u64;
    let unused = 64 - u32::from(bits.width.clamp(1, 64));
    let value = (raw >> (bits.shift & 63)) << unused;
    if unit.is_signed() { i128::from((value as i64) >> unused) } else { i128::from(value >> unused) }
}

/// The clock with this number.
fn clock(number: u32) -> Clock {
    match number {
        1 => Clock::Monotonic,
        2 => Clock::Tai,
        _ => Clock::Boot,
    }
}

/// The contents of a buffer.
pub(super) fn buffer(size: u32, bytes: &[u8]) -> &[u8] {
    slice(bytes, 4, read_u32(bytes, 0).min(size) as usize)
}

/// A floating-point number in the fewest digits that read back as the same: `1.5`, `2.0`, `1e300`.
pub(super) fn write_float(size: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let _ = match size {
        4 => write!(out, "{:?}", f32::from_ne_bytes(read(bytes, 0))),
        _ => write!(out, "{:?}", f64::from_ne_bytes(read(bytes, 0))),
    };
}

fn write_enum(names: &Enum, bytes: &[u8], out: &mut Vec<u8>) {
    let value = read_int(bytes, usize::from(names.size), names.signed);
    match names.names.iter().find(|(number, _)| *number == value) {
        Some((_, name)) => out.extend_from_slice(name.as_bytes()),
        None => write_decimal(value, out),
    }
}

/// Bytes as text: what is printable as it is, all else as `\xNN`.
pub(super) fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if (0x20..0x7f).contains(&byte) {
            out.push(byte);
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

fn write_inet(bytes: &[u8], out: &mut Vec<u8>) {
    const AF_INET: u32 = 2;
    const AF_INET6: u32 = 10;
    let _ = match read_u32(bytes, 0) {
        AF_INET => write!(out, "{}", Ipv4Addr::from(read::<4>(bytes, 4))),
        AF_INET6 => write!(out, "{}", Ipv6Addr::from(read::<16>(bytes, 4))),
        _ => Ok(()),
    };
}

fn write_mac(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, byte) in read::<6>(bytes, 0).iter().enumerate() {
        let _ = write!(out, "{}{byte:02X}", if index > 0 { ":" } else { "" });
    }
}
