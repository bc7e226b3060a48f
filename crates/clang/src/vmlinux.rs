//! `vmlinux.h`: all types of a kernel as one C header, and the same precompiled.
//!
//! The header is the C dump of the kernel's BTF (some 135,000 lines). Reading it costs clang 240 of the 280 ms that a small
//! program takes, nearly all of them the same each time, so it is also kept as clang's own dump of what it has read, a
//! *precompiled header*. Clang takes one only under two conditions, and they shape the rules here:
//!
//! 1. **Same compiler, same flags.** The file is named after the compiler, all flags that matter and the BTF.
//! 2. **It comes first.** `-include-pch` acts before the first line of the source. That is right only if `vmlinux.h` is what
//!    the source begins with anyway. [`begins_with`] reads the source as far as its first directive and follows quoted
//!    includes of the user's own headers; comments, include guards and `#pragma once` may stand before, nothing else: a
//!    `#define` could change what vmlinux.h says (`BPF_NO_PRESERVE_ACCESS_INDEX`). The `#include "vmlinux.h"` itself then
//!    meets its include guard and costs nothing.
//!
//! In every other case, and whenever clang refuses a precompiled header, the text is included as usual. A `vmlinux.h`
//! beside the source or in a `-I` folder is the user's choice and wins; it is not precompiled.
//!
//! Where no kernel tells its types there is a short header instead ([`Vmlinux::short`]).

use std::cell::OnceCell;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use skep_btf::{Btf, dump};

use crate::Error;
use crate::cache::Cache;
use crate::hash::{Digest, Hasher};

/// What `vmlinux.h` is made from. Nothing is computed before a source asks for the header.
pub struct Vmlinux<'a> {
    bytes: &'a [u8],
    make: Box<dyn Fn() -> Result<String, String> + 'a>,
    digest: OnceCell<Digest>,
    is_short: bool,
}

/// The text of [`Vmlinux::short`].
const SHORT: &str = include_str!("vmlinux/short.h");

impl fmt::Debug for Vmlinux<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmlinux").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl<'a> Vmlinux<'a> {
    /// A header that `make` prints from `bytes`; equal bytes must give equal headers.
    pub fn new(bytes: &'a [u8], make: impl Fn() -> Result<String, String> + 'a) -> Vmlinux<'a> {
        Vmlinux { bytes, make: Box::new(make), digest: OnceCell::new(), is_short: false }
    }

    /// A header for machines whose kernel tells no types: what programs need that run without the kernel (contexts, maps, packets, and of tasks what
    /// everybody may know). Programs on other structures do not compile with it, and are told why.
    pub fn short() -> Vmlinux<'static> {
        Vmlinux { is_short: true, ..Vmlinux::from_text(SHORT) }
    }

    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// A header that exists already, for instance one written by `bpftool btf dump`.
    pub fn from_text(text: &'a str) -> Vmlinux<'a> {
        Vmlinux::new(text.as_bytes(), move || Ok(text.to_owned()))
    }

    pub(crate) fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Hasher::new().part(PRELUDE).part(self.bytes).finish())
    }

    /// The folder in the cache that holds `vmlinux.h`, which is written if it is not there.
    pub(crate) fn install(&self, cache: &Cache) -> Result<PathBuf, Error> {
        let folder = cache.path("vmlinux").join(self.digest().to_string());
        let header = folder.join("vmlinux.h");
        if !header.is_file() {
            let text = (self.make)().map_err(|reason| Error::Vmlinux { reason })?;
            cache.put(&header, &[PRELUDE.as_bytes(), text.as_bytes()])?;
        }
        Ok(folder)
    }
}

/// The types of a kernel, or of anything else that has BTF.
impl<'a> From<&'a Btf> for Vmlinux<'a> {
    fn from(btf: &'a Btf) -> Vmlinux<'a> {
        Vmlinux::new(btf.as_bytes(), move || {
            let mut text = String::new();
            // Enumerations of one or eight bytes must keep their size, or structures get another layout than the kernel's.
            let done = dump::Dumper::new(btf, &mut text).sized_enums(true).dump_all();
            done.map(|()| text).map_err(|error| error.to_string())
        })
    }
}

/// Stands before the dump, so that <stdbool.h> and its like may come before vmlinux.h: the dump has a typedef and
/// enumerators of these names.
const PRELUDE: &str = "\
#undef bool
#undef true
#undef false
";

