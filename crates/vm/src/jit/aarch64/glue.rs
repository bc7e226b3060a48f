//! What stands behind the code of a program: its rare cases, and the shared pieces by which it is entered, is left, and calls Rust.
//!
//! The stack holds the frame of the piece that entered while a program runs. The pieces are called with numbers in x9 to x11, save
//! registers in the context, and call functions of [`native`](crate::jit::native) with the context in x0, as C does.

use std::mem::offset_of;

use super::asm::{Bits, FAR, FP, LINK, Label, Len, Logic, Reg, SP, Sum, Two, When};
use super::emit::{CONTEXT, CPU, Emitter, FUEL, REGS, TABLE, UPPER_HALF, X9, X10, X11};
use crate::jit::native::{Context, Entries, reach};
use crate::jit::{Jump, Place};

/// What a function of C gives back as it was, and this code must give back too, beside the frame and the link.
const KEPT: [(Reg, Reg); 5] =
    [(Reg(19), Reg(20)), (Reg(21), Reg(22)), (Reg(23), Reg(24)), (Reg(25), Reg(26)), (Reg(27), Reg(28))];
const KEPT_BYTES: i32 = 16 * (1 + KEPT.len() as i32);

const PC: i32 = offset_of!(Context, pc) as i32;
const FUEL_LEFT: i32 = offset_of!(Context, fuel) as i32;

/// The arguments of a function of C.
const ARGS: [Reg; 4] = [Reg(0), Reg(1), Reg(2), Reg(3)];
/// What it gives.
const RESULT: Reg = Reg(0);

/// Where the program's register is kept while Rust runs.
fn saved(number: usize) -> i32 {
    (offset_of!(Context, regs) + 8 * number) as i32
}

/// What is jumped to in rare cases, and stands behind the code.
pub(super) enum Rare {
    /// Makes a short address long and checks again; else asks for the address of an access and goes back.
    Place { back: Label, again: Label, place: Place },
    /// A call or a return that native code does not do. Of a call, what was paid too much is given back.
    Control { at: u32, cost: u32 },
    /// The fuel was less than the jump's price.
    Exhausted { jump: Jump },
}

impl Emitter {
    /// Writes the rare cases.
    pub(super) fn rare_cases(&mut self) {
        for (label, rare) in std::mem::take(&mut self.rare) {
            self.asm.bind(label);
            match rare {
                Rare::Place { back, again, place } => {
                    // With an upper half, which is that of the space, it does not come here a second time for being short.
                    let long = self.asm.label();
                    self.asm.shift_imm(Two::Lsr, Bits::B64, X11, X10, 32);
                    self.asm.jump_if(When::NotZero(Bits::B64, X11), long);
                    self.asm.logic_shifted(Logic::Or, Bits::B64, X10, X10, UPPER_HALF, 32);
                    self.asm.jump(again);
                    self.asm.bind(long);
                    // As the program has it: that is what an error names.
                    self.address(place);
                    self.asm.mov_imm(X9, reach(place.size.len_bytes(), place.access).into());
                    self.asm.mov_imm(X11, place.at.into());
                    self.asm.call(self.place);
                    self.asm.jump(back);
                }
                Rare::Control { at, cost } => {
                    if cost != 0 {
                        self.sum_imm(Sum::Add, Bits::B64, FUEL, FUEL, cost.into());
                    }
                    self.asm.mov_imm(X9, at.into());
                    self.asm.jump(self.control);
                }
                Rare::Exhausted { jump } => {
                    // Nothing was paid.
                    self.sum_imm(Sum::Add, Bits::B64, FUEL, FUEL, jump.cost.into());
                    self.asm.mov_imm(X9, jump.at.into());
                    self.asm.store(Len::B8, CONTEXT, PC, X9);
                    self.asm.jump(self.leave);
                }
            }
        }
    }

    fn save(&mut self, regs: std::ops::Range<usize>) {
        for number in regs {
            self.asm.store(Len::B8, CONTEXT, saved(number), REGS[number]);
        }
    }

    fn restore(&mut self, regs: std::ops::Range<usize>) {
        for number in regs {
            self.asm.load(Len::B8, REGS[number], CONTEXT, saved(number));
        }
    }

