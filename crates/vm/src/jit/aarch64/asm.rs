//! An encoder for the instructions that the back end uses.
//!
//! An instruction is one word of 32 bits: fields for up to four registers, and what it is. Immediates are small: 12 bits, perhaps
//! shifted by 12, in sums; patterns of repeated ones in logic ([`pattern`]); anything else is put together of pieces of 16 bits in a
//! register first ([`Asm::mov_imm`]). Register 31 is the stack pointer or zero, as the instruction has it.
//!
//! # Jumps
//!
//! A conditional jump reaches 1 MiB, one without a condition 128 MiB, and a program of a million instructions may need more. So
//! jumps lead to [`Label`]s, take one word while the code is written, and become longer in [`Asm::finish`] where they must: a condition
//! is turned round to pass over a jump without one, and that one takes its target from a register. Whether a target is near is decided as
//! if every jump on the way took its longest form; that needs no second look, since no distance can grow beyond it.

/// A register by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reg(pub(super) u8);

/// Where an instruction has no stack pointer: zero, and nowhere.
pub(super) const ZERO: Reg = Reg(31);
/// Where an instruction has no zero.
pub(super) const SP: Reg = Reg(31);
/// The frame of C.
pub(super) const FP: Reg = Reg(29);
/// Where a call comes back to.
pub(super) const LINK: Reg = Reg(30);
/// Spoiled by jumps that are far.
pub(super) const FAR: Reg = Reg(16);

/// How many bits of registers an instruction works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bits {
    B32,
    B64,
}

/// How many bytes an access of memory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Len {
    B1 = 0,
    B2 = 1,
    B4 = 2,
    B8 = 3,
}

/// Arithmetic of two registers that has an immediate form with 12 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    Add = 0,
    /// With flags.
    Adds = 1,
    Sub = 2,
    Subs = 3,
}

/// Logic of two registers, which has an immediate form with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And = 0,
    Or = 1,
    Xor = 2,
    /// With flags.
    Ands = 3,
}

/// Arithmetic that takes registers only; the number is its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Two {
    Udiv = 2,
    Sdiv = 3,
    Lsl = 8,
    Lsr = 9,
    Asr = 10,
}

/// What an atomic instruction of ARMv8.1 does with memory and a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rmw {
    Add = 0,
    /// And with the complement.
    Clear = 1,
    Xor = 2,
    Or = 3,
    Swap = 8,
}

/// Conditions, by their number in instructions; that of the opposite differs in the lowest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cc(u8);

impl Cc {
    pub(super) fn opposite(self) -> Cc {
        Cc(self.0 ^ 1)
    }

    pub(super) const EQUAL: Cc = Cc(0x0);
    pub(super) const NOT_EQUAL: Cc = Cc(0x1);
    pub(super) const ABOVE_EQUAL: Cc = Cc(0x2);
    pub(super) const BELOW: Cc = Cc(0x3);
    pub(super) const ABOVE: Cc = Cc(0x8);
    pub(super) const BELOW_EQUAL: Cc = Cc(0x9);
    pub(super) const GREATER_EQUAL: Cc = Cc(0xa);
    pub(super) const LESS: Cc = Cc(0xb);
    pub(super) const GREATER: Cc = Cc(0xc);
    pub(super) const LESS_EQUAL: Cc = Cc(0xd);
}

/// What a jump depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Flags(Cc),
    Zero(Bits, Reg),
    NotZero(Bits, Reg),
}

impl When {
    pub(super) fn opposite(self) -> When {
        match self {
            When::Flags(cc) => When::Flags(cc.opposite()),
            When::Zero(bits, reg) => When::NotZero(bits, reg),
            When::NotZero(bits, reg) => When::Zero(bits, reg),
        }
    }

    /// Over a distance in words.
    fn encode(self, distance: i64) -> u32 {
        let distance = (distance as u32 & 0x7_ffff) << 5;
        match self {
            When::Flags(cc) => 0x5400_0000 | distance | u32::from(cc.0),
            When::Zero(bits, reg) => 0x3400_0000 | sf(bits) | distance | rd(reg),
            When::NotZero(bits, reg) => 0x3500_0000 | sf(bits) | distance | rd(reg),
        }
    }
}

/// A place in the code, perhaps one to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A place while the code is written: the word, and how many jumps are before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    word: u32,
    jumps: u32,
}

