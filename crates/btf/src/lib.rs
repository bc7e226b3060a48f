//! BTF and BTF.ext: parse, index, build, deduplicate, print as C, print values, match types for CO-RE.
//!
//! BTF is how a BPF object, a kernel and a kernel module describe their types: a table of small records, numbered from 1,
//! that point at each other by number, and one block of strings that they name by offset. Number 0 is `void`.
//! The format is the kernel's `include/uapi/linux/btf.h` and `Documentation/bpf/btf.rst` (6.18).
//!
//! The tiers, from the bottom:
//!
//! - [`Btf`] is one parsed file. It keeps the bytes it was given (owned or mapped, never copied) and one byte per type. A
//!   *split* BTF continues the numbering of a base, as every kernel module does on top of vmlinux.
//! - [`Type`] and its views ([`Composite`], [`Enum`], ...) read one record in place, in either byte order.
//! - [`NeededNames`] and [`Btf::find_all`] answer "where are these twenty names" in one pass over the kernel's BTF, without
//!   building an index, and [`Btf::parse_and_find`] in the pass that is made anyway; [`Btf::find`] builds an index when it is
//!   asked often.
//! - [`Builder`] makes BTF, or takes one apart to change it; [`Edit`] changes a few numbers of one in place.
//! - [`distil`] makes split BTF that fits a rebuilt kernel, and fits it.
//! - [`BtfExt`] is what a compiler leaves beside BTF in an object: function types, source lines and CO-RE relocations.
//!
//! ```
//! # fn main() -> Result<(), skep_btf::Error> {
//! use skep_btf::{Btf, Kind, Type, TypeId};
//! // A header without types or strings but the empty one.
//! let btf = Btf::parse(b"\x9f\xeb\x01\x00\x18\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0".to_vec())?;
//! assert!(matches!(btf.type_by_id(TypeId::VOID)?, Type::Void));
//! assert_eq!(btf.find("task_struct", Kind::STRUCT), None);
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: no IO, no printing, no unsafe. Bytes are hostile: every read is checked, nothing allocates more than a constant
//! times the size of the input, and every walk along type references is bounded.

mod btf;
mod build;
pub mod core;
pub mod dedup;
pub mod distil;
pub mod dump;
mod edit;
mod error;
mod ext;
mod find;
#[doc(hidden)]
pub mod fuzz;
mod kind;
mod offsets;
mod parse;
mod raw;
mod types;
mod validate;
pub mod value;
mod walk;

pub use btf::{Btf, TypeId};
pub use build::{Appended, Builder, MemberDef, TypeDef};
pub use edit::Edit;
pub use error::Error;
pub use ext::{BtfExt, CoreRelo, CoreReloKind, ExtSection, FuncInfo, LineInfo};
pub use find::NeededNames;
pub use kind::Kind;
pub use skep_insn::Endian;
pub use types::{
    Array, Composite, Datasec, DeclTag, Enum, EnumValue, Float, Func, FuncLinkage, FuncProto, Fwd, Int, IntEncoding,
    Member, Param, Ref, SecVar, Type, Unknown, Var, VarLinkage,
};
