//! Split types on a distilled base, and put onto real bases again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use skep_btf::distil::{Distilled, distil, relocate};
use skep_btf::{Btf, Builder, Endian, Error, FuncLinkage, IntEncoding, Kind, MemberDef, Type, TypeDef, TypeId};

mod common;

/// What differs between the bases of a test.
#[derive(Clone, Copy)]
struct Kernel {
    /// Types before the ones that matter, so that numbers differ.
    before: u32,
    inner_size: u32,
    with_pointed_at: bool,
    twice: bool,
    endian: Endian,
}

const KERNEL: Kernel = Kernel { before: 0, inner_size: 8, with_pointed_at: true, twice: false, endian: Endian::NATIVE };

fn member(name: &str, type_id: TypeId, bytes: u32) -> MemberDef<'_> {
    MemberDef { name, type_id, bit_offset: bytes * 8, bitfield_size: None }
}

fn base(kernel: Kernel) -> Btf {
    let mut builder = Builder::new();
    for number in 0..kernel.before {
        builder.add(TypeDef::Fwd { name: &format!("filler{number}"), is_union: false }).unwrap();
    }
    let int = builder.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED }).unwrap();
    let members = [member("a", int, 0), member("b", int, 4)];
    let inner = TypeDef::Struct { name: "inner", size: kernel.inner_size, members: &members };
    builder.add(inner).unwrap();
    builder.add(TypeDef::Typedef { name: "inner_t", type_id: TypeId(builder.len() - 1) }).unwrap();
    if kernel.with_pointed_at {
        builder
            .add(TypeDef::Struct { name: "pointed_at", size: 4 + kernel.before, members: &[member("x", int, 0)] })
            .unwrap();
    }
    if kernel.twice {
        builder.add(TypeDef::Struct { name: "pointed_at", size: 400, members: &[] }).unwrap();
    }
    builder.add(TypeDef::Enum { name: "mode", size: 4, signed: false, values: &[("ON", 1), ("OFF", 0)] }).unwrap();
    builder.add(TypeDef::Struct { name: "never_used", size: 4, members: &[] }).unwrap();
    builder.add(TypeDef::Struct { name: "", size: 4, members: &[member("anonymous", int, 0)] }).unwrap();
    builder.add(TypeDef::Fwd { name: "opaque", is_union: true }).unwrap();
    Btf::parse(builder.finish(kernel.endian).unwrap()).unwrap()
}

/// A module's types: a struct with a base struct in an array, pointers, an enumeration, an anonymous struct; a function.
fn module(base: &Btf) -> Btf {
    let find = |name, kind| base.find(name, kind).unwrap_or_else(|| panic!("{name}"));
    let int = find("int", Kind::INT);
    let anonymous = base.types().find(|(_, it)| it.name().is_empty() && it.kind() == Kind::STRUCT).unwrap().0;
    let mut builder = Builder::split(base);
    let array = builder.add(TypeDef::Array { element: find("inner_t", Kind::TYPEDEF), index: int, len: 2 }).unwrap();
    let pointer = builder.add(TypeDef::Ptr(find("pointed_at", Kind::STRUCT))).unwrap();
    let opaque = builder.add(TypeDef::Ptr(find("opaque", Kind::FWD))).unwrap();
    let members = [
        member("two", array, 0),
        member("pointer", pointer, 16),
        member("mode", find("mode", Kind::ENUM), 24),
        member("rest", anonymous, 28),
        member("opaque", opaque, 32),
    ];
    builder.add(TypeDef::Struct { name: "of_module", size: 40, members: &members }).unwrap();
    let proto = builder.add(TypeDef::FuncProto { result: int, params: &[("it", pointer)] }).unwrap();
    builder.add(TypeDef::Func { name: "does", proto, linkage: FuncLinkage::STATIC }).unwrap();
    Btf::parse_split(builder.finish(base.endian()).unwrap(), base).unwrap()
}

