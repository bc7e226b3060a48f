//! Names inside files, over blazesym.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Symbolized, Symbolizer};

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
        let mut elf = Elf::new(&place.path);
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
pub(crate) fn build_id(path: &Path) -> Option<String> {
    let id = blazesym::helper::read_elf_build_id(path).ok()??;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("lines", &self.lines).finish_non_exhaustive()
    }
}
