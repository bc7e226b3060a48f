//! Calls and returns inside of one program, in line.
//!
//! They change what [`Cpu::enter`](crate::Cpu) and [`Cpu::leave`](crate::Cpu) change, at the places that
//! [`layout`] names: the frame, how many there are, the window of the stacks, r10. Whatever is not the plain case changes
//! nothing and is left to Rust: too many frames, too little fuel, a return to Rust or to another program.

use std::mem::offset_of;

use super::asm::{Arith, Bits, Cc, Mem, R9, R10, R11, R12, R13, R14, R15, RBP, RBX, RSP, Reg, Shift, Unary, at};
use super::emit::{CPU, Emitter, HERE, MAY_GOTO, field};
use super::glue::Rare;
use crate::cpu::layout;
use crate::jit::Call;
use crate::jit::native::Context;
use crate::{MAX_FRAMES, MAX_MAY_GOTO, STACK_BYTES};

const FLOOR: usize = offset_of!(Context, floor);
const WINDOW: usize = offset_of!(Context, window);
const PLACES: usize = offset_of!(Context, places);

/// r6 to r9.
const SAVED: [Reg; 4] = [RBX, R13, R14, R15];
/// More words than this are cleared by a loop.
const UNROLLED_WORDS: u32 = 8;

/// A field of the frame whose number times its size was added to the processor's address, in r11.
fn frame(off: usize) -> Mem {
    at(R11, (layout::FRAMES + off) as i32)
}

/// The same field of the frame before it.
fn before(off: usize) -> Mem {
    let mem = frame(off);
    Mem { disp: mem.disp - layout::FRAME_BYTES as i32, ..mem }
}

impl Emitter {
    /// What may go wrong with a call. The number of frames is in r11 then.
    pub(super) fn pay_for_call(&mut self, call: Call) {
        let Call { at, cost, .. } = call;
        let too_deep = self.rare(Rare::Control { at, cost: 0 });
        let too_dear = self.rare(Rare::Control { at, cost });
        self.depth();
        let asm = &mut self.asm;
        asm.arith_imm(Arith::Cmp, Bits::B32, R11, MAX_FRAMES as i32);
        asm.jcc(Cc::ABOVE_EQUAL, too_deep);
        asm.arith_imm(Arith::Sub, Bits::B64, R12, cost as i32);
        asm.jcc(Cc::BELOW, too_dear);
    }

    pub(super) fn enter_function(&mut self, call: Call) {
        let Call { at: slot, target, stack_bytes, .. } = call;
        let target = self.slots[target as usize];
        self.pay_for_call(call);
        let asm = &mut self.asm;
        asm.load(Bits::B64, R9, at(RSP, CPU));
        asm.lea(Bits::B64, R10, at(R11, 1));
        asm.store(Bits::B64, at(R9, layout::DEPTH as i32), R10);
        asm.imul_imm(Bits::B64, R11, layout::FRAME_BYTES as i32);
        asm.arith(Arith::Add, Bits::B64, R11, R9);
        asm.load(Bits::B64, R10, before(layout::PROGRAM));
        asm.store(Bits::B64, frame(layout::PROGRAM), R10);
        for (index, reg) in SAVED.into_iter().enumerate() {
            asm.store(Bits::B64, frame(layout::SAVED + 8 * index), reg);
        }
        asm.store_imm(Bits::B64, frame(layout::PC), slot as i32 + 1);
        asm.store_imm(Bits::B32, frame(layout::MAY_GOTO), MAX_MAY_GOTO as i32);
        asm.lea(Bits::B64, R10, frame(layout::MAY_GOTO));
        asm.load(Bits::B64, R9, at(RSP, HERE));
        asm.store(Bits::B64, field(R9, MAY_GOTO), R10);
        self.move_window(Arith::Sub);
        let words = stack_bytes / 8;
        let asm = &mut self.asm;
        if words <= UNROLLED_WORDS {
            for word in 1..=words {
                asm.store_imm(Bits::B64, at(RBP, -8 * word as i32), 0);
            }
        } else {
            let again = asm.label();
            asm.mov_imm(R9, words.into());
            asm.bind(again);
            let word = Mem { base: RBP, index: Some((R9, 3)), disp: -(stack_bytes as i32) - 8 };
            asm.store_imm(Bits::B64, word, 0);
            asm.arith_imm(Arith::Sub, Bits::B32, R9, 1);
            asm.jcc(Cc::NOT_EQUAL, again);
        }
        asm.jmp(target);
    }

