//! Compiling small C sources, and comparing text with what is checked in.

use std::path::{Path, PathBuf};
use std::process::Command;

use skep_spec::Spec;

/// What the sources in `tests/data` share; no header of the machine is used.
const HEADER: &str = include_str!("../data/common.h");

/// The compilers that the tests are made for.
pub(crate) const COMPILERS: [&str; 2] = ["clang-14", "clang-19"];

pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// Assembles `source` for little-endian machines.
pub(crate) fn assemble(source: &str) -> Vec<u8> {
    run("clang-19", "bpfel", "s", source, &[])
}

/// Compiles `source` for `target` (`bpfel` or `bpfeb`) and gives the object's bytes.
pub(crate) fn compile(compiler: &str, target: &str, source: &str, options: &[&str]) -> Vec<u8> {
    let flags = ["-O2", "-g", "-mcpu=v3", "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unused-variable"];
    let options: Vec<&str> = flags.iter().chain(options).copied().collect();
    run(compiler, target, "c", &format!("{HEADER}\n#line 1 \"test.c\"\n{source}"), &options)
}

fn run(compiler: &str, target: &str, extension: &str, source: &str, options: &[&str]) -> Vec<u8> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let stem = format!("spec-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let (input, output) = (dir.join(format!("{stem}.{extension}")), dir.join(format!("{stem}.o")));
    std::fs::write(&input, source).unwrap();
    let result = Command::new(compiler)
        .args(options)
        .args(["-target", target, "-c"])
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .output()
        .unwrap_or_else(|err| panic!("{compiler}: {err}; run `cargo xtask setup`"));
    assert!(result.status.success(), "{compiler} {target}:\n{}", String::from_utf8_lossy(&result.stderr));
    let bytes = std::fs::read(&output).unwrap();
    std::fs::remove_file(input).unwrap();
    std::fs::remove_file(output).unwrap();
    bytes
}

/// Compiles and opens `source`.
pub(crate) fn open(compiler: &str, target: &str, source: &str) -> Spec {
    Spec::parse(&compile(compiler, target, source, &[]), "test.bpf.o").unwrap()
}

/// Compares `text` with the file `name` in `tests/data`; `SKEP_BLESS=1` writes it instead.
pub(crate) fn check(name: &str, text: &str) {
    let path = data().join(name);
    if std::env::var_os("SKEP_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected == text {
        return;
    }
    let mut message = format!("{} differs; SKEP_BLESS=1 accepts the new text:\n", path.display());
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), text.lines().collect());
    for line in &old {
        if !new.contains(line) {
            message += &format!("- {line}\n");
        }
    }
    for line in &new {
        if !old.contains(line) {
            message += &format!("+ {line}\n");
        }
    }
    panic!("{message}");
}

/// The little-endian objects of the corpus (`tests/corpus`), as `cargo xtask setup` compiles them.
pub(crate) fn corpus() -> Vec<PathBuf> {
    let root = std::env::var_os("SKEP_TEST_OBJECTS").map(PathBuf::from).unwrap_or_default();
    let mut objects = Vec::new();
    for folder in ["clang14-el", "clang19-el"] {
        let entries = match std::fs::read_dir(root.join(folder)) {
            Ok(entries) => entries,
            Err(_) if std::env::var_os("CI").is_none() => {
                println!("skipped: needs the compiled corpus; run `cargo xtask setup`");
                continue;
            }
            Err(err) => panic!("{}/{folder}: {err}; run `cargo xtask setup`", root.display()),
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        objects.extend(paths.filter(|path| path.extension().is_some_and(|it| it == "o")));
    }
    objects.sort();
    objects
}

/// xorshift64*: good enough to choose places, and the same everywhere.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Dice {
        Dice(0x5eed)
    }

    /// A number from 0 to `sides` - 1.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }
}
