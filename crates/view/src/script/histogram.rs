//! Histograms and time series, drawn and as JSON.

use std::io::Write as _;

use skep_script::Type;
use skep_script::types::{Clock, Tseries};

use super::ScriptView;
use super::number::write_decimal;

/// Characters of the longest bar.
const BAR: usize = 52;

/// A bucket's ends: `[min, max)`, either open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// Least number in it.
    pub(super) min: Option<i128>,
    /// First number above it.
    pub(super) max: Option<i128>,
}

/// The range of bucket `index` of a histogram of type `ty`.
pub(super) fn range(ty: &Type, index: usize) -> Range {
    let index = index as u64;
    match ty {
        Type::Lhist(shape) => {
            let last = u64::from(shape.buckets()) - 1;
            let edge = |n: u64| i128::from(shape.min) + i128::from(n) * i128::from(shape.step);
            match index {
                0 => Range { min: None, max: Some(i128::from(shape.min)) },
                n if n >= last => Range { min: Some(i128::from(shape.max)), max: None },
                n => Range { min: Some(edge(n - 1)), max: Some(edge(n)) },
            }
        }
        Type::Hist { bits } => {
            if index == 0 {
                return Range { min: None, max: Some(0) };
            }
            let bits = u32::from(*bits);
            let slot = index - 1;
            if slot < 1 << bits {
                return Range { min: Some(i128::from(slot)), max: Some(i128::from(slot) + 1) };
            }
            let level = (slot >> bits) as u32 - 1;
            let low = (i128::from(slot & ((1 << bits) - 1)) + (1 << bits)) << level;
            Range { min: Some(low), max: Some(low + (1 << level)) }
        }
        _ => Range { min: None, max: None },
    }
}

/// Buckets from the first that is not empty to the last.
pub(super) fn shown(buckets: &[u64]) -> std::ops::Range<usize> {
    let first = buckets.iter().position(|&count| count > 0);
    let last = buckets.iter().rposition(|&count| count > 0);
    match (first, last) {
        (Some(first), Some(last)) => first..last + 1,
        _ => 0..0,
    }
}

/// Draws a histogram of type `ty`, one row for each bucket. Counts are divided by `div` when that is not 0.
pub(super) fn write_rows(ty: &Type, buckets: &[u64], div: u32, out: &mut Vec<u8>) {
    let most = buckets.iter().copied().max().unwrap_or(0).max(1);
    for index in shown(buckets) {
        let label = label(ty, range(ty, index));
        let count = buckets[index];
        let bar = (u128::from(count) * BAR as u128 / u128::from(most)) as usize;
        let count = count / u64::from(div.max(1));
        let _ = writeln!(out, "{label:<16}{count:>8} |{:<BAR$}|", "@".repeat(bar));
    }
}

fn label(ty: &Type, range: Range) -> String {
    let short: &dyn Fn(i128) -> String = match ty {
        Type::Lhist(shape) => &|n| linear(n, shape.step),
        _ => &binary,
    };
    match (range.min, range.max) {
        (None, Some(max)) => format!("(..., {})", short(max)),
        (Some(min), None) => format!("[{}, ...)", short(min)),
        (Some(min), Some(max)) if max == min + 1 && matches!(ty, Type::Hist { .. }) => format!("[{min}]"),
        (Some(min), Some(max)) => format!("[{}, {})", short(min), short(max)),
        (None, None) => String::new(),
    }
}

/// A number with the largest unit of 2^10 that divides it: `512`, `4K`, `2M`.
fn binary(n: i128) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    let (mut n, mut unit) = (n, 0);
    while n != 0 && n % 1024 == 0 && unit + 1 < UNITS.len() {
        n /= 1024;
        unit += 1;
    }
    format!("{n}{}", UNITS[unit])
}

/// A number at a linear axis: units only where the step has them.
fn linear(n: i128, step: i64) -> String {
    match (step % 1024, n % (1024 * 1024), n % 1024) {
        (0, 0, _) if n != 0 => format!("{}M", n / (1024 * 1024)),
        (0, _, 0) if n != 0 => format!("{}K", n / 1024),
        _ => n.to_string(),
    }
}

/// Writes a histogram as a JSON array of closed intervals.
pub(super) fn write_json(ty: &Type, buckets: &[u64], out: &mut Vec<u8>) {
    out.push(b'[');
    let shown = shown(buckets);
    for index in shown.clone() {
        let Range { min, max } = range(ty, index);
        out.extend_from_slice(if index > shown.start { b", {" } else { b"{" });
        if let Some(min) = min {
            let _ = write!(out, "\"min\": {min}, ");
        }
        if let Some(max) = max {
            let _ = write!(out, "\"max\": {}, ", max - 1);
        }
        let _ = write!(out, "\"count\": {}}}", buckets[index]);
    }
    out.push(b']');
}

/// Columns before the axis of a time series.
const MOMENT_WIDTH: usize = 24;
/// The format of the moments in a time series, in JSON.
const MOMENT: &str = "%Y-%m-%d %H:%M:%S";

