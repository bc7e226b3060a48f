//! Operations to instructions.
//!
//! # Registers
//!
//! | program | processor | |
//! |---|---|---|
//! | r0 | x5 | |
//! | r1 to r5 | x0 to x4 | as C passes arguments |
//! | r6 to r9 | x19 to x22 | kept by functions of C |
//! | r10 | x23 | likewise |
//! | | x9 to x14 | for one operation |
//! | | x16 | for jumps that are far |
//! | | x24 | the [`Context`] |
//! | | x25 | the [`Cpu`](crate::Cpu) |
//! | | x26 | the table of the space |
//! | | x27 | the upper half of the space's addresses |
//! | | x28 | the fuel, which the context has while Rust runs |
//!
//! x10 is the address of a checked access.

use std::mem::offset_of;

use skep_insn::{AluOp, AtomicOp, Cond, LoadType, Size, Width};

use super::asm::{Asm, Bits, Cc, Label, Len, Logic, Reach, Reg, Rmw, Sum, Two, When, Written, ZERO};
use super::glue::Rare;
use crate::Access;
use crate::jit::copy::Copied;
use crate::jit::native::Context;
use crate::jit::{Assembled, Backend, Call, Jump, Place, Plan, Rotation, Source};
use crate::op::{Code, Op};

/// The registers of r0 to r10.
pub(super) const REGS: [Reg; 11] =
    [Reg(5), Reg(0), Reg(1), Reg(2), Reg(3), Reg(4), Reg(19), Reg(20), Reg(21), Reg(22), FRAME];
/// r10.
pub(super) const FRAME: Reg = Reg(23);

pub(super) const X9: Reg = Reg(9);
/// The address of a checked access.
pub(super) const X10: Reg = Reg(10);
pub(super) const X11: Reg = Reg(11);
pub(super) const X12: Reg = Reg(12);
const X13: Reg = Reg(13);
const X14: Reg = Reg(14);

pub(super) const CONTEXT: Reg = Reg(24);
pub(super) const CPU: Reg = Reg(25);
pub(super) const TABLE: Reg = Reg(26);
pub(super) const UPPER_HALF: Reg = Reg(27);
pub(super) const FUEL: Reg = Reg(28);

/// In the context.
pub(super) const MAY_GOTO: i32 = offset_of!(Context, may_goto) as i32;

/// The program's register.
pub(super) fn reg(number: u8) -> Reg {
    // Loading knows no other numbers than 0 to 10.
    REGS.get(usize::from(number)).copied().unwrap_or(FRAME)
}

fn bits(width: Width) -> Bits {
    match width {
        Width::W32 => Bits::B32,
        Width::W64 => Bits::B64,
    }
}

fn len(size: Size) -> Len {
    match size {
        Size::B => Len::B1,
        Size::H => Len::B2,
        Size::W => Len::B4,
        Size::Dw => Len::B8,
    }
}

/// An immediate with the sign as 64 bits.
fn extended(imm: i32) -> u64 {
    i64::from(imm) as u64
}

/// Writes the code of a program.
pub(in crate::jit) struct Emitter {
    pub(super) asm: Asm,
    pub(super) slots: Vec<Label>,
    pub(super) rare: Vec<(Label, Rare)>,
    pub(super) helper: Label,
    pub(super) control: Label,
    pub(super) place: Label,
    pub(super) leave: Label,
    /// Whether the processor has atomic instructions (ARMv8.1).
    lse: bool,
    /// Whether loads and stores are not checked.
    plain: bool,
    metered: bool,
    /// While a function is copied.
    copied: Option<Copied<Label>>,
}

impl Emitter {
    /// For the processor that this runs on.
    pub(in crate::jit) fn new(slots: usize) -> Emitter {
        Emitter::with(slots, std::arch::is_aarch64_feature_detected!("lse"), Reach::TRUE)
    }

