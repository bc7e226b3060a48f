//! Branches and loops, in the forms that compilers give them.

use skep_insn::build::{alu, load, mov, store};
use skep_insn::{AluOp, Cond, Insn, Operand, Reg, Size, Width};

use super::super::random::Isa;
use super::{Item, Kind, Kinds, Label, MOST, Role, Writer};

impl Writer<'_> {
    /// One way or the other.
    pub(super) fn choice(&mut self) {
        let (other, join) = (self.label(), self.label());
        self.branch(other);
        self.body(3);
        if self.rng.below(2) == 0 {
            if self.reached {
                self.goto(join);
            }
            self.bind(other);
            self.body(2);
        } else {
            self.bind(other);
        }
        self.bind(join);
    }

    /// A branch over a move.
    pub(super) fn move_over(&mut self) {
        let over = self.label();
        let (dst, src) = (self.own_number(), self.number());
        self.branch(over);
        let width = if self.rng.below(6) == 0 { Width::W32 } else { Width::W64 };
        self.push(Insn::Mov { width, dst, src: src.into() });
        self.bind(over);
    }

    /// Makes everything a number again that was one at the head of a loop.
    pub(super) fn restore(&mut self, head: &Kinds) {
        for reg in Reg::ALL[..10].iter().copied() {
            let wanted = head[usize::from(reg.number())];
            if wanted == Kind::Number && self.kind(reg) != Kind::Number {
                self.fill(reg);
            }
        }
    }

    pub(super) fn cycle(&mut self) {
        let rounds = 1 + self.rng.below(5);
        let body_cost = if self.role == Role::Small { 20 } else { 80 };
        // A verifier goes every way through every round.
        let (deep, most) = if self.kernel() { (2, MOST / 5) } else { (3, MOST) };
        if self.out.len() >= deep || self.times * rounds * body_cost > most || self.cost > most {
            return self.arithmetic();
        }
        let (locked, calls) = (self.locked, self.calls);
        // The counter.
        let in_memory = self.role != Role::Small && self.words > 2 && self.rng.below(5) == 0;
        let counter = if in_memory {
            None
        } else {
            let found = if self.role == Role::Small { 1..6 } else { 1..9 };
            let free: Vec<Reg> = found
                .map(|reg| Reg::ALL[reg])
                .filter(|reg| !self.is_locked(*reg) && !self.kind(*reg).is_address())
                .collect();
            if free.len() < 3 {
                return self.arithmetic();
            }
            Some(self.rng.one_of(&free))
        };
        let word = -8 * self.words;
        match counter {
            Some(reg) => {
                self.set(reg, Kind::Number);
                self.lock(reg);
                self.calls &= reg.number() > 5;
            }
            // The last word is the counter's, and no number meanwhile.
            None => self.words -= 1,
        }
        for reg in self.regs_of(Kind::is_address) {
            // What calls lose cannot be kept, and r0 is for what is in memory.
            if reg.number() > 5 || !self.calls && reg != Reg::R0 {
                self.lock(reg);
            } else {
                self.set(reg, Kind::Junk);
            }
        }
        let times = self.times;
        let up = self.rng.below(2) == 0;
        let start = if up { 0 } else { rounds as i32 };
        match counter {
            Some(reg) => self.push(mov(reg, start)),
            None => self.push(store(Size::Dw, Reg::FP, word, start)),
        }
        let (head, out, round) = (self.label(), self.label(), self.label());
        let form = self.rng.below(4);
        // r0 is what is read from memory.
        let scratch = Reg::R0;
        let step = |this: &mut Self| {
            let by = if up { 1 } else { -1 };
            match counter {
                Some(reg) => this.push(alu(AluOp::Add, reg, by)),
                None => {
                    this.push(load(Size::Dw, scratch, Reg::FP, word));
                    this.push(alu(AluOp::Add, scratch, by));
                    this.push(store(Size::Dw, Reg::FP, word, scratch));
                    this.set(scratch, Kind::Number);
                }
            }
        };
        let ends = |this: &mut Self, to: Label, when_done: bool| {
            let reg = counter.unwrap_or_else(|| {
                if this.rng.below(2) == 0 {
                    this.push(load(Size::Dw, scratch, Reg::FP, word));
                } else {
                    this.push(load(Size::W, scratch, Reg::FP, word));
                }
                this.set(scratch, Kind::Number);
                scratch
            });
            let end = Operand::Imm(if up { rounds as i32 } else { 0 });
            let done: &[Cond] = if up { &[Cond::Eq, Cond::Ge, Cond::SGe] } else { &[Cond::Eq, Cond::Le, Cond::SLe] };
            let goes_on: &[Cond] = if up { &[Cond::Ne, Cond::Lt, Cond::SLt] } else { &[Cond::Ne, Cond::Gt, Cond::SGt] };
            let cond = this.rng.one_of(if when_done { done } else { goes_on });
            let width = this.rng.width();
            this.item(Item::If(width, cond, reg, end, to));
        };
        // At its head everything that is a number stays one. r0 changes where the counter is in memory.
        if in_memory && self.kind(scratch) != Kind::Number {
            self.fill(scratch);
        }
        self.times = times * (rounds + 1);
        let entry = self.kinds;
        self.out.push(out);
        self.round.push(round);
        match form {
            // The end of the loop is behind its body.
            0 => {
                self.items.push(Item::Bind(head));
                self.may_goto(out);
                self.body(3);
                self.bind(round);
                if self.reached {
                    step(self);
                    self.restore(&entry);
                    ends(self, head, false);
                }
            }
            // Before it, with a jump back.
            1 => {
                self.items.push(Item::Bind(head));
                ends(self, out, true);
                self.leads_to(out);
                self.may_goto(out);
                self.body(3);
                self.bind(round);
                if self.reached {
                    self.restore(&entry);
                    step(self);
                    self.item(Item::Goto(head, false));
                    self.reached = false;
                }
            }
            // The end stands before the body, which is jumped to.
            2 => {
                let body = self.label();
                self.item(Item::Goto(body, false));
                self.items.push(Item::Bind(head));
                step(self);
                for _ in 0..self.rng.below(3) {
                    let dst = self.own_number();
                    let src = self.operand();
                    let (width, op) =
                        (self.rng.width(), self.rng.one_of(&[AluOp::Add, AluOp::Xor, AluOp::Mul, AluOp::Or]));
                    self.push(Insn::Alu { width, op, dst, src });
                }
                ends(self, out, true);
                self.leads_to(out);
                self.items.push(Item::Bind(body));
                self.kinds = entry;
                self.body(3);
                self.bind(round);
                if self.reached {
                    self.restore(&entry);
                    self.item(Item::Goto(head, false));
                    self.reached = false;
                }
            }
            // The test is jumped to; from it a branch leads out of the loop, back to what was put before it.
            _ => {
                let (test, before, done) = (self.label(), self.label(), self.label());
                let earlier = self.rng.below(2) == 0;
                self.item(Item::Goto(test, false));
                if earlier {
                    self.items.push(Item::Bind(before));
                    // As after any round; not in the loop, so no way leads round.
                    let (inner_out, inner_round) = (self.out.pop(), self.round.pop());
                    self.body(2);
                    self.out.extend(inner_out);
                    self.round.extend(inner_round);
                    if self.reached {
                        self.goto(done);
                    }
                    self.kinds = entry;
                    self.reached = true;
                }
                self.items.push(Item::Bind(head));
                self.body(3);
                self.bind(round);
                if self.reached {
                    step(self);
                    self.restore(&entry);
                }
                self.kinds = entry;
                self.reached = true;
                self.items.push(Item::Bind(test));
                if earlier {
                    let (width, cond) = (self.rng.width(), self.rng.one_of(&Cond::ALL));
                    let (dst, src) = (self.number(), self.operand());
                    self.item(Item::If(width, cond, dst, src, before));
                }
                ends(self, head, false);
                self.bind(done);
            }
        }
        self.out.pop();
        self.round.pop();
        self.bind(out);
        self.times = times;
        (self.locked, self.calls) = (locked, calls);
        if counter.is_none() {
            self.words += 1;
        }
    }

    /// May lead out, if there were too many rounds; there never are.
    pub(super) fn may_goto(&mut self, out: Label) {
        if self.role != Role::Small && self.isa == Isa::Ordered && self.rng.below(5) == 0 {
            self.item(Item::MayGoto(out));
            self.leads_to(out);
        }
    }

    pub(super) fn early_exit(&mut self) {
        let on = self.label();
        self.branch(on);
        let src = self.operand();
        self.push(Insn::Mov { width: self.rng.width(), dst: Reg::R0, src });
        self.leave();
        self.reached = false;
        self.bind(on);
    }

    /// A `break`, or a `continue`.
    pub(super) fn out_or_round(&mut self) {
        let Some((&out, &round)) = self.out.last().zip(self.round.last()) else { return self.arithmetic() };
        let to = if self.rng.below(2) == 0 { out } else { round };
        self.branch(to);
    }

    /// A branch that changes no register before it; `false` when there are no numbers.
    pub(super) fn branch_by_numbers(&mut self, label: Label) -> bool {
        let found = self.regs_of(|kind| kind == Kind::Number);
        if found.is_empty() {
            return false;
        }
        let (width, cond) = (self.rng.width(), self.rng.one_of(&Cond::ALL));
        let (dst, src) = (self.rng.one_of(&found), self.rng.one_of(&found));
        let src = if self.rng.below(2) == 0 { src.into() } else { Operand::Imm(self.rng.number() as i32) };
        self.item(Item::If(width, cond, dst, src, label));
        self.leads_to(label);
        true
    }

    pub(super) fn on_result(&mut self) {
        let end = self.label();
        let (width, cond) = (self.rng.width(), self.rng.one_of(&Cond::ALL));
        let src = self.operand();
        self.item(Item::If(width, cond, Reg::R0, src, end));
        self.leads_to(end);
        self.arithmetic();
        self.bind(end);
    }
}
