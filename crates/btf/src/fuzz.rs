//! What fuzzers and mutation tests run: everything this crate can do with bytes, checked against itself.

use std::fmt::{self, Write};

use crate::value::{Json, Style, Text, Value, walk};
use crate::{Btf, BtfExt, Builder, Endian, Kind, NeededNames, Type, TypeId, distil, dump};

/// Takes no memory.
struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

/// Any bytes as BTF. Panics when a promise of this crate is broken.
pub fn btf(data: &[u8]) {
    let Ok(btf) = Btf::parse(data.to_vec()) else { return };
    let is_valid = btf.validate().is_ok();
    let names: NeededNames = btf.types().map(|(_, it)| it.name().to_owned()).take(64).collect();
    let scanned = btf.find_all(&names);
    let Ok((_, found)) = Btf::parse_and_find(data.to_vec(), &names) else {
        panic!("parsed once, refused the second time")
    };
    assert!(btf.is_sorted() || scanned == found, "the pass that parses and a pass of its own disagree");
    btf.index();
    assert!(btf.is_sorted() || scanned == btf.find_all(&names), "scan and index disagree");
    let bytes: Vec<u8> = (0..200u8).collect();
    for id in (0..btf.len().min(2000)).map(TypeId) {
        let Ok(it) = btf.type_by_id(id) else { panic!("type {id} is gone") };
        let _ = (btf.resolve(id), btf.size_of(id), btf.strip_qualifiers(id), format!("{it:?}"));
        match it {
            Type::Struct(it) | Type::Union(it) => it.members().for_each(|it| drop(format!("{it:?}"))),
            Type::Enum(it) | Type::Enum64(it) => it.values().for_each(drop),
            Type::Datasec(it) => it.vars().for_each(drop),
            Type::FuncProto(it) => it.params().for_each(drop),
            _ => {}
        }
        for len in [0, 3, 64, 200] {
            for endian in [Endian::Little, Endian::Big] {
                let value = Value { btf: &btf, type_id: id, bytes: &bytes[..len], endian };
                let _ = walk(value, &mut Text::new(Nowhere, Style { multiline: len == 64, skip_zero: len == 200 }));
                let _ = walk(value, &mut Json::new(Nowhere));
            }
        }
    }
    let _ = dump::dump_c(&btf, Nowhere);
    let ids: Vec<TypeId> = (0..btf.len().min(50)).map(TypeId).collect();
    let _ = dump::dump_types(&btf, &ids, Nowhere);

    let mut builder = Builder::from_btf(&btf);
    for endian in [Endian::Little, Endian::Big] {
        let Ok(bytes) = builder.finish(endian) else { continue };
        // Only unknown kinds are changed by it: their contents cannot be put into another order, and they lose their layout.
        if btf.types().all(|(_, it)| !matches!(it, Type::Unknown(_))) {
            let Ok(again) = Btf::parse(bytes) else { panic!("what was written cannot be read") };
            assert_eq!(again.len(), btf.len());
        }
    }
    if let Ok(split) = Btf::parse_split(data.to_vec(), &btf)
        && let Ok(distilled) = distil::distil(&split)
    {
        let base = Btf::parse(distilled.base).map(|base| Btf::parse_split(distilled.split, &base));
        let Ok(Ok(split)) = base else { panic!("what was distilled cannot be read") };
        let _ = distil::relocate(&split, &btf);
    }
    let _ = builder.append(&btf);
    if builder.dedup().is_ok() && is_valid {
        let Ok(merged) = builder.finish(btf.endian()).and_then(Btf::parse) else {
            panic!("what was merged cannot be read");
        };
        assert!(merged.validate().is_ok(), "merging broke it");
        let _ = merged.find("int", Kind::INT);
    }
}

/// Any bytes as BTF.ext.
pub fn ext(data: &[u8]) {
    let Ok(ext) = BtfExt::parse(data) else { return };
    for endian in [Endian::Little, Endian::Big] {
        assert_eq!(BtfExt::parse(&ext.to_bytes(endian)).as_ref(), Ok(&ext), "what was written reads otherwise");
    }
}
