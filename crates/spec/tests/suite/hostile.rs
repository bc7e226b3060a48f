//! Damaged objects: each must open or be refused, in bounded time and memory, and never bring the reader down.
//!
//! The changes are made by a fixed rule, so a failure can be repeated: its number is in the message.

use crate::support::{self, Dice};
use skep_spec::{Spec, elf};

fn objects() -> Vec<(String, Vec<u8>)> {
    let mut objects = Vec::new();
    for name in ["globals", "functions", "maps", "slots", "externs", "core", "struct_ops", "legacy"] {
        let source = std::fs::read_to_string(support::data().join(format!("{name}.c"))).unwrap();
        for target in ["bpfel", "bpfeb"] {
            objects.push((format!("{name} {target}"), support::compile("clang-19", target, &source, &[])));
        }
    }
    objects
}

#[test]
fn every_prefix_of_an_object_is_refused_or_opens() {
    for (name, bytes) in objects() {
        for len in 0..bytes.len() {
            if let Ok(spec) = Spec::parse(&bytes[..len], "x.bpf.o") {
                panic!("{name}: {len} of {} bytes were enough for {}", bytes.len(), spec.name);
            }
        }
    }
}

#[test]
fn changed_bytes_never_bring_the_reader_down() {
    const VALUES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 4, 8, 0x40];
    let mut opened = 0;
    for (name, bytes) in objects() {
        let mut dice = Dice::new();
        for round in 0..3000 {
            let mut changed = bytes.clone();
            for _ in 0..=dice.roll(4) {
                // Half of the changes go where the tables are, which is where they hurt: headers, symbols, sections.
                let at = match dice.roll(4) {
                    0 => dice.roll(64),
                    1 => changed.len() - 1 - dice.roll(changed.len() / 4),
                    _ => dice.roll(changed.len()),
                };
                match dice.roll(3) {
                    0 => changed[at] = VALUES[dice.roll(VALUES.len())],
                    1 => changed[at] ^= 1 << dice.roll(8),
                    _ => {
                        let value = VALUES[dice.roll(VALUES.len())];
                        let end = (at + 4).min(changed.len());
                        changed[at..end].fill(value);
                    }
                }
            }
            let result = std::panic::catch_unwind(|| elf::fuzz(&changed));
            assert!(result.is_ok(), "{name}: round {round}");
            if let Ok(spec) = Spec::parse(&changed, "x.bpf.o") {
                opened += 1;
                let slots: usize = spec.functions.iter().map(|function| function.insns.len()).sum();
                assert!(slots <= changed.len() / 2, "{name}: round {round}: {slots} slots");
            }
        }
    }
    // A test in which every object is refused at its first word would show nothing.
    assert!(opened > 10_000, "only {opened} changed objects opened");
}

#[test]
fn what_is_no_object_is_named() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "the file is empty"),
        (b"int main() {}", "not an ELF file"),
        (b"BC\xc0\xde....", "LLVM bitcode, not an object"),
        (b"\x7fELF\x01....", "a 32-bit ELF file; BPF objects are 64-bit"),
        (
            b"\x7fELF\x02\x01\x01",
            "the file header cannot be read, the file is damaged or cut short: invalid ELF header size or alignment",
        ),
        (include_bytes!("../data/common.h"), "not an ELF file"),
    ];
    for (bytes, message) in cases {
        assert_eq!(Spec::parse(bytes, "x").unwrap_err().to_string(), message);
    }
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let message = Spec::parse(&own, "x").unwrap_err().to_string();
    assert!(message.starts_with("not BPF: the file is for machine"), "{message}");
}
