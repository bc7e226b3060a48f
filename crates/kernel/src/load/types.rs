//! The object's types in the kernel.
//!
//! The bytes come from the Spec ready for a kernel that knows every kind. They are tried as they are; only when the kernel
//! refuses is it asked which kinds it knows, and each that it does not is put into words that it does. Numbers and sizes of
//! types stay, so that maps and line records keep their meaning:
//!
//! | kind | kernel | becomes |
//! |---|---|---|
//! | `FLOAT` | 5.13 | an empty struct of its size |
//! | `DECL_TAG` | 5.16 | an unused `const void` |
//! | `TYPE_TAG` | 5.17 | `const` |
//! | `ENUM64` | 6.0 | an empty union of its size |
//! | signed `ENUM` | 6.0 | an enum |
//! | `FUNC` global | 5.6 | static |
//! | `VAR`, `DATASEC` | 5.2 | an integer, an empty struct |
//! | `DATASEC` named `?...` | 6.8 | an empty struct |
//! | `FUNC`, `FUNC_PROTO` | 4.20 | a typedef, an empty struct |

use std::os::fd::BorrowedFd;

use skep_btf::{Btf, Builder, FuncLinkage, IntEncoding, Type, TypeDef, TypeId};
use skep_engine::Error;
use skep_sys::Errno;
use skep_sys::bpf::{BtfFd, BtfLoad, Log, LogLevel};

use crate::features::BtfKinds;

/// Gives the types to the kernel.
///
/// # Errors
///
/// With the kernel's own words about what is wrong with them.
pub(super) fn upload(
    bytes: &[u8],
    token: Option<BorrowedFd<'_>>,
    kinds: impl FnOnce() -> BtfKinds,
) -> Result<BtfFd, Error> {
    let first = match attempt(bytes, token) {
        Ok(fd) => return Ok(fd),
        Err(errno @ (Errno::EPERM | Errno::ENOMEM)) => return Err(refused(bytes, token, errno)),
        Err(errno) => errno,
    };
    let kinds = kinds();
    if kinds != BtfKinds::ALL
        && let Some(plain) = fit(bytes, kinds)
    {
        return attempt(&plain, token).map_err(|errno| refused(&plain, token, errno));
    }
    Err(refused(bytes, token, first))
}

fn attempt(bytes: &[u8], token: Option<BorrowedFd<'_>>) -> Result<BtfFd, Errno> {
    BtfLoad { btf: bytes, log: None, token }.load().0
}

/// Asks again with a log, to say why.
fn refused(bytes: &[u8], token: Option<BorrowedFd<'_>>, errno: Errno) -> Error {
    let mut buf = vec![0; 64 * 1024];
    let log = Log { level: LogLevel::BRIEF, buf: &mut buf };
    let (_, _) = BtfLoad { btf: bytes, log: Some(log), token }.load();
    let end = buf.iter().position(|&b| b == 0).unwrap_or(buf.len());
    let text = String::from_utf8_lossy(&buf[..end]).into_owned();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let message = if last.is_empty() {
        format!("the kernel refuses the object's types: {errno}")
    } else {
        format!("the kernel refuses the object's types: {}: {errno}", last.trim())
    };
    Error::new(message).with_log(text).with_source(errno)
}

