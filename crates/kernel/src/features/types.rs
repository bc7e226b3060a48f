//! Which kinds of types the kernel takes, and the few types that other questions need.

use skep_btf::{Builder, Endian, Error, FuncLinkage, IntEncoding, SecVar, TypeDef, TypeId, VarLinkage};
use skep_sys::Errno;
use skep_sys::bpf::{BtfFd, BtfLoad};
use skep_sys::version::KernelVersion;

use super::judged;

/// Which kinds of types the kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BtfKinds {
    /// `FUNC` and `FUNC_PROTO` (4.20).
    pub func: bool,
    /// `FUNC` with global linkage (5.6).
    pub func_global: bool,
    /// `VAR` and `DATASEC` (5.2).
    pub datasec: bool,
    /// `FLOAT` (5.13).
    pub float: bool,
    /// `DECL_TAG` (5.16).
    pub decl_tag: bool,
    /// `TYPE_TAG` (5.17).
    pub type_tag: bool,
    /// `ENUM64`, and the sign bit of `ENUM` (6.0).
    pub enum64: bool,
    /// Sections whose name starts with a question mark (6.8).
    pub qmark_datasec: bool,
}

impl BtfKinds {
    /// A kernel that takes everything, which is every kernel of the last years.
    pub const ALL: BtfKinds = BtfKinds {
        func: true,
        func_global: true,
        datasec: true,
        float: true,
        decl_tag: true,
        type_tag: true,
        enum64: true,
        qmark_datasec: true,
    };

    pub(super) fn ask() -> BtfKinds {
        let ask = |define: &dyn Fn(&mut Builder, TypeId) -> Result<TypeId, Error>, major, minor| {
            let loaded = load(|builder| {
                let int = int(builder)?;
                define(builder, int)
            });
            judged(loaded, KernelVersion::new(major, minor, 0))
        };
        BtfKinds {
            func: ask(&|b, int| func(b, "x", ("a", int), FuncLinkage::STATIC), 4, 20),
            func_global: ask(&|b, int| func(b, "x", ("a", int), FuncLinkage::GLOBAL), 5, 6),
            datasec: ask(&|b, int| datasec(b, ".x", int), 5, 2),
            float: ask(&|b, _| b.add(TypeDef::Float { name: "float", size: 4 }), 5, 13),
            decl_tag: ask(
                &|b, int| {
                    let type_id = variable(b, int)?;
                    b.add(TypeDef::DeclTag { tag: "tag", type_id, component: None })
                },
                5,
                16,
            ),
            type_tag: ask(
                &|b, int| {
                    let tag = b.add(TypeDef::TypeTag { tag: "tag", type_id: int })?;
                    b.add(TypeDef::Ptr(tag))
                },
                5,
                17,
            ),
            enum64: ask(
                &|b, _| b.add(TypeDef::Enum64 { name: "e", size: 8, signed: false, values: &[("v", 0)] }),
                6,
                0,
            ),
            qmark_datasec: ask(&|b, int| datasec(b, "?.x", int), 6, 8),
        }
    }
}

/// An integer, in the kernel.
pub(super) fn with_int() -> Result<(BtfFd, TypeId), Errno> {
    load(int)
}

/// Two functions in the kernel: one that takes a context by its type, and one whose argument is a context only by its tag.
pub(super) fn with_arg_ctx() -> Result<(BtfFd, TypeId, TypeId), Errno> {
    let mut tagged = TypeId::VOID;
    let (fd, main) = load(|builder| {
        let anything = builder.add(TypeDef::Ptr(TypeId::VOID))?;
        let main = func(builder, "a", ("ctx", anything), FuncLinkage::GLOBAL)?;
        tagged = func(builder, "b", ("ctx", anything), FuncLinkage::GLOBAL)?;
        builder.add(TypeDef::DeclTag { tag: "arg:ctx", type_id: tagged, component: Some(0) })?;
        Ok(main)
    })?;
    Ok((fd, main, tagged))
}

/// Gives types to the kernel, and the answer of what defined them.
fn load(define: impl FnOnce(&mut Builder) -> Result<TypeId, Error>) -> Result<(BtfFd, TypeId), Errno> {
    let mut builder = Builder::new();
    // A handful of types with names of a few letters: nothing that a builder could refuse.
    let id = define(&mut builder).map_err(|_| Errno::EINVAL)?;
    let bytes = builder.finish(Endian::NATIVE).map_err(|_| Errno::EINVAL)?;
    let (fd, _) = BtfLoad { btf: &bytes, log: None, token: None }.load();
    Ok((fd?, id))
}

fn int(builder: &mut Builder) -> Result<TypeId, Error> {
    builder.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED })
}

/// A function of one parameter that gives back an integer.
fn func(builder: &mut Builder, name: &str, param: (&str, TypeId), linkage: FuncLinkage) -> Result<TypeId, Error> {
    let result = int(builder)?;
    let proto = builder.add(TypeDef::FuncProto { result, params: &[param] })?;
    builder.add(TypeDef::Func { name, proto, linkage })
}

fn variable(builder: &mut Builder, type_id: TypeId) -> Result<TypeId, Error> {
    builder.add(TypeDef::Var { name: "x", type_id, linkage: VarLinkage::GLOBAL })
}

fn datasec(builder: &mut Builder, name: &str, int: TypeId) -> Result<TypeId, Error> {
    let type_id = variable(builder, int)?;
    builder.add(TypeDef::Datasec { name, size: 4, vars: &[SecVar { type_id, offset: 0, size: 4 }] })
}
