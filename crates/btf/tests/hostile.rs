//! Bytes that no compiler wrote: nothing panics, hangs or eats memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::*;
use skep_btf::value::{Value, to_text};
use skep_btf::{Btf, BtfExt, Builder, Endian, Error, Kind, Type, TypeDef, TypeId, VarLinkage, fuzz};

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end.max(1)
    }
}

/// Changes a few bytes; words are set to values that are interesting as numbers, offsets and kinds.
fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(4) {
        match random.below(6) {
            0 => {
                let at = random.below(data.len());
                data[at] ^= 1 << random.below(8);
            }
            1 => data.truncate(random.below(data.len())),
            2 | 3 => {
                let at = random.below(data.len() / 4) * 4;
                let value: u32 =
                    [0, 1, 2, 3, 7, 12, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x00ff_ffff][random.below(10)];
                if let Some(word) = data.get_mut(at..at + 4) {
                    word.copy_from_slice(&value.to_le_bytes());
                }
            }
            4 => {
                // A word from elsewhere, so that references go wrong without leaving the file.
                let (from, to) = (random.below(data.len() / 4) * 4, random.below(data.len() / 4) * 4);
                if to + 4 <= data.len() && from + 4 <= data.len() {
                    data.copy_within(from..from + 4, to);
                }
            }
            _ => {
                let at = random.below(data.len() / 4) * 4 + 3;
                if let Some(kind) = data.get_mut(at) {
                    *kind = random.below(24) as u8;
                }
            }
        }
        if data.is_empty() {
            break;
        }
    }
    data
}

#[test]
fn changed_btf_is_refused_or_read_and_never_panics() {
    let scratch = Scratch::new();
    // SKEP_FUZZ_ROUNDS=100000 makes a night of it.
    let rounds = std::env::var("SKEP_FUZZ_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(300);
    let mut random = Random(rounds);
    for (clang, target) in [("clang-14", "bpfeb"), ("clang-19", "bpfel")] {
        for source in ["values.c", "shapes.c", "program.c", "unit_a.c"] {
            let path = compile(&scratch, clang, target, &data(source));
            let btf = section(&path, ".BTF");
            // Files without functions have none.
            let code = compile(&scratch, clang, target, &data("program.c"));
            let ext = section(&code, ".BTF.ext");
            fuzz::btf(&btf);
            for _ in 0..rounds {
                fuzz::btf(&mutate(&btf, &mut random));
                fuzz::ext(&mutate(&ext, &mut random));
            }
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let scratch = Scratch::new();
    let path = compile(&scratch, "clang-19", "bpfel", &data("program.c"));
    let (btf, ext) = (section(&path, ".BTF"), section(&path, ".BTF.ext"));
    for len in 0..btf.len() {
        assert!(Btf::parse(btf[..len].to_vec()).is_err(), "{len}");
    }
    for len in 0..ext.len() {
        assert!(BtfExt::parse(&ext[..len]).is_err(), "{len}");
    }
}

fn parsed(build: impl FnOnce(&mut Builder)) -> Btf {
    let mut builder = Builder::new();
    build(&mut builder);
    Btf::parse(builder.finish(Endian::Little).unwrap()).unwrap()
}

#[test]
fn circles_end() {
    let btf = parsed(|it| {
        it.add(TypeDef::Typedef { name: "a", type_id: TypeId(2) }).unwrap();
        it.add(TypeDef::Typedef { name: "b", type_id: TypeId(1) }).unwrap();
        it.add(TypeDef::Array { element: TypeId(3), index: TypeId(1), len: 2 }).unwrap();
    });
    assert_eq!(btf.resolve(TypeId(1)).unwrap_err(), Error::TooDeep { id: TypeId(1) });
    assert_eq!(btf.size_of(TypeId(3)).unwrap_err(), Error::TooDeep { id: TypeId(3) });
    assert!(btf.validate().is_err());
    fuzz::btf(btf.as_bytes());
}

#[test]
fn a_variable_of_a_const_of_itself_has_no_value() {
    let btf = parsed(|it| {
        it.add(TypeDef::Var { name: "v", type_id: TypeId(2), linkage: VarLinkage::GLOBAL }).unwrap();
        it.add(TypeDef::Const(TypeId(1))).unwrap();
    });
    assert!(to_text(Value::new(&btf, TypeId(1), &[0; 8])).is_err());
}

#[test]
fn a_hundred_thousand_pointers_to_pointers_do_not_overflow_the_stack() {
    let btf = parsed(|it| {
        let mut id = it.add(TypeDef::Struct { name: "end", size: 0, members: &[] }).unwrap();
        for _ in 0..100_000 {
            id = it.add(TypeDef::Ptr(id)).unwrap();
        }
        it.add(TypeDef::Typedef { name: "deep", type_id: id }).unwrap();
    });
    fuzz::btf(btf.as_bytes());
    let mut builder = Builder::from_btf(&btf);
    builder.dedup().unwrap();
}

#[test]
fn types_that_unfold_exponentially_are_cut_off() {
    let members = |id: u32| {
        [0, 1].map(|_| skep_btf::MemberDef { name: "", type_id: TypeId(id), bit_offset: 0, bitfield_size: None })
    };
    // 40 anonymous unions, each holding the next one twice.
    let btf = parsed(|it| {
        for id in 2..42 {
            it.add(TypeDef::Union { name: "", size: 4, members: &members(id) }).unwrap();
        }
        it.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: Default::default() }).unwrap();
        it.add(TypeDef::Struct { name: "top", size: 4, members: &members(1) }).unwrap();
    });
    let mut out = String::new();
    assert!(skep_btf::dump::dump_c(&btf, &mut out).is_err());
    assert!(out.len() < 10_000_000);
    let top = btf.find("top", Kind::STRUCT).unwrap();
    let text = skep_btf::value::to_text(skep_btf::value::Value::new(&btf, top, &[1, 0, 0, 0])).unwrap();
    assert!(text.contains("<cut>") && text.len() < 1_000_000);
    // A function that takes two functions that take two functions.
    let btf = parsed(|it| {
        for id in 2..42 {
            it.add(TypeDef::FuncProto { result: TypeId(0), params: &[("", TypeId(id)), ("", TypeId(id))] }).unwrap();
        }
        it.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: Default::default() }).unwrap();
        it.add(TypeDef::Typedef { name: "top", type_id: TypeId(1) }).unwrap();
    });
    fuzz::btf(btf.as_bytes());
}

