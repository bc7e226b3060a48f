//! Instructions as text, in the two spellings that people know.
//!
//! - The **kernel's** ([`Spelling::Kernel`]): what `kernel/bpf/disasm.c` (Linux 6.18) prints into the verifier's log
//!   and `bpftool prog dump xlated` on the screen: `(61) r2 = *(u32 *)(r1 +16)`. It has a text for every slot whatever,
//!   also for those that only the kernel's own rewriting makes, and for nonsense (`BUG_ff`).
//! - **LLVM's** ([`Spelling::Llvm`]): what `llvm-objdump -d` (LLVM 19) prints, which is also what clang's assembler
//!   reads: `r2 = *(u32 *)(r1 + 0x10)`. What is no instruction becomes `<unknown>`.
//!
//! Both say less than the bits in a few places. The kernel drops which BTF a kernel function is from; LLVM does not
//! tell a helper from a subprogram or a kernel function, and drops the second half of a map value's address and the
//! constant part of an indirect packet load. With [`Printer::exact`] such an instruction (and no other) is written in a
//! form that [`assemble`] turns back into the same bits:
//!
//! | instruction | kernel | LLVM | exact |
//! |---|---|---|---|
//! | call of a subprogram | `call pc+5` | `call 0x5` | `call pc+5` |
//! | call of a kernel function | `call kernel-function#70` | `call 0x46` | `call kfunc#70`, `call kfunc#70@1` |
//! | map value by descriptor | `map[id:5][0]+8` | `ld_pseudo r1, 0x2, 0x5` | `ld_pseudo r1, 0x2, 0x5, 0x8` |
//! | indirect packet load | `skb[r2 + 8]` | `skb[r2]` | `skb[r2 + 0x8]` |
//! | `callx` of before LLVM 19 | `callx r3` | `callx r0` | `callx imm r3` |
//! | helper with a negative number | `call unknown#-9` | `call -0x9` | `call unknown#-9` |
//!
//! The kernel has replaced maps by index and kernel variables before anyone sees them, so it has no words for them; here
//! they are `map[idx:5]` and `btf[id:5]`, in bpftool's manner, in place of a bare number.
//!
//! LLVM 14 differs from 19 in printing numbers in decimal ([`Llvm::decimal`]) and in not knowing: remainder in 32 and
//! 64 bits by register, stores of immediates, jumps on common bits, references (`ld_pseudo`, half of which it takes for a `lea`), and everything of
//! ISA v4. It reads the variants of v4 that hide in `off` as the plain operation.

mod asm;
mod kernel;
mod llvm;

pub use asm::{AsmError, Assembly, assemble};

use crate::{InsnIdx, RawInsn};

/// Where a [`Printer`] asks for names. Every answer may be `None`, which gives the plain text.
///
/// The three questions are those at which the kernel and llvm-objdump call out of their disassemblers.
pub trait Names {
    /// What to write for the callee of the call at `at`, in the kernel's spelling.
    ///
    /// For a helper or a kernel function this is what stands before `#` (`bpf_map_lookup_elem` in `call
    /// bpf_map_lookup_elem#1`); helpers that are in [`crate::helpers`] are not asked for. For a subprogram it is what
    /// stands behind `pc` and replaces the signed distance (`+5#parse_ipv4` in `call pc+5#parse_ipv4`).
    fn call(&self, at: InsnIdx, insn: RawInsn) -> Option<String> {
        let _ = (at, insn);
        None
    }

    /// What to write for the value of the 64-bit immediate load at `at`, in the kernel's spelling.
    fn imm64(&self, at: InsnIdx, first: RawInsn, second_imm: i32) -> Option<String> {
        let _ = (at, first, second_imm);
        None
    }

    /// What to write between `<` and `>` behind a jump to slot `target`, in LLVM's spelling; the slot may lie outside.
    fn target(&self, target: i64) -> Option<String> {
        let _ = target;
        None
    }
}

