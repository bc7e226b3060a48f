//! Whether a module is sound. Everything behind it relies on these properties and does not look again:
//!
//! *Functions* — a name is a C identifier and unique; there is an entry block, nothing leads back to it, and it has at most five
//! parameters; a program has one. Functions that are called, or whose address is taken, are local; calls do not form a ring
//! (the kernel refuses recursion).
//!
//! *Values* — numbers are below [`Function::values`]; each is defined once; an instruction has a result exactly where its kind has
//! one, and a call may do without. Every path from the entry to a use passes the definition; in blocks that nothing leads to,
//! anything goes.
//!
//! *Jumps* — targets exist and get as many values as the block has parameters.
//!
//! *Memory* — sizes are 1, 2, 4 or 8 bytes, of atomic operations 4 or 8. Slots have 1 to 512 bytes; accesses lie inside and are
//! aligned, since the kernel wants that of the stack on every machine; addresses lie inside or at the end.
//!
//! *Operations* — bits to extend are 8, 16 or 32, bits to swap 16, 32 or 64; calls have at most five arguments, and those of
//! functions of the module as many as the function has parameters.

use std::collections::HashSet;
use std::fmt;

use super::cfg::{Cfg, Dominators};
use super::{Base, Block, FuncKind, FuncRef, Function, Module, Op, Slot, Value};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Function.
    pub function: String,
    /// Block; `None` when it is about the function.
    pub block: Option<Block>,
    /// Number of the instruction in the block, its end being behind the last one; `None` when it is about more.
    pub insn: Option<u32>,
    /// What is wrong, lower case.
    pub message: String,
}