    pub(super) fn with(slots: usize, lse: bool, reach: Reach) -> Emitter {
        let mut asm = Asm::new(reach);
        Emitter {
            slots: (0..slots).map(|_| asm.label()).collect(),
            rare: Vec::new(),
            helper: asm.label(),
            control: asm.label(),
            place: asm.label(),
            leave: asm.label(),
            asm,
            lse,
            plain: false,
            metered: true,
            copied: None,
        }
    }

    pub(super) fn rare(&mut self, what: Rare) -> Label {
        let label = self.asm.label();
        self.rare.push((label, what));
        label
    }

    /// The register of an operand; an immediate gets into x9.
    fn operand(&mut self, src: Source) -> Reg {
        match src {
            Source::Reg(src) => reg(src),
            Source::Imm(0) => ZERO,
            Source::Imm(imm) => {
                self.asm.mov_imm(X9, extended(imm));
                X9
            }
        }
    }

    /// `op to, a, imm`; a number without an immediate form gets into x9.
    pub(super) fn sum_imm(&mut self, op: Sum, bits: Bits, to: Reg, a: Reg, imm: i64) {
        if !self.asm.sum_imm(op, bits, to, a, imm) {
            self.asm.mov_imm(X9, imm as u64);
            self.asm.sum(op, bits, to, a, X9);
        }
    }

    fn sum(&mut self, op: Sum, bits: Bits, to: Reg, dst: Reg, src: Source) {
        match src {
            Source::Reg(src) => self.asm.sum(op, bits, to, dst, reg(src)),
            Source::Imm(imm) => self.sum_imm(op, bits, to, dst, imm.into()),
        }
    }

    fn logic(&mut self, op: Logic, bits: Bits, to: Reg, dst: Reg, src: Source) {
        if let Source::Imm(imm) = src
            && self.asm.logic_imm(op, bits, to, dst, extended(imm))
        {
            return;
        }
        let src = self.operand(src);
        self.asm.logic(op, bits, to, dst, src);
    }

    fn shift(&mut self, op: Two, width: Width, dst: Reg, src: Source) {
        match src {
            // The processor takes the count modulo the width, too.
            Source::Reg(by) => self.asm.two(op, bits(width), dst, dst, reg(by)),
            Source::Imm(imm) => {
                let by = imm as u32 & if width == Width::W32 { 31 } else { 63 };
                // By nothing: what is left is to clear the upper half.
                if (by, width) != (0, Width::W64) {
                    self.asm.shift_imm(op, bits(width), dst, dst, by);
                }
            }
        }
    }

    /// Quotient or remainder. The processor gives 0 for a division by 0, and the smallest number divided by -1 is itself: what the
    /// program wants; and the remainder is the dividend without as many divisors as the quotient says, whatever it is.
    fn divide(&mut self, signed: bool, remainder: bool, width: Width, dst: Reg, src: Source) {
        let power = match src {
            Source::Imm(imm) if !signed && imm > 0 && imm & (imm - 1) == 0 => Some(imm),
            _ => None,
        };
        match (power, remainder) {
            (Some(power), true) => return self.logic(Logic::And, bits(width), dst, dst, Source::Imm(power - 1)),
            (Some(power), false) => {
                return self.shift(Two::Lsr, width, dst, Source::Imm(power.trailing_zeros() as i32));
            }
            (None, _) => {}
        }
        let by = self.operand(src);
        let (op, bits) = (if signed { Two::Sdiv } else { Two::Udiv }, bits(width));
        if remainder {
            self.asm.two(op, bits, X10, dst, by);
            self.asm.multiply_sub(bits, dst, X10, by, dst);
        } else {
            self.asm.two(op, bits, dst, dst, by);
        }
    }

    /// The address of an access to x10.
    pub(super) fn address(&mut self, place: Place) {
        self.sum_imm(Sum::Add, Bits::B64, X10, reg(place.base), place.off.into());
    }

