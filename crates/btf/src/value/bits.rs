//! Numbers out of bits, in both byte orders.

use skep_insn::Endian;

/// `count` bits (1 to 128) from bit `start`, zero-extended; `None` when they reach beyond the bytes.
///
/// In little-endian data bit 0 is the lowest bit of the first byte and the first bit is the lowest of the number; in big-endian
/// data bit 0 is the highest of the first byte and the first bit is the highest of the number.
pub(super) fn read(bytes: &[u8], start: u64, count: u32, endian: Endian) -> Option<u128> {
    if count == 0 || count > 128 {
        return None;
    }
    let first = usize::try_from(start / 8).ok()?;
    let shift = (start % 8) as u32;
    let needed = (shift + count).div_ceil(8) as usize;
    let bytes = bytes.get(first..first.checked_add(needed)?)?;
    let mask = u128::MAX >> (128 - count);
    // 128 bits that do not begin at a byte touch 17 bytes: the 17th only adds what the shift makes room for.
    Some(match endian {
        Endian::Little => {
            let mut low = 0u128;
            for (index, &byte) in bytes.iter().take(16).enumerate() {
                low |= u128::from(byte) << (8 * index);
            }
            let mut number = low >> shift;
            if let Some(&last) = bytes.get(16) {
                number |= u128::from(last) << (128 - shift);
            }
            number & mask
        }
        Endian::Big => {
            let unused = needed as u32 * 8 - shift - count;
            let mut number = 0u128;
            let (&last, rest) = bytes.split_last()?;
            for &byte in rest {
                number = number << 8 | u128::from(byte);
            }
            (number << (8 - unused) | u128::from(last) >> unused) & mask
        }
    })
}

pub(super) fn sign_extend(raw: u128, bits: u32) -> i128 {
    if bits == 0 || bits >= 128 {
        return raw as i128;
    }
    let shift = 128 - bits;
    (raw << shift) as i128 >> shift
}

/// An IEEE half as a double, exactly.
pub(super) fn half(raw: u16) -> f64 {
    let sign = if raw >> 15 != 0 { -1.0 } else { 1.0 };
    let fraction = f64::from(raw & 0x3ff);
    sign * match raw >> 10 & 0x1f {
        0 => fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        exponent => (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(exponent) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, bit by bit.
    fn slow(bytes: &[u8], start: u64, count: u32, endian: Endian) -> Option<u128> {
        let mut number = 0;
        for index in 0..u64::from(count) {
            let at = start + index;
            let byte = *bytes.get(at as usize / 8)?;
            let bit = match endian {
                Endian::Little => u128::from(byte >> (at % 8) & 1) << index,
                Endian::Big => u128::from(byte >> (7 - at % 8) & 1) << (u64::from(count) - 1 - index),
            };
            number |= bit;
        }
        Some(number)
    }

    #[test]
    fn any_bits_are_read_as_the_definition_says() {
        let mut seed = 7u64;
        let bytes: Vec<u8> = (0..24)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 56) as u8
            })
            .collect();
        for endian in [Endian::Little, Endian::Big] {
            for start in 0..80 {
                for count in 1..=128 {
                    assert_eq!(
                        read(&bytes, start, count, endian),
                        slow(&bytes, start, count, endian),
                        "{start} {count}"
                    );
                }
            }
            assert_eq!(read(&bytes, 190, 3, endian), None);
            assert_eq!(read(&bytes, u64::MAX, 3, endian), None);
        }
    }

    #[test]
    fn halves_are_exact() {
        assert_eq!(half(0x3c00), 1.0);
        assert_eq!(half(0xc000), -2.0);
        assert_eq!(half(0x0001), 2f64.powi(-24));
        assert_eq!(half(0x7bff), 65504.0);
        assert!(half(0x7c00).is_infinite());
        assert!(half(0x7e00).is_nan());
    }
}
