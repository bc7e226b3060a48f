//! Values as a person types them, to the bytes of a C variable.

use skep_btf::{Btf, IntEncoding, Type, TypeId};
use skep_insn::Endian;

/// The bytes of a variable of `size` bytes. `Err` says what would have been taken.
pub(super) fn to_bytes(btf: &Btf, type_id: TypeId, size: u32, text: &str) -> Result<Vec<u8>, String> {
    let resolved = btf.resolve(type_id).map_err(|err| err.to_string())?.1;
    let endian = btf.endian();
    let size = size as usize;
    match resolved {
        Type::Int(int) if int.encoding().has(IntEncoding::BOOL) => {
            let value = match text {
                "true" | "1" | "yes" | "on" | "y" => 1,
                "false" | "0" | "no" | "off" | "n" => 0,
                _ => return Err(format!("`{text}` is neither true nor false")),
            };
            number_bytes(value, size, false, endian)
        }
        Type::Int(int) => {
            let value = number(text).ok_or_else(|| format!("`{text}` is no number"))?;
            number_bytes(value, size, int.is_signed(), endian)
        }
        Type::Enum(it) | Type::Enum64(it) => {
            let named = it.values().find(|value| value.name == text).map(|value| value.value);
            let Some(value) = named.or_else(|| number(text)) else {
                let names: Vec<&str> = it.values().map(|value| value.name).take(16).collect();
                return Err(format!("`{text}` is none of {}", names.join(", ")));
            };
            number_bytes(value, size, it.is_signed(), endian)
        }
        Type::Float(_) => {
            let value: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
            let bytes = match size {
                4 => (value as f32).to_bits().to_be_bytes().to_vec(),
                8 => value.to_bits().to_be_bytes().to_vec(),
                _ => return Err(format!("a floating-point number of {size} bytes cannot be set")),
            };
            Ok(ordered(bytes, endian))
        }
        Type::Array(array) => {
            let (len, element) = (array.len() as usize, array.element());
            let element_size = size.checked_div(len).unwrap_or(0);
            if is_character(btf, element) {
                return characters(text, size);
            }
            let mut bytes = Vec::with_capacity(size.min(1 << 16));
            let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            if parts.len() > len {
                return Err(format!("{} values are given, but the array has {len}", parts.len()));
            }
            for part in parts {
                bytes.extend(to_bytes(btf, element, element_size as u32, part)?);
            }
            bytes.resize(size, 0);
            Ok(bytes)
        }
        other => Err(format!("a {} cannot be given as text", other.kind().to_string().to_lowercase())),
    }
}

/// Text, with room for the zero that ends it.
fn characters(text: &str, size: usize) -> Result<Vec<u8>, String> {
    if text.len() >= size {
        return Err(format!(
            "`{text}` has {} bytes, and the array has room for {}",
            text.len(),
            size.saturating_sub(1)
        ));
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(size, 0);
    Ok(bytes)
}

fn is_character(btf: &Btf, type_id: TypeId) -> bool {
    // `char`, by whatever name: unsigned bytes called `u8` hold numbers.
    let mut at = type_id;
    for _ in 0..64 {
        at = match btf.type_by_id(at) {
            Ok(Type::Const(next) | Type::Volatile(next) | Type::Restrict(next) | Type::TypeTag(next)) => next.type_id(),
            Ok(Type::Int(int)) => return int.size() == 1 && int.name() == "char",
            Ok(Type::Typedef(alias)) if alias.name() == "char" => alias.type_id(),
            _ => return false,
        };
    }
    false
}

/// `12`, `-1`, `0xff`, `0o17`, `017`, `0b101`, `1_000`, `'a'`.
fn number(text: &str) -> Option<i128> {
    if let Some(letter) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        let mut letters = letter.bytes();
        return letters.next().filter(|_| letters.next().is_none()).map(i128::from);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.replace('_', "");
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, &digits[..]),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    Some(if negative { -value } else { value })
}

fn number_bytes(value: i128, size: usize, signed: bool, endian: Endian) -> Result<Vec<u8>, String> {
    if !matches!(size, 1 | 2 | 4 | 8) {
        return Err(format!("a number of {size} bytes cannot be set"));
    }
    let bits = size as u32 * 8;
    let (low, high) =
        if signed { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) };
    if !(low..=high).contains(&value) {
        return Err(format!("{value} does not fit; it must be between {low} and {high}"));
    }
    Ok(ordered(value.to_be_bytes()[16 - size..].to_vec(), endian))
}

/// Bytes given most significant first, in the order asked.
fn ordered(mut bytes: Vec<u8>, endian: Endian) -> Vec<u8> {
    if endian == Endian::Little {
        bytes.reverse();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_and_people_write_them() {
        let cases = [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("0xff", Some(255)),
            ("0b101", Some(5)),
            ("017", Some(15)),
            ("0o17", Some(15)),
            ("1_000_000", Some(1_000_000)),
            ("'a'", Some(97)),
            ("18446744073709551615", Some(u64::MAX.into())),
            ("18446744073709551616", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("0x", None),
            ("1.5", None),
            ("''", None),
        ];
        for (text, value) in cases {
            assert_eq!(number(text), value, "{text}");
        }
    }

    #[test]
    fn numbers_must_fit_their_variable() {
        assert_eq!(number_bytes(-1, 2, true, Endian::Little), Ok(vec![255, 255]));
        assert_eq!(number_bytes(258, 4, false, Endian::Big), Ok(vec![0, 0, 1, 2]));
        assert_eq!(
            number_bytes(-1, 1, false, Endian::Little),
            Err("-1 does not fit; it must be between 0 and 255".to_owned())
        );
        assert!(number_bytes(128, 1, true, Endian::Little).is_err());
        assert!(number_bytes(u64::MAX.into(), 8, false, Endian::Little).is_ok());
    }
}
