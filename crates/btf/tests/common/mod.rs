//! Objects from real compilers, and the tools that judge what is made of them.
#![allow(dead_code, reason = "every test file uses its part")]
#![allow(unreachable_pub, reason = "a module of several tests")]
#![allow(clippy::unwrap_used, reason = "a test's helper")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use object::{Object, ObjectSection};
use skep_btf::Btf;

/// A folder that goes away with the value.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("skep-btf-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a tool and gives back what it wrote; fails with its complaint, or with what to do when it is missing.
pub fn run(command: &mut Command) -> Vec<u8> {
    let out = command.output().unwrap_or_else(|err| panic!("{command:?}: {err}; run cargo xtask setup"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// An object compiled from C. `target` is `bpfel` or `bpfeb`.
pub fn compile(scratch: &Scratch, clang: &str, target: &str, source: &Path) -> PathBuf {
    let stem = source.file_stem().unwrap().to_string_lossy();
    let out = scratch.0.join(format!("{stem}.{target}.{clang}.o"));
    run(Command::new(clang).args(["-g", "-O2", "-target", target, "-c", "-o"]).arg(&out).arg(source));
    out
}

/// A file of the folder `tests/data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The bytes of a section.
pub fn section(path: &Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    file.section_by_name(name).unwrap_or_else(|| panic!("no section {name}")).data().unwrap().to_vec()
}

pub fn btf_of(path: &Path) -> Btf {
    Btf::parse(section(path, ".BTF")).unwrap()
}

/// The compilers and byte orders that all of this is tried with.
pub const COMPILERS: [(&str, &str); 4] =
    [("clang-14", "bpfel"), ("clang-14", "bpfeb"), ("clang-19", "bpfel"), ("clang-19", "bpfeb")];

/// The running kernel's BTF.
pub fn kernel() -> Option<Btf> {
    match std::fs::read("/sys/kernel/btf/vmlinux") {
        Ok(data) => Some(Btf::parse(data).unwrap()),
        Err(_) => {
            assert!(std::env::var_os("CI").is_none(), "needs /sys/kernel/btf/vmlinux");
            println!("skipped: needs /sys/kernel/btf/vmlinux");
            None
        }
    }
}
