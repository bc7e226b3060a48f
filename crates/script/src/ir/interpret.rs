//! Running a module without a kernel, to hold compiled code and passes against.
//!
//! It knows arithmetic, slots, the values of maps, calls of the module's own functions, and three helpers: `bpf_map_lookup_elem`
//! on maps that have one element, `bpf_loop`, and `bpf_ktime_get_ns`, which counts. All else is an error, as is an access outside
//! of memory. Addresses are numbers that the kernel would not give, so results must not depend on them.

use skep_insn::{AluOp, Cond, Width, helpers};

use super::{Base, Block, FuncRef, Function, Module, Op, Operand, Terminator, Value};

/// What a run needs and leaves.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// By map: the value of its element.
    pub maps: Vec<Vec<u8>>,
    /// How many instructions may still run.
    pub fuel: u64,
    /// Slots of functions that run.
    slots: Vec<Vec<u8>>,
    clock: u64,
    depth: u32,
}

/// Base of addresses: 32 bits of offset below a number, which says what it points to.
const OFFSET_BITS: u32 = 32;
/// Offsets begin in the middle, so that one below the start is seen.
const BIAS: u64 = 1 << 31;
const SLOT: u64 = 1 << 24;
const MAP: u64 = 2 << 24;
const MAP_VALUE: u64 = 3 << 24;
const FUNCTION: u64 = 4 << 24;

/// As many as the kernel's `BPF_MAX_LOOPS`.
const MAX_LOOPS: u64 = 8 << 20;

impl Machine {
    /// With these values of maps.
    pub fn new(maps: Vec<Vec<u8>>) -> Machine {
        Machine { maps, fuel: 1 << 20, ..Machine::default() }
    }

    /// Runs a function of a verified module and gives what it returns, or why it cannot go on.
    pub fn run(&mut self, module: &Module, func: FuncRef, args: &[u64]) -> Result<u64, String> {
        let function = module.functions.get(func.0 as usize).ok_or("there is no such function")?;
        if self.depth == 8 {
            return Err("more than 8 functions wait for each other".to_owned());
        }
        self.depth += 1;
        let first_slot = self.slots.len();
        self.slots.extend(function.slots.iter().map(|slot| vec![0xa5; slot.size as usize]));
        let mut frame = Frame { function, first_slot, values: vec![0; function.values as usize] };
        let result = self.blocks(module, &mut frame, args.to_vec());
        self.slots.truncate(first_slot);
        self.depth -= 1;
        result
    }

    fn blocks(&mut self, module: &Module, frame: &mut Frame<'_>, mut args: Vec<u64>) -> Result<u64, String> {
        let mut block = Block(0);
        loop {
            let data = &frame.function.blocks[block.0 as usize];
            for (param, arg) in data.params.iter().zip(&args) {
                frame.values[param.0 as usize] = *arg;
            }
            for insn in &data.insns {
                self.fuel = self.fuel.checked_sub(1).ok_or("it runs too long")?;
                let result = self.op(module, frame, &insn.op)?;
                if let Some(to) = insn.result {
                    frame.values[to.0 as usize] = result;
                }
            }
            self.fuel = self.fuel.checked_sub(1).ok_or("it runs too long")?;
            let target = match &data.end {
                Terminator::Jump(target) => target,
                Terminator::Branch { cond, width, a, b, then, otherwise } => {
                    match holds(*cond, *width, frame.value(*a), frame.operand(*b)) {
                        true => then,
                        false => otherwise,
                    }
                }
                Terminator::Return(result) => return Ok(frame.operand(*result)),
            };
            args = target.args.iter().map(|arg| frame.value(*arg)).collect();
            block = target.block;
        }
    }

