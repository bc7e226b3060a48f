//! Texts and checksums: `bpf_strtol`, `bpf_strtoul`, `bpf_strncmp`, `bpf_csum_diff` (kernel/bpf/helpers.c, net/core/filter.c,
//! Linux 6.18).

use rustix::io::Errno;
use skep_insn::helpers;

use super::format::is_space;
use super::{Family, bytes, error};
use crate::{Access, Cpu, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::STRTOL, strtol),
    (helpers::STRTOUL, strtoul),
    (helpers::STRNCMP, strncmp),
    (helpers::CSUM_DIFF, csum_diff),
];

/// Bytes of a number that are looked at.
const MAX_DIGITS: usize = 63;

struct Number {
    negative: bool,
    size: u64,
    consumed: usize,
}

fn number(text: &[u8], flags: u64) -> Result<Number, Errno> {
    if text.is_empty() || !matches!(flags, 0 | 8 | 10 | 16) {
        return Err(Errno::INVAL);
    }
    let spaces = text.iter().take_while(|byte| is_space(**byte)).count();
    let negative = text.get(spaces) == Some(&b'-');
    let start = spaces + usize::from(negative);
    let rest = &text[start..];
    let rest = &rest[..rest.len().min(MAX_DIGITS)];
    let digit = |at: usize, base: u64| {
        let digit = rest.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        digit.map(u64::from).filter(|digit| *digit < base)
    };
    let marked = rest.first() == Some(&b'0') && matches!(rest.get(1), Some(b'x' | b'X'));
    let (base, mark) = match flags {
        0 if marked && digit(2, 16).is_some() => (16, 2),
        0 if rest.first() == Some(&b'0') => (8, 0),
        0 => (10, 0),
        16 if marked => (16, 2),
        base => (base, 0),
    };
    let (mut at, mut size) = (mark, 0u64);
    let mut overflows = false;
    while let Some(digit) = digit(at, base) {
        let next = size.checked_mul(base).and_then(|size| size.checked_add(digit));
        overflows |= next.is_none();
        size = next.unwrap_or(size);
        at += 1;
    }
    match (overflows, at == mark) {
        (true, _) => Err(Errno::RANGE),
        (_, true) => Err(Errno::INVAL),
        _ => Ok(Number { negative, size, consumed: start + at }),
    }
}

/// Stores the number and gives how many bytes it took.
fn store(cpu: &Cpu, to: u64, number: Result<(u64, usize), Errno>) -> Result<u64, Stop> {
    cpu.space().check(to, 8, Access::Write)?;
    match number {
        Ok((value, consumed)) => {
            cpu.space().write(to, &value.to_ne_bytes())?;
            Ok(consumed as u64)
        }
        Err(errno) => Ok(error(errno)),
    }
}

fn strtol(cpu: &mut Cpu, [text, len, flags, to, _]: [u64; 5]) -> Result<u64, Stop> {
    let text = bytes(cpu, text, len)?;
    let signed = number(&text, flags).and_then(|Number { negative, size, consumed }| {
        let value = if negative { size.wrapping_neg() as i64 } else { size as i64 };
        let fits = if negative { value <= 0 } else { value >= 0 };
        if fits { Ok((value as u64, consumed)) } else { Err(Errno::RANGE) }
    });
    store(cpu, to, signed)
}

fn strtoul(cpu: &mut Cpu, [text, len, flags, to, _]: [u64; 5]) -> Result<u64, Stop> {
    let text = bytes(cpu, text, len)?;
    let unsigned = number(&text, flags).and_then(
        |Number { negative, size, consumed }| {
            if negative { Err(Errno::INVAL) } else { Ok((size, consumed)) }
        },
    );
    store(cpu, to, unsigned)
}

fn strncmp(cpu: &mut Cpu, [one, len, two, ..]: [u64; 5]) -> Result<u64, Stop> {
    let one = bytes(cpu, one, u64::from(len as u32))?;
    for (at, byte) in one.iter().enumerate() {
        let mut other = [0];
        cpu.space().read(two.wrapping_add(at as u64), &mut other)?;
        match byte.cmp(&other[0]) {
            std::cmp::Ordering::Less => return Ok(-1i64 as u64),
            std::cmp::Ordering::Greater => return Ok(1),
            std::cmp::Ordering::Equal if *byte == 0 => return Ok(0),
            std::cmp::Ordering::Equal => {}
        }
    }
    Ok(0)
}

/// The sum of 32-bit words in ones' complement; the last one ends in zeros.
fn sum(bytes: &[u8], start: u64) -> u64 {
    let words = bytes.chunks(4).map(|bytes| {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from(u32::from_ne_bytes(word))
    });
    words.fold(start, |sum, word| fold32(sum + word))
}

fn fold32(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// The seed, plus what is behind `to`, less what is behind `from`, in 16 bits, and for any lengths, as since Linux 6.13.
fn csum_diff(cpu: &mut Cpu, [from, from_len, to, to_len, seed]: [u64; 5]) -> Result<u64, Stop> {
    let (from_len, to_len) = (u64::from(from_len as u32), u64::from(to_len as u32));
    let (from, to) = (bytes(cpu, from, from_len)?, bytes(cpu, to, to_len)?);
    let less = |sum: u64| !(fold32(sum) as u32);
    let seed = u64::from(seed as u32);
    let result = match (from.is_empty(), to.is_empty()) {
        (true, true) => seed,
        (true, false) => sum(&to, seed),
        (false, false) => sum(&to, seed) + u64::from(less(sum(&from, 0))),
        (false, true) => u64::from(less(sum(&from, u64::from(!(seed as u32))))),
    };
    let folded = fold32(fold32(result));
    let folded = (folded & 0xffff) + (folded >> 16);
    Ok((folded & 0xffff) + (folded >> 16))
}