impl ScriptView<'_> {
    /// Draws a time series: a row for each interval from the oldest to the newest, its value on an axis from the least to
    /// the greatest.
    pub(super) fn series_rows(&self, shape: Tseries, series: &[(u64, i128)], out: &mut Vec<u8>) {
        let (Some((first, _)), Some((last, _))) = (series.first(), series.last()) else { return };
        let values = || series.iter().map(|(_, value)| *value);
        let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
        let (low_text, high_text) = (low.to_string(), high.to_string());
        let gap = BAR.saturating_sub(low_text.len() + high_text.len());
        let scale = format!("{:MOMENT_WIDTH$} {low_text}{:gap$}{high_text}\n", "", "");
        out.extend_from_slice(scale.as_bytes());
        let _ = writeln!(out, "{:<MOMENT_WIDTH$}|{:_<BAR$}|", "hh:mm:ss.ms", "");
        for interval in *first..=*last {
            let at =
                series.binary_search_by_key(&interval, |(interval, _)| *interval).ok().map(|index| series[index].1);
            let mut axis = vec![b' '; BAR];
            if let Some(value) = at {
                let place = (value - low) * (BAR as i128 - 1) / (high - low).max(1);
                axis[place as usize] = b'*';
            }
            let _ = write!(out, "{:<MOMENT_WIDTH$}|", self.moment("%H:%M:%S", shape, interval));
            out.extend_from_slice(&axis);
            out.extend_from_slice(b"| ");
            match at {
                Some(value) => write_decimal(value, out),
                None => out.push(b'-'),
            }
            out.push(b'\n');
        }
        let _ = writeln!(out, "{:MOMENT_WIDTH$}v{:_<BAR$}v", "", "");
        out.extend_from_slice(scale.as_bytes());
    }

    /// Writes a time series as JSON.
    pub(super) fn series_json(&self, shape: Tseries, series: &[(u64, i128)], out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, (interval, value)) in series.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(
                out,
                "{comma}{{\"interval_start\":\"{}\",\"value\":{value}}}",
                self.moment(MOMENT, shape, *interval)
            );
        }
        out.push(b']');
    }

    fn moment(&self, format: &str, shape: Tseries, interval: u64) -> String {
        let ns = interval.wrapping_mul(shape.interval_ns);
        let mut text = Vec::new();
        self.names.time(format, Clock::Boot, ns, &mut text);
        let fraction = ns % 1_000_000_000;
        let _ = if format == MOMENT {
            write!(text, ".{fraction:09}")
        } else {
            write!(text, ".{:03}", fraction / 1_000_000)
        };
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_script::types::Lhist;

    #[test]
    fn buckets_of_powers_cover_every_number_once() {
        for bits in 0..=5u8 {
            let ty = Type::Hist { bits };
            let mut next = 0;
            for index in 1..skep_script::types::hist_buckets(bits) as usize {
                let Range { min, max } = range(&ty, index);
                assert_eq!(min, Some(next), "k = {bits}, bucket {index}");
                next = max.unwrap();
            }
            assert_eq!(next, 1 << 64, "k = {bits}");
        }
    }

    #[test]
    fn rows_are_drawn_from_the_first_count_to_the_last() {
        let mut buckets = vec![0; 66];
        (buckets[0], buckets[1], buckets[2], buckets[12]) = (1, 2, 4, 1);
        let mut out = Vec::new();
        write_rows(&Type::Hist { bits: 0 }, &buckets[..3], 0, &mut out);
        let text = String::from_utf8(out).unwrap();
        let expected = format!(
            "(..., 0)               1 |{:<52}|\n[0]                    2 |{:<52}|\n[1]                    4 |{}|\n",
            "@".repeat(13),
            "@".repeat(26),
            "@".repeat(52)
        );
        assert_eq!(text, expected);
        assert_eq!(label(&Type::Hist { bits: 0 }, range(&Type::Hist { bits: 0 }, 12)), "[1K, 2K)");
    }

    #[test]
    fn linear_labels_have_units_where_the_step_has_them() {
        let ty = |step| Type::Lhist(Lhist { min: 0, max: 10 * step, step });
        assert_eq!(label(&ty(2), range(&ty(2), 1)), "[0, 2)");
        assert_eq!(label(&ty(1024), range(&ty(1024), 2)), "[1K, 2K)");
        assert_eq!(label(&ty(2), range(&ty(2), 11)), "[20, ...)");
        assert_eq!(label(&ty(2), range(&ty(2), 0)), "(..., 0)");
    }

    #[test]
    fn json_has_closed_intervals() {
        let mut out = Vec::new();
        let mut buckets = vec![0; 66];
        (buckets[0], buckets[1], buckets[3]) = (1, 0, 2);
        write_json(&Type::Hist { bits: 0 }, &buckets, &mut out);
        let expected = r#"[{"max": -1, "count": 1}, {"min": 0, "max": 0, "count": 0}, {"min": 1, "max": 1, "count": 0}, {"min": 2, "max": 3, "count": 2}]"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
