//! Imports: other scripts, C headers, and folders of both.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use crate::ast::{Block, CKind, CPart, Import, Item, Script, Stmt, StmtKind};
use crate::walk::{self, Walk};
use crate::{Diagnostic, SourceId, Sources, Span, Target, parser};

/// So many files at most, so that a folder taken by mistake ends soon.
const FILES_MAX: usize = 256;

/// Puts the items of imported scripts in the places of the imports. A file that was imported before is not read again.
pub(super) fn splice(
    script: &mut Script,
    sources: &mut Sources,
    target: &dyn Target,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut importer = Importer { sources, target, diagnostics, seen: HashSet::new(), c_parts: Vec::new() };
    // A script may import a file that imports the script.
    if let Some(first) = script.items.iter().find_map(own_source) {
        let name = importer.sources.get(first).name.clone();
        importer.seen.insert(normal(Path::new(&name)));
    }
    script.items = importer.items(std::mem::take(&mut script.items));
    script.c_parts.append(&mut importer.c_parts);
}

fn own_source(item: &Item) -> Option<SourceId> {
    Some(match item {
        Item::Import(import) => import.span.source,
        Item::Probe(probe) => probe.span.source,
        Item::Macro(definition) => definition.span.source,
        Item::MapDecl(declaration) => declaration.span.source,
        Item::Function(function) => function.span.source,
    })
}

struct Importer<'a> {
    sources: &'a mut Sources,
    target: &'a dyn Target,
    diagnostics: &'a mut Vec<Diagnostic>,
    seen: HashSet<PathBuf>,
    c_parts: Vec<CPart>,
}

/// An item on its way out, or what an import brought.
enum Work {
    Item(Item),
    File(PathBuf, Span),
}

impl Importer<'_> {
    /// The items with imports replaced, those of imported scripts too. The way is a stack, not recursion, so that no chain of
    /// imports is too long.
    fn items(&mut self, items: Vec<Item>) -> Vec<Item> {
        let mut done = Vec::new();
        let mut work: Vec<Work> = items.into_iter().rev().map(Work::Item).collect();
        while let Some(next) = work.pop() {
            match next {
                Work::Item(Item::Import(import)) => {
                    work.extend(self.files(&import).into_iter().rev().map(|path| Work::File(path, import.span)));
                }
                Work::Item(mut item) => {
                    let inner = self.inner_imports(&mut item);
                    done.push(item);
                    for import in inner.iter().rev() {
                        work.extend(self.files(import).into_iter().rev().map(|path| Work::File(path, import.span)));
                    }
                }
                Work::File(path, span) => work.extend(self.file(&path, span).into_iter().rev().map(Work::Item)),
            }
        }
        done
    }

    /// The imports inside a macro, which are taken out of it: what they bring stands at the root like everything else.
    fn inner_imports(&mut self, item: &mut Item) -> Vec<Import> {
        let mut found = Found(Vec::new());
        walk::item(&mut found, item);
        if !matches!(item, Item::Macro(_)) {
            for import in found.0.drain(..) {
                let text = "import can only be used at the root of a script and in macros";
                self.diagnostics.push(Diagnostic::error(import.span, text));
            }
        }
        found.0
    }

    /// The files that an import means.
    fn files(&mut self, import: &Import) -> Vec<PathBuf> {
        let from = PathBuf::from(&self.sources.get(import.span.source).name);
        let path = normal(&from.parent().unwrap_or(Path::new("")).join(&import.path));
        match self.target.list_dir(&path) {
            Ok(None) => vec![path],
            Ok(Some(files)) => files.into_iter().filter(|file| kind(file) != Kind::Other).collect(),
            Err(error) => {
                let text = format!("cannot list `{}`: {error}", path.display());
                self.diagnostics.push(Diagnostic::error(import.span, text));
                Vec::new()
            }
        }
    }

    /// Reads one file. The items of a script are returned, a header joins the C parts.
    fn file(&mut self, path: &Path, span: Span) -> Vec<Item> {
        let mut refuse = |text: String, hint: &str| {
            let diagnostic = Diagnostic::error(span, text);
            self.diagnostics.push(if hint.is_empty() { diagnostic } else { diagnostic.with_hint(hint) });
            Vec::new()
        };
        let shown = path.display();
        match kind(path) {
            Kind::Script | Kind::Header => {}
            Kind::Program => {
                return refuse(
                    format!(
                        "cannot import `{shown}`: a BPF program in C needs a C compiler, and scripts are compiled without one"
                    ),
                    "write the part as a macro in a .bt file, or run the program on its own with `skep run`",
                );
            }
            Kind::Other => {
                return refuse(
                    format!("cannot import `{shown}`: neither a script, a header nor a folder"),
                    "import a .bt file, a .h file, or a folder with such files",
                );
            }
        }
        if self.seen.len() >= FILES_MAX {
            return refuse(format!("more than {FILES_MAX} files are imported"), "");
        }
        if !self.seen.insert(normal(path)) {
            return Vec::new();
        }
        let text = match self.target.read_file(path) {
            Ok(text) => text,
            Err(error) => {
                let error = error.to_string();
                let why = error.strip_prefix(&format!("cannot read `{shown}`: ")).unwrap_or(&error);
                return refuse(format!("cannot import `{shown}`: {why}"), "");
            }
        };
        let len = text.len();
        let id = self.sources.add(shown.to_string(), text);
        if kind(path) == Kind::Header {
            self.c_parts.push(CPart { kind: CKind::Header, span: Span::new(id, 0, len) });
            return Vec::new();
        }
        let (mut script, mut diagnostics) = parser::parse(self.sources, id);
        self.diagnostics.append(&mut diagnostics);
        if let Some(config) = script.config {
            let text = "a config block can only be in the main script";
            self.diagnostics.push(Diagnostic::error(config.span, text));
        }
        self.c_parts.append(&mut script.c_parts);
        script.items
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Script,
    Header,
    Program,
    Other,
}

fn kind(path: &Path) -> Kind {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("bt") => Kind::Script,
        Some("h") => Kind::Header,
        Some("c" | "o") => Kind::Program,
        _ => Kind::Other,
    }
}

/// Without `.` and, where the name before it is known, `..`: only to know a file again.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// Takes imports out of blocks.
struct Found(Vec<Import>);

impl Walk for Found {
    fn block(&mut self, node: &mut Block) {
        node.stmts.retain(|stmt| match &stmt.kind {
            StmtKind::Import(import) => {
                self.0.push(import.clone());
                false
            }
            _ => true,
        });
        walk::block(self, node);
    }

    fn stmt(&mut self, node: &mut Stmt) {
        walk::stmt(self, node);
    }
}