const UNBOUND: Mark = Mark { word: u32::MAX, jumps: 0 };

#[derive(Clone, Copy, Debug)]
enum JumpKind {
    If(When),
    Always,
    Call,
}

#[derive(Clone, Copy, Debug)]
struct Jump {
    /// Its word while the code is written.
    at: u32,
    to: Label,
    kind: JumpKind,
}

/// How far jumps reach, in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) conditional: i64,
    pub(super) always: i64,
}

impl Reach {
    /// What 19 and 26 bits with a sign are.
    pub(super) const TRUE: Reach = Reach { conditional: (1 << 18) - 1, always: (1 << 25) - 1 };
}

/// A jump takes at most so many words more than one: the opposite condition, and an address made of two pieces.
const LONGEST: i64 = 3;

/// Code that is being written.
#[derive(Debug)]
pub(super) struct Asm {
    words: Vec<u32>,
    /// Where each label is.
    labels: Vec<Mark>,
    /// In their order.
    jumps: Vec<Jump>,
    reach: Reach,
}

/// Code that was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) code: Vec<u8>,
    labels: Vec<u32>,
}

impl Written {
    /// Where a label is, in bytes.
    pub(super) fn place(&self, label: Label) -> u32 {
        self.labels[label.0]
    }
}

fn sf(bits: Bits) -> u32 {
    u32::from(bits == Bits::B64) << 31
}

fn rd(reg: Reg) -> u32 {
    reg.0.into()
}

fn rn(reg: Reg) -> u32 {
    u32::from(reg.0) << 5
}

fn rm(reg: Reg) -> u32 {
    u32::from(reg.0) << 16
}

/// The fields of a logical immediate (N, immr, imms) in their places, if the value is one: some ones in a row, turned round and
/// repeated to the width (ARM ARM, `DecodeBitMasks`).
fn pattern(bits: Bits, value: u64) -> Option<u32> {
    let value = match bits {
        Bits::B32 => value & 0xffff_ffff | value << 32,
        Bits::B64 => value,
    };
    if value == 0 || value == !0 {
        return None;
    }
    // The shortest piece that gives the whole by repetition.
    let size = [2u32, 4, 8, 16, 32, 64].into_iter().find(|size| value.rotate_right(*size) == value)?;
    let mask = !0u64 >> (64 - size);
    let piece = value & mask;
    let ones = piece.count_ones();
    let row = !0u64 >> (64 - ones);
    // How far a row of ones at the lower end is turned to the right to become the piece.
    let turned = |by: u32| if by == 0 { row } else { (row >> by | row << (size - by)) & mask };
    let immr = (0..size).find(|by| turned(*by) == piece)?;
    let n = u32::from(size == 64);
    let imms = (!(2 * size - 1) & 0x3f) | (ones - 1);
    Some(n << 22 | immr << 16 | imms << 10)
}

impl Asm {
    pub(super) fn new(reach: Reach) -> Asm {
        Asm { words: Vec::new(), labels: Vec::new(), jumps: Vec::new(), reach }
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(UNBOUND);
        Label(self.labels.len() - 1)
    }

    fn here(&self) -> Mark {
        Mark { word: self.words.len() as u32, jumps: self.jumps.len() as u32 }
    }

