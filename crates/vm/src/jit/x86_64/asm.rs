//! An encoder for the instructions that the back end uses.
//!
//! An instruction is: prefixes, REX (who is wide, and the upper bits of the three register numbers), opcode, ModRM with SIB and
//! displacement, immediate. The odd cases are all in [`Asm::modrm`]: rsp and r12 as a base need a SIB byte, because their lower
//! three bits announce one; rbp and r13 as a base need a displacement, because theirs without one mean an address relative to
//! the instruction. And in [`Asm::rex`]: the lower bytes of rsp, rbp, rsi and rdi need a REX, because without it they are ah to bh.
//!
//! Jumps lead to [`Label`]s and always have 32 bits of distance; [`Asm::finish`] fills them in.

/// A register by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reg(u8);

pub(super) const RAX: Reg = Reg(0);
pub(super) const RCX: Reg = Reg(1);
pub(super) const RDX: Reg = Reg(2);
pub(super) const RBX: Reg = Reg(3);
pub(super) const RSP: Reg = Reg(4);
pub(super) const RBP: Reg = Reg(5);
pub(super) const RSI: Reg = Reg(6);
pub(super) const RDI: Reg = Reg(7);
pub(super) const R8: Reg = Reg(8);
pub(super) const R9: Reg = Reg(9);
pub(super) const R10: Reg = Reg(10);
pub(super) const R11: Reg = Reg(11);
pub(super) const R12: Reg = Reg(12);
pub(super) const R13: Reg = Reg(13);
pub(super) const R14: Reg = Reg(14);
pub(super) const R15: Reg = Reg(15);

/// How many bits an instruction works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bits {
    B8,
    B16,
    B32,
    B64,
}

/// A place in memory: base + displacement, or base + (index << shift) + displacement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mem {
    pub(super) base: Reg,
    pub(super) index: Option<(Reg, u8)>,
    pub(super) disp: i32,
}

/// `[base + disp]`.
pub(super) fn at(base: Reg, disp: i32) -> Mem {
    Mem { base, index: None, disp }
}

/// The operand that may be memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rm {
    Reg(Reg),
    Mem(Mem),
}

impl From<Reg> for Rm {
    fn from(reg: Reg) -> Rm {
        Rm::Reg(reg)
    }
}

impl From<Mem> for Rm {
    fn from(mem: Mem) -> Rm {
        Rm::Mem(mem)
    }
}

/// Two-operand arithmetic; the number is both the row of its opcodes and the extension of its immediate form.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arith {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Extensions of the opcode of shifts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shift {
    Rol = 0,
    Shl = 4,
    Shr = 5,
    Sar = 7,
}

/// Extensions of the opcode of arithmetic with one operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unary {
    Neg = 3,
    Mul = 4,
    Div = 6,
    Idiv = 7,
}

/// Conditions, by their number in opcodes; that of the opposite differs in the lowest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cc(u8);

impl Cc {
    pub(super) const BELOW: Cc = Cc(0x2);
    pub(super) const ABOVE_EQUAL: Cc = Cc(0x3);
    pub(super) const EQUAL: Cc = Cc(0x4);
    pub(super) const NOT_EQUAL: Cc = Cc(0x5);
    pub(super) const BELOW_EQUAL: Cc = Cc(0x6);
    pub(super) const ABOVE: Cc = Cc(0x7);
    pub(super) const LESS: Cc = Cc(0xc);
    pub(super) const GREATER_EQUAL: Cc = Cc(0xd);
    pub(super) const LESS_EQUAL: Cc = Cc(0xe);
    pub(super) const GREATER: Cc = Cc(0xf);

    pub(super) fn opposite(self) -> Cc {
        Cc(self.0 ^ 1)
    }
}

/// A place in the code, perhaps one to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

const UNBOUND: u32 = u32::MAX;

/// Code that is being written.
#[derive(Debug, Default)]
pub(super) struct Asm {
    code: Vec<u8>,
    /// Where each label is.
    labels: Vec<u32>,
    /// Behind each distance, and the label that it leads to.
    jumps: Vec<(u32, Label)>,
}

