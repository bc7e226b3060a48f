//! Calls and returns inside of one program, in line.
//!
//! They change what [`Cpu::enter`](crate::Cpu) and [`Cpu::leave`](crate::Cpu) change, at the places that
//! [`layout`] names: the frame, how many there are, the window of the stacks, r10. Whatever is not the plain case changes
//! nothing and is left to Rust: too many frames, too little fuel, a return to Rust or to another program.

use std::mem::offset_of;

use super::asm::{Bits, Cc, Len, Reg, Sum, When, ZERO};
use super::emit::{CONTEXT, CPU, Emitter, FRAME, FUEL, MAY_GOTO, REGS, X9, X10, X11, X12};
use super::glue::Rare;
use crate::cpu::layout;
use crate::jit::Call;
use crate::jit::native::Context;
use crate::{MAX_FRAMES, MAX_MAY_GOTO, STACK_BYTES};

const FLOOR: i32 = offset_of!(Context, floor) as i32;
const WINDOW: i32 = offset_of!(Context, window) as i32;
const PLACES: i32 = offset_of!(Context, places) as i32;

const DEPTH: i32 = layout::DEPTH as i32;

/// More words than this are cleared by a loop.
const UNROLLED_WORDS: u32 = 16;

// Everything in a processor and its frames is within the reach of a displacement.
const _: () = assert!(layout::DEPTH < 4096 && layout::FRAMES >= layout::FRAME_BYTES && layout::FRAMES < 4096);

/// A field of the frame whose number times its size was added to the processor's address, in x11.
const fn frame(off: usize) -> i32 {
    (layout::FRAMES + off) as i32
}

/// The same field of the frame before it.
const fn before(off: usize) -> i32 {
    frame(off) - layout::FRAME_BYTES as i32
}

/// r6 to r9, with their places in a frame.
fn saved() -> [(Reg, i32); 4] {
    [0, 1, 2, 3].map(|index| (REGS[6 + index], frame(layout::SAVED + 8 * index)))
}

impl Emitter {
    /// The frame whose number is in x9, to x11.
    fn frame_address(&mut self) {
        self.asm.mov_imm(X11, layout::FRAME_BYTES as u64);
        self.asm.multiply_add(Bits::B64, X11, X9, X11, CPU);
    }

    /// Pays for a call that is not one too many; in x9 is how many there are.
    pub(super) fn pay_for_call(&mut self, call: Call) {
        let Call { at: slot, cost, .. } = call;
        let not_plain = self.rare(Rare::Control { at: slot, cost });
        self.sum_imm(Sum::Subs, Bits::B64, FUEL, FUEL, cost.into());
        self.asm.jump_if(When::Flags(Cc::BELOW), not_plain);
        self.asm.load(Len::B8, X9, CPU, DEPTH);
        self.sum_imm(Sum::Subs, Bits::B64, ZERO, X9, MAX_FRAMES as i64);
        self.asm.jump_if(When::Flags(Cc::ABOVE_EQUAL), not_plain);
    }

    pub(super) fn enter_function(&mut self, call: Call) {
        let Call { at: slot, target, stack_bytes, .. } = call;
        let target = self.slots[target as usize];
        self.pay_for_call(call);
        self.frame_address();
        self.sum_imm(Sum::Add, Bits::B64, X9, X9, 1);
        let asm = &mut self.asm;
        asm.store(Len::B8, CPU, DEPTH, X9);
        asm.load(Len::B8, X10, X11, before(layout::PROGRAM));
        asm.store(Len::B8, X11, frame(layout::PROGRAM), X10);
        for (reg, place) in saved() {
            asm.store(Len::B8, X11, place, reg);
        }
        asm.mov_imm(X10, u64::from(slot) + 1);
        asm.store(Len::B8, X11, frame(layout::PC), X10);
        asm.mov_imm(X10, MAX_MAY_GOTO.into());
        asm.store(Len::B4, X11, frame(layout::MAY_GOTO), X10);
        self.sum_imm(Sum::Add, Bits::B64, X10, X11, frame(layout::MAY_GOTO).into());
        self.asm.store(Len::B8, CONTEXT, MAY_GOTO, X10);
        self.move_window(Sum::Sub);
        self.clear(stack_bytes / 8);
        self.asm.jump(target);
    }

    /// Clears so many words below r10.
    fn clear(&mut self, words: u32) {
        let words = words as i32;
        if words as u32 > UNROLLED_WORDS {
            let again = self.asm.label();
            self.sum_imm(Sum::Sub, Bits::B64, X10, FRAME, i64::from(8 * words));
            if words % 2 != 0 {
                self.asm.store(Len::B8, X10, 0, ZERO);
                self.sum_imm(Sum::Add, Bits::B64, X10, X10, 8);
            }
            self.asm.bind(again);
            self.asm.store_pair_on(ZERO, ZERO, X10);
            self.asm.sum(Sum::Subs, Bits::B64, ZERO, X10, FRAME);
            self.asm.jump_if(When::Flags(Cc::NOT_EQUAL), again);
            return;
        }
        for pair in 1..=words / 2 {
            self.asm.store_pair(ZERO, ZERO, FRAME, -16 * pair);
        }
        if words % 2 != 0 {
            self.asm.store(Len::B8, FRAME, -8 * words, ZERO);
        }
    }

    pub(super) fn leave_function(&mut self, slot: u32) {
        let elsewhere = self.rare(Rare::Control { at: slot, cost: 0 });
        self.asm.load(Len::B8, X9, CPU, DEPTH);
        self.sum_imm(Sum::Sub, Bits::B64, X9, X9, 1);
        let asm = &mut self.asm;
        asm.load(Len::B8, X10, CONTEXT, FLOOR);
        asm.sum(Sum::Subs, Bits::B64, ZERO, X9, X10);
        asm.jump_if(When::Flags(Cc::BELOW_EQUAL), elsewhere);
        self.frame_address();
        let asm = &mut self.asm;
        asm.load(Len::B8, X10, X11, frame(layout::PROGRAM));
        asm.load(Len::B8, X12, X11, before(layout::PROGRAM));
        asm.sum(Sum::Subs, Bits::B64, ZERO, X10, X12);
        asm.jump_if(When::Flags(Cc::NOT_EQUAL), elsewhere);
        asm.store(Len::B8, CPU, DEPTH, X9);
        for (reg, place) in saved() {
            asm.load(Len::B8, reg, X11, place);
        }
        self.sum_imm(Sum::Add, Bits::B64, X10, X11, before(layout::MAY_GOTO).into());
        self.asm.store(Len::B8, CONTEXT, MAY_GOTO, X10);
        self.move_window(Sum::Add);
        let asm = &mut self.asm;
        asm.load(Len::B8, X10, X11, frame(layout::PC));
        asm.load(Len::B8, X9, CONTEXT, PLACES);
        asm.load_indexed(X10, X9, X10);
        asm.jump_reg(X10);
    }

    /// Moves r10, and the start of the window, which is the upper half of its entry.
    fn move_window(&mut self, op: Sum) {
        self.asm.load(Len::B8, X9, CONTEXT, WINDOW);
        self.asm.load(Len::B8, X10, X9, 0);
        self.asm.mov_imm(X12, u64::from(STACK_BYTES) << 32);
        self.asm.sum(op, Bits::B64, X10, X10, X12);
        self.asm.store(Len::B8, X9, 0, X10);
        self.sum_imm(op, Bits::B64, FRAME, FRAME, STACK_BYTES.into());
    }
}
