//! [`BtfExt`]: what a compiler says about instructions, in the section `.BTF.ext`.
//!
//! ```text
//! header   magic u16, version u8, flags u8, hdr_len u32, func_info_off u32, func_info_len u32, line_info_off u32,
//!          line_info_len u32, [ core_relo_off u32, core_relo_len u32 ]      offsets count from hdr_len
//! info     rec_size u32, then per ELF section { sec_name_off u32, num_info u32, records }
//! ```
//!
//! Records may be longer than the fields below (`rec_size`): what a newer compiler appended is skipped. Strings and types are
//! those of the `.BTF` beside it. Instruction offsets are bytes from the start of the ELF section, unlike those in the
//! kernel's interface, which are instructions.

use std::fmt;

use skep_insn::Endian;

use crate::raw::{self, u32_at};
use crate::{Error, TypeId, parse};

/// The parsed `.BTF.ext` of an object.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BtfExt {
    /// Which functions start where.
    pub func_info: Vec<ExtSection<FuncInfo>>,
    /// Which line of the source an instruction comes from.
    pub line_info: Vec<ExtSection<LineInfo>>,
    /// What to adapt to the kernel's types.
    pub core_relo: Vec<ExtSection<CoreRelo>>,
}

/// The records about one ELF section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtSection<T> {
    /// The section's name, as an offset into BTF's strings.
    pub name_off: u32,
    /// The records, in the order of the file, which is that of the instructions.
    pub records: Vec<T>,
}

/// A function starts here (`struct bpf_func_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// Bytes from the start of the ELF section.
    pub insn_off_bytes: u32,
    /// Its [`crate::Type::Func`].
    pub type_id: TypeId,
}

/// From here on, instructions come from this line (`struct bpf_line_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// Bytes from the start of the ELF section.
    pub insn_off_bytes: u32,
    /// The file's name, as an offset into BTF's strings.
    pub file_name_off: u32,
    /// The text of the line, as an offset into BTF's strings. May be in any encoding.
    pub line_off: u32,
    /// Line and column in one number.
    pub line_col: u32,
}

impl LineInfo {
    /// The line, from 1; 0 when the compiler made the instruction up.
    pub fn line(&self) -> u32 {
        self.line_col >> 10
    }
    /// The column, from 1, at most 1023.
    pub fn column(&self) -> u32 {
        self.line_col & 0x3ff
    }
}

/// An instruction that depends on the kernel's types (`struct bpf_core_relo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreRelo {
    /// Bytes from the start of the ELF section.
    pub insn_off_bytes: u32,
    /// The local type at the root of the access.
    pub type_id: TypeId,
    /// The path from there ("0:1:2"), as an offset into BTF's strings.
    pub access_str_off: u32,
    /// What is asked about it.
    pub kind: CoreReloKind,
}

/// What a CO-RE relocation asks for (`enum bpf_core_relo_kind`, kernel 6.18).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreReloKind(pub u32);

macro_rules! relo_kinds {
    ($($name:ident = $number:literal, $text:literal, $doc:literal;)*) => {
        impl CoreReloKind {
            $(#[doc = $doc] pub const $name: CoreReloKind = CoreReloKind($number);)*

            /// The name that libbpf's messages use; `None` for a number this crate does not know.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some($text),)* _ => None }
            }
        }
    };
}

relo_kinds! {
    FIELD_BYTE_OFFSET = 0, "byte_off", "The offset of a field in bytes.";
    FIELD_BYTE_SIZE = 1, "byte_sz", "The size of a field in bytes.";
    FIELD_EXISTS = 2, "field_exists", "1 when the field exists.";
    FIELD_SIGNED = 3, "signed", "1 when the field is signed.";
    FIELD_LSHIFT_U64 = 4, "lshift_u64", "How far to shift a bit-field left in 64 bits.";
    FIELD_RSHIFT_U64 = 5, "rshift_u64", "How far to shift it back right.";
    TYPE_ID_LOCAL = 6, "local_type_id", "The number of the type in the object.";
    TYPE_ID_TARGET = 7, "target_type_id", "The number of the type in the kernel.";
    TYPE_EXISTS = 8, "type_exists", "1 when the type exists.";
    TYPE_SIZE = 9, "type_size", "The size of the type in bytes.";
    ENUMVAL_EXISTS = 10, "enumval_exists", "1 when the enumeration has the name.";
    ENUMVAL_VALUE = 11, "enumval_value", "The value of the name.";
    TYPE_MATCHES = 12, "type_matches", "1 when the type exists and looks the same.";
}

impl fmt::Display for CoreReloKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "CO-RE kind {}", self.0),
        }
    }
}

