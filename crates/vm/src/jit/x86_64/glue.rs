//! What stands behind the code of a program: its rare cases, and the shared pieces by which it is entered, is left, and calls Rust.
//!
//! The stack is at a multiple of 16 while a program runs. The pieces are called with numbers in r9 to r11, save registers in the context, and
//! call functions of [`native`](crate::jit::native) with the context in rdi, as C does.

use std::mem::offset_of;

use super::asm::{
    Arith, Bits, Cc, Label, Mem, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, Reg, Shift,
    at,
};
use super::emit::{
    BASE, CPU, Emitter, HERE, MAY_READ, MAY_WRITE, REGS, STACK, TABLE, WINDOW_START, field, reg, writes,
};
use super::lookup::{Find, Nothing, Walk};
use crate::jit::native::{Context, Entries, RETURNED, reach};
use crate::jit::{Jump, Place};
use crate::options::Reach;

/// The registers that hold r6 to r10, and the fuel. A function of C gives them back as they were, and so must this code.
const KEPT: [Reg; 6] = [RBX, R13, R14, R15, RBP, R12];

const PC: usize = offset_of!(Context, pc);

const FUEL: usize = offset_of!(Context, fuel);

/// Where the program's register is kept while Rust runs; the context is in r11.
fn saved(number: usize) -> Mem {
    field(R11, offset_of!(Context, regs) + 8 * number)
}

/// What is jumped to in rare cases, and stands behind the code.
pub(super) enum Rare {
    /// An access outside of the last window.
    Place { back: Label, place: Place },
    /// An atomic access at an address that is no multiple of its size: stops the program.
    Misaligned { place: Place },
    /// A lookup that found nothing.
    Nothing(Nothing),
    /// A lookup in a hash map at the end of a list, or at an element that somebody fills.
    End { nothing: Nothing, ask: Label },
    /// A lookup in a hash map whose first element has another key.
    Walk(Walk),
    /// A lookup in a hash map that the code does not finish.
    Find { back: Label, find: Find },
    /// A call or a return that native code does not do. Of a call, what was paid too much is given back.
    Control { at: u32, cost: u32 },
    /// A jump that is to be paid.
    Pays { jump: Jump, target: Label },
    /// The fuel was less than the jump's price.
    Exhausted { jump: Jump },
}

impl Emitter {
    /// Writes the rare cases.
    pub(super) fn rare_cases(&mut self) {
        // Some have rare cases of their own.
        while let Some((label, rare)) = self.rare.pop() {
            let asm = &mut self.asm;
            asm.bind(label);
            match rare {
                Rare::Place { back, place } => {
                    asm.mov_imm(R9, reach(place.size.len_bytes(), place.access).into());
                    asm.mov_imm(R11, place.at.into());
                    asm.call(self.outside[usize::from(writes(place.access))]);
                    asm.jmp(back);
                }
                Rare::Misaligned { place } => {
                    asm.lea(Bits::B64, R10, at(reg(place.base), place.off));
                    asm.mov_imm(R9, reach(place.size.len_bytes(), place.access).into());
                    asm.mov_imm(R11, place.at.into());
                    // Which does not come back: no rule allows such an access.
                    asm.call(self.place);
                    asm.jmp(self.leave);
                }
                Rare::Nothing(nothing) => self.found_nothing(nothing),
                Rare::End { nothing, ask } => self.at_end(nothing, ask),
                Rare::Walk(walk) => self.walk(walk),
                Rare::Find { back, find } => self.ask_for_value(find, back),
                Rare::Control { at, cost } => {
                    if cost != 0 {
                        asm.arith_imm(Arith::Add, Bits::B64, R12, cost as i32);
                    }
                    asm.mov_imm(R9, at.into());
                    asm.jmp(self.control);
                }
                Rare::Pays { jump, target } => self.pay_and_go(jump, target),
                Rare::Exhausted { jump } => {
                    // Nothing was paid.
                    asm.arith_imm(Arith::Add, Bits::B64, R12, jump.cost as i32);
                    asm.load(Bits::B64, R11, at(RSP, HERE));
                    asm.store(Bits::B64, field(R11, FUEL), R12);
                    asm.store_imm(Bits::B64, field(R11, PC), jump.at as i32);
                    asm.jmp(self.leave);
                }
            }
        }
    }

