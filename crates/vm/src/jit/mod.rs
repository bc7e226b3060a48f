//! The compiler: operations to code of this processor, in one pass.
//!
//! # What it promises
//!
//! A program that was compiled does what the interpreter does, bit by bit: results, registers, memory, fuel that is left, and the
//! [`Trap`](crate::Trap) when it is stopped. The tests run every case and random programs both ways.
//!
//! # Theory
//!
//! Loading left little to find out (see the module `load`): operations are decoded, jumps stay in their function, r10 is never written.
//! So each operation becomes code on its own, in order; the registers of the program live in registers of the processor
//! throughout, and a jump is a jump. What is left:
//!
//! - *Memory.* Of the three kinds of access that the [crate](crate#memory) knows this is the checked one, in line: the table says for the
//!   slot of the address from where to where it is accessible, and two compares decide. A short address is made long
//!   out of line, and checked again. Whatever else does not pass (an access over a border of slots, a wrong one) asks [`native`], which
//!   gives the true address or stops the program. It was chosen over
//!   masked access with a fault handler because it finds what the interpreter finds, to the byte, where pages without memory find
//!   it to the page only; because it takes no signal away from the process that the machine is part of; and because blocks of
//!   read-only memory need no second mapping. Accesses of the frame by r10 and a constant need no check: the frame is there.
//! - *Fuel.* A jump back and its price are one subtraction from memory and a jump that is never taken.
//! - *Calls.* Functions of the program do not call each other on the processor's stack, but in the frames of [`Cpu`](crate::Cpu), which
//!   say where to go on. So frames, callbacks, tail calls and their limits are the interpreter's own, a program cannot exhaust the stack,
//!   and code can be entered at any operation. Calls and returns inside of one program change the frames in line.
//! - *Code.* It is written first and made executable afterwards ([`code`]), exactly as long as it turned out.
//!
//! [`compile`] walks over a program and tells a [`Backend`] what to do; what is known about the processor is behind that trait. There are
//! two, for x86-64 and aarch64, with the same files: an encoder (`asm`), the operations (`emit`), frames (`call`), and what stands
//! behind the code (`glue`).

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod code;
mod native;
mod shape;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use skep_insn::{AluOp, AtomicOp, Cond, LoadType, Size, Width};

use crate::op::{Code, Op};
use crate::program::{Function, Program};
use crate::{Access, CompileError, STACK_BYTES};
#[cfg(target_arch = "aarch64")]
use aarch64::Emitter;
use code::CodeBlock;
use shape::Shape;
#[cfg(target_arch = "x86_64")]
use x86_64::Emitter;

/// A program that was compiled.
#[derive(Debug)]
pub(crate) struct Native {
    code: CodeBlock,
    /// The address of the code of each slot.
    places: Vec<usize>,
    /// Where the code is entered, and where it is left.
    enter: u32,
    leave: u32,
}

/// What a back end made of a program.
#[derive(Debug)]
struct Assembled {
    code: Vec<u8>,
    places: Vec<u32>,
    enter: u32,
    leave: u32,
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Reg(u8),
    /// Of 32 bits, whose sign is extended where 64 are wanted.
    Imm(i32),
}

/// Where a jump leads, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Jump {
    /// The slot that jumps.
    at: u32,
    target: u32,
    /// 0 for a jump forwards.
    cost: u32,
}

/// A call of a function of the same program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    /// The slot that calls.
    at: u32,
    target: u32,
    cost: u32,
    /// How much of the frame is cleared, in whole words.
    stack_bytes: u32,
}

/// An access of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The slot that makes it.
    at: u32,
    base: u8,
    off: i32,
    size: Size,
    access: Access,
    /// Whether it lies in the frame, so that nothing need be checked.
    in_frame: bool,
}

/// What knows a processor. It is told the operations in their order, each after [`Backend::slot`]. Registers are the program's.
trait Backend {
    /// What follows is the code of this slot.
    fn slot(&mut self, at: u32);
    /// `dst = dst op src`.
    fn alu(&mut self, op: AluOp, width: Width, dst: u8, src: Source);
    /// A move, or something that a register does with itself: the codes of [`Shape::Move`].
    fn unary(&mut self, code: Code, dst: u8, src: u8, imm: u64);
    /// `dst = *from`; one that acquires is a plain one with [`Access::AtomicRead`].
    fn load(&mut self, ty: LoadType, dst: u8, from: Place);
    /// `*to = src`; one that releases is a plain one with [`Access::Atomic`].
    fn store(&mut self, to: Place, src: Source);
    /// An operation on memory in one step.
    fn atomic(&mut self, op: AtomicOp, width: Width, on: Place, src: u8);
    /// Always.
    fn jump(&mut self, jump: Jump);
    /// If `dst cond src`.
    fn branch(&mut self, cond: Cond, width: Width, dst: u8, src: Source, jump: Jump);
    /// If the counter of this frame is used up; otherwise counts.
    fn may_goto(&mut self, jump: Jump);
    /// Calls the helper of the slot, which comes back.
    fn helper(&mut self, at: u32);
    /// As [`Cpu::enter`](crate::Cpu); what goes wrong is left to [`native`].
    fn call(&mut self, call: Call);
    /// As [`Cpu::leave`](crate::Cpu), back to the same program; anything else is left to [`native`].
    fn exit(&mut self, at: u32);
    /// Leaves the slot to [`native`], which says where to go on.
    fn control(&mut self, at: u32);
    /// All of it.
    fn finish(self) -> Assembled;
}

