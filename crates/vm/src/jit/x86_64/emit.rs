//! Operations to instructions.
//!
//! # Registers
//!
//! | program | processor | |
//! |---|---|---|
//! | r0 | rax | |
//! | r1 to r5 | rdi, rsi, rdx, rcx, r8 | as C passes arguments |
//! | r6 to r9 | rbx, r13, r14, r15 | kept by functions of C |
//! | r10 | rbp | likewise |
//! | | r9, r10, r11 | for one operation |
//! | | r12 | the fuel that is left |
//!
//! The stack has what is wanted often: the [`Context`], and copies of what does not change in it (`HERE` and those behind it). The fuel is in
//! the context while Rust runs. Code that masks has the base of the space in a register of r6 to r10 that the program does not name, if there
//! is one.
//!
//! r10 is the address of a checked access. Division has its operands in rax and rdx, shifts by a register (without BMI2) their count in
//! rcx: what these hold is kept in r9 to r11 meanwhile.

use std::mem::offset_of;

use skep_insn::{AluOp, AtomicOp, Cond, LoadType, Size, Width};

use super::asm::{
    Arith, Asm, Bits, Cc, Label, Mem, R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP,
    Reg, Shift, Unary, at,
};
use super::glue::Rare;
use super::lookup::Way;
use crate::jit::copy::Copied;
use crate::jit::native::Context;
use crate::jit::{Assembled, Backend, Call, Jump, Lookup, Place, Plan, Rotation, Source};
use crate::op::{Code, Op};
use crate::options::Reach;
use crate::{Access, Map};

/// The registers of r0 to r10.
pub(super) const REGS: [Reg; 11] = [RAX, RDI, RSI, RDX, RCX, R8, RBX, R13, R14, R15, RBP];

pub(super) const MAY_GOTO: usize = offset_of!(Context, may_goto);

/// On the stack, from its pointer: the context.
pub(super) const HERE: i32 = 0;
/// The base of the space.
pub(super) const BASE: i32 = 8;
/// The table of the space.
pub(super) const TABLE: i32 = 16;
/// The processor.
pub(super) const CPU: i32 = 24;
/// Where one operation may keep a register meanwhile.
pub(super) const SPARE: i32 = 32;
/// The window of the last access: its start, and how many first bytes an access of 8 bytes that reads or writes may have in it; 0 when
/// none may.
pub(super) const WINDOW_START: i32 = 40;
pub(super) const MAY_READ: i32 = 48;
pub(super) const MAY_WRITE: i32 = 56;
/// All of that, a multiple of 16.
pub(super) const STACK: i32 = 64;

/// The program's register.
pub(super) fn reg(number: u8) -> Reg {
    // Loading knows no other numbers than 0 to 10.
    REGS.get(usize::from(number)).copied().unwrap_or(RBP)
}

fn bits(width: Width) -> Bits {
    match width {
        Width::W32 => Bits::B32,
        Width::W64 => Bits::B64,
    }
}

fn size_bits(size: Size) -> Bits {
    match size {
        Size::B => Bits::B8,
        Size::H => Bits::B16,
        Size::W => Bits::B32,
        Size::Dw => Bits::B64,
    }
}

pub(super) fn writes(access: Access) -> bool {
    matches!(access, Access::Write | Access::Atomic)
}

/// A field of the context, whose address is in a register.
pub(super) fn field(context: Reg, off: usize) -> Mem {
    at(context, off as i32)
}

