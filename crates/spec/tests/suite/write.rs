//! Objects written and read again: they must say the same, to us, to libbpf and to LLVM's tools.

use std::path::Path;
use std::process::Command;

use skep_spec::function::{RefTarget, Reference};
use skep_spec::{ProgId, Spec, elf};

use crate::libbpf::{lister, listing};
use crate::support;

const SOURCES: [&str; 7] = ["globals", "functions", "maps", "slots", "externs", "core", "struct_ops"];

/// Everything but the number of types, which grows, and warnings about how the object was written.
fn say(spec: &Spec) -> Vec<String> {
    let lines = spec.to_string();
    let kept = lines.lines().filter(|line| !line.starts_with("object") && !line.starts_with("warning"));
    kept.map(|line| line.replace(" legacy", "")).collect()
}

fn rewrite(bytes: &[u8], name: &str) -> Vec<u8> {
    let spec = Spec::parse(bytes, "test.bpf.o").unwrap();
    let written = elf::write(&spec).unwrap_or_else(|err| panic!("{name}: {err}"));
    let again = Spec::parse(&written, "test.bpf.o").unwrap_or_else(|err| panic!("{name}: {err}"));
    assert_eq!(say(&spec), say(&again), "{name}");
    assert_eq!(spec.license, again.license, "{name}");
    for (old, new) in spec.functions.iter().zip(&again.functions) {
        assert_eq!((&old.lines, &old.core_relos, old.btf_func), (&new.lines, &new.core_relos, new.btf_func), "{name}");
    }
    for (old, new) in spec.maps.iter().zip(&again.maps) {
        assert_eq!(old.initial_value(), new.initial_value(), "{name}: {}", old.name);
    }
    written
}

#[test]
fn an_object_survives_writing() {
    for name in SOURCES.iter().chain(&["legacy"]) {
        let source = std::fs::read_to_string(support::data().join(format!("{name}.c"))).unwrap();
        for compiler in support::COMPILERS {
            for target in ["bpfel", "bpfeb"] {
                rewrite(&support::compile(compiler, target, &source, &[]), &format!("{name} {compiler} {target}"));
            }
        }
    }
    let samples = std::fs::read_to_string(support::data().join("samples.c")).unwrap();
    let spec = Spec::parse(&support::compile("clang-19", "bpfel", &samples, &["-g0"]), "test.bpf.o").unwrap();
    let again = Spec::parse(&elf::write(&spec).unwrap(), "test.bpf.o").unwrap();
    assert_eq!(spec.maps.len(), again.maps.len());
    assert_eq!(spec.functions[0].references, again.functions[0].references);
    for path in support::corpus() {
        rewrite(&std::fs::read(&path).unwrap(), &path.display().to_string());
    }
}

#[test]
fn libbpf_and_llvm_read_what_is_written() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("written-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("old")).unwrap();
    std::fs::create_dir_all(dir.join("new")).unwrap();
    let mut names = Vec::new();
    for name in SOURCES {
        let source = std::fs::read_to_string(support::data().join(format!("{name}.c"))).unwrap();
        let bytes = support::compile("clang-19", "bpfel", &source, &[]);
        std::fs::write(dir.join("new").join(name), rewrite(&bytes, name)).unwrap();
        std::fs::write(dir.join("old").join(name), bytes).unwrap();
        names.push(name.to_owned());
    }
    for path in support::corpus() {
        let bytes = std::fs::read(&path).unwrap();
        // Two compilers made objects of one name.
        let folder = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let name = format!("{folder}-{}", path.file_name().unwrap().to_string_lossy());
        std::fs::write(dir.join("new").join(&name), rewrite(&bytes, &name)).unwrap();
        std::fs::write(dir.join("old").join(&name), bytes).unwrap();
        names.push(name);
    }
    let lister = lister("written");
    for name in &names {
        let [old, new] = ["old", "new"].map(|folder| listing(&lister, &[dir.join(folder).join(name)]));
        let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        // What libbpf refuses may be refused for another reason, or be written in a form that it takes.
        if !old.contains("\nrefused") {
            assert_eq!(lines(&old), lines(&new), "{name}");
        }
        for tool in [["llvm-objdump-19", "-dr"], ["llvm-readelf-19", "-aW"]] {
            let output = Command::new(tool[0])
                .arg(tool[1])
                .arg(dir.join("new").join(name))
                .output()
                .unwrap_or_else(|err| panic!("{}: {err}; run `cargo xtask setup`", tool[0]));
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && complaint.is_empty(), "{name}: {}: {complaint}", tool[0]);
        }
    }
    std::fs::remove_file(lister).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn edits_are_in_the_object() {
    let source = std::fs::read_to_string(support::data().join("maps.c")).unwrap();
    let mut spec = support::open("clang-19", "bpfel", &source);
    let by_type = spec.find_map("by_type").unwrap();
    let map = &mut spec.maps[by_type.0 as usize];
    map.max_entries = 77;
    map.map_extra = 1 << 40;
    map.set_value_size(48);
    spec.programs[0].autoload = false;
    spec.programs[0].section = "tc/egress".to_owned();
    spec.rename_program(ProgId(0), "renamed");
    let again = Spec::parse(&elf::write(&spec).unwrap(), "test.bpf.o").unwrap();
    let map = again.map(by_type);
    assert_eq!((map.max_entries, map.map_extra, map.value_size, map.value_type), (77, 1 << 40, 48, None));
    let program = &again.programs[0];
    assert_eq!((&*program.name, &*program.section, program.autoload), ("renamed", "tc/egress", false));
    assert_eq!(again.function(program.entry).section, "?tc/egress");
}

#[test]
fn a_contradictory_spec_is_refused() {
    let mut spec = support::open("clang-19", "bpfel", "SEC(\"xdp\") int p(void *c) { return 0; }");
    let insn = skep_insn::InsnIdx(0);
    spec.functions[0].references.push(Reference { insn, target: RefTarget::Call(skep_spec::FuncId(9)) });
    assert_eq!(elf::write(&spec).unwrap_err().to_string(), "`p`: it refers to something that the Spec does not have");
}