    pub(super) fn save(&mut self, regs: std::ops::Range<usize>) {
        for number in regs {
            self.asm.store(Bits::B64, saved(number), REGS[number]);
        }
    }

    pub(super) fn restore(&mut self, regs: std::ops::Range<usize>) {
        for number in regs {
            self.asm.load(Bits::B64, REGS[number], saved(number));
        }
    }

    /// Calls a function of Rust with the context, which is in r11.
    pub(super) fn call_rust(&mut self, function: u64) {
        self.asm.mov(Bits::B64, RDI, R11);
        self.asm.mov_imm(R11, function);
        self.asm.call_reg(R11);
    }

    /// Takes the context into r11; `below` is how far the stack is below where it is while a program runs.
    fn context(&mut self, below: i32) {
        self.asm.load(Bits::B64, R11, at(RSP, below + HERE));
    }

    /// Whether the code uses a register of the program.
    pub(super) fn uses(&self, number: usize) -> bool {
        self.used >> number & 1 != 0
    }

    /// Those that the code uses of the registers that it has to give back.
    fn kept(&self) -> Vec<Reg> {
        let used = |(reg, number): &(Reg, usize)| *number > 10 || self.uses(*number) || self.base == Some(*reg);
        KEPT.into_iter().zip(6..).filter(used).map(|(reg, _)| reg).collect()
    }

    /// Bytes on the stack, below what is kept: with that and the return address a multiple of 16.
    fn stack_bytes(&self) -> i32 {
        STACK + if self.kept().len().is_multiple_of(2) { 8 } else { 0 }
    }

    /// Makes the stack ready, with the context from rdi.
    fn open(&mut self) {
        for reg in self.kept() {
            self.asm.push(reg);
        }
        self.asm.arith_imm(Arith::Sub, Bits::B64, RSP, self.stack_bytes());
        self.asm.store(Bits::B64, at(RSP, HERE), RDI);
        let masks = self.reach == Reach::Masked;
        let copied = [
            (BASE, offset_of!(Context, base), self.checks() || masks && self.base.is_none()),
            (TABLE, offset_of!(Context, table), self.checks()),
            (CPU, offset_of!(Context, cpu), self.asks_cpu),
        ];
        for (to, from, _) in copied.into_iter().filter(|(.., wanted)| *wanted) {
            self.asm.load(Bits::B64, R9, field(RDI, from));
            self.asm.store(Bits::B64, at(RSP, to), R9);
        }
        if let Some(base) = self.base {
            self.asm.load(Bits::B64, base, field(RDI, offset_of!(Context, base)));
        }
    }

    /// How the first function is entered: `(context, r1, r2)`. All registers are known; those that nobody reads have whatever they have.
    pub(super) fn begin(&mut self, begin: Label) {
        self.asm.bind(begin);
        self.open();
        self.forget_window(0);
        self.asm.load(Bits::B64, R12, field(RDI, FUEL));
        if self.uses(10) {
            self.asm.load(Bits::B64, RBP, field(RDI, offset_of!(Context, first_frame)));
        }
        self.asm.mov(Bits::B64, RDI, RSI);
        self.asm.mov(Bits::B64, RSI, RDX);
        for number in [0, 3, 4, 5, 6, 7, 8, 9] {
            if self.read_at_start >> number & 1 != 0 {
                self.asm.mov_imm(REGS[number], 0);
            }
        }
        self.asm.jmp(self.slots[0]);
    }

