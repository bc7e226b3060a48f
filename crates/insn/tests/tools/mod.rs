//! Runs the tools that serve as oracles, each test in a folder of its own.
#![allow(dead_code, reason = "each test file uses its own part")]

use skep_insn::{Endian, RawInsn};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of its own for each test, removed at the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("skep-insn-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a tool and gives its standard output.
pub(crate) fn run(program: &str, args: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(dir).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; run cargo xtask setup"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("tools print UTF-8")
}

pub(crate) fn triple(endian: Endian) -> &'static str {
    match endian {
        Endian::Little => "bpfel",
        Endian::Big => "bpfeb",
    }
}

/// Makes an object with these slots as the function `f` of `section`, with clang's assembler.
pub(crate) fn object_of(slots: &[RawInsn], section: &str, endian: Endian, llvm: u32, dir: &Path) {
    let mut source = format!(".section {section},\"ax\",@progbits\n.globl f\n.type f,@function\nf:\n");
    for slot in slots {
        let bytes = slot.to_bytes(endian).map(|byte| byte.to_string());
        writeln!(source, ".byte {}", bytes.join(",")).expect("strings take all text");
    }
    source.push_str(".size f, .-f\n.section license,\"aw\",@progbits\n.asciz \"GPL\"\n");
    std::fs::write(dir.join("all.s"), source).expect("the scratch folder can be written");
    let args = ["-target", triple(endian), "-c", "all.s", "-o", "all.o"];
    run(&format!("clang-{llvm}"), &args, dir);
}
