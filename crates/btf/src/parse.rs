//! The header of BTF, checked: where the types, the strings and the layouts lie in the bytes. `walk` goes on with the types.
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

use crate::Error;
use crate::kind::Layout;
use crate::raw::{self, u32_at};

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
