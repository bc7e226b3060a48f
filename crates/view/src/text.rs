//! Rows of text.

use skep_btf::Btf;

use crate::stack::write_below;
use crate::{Clock, Layout, Stacks};

/// Blanks between columns.
const GAP: usize = 2;

/// Writes the titles of a layout's columns as one line, `TIME` first unless the event has its own.
pub fn write_header(layout: &Layout, out: &mut Vec<u8>) {
    if !layout.has_time() {
        pad(out, "TIME".as_bytes(), 8);
    }
    write_titles(layout, true, out);
    out.push(b'\n');
}

/// Writes one event as one line, the frames of its stacks below it. `wall_ns` is when it arrived, in nanoseconds since 1970.
pub fn write_row(
    layout: &Layout,
    data: &[u8],
    wall_ns: i64,
    clock: &mut Clock,
    stacks: &dyn Stacks,
    out: &mut Vec<u8>,
) {
    if !layout.has_time() {
        clock.write_time(wall_ns, out);
        out.extend_from_slice(b"  ");
    }
    write_cells(layout, data, true, clock, out);
    out.push(b'\n');
    write_below(layout, data, stacks, out);
}

/// Writes titles side by side. The last one is not padded when it ends the line.
pub(crate) fn write_titles(layout: &Layout, ends_line: bool, out: &mut Vec<u8>) {
    let last = layout.columns.len().saturating_sub(1);
    for (index, column) in layout.columns.iter().enumerate() {
        if ends_line && index == last {
            out.extend_from_slice(column.title.as_bytes());
        } else {
            pad(out, column.title.as_bytes(), column.width);
        }
    }
}

/// Writes values side by side, under [`write_titles`].
pub(crate) fn write_cells(layout: &Layout, data: &[u8], ends_line: bool, clock: &mut Clock, out: &mut Vec<u8>) {
    let btf: &Btf = &layout.btf;
    let last = layout.columns.len().saturating_sub(1);
    for (index, column) in layout.columns.iter().enumerate() {
        let start = out.len();
        column.cell.write_text(data, column.off, layout.endian, btf, clock, out);
        if !ends_line || index != last {
            // Width counts characters; bytes that continue one do not take a place.
            let written = out[start..].iter().filter(|&&b| b & 0xc0 != 0x80).count();
            // A value that is too wide pushes its row to the right by one blank.
            spaces(out, (column.width + GAP).saturating_sub(written).max(1));
        }
    }
}

fn pad(out: &mut Vec<u8>, text: &[u8], width: usize) {
    out.extend_from_slice(text);
    spaces(out, width.saturating_sub(text.len()) + GAP);
}

fn spaces(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, b' ');
}
