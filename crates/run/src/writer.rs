//! Records to bytes on standard output.

use std::collections::BTreeMap;
use std::io::{self, Write};

use skep_engine::{MapId, Record, Session};
use skep_view::{Clock, json_string, write_header, write_json, write_row, write_text};

use crate::events::Shapes;
use crate::maps::Contents;
use crate::options::Format;
use crate::stacks::StackMaps;

/// When the buffer is handed on in the middle of a burst, in bytes.
const FLUSH_BYTES: usize = 64 << 10;

/// Formats records, and hands them on in large pieces.
pub(crate) struct Writer<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    format: Format,
    shapes: BTreeMap<MapId, Shapes>,
    /// Buffers and layouts whose header was written.
    headed: Vec<(MapId, usize)>,
    /// More than one kind of row is possible, so that each says where it comes from.
    several: bool,
    stacks: &'a StackMaps<'a>,
    clock: Clock,
    /// Failure to write, kept until someone asks.
    broken: Option<io::Error>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        out: &'a mut dyn Write,
        format: Format,
        shapes: BTreeMap<MapId, Shapes>,
        printk: bool,
        stacks: &'a StackMaps<'a>,
        clock: Clock,
    ) -> Writer<'a> {
        let kinds: usize = shapes.values().map(|shapes| shapes.layouts.len().max(1)).sum();
        let several = kinds + usize::from(printk) > 1;
        Writer {
            out,
            buffer: Vec::with_capacity(2 * FLUSH_BYTES),
            format,
            shapes,
            headed: vec![],
            several,
            stacks,
            clock,
            broken: None,
        }
    }

    /// Writes the header when there can be only one, so that a person sees at once what will come.
    pub(crate) fn start(&mut self) {
        if let (Format::Text, false, Some((&map, shapes))) = (self.format, self.several, self.shapes.first_key_value())
            && let Some(layout) = shapes.layouts.first()
        {
            write_header(layout, &mut self.buffer);
            self.headed.push((map, 0));
            self.flush();
        }
    }

    /// Formats one record that arrived at `wall_ns`. Losses are not written: they are counted.
    pub(crate) fn record(&mut self, record: Record<'_>, wall_ns: i64) {
        match record {
            Record::Event { map, data, .. } => self.event(map, data, wall_ns),
            Record::Text { comm, tid, text, .. } => self.text(comm, tid, text, wall_ns),
            Record::Lost { .. } => {}
        }
        if self.buffer.len() >= FLUSH_BYTES {
            self.flush();
        }
    }

    /// Writes what the maps hold.
    pub(crate) fn maps(&mut self, session: &dyn Session) {
        let contents = Contents {
            session,
            format: self.format,
            wall_ns: crate::pump::wall_ns(),
            clock: &mut self.clock,
            stacks: self.stacks,
            out: &mut self.buffer,
        };
        contents.write();
        self.flush();
    }

    /// Hands on what is there.
    pub(crate) fn flush(&mut self) {
        if self.broken.is_none() && !self.buffer.is_empty() {
            let written = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
            self.broken = written.err();
        }
        self.buffer.clear();
    }

    /// Why nothing more can be written.
    pub(crate) fn broken(&self) -> Option<&io::Error> {
        self.broken.as_ref()
    }

    fn event(&mut self, map: MapId, data: &[u8], wall_ns: i64) {
        let Some(shapes) = self.shapes.get(&map) else { return };
        let layout = shapes.for_len(data.len()).map(|index| (index, &shapes.layouts[index]));
        match (self.format, layout) {
            (Format::Json, Some((_, layout))) => {
                write_json(layout, &shapes.name, data, wall_ns, &mut self.clock, self.stacks, &mut self.buffer);
            }
            (Format::Json, None) => {
                json_start(&shapes.name, wall_ns, &mut self.clock, &mut self.buffer);
                self.buffer.extend_from_slice(b",\"data\":\"");
                write_hex(data, b"", &mut self.buffer);
                self.buffer.extend_from_slice(b"\"}\n");
            }
            (Format::Text, Some((index, layout))) => {
                if !self.headed.contains(&(map, index)) {
                    self.headed.push((map, index));
                    if self.several {
                        write_source(&shapes.name, &mut self.buffer);
                    }
                    write_header(layout, &mut self.buffer);
                }
                if self.several {
                    write_source(&shapes.name, &mut self.buffer);
                }
                write_row(layout, data, wall_ns, &mut self.clock, self.stacks, &mut self.buffer);
            }
            (Format::Text, None) => {
                self.clock.write_time(wall_ns, &mut self.buffer);
                self.buffer.extend_from_slice(b"  ");
                write_source(&shapes.name, &mut self.buffer);
                write_unknown(data, &mut self.buffer);
            }
        }
    }

    fn text(&mut self, comm: &str, tid: u32, text: &str, wall_ns: i64) {
        match self.format {
            Format::Json => {
                json_start("printk", wall_ns, &mut self.clock, &mut self.buffer);
                self.buffer.extend_from_slice(b",\"comm\":");
                json_string(comm, &mut self.buffer);
                let _ = write!(self.buffer, ",\"tid\":{tid},\"text\":");
                json_string(text, &mut self.buffer);
                self.buffer.extend_from_slice(b"}\n");
            }
            Format::Text => {
                self.clock.write_time(wall_ns, &mut self.buffer);
                write_printed(comm, tid, text, &mut self.buffer);
            }
        }
    }
}

