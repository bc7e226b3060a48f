//! Formats of `printf` and its relatives: parsing, and which values each conversion takes.
//!
//! `%[-+ #0][width][.precision][hh h l ll j z t L]` and one of `d i u o x X c p s`, or `r`, `rx`, `rh`, `gr`.

use crate::plan::{Conversion, Format, Part};
use crate::types::Type;

/// Widest field and longest precision: more than any line needs, and little enough to be made.
const MAX_WIDTH: u32 = 65_536;

/// Reads a format.
///
/// # Errors
///
/// What is wrong, in words behind `printf: `.
pub(super) fn parse(text: &[u8]) -> Result<Format, String> {
    let mut parts = Vec::new();
    let mut plain = Vec::new();
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        if let Some(tail) = rest.strip_prefix(b"%") {
            plain.push(b'%');
            rest = tail;
            continue;
        }
        let (conversion, tail) = conversion(rest)?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Conversion(conversion));
        rest = tail;
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(Format { parts })
}

/// One conversion, behind its `%`.
fn conversion(text: &[u8]) -> Result<(Conversion, &[u8]), String> {
    let mut found = Conversion { size: 4, ..Conversion::default() };
    let mut rest = text;
    while let Some((&flag, tail)) = rest.split_first() {
        match flag {
            b'-' => found.left = true,
            b'+' => found.plus = true,
            b' ' => found.blank = true,
            b'#' => found.alternate = true,
            b'0' => found.zero = true,
            _ => break,
        }
        rest = tail;
    }
    (found.width, rest) = number(rest)?;
    if let Some(tail) = rest.strip_prefix(b".") {
        let (precision, tail) = number(tail)?;
        found.precision = Some(precision.unwrap_or(0));
        rest = tail;
    }
    const LENGTHS: [(&[u8], u8); 8] =
        [(b"hh", 1), (b"h", 2), (b"ll", 8), (b"l", 8), (b"j", 8), (b"z", 8), (b"t", 8), (b"L", 8)];
    if let Some((word, size)) = LENGTHS.into_iter().find(|(word, _)| rest.starts_with(word)) {
        found.size = size;
        rest = &rest[word.len()..];
    }
    const LETTERS: [(&[u8], char); 13] = [
        (b"rx", 'R'),
        (b"rh", 'H'),
        (b"gr", 'G'),
        (b"r", 'r'),
        (b"d", 'd'),
        (b"i", 'i'),
        (b"u", 'u'),
        (b"o", 'o'),
        (b"x", 'x'),
        (b"X", 'X'),
        (b"c", 'c'),
        (b"p", 'p'),
        (b"s", 's'),
    ];
    let Some((word, letter)) = LETTERS.into_iter().find(|(word, _)| rest.starts_with(word)) else {
        let end = text.len() - rest.len() + usize::from(!rest.is_empty());
        let written = String::from_utf8_lossy(&text[..end]);
        return Err(match rest {
            [] => "the format string ends inside a conversion, write %% for a percent sign".to_owned(),
            _ => format!("unknown format specifier '%{written}', write %% for a percent sign"),
        });
    };
    found.letter = letter;
    Ok((found, &rest[word.len()..]))
}

fn number(text: &[u8]) -> Result<(Option<u32>, &[u8]), String> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Ok((None, text));
    }
    let value = std::str::from_utf8(&text[..digits]).ok().and_then(|digits| digits.parse::<u32>().ok());
    match value {
        Some(value) if value <= MAX_WIDTH => Ok((Some(value), &text[digits..])),
        _ => Err(format!("a field is at most {MAX_WIDTH} characters wide")),
    }
}

/// As written, for messages: `%d`, `%rx`.
pub(super) fn specifier(conversion: &Conversion) -> String {
    match conversion.letter {
        'R' => "%rx".to_owned(),
        'H' => "%rh".to_owned(),
        'G' => "%gr".to_owned(),
        letter => format!("%{letter}"),
    }
}

/// What a conversion takes: a word for the message when `ty` is not that.
pub(super) fn mismatch(conversion: &Conversion, ty: &Type) -> Option<&'static str> {
    let number = matches!(ty, Type::Int { .. } | Type::Bool | Type::Enum(_) | Type::Pointer { .. });
    match conversion.letter {
        's' => matches!(ty, Type::Void).then_some("string"),
        'r' | 'R' | 'H' => (!matches!(ty, Type::Buffer { .. })).then_some("buffer"),
        'p' => (!number && !matches!(ty, Type::Ksym | Type::Usym)).then_some("pointer"),
        _ => (!number).then_some("integer"),
    }
}

/// The conversions of a format, in order.
pub(super) fn conversions(format: &Format) -> impl Iterator<Item = &Conversion> {
    format.parts.iter().filter_map(|part| match part {
        Part::Conversion(conversion) => Some(conversion),
        Part::Text(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_conversion_is_read() {
        let format = parse(b"a%%b %-+ #08.3lld|%hhx|%rx%rh%r %gr|%10.10s|%zu").unwrap();
        let list: Vec<&Conversion> = conversions(&format).collect();
        let first = Conversion {
            left: true,
            plus: true,
            blank: true,
            alternate: true,
            zero: true,
            width: Some(8),
            precision: Some(3),
            size: 8,
            letter: 'd',
        };
        assert_eq!(list[0], &first);
        assert_eq!(format.parts[0], Part::Text(b"a%b ".to_vec()));
        let letters: String = list.iter().map(|it| it.letter).collect();
        assert_eq!(letters, "dxRHrGsu");
        assert_eq!(list.iter().map(|it| it.size).collect::<Vec<_>>(), [8, 1, 4, 4, 4, 4, 4, 8]);
    }

    #[test]
    fn what_is_no_conversion_is_told() {
        assert!(parse(b"100%").unwrap_err().contains("ends inside"));
        assert!(parse(b"%5y").unwrap_err().contains("'%5y'"));
        assert!(parse(b"%99999999999d").is_err());
    }
}