/// Writes the code of a program.
pub(in crate::jit) struct Emitter {
    pub(super) asm: Asm,
    pub(super) slots: Vec<Label>,
    pub(super) rare: Vec<(Label, Rare)>,
    pub(super) helper: Label,
    pub(super) control: Label,
    pub(super) place: Label,
    /// Where accesses outside of the last window are checked: those that read, and those that write.
    pub(super) outside: [Label; 2],
    pub(super) leave: Label,
    pub(super) returned: Label,
    pub(super) fault: Option<Label>,
    /// Whether the code looks at the processor.
    pub(super) asks_cpu: bool,
    /// See [`Plan`].
    pub(super) read_at_start: u16,
    pub(super) used: u16,
    pub(super) alone: bool,
    /// Whether the processor shifts by any register.
    bmi2: bool,
    pub(super) reach: Reach,
    metered: bool,
    leaders: Vec<bool>,
    loops: Vec<bool>,
    /// While a function is copied.
    copied: Option<Copied<Label>>,
    /// The program's register whose address within the space r10 has, in code that masks: behind the base, or with it where that has no
    /// register.
    masked: Option<u8>,
    /// What has the base of the space, in code that masks.
    pub(super) base: Option<Reg>,
}

impl Emitter {
    /// For the processor that this runs on.
    pub(in crate::jit) fn new(slots: usize) -> Emitter {
        Emitter::with(slots, std::arch::is_x86_feature_detected!("bmi2"))
    }

    pub(in crate::jit) fn with(slots: usize, bmi2: bool) -> Emitter {
        let mut asm = Asm::default();
        Emitter {
            slots: (0..slots).map(|_| asm.label()).collect(),
            rare: Vec::new(),
            helper: asm.label(),
            control: asm.label(),
            place: asm.label(),
            outside: [asm.label(), asm.label()],
            leave: asm.label(),
            returned: asm.label(),
            fault: None,
            asm,
            asks_cpu: false,
            read_at_start: u16::MAX,
            used: u16::MAX,
            alone: false,
            bmi2,
            reach: Reach::Checked,
            metered: true,
            leaders: Vec::new(),
            loops: Vec::new(),
            copied: None,
            masked: None,
            base: None,
        }
    }

    pub(super) fn rare(&mut self, what: Rare) -> Label {
        let label = self.asm.label();
        self.rare.push((label, what));
        label
    }

    /// Whether accesses are checked.
    pub(super) fn checks(&self) -> bool {
        self.reach == Reach::Checked
    }

    /// `op dst, src`.
    fn arith(&mut self, op: Arith, bits: Bits, dst: Reg, src: Source) {
        match src {
            Source::Reg(src) => self.asm.arith(op, bits, dst, reg(src)),
            Source::Imm(imm) => self.asm.arith_imm(op, bits, dst, imm),
        }
    }

    fn multiply(&mut self, bits: Bits, dst: Reg, src: Source) {
        match src {
            Source::Reg(src) => self.asm.imul(bits, dst, reg(src)),
            Source::Imm(imm) => self.asm.imul_imm(bits, dst, imm),
        }
    }

    fn shift(&mut self, op: Shift, width: Width, dst: Reg, src: Source) {
        let bits = bits(width);
        let asm = &mut self.asm;
        let by = match src {
            Source::Imm(imm) => {
                let by = imm as u8 & if width == Width::W32 { 31 } else { 63 };
                // By nothing: what is left is to clear the upper half.
                match (by, width) {
                    (0, Width::W32) => asm.mov(bits, dst, dst),
                    (0, Width::W64) => {}
                    _ => asm.shift_imm(op, bits, dst, by),
                }
                return;
            }
            Source::Reg(by) => reg(by),
        };
        if self.bmi2 {
            asm.shift_by(op, bits, dst, dst, by);
        } else if by == RCX {
            asm.shift_cl(op, bits, dst);
        } else {
            asm.mov(Bits::B64, R11, RCX);
            asm.mov(Bits::B64, RCX, by);
            if dst == RCX {
                asm.shift_cl(op, bits, R11);
            } else {
                asm.shift_cl(op, bits, dst);
            }
            asm.mov(Bits::B64, RCX, R11);
        }
    }

