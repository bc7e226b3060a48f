//! One value: where its bytes are read and how they become text or JSON.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use skep_btf::value::{self, Value};
use skep_btf::{Btf, EnumValue, TypeId};
use skep_insn::Endian;

use crate::Clock;
use crate::json::write_string;

/// What a column holds. Sizes are in bytes.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Int {
        size: u32,
        signed: bool,
    },
    /// A bit-field.
    Bits {
        shift: u32,
        bits: u32,
        signed: bool,
    },
    Bool,
    Char,
    Text {
        size: u32,
        /// Place and size of a member that says how long it is.
        length: Option<(usize, u32)>,
    },
    Enum {
        size: u32,
        signed: bool,
        names: HashMap<i128, String>,
    },
    Pointer,
    Ipv4,
    Ip {
        family: Option<(usize, u32)>,
    },
    Mac,
    Be16,
    Time,
    Duration {
        size: u32,
        unit_ns: u64,
    },
    Errno {
        size: u32,
    },
    PidTgid,
    /// Anything else, printed by its type.
    Other {
        id: TypeId,
        size: u32,
    },
}

pub(crate) fn enum_names<'a>(values: impl Iterator<Item = EnumValue<'a>>) -> HashMap<i128, String> {
    let mut names = HashMap::new();
    for value in values {
        // The first name of a value wins: later ones are aliases.
        names.entry(value.value).or_insert_with(|| value.name.to_owned());
    }
    names
}

impl Cell {
    /// Width in text, in characters, under a title of `title` characters.
    pub(crate) fn width(&self, title: usize) -> usize {
        let natural = match self {
            Cell::Int { size: 1, .. } | Cell::Bits { .. } | Cell::Char => 4,
            Cell::Int { size: 2, .. } | Cell::Be16 => 6,
            Cell::Int { size: 4, .. } => 8,
            Cell::Int { .. } | Cell::Other { .. } => 12,
            Cell::Bool => 5,
            Cell::Text { size, .. } => (*size as usize).clamp(4, 24),
            Cell::Enum { names, .. } => names.values().map(String::len).max().unwrap_or(0).clamp(4, 24),
            Cell::Pointer => 18,
            Cell::Ipv4 | Cell::Ip { family: Some(_) } => 15,
            Cell::Ip { family: None } => 39,
            Cell::Mac => 17,
            Cell::Time => 8,
            Cell::Duration { .. } => 9,
            Cell::Errno { .. } => 8,
            Cell::PidTgid => 15,
        };
        natural.max(title)
    }

    /// Writes the value as text. `off` is the cell's place in `data`; what lies beyond the data's end prints as `-`.
    pub(crate) fn write_text(
        &self,
        data: &[u8],
        off: usize,
        endian: Endian,
        btf: &Btf,
        clock: &mut Clock,
        out: &mut Vec<u8>,
    ) {
        if self.text(data, off, endian, btf, clock, out).is_none() {
            out.push(b'-');
        }
    }

    fn text(
        &self,
        data: &[u8],
        off: usize,
        endian: Endian,
        btf: &Btf,
        clock: &mut Clock,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        match self {
            Cell::Int { size, signed } => {
                let value = read(data, off, *size, endian)?;
                if *signed { write_i64(sign_extend(value, size * 8), out) } else { write_u64(value, out) }
            }
            Cell::Bits { .. } => write_i64(self.bits(data, off, endian)?, out),
            Cell::Bool => out.extend_from_slice(if read(data, off, 1, endian)? != 0 { b"true" } else { b"false" }),
            Cell::Char => write_text(data.get(off..=off)?, out),
            Cell::Text { .. } => self.text_bytes(data, off, endian).map(|bytes| write_words(bytes, out))?,
            Cell::Enum { size, signed, names } => {
                let value = enum_value(read(data, off, *size, endian)?, *size, *signed);
                match names.get(&value) {
                    Some(name) => out.extend_from_slice(name.as_bytes()),
                    None => write!(out, "{value}").ok()?,
                }
            }
            Cell::Pointer => write!(out, "{:#x}", read(data, off, 8, endian)?).ok()?,
            Cell::Ipv4 | Cell::Ip { .. } => self.write_ip(data, off, endian, out)?,
            Cell::Mac => write_mac(data.get(off..off + 6)?, out),
            Cell::Be16 => write_u64(u64::from(u16::from_be_bytes(data.get(off..off + 2)?.try_into().ok()?)), out),
            Cell::Time => {
                let wall = clock.wall_ns(read(data, off, 8, endian)?);
                clock.write_time(wall, out);
            }
            Cell::Duration { size, unit_ns } => {
                write_duration(read(data, off, *size, endian)?.saturating_mul(*unit_ns), out)
            }
            Cell::Errno { size } => {
                let value = sign_extend(read(data, off, *size, endian)?, size * 8);
                match errno_name(value) {
                    Some(name) => {
                        out.push(b'-');
                        out.extend_from_slice(name.as_bytes());
                    }
                    None => write_i64(value, out),
                }
            }
            Cell::PidTgid => {
                let value = read(data, off, 8, endian)?;
                write!(out, "{}/{}", value >> 32, value as u32).ok()?;
            }
            Cell::Other { id, size } => {
                let end = (off + *size as usize).min(data.len());
                let text = value::to_text(Value::new(btf, *id, data.get(off..end)?)).ok()?;
                out.extend_from_slice(text.as_bytes());
            }
        }
        Some(())
    }

