//! What can be wrong with a program before it runs, and what can stop it while it runs.

use std::fmt;

use skep_insn::{DecodeError, InsnIdx, RawInsn};

use crate::cpu::MAX_FRAMES;
use crate::{Fault, Line};

/// Why a program was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The instruction; the first one when it is none in particular.
    pub at: InsnIdx,
    /// Where it is in the source, when known.
    pub line: Option<Line>,
    /// What is wrong.
    pub kind: LoadErrorKind,
}

/// What can be wrong with an instruction of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// There are no instructions.
    Empty,
    /// More instructions than any kernel takes ([`crate::MAX_INSNS`]).
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// The bits are no instruction.
    Decode(DecodeError),
    /// Writes r10, the frame pointer.
    WritesFramePointer,
    /// A jump, a call or a reference to a function that leads out of the program.
    OutOfProgram {
        /// The slot that it names.
        target: i64,
    },
    /// A jump out of its function.
    OutOfFunction {
        /// The slot that it names.
        target: u32,
        /// First slot of the function.
        start: u32,
        /// First slot behind the function.
        end: u32,
    },
    /// Leads to the second slot of a wide load.
    IntoWideLoad {
        /// The slot that it names.
        target: u32,
    },
    /// The last instruction of a function, and neither an exit nor a jump.
    FallsOffEnd,
    /// No helper of the kernel has this number.
    NoSuchHelper {
        /// The number.
        id: i32,
    },
    /// The kernel has this helper, but not this machine.
    HelperNotHere {
        /// Its name.
        name: &'static str,
        /// What it would need.
        needs: &'static str,
    },
    /// A call of a kernel function.
    Kfunc {
        /// Its BTF id.
        btf_id: i32,
    },
    /// A wide load of something that nobody bound: a map, a variable of the kernel.
    Unbound {
        /// What kind of thing.
        what: &'static str,
    },
    /// A cast between address spaces that do not exist.
    AddressSpace {
        /// Space of the result.
        to: u16,
        /// Space of the operand.
        from: u16,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            // About the whole of it.
            LoadErrorKind::Empty | LoadErrorKind::TooLong { .. } => return self.kind.fmt(f),
            // Says itself which instruction it is.
            LoadErrorKind::Decode(error) => error.fmt(f)?,
            kind => write!(f, "instruction {}: {kind}", self.at)?,
        }
        place(f, self.line.as_ref())
    }
}

/// Where it is in the source.
fn place(f: &mut fmt::Formatter<'_>, line: Option<&Line>) -> fmt::Result {
    let Some(line) = line else { return Ok(()) };
    write!(f, " ({}:{}", line.file, line.line)?;
    if !line.text.is_empty() {
        write!(f, ": `{}`", line.text.trim())?;
    }
    f.write_str(")")
}

impl fmt::Display for LoadErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadErrorKind::Empty => f.write_str("the program has no instructions"),
            LoadErrorKind::TooLong { len } => {
                write!(f, "the program has {len} instructions, the limit is {}", crate::MAX_INSNS)
            }
            LoadErrorKind::Decode(error) => error.fmt(f),
            LoadErrorKind::WritesFramePointer => f.write_str("writes r10, the frame pointer, which is read-only"),
            LoadErrorKind::OutOfProgram { target } => {
                write!(f, "leads to instruction {target}, which is outside of the program")
            }
            LoadErrorKind::OutOfFunction { target, start, end } => {
                write!(f, "jumps to instruction {target}, out of its function (instructions {start} to {})", end - 1)
            }
            LoadErrorKind::IntoWideLoad { target } => {
                write!(f, "leads to instruction {target}, the second half of a 64-bit immediate load")
            }
            LoadErrorKind::FallsOffEnd => f.write_str("the function ends here, but with neither an exit nor a jump"),
            LoadErrorKind::NoSuchHelper { id } => write!(f, "calls helper {id}, which does not exist"),
            LoadErrorKind::HelperNotHere { name, needs } => {
                write!(f, "calls `{name}`, which is not to be had in user space: it needs {needs}")
            }
            LoadErrorKind::Kfunc { btf_id } => {
                write!(f, "calls the kernel function with BTF id {btf_id}; kernel functions exist in the kernel only")
            }
            LoadErrorKind::Unbound { what } => write!(f, "loads the address of {what}, which nobody has bound"),
            LoadErrorKind::AddressSpace { to, from } => {
                write!(f, "casts from address space {from} to {to}, but there are only 0 and 1")
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// Why a program was not compiled.
#[derive(Debug)]
#[non_exhaustive]
pub enum CompileError {
    /// There is no compiler for this kind of processor.
    Architecture,
    /// The system gives no memory for code.
    Memory {
        /// Bytes that were asked for.
        wanted: usize,
        /// What the kernel said.
        cause: std::io::Error,
    },
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Architecture => {
                write!(f, "programs cannot be compiled on {}, only interpreted", std::env::consts::ARCH)
            }
            CompileError::Memory { wanted, cause } => write!(
                f,
                "no executable memory for {wanted} bytes of code: {cause}. Where the system forbids it, programs can be interpreted"
            ),
        }
    }
}