impl fmt::Debug for CoreReloKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BtfExt {
    /// Reads a `.BTF.ext` section of either byte order. Checks that everything lies inside; strings and types are looked up
    /// by whoever has the BTF.
    pub fn parse(data: &[u8]) -> Result<BtfExt, Error> {
        let endian = parse::magic(data)?;
        let field = |off: usize| {
            u32_at(data, off, endian).ok_or(Error::Truncated {
                what: "the BTF.ext header",
                offset: 0,
                need: 24,
                have: data.len() as u64,
            })
        };
        let hdr_len = field(4)?;
        if hdr_len < 24 {
            return Err(Error::Malformed { what: "the BTF.ext header says it is shorter than 24 bytes", offset: 4 });
        }
        match data.get(2) {
            Some(1) => {}
            other => {
                return Err(Error::Version { found: other.copied().unwrap_or_default() });
            }
        }
        let part = |what, at: usize| -> Result<(usize, &[u8]), Error> {
            let range = parse::part(data, what, hdr_len, field(at)?, field(at + 4)?)?;
            Ok((range.start, &data[range]))
        };
        let number = |bytes: &[u8], off| u32_at(bytes, off, endian).unwrap_or_default();
        let func_info = info(part("function information", 8)?, endian, 8, |it| FuncInfo {
            insn_off_bytes: number(it, 0),
            type_id: TypeId(number(it, 4)),
        })?;
        let line_info = info(part("line information", 16)?, endian, 16, |it| LineInfo {
            insn_off_bytes: number(it, 0),
            file_name_off: number(it, 4),
            line_off: number(it, 8),
            line_col: number(it, 12),
        })?;
        // Compilers before CO-RE (clang 9) stop after the line information.
        let core_relo = if hdr_len < 32 {
            Vec::new()
        } else {
            info(part("CO-RE relocations", 24)?, endian, 16, |it| CoreRelo {
                insn_off_bytes: number(it, 0),
                type_id: TypeId(number(it, 4)),
                access_str_off: number(it, 8),
                kind: CoreReloKind(number(it, 12)),
            })?
        };
        Ok(BtfExt { func_info, line_info, core_relo })
    }
}

impl BtfExt {
    /// The bytes of the section, in the byte order asked for. Record sizes are those of kernel 6.18.
    pub fn to_bytes(&self, endian: Endian) -> Vec<u8> {
        let func = words(&self.func_info, 8, |it| [it.insn_off_bytes, it.type_id.0]);
        let line = words(&self.line_info, 16, |it| [it.insn_off_bytes, it.file_name_off, it.line_off, it.line_col]);
        let core = words(&self.core_relo, 16, |it| [it.insn_off_bytes, it.type_id.0, it.access_str_off, it.kind.0]);
        let (func_len, line_len, core_len) = (func.len() as u32 * 4, line.len() as u32 * 4, core.len() as u32 * 4);
        let magic = u32::from(raw::MAGIC);
        let start = match endian {
            Endian::Little => magic | u32::from(raw::VERSION) << 16,
            Endian::Big => magic << 16 | u32::from(raw::VERSION) << 8,
        };
        let head = [start, 32, 0, func_len, func_len, line_len, func_len + line_len, core_len];
        head.into_iter()
            .chain(func)
            .chain(line)
            .chain(core)
            .flat_map(|word| match endian {
                Endian::Little => word.to_le_bytes(),
                Endian::Big => word.to_be_bytes(),
            })
            .collect()
    }
}

/// One kind of information as words; nothing at all when there is none.
fn words<T, const N: usize>(sections: &[ExtSection<T>], size: u32, write: impl Fn(&T) -> [u32; N]) -> Vec<u32> {
    if sections.is_empty() {
        return Vec::new();
    }
    let mut out = vec![size];
    for section in sections {
        out.extend([section.name_off, section.records.len() as u32]);
        out.extend(section.records.iter().flat_map(&write));
    }
    out
}

/// The sections of one kind of information. `start` is where `bytes` lie in the whole.
fn info<T>(
    (start, bytes): (usize, &[u8]),
    endian: Endian,
    min_size: u32,
    read: impl Fn(&[u8]) -> T,
) -> Result<Vec<ExtSection<T>>, Error> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let truncated = |what, pos: usize, need: u64| Error::Truncated {
        what,
        offset: (start + pos) as u64,
        need,
        have: (bytes.len() - pos.min(bytes.len())) as u64,
    };
    let rec_size = u32_at(bytes, 0, endian).ok_or_else(|| truncated("the record size in BTF.ext", 0, 4))?;
    if rec_size < min_size || rec_size % 4 != 0 {
        return Err(Error::Malformed {
            what: "records in BTF.ext that are too short or not a multiple of 4 bytes",
            offset: start as u64,
        });
    }
    let mut sections = Vec::new();
    let mut pos = 4;
    while pos < bytes.len() {
        let (Some(name_off), Some(count)) = (u32_at(bytes, pos, endian), u32_at(bytes, pos + 4, endian)) else {
            return Err(truncated("a section's header in BTF.ext", pos, 8));
        };
        pos += 8;
        let need = u64::from(count) * u64::from(rec_size);
        if need > (bytes.len() - pos) as u64 {
            return Err(truncated("a section's records in BTF.ext", pos, need));
        }
        let end = pos + need as usize;
        sections.push(ExtSection {
            name_off,
            records: bytes[pos..end].chunks_exact(rec_size as usize).map(&read).collect(),
        });
        pos = end;
    }
    Ok(sections)
}