/// Knows no names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {}

/// Whose text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// That of the verifier's log and of `bpftool prog dump xlated`.
    Kernel,
    /// That of `llvm-objdump -d`.
    Llvm(Llvm),
}

/// Details of LLVM's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Llvm {
    /// Write `w` registers in loads and stores of up to four bytes, as llvm-objdump does with `--mcpu=v3` (LLVM 20:
    /// always).
    pub alu32: bool,
    /// Write numbers in decimal, as LLVM up to 17 did.
    pub decimal: bool,
}

impl Spelling {
    /// LLVM's spelling as `llvm-objdump-19 --mcpu=v3` has it.
    pub const LLVM: Spelling = Spelling::Llvm(Llvm { alu32: true, decimal: false });
}

/// Turns slots into text.
///
/// ```
/// use skep_insn::text::{Printer, Spelling};
/// use skep_insn::{RawInsn, InsnIdx};
///
/// let code = [RawInsn::new(0x61, 2, 1, 16, 0)];
/// assert_eq!(Printer::new(Spelling::Kernel).insn(&code, InsnIdx(0)), "(61) r2 = *(u32 *)(r1 +16)");
/// assert_eq!(Printer::new(Spelling::LLVM).insn(&code, InsnIdx(0)), "w2 = *(u32 *)(r1 + 0x10)");
/// ```
#[derive(Clone, Copy)]
pub struct Printer<'a> {
    spelling: Spelling,
    names: &'a dyn Names,
    exact: bool,
}

impl<'a> Printer<'a> {
    /// A printer that knows no names.
    pub fn new(spelling: Spelling) -> Printer<'a> {
        Printer { spelling, names: &NoNames, exact: false }
    }

    /// Asks `names` where the spelling has room for a name.
    pub fn names(self, names: &'a dyn Names) -> Printer<'a> {
        Printer { names, ..self }
    }

    /// Writes what the spelling cannot say in a form that can be assembled to the same bits; see the [module](self).
    pub fn exact(self) -> Printer<'a> {
        Printer { exact: true, ..self }
    }

    /// The text of the instruction at `at`, without its index.
    ///
    /// Never fails: a slot without meaning has a text too, and `at` beyond the end gives an empty one.
    pub fn insn(&self, code: &[RawInsn], at: InsnIdx) -> String {
        let Some(slots) = code.get(at.0 as usize..).filter(|slots| !slots.is_empty()) else {
            return String::new();
        };
        match self.spelling {
            Spelling::Kernel => kernel::insn(self, slots, at),
            Spelling::Llvm(style) => llvm::insn(self, style, slots, at),
        }
    }

    /// The instructions of a function or program with the index of their first slot.
    pub fn lines(&self, code: &'a [RawInsn]) -> impl Iterator<Item = (InsnIdx, String)> + 'a {
        let printer = *self;
        let mut at = 0usize;
        std::iter::from_fn(move || {
            let slots = code.get(at..).filter(|slots| !slots.is_empty())?;
            let idx = InsnIdx(at as u32);
            at += match printer.spelling {
                // The kernel goes by the opcode alone.
                Spelling::Kernel => 1 + usize::from(slots[0].is_wide()),
                Spelling::Llvm(_) => llvm::len_slots(slots),
            };
            Some((idx, printer.insn(code, idx)))
        })
    }

    /// All lines with their indexes, as the tools print them: `   0: (b7) r0 = 0` or `       0:\tr0 = 0x0`.
    pub fn listing(&self, code: &[RawInsn]) -> String {
        let mut text = String::new();
        for (idx, line) in Printer::lines(self, code) {
            let line = match self.spelling {
                Spelling::Kernel => format!("{:4}: {line}\n", idx.0),
                Spelling::Llvm(_) => format!("{:8}:\t{line}\n", idx.0),
            };
            text.push_str(&line);
        }
        text
    }
}