impl Error {
    /// Block, instruction and what is wrong, without the function.
    pub fn inside(&self) -> String {
        let block = self.block.map(|block| format!("block {block}"));
        let insn = self.insn.map(|insn| format!("instruction {insn}"));
        let place: Vec<String> = block.into_iter().chain(insn).collect();
        if place.is_empty() { self.message.clone() } else { format!("{}: {}", place.join(", "), self.message) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.block.is_some() || self.insn.is_some() { ", " } else { ": " };
        write!(f, "function `{}`{between}{}", self.function, self.inside())
    }
}

impl std::error::Error for Error {}

/// Checks everything that the [module](self) lists.
///
/// # Errors
///
/// Everything that was found, in the order of the text. Where blocks are missing, uses are not checked.
pub fn verify(module: &Module) -> Result<(), Vec<Error>> {
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for function in &module.functions {
        let mut checker = Checker { module, function, errors: &mut errors, block: None, insn: None };
        if !names.insert(&function.name) {
            checker.error("another function has this name");
        }
        checker.function();
    }
    if errors.is_empty() {
        for at in rings(module) {
            let function = module.functions[at].name.clone();
            let message = "it calls itself, if by way of others, which the kernel refuses".to_owned();
            errors.push(Error { function, block: None, insn: None, message });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Functions that are part of a ring of calls, by taking away those that are not.
fn rings(module: &Module) -> Vec<usize> {
    let callees: Vec<Vec<usize>> = module.functions.iter().map(callees).collect();
    let mut left: Vec<usize> = (0..module.functions.len()).collect();
    loop {
        let before = left.len();
        let still: HashSet<usize> = left.iter().copied().collect();
        left.retain(|at| callees[*at].iter().any(|callee| still.contains(callee)));
        if left.len() == before {
            return left;
        }
    }
}

/// Functions that are called, or whose address is taken; one may come twice.
pub(crate) fn callees(function: &Function) -> Vec<usize> {
    let insns = function.blocks.iter().flat_map(|block| &block.insns);
    insns
        .filter_map(|insn| match insn.op {
            Op::FuncAddr(func) | Op::CallFunc { func, .. } => Some(func.0 as usize),
            _ => None,
        })
        .collect()
}

/// The most parameters and arguments.
const MAX_ARGS: usize = 5;

/// The biggest slot, in bytes.
const MAX_SLOT: u32 = 512;

struct Checker<'a> {
    module: &'a Module,
    function: &'a Function,
    errors: &'a mut Vec<Error>,
    block: Option<Block>,
    insn: Option<u32>,
}

impl Checker<'_> {
    fn error(&mut self, message: impl Into<String>) {
        let (function, message) = (self.function.name.clone(), message.into());
        self.errors.push(Error { function, block: self.block, insn: self.insn, message });
    }

    fn function(&mut self) {
        let name = &self.function.name;
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            self.error("its name is no C identifier");
        }
        let Some(entry) = self.function.blocks.first() else { return self.error("it has no blocks") };
        if entry.params.len() > MAX_ARGS {
            self.error(format!("it has {} parameters, and {MAX_ARGS} are possible", entry.params.len()));
        }
        if self.function.kind == FuncKind::Program && entry.params.len() != 1 {
            self.error("a program has one parameter, its context");
        }
        for (index, slot) in self.function.slots.iter().enumerate() {
            if !matches!(slot.align, 1 | 2 | 4 | 8) {
                self.error(format!("slot s{index} is aligned to {} bytes, not to 1, 2, 4 or 8", slot.align));
            }
            if slot.size == 0 || slot.size > MAX_SLOT {
                self.error(format!("slot s{index} has {} bytes, not 1 to {MAX_SLOT}", slot.size));
            }
        }
        let before = self.errors.len();
        self.jumps();
        if self.errors.len() == before && self.define() {
            self.uses();
        }
    }

    fn jumps(&mut self) {
        for (block, data) in (0..).map(Block).zip(&self.function.blocks) {
            (self.block, self.insn) = (Some(block), Some(data.insns.len() as u32));
            for target in data.end.targets() {
                match self.function.blocks.get(target.block.0 as usize) {
                    None => self.error(format!("there is no block {}", target.block)),
                    Some(_) if target.block.0 == 0 => self.error("nothing may lead back to the entry"),
                    Some(to) if to.params.len() != target.args.len() => self.error(format!(
                        "block {} has {} parameters and gets {} values",
                        target.block,
                        to.params.len(),
                        target.args.len()
                    )),
                    Some(_) => {}
                }
            }
        }
        (self.block, self.insn) = (None, None);
    }

    /// Whether every value is there and defined once.
    fn define(&mut self) -> bool {
        let before = self.errors.len();
        let mut defined = vec![false; self.function.values as usize];
        for (block, data) in (0..).map(Block).zip(&self.function.blocks) {
            self.block = Some(block);
            for &param in &data.params {
                self.define_one(&mut defined, param);
            }
            for (index, insn) in (0..).zip(&data.insns) {
                self.insn = Some(index);
                if let Some(result) = insn.result {
                    self.define_one(&mut defined, result);
                }
                let wanted = match insn.op {
                    Op::Store { .. } => Some(false),
                    Op::AtomicAdd { fetch, .. } => Some(fetch),
                    Op::Call { .. } | Op::CallFunc { .. } | Op::CallKfunc { .. } => None,
                    _ => Some(true),
                };
                match wanted {
                    Some(true) if insn.result.is_none() => self.error("it lacks its result"),
                    Some(false) if insn.result.is_some() => self.error("it has no result to give"),
                    _ => {}
                }
                self.op(&insn.op);
                insn.op.each_use(|value| self.exists(*value));
            }
            self.insn = Some(data.insns.len() as u32);
            data.end.each_use(|value| self.exists(*value));
            self.insn = None;
        }
        self.block = None;
        self.errors.len() == before
    }

    fn define_one(&mut self, defined: &mut [bool], value: Value) {
        match defined.get_mut(value.0 as usize) {
            Some(true) => self.error(format!("{value} is defined a second time")),
            Some(it) => *it = true,
            None => self.exists(value),
        }
    }

    fn exists(&mut self, value: Value) {
        if value.0 >= self.function.values {
            self.error(format!("{value} is beyond the function's {} values", self.function.values));
        }
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::SignExtend { bits, .. } | Op::ZeroExtend { bits, .. } if !matches!(bits, 8 | 16 | 32) => {
                self.error(format!("it extends {bits} bits, not 8, 16 or 32"));
            }
            Op::ByteSwap { bits, .. } if !matches!(bits, 16 | 32 | 64) => {
                self.error(format!("it swaps {bits} bits, not 16, 32 or 64"));
            }
            Op::Load { size, base, off, .. } | Op::Store { size, base, off, .. } => self.access(*size, *base, *off),
            Op::AtomicAdd { size, base, off, .. } => {
                if !matches!(size, 4 | 8) {
                    self.error(format!("it adds to {size} bytes, not 4 or 8"));
                }
                self.access(*size, *base, *off);
            }
            Op::SlotAddr(slot, off) => {
                if let Some(size) = self.slot(*slot)
                    && !(0..=i64::from(size)).contains(&i64::from(*off))
                {
                    self.error(format!("offset {off} is outside of slot {slot} with its {size} bytes"));
                }
            }
            Op::FuncAddr(func) => {
                self.callee(*func);
            }
            Op::CallFunc { func, args } => {
                let params = self.callee(*func);
                if let Some(params) = params.filter(|params| *params != args.len()) {
                    self.error(format!("the function has {params} parameters and gets {} values", args.len()));
                }
            }
            Op::Call { args, .. } | Op::CallKfunc { args, .. } if args.len() > MAX_ARGS => {
                self.error(format!("it has {} arguments, and {MAX_ARGS} are possible", args.len()));
            }
            _ => {}
        }
    }

