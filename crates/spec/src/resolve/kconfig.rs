//! Values of the kernel's configuration as C variables.
//!
//! The configuration file holds `y`, `n`, `m`, text in double quotes, or a number as `strtoull` reads it (decimal, `0x`
//! hexadecimal, leading `0` octal, a sign). What a variable takes depends on its type:
//!
//! | value | `bool` | `char` | `enum libbpf_tristate` | integer | `char[N]` |
//! |---|---|---|---|---|---|
//! | `y`, `n` | 1, 0 | the letter | 1, 0 | no | no |
//! | `m` | no | the letter | 2 | no | no |
//! | `"text"` | no | no | no | no | the text, cut to N - 1 bytes, NUL |
//! | number | no (0 and 1 from `LINUX_*`) | when it fits | no | when it fits | no |

use skep_insn::Endian;

use crate::external::KconfigType;

/// The bytes of a variable of `size` bytes for a value as the configuration file has it, or why it takes none.
pub(super) fn from_file(value: &str, to: KconfigType, size: usize, endian: Endian) -> Result<Vec<u8>, String> {
    let implies = |what: &str| Err(format!("its value {value} needs a variable of type {what}"));
    let letter = match value.as_bytes() {
        [letter @ (b'y' | b'n' | b'm'), ..] => *letter,
        [b'"', ..] => {
            if to != KconfigType::CharArray {
                return implies("char array");
            }
            let Some(text) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
                return Err(format!("its value {value} lacks the closing quote"));
            };
            let mut bytes = vec![0; size];
            let len = text.len().min(size.saturating_sub(1));
            bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
            return Ok(bytes);
        }
        _ => {
            let number = parse_number(value).ok_or_else(|| format!("its value {value} is not a number"))?;
            if !matches!(to, KconfigType::Int { .. } | KconfigType::Char) {
                return implies("integer");
            }
            return from_number(number, to, size, endian);
        }
    };
    match to {
        KconfigType::Bool if letter == b'm' => implies("enum libbpf_tristate or char"),
        KconfigType::Bool => number_bytes(u64::from(letter == b'y'), size, endian),
        KconfigType::Char => number_bytes(u64::from(letter), size, endian),
        KconfigType::Tristate => {
            // TRI_NO, TRI_YES and TRI_MODULE of bpf_helpers.h.
            let value = match letter {
                b'y' => 1,
                b'm' => 2,
                _ => 0,
            };
            number_bytes(value, size, endian)
        }
        KconfigType::Int { .. } | KconfigType::CharArray | KconfigType::Other => {
            implies("bool, enum libbpf_tristate or char")
        }
    }
}

/// The bytes of a variable for a number.
pub(super) fn from_number(value: u64, to: KconfigType, size: usize, endian: Endian) -> Result<Vec<u8>, String> {
    let signed = match to {
        KconfigType::Int { signed } => signed,
        KconfigType::Char => false,
        KconfigType::Bool if value <= 1 => false,
        KconfigType::Bool => return Err(format!("its value {value} is neither 0 nor 1")),
        KconfigType::Tristate | KconfigType::CharArray | KconfigType::Other => {
            return Err(format!("its value {value} needs a variable of type integer, char or bool"));
        }
    };
    let fits = match size {
        1 | 2 | 4 => {
            let bits = size as u32 * 8;
            if signed {
                let half = 1i64 << (bits - 1);
                (-half..half).contains(&(value as i64))
            } else {
                value >> bits == 0
            }
        }
        _ => true,
    };
    if !fits {
        return Err(format!("its value {value} does not fit {size} bytes"));
    }
    number_bytes(value, size, endian)
}

fn number_bytes(value: u64, size: usize, endian: Endian) -> Result<Vec<u8>, String> {
    if !matches!(size, 1 | 2 | 4 | 8) {
        return Err(format!("a variable of {size} bytes takes no number"));
    }
    Ok(match endian {
        Endian::Little => value.to_le_bytes()[..size].to_vec(),
        Endian::Big => value.to_be_bytes()[8 - size..].to_vec(),
    })
}

/// A number as `strtoull` with base 0 reads it; negative ones wrap.
fn parse_number(text: &str) -> Option<u64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` would take a second sign.
    if !digits.bytes().next()?.is_ascii_alphanumeric() {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    Some(if negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line per value: what the file has, type, size, and the bytes or the reason.
    #[test]
    fn values_become_bytes_or_a_reason() {
        let int = |signed| KconfigType::Int { signed };
        for (value, to, size, expected) in [
            ("y", KconfigType::Bool, 1, Ok(vec![1])),
            ("m", KconfigType::Bool, 1, Err("its value m needs a variable of type enum libbpf_tristate or char")),
            ("m", KconfigType::Tristate, 4, Ok(vec![2, 0, 0, 0])),
            ("m", KconfigType::Char, 1, Ok(vec![b'm'])),
            ("y", int(false), 4, Err("its value y needs a variable of type bool, enum libbpf_tristate or char")),
            ("1000", int(false), 4, Ok(vec![0xe8, 3, 0, 0])),
            ("0x10", int(false), 8, Ok(vec![16, 0, 0, 0, 0, 0, 0, 0])),
            ("010", int(false), 1, Ok(vec![8])),
            ("-1", int(true), 2, Ok(vec![0xff, 0xff])),
            ("-1", int(false), 2, Err("its value 18446744073709551615 does not fit 2 bytes")),
            ("128", int(true), 1, Err("its value 128 does not fit 1 bytes")),
            ("-128", int(true), 1, Ok(vec![0x80])),
            ("1", KconfigType::Bool, 1, Err("its value 1 needs a variable of type integer")),
            ("\"(none)\"", KconfigType::CharArray, 8, Ok(b"(none)\0\0".to_vec())),
            ("\"(none)\"", KconfigType::CharArray, 4, Ok(b"(no\0".to_vec())),
            ("\"(none", KconfigType::CharArray, 4, Err("its value \"(none lacks the closing quote")),
            ("\"\"", KconfigType::CharArray, 2, Ok(vec![0, 0])),
            ("--1", int(true), 4, Err("its value --1 is not a number")),
            ("", int(true), 4, Err("its value  is not a number")),
        ] {
            let found = from_file(value, to, size, Endian::Little);
            assert_eq!(found, expected.map_err(str::to_string), "{value} as {to:?} of {size}");
        }
    }

    #[test]
    fn big_endian_values_keep_their_low_bytes_last() {
        assert_eq!(from_number(0x1234, KconfigType::Int { signed: false }, 4, Endian::Big), Ok(vec![0, 0, 0x12, 0x34]));
    }
}
