//! Building, writing again, merging.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::*;
use skep_btf::{Btf, BtfExt, Builder, Endian, Error, IntEncoding, Kind, MemberDef, SecVar, Type, TypeDef, TypeId};

#[test]
fn what_is_parsed_and_written_again_is_the_same() {
    let scratch = Scratch::new();
    for (clang, target) in COMPILERS {
        let path = compile(&scratch, clang, target, &data("values.c"));
        let bytes = section(&path, ".BTF");
        let btf = Btf::parse(bytes.clone()).unwrap();
        btf.validate().unwrap();
        assert_eq!(Builder::from_btf(&btf).finish(btf.endian()).unwrap(), bytes, "{clang} {target}");
        let ext = section(&compile(&scratch, clang, target, &data("program.c")), ".BTF.ext");
        assert_eq!(BtfExt::parse(&ext).unwrap().to_bytes(btf.endian()), ext, "{clang} {target}");
    }
    if let Some(btf) = kernel() {
        assert!(Builder::from_btf(&btf).finish(btf.endian()).unwrap() == btf.as_bytes());
    }
}

#[test]
fn the_other_byte_order_says_the_same() {
    let scratch = Scratch::new();
    let path = compile(&scratch, "clang-19", "bpfel", &data("values.c"));
    let little = btf_of(&path);
    let big = Btf::parse(Builder::from_btf(&little).finish(Endian::Big).unwrap()).unwrap();
    assert_eq!(big.endian(), Endian::Big);
    assert_eq!(big.len(), little.len());
    for ((id, a), (_, b)) in little.types().zip(big.types()) {
        assert_eq!((a.kind(), a.name(), a.target()), (b.kind(), b.name(), b.target()), "{id}");
        if let (Type::Struct(a), Type::Struct(b)) = (a, b) {
            assert_eq!(
                format!("{:?}", a.members().collect::<Vec<_>>()),
                format!("{:?}", b.members().collect::<Vec<_>>())
            );
        }
    }
    assert_eq!(Builder::from_btf(&big).finish(Endian::Little).unwrap(), little.as_bytes());
}

#[test]
fn an_appended_btf_keeps_its_meaning_under_new_numbers() {
    let scratch = Scratch::new();
    let values = btf_of(&compile(&scratch, "clang-19", "bpfel", &data("values.c")));
    let other = btf_of(&compile(&scratch, "clang-19", "bpfeb", &data("program.c")));
    let mut builder = Builder::from_btf(&values);
    let appended = builder.append(&other).unwrap();
    let both = Btf::parse(builder.finish(Endian::Little).unwrap()).unwrap();
    both.validate().unwrap();
    assert_eq!(both.len(), values.len() + other.len() - 1);
    for (id, it) in other.types() {
        let copy = both.type_by_id(appended.type_id(id)).unwrap();
        assert_eq!((it.kind(), it.name()), (copy.kind(), copy.name()));
        assert_eq!(it.target().map(|to| appended.type_id(to)), copy.target());
        if let (Type::Struct(a), Type::Struct(b)) = (it, copy) {
            for (a, b) in a.members().zip(b.members()) {
                assert_eq!((a.name(), appended.type_id(a.type_id())), (b.name(), b.type_id()));
            }
        }
    }
}

#[test]
fn sections_are_patched_in_place() {
    let scratch = Scratch::new();
    let btf = btf_of(&compile(&scratch, "clang-19", "bpfel", &data("values.c")));
    let id = btf.find(".data", Kind::DATASEC).unwrap();
    let Type::Datasec(section) = btf.type_by_id(id).unwrap() else { panic!("not a section") };
    let mut builder = Builder::from_btf(&btf);
    let mut at = 0;
    for (index, var) in section.vars().enumerate() {
        builder.set_section_var(id, index, SecVar { offset: at, ..var }).unwrap();
        at += var.size;
    }
    builder.set_size(id, at).unwrap();
    builder.set_name(id, ".data.mine").unwrap();
    assert!(builder.set_section_var(id, 99, SecVar { type_id: TypeId(1), offset: 0, size: 0 }).is_err());
    assert!(matches!(builder.set_size(TypeId(9999), 1), Err(Error::NoType { .. })));
    let patched = Btf::parse(builder.finish(Endian::Little).unwrap()).unwrap();
    let Type::Datasec(found) = patched.type_by_id(id).unwrap() else { panic!("not a section") };
    assert_eq!((found.name(), found.size()), (".data.mine", at));
    assert_eq!(found.vars().last().unwrap().offset + found.vars().last().unwrap().size, at);
    assert_eq!(patched.size_of(id).unwrap(), u64::from(at));
}

