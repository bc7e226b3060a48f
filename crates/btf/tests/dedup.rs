//! Merging and deduplicating against bpftool's linker, which does it with libbpf.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::Command;

use common::*;
use skep_btf::{Btf, Builder, Endian, Kind, Type, TypeDef, TypeId, dump};

fn linked(units: &[Btf]) -> Btf {
    let mut builder = Builder::new();
    for unit in units {
        builder.append(unit).unwrap();
    }
    builder.dedup().unwrap();
    let btf = Btf::parse(builder.finish(units[0].endian()).unwrap()).unwrap();
    btf.validate().unwrap();
    btf
}

fn c(btf: &Btf) -> String {
    let mut out = String::new();
    dump::dump_c(btf, &mut out).unwrap();
    out
}

/// The types that a linker neither adds nor merges.
fn plain_types(btf: &Btf) -> Vec<(Kind, String)> {
    let is_plain = |kind| !matches!(kind, Kind::VAR | Kind::DATASEC);
    btf.types().filter(|(_, it)| is_plain(it.kind())).map(|(_, it)| (it.kind(), it.name().to_owned())).collect()
}

#[test]
fn units_are_merged_as_bpftools_linker_does() {
    let scratch = Scratch::new();
    for (clang, target) in COMPILERS.into_iter().filter(|(_, target)| *target == "bpfel") {
        let sets = [
            &["unit_a.c", "unit_b.c"][..],
            &["unit_b.c", "unit_a.c"],
            &["values.c", "unit_a.c", "program.c", "unit_b.c"],
        ];
        for set in sets {
            let paths: Vec<_> = set.iter().map(|it| compile(&scratch, clang, target, &data(it))).collect();
            let out = scratch.0.join("linked.o");
            let _ = std::fs::remove_file(&out);
            run(Command::new("bpftool").args(["gen", "object"]).arg(&out).args(&paths));
            let theirs = btf_of(&out);
            let ours = linked(&paths.iter().map(|it| btf_of(it)).collect::<Vec<_>>());
            assert_eq!(plain_types(&ours), plain_types(&theirs), "{set:?} {clang}");
            assert_eq!(c(&ours), c(&theirs), "{set:?} {clang}");
        }
    }
}

#[test]
fn a_second_pass_finds_nothing() {
    let scratch = Scratch::new();
    let units: Vec<_> = ["unit_a.c", "unit_b.c", "values.c", "shapes.c"]
        .iter()
        .map(|it| btf_of(&compile(&scratch, "clang-19", "bpfeb", &data(it))))
        .collect();
    let once = linked(&units);
    let mut builder = Builder::from_btf(&once);
    let moved = builder.dedup().unwrap();
    assert!(once.types().all(|(id, _)| moved.type_id(id) == id));
    assert_eq!(builder.finish(Endian::Big).unwrap(), once.as_bytes());
}

#[test]
fn a_type_twice_is_as_good_as_once() {
    let scratch = Scratch::new();
    for source in ["values.c", "shapes.c", "program.c"] {
        let btf = btf_of(&compile(&scratch, "clang-19", "bpfel", &data(source)));
        let once = linked(std::slice::from_ref(&btf));
        let thrice = linked(&[btf.clone(), btf.clone(), btf.clone()]);
        assert_eq!(plain_types(&once), plain_types(&thrice), "{source}");
        assert_eq!(c(&once), c(&btf), "{source}");
        assert_eq!(c(&thrice), c(&btf), "{source}");
    }
}

#[test]
fn the_kernel_has_no_duplicates_and_a_module_finds_its_types_in_it() {
    let Some(btf) = kernel() else { return };
    let mut builder = Builder::from_btf(&btf);
    let start = std::time::Instant::now();
    let moved = builder.dedup().unwrap();
    println!("deduplicated the kernel in {:?}: {} types, {} left", start.elapsed(), moved.before(), builder.len() - 1);
    assert!(builder.len() as usize > moved.before() * 99 / 100);

    // A module that describes list_head again.
    let mut module = Builder::split(&btf);
    let head = TypeId(module.len());
    let ptr = TypeId(head.0 + 1);
    let members = [("next", 0), ("prev", 64)].map(|(name, bit_offset)| skep_btf::MemberDef {
        name,
        type_id: ptr,
        bit_offset,
        bitfield_size: None,
    });
    assert_eq!(module.add(TypeDef::Struct { name: "list_head", size: 16, members: &members }).unwrap(), head);
    module.add(TypeDef::Ptr(head)).unwrap();
    let own = module.add(TypeDef::Typedef { name: "my_list", type_id: head }).unwrap();
    let moved = module.dedup().unwrap();
    let kernels = btf.find("list_head", Kind::STRUCT).unwrap();
    assert_eq!(moved.type_id(head), kernels);
    assert_eq!(moved.type_id(own).0, btf.len());
    assert_eq!(module.len(), btf.len() + 1);
    let split = Btf::parse_split(module.finish(btf.endian()).unwrap(), &btf).unwrap();
    assert!(matches!(split.type_by_id(moved.type_id(own)).unwrap(), Type::Typedef(it) if it.type_id() == kernels));
}

/// Which libbpf does too, since 1.2.
#[test]
fn a_declared_enumeration_becomes_the_one_with_values() {
    for declaration_first in [true, false] {
        let mut builder = Builder::new();
        let declare = |builder: &mut Builder| {
            builder.add(TypeDef::Enum { name: "later", size: 0, signed: false, values: &[] }).unwrap()
        };
        let early = declaration_first.then(|| declare(&mut builder));
        let full =
            builder.add(TypeDef::Enum64 { name: "later", size: 8, signed: false, values: &[("A", 1 << 40)] }).unwrap();
        let declared = early.unwrap_or_else(|| declare(&mut builder));
        let ptr = builder.add(TypeDef::Ptr(declared)).unwrap();
        let moved = builder.dedup().unwrap();
        assert_eq!(moved.type_id(declared), moved.type_id(full));
        assert_eq!(builder.len(), 3);
        let btf = Btf::parse(builder.finish(Endian::Little).unwrap()).unwrap();
        assert_eq!(btf.type_by_id(moved.type_id(ptr)).unwrap().target(), btf.find("later", Kind::ENUM64));
    }
}

#[test]
fn a_declaration_becomes_the_only_definition_of_its_name() {
    let mut builder = Builder::new();
    let fwd = builder.add(TypeDef::Fwd { name: "s", is_union: false }).unwrap();
    let other = builder.add(TypeDef::Fwd { name: "s", is_union: true }).unwrap();
    let ptr = builder.add(TypeDef::Ptr(fwd)).unwrap();
    let full = builder.add(TypeDef::Struct { name: "s", size: 0, members: &[] }).unwrap();
    let full_ptr = builder.add(TypeDef::Ptr(full)).unwrap();
    let moved = builder.dedup().unwrap();
    assert_eq!(moved.type_id(fwd), moved.type_id(full));
    assert_eq!(moved.type_id(ptr), moved.type_id(full_ptr));
    assert_ne!(moved.type_id(other), moved.type_id(full));
    assert_eq!(builder.len(), 4);
}
