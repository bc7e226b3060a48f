//! Numbers in attach points.

/// A number as the language writes it: `10`, `0x10`, `010`, `1e6`, `1_000`.
pub(super) fn number(text: &str) -> Option<u64> {
    let text = text.replace('_', "");
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some((digits, power)) = text.split_once('e') {
        let power = 10u64.checked_pow(power.parse().ok()?)?;
        return digits.parse::<u64>().ok()?.checked_mul(power);
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ if text.starts_with('+') => None,
        _ => text.parse().ok(),
    }
}

/// Name and offset of `name+off`; the offset is `Err` with its text when it is no number.
pub(super) fn split_offset(text: &str) -> (&str, Option<Result<u64, &str>>) {
    match text.split_once('+') {
        Some((name, off)) => (name, Some(number(off).ok_or(off))),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_the_language() {
        assert_eq!(number("0x1f"), Some(31));
        assert_eq!(number("010"), Some(8));
        assert_eq!(number("1e3"), Some(1000));
        assert_eq!(number("1_000"), Some(1000));
        assert_eq!(number("0"), Some(0));
        assert_eq!(
            (number("x"), number("-1"), number(""), number("1e99"), number("+1")),
            (None, None, None, None, None)
        );
    }
}