/// Compiles a program for this processor.
pub(crate) fn compile(program: &Program) -> Result<Native, CompileError> {
    let assembled = assemble(program, Emitter::new(program.ops.len()));
    let wanted = assembled.code.len();
    Native::new(assembled).map_err(|cause| CompileError::Memory { wanted, cause })
}

impl Native {
    fn new(assembled: Assembled) -> std::io::Result<Native> {
        let Assembled { code, places, enter, leave } = assembled;
        let code = CodeBlock::new(&code)?;
        let places = places.into_iter().map(|place| code.at(place).expose_provenance()).collect();
        Ok(Native { code, places, enter, leave })
    }
}

fn assemble(program: &Program, mut backend: impl Backend) -> Assembled {
    for (at, op) in (0..).zip(&program.ops) {
        backend.slot(at);
        emit(&mut backend, program, at, op);
    }
    backend.finish()
}

fn emit(backend: &mut impl Backend, program: &Program, at: u32, op: &Op) {
    let source = |imm: bool| if imm { Source::Imm(op.imm as i32) } else { Source::Reg(op.src) };
    let jump = || Jump {
        at,
        target: (at + 1).wrapping_add_signed(op.off),
        cost: if op.off < 0 { op.off.unsigned_abs() } else { 0 },
    };
    let place = |base: u8, size: Size, access: Access| Place {
        at,
        base,
        off: op.off,
        size,
        access,
        in_frame: in_frame(base, op.off, size, access),
    };
    match Shape::of(op.code) {
        Shape::Alu { op: alu, width, imm } => backend.alu(alu, width, op.dst, source(imm)),
        Shape::Branch { cond, width, imm } => backend.branch(cond, width, op.dst, source(imm), jump()),
        Shape::Load { ty } => backend.load(ty, op.dst, place(op.src, ty.size(), Access::Read)),
        Shape::LoadAcquire { size } => {
            backend.load(unsigned(size), op.dst, place(op.src, size, Access::AtomicRead));
        }
        Shape::Store { size, imm } => backend.store(place(op.dst, size, Access::Write), source(imm)),
        Shape::StoreRelease { size } => backend.store(place(op.dst, size, Access::Atomic), Source::Reg(op.src)),
        Shape::Atomic { op: atomic, width } => {
            let size = if width == Width::W32 { Size::W } else { Size::Dw };
            backend.atomic(atomic, width, place(op.dst, size, Access::Atomic), op.src);
        }
        Shape::Move => backend.unary(op.code, op.dst, op.src, op.imm),
        Shape::Jump => backend.jump(jump()),
        Shape::MayGoto => backend.may_goto(jump()),
        Shape::Helper => backend.helper(at),
        Shape::Call => {
            let Function { start, end, stack_bytes } = program.functions[op.imm as usize];
            backend.call(Call { at, target: start, cost: end - start, stack_bytes });
        }
        // The entry function is called by Rust, but for recursion.
        Shape::Exit if program.functions[0].end <= at => backend.exit(at),
        Shape::Exit | Shape::Control => backend.control(at),
        Shape::Nothing => {}
    }
}

fn unsigned(size: Size) -> LoadType {
    match size {
        Size::B => LoadType::U8,
        Size::H => LoadType::U16,
        Size::W => LoadType::U32,
        Size::Dw => LoadType::U64,
    }
}

/// Whether an access is one of the running function's own frame, which is a multiple of its size and begins at one.
fn in_frame(base: u8, off: i32, size: Size, access: Access) -> bool {
    let len = size.len_bytes() as i32;
    let aligned = off % len == 0 || matches!(access, Access::Read | Access::Write);
    base == 10 && off >= -(STACK_BYTES as i32) && off + len <= 0 && aligned
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use skep_insn::text;

    use super::*;
    use crate::{Cpu, Helpers, Image, Machine};

    /// Runs a program as it is compiled for a processor without BMI2.
    fn run_without_bmi2(machine: &std::sync::Arc<Machine>, asm: &str) -> [u64; 2] {
        let insns = text::assemble(asm).unwrap().code;
        let [interpreted, compiled] =
            [(); 2].map(|()| machine.load(&Image { insns: &insns, ..Image::default() }).unwrap());
        let made = assemble(&compiled, x86_64::Emitter::with(insns.len(), false));
        // No VEX prefix in front of one of the three opcodes.
        assert!(!made.code.windows(4).any(|bytes| bytes[0] == 0xc4 && bytes[3] == 0xf7), "{asm}");
        compiled.native.set(Native::new(made).unwrap()).unwrap();
        let mut cpu = Cpu::new(machine).unwrap();
        [interpreted, compiled].map(|program| cpu.run(&program, [0, 0]).unwrap())
    }

    #[test]
    fn shifts_without_bmi2_keep_every_other_register() {
        let machine = Machine::new(Helpers::none()).unwrap();
        let mix: String = (1..10).map(|reg| format!("r0 *= 0x1000193\nr0 ^= r{reg}\n")).collect();
        for op in ["<<=", ">>=", "s>>="] {
            for width in ["r", "w"] {
                for (dst, src) in (0..10).flat_map(|dst| (0..10).map(move |src| (dst, src))) {
                    let set: String =
                        (0..10).map(|reg| format!("r{reg} = 0x8123456789abcd{:02x} ll\n", 0x30 + 7 * reg)).collect();
                    let asm = format!("{set}{width}{dst} {op} {width}{src}\n{mix}exit");
                    let [wanted, found] = run_without_bmi2(&machine, &asm);
                    assert_eq!(wanted, found, "{asm}");
                }
            }
        }
    }
}