#[test]
fn an_array_of_four_billion_nothings_is_empty() {
    let btf = parsed(|it| {
        let empty = it.add(TypeDef::Struct { name: "empty", size: 0, members: &[] }).unwrap();
        it.add(TypeDef::Array { element: empty, index: empty, len: u32::MAX }).unwrap();
        let int = it.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: Default::default() }).unwrap();
        it.add(TypeDef::Array { element: int, index: int, len: u32::MAX }).unwrap();
    });
    let text = |id| skep_btf::value::to_text(skep_btf::value::Value::new(&btf, TypeId(id), &[7, 0, 0, 0, 1])).unwrap();
    assert_eq!(text(2), "{}");
    assert_eq!(text(4), "{ 7, <cut>, <cut> }");
    assert_eq!(btf.size_of(TypeId(4)).unwrap(), 4 * u64::from(u32::MAX));
}

/// A BTF as a newer writer would make it: a longer header, a layout section and a type of kind 25.
fn newer(with_layout: bool) -> Vec<u8> {
    let old = parsed(|it| {
        it.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: Default::default() }).unwrap();
        it.add(TypeDef::Typedef { name: "last", type_id: TypeId(1) }).unwrap();
    });
    let word = |at: usize| u32::from_le_bytes(old.as_bytes()[at..at + 4].try_into().unwrap());
    let (type_len, str_len) = (word(12), word(20));
    let types = &old.as_bytes()[24..24 + type_len as usize];
    let strings = &old.as_bytes()[24 + type_len as usize..];
    // name 0, kind 25 with two elements, then 4 fixed bytes and 8 per element.
    let mut unknown: Vec<u8> = [0u32, 25 << 24 | 2, 0].iter().flat_map(|it| it.to_le_bytes()).collect();
    unknown.extend([0xaa; 4 + 2 * 8]);
    let mut body = types[..16].to_vec();
    body.extend(&unknown);
    body.extend(&types[16..]);
    let layouts = if with_layout { 26 * 4 } else { 0 };
    let mut out = vec![0x9f, 0xeb, 1, 0];
    // Eight bytes more than this crate knows of.
    for field in
        [40, 0, body.len() as u32, body.len() as u32, str_len, body.len() as u32 + str_len, layouts, 0xdead, 0xbeef]
    {
        out.extend(field.to_le_bytes());
    }
    out.extend(&body);
    out.extend(strings);
    if with_layout {
        for kind in 0..26u8 {
            out.extend(if kind == 25 { [4, 8, 0, 0] } else { [0, 0, 0, 0] });
        }
    }
    out
}