#[test]
fn a_split_btf_goes_on_after_its_base() {
    let scratch = Scratch::new();
    let base = btf_of(&compile(&scratch, "clang-19", "bpfel", &data("values.c")));
    let mut builder = Builder::split(&base);
    let all = base.find("all", Kind::STRUCT).unwrap();
    let ptr = builder.add(skep_btf::TypeDef::Ptr(all)).unwrap();
    assert_eq!(ptr.0, base.len());
    // A name of the base costs nothing here.
    let name = builder.add(skep_btf::TypeDef::Typedef { name: "all", type_id: ptr }).unwrap();
    let own = builder.add(skep_btf::TypeDef::Typedef { name: "module_only", type_id: name }).unwrap();
    let bytes = builder.finish(Endian::Little).unwrap();
    let btf = Btf::parse_split(bytes.clone(), &base).unwrap();
    assert_eq!(btf.own_types().count(), 3);
    assert_eq!(btf.type_by_id(name).unwrap().name(), "all");
    assert_eq!(btf.find("all", Kind::STRUCT), Some(all));
    assert_eq!(btf.find("all", Kind::TYPEDEF), Some(name));
    assert_eq!(btf.find_by_name("all"), [all, base.find("all", Kind::VAR).unwrap(), name]);
    assert_eq!(btf.find("module_only", Kind::TYPEDEF), Some(own));
    assert_eq!(base.find("module_only", Kind::TYPEDEF), None);
    assert!(!String::from_utf8_lossy(&bytes).contains("all\0"));
    btf.validate().unwrap();
    assert_eq!(Builder::from_btf(&btf).finish(Endian::Little).unwrap(), bytes);
    let big = Btf::parse(Builder::from_btf(&base).finish(Endian::Big).unwrap()).unwrap();
    assert_eq!(Btf::parse_split(bytes, &big).unwrap_err(), Error::MixedEndian);
}

#[test]
fn types_in_another_order_mean_the_same() {
    let mut builder = Builder::new();
    let int = builder.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED }).unwrap();
    let pointer = builder.add(TypeDef::Ptr(int)).unwrap();
    let members = [MemberDef { name: "at", type_id: pointer, bit_offset: 0, bitfield_size: None }];
    let point = builder.add(TypeDef::Struct { name: "point", size: 8, members: &members }).unwrap();
    let before = builder.finish(Endian::NATIVE).unwrap();
    builder.permute(&[point, int, pointer]).unwrap();
    let btf = Btf::parse(builder.finish(Endian::NATIVE).unwrap()).unwrap();
    let Type::Struct(it) = btf.type_by_id(TypeId(1)).unwrap() else { panic!("not the struct") };
    let member = it.members().next().unwrap();
    assert_eq!((it.name(), member.type_id()), ("point", TypeId(3)));
    assert_eq!(btf.type_by_id(TypeId(3)).unwrap().target(), Some(TypeId(2)));
    // And back again.
    builder.permute(&[TypeId(2), TypeId(3), TypeId(1)]).unwrap();
    assert_eq!(builder.finish(Endian::NATIVE).unwrap(), before);
    for (order, what) in [(&[int, pointer, int][..], "twice"), (&[int, pointer], "missing"), (&[TypeId(9)], "no type")]
    {
        let text = builder.permute(order).unwrap_err().to_string();
        assert!(text.contains(what), "{text}");
    }
    assert_eq!(builder.finish(Endian::NATIVE).unwrap(), before);
}