    /// Checks an access; what is accessed is at base + displacement.
    ///
    /// The slot of the address is in its bits 16 to 31, and its upper half must be that of the space. In the entry, the lower half is the
    /// end; the upper one is the start in its 16 bits, and more than any place in a slot in its 32 bits where programs may only read. Each
    /// comparison happens only if those before it went well; else the flags say that it went wrong, so that one jump decides.
    fn checked(&mut self, place: Place) -> (Reg, i32) {
        // Of atomic accesses the address is checked all the same: a wrong one is a signal on this processor.
        if place.known || self.plain && matches!(place.access, Access::Read | Access::Write) {
            if Asm::reaches(len(place.size), place.off) {
                return (reg(place.base), place.off);
            }
            self.address(place);
            return (X10, 0);
        }
        let bytes = place.size.len_bytes();
        let back = self.asm.label();
        let again = self.asm.label();
        let ask = self.rare(Rare::Place { back, again, place });
        self.address(place);
        self.asm.bind(again);
        self.asm.extract(X11, X10, 16, 16);
        self.asm.load_indexed(X12, TABLE, X11);
        self.asm.zero_extend16(X9, X10);
        self.sum_imm(Sum::Add, Bits::B32, X14, X9, bytes.into());
        let asm = &mut self.asm;
        match place.access {
            Access::Read | Access::AtomicRead => asm.extract(X13, X12, 32, 16),
            Access::Write | Access::Atomic => asm.extract(X13, X12, 32, 32),
        }
        asm.compare_shifted(UPPER_HALF, X10, 32);
        // Below; and above.
        asm.compare_if(Cc::EQUAL, Bits::B32, X9, X13, 0b0000);
        asm.compare_if(Cc::ABOVE_EQUAL, Bits::B32, X14, X12, 0b0010);
        asm.jump_if(When::Flags(Cc::ABOVE), ask);
        if matches!(place.access, Access::Atomic | Access::AtomicRead) && bytes > 1 {
            asm.extract(X11, X10, 0, bytes.trailing_zeros());
            asm.jump_if(When::NotZero(Bits::B64, X11), ask);
        }
        asm.bind(back);
        (X10, 0)
    }

    /// As [`Emitter::checked`], with the whole address in x10.
    fn checked_exactly(&mut self, place: Place) -> Reg {
        if self.checked(place) != (X10, 0) {
            self.address(place);
        }
        X10
    }

    /// In x11 what is in memory, in x12 what `make` makes of it, until nobody else came in between.
    fn exclusive(&mut self, bits: Bits, at: Reg, make: impl FnOnce(&mut Asm) -> Reg) {
        let again = self.asm.label();
        let asm = &mut self.asm;
        asm.bind(again);
        asm.load_exclusive(bits, X11, at);
        let new = make(asm);
        asm.store_exclusive(bits, X13, at, new);
        asm.jump_if(When::NotZero(Bits::B32, X13), again);
        asm.barrier();
    }

    /// `old op src` gets into memory, and `old` into x11.
    fn fetch(&mut self, op: AtomicOp, bits: Bits, at: Reg, src: Reg) {
        if !self.lse {
            return self.exclusive(bits, at, |asm| {
                match op {
                    AtomicOp::Add | AtomicOp::FetchAdd => asm.sum(Sum::Add, bits, X12, X11, src),
                    AtomicOp::Or | AtomicOp::FetchOr => asm.logic(Logic::Or, bits, X12, X11, src),
                    AtomicOp::And | AtomicOp::FetchAnd => asm.logic(Logic::And, bits, X12, X11, src),
                    AtomicOp::Xor | AtomicOp::FetchXor => asm.logic(Logic::Xor, bits, X12, X11, src),
                    AtomicOp::Xchg | AtomicOp::CmpXchg => return src,
                }
                X12
            });
        }
        let (op, src) = match op {
            AtomicOp::Add | AtomicOp::FetchAdd => (Rmw::Add, src),
            AtomicOp::Or | AtomicOp::FetchOr => (Rmw::Or, src),
            AtomicOp::Xor | AtomicOp::FetchXor => (Rmw::Xor, src),
            AtomicOp::Xchg | AtomicOp::CmpXchg => (Rmw::Swap, src),
            AtomicOp::And | AtomicOp::FetchAnd => {
                self.asm.not(bits, X12, src);
                (Rmw::Clear, X12)
            }
        };
        self.asm.rmw(op, bits, at, src, X11);
    }