/// Puts what the kernel does not know into words that it knows. `None` when there is nothing to change, or the types are
/// damaged.
fn fit(bytes: &[u8], kinds: BtfKinds) -> Option<Vec<u8>> {
    let btf = Btf::parse(bytes.to_vec()).ok()?;
    let mut builder = Builder::from_btf(&btf);
    let mut changed = false;
    for (id, this) in btf.own_types() {
        let values: Vec<(&str, u32)>;
        let replacement = match &this {
            Type::Float(float) if !kinds.float => TypeDef::Struct { name: "", size: float.size(), members: &[] },
            Type::DeclTag(_) if !kinds.decl_tag => TypeDef::Const(TypeId::VOID),
            Type::TypeTag(tag) if !kinds.type_tag => TypeDef::Const(tag.type_id()),
            Type::Enum64(it) if !kinds.enum64 => TypeDef::Union { name: "", size: it.size(), members: &[] },
            Type::Enum(it) if it.is_signed() && !kinds.enum64 => {
                values = it.values().map(|value| (value.name, value.value as u32)).collect();
                TypeDef::Enum { name: it.name(), size: it.size(), signed: false, values: &values }
            }
            Type::Func(func) if !kinds.func => TypeDef::Typedef { name: func.name(), type_id: func.proto() },
            Type::FuncProto(_) if !kinds.func => TypeDef::Struct { name: "", size: 0, members: &[] },
            Type::Func(func) if !kinds.func_global && func.linkage() != FuncLinkage::STATIC => {
                TypeDef::Func { name: func.name(), proto: func.proto(), linkage: FuncLinkage::STATIC }
            }
            Type::Var(var) if !kinds.datasec => {
                TypeDef::Int { name: var.name(), size: 1, bits: 8, encoding: IntEncoding(0) }
            }
            Type::Datasec(section) if !kinds.datasec => {
                TypeDef::Struct { name: "", size: section.size(), members: &[] }
            }
            Type::Datasec(section) if !kinds.qmark_datasec && section.name().starts_with('?') => {
                TypeDef::Struct { name: "", size: section.size(), members: &[] }
            }
            _ => continue,
        };
        builder.replace(id, replacement).ok()?;
        changed = true;
    }
    changed.then(|| builder.finish(btf.endian()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_btf::{Endian, Kind, MemberDef, SecVar, VarLinkage};

    /// One type of each kind that is younger than BTF itself.
    fn everything() -> Vec<u8> {
        let mut b = Builder::new();
        let int = b.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED }).unwrap();
        let float = b.add(TypeDef::Float { name: "double", size: 8 }).unwrap();
        let members = [
            MemberDef { name: "d", type_id: float, bit_offset: 0, bitfield_size: None },
            MemberDef { name: "i", type_id: int, bit_offset: 64, bitfield_size: None },
        ];
        b.add(TypeDef::Struct { name: "s", size: 16, members: &members }).unwrap();
        let big = [("A", 1u64 << 40)];
        b.add(TypeDef::Enum64 { name: "big", size: 8, signed: false, values: &big }).unwrap();
        b.add(TypeDef::Enum { name: "small", size: 4, signed: true, values: &[("M", u32::MAX)] }).unwrap();
        let tag = b.add(TypeDef::TypeTag { tag: "user", type_id: int }).unwrap();
        b.add(TypeDef::Ptr(tag)).unwrap();
        let proto = b.add(TypeDef::FuncProto { result: int, params: &[("x", int)] }).unwrap();
        let func = b.add(TypeDef::Func { name: "f", proto, linkage: FuncLinkage::GLOBAL }).unwrap();
        b.add(TypeDef::DeclTag { tag: "t", type_id: func, component: None }).unwrap();
        let var = b.add(TypeDef::Var { name: "v", type_id: int, linkage: VarLinkage::GLOBAL }).unwrap();
        let vars = [SecVar { type_id: var, offset: 0, size: 4 }];
        b.add(TypeDef::Datasec { name: ".data", size: 4, vars: &vars }).unwrap();
        b.add(TypeDef::Datasec { name: "?.struct_ops", size: 4, vars: &vars }).unwrap();
        b.finish(Endian::NATIVE).unwrap()
    }

    fn kinds_left(kinds: BtfKinds) -> Vec<Kind> {
        let bytes = fit(&everything(), kinds).unwrap();
        let btf = Btf::parse(bytes).unwrap();
        btf.validate().unwrap();
        let mut left: Vec<Kind> = btf.own_types().map(|(_, t)| t.kind()).collect();
        left.sort_unstable();
        left.dedup();
        left
    }

    #[test]
    fn each_unknown_kind_is_said_in_older_words() {
        let all = BtfKinds::ALL;
        assert!(!kinds_left(BtfKinds { float: false, ..all }).contains(&Kind::FLOAT));
        assert!(!kinds_left(BtfKinds { decl_tag: false, ..all }).contains(&Kind::DECL_TAG));
        assert!(!kinds_left(BtfKinds { type_tag: false, ..all }).contains(&Kind::TYPE_TAG));
        assert!(!kinds_left(BtfKinds { enum64: false, ..all }).contains(&Kind::ENUM64));
        let oldest = BtfKinds {
            func: false,
            func_global: false,
            datasec: false,
            float: false,
            decl_tag: false,
            type_tag: false,
            enum64: false,
            qmark_datasec: false,
        };
        let known = [Kind::INT, Kind::PTR, Kind::STRUCT, Kind::UNION, Kind::ENUM, Kind::TYPEDEF, Kind::CONST];
        assert_eq!(kinds_left(oldest), known);
    }

    #[test]
    fn numbers_and_sizes_of_types_stay() {
        let before = Btf::parse(everything()).unwrap();
        let kinds = BtfKinds { float: false, enum64: false, decl_tag: false, ..BtfKinds::ALL };
        let after = Btf::parse(fit(&everything(), kinds).unwrap()).unwrap();
        assert_eq!(before.len(), after.len());
        for (id, it) in before.own_types() {
            if it.kind() != Kind::DECL_TAG {
                assert_eq!(before.size_of(id).ok(), after.size_of(id).ok(), "type {id}");
            }
        }
    }

    #[test]
    fn the_running_kernel_takes_what_was_fitted() {
        let kinds = BtfKinds { float: false, enum64: false, type_tag: false, decl_tag: false, ..BtfKinds::ALL };
        let bytes = fit(&everything(), BtfKinds { qmark_datasec: false, ..kinds }).unwrap();
        match upload(&bytes, None, || BtfKinds::ALL) {
            Ok(_) => {}
            Err(error) => {
                let errno = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<Errno>().copied());
                assert_eq!(errno, Some(Errno::EPERM), "{error}");
                println!("skipped: needs CAP_BPF");
            }
        }
    }
}
