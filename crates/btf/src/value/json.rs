//! Values as `bpftool map dump` writes them.
//!
//! `bpftool -j` and its plain form differ a little, and both in places from what JSON would suggest; scripts rely on it:
//!
//! - a bit-field and a 128-bit number are hexadecimal strings (`"0x1f"`), bare without `-j`;
//! - an array of `char` is a string only when a NUL ends it and all before is printable ASCII, and else numbers;
//! - `char` itself is a number, as compilers do not mark it as a character; marked ones are strings of one character;
//! - a pointer is a decimal number; without `-j` it is printed as `%p` (`0x7f00`, `(nil)`);
//! - an enumeration's name is a string; a value without a name is a signed number;
//! - an anonymous member has the empty name.
//!
//! Ours on top: floats are numbers (bpftool gives up on them), missing bytes are `null`, and what has no value is `null`.

use std::fmt::{self, Write};

use super::{Chars, IntValue, Leaf, Place, Shape, Site, Value, Visitor, WalkError, walk};
use crate::IntEncoding;

/// A visitor that writes JSON in bpftool's form.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
    is_plain: bool,
    /// Per open value: whether something was written in it.
    open: Vec<bool>,
    /// Whether the value that comes stands in an object of its own, as variables in a section do.
    wrapped: Vec<bool>,
}

/// The value as `bpftool -j map dump` writes it in `formatted`.
pub fn to_json(value: Value<'_>) -> Result<String, WalkError<fmt::Error>> {
    let mut out = String::new();
    walk(value, &mut Json::new(&mut out))?;
    Ok(out)
}

impl<W: Write> Json<W> {
    /// Writes strict JSON to `out`, as `bpftool -j` does.
    pub fn new(out: W) -> Json<W> {
        Json { out, is_plain: false, open: Vec::new(), wrapped: Vec::new() }
    }

    /// Writes numbers as bpftool does without `-j`: hexadecimal without quotes. The layout stays on one line.
    pub fn plain(out: W) -> Json<W> {
        Json { is_plain: true, ..Json::new(out) }
    }

    /// The comma and the name before a value; whether it has to be wrapped.
    fn head(&mut self, place: Place<'_>) -> Result<bool, fmt::Error> {
        if let Some(used) = self.open.last_mut()
            && std::mem::replace(used, true)
        {
            self.out.write_char(',')?;
        }
        match place {
            Place::Root | Place::Element(_) => Ok(false),
            Place::Member(name) => {
                write_string(&mut self.out, name.as_bytes())?;
                self.out.write_char(':')?;
                Ok(false)
            }
            Place::Variable(name) => {
                self.out.write_char('{')?;
                write_string(&mut self.out, name.as_bytes())?;
                self.out.write_char(':')?;
                Ok(true)
            }
        }
    }

    fn int(&mut self, site: &Site<'_>, it: IntValue) -> fmt::Result {
        let is_odd = site.bitfield.is_some()
            || !site.bit_offset.is_multiple_of(8)
            || !matches!(it.bits, 8 | 16 | 32 | 64)
            || !matches!(it.encoding.0, 0 | 1 | 2 | 4);
        if is_odd {
            return if self.is_plain {
                write!(self.out, "{:#x}", it.raw)
            } else {
                write!(self.out, "\"{:#x}\"", it.raw)
            };
        }
        match it.encoding {
            IntEncoding::BOOL => write!(self.out, "{}", it.raw as u8 != 0),
            IntEncoding::CHAR => match it.raw as u8 {
                byte @ 0x20..=0x7e => write_string(&mut self.out, &[byte]),
                byte if self.is_plain => write!(self.out, "{byte:#x}"),
                byte => write!(self.out, "\"\\u00{byte:02x}\""),
            },
            _ => write!(self.out, "{it}"),
        }
    }
}

impl<W: Write> Visitor for Json<W> {
    type Error = fmt::Error;

    fn open(&mut self, site: &Site<'_>, shape: Shape<'_>) -> fmt::Result {
        let wrapped = self.head(site.place)?;
        self.wrapped.push(wrapped);
        self.open.push(false);
        match shape {
            Shape::Struct | Shape::Union => self.out.write_char('{'),
            Shape::Array { .. } => self.out.write_char('['),
            Shape::Section(name) => {
                self.out.write_char('{')?;
                write_string(&mut self.out, name.as_bytes())?;
                self.out.write_str(":[")
            }
        }
    }

    fn close(&mut self, shape: Shape<'_>) -> fmt::Result {
        self.open.pop();
        self.out.write_str(match shape {
            Shape::Struct | Shape::Union => "}",
            Shape::Array { .. } => "]",
            Shape::Section(_) => "]}",
        })?;
        if self.wrapped.pop().unwrap_or_default() {
            self.out.write_char('}')?;
        }
        Ok(())
    }

    fn leaf(&mut self, site: &Site<'_>, leaf: Leaf<'_>) -> fmt::Result {
        let wrapped = self.head(site.place)?;
        match leaf {
            Leaf::Int(it) => self.int(site, it)?,
            Leaf::Enum { of, name, value } => match (name, site.bitfield) {
                // bpftool prints every bit-field as bits.
                (_, Some(bits)) => {
                    let raw = value as u128 & u128::MAX >> (128 - bits.clamp(1, 128));
                    let encoding = IntEncoding::default();
                    self.int(site, IntValue { raw, bits, encoding, is_char: false })?;
                }
                (Some(name), None) => write_string(&mut self.out, name.as_bytes())?,
                (None, None) if !of.is_64() => write!(self.out, "{}", value as i32)?,
                (None, None) => write!(self.out, "{value}")?,
            },
            Leaf::Pointer(0) if self.is_plain => self.out.write_str("(nil)")?,
            Leaf::Pointer(it) if self.is_plain => write!(self.out, "{it:#x}")?,
            Leaf::Pointer(it) => write!(self.out, "{it}")?,
            Leaf::Float32(it) if it.is_finite() => write!(self.out, "{it:?}")?,
            Leaf::Float64(it) if it.is_finite() => write!(self.out, "{it:?}")?,
            Leaf::Chars(chars) => write_string(&mut self.out, chars.text())?,
            Leaf::Float32(_) | Leaf::Float64(_) | Leaf::Opaque { .. } | Leaf::Cut => self.out.write_str("null")?,
        }
        if wrapped {
            self.out.write_char('}')?;
        }
        Ok(())
    }

    fn wants_text(&mut self, chars: &Chars<'_>) -> bool {
        let text = chars.text();
        chars.is_plain && text.len() < chars.bytes.len() && text.iter().all(|it| matches!(it, 0x20..=0x7e))
    }
}

/// A JSON string with the escapes that bpftool's writer uses.
fn write_string(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    out.write_char('"')?;
    for part in bytes.utf8_chunks() {
        for ch in part.valid().chars() {
            match ch {
                '"' => out.write_str("\\\"")?,
                '\\' => out.write_str("\\\\")?,
                '\n' => out.write_str("\\n")?,
                '\t' => out.write_str("\\t")?,
                '\r' => out.write_str("\\r")?,
                '\u{8}' => out.write_str("\\b")?,
                '\u{c}' => out.write_str("\\f")?,
                ch if (ch as u32) < 0x20 => write!(out, "\\u{:04x}", ch as u32)?,
                ch => out.write_char(ch)?,
            }
        }
        if !part.invalid().is_empty() {
            out.write_char(char::REPLACEMENT_CHARACTER)?;
        }
    }
    out.write_char('"')
}