    /// The shared pieces: how the code is entered and left, and how it calls Rust.
    pub(super) fn shared(&mut self, enter: Label) {
        let entries = Entries::new();
        let (resume, stop) = (self.asm.label(), self.asm.label());
        let fuel = field(R11, FUEL);

        // A function of C: the context, and where to start.
        self.asm.bind(enter);
        self.open();
        self.asm.mov(Bits::B64, RAX, RSI);
        // In rax is where to go on.
        self.asm.bind(resume);
        self.asm.mov(Bits::B64, R9, RAX);
        self.context(0);
        self.forget_window(0);
        self.asm.load(Bits::B64, R12, fuel);
        self.restore(0..6);
        for number in (6..REGS.len()).filter(|number| self.uses(*number)).collect::<Vec<_>>() {
            self.restore(number..number + 1);
        }
        self.asm.jmp_reg(R9);

        // Called with the slot in r9, never comes back there.
        self.asm.bind(self.control);
        self.context(0);
        self.asm.store(Bits::B64, fuel, R12);
        self.save(0..REGS.len());
        self.asm.mov(Bits::B32, RSI, R9);
        self.call_rust(entries.step);
        self.asm.jmp(resume);

        // Called with the slot in r9.
        self.asm.bind(self.helper);
        self.asm.arith_imm(Arith::Sub, Bits::B64, RSP, 8);
        self.context(16);
        self.asm.store(Bits::B64, fuel, R12);
        self.save(1..6);
        self.asm.mov(Bits::B32, RSI, R9);
        self.call_rust(entries.helper);
        self.asm.test(Bits::B64, RAX, RAX);
        self.asm.jcc(Cc::NOT_EQUAL, stop);
        self.context(16);
        self.asm.load(Bits::B64, R12, fuel);
        self.restore(0..6);
        self.forget_window(16);
        self.asm.arith_imm(Arith::Add, Bits::B64, RSP, 8);
        self.asm.ret();

        // Called with the address in r10, the reach in r9 and the slot in r11.
        self.asm.bind(self.place);
        self.asm.push(R11);
        self.context(16);
        self.asm.store(Bits::B64, fuel, R12);
        self.save(0..6);
        self.asm.mov(Bits::B64, RSI, R10);
        self.asm.mov(Bits::B32, RDX, R9);
        self.asm.load(Bits::B32, RCX, at(RSP, 0));
        self.call_rust(entries.place);
        self.asm.mov(Bits::B64, R10, RAX);
        self.asm.test(Bits::B64, RAX, RAX);
        self.asm.jcc(Cc::EQUAL, stop);
        self.context(16);
        self.restore(0..6);
        self.asm.arith_imm(Arith::Add, Bits::B64, RSP, 8);
        self.asm.ret();

        if self.checks() {
            self.outside(false);
            self.outside(true);
        }

        // Where an access that found no memory goes on, with its place in r11.
        if let Some(fault) = self.fault {
            self.asm.bind(fault);
            self.asm.mov(Bits::B64, R9, R11);
            self.context(0);
            self.asm.store(Bits::B64, fuel, R12);
            self.save(0..REGS.len());
            self.asm.mov(Bits::B64, RSI, R9);
            self.call_rust(entries.fault);
            self.asm.jmp(self.leave);
        }

        // Out of a piece that was called.
        self.asm.bind(stop);
        self.asm.arith_imm(Arith::Add, Bits::B64, RSP, 16);
        // With the stack as it is while a program runs.
        let out = self.asm.label();
        self.asm.bind(self.leave);
        self.asm.mov_imm(RAX, 0);
        self.asm.jmp(out);
        self.asm.bind(self.returned);
        self.context(0);
        self.asm.store(Bits::B64, fuel, R12);
        self.save(0..1);
        self.asm.mov_imm(RAX, RETURNED);
        self.asm.bind(out);
        self.asm.arith_imm(Arith::Add, Bits::B64, RSP, self.stack_bytes());
        for reg in self.kept().into_iter().rev() {
            self.asm.pop(reg);
        }
        self.asm.ret();
    }

    /// Windows may have changed; `below` is as for [`Emitter::context`].
    pub(super) fn forget_window(&mut self, below: i32) {
        if self.checks() {
            self.asm.store_imm(Bits::B64, at(RSP, below + MAY_READ), 0);
            self.asm.store_imm(Bits::B64, at(RSP, below + MAY_WRITE), 0);
        }
    }

