//! Log2 histograms: counts in slots of powers of two.

use std::io::Write as _;

/// Characters of the longest bar.
const BAR: u64 = 40;

/// Draws slots from the first that is not 0 to the last, slot `n` counting values of at least 2^n and below 2^(n+1) (slot 0
/// those of 0 and 1). Writes nothing when all are 0.
pub(crate) fn write_log2(slots: &[u64], out: &mut Vec<u8>) {
    let Some(first) = slots.iter().position(|&count| count > 0) else { return };
    let last = slots.iter().rposition(|&count| count > 0).unwrap_or(first);
    let most = slots.iter().copied().max().unwrap_or(1);
    for (index, &count) in slots.iter().enumerate().take(last + 1).skip(first) {
        let low = if index == 0 { "0".to_owned() } else { power(index) };
        let range = format!("[{low}, {})", power(index + 1));
        let bar = "@".repeat((u128::from(count) * u128::from(BAR) / u128::from(most)) as usize);
        // Writing to a vector cannot fail.
        let _ = writeln!(out, "  {range:<16} {count:>10} |{bar:<40}|");
    }
}

/// 2^n as people write it: `512`, `4K`, `2M`.
fn power(n: usize) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    match UNITS.get(n / 10) {
        Some(unit) => format!("{}{unit}", 1u64 << (n % 10)),
        None => format!("2^{n}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_go_from_the_first_slot_in_use_to_the_last() {
        let mut out = Vec::new();
        write_log2(&[0, 0, 4, 0, 8, 0], &mut out);
        let expected = "  [4, 8)                    4 |@@@@@@@@@@@@@@@@@@@@                    |
  [8, 16)                   0 |                                        |
  [16, 32)                  8 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn nothing_is_drawn_for_nothing() {
        let mut out = Vec::new();
        write_log2(&[0; 27], &mut out);
        assert!(out.is_empty());
        assert_eq!((power(10), power(31), power(75)), ("1K".into(), "2G".into(), "2^75".into()));
    }
}
