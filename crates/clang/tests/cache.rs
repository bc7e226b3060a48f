//! What the cache promises: no compiler for an unchanged file, a compiler for every change that matters, whole files or
//! none, and clear words when it cannot be written.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{COMPILERS, Folder, clang_in, compile};
use skep_clang::{Cache, Clang, Compiler, Error, Request, Vmlinux};

/// A compiler that counts its starts: a script around the real one.
struct Counted {
    folder: Folder,
    clang: Clang,
}

impl Counted {
    fn new(name: &str) -> Counted {
        let folder = Folder::new(name);
        let script = format!(
            "#!/bin/sh\necho x >> '{}'\nexec {} \"$@\"\n",
            folder.path().join("starts").display(),
            COMPILERS[1]
        );
        let program = folder.write("counted", &script);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let clang = clang_in(&folder.path().join("cache"), program.to_str().unwrap());
        Counted { folder, clang }
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("starts")).unwrap_or_default().lines().count()
    }

    /// How often the compiler is started by a compile that succeeds.
    fn cost(&self, request: &Request<'_>) -> usize {
        let before = self.starts();
        let object = self.clang.compile(request).unwrap_or_else(|error| panic!("{error}"));
        let cost = self.starts() - before;
        assert_eq!(object.cached, cost == 0);
        cost
    }
}

const PROGRAM: &str = "#include <bpf/bpf_helpers.h>\n#include \"own.h\"\nint x = VALUE;\n";

#[test]
fn an_unchanged_file_costs_no_compiler_and_a_change_costs_one() {
    let it = Counted::new("unchanged");
    let own = it.folder.write("own.h", "#define VALUE 1\n");
    let file = it.folder.write("prog.bpf.c", PROGRAM);
    let request = Request::new(&file);
    assert_eq!(it.cost(&request), 1);
    assert_eq!(it.cost(&request), 0);
    let first = it.clang.compile(&request).unwrap();
    // Same length, within the same second: only the content tells.
    it.folder.write("own.h", "#define VALUE 2\n");
    assert_eq!(it.cost(&request), 1);
    assert_ne!(it.clang.compile(&request).unwrap().bytes, first.bytes);
    it.folder.write("prog.bpf.c", &format!("{PROGRAM}int y;\n"));
    assert_eq!(it.cost(&request), 1);
    std::fs::remove_file(own).unwrap();
    assert!(matches!(it.clang.compile(&request), Err(Error::Compile { .. })), "an included file that went away");
}

#[test]
fn flags_and_other_vmlinux_headers_are_other_objects() {
    let it = Counted::new("flags");
    it.folder.write("own.h", "#define VALUE 1\n");
    let plain = it.folder.write("prog.bpf.c", PROGRAM);
    assert_eq!(it.cost(&Request::new(&plain)), 1);
    let args = vec!["-DX=1".into()];
    assert_eq!(it.cost(&Request { args: args.clone(), ..Request::new(&plain) }), 1);
    assert_eq!(it.cost(&Request { args, ..Request::new(&plain) }), 0);
    // A file that uses no vmlinux.h does not care which one there is.
    let small = || Some(Vmlinux::from_text("#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\ntypedef int s32;\n#endif\n"));
    let other =
        || Some(Vmlinux::from_text("#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\ntypedef long s32;\n#endif\n"));
    assert_eq!(it.cost(&Request { vmlinux: small(), ..Request::new(&plain) }), 0);
    let kernel = it.folder.write("kernel.bpf.c", "#include \"vmlinux.h\"\ns32 x = 1;\n");
    assert_eq!(it.cost(&Request { vmlinux: small(), ..Request::new(&kernel) }), 2, "one for the precompiled header");
    assert_eq!(it.cost(&Request { vmlinux: small(), ..Request::new(&kernel) }), 0);
    assert_eq!(it.cost(&Request { vmlinux: other(), ..Request::new(&kernel) }), 2);
}

#[test]
fn a_vmlinux_of_the_users_own_wins_as_soon_as_it_appears() {
    let it = Counted::new("own-vmlinux");
    let vmlinux =
        || Some(Vmlinux::from_text("#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\ntypedef int mine;\n#endif\n"));
    for include in ["\"vmlinux.h\"", "<vmlinux.h>"] {
        let file = it.folder.write("prog.bpf.c", &format!("#include {include}\nmine x = 1;\n"));
        let request = Request { vmlinux: vmlinux(), ..Request::new(&file) };
        it.cost(&request);
        assert_eq!(it.cost(&request), 0);
        let theirs = it.folder.write("vmlinux.h", "typedef char mine;\n");
        assert_eq!(it.cost(&request), 1, "{include}");
        assert_eq!(it.cost(&request), 0);
        std::fs::remove_file(theirs).unwrap();
        assert_eq!(it.cost(&request), 1, "and gives way when it goes");
    }
}

#[test]
fn vmlinux_behind_another_header_is_found() {
    let it = Counted::new("behind");
    let vmlinux =
        || Some(Vmlinux::from_text("#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\ntypedef int mine;\n#endif\n"));
    it.folder.write("sub/common.h", "#define SOMETHING\n#include <vmlinux.h>\n");
    let file = it.folder.write("prog.bpf.c", "#include <common.h>\nmine x;\n");
    let args = vec![format!("-I{}", it.folder.path().join("sub").display()).into()];
    assert_eq!(it.cost(&Request { vmlinux: vmlinux(), args, ..Request::new(&file) }), 2, "the first one misses it");
}

