//! Small objects linked, shown as text, and held against what libbpf's linker makes of them.
//!
//! A file in `tests/merge/` is a list of cases: a comment, the C of the objects, and what linking must give: the Spec, and what keeps its
//! programs from being resolved on a machine that has nothing; or the mistakes. `SKEP_BLESS=1` writes the expected text anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use skep_btf::{Btf, CoreReloKind};
use skep_spec::merge::{Input, merge};
use skep_spec::resolve::resolve;
use skep_spec::{Error, Spec, elf};

use crate::libbpf::{lister, listing};
use crate::resolve::Machine;
use crate::support;

struct Case {
    comment: String,
    sources: Vec<String>,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut part = "gives".to_owned();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("--- ") {
            part = name.to_owned();
            if part != "gives" {
                cases.last_mut().unwrap().sources.push(String::new());
            }
            continue;
        }
        if part == "gives" {
            if let Some(comment) = line.strip_prefix("# ") {
                match cases.last_mut().filter(|case| case.sources.is_empty()) {
                    Some(case) => case.comment += &format!("\n# {comment}"),
                    None => cases.push(Case { comment: format!("# {comment}"), sources: Vec::new() }),
                }
            }
            continue;
        }
        let source = cases.last_mut().unwrap().sources.last_mut().unwrap();
        *source += line;
        source.push('\n');
    }
    cases
}

const FILES: [&str; 3] = ["a.bpf.o", "b.bpf.o", "c.bpf.o"];

fn objects(case: &Case, compiler: &str, target: &str) -> Vec<Vec<u8>> {
    let options = ["-Wno-ignored-attributes", "-Wno-tautological-pointer-compare"];
    case.sources.iter().map(|source| support::compile(compiler, target, source, &options)).collect()
}

fn link(objects: &[Vec<u8>]) -> Result<Spec, Vec<Error>> {
    let specs: Vec<Spec> = objects.iter().zip(FILES).map(|(bytes, file)| Spec::parse(bytes, file).unwrap()).collect();
    let inputs: Vec<Input<'_>> = specs.iter().zip(FILES).map(|(spec, file)| Input { file, spec }).collect();
    merge("linked", &inputs)
}

fn show(linked: &Result<Spec, Vec<Error>>) -> String {
    match linked {
        Ok(spec) => {
            let listing = spec.to_string();
            // The first line has the number of types, which depends on the compiler.
            let mut text: String = listing.lines().skip(1).map(|line| format!("{line}\n")).collect();
            for (_, program) in resolve(spec, &Machine::default()).programs {
                if let Err(err) = program {
                    text += &format!("{err}\n");
                    err.hint.iter().for_each(|hint| text += &format!("  hint: {hint}\n"));
                }
            }
            text
        }
        Err(errors) => errors
            .iter()
            .map(|err| match &err.hint {
                Some(hint) => format!("{err}\n  hint: {hint}\n"),
                None => format!("{err}\n"),
            })
            .collect(),
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/merge");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn objects_become_one() {
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut out = String::new();
        for case in cases(&text) {
            out += &format!("{}\n", case.comment);
            for (source, name) in case.sources.iter().zip(["a", "b", "c"]) {
                out += &format!("--- {name}\n{source}");
            }
            let linked = link(&objects(&case, "clang-19", "bpfel"));
            out += &format!("--- gives\n{}\n", show(&linked));
        }
        let name = format!("../merge/{}", path.file_name().unwrap().to_string_lossy());
        support::check(&name, &format!("{}\n", out.trim_end()));
    }
}

