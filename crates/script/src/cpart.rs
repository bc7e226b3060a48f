//! The C part of a script: preprocessor lines and declarations before the first probe, and the headers that they include.
//!
//! Three steps: [`token`] cuts text into tokens, the preprocessor here obeys `#` lines and expands [`macros`], and
//! [`declare`] reads what is left. What types and constants mean is for [`structs`](crate::structs), which knows the machine
//! too.
//!
//! # Headers
//!
//! A file that is found in the folders of `-I`, or beside the script when it is quoted, is read. Every other header is the
//! kernel's or the C library's: its types come from the machine's BTF and its constants from [`uapi`], so its `#include` only
//! says what the script leans on. On a machine without BTF that is not enough, and the message says so.
//!
//! Every script has `BPFTRACE_HAVE_BTF` (when it is true), `LINUX_VERSION_CODE`, `KERNEL_VERSION(a, b, c)`, `__KERNEL__` and
//! `__bpf__`.

mod cursor;
pub(crate) mod declare;
pub(crate) mod expr;
mod macros;
mod token;
pub(crate) mod uapi;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use self::declare::Declarations;
use self::macros::{MAX_TOKENS, Macro, Macros};
use self::token::{Origin, Token, TokenKind, tokens};
use crate::ast::{CKind, Expr, TypeExpr};
use crate::diagnostic::Diagnostic;
use crate::options::Options;
use crate::source::Sources;
use crate::target::Target;
use crate::{Span, ast};

/// How deep files may include each other.
const MAX_INCLUDES: usize = 64;

/// How many tokens all files may have together: about 20 MB of text.
const MAX_INPUT: usize = 4 << 20;

/// What a C part declares.
#[derive(Default)]
pub(crate) struct CPart {
    pub(crate) macros: Macros,
    pub(crate) declarations: Declarations,
    /// Spans of `#include` lines whose files were read.
    included: HashSet<Span>,
}

impl CPart {
    /// Whether what stands at `span` comes from an included file.
    pub(crate) fn is_included(&self, span: Span) -> bool {
        self.included.contains(&span)
    }
}

/// Reads a C part. What is wrong in it is reported; the rest is there.
pub(crate) fn read(
    parts: &[ast::CPart],
    sources: &Sources,
    options: &Options,
    target: &dyn Target,
) -> (CPart, Vec<Diagnostic>) {
    let mut reader = Preprocessor::new(options, target);
    if parts.is_empty() && options.includes.is_empty() {
        return (CPart { macros: reader.macros, ..CPart::default() }, Vec::new());
    }
    if target.btf().is_ok_and(|btf| btf.is_some()) {
        reader.macros.define_text("BPFTRACE_HAVE_BTF", None, "1");
    }
    for path in &options.includes {
        reader.include_given(path);
    }
    for part in parts {
        let source = sources.get(part.span.source);
        let here = Path::new(&source.name).parent().map(Path::to_owned).unwrap_or_default();
        let text = sources.text(part.span);
        debug_assert!(matches!(part.kind, CKind::Directive | CKind::Declaration | CKind::Header));
        let origin = Origin::Script(part.span.source, part.span.start);
        reader.text(text, origin, &here);
    }
    if let Some(open) = reader.conditions.first() {
        let error = Diagnostic::error(open.span, "unterminated conditional directive");
        reader.diagnostics.push(error.with_hint("write #endif behind what depends on it"));
    }
    let included = reader.included;
    let (declarations, mistakes) = declare::read(&reader.out, &|span| included.contains(&span));
    reader.diagnostics.extend(mistakes);
    (CPart { macros: reader.macros, declarations, included }, reader.diagnostics)
}

struct Preprocessor<'a> {
    options: &'a Options,
    target: &'a dyn Target,
    macros: Macros,
    /// What is not a directive, macros expanded.
    out: Vec<Token>,
    conditions: Vec<Condition>,
    diagnostics: Vec<Diagnostic>,
    /// Files that are being read.
    files: Vec<PathBuf>,
    /// Files that said `#pragma once`.
    once: HashSet<PathBuf>,
    /// Spans of `#include` lines whose files were read.
    included: HashSet<Span>,
    /// Tokens that may still come.
    left: usize,
}

