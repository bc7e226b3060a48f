//! JSON lines.

use std::io::Write as _;

use crate::stack::write_member;
use crate::{Clock, Layout, Stacks};

/// Writes one event as one line of JSON: `time` (RFC 3339, UTC), `source` (the buffer's name), then the members by name.
/// Structs within are objects; `stacks` are the frames of the stacks whose ids it holds. `wall_ns` is when the event arrived.
pub fn write_record(
    layout: &Layout,
    source: &str,
    data: &[u8],
    wall_ns: i64,
    clock: &mut Clock,
    stacks: &dyn Stacks,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.write_rfc3339(wall_ns, out);
    out.extend_from_slice(b"\",\"source\":");
    write_string(source.as_bytes(), out);
    write_members(layout, data, false, out);
    write_member(&[(layout, data)], stacks, out);
    out.extend_from_slice(b"}\n");
}

/// Writes a value of its own: an object for a struct, else what it is.
pub(crate) fn write_value(layout: &Layout, data: &[u8], out: &mut Vec<u8>) {
    match &layout.columns[..] {
        [column] if layout.scalar => column.cell.write_json(data, column.off, layout.endian, &layout.btf, out),
        _ => {
            out.push(b'{');
            write_members(layout, data, true, out);
            out.push(b'}');
        }
    }
}

/// Writes the columns as members of an object that is open already; `first` when nothing stands in it yet.
pub(crate) fn write_members(layout: &Layout, data: &[u8], first: bool, out: &mut Vec<u8>) {
    if !first && !layout.columns.is_empty() {
        out.push(b',');
    }
    for column in &layout.columns {
        out.extend_from_slice(&column.json_key);
        column.cell.write_json(data, column.off, layout.endian, &layout.btf, out);
    }
    out.resize(out.len() + layout.json_open, b'}');
}

/// What stands before the value of each column: a comma, objects that end and begin there, its name, a colon. And how many
/// objects are open after the last one.
///
/// Columns are in the order of the type, so that an open object is always the prefix of the next name.
pub(crate) fn keys<'n>(names: impl Iterator<Item = &'n str>) -> (Vec<Vec<u8>>, usize) {
    let mut open: Vec<&str> = Vec::new();
    let mut keys = Vec::new();
    for name in names {
        let mut parts: Vec<&str> = name.split('.').collect();
        let leaf = parts.pop().unwrap_or_default();
        let shared = open.iter().zip(&parts).take_while(|(a, b)| a == b).count();
        let mut key = vec![b'}'; open.len() - shared];
        if !keys.is_empty() {
            key.push(b',');
        }
        open.truncate(shared);
        for part in &parts[shared..] {
            write_string(part.as_bytes(), &mut key);
            key.extend_from_slice(b":{");
            open.push(part);
        }
        write_string(leaf.as_bytes(), &mut key);
        key.push(b':');
        keys.push(key);
    }
    (keys, open.len())
}

/// Writes `text` as a JSON string.
pub fn json_string(text: &str, out: &mut Vec<u8>) {
    write_string(text.as_bytes(), out);
}

/// Writes bytes as a JSON string; what is not UTF-8 becomes U+FFFD. Control characters are escaped, those beyond ASCII too (C1,
/// which JSON would let pass), since some terminals obey them.
pub(crate) fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if bytes.iter().all(|&byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\') {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                c if c.is_control() => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}