/// Whether vmlinux.h is the first thing that a source contains, and so may be precompiled.
pub(crate) fn begins_with(source: &Path, folders: &[PathBuf]) -> bool {
    leads_to_vmlinux(source, folders, 8)
}

fn leads_to_vmlinux(file: &Path, folders: &[PathBuf], depth: u32) -> bool {
    let Ok(bytes) = fs::read(file) else { return false };
    let text = String::from_utf8_lossy(&bytes);
    let text = without_comments(&text);
    // Inside an include guard, its macro is defined next.
    let mut guard: Option<&str> = None;
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let Some(directive) = line.strip_prefix('#') else { return false };
        let directive = directive.trim_start();
        let (word, rest) = directive.split_at(directive.find(|c: char| !c.is_alphabetic()).unwrap_or(directive.len()));
        match (word, rest.trim()) {
            ("pragma", "once") => {}
            ("ifndef", name) if guard.is_none() => guard = Some(name),
            ("define", name) if guard.is_some() && guard == name.split_whitespace().next() => {}
            ("include", name) => {
                if matches!(name, "\"vmlinux.h\"" | "<vmlinux.h>") {
                    let beside = file.parent().map(Path::to_owned);
                    return !beside.iter().chain(folders).any(|folder| folder.join("vmlinux.h").exists());
                }
                let Some(name) = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) else { return false };
                let next = file.parent().into_iter().chain(folders.iter().map(PathBuf::as_path));
                let next = next.map(|folder| folder.join(name)).find(|path| path.is_file());
                return depth > 0 && next.is_some_and(|next| leads_to_vmlinux(&next, folders, depth - 1));
            }
            _ => return false,
        }
    }
    false
}

/// The text with every comment turned into a space; strings do not matter before the first line of code.
fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with("//") {
            rest.find('\n')
        } else if rest.starts_with("/*") {
            rest.find("*/").map(|end| end + 2)
        } else {
            plain.push('/');
            rest = &rest[1..];
            continue;
        };
        plain.push(' ');
        rest = &rest[end.unwrap_or(rest.len())..];
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(name: &str, files: &[(&str, &str)]) -> bool {
        let folder = std::env::temp_dir().join(format!("skep-begins-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        let begins = begins_with(&folder.join(files[0].0), &[]);
        fs::remove_dir_all(folder).unwrap();
        begins
    }

    #[test]
    fn the_first_include_decides() {
        assert!(begins("plain", &[("a.c", "// text\n/* more\n */\n#include \"vmlinux.h\"\nint x;\n")]));
        assert!(begins("angle", &[("a.c", "# include <vmlinux.h> // all types\n")]));
        assert!(!begins("second", &[("a.c", "#include <bpf/bpf_helpers.h>\n#include \"vmlinux.h\"\n")]));
        assert!(!begins("never", &[("a.c", "#include <linux/bpf.h>\n")]));
        assert!(!begins("code", &[("a.c", "int x;\n#include \"vmlinux.h\"\n")]));
        assert!(!begins("hidden", &[("a.c", "/* #include \"vmlinux.h\" */\n")]));
        assert!(!begins("empty", &[("a.c", "")]));
    }

    #[test]
    fn a_define_before_it_forbids_precompiling() {
        assert!(!begins("define", &[("a.c", "#define BPF_NO_PRESERVE_ACCESS_INDEX\n#include \"vmlinux.h\"\n")]));
        assert!(!begins("if", &[("a.c", "#ifdef X\n#include \"vmlinux.h\"\n#endif\n")]));
    }

    #[test]
    fn own_headers_are_followed_through_their_guards() {
        let own = "#ifndef OWN_H\n#define OWN_H\n#include \"vmlinux.h\"\n#endif\n";
        assert!(begins("guard", &[("a.c", "#include \"own.h\"\n"), ("own.h", own)]));
        assert!(begins(
            "once",
            &[("a.c", "#include \"own.h\"\n"), ("own.h", "#pragma once\n#include \"vmlinux.h\"\n")]
        ));
        assert!(!begins("loop", &[("a.c", "#include \"a.c\"\n")]));
    }

    #[test]
    fn a_header_of_the_users_own_is_left_to_clang() {
        assert!(!begins("theirs", &[("a.c", "#include \"vmlinux.h\"\n"), ("vmlinux.h", "typedef int u32;\n")]));
    }
}