    fn slot(&mut self, slot: Slot) -> Option<u32> {
        let size = self.function.slots.get(slot.0 as usize).map(|data| data.size);
        if size.is_none() {
            self.error(format!("there is no slot {slot}"));
        }
        size
    }

    fn access(&mut self, size: u8, base: Base, off: i16) {
        if !matches!(size, 1 | 2 | 4 | 8) {
            return self.error(format!("it is about {size} bytes, not 1, 2, 4 or 8"));
        }
        let Base::Slot(slot) = base else { return };
        let Some(bytes) = self.slot(slot) else { return };
        let (first, size) = (i64::from(off), i64::from(size));
        if first < 0 || first + size > i64::from(bytes) {
            self.error(format!("bytes {first} to {} are outside of slot {slot} with its {bytes} bytes", first + size));
        } else if first % size != 0 || size > i64::from(self.function.slots[slot.0 as usize].align) {
            self.error(format!("an access of {size} bytes at {slot}+{first} is not aligned"));
        }
    }

    fn callee(&mut self, func: FuncRef) -> Option<usize> {
        match self.module.functions.get(func.0 as usize) {
            None => self.error(format!("there is no function number {}", func.0)),
            Some(callee) if callee.kind != FuncKind::Local => {
                self.error(format!("`{}` is a program and cannot be called", callee.name));
            }
            Some(callee) => return callee.blocks.first().map(|entry| entry.params.len()),
        }
        None
    }

    /// Whether definitions dominate uses.
    fn uses(&mut self) {
        let cfg = Cfg::new(self.function);
        let tree = Dominators::new(&cfg);
        // By value: its block and its number there; parameters come before the first instruction.
        let mut home: Vec<Option<(Block, u32)>> = vec![None; self.function.values as usize];
        for (block, data) in (0..).map(Block).zip(&self.function.blocks) {
            for param in &data.params {
                home[param.0 as usize] = Some((block, 0));
            }
            for (index, insn) in (1..).zip(&data.insns) {
                if let Some(result) = insn.result {
                    home[result.0 as usize] = Some((block, index));
                }
            }
        }
        for &block in &cfg.order {
            let data = &self.function.blocks[block.0 as usize];
            self.block = Some(block);
            let mut wrong: Vec<(u32, Value)> = Vec::new();
            // Instruction `index` may read what is defined up to it.
            let mut check = |index: u32, value: Value| {
                let reaches = home[value.0 as usize].is_some_and(|(from, number)| match from == block {
                    true => number <= index,
                    false => cfg.is_reachable(from) && tree.dominates(from, block),
                });
                if !reaches {
                    wrong.push((index, value));
                }
            };
            for (index, insn) in (0..).zip(&data.insns) {
                insn.op.each_use(|value| check(index, *value));
            }
            data.end.each_use(|value| check(data.insns.len() as u32, *value));
            for (index, value) in wrong {
                self.insn = Some(index);
                self.error(format!("{value} is read, but not every way here passes its definition"));
            }
            self.insn = None;
        }
        self.block = None;
    }
}
