//! Whole programs compile unmodified and without a warning: the examples, and the documents' programs where they are at hand.

mod common;

use common::{COMPILERS, clang_in, compile, files_below, root, shared_cache};

fn compile_all(name: &str, sources: &[std::path::PathBuf]) {
    let clang = clang_in(&shared_cache(), name);
    for source in sources {
        let object = compile(&clang, source).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(object.warnings, "", "{name}: {}", source.display());
        assert_eq!(&object.bytes[..4], b"\x7fELF", "{name}: {}", source.display());
        // e_machine
        assert_eq!(u16::from_le_bytes([object.bytes[18], object.bytes[19]]), 247, "{name}: {}", source.display());
    }
}

#[test]
fn every_example_compiles() {
    let sources = files_below(&root().join("examples"), ".bpf.c");
    assert!(!sources.is_empty());
    for name in COMPILERS {
        compile_all(name, &sources);
    }
}

#[test]
fn the_documents_programs_compile_unmodified() {
    let folder = std::env::var_os("SKEP_DOCUMENTS").map(std::path::PathBuf::from);
    let folder = folder.unwrap_or_else(|| root().join("../shared/seeds/programs"));
    if !folder.is_dir() {
        println!("skipped: needs the documents' programs");
        return;
    }
    let sources = files_below(&folder, ".bpf.c");
    assert_eq!(sources.len(), 7);
    for name in COMPILERS {
        compile_all(name, &sources);
    }
}
