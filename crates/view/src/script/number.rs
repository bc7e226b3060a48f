//! Integers as text, cheap enough for every line.
//!
//! A line is made of pieces of a few bytes. A copy whose length the compiler does not know is a call of memcpy, and musl's, which
//! is in the static binary, begins with `rep movsq`: tens of cycles whatever the length, which were seven tenths of the time of a
//! printf. So short pieces are copied in words of known size, and division is by constants.

/// An integer of `size` bytes at the start of `bytes`, sign-extended when `signed`.
pub(super) fn read_int(bytes: &[u8], size: usize, signed: bool) -> i128 {
    let raw = match size {
        8 => super::read_u64(bytes, 0),
        4 => u64::from(super::read_u32(bytes, 0)),
        _ => {
            let raw = u64::from_ne_bytes(super::read(&bytes[..bytes.len().min(size)], 0));
            // On a big-endian machine the bytes of a short integer stand at the wrong end.
            if cfg!(target_endian = "big") { raw >> (64 - 8 * size.clamp(1, 8)) } else { raw }
        }
    };
    if signed { i128::from(sign_extend(raw, size)) } else { i128::from(raw) }
}

/// The lower `size` bytes of `raw` with their sign.
pub(super) fn sign_extend(raw: u64, size: usize) -> i64 {
    let unused = 64 - 8 * size.clamp(1, 8) as u32;
    ((raw << unused) as i64) >> unused
}

/// Writes a decimal number.
pub(super) fn write_decimal(value: i128, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    write_radix(value.unsigned_abs() as u64, 10, false, out);
}

/// Writes a number without sign in base `radix` (8, 10 or 16).
pub(super) fn write_radix(value: u64, radix: u64, upper: bool, out: &mut Vec<u8>) {
    let letters: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    match radix {
        8 => write_digits::<8>(value, letters, out),
        16 => write_digits::<16>(value, letters, out),
        _ => write_digits::<10>(value, letters, out),
    }
}

fn write_digits<const RADIX: u64>(mut value: u64, letters: &[u8; 16], out: &mut Vec<u8>) {
    let mut digits = [0u8; 22];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = letters[(value % RADIX) as usize];
        value /= RADIX;
        if value == 0 {
            break;
        }
    }
    append(&digits[at..], out);
}

/// Appends a piece that is mostly short.
pub(super) fn append(mut piece: &[u8], out: &mut Vec<u8>) {
    const SHORT: usize = 64;
    if piece.len() > SHORT {
        return out.extend_from_slice(piece);
    }
    while let Some((word, rest)) = piece.split_first_chunk::<8>() {
        out.extend_from_slice(word);
        piece = rest;
    }
    if let Some((word, rest)) = piece.split_first_chunk::<4>() {
        out.extend_from_slice(word);
        piece = rest;
    }
    if let Some((word, rest)) = piece.split_first_chunk::<2>() {
        out.extend_from_slice(word);
        piece = rest;
    }
    if let [byte] = piece {
        out.push(*byte);
    }
}

/// Writes `0x` and the number.
pub(super) fn write_hex(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0x");
    write_radix(value, 16, false, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width_read_with_their_sign() {
        assert_eq!(read_int(&(-2i16).to_ne_bytes(), 2, true), -2);
        assert_eq!(read_int(&(-2i16).to_ne_bytes(), 2, false), 0xfffe);
        assert_eq!(read_int(&u64::MAX.to_ne_bytes(), 8, false), i128::from(u64::MAX));
        assert_eq!(read_int(&[], 4, true), 0);
    }

    #[test]
    fn pieces_of_every_length_are_appended_whole() {
        let bytes: Vec<u8> = (0..100).collect();
        for len in 0..bytes.len() {
            let mut out = b"x".to_vec();
            append(&bytes[..len], &mut out);
            assert_eq!(out[1..], bytes[..len]);
        }
    }

    #[test]
    fn integers_write_in_three_bases() {
        let mut out = Vec::new();
        write_decimal(i128::from(i64::MIN), &mut out);
        out.push(b' ');
        write_radix(0o755, 8, false, &mut out);
        out.push(b' ');
        write_hex(0xbeef, &mut out);
        write_radix(0xbeef, 16, true, &mut out);
        assert_eq!(out, b"-9223372036854775808 755 0xbeefBEEF");
    }
}
