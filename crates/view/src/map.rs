//! Tables of what a map holds.

use std::cmp::Ordering;
use std::io::Write as _;

use skep_btf::{Btf, Error, Type, TypeId};

use crate::cell::{read, write_u64};
use crate::histogram::write_log2;
use crate::json::{write_string, write_value};
use crate::stack::{write_below, write_member};
use crate::text::{write_cells, write_titles};
use crate::{Clock, Layout, Stacks};

/// How many entries of a map are written as text; the rest is counted.
const MAX_ROWS: usize = 1000;

/// What a map holds, as it was read.
#[derive(Clone, Copy, Debug)]
pub struct MapEntries<'e> {
    /// Name of the map.
    pub name: &'e str,
    /// Keys and values. A value of a per-CPU map is all CPUs' values, each rounded up to 8 bytes.
    pub entries: &'e [(Vec<u8>, Vec<u8>)],
    /// Size of one CPU's value, in bytes; `None` for maps that are not per CPU.
    pub cpu_size: Option<usize>,
    /// Every key exists from the start, as in arrays: a value that is all zero was never written, and is left out and
    /// counted. So is that of a CPU which has none; other entries exist because a program made them, and are shown.
    pub full: bool,
}

/// How the entries of one map are shown.
#[derive(Clone, Debug)]
pub struct MapView {
    key: Layout,
    value: Layout,
    /// Place of a `slots` array in the value: offset, number, and size of one, in bytes.
    slots: Option<(usize, u32, u32)>,
    /// What the value has beside its slots.
    beside: Layout,
    /// The value is one integer of this size: values of several CPUs are added, and rows sorted by it.
    number: Option<u32>,
}

impl MapView {
    /// Prepares the key and value types of a map.
    ///
    /// # Errors
    ///
    /// When `btf` is broken around the types.
    pub fn of(btf: &Btf, key: TypeId, value: TypeId) -> Result<MapView, Error> {
        let number = match btf.resolve(value)?.1 {
            Type::Int(int) if matches!(int.size(), 4 | 8) => Some(int.size()),
            _ => None,
        };
        let slots = slots(btf, value)?;
        let value = Layout::of_value(btf, value, "value")?;
        let drawn = slots.map_or(0..0, |(off, count, size)| off..off + count as usize * size as usize);
        Ok(MapView {
            key: Layout::of_value(btf, key, "key")?,
            beside: value.clone().without(drawn),
            value,
            slots,
            number,
        })
    }

    /// Writes a map's entries as a table under its name, sorted by value if that is a number (the largest last), else by
    /// key; each CPU's value has a row, except that numbers are added up. What was left out is counted on a line of its own.
    /// The frames of stacks whose ids a row holds follow it.
    pub fn write_text(&self, entries: &MapEntries<'_>, clock: &mut Clock, stacks: &dyn Stacks, out: &mut Vec<u8>) {
        let (mut rows, zeros) = self.rows(entries);
        if let Some(size) = self.number {
            rows.sort_by_key(|row| read(&row.value, 0, size, self.value.endian));
        }
        let _ = writeln!(out, "\n{}:", entries.name);
        if rows.is_empty() {
            let _ = writeln!(out, "(only zeros: {zeros})");
            return;
        }
        // A histogram under a key that is one value needs no title.
        let has_titles = self.slots.is_none() || self.key.columns.len() + self.beside.columns.len() > 1;
        if has_titles {
            write_titles(&self.key, self.beside.columns.is_empty(), out);
            write_titles(&self.beside, true, out);
            out.push(b'\n');
        }
        let skipped = rows.len().saturating_sub(MAX_ROWS);
        if skipped > 0 {
            let _ = writeln!(out, "({skipped} more; `--json` shows all)");
        }
        for row in &rows[skipped..] {
            write_cells(&self.key, row.key, self.beside.columns.is_empty(), clock, out);
            write_cells(&self.beside, &row.value, true, clock, out);
            if let Some(cpu) = row.cpu {
                let _ = write!(out, "  (cpu {cpu})");
            }
            out.push(b'\n');
            if let Some(place) = self.slots {
                write_log2(&read_slots(&row.value, place, self.value.endian), out);
            }
            write_below(&self.key, row.key, stacks, out);
            write_below(&self.value, &row.value, stacks, out);
        }
        if zeros > 0 {
            let _ = writeln!(out, "({zeros} more {} zero)", if zeros == 1 { "is" } else { "are" });
        }
    }

