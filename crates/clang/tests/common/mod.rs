//! What the tests of this crate share: compilers, a cache folder per test, and a vmlinux.h of this kernel.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its own part, and may fail")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use skep_btf::Btf;
use skep_clang::{Cache, Clang, Compiler, Error, Object, Request, Vmlinux};

/// The compilers that the project promises to work with.
pub const COMPILERS: [&str; 2] = ["clang-14", "clang-19"];

/// A folder that goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("skep-clang-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A compiler by name, with the cache in `cache`.
pub fn clang_in(cache: &Path, name: &str) -> Clang {
    let cache = Cache::at(cache).unwrap();
    let compiler = Compiler::named(&cache, name).unwrap_or_else(|error| panic!("{error}; run cargo xtask setup"));
    Clang::new(cache, compiler)
}

/// A cache that the tests of one run share, so that vmlinux.h is made once.
pub fn shared_cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// This kernel's types.
pub fn kernel_btf() -> &'static Btf {
    static KERNEL: OnceLock<Btf> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("these tests need a kernel with BTF");
        Btf::parse(bytes).unwrap()
    })
}

/// Compiles with this kernel's vmlinux.h within reach.
pub fn compile(clang: &Clang, source: &Path) -> Result<Object, Error> {
    clang.compile(&Request { vmlinux: Some(Vmlinux::from(kernel_btf())), ..Request::new(source) })
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All files below a folder whose names end so, sorted.
pub fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}