    /// Quotient or remainder. What the processor would trap on is decided before: a divisor of 0 gives 0, or the dividend; -1 negates, or
    /// gives 0.
    fn divide(&mut self, signed: bool, remainder: bool, width: Width, dst: Reg, src: Source) {
        let bits = bits(width);
        let (by_zero, by_minus_one, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        let power = match src {
            Source::Imm(imm) if !signed && imm > 0 && imm & (imm - 1) == 0 => Some(imm),
            _ => None,
        };
        if let Some(power) = power {
            if remainder {
                self.asm.arith_imm(Arith::And, bits, dst, power - 1);
            } else {
                self.shift(Shift::Shr, width, dst, Source::Imm(power.trailing_zeros() as i32));
            }
            return;
        }
        let asm = &mut self.asm;
        match src {
            Source::Reg(src) => {
                asm.mov(bits, R11, reg(src));
                asm.test(bits, R11, R11);
                asm.jcc(Cc::EQUAL, by_zero);
                if signed {
                    asm.arith_imm(Arith::Cmp, bits, R11, -1);
                    asm.jcc(Cc::EQUAL, by_minus_one);
                }
            }
            Source::Imm(0) => asm.jmp(by_zero),
            Source::Imm(-1) if signed => asm.jmp(by_minus_one),
            Source::Imm(imm) if width == Width::W32 => asm.mov_imm(R11, u64::from(imm as u32)),
            Source::Imm(imm) => asm.mov_imm(R11, i64::from(imm) as u64),
        }
        if dst != RAX {
            asm.mov(Bits::B64, R9, RAX);
            asm.mov(Bits::B64, RAX, dst);
        }
        if dst != RDX {
            asm.mov(Bits::B64, R10, RDX);
        }
        if signed {
            asm.sign_to_rdx(bits);
            asm.unary(Unary::Idiv, bits, R11);
        } else {
            asm.arith(Arith::Xor, Bits::B32, RDX, RDX);
            asm.unary(Unary::Div, bits, R11);
        }
        let result = if remainder { RDX } else { RAX };
        if dst != result {
            asm.mov(bits, dst, result);
        }
        if dst != RAX {
            asm.mov(Bits::B64, RAX, R9);
        }
        if dst != RDX {
            asm.mov(Bits::B64, RDX, R10);
        }
        asm.jmp(done);
        asm.bind(by_minus_one);
        if remainder {
            asm.mov_imm(dst, 0);
        } else {
            asm.unary(Unary::Neg, bits, dst);
        }
        asm.jmp(done);
        asm.bind(by_zero);
        match (remainder, width) {
            (false, _) => asm.mov_imm(dst, 0),
            (true, Width::W32) => asm.mov(bits, dst, dst),
            (true, Width::W64) => {}
        }
        asm.bind(done);
    }

    /// Checks an access; what is accessed is given.
    ///
    /// What lies in the window of the last access is right. The window is forgotten whenever Rust ran that may have changed windows, and when the
    /// frame changes.
    fn checked(&mut self, place: Place) -> Mem {
        let base = reg(place.base);
        match self.reach {
            _ if place.known => return at(base, place.off),
            Reach::Plain => return at(base, place.off),
            Reach::Masked => return self.led(place),
            Reach::Checked => {}
        }
        let len = place.size.len_bytes() as i32;
        let back = self.asm.label();
        let ask = self.rare(Rare::Place { back, place });
        let asm = &mut self.asm;
        if place.off == 0 {
            asm.mov(Bits::B64, R10, base);
        } else {
            asm.lea(Bits::B64, R10, at(base, place.off));
        }
        asm.mov(Bits::B64, R11, R10);
        asm.arith_from(Arith::Sub, Bits::B64, R11, at(RSP, WINDOW_START));
        let limit = if writes(place.access) { MAY_WRITE } else { MAY_READ };
        asm.arith_from(Arith::Cmp, Bits::B64, R11, at(RSP, limit));
        asm.jcc(Cc::ABOVE_EQUAL, ask);
        if matches!(place.access, Access::Atomic | Access::AtomicRead) && len > 1 {
            let misaligned = self.rare(Rare::Misaligned { place });
            self.asm.test_imm(Bits::B32, R10, len - 1);
            self.asm.jcc(Cc::NOT_EQUAL, misaligned);
        }
        self.asm.bind(back);
        at(R10, 0)
    }

    /// Leads an access into the space: base + the lower half of the address. An offset leads out of it by less than the guards around it.
    fn led(&mut self, place: Place) -> Mem {
        let len = place.size.len_bytes() as i32;
        if self.masked != Some(place.base) {
            self.asm.mov(Bits::B32, R10, reg(place.base));
            if self.base.is_none() {
                self.asm.arith_from(Arith::Or, Bits::B64, R10, at(RSP, BASE));
            }
            self.masked = Some(place.base);
        }
        if matches!(place.access, Access::Atomic | Access::AtomicRead) && len > 1 {
            let back = self.asm.label();
            let ask = self.rare(Rare::Misaligned { place });
            self.asm.lea(Bits::B32, R11, at(R10, place.off));
            self.asm.test_imm(Bits::B32, R11, len - 1);
            self.asm.jcc(Cc::NOT_EQUAL, ask);
            self.asm.bind(back);
        }
        match self.base {
            Some(base) => Mem { base, index: Some((R10, 0)), disp: place.off },
            None => at(R10, place.off),
        }
    }

    fn load_from(&mut self, ty: LoadType, dst: u8, mem: Mem) {
        self.written(dst);
        let (dst, bits) = (reg(dst), size_bits(ty.size()));
        if ty.is_signed() {
            self.asm.sign_extend(Bits::B64, dst, bits, mem);
        } else {
            self.asm.load(bits, dst, mem);
        }
    }

    /// A register of the program has another value, or r10 has.
    fn written(&mut self, reg: u8) {
        if self.masked == Some(reg) {
            self.masked = None;
        }
    }

    /// Gives the old value in `src`, and leaves `old op src` in memory.
    fn fetch(&mut self, op: Arith, bits: Bits, mem: Mem, src: Reg) {
        let again = self.asm.label();
        let asm = &mut self.asm;
        asm.mov(Bits::B64, R11, src);
        // The new value is made where the old one is wanted, unless that is rax, where the processor wants the old one.
        let new = if src == RAX { R9 } else { src };
        if src != RAX {
            asm.mov(Bits::B64, R9, RAX);
        }
        asm.load(bits, RAX, mem);
        asm.bind(again);
        asm.mov(bits, new, R11);
        asm.arith(op, bits, new, RAX);
        asm.lock_cmpxchg(bits, mem, new);
        asm.jcc(Cc::NOT_EQUAL, again);
        if src != RAX {
            asm.mov(bits, src, RAX);
            asm.mov(Bits::B64, RAX, R9);
        }
    }

    /// Sets the flags, and says which of them make `dst cond src`.
    fn compare(&mut self, cond: Cond, width: Width, dst: u8, src: Source) -> Cc {
        let (dst, bits) = (reg(dst), bits(width));
        match (cond, src) {
            (Cond::Set, Source::Reg(src)) => self.asm.test(bits, dst, reg(src)),
            (Cond::Set, Source::Imm(imm)) => self.asm.test_imm(bits, dst, imm),
            (_, Source::Imm(0)) => self.asm.test(bits, dst, dst),
            _ => self.arith(Arith::Cmp, bits, dst, src),
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

    /// Jumps there when the condition holds, or always, and pays.
    pub(super) fn go(&mut self, cc: Option<Cc>, jump: Jump) {
        let target = self.slots[jump.target as usize];
        if jump.cost == 0 || !self.metered {
            match cc {
                Some(cc) => self.asm.jcc(cc, target),
                None => self.asm.jmp(target),
            }
            return;
        }
        if let Some(cc) = cc
            && self.loops.get(jump.target as usize) == Some(&false)
        {
            // Out of a loop to what was put before it: once, and not in the way of what goes on.
            // In a copy of a function the target is the copy's, which nobody knows any more when the rare cases are written.
            let pays = self.rare(Rare::Pays { jump, target });
            return self.asm.jcc(cc, pays);
        }
        let on = self.asm.label();
        if let Some(cc) = cc {
            self.asm.jcc(cc.opposite(), on);
        }
        self.pay_and_go(jump, target);
        self.asm.bind(on);
    }

    /// Pays for a jump and makes it.
    pub(super) fn pay_and_go(&mut self, jump: Jump, target: Label) {
        let exhausted = self.rare(Rare::Exhausted { jump });
        self.asm.arith_imm(Arith::Sub, Bits::B64, R12, jump.cost as i32);
        self.asm.jcc(Cc::ABOVE_EQUAL, target);
        self.asm.jmp(exhausted);
    }
}

impl Backend for Emitter {
    fn prepare(&mut self, plan: &Plan) {
        self.reach = plan.options.reach;
        self.metered = plan.options.metered;
        self.read_at_start = plan.read_at_start;
        self.used = plan.used;
        self.alone = plan.alone;
        self.asks_cpu = !plan.alone;
        self.leaders.clone_from(&plan.leaders);
        self.loops.clone_from(&plan.loops);
        if self.reach == Reach::Masked {
            self.fault = Some(self.asm.label());
            // Functions of C keep all of these, so it stays where it is.
            self.base = [9, 8, 7, 6, 10].into_iter().find(|number| !self.uses(*number)).map(|number| REGS[number]);
        }
    }

    fn slot(&mut self, at: u32) {
        if self.leaders.get(at as usize) != Some(&false) {
            self.masked = None;
        }
        // So that short loops are read in as few pieces as can be.
        if self.loops.get(at as usize) == Some(&true) {
            self.asm.align();
        }
        self.asm.bind(self.slots[at as usize]);
    }

    fn looks_up(&self, map: &Map) -> bool {
        Way::of(map).is_some()
    }

    fn look_up(&mut self, lookup: &Lookup<'_>) {
        self.masked = None;
        match Way::of(lookup.map) {
            Some(Way::Array(array)) => self.look_up_in_array(lookup, &array),
            Some(Way::Hash(hash)) => self.look_up_in_hash(lookup, &hash),
            None => {}
        }
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
            self.asm.jmp(copied.end);
        }
    }

    fn end_copy(&mut self) {
        if let Some(copied) = self.copied.take() {
            self.asm.bind(copied.end(&mut self.slots));
        }
        self.masked = None;
    }

    fn rotates(&self) -> bool {
        true
    }

    fn rotate(&mut self, rotation: Rotation) {
        let Rotation { width, dst, src, left, .. } = rotation;
        self.written(dst);
        let (dst, src, bits) = (reg(dst), reg(src), bits(width));
        if dst != src && self.bmi2 {
            let right = if width == Width::W32 { 32 - left } else { 64 - left };
            return self.asm.rorx(bits, dst, src, right);
        }
        if dst != src {
            self.asm.mov(bits, dst, src);
        }
        self.asm.shift_imm(Shift::Rol, bits, dst, left);
    }

    fn sums(&self) -> bool {
        true
    }

    fn sum(&mut self, width: Width, dst: u8, a: u8, b: Source) {
        self.written(dst);
        let mem = match b {
            Source::Reg(b) => Mem { base: reg(a), index: Some((reg(b), 0)), disp: 0 },
            Source::Imm(imm) => at(reg(a), imm),
        };
        self.asm.lea(bits(width), reg(dst), mem);
    }

    fn load_sum(&mut self, ty: LoadType, dst: u8, a: u8, b: u8, off: i16) -> bool {
        if self.reach != Reach::Plain {
            return false;
        }
        self.load_from(ty, dst, Mem { base: reg(a), index: Some((reg(b), 0)), disp: off.into() });
        true
    }

    fn trusts(&self) -> bool {
        self.reach == Reach::Plain
    }

    fn adds_to_memory(&self) -> bool {
        true
    }

    fn add_to(&mut self, on: Place, by: Source) {
        let (mem, bits) = (at(reg(on.base), on.off), size_bits(on.size));
        match by {
            Source::Reg(by) => self.asm.arith(Arith::Add, bits, mem, reg(by)),
            Source::Imm(imm) => self.asm.arith_imm(Arith::Add, bits, mem, imm),
        }
    }

    fn alu(&mut self, op: AluOp, width: Width, dst: u8, src: Source) {
        self.written(dst);
        if matches!(op, AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod) {
            // These use r10.
            self.masked = None;
        }
        let (dst, bits) = (reg(dst), bits(width));
        match op {
            AluOp::Add => self.arith(Arith::Add, bits, dst, src),
            AluOp::Sub => self.arith(Arith::Sub, bits, dst, src),
            AluOp::Or => self.arith(Arith::Or, bits, dst, src),
            AluOp::And => self.arith(Arith::And, bits, dst, src),
            AluOp::Xor => self.arith(Arith::Xor, bits, dst, src),
            AluOp::Mul => self.multiply(bits, dst, src),
            AluOp::Lsh => self.shift(Shift::Shl, width, dst, src),
            AluOp::Rsh => self.shift(Shift::Shr, width, dst, src),
            AluOp::Arsh => self.shift(Shift::Sar, width, dst, src),
            AluOp::Div => self.divide(false, false, width, dst, src),
            AluOp::SDiv => self.divide(true, false, width, dst, src),
            AluOp::Mod => self.divide(false, true, width, dst, src),
            AluOp::SMod => self.divide(true, true, width, dst, src),
        }
    }

    fn unary(&mut self, code: Code, dst: u8, src: u8, imm: u64) {
        self.written(dst);
        let (dst, src) = (reg(dst), reg(src));
        let asm = &mut self.asm;
        match code {
            Code::Imm => asm.mov_imm(dst, imm),
            Code::Mov64 => asm.mov(Bits::B64, dst, src),
            Code::Mov32 => asm.mov(Bits::B32, dst, src),
            Code::Sx8To32 => asm.sign_extend(Bits::B32, dst, Bits::B8, src),
            Code::Sx16To32 => asm.sign_extend(Bits::B32, dst, Bits::B16, src),
            Code::Sx8To64 => asm.sign_extend(Bits::B64, dst, Bits::B8, src),
            Code::Sx16To64 => asm.sign_extend(Bits::B64, dst, Bits::B16, src),
            Code::Sx32To64 => asm.sign_extend(Bits::B64, dst, Bits::B32, src),
            Code::Neg64 => asm.unary(Unary::Neg, Bits::B64, dst),
            Code::Neg32 => asm.unary(Unary::Neg, Bits::B32, dst),
            Code::Zx16 => asm.zero_extend16(dst, dst),
            Code::Zx32 => asm.mov(Bits::B32, dst, dst),
            Code::Swap16 => {
                asm.shift_imm(Shift::Rol, Bits::B16, dst, 8);
                asm.zero_extend16(dst, dst);
            }
            Code::Swap32 => asm.bswap(Bits::B32, dst),
            Code::Swap64 => asm.bswap(Bits::B64, dst),
            Code::CastUser => {
                let null = asm.label();
                asm.mov(Bits::B32, dst, src);
                asm.test(Bits::B32, dst, dst);
                asm.jcc(Cc::EQUAL, null);
                asm.mov_imm(R11, imm);
                asm.arith(Arith::Or, Bits::B64, dst, R11);
                asm.bind(null);
            }
            other => unreachable!("{other:?} is no move"),
        }
    }

    fn load(&mut self, ty: LoadType, dst: u8, from: Place) {
        let mem = self.checked(from);
        self.load_from(ty, dst, mem);
    }

    fn store(&mut self, to: Place, src: Source) {
        let bits = size_bits(to.size);
        let mem = self.checked(to);
        match src {
            Source::Reg(src) => self.asm.store(bits, mem, reg(src)),
            Source::Imm(imm) => self.asm.store_imm(bits, mem, imm),
        }
    }

    fn atomic(&mut self, op: AtomicOp, width: Width, on: Place, src: u8) {
        let mut mem = self.checked(on);
        self.written(src);
        self.written(0);
        let (src, bits) = (reg(src), bits(width));
        let fetches = matches!(op, AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor);
        if fetches && (mem.base == RAX || mem.base == src) {
            // Both hold something else before it is done.
            self.asm.mov(Bits::B64, R10, mem.base);
            self.masked = None;
            mem.base = R10;
        }
        let asm = &mut self.asm;
        match op {
            AtomicOp::Add => asm.lock_arith(Arith::Add, bits, mem, src),
            AtomicOp::Or => asm.lock_arith(Arith::Or, bits, mem, src),
            AtomicOp::And => asm.lock_arith(Arith::And, bits, mem, src),
            AtomicOp::Xor => asm.lock_arith(Arith::Xor, bits, mem, src),
            AtomicOp::FetchAdd => asm.lock_xadd(bits, mem, src),
            AtomicOp::FetchOr => self.fetch(Arith::Or, bits, mem, src),
            AtomicOp::FetchAnd => self.fetch(Arith::And, bits, mem, src),
            AtomicOp::FetchXor => self.fetch(Arith::Xor, bits, mem, src),
            AtomicOp::Xchg => asm.xchg(bits, mem, src),
            AtomicOp::CmpXchg => {
                asm.lock_cmpxchg(bits, mem, src);
                if width == Width::W32 {
                    // When both were equal, the processor leaves the upper half as it was.
                    asm.mov(bits, RAX, RAX);
                }
            }
        }
    }

    fn pays(&self) -> bool {
        true
    }

    fn pay(&mut self, jump: Jump) {
        if self.metered {
            let exhausted = self.rare(Rare::Exhausted { jump });
            self.asm.arith_imm(Arith::Sub, Bits::B64, R12, jump.cost as i32);
            self.asm.jcc(Cc::BELOW, exhausted);
        }
    }

    fn jump(&mut self, jump: Jump) {
        self.go(None, jump);
    }

    fn branch(&mut self, cond: Cond, width: Width, dst: u8, src: Source, jump: Jump) {
        let cc = self.compare(cond, width, dst, src);
        self.go(Some(cc), jump);
    }

    fn selects(&self) -> bool {
        true
    }

    fn select(&mut self, cond: Cond, width: Width, dst: u8, src: Source, copy: &Op) {
        let cc = self.compare(cond, width, dst, src);
        self.written(copy.dst);
        self.asm.mov_if(cc.opposite(), reg(copy.dst), reg(copy.src));
    }

    fn may_goto(&mut self, jump: Jump) {
        let on = self.asm.label();
        self.asm.load(Bits::B64, R9, at(RSP, HERE));
        self.asm.load(Bits::B64, R9, field(R9, MAY_GOTO));
        self.asm.arith_imm(Arith::Cmp, Bits::B32, at(R9, 0), 0);
        self.asm.jcc(Cc::NOT_EQUAL, on);
        self.go(None, jump);
        self.asm.bind(on);
        self.asm.arith_imm(Arith::Sub, Bits::B32, at(R9, 0), 1);
    }

    fn helper(&mut self, at: u32) {
        self.masked = None;
        self.asm.mov_imm(R9, at.into());
        self.asm.call(self.helper);
    }

    fn call(&mut self, call: Call) {
        self.enter_function(call);
    }

    fn exit(&mut self, at: u32) {
        self.leave_function(at);
    }

    fn exit_entry(&mut self, at: u32) {
        self.leave_entry(at);
    }

    fn control(&mut self, at: u32) {
        self.asm.mov_imm(R9, at.into());
        self.asm.jmp(self.control);
    }

    fn finish(self) -> Assembled {
        self.finish_with_fault().0
    }

    fn finish_with_fault(mut self) -> (Assembled, Option<u32>) {
        self.rare_cases();
        let (enter, begin) = (self.asm.label(), self.asm.label());
        self.begin(begin);
        self.shared(enter);
        let begin = Some(self.asm.place(begin));
        let (enter, leave) = (self.asm.place(enter), self.asm.place(self.leave));
        let fault = self.fault.map(|fault| self.asm.place(fault));
        let places = self.slots.iter().map(|slot| self.asm.place(*slot)).collect();
        (Assembled { code: self.asm.finish(), places, enter, leave, begin }, fault)
    }
}
