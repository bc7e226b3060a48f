//! The programs that cases run: the examples of this repository, and those of the documents that the project was created
//! from, where they are at hand.
//!
//! With a compiler a case runs the C source, as a person would. Without one it runs what `cargo xtask setup` compiled:
//! `$SKEP_TEST_OBJECTS/examples/NAME.bpf.o`, `$SKEP_TEST_OBJECTS/tests/programs/run/NAME.bpf.o` and
//! `$SKEP_TEST_OBJECTS/documents/FOLDER/NAME.bpf.o`.

use std::path::{Path, PathBuf};

use super::needs::clang;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies in crates/").to_owned()
}

fn objects() -> PathBuf {
    let dir = std::env::var_os("SKEP_TEST_OBJECTS").expect("cargo sets SKEP_TEST_OBJECTS, see .cargo/config.toml");
    PathBuf::from(dir)
}

/// `examples/NAME.bpf.c`, or its object.
pub(crate) fn example(name: &str) -> PathBuf {
    source_or_object(&format!("examples/{name}"))
}

fn source_or_object(name: &str) -> PathBuf {
    let source = root().join(format!("{name}.bpf.c"));
    assert!(source.is_file(), "{} does not exist", source.display());
    if clang() { source } else { compiled(objects().join(format!("{name}.bpf.o"))) }
}

/// What a case over the documents alone says where they are not at hand.
const NO_DOCUMENTS: &str = "skipped: needs the documents' programs";

/// The source of a program of the documents, such as `08-kprobe-unlink/kprobe`, or its object. `None`, and the case is
/// skipped, where the documents are not at hand.
pub(crate) fn document(name: &str) -> Option<PathBuf> {
    let found = find_document(name);
    if found.is_none() {
        println!("{NO_DOCUMENTS}");
    }
    found
}

fn find_document(name: &str) -> Option<PathBuf> {
    if !clang() {
        let object = objects().join("documents").join(format!("{name}.bpf.o"));
        return object.is_file().then_some(object);
    }
    let folder = std::env::var_os("SKEP_DOCUMENTS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| root().join("../shared/seeds/programs"));
    let source = folder.join(format!("{name}.bpf.c"));
    source.is_file().then_some(source)
}

/// A script of the documents, such as `06-tcpstates/tcpstates`. `None`, and the case is skipped, where the documents are not
/// at hand.
pub(crate) fn script(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("SKEP_DOCUMENTS").map(PathBuf::from);
    let folders = [folder.unwrap_or_else(|| root().join("../shared/seeds/programs")), objects().join("documents")];
    let mut files = folders.iter().map(|folder| folder.join(format!("{name}.bt")));
    let found = files.find(|file| file.is_file());
    if found.is_none() {
        println!("{NO_DOCUMENTS}");
    }
    found
}

/// The example, and the document's program of the same purpose where it is at hand.
pub(crate) fn both(example_name: &str, document_name: &str) -> Vec<PathBuf> {
    let mut all = vec![example(example_name)];
    match find_document(document_name) {
        Some(path) => all.push(path),
        None => println!("without the documents' {document_name}, which is not at hand"),
    }
    all
}

/// `tests/programs/run/NAME.bpf.c`, made for one of these cases, or its object.
pub(crate) fn case(name: &str) -> PathBuf {
    source_or_object(&format!("tests/programs/run/{name}"))
}

/// An object of the test corpus, compiled by clang 19 for little endian; other folders by their name.
pub(crate) fn corpus(folder: &str, name: &str) -> PathBuf {
    compiled(objects().join(folder).join(format!("{name}.bpf.o")))
}

fn compiled(object: PathBuf) -> PathBuf {
    assert!(object.is_file(), "{} does not exist: run `cargo xtask setup`", object.display());
    object
}
