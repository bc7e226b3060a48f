//! Functions, callbacks, and other programs.

use skep_insn::build::{alu, call, mov};
use skep_insn::{AluOp, Insn, Reg, helpers};

use super::super::random::For;
use super::{Bound, Function, Item, Kind, MOST, PASSED, PROGRAMS, Role, Writer};

impl Writer<'_> {
    /// Calls need their arguments' registers.
    pub(super) fn may_call(&self) -> bool {
        self.calls && self.role != Role::Small
    }

    /// An address of two words of the frame, or one that this function was given.
    pub(super) fn pass(&mut self, reg: Reg) {
        // The kernel's helpers want one of the stack, and so whoever may hand it on to one.
        let of_stack = self.kernel();
        let fits = |kind| matches!(kind, Kind::Bytes { len, writable: true, map } if len >= PASSED && !(of_stack && map.is_some()));
        let given = self.regs_of(fits);
        let given: Vec<Reg> = given.into_iter().filter(|reg| reg.number() > 5).collect();
        if !given.is_empty() && self.rng.below(2) == 0 {
            let from = self.rng.one_of(&given);
            self.push(mov(reg, from));
        } else {
            let word = 2 + self.rng.below(self.words as u64 - 1) as i16;
            self.push(mov(reg, Reg::FP));
            self.push(alu(AluOp::Add, reg, i32::from(-8 * word)));
        }
        self.set(reg, Kind::Bytes { len: PASSED, writable: true, map: None });
    }

    /// One of the functions so far that may be called here.
    pub(super) fn callee(&mut self, wanted: impl Fn(Role) -> bool, times: u64) -> Option<usize> {
        let most = if self.kernel() { MOST / 4 } else { 2 * MOST };
        let fits = |function: &Function| {
            wanted(function.role) && function.depth < 5 && self.times * times * function.cost + self.cost < most
        };
        let found: Vec<usize> = (0..self.made.len()).filter(|index| fits(&self.made[*index])).collect();
        let index = (!found.is_empty() && self.may_call() && self.words > 2).then(|| self.rng.one_of(&found))?;
        self.depth = self.depth.max(self.made[index].depth);
        self.cost += self.times * times * self.made[index].cost;
        Some(index)
    }

    pub(super) fn call_function(&mut self) {
        let Some(index) = self.callee(|role| matches!(role, Role::Small | Role::Function { .. }), 1) else {
            return self.look_up();
        };
        let role = self.made[index].role;
        let by_address = matches!(role, Role::Function { by_address: Some(_) });
        for reg in &Reg::ALL[1..6] {
            if by_address && *reg == Reg::R1 {
                self.pass(*reg);
            } else if self.kind(*reg) != Kind::Number || self.rng.below(3) == 0 {
                let src = self.operand();
                self.push(Insn::Mov { width: self.rng.width(), dst: *reg, src });
                self.set(*reg, Kind::Number);
            }
        }
        if !self.kernel() && self.rng.below(12) == 0 {
            let by = Reg::ALL[self.rng.one_of(&[0, 6, 7, 8])];
            if !self.is_locked(by) && !self.kind(by).is_address() {
                self.item(Item::Address(by, index));
                self.push(Insn::CallReg { target: by });
                self.set(by, Kind::Number);
                self.returned(role);
                return;
            }
        }
        self.item(Item::Call(index));
        self.returned(role);
    }

    /// What a function leaves.
    pub(super) fn returned(&mut self, role: Role) {
        // A small one leaves numbers in r1 to r5; a kernel's verifier forgets them.
        let kind = if role == Role::Small && !self.kernel() { Kind::Number } else { Kind::Junk };
        self.kinds[1..6].fill(kind);
        self.set(Reg::R0, Kind::Number);
        if self.rng.below(3) == 0 {
            self.on_result();
        }
    }

    /// A loop by a helper.
    pub(super) fn repeat(&mut self) {
        let rounds = self.rng.below(6);
        // Of no rounds, the kernel's verifier does not look at the function, removes it as dead, and then misses it: Linux 6.12 and 6.18 refuse
        // such programs by `EFAULT`, and 6.18 says `verifier bug: No program to jit`.
        let rounds = if self.kernel() { rounds.max(1) } else { rounds };
        let Some(index) = self.callee(|role| role == Role::Round, rounds.max(1)) else { return self.call_function() };
        self.pass(Reg::R3);
        self.push(mov(Reg::R1, rounds as i32));
        self.item(Item::Address(Reg::R2, index));
        self.push(mov(Reg::R4, 0));
        self.push(call(helpers::LOOP));
        self.kinds[1..6].fill(Kind::Junk);
        self.set(Reg::R0, Kind::Number);
    }

    /// A walk over a map.
    pub(super) fn visit(&mut self) {
        let Some(index) = self.callee(|role| matches!(role, Role::Visit(_)), 6) else { return self.look_up() };
        let Role::Visit(map) = self.made[index].role else { return };
        self.pass(Reg::R3);
        self.item(Item::Load(Reg::R1, Bound::Map(map)));
        self.item(Item::Address(Reg::R2, index));
        self.push(mov(Reg::R4, 0));
        self.push(call(helpers::FOR_EACH_MAP_ELEM));
        self.kinds[1..6].fill(Kind::Junk);
        self.set(Reg::R0, Kind::Number);
    }

    /// On with another program, if there is one.
    pub(super) fn tail_call(&mut self) {
        if self.runner != For::Engines || self.role != Role::Entry || !self.may_call() {
            return self.look_up();
        }
        // Not always.
        let on = self.label();
        if self.rng.below(4) != 0 {
            self.branch(on);
        }
        self.push(mov(Reg::R1, Reg::R9));
        self.item(Item::Load(Reg::R2, Bound::Map(PROGRAMS)));
        self.push(mov(Reg::R3, self.rng.below(4) as i32));
        self.push(call(helpers::TAIL_CALL));
        self.kinds[1..6].fill(Kind::Junk);
        self.set(Reg::R0, Kind::Number);
        self.bind(on);
    }
}
