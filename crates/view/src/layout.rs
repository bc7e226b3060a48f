//! A type, prepared for formatting.

use skep_btf::{Btf, Error, Type, TypeId};
use skep_insn::Endian;

use crate::cell::{Cell, enum_names};
use crate::json::keys;
use crate::stack::{StackId, is_stack_id};

/// The columns of an event type, found once.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(crate) columns: Vec<Column>,
    /// Objects that are open after the last column in JSON.
    pub(crate) json_open: usize,
    pub(crate) endian: Endian,
    /// What [`Cell::Other`] values are printed with.
    pub(crate) btf: Btf,
    /// It is one value and not a struct of members.
    pub(crate) scalar: bool,
    /// Its members that are ids of stacks.
    pub(crate) stacks: Vec<StackId>,
    size_bytes: u32,
    has_time: bool,
}

/// One value of an event.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Member name; members of structs within are `outer.inner`.
    pub(crate) name: String,
    /// What stands before its value in JSON; see [`crate::json::keys`].
    pub(crate) json_key: Vec<u8>,
    /// Title in text: upper case, the last part of the name unless that is ambiguous.
    pub(crate) title: String,
    /// Offset in the event, in bytes.
    pub(crate) off: usize,
    /// What it is.
    pub(crate) cell: Cell,
    /// Width in text, in characters.
    pub(crate) width: usize,
}

/// A leaf member before its siblings are considered.
struct Leaf<'a> {
    name: String,
    member: &'a str,
    off_bits: u32,
    bits: Option<u32>,
    type_id: TypeId,
}

/// How deep structs within structs become columns; deeper ones print as one value.
const MAX_FLATTEN: u32 = 4;

impl Layout {
    /// Prepares the type `id`, which should be a struct; anything else gets one column, `VALUE`.
    ///
    /// # Errors
    ///
    /// When `btf` is broken around the type.
    pub fn of(btf: &Btf, id: TypeId) -> Result<Layout, Error> {
        Layout::of_value(btf, id, "value")
    }

    /// As [`Layout::of`], with a name for what is not a struct.
    pub(crate) fn of_value(btf: &Btf, id: TypeId, name: &str) -> Result<Layout, Error> {
        let (id, resolved) = btf.resolve(id)?;
        let mut leaves = Vec::new();
        let scalar = !matches!(resolved, Type::Struct(_));
        match resolved {
            Type::Struct(_) => flatten(btf, id, "", 0, 0, &mut leaves)?,
            _ => leaves.push(Leaf { name: name.into(), member: name, off_bits: 0, bits: None, type_id: id }),
        }
        let size_bytes = btf.size_of(id)? as u32;
        let mut columns = Vec::with_capacity(leaves.len());
        for leaf in &leaves {
            if is_consumed(leaf, &leaves) {
                continue;
            }
            let cell = classify(btf, leaf, &leaves)?;
            let title = leaf.member.to_ascii_uppercase();
            columns.push(Column {
                width: cell.width(title.len()),
                name: leaf.name.clone(),
                json_key: Vec::new(),
                title,
                off: leaf.off_bits as usize / 8,
                cell,
            });
        }
        for index in 0..columns.len() {
            let twice = columns.iter().filter(|c| c.title == columns[index].title).count() > 1;
            if twice {
                columns[index].title = columns[index].name.to_ascii_uppercase();
            }
        }
        let (keys, json_open) = keys(columns.iter().map(|column| column.name.as_str()));
        for (column, key) in columns.iter_mut().zip(keys) {
            column.json_key = key;
        }
        let has_time = columns.iter().any(|c| matches!(c.cell, Cell::Time));
        let stacks = stack_ids(btf, &leaves, &columns);
        Ok(Layout { columns, json_open, endian: btf.endian(), btf: btf.clone(), scalar, stacks, size_bytes, has_time })
    }

    /// Without the columns that begin in this range of bytes.
    pub(crate) fn without(mut self, range: std::ops::Range<usize>) -> Layout {
        self.columns.retain(|column| !range.contains(&column.off));
        self
    }