    /// If r0 is in memory, `src` gets there; r0 becomes what was there.
    fn compare_exchange(&mut self, bits: Bits, at: Reg, src: Reg) {
        let (r0, asm) = (reg(0), &mut self.asm);
        if self.lse {
            asm.compare_and_swap(bits, at, r0, src);
            return;
        }
        let (again, done) = (asm.label(), asm.label());
        asm.bind(again);
        asm.load_exclusive(bits, X11, at);
        asm.sum(Sum::Subs, bits, ZERO, X11, r0);
        asm.jump_if(When::Flags(Cc::NOT_EQUAL), done);
        asm.store_exclusive(bits, X13, at, src);
        asm.jump_if(When::NotZero(Bits::B32, X13), again);
        asm.bind(done);
        asm.barrier();
        asm.mov(Bits::B64, r0, X11);
    }

    /// Sets the flags, and says which of them make `dst cond src`.
    fn compare(&mut self, cond: Cond, width: Width, dst: u8, src: Source) -> Cc {
        let (dst, bits) = (reg(dst), bits(width));
        match cond {
            Cond::Set => self.logic(Logic::Ands, bits, ZERO, dst, src),
            _ => self.sum(Sum::Subs, bits, ZERO, dst, src),
        }
        match cond {
            Cond::Eq => Cc::EQUAL,
            Cond::Ne | Cond::Set => Cc::NOT_EQUAL,
            Cond::Gt => Cc::ABOVE,
            Cond::Ge => Cc::ABOVE_EQUAL,
            Cond::Lt => Cc::BELOW,
            Cond::Le => Cc::BELOW_EQUAL,
            Cond::SGt => Cc::GREATER,
            Cond::SGe => Cc::GREATER_EQUAL,
            Cond::SLt => Cc::LESS,
            Cond::SLe => Cc::LESS_EQUAL,
        }
    }

    /// Jumps there when it should, or always, and pays.
    fn go(&mut self, when: Option<When>, jump: Jump) {
        let target = self.slots[jump.target as usize];
        if jump.cost == 0 || !self.metered {
            match when {
                Some(when) => self.asm.jump_if(when, target),
                None => self.asm.jump(target),
            }
            return;
        }
        let exhausted = self.rare(Rare::Exhausted { jump });
        let on = self.asm.label();
        if let Some(when) = when {
            self.asm.jump_if(when.opposite(), on);
        }
        self.sum_imm(Sum::Subs, Bits::B64, FUEL, FUEL, jump.cost.into());
        self.asm.jump_if(When::Flags(Cc::ABOVE_EQUAL), target);
        self.asm.jump(exhausted);
        self.asm.bind(on);
    }
}

impl Backend for Emitter {
    fn prepare(&mut self, plan: &Plan) {
        self.plain = plan.options.reach == crate::options::Reach::Plain;
        self.metered = plan.options.metered;
    }

    fn copies(&self) -> bool {
        true
    }

    fn begin_copy(&mut self, call: Call, end: u32) {
        self.pay_for_call(call);
        self.copied = Some(Copied::begin(&mut self.slots, call, end, || self.asm.label()));
    }

    fn leave_copy(&mut self) {
        if let Some(copied) = &self.copied {
            self.asm.jump(copied.end);
        }
    }

    fn end_copy(&mut self) {
        if let Some(copied) = self.copied.take() {
            self.asm.bind(copied.end(&mut self.slots));
        }
    }

    fn rotates(&self) -> bool {
        true
    }

    fn rotate(&mut self, rotation: Rotation) {
        let Rotation { width, dst, src, left, .. } = rotation;
        let width_bits = if width == Width::W32 { 32 } else { 64 };
        self.asm.rotate(bits(width), reg(dst), reg(src), width_bits - u32::from(left));
    }