#[test]
fn a_longer_header_is_honoured_and_unknown_kinds_are_skipped_by_their_layout() {
    let btf = Btf::parse(newer(true)).unwrap();
    assert_eq!(btf.len(), 4);
    let Type::Unknown(it) = btf.type_by_id(TypeId(2)).unwrap() else { panic!("not unknown") };
    assert_eq!(it.kind(), Kind(25));
    assert_eq!(btf.find("last", Kind::TYPEDEF), Some(TypeId(3)));
    btf.validate().unwrap();
    let mut out = String::new();
    skep_btf::dump::dump_c(&btf, &mut out).unwrap();
    assert!(out.contains("typedef int last;"));
    let err = Btf::parse(newer(false)).unwrap_err();
    assert_eq!(
        err.to_string(),
        "type [2] at offset 16 of the type section has kind 25, which is newer than this program, and the BTF has no layout \
         section that tells its length"
    );
}

#[test]
fn errors_say_what_and_where() {
    let message = |data: &[u8]| Btf::parse(data.to_vec()).unwrap_err().to_string();
    assert_eq!(message(b"\x7fELF"), "not BTF: it starts with 7f 45, and BTF with 9f eb or eb 9f");
    assert_eq!(message(b"\x9f"), "the BTF header at offset 0 needs 24 bytes, but only 1 are there");
    let mut bytes = parsed(|_| {}).as_bytes().to_vec();
    bytes[2] = 9;
    assert_eq!(message(&bytes), "BTF version 9; only version 1 exists");
    bytes[2] = 1;
    bytes[20] = 200;
    assert_eq!(message(&bytes), "the string section at offset 24 needs 200 bytes, but only 1 are there");
}

#[test]
fn a_sorted_btf_is_searched_by_halves() {
    let names: Vec<String> = (0..3000).map(|it| format!("name_{it:05}")).collect();
    let btf = parsed(|it| {
        for name in &names {
            it.add(TypeDef::Fwd { name, is_union: false }).unwrap();
        }
        // Equal names stand together.
        it.add(TypeDef::Fwd { name: "name_02999", is_union: true }).unwrap();
    });
    assert!(btf.is_sorted());
    for (index, name) in names.iter().enumerate() {
        assert_eq!(btf.find(name, Kind::FWD), Some(TypeId(index as u32 + 1)));
    }
    assert_eq!(btf.find_by_name("name_02999").len(), 2);
    assert_eq!(btf.find("name_0", Kind::FWD), None);
    assert_eq!(btf.find("name_00007", Kind::STRUCT), None);
    let unsorted = parsed(|it| {
        it.add(TypeDef::Fwd { name: "b", is_union: false }).unwrap();
        it.add(TypeDef::Fwd { name: "a", is_union: false }).unwrap();
    });
    assert!(!unsorted.is_sorted());
    assert_eq!(unsorted.find("a", Kind::FWD), Some(TypeId(2)));
}

#[test]
fn flavours_are_found_with_their_name_sorted_or_not() {
    let sorted = ["task", "task___old", "task___v2", "task_struct", "tasks"];
    let unsorted = ["tasks", "task___v2", "task", "task_struct", "task___old"];
    for names in [sorted, unsorted] {
        let btf = parsed(|it| {
            for name in names {
                it.add(TypeDef::Fwd { name, is_union: false }).unwrap();
            }
        });
        let found = |needed: skep_btf::NeededNames| {
            let mut found: Vec<_> =
                btf.find_all(&needed)[0].iter().map(|&id| btf.type_by_id(id).unwrap().name().to_owned()).collect();
            found.sort();
            found
        };
        let needed = || ["task"].iter().collect::<skep_btf::NeededNames>();
        assert_eq!(found(needed()), ["task"]);
        assert_eq!(found(needed().with_flavours()), ["task", "task___old", "task___v2"]);
    }
}