    /// The label is here.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = self.here();
    }

    /// The code, once every label is bound.
    pub(super) fn finish(self) -> Written {
        let Asm { words, labels, jumps, reach } = self;
        // As far away as it can become.
        let furthest = |mark: Mark| i64::from(mark.word) + LONGEST * i64::from(mark.jumps);
        let target = |jump: &Jump| labels[jump.to.0];
        let near = |index: usize, jump: &Jump, reach: i64| {
            debug_assert_ne!(target(jump), UNBOUND, "every jump has a target");
            // From the words of the jump itself as well, which stand behind its place.
            let here = furthest(Mark { word: jump.at, jumps: index as u32 });
            (furthest(target(jump)) - here).abs() + LONGEST <= reach
        };
        // How many words more than one the jumps before each take.
        let mut grown = Vec::with_capacity(jumps.len() + 1);
        let mut sum = 0;
        for (index, jump) in jumps.iter().enumerate() {
            grown.push(sum);
            let conditional = matches!(jump.kind, JumpKind::If(_));
            sum += match (near(index, jump, reach.conditional), near(index, jump, reach.always)) {
                (true, _) => 0,
                (false, true) => u32::from(conditional),
                (false, false) => 2 + u32::from(conditional),
            };
        }
        grown.push(sum);
        let place = |mark: Mark| mark.word + grown[mark.jumps as usize];
        let mut code = Vec::with_capacity(4 * (words.len() + sum as usize));
        let mut put = |word: u32| code.extend_from_slice(&word.to_le_bytes());
        let mut done = 0;
        for (index, jump) in jumps.iter().enumerate() {
            words[done..jump.at as usize].iter().for_each(|word| put(*word));
            done = jump.at as usize + 1;
            let mut at = i64::from(jump.at + grown[index]);
            let target = i64::from(place(target(jump)));
            let mut more = grown[index + 1] - grown[index];
            if let JumpKind::If(when) = jump.kind {
                if more == 0 {
                    put(when.encode(target - at));
                    continue;
                }
                put(when.opposite().encode(1 + i64::from(more)));
                at += 1;
                more -= 1;
            }
            let call = matches!(jump.kind, JumpKind::Call);
            if more == 0 {
                put(0x1400_0000 | u32::from(call) << 31 | (target - at) as u32 & 0x3ff_ffff);
                continue;
            }
            // The page of the target by its distance in pages, and the place in it: the code begins at a page.
            let pages = ((target >> 10) - (at >> 10)) as u32;
            put(0x9000_0000 | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5 | rd(FAR));
            put(0x9100_0000 | (target as u32 & 0x3ff) << 12 | rn(FAR) | rd(FAR));
            put(0xd61f_0000 | u32::from(call) << 21 | rn(FAR));
        }
        words[done..].iter().for_each(|word| put(*word));
        let labels = labels.iter().map(|mark| if *mark == UNBOUND { 0 } else { 4 * place(*mark) }).collect();
        Written { code, labels }
    }

    fn put(&mut self, word: u32) {
        self.words.push(word);
    }

    /// `op to, a, b`.
    pub(super) fn sum(&mut self, op: Sum, bits: Bits, to: Reg, a: Reg, b: Reg) {
        self.put(0x0b00_0000 | sf(bits) | (op as u32) << 29 | rm(b) | rn(a) | rd(to));
    }

    /// `op to, a, imm`, where the immediate may be one that the opposite operation has. `false`, and nothing, when it is none.
    #[must_use]
    pub(super) fn sum_imm(&mut self, op: Sum, bits: Bits, to: Reg, a: Reg, imm: i64) -> bool {
        let opposite = match op {
            Sum::Add => Sum::Sub,
            Sum::Adds => Sum::Subs,
            Sum::Sub => Sum::Add,
            Sum::Subs => Sum::Adds,
        };
        let (op, size) = if imm < 0 { (opposite, imm.unsigned_abs()) } else { (op, imm as u64) };
        let field = match size {
            0..=0xfff => (size as u32) << 10,
            _ if size & 0xfff == 0 && size >> 24 == 0 => 1 << 22 | ((size >> 12) as u32) << 10,
            _ => return false,
        };
        self.put(0x1100_0000 | sf(bits) | (op as u32) << 29 | field | rn(a) | rd(to));
        true
    }

    /// `op to, a, b << left`.
    pub(super) fn logic_shifted(&mut self, op: Logic, bits: Bits, to: Reg, a: Reg, b: Reg, left: u8) {
        let left = u32::from(left) << 10;
        self.put(0x0a00_0000 | sf(bits) | (op as u32) << 29 | rm(b) | left | rn(a) | rd(to));
    }

    /// `op to, a, b`.
    pub(super) fn logic(&mut self, op: Logic, bits: Bits, to: Reg, a: Reg, b: Reg) {
        self.logic_shifted(op, bits, to, a, b, 0);
    }

    /// `op to, a, imm`. `false`, and nothing, when it is no immediate of logic.
    #[must_use]
    pub(super) fn logic_imm(&mut self, op: Logic, bits: Bits, to: Reg, a: Reg, imm: u64) -> bool {
        let Some(field) = pattern(bits, imm) else { return false };
        self.put(0x1200_0000 | sf(bits) | (op as u32) << 29 | field | rn(a) | rd(to));
        true
    }

    /// `to = !from`.
    pub(super) fn not(&mut self, bits: Bits, to: Reg, from: Reg) {
        self.put(0x2a20_0000 | sf(bits) | rm(from) | rn(ZERO) | rd(to));
    }

    /// `op to, a, b`.
    pub(super) fn two(&mut self, op: Two, bits: Bits, to: Reg, a: Reg, b: Reg) {
        self.put(0x1ac0_0000 | sf(bits) | rm(b) | (op as u32) << 10 | rn(a) | rd(to));
    }

    /// `to = add + a * b`.
    pub(super) fn multiply_add(&mut self, bits: Bits, to: Reg, a: Reg, b: Reg, add: Reg) {
        self.put(0x1b00_0000 | sf(bits) | rm(b) | u32::from(add.0) << 10 | rn(a) | rd(to));
    }

    /// `to = from - a * b`.
    pub(super) fn multiply_sub(&mut self, bits: Bits, to: Reg, a: Reg, b: Reg, from: Reg) {
        self.put(0x1b00_8000 | sf(bits) | rm(b) | u32::from(from.0) << 10 | rn(a) | rd(to));
    }

    /// Takes the bits from `low` to `high` out, or shifts to the left when `high` is less; the sign is extended, or zeros.
    fn bit_field(&mut self, signed: bool, bits: Bits, to: Reg, from: Reg, low: u32, high: u32) {
        let opc = if signed { 0 } else { 2 << 29 };
        let n = u32::from(bits == Bits::B64) << 22;
        self.put(0x1300_0000 | sf(bits) | opc | n | low << 16 | high << 10 | rn(from) | rd(to));
    }

    /// Bits `low` to `low + count - 1`, with zeros above.
    pub(super) fn extract(&mut self, to: Reg, from: Reg, low: u32, count: u32) {
        self.bit_field(false, Bits::B64, to, from, low, low + count - 1);
    }

    /// Extends the sign of the lower bytes.
    pub(super) fn sign_extend(&mut self, bits: Bits, to: Reg, len: Len, from: Reg) {
        self.bit_field(true, bits, to, from, 0, (8 << len as u32) - 1);
    }

    /// The lower 16 bits.
    pub(super) fn zero_extend16(&mut self, to: Reg, from: Reg) {
        self.bit_field(false, Bits::B32, to, from, 0, 15);
    }

    /// Shifts by a constant that is less than the width.
    pub(super) fn shift_imm(&mut self, op: Two, bits: Bits, to: Reg, from: Reg, by: u32) {
        let top = if bits == Bits::B64 { 63 } else { 31 };
        match op {
            Two::Lsl => self.bit_field(false, bits, to, from, (top + 1 - by) & top, top - by),
            Two::Asr => self.bit_field(true, bits, to, from, by, top),
            _ => self.bit_field(false, bits, to, from, by, top),
        }
    }

    /// Rotates to the right by less than the width.
    pub(super) fn rotate(&mut self, bits: Bits, to: Reg, from: Reg, right: u32) {
        let n = u32::from(bits == Bits::B64) << 22;
        self.put(0x1380_0000 | sf(bits) | n | rm(from) | right << 10 | rn(from) | rd(to));
    }

    /// `mov to, from`.
    pub(super) fn mov(&mut self, bits: Bits, to: Reg, from: Reg) {
        self.logic(Logic::Or, bits, to, ZERO, from);
    }

    /// The stack pointer to a register.
    pub(super) fn mov_from_sp(&mut self, to: Reg) {
        self.put(0x9100_0000 | rn(SP) | rd(to));
    }

    /// A number, in as few words as it takes.
    pub(super) fn mov_imm(&mut self, to: Reg, value: u64) {
        let piece = |index: u32| (value >> (16 * index)) as u16;
        let count = |of: u16| (0..4).filter(|index| piece(*index) == of).count();
        // The rest is zeros, or ones.
        let (opcode, rest) = if count(0xffff) > count(0) { (0x9280_0000, 0xffff) } else { (0xd280_0000, 0) };
        let mut pieces = (0..4).filter(|index| piece(*index) != rest);
        let first = pieces.next().unwrap_or(0);
        let field = |index: u32, piece: u16| index << 21 | u32::from(piece) << 5 | rd(to);
        let inverted = piece(first) ^ rest;
        if (0..4).filter(|index| piece(*index) != rest).count() > 1
            && self.logic_imm(Logic::Or, Bits::B64, to, ZERO, value)
        {
            return;
        }
        self.put(opcode | field(first, inverted));
        for index in pieces {
            self.put(0xf280_0000 | field(index, piece(index)));
        }
    }

    /// The order of bytes of a register, or of its lower half.
    pub(super) fn swap_bytes(&mut self, bits: Bits, reg: Reg) {
        let opcode = if bits == Bits::B64 { 0x5ac0_0c00 } else { 0x5ac0_0800 };
        self.put(opcode | sf(bits) | rn(reg) | rd(reg));
    }

    /// The order of bytes of each 16 bits of the lower half.
    pub(super) fn swap_bytes16(&mut self, reg: Reg) {
        self.put(0x5ac0_0400 | rn(reg) | rd(reg));
    }

    /// `cmp a, b >> right`.
    pub(super) fn compare_shifted(&mut self, a: Reg, b: Reg, right: u32) {
        self.put(0xeb40_0000 | rm(b) | right << 10 | rn(a) | rd(ZERO));
    }

    /// If the flags say `when`, `cmp a, b`; else they become `flags` (negative, zero, carry, overflow).
    pub(super) fn compare_if(&mut self, when: Cc, bits: Bits, a: Reg, b: Reg, flags: u32) {
        self.put(0x7a40_0000 | sf(bits) | rm(b) | u32::from(when.0) << 12 | rn(a) | flags);
    }

    /// `to = when ? a : b`.
    pub(super) fn select(&mut self, when: Cc, to: Reg, a: Reg, b: Reg) {
        self.put(0x9a80_0000 | rm(b) | u32::from(when.0) << 12 | rn(a) | rd(to));
    }

    /// A load or store at base + displacement: a multiple of the length up to 4095 times it, or 9 bits with a sign.
    fn access(&mut self, opcode: u32, len: Len, reg: Reg, base: Reg, disp: i32) {
        let opcode = opcode | (len as u32) << 30 | rn(base) | rd(reg);
        let scaled = disp >> len as u32;
        if scaled << len as u32 == disp && (0..4096).contains(&scaled) {
            self.put(opcode | 1 << 24 | (scaled as u32) << 10);
        } else {
            debug_assert!((-256..256).contains(&disp), "a displacement that there is");
            self.put(opcode | (disp as u32 & 0x1ff) << 12);
        }
    }

    /// Whether an access may have this displacement.
    pub(super) fn reaches(len: Len, disp: i32) -> bool {
        (-256..256).contains(&disp)
            || (disp >> len as u32) << len as u32 == disp && (0..4096).contains(&(disp >> len as u32))
    }

    /// `ldr to, [base, disp]`, with the upper bits cleared.
    pub(super) fn load(&mut self, len: Len, to: Reg, base: Reg, disp: i32) {
        self.access(0x3840_0000, len, to, base, disp);
    }

    /// The same, with the sign in all 64 bits; of 8 bytes there is none.
    pub(super) fn load_signed(&mut self, len: Len, to: Reg, base: Reg, disp: i32) {
        self.access(0x3880_0000, len, to, base, disp);
    }

    /// `str from, [base, disp]`.
    pub(super) fn store(&mut self, len: Len, base: Reg, disp: i32, from: Reg) {
        self.access(0x3800_0000, len, from, base, disp);
    }

    /// `ldr to, [base, index, lsl #3]`.
    pub(super) fn load_indexed(&mut self, to: Reg, base: Reg, index: Reg) {
        self.put(0xf860_7800 | rm(index) | rn(base) | rd(to));
    }

    /// `ldr to, [base, index]`, with the upper bits cleared or, of less than 8 bytes, the sign in all 64 bits.
    pub(super) fn load_beside(&mut self, len: Len, signed: bool, to: Reg, base: Reg, index: Reg) {
        let opcode = if signed { 0x38a0_6800 } else { 0x3860_6800 };
        self.put(opcode | (len as u32) << 30 | rm(index) | rn(base) | rd(to));
    }

    fn pair(&mut self, opcode: u32, a: Reg, b: Reg, base: Reg, disp: i32) {
        let scaled = (disp >> 3) as u32 & 0x7f;
        debug_assert!((-512..512).contains(&disp) && disp % 8 == 0, "a displacement that there is");
        self.put(opcode | scaled << 15 | u32::from(b.0) << 10 | rn(base) | rd(a));
    }

    /// `stp a, b, [base, disp]`.
    pub(super) fn store_pair(&mut self, a: Reg, b: Reg, base: Reg, disp: i32) {
        self.pair(0xa900_0000, a, b, base, disp);
    }

    /// `ldp a, b, [base, disp]`.
    pub(super) fn load_pair(&mut self, a: Reg, b: Reg, base: Reg, disp: i32) {
        self.pair(0xa940_0000, a, b, base, disp);
    }

    /// `stp a, b, [base], #16`.
    pub(super) fn store_pair_on(&mut self, a: Reg, b: Reg, base: Reg) {
        self.pair(0xa880_0000, a, b, base, 16);
    }

    /// Makes room on the stack, and puts two registers at its end.
    pub(super) fn push_pair(&mut self, a: Reg, b: Reg, bytes: i32) {
        self.pair(0xa980_0000, a, b, SP, -bytes);
    }

    /// The other way round.
    pub(super) fn pop_pair(&mut self, a: Reg, b: Reg, bytes: i32) {
        self.pair(0xa8c0_0000, a, b, SP, bytes);
    }

    /// `ldar`: later accesses come after it.
    pub(super) fn load_acquire(&mut self, len: Len, to: Reg, at: Reg) {
        self.put(0x08df_fc00 | (len as u32) << 30 | rn(at) | rd(to));
    }

    /// `stlr`: earlier accesses come before it.
    pub(super) fn store_release(&mut self, len: Len, at: Reg, from: Reg) {
        self.put(0x089f_fc00 | (len as u32) << 30 | rn(at) | rd(from));
    }

    /// `ldxr`: loads and watches the place.
    pub(super) fn load_exclusive(&mut self, bits: Bits, to: Reg, at: Reg) {
        self.put(0x885f_7c00 | sf(bits) >> 1 | rn(at) | rd(to));
    }

    /// `stlxr`: stores if nobody else did; `failed` is then 0.
    pub(super) fn store_exclusive(&mut self, bits: Bits, failed: Reg, at: Reg, from: Reg) {
        self.put(0x8800_fc00 | sf(bits) >> 1 | rm(failed) | rn(at) | rd(from));
    }

    /// `dmb ish`: everything before comes before everything after.
    pub(super) fn barrier(&mut self) {
        self.put(0xd503_3bbf);
    }

    /// One step, ordered both ways (`ldaddal` and others): `to` becomes what was in memory.
    pub(super) fn rmw(&mut self, op: Rmw, bits: Bits, at: Reg, src: Reg, to: Reg) {
        let op = (op as u32) << 12;
        self.put(0xb8e0_0000 | sf(bits) >> 1 | op | rm(src) | rn(at) | rd(to));
    }

    /// `casal`: if `old` is in memory, `new` gets there; `old` becomes what was there.
    pub(super) fn compare_and_swap(&mut self, bits: Bits, at: Reg, old: Reg, new: Reg) {
        self.put(0x88e0_fc00 | sf(bits) >> 1 | rm(old) | rn(at) | rd(new));
    }

    fn distance(&mut self, to: Label, kind: JumpKind) {
        self.jumps.push(Jump { at: self.words.len() as u32, to, kind });
        self.put(0);
    }

    /// Spoils [`FAR`], as the two that follow.
    pub(super) fn jump(&mut self, to: Label) {
        self.distance(to, JumpKind::Always);
    }

    pub(super) fn jump_if(&mut self, when: When, to: Label) {
        self.distance(to, JumpKind::If(when));
    }

    pub(super) fn call(&mut self, to: Label) {
        self.distance(to, JumpKind::Call);
    }

    pub(super) fn jump_reg(&mut self, to: Reg) {
        self.put(0xd61f_0000 | rn(to));
    }

    pub(super) fn call_reg(&mut self, to: Reg) {
        self.put(0xd63f_0000 | rn(to));
    }

    pub(super) fn ret(&mut self) {
        self.put(0xd65f_0000 | rn(LINK));
    }
}

#[cfg(test)]
mod tests;
