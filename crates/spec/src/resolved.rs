//! A [`Spec`](crate::Spec) fitted to one [`Target`](crate::Target).

use skep_btf::{Btf, TypeId};
use skep_insn::consts::*;
use skep_insn::{Endian, InsnIdx, RawInsn};

use crate::function::LineInfo;
use crate::{AttachType, ExternId, FuncId, MapId, ProgId};

/// What resolving gives: each wanted program with its final instructions, or the reason why it has none.
#[derive(Debug)]
pub struct Resolved {
    /// One entry for each program that is switched on, in the order of the Spec.
    pub programs: Vec<(ProgId, Result<ResolvedProgram, crate::resolve::Error>)>,
    /// Values of maps that only the target could tell (`.kconfig`), to be used instead of the Spec's contents.
    pub contents: Vec<(MapId, Vec<u8>)>,
    /// The struct_ops maps that are switched on, in the layout of the kernel, or the reason why one has none.
    pub struct_ops: Vec<(MapId, Result<KernelStructOps, String>)>,
    /// The object's types with additions that [`ResolvedProgram::functions`] refer to, to be used instead of
    /// [`Spec::btf`](crate::Spec::btf); `None` when nothing was added. Only kernels before 6.8 need additions, for
    /// arguments marked `__arg_ctx`.
    pub btf: Option<Btf>,
}

/// A struct_ops map in the layout of the target's kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelStructOps {
    /// `struct bpf_struct_ops_NAME`, the map's value (`btf_vmlinux_value_type_id`), and the module that has it.
    pub value_type: AttachBtf,
    /// The value to put at key 0: the object's data moved to the kernel's offsets. Its length is the map's value size.
    pub data: Vec<u8>,
    /// Byte offsets in [`KernelStructOps::data`] where descriptors of programs go, 8 bytes each.
    pub programs: Vec<(u32, ProgId)>,
}

/// A program ready for an engine, but for the handles of its maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedProgram {
    /// Entry function first, then each function that it calls, in order of first call.
    pub insns: Vec<RawInsn>,
    /// Where each function of the Spec starts, in the order of the program.
    pub layout: Vec<(InsnIdx, FuncId)>,
    /// Where the engine's own handles go.
    pub binds: Vec<Bind>,
    /// Start and type of every function; empty when the object has no function types.
    pub functions: Vec<FuncInfo>,
    /// Source lines, instruction indexes relative to [`ResolvedProgram::insns`].
    pub lines: Vec<LineInfo>,
    /// `expected_attach_type` of the load: the Spec's, but for struct_ops, where it is the index of the member, and for
    /// USDT on kernels with uprobe multi links.
    pub attach_type: Option<AttachType>,
    /// The kernel type that it attaches to (tp_btf, fentry, lsm, iter, struct_ops ...).
    pub attach_btf: Option<AttachBtf>,
    /// What each relocation did.
    pub explanations: Vec<Explanation>,
}

impl ResolvedProgram {
    /// A fingerprint of the instructions that does not depend on descriptors and BTF ids: equal for two loaders that send
    /// the kernel the same program.
    ///
    /// 64-bit FNV-1a over the 8-byte slots in little-endian form, with references masked: a wide load whose `src_reg` is
    /// not 0 counts with `imm` 0, and its second slot with `imm` 0 too unless `src_reg` is 2 or 6, where that is an offset
    /// into a map's value; a call of a kernel function (`src_reg` 2) counts with `imm` and `off` 0.
    pub fn hash(&self) -> u64 {
        insns_hash(&self.insns)
    }
}

/// [`ResolvedProgram::hash`] of any instructions.
pub fn insns_hash(insns: &[RawInsn]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut second_masked = false;
    for insn in insns {
        let mut masked = *insn;
        let wide = insn.is_wide() && insn.src_reg != 0;
        if wide || second_masked {
            masked.imm = 0;
        }
        second_masked = wide && !matches!(insn.src_reg, BPF_PSEUDO_MAP_VALUE | BPF_PSEUDO_MAP_IDX_VALUE);
        if insn.code == BPF_JMP | BPF_CALL && insn.src_reg == BPF_PSEUDO_KFUNC_CALL {
            (masked.imm, masked.off) = (0, 0);
        }
        for byte in masked.to_bytes(Endian::Little) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    hash
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
    /// A jump table, which needs a map (`BPF_MAP_TYPE_INSN_ARRAY`) of its own for every program: its descriptor goes into
    /// `imm` of the first slot.
    JumpTable {
        /// The table.
        map: MapId,
        /// Where entry 0, 1, ... leads, in [`ResolvedProgram::insns`].
        targets: Vec<InsnIdx>,
    },
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
    /// A CO-RE record asked whether something exists, or for the size of a type that does not: nothing matched.
    AbsentType {
        /// The new value of the instruction.
        value: u64,
        /// Candidates that were looked at, each with the reason why it did not do.
        refused: Vec<String>,
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
    /// A weak extern is absent and reads as zero; a call of it was poisoned, and the program loads only if it cannot be
    /// reached.
    Absent {
        /// The extern.
        external: ExternId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(src_reg: u8, first: i32, second: i32) -> [RawInsn; 2] {
        [RawInsn::new(BPF_LD_IMM64, 1, src_reg, 0, first), RawInsn::new(0, 0, 0, 0, second)]
    }

    #[test]
    fn the_hash_of_nothing_is_the_basis_and_of_one_slot_is_fnv() {
        assert_eq!(insns_hash(&[]), 0xcbf2_9ce4_8422_2325);
        // FNV-1a of 95 00 00 00 00 00 00 00, computed by another program.
        assert_eq!(insns_hash(&[RawInsn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)]), 0x7af2_0a1b_1807_79b0);
    }

    #[test]
    fn descriptors_and_ids_do_not_count_but_values_and_offsets_do() {
        let hash = |src, first, second| insns_hash(&wide(src, first, second));
        assert_eq!(hash(BPF_PSEUDO_MAP_FD, 3, 0), hash(BPF_PSEUDO_MAP_FD, 7, 0));
        assert_eq!(hash(BPF_PSEUDO_BTF_ID, 3, 1), hash(BPF_PSEUDO_BTF_ID, 7, 2));
        assert_eq!(hash(BPF_PSEUDO_MAP_VALUE, 3, 8), hash(BPF_PSEUDO_MAP_VALUE, 7, 8));
        assert_ne!(hash(BPF_PSEUDO_MAP_VALUE, 3, 8), hash(BPF_PSEUDO_MAP_VALUE, 3, 16));
        assert_ne!(hash(0, 3, 0), hash(0, 7, 0));
        let kfunc = |imm, off| insns_hash(&[RawInsn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, off, imm)]);
        assert_eq!(kfunc(100, 1), kfunc(200, 2));
        let helper = |imm| insns_hash(&[RawInsn::new(BPF_JMP | BPF_CALL, 0, 0, 0, imm)]);
        assert_ne!(helper(1), helper(2));
    }
}