    pub(super) fn leave_function(&mut self, slot: u32) {
        let elsewhere = self.rare(Rare::Control { at: slot, cost: 0 });
        self.depth();
        let asm = &mut self.asm;
        asm.load(Bits::B64, R9, at(RSP, CPU));
        asm.arith_imm(Arith::Sub, Bits::B64, R11, 1);
        asm.load(Bits::B64, R10, at(RSP, HERE));
        asm.arith_from(Arith::Cmp, Bits::B64, R11, field(R10, FLOOR));
        asm.jcc(Cc::BELOW_EQUAL, elsewhere);
        asm.imul_imm(Bits::B64, R11, layout::FRAME_BYTES as i32);
        asm.arith(Arith::Add, Bits::B64, R11, R9);
        asm.load(Bits::B64, R10, frame(layout::PROGRAM));
        asm.arith_from(Arith::Cmp, Bits::B64, R10, before(layout::PROGRAM));
        asm.jcc(Cc::NOT_EQUAL, elsewhere);
        asm.arith_imm(Arith::Sub, Bits::B64, at(R9, layout::DEPTH as i32), 1);
        for (index, reg) in SAVED.into_iter().enumerate() {
            asm.load(Bits::B64, reg, frame(layout::SAVED + 8 * index));
        }
        asm.lea(Bits::B64, R10, before(layout::MAY_GOTO));
        asm.load(Bits::B64, R9, at(RSP, HERE));
        asm.store(Bits::B64, field(R9, MAY_GOTO), R10);
        self.move_window(Arith::Add);
        let asm = &mut self.asm;
        asm.load(Bits::B64, R10, frame(layout::PC));
        asm.load(Bits::B64, R9, at(RSP, HERE));
        asm.load(Bits::B64, R9, field(R9, PLACES));
        asm.load(Bits::B64, R10, Mem { base: R9, index: Some((R10, 3)), disp: 0 });
        asm.jmp_reg(R10);
    }

    /// The end of the entry function, back to Rust if its frame is the one that Rust entered. Where there is no other one, Rust looks.
    pub(super) fn leave_entry(&mut self, slot: u32) {
        if self.alone {
            return self.asm.jmp(self.returned);
        }
        let elsewhere = self.rare(Rare::Control { at: slot, cost: 0 });
        let asm = &mut self.asm;
        asm.load(Bits::B64, R9, at(RSP, CPU));
        asm.load(Bits::B64, R11, at(R9, layout::DEPTH as i32));
        asm.load(Bits::B64, R10, at(RSP, HERE));
        asm.arith_from(Arith::Sub, Bits::B64, R11, field(R10, FLOOR));
        asm.arith_imm(Arith::Cmp, Bits::B64, R11, 1);
        asm.jcc(Cc::NOT_EQUAL, elsewhere);
        asm.jmp(self.returned);
    }

    /// How many frames there are, into r11: r10 tells it, since the block of the stacks begins at a slot of 64 KiB. A number that was read
    /// back from memory each time would keep one call waiting for the one before.
    fn depth(&mut self) {
        let asm = &mut self.asm;
        asm.zero_extend16(R11, RBP);
        asm.shift_imm(Shift::Shr, Bits::B32, R11, STACK_BYTES.trailing_zeros() as u8);
        asm.unary(Unary::Neg, Bits::B32, R11);
        asm.arith_imm(Arith::Add, Bits::B32, R11, MAX_FRAMES as i32 + 1);
    }

    /// Moves r10, and the start of the window, which is the upper half of its entry, to a frame's size below r10.
    fn move_window(&mut self, op: Arith) {
        self.asm.arith_imm(op, Bits::B64, RBP, STACK_BYTES as i32);
        self.asm.load(Bits::B64, R9, at(RSP, HERE));
        self.asm.load(Bits::B64, R9, field(R9, WINDOW));
        self.asm.zero_extend16(R10, RBP);
        self.asm.arith_imm(Arith::Sub, Bits::B32, R10, STACK_BYTES as i32);
        self.asm.store(Bits::B32, at(R9, 4), R10);
        self.forget_window(0);
    }
}

const _: () = assert!(STACK_BYTES.is_power_of_two() && MAX_FRAMES as u32 * STACK_BYTES < 1 << 16);
