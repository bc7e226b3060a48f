//! CO-RE on pairs of small C programs: an object that asks, and a target whose types differ.
//!
//! The files in `tests/core/` are lists of cases. A case is a comment, the C of the object, the C of the target, and one
//! line for each CO-RE record of the object: what it asks, by which value, with which answer and why. Run with
//! `SKEP_BLESS=1` to write the lines anew, and read the difference.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use skep_btf::core::{Patched, Relo, Resolver, patch};
use skep_btf::{Btf, BtfExt, NeededNames};
use skep_insn::text::{Printer, Spelling};
use skep_insn::{InsnIdx, slots_from_bytes};

#[test]
fn fields() {
    check("fields.txt");
}

#[test]
fn bitfields() {
    check("bitfields.txt");
}

#[test]
fn types() {
    check("types.txt");
}

#[test]
fn enums() {
    check("enums.txt");
}

/// Both compilers and byte orders must come to the same lines.
fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/core");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let scratch = Scratch::new();
    scratch.file("preamble.h", std::fs::read(folder.join("preamble.h")).unwrap());
    let mut written = String::new();
    for case in text.split("\n\n") {
        let (head, rest) = case.split_once("--- local\n").unwrap();
        let (local, rest) = rest.split_once("--- target\n").unwrap();
        let (target, expected) = rest.split_once("--- expect").unwrap();
        let mut found: Option<String> = None;
        for (clang, endian) in COMPILERS {
            let version = clang.strip_prefix("clang-").unwrap();
            if head.lines().any(|line| line.strip_prefix("# clang: ").is_some_and(|it| it != version)) {
                continue;
            }
            let local = build(&scratch, clang, endian, "local", local);
            // The kernel's BTF comes from pahole, which tells signs as clang 19 does.
            let target = build(&scratch, clang, endian, "target", target);
            let lines = answers(&local, &btf_of(&target));
            match &found {
                None => found = Some(lines),
                // What is shifted depends on the byte order; a compiler chooses its own instructions.
                Some(first) if endian == "bpfel" => assert_eq!(meaning(first), meaning(&lines), "{head}{clang}"),
                Some(_) => {}
            }
        }
        let found = found.unwrap();
        if std::env::var_os("SKEP_BLESS").is_none() {
            assert_eq!(expected.trim(), found.trim(), "{head}run with SKEP_BLESS=1 to accept");
        }
        written += &format!("{head}--- local\n{local}--- target\n{target}--- expect\n{found}\n");
    }
    if std::env::var_os("SKEP_BLESS").is_some() {
        std::fs::write(folder.join(name), written.trim_end().to_string() + "\n").unwrap();
    }
}

/// The lines without instructions, which differ between compilers, and without BTF ids.
fn meaning(lines: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines
        .lines()
        .map(|line| line.split(" | ").next().unwrap_or_default())
        .map(|line| line.split(['[', ']']).enumerate().filter(|(n, _)| n % 2 == 0).map(|(_, it)| it).collect())
        .collect();
    // Compilers order the evaluation of a sum as they like.
    lines.sort();
    lines.dedup();
    lines.retain(|line| !line.contains("type_id"));
    lines
}

fn build(scratch: &Scratch, clang: &str, endian: &str, name: &str, code: &str) -> PathBuf {
    let source = scratch.file(&format!("{name}.c"), format!("#include \"preamble.h\"\n{code}"));
    compile(scratch, clang, endian, &source)
}

/// One line per record of the object.
fn answers(object: &Path, target: &Btf) -> String {
    let local = btf_of(object);
    let ext = BtfExt::parse(&section(object, ".BTF.ext")).unwrap();
    let mut names = NeededNames::new().with_flavours();
    let mut resolver = Resolver::new(&local);
    let relo = |it: &skep_btf::CoreRelo| Relo {
        type_id: it.type_id,
        access: local.string(it.access_str_off).unwrap(),
        kind: it.kind,
    };
    for section in &ext.core_relo {
        resolver.need(section.records.iter().map(relo), &mut names);
    }
    resolver.offer(target, &target.find_all(&names));
    let mut lines = String::new();
    for records in &ext.core_relo {
        let code = section(object, local.string(records.name_off).unwrap());
        let mut insns = slots_from_bytes(&code, local.endian()).unwrap();
        for record in &records.records {
            lines += &format!("{}: ", record.kind);
            let found = match resolver.resolve(&relo(record)) {
                Ok(found) => found,
                Err(err) => {
                    lines += &format!("error: {err}\n");
                    continue;
                }
            };
            let at = InsnIdx::from_byte_offset(record.insn_off_bytes).unwrap();
            let patched = patch(&mut insns, at.0 as usize, &found.answer);
            let printed = Printer::new(Spelling::LLVM).insn(&insns, at);
            let value = |value: u64| if value > 1 << 40 { format!("{value:#x}") } else { value.to_string() };
            lines += &match patched {
                Ok(Patched::Value(new)) => format!("{} = {} -> {}", found.asked, value(found.answer.local), value(new)),
                Ok(Patched::PoisonedAbsent) => format!("{} poisoned", found.asked),
                Ok(Patched::PoisonedWidth) => {
                    format!("{} poisoned for its width {:?}", found.asked, found.answer.resize)
                }
                Err(err) => format!("{} error: {err}", found.asked),
            };
            if let Some(matched) = &found.matched {
                lines += &format!(", {matched}");
            }
            for refused in &found.refused {
                lines += &format!(", not {refused}");
            }
            lines += &format!(" | {printed}\n");
        }
    }
    lines
}
