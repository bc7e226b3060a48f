//! Random programs that end, for tests: every operation, many values at once, branches, loops, calls.
//!
//! A program reads its input from the first 128 bytes of map 0 and leaves what it computed in the 128 bytes behind them,
//! so that interpreter and kernel can be held against each other by those bytes. Addresses never become data.

use skep_insn::{AluOp, Cond, Width, helpers};
use skep_spec::MapId;

use super::build::FunctionBuilder;
use super::{Block, FuncKind, FuncRef, Module, Operand, Slot, Value};

/// Bytes of the value of map 0.
pub const MAP_BYTES: usize = 256;
/// Bytes of it that are input.
pub const INPUT_BYTES: u32 = 128;

/// Numbers that a seed decides.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts with a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    /// 64 bits (splitmix64).
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A number that breaks things more often than most.
    pub fn interesting(&mut self) -> u64 {
        const EDGES: [u64; 14] = [
            0,
            1,
            2,
            7,
            0x7f,
            0x80,
            0xffff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x1_0000_0000,
            0x7fff_ffff_ffff_ffff,
            0x8000_0000_0000_0000,
            u64::MAX,
        ];
        match self.below(3) {
            0 => EDGES[self.below(EDGES.len())],
            1 => self.next_u64(),
            _ => self.below(64) as u64,
        }
    }
}

/// The program of a seed: function 0 is the program, others are called by it.
pub fn module(seed: u64) -> Module {
    let mut random = Random::new(seed);
    let mut module = Module::default();
    let has_local = random.one_in(2);
    let has_callback = random.one_in(3);
    let mut callees = Callees::default();
    let mut next = 1;
    for (wanted, place) in [(has_local, &mut callees.local), (has_callback, &mut callees.callback)] {
        if wanted {
            *place = Some(FuncRef(next));
            next += 1;
        }
    }
    let size = 4 + random.below(60);
    module.functions.push(Maker::new("main", FuncKind::Program, 1, &mut random, callees.clone()).program(size));
    if has_local {
        let maker = Maker::new("local", FuncKind::Local, 3, &mut random, Callees::default());
        module.functions.push(maker.local());
    }
    if has_callback {
        let maker = Maker::new("callback", FuncKind::Local, 2, &mut random, Callees::default());
        module.functions.push(maker.callback());
    }
    module
}

#[derive(Clone, Debug, Default)]
struct Callees {
    local: Option<FuncRef>,
    callback: Option<FuncRef>,
}

struct Maker<'r> {
    f: FunctionBuilder,
    random: &'r mut Random,
    /// Numbers that may be read here.
    numbers: Vec<Value>,
    /// Addresses of the value of map 0 that were compared with 0.
    pointers: Vec<Value>,
    slots: Vec<Slot>,
    callees: Callees,
    /// Loops around this place.
    loops: u32,
    /// Instructions that may still be made, with those of loops counted as often as they run.
    budget: usize,
}

