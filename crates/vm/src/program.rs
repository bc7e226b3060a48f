//! Programs that were taken: checked, decoded, and ready to run.

use std::sync::{Arc, OnceLock, Weak};

use skep_insn::{InsnIdx, RawInsn};

use crate::helper::Helper;
use crate::jit::Native;
use crate::map::Registry;
use crate::op::{Code, Op};
use crate::{CompileError, CompileOptions, Space, jit};

/// What a program is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Image<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its instructions: the entry function first, then those that it calls.
    pub insns: &'a [RawInsn],
    /// Where instructions are in the source, in their order.
    pub lines: &'a [Line],
    /// What wide loads of maps and variables give: the value for each such instruction. [`crate::Program::code_addr`] and
    /// [`crate::Block::addr`] are such values.
    pub binds: &'a [(InsnIdx, u64)],
    /// The names of the kernel's functions that instructions call. Those that mean nothing here may be in it.
    pub kfuncs: &'a [(InsnIdx, &'a str)],
}

/// The place in the source of an instruction and those behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// First instruction.
    pub insn: InsnIdx,
    /// File.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
    /// Text of the line; may be empty.
    pub text: String,
}

/// A program that was taken. It belongs to the machine that took it.
#[derive(Debug)]
pub struct Program {
    pub(crate) name: String,
    pub(crate) insns: Vec<RawInsn>,
    /// One for each slot.
    pub(crate) ops: Vec<Op>,
    /// In the order of their starts; the first one is the entry.
    pub(crate) functions: Vec<Function>,
    /// Those that it calls.
    pub(crate) helpers: Vec<Helper>,
    pub(crate) lines: Vec<Line>,
    pub(crate) space: Arc<Space>,
    /// The maps of the machine, to which maps of programs lead back.
    pub(crate) registry: Weak<Registry>,
    /// What it was compiled to.
    pub(crate) native: OnceLock<Native>,
}

/// A function of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// First slot.
    pub(crate) start: u32,
    /// Behind its last slot.
    pub(crate) end: u32,
    /// How much of its frame it may touch: these bytes are cleared when it starts. All of it as soon as the frame pointer goes
    /// anywhere else than into the address of an access below it, here or in a function that this one may call.
    pub(crate) stack_bytes: u32,
}

/// Upper half of the number that stands for a place in the code. No machine has memory at such an address, so code is never
/// taken for data.
const CODE: u64 = 0xc0de_0000_0000_0000;

impl Program {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its instructions, as they came.
    pub fn insns(&self) -> &[RawInsn] {
        &self.insns
    }

    /// Compiles it: from now on it runs as code of this processor, with the same results and the same errors. Compiling it once more
    /// does nothing.
    ///
    /// # Errors
    ///
    /// When there is no compiler for this processor, or the system gives no memory for code. It is interpreted then.
    pub fn compile(&self) -> Result<(), CompileError> {
        self.compile_with(CompileOptions::default())
    }

    /// As [`Program::compile`], in a given way.
    ///
    /// # Errors
    ///
    /// As those of [`Program::compile`].
    pub fn compile_with(&self, options: CompileOptions) -> Result<(), CompileError> {
        if self.native.get().is_none() {
            let native = jit::compile(self, options)?;
            // Another thread may have been faster, with the same.
            let _ = self.native.set(native);
        }
        Ok(())
    }

    /// Whether it was compiled.
    pub fn is_compiled(&self) -> bool {
        self.native.get().is_some()
    }

    /// The number that a program holds for the address of an instruction: what a load of a function's address gives, `callx`
    /// calls, and jump tables hold.
    pub fn code_addr(at: InsnIdx) -> u64 {
        CODE | u64::from(at.0)
    }

    /// The other way round; `None` for a number that is no such address.
    pub(crate) fn slot_of(value: u64) -> Option<u32> {
        u32::try_from(value ^ CODE).ok()
    }

    /// Which function starts there.
    pub(crate) fn function_at(&self, start: u32) -> Option<usize> {
        self.functions.binary_search_by_key(&start, |function| function.start).ok()
    }

    /// Whether a jump by register from `from` may lead to `to`.
    pub(crate) fn may_jump(&self, from: u32, to: u32) -> bool {
        let around = self.functions.iter().find(|it| (it.start..it.end).contains(&from));
        around.is_some_and(|it| (it.start..it.end).contains(&to))
            && self.ops.get(to as usize).is_some_and(|op| op.code != Code::Hole)
    }

    /// Where an instruction is in the source.
    pub fn line(&self, at: InsnIdx) -> Option<&Line> {
        line_of(&self.lines, at)
    }
}

/// The last of some lines that starts at or before an instruction.
pub(crate) fn line_of(lines: &[Line], at: InsnIdx) -> Option<&Line> {
    let behind = lines.partition_point(|line| line.insn <= at);
    lines.get(behind.checked_sub(1)?)
}
