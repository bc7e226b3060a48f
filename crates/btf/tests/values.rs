//! Values of globals that real compilers wrote, in both byte orders.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::*;
use object::{Object, ObjectSymbol};
use skep_btf::value::{Place, Shape, Site, Style, Text, Value, Visitor, to_json, to_text, walk};
use skep_btf::{Btf, Kind, Type, TypeId};

/// The bytes and type of a global.
fn global(path: &std::path::Path, btf: &Btf, name: &str) -> (TypeId, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let symbol = file.symbols().find(|it| it.name() == Ok(name)).unwrap();
    let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
    let data = object::ObjectSection::data(&section).unwrap();
    let var = btf.find(name, Kind::VAR).unwrap();
    let Type::Var(it) = btf.type_by_id(var).unwrap() else { panic!("not a variable") };
    let start = symbol.address() as usize;
    let size = btf.size_of(it.type_id()).unwrap() as usize;
    (it.type_id(), data[start..start + size].to_vec())
}

const ALL: &str = "{ .c = 'x', .sc = -1, .uc = 200, .yes = true, .no = false, .s = -2, .l = -3, .u = 18446744073709551614, \
    .color = GREEN, .other = 9, .wide = LARGE, .name = \"it's \\\"a\\\\b\\\"\", .letters = \"abc\", .full = \"full\", \
    .raw = { 1, 2, 255 }, .ptr = NULL, .fn = NULL, \
    .inner = { { .a = 1, { .whole = 16909060, .parts = { PARTS } } }, { .a = -1, { .whole = 0, .parts = { 0, 0, 0, 0 } } } }, \
    .matrix = { { 1, 2, 3 }, { 4, 5, 6 } }, \
    .bits = { .one = 1, .three = 5, .minus = -7, .far = 78187493530, .color = GREEN, .yes = true }, \
    .f = 1.5, .d = -0.1, .big = 1267650600228229401496703205383, .nothing = {} }";

#[test]
fn every_layout_reads_the_same_from_every_compiler_and_in_both_orders() {
    let scratch = Scratch::new();
    for (clang, target) in COMPILERS {
        let path = compile(&scratch, clang, target, &data("values.c"));
        let btf = btf_of(&path);
        let (id, bytes) = global(&path, &btf, "all");
        let mut expected = ALL.replace("PARTS", if target == "bpfel" { "4, 3, 2, 1" } else { "1, 2, 3, 4" });
        if clang == "clang-14" {
            // It has no ENUM64 and drops the high half.
            expected = expected.replace(".wide = LARGE", ".wide = 4294967296");
        }
        assert_eq!(to_text(Value::new(&btf, id, &bytes)).unwrap(), expected, "{clang} {target}");
        let (id, bytes) = global(&path, &btf, "minus");
        assert_eq!(to_text(Value::new(&btf, id, &bytes)).unwrap(), "BLUE", "{clang} {target}");
    }
}

#[test]
fn json_has_bpftools_form() {
    let scratch = Scratch::new();
    let path = compile(&scratch, "clang-19", "bpfel", &data("values.c"));
    let btf = btf_of(&path);
    let (id, bytes) = global(&path, &btf, "all");
    let json = to_json(Value::new(&btf, id, &bytes)).unwrap();
    assert_eq!(
        json,
        "{\"c\":120,\"sc\":-1,\"uc\":200,\"yes\":true,\"no\":false,\"s\":-2,\"l\":-3,\"u\":18446744073709551614,\
         \"color\":\"GREEN\",\"other\":9,\"wide\":\"LARGE\",\"name\":\"it's \\\"a\\\\b\\\"\",\"letters\":[97,98,99,0],\
         \"full\":[102,117,108,108],\"raw\":[1,2,255],\"ptr\":0,\"fn\":0,\
         \"inner\":[{\"a\":1,\"\":{\"whole\":16909060,\"parts\":[4,3,2,1]}},{\"a\":-1,\"\":{\"whole\":0,\"parts\":[0,0,0,0]}}],\
         \"matrix\":[[1,2,3],[4,5,6]],\
         \"bits\":{\"one\":\"0x1\",\"three\":\"0x5\",\"minus\":\"0x19\",\"far\":\"0x123456789a\",\"color\":\"0x5\",\"yes\":\"0x1\"},\
         \"f\":1.5,\"d\":-0.1,\"big\":\"0x10000000000000000000000007\",\"nothing\":{}}"
    );
}

