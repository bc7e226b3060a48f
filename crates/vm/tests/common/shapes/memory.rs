//! The stack, and memory by an address in a register.

use skep_insn::build::{alu, load, mov, mov32, store};
use skep_insn::{AluOp, AtomicOp, Insn, LoadType, Operand, Reg, Size, Width};

use super::super::random::{INPUT_BYTES, Isa, Rng, fetches, unknown_before};
use super::{Bound, DATA, Item, Kind, MAPS, Writer};

impl Writer<'_> {
    pub(super) fn on_stack(&mut self) {
        let end = 8 * self.words;
        let place = |rng: &Rng, size: Size| {
            let len = size.len_bytes() as i16;
            rng.below((end / len) as u64) as i16 * len - end
        };
        let insn = match self.rng.below(5) {
            0 => {
                let ty = self.rng.one_of(&LoadType::ALL);
                if ty.is_signed() && self.isa < Isa::V4 {
                    return;
                }
                let off = place(self.rng, ty.size());
                let dst = self.dst();
                self.set(dst, Kind::Number);
                load(ty, dst, Reg::FP, off)
            }
            1 | 2 => {
                let (size, src) = (self.rng.one_of(&Size::ALL), self.operand());
                store(size, Reg::FP, place(self.rng, size), src)
            }
            3 => {
                let width = self.rng.width();
                let size = if width == Width::W32 { Size::W } else { Size::Dw };
                let off = place(self.rng, size);
                return self.atomic(width, Reg::FP, off, true);
            }
            _ if self.isa == Isa::Ordered => {
                let size = self.rng.one_of(&Size::ALL);
                let off = place(self.rng, size);
                if self.rng.below(2) == 0 {
                    let dst = self.dst();
                    self.set(dst, Kind::Number);
                    Insn::LoadAcquire { size, dst, base: Reg::FP, off }
                } else {
                    Insn::StoreRelease { size, base: Reg::FP, off, src: self.number() }
                }
            }
            _ => return,
        };
        self.push(insn);
    }

    /// What was stored is read back, perhaps behind something that changes it, or the register.
    pub(super) fn read_back(&mut self) {
        let size = self.rng.one_of(&[Size::W, Size::Dw, Size::Dw, Size::H]);
        let (end, len) = (8 * self.words, size.len_bytes() as i16);
        let off = self.rng.below((end / len) as u64) as i16 * len - end;
        let src = self.number();
        self.push(store(size, Reg::FP, off, src));
        match self.rng.below(8) {
            0 => self.arithmetic(),
            1 => self.on_stack(),
            2 => self.by_address(),
            3 => self.rotation(),
            4 => self.statement(),
            5 => {
                let (size, src) = (self.rng.one_of(&Size::ALL), self.operand());
                let len = size.len_bytes() as i16;
                self.push(store(size, Reg::FP, off & -len, src));
            }
            _ => {}
        }
        let signed = self.isa >= Isa::V4 && self.rng.below(6) == 0;
        let ty = LoadType::ALL.into_iter().find(|ty| ty.is_signed() == signed && ty.size() == size);
        let dst = if self.rng.below(4) == 0 && self.kind(src) == Kind::Number && !self.is_locked(src) {
            src
        } else {
            self.dst()
        };
        self.push(load(ty.unwrap_or(size.into()), dst, Reg::FP, off));
        self.set(dst, Kind::Number);
    }

    /// A number that is loaded byte by byte, or something that looks like one.
    pub(super) fn by_bytes(&mut self) {
        let count = self.rng.one_of(&[2, 2, 4, 4, 8]);
        let found = self.regs_of(|kind| match kind {
            Kind::Bytes { len, .. } => len >= count,
            Kind::Input => true,
            _ => false,
        });
        let in_frame = found.is_empty() || self.rng.below(3) == 0;
        let base = if in_frame { Reg::FP } else { self.rng.one_of(&found) };
        let (start, len) = match self.kind_of_base(base) {
            Some(Kind::Bytes { len, .. }) => (0, len),
            Some(_) => (0, INPUT_BYTES as i16),
            None => (-8 * self.words, 8 * self.words),
        };
        let off = start + self.rng.below((len - count + 1) as u64) as i16;
        let (sum, byte) = (self.spare(), self.spare());
        if sum == byte || sum == base || byte == base {
            return;
        }
        let (width, big) =
            (if count == 8 || self.rng.below(2) == 0 { Width::W64 } else { Width::W32 }, self.rng.below(2) == 0);
        let wrong = self.rng.below(5) == 0;
        for index in 0..count {
            let place = if big { count - 1 - index } else { index };
            let place = if wrong && self.rng.below(count as u64) == 0 { 0 } else { place };
            let to = if index == 0 { sum } else { byte };
            self.push(load(Size::B, to, base, off + place));
            self.set(to, Kind::Number);
            if index != 0 {
                self.push(Insn::Alu { width, op: AluOp::Lsh, dst: byte, src: Operand::Imm(8 * i32::from(index)) });
                let op = if self.rng.below(20) == 0 { AluOp::Add } else { AluOp::Or };
                self.push(Insn::Alu { width, op, dst: sum, src: byte.into() });
            }
        }
        if self.rng.below(3) != 0 {
            self.fill(byte);
        }
    }

    /// What a base holds; `None` of the frame pointer.
    fn kind_of_base(&self, base: Reg) -> Option<Kind> {
        (base != Reg::FP).then(|| self.kind(base))
    }

    /// An atomic operation, which fetches or does not.
    pub(super) fn atomic(&mut self, width: Width, base: Reg, off: i16, may_fetch: bool) {
        let op = self.rng.one_of(&AtomicOp::ALL);
        let src = self.own_number();
        if fetches(op) && !may_fetch || op == AtomicOp::CmpXchg && self.kind(Reg::R0) != Kind::Number {
            return;
        }
        let insn = Insn::Atomic { op, width, base, off, src };
        if let Some(before) = unknown_before(insn, self.runner) {
            self.push(before);
        }
        self.push(insn);
        // See `settled` of the other random programs.
        if op == AtomicOp::CmpXchg && width == Width::W32 {
            self.push(mov32(Reg::R0, Reg::R0));
        }
    }

    /// Something with memory by an address in a register.
    pub(super) fn by_address(&mut self) {
        let found = self.regs_of(Kind::is_address);
        if found.is_empty() {
            return self.data_address();
        }
        let base = self.rng.one_of(&found);
        self.access(base);
    }

    pub(super) fn access(&mut self, base: Reg) {
        let (len, writable, map) = match self.kind(base) {
            Kind::Input => (INPUT_BYTES as i16, true, None),
            Kind::Bytes { len, writable, map } => (len, writable, map),
            _ => return,
        };
        let input = self.kind(base) == Kind::Input;
        let size = self.rng.one_of(&Size::ALL);
        let bytes = size.len_bytes() as i16;
        if len < bytes {
            return;
        }
        // Accesses that are not atomic may be anywhere in a value, here everywhere.
        let askew = (map.is_some() || !self.kernel()) && self.rng.below(4) == 0;
        let whole = (len / bytes).max(1);
        let off = if askew {
            self.rng.below((len - bytes + 1) as u64) as i16
        } else {
            self.rng.below(whole as u64) as i16 * bytes
        };
        let aligned = off % bytes == 0;
        match self.rng.below(8) {
            0..=1 => {
                let signed = LoadType::ALL.into_iter().find(|ty| ty.is_signed() && ty.size() == size);
                let ty = match signed.filter(|_| self.isa >= Isa::V4 && !input && self.rng.below(3) == 0) {
                    Some(ty) => ty,
                    None => size.into(),
                };
                let dst = self.dst();
                self.push(load(ty, dst, base, off));
                self.set(dst, Kind::Number);
            }
            2 if writable => {
                let src = self.operand();
                self.push(store(size, base, off, src));
            }
            // A count.
            3..=4 if writable => self.count(size, base, off),
            5 if writable && !input && aligned && bytes >= 4 => {
                let width = if size == Size::W { Width::W32 } else { Width::W64 };
                let may_fetch = map.is_some() || !self.kernel();
                self.atomic(width, base, off, may_fetch);
            }
            6 if !input && aligned && self.isa == Isa::Ordered => {
                if self.rng.below(2) == 0 || !writable {
                    let dst = self.dst();
                    self.push(Insn::LoadAcquire { size, dst, base, off });
                    self.set(dst, Kind::Number);
                } else {
                    let src = self.number();
                    self.push(Insn::StoreRelease { size, base, off, src });
                }
            }
            // One address more, or another one.
            _ if !input && len > 8 => {
                let dst = if self.rng.below(2) == 0 && !self.is_locked(base) { base } else { self.dst() };
                if dst != base {
                    self.push(mov(dst, base));
                }
                let by = 8 * self.rng.below(len as u64 / 8) as i16;
                if by != 0 && by < len {
                    self.push(alu(AluOp::Add, dst, i32::from(by)));
                    self.set(dst, Kind::Bytes { len: len - by, writable, map });
                } else {
                    self.set(dst, Kind::Bytes { len, writable, map });
                }
            }
            _ => {}
        }
    }

    /// A load, a sum and a store; often to the same place, of a register that nobody reads behind it.
    pub(super) fn count(&mut self, size: Size, base: Reg, off: i16) {
        let by = self.operand();
        let dst = self.dst();
        if dst == base {
            return;
        }
        self.push(load(size, dst, base, off));
        self.set(dst, Kind::Number);
        let op = if self.rng.below(6) == 0 { AluOp::Xor } else { AluOp::Add };
        self.push(Insn::Alu { width: self.rng.width(), op, dst, src: by });
        self.push(store(size, base, off, dst));
        match self.rng.below(3) {
            0 => self.fill(dst),
            1 => self.set(dst, Kind::Junk),
            _ => {}
        }
    }

    pub(super) fn count_in_stack(&mut self) {
        let size = self.rng.one_of(&[Size::W, Size::Dw]);
        let end = 8 * self.words;
        let len = size.len_bytes() as i16;
        let off = self.rng.below((end / len) as u64) as i16 * len - end;
        self.count(size, Reg::FP, off);
    }

    /// An address of global data.
    pub(super) fn data_address(&mut self) {
        let map = self.rng.one_of(&DATA);
        let (_, _, len, _, flags) = MAPS[map];
        let off = 8 * self.rng.below(u64::from(len) / 8) as u32;
        let dst = self.dst();
        self.item(Item::Load(dst, Bound::Value(map, off)));
        self.set(dst, Kind::Bytes { len: (len - off) as i16, writable: flags == 0, map: Some(map) });
    }

    /// A load at the sum of two registers, into the same one.
    pub(super) fn by_sum(&mut self) {
        let found = self.regs_of(|kind| matches!(kind, Kind::Bytes { len, map: Some(_), .. } if len >= 16));
        if found.is_empty() {
            return self.data_address();
        }
        let base = self.rng.one_of(&found);
        let index = self.own_number();
        let dst = self.dst();
        if dst == base || dst == index {
            return;
        }
        self.push(alu(AluOp::And, index, 7));
        self.push(mov(dst, base));
        self.push(alu(AluOp::Add, dst, index));
        let size = self.rng.one_of(&Size::ALL);
        let off = self.rng.below(2) as i16;
        if self.rng.below(3) == 0 && self.writable(base) {
            let src = self.number();
            if src != dst {
                self.push(store(size, dst, off, src));
            }
            self.set(dst, Kind::Junk);
        } else {
            self.push(load(size, dst, dst, off));
            self.set(dst, Kind::Number);
        }
    }

    pub(super) fn writable(&self, base: Reg) -> bool {
        matches!(self.kind(base), Kind::Bytes { writable: true, .. })
    }

    /// A register is put aside and comes back behind something else.
    pub(super) fn put_aside(&mut self) {
        let any = self.regs_of(|kind| kind != Kind::Junk);
        if self.aside == 0 || any.is_empty() {
            return self.on_stack();
        }
        let reg = self.rng.one_of(&any);
        let kind = self.kind(reg);
        let off = self.key_off() - 8 * self.aside;
        self.aside -= 1;
        self.push(store(Size::Dw, Reg::FP, off, reg));
        let changed = std::mem::take(&mut self.changed);
        self.body(3);
        let gone = matches!(kind, Kind::Bytes { map: Some(map), .. } if self.changed >> map & 1 != 0);
        self.changed |= changed;
        self.aside += 1;
        if !gone {
            let dst = self.dst();
            self.push(load(Size::Dw, dst, Reg::FP, off));
            self.set(dst, kind);
            if kind.is_address() {
                self.access(dst);
            }
        }
    }
}