    /// With the other arguments in place.
    fn call_rust(&mut self, function: u64) {
        self.asm.store(Len::B8, CONTEXT, FUEL_LEFT, FUEL);
        self.asm.mov(Bits::B64, ARGS[0], CONTEXT);
        self.asm.mov_imm(FAR, function);
        self.asm.call_reg(FAR);
        self.asm.load(Len::B8, FUEL, CONTEXT, FUEL_LEFT);
    }

    /// The shared pieces: how the code is entered and left, and how it calls Rust.
    pub(super) fn shared(&mut self, enter: Label) {
        let entries = Entries::new();
        let (resume, stop) = (self.asm.label(), self.asm.label());

        // A function of C: the context, and where to start.
        self.asm.bind(enter);
        self.asm.push_pair(FP, LINK, KEPT_BYTES);
        self.asm.mov_from_sp(FP);
        for (index, (a, b)) in (1..).zip(KEPT) {
            self.asm.store_pair(a, b, SP, 16 * index);
        }
        self.asm.mov(Bits::B64, CONTEXT, ARGS[0]);
        self.asm.load(Len::B8, CPU, CONTEXT, offset_of!(Context, cpu) as i32);
        self.asm.load(Len::B8, TABLE, CONTEXT, offset_of!(Context, table) as i32);
        self.asm.load(Len::B8, UPPER_HALF, CONTEXT, offset_of!(Context, base) as i32);
        self.asm.shift_imm(Two::Lsr, Bits::B64, UPPER_HALF, UPPER_HALF, 32);
        self.asm.load(Len::B8, FUEL, CONTEXT, FUEL_LEFT);
        self.asm.mov(Bits::B64, RESULT, ARGS[1]);
        // In x0 is where to go on.
        self.asm.bind(resume);
        self.asm.mov(Bits::B64, FAR, RESULT);
        self.restore(0..REGS.len());
        self.asm.jump_reg(FAR);

        // Jumped to with the slot in x9.
        self.asm.bind(self.control);
        self.save(0..REGS.len());
        self.asm.mov(Bits::B32, ARGS[1], X9);
        self.call_rust(entries.step);
        self.asm.jump(resume);

        // Called with the slot in x9.
        self.asm.bind(self.helper);
        self.asm.push_pair(FP, LINK, 16);
        self.asm.mov_from_sp(FP);
        self.save(1..6);
        self.asm.mov(Bits::B32, ARGS[1], X9);
        self.call_rust(entries.helper);
        self.asm.jump_if(When::NotZero(Bits::B64, RESULT), stop);
        self.restore(0..6);
        self.asm.pop_pair(FP, LINK, 16);
        self.asm.ret();

        // Called with the address in x10, the reach in x9 and the slot in x11.
        self.asm.bind(self.place);
        self.asm.push_pair(FP, LINK, 16);
        self.asm.mov_from_sp(FP);
        self.save(0..6);
        self.asm.mov(Bits::B64, ARGS[1], X10);
        self.asm.mov(Bits::B32, ARGS[2], X9);
        self.asm.mov(Bits::B32, ARGS[3], X11);
        self.call_rust(entries.place);
        self.asm.mov(Bits::B64, X10, RESULT);
        self.asm.jump_if(When::Zero(Bits::B64, RESULT), stop);
        self.restore(0..6);
        self.asm.pop_pair(FP, LINK, 16);
        self.asm.ret();

        // Out of a piece that was called.
        self.asm.bind(stop);
        self.asm.pop_pair(FP, LINK, 16);
        // With the stack as it is while a program runs.
        self.asm.bind(self.leave);
        self.asm.store(Len::B8, CONTEXT, FUEL_LEFT, FUEL);
        for (index, (a, b)) in (1..).zip(KEPT) {
            self.asm.load_pair(a, b, SP, 16 * index);
        }
        self.asm.pop_pair(FP, LINK, KEPT_BYTES);
        // The outcome stands in the context: returns are Rust's work here.
        self.asm.mov_imm(RESULT, 0);
        self.asm.ret();
    }
}