fn parse(distilled: &Distilled) -> Btf {
    let base = Btf::parse(distilled.base.clone()).unwrap();
    Btf::parse_split(distilled.split.clone(), &base).unwrap()
}

/// A type in words, as deep as members of structs without a name and pointers go.
fn words(btf: &Btf, id: TypeId) -> String {
    let it = btf.type_by_id(id).unwrap();
    match it {
        Type::Void => "void".into(),
        Type::Ptr(to) => format!("*{}", words(btf, to.type_id())),
        Type::Array(array) => format!("[{}; {}]", words(btf, array.element()), array.len()),
        Type::Typedef(to) => format!("{} = {}", it.name(), words(btf, to.type_id())),
        Type::Struct(body) if body.name().is_empty() || body.name() == "of_module" => {
            let members = body
                .members()
                .map(|member| format!("{} @{}: {}", member.name(), member.bit_offset(), words(btf, member.type_id())));
            format!("{} {{ {} }}", body.name(), members.collect::<Vec<_>>().join(", "))
        }
        Type::Func(func) => format!("{}{}", it.name(), words(btf, func.proto())),
        Type::FuncProto(proto) => {
            let params = proto.params().map(|param| format!("{} {}", param.name, words(btf, param.type_id)));
            format!("({}) {}", params.collect::<Vec<_>>().join(", "), words(btf, proto.result()))
        }
        other => format!("{} {}", other.kind(), other.name()),
    }
}

fn all(btf: &Btf) -> Vec<String> {
    (btf.first_id().0..btf.len()).map(|id| words(btf, TypeId(id))).collect()
}

#[test]
fn the_distilled_base_has_what_is_named_and_no_more() {
    for endian in [Endian::Little, Endian::Big] {
        let module = module(&base(Kernel { endian, ..KERNEL }));
        let distilled = distil(&module).unwrap();
        let split = parse(&distilled);
        split.validate().unwrap();
        let of_base: Vec<String> = split
            .base()
            .unwrap()
            .types()
            .map(|(id, it)| format!("{} {} {:?}", it.kind(), it.name(), split.size_of(id).ok()))
            .collect();
        // The struct in the array counts by its size; the one behind a pointer by its name.
        assert_eq!(
            of_base,
            ["INT int Some(4)", "STRUCT inner Some(8)", "FWD pointed_at None", "ENUM mode Some(4)", "FWD opaque None"]
                .map(|it| it.to_string())
        );
        assert_eq!(all(&split)[3], all(&module)[3].replace("STRUCT pointed_at", "FWD pointed_at"));
        // Own types first and in order, then the typedef and the struct without a name.
        assert_eq!(split.len() - split.first_id().0, module.len() - module.first_id().0 + 2);
    }
}

#[test]
fn what_was_distilled_fits_a_kernel_with_other_numbers() {
    let old = module(&base(KERNEL));
    let split = parse(&distil(&old).unwrap());
    for before in [0, 1, 50] {
        let new = base(Kernel { before, ..KERNEL });
        let fitted = Btf::parse_split(relocate(&split, &new).unwrap(), &new).unwrap();
        fitted.validate().unwrap();
        let count = old.len() - old.first_id().0;
        assert_eq!(all(&fitted)[..count as usize], all(&old)[..]);
        let inner = fitted.find("of_module", Kind::STRUCT).unwrap();
        let Type::Struct(body) = fitted.type_by_id(inner).unwrap() else { panic!("a struct") };
        let pointer = body.member(1).unwrap().type_id();
        let Type::Ptr(to) = fitted.type_by_id(pointer).unwrap() else { panic!("a pointer") };
        // The real one, whose size is known again.
        assert_eq!(new.size_of(to.type_id()).unwrap(), u64::from(4 + before));
    }
}

