//! The writing of a function: its items, what registers hold, its begin and its end.

use skep_insn::build::{alu, exit, load, load_imm64, mov, store};
use skep_insn::{AluOp, Cond, Insn, Operand, Reg, Size};

use super::super::random::{For, Isa, Rng};
use super::{Function, Item, JUNK, Kind, Kinds, Label, MAPS, PASSED, Role, Writer};

impl<'a> Writer<'a> {
    pub(super) fn new(rng: &'a Rng, runner: For, role: Role, made: &'a [Function]) -> Writer<'a> {
        Writer {
            isa: runner.isa(),
            rng,
            runner,
            role,
            made,
            items: Vec::new(),
            labels: Vec::new(),
            kinds: JUNK,
            reached: true,
            locked: 0,
            words: if role == Role::Entry { 8 } else { 4 },
            top: if role == Role::Entry { 8 } else { 4 },
            aside: 2,
            changed: 0,
            out: Vec::new(),
            round: Vec::new(),
            times: 1,
            cost: 0,
            depth: 0,
            calls: true,
            left: 0,
        }
    }

    pub(super) fn kernel(&self) -> bool {
        self.runner.is_kernel()
    }

    pub(super) fn function(mut self) -> Function {
        self.begin();
        self.left = match self.role {
            Role::Entry => 10 + self.rng.below(30) as u32,
            Role::Small => 1 + self.rng.below(4) as u32,
            _ => 4 + self.rng.below(10) as u32,
        };
        while self.left > 0 {
            self.statement();
        }
        self.end();
        let Writer { role, items, labels, cost, depth, .. } = self;
        Function { role, items, labels: labels.len(), cost, depth: depth + 1 }
    }

    pub(super) fn push(&mut self, insn: Insn) {
        self.cost += self.times;
        self.items.push(Item::Insn(insn));
    }

    pub(super) fn item(&mut self, item: Item) {
        self.cost += self.times;
        self.items.push(item);
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// A way leads to the label from here.
    pub(super) fn leads_to(&mut self, label: Label) {
        let kinds = self.kinds;
        let place = &mut self.labels[label.0];
        *place = Some(place.map_or(kinds, |there| std::array::from_fn(|reg| there[reg].meet(kinds[reg]))));
    }

    pub(super) fn bind(&mut self, label: Label) {
        if self.reached {
            self.leads_to(label);
        }
        if let Some(kinds) = self.labels[label.0] {
            self.kinds = kinds;
            self.reached = true;
        }
        self.items.push(Item::Bind(label));
    }

    pub(super) fn goto(&mut self, label: Label) {
        self.leads_to(label);
        let long = self.isa >= Isa::V4 && self.rng.below(4) == 0;
        self.item(Item::Goto(label, long));
        self.reached = false;
    }

    /// A branch by numbers.
    pub(super) fn branch(&mut self, label: Label) {
        let (width, cond, dst, src) = (self.rng.width(), self.rng.one_of(&Cond::ALL), self.number(), self.operand());
        self.item(Item::If(width, cond, dst, src, label));
        self.leads_to(label);
    }

    pub(super) fn kind(&self, reg: Reg) -> Kind {
        self.kinds[usize::from(reg.number())]
    }

    pub(super) fn set(&mut self, reg: Reg, kind: Kind) {
        self.kinds[usize::from(reg.number())] = kind;
    }

    pub(super) fn regs_of(&self, wanted: impl Fn(Kind) -> bool) -> Vec<Reg> {
        Reg::ALL[..10].iter().copied().filter(|reg| wanted(self.kind(*reg))).collect()
    }

    pub(super) fn is_locked(&self, reg: Reg) -> bool {
        self.locked >> reg.number() & 1 != 0
    }

    pub(super) fn lock(&mut self, reg: Reg) {
        self.locked |= 1 << reg.number();
    }

    /// A register with a number.
    pub(super) fn number(&mut self) -> Reg {
        let found = self.regs_of(|kind| kind == Kind::Number);
        match found.is_empty() {
            true => {
                let dst = self.spare();
                self.fill(dst);
                dst
            }
            false => self.rng.one_of(&found),
        }
    }

    /// A register with a number that may be written.
    pub(super) fn own_number(&mut self) -> Reg {
        let found = self.regs_of(|kind| kind == Kind::Number);
        let found: Vec<Reg> = found.into_iter().filter(|reg| !self.is_locked(*reg)).collect();
        match found.is_empty() {
            true => {
                let dst = self.spare();
                self.fill(dst);
                dst
            }
            false => self.rng.one_of(&found),
        }
    }

    pub(super) fn number_but(&mut self, not: Reg) -> Operand {
        let found = self.regs_of(|kind| kind == Kind::Number);
        let found: Vec<Reg> = found.into_iter().filter(|reg| *reg != not).collect();
        if found.is_empty() { Operand::Imm(1) } else { Operand::Reg(self.rng.one_of(&found)) }
    }

    /// A register that may be written without a loss.
    pub(super) fn spare(&mut self) -> Reg {
        let found = self.regs_of(|kind| !kind.is_address());
        let last = if self.role == Role::Small { 6 } else { 10 };
        let found: Vec<Reg> = found.into_iter().filter(|reg| reg.number() < last && !self.is_locked(*reg)).collect();
        if found.is_empty() { Reg::R0 } else { self.rng.one_of(&found) }
    }

    /// A register that may be written; addresses are seldom given up.
    pub(super) fn dst(&mut self) -> Reg {
        let last = if self.role == Role::Small { 6 } else { 10 };
        loop {
            let reg = Reg::ALL[self.rng.below(last) as usize];
            // r0 is never locked.
            if !self.is_locked(reg) && (!self.kind(reg).is_address() || self.rng.below(12) == 0) {
                return reg;
            }
        }
    }

    pub(super) fn operand(&mut self) -> Operand {
        if self.rng.below(2) == 0 { Operand::Reg(self.number()) } else { Operand::Imm(self.rng.number() as i32) }
    }

    /// A number gets into a register.
    pub(super) fn fill(&mut self, dst: Reg) {
        let insn = match self.rng.below(4) {
            0 => load_imm64(dst, self.rng.number()),
            1 if self.role != Role::Small && !self.items.is_empty() => {
                load(Size::Dw, dst, Reg::FP, -8 * (1 + self.rng.below(self.words as u64) as i16))
            }
            _ => mov(dst, self.rng.number() as i32),
        };
        self.push(insn);
        self.set(dst, Kind::Number);
    }

    pub(super) fn begin(&mut self) {
        let numbers = |kinds: &mut Kinds, regs: std::ops::Range<usize>| kinds[regs].fill(Kind::Number);
        let passed = Kind::Bytes { len: PASSED, writable: true, map: None };
        match self.role {
            Role::Entry => {
                self.kinds[1] = Kind::Input;
                self.push(mov(Reg::R9, Reg::R1));
                self.kinds[9] = Kind::Input;
                self.kinds[1] = Kind::Junk;
                self.lock(Reg::R9);
                for reg in &Reg::ALL[..8] {
                    self.push(load(Size::Dw, *reg, Reg::R9, i16::from(reg.number()) * 8));
                }
                numbers(&mut self.kinds, 0..8);
            }
            Role::Small => {
                numbers(&mut self.kinds, 1..6);
                self.push(mov(Reg::R0, self.rng.number() as i32));
                numbers(&mut self.kinds, 0..1);
                return;
            }
            Role::Function { by_address } => {
                numbers(&mut self.kinds, 1..6);
                if by_address.is_some() {
                    self.kinds[1] = passed;
                }
            }
            Role::Round => (self.kinds[1], self.kinds[2]) = (Kind::Number, passed),
            Role::Visit(map) => {
                let (_, key, value, ..) = MAPS[map];
                self.kinds[2] = Kind::Bytes { len: key as i16, writable: false, map: None };
                self.kinds[3] = Kind::Bytes { len: value as i16, writable: true, map: Some(map) };
                self.kinds[4] = passed;
            }
        }
        if self.kind(Reg::R0) == Kind::Junk {
            self.push(mov(Reg::R0, self.rng.number() as i32));
            self.set(Reg::R0, Kind::Number);
        }
        for word in 1..=self.words + 2 {
            let src = if self.rng.below(3) == 0 { Operand::Imm(self.rng.number() as i32) } else { Reg::R0.into() };
            let src = if word > self.words { Operand::Imm(0) } else { src };
            self.push(store(Size::Dw, Reg::FP, -8 * word, src));
        }
        // Addresses to where they are kept.
        for reg in [Reg::R2, Reg::R1, Reg::R3, Reg::R4] {
            if self.kind(reg).is_address() && self.rng.below(4) != 0 {
                let to = Reg::ALL[6 + self.rng.below(3) as usize];
                self.push(mov(to, reg));
                self.set(to, self.kind(reg));
            }
        }
    }

    /// Mixes everything into r0.
    pub(super) fn end(&mut self) {
        self.push(mov(Reg::R0, Reg::R0));
        if self.kind(Reg::R0) != Kind::Number {
            self.items.pop();
            self.push(mov(Reg::R0, 7));
            self.set(Reg::R0, Kind::Number);
        }
        for reg in self.regs_of(|kind| kind == Kind::Number) {
            // A small function stays small.
            if reg != Reg::R0 && (self.role != Role::Small || self.rng.below(4) == 0) {
                self.push(alu(AluOp::Mul, Reg::R0, 0x0100_0193));
                self.push(alu(AluOp::Xor, Reg::R0, reg));
            }
        }
        if self.role != Role::Small {
            for word in 1..=self.words {
                self.push(load(Size::Dw, Reg::R1, Reg::FP, -8 * word));
                self.push(alu(AluOp::Mul, Reg::R0, 0x0100_0193));
                self.push(alu(AluOp::Add, Reg::R0, Reg::R1));
            }
        }
        self.leave();
    }

    /// The end of the function, with a number in r0.
    pub(super) fn leave(&mut self) {
        if matches!(self.role, Role::Round | Role::Visit(_)) {
            // Most go on.
            if self.rng.below(3) == 0 {
                self.push(alu(AluOp::And, Reg::R0, 1));
            } else {
                self.push(mov(Reg::R0, 0));
            }
        }
        self.push(exit());
    }

    pub(super) fn statement(&mut self) {
        self.left = self.left.saturating_sub(1);
        // What was lost comes back.
        let junk = self.regs_of(|kind| kind == Kind::Junk);
        let last = if self.role == Role::Small { 6 } else { 10 };
        for reg in junk.into_iter().filter(|reg| reg.number() < last) {
            if self.rng.below(4) == 0 && !self.is_locked(reg) {
                self.fill(reg);
            }
        }
        let small = self.role == Role::Small;
        match if small { 2 + self.rng.below(12) } else { self.rng.below(37) } {
            2 => self.move_over(),
            0..=5 => self.arithmetic(),
            6 => self.rotation(),
            7 => self.sum(),
            8..=9 => self.choice(),
            10..=11 => self.cycle(),
            12 => self.early_exit(),
            13 => self.out_or_round(),
            14..=15 => self.on_stack(),
            16..=18 => self.by_address(),
            19 => self.count_in_stack(),
            20..=24 => self.look_up(),
            25 => self.change_map(),
            26..=29 => self.call_function(),
            30 => self.repeat(),
            31 => self.visit(),
            32 => self.put_aside(),
            33 => self.by_bytes(),
            34..=35 => self.read_back(),
            _ => match self.rng.below(4) {
                0 => self.tail_call(),
                1 => self.data_address(),
                2 => self.by_sum(),
                _ => self.arithmetic(),
            },
        }
    }

    /// Some statements.
    pub(super) fn body(&mut self, most: u64) {
        for _ in 0..1 + self.rng.below(most) {
            self.statement();
        }
    }
}