    fn op(&mut self, module: &Module, frame: &Frame<'_>, op: &Op) -> Result<u64, String> {
        Ok(match op {
            Op::Load { size, base, off, .. } => read(self.memory(frame.address(*base, *off), *size)?),
            Op::Store { size, base, off, value } => {
                let value = frame.operand(*value);
                write(self.memory(frame.address(*base, *off), *size)?, value);
                0
            }
            Op::AtomicAdd { size, base, off, value, .. } => {
                let value = frame.value(*value);
                let memory = self.memory(frame.address(*base, *off), *size)?;
                let old = read(memory);
                write(memory, old.wrapping_add(value));
                old
            }
            Op::SlotAddr(slot, off) => {
                address(SLOT + frame.first_slot as u64 + u64::from(slot.0)).wrapping_add_signed(i64::from(*off))
            }
            Op::Map(map) => address(MAP + u64::from(map.0)),
            Op::MapValue(map, off) => address(MAP_VALUE + u64::from(map.0)) + u64::from(*off),
            Op::FuncAddr(func) => address(FUNCTION + u64::from(func.0)),
            Op::CallFunc { func, args } => self.run(module, *func, &frame.all(args))?,
            Op::Call { helper, args } => self.helper(module, *helper, &frame.all(args))?,
            Op::Extern(_) | Op::CallKfunc { .. } => return Err("there is no kernel to ask".to_owned()),
            _ => evaluate(op, |value| Some(frame.value(value))).unwrap_or_default(),
        })
    }

    fn helper(&mut self, module: &Module, helper: u32, args: &[u64]) -> Result<u64, String> {
        match (helper, args) {
            (helpers::KTIME_GET_NS, _) => {
                self.clock += 1;
                Ok(self.clock)
            }
            (helpers::MAP_LOOKUP_ELEM, [map, key, ..]) => {
                let key = read(self.memory(*key, 4)?);
                Ok(if key == 0 { address(MAP_VALUE + (map >> OFFSET_BITS) - MAP) } else { 0 })
            }
            (helpers::LOOP, [count, callback, ctx, ..]) => {
                let func = FuncRef(((callback >> OFFSET_BITS) - FUNCTION) as u32);
                if *count > MAX_LOOPS {
                    return Ok(-7i64 as u64);
                }
                for index in 0..*count {
                    if self.run(module, func, &[index, *ctx])? != 0 {
                        return Ok(index + 1);
                    }
                }
                Ok(*count)
            }
            _ => Err(format!("helper {helper} needs a kernel")),
        }
    }

    fn memory(&mut self, at: u64, size: u8) -> Result<&mut [u8], String> {
        let (thing, offset) = (at >> OFFSET_BITS, (at & ((1 << OFFSET_BITS) - 1)).wrapping_sub(BIAS));
        let memory = match thing & !0xff_ffff {
            SLOT => self.slots.get_mut((thing - SLOT) as usize),
            MAP_VALUE => self.maps.get_mut((thing - MAP_VALUE) as usize),
            _ => None,
        };
        let memory = memory.ok_or_else(|| format!("{at:#x} is no address"))?;
        let end = offset.wrapping_add(u64::from(size));
        let found = if offset < end { memory.get_mut(offset as usize..end as usize) } else { None };
        found.ok_or_else(|| format!("{at:#x} is outside of its memory"))
    }
}

fn address(thing: u64) -> u64 {
    (thing << OFFSET_BITS) + BIAS
}

fn read(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

fn write(bytes: &mut [u8], value: u64) {
    let len = bytes.len();
    bytes.copy_from_slice(&value.to_le_bytes()[..len]);
}

struct Frame<'a> {
    function: &'a Function,
    first_slot: usize,
    values: Vec<u64>,
}

impl Frame<'_> {
    fn value(&self, value: Value) -> u64 {
        self.values[value.0 as usize]
    }

    fn operand(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Value(value) => self.value(value),
            Operand::Imm(imm) => i64::from(imm) as u64,
        }
    }

    fn all(&self, values: &[Value]) -> Vec<u64> {
        values.iter().map(|it| self.value(*it)).collect()
    }

    fn address(&self, base: Base, off: i16) -> u64 {
        let start = match base {
            Base::Value(value) => self.value(value),
            Base::Slot(slot) => address(SLOT + self.first_slot as u64 + u64::from(slot.0)),
        };
        start.wrapping_add_signed(i64::from(off))
    }
}

