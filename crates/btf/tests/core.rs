//! CO-RE on pairs of small C programs: an object that asks, and a target whose types differ.
//!
//! The files in `tests/core/` are lists of cases. A case is a comment, the C of the object, the C of the target, and one
//! line for each CO-RE record of the object: what it asks, by which value, with which answer and why. Run with
//! `SKEP_BLESS=1` to write the lines anew, and read the difference.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use skep_btf::core::{Answer, Patched, Relo, Resolver, patch};
use skep_btf::{Btf, BtfExt, CoreReloKind, Kind, NeededNames, Type, TypeId};
use skep_insn::text::{Printer, Spelling};
use skep_insn::{InsnIdx, RawInsn, slots_from_bytes};

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

/// xorshift64*: good enough to choose numbers, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as u32 % sides
    }
}

/// Whether the last step of a record's access is to a member without a name, which compilers never ask for: candidates are matched by names,
/// so it is answered for what is around it, as in libbpf.
fn ends_without_a_name(kernel: &Btf, relo: &Relo<'_>) -> bool {
    let (mut at, mut nameless) = (relo.type_id, false);
    // The first number counts structs.
    for index in relo.access.split(':').skip(1) {
        let (Ok((_, found)), Ok(index)) = (kernel.resolve(at), index.parse::<usize>()) else { return nameless };
        match found {
            Type::Struct(of) | Type::Union(of) => {
                let Some(member) = of.members().nth(index) else { return nameless };
                (at, nameless) = (member.type_id(), member.name().is_empty());
            }
            Type::Array(of) => (at, nameless) = (of.element(), false),
            _ => return nameless,
        }
    }
    nameless
}

#[test]
fn random_records_are_answered_or_refused_and_a_kernel_matches_itself() {
    let Some(kernel) = kernel() else { return };
    let mut dice = Dice(0x5eed);
    let accesses: Vec<String> = (0..40_000)
        .map(|_| {
            let sides = [1, 2, 6, 40][dice.roll(4) as usize];
            let mut text = "0".to_string();
            for _ in 0..dice.roll(5) {
                text += &format!(":{}", dice.roll(sides));
            }
            match dice.roll(40) {
                0 => text + ":",
                1 => text.replace('0', "4294967295"),
                2 => ":".repeat(80),
                3 => "0:".repeat(100) + "0",
                4 => text.replace('0', "-1"),
                5 => String::new(),
                _ => text,
            }
        })
        .collect();
    let relos: Vec<Relo<'_>> = accesses
        .iter()
        .map(|access| {
            let type_id = TypeId(dice.roll(kernel.len() + kernel.len() / 50));
            let kind = CoreReloKind(dice.roll(15));
            Relo { type_id, access: if kind.is_type() { "0" } else { access }, kind }
        })
        .collect();
    let mut names = NeededNames::new().with_flavours();
    let mut resolver = Resolver::new(&kernel);
    resolver.need(relos.iter().copied(), &mut names);
    resolver.offer(&kernel, &kernel.find_all(&names));
    let (mut answered, mut refused) = (0, 0);
    for relo in relos {
        // Types of other kinds, such as functions, are nothing that CO-RE can be asked about.
        let kind = kernel.kind_of(relo.type_id).unwrap_or(Kind::VOID);
        let alone = resolver.candidates(relo.type_id).len() == 1
            && matches!(kind, Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64);
        match resolver.resolve(&relo) {
            Ok(found) => {
                answered += 1;
                if alone && !ends_without_a_name(&kernel, &relo) {
                    assert_eq!(found.answer.value, Some(found.answer.local), "{relo:?}: {found:?}");
                    assert!(found.matched.is_some() && found.refused.is_empty(), "{relo:?}: {found:?}");
                }
            }
            Err(err) => {
                refused += 1;
                assert!(!err.to_string().is_empty());
            }
        }
    }
    assert!(answered > 5_000 && refused > 5_000, "{answered} answered, {refused} refused");
}

#[test]
fn any_instruction_takes_an_answer_or_is_left_alone() {
    let mut dice = Dice(0x5eed);
    let mut patched = 0;
    for _ in 0..200_000 {
        let mut roll = |sides| dice.roll(sides);
        let insn = |roll: &mut dyn FnMut(u32) -> u32| {
            let value = [0, 8, 0x7fff, -1, i32::MIN][roll(5) as usize];
            RawInsn::new(roll(256) as u8, roll(11) as u8, roll(3) as u8, value as i16, value)
        };
        let before = [insn(&mut roll), if roll(2) == 0 { RawInsn::default() } else { insn(&mut roll) }];
        let mut insns = before[..1 + roll(2) as usize].to_vec();
        let mut value = || [0, 8, 0x8000, u64::from(u32::MAX), u64::MAX, 1 << 40][roll(6) as usize];
        let answer = Answer {
            local: value(),
            value: Some(value()).filter(|&it| it != 8),
            check: value() > 8,
            narrow: value() > 8,
            resize: Some((value() as u32, value() as u32)).filter(|it| it.0 != it.1),
            bad_resize: value() == 0,
        };
        match patch(&mut insns, roll(3) as usize, &answer) {
            Ok(_) => patched += 1,
            Err(_) => assert_eq!(insns, before[..insns.len()], "{answer:?}"),
        }
    }
    assert!(patched > 10_000, "only {patched} patched");
}