/// An `#if` that is open.
struct Condition {
    /// What follows is read.
    active: bool,
    /// A branch was read, so no later one is.
    taken: bool,
    /// What is around it is read.
    outer: bool,
    otherwise: bool,
    span: Span,
}

impl<'a> Preprocessor<'a> {
    fn new(options: &'a Options, target: &'a dyn Target) -> Preprocessor<'a> {
        let mut macros = Macros::default();
        macros.define_text("__KERNEL__", None, "1");
        macros.define_text("__bpf__", None, "1");
        macros.define_text("LINUX_VERSION_CODE", None, &target.kernel_version().to_string());
        macros.define_text("KERNEL_VERSION", Some(&["a", "b", "c"]), "(((a) << 16) + ((b) << 8) + (c))");
        Preprocessor {
            options,
            target,
            macros,
            out: Vec::new(),
            conditions: Vec::new(),
            diagnostics: Vec::new(),
            files: Vec::new(),
            once: HashSet::new(),
            included: HashSet::new(),
            left: MAX_INPUT,
        }
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        let message = match self.files.last() {
            Some(file) => format!("in {}: {}", file.display(), message.into()),
            None => message.into(),
        };
        self.diagnostics.push(Diagnostic::error(span, message));
    }

    fn is_active(&self) -> bool {
        self.conditions.last().is_none_or(|it| it.active)
    }

    /// Reads a text; `here` is the folder for quoted includes.
    fn text(&mut self, text: &str, origin: Origin, here: &Path) {
        let all = tokens(text, origin);
        let Some(left) = self.left.checked_sub(all.len()) else {
            let span = all.first().map(|token| token.span).unwrap_or_default();
            self.error(span, "the C part is too long");
            return;
        };
        self.left = left;
        let mut at = 0;
        let mut plain = at;
        while let Some(token) = all.get(at) {
            if !(token.first && is_hash(token)) {
                at += 1;
                continue;
            }
            self.plain(&all[plain..at]);
            let end = at + 1 + all[at + 1..].iter().take_while(|token| !token.first).count();
            self.directive(text, token.span, &all[at + 1..end], here);
            at = end;
            plain = end;
        }
        self.plain(&all[plain..]);
    }

    /// Tokens between two directives.
    fn plain(&mut self, tokens: &[Token]) {
        if tokens.is_empty() || !self.is_active() {
            return;
        }
        // In pieces, so that the limit of an expansion is that of one declaration's line and not of a whole header.
        for piece in tokens.chunk_by(|before, _| !before.is(";")) {
            match self.macros.expand(piece) {
                Ok(expanded) if self.out.len() + expanded.len() <= MAX_INPUT => self.out.extend(expanded),
                Ok(_) => return self.error(piece[0].span, "macros expand to too much"),
                Err(message) => self.error(piece[0].span, message),
            }
        }
    }

    fn directive(&mut self, text: &str, hash: Span, tokens: &[Token], here: &Path) {
        let Some(name) = tokens.first() else { return };
        let span = hash.to(name.span);
        let rest = &tokens[1..];
        let active = self.is_active();
        match name.ident().map(|it| &**it) {
            Some("if") => {
                let holds = active && self.condition(span, rest);
                self.open(holds, active, span);
            }
            Some(word @ ("ifdef" | "ifndef")) => {
                let Some(wanted) = rest.first().and_then(Token::ident) else {
                    self.error(span, "macro name missing");
                    return self.open(false, active, span);
                };
                let holds = self.is_defined(wanted) == (word == "ifdef");
                self.open(active && holds, active, span);
            }
            Some(word @ ("elif" | "else")) => {
                let open = self.conditions.last().map(|it| (it.otherwise, it.taken, it.outer));
                let Some((otherwise, taken, outer)) = open else {
                    return self.error(span, format!("#{word} without #if"));
                };
                if otherwise {
                    return self.error(span, format!("#{word} after #else"));
                }
                let active = outer && !taken && (word == "else" || self.condition(span, rest));
                if let Some(open) = self.conditions.last_mut() {
                    open.active = active;
                    open.taken |= active;
                    open.otherwise = word == "else";
                }
            }
            Some("endif") => {
                if self.conditions.pop().is_none() {
                    self.error(span, "#endif without #if");
                }
            }
            _ if !active => {}
            Some("define") => self.define(span, rest),
            Some("undef") => match rest.first().and_then(Token::ident) {
                Some(name) => self.macros.undefine(name),
                None => self.error(span, "macro name missing"),
            },
            Some("include" | "include_next" | "import") => self.include(text, span, rest, here),
            Some("error") => {
                let said: Vec<String> = rest.iter().map(Token::shown).collect();
                self.error(span, format!("#error {}", said.join(" ")));
            }
            Some("pragma") => match rest.first().and_then(Token::ident).map(|it| &**it) {
                Some("once") => self.once.extend(self.files.last().cloned()),
                Some("pack") => {
                    self.error(span, "#pragma pack is not supported");
                    if let Some(last) = self.diagnostics.last_mut() {
                        last.hints.push("write __attribute__((packed)) behind the struct".to_owned());
                    }
                }
                _ => {}
            },
            Some("warning" | "line" | "ident") => {}
            _ => {
                self.error(span, format!("invalid preprocessing directive #{}", name.shown()));
                if let Some(last) = self.diagnostics.last_mut() {
                    last.hints.push("a comment begins with `//`".to_owned());
                }
            }
        }
    }

    fn open(&mut self, active: bool, outer: bool, span: Span) {
        if self.conditions.len() >= MAX_TOKENS {
            return self.error(span, "too many #if inside each other");
        }
        self.conditions.push(Condition { active, taken: active, outer, otherwise: false, span });
    }

    fn is_defined(&self, name: &str) -> bool {
        self.macros.is_defined(name) || uapi::number(name).is_some()
    }

    /// Whether the condition of an `#if` holds.
    fn condition(&mut self, span: Span, tokens: &[Token]) -> bool {
        let mut replaced = Vec::new();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            if token.ident().is_none_or(|it| &**it != "defined") {
                replaced.push(token.clone());
                continue;
            }
            let parens = tokens.get(at).is_some_and(|next| next.is("("));
            let name = tokens.get(at + usize::from(parens)).and_then(Token::ident);
            let Some(name) = name else {
                self.error(span, "macro name missing behind `defined`");
                return false;
            };
            at += 1 + 2 * usize::from(parens);
            let value = u64::from(self.is_defined(name));
            replaced.push(Token { kind: TokenKind::Int(value), ..token.clone() });
        }
        let value = self
            .macros
            .expand(&replaced)
            .and_then(|tokens| expr::parse(&tokens))
            .and_then(|tree| expr::value(&words_are_zero(tree), &Nothing));
        match value {
            Ok(value) => value != 0,
            Err(message) => {
                self.error(span, format!("condition is no constant expression: {message}"));
                false
            }
        }
    }

    fn define(&mut self, span: Span, tokens: &[Token]) {
        let Some((name, rest)) = tokens.split_first() else { return self.error(span, "macro name missing") };
        let Some(word) = name.ident() else {
            return self.error(span, format!("macro name must be an identifier, not {}", name.shown()));
        };
        // A parenthesis right behind the name makes it a macro like a function.
        let like_function = rest.first().is_some_and(|next| next.is("(") && next.start == name.end);
        if !like_function {
            return self.macros.define(word, Macro { params: None, variadic: false, body: rest.to_vec() });
        }
        let mut params: Vec<Rc<str>> = Vec::new();
        let mut variadic = false;
        let mut at = 1;
        loop {
            match rest.get(at).map(|token| &token.kind) {
                Some(TokenKind::Ident(param)) => params.push(param.clone()),
                Some(TokenKind::Sign("...")) => variadic = true,
                Some(TokenKind::Sign(",")) => {}
                Some(TokenKind::Sign(")")) => break,
                _ => return self.error(span, format!("parameters of macro {word} have no end")),
            }
            at += 1;
        }
        let body = rest[at + 1..].to_vec();
        self.macros.define(word, Macro { params: Some(params), variadic, body });
    }

    fn include(&mut self, text: &str, span: Span, tokens: &[Token], here: &Path) {
        let (name, quoted) = match tokens {
            [Token { kind: TokenKind::Str(name), .. }, ..] => (String::from_utf8_lossy(name).into_owned(), true),
            [open, .., close] if open.is("<") && close.is(">") => {
                (text.get(open.end as usize..close.start as usize).unwrap_or_default().trim().to_owned(), false)
            }
            _ => return self.error(span, "expected \"FILE\" or <FILE> behind #include"),
        };
        if self.files.len() >= MAX_INCLUDES {
            return self.error(span, format!("files include each other more than {MAX_INCLUDES} deep"));
        }
        let folders = quoted.then(|| here.to_owned()).into_iter().chain(self.options.include_dirs.iter().cloned());
        for folder in folders.collect::<Vec<_>>() {
            if self.include_file(&folder.join(&name), span) {
                return;
            }
        }
        let has_btf = self.macros.is_defined("BPFTRACE_HAVE_BTF");
        // Headers of the kernel and of the C library are in the machine's types.
        if quoted || !uapi::is_header(&name) {
            self.error(span, format!("'{name}' file not found"));
        } else if !has_btf {
            self.error(span, format!("'{name}' file not found, and this machine has no BTF to take its types from"));
            if let Some(last) = self.diagnostics.last_mut() {
                last.hints.push("name the folder of the headers with -I".to_owned());
            }
        }
    }

    /// A file that the command line names: as it is, in a folder of `-I`, or a header that the machine's types stand for.
    fn include_given(&mut self, path: &Path) {
        let folders: Vec<PathBuf> = self.options.include_dirs.iter().map(|folder| folder.join(path)).collect();
        let found = std::iter::once(path).chain(folders.iter().map(PathBuf::as_path));
        let found = found.into_iter().any(|path| self.include_file(path, Span::default()));
        let name = path.to_string_lossy();
        let is_in_types = self.macros.is_defined("BPFTRACE_HAVE_BTF") && uapi::is_header(&name);
        if !found && !is_in_types {
            let error =
                Diagnostic { span: None, ..Diagnostic::error(Span::default(), format!("'{name}' file not found")) };
            self.diagnostics.push(error.with_hint("--include names a file, or a header in a folder of -I"));
        }
    }

    /// Reads a file when it is there.
    fn include_file(&mut self, path: &Path, span: Span) -> bool {
        if self.once.contains(path) {
            return true;
        }
        let Ok(text) = self.target.read_file(path) else { return false };
        self.included.insert(span);
        self.files.push(path.to_owned());
        let open = self.conditions.len();
        let here = path.parent().map(Path::to_owned).unwrap_or_default();
        self.text(&text, Origin::Included(span), &here);
        if self.conditions.len() > open {
            self.error(span, "unterminated conditional directive");
            self.conditions.truncate(open);
        }
        self.files.pop();
        true
    }
}

fn is_hash(token: &Token) -> bool {
    matches!(&token.kind, TokenKind::Other(it) if &**it == "#")
}

/// The words that are left in a condition are 0, and calls of what is no macro too.
fn words_are_zero(mut tree: Expr) -> Expr {
    let zero = |span| Expr { kind: ast::ExprKind::Int { value: 0, duration: false }, span };
    let span = tree.span;
    let mut left = MAX_TOKENS;
    expr::rewrite(&mut tree, span, &mut left, &mut |_| Some(zero(span)));
    tree
}

/// Nothing is known: conditions are decided before there are types.
struct Nothing;

impl expr::Known for Nothing {
    fn word(&self, _: &str) -> Option<i128> {
        None
    }

    fn size_of(&self, _: &TypeExpr) -> Option<u64> {
        None
    }
}
