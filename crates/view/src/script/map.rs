//! Maps, entry by entry.

use std::cmp::Ordering;

use skep_script::Type;
use skep_script::plan::Map;

use super::number::{read_int, write_decimal};
use super::text::KEY_STACK_INDENT;
use super::total::mean;
use super::{ScriptView, Total, histogram, slice};

/// One key of a map and its value over all CPUs.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value.
    pub value: Total,
}

impl ScriptView<'_> {
    /// Writes a map as text. Entries are sorted in place; `top` other than 0 keeps the last so many; numbers are divided by
    /// `div` when that is not 0. Nothing is written for no entries.
    pub fn map_text(&self, map: &Map, entries: &mut Vec<Entry>, top: u32, div: u32, out: &mut Vec<u8>) {
        arrange(map, entries, top);
        for entry in entries.iter() {
            out.push(b'@');
            out.extend_from_slice(map.name.as_bytes());
            if let Some(key) = &map.key {
                out.push(b'[');
                self.key(key, &entry.key, b", ", out);
                out.push(b']');
            }
            out.extend_from_slice(b": ");
            self.total_text(&map.value, &entry.value, div, out);
            if matches!(entry.value, Total::Buckets(_) | Total::Series(_)) {
                out.push(b'\n');
            }
        }
        if matches!(map.value, Type::Avg { .. } | Type::Stats { .. }) && !entries.is_empty() {
            out.push(b'\n');
        }
    }

    /// Writes the value of one key and a line's end.
    pub fn total_text(&self, ty: &Type, value: &Total, div: u32, out: &mut Vec<u8>) {
        let by = i128::from(div.max(1));
        match value {
            Total::Plain(bytes) if ty.is_integer() && by > 1 => {
                write_decimal(read_int(bytes, ty.size() as usize, ty.is_signed()) / by, out);
            }
            Total::Plain(bytes) => self.text(ty, bytes, out),
            Total::Number(number) => write_decimal(number / by, out),
            Total::Stats { count, total } => {
                out.extend_from_slice(b"{ .count = ");
                write_decimal(i128::from(*count), out);
                out.extend_from_slice(b", .average = ");
                write_decimal(mean(*total, *count) / by, out);
                out.extend_from_slice(b", .total = ");
                write_decimal(total / by, out);
                out.extend_from_slice(b" }");
            }
            Total::Buckets(buckets) => {
                out.push(b'\n');
                let div = if matches!(ty, Type::Lhist(_)) { 0 } else { div };
                histogram::write_rows(ty, buckets, div, out);
                return;
            }
            Total::Series(series) => {
                out.push(b'\n');
                if let Type::Tseries(shape) = ty {
                    self.series_rows(*shape, series, out);
                }
                return;
            }
        }
        out.push(b'\n');
    }

    /// Writes a map as one line of JSON. As [`ScriptView::map_text`] otherwise.
    pub fn map_json(&self, map: &Map, entries: &mut Vec<Entry>, top: u32, div: u32, out: &mut Vec<u8>) {
        arrange(map, entries, top);
        if entries.is_empty() {
            return;
        }
        let kind: &[u8] = match map.value {
            Type::Hist { .. } | Type::Lhist(_) => b"hist",
            Type::Avg { .. } | Type::Stats { .. } => b"stats",
            Type::Tseries(_) => b"tseries",
            _ => b"map",
        };
        out.extend_from_slice(b"{\"type\": \"");
        out.extend_from_slice(kind);
        out.extend_from_slice(b"\", \"data\": {");
        crate::json::write_string(format!("@{}", map.name).as_bytes(), out);
        out.extend_from_slice(b": ");
        match &map.key {
            None => {
                if let Some(entry) = entries.first() {
                    self.total_json(&map.value, &entry.value, div, out);
                }
            }
            Some(key) => {
                out.push(b'{');
                for (index, entry) in entries.iter().enumerate() {
                    if index > 0 {
                        out.extend_from_slice(b", ");
                    }
                    let mut text = Vec::new();
                    self.key(key, &entry.key, b",", &mut text);
                    crate::json::write_string(&text, out);
                    out.extend_from_slice(b": ");
                    self.total_json(&map.value, &entry.value, div, out);
                }
                out.push(b'}');
            }
        }
        out.extend_from_slice(b"}}\n");
    }

    /// Writes the value of one key as JSON.
    pub fn total_json(&self, ty: &Type, value: &Total, div: u32, out: &mut Vec<u8>) {
        let by = i128::from(div.max(1));
        match value {
            Total::Plain(bytes) if ty.is_integer() && by > 1 => {
                write_decimal(read_int(bytes, ty.size() as usize, ty.is_signed()) / by, out);
            }
            Total::Plain(bytes) => self.json(ty, bytes, out),
            Total::Number(number) => write_decimal(number / by, out),
            Total::Stats { count, total } => {
                out.extend_from_slice(b"{\"count\": ");
                write_decimal(i128::from(*count), out);
                out.extend_from_slice(b", \"average\": ");
                write_decimal(mean(*total, *count) / by, out);
                out.extend_from_slice(b", \"total\": ");
                write_decimal(total / by, out);
                out.push(b'}');
            }
            Total::Buckets(buckets) => histogram::write_json(ty, buckets, out),
            Total::Series(series) => {
                if let Type::Tseries(shape) = ty {
                    self.series_json(*shape, series, out);
                }
            }
        }
    }

    /// Writes a map's entries as lines of comma separated values: the map, the parts of the key, the value. Histograms have
    /// a line for each bucket, with its ends; stats have count, average and total.
    pub fn map_csv(&self, map: &Map, entries: &mut Vec<Entry>, top: u32, div: u32, out: &mut Vec<u8>) {
        arrange(map, entries, top);
        for entry in entries.iter() {
            let mut head = Vec::new();
            csv_field(format!("@{}", map.name).as_bytes(), &mut head);
            for (ty, bytes) in map.key.iter().flat_map(|key| parts(key, &entry.key)) {
                let mut text = Vec::new();
                self.text_indented(ty, bytes, KEY_STACK_INDENT, &mut text);
                self.guard(0, &mut text);
                head.push(b',');
                csv_field(&text, &mut head);
            }
            let mut line = |fields: &[String]| {
                out.extend_from_slice(&head);
                for field in fields {
                    out.push(b',');
                    csv_field(field.as_bytes(), out);
                }
                out.push(b'\n');
            };
            let by = i128::from(div.max(1));
            match &entry.value {
                Total::Plain(bytes) => {
                    let mut text = Vec::new();
                    self.text(&map.value, bytes, &mut text);
                    line(&[String::from_utf8_lossy(&text).into_owned()]);
                }
                Total::Number(number) => line(&[(number / by).to_string()]),
                Total::Stats { count, total } => {
                    line(&[count.to_string(), (mean(*total, *count) / by).to_string(), (total / by).to_string()]);
                }
                Total::Buckets(buckets) => {
                    for index in histogram::shown(buckets) {
                        let range = histogram::range(&map.value, index);
                        let end = |end: Option<i128>| end.map(|end| end.to_string()).unwrap_or_default();
                        line(&[end(range.min), end(range.max.map(|max| max - 1)), buckets[index].to_string()]);
                    }
                }
                Total::Series(series) => {
                    for (interval, value) in series {
                        line(&[interval.to_string(), value.to_string()]);
                    }
                }
            }
        }
    }

    /// A key as maps print it: the parts of a tuple without parentheses.
    fn key(&self, ty: &Type, bytes: &[u8], between: &[u8], out: &mut Vec<u8>) {
        for (index, (ty, bytes)) in parts(ty, bytes).into_iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(between);
            }
            let start = out.len();
            self.text_indented(ty, bytes, KEY_STACK_INDENT, out);
            self.guard(start, out);
            if between == b"," && matches!(ty, Type::Tuple(_)) {
                strip_blanks(start, out);
            }
        }
    }
}

