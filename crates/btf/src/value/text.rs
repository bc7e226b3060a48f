//! Values as C would initialise them: `{ .pid = 7, .comm = "cat", .state = RUNNING }`.

use std::fmt::{self, Write};

use super::{Chars, Leaf, Place, Shape, Site, Value, Visitor, WalkError, walk};
use crate::Kind;

/// How [`Text`] lays out a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Style {
    /// Every member on a line of its own, indented by tabs, instead of all on one.
    pub multiline: bool,
    /// Leaves out what is 0, as libbpf's `btf_dump__dump_type_data` does.
    pub skip_zero: bool,
}

/// A visitor that writes C-like text.
#[derive(Debug)]
pub struct Text<W> {
    out: W,
    style: Style,
    /// Per open value: whether something was written in it.
    open: Vec<bool>,
    /// With `skip_zero`: what was opened but not written yet, because all in it may be 0.
    pending: Vec<(String, Option<&'static str>)>,
}

/// The value as text on one line.
pub fn to_text(value: Value<'_>) -> Result<String, WalkError<fmt::Error>> {
    let mut out = String::new();
    walk(value, &mut Text::new(&mut out, Style::default()))?;
    Ok(out)
}

impl<W: Write> Text<W> {
    /// Writes to `out`.
    pub fn new(out: W, style: Style) -> Text<W> {
        Text { out, style, open: Vec::new(), pending: Vec::new() }
    }

    /// The separator before a value, and its name.
    fn head(&mut self, place: Place<'_>) -> fmt::Result {
        let depth = self.open.len();
        if let Some(used) = self.open.last_mut() {
            let first = !*used;
            *used = true;
            if self.style.multiline {
                self.out.write_str(if first { "\n" } else { ",\n" })?;
                for _ in 0..depth {
                    self.out.write_char('\t')?;
                }
            } else {
                self.out.write_str(if first { " " } else { ", " })?;
            }
        }
        match place {
            Place::Member(name) if !name.is_empty() => write!(self.out, ".{name} = "),
            Place::Variable(name) => write!(self.out, "{name} = "),
            _ => Ok(()),
        }
    }

    /// Writes the heads of everything that was opened and waits for a value other than 0.
    fn flush(&mut self) -> fmt::Result {
        for (name, variable) in std::mem::take(&mut self.pending) {
            match variable {
                Some(_) => self.head(Place::Variable(&name))?,
                None => self.head(Place::Member(&name))?,
            }
            self.out.write_char('{')?;
            self.open.push(false);
        }
        Ok(())
    }
}

impl<W: Write> Visitor for Text<W> {
    type Error = fmt::Error;

    fn open(&mut self, site: &Site<'_>, _: Shape<'_>) -> fmt::Result {
        if self.style.skip_zero && !matches!(site.place, Place::Root) {
            let (name, variable) = match site.place {
                Place::Member(name) => (name, None),
                Place::Variable(name) => (name, Some("variable")),
                _ => ("", None),
            };
            self.pending.push((name.to_owned(), variable));
            return Ok(());
        }
        self.head(site.place)?;
        self.out.write_char('{')?;
        self.open.push(false);
        Ok(())
    }

    fn close(&mut self, _: Shape<'_>) -> fmt::Result {
        if self.pending.pop().is_some() {
            return Ok(());
        }
        let used = self.open.pop().unwrap_or_default();
        match (used, self.style.multiline) {
            (false, _) => {}
            (true, false) => self.out.write_char(' ')?,
            (true, true) => {
                self.out.write_str(",\n")?;
                for _ in 0..self.open.len() {
                    self.out.write_char('\t')?;
                }
            }
        }
        self.out.write_char('}')
    }

    fn leaf(&mut self, site: &Site<'_>, leaf: Leaf<'_>) -> fmt::Result {
        if self.style.skip_zero && !self.open.is_empty() && is_zero(&leaf) {
            return Ok(());
        }
        self.flush()?;
        self.head(site.place)?;
        let out = &mut self.out;
        match leaf {
            Leaf::Int(it) if it.is_bool() && it.raw <= 1 => write!(out, "{}", it.raw == 1),
            Leaf::Int(it) if it.is_char && site.bitfield.is_none() => write_char(out, it.raw as u8),
            Leaf::Int(it) => write!(out, "{it}"),
            Leaf::Enum { name: Some(name), .. } => out.write_str(name),
            Leaf::Enum { value, .. } => write!(out, "{value}"),
            Leaf::Pointer(0) => out.write_str("NULL"),
            Leaf::Pointer(it) => write!(out, "{it:#x}"),
            Leaf::Float32(it) => write!(out, "{it:?}"),
            Leaf::Float64(it) => write!(out, "{it:?}"),
            Leaf::Chars(chars) => write_chars(out, &chars),
            Leaf::Opaque { bytes: [], kind } => write!(out, "<{}>", word(kind)),
            Leaf::Opaque { bytes, .. } => {
                out.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
            Leaf::Cut => out.write_str("<cut>"),
        }
    }
}

/// What a person calls a type that has no value.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::FWD => "incomplete type",
        Kind::VOID => "void",
        Kind::FUNC | Kind::FUNC_PROTO => "function",
        _ => "no value",
    }
}

fn is_zero(leaf: &Leaf<'_>) -> bool {
    match leaf {
        Leaf::Int(it) => it.raw == 0,
        Leaf::Enum { value, .. } => *value == 0,
        Leaf::Pointer(it) => *it == 0,
        Leaf::Float32(it) => it.to_bits() == 0,
        Leaf::Float64(it) => it.to_bits() == 0,
        Leaf::Chars(chars) => chars.bytes.iter().all(|&byte| byte == 0),
        Leaf::Opaque { bytes, .. } => bytes.iter().all(|&byte| byte == 0),
        Leaf::Cut => false,
    }
}

fn write_char(out: &mut impl Write, byte: u8) -> fmt::Result {
    match byte {
        b'\'' => out.write_str("'\\''"),
        b'\\' => out.write_str("'\\\\'"),
        0x20..=0x7e => write!(out, "'{}'", byte as char),
        0 => out.write_str("'\\0'"),
        _ => write!(out, "'\\x{byte:02x}'"),
    }
}

fn write_chars(out: &mut impl Write, chars: &Chars<'_>) -> fmt::Result {
    out.write_char('"')?;
    for part in chars.text().utf8_chunks() {
        for ch in part.valid().chars() {
            match ch {
                '"' => out.write_str("\\\"")?,
                '\\' => out.write_str("\\\\")?,
                '\n' => out.write_str("\\n")?,
                '\t' => out.write_str("\\t")?,
                '\r' => out.write_str("\\r")?,
                ch if ch.is_control() => write!(out, "\\x{:02x}", ch as u32)?,
                ch => out.write_char(ch)?,
            }
        }
        for byte in part.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    out.write_str(if chars.is_cut() { "\"<cut>" } else { "\"" })
}
