//! Loops: their bodies are callbacks of `bpf_loop` and `bpf_for_each_map_elem`.

use skep_insn::{Cond, Width, helpers};

use super::place::{Body, Place, frame};
use super::shared::Shared;
use crate::ir::{FuncRef, Operand, Value};
use crate::typed::{Expr, MapRef, Stmt, StmtKind, VarRef};

/// Most rounds of one `bpf_loop` (`BPF_MAX_LOOPS`, include/linux/bpf.h).
const MAX_LOOPS: u32 = 1 << 23;

impl<'a> Body<'_, 'a> {
    /// `while (cond) { body }`, at most 8 million times.
    pub(crate) fn while_loop(&mut self, cond: &'a Expr, body: &'a [Stmt]) {
        let outer = self.enter_callback("while", 2, 1);
        let (go, stop) = (self.f.block(0), self.f.block(0));
        self.branch(cond, go, stop);
        self.f.switch_to(stop);
        self.f.ret(1);
        self.f.switch_to(go);
        self.statements(body);
        self.f.ret(0);
        let callback = self.leave_callback(outer);
        let times = self.number(i64::from(MAX_LOOPS));
        self.run_loop(times, callback);
        self.after_loop(body);
    }

    /// `for ($i : start..end) { body }`
    pub(crate) fn for_range(&mut self, var: VarRef, start: &'a Expr, end: &'a Expr, body: &'a [Stmt]) {
        let (start, end) = (self.scalar(start), self.scalar(end));
        let first = self.frame_room();
        self.store_frame(first, start);
        let (some, done) = (self.f.block(0), self.f.block(0));
        self.f.branch(Cond::SGt, Width::W64, end, start, (some, &[]), (done, &[]));
        self.f.switch_to(some);
        let times = self.f.alu(skep_insn::AluOp::Sub, Width::W64, end, start);
        let times = self.at_most(times, MAX_LOOPS);
        let outer = self.enter_callback("for_range", 2, 1);
        let round = self.f.argument(0);
        let start = self.load_frame(first);
        let value = self.f.add(start, round);
        let place = self.var_place(var);
        self.store(place, 0, 8, value);
        self.statements(body);
        self.f.ret(0);
        let callback = self.leave_callback(outer);
        self.run_loop(times, callback);
        self.after_loop(body);
        self.f.jump(done, &[]);
        self.f.switch_to(done);
    }

    /// `for ($kv : @m) { body }`
    pub(crate) fn for_map(&mut self, var: VarRef, map: MapRef, body: &'a [Stmt]) {
        let outer = self.enter_callback("for_map", 4, 3);
        let (pointer, key, value) = (self.f.argument(0), self.f.argument(1), self.f.argument(2));
        let ty = &self.vars[var.0 as usize].ty;
        let fields = ty.fields();
        if let [(key_off, key_ty), (value_off, value_ty)] = fields[..] {
            let pair = self.var_place(var);
            self.copy(Place::behind(key), pair.at(key_off), key_ty.size());
            let pair = self.var_place(var);
            if self.value_type(map).is_aggregation() && value_ty.is_scalar() {
                let number = self.read_aggregation_at(map, pointer, key);
                self.store(pair, value_off, value_ty.size(), number);
            } else {
                self.copy(Place::behind(value), pair.at(value_off), value_ty.size());
            }
        }
        self.statements(body);
        self.f.ret(0);
        let callback = self.leave_callback(outer);
        self.each_element(map, callback, true);
        self.after_loop(body);
    }

    /// `len(@m)`
    pub(crate) fn map_len(&mut self, map: MapRef) -> Value {
        let nothing = self.unit.shared(Shared::Nothing);
        self.each_element(map, nothing, false)
    }

    /// A number as the verifier does not know it: plus a zero of `.data`.
    ///
    /// The verifier walks through a callback until its state repeats. A counter that it knows is another one in each round,
    /// so it would walk through all of them; even `break` does not end its walk.
    pub(crate) fn forgotten(&mut self, number: Operand) -> Value {
        let (map, off) = self.unit.unknown_zero();
        let at = self.f.map_value(map, off);
        let zero = self.f.load(8, at, 0);
        self.f.add(zero, number)
    }

    /// Calls `callback` for each element; gives how many there were.
    fn each_element(&mut self, map: MapRef, callback: FuncRef, with_frame: bool) -> Value {
        let storage = self.unit.maps[map.0 as usize];
        // The verifier wants one map for each call of this helper, so each generation has its own.
        let join = self.f.block(1);
        let mut maps = vec![storage.map];
        let mut blocks = vec![self.f.block(0)];
        match storage.other {
            None => self.f.jump(blocks[0], &[]),
            Some((other, switch)) => {
                maps.push(other);
                blocks.push(self.f.block(0));
                let at = self.f.map_value(switch.map, switch.off);
                let generation = self.f.load(8, at, 0);
                self.f.branch_if(generation, blocks[1], blocks[0]);
            }
        }
        for (map, block) in maps.into_iter().zip(blocks) {
            self.f.switch_to(block);
            let (map, callback) = (self.f.map(map), self.f.func_addr(callback));
            let frame = if with_frame { self.frame_addr() } else { self.number(0) };
            let flags = self.number(0);
            let count = self.f.call(helpers::FOR_EACH_MAP_ELEM, &[map, callback, frame, flags]);
            self.f.jump(join, &[count]);
        }
        self.f.switch_to(join);
        self.f.param(join, 0)
    }

    fn run_loop(&mut self, times: Value, callback: FuncRef) {
        let (callback, frame, flags) = (self.f.func_addr(callback), self.frame_addr(), self.number(0));
        self.f.call(helpers::LOOP, &[times, callback, frame, flags]);
    }

    /// Behind a loop whose body may have returned from the program: returns too.
    fn after_loop(&mut self, body: &[Stmt]) {
        if !returns(body) {
            return;
        }
        let returned = self.load_frame(frame::RETURNED);
        let (leave, stay) = (self.f.block(0), self.f.block(0));
        self.f.branch_if(returned, leave, stay);
        self.f.switch_to(leave);
        self.return_(None);
        self.f.switch_to(stay);
    }
}

/// Whether something in `body` returns from the program.
fn returns(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match &stmt.kind {
        StmtKind::Return(_) | StmtKind::Action(crate::typed::Action::Exit(_)) => true,
        StmtKind::If(_, yes, no) => returns(yes) || returns(no),
        StmtKind::While(_, body)
        | StmtKind::ForRange { body, .. }
        | StmtKind::ForMap { body, .. }
        | StmtKind::Block(body) => returns(body),
        _ => false,
    })
}
