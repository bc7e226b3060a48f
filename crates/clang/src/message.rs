//! Clang's text, made fit for the person who wrote the program.
//!
//! The diagnostics themselves stay as they are. What goes: the path of the cache folder (a header of ours reads
//! `<bpf/bpf_helpers.h>`), and the pages that clang prints when its back end gives up (a stack trace, a request to file a
//! bug), of which only the sentence that names the cause is kept.

use std::path::Path;

/// Clang's standard error with skep's own paths and crash reports taken out; ends in a newline unless empty.
pub(crate) fn clean(raw: &[u8], headers: &Path, vmlinux: Option<&Path>) -> String {
    let mut text = String::from_utf8_lossy(raw).into_owned();
    let mut hide = |folder: &Path, with: &str| {
        if let Some(folder) = folder.to_str() {
            text = text.replace(&format!("{folder}/{with}"), "skep:");
        }
    };
    for inner in ["libc/", "uapi/", ""] {
        hide(headers, inner);
    }
    if let Some(folder) = vmlinux {
        hide(folder, "");
    }
    let mut kept = String::new();
    let mut crash = false;
    for line in text.lines() {
        let plain = line.trim_start();
        // The back end's dump of what it could not translate follows its message, indented.
        crash |= plain.starts_with("PLEASE submit a bug report") || plain.starts_with("Stack dump:");
        let noise = crash && !plain.contains("error:");
        let noise = noise || plain.starts_with("clang: error: clang frontend command failed");
        if !noise {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// What a compile has for vmlinux.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    Nothing,
    /// [`Vmlinux::short`](crate::Vmlinux::short).
    Short,
    Whole,
}

/// What skep can add to an error that clang sees only half of.
pub(crate) fn hint(text: &str, vmlinux: Has) -> Option<String> {
    const WANTED: &str = "put a vmlinux.h beside the source, for instance one made with `bpftool btf dump file ... format c` on another machine";
    if vmlinux == Has::Nothing && text.contains("'vmlinux.h' file not found") {
        return Some(format!(
            "vmlinux.h is made from the kernel's BTF, and there is none here (/sys/kernel/btf/vmlinux); {WANTED}"
        ));
    }
    // A type that is only named, a member or an enumerator that is not there.
    let lacks = ["incomplete", "no member named", "unknown type name", "undeclared identifier", "will not be visible"];
    if vmlinux == Has::Short && lacks.iter().any(|lack| text.contains(lack)) {
        return Some(format!(
            "the kernel tells no types here (/sys/kernel/btf/vmlinux), so vmlinux.h has only what programs need that run without it \
             (`--engine user`); for more, {WANTED}"
        ));
    }
    if text.contains("unsupported signed division") || text.contains("Unsupport signed division") {
        return Some(
            "BPF divides signed numbers only since -mcpu=v4 (kernel 6.6): make the operands unsigned".to_owned(),
        );
    }
    if text.contains("changed binding to STB_GLOBAL") {
        return Some("a function must not have the name of its own section: rename the function".to_owned());
    }
    if text.contains("redefinition of") && text.contains("skep:vmlinux.h") && text.contains("/linux/") {
        return Some(
            "vmlinux.h already has every type of the kernel's headers: include it first, then those headers bring only \
             their macros"
                .to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_paths_are_taken_out() {
        let raw = b"In file included from a.c:1:\n/c/skep/h/bpf/bpf_helpers.h:3:1: error: x\n/c/skep/h/libc/string.h:1: y\n/c/v/vmlinux.h:9: z\n";
        let text = clean(raw, Path::new("/c/skep/h"), Some(Path::new("/c/v")));
        assert_eq!(
            text,
            "In file included from a.c:1:\nskep:bpf/bpf_helpers.h:3:1: error: x\nskep:string.h:1: y\nskep:vmlinux.h:9: z\n"
        );
    }

    #[test]
    fn a_crash_keeps_its_cause_only() {
        let raw = b"fatal error: error in backend: Cannot select: sdiv\nPLEASE submit a bug report to x\nStack dump:\n0. Program\n #0 0x7f\nclang: error: clang frontend command failed with exit code 70\n";
        assert_eq!(clean(raw, Path::new("/h"), None), "fatal error: error in backend: Cannot select: sdiv\n");
    }

    #[test]
    fn a_missing_vmlinux_is_explained() {
        let text = "a.c:1:10: fatal error: 'vmlinux.h' file not found\n";
        assert!(hint(text, Has::Nothing).unwrap().contains("/sys/kernel/btf/vmlinux"));
        assert_eq!(hint(text, Has::Whole), None);
        let text = "a.c:3:9: error: incomplete definition of type 'struct sock'\n";
        assert!(hint(text, Has::Short).unwrap().contains("`--engine user`"));
        assert_eq!(hint(text, Has::Whole), None);
    }
}
