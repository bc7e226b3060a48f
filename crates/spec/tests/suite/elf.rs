//! Objects from small C sources, shown as text: `tests/data/NAME.c` and, beside it, what it must become.
//!
//! The text is that of clang-19 for little-endian machines. The big-endian object must say the same, and clang-14's the
//! same but for instruction counts and type ids.

use crate::support::{assemble, check, compile, open};

fn case(name: &str) {
    let source = std::fs::read_to_string(crate::support::data().join(format!("{name}.c"))).unwrap();
    let little = open("clang-19", "bpfel", &source).to_string();
    check(&format!("{name}.txt"), &little);
    for compiler in crate::support::COMPILERS {
        let little = open(compiler, "bpfel", &source).to_string();
        let big = open(compiler, "bpfeb", &source).to_string();
        assert_eq!(little.replace("Little-endian", "Big-endian"), big, "{compiler}: byte orders differ");
        let shape = |text: &str| -> Vec<String> {
            let mut lines: Vec<String> = text
                .lines()
                .filter(|line| {
                    !line.starts_with("object") && !line.trim_start().starts_with(|c: char| c.is_ascii_digit())
                })
                .map(|line| line.split(" insns ").next().unwrap().split(" type [").next().unwrap().replace(" key", ""))
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(
            shape(&little),
            shape(&open("clang-19", "bpfel", &source).to_string()),
            "{compiler} against clang-19"
        );
    }
}

macro_rules! cases {
    ($($name:ident: $what:literal;)*) => {
        $(#[doc = $what] #[test] fn $name() { case(stringify!($name)) })*
    };
}

cases! {
    globals: "Data sections, custom suffixes, statics and hidden variables";
    functions: "Functions of every linkage in several sections";
    maps: "BTF-defined maps";
    slots: "Maps of maps and program arrays with initial slots";
    externs: "Kernel configuration, symbols and functions";
    core: "CO-RE records";
    struct_ops: "Structures filled with programs";
    legacy: "Maps of the old section";
}

/// Cases of one compiler alone.
fn single(name: &str, options: &[&str]) {
    let source = std::fs::read_to_string(crate::support::data().join(format!("{name}.c"))).unwrap();
    let open = |target| {
        skep_spec::Spec::parse(&compile("clang-19", target, &source, options), "test.bpf.o").unwrap().to_string()
    };
    check(&format!("{name}.txt"), &open("bpfel"));
    assert_eq!(open("bpfel").replace("Little-endian", "Big-endian"), open("bpfeb"), "byte orders differ");
}

#[test]
fn globals_of_an_arena_belong_to_its_map() {
    single("arena", &[]);
}

#[test]
fn the_kernel_samples_maps_open_without_types() {
    single("samples", &["-g0"]);
}

#[test]
fn what_no_kernel_could_load_still_opens() {
    single("faulty", &["-Wno-error"]);
}

#[test]
fn assembly_without_types_and_sizes_opens() {
    let source = std::fs::read_to_string(crate::support::data().join("bare.s")).unwrap();
    let spec = skep_spec::Spec::parse(&assemble(&source), "test.bpf.o").unwrap();
    check("bare.txt", &spec.to_string());
}

#[test]
fn the_name_of_the_object_is_the_stem_of_its_file() {
    let bytes = compile("clang-19", "bpfel", "SEC(\"xdp\") int p(void *c) { return 0; }", &[]);
    for (file, name) in [("a/b/execsnoop.bpf.o", "execsnoop"), ("x", "x"), ("", "")] {
        assert_eq!(skep_spec::Spec::parse(&bytes, file).unwrap().name, name);
    }
}