    /// Writes entries as one line of JSON each, sorted by key: `time`, `map`, `cpu` for per-CPU values that were not added
    /// up, `key` and `value` (an object for a struct, else the value itself). All of them, however many; what was left out is
    /// counted on a last line with `time`, `map` and `zeros`. Frames of stacks are in `stacks`.
    pub fn write_json(
        &self,
        entries: &MapEntries<'_>,
        wall_ns: i64,
        clock: &mut Clock,
        stacks: &dyn Stacks,
        out: &mut Vec<u8>,
    ) {
        let start = |clock: &mut Clock, out: &mut Vec<u8>| {
            out.extend_from_slice(b"{\"time\":\"");
            clock.write_rfc3339(wall_ns, out);
            out.extend_from_slice(b"\",\"map\":");
            write_string(entries.name.as_bytes(), out);
        };
        let (rows, zeros) = self.rows(entries);
        for row in rows {
            start(clock, out);
            if let Some(cpu) = row.cpu {
                out.extend_from_slice(b",\"cpu\":");
                write_u64(cpu as u64, out);
            }
            out.extend_from_slice(b",\"key\":");
            write_value(&self.key, row.key, out);
            out.extend_from_slice(b",\"value\":");
            write_value(&self.value, &row.value, out);
            write_member(&[(&self.key, row.key), (&self.value, &row.value)], stacks, out);
            out.extend_from_slice(b"}\n");
        }
        if zeros > 0 {
            start(clock, out);
            let _ = writeln!(out, ",\"zeros\":{zeros}}}");
        }
    }

    /// The rows to be shown, sorted by key, and how many were left out.
    fn rows<'e>(&self, map: &MapEntries<'e>) -> (Vec<Row<'e>>, usize) {
        let mut rows = Vec::with_capacity(map.entries.len());
        for (key, value) in map.entries {
            match (map.cpu_size, self.number) {
                (None, _) => rows.push(Row { key, cpu: None, value: value.clone() }),
                (Some(_), Some(size)) => rows.push(Row { key, cpu: None, value: self.sum(value, size) }),
                (Some(size), None) => {
                    let each = value.chunks(size.next_multiple_of(8).max(8)).enumerate();
                    rows.extend(each.map(|(cpu, value)| Row { key, cpu: Some(cpu), value: value.to_vec() }));
                }
            }
        }
        let all = rows.len();
        rows.retain(|row| !(map.full || row.cpu.is_some()) || row.value.iter().any(|&byte| byte != 0));
        let order = |a: &Row<'_>, b: &Row<'_>| {
            let columns = self.key.columns.iter();
            columns.fold(Ordering::Equal, |order, it| {
                order.then_with(|| it.cell.order(a.key, b.key, it.off, self.key.endian))
            })
        };
        rows.sort_by(|a, b| order(a, b).then_with(|| a.key.cmp(b.key)).then(a.cpu.cmp(&b.cpu)));
        let zeros = all - rows.len();
        (rows, zeros)
    }

    /// Adds the values of all CPUs, which lie 8 bytes apart.
    fn sum(&self, value: &[u8], size: u32) -> Vec<u8> {
        let endian = self.value.endian;
        let total = value.chunks(8).filter_map(|one| read(one, 0, size, endian)).fold(0u64, u64::wrapping_add);
        let bytes = match endian {
            skep_insn::Endian::Little => total.to_le_bytes(),
            skep_insn::Endian::Big => (total << (64 - 8 * size)).to_be_bytes(),
        };
        bytes[..size as usize].to_vec()
    }
}

struct Row<'e> {
    key: &'e [u8],
    cpu: Option<usize>,
    value: Vec<u8>,
}

fn slots(btf: &Btf, value: TypeId) -> Result<Option<(usize, u32, u32)>, Error> {
    let Type::Struct(composite) = btf.resolve(value)?.1 else { return Ok(None) };
    for member in composite.members().filter(|member| member.name() == "slots") {
        let Type::Array(array) = btf.resolve(member.type_id())?.1 else { continue };
        if let (_, Type::Int(int)) = btf.resolve(array.element())?
            && matches!(int.size(), 4 | 8)
        {
            return Ok(Some((member.bit_offset() as usize / 8, array.len(), int.size())));
        }
    }
    Ok(None)
}

fn read_slots(data: &[u8], (off, count, size): (usize, u32, u32), endian: skep_insn::Endian) -> Vec<u64> {
    (0..count as usize).map_while(|index| read(data, off + index * size as usize, size, endian)).collect()
}