#[test]
fn byte_order_and_licence_must_agree() {
    let source = "SEC(\"socket\") int prog(void *ctx) { return 0; }";
    let open = |target: &str| support::open("clang-19", target, source);
    let (little, big) = (open("bpfel"), open("bpfeb"));
    let two = |a: &Spec, b: &Spec| {
        let errors = merge("x", &[Input { file: "a.o", spec: a }, Input { file: "b.o", spec: b }]).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(two(&little, &big), "`a.o` and `b.o` have different byte orders");
    let other = Spec { license: Some("MIT".into()), ..little.clone() };
    assert_eq!(two(&little, &other), "`b.o` has licence \"MIT\", but `a.o` \"GPL\"");
    assert_eq!(merge("x", &[]).unwrap_err()[0].to_string(), "there is nothing to link");
    // A library has none of its own.
    let library = Spec { license: None, programs: Vec::new(), functions: Vec::new(), ..little.clone() };
    let both = [Input { file: "a.o", spec: &library }, Input { file: "b.o", spec: &little }];
    assert_eq!(merge("x", &both).unwrap().license.as_deref(), Some("GPL"));
}

/// The text without what compilers decide: instructions, places, numbers of types.
fn without_counts(text: &str) -> Vec<String> {
    let kept =
        text.lines().filter(|line| !line.starts_with("  ") || line.starts_with("  [") || line.starts_with("  +"));
    kept.map(|line| {
        let line = without_ids(line.split(" insns ").next().unwrap_or(line));
        let words = line.split(' ').filter(|word| !word.starts_with('+') && word.parse::<u32>().is_err());
        words.collect::<Vec<_>>().join(" ")
    })
    .collect()
}

#[test]
fn every_compiler_and_byte_order_gives_the_same() {
    for path in files() {
        for case in cases(&std::fs::read_to_string(&path).unwrap()) {
            let reference = link(&objects(&case, "clang-19", "bpfel"));
            for (compiler, target) in [("clang-14", "bpfel"), ("clang-14", "bpfeb"), ("clang-19", "bpfeb")] {
                let linked = link(&objects(&case, compiler, target));
                assert_eq!(linked.is_ok(), reference.is_ok(), "{}: {compiler} {target}", case.comment);
                let (Ok(linked), Ok(reference)) = (linked, &reference) else { continue };
                let names =
                    |spec: &Spec| without_counts(&spec.to_string().lines().skip(1).collect::<Vec<_>>().join("\n"));
                assert_eq!(names(&linked), names(reference), "{}: {compiler} {target}", case.comment);
            }
        }
    }
}

#[test]
fn what_is_linked_can_be_written_and_linked_again() {
    for path in files() {
        for case in cases(&std::fs::read_to_string(&path).unwrap()) {
            for target in ["bpfel", "bpfeb"] {
                let Ok(linked) = link(&objects(&case, "clang-19", target)) else { continue };
                let written = elf::write(&linked).unwrap_or_else(|err| panic!("{}: {err}", case.comment));
                let again = Spec::parse(&written, "linked.bpf.o").unwrap();
                let alone = merge("linked", &[Input { file: "linked.bpf.o", spec: &again }]).unwrap();
                for other in [&again, &alone] {
                    let say = |spec: &Spec| {
                        let text = spec.to_string();
                        let mut lines: Vec<String> = text
                            .lines()
                            .filter(|line| !line.starts_with("object") && !line.starts_with("warning"))
                            .map(without_ids)
                            .collect();
                        // Sections of maps have another order in a file.
                        lines.sort();
                        lines
                    };
                    assert_eq!(say(&linked), say(other), "{} {target}", case.comment);
                }
                let btf = Btf::parse(linked.btf_for_load().unwrap()).unwrap();
                btf.validate().unwrap_or_else(|err| panic!("{}: {err}", case.comment));
            }
        }
    }
}

/// A line without numbers of types and places of functions, which writing changes.
fn without_ids(line: &str) -> String {
    let mut words = Vec::new();
    let mut after_type = false;
    let function = line.starts_with("function");
    for word in line.split(' ').filter(|word| !(function && word.starts_with('+'))) {
        if !std::mem::replace(&mut after_type, word == "type") {
            words.push(word);
        }
    }
    words.join(" ")
}

/// libbpf's linker; `None` when it refuses.
fn bpftool(dir: &Path, objects: &[PathBuf]) -> Result<PathBuf, String> {
    let output = dir.join("libbpf.o");
    let result = Command::new("bpftool")
        .args(["gen", "object"])
        .arg(&output)
        .args(objects)
        .output()
        .unwrap_or_else(|err| panic!("bpftool: {err}; run `cargo xtask setup`"));
    match result.status.success() {
        true => Ok(output),
        false => Err(String::from_utf8_lossy(&result.stderr).into_owned()),
    }
}

/// Name and fingerprint of every program that can be resolved.
fn hashes(spec: &Spec, machine: &Machine) -> Vec<(String, Result<u64, String>)> {
    let programs = resolve(spec, machine).programs.into_iter();
    let mut hashes: Vec<(String, Result<u64, String>)> = programs
        .map(|(id, it)| (spec.program(id).name.clone(), it.map(|it| it.hash()).map_err(|err| err.message)))
        .collect();
    hashes.sort();
    hashes
}

/// The same without programs that ask for numbers of their own types, which are the linker's business.
fn kept(spec: &Spec, machine: &Machine) -> Vec<(String, Result<u64, String>)> {
    let local = |name: &str| {
        let entry = spec.program(spec.program_named(name).unwrap()).entry;
        spec.function(entry).core_relos.iter().any(|relo| relo.kind == CoreReloKind::TYPE_ID_LOCAL.0)
    };
    let mut all = hashes(spec, machine);
    all.retain(|(name, _)| !local(name));
    all
}

#[test]
fn libbpf_links_the_same() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("merge-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let lister = lister("merge");
    let mut compared = 0;
    for path in files() {
        for case in cases(&std::fs::read_to_string(&path).unwrap()) {
            let objects = objects(&case, "clang-19", "bpfel");
            let mut paths = Vec::new();
            for (bytes, file) in objects.iter().zip(FILES) {
                std::fs::write(dir.join(file), bytes).unwrap();
                paths.push(dir.join(file));
            }
            let theirs = bpftool(&dir, &paths);
            let ours = link(&objects);
            // Where libbpf's linker or its loader differs on purpose, the case says so.
            if case.comment.contains("libbpf") {
                continue;
            }
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    let bytes = std::fs::read(&theirs).unwrap();
                    let read = Spec::parse(&bytes, "linked.bpf.o").unwrap();
                    let machine = Machine::default();
                    assert_eq!(hashes(&ours, &machine), hashes(&read, &machine), "{}", case.comment);
                    // Both under one name, which is in the names of maps.
                    let (a, b) = (dir.join("ours"), dir.join("theirs"));
                    std::fs::create_dir_all(&a).unwrap();
                    std::fs::create_dir_all(&b).unwrap();
                    std::fs::write(a.join("linked.bpf.o"), elf::write(&ours).unwrap()).unwrap();
                    std::fs::write(b.join("linked.bpf.o"), bytes).unwrap();
                    let say = |dir: &Path| {
                        let text = listing(&lister, &[dir.join("linked.bpf.o")]);
                        let mut lines: Vec<String> = text.lines().skip(1).map(without_types).collect();
                        lines.sort();
                        lines
                    };
                    assert_eq!(say(&a), say(&b), "{}", case.comment);
                    compared += 1;
                }
                (Err(_), Err(_)) => compared += 1,
                (Ok(_), Err(err)) => panic!("{}: libbpf refuses: {err}", case.comment),
                (Err(errors), Ok(_)) => panic!("{}: only we refuse: {errors:?}", case.comment),
            }
        }
    }
    assert!(compared > 10, "only {compared} cases compared");
    std::fs::remove_file(lister).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

