//! A [`Spec`](crate::Spec) fitted to one [`Target`](crate::Target).

use skep_btf::TypeId;
use skep_insn::{InsnIdx, RawInsn};

use crate::function::LineInfo;
use crate::{ExternId, MapId, ProgId};

/// What resolving gives: each wanted program with its final instructions, or the reason why it has none.
#[derive(Debug)]
pub struct Resolved {
    /// One entry for each program that is switched on, in the order of the Spec.
    pub programs: Vec<(ProgId, Result<ResolvedProgram, crate::resolve::Error>)>,
    /// Values of maps that only the target could tell (`.kconfig`), to be used instead of the Spec's contents.
    pub contents: Vec<(MapId, Vec<u8>)>,
}

/// A program ready for an engine, but for the handles of its maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedProgram {
    /// Entry function first, then each function that it calls, in order of first call.
    pub insns: Vec<RawInsn>,
    /// Where the engine's own handles go.
    pub binds: Vec<Bind>,
    /// Start and type of every function; empty when the object has no function types.
    pub functions: Vec<FuncInfo>,
    /// Source lines, instruction indexes relative to [`ResolvedProgram::insns`].
    pub lines: Vec<LineInfo>,
    /// The kernel type that it attaches to (tp_btf, fentry, lsm, iter, struct_ops ...).
    pub attach_btf: Option<AttachBtf>,
    /// What each relocation did.
    pub explanations: Vec<Explanation>,
}

/// Start of a function inside a resolved program (`struct bpf_func_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// First instruction.
    pub insn: InsnIdx,
    /// `FUNC` in the object's BTF.
    pub type_id: TypeId,
}

/// A type of the kernel or of one of its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachBtf {
    /// Module; `None` for the kernel itself.
    pub module: Option<String>,
    /// Type in that BTF.
    pub type_id: TypeId,
}

/// One instruction that takes a handle of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The instruction (first slot of a wide load).
    pub insn: InsnIdx,
    /// What to put there.
    pub target: BindTarget,
}

/// What an engine puts into an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindTarget {
    /// The map's descriptor goes into `imm`; `src_reg` is set already.
    Map(MapId),
    /// The map's descriptor goes into `imm` of the first slot; the offset stands in the second already.
    MapValue(MapId),
    /// A type of a module: the module's BTF descriptor goes into `imm` of the second slot.
    ModuleKsym {
        /// Module.
        module: String,
    },
    /// A kfunc of a module: the index of its BTF descriptor in `fd_array` goes into `off`.
    ModuleKfunc {
        /// Module.
        module: String,
    },
}

/// What a relocation did, kept for the person who wonders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The instruction.
    pub insn: InsnIdx,
    /// What was asked, for example `struct task_struct.pid (field byte offset)`.
    pub asked: String,
    /// What was found.
    pub outcome: Outcome,
}

/// Outcome of one relocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A CO-RE record matched and gave this value.
    Matched {
        /// What it matched, for example `vmlinux: struct task_struct [123] +1256`.
        candidate: String,
        /// The new value of the instruction.
        value: u64,
    },
    /// A CO-RE record matched nothing: the instruction was poisoned, and the program loads only if it cannot be reached.
    Poisoned {
        /// Candidates that were looked at, each with the reason why it did not do.
        refused: Vec<String>,
    },
    /// An extern was found.
    Found {
        /// The extern.
        external: ExternId,
        /// Where, for example `kallsyms: 0xffffffff81000000` or `vmlinux: [456]`.
        place: String,
    },
    /// A weak extern is absent and reads as zero.
    Absent {
        /// The extern.
        external: ExternId,
    },
}