#[test]
fn a_kernel_that_does_not_fit_is_refused_by_the_type_that_is_at_fault() {
    let split = parse(&distil(&module(&base(KERNEL))).unwrap());
    let refusal = |kernel| relocate(&split, &base(kernel)).unwrap_err().to_string();
    assert_eq!(
        refusal(Kernel { inner_size: 12, ..KERNEL }),
        "the types are for another kernel: STRUCT `inner` has another size there"
    );
    assert_eq!(
        refusal(Kernel { with_pointed_at: false, ..KERNEL }),
        "the types are for another kernel: FWD `pointed_at` is not there"
    );
    assert_eq!(
        refusal(Kernel { twice: true, ..KERNEL }),
        "the types are for another kernel: FWD `pointed_at` is there more than once"
    );
    let other = base(Kernel { endian: Endian::Big, ..KERNEL });
    assert_eq!(
        relocate(&split, &other),
        if cfg!(target_endian = "little") { Err(Error::MixedEndian) } else { relocate(&split, &other) }
    );
}

#[test]
fn types_of_one_name_are_told_apart_by_their_kinds() {
    let mut builder = Builder::new();
    let int = builder.add(TypeDef::Int { name: "same", size: 4, bits: 32, encoding: IntEncoding::SIGNED }).unwrap();
    let body = builder.add(TypeDef::Struct { name: "same", size: 4, members: &[member("x", int, 0)] }).unwrap();
    let base = Btf::parse(builder.finish(Endian::NATIVE).unwrap()).unwrap();
    let mut builder = Builder::split(&base);
    let members = [member("number", int, 0), member("body", body, 4)];
    builder.add(TypeDef::Struct { name: "of_module", size: 8, members: &members }).unwrap();
    let module = Btf::parse_split(builder.finish(Endian::NATIVE).unwrap(), &base).unwrap();
    let fitted = relocate(&parse(&distil(&module).unwrap()), &base).unwrap();
    assert_eq!(all(&Btf::parse_split(fitted, &base).unwrap()), all(&module));
}

#[test]
fn what_has_no_base_cannot_be_distilled() {
    let alone = base(KERNEL);
    assert!(matches!(distil(&alone), Err(Error::BadType { .. })));
    assert!(matches!(relocate(&alone, &alone), Err(Error::BadType { .. })));
}

/// Types over the running kernel's, which are then put into the opposite order.
#[test]
fn types_of_the_running_kernel_are_found_again_when_every_number_changes() {
    let Some(kernel) = common::kernel() else { return };
    let find = |name, kind| kernel.find(name, kind).unwrap_or_else(|| panic!("{name}"));
    let mut builder = Builder::split(&kernel);
    let task = builder.add(TypeDef::Ptr(find("task_struct", Kind::STRUCT))).unwrap();
    let members = [
        member("task", task, 0),
        member("list", find("list_head", Kind::STRUCT), 8),
        member("pid", find("pid_t", Kind::TYPEDEF), 24),
    ];
    builder.add(TypeDef::Struct { name: "of_module", size: 32, members: &members }).unwrap();
    let module = Btf::parse_split(builder.finish(kernel.endian()).unwrap(), &kernel).unwrap();
    let distilled = distil(&module).unwrap();
    assert!(distilled.base.len() + distilled.split.len() < 500, "{} bytes", distilled.base.len());
    let mut reversed = Builder::from_btf(&kernel);
    let order: Vec<TypeId> = (1..kernel.len()).rev().map(TypeId).collect();
    reversed.permute(&order).unwrap();
    let reversed = Btf::parse(reversed.finish(kernel.endian()).unwrap()).unwrap();
    let split = parse(&distilled);
    for base in [&kernel, &reversed] {
        let fitted = Btf::parse_split(relocate(&split, base).unwrap(), base).unwrap();
        assert_eq!(all(&fitted)[..2], all(&module)[..]);
    }
    assert_ne!(reversed.find("task_struct", Kind::STRUCT), kernel.find("task_struct", Kind::STRUCT));
}