impl Asm {
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(UNBOUND);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = self.code.len() as u32;
    }

    /// Does nothing up to a multiple of 32 bytes.
    pub(super) fn align(&mut self) {
        let mut wanted = self.code.len().next_multiple_of(32) - self.code.len();
        while wanted != 0 {
            // `nop` with an operand of so many bytes.
            let nop: &[u8] = match wanted {
                1 => &[0x90],
                2 => &[0x66, 0x90],
                3 => &[0x0f, 0x1f, 0x00],
                4 => &[0x0f, 0x1f, 0x40, 0],
                5 => &[0x0f, 0x1f, 0x44, 0, 0],
                6 => &[0x66, 0x0f, 0x1f, 0x44, 0, 0],
                7 => &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
                _ => &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
            };
            self.bytes(nop);
            wanted -= nop.len();
        }
    }

    /// Where a label is.
    pub(super) fn place(&self, label: Label) -> u32 {
        self.labels[label.0]
    }

    /// The code, once every label is bound.
    pub(super) fn finish(mut self) -> Vec<u8> {
        for (behind, label) in std::mem::take(&mut self.jumps) {
            let target = self.labels[label.0];
            debug_assert_ne!(target, UNBOUND, "every jump has a target");
            let distance = target.wrapping_sub(behind);
            let behind = behind as usize;
            self.code[behind - 4..behind].copy_from_slice(&distance.to_le_bytes());
        }
        self.code
    }

    fn byte(&mut self, byte: u8) {
        self.code.push(byte);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// The prefixes that a width and the registers need; `low_byte` is a register of which the lowest byte is meant.
    fn rex(&mut self, bits: Bits, reg: u8, rm: Rm, low_byte: Option<Reg>) {
        if bits == Bits::B16 {
            self.byte(0x66);
        }
        let (base, index) = match rm {
            Rm::Reg(reg) => (reg.0, 0),
            Rm::Mem(mem) => (mem.base.0, mem.index.map_or(0, |(index, _)| index.0)),
        };
        let rex = u8::from(bits == Bits::B64) << 3 | reg >> 3 << 2 | index >> 3 << 1 | base >> 3;
        if rex != 0 || low_byte.is_some_and(|reg| reg.0 >= RSP.0) {
            self.byte(0x40 | rex);
        }
    }

    fn modrm(&mut self, reg: u8, rm: Rm) {
        let reg = (reg & 7) << 3;
        let mem = match rm {
            Rm::Reg(rm) => return self.byte(0xc0 | reg | rm.0 & 7),
            Rm::Mem(mem) => mem,
        };
        let base = mem.base.0 & 7;
        let small = i8::try_from(mem.disp);
        let mode = match small {
            Ok(0) if base != RBP.0 => 0x00,
            Ok(_) => 0x40,
            Err(_) => 0x80,
        };
        match mem.index {
            Some((index, shift)) => self.bytes(&[mode | reg | 4, shift << 6 | (index.0 & 7) << 3 | base]),
            None if base == RSP.0 => self.bytes(&[mode | reg | 4, 4 << 3 | base]),
            None => self.byte(mode | reg | base),
        }
        match (mode, small) {
            (0x00, _) => {}
            (_, Ok(small)) => self.byte(small as u8),
            (_, Err(_)) => self.bytes(&mem.disp.to_le_bytes()),
        }
    }

    fn insn(&mut self, bits: Bits, opcode: &[u8], reg: u8, rm: impl Into<Rm>) {
        let rm = rm.into();
        self.rex(bits, reg, rm, None);
        self.bytes(opcode);
        self.modrm(reg, rm);
    }

    /// `op rm, reg`.
    pub(super) fn arith(&mut self, op: Arith, bits: Bits, rm: impl Into<Rm>, reg: Reg) {
        self.insn(bits, &[(op as u8) << 3 | 1], reg.0, rm);
    }

    /// `op reg, mem`.
    pub(super) fn arith_from(&mut self, op: Arith, bits: Bits, reg: Reg, mem: Mem) {
        self.insn(bits, &[(op as u8) << 3 | 3], reg.0, mem);
    }

    /// `op rm, imm`.
    pub(super) fn arith_imm(&mut self, op: Arith, bits: Bits, rm: impl Into<Rm>, imm: i32) {
        match i8::try_from(imm) {
            Ok(small) => {
                self.insn(bits, &[0x83], op as u8, rm);
                self.byte(small as u8);
            }
            Err(_) => {
                self.insn(bits, &[0x81], op as u8, rm);
                self.bytes(&imm.to_le_bytes());
            }
        }
    }

    /// `lock op [mem], reg`.
    pub(super) fn lock_arith(&mut self, op: Arith, bits: Bits, mem: Mem, reg: Reg) {
        self.byte(0xf0);
        self.arith(op, bits, mem, reg);
    }

    /// `lock xadd [mem], reg`.
    pub(super) fn lock_xadd(&mut self, bits: Bits, mem: Mem, reg: Reg) {
        self.byte(0xf0);
        self.insn(bits, &[0x0f, 0xc1], reg.0, mem);
    }

    /// `lock cmpxchg [mem], reg`.
    pub(super) fn lock_cmpxchg(&mut self, bits: Bits, mem: Mem, reg: Reg) {
        self.byte(0xf0);
        self.insn(bits, &[0x0f, 0xb1], reg.0, mem);
    }

    /// `xchg [mem], reg`, which locks by itself.
    pub(super) fn xchg(&mut self, bits: Bits, mem: Mem, reg: Reg) {
        self.insn(bits, &[0x87], reg.0, mem);
    }

    /// `test a, b`.
    pub(super) fn test(&mut self, bits: Bits, a: Reg, b: Reg) {
        self.insn(bits, &[0x85], b.0, a);
    }

    /// `test reg, imm`.
    pub(super) fn test_imm(&mut self, bits: Bits, reg: Reg, imm: i32) {
        self.insn(bits, &[0xf7], 0, reg);
        self.bytes(&imm.to_le_bytes());
    }

    /// `test reg, 1`, of the lowest byte.
    pub(super) fn test_odd(&mut self, reg: Reg) {
        self.rex(Bits::B8, 0, Rm::Reg(reg), Some(reg));
        self.byte(0xf6);
        self.modrm(0, Rm::Reg(reg));
        self.byte(1);
    }

    /// `mov to, from`.
    pub(super) fn mov(&mut self, bits: Bits, to: Reg, from: Reg) {
        self.insn(bits, &[0x89], from.0, to);
    }

    /// `mov to, from` of all 64 bits, when the condition holds.
    pub(super) fn mov_if(&mut self, cc: Cc, to: Reg, from: Reg) {
        self.insn(Bits::B64, &[0x0f, 0x40 | cc.0], to.0, from);
    }

    /// A number, in as few bytes as it takes. Spoils the flags.
    pub(super) fn mov_imm(&mut self, to: Reg, value: u64) {
        if value == 0 {
            self.arith(Arith::Xor, Bits::B32, to, to);
        } else if let Ok(low) = u32::try_from(value) {
            self.rex(Bits::B32, 0, Rm::Reg(to), None);
            self.byte(0xb8 | to.0 & 7);
            self.bytes(&low.to_le_bytes());
        } else if let Ok(low) = i32::try_from(value as i64) {
            self.insn(Bits::B64, &[0xc7], 0, to);
            self.bytes(&low.to_le_bytes());
        } else {
            self.rex(Bits::B64, 0, Rm::Reg(to), None);
            self.byte(0xb8 | to.0 & 7);
            self.bytes(&value.to_le_bytes());
        }
    }

    /// `mov to, [mem]`, with the upper bits cleared.
    pub(super) fn load(&mut self, bits: Bits, to: Reg, from: Mem) {
        match bits {
            Bits::B8 => self.insn(Bits::B32, &[0x0f, 0xb6], to.0, from),
            Bits::B16 => self.insn(Bits::B32, &[0x0f, 0xb7], to.0, from),
            Bits::B32 | Bits::B64 => self.insn(bits, &[0x8b], to.0, from),
        }
    }

    /// `mov [mem], from`.
    pub(super) fn store(&mut self, bits: Bits, to: Mem, from: Reg) {
        if bits == Bits::B8 {
            self.rex(bits, from.0, Rm::Mem(to), Some(from));
            self.byte(0x88);
            self.modrm(from.0, Rm::Mem(to));
        } else {
            self.insn(bits, &[0x89], from.0, to);
        }
    }

    /// `mov [mem], imm`; 64 bits are extended from 32.
    pub(super) fn store_imm(&mut self, bits: Bits, to: Mem, imm: i32) {
        let opcode = if bits == Bits::B8 { 0xc6 } else { 0xc7 };
        self.insn(bits, &[opcode], 0, to);
        match bits {
            Bits::B8 => self.byte(imm as u8),
            Bits::B16 => self.bytes(&(imm as u16).to_le_bytes()),
            Bits::B32 | Bits::B64 => self.bytes(&imm.to_le_bytes()),
        }
    }

    /// Extends 16 bits of a register with zeros.
    pub(super) fn zero_extend16(&mut self, to: Reg, from: Reg) {
        self.insn(Bits::B32, &[0x0f, 0xb7], to.0, from);
    }

    /// Extends the sign of the lower `from_bits` to `bits`.
    pub(super) fn sign_extend(&mut self, bits: Bits, to: Reg, from_bits: Bits, from: impl Into<Rm>) {
        let from = from.into();
        match from_bits {
            Bits::B8 => {
                let low_byte = if let Rm::Reg(reg) = from { Some(reg) } else { None };
                self.rex(bits, to.0, from, low_byte);
                self.bytes(&[0x0f, 0xbe]);
                self.modrm(to.0, from);
            }
            Bits::B16 => self.insn(bits, &[0x0f, 0xbf], to.0, from),
            Bits::B32 | Bits::B64 => self.insn(bits, &[0x63], to.0, from),
        }
    }

    /// `lea to, [mem]`.
    pub(super) fn lea(&mut self, bits: Bits, to: Reg, mem: Mem) {
        self.insn(bits, &[0x8d], to.0, mem);
    }

    /// `imul to, from`.
    pub(super) fn imul(&mut self, bits: Bits, to: Reg, from: Reg) {
        self.insn(bits, &[0x0f, 0xaf], to.0, from);
    }

    /// `imul to, to, imm`.
    pub(super) fn imul_imm(&mut self, bits: Bits, to: Reg, imm: i32) {
        self.insn(bits, &[0x69], to.0, to);
        self.bytes(&imm.to_le_bytes());
    }

    /// `neg`, a multiplication of rax into rdx:rax, or a division of these.
    pub(super) fn unary(&mut self, op: Unary, bits: Bits, reg: Reg) {
        self.insn(bits, &[0xf7], op as u8, reg);
    }

    /// Extends the sign of rax into rdx.
    pub(super) fn sign_to_rdx(&mut self, bits: Bits) {
        self.rex(bits, 0, Rm::Reg(RAX), None);
        self.byte(0x99);
    }

    /// Shifts by a constant.
    pub(super) fn shift_imm(&mut self, op: Shift, bits: Bits, reg: Reg, by: u8) {
        self.insn(bits, &[0xc1], op as u8, reg);
        self.byte(by);
    }

    /// Shifts by cl.
    pub(super) fn shift_cl(&mut self, op: Shift, bits: Bits, reg: Reg) {
        self.insn(bits, &[0xd3], op as u8, reg);
    }

    /// Rotates to the right by a constant (BMI2: `rorx`).
    pub(super) fn rorx(&mut self, bits: Bits, to: Reg, from: Reg, by: u8) {
        self.byte(0xc4);
        self.byte((to.0 >> 3 ^ 1) << 7 | 1 << 6 | (from.0 >> 3 ^ 1) << 5 | 3);
        self.byte(u8::from(bits == Bits::B64) << 7 | 15 << 3 | 3);
        self.byte(0xf0);
        self.modrm(to.0, Rm::Reg(from));
        self.byte(by);
    }

    /// Shifts by any register (BMI2: `shlx`, `shrx`, `sarx`). The VEX prefix has the register bits inverted.
    pub(super) fn shift_by(&mut self, op: Shift, bits: Bits, to: Reg, from: Reg, by: Reg) {
        let prefix = match op {
            Shift::Shl => 1,
            Shift::Sar => 2,
            Shift::Shr => 3,
            Shift::Rol => unreachable!("there is no such instruction"),
        };
        self.byte(0xc4);
        self.byte((to.0 >> 3 ^ 1) << 7 | 1 << 6 | (from.0 >> 3 ^ 1) << 5 | 2);
        self.byte(u8::from(bits == Bits::B64) << 7 | (by.0 ^ 15) << 3 | prefix);
        self.byte(0xf7);
        self.modrm(to.0, Rm::Reg(from));
    }

    /// `bswap`.
    pub(super) fn bswap(&mut self, bits: Bits, reg: Reg) {
        self.rex(bits, 0, Rm::Reg(reg), None);
        self.bytes(&[0x0f, 0xc8 | reg.0 & 7]);
    }

    pub(super) fn push(&mut self, reg: Reg) {
        self.rex(Bits::B32, 0, Rm::Reg(reg), None);
        self.byte(0x50 | reg.0 & 7);
    }

    pub(super) fn pop(&mut self, reg: Reg) {
        self.rex(Bits::B32, 0, Rm::Reg(reg), None);
        self.byte(0x58 | reg.0 & 7);
    }

    pub(super) fn ret(&mut self) {
        self.byte(0xc3);
    }

    fn distance(&mut self, to: Label) {
        self.bytes(&[0; 4]);
        self.jumps.push((self.code.len() as u32, to));
    }

    pub(super) fn jmp(&mut self, to: Label) {
        self.byte(0xe9);
        self.distance(to);
    }

    pub(super) fn jcc(&mut self, cc: Cc, to: Label) {
        self.bytes(&[0x0f, 0x80 | cc.0]);
        self.distance(to);
    }

    pub(super) fn call(&mut self, to: Label) {
        self.byte(0xe8);
        self.distance(to);
    }

    pub(super) fn jmp_reg(&mut self, to: Reg) {
        self.insn(Bits::B32, &[0xff], 4, to);
    }

    pub(super) fn call_reg(&mut self, to: Reg) {
        self.insn(Bits::B32, &[0xff], 2, to);
    }
}

#[cfg(test)]
mod tests;