    /// Writes the value as JSON; `null` for what lies beyond the data's end.
    pub(crate) fn write_json(&self, data: &[u8], off: usize, endian: Endian, btf: &Btf, out: &mut Vec<u8>) {
        if self.json(data, off, endian, btf, out).is_none() {
            out.extend_from_slice(b"null");
        }
    }

    fn json(&self, data: &[u8], off: usize, endian: Endian, btf: &Btf, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Cell::Int { .. } | Cell::Bits { .. } | Cell::Bool | Cell::Be16 => {
                let mut never = Clock::new(0, 0);
                self.text(data, off, endian, btf, &mut never, out)?;
            }
            Cell::Char => write_string(data.get(off..=off)?, out),
            Cell::Text { .. } => {
                let text = self.text_bytes(data, off, endian)?;
                if text.contains(&0) {
                    let words: Vec<u8> = text.iter().map(|&b| if b == 0 { b' ' } else { b }).collect();
                    write_string(&words, out);
                } else {
                    write_string(text, out);
                }
            }
            Cell::Enum { size, signed, names } => {
                let value = enum_value(read(data, off, *size, endian)?, *size, *signed);
                match names.get(&value) {
                    Some(name) => write_string(name.as_bytes(), out),
                    None => write!(out, "{value}").ok()?,
                }
            }
            Cell::Pointer | Cell::Time | Cell::PidTgid => write_u64(read(data, off, 8, endian)?, out),
            Cell::Duration { size, .. } => write_u64(read(data, off, *size, endian)?, out),
            Cell::Errno { size } => write_i64(sign_extend(read(data, off, *size, endian)?, size * 8), out),
            Cell::Ipv4 | Cell::Ip { .. } => {
                let start = out.len();
                out.push(b'"');
                if self.write_ip(data, off, endian, out).is_none() {
                    out.truncate(start);
                    return None;
                }
                out.push(b'"');
            }
            Cell::Mac => {
                let bytes = data.get(off..off + 6)?;
                out.push(b'"');
                write_mac(bytes, out);
                out.push(b'"');
            }
            Cell::Other { id, size } => {
                let end = (off + *size as usize).min(data.len());
                let json = value::to_json(Value::new(btf, *id, data.get(off..end)?)).ok()?;
                out.extend_from_slice(json.as_bytes());
            }
        }
        Some(())
    }

    /// The bytes of a text cell, without what follows its end.
    fn text_bytes<'d>(&self, data: &'d [u8], off: usize, endian: Endian) -> Option<&'d [u8]> {
        let Cell::Text { size, length } = self else { return None };
        let rest = data.get(off..)?;
        // Flexible arrays have length 0 and run to the event's end.
        let field = if *size == 0 { rest } else { &rest[..rest.len().min(*size as usize)] };
        if let Some((place, place_size)) = length {
            let used = read(data, *place, *place_size, endian)? as usize;
            let used = &field[..used.min(field.len())];
            let end = used.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
            return Some(&used[..end]);
        }
        let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
        Some(&field[..end])
    }

    fn write_ip(&self, data: &[u8], off: usize, endian: Endian, out: &mut Vec<u8>) -> Option<()> {
        let v4 = match self {
            Cell::Ip { family: Some((place, size)) } => read(data, *place, *size, endian)? == 2,
            Cell::Ip { family: None } => false,
            _ => true,
        };
        if v4 {
            let bytes: [u8; 4] = data.get(off..off + 4)?.try_into().ok()?;
            write!(out, "{}", Ipv4Addr::from(bytes)).ok()
        } else {
            let bytes: [u8; 16] = data.get(off..off + 16)?.try_into().ok()?;
            write!(out, "{}", Ipv6Addr::from(bytes)).ok()
        }
    }

    /// Its place among others of its kind: numbers by what they are worth, everything else by its bytes.
    pub(crate) fn order(&self, a: &[u8], b: &[u8], off: usize, endian: Endian) -> Ordering {
        let bytes = |size: usize| {
            let cut = |data: &[u8]| data.get(off..).map(|rest| rest[..rest.len().min(size)].to_vec());
            cut(a).cmp(&cut(b))
        };
        let number = |size: u32, signed: bool| {
            let value = |data: &[u8]| read(data, off, size, endian).map(|raw| enum_value(raw, size, signed));
            value(a).cmp(&value(b))
        };
        match self {
            Cell::Int { size, signed } | Cell::Enum { size, signed, .. } => number(*size, *signed),
            Cell::Errno { size } => number(*size, true),
            Cell::Duration { size, .. } => number(*size, false),
            Cell::Pointer | Cell::Time | Cell::PidTgid => number(8, false),
            Cell::Bits { .. } => self.bits(a, off, endian).cmp(&self.bits(b, off, endian)),
            Cell::Text { .. } => self.text_bytes(a, off, endian).cmp(&self.text_bytes(b, off, endian)),
            // Addresses and ports lie in network order, in which bytes compare as the numbers do.
            Cell::Bool | Cell::Char => bytes(1),
            Cell::Be16 => bytes(2),
            Cell::Ipv4 => bytes(4),
            Cell::Mac => bytes(6),
            Cell::Ip { .. } => bytes(16),
            Cell::Other { size, .. } => bytes(*size as usize),
        }
    }

    fn bits(&self, data: &[u8], off: usize, endian: Endian) -> Option<i64> {
        let Cell::Bits { shift, bits, signed } = self else { return None };
        let bytes = (shift + bits).div_ceil(8);
        let mut wide = 0u128;
        for index in 0..bytes as usize {
            let byte = u128::from(*data.get(off + index)?);
            match endian {
                Endian::Little => wide |= byte << (8 * index),
                Endian::Big => wide = wide << 8 | byte,
            }
        }
        let down = match endian {
            Endian::Little => *shift,
            Endian::Big => bytes * 8 - shift - bits,
        };
        let value = (wide >> down) as u64 & (u64::MAX >> (64 - (*bits).clamp(1, 64)));
        Some(if *signed { sign_extend(value, *bits) } else { value as i64 })
    }
}

