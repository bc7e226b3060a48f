//! Several files become one object: `skep build`, `skep run` and `skep load --link`; and the types that an object needs.

use std::path::{Path, PathBuf};

use skep_btf::{Btf, Builder, Kind, MemberDef, TypeDef};

use crate::support::needs::Need::{Clang, Root};
use crate::support::skep::{Outcome, call};
use crate::support::{needs, scratch};

const COUNTING: &str = "#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
extern int scaled(int value);
extern int factor;
extern int calls;
SEC(\"tp/syscalls/sys_enter_getppid\") int count(void *ctx) { bpf_printk(\"scaled %d\", scaled(3)); calls++; return factor; }
char LICENSE[] SEC(\"license\") = \"GPL\";
";

const SCALING: &str = "int factor = 14;
int calls;
__attribute__((noinline)) int scaled(int value) { return value * factor; }
";

fn files(name: &str) -> PathBuf {
    let folder = scratch(name);
    std::fs::write(folder.join("counting.bpf.c"), COUNTING).expect("the scratch folder takes files");
    std::fs::write(folder.join("scaling.c"), SCALING).expect("the scratch folder takes files");
    folder
}

fn skep(folder: &Path, words: &[&str]) -> Outcome {
    let words: Vec<std::ffi::OsString> = words
        .iter()
        .map(|word| if word.contains('.') && !word.starts_with('/') { folder.join(word).into() } else { word.into() })
        .collect();
    call(&words)
}

#[test]
fn c_files_are_compiled_linked_and_loaded() {
    if !needs(&[Root, Clang]) {
        return;
    }
    let folder = files("link-build");
    let out = skep(&folder, &["build", "counting.bpf.c", "scaling.c", "-o", "both.bpf.o"]);
    assert!(out.status.success() && out.stderr.is_empty(), "{}", out.stderr);
    let out = skep(&folder, &["load", "both.bpf.o"]);
    assert!(out.status.success() && out.stdout.starts_with("ok "), "{}{}", out.stdout, out.stderr);
    // One by one, and linked by the loader: the same instructions.
    let out = skep(&folder, &["load", "--json", "both.bpf.o"]);
    for (source, object) in [("counting.bpf.c", "counting.o"), ("scaling.c", "scaling.o")] {
        let out = skep(&folder, &["build", source, "-o", object]);
        assert!(out.status.success(), "{}", out.stderr);
        assert_eq!(
            out.stderr.contains("is defined in none of the files"),
            source == "counting.bpf.c",
            "{}",
            out.stderr
        );
    }
    let linked = skep(&folder, &["load", "--link", "--json", "counting.o", "scaling.o"]);
    let hash = |out: &Outcome| {
        let line: serde_json::Value = serde_json::from_str(out.stdout.trim()).unwrap();
        line["hash"].as_str().unwrap().to_owned()
    };
    assert_eq!(hash(&out), hash(&linked), "{}", linked.stdout);
    // Alone, the program says what it lacks.
    let alone = skep(&folder, &["load", "counting.o"]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(alone.stdout.contains("no object defines this"), "{}", alone.stdout);
}

#[test]
fn several_files_run_as_one() {
    if !needs(&[Root, Clang]) {
        return;
    }
    let folder = files("link-run");
    // A shell asks for its parent when it starts.
    let out = skep(&folder, &["run", "counting.bpf.c", "scaling.c", "-c", "sh -c :"]);
    assert!(out.status.success(), "{}", out.stderr);
    assert!(out.stdout.contains("scaled 42"), "{}{}", out.stdout, out.stderr);
}

#[test]
fn what_does_not_fit_together_is_said_with_both_files() {
    if !needs(&[Clang]) {
        return;
    }
    let folder = files("link-clash");
    std::fs::write(folder.join("other.c"), "int calls = 1;\nlong scaled(long value) { return value; }\n").unwrap();
    let out = skep(&folder, &["build", "counting.bpf.c", "scaling.c", "other.c", "-o", "all.bpf.o"]);
    assert_eq!(out.status.code(), Some(1));
    for text in ["`calls`: defined in `", "scaling.c` and in `", "other.c`", "`scaled`: ", "= help: make it `static`"] {
        assert!(out.stderr.contains(text), "{text}: {}", out.stderr);
    }
    assert!(!folder.join("all.bpf.o").exists());
    let out = skep(&folder, &["build", "counting.bpf.c", "scaling.c"]);
    assert!(out.stderr.contains("name it with `-o FILE.bpf.o`"), "{}", out.stderr);
    let out = skep(&folder, &["build", "scaling.c", "-o", "scaling.c"]);
    assert!(out.stderr.contains("is one of the inputs"), "{}", out.stderr);
    let out = skep(&folder, &["build", "scaling.c", "--unsafe", "-o", "x.o"]);
    assert!(out.stderr.contains("`--unsafe` is for scripts"), "{}", out.stderr);
}

#[test]
fn an_object_needs_few_of_the_kernels_types() {
    if !needs(&[Root, Clang]) {
        return;
    }
    let folder = scratch("link-btf");
    let source = "#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
SEC(\"tp/syscalls/sys_enter_getppid\") int count(void *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();
    return BPF_CORE_READ(task, real_parent, tgid) + bpf_core_field_exists(task->signal);
}
char LICENSE[] SEC(\"license\") = \"GPL\";
";
    std::fs::write(folder.join("parent.bpf.c"), source).unwrap();
    let kernel = "/sys/kernel/btf/vmlinux";
    let out = skep(&folder, &["build", "parent.bpf.c", "-o", "parent.bpf.o"]);
    assert!(out.status.success(), "{}", out.stderr);
    let out = skep(&folder, &["build", "parent.bpf.o", "--min-btf", kernel, "-o", "min.btf"]);
    assert!(out.status.success() && out.stderr.is_empty(), "{}", out.stderr);
    let size = std::fs::metadata(folder.join("min.btf")).unwrap().len();
    assert!(size < 2000, "{size} bytes");
    let with = |btf: &str| {
        let out = skep(&folder, &["load", "--json", "--btf", btf, "parent.bpf.o"]);
        assert!(out.status.success(), "{}{}", out.stdout, out.stderr);
        out.stdout
    };
    assert_eq!(with("min.btf"), with(kernel));
    let out = skep(&folder, &["load", "--btf", "parent.bpf.o", "parent.bpf.o"]);
    assert!(out.stderr.contains("objcopy -O binary --only-section=.BTF"), "{}", out.stderr);
}

#[test]
fn types_of_a_module_and_its_kernel_are_kept_together() {
    if !needs(&[Root, Clang]) {
        return;
    }
    let folder = scratch("link-btf-module");
    let kernel = "/sys/kernel/btf/vmlinux";
    let base = Btf::parse(std::fs::read(kernel).unwrap()).unwrap();
    let task = base.find("task_struct", Kind::STRUCT).unwrap();
    let mut module = Builder::split(&base);
    let pointer = module.add(TypeDef::Ptr(task)).unwrap();
    let member = MemberDef { name: "owner", type_id: pointer, bit_offset: 13 * 64, bitfield_size: None };
    module.add(TypeDef::Struct { name: "skep_of_module", size: 112, members: &[member] }).unwrap();
    std::fs::write(folder.join("module.btf"), module.finish(base.endian()).unwrap()).unwrap();
    let source = "#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct skep_of_module { struct task_struct *owner; } __attribute__((preserve_access_index));
SEC(\"tp/syscalls/sys_enter_getppid\") int count(void *ctx)
{
    struct skep_of_module *it = (void *)bpf_get_current_task();
    return BPF_CORE_READ(it, owner, tgid);
}
char LICENSE[] SEC(\"license\") = \"GPL\";
";
    std::fs::write(folder.join("owner.bpf.c"), source).unwrap();
    let out = skep(&folder, &["build", "owner.bpf.c", "-o", "owner.bpf.o"]);
    assert!(out.status.success(), "{}", out.stderr);
    let out = skep(&folder, &["load", "owner.bpf.o"]);
    assert!(!out.status.success() && out.stdout.contains("skep_of_module"), "{}{}", out.stdout, out.stderr);
    let minimal = ["build", "owner.bpf.o", "--min-btf", "module.btf", "-o", "min.btf"];
    let out = skep(&folder, &minimal);
    assert!(!out.status.success() && out.stderr.contains("--base-btf"), "{}", out.stderr);
    let out = skep(&folder, &[&minimal[..], &["--base-btf", kernel]].concat());
    assert!(out.status.success() && out.stderr.is_empty(), "{}", out.stderr);
    let out = skep(&folder, &["build", "owner.bpf.o", "--min-btf", kernel, "--base-btf", kernel, "-o", "twice.btf"]);
    assert!(!out.status.success() && out.stderr.contains("not those of a module"), "{}", out.stderr);
    let kept = Btf::parse(std::fs::read(folder.join("min.btf")).unwrap()).unwrap();
    assert!(kept.len() < 30, "{} types", kept.len());
    for name in ["skep_of_module", "task_struct"] {
        assert!(kept.find(name, Kind::STRUCT).is_some(), "{name}");
    }
    let out = skep(&folder, &["load", "--btf", "min.btf", "owner.bpf.o"]);
    assert!(out.status.success() && out.stdout.starts_with("ok "), "{}{}", out.stdout, out.stderr);
}
