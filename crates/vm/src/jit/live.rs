//! Which registers somebody still reads.
//!
//! Walked backwards until nothing changes. What leaves the code (calls, jumps by register, the end of a function, whose
//! caller sees r1 to r5 as it left them) reads all that may be seen there. The end of the entry function leaves nothing but r0, unless the
//! program calls it.

use super::facts::{is_lookup, written};
use super::shape::Shape;
use crate::op::{Code, Op};
use crate::program::Program;

/// A bit for each register.
const ALL: u16 = 0x7ff;
/// r0 to r5.
const BEHIND_EXIT: u16 = 0x3f;
/// r1 to r5.
const ARGUMENTS: u16 = 0x3e;
/// r1 and r2.
const MAP_AND_KEY: u16 = 0x6;
/// More rounds than this are not worth their time.
const ROUNDS: usize = 8;

/// For each operation the registers that are read behind it, before they are written.
pub(super) fn behind(program: &Program) -> Vec<u16> {
    let ops = &program.ops;
    let called = ops.iter().any(|op| op.code == Code::CallReg || op.code == Code::Call && op.imm == 0);
    let entry = if called { 0 } else { program.functions.first().map_or(0, |entry| entry.end as usize) };
    let mut before = vec![0u16; ops.len() + 1];
    for _ in 0..ROUNDS {
        let mut changed = false;
        for (at, op) in ops.iter().enumerate().rev() {
            let now = read(program, op) | (behind_one(ops, &before, at, entry) & !kills(op));
            changed |= now != before[at];
            before[at] = now;
        }
        if !changed {
            return (0..ops.len()).map(|at| behind_one(ops, &before, at, entry)).collect();
        }
    }
    vec![ALL; ops.len()]
}

/// The registers that the program reads before it writes them.
pub(super) fn at_start(program: &Program, behind: &[u16]) -> u16 {
    match (program.ops.first(), behind.first()) {
        (Some(op), Some(behind)) => read(program, op) | behind & !kills(op),
        _ => ALL,
    }
}

/// The registers that a program's code may read or write: those that it names, and all when it has functions or goes on in other
/// programs. And whether it does neither.
pub(super) fn used(program: &Program) -> (u16, bool) {
    let ops = &program.ops;
    let alone = program.functions.len() == 1;
    if !alone || ops.iter().any(|op| matches!(Shape::of(op.code), Shape::Control | Shape::Call)) {
        return (ALL, false);
    }
    (ops.iter().fold(0, |used, op| used | bit(op.dst) | bit(op.src)), true)
}

/// `entry` is where the part ends from which nobody sees r1 to r5.
fn behind_one(ops: &[Op], before: &[u16], at: usize, entry: usize) -> u16 {
    let op = &ops[at];
    let target = || before.get((at + 1).wrapping_add_signed(op.off as isize)).copied().unwrap_or(ALL);
    match Shape::of(op.code) {
        Shape::Jump => target(),
        Shape::Branch { .. } | Shape::MayGoto => target() | before[at + 1],
        Shape::Exit if at < entry => bit(0),
        Shape::Exit => BEHIND_EXIT,
        Shape::Control | Shape::Call => ALL,
        _ => before[at + 1],
    }
}

fn bit(reg: u8) -> u16 {
    1 << (reg & 15)
}

fn kills(op: &Op) -> u16 {
    match Shape::of(op.code) {
        // It stays as it was when nothing was exchanged.
        Shape::Atomic { .. } => 0,
        _ => written(op).map_or(0, bit),
    }
}

fn read(program: &Program, op: &Op) -> u16 {
    let (dst, src) = (bit(op.dst), bit(op.src));
    match Shape::of(op.code) {
        Shape::Alu { imm, .. } | Shape::Branch { imm, .. } | Shape::Store { imm, .. } => {
            dst | if imm { 0 } else { src }
        }
        Shape::Load { .. } | Shape::LoadAcquire { .. } => src,
        Shape::StoreRelease { .. } => dst | src,
        Shape::Atomic { .. } => dst | src | bit(0),
        Shape::Move => match op.code {
            Code::Imm => 0,
            Code::Neg64 | Code::Neg32 | Code::Zx16 | Code::Zx32 | Code::Swap16 | Code::Swap32 | Code::Swap64 => dst,
            _ => src,
        },
        Shape::Helper if is_lookup(program, op) => MAP_AND_KEY,
        Shape::Helper => ARGUMENTS,
        Shape::Exit => bit(0),
        Shape::Control | Shape::Call => ALL,
        Shape::Jump | Shape::MayGoto | Shape::Nothing => 0,
    }
}
