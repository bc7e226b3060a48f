//! What a tracing script prints: values, formats, maps and histograms, as text and as JSON.
//!
//! The text is bpftrace's to the byte, since people have scripts that read it; the JSON lines likewise, spaces included.
//! Everything is driven by a value's [`Type`](skep_script::Type), whose layout in memory [`skep_script::types`] defines. What a number means on
//! this machine (symbols, users, times) comes from [`Names`], which the caller has.
//!
//! Bytes for a file or a pipe are data, and stay as they are. A terminal obeys them, and whoever may choose a process's name or a
//! file's name would write to it: there ([`ScriptView::for_terminal`]) control characters of values are shown as `\xNN`, all but
//! line feeds and tabs, which shape text and do no harm. The text of the script's own formats is its author's, and passes:
//! `printf("\033[2J")` clears the screen.

mod format;
mod histogram;
mod json;
mod map;
mod number;
mod text;
mod total;

#[cfg(test)]
mod tests;

use std::io::Write as _;

use skep_script::Plan;
use skep_script::types::{Clock, Stack, Word};

pub use map::Entry;
pub use total::Total;

/// What numbers are called on this machine. Each writes text; what has no name is written as bpftrace does.
pub trait Names {
    /// A kernel address as a symbol, without offset; `0x...` when there is none.
    fn ksym(&self, address: u64, out: &mut Vec<u8>);

    /// An address of process `pid` as a symbol, without offset; `0x...` when there is none.
    fn usym(&self, pid: u32, address: u64, out: &mut Vec<u8>);

    /// The frames of a stack, innermost first, each as its line reads in the stack's mode (without indent). Empty when the
    /// stack is not known.
    fn frames(&self, stack: &Stack, id: u64, pid: u32, tid: u32) -> Vec<Vec<u8>>;

    /// The word for a number.
    fn word(&self, word: Word, number: u64, out: &mut Vec<u8>);

    /// Path of a cgroup below the mounts whose names match `filter`.
    fn cgroup_path(&self, id: u64, filter: &str, out: &mut Vec<u8>);

    /// A moment by a format of strftime (`%f` is microseconds), in local time.
    fn time(&self, format: &str, clock: Clock, ns: u64, out: &mut Vec<u8>);
}

/// Prints the values of one script.
#[derive(Clone, Copy)]
pub struct ScriptView<'a> {
    plan: &'a Plan,
    names: &'a dyn Names,
    terminal: bool,
}

impl<'a> ScriptView<'a> {
    /// A view of the script of `plan` on the machine of `names`.
    pub fn new(plan: &'a Plan, names: &'a dyn Names) -> ScriptView<'a> {
        ScriptView { plan, names, terminal: false }
    }

    /// The same view, for a terminal or not: on one, values send no control characters.
    pub fn for_terminal(self, terminal: bool) -> ScriptView<'a> {
        ScriptView { terminal, ..self }
    }

    /// Makes what was written since `start` safe, on a terminal.
    fn guard(&self, start: usize, out: &mut Vec<u8>) {
        if self.terminal {
            guard(start, out);
        }
    }
}

impl std::fmt::Debug for ScriptView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptView").finish_non_exhaustive()
    }
}

/// Makes what was written since `start` safe for a terminal: control characters but line feeds and tabs, and bytes that are no
/// UTF-8, become `\xNN`.
pub fn guard(start: usize, out: &mut Vec<u8>) {
    if out[start..].iter().all(|byte| matches!(byte, b'\n' | b'\t' | 0x20..0x7f)) {
        return;
    }
    let text = out.split_off(start);
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            } else {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// `N` bytes at `off`; what lies behind the end of `bytes` is zero.
fn read<const N: usize>(bytes: &[u8], off: usize) -> [u8; N] {
    let there = bytes.get(off..).unwrap_or_default();
    if let Some(whole) = there.first_chunk() {
        return *whole;
    }
    let mut value = [0; N];
    let len = there.len().min(N);
    value[..len].copy_from_slice(&there[..len]);
    value
}

fn read_u64(bytes: &[u8], off: usize) -> u64 {
    u64::from_ne_bytes(read(bytes, off))
}

fn read_u32(bytes: &[u8], off: usize) -> u32 {
    u32::from_ne_bytes(read(bytes, off))
}

/// `len` bytes at `off`, or fewer where `bytes` ends.
fn slice(bytes: &[u8], off: usize, len: usize) -> &[u8] {
    let there = bytes.get(off..).unwrap_or_default();
    &there[..len.min(there.len())]
}