#[test]
fn warnings_are_repeated_and_paths_of_the_cache_stay_out() {
    let it = Counted::new("warnings");
    let file = it.folder.write("prog.bpf.c", "#warning \"look here\"\n#include <bpf/bpf_helpers.h>\nint x;\n");
    let first = it.clang.compile(&Request::new(&file)).unwrap();
    assert!(first.warnings.contains("look here"), "{}", first.warnings);
    let again = it.clang.compile(&Request::new(&file)).unwrap();
    assert!(again.cached);
    assert_eq!(again.warnings, first.warnings);
    assert_eq!(again.sources, std::slice::from_ref(&file));

    let file =
        it.folder.write("wrong.bpf.c", "#include <bpf/bpf_helpers.h>\nint f(void) { return bpf_ktime_get_ns(1); }\n");
    let error = it.clang.compile(&Request::new(&file)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("wrong.bpf.c:2:") && text.contains("error:"), "{text}");
    assert!(!text.contains(it.clang.cache().root().to_str().unwrap()), "{text}");
    // Nor in line information and debug sections.
    let file = it.folder.write("paths.bpf.c", "#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_endian.h>\nSEC(\"xdp\") int f(void *c) { bpf_printk(\"x\"); return 0; }\n");
    let object = it.clang.compile(&Request::new(&file)).unwrap();
    let root = it.clang.cache().root().to_str().unwrap().as_bytes().to_vec();
    assert!(!object.bytes.windows(root.len()).any(|part| part == root));
}

#[test]
fn a_crash_of_the_compiler_is_one_sentence() {
    let folder = Folder::new("crash");
    let file = folder.write("prog.bpf.c", "int f(int a, int b) { return a / b; }\n");
    for compiler in COMPILERS {
        let error = clang_in(&common::shared_cache(), compiler).compile(&Request::new(&file)).unwrap_err();
        let (text, hint) = (error.to_string(), error.hint().unwrap_or_default());
        assert!(hint.contains("make the operands unsigned"), "{compiler}: {text}: {hint}");
        assert!(!text.contains("Stack dump") && !text.contains("bug report"), "{compiler}: {text}");
    }
}

#[test]
fn many_runs_at_once_all_succeed() {
    let folder = Folder::new("at-once");
    let file = folder.write("prog.bpf.c", "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\nint x = BPF_ANY;\n");
    let cache = folder.path().join("cache");
    let objects: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let run = || compile(&clang_in(&cache, COMPILERS[1]), &file).unwrap_or_else(|error| panic!("{error}")).bytes;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(objects.iter().all(|object| *object == objects[0]));
    assert_eq!(std::fs::read_dir(cache.join("tmp")).unwrap().count(), 0, "nothing half-written stays");
}

#[test]
fn damage_in_the_cache_heals() {
    let it = Counted::new("damage");
    let file = it.folder.write("prog.bpf.c", "#include <bpf/bpf_helpers.h>\nint x = 1;\n");
    let request = Request::new(&file);
    let whole = it.clang.compile(&request).unwrap().bytes;
    let objects = it.clang.cache().root().join("objects");
    let entry = std::fs::read_dir(&objects).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read(&entry).unwrap();
    for damaged in [&text[..text.len() / 2], &b"nonsense"[..], &b""[..]] {
        std::fs::write(&entry, damaged).unwrap();
        assert_eq!(it.clang.compile(&request).unwrap().bytes, whole);
    }
    for folder in std::fs::read_dir(it.clang.cache().root()).unwrap() {
        let path = folder.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("headers-") {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    std::fs::remove_file(&entry).unwrap();
    assert_eq!(it.clang.compile(&request).unwrap().bytes, whole);
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let folder = Folder::new("shared-folder");
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Cache::at(&open).unwrap_err();
    assert!(error.to_string().contains("others may write to it"), "{error}");
}

#[test]
fn an_absent_source_is_named() {
    let error = clang_in(&common::shared_cache(), COMPILERS[1]).compile(&Request::new(Path::new("/no/such.bpf.c")));
    assert_eq!(error.unwrap_err().to_string(), "cannot read /no/such.bpf.c: No such file or directory (os error 2)");
}

/// Runs the rest of a test in a mount namespace where `folder` is a file system of a few blocks. `None` without the right to.
fn in_tiny_disk(test: &str, folder: &Path) -> Option<std::process::Output> {
    let script =
        "mount -t tmpfs -o size=256k,nr_inodes=400 tmpfs \"$1\" || exit 77; exec \"$2\" --exact \"$3\" --nocapture";
    let own = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(folder)
        .arg(own)
        .arg(test)
        .env("SKEP_TEST_TINY_DISK", folder)
        .output()
        .ok()?;
    let refused =
        output.status.code() == Some(77) || String::from_utf8_lossy(&output.stderr).contains("unshare failed");
    (!refused).then_some(output)
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    if let Some(folder) = std::env::var_os("SKEP_TEST_TINY_DISK").map(PathBuf::from) {
        let cache = Cache::at(&folder.join("cache")).unwrap();
        let compiler = Compiler::named(&cache, COMPILERS[1]).unwrap();
        let source = folder.join("prog.bpf.c");
        std::fs::write(&source, "#include <bpf/bpf_helpers.h>\nint x[100000] = { 1 };\n").unwrap();
        let error = Clang::new(cache, compiler).compile(&Request::new(&source)).unwrap_err();
        let text = error.to_string();
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("free some space, or set XDG_CACHE_HOME"), "{text}: {hint}");
        println!("said: {text}");
        return;
    }
    let folder = Folder::new("full");
    match in_tiny_disk("a_full_disk_is_said_to_be_full", folder.path()) {
        Some(output) => assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("said: "),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        None => {
            assert!(std::env::var_os("CI").is_none(), "CI must be able to mount");
            println!("skipped: needs root with mounts");
        }
    }
}