/// A printed line. Any process may have put control characters into its name or its data, and the terminal is root's.
fn write_printed(comm: &str, tid: u32, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"  ");
    let start = out.len();
    write_text(comm.as_bytes(), out);
    let _ = write!(out, "-{tid}");
    let width = out.len() - start;
    out.extend(std::iter::repeat_n(b' ', 22usize.saturating_sub(width)));
    out.extend_from_slice(b"  ");
    // Tabs are how programs make columns, and harm nobody.
    for (index, part) in text.split('\t').enumerate() {
        if index > 0 {
            out.push(b'\t');
        }
        write_text(part.as_bytes(), out);
    }
    out.push(b'\n');
}

fn json_start(source: &str, wall_ns: i64, clock: &mut Clock, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.write_rfc3339(wall_ns, out);
    out.extend_from_slice(b"\",\"source\":");
    json_string(source, out);
}

fn write_source(name: &str, out: &mut Vec<u8>) {
    let _ = write!(out, "{name:<12}  ");
}

/// Bytes of which nobody knows what they are: in hex, and as far as they are letters as those. Zeros at the end are counted.
fn write_unknown(data: &[u8], out: &mut Vec<u8>) {
    let used = data.len() - data.iter().rev().take_while(|byte| **byte == 0).count();
    let zeros = data.len() - used;
    let _ = write!(out, "{} bytes ", data.len());
    write_hex(&data[..used], b" ", out);
    if zeros > 0 {
        let _ = write!(out, "{}{zeros} zeros", if used > 0 { ", " } else { "" });
    }
    out.extend_from_slice(b" |");
    out.extend(data[..used].iter().map(|byte| if (b' '..=b'~').contains(byte) { *byte } else { b'.' }));
    out.extend_from_slice(b"|\n");
}

fn write_hex(data: &[u8], between: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in data.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(between);
        }
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_lines_cannot_command_the_terminal() {
        let printed = |comm: &str, text: &str| {
            let mut out = Vec::new();
            write_printed(comm, 7, text, &mut out);
            String::from_utf8(out).unwrap()
        };
        let task = format!("{:<22}", "evil\\x1b[2J-7");
        assert_eq!(
            printed("evil\x1b[2J", "a\tb\x1b]0;title\x07\nfake"),
            format!("  {task}  a\tb\\x1b]0;title\\x07\\nfake\n")
        );
        assert_eq!(printed("sh", "plain \u{fc}"), format!("  {:<22}  plain \u{fc}\n", "sh-7"));
    }

    #[test]
    fn bytes_without_a_type_show_their_letters_and_count_their_zeros() {
        let shown = |data: &[u8]| {
            let mut out = Vec::new();
            write_unknown(data, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(b"\x07\0sh\0\0\0"), "7 bytes 07 00 73 68, 3 zeros |..sh|\n");
        assert_eq!(shown(b"\x1b[2"), "3 bytes 1b 5b 32 |.[2|\n");
        assert_eq!(shown(&[0; 8]), "8 bytes 8 zeros ||\n");
        assert_eq!(shown(b""), "0 bytes  ||\n");
    }
}
