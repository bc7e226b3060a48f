//! C text against bpftool's.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fmt::Write;
use std::process::Command;

use common::*;
use skep_btf::dump::{Dumper, dump_c, dump_types};
use skep_btf::{Btf, Kind, Type};

fn dump(btf: &Btf) -> String {
    let mut out = String::new();
    dump_c(btf, &mut out).unwrap();
    out
}

/// Fails with the first lines that differ, and not with 134,000 lines.
fn same(ours: &str, theirs: &str, what: &str) {
    if ours == theirs {
        return;
    }
    let line = ours.lines().zip(theirs.lines()).position(|(a, b)| a != b).unwrap_or(0);
    let around = |text: &str| text.lines().skip(line.saturating_sub(8)).take(16).collect::<Vec<_>>().join("\n");
    panic!("{what}: line {}\nours:\n{}\n\nbpftool:\n{}", line + 1, around(ours), around(theirs));
}

fn bpftool(path: &std::path::Path) -> String {
    let out = run(Command::new("bpftool").args(["btf", "dump", "file"]).arg(path).args(["format", "c"]));
    String::from_utf8(out).unwrap()
}

#[test]
fn objects_are_dumped_as_bpftool_does() {
    let scratch = Scratch::new();
    for (clang, target) in COMPILERS {
        for source in ["values.c", "program.c", "shapes.c"] {
            let path = compile(&scratch, clang, target, &data(source));
            same(&dump(&btf_of(&path)), &bpftool(&path), &format!("{source} {clang} {target}"));
        }
    }
}

#[test]
fn the_kernel_is_dumped_as_bpftool_does() {
    let Some(btf) = kernel() else { return };
    let scratch = Scratch::new();
    let path = scratch.file("vmlinux", btf.as_bytes());
    same(&dump(&btf), &bpftool(&path), "vmlinux");
}

#[test]
fn the_kernels_header_compiles() {
    let Some(btf) = kernel() else { return };
    let scratch = Scratch::new();
    let path = scratch.file("vmlinux.h", dump(&btf));
    run(Command::new("clang-19").args(["-target", "bpf", "-c", "-x", "c", "-o", "/dev/null"]).arg(path));
}

#[test]
fn named_types_come_with_what_they_need() {
    let Some(btf) = kernel() else { return };
    let mut out = String::new();
    dump_types(&btf, &[btf.find("list_head", Kind::STRUCT).unwrap()], &mut out).unwrap();
    assert_eq!(out, "struct list_head {\n\tstruct list_head *next;\n\tstruct list_head *prev;\n};\n\n");
    let scratch = Scratch::new();
    out.clear();
    dump_types(&btf, &[btf.find("task_struct", Kind::STRUCT).unwrap()], &mut out).unwrap();
    assert!(out.len() < dump(&btf).len() / 4);
    let path = scratch.file("task.h", &out);
    run(Command::new("clang-19").args(["-target", "bpf", "-c", "-x", "c", "-o", "/dev/null"]).arg(path));
}

/// Asserts for the compiler: sizes of all structs with a name of their own, and where their members are.
fn asserts(btf: &Btf) -> String {
    let mut out = String::new();
    // Of several tags with one name, all but the first are renamed.
    let mut tags = std::collections::HashMap::<&str, u32>::new();
    for (_, it) in btf.types() {
        if matches!(it, Type::Struct(_) | Type::Union(_) | Type::Enum(_) | Type::Enum64(_)) {
            *tags.entry(it.name()).or_default() += 1;
        }
    }
    for (_, it) in btf.types() {
        let (Type::Struct(body) | Type::Union(body)) = it else { continue };
        if body.name().is_empty() || tags[body.name()] > 1 {
            continue;
        }
        let word = if body.is_union() { "union" } else { "struct" };
        let name = body.name();
        writeln!(out, "_Static_assert(sizeof({word} {name}) == {}, \"{name}\");", body.size()).unwrap();
        for member in body.members().filter(|it| it.bitfield_size().is_none() && !it.name().is_empty()) {
            let at = member.bit_offset() / 8;
            let of = member.name();
            writeln!(out, "_Static_assert(__builtin_offsetof({word} {name}, {of}) == {at}, \"{name}.{of}\");").unwrap();
        }
    }
    out
}

fn wrong_layouts(btf: &Btf) -> Vec<String> {
    let scratch = Scratch::new();
    let mut text = String::new();
    Dumper::new(btf, &mut text).sized_enums(true).dump_all().unwrap();
    let path = scratch.file("layout.c", text + &asserts(btf));
    let out = Command::new("clang-19")
        .args(["-target", "bpf", "-fsyntax-only", "-ferror-limit=0"])
        .arg(path)
        .output()
        .expect("run cargo xtask setup");
    let text = String::from_utf8_lossy(&out.stderr);
    text.lines().filter(|it| it.contains("error:")).map(|it| it.split("error: ").last().unwrap().to_owned()).collect()
}

#[test]
fn the_compiler_arrives_at_the_layouts_of_btf() {
    let scratch = Scratch::new();
    let shapes = btf_of(&compile(&scratch, "clang-19", "bpfel", &data("shapes.c")));
    assert_eq!(wrong_layouts(&shapes), Vec::<String>::new());
    if let Some(btf) = kernel() {
        let mut wrong = wrong_layouts(&btf);
        // A `va_list` is the compiler's own, and BPF's is smaller than x86's.
        wrong.retain(|it| !it.contains("warn_args"));
        assert_eq!(wrong, Vec::<String>::new());
    }
}

/// `cargo test --release -- --nocapture` shows the numbers.
#[test]
fn the_kernel_is_dumped_in_less_time_than_bpftool_takes() {
    let Some(btf) = kernel() else { return };
    let start = std::time::Instant::now();
    let ours = dump(&btf).len();
    let took = start.elapsed();
    let start = std::time::Instant::now();
    run(Command::new("bpftool").args(["btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]));
    println!("{ours} bytes of C in {took:?}; bpftool takes {:?}", start.elapsed());
    assert!(took.as_secs() < 5);
}
