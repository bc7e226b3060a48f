//! Arithmetic where the machine's and BPF's differ (ISA document, section "Arithmetic instructions"): division by zero gives 0,
//! the remainder of it the dividend; the smallest number divided by -1 stays what it is, with remainder 0; shifts count modulo
//! the width. Operations of 32 bits see the low halves, and their result clears the upper half.

pub(crate) fn div64(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(0)
}

pub(crate) fn div32(a: u32, b: u32) -> u32 {
    a.checked_div(b).unwrap_or(0)
}

pub(crate) fn sdiv64(a: u64, b: u64) -> u64 {
    if b == 0 { 0 } else { (a as i64).wrapping_div(b as i64) as u64 }
}

pub(crate) fn sdiv32(a: u32, b: u32) -> u32 {
    if b == 0 { 0 } else { (a as i32).wrapping_div(b as i32) as u32 }
}

pub(crate) fn mod64(a: u64, b: u64) -> u64 {
    a.checked_rem(b).unwrap_or(a)
}

pub(crate) fn mod32(a: u32, b: u32) -> u32 {
    a.checked_rem(b).unwrap_or(a)
}

pub(crate) fn smod64(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }
}

pub(crate) fn smod32(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }
}

pub(crate) fn lsh64(a: u64, b: u64) -> u64 {
    a.wrapping_shl(b as u32)
}

pub(crate) fn lsh32(a: u32, b: u32) -> u32 {
    a.wrapping_shl(b)
}

pub(crate) fn rsh64(a: u64, b: u64) -> u64 {
    a.wrapping_shr(b as u32)
}

pub(crate) fn rsh32(a: u32, b: u32) -> u32 {
    a.wrapping_shr(b)
}

pub(crate) fn arsh64(a: u64, b: u64) -> u64 {
    (a as i64).wrapping_shr(b as u32) as u64
}

pub(crate) fn arsh32(a: u32, b: u32) -> u32 {
    (a as i32).wrapping_shr(b) as u32
}