    /// Checks an access outside of the last window, and makes its window the last one. Called with the address in r10, the reach in r9 and the slot in
    /// r11; gives the true address in r10, or stops the program.
    ///
    /// The slot of the address is the distance from the base in units of 64 KiB; with more than 65,535 of them it is another
    /// place, or short. In the entry, the lower half is the end; the upper one is the start in its 16 bits, and more than any place in a
    /// slot in its 32 bits where programs may only read.
    fn outside(&mut self, writes: bool) {
        // The return address, and four registers.
        const BELOW: i32 = 40;
        let asm = &mut self.asm;
        let (again, other, long) = (asm.label(), asm.label(), asm.label());
        let (done, read_only) = (asm.label(), asm.label());
        asm.bind(self.outside[usize::from(writes)]);
        for reg in [R10, R11, R9, RAX] {
            asm.push(reg);
        }
        asm.bind(again);
        asm.mov(Bits::B64, R11, R10);
        asm.arith_from(Arith::Sub, Bits::B64, R11, at(RSP, BELOW + BASE));
        asm.shift_imm(Shift::Shr, Bits::B64, R11, 16);
        asm.arith_imm(Arith::Cmp, Bits::B64, R11, 0xffff);
        asm.jcc(Cc::ABOVE, other);
        asm.load(Bits::B64, R9, at(RSP, BELOW + TABLE));
        asm.lea(Bits::B64, R11, Mem { base: R9, index: Some((R11, 3)), disp: 0 });
        asm.zero_extend16(R9, R10);
        asm.arith_from(Arith::Cmp, if writes { Bits::B32 } else { Bits::B16 }, R9, at(R11, 4));
        asm.jcc(Cc::BELOW, other);
        // The length is the lowest byte of the reach; none is aligned yet, if it has to be.
        asm.load(Bits::B8, RAX, at(RSP, 8));
        asm.arith(Arith::Add, Bits::B32, R9, RAX);
        asm.arith_from(Arith::Cmp, Bits::B32, R9, at(R11, 0));
        asm.jcc(Cc::ABOVE, other);
        asm.test_imm(Bits::B32, R10, 7);
        let aligned = asm.label();
        asm.jcc(Cc::EQUAL, aligned);
        // Atomic, as the second bit of the kind of access says: Rust looks.
        asm.load(Bits::B8, R9, at(RSP, 9));
        asm.test_imm(Bits::B32, R9, 2);
        asm.jcc(Cc::NOT_EQUAL, other);
        asm.bind(aligned);
        asm.load(Bits::B32, R9, at(R11, 0));
        asm.load(Bits::B16, RAX, at(R11, 4));
        // While the entry changes it may seem to end before it starts.
        asm.arith(Arith::Sub, Bits::B32, R9, RAX);
        asm.jcc(Cc::BELOW, done);
        asm.arith_imm(Arith::Sub, Bits::B32, R9, 7);
        asm.jcc(Cc::BELOW_EQUAL, done);
        asm.store(Bits::B64, at(RSP, BELOW + MAY_READ), R9);
        asm.arith_imm(Arith::Cmp, Bits::B32, at(R11, 4), 0);
        asm.jcc(Cc::GREATER_EQUAL, read_only);
        asm.mov_imm(R9, 0);
        asm.bind(read_only);
        asm.store(Bits::B64, at(RSP, BELOW + MAY_WRITE), R9);
        asm.mov(Bits::B64, R9, R10);
        asm.shift_imm(Shift::Shr, Bits::B64, R9, 16);
        asm.shift_imm(Shift::Shl, Bits::B64, R9, 16);
        asm.arith(Arith::Add, Bits::B64, R9, RAX);
        asm.store(Bits::B64, at(RSP, BELOW + WINDOW_START), R9);
        asm.bind(done);
        asm.pop(RAX);
        asm.arith_imm(Arith::Add, Bits::B64, RSP, 24);
        asm.ret();

        asm.bind(other);
        // With an upper half, which is that of the space, it does not come here a second time for being short.
        asm.mov(Bits::B64, R11, R10);
        asm.shift_imm(Shift::Shr, Bits::B64, R11, 32);
        asm.jcc(Cc::NOT_EQUAL, long);
        asm.arith_from(Arith::Or, Bits::B64, R10, at(RSP, BELOW + BASE));
        asm.jmp(again);
        asm.bind(long);
        // The address as the program has it: that is what an error names.
        for reg in [RAX, R9, R11, R10] {
            asm.pop(reg);
        }
        asm.jmp(self.place);
    }
}
