//! The one pass that makes a [`Btf`] from bytes: where each type starts, and that all of it lies inside.
//!
//! ```text
//! header   magic u16, version u8, flags u8, hdr_len u32, type_off u32, type_len u32, str_off u32, str_len u32
//!          [ layout_off u32, layout_len u32 ]           offsets count from the end of the header, that is from hdr_len
//! types    { name_off u32, info u32, size_or_type u32, then what the kind says } ...
//! strings  NUL-terminated, the first one empty
//! layout   per kind { info_sz u8, elem_sz u8, flags u16 }: how long types of kinds unknown to a reader are
//! ```
//!
//! A header longer than the fields above is honoured: what a newer writer appended is skipped.

use std::ops::Range;

use skep_insn::Endian;

use crate::kind::Layout;
use crate::offsets::{Lengths, Offsets, STRIDE};
use crate::raw::{self, Info, u32_at};
use crate::{Error, TypeId};

/// What the header says, checked against the length of the data.
pub(crate) struct Sections {
    pub(crate) endian: Endian,
    pub(crate) types: Range<usize>,
    pub(crate) strings: Range<usize>,
    pub(crate) layouts: Vec<Layout>,
}

pub(crate) fn magic(data: &[u8]) -> Result<Endian, Error> {
    let found = *data.first_chunk::<2>().ok_or(Error::Truncated {
        what: "the BTF header",
        offset: 0,
        need: u64::from(raw::HEADER_LEN),
        have: data.len() as u64,
    })?;
    if u16::from_le_bytes(found) == raw::MAGIC {
        Ok(Endian::Little)
    } else if u16::from_be_bytes(found) == raw::MAGIC {
        Ok(Endian::Big)
    } else {
        Err(Error::Magic { found })
    }
}

/// A part of the data, given by an offset from the end of the header and a length.
pub(crate) fn part(data: &[u8], what: &'static str, hdr_len: u32, off: u32, len: u32) -> Result<Range<usize>, Error> {
    let start = u64::from(hdr_len) + u64::from(off);
    let end = start + u64::from(len);
    if end > data.len() as u64 {
        return Err(Error::Truncated {
            what,
            offset: start,
            need: u64::from(len),
            have: (data.len() as u64).saturating_sub(start),
        });
    }
    Ok(start as usize..end as usize)
}

pub(crate) fn sections(data: &[u8], split: bool) -> Result<Sections, Error> {
    let endian = magic(data)?;
    let field = |off: usize| {
        u32_at(data, off, endian).ok_or(Error::Truncated {
            what: "the BTF header",
            offset: 0,
            need: u64::from(raw::HEADER_LEN),
            have: data.len() as u64,
        })
    };
    let hdr_len = field(4)?;
    let (type_off, type_len, str_off, str_len) = (field(8)?, field(12)?, field(16)?, field(20)?);
    match data.get(2) {
        Some(&raw::VERSION) => {}
        other => {
            return Err(Error::Version { found: other.copied().unwrap_or_default() });
        }
    }
    if hdr_len < raw::HEADER_LEN {
        return Err(Error::Malformed { what: "the BTF header says it is shorter than 24 bytes", offset: 4 });
    }
    if u64::from(hdr_len) > data.len() as u64 {
        return Err(Error::Truncated {
            what: "the BTF header",
            offset: 0,
            need: u64::from(hdr_len),
            have: data.len() as u64,
        });
    }
    let types = part(data, "the type section", hdr_len, type_off, type_len)?;
    let strings = part(data, "the string section", hdr_len, str_off, str_len)?;
    let bytes = &data[strings.clone()];
    // A split BTF without names of its own may do without strings.
    if !(bytes.is_empty() && split) {
        if bytes.first() != Some(&0) && !split {
            return Err(Error::Malformed {
                what: "the string section does not begin with the empty string",
                offset: strings.start as u64,
            });
        }
        if bytes.last() != Some(&0) {
            return Err(Error::Malformed {
                what: "the string section does not end with a NUL byte",
                offset: strings.end as u64,
            });
        }
    }
    let layouts = if hdr_len >= raw::HEADER_LEN + 8 {
        let at = part(data, "the layout section", hdr_len, field(24)?, field(28)?)?;
        data[at].chunks_exact(4).take(128).map(|entry| Layout { fixed: entry[0], element: entry[1] }).collect()
    } else {
        Vec::new()
    };
    Ok(Sections { endian, types, strings, layouts })
}

/// Goes over all types once: where they start, and that they lie inside. `first` is the number of the first one. `visit` gets the
/// index of each among them and its `name_off`.
pub(crate) fn type_offsets(
    types: &[u8],
    endian: Endian,
    layouts: &[Layout],
    first: u32,
    visit: impl FnMut(u32, u32),
) -> Result<Offsets, Error> {
    // A match on the order once, instead of once per field.
    match endian {
        Endian::Little => walk(types, u32::from_le_bytes, layouts, first, visit),
        Endian::Big => walk(types, u32::from_be_bytes, layouts, first, visit),
    }
}

fn walk(
    types: &[u8],
    number: impl Fn([u8; 4]) -> u32,
    layouts: &[Layout],
    first: u32,
    mut visit: impl FnMut(u32, u32),
) -> Result<Offsets, Error> {
    let lengths = Lengths::new(layouts);
    // Types take 16 to 40 bytes; the kernel's take 25 on average.
    let mut marks = Vec::with_capacity(types.len() / (24 * STRIDE));
    let mut index: u32 = 0;
    let mut pos = 0;
    while pos < types.len() {
        let id = TypeId(first.saturating_add(index));
        let Some(head) = types[pos..].first_chunk::<12>() else {
            return Err(Error::Truncated {
                what: "a type in the type section",
                offset: pos as u64,
                need: raw::TYPE_LEN as u64,
                have: (types.len() - pos) as u64,
            });
        };
        let info = Info(number([head[4], head[5], head[6], head[7]]));
        let Some(len) = lengths.of(info) else {
            return Err(Error::UnknownKind { kind: info.kind(), offset: pos as u32, id });
        };
        if len > types.len() - pos {
            return Err(Error::Truncated {
                what: "a type in the type section",
                offset: pos as u64,
                need: len as u64,
                have: (types.len() - pos) as u64,
            });
        }
        if (index as usize).is_multiple_of(STRIDE) {
            marks.push(pos as u32);
        }
        visit(index, number([head[0], head[1], head[2], head[3]]));
        index += 1;
        pos += len;
    }
    if u64::from(first) + u64::from(index) > u64::from(i32::MAX as u32) {
        return Err(Error::TooBig { what: "more than 2^31 types" });
    }
    marks.shrink_to_fit();
    Ok(Offsets::new(marks, index, lengths))
}
