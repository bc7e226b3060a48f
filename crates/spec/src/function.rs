//! Functions: instructions and what they refer to by name.

use skep_btf::TypeId;
use skep_insn::{InsnIdx, RawInsn};

use crate::{ExternId, MapId};

/// Position in [`Spec::functions`](crate::Spec::functions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FuncId(pub u32);

/// One function as the compiler emitted it, with every reference symbolic.
///
/// All indexes are relative to the function's first instruction. The vectors are sorted by instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Symbol name.
    pub name: String,
    /// Section it stands in, as written in the object (a leading `?` kept).
    pub section: String,
    /// Offset in that section, in bytes.
    pub section_off_bytes: u64,
    /// Who may see it.
    pub linkage: Linkage,
    /// Seen by the objects that it is linked with and by nobody else, though it is global or weak (`__hidden`).
    pub hidden: bool,
    /// The instructions. Immediates that a [`Reference`] names hold what the object held.
    pub insns: Vec<RawInsn>,
    /// Its `BTF_KIND_FUNC`, from `.BTF.ext`'s func_info; `None` without one.
    pub btf_func: Option<TypeId>,
    /// Symbols that instructions refer to.
    pub references: Vec<Reference>,
    /// CO-RE records.
    pub core_relos: Vec<CoreRelo>,
    /// Source lines.
    pub lines: Vec<LineInfo>,
    /// What keeps every program that reaches this function from loading.
    pub faults: Vec<Fault>,
}

impl Function {
    /// A global function that no file declared, and that refers to nothing.
    pub fn new(name: &str, section: &str, insns: Vec<RawInsn>) -> Function {
        Function {
            name: name.to_owned(),
            section: section.to_owned(),
            section_off_bytes: 0,
            linkage: Linkage::Global,
            hidden: false,
            insns,
            btf_func: None,
            references: Vec::new(),
            core_relos: Vec::new(),
            lines: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Whether it is verified with each of its callers instead of on its own: hidden global functions count as static, as in
    /// libbpf.
    pub fn is_static(&self) -> bool {
        self.hidden || self.linkage == Linkage::Static
    }
}

/// An instruction whose symbol could not be understood, such as a reference to an undefined variable without a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The instruction.
    pub insn: InsnIdx,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
}

/// Who may see a function, a variable or a map when objects are linked ([`merge`](crate::merge)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// Its own object.
    Static,
    /// All objects; a second definition is a mistake.
    Global,
    /// All objects, and another definition may take its place.
    Weak,
}

/// One instruction and the thing that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The instruction (first slot of a wide load).
    pub insn: InsnIdx,
    /// What it needs.
    pub target: RefTarget,
}

/// What an instruction can refer to (libbpf's relocation kinds, without CO-RE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefTarget {
    /// Wide load of a map (`BPF_PSEUDO_MAP_FD`).
    Map(MapId),
    /// Wide load of an address inside the value of a data map, or inside an arena (`BPF_PSEUDO_MAP_VALUE`).
    MapValue {
        /// The map of the section.
        map: MapId,
        /// Offset in the section, in bytes.
        off_bytes: u32,
    },
    /// Call of another function of the object (`BPF_PSEUDO_CALL`).
    Call(FuncId),
    /// Wide load of a function's address, for callbacks (`BPF_PSEUDO_FUNC`).
    FuncAddr(FuncId),
    /// Wide load of an external variable: kconfig value or kernel symbol.
    Extern(ExternId),
    /// Call of an external function: a kfunc.
    ExternCall(ExternId),
    /// Wide load of a jump table, an instruction array map whose [`MapContents::JumpTable`](crate::map::MapContents) says
    /// where it leads (kernel 6.19).
    JumpTable(MapId),
}

/// One CO-RE record of `.BTF.ext` (`struct bpf_core_relo`, include/uapi/linux/bpf.h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreRelo {
    /// The instruction to patch.
    pub insn: InsnIdx,
    /// Root type in the object's BTF.
    pub type_id: TypeId,
    /// Access string, such as `0:1:2`.
    pub access: String,
    /// `enum bpf_core_relo_kind`, kept as a number since newer compilers may know more kinds.
    pub kind: u32,
}

/// One line record; strings are offsets into the object's BTF strings, as the kernel takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// First instruction of the line.
    pub insn: InsnIdx,
    /// File name, as offset into the BTF strings.
    pub file_name_off: u32,
    /// Text of the line, as offset into the BTF strings.
    pub line_off: u32,
    /// Line in the upper 22 bits, column in the lower 10 (`BPF_LINE_INFO_LINE_NUM`, `_COL`).
    pub line_col: u32,
}

impl LineInfo {
    /// Line number, from 1.
    pub fn line(&self) -> u32 {
        self.line_col >> 10
    }

    /// Column, from 1; 0 when unknown.
    pub fn column(&self) -> u32 {
        self.line_col & 0x3ff
    }
}