#[test]
fn zeros_can_be_left_out_and_lines_be_broken() {
    let scratch = Scratch::new();
    let path = compile(&scratch, "clang-19", "bpfel", &data("values.c"));
    let btf = btf_of(&path);
    let (id, bytes) = global(&path, &btf, "anonymous");
    let mut out = String::new();
    let style = Style { multiline: true, skip_zero: true };
    walk(Value::new(&btf, id, &bytes), &mut Text::new(&mut out, style)).unwrap();
    assert_eq!(out, "{\n\t.in = 1,\n\t{\n\t\t.deep = 2,\n\t},\n}");
    out.clear();
    walk(Value::new(&btf, id, &[0; 8]), &mut Text::new(&mut out, style)).unwrap();
    assert_eq!(out, "{}");
    out.clear();
    walk(
        Value::new(&btf, id, &[0, 0, 0, 0, 3, 0, 0, 0]),
        &mut Text::new(&mut out, Style { multiline: false, skip_zero: true }),
    )
    .unwrap();
    assert_eq!(out, "{ { .deep = 3 } }");
}

#[test]
fn a_cut_value_shows_what_is_there() {
    let scratch = Scratch::new();
    let path = compile(&scratch, "clang-19", "bpfel", &data("values.c"));
    let btf = btf_of(&path);
    let (id, bytes) = global(&path, &btf, "all");
    let text = |len: usize| to_text(Value::new(&btf, id, &bytes[..len])).unwrap();
    assert_eq!(text(0), "<cut>");
    assert!(text(3).starts_with("{ .c = 'x', .sc = -1, .uc = 200, .yes = <cut>, .no = <cut>"));
    let (_, Type::Struct(body)) = btf.resolve(id).unwrap() else { panic!("not a struct") };
    let name = body.members().find(|it| it.name() == "name").unwrap().bit_offset() as usize / 8;
    assert!(text(name + 4).contains(".name = \"it's\"<cut>, .letters = <cut>"), "{}", text(name + 4));
    for len in 0..bytes.len() {
        assert!(text(len).contains("<cut>"), "{len}");
    }
    assert!(!text(bytes.len()).contains("<cut>"));
}

#[test]
fn a_flexible_array_takes_the_bytes_behind_the_struct() {
    let scratch = Scratch::new();
    let source = scratch.file(
        "flexible.c",
        "struct inner { short a; short b; };\nstruct flexible { int len; struct inner items[]; };\n\
         struct texts { int len; char text[]; };\nstruct flexible *f;\nstruct texts *t;\n",
    );
    let path = compile(&scratch, "clang-19", "bpfel", &source);
    let btf = btf_of(&path);
    let items = btf.find("flexible", Kind::STRUCT).unwrap();
    let bytes = [2, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5];
    assert_eq!(
        to_text(Value::new(&btf, items, &bytes)).unwrap(),
        "{ .len = 2, .items = { { .a = 1, .b = 2 }, { .a = 3, .b = 4 } } }"
    );
    assert_eq!(to_json(Value::new(&btf, items, &bytes[..4])).unwrap(), "{\"len\":2,\"items\":[]}");
    let texts = btf.find("texts", Kind::STRUCT).unwrap();
    assert_eq!(to_text(Value::new(&btf, texts, b"\x01\0\0\0hi\0rest")).unwrap(), "{ .len = 1, .text = \"hi\" }");
}