impl<'r> Maker<'r> {
    fn new(name: &str, kind: FuncKind, params: u32, random: &'r mut Random, callees: Callees) -> Maker<'r> {
        let f = FunctionBuilder::new(name, kind, params);
        let (numbers, pointers, slots) = (Vec::new(), Vec::new(), Vec::new());
        Maker { f, random, numbers, pointers, slots, callees, loops: 0, budget: 150 }
    }

    fn program(mut self, size: usize) -> super::Function {
        for _ in 0..1 + self.random.below(3) {
            let words = 1 + self.random.below(4) as u32;
            let slot = self.f.slot(8 * words, 8);
            self.f.zero_slot(slot);
            self.slots.push(slot);
        }
        let input = self.f.map_value(MapId(0), 0);
        for _ in 0..1 + self.random.below(14) {
            let size = [1, 2, 4, 8][self.random.below(4)];
            let off = self.random.below(16) * 8;
            let value = self.f.load(size, input, off as i16);
            self.numbers.push(value);
        }
        for _ in 0..size {
            self.statement();
        }
        let output = self.f.map_value(MapId(0), INPUT_BYTES);
        let mut off = 0;
        while let Some(value) = self.numbers.pop().filter(|_| off < MAP_BYTES as u32 - INPUT_BYTES) {
            self.f.store(8, output, off as i16, value);
            off += 8;
        }
        for slot in std::mem::take(&mut self.slots) {
            let value = self.f.load(8, slot, 0);
            self.f.atomic_add(8, output, 0, value);
        }
        self.f.ret(0);
        self.f.finish()
    }

    fn local(mut self) -> super::Function {
        self.numbers = (0..3).map(|at| self.f.argument(at)).collect();
        self.budget = 30;
        for _ in 0..2 + self.random.below(12) {
            self.statement();
        }
        let result = self.number();
        self.f.ret(result);
        self.f.finish()
    }

    /// Adds to the number that its context points at, and stops at times.
    fn callback(mut self) -> super::Function {
        let (index, ctx) = (self.f.argument(0), self.f.argument(1));
        let old = self.f.load(8, ctx, 0);
        self.numbers = vec![index, old];
        self.budget = 10;
        for _ in 0..1 + self.random.below(5) {
            self.arithmetic();
        }
        let result = self.number();
        self.f.store(8, ctx, 0, result);
        let stop = self.f.alu(AluOp::And, Width::W64, result, 1);
        self.f.ret(stop);
        self.f.finish()
    }

    fn number(&mut self) -> Value {
        match self.numbers.is_empty() {
            true => {
                let number = self.random.interesting();
                self.f.constant(number as i64)
            }
            false => self.numbers[self.random.below(self.numbers.len())],
        }
    }

    fn operand(&mut self) -> Operand {
        match self.random.below(3) {
            0 => Operand::Imm(self.random.interesting() as i32),
            _ => Operand::Value(self.number()),
        }
    }

    fn width(&mut self) -> Width {
        Width::ALL[self.random.below(2)]
    }

    fn condition(&mut self) -> Cond {
        Cond::ALL[self.random.below(Cond::ALL.len())]
    }

    fn statement(&mut self) {
        self.budget = self.budget.saturating_sub(1);
        if self.budget == 0 {
            return;
        }
        match self.random.below(20) {
            0 | 1 => self.choice(),
            2 if self.loops < 2 => self.repeat(),
            3 => self.memory(),
            4 => self.call(),
            5 => self.lookup(),
            6 => self.through_pointer(),
            _ => self.arithmetic(),
        }
    }

    fn arithmetic(&mut self) {
        let a = self.number();
        let value = match self.random.below(12) {
            0 => {
                let number = self.random.interesting();
                self.f.constant(number as i64)
            }
            1 => {
                let width = self.width();
                self.f.neg(width, a)
            }
            2 => self.f.sign_extend([8, 16, 32][self.random.below(3)], a),
            3 => self.f.zero_extend([8, 16, 32][self.random.below(3)], a),
            4 => self.f.byte_swap([16, 32, 64][self.random.below(3)], a),
            5 => {
                let (cond, width, b) = (self.condition(), self.width(), self.operand());
                self.f.compare(cond, width, a, b)
            }
            _ => {
                let op = AluOp::ALL[self.random.below(AluOp::ALL.len())];
                let (width, b) = (self.width(), self.operand());
                self.f.alu(op, width, a, b)
            }
        };
        self.numbers.push(value);
    }

    fn memory(&mut self) {
        let Some(&slot) = self.slots.get(self.random.below(self.slots.len().max(1))) else { return };
        let size = [1u8, 2, 4, 8][self.random.below(4)];
        let off = (self.random.below(self.f.slot_data(slot).size as usize) as i16) & !(i16::from(size) - 1);
        match self.random.below(5) {
            0 => {
                let value = self.operand();
                self.f.store(size, slot, off, value);
            }
            1 => {
                let address = self.f.slot_addr(slot, i32::from(off));
                let value = self.operand();
                self.f.store(size, address, 0, value);
            }
            2 if size >= 4 => {
                // Not in a slot: the verifier (6.18) knows the old value when it knows what is on the stack, but does not
                // demand the same of other ways to the instruction, and then takes away code that those need.
                let value = self.number();
                let data = self.f.map_value(MapId(0), 0);
                let old = self.f.fetch_add(size, data, off, value);
                self.numbers.push(old);
            }
            3 if size >= 4 => {
                let value = self.number();
                self.f.atomic_add(size, slot, off, value);
            }
            _ => {
                let value = self.f.load(size, slot, off);
                self.numbers.push(value);
            }
        }
    }

    fn call(&mut self) {
        match (self.random.below(3), &self.callees) {
            (0, Callees { local: Some(func), .. }) => {
                let func = *func;
                let args = [self.number(), self.number(), self.number()];
                let result = self.f.call_func(func, &args);
                self.numbers.push(result);
            }
            (1, Callees { callback: Some(func), .. }) if self.loops == 0 => {
                let func = *func;
                let slot = self.f.slot(8, 8);
                let start = self.number();
                self.f.store(8, slot, 0, start);
                let count = self.number();
                // Never 0: a verifier that knows so does not look at the callback, takes it for dead code, and then misses it
                // ("No program to jit", 6.18).
                let count = self.f.alu(AluOp::And, Width::W64, count, 7);
                let count = self.f.alu(AluOp::Or, Width::W64, count, 1);
                let (callback, ctx, flags) = (self.f.func_addr(func), self.f.slot_addr(slot, 0), self.f.constant(0));
                let result = self.f.call(helpers::LOOP, &[count, callback, ctx, flags]);
                let end = self.f.load(8, slot, 0);
                self.numbers.extend([result, end]);
            }
            // A helper whose result does not matter, for what it does to registers.
            _ => {
                let now = self.f.call(helpers::KTIME_GET_NS, &[]);
                let never = self.f.compare(Cond::Eq, Width::W64, now, 0);
                self.numbers.push(never);
            }
        }
    }

    fn lookup(&mut self) {
        let key = self.f.slot(4, 4);
        self.f.store(4, key, 0, 0);
        let (map, key) = (self.f.map(MapId(0)), self.f.slot_addr(key, 0));
        let found = self.f.call(helpers::MAP_LOOKUP_ELEM, &[map, key]);
        let (missing, there) = (self.f.block(0), self.f.block(0));
        self.f.branch(Cond::Eq, Width::W64, found, 0, (missing, &[]), (there, &[]));
        self.f.switch_to(missing);
        self.f.ret(1);
        self.f.switch_to(there);
        self.pointers.push(found);
    }

    fn through_pointer(&mut self) {
        let Some(&pointer) = self.pointers.get(self.random.below(self.pointers.len().max(1))) else { return };
        match self.random.below(3) {
            // With an offset that the verifier has to follow.
            0 => {
                let index = self.number();
                let index = self.f.alu(AluOp::And, Width::W64, index, 0x78);
                let at = self.f.add(pointer, index);
                let value = self.f.load(8, at, 0);
                self.numbers.push(value);
            }
            1 => {
                let index = self.number();
                self.bounded(pointer, index);
            }
            _ => {
                let off = (self.random.below(16) * 8) as i16;
                let value = self.f.load(8, pointer, off);
                self.numbers.push(value);
            }
        }
    }

    /// Reads at an index that a comparison bounds, with a call behind the comparison: what the verifier learnt has to survive
    /// in a register that calls leave alone, or on the stack.
    fn bounded(&mut self, pointer: Value, index: Value) {
        // A number that the verifier knows as another one plus a big constant cannot be added to a pointer, bounded or not
        // ("map_value pointer offset -2147483648 is not allowed", 6.18); a shift makes it forget.
        let index = self.f.alu(AluOp::Rsh, Width::W64, index, 1);
        let (inside, join) = (self.f.block(0), self.f.block(1));
        self.f.branch(Cond::Gt, Width::W64, index, 100, (join, &[index]), (inside, &[]));
        self.f.switch_to(inside);
        if self.random.one_in(2) {
            let now = self.f.call(helpers::KTIME_GET_NS, &[]);
            let never = self.f.compare(Cond::Eq, Width::W64, now, 0);
            self.f.store(8, pointer, 248, never);
        }
        let at = self.f.add(pointer, index);
        let value = self.f.load(1, at, 0);
        self.f.jump(join, &[value]);
        self.f.switch_to(join);
        self.numbers.push(self.f.param(join, 0));
    }

    fn choice(&mut self) {
        let count = self.random.below(3) as u32;
        let [then, otherwise] = [(); 2].map(|()| self.f.block(0));
        let join = self.f.block(count);
        let (cond, width, a, b) = (self.condition(), self.width(), self.number(), self.operand());
        // At times straight to the join: a critical edge.
        let critical = self.random.one_in(3);
        let known = (self.numbers.len(), self.pointers.len());
        let direct: Vec<Value> = (0..count).map(|_| self.number()).collect();
        match critical {
            true => self.f.branch(cond, width, a, b, (then, &[]), (join, &direct)),
            false => self.f.branch(cond, width, a, b, (then, &[]), (otherwise, &[])),
        }
        for side in [then, otherwise].into_iter().take(2 - usize::from(critical)) {
            self.f.switch_to(side);
            for _ in 0..self.random.below(6) {
                self.statement();
            }
            let args: Vec<Value> = (0..count).map(|_| self.number()).collect();
            self.f.jump(join, &args);
            self.forget(known);
        }
        self.f.switch_to(join);
        self.take_params(join, count);
    }

    /// A loop that runs up to four times, with numbers that it hands from round to round.
    fn repeat(&mut self) {
        let count = self.random.below(4) as u32;
        let (head, body, out) = (self.f.block(1 + count), self.f.block(0), self.f.block(0));
        let zero = self.f.constant(0);
        let mut args = vec![zero];
        args.extend((0..count).map(|_| self.number()));
        self.f.jump(head, &args);
        self.f.switch_to(head);
        let round = self.f.param(head, 0);
        let rounds = 1 + self.random.below(4) as i32;
        self.f.branch(Cond::Lt, Width::W64, round, rounds, (body, &[]), (out, &[]));
        self.f.switch_to(body);
        let known = (self.numbers.len(), self.pointers.len());
        self.numbers.push(round);
        self.numbers.extend((1..=count as usize).map(|at| self.f.param(head, at)));
        self.loops += 1;
        let before = self.budget;
        for _ in 0..1 + self.random.below(6) {
            self.statement();
        }
        self.budget = before.saturating_sub((before - self.budget) * rounds as usize);
        self.loops -= 1;
        let next = self.f.add(round, 1);
        let mut args = vec![next];
        args.extend((0..count).map(|_| self.number()));
        self.f.jump(head, &args);
        self.forget(known);
        self.f.switch_to(out);
        self.numbers.extend((1..=count as usize).map(|at| self.f.param(head, at)));
    }

    fn take_params(&mut self, block: Block, count: u32) {
        self.numbers.extend((0..count as usize).map(|at| self.f.param(block, at)));
    }

    /// Leaves behind what was made on one way only.
    fn forget(&mut self, (numbers, pointers): (usize, usize)) {
        self.numbers.truncate(numbers);
        self.pointers.truncate(pointers);
    }
}