    fn sums(&self) -> bool {
        true
    }

    fn sum(&mut self, width: Width, dst: u8, a: u8, b: Source) {
        self.sum(Sum::Add, bits(width), reg(dst), reg(a), b);
    }

    fn load_sum(&mut self, ty: LoadType, dst: u8, a: u8, b: u8, off: i16) -> bool {
        if self.plain && off == 0 {
            self.asm.load_beside(len(ty.size()), ty.is_signed(), reg(dst), reg(a), reg(b));
        }
        self.plain && off == 0
    }

    fn trusts(&self) -> bool {
        self.plain
    }

    fn slot(&mut self, at: u32) {
        self.asm.bind(self.slots[at as usize]);
    }

    fn alu(&mut self, op: AluOp, width: Width, dst: u8, src: Source) {
        let (dst, bits) = (reg(dst), bits(width));
        match op {
            AluOp::Add => self.sum(Sum::Add, bits, dst, dst, src),
            AluOp::Sub => self.sum(Sum::Sub, bits, dst, dst, src),
            AluOp::Or => self.logic(Logic::Or, bits, dst, dst, src),
            AluOp::And => self.logic(Logic::And, bits, dst, dst, src),
            AluOp::Xor => self.logic(Logic::Xor, bits, dst, dst, src),
            AluOp::Mul => {
                let src = self.operand(src);
                self.asm.multiply_add(bits, dst, dst, src, ZERO);
            }
            AluOp::Lsh => self.shift(Two::Lsl, width, dst, src),
            AluOp::Rsh => self.shift(Two::Lsr, width, dst, src),
            AluOp::Arsh => self.shift(Two::Asr, width, dst, src),
            AluOp::Div => self.divide(false, false, width, dst, src),
            AluOp::SDiv => self.divide(true, false, width, dst, src),
            AluOp::Mod => self.divide(false, true, width, dst, src),
            AluOp::SMod => self.divide(true, true, width, dst, src),
        }
    }

    fn unary(&mut self, code: Code, dst: u8, src: u8, imm: u64) {
        let (dst, src) = (reg(dst), reg(src));
        let asm = &mut self.asm;
        match code {
            Code::Imm => asm.mov_imm(dst, imm),
            Code::Mov64 => asm.mov(Bits::B64, dst, src),
            Code::Mov32 => asm.mov(Bits::B32, dst, src),
            Code::Sx8To32 => asm.sign_extend(Bits::B32, dst, Len::B1, src),
            Code::Sx16To32 => asm.sign_extend(Bits::B32, dst, Len::B2, src),
            Code::Sx8To64 => asm.sign_extend(Bits::B64, dst, Len::B1, src),
            Code::Sx16To64 => asm.sign_extend(Bits::B64, dst, Len::B2, src),
            Code::Sx32To64 => asm.sign_extend(Bits::B64, dst, Len::B4, src),
            Code::Neg64 => asm.sum(Sum::Sub, Bits::B64, dst, ZERO, dst),
            Code::Neg32 => asm.sum(Sum::Sub, Bits::B32, dst, ZERO, dst),
            Code::Zx16 => asm.zero_extend16(dst, dst),
            Code::Zx32 => asm.mov(Bits::B32, dst, dst),
            Code::Swap16 => {
                asm.swap_bytes16(dst);
                asm.zero_extend16(dst, dst);
            }
            Code::Swap32 => asm.swap_bytes(Bits::B32, dst),
            Code::Swap64 => asm.swap_bytes(Bits::B64, dst),
            Code::CastUser => {
                asm.mov_imm(X9, imm);
                asm.mov(Bits::B32, dst, src);
                asm.logic(Logic::Or, Bits::B64, X9, X9, dst);
                asm.sum(Sum::Subs, Bits::B64, ZERO, dst, ZERO);
                asm.select(Cc::NOT_EQUAL, dst, X9, ZERO);
            }
            other => unreachable!("{other:?} is no move"),
        }
    }

