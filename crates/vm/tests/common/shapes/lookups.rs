//! Maps: keys, lookups with the question whether something was found, updates and deletions.

use skep_insn::build::{alu, call, load, mov, store};
use skep_insn::{AluOp, Cond, Insn, Operand, Reg, Size, Width, helpers};
use skep_vm::MapKind;

use super::super::random::For;
use super::{ARRAYS, Bound, Item, Kind, MAPS, PROGRAMS, Role, Writer};

impl Writer<'_> {
    /// Where keys are, from r10.
    pub(super) fn key_off(&self) -> i16 {
        -8 * self.top - 16
    }

    /// A key for a map gets into memory, in one of several ways; gives where it is. The operations that look it up may follow.
    pub(super) fn key(&mut self, map: usize) -> i16 {
        let (_, len, _, entries, _) = MAPS[map];
        let off = self.key_off() + if len == 16 || self.rng.below(2) == 0 { 0 } else { 8 };
        let number = self.rng.below(u64::from(entries.min(6)) + 1) as i32;
        let size = if len == 4 { Size::W } else { Size::Dw };
        match self.rng.below(6) {
            0 | 1 => self.push(store(size, Reg::FP, off, number)),
            2 => {
                let from = self.own_number();
                let width = if len == 4 { self.rng.width() } else { Width::W64 };
                self.push(Insn::Alu {
                    width,
                    op: AluOp::And,
                    dst: from,
                    src: Operand::Imm(if number > 2 { 7 } else { 3 }),
                });
                self.push(store(size, Reg::FP, off, from));
            }
            // Counted in memory, as compilers count what they put aside.
            3 => {
                if self.rng.below(2) == 0 {
                    self.push(store(size, Reg::FP, off, number));
                }
                let dst = self.dst();
                self.push(load(size, dst, Reg::FP, off));
                let src = if self.rng.below(4) == 0 { self.number_but(dst) } else { Operand::Imm(1) };
                self.push(Insn::Alu { width: self.rng.width(), op: AluOp::Add, dst, src });
                self.push(store(size, Reg::FP, off, dst));
                let kind = if self.rng.below(3) == 0 { Kind::Number } else { Kind::Junk };
                self.set(dst, kind);
            }
            // What is there, from before; or what one of two ways, or of one, left there.
            4 => {
                let (one, other) = (self.own_number(), self.own_number());
                let both = self.rng.below(2) == 0;
                let (skip, join) = (self.label(), self.label());
                for reg in [one, other] {
                    self.push(Insn::Alu { width: Width::W64, op: AluOp::And, dst: reg, src: Operand::Imm(3) });
                }
                if self.rng.below(2) == 0 {
                    self.branch(skip);
                    self.push(store(size, Reg::FP, off, one));
                    if both {
                        self.goto(join);
                    }
                    self.bind(skip);
                    if both {
                        self.push(store(size, Reg::FP, off, other));
                    }
                    self.bind(join);
                    return off;
                }
            }
            _ if len == 4 => return self.rng.below(2 * self.words as u64) as i16 * 4 - 8 * self.words,
            _ => {
                self.push(store(Size::W, Reg::FP, off, number));
                self.push(store(Size::W, Reg::FP, off + 4, 0));
            }
        }
        if self.rng.below(6) == 0 {
            self.arithmetic();
        }
        off
    }

    /// r1 and r2 for a call about a key of a map; or of another map, if there is one and some branch says so.
    pub(super) fn map_and_key(&mut self, map: usize, other: Option<usize>, key: i16) {
        self.kinds[1] = Kind::Junk;
        self.kinds[2] = Kind::Junk;
        let set_up = self.rng.below(2) == 0;
        if set_up {
            self.map(map, other);
        }
        self.push(mov(Reg::R2, Reg::FP));
        match self.rng.below(8) {
            0 | 1 => {
                self.push(alu(AluOp::Add, Reg::R2, i32::from(key) - 8));
                if self.rng.below(2) == 0 && set_up && !self.kernel() {
                    self.push(mov(Reg::R3, self.rng.number() as i32));
                    self.set(Reg::R3, Kind::Number);
                }
                self.push(alu(AluOp::Add, Reg::R2, 8));
            }
            // Some other words are the key as well.
            2 => {
                let over = self.label();
                self.push(alu(AluOp::Add, Reg::R2, -16));
                if self.branch_by_numbers(over) {
                    self.push(alu(AluOp::Add, Reg::R2, i32::from(key) + 16));
                }
                self.bind(over);
            }
            _ => self.push(alu(AluOp::Add, Reg::R2, i32::from(key))),
        }
        if !set_up {
            self.map(map, other);
        }
    }

    pub(super) fn map(&mut self, map: usize, other: Option<usize>) {
        let over = self.label();
        if let Some(other) = other {
            self.item(Item::Load(Reg::R1, Bound::Map(other)));
        }
        if other.is_none() || self.branch_by_numbers(over) {
            self.item(Item::Load(Reg::R1, Bound::Map(map)));
        }
        self.bind(over);
    }

    /// What a call of a helper leaves.
    pub(super) fn called(&mut self) {
        for reg in 1..6 {
            // Here they are as they were; to a kernel's verifier nothing is in them any more.
            let lost = self.kernel() || reg < 3 && self.rng.below(4) != 0;
            if lost || self.kinds[reg] == Kind::Junk {
                self.kinds[reg] = Kind::Junk;
            } else if reg < 3 {
                self.kinds[reg] = Kind::Number;
            }
        }
        if !self.kernel() && self.rng.below(8) == 0 {
            self.kinds[1] = Kind::Number;
            self.kinds[2] = Kind::Number;
        }
        self.set(Reg::R0, Kind::Number);
    }

    pub(super) fn look_up(&mut self) {
        if !self.may_call() {
            return self.on_stack();
        }
        let (map, writable) = loop {
            let map = self.rng.below(PROGRAMS as u64) as usize;
            let (kind, .., flags) = MAPS[map];
            let hash = matches!(kind, MapKind::Hash | MapKind::LruHash);
            if !(self.runner == For::Changed && hash) {
                break (map, flags == 0);
            }
        };
        let key = self.key(map);
        let array = ARRAYS.contains(&map) && self.rng.below(5) == 0;
        let other = array.then(|| self.rng.one_of(&ARRAYS));
        self.map_and_key(map, other, key);
        self.push(call(helpers::MAP_LOOKUP_ELEM));
        self.called();
        let len = MAPS[map].2.min(MAPS[other.unwrap_or(map)].2) as i16;
        let value = Kind::Bytes { len, writable, map: Some(map) };
        // In r0, or in a register that is kept.
        let kept = Reg::ALL[6 + self.rng.below(3) as usize];
        let kept = if self.rng.below(2) == 0 && !self.is_locked(kept) { kept } else { Reg::R0 };
        if kept != Reg::R0 {
            self.push(mov(kept, Reg::R0));
            self.set(kept, Kind::Number);
        }
        let asked = if kept != Reg::R0 && self.rng.below(2) == 0 { kept } else { Reg::R0 };
        if !self.kernel() && self.rng.below(8) == 0 {
            self.arithmetic_but(&[Reg::R0, kept]);
        }
        let ask = |cond, label| Item::If(Width::W64, cond, asked, Operand::Imm(0), label);
        let found = |this: &mut Self| {
            this.set(Reg::R0, value);
            this.set(kept, value);
        };
        match self.rng.below(6) {
            // Not found: over what is done with it.
            0 | 1 => {
                let absent = self.label();
                self.item(ask(Cond::Eq, absent));
                self.leads_to(absent);
                found(self);
                self.uses(kept);
                self.bind(absent);
            }
            2 => {
                let (present, join) = (self.label(), self.label());
                self.item(ask(Cond::Ne, present));
                let before = self.kinds;
                self.body(2);
                self.goto(join);
                self.kinds = before;
                self.reached = true;
                found(self);
                // Only from there.
                self.labels[present.0] = Some(self.kinds);
                self.reached = false;
                self.bind(present);
                self.uses(kept);
                self.bind(join);
            }
            // Not found: out of the function.
            3 => {
                let present = self.label();
                self.item(ask(Cond::Ne, present));
                let before = self.kinds;
                let src = self.operand();
                self.push(Insn::Mov { width: self.rng.width(), dst: Reg::R0, src });
                self.leave();
                self.kinds = before;
                found(self);
                self.items.push(Item::Bind(present));
                self.uses(kept);
            }
            // Out of the loop, or on with the next round.
            4 if !self.out.is_empty() => {
                let from = if self.rng.below(2) == 0 { &self.out } else { &self.round };
                let to = from.last().copied().expect("there is a loop");
                self.item(ask(Cond::Eq, to));
                self.leads_to(to);
                found(self);
                self.uses(kept);
            }
            _ => {
                let (absent, join) = (self.label(), self.label());
                self.item(ask(Cond::Eq, absent));
                self.leads_to(absent);
                found(self);
                self.uses(kept);
                self.goto(join);
                self.bind(absent);
                self.body(2);
                self.bind(join);
            }
        }
    }

    /// What is done with a value that was found.
    pub(super) fn uses(&mut self, kept: Reg) {
        for _ in 0..1 + self.rng.below(3) {
            let by = if self.rng.below(2) == 0 { kept } else { Reg::R0 };
            self.access(by);
        }
        if self.rng.below(3) == 0 {
            self.statement();
            if self.kind(kept).is_address() {
                self.access(kept);
            }
        }
    }

    /// An update, or a deletion.
    pub(super) fn change_map(&mut self) {
        if !self.may_call() {
            return self.on_stack();
        }
        let hashes = match self.runner {
            For::Engines => true,
            For::Changed => false,
            // Not where somebody else may have an address of a value, whose place another key may get.
            For::Kernel(_) => self.role == Role::Entry && self.out.is_empty(),
        };
        let maps: &[usize] = if hashes { &[0, 3, 4, 5, 6, 7, 8] } else { &ARRAYS };
        let map = self.rng.one_of(maps);
        let key = self.key(map);
        self.map_and_key(map, None, key);
        let removes = self.rng.below(3) == 0;
        if removes {
            self.push(call(helpers::MAP_DELETE_ELEM));
        } else {
            self.push(mov(Reg::R3, Reg::FP));
            // The words of the frame, or those of the keys with them: all are numbers.
            let len = MAPS[map].2.next_multiple_of(8) as i16;
            let value = -(8 * self.words).max(len);
            self.push(alu(AluOp::Add, Reg::R3, i32::from(value)));
            let flags = [0, 0, 1, 2][self.rng.below(4) as usize];
            self.push(mov(Reg::R4, flags));
            self.push(call(helpers::MAP_UPDATE_ELEM));
            self.set(Reg::R3, Kind::Junk);
            self.set(Reg::R4, Kind::Junk);
        }
        self.called();
        // What was found there may belong to another key soon.
        if self.kernel() && !matches!(MAPS[map].0, MapKind::Array | MapKind::PerCpuArray) {
            for kind in &mut self.kinds {
                if matches!(kind, Kind::Bytes { map: Some(of), .. } if *of == map) {
                    *kind = Kind::Junk;
                }
            }
            self.changed |= 1 << map;
        }
    }
}
