//! The instructions that a jump can take the place of.
//!
//! A breakpoint is one byte, which every instruction has. A jump has five: it may hide several instructions, and whoever goes to the second of them would find the
//! jump's middle. So nobody may: no instruction of the file leads there ([`closed`]), and no task is there
//! when the jump is written, since a slot ([`super::displace`]) has held all of them from the moment that the code was mapped.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use skep_binary::calls::are_closed;
use skep_binary::decode::{self, Insn, Kind};
use skep_binary::unwind;

use super::gate::JUMP_BYTES;
use super::mappings::Mapping;

/// The longest file that is looked through, in bytes.
const MAX_FILE: u64 = 128 << 20;
/// Bytes that the instructions of a span may have: all but the last are shorter than a jump.
const MAX_SPAN: u64 = JUMP_BYTES - 1 + decode::MAX_LEN as u64;

/// Instructions that follow each other, of at least as many bytes as a jump has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) bytes: Vec<u8>,
    pub(super) insns: Vec<Insn>,
}

impl Span {
    /// That at a place of a file, which a process has mapped; `None` where a jump could be in somebody's way. `is_probed` tells of other
    /// breakpoints, none of which can be in it.
    pub(super) fn at(pid: u32, mapping: &Mapping, off_bytes: u64, is_probed: impl Fn(u64) -> bool) -> Option<Span> {
        if !mapping.name.starts_with('/') {
            return None;
        }
        let path = path(pid, mapping);
        let tables = unwind::tables(&path)?;
        let function = tables.function_around(tables.address(off_bytes)?)?;
        let len = function.end.checked_sub(tables.address(off_bytes)?)?.min(MAX_SPAN);
        let mut code = vec![0; len as usize];
        File::open(&path).ok()?.read_exact_at(&mut code, off_bytes).ok()?;
        let span = Span::first(&code)?;
        (1..span.bytes.len() as u64).all(|off| !is_probed(off_bytes + off)).then_some(span)
    }

    /// All the instructions that some code is, but for padding behind the last; `None` if they are not known.
    pub(super) fn of(bytes: Vec<u8>) -> Option<Span> {
        let mut insns: Vec<Insn> = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..)?;
            let insn = decode::decode(rest).ok()?;
            at += usize::from(insn.len);
            insns.push(insn);
            if !goes_on(rest, insn) && !matches!(insn.kind, Kind::Branch { .. }) {
                break;
            }
        }
        Some(Span { bytes, insns })
    }

    /// That at the start of some code, which ends with its function.
    fn first(code: &[u8]) -> Option<Span> {
        let mut insns = Vec::new();
        let mut at = 0;
        while at < JUMP_BYTES as usize {
            let rest = code.get(at..)?;
            let insn = decode::decode(rest).ok()?;
            at += usize::from(insn.len);
            insns.push(insn);
            if at < JUMP_BYTES as usize && !goes_on(rest, insn) {
                return None;
            }
        }
        Some(Span { bytes: code.get(..at)?.to_vec(), insns })
    }
}

/// Which of some places of a file, which a process has mapped, have no instruction that something may come to behind their first one, as far as a
/// jump reaches.
pub(super) fn closed(pid: u32, mapping: &Mapping, offs_bytes: &[u64]) -> HashSet<u64> {
    let path = path(pid, mapping);
    let is_short = fs::metadata(&path).is_ok_and(|meta| meta.len() <= MAX_FILE);
    let data = is_short.then(|| fs::read(&path).ok()).flatten().unwrap_or_default();
    let closed = are_closed(&data, offs_bytes).unwrap_or_default();
    offs_bytes.iter().zip(closed).filter_map(|(off_bytes, closed)| closed.then_some(*off_bytes)).collect()
}

fn path(pid: u32, mapping: &Mapping) -> String {
    format!("/proc/{pid}/root{}", mapping.name)
}

/// Whether an instruction always goes on to the next one, and no task waits in it.
fn goes_on(bytes: &[u8], insn: Insn) -> bool {
    if !matches!(insn.kind, Kind::Nothing | Kind::Push(_) | Kind::Anywhere | Kind::Relative { .. }) {
        return false;
    }
    let is_prefix =
        |byte: &&u8| matches!(**byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let prefixes = bytes.iter().take_while(is_prefix).count();
    match bytes.get(prefixes..).unwrap_or_default() {
        // ret, int3, int, iret, hlt, and system calls, ud2.
        [0xc2 | 0xc3 | 0xca..=0xcf | 0xf4 | 0xf1, ..] | [0x0f, 0x05 | 0x07 | 0x0b | 0x34 | 0x35 | 0xb9 | 0xff, ..] => {
            false
        }
        // xbegin, xabort.
        [0xc6 | 0xc7, 0xf8, ..] => false,
        // Jumps to what an operand says.
        [0xff, modrm, ..] => !matches!(modrm >> 3 & 7, 4 | 5),
        [_, ..] => true,
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many instructions of the code from `start` on a jump can hide.
    fn hidden(code: &[u8], start: usize) -> Option<usize> {
        Span::first(&code[start..]).map(|span| span.insns.len())
    }

    #[test]
    fn whole_instructions_are_taken() {
        // lea rax, [rdi + 1]; ret
        assert_eq!(hidden(&[0x48, 0x8d, 0x47, 1, 0xc3], 0), Some(2));
        // endbr64; push rbp; mov rbp, rsp
        let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0xc3];
        assert_eq!((hidden(&code, 0), hidden(&code, 4)), (Some(2), Some(3)));
        // What is too short, or not the start of an instruction that is known.
        assert_eq!((hidden(&code, 5), hidden(&code, 9)), (None, None));
        // mov eax, 1: one that is long enough.
        assert_eq!(hidden(&[0xb8, 1, 0, 0, 0, 0xc3], 0), Some(1));
    }

    #[test]
    fn what_does_not_go_on_is_the_last() {
        // xor eax, eax; ret, and another function.
        assert_eq!(hidden(&[0x31, 0xc0, 0xc3, 0x90, 0x90, 0x90], 0), None);
        // syscall; jmp *rax; call; jmp
        for code in [&[0x0f, 5, 0x90, 0x90, 0x90][..], &[0xff, 0xe0, 0x90, 0x90, 0x90], &[0xeb, 1, 0x90, 0x90, 0x90]] {
            assert_eq!(hidden(code, 0), None, "{code:x?}");
        }
        assert_eq!(hidden(&[0x31, 0xc0, 0xe8, 0, 0, 0, 0, 0xc3], 0), Some(2));
        // call *[rax] goes on, but not here: its return is inside.
        assert_eq!(hidden(&[0xff, 0x10, 0x90, 0x90, 0x90], 0), None);
    }
}
