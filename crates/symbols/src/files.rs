//! Names inside files, over blazesym.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Symbolized, Symbolizer};

use skep_sys::inside::open_inside;

use crate::{FilePlace, Inlined, Line, Options, Symbol};

pub(crate) struct Files {
    symbolizer: Symbolizer,
    lines: bool,
}

impl Files {
    pub(crate) fn new(options: Options) -> Files {
        let symbolizer = Symbolizer::builder()
            .enable_code_info(options.lines)
            .enable_inlined_fns(options.lines)
            .enable_demangling(options.demangle)
            .build();
        Files { symbolizer, lines: options.lines }
    }

    pub(crate) fn find(&self, place: &FilePlace) -> Option<Symbol<'static>> {
        let opened = Opened::of(place)?;
        let mut elf = Elf::new(opened.path());
        elf.debug_syms = self.lines;
        let found = self.symbolizer.symbolize_single(&Source::Elf(elf), Input::FileOffset(place.off_bytes)).ok()?;
        let Symbolized::Sym(sym) = found else { return None };
        // Nested calls come outermost first.
        let inlined = sym.inlined.iter().rev().map(|inlined| Inlined {
            name: inlined.name.clone().into_owned(),
            line: inlined.code_info.as_ref().and_then(line),
        });
        Some(Symbol {
            name: Cow::Owned(sym.name.clone().into_owned()),
            off_bytes: sym.offset as u64,
            module: Some(Cow::Owned(place.shown.clone())),
            line: sym.code_info.as_deref().and_then(line),
            inlined: inlined.collect(),
        })
    }
}

fn line(info: &CodeInfo<'_>) -> Option<Line> {
    Some(Line { file: info.to_path().to_string_lossy().into_owned(), line: info.line? })
}

/// The build id in a file's notes, as lower case hex.
pub(crate) fn build_id(place: &FilePlace) -> Option<String> {
    let id = blazesym::helper::read_elf_build_id(Opened::of(place)?.path()).ok()??;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file that may be opened by its path: one of our own, or one of a container that was opened inside of its root and lives as
/// long as this value.
enum Opened<'p> {
    Own(&'p Path),
    Inside { _file: File, path: PathBuf },
}

impl Opened<'_> {
    /// `None` when the container has something else there by now.
    fn of(place: &FilePlace) -> Option<Opened<'_>> {
        // What is not below the root leads through a mapping, which is a file.
        match place.root.as_deref().and_then(|root| Some((root, place.path.strip_prefix(root).ok()?))) {
            Some((root, inside)) => {
                let file = open_inside(root, inside).ok()?;
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                Some(Opened::Inside { _file: file, path })
            }
            None => Some(Opened::Own(&place.path)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Opened::Own(path) => path,
            Opened::Inside { path, .. } => path,
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("lines", &self.lines).finish_non_exhaustive()
    }
}