    /// Size of the type, in bytes. Events may be longer (kernel padding) or shorter (a trimmed tail).
    pub fn size_bytes(&self) -> u32 {
        self.size_bytes
    }

    /// Whether the event carries its own time, so that no column for the time of arrival is needed.
    pub fn has_time(&self) -> bool {
        self.has_time
    }
}

fn flatten<'a>(
    btf: &'a Btf,
    id: TypeId,
    prefix: &str,
    base_bits: u32,
    depth: u32,
    out: &mut Vec<Leaf<'a>>,
) -> Result<(), Error> {
    let Type::Struct(composite) = btf.resolve(id)?.1 else {
        return Ok(());
    };
    for member in composite.members() {
        let name = member.name();
        let (inner_id, inner) = btf.resolve(member.type_id())?;
        let off_bits = base_bits.saturating_add(member.bit_offset());
        let path = match (prefix, name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        };
        if let Type::Struct(_) = inner
            && depth < MAX_FLATTEN
        {
            flatten(btf, inner_id, &path, off_bits, depth + 1, out)?;
            continue;
        }
        if is_padding(name) {
            continue;
        }
        // An unnamed union prints as one value under its position's name.
        let path = if path.is_empty() { format!("u{}", out.len()) } else { path };
        out.push(Leaf {
            name: path,
            member: if name.is_empty() { "union" } else { name },
            off_bits,
            bits: member.bitfield_size(),
            type_id: member.type_id(),
        });
    }
    Ok(())
}

fn is_padding(name: &str) -> bool {
    let bare = name.trim_matches(|c: char| c == '_' || c.is_ascii_digit());
    matches!(bare, "pad" | "padding" | "reserved" | "unused")
}

/// A length that only tells where the text beside it ends.
fn is_consumed(leaf: &Leaf<'_>, all: &[Leaf<'_>]) -> bool {
    ["args", "argv"].iter().any(|text| {
        leaf.name.strip_suffix(leaf.member).is_some_and(|prefix| {
            matches!(leaf.member.strip_prefix(text), Some("_size" | "_len" | "_count"))
                && all.iter().any(|l| l.name == format!("{prefix}{text}"))
        })
    })
}

fn stack_ids(btf: &Btf, leaves: &[Leaf<'_>], columns: &[Column]) -> Vec<StackId> {
    let place = |leaf: &Leaf<'_>| -> Option<(usize, u32)> {
        let (_, Type::Int(int)) = btf.resolve(leaf.type_id).ok()? else { return None };
        (leaf.bits.is_none() && matches!(int.size(), 4 | 8)).then_some((leaf.off_bits as usize / 8, int.size()))
    };
    let ids = leaves.iter().filter(|leaf| is_stack_id(leaf.member)).filter_map(|leaf| {
        let title = &columns.iter().find(|column| column.name == leaf.name)?.title;
        let task = ["tgid", "pid"].iter().find_map(|name| {
            sibling(leaf, leaves, &[name]).or_else(|| leaves.iter().find(|other| other.member == *name))
        });
        Some(StackId { name: leaf.name.clone(), title: title.clone(), place: place(leaf)?, task: task.and_then(place) })
    });
    ids.collect()
}