    fn load(&mut self, ty: LoadType, dst: u8, from: Place) {
        let (dst, len) = (reg(dst), len(ty.size()));
        if from.access == Access::AtomicRead {
            let at = self.checked_exactly(from);
            return self.asm.load_acquire(len, dst, at);
        }
        let (base, disp) = self.checked(from);
        if ty.is_signed() {
            self.asm.load_signed(len, dst, base, disp);
        } else {
            self.asm.load(len, dst, base, disp);
        }
    }

    fn store(&mut self, to: Place, src: Source) {
        let len = len(to.size);
        if to.access == Access::Atomic {
            let at = self.checked_exactly(to);
            let src = self.operand(src);
            return self.asm.store_release(len, at, src);
        }
        let (base, disp) = self.checked(to);
        let src = self.operand(src);
        self.asm.store(len, base, disp, src);
    }

    fn atomic(&mut self, op: AtomicOp, width: Width, on: Place, src: u8) {
        let (src, bits) = (reg(src), bits(width));
        let at = self.checked_exactly(on);
        match op {
            AtomicOp::CmpXchg => self.compare_exchange(bits, at, src),
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => self.fetch(op, bits, at, src),
            AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
                self.fetch(op, bits, at, src);
                // What was loaded has zeros in its upper half.
                self.asm.mov(Bits::B64, src, X11);
            }
        }
    }

    fn jump(&mut self, jump: Jump) {
        self.go(None, jump);
    }

    fn pays(&self) -> bool {
        true
    }

    fn pay(&mut self, jump: Jump) {
        if self.metered {
            let exhausted = self.rare(Rare::Exhausted { jump });
            self.sum_imm(Sum::Subs, Bits::B64, FUEL, FUEL, jump.cost.into());
            self.asm.jump_if(When::Flags(Cc::BELOW), exhausted);
        }
    }

    fn branch(&mut self, cond: Cond, width: Width, dst: u8, src: Source, jump: Jump) {
        let when = match (cond, src) {
            (Cond::Eq, Source::Imm(0)) => When::Zero(bits(width), reg(dst)),
            (Cond::Ne, Source::Imm(0)) => When::NotZero(bits(width), reg(dst)),
            _ => When::Flags(self.compare(cond, width, dst, src)),
        };
        self.go(Some(when), jump);
    }

    fn selects(&self) -> bool {
        true
    }

    fn select(&mut self, cond: Cond, width: Width, dst: u8, src: Source, copy: &Op) {
        let cc = self.compare(cond, width, dst, src);
        let to = reg(copy.dst);
        self.asm.select(cc, to, to, reg(copy.src));
    }

    fn may_goto(&mut self, jump: Jump) {
        let on = self.asm.label();
        self.asm.load(Len::B8, X10, CONTEXT, MAY_GOTO);
        self.asm.load(Len::B4, X11, X10, 0);
        self.asm.jump_if(When::NotZero(Bits::B32, X11), on);
        self.go(None, jump);
        self.asm.bind(on);
        self.sum_imm(Sum::Sub, Bits::B32, X11, X11, 1);
        self.asm.store(Len::B4, X10, 0, X11);
    }

    fn helper(&mut self, at: u32) {
        self.asm.mov_imm(X9, at.into());
        self.asm.call(self.helper);
    }

    fn call(&mut self, call: Call) {
        self.enter_function(call);
    }

    fn exit(&mut self, at: u32) {
        self.leave_function(at);
    }

    fn control(&mut self, at: u32) {
        self.asm.mov_imm(X9, at.into());
        self.asm.jump(self.control);
    }

    fn finish(mut self) -> Assembled {
        self.rare_cases();
        let enter = self.asm.label();
        self.shared(enter);
        let Emitter { asm, slots, leave, .. } = self;
        let written: Written = asm.finish();
        let places = slots.iter().map(|slot| written.place(*slot)).collect();
        let (enter, leave) = (written.place(enter), written.place(leave));
        Assembled { code: written.code, places, enter, leave, begin: None }
    }
}
