//! Formats: what `bpf_trace_printk`, `bpf_trace_vprintk` and `bpf_snprintf` make of a text and some numbers (`bpf_bprintf_prepare`,
//! kernel/bpf/helpers.c, and lib/vsprintf.c, Linux 6.18).
//!
//! A format is printable ASCII. `%` is followed by any of the flags `-`, `+`, space and `0`, a width, and one of: `d i u x X`, each
//! with `l` or `ll` in front if it is of 64 bits; `c`; `s`, a text wherever its address says that it is; `p`, followed by nothing or one
//! of `x K s S B` (the kernel's addresses mean nothing here, so all of them are numbers), `ks` and `us` (a text of the space,
//! of the task), `i4 I4 i6 I6` (addresses of the network). `%%` is a percent sign.

use super::memory::{From, fetch_text};
use crate::Cpu;

/// Longest text for one `%s`, with its zero (`MAX_BPRINTF_BIN_ARGS`).
const MAX_TEXT: usize = 512;
/// Largest width (`FIELD_WIDTH_MAX`).
const MAX_WIDTH: usize = (1 << 23) - 1;

/// A text of which only the start is kept.
pub(super) struct Formatted {
    pub(super) text: Vec<u8>,
    /// How long it would be.
    pub(super) len: usize,
    limit: usize,
}

impl Formatted {
    fn push(&mut self, bytes: &[u8]) {
        let room = self.limit - self.text.len();
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.len += bytes.len();
    }

    fn pad(&mut self, byte: u8, count: usize) {
        let room = self.limit - self.text.len();
        self.text.resize(self.text.len() + count.min(room), byte);
        self.len += count;
    }

    fn field(&mut self, flags: Flags, sign: &[u8], body: &[u8]) {
        let padding = flags.width.saturating_sub(sign.len() + body.len());
        let (spaces, zeros) = if flags.zero && !flags.left { (0, padding) } else { (padding, 0) };
        self.pad(b' ', if flags.left { 0 } else { spaces });
        self.push(sign);
        self.pad(b'0', zeros);
        self.push(body);
        self.pad(b' ', if flags.left { spaces } else { 0 });
    }
}

#[derive(Clone, Copy, Default)]
struct Flags {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    width: usize,
}

/// What the format makes of the numbers, at most `limit` bytes of it; `None` when the format is wrong or wants more numbers.
pub(super) fn format(cpu: &Cpu, format: &[u8], args: &[u64], limit: usize) -> Option<Formatted> {
    let printable = |byte: &u8| byte.is_ascii_graphic() || is_space(*byte);
    if !format.iter().all(printable) {
        return None;
    }
    let mut out = Formatted { text: Vec::new(), len: 0, limit };
    let mut args = args.iter().copied();
    let mut rest = format;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        out.push(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(b"%") {
            out.push(b"%");
            rest = behind;
            continue;
        }
        let value = args.next()?;
        let flags = flags(&mut rest);
        conversion(cpu, &mut rest, flags, value, &mut out)?;
    }
    out.push(rest);
    Some(out)
}

/// C's `isspace`, of which Rust's lacks one.
pub(super) fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn flags(rest: &mut &[u8]) -> Flags {
    let mut flags = Flags::default();
    while let Some((first, behind)) = rest.split_first() {
        match first {
            b'-' => flags.left = true,
            b'+' => flags.plus = true,
            b' ' => flags.space = true,
            b'0' => flags.zero = true,
            _ => break,
        }
        *rest = behind;
    }
    while let Some((digit @ b'0'..=b'9', behind)) = rest.split_first() {
        flags.width = (flags.width * 10 + usize::from(digit - b'0')).min(MAX_WIDTH);
        *rest = behind;
    }
    flags
}

fn conversion(cpu: &Cpu, rest: &mut &[u8], flags: Flags, value: u64, out: &mut Formatted) -> Option<()> {
    let mut take = |prefix: &[u8]| {
        let behind = rest.strip_prefix(prefix)?;
        *rest = behind;
        Some(())
    };
    let text = |from| fetch_text(cpu, value, MAX_TEXT - 1, from).unwrap_or_default();
    if take(b"pks").is_some() {
        out.field(Flags { zero: false, ..flags }, b"", &text(From::Space));
        return ends_word(rest);
    }
    if take(b"pus").is_some() {
        out.field(Flags { zero: false, ..flags }, b"", &text(From::Task));
        return ends_word(rest);
    }
    if take(b"s").is_some() {
        out.field(Flags { zero: false, ..flags }, b"", &text(From::Any));
        return ends_word(rest);
    }
    if take(b"c").is_some() {
        out.field(Flags { zero: false, ..flags }, b"", &[value as u8]);
        return Some(());
    }
    if take(b"p").is_some() {
        return pointer(cpu, rest, flags, value, out);
    }
    let wide = take(b"ll").or_else(|| take(b"l")).is_some();
    let unsigned = if wide { value } else { u64::from(value as u32) };
    let (kind, behind) = rest.split_first()?;
    *rest = behind;
    match kind {
        b'd' | b'i' => {
            let signed = if wide { value as i64 } else { i64::from(value as i32) };
            let sign: &[u8] = match (signed < 0, flags.plus, flags.space) {
                (true, ..) => b"-",
                (_, true, _) => b"+",
                (.., true) => b" ",
                _ => b"",
            };
            out.field(flags, sign, signed.unsigned_abs().to_string().as_bytes());
        }
        b'u' => out.field(flags, b"", unsigned.to_string().as_bytes()),
        b'x' => out.field(flags, b"", format!("{unsigned:x}").as_bytes()),
        b'X' => out.field(flags, b"", format!("{unsigned:X}").as_bytes()),
        _ => return None,
    }
    Some(())
}

/// Behind a text there must be something that could not belong to it.
fn ends_word(rest: &[u8]) -> Option<()> {
    rest.first().is_none_or(|next| is_space(*next) || next.is_ascii_punctuation()).then_some(())
}

fn pointer(cpu: &Cpu, rest: &mut &[u8], flags: Flags, value: u64, out: &mut Formatted) -> Option<()> {
    // Without a width it is that of an address.
    let number = format!("{value:x}");
    let as_number = if flags.width == 0 { Flags { width: 16, zero: true, ..flags } } else { flags };
    if ends_word(rest).is_some() {
        out.field(as_number, b"", number.as_bytes());
        return Some(());
    }
    let (kind, behind) = rest.split_first()?;
    *rest = behind;
    match kind {
        b'x' | b'K' => out.field(as_number, b"", number.as_bytes()),
        b's' | b'S' | b'B' => out.field(flags, b"", format!("{value:#x}").as_bytes()),
        b'i' | b'I' => {
            let (version, behind) = rest.split_first()?;
            *rest = behind;
            let mut bytes = [0; 16];
            let bytes = match version {
                b'4' => &mut bytes[..4],
                b'6' => &mut bytes[..],
                _ => return None,
            };
            // What cannot be read stays zero.
            let _ = cpu.space().read(value, bytes);
            let parts: Vec<String> = match (version, kind) {
                (b'4', b'I') => bytes.iter().map(u8::to_string).collect(),
                (b'4', _) => bytes.iter().map(|byte| format!("{byte:03}")).collect(),
                _ => bytes.chunks(2).map(|pair| format!("{:02x}{:02x}", pair[0], pair[1])).collect(),
            };
            let between = match (version, kind) {
                (b'4', _) => ".",
                (_, b'I') => ":",
                _ => "",
            };
            out.field(Flags { zero: false, ..flags }, b"", parts.join(between).as_bytes());
        }
        _ => return None,
    }
    Some(())
}