/// The result of an operation on numbers, given the numbers of values; `None` when one is not given or it is none of these
/// operations.
pub fn evaluate(op: &Op, number: impl Fn(Value) -> Option<u64>) -> Option<u64> {
    let operand = |operand: Operand| match operand {
        Operand::Value(value) => number(value),
        Operand::Imm(imm) => Some(i64::from(imm) as u64),
    };
    Some(match *op {
        Op::Const(number) => number as u64,
        Op::Alu { op, width, a, b } => arithmetic(op, width, number(a)?, operand(b)?),
        Op::Neg(Width::W64, a) => number(a)?.wrapping_neg(),
        Op::Neg(Width::W32, a) => u64::from((number(a)? as u32).wrapping_neg()),
        Op::SignExtend { bits, a } => {
            let by = 64 - u32::from(bits.clamp(1, 64));
            ((number(a)? << by) as i64 >> by) as u64
        }
        Op::ZeroExtend { bits, a } => {
            let by = 64 - u32::from(bits.clamp(1, 64));
            number(a)? << by >> by
        }
        Op::ByteSwap { bits, a } => match bits {
            16 => u64::from((number(a)? as u16).swap_bytes()),
            32 => u64::from((number(a)? as u32).swap_bytes()),
            _ => number(a)?.swap_bytes(),
        },
        Op::Compare { cond, width, a, b } => u64::from(holds(cond, width, number(a)?, operand(b)?)),
        _ => return None,
    })
}

/// Whether `a cond b`.
pub fn holds(cond: Cond, width: Width, a: u64, b: u64) -> bool {
    let (a, b, signed_a, signed_b) = match width {
        Width::W64 => (a, b, a as i64, b as i64),
        Width::W32 => (a & 0xffff_ffff, b & 0xffff_ffff, i64::from(a as i32), i64::from(b as i32)),
    };
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Set => a & b != 0,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::SGt => signed_a > signed_b,
        Cond::SGe => signed_a >= signed_b,
        Cond::SLt => signed_a < signed_b,
        Cond::SLe => signed_a <= signed_b,
    }
}

/// `a op b`, as the instruction set has it.
pub fn arithmetic(op: AluOp, width: Width, a: u64, b: u64) -> u64 {
    macro_rules! in_width {
        ($unsigned:ty, $signed:ty) => {{
            let (a, b) = (a as $unsigned, b as $unsigned);
            let (signed_a, signed_b) = (a as $signed, b as $signed);
            u64::from(match op {
                AluOp::Add => a.wrapping_add(b),
                AluOp::Sub => a.wrapping_sub(b),
                AluOp::Mul => a.wrapping_mul(b),
                AluOp::Div => a.checked_div(b).unwrap_or(0),
                AluOp::Mod => a.checked_rem(b).unwrap_or(a),
                AluOp::SDiv if b == 0 => 0,
                AluOp::SDiv => signed_a.wrapping_div(signed_b) as $unsigned,
                AluOp::SMod if b == 0 => a,
                AluOp::SMod => signed_a.wrapping_rem(signed_b) as $unsigned,
                AluOp::Or => a | b,
                AluOp::And => a & b,
                AluOp::Xor => a ^ b,
                AluOp::Lsh => a.wrapping_shl(b as u32),
                AluOp::Rsh => a.wrapping_shr(b as u32),
                AluOp::Arsh => signed_a.wrapping_shr(b as u32) as $unsigned,
            })
        }};
    }
    match width {
        Width::W64 => in_width!(u64, i64),
        Width::W32 => in_width!(u32, i32),
    }
}