#[test]
fn a_visitor_learns_where_each_leaf_is() {
    #[derive(Default)]
    struct Offsets(Vec<(String, u64)>, u32);
    impl Visitor for Offsets {
        type Error = std::convert::Infallible;
        fn open(&mut self, _: &Site<'_>, _: Shape<'_>) -> Result<(), Self::Error> {
            self.1 += 1;
            Ok(())
        }
        fn close(&mut self, _: Shape<'_>) -> Result<(), Self::Error> {
            self.1 -= 1;
            Ok(())
        }
        fn leaf(&mut self, site: &Site<'_>, _: skep_btf::value::Leaf<'_>) -> Result<(), Self::Error> {
            if let Place::Member(name) = site.place {
                self.0.push((name.to_owned(), site.bit_offset));
            }
            Ok(())
        }
    }
    let scratch = Scratch::new();
    let path = compile(&scratch, "clang-19", "bpfel", &data("values.c"));
    let btf = btf_of(&path);
    let id = btf.find("bits", Kind::STRUCT).unwrap();
    let mut offsets = Offsets::default();
    walk(Value::new(&btf, id, &[0; 16]), &mut offsets).unwrap();
    assert_eq!(offsets.1, 0);
    let expected = [("one", 0), ("three", 1), ("minus", 4), ("far", 9), ("color", 49), ("yes", 53)];
    let found: Vec<_> = offsets.0.iter().map(|(name, at)| (name.as_str(), *at)).collect();
    assert_eq!(found, expected);
}

/// bpftool prints a map that holds the same bytes; the program and its maps live in a mount namespace that ends with the shell.
#[test]
fn json_equals_what_bpftool_prints() {
    let scratch = Scratch::new();
    let mut source = std::fs::read_to_string(data("values.c")).unwrap();
    // bpftool 7.1 gives up on floats, and writes a backslash as a line break; ours is right.
    source = source.replace("\\\\", "/");
    source = source.replace("\tfloat f;\n\tdouble d;\n", "").replace(".f = 1.5f, .d = -0.1, ", "");
    source.push_str(
        "__attribute__((section(\"socket\"), used)) int prog(void *ctx) { return *(volatile int *)&all.l + *(volatile int *)&setting; }\n\
         char gpl[] __attribute__((section(\"license\"), used)) = \"GPL\";\n",
    );
    let path = compile(&scratch, "clang-19", "bpfel", &scratch.file("values.c", source));
    let script = "mount -t bpf bpf \"$1\" && bpftool prog load \"$2\" \"$1/prog\" || { echo skipped; exit 0; }
        for id in $(bpftool -j prog show pinned \"$1/prog\" | sed 's/.*\"map_ids\":\\[\\([0-9,]*\\).*/\\1/; s/,/ /g'); do
            bpftool -j map dump id $id; echo; bpftool map dump id $id
        done";
    let mount = scratch.0.join("bpf");
    std::fs::create_dir(&mount).unwrap();
    let out = run(std::process::Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(&mount).arg(&path));
    let out = String::from_utf8(out).unwrap();
    if out.starts_with("skipped") {
        assert!(std::env::var_os("CI").is_none(), "needs root and bpf(2)");
        println!("skipped: needs root and bpf(2)");
        return;
    }
    let btf = btf_of(&path);
    let (id, bytes) = global(&path, &btf, "all");
    let ours = to_json(Value::new(&btf, id, &bytes)).unwrap();
    assert!(out.contains(&format!("{{\"all\":{ours}}}")), "ours: {ours}\nbpftool: {out}");
    let mut plain = String::new();
    walk(Value::new(&btf, id, &bytes), &mut skep_btf::value::Json::plain(&mut plain)).unwrap();
    // Without -j it breaks lines and puts blanks behind colons; none of the strings here holds either.
    let squeeze = |it: &str| it.chars().filter(|ch| !ch.is_whitespace()).collect::<String>();
    assert!(squeeze(&out).contains(&squeeze(&plain)), "ours: {plain}\nbpftool: {out}");
    let (id, bytes) = global(&path, &btf, "setting");
    let ours = to_json(Value::new(&btf, id, &bytes)).unwrap();
    assert!(out.contains(&format!("{{\"setting\":{ours}}}")));
}