/// In JSON a tuple inside a key has no blanks behind its commas.
fn strip_blanks(start: usize, out: &mut Vec<u8>) {
    let text = out.split_off(start);
    let mut after_comma = false;
    for byte in text {
        if !(after_comma && byte == b' ') {
            out.push(byte);
        }
        after_comma = byte == b',';
    }
}

/// The elements of a tuple, or the value itself.
fn parts<'t, 'b>(ty: &'t Type, bytes: &'b [u8]) -> Vec<(&'t Type, &'b [u8])> {
    match ty {
        Type::Tuple(_) => {
            ty.fields().into_iter().map(|(off, ty)| (ty, slice(bytes, off as usize, ty.size() as usize))).collect()
        }
        _ => vec![(ty, bytes)],
    }
}

fn csv_field(text: &[u8], out: &mut Vec<u8>) {
    if !text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &byte in text {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Sorts by value where values are numbers, else by key, and keeps the last `top`.
fn arrange(map: &Map, entries: &mut Vec<Entry>, top: u32) {
    let by_key = |a: &Entry, b: &Entry| match &map.key {
        Some(key) => compare(key, &a.key, &b.key),
        None => Ordering::Equal,
    };
    if map.value.is_aggregation() || map.value.is_integer() {
        let rank = |entry: &Entry| entry.value.rank(&map.value);
        entries.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| by_key(a, b)));
    } else {
        entries.sort_by(by_key);
    }
    if top != 0 && entries.len() > top as usize {
        entries.drain(..entries.len() - top as usize);
    }
}

/// Orders two values of one type: numbers by size, text by bytes, tuples element by element.
fn compare(ty: &Type, a: &[u8], b: &[u8]) -> Ordering {
    match ty {
        Type::Tuple(_) | Type::Record(_) => ty
            .fields()
            .into_iter()
            .map(|(off, ty)| {
                let (off, size) = (off as usize, ty.size() as usize);
                compare(ty, slice(a, off, size), slice(b, off, size))
            })
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal),
        _ if ty.is_scalar() => {
            let number = |bytes| read_int(bytes, ty.size() as usize, ty.is_signed());
            number(a).cmp(&number(b))
        }
        _ => a.cmp(b),
    }
}
