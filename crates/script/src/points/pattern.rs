//! Names with `*` in them, and numbers in attach points.

/// Whether `text` has a wildcard.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains('*')
}

/// Whether `name` is one that `pattern` means, where `*` is any text. Takes time in proportion to the product of the lengths at
/// worst.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one byte further.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            p += 1;
            n += 1;
        } else if let Some((after, at)) = star {
            star = Some((after, at + 1));
            p = after;
            n = at + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

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
    fn stars_are_any_text() {
        for (pattern, name, is) in [
            ("vfs_*", "vfs_read", true),
            ("*read", "vfs_read", true),
            ("*s_r*d", "vfs_read", true),
            ("vfs_*", "do_vfs", false),
            ("*", "", true),
            ("a*b*c", "abbbc", true),
            ("a*b*c", "abbb", false),
            ("**", "x", true),
            ("", "", true),
            ("x", "", false),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
        // No more than a square.
        assert!(!matches(&"a*".repeat(2000), &"a".repeat(1999)));
    }

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