fn enum_value(raw: u64, size: u32, signed: bool) -> i128 {
    if signed { i128::from(sign_extend(raw, size * 8)) } else { i128::from(raw) }
}

/// An integer of 1, 2, 4 or 8 bytes.
pub(crate) fn read(data: &[u8], off: usize, size: u32, endian: Endian) -> Option<u64> {
    let bytes = data.get(off..off.checked_add(size as usize)?)?;
    let mut wide = [0u8; 8];
    match endian {
        Endian::Little => {
            wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(u64::from_le_bytes(wide))
        }
        Endian::Big => {
            wide.get_mut(8usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
            Some(u64::from_be_bytes(wide))
        }
    }
}

fn sign_extend(value: u64, bits: u32) -> i64 {
    let unused = 64 - bits.clamp(1, 64);
    ((value << unused) as i64) >> unused
}

pub(crate) fn write_u64(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_i64(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    write_u64(value.unsigned_abs(), out);
}

/// Text with NULs as spaces.
fn write_words(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, word) in bytes.split(|&b| b == 0).enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        write_text(word, out);
    }
}

/// Text from a program, made safe for a terminal and a line: control characters are shown, not obeyed.
pub fn write_text(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().all(|&b| (0x20..0x7f).contains(&b)) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => out.extend_from_slice(b"\\t"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                c if c.is_control() => {
                    let _ = write!(out, "\\x{:02x}", c as u32);
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

fn write_mac(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, byte) in bytes.iter().enumerate() {
        let _ = write!(out, "{}{byte:02x}", if index > 0 { ":" } else { "" });
    }
}

/// Three significant decimals in the largest unit below the value.
fn write_duration(ns: u64, out: &mut Vec<u8>) {
    let (unit, name) = match ns {
        0..1_000 => {
            write_u64(ns, out);
            out.extend_from_slice(b"ns");
            return;
        }
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let _ = write!(out, "{}.{:03}{name}", ns / unit, ns % unit / (unit / 1000));
}

/// Name of a negative error number (include/uapi/asm-generic/errno*.h); `None` for anything else.
fn errno_name(value: i64) -> Option<&'static str> {
    let number = usize::try_from(value.checked_neg()?).ok()?;
    ERRNO.get(number).copied().filter(|name| !name.is_empty())
}

/// Error names by number, as on x86-64 and arm64.
const ERRNO: [&str; 134] = [
    "",
    "EPERM",
    "ENOENT",
    "ESRCH",
    "EINTR",
    "EIO",
    "ENXIO",
    "E2BIG",
    "ENOEXEC",
    "EBADF",
    "ECHILD",
    "EAGAIN",
    "ENOMEM",
    "EACCES",
    "EFAULT",
    "ENOTBLK",
    "EBUSY",
    "EEXIST",
    "EXDEV",
    "ENODEV",
    "ENOTDIR",
    "EISDIR",
    "EINVAL",
    "ENFILE",
    "EMFILE",
    "ENOTTY",
    "ETXTBSY",
    "EFBIG",
    "ENOSPC",
    "ESPIPE",
    "EROFS",
    "EMLINK",
    "EPIPE",
    "EDOM",
    "ERANGE",
    "EDEADLK",
    "ENAMETOOLONG",
    "ENOLCK",
    "ENOSYS",
    "ENOTEMPTY",
    "ELOOP",
    "",
    "ENOMSG",
    "EIDRM",
    "ECHRNG",
    "EL2NSYNC",
    "EL3HLT",
    "EL3RST",
    "ELNRNG",
    "EUNATCH",
    "ENOCSI",
    "EL2HLT",
    "EBADE",
    "EBADR",
    "EXFULL",
    "ENOANO",
    "EBADRQC",
    "EBADSLT",
    "",
    "EBFONT",
    "ENOSTR",
    "ENODATA",
    "ETIME",
    "ENOSR",
    "ENONET",
    "ENOPKG",
    "EREMOTE",
    "ENOLINK",
    "EADV",
    "ESRMNT",
    "ECOMM",
    "EPROTO",
    "EMULTIHOP",
    "EDOTDOT",
    "EBADMSG",
    "EOVERFLOW",
    "ENOTUNIQ",
    "EBADFD",
    "EREMCHG",
    "ELIBACC",
    "ELIBBAD",
    "ELIBSCN",
    "ELIBMAX",
    "ELIBEXEC",
    "EILSEQ",
    "ERESTART",
    "ESTRPIPE",
    "EUSERS",
    "ENOTSOCK",
    "EDESTADDRREQ",
    "EMSGSIZE",
    "EPROTOTYPE",
    "ENOPROTOOPT",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
    "EOPNOTSUPP",
    "EPFNOSUPPORT",
    "EAFNOSUPPORT",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "ENETDOWN",
    "ENETUNREACH",
    "ENETRESET",
    "ECONNABORTED",
    "ECONNRESET",
    "ENOBUFS",
    "EISCONN",
    "ENOTCONN",
    "ESHUTDOWN",
    "ETOOMANYREFS",
    "ETIMEDOUT",
    "ECONNREFUSED",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EALREADY",
    "EINPROGRESS",
    "ESTALE",
    "EUCLEAN",
    "ENOTNAM",
    "ENAVAIL",
    "EISNAM",
    "EREMOTEIO",
    "EDQUOT",
    "ENOMEDIUM",
    "EMEDIUMTYPE",
    "ECANCELED",
    "ENOKEY",
    "EKEYEXPIRED",
    "EKEYREVOKED",
    "EKEYREJECTED",
    "EOWNERDEAD",
    "ENOTRECOVERABLE",
    "ERFKILL",
    "EHWPOISON",
];