fn sibling<'l, 'a>(leaf: &Leaf<'_>, all: &'l [Leaf<'a>], names: &[&str]) -> Option<&'l Leaf<'a>> {
    let prefix = leaf.name.strip_suffix(leaf.member).unwrap_or_default();
    all.iter().find(|l| l.name.strip_prefix(prefix).is_some_and(|rest| names.contains(&rest)))
}

fn classify(btf: &Btf, leaf: &Leaf<'_>, all: &[Leaf<'_>]) -> Result<Cell, Error> {
    let (id, resolved) = btf.resolve(leaf.type_id)?;
    if let Some(bits) = leaf.bits {
        let signed = matches!(resolved, Type::Int(int) if int.is_signed());
        return Ok(Cell::Bits { shift: leaf.off_bits % 8, bits, signed });
    }
    let name = leaf.member;
    let type_name = btf.strip_qualifiers(leaf.type_id)?.1.name();
    let size = btf.size_of(id).unwrap_or(0) as u32;
    let place_of = |leaf: &Leaf<'_>| -> Option<(usize, u32)> {
        let size = btf.size_of(leaf.type_id).ok()? as u32;
        matches!(size, 1 | 2 | 4 | 8).then_some((leaf.off_bits as usize / 8, size))
    };
    let family = || sibling(leaf, all, &["family", "af", "sa_family", "address_family"]).and_then(place_of);
    Ok(match resolved {
        Type::Int(int) => {
            if int.is_bool() {
                Cell::Bool
            } else if int.is_char() {
                Cell::Char
            } else if size == 16 {
                if is_address(name) { Cell::Ip { family: family() } } else { Cell::Other { id, size } }
            } else if !matches!(size, 1 | 2 | 4 | 8) {
                Cell::Other { id, size }
            } else if type_name == "__be16" {
                Cell::Be16
            } else if size == 4 && !int.is_signed() && (type_name == "__be32" || is_address(name)) {
                Cell::Ipv4
            } else if size == 8 && is_moment(name) {
                Cell::Time
            } else if size == 8 && matches!(name, "pid_tgid" | "tgid_pid") {
                Cell::PidTgid
            } else if let Some(unit_ns) = duration_unit(name).filter(|_| size >= 4 && !int.is_signed()) {
                Cell::Duration { size, unit_ns }
            } else if int.is_signed() && matches!(name, "ret" | "retval" | "err" | "error" | "errno") {
                Cell::Errno { size }
            } else {
                Cell::Int { size, signed: int.is_signed() }
            }
        }
        Type::Ptr(_) => Cell::Pointer,
        Type::Enum(e) | Type::Enum64(e) => {
            Cell::Enum { size: e.size(), signed: e.is_signed(), names: enum_names(e.values()) }
        }
        Type::Array(array) => {
            let (element_id, element) = btf.resolve(array.element())?;
            let element_size = btf.size_of(element_id).unwrap_or(0) as u32;
            match element {
                Type::Int(int) if int.is_char() => {
                    let length = matches!(name, "args" | "argv")
                        .then(|| sibling(leaf, all, &["args_size", "args_len", "argv_size", "argv_len"]))
                        .flatten()
                        .and_then(place_of);
                    Cell::Text { size: array.len(), length }
                }
                Type::Int(_) if element_size * array.len() == 16 && element_size > 0 && is_address(name) => {
                    Cell::Ip { family: family() }
                }
                Type::Int(int) if int.size() == 1 && array.len() == 6 && name.contains("mac") => Cell::Mac,
                _ => Cell::Other { id, size },
            }
        }
        _ => Cell::Other { id, size },
    })
}

fn is_address(name: &str) -> bool {
    matches!(name, "saddr" | "daddr" | "addr" | "ip" | "laddr" | "raddr" | "src_ip" | "dst_ip")
        || name.ends_with("_addr")
        || name.ends_with("_ip")
        || name.starts_with("saddr")
        || name.starts_with("daddr")
}

fn is_moment(name: &str) -> bool {
    matches!(name, "ts" | "ts_ns" | "timestamp" | "timestamp_ns" | "ktime" | "ktime_ns" | "time_ns")
}

fn duration_unit(name: &str) -> Option<u64> {
    let bare = name.trim_end_matches("_ns").trim_end_matches("_us").trim_end_matches("_ms");
    let is_span = ["delta", "latency", "lat", "duration", "dur", "elapsed"]
        .iter()
        .any(|word| bare == *word || bare.strip_suffix(word).is_some_and(|rest| rest.ends_with('_')));
    if !is_span {
        return None;
    }
    Some(match &name[bare.len()..] {
        "_us" => 1_000,
        "_ms" => 1_000_000,
        _ => 1,
    })
}
