//! Numbers and strings: what their letters mean.

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) value: u64,
    /// With a unit of time; the value is in nanoseconds.
    pub(crate) duration: bool,
}

/// Units of time, in nanoseconds.
pub(crate) const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// `12`, `0x1f`, `017`, `1e6`, `1_000`, each perhaps with a suffix of C (`u`, `UL`) or a unit of time (`ms`).
pub(crate) fn number(text: &str) -> Result<Number, String> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', b'0'..=b'9' | b'_', ..] => (8, &text[1..]),
        _ => (10, text),
    };
    let len = digits.bytes().take_while(|byte| *byte == b'_' || char::from(*byte).is_digit(radix)).count();
    let (digits, mut suffix) = digits.split_at(len);
    let plain = digits.replace('_', "");
    let invalid = || format!("invalid number: {text}");
    if plain.is_empty() || digits.ends_with('_') {
        return Err(invalid());
    }
    let too_large = || format!("number {text} is too large: the largest is {}", u64::MAX);
    let mut value = u64::from_str_radix(&plain, radix).map_err(|_| too_large())?;
    if radix == 10
        && let Some(behind) = suffix.strip_prefix(['e', 'E'])
        && behind.starts_with(|char: char| char.is_ascii_digit())
    {
        let len = behind.bytes().take_while(u8::is_ascii_digit).count();
        let exponent = &behind[..len];
        if !(1..=9).contains(&value) {
            return Err(format!("Coefficient part of scientific literal must be in range (0,9), got: {plain}"));
        }
        value = exponent
            .parse()
            .ok()
            .and_then(|exponent| value.checked_mul(10u64.checked_pow(exponent)?))
            .ok_or_else(|| format!("Exponent will overflow integer range: {exponent}"))?;
        suffix = &behind[len..];
    }
    if let Some((_, scale)) = UNITS.iter().find(|(unit, _)| *unit == suffix) {
        let value = value.checked_mul(*scale).ok_or_else(|| format!("duration {text} is too long"))?;
        return Ok(Number { value, duration: true });
    }
    match suffix.to_ascii_lowercase().as_str() {
        "" | "u" | "l" | "ul" | "lu" | "ll" | "ull" | "llu" => Ok(Number { value, duration: false }),
        _ => Err(invalid()),
    }
}

/// What the escapes of a string say, given what stands between the quotes; with the places (from the start of `inside`) and
/// texts of those that say nothing.
pub(crate) fn unescape(inside: &str) -> (Vec<u8>, Vec<(std::ops::Range<usize>, String)>) {
    let mut bytes = Vec::with_capacity(inside.len());
    let mut wrong = Vec::new();
    let mut at = 0;
    while let Some(found) = inside[at..].find('\\') {
        bytes.extend_from_slice(&inside.as_bytes()[at..at + found]);
        let start = at + found;
        let rest = &inside[start + 1..];
        let Some(char) = rest.chars().next() else {
            wrong.push((start..start + 1, "unterminated string".to_owned()));
            return (bytes, wrong);
        };
        let mut len = char.len_utf8();
        match char {
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'r' => bytes.push(b'\r'),
            '\\' | '"' => bytes.push(char as u8),
            '0'..='7' => {
                len = rest.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                match u8::from_str_radix(&rest[..len], 8) {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => wrong.push((
                        start..start + 1 + len,
                        format!("octal escape sequence out of range '\\{}'", &rest[..len]),
                    )),
                }
            }
            'x' => {
                let digits = rest.bytes().skip(1).take(2).take_while(u8::is_ascii_hexdigit).count();
                len += digits;
                match u8::from_str_radix(&rest[1..len], 16) {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => wrong.push((start..start + 1 + len, "invalid escape character '\\x'".to_owned())),
                }
            }
            _ => {
                wrong.push((start..start + 1 + len, format!("invalid escape character '\\{}'", char.escape_default())))
            }
        }
        at = start + 1 + len;
    }
    bytes.extend_from_slice(&inside.as_bytes()[at..]);
    (bytes, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let value = |text| number(text).map(|number| (number.value, number.duration)).map_err(drop);
        assert_eq!(value("0"), Ok((0, false)));
        assert_eq!(value("0x1F"), Ok((31, false)));
        assert_eq!(value("017"), Ok((15, false)));
        assert_eq!(value("1_000_000"), Ok((1_000_000, false)));
        assert_eq!(value("1e6"), Ok((1_000_000, false)));
        assert_eq!(value("10ULL"), Ok((10, false)));
        assert_eq!(value("5ms"), Ok((5_000_000, true)));
        assert_eq!(value("2d"), Ok((172_800_000_000_000, true)));
        assert_eq!(value("18446744073709551615"), Ok((u64::MAX, false)));
        for wrong in ["18446744073709551616", "08", "0x", "12e3", "1e20", "1_", "5q", "300000d", "1e", "0b1"] {
            assert_eq!(value(wrong), Err(()), "{wrong}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(r#"a\n\t\\\"\101\x41\0z"#), (b"a\n\t\\\"AA\0z".to_vec(), vec![]));
        assert_eq!(unescape(r"\é\xg\777").1.len(), 3);
    }
}