impl std::error::Error for CompileError {}

/// What stopped a running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Name of the program, which is not the first one after a tail call.
    pub program: String,
    /// The instruction.
    pub at: InsnIdx,
    /// Its bits.
    pub insn: RawInsn,
    /// Where it is in the source, when known.
    pub line: Option<Line>,
    /// What happened.
    pub kind: TrapKind,
}

/// What can happen to a running program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrapKind {
    /// It touched memory that is not its own.
    Memory(Fault),
    /// It ran longer than allowed.
    FuelExhausted {
        /// What it was given.
        fuel: u64,
    },
    /// More functions inside of each other than there are frames.
    CallDepth,
    /// A call to something that is neither a function of the program nor a helper of this machine.
    BadCallee {
        /// The register's value.
        value: u64,
    },
    /// A jump by register to something that is no instruction of the same function.
    BadTarget {
        /// The register's value.
        value: u64,
    },
    /// A legacy packet load in a program that has no packet.
    NoPacket,
    /// A helper was given something for a map that is none, or one that was removed.
    NoMap {
        /// The register's value.
        value: u64,
    },
    /// A helper was called in a way that the kernel's verifier refuses.
    Misuse {
        /// The helper.
        helper: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.program.is_empty() {
            write!(f, "program `{}`, ", self.program)?;
        }
        write!(f, "instruction {}: {}", self.at, self.kind)?;
        place(f, self.line.as_ref())
    }
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrapKind::Memory(fault) => fault.fmt(f),
            TrapKind::FuelExhausted { fuel } => {
                write!(f, "the program ran for more than {fuel} instructions; does a loop never end?")
            }
            TrapKind::CallDepth => write!(f, "more than {MAX_FRAMES} functions inside of each other"),
            TrapKind::BadCallee { value } => {
                write!(f, "call of {value:#x}, which is neither a function of the program nor a helper")
            }
            TrapKind::BadTarget { value } => {
                write!(f, "jump to {value:#x}, which is no instruction of this function")
            }
            TrapKind::NoPacket => f.write_str("legacy packet load, but the program has no packet"),
            TrapKind::NoMap { value } => write!(f, "{value:#x} is no map of this machine"),
            TrapKind::Misuse { helper, message } => write!(f, "`{helper}`: {message}"),
        }
    }
}

impl std::error::Error for Trap {}

/// What a helper gives back when the program cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// For a reason of its own; where, is the call of the helper.
    Here(TrapKind),
    /// A function of the program that it called did.
    Inside(Box<Trap>),
}

impl From<TrapKind> for Stop {
    fn from(kind: TrapKind) -> Stop {
        Stop::Here(kind)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Here(TrapKind::Memory(fault))
    }
}

impl From<Box<Trap>> for Stop {
    fn from(trap: Box<Trap>) -> Stop {
        Stop::Inside(trap)
    }
}