fn without_types(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    if let Some(at) = words.iter().position(|word| *word == "types") {
        words.drain(at..(at + 3).min(words.len()));
    }
    words.join(" ")
}

#[test]
fn objects_of_the_corpus_link_as_with_libbpf() {
    let Ok(btf) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        println!("skipped: needs the kernel's types");
        return;
    };
    let machine = Machine { btf: Some(Btf::parse(btf).unwrap()), ..Machine::default() };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("merge-corpus-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let corpus = support::corpus();
    let open = |path: &PathBuf| Spec::parse(&std::fs::read(path).unwrap(), &path.to_string_lossy()).unwrap();
    let (mut pairs, mut alone) = (0, 0);
    for (at, path) in corpus.iter().enumerate() {
        let one = open(path);
        let file = path.to_string_lossy();
        let input = Input { file: &file, spec: &one };
        let merged = merge(&one.name, &[input]).unwrap_or_else(|errors| panic!("{file}: {errors:?}"));
        assert_eq!(kept(&one, &machine), kept(&merged, &machine), "{file}");
        let load = Btf::parse(merged.btf_for_load().unwrap_or_default());
        assert!(one.btf.is_none() || load.is_ok_and(|btf| btf.validate().is_ok()), "{file}: its types are damaged");
        alone += 1;
        // A step that brings together objects that have little to do with each other.
        let partner = &corpus[(at + 7) % corpus.len()];
        let other = open(partner);
        let partner_file = partner.to_string_lossy();
        let ours = merge("pair", &[input, Input { file: &partner_file, spec: &other }]);
        let theirs = bpftool(&dir, &[path.clone(), partner.clone()]);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                let theirs = Spec::parse(&std::fs::read(theirs).unwrap(), "pair.bpf.o").unwrap();
                assert_eq!(kept(&ours, &machine), kept(&theirs, &machine), "{file} and {partner_file}");
                pairs += 1;
            }
            (Err(errors), Ok(_)) => panic!("{file} and {partner_file}: only we refuse: {errors:?}"),
            (_, Err(_)) => {}
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
    println!("{alone} objects alone and {pairs} pairs");
    assert!(corpus.is_empty() || pairs > corpus.len() / 4, "only {pairs} pairs of {} were compared", corpus.len());
}

#[test]
fn damaged_objects_never_bring_the_linker_down() {
    for path in files() {
        for case in cases(&std::fs::read_to_string(&path).unwrap()) {
            let objects = objects(&case, "clang-19", "bpfel");
            let specs: Vec<Spec> = objects.iter().map(|bytes| Spec::parse(bytes, "x.bpf.o").unwrap()).collect();
            let mut dice = support::Dice::new();
            for round in 0..300 {
                let mut changed = objects[0].clone();
                for _ in 0..=dice.roll(3) {
                    let at = dice.roll(changed.len());
                    changed[at] ^= 1 << dice.roll(8);
                }
                let Ok(damaged) = Spec::parse(&changed, "damaged.bpf.o") else { continue };
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let mut inputs = vec![Input { file: "damaged.bpf.o", spec: &damaged }];
                    inputs.extend(specs[1..].iter().map(|spec| Input { file: "x.bpf.o", spec }));
                    if let Ok(merged) = merge("x", &inputs) {
                        let _ = elf::write(&merged);
                        let _ = merged.btf_for_load();
                        let _ = resolve(&merged, &Machine::default());
                    }
                }));
                assert!(result.is_ok(), "{}: round {round}", case.comment);
            }
        }
    }
}
