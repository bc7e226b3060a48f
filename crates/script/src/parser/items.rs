//! The root of a script: C, config, imports, probes, macros, map declarations and subprograms.

use super::{Parsed, Parser, points};
use crate::ast::{
    CKind, CPart, Config, ConfigEntry, ConfigValue, Function, Import, Item, Macro, MacroParam, MapDecl, Probe,
};
use crate::lexer::{self, Kind, Punct};

impl Parser<'_> {
    pub(super) fn script(&mut self) {
        let mut start = 0;
        if self.text.starts_with("#!") {
            start = self.text.find('\n').unwrap_or(self.text.len());
            self.out.shebang = Some(self.span(0, self.text[..start].trim_end().len()));
        }
        self.seek(start);
        while self.token.kind != Kind::Eof {
            let before = self.token.start;
            self.depth = 0;
            self.predicate = false;
            self.params.clear();
            if self.item().is_err() {
                self.skip_item(before);
            }
        }
    }

    fn item(&mut self) -> Parsed<()> {
        if self.is(Punct::Hash) {
            return self.directive();
        }
        if self.token.kind == Kind::Ident {
            let second = self.second();
            match self.text_of(self.token) {
                "struct" | "union" | "enum" | "typedef" if second.kind != Kind::Punct(Punct::Colon) => {
                    return self.declaration();
                }
                "config" if second.kind == Kind::Punct(Punct::Assign) => return self.config(),
                "import" => {
                    let import = self.import()?;
                    self.eat(Punct::Semi);
                    self.out.items.push(Item::Import(import));
                    return Ok(());
                }
                "macro" if second.kind == Kind::Ident => {
                    let definition = self.macro_definition()?;
                    self.out.items.push(Item::Macro(definition));
                    return Ok(());
                }
                "let" => {
                    let declaration = self.map_declaration()?;
                    self.out.items.push(Item::MapDecl(declaration));
                    return Ok(());
                }
                "fn" if second.kind == Kind::Ident => {
                    let function = self.function()?;
                    self.out.items.push(Item::Function(function));
                    return Ok(());
                }
                _ => {}
            }
        }
        let probe = self.probe()?;
        self.out.items.push(Item::Probe(probe));
        Ok(())
    }

    /// Behind a mistake at the root, goes to where an item may start: behind a block, or at a word that starts one.
    fn skip_item(&mut self, before: usize) {
        let mut depth = 0u32;
        while self.token.kind != Kind::Eof {
            let line_start = self.text[..self.token.start].trim_end_matches([' ', '\t']).ends_with('\n');
            match self.token.kind {
                Kind::Punct(Punct::LBrace) => depth += 1,
                Kind::Punct(Punct::RBrace) => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.bump();
                        return;
                    }
                }
                Kind::Punct(Punct::Semi) if depth == 0 => {
                    self.bump();
                    return;
                }
                Kind::Punct(Punct::Hash) if depth == 0 && line_start && self.token.start > before => return,
                Kind::Ident
                    if depth == 0
                        && line_start
                        && self.token.start > before
                        && matches!(self.text_of(self.token), "macro" | "import" | "let" | "fn") =>
                {
                    return;
                }
                _ => {}
            }
            self.bump();
        }
    }

    /// Whether no probe, macro, map or subprogram came yet.
    fn before_probes(&self) -> bool {
        self.out.items.iter().all(|item| matches!(item, Item::Import(_)))
    }

    /// A line that starts with `#`, with its continuation lines.
    fn directive(&mut self) -> Parsed<()> {
        let start = self.token.start;
        let line = self.text[..start].rfind('\n').map_or(0, |end| end + 1);
        if !self.text[line..start].trim().is_empty() {
            return Err(self.unexpected("a probe"));
        }
        let bytes = self.text.as_bytes();
        let mut end = start;
        let mut comment = false;
        while let Some(byte) = bytes.get(end) {
            match (byte, bytes.get(end + 1)) {
                (b'\\', Some(b'\n')) => end += 1,
                (b'\\', Some(b'\r')) if bytes.get(end + 2) == Some(&b'\n') => end += 2,
                (b'/', Some(b'*')) if !comment => (comment, end) = (true, end + 1),
                (b'*', Some(b'/')) if comment => (comment, end) = (false, end + 1),
                (b'\n', _) if !comment => break,
                _ => {}
            }
            end += 1;
        }
        let end = end.min(bytes.len());
        let end = start + self.text[start..end].trim_end().len();
        self.c_part(CKind::Directive, start, end);
        Ok(())
    }

    /// `struct x { ... };` and its relatives. Everything inside is C and left as it is.
    fn declaration(&mut self) -> Parsed<()> {
        let start = self.token.start;
        let first = self.text_of(self.token);
        // Only the ends matter: tokens are skipped to the `;`, or to the `}` of a tagged type, where `;` may be missing.
        let mut lexer = self.lexer;
        lexer.seek(self.token.end);
        let mut depth = 0u32;
        let end = loop {
            let token = lexer.token();
            match token.kind {
                Kind::Eof => {
                    self.bump();
                    let span = self.span(start, start + first.len());
                    return Err(self.error(span, format!("{first} without an end, expecting ;")));
                }
                Kind::Punct(Punct::LBrace) => depth += 1,
                Kind::Punct(Punct::RBrace) => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && first != "typedef" {
                        break self.behind_declaration(token.end);
                    }
                }
                Kind::Punct(Punct::Semi) if depth == 0 => break token.end,
                _ => {}
            }
        };
        self.c_part(CKind::Declaration, start, end);
        Ok(())
    }

    /// Where a declaration ends whose `}` ends at `end`: behind its attributes and its `;`.
    fn behind_declaration(&self, mut end: usize) -> usize {
        let mut lexer = self.lexer;
        lexer.seek(end);
        loop {
            let token = lexer.token();
            match token.kind {
                Kind::Punct(Punct::Semi) => return token.end,
                Kind::Ident if self.text_of(token) == "__attribute__" => {
                    let mut depth = 0u32;
                    loop {
                        let token = lexer.token();
                        match token.kind {
                            Kind::Punct(Punct::LParen) => depth += 1,
                            Kind::Punct(Punct::RParen) if depth > 1 => depth -= 1,
                            Kind::Punct(Punct::RParen) => {
                                end = token.end;
                                break;
                            }
                            Kind::Eof => return end,
                            _ => {}
                        }
                    }
                }
                _ => return end,
            }
        }
    }

    fn c_part(&mut self, kind: CKind, start: usize, end: usize) {
        let span = self.span(start, end);
        // Lines that choose would seem to choose probes too, which are not C.
        let word = self.text[start..end].trim_start_matches('#').trim_start();
        let chooses = ["if", "el", "endif"].iter().any(|start| word.starts_with(start));
        if kind == CKind::Directive && chooses && !self.before_probes() {
            let text = "conditions of the preprocessor must come before the first probe: they reach C only";
            self.error(span, text);
        }
        self.out.c_parts.push(CPart { kind, span });
        self.end = end;
        // Comments inside belong to the C text.
        let comments = self.out.comments.iter().rposition(|comment| (comment.start as usize) < start);
        self.out.comments.truncate(comments.map_or(0, |last| last + 1));
        self.seek(end);
    }

    /// `config = { key = value; ... }`
    fn config(&mut self) -> Parsed<()> {
        let start = self.bump().start;
        self.expect(Punct::Assign)?;
        self.expect(Punct::LBrace)?;
        let mut entries = Vec::new();
        while !self.is(Punct::RBrace) {
            match self.config_entry() {
                Ok(entry) => entries.push(entry),
                Err(reported) if self.token.kind == Kind::Eof => return Err(reported),
                Err(_) => self.skip_statement(),
            }
        }
        self.bump();
        let span = self.since(start);
        if self.out.config.is_some() {
            self.error(span, "only one config block is allowed");
        } else if !self.before_probes() {
            self.error(span, "the config block must come before the first probe");
        }
        self.out.config.get_or_insert(Config { span, entries });
        self.eat(Punct::Semi);
        Ok(())
    }

    /// `key = value;`
    fn config_entry(&mut self) -> Parsed<ConfigEntry> {
        let key = self.ident("a setting or }")?;
        self.expect(Punct::Assign)?;
        let token = self.token;
        let text = self.text_of(token);
        let value = match token.kind {
            Kind::Number => ConfigValue::Int(self.number().0),
            Kind::Str => ConfigValue::Text(String::from_utf8_lossy(&self.string()).into_owned()),
            Kind::Ident if matches!(text, "true" | "false") => ConfigValue::Bool(self.bump_text() == "true"),
            Kind::Ident => ConfigValue::Text(self.bump_text().to_owned()),
            _ => return Err(self.unexpected("a number, a word or a string")),
        };
        if !self.eat(Punct::Semi) && !self.is(Punct::RBrace) {
            return Err(self.unexpected("; or }"));
        }
        Ok(ConfigEntry { key, value, value_span: self.span(token.start, token.end) })
    }

    /// `import "path"`, at the next token.
    pub(super) fn import(&mut self) -> Parsed<Import> {
        let start = self.bump().start;
        if self.token.kind != Kind::Str {
            return Err(self.unexpected("a string"));
        }
        let path = String::from_utf8_lossy(&self.string()).into_owned();
        Ok(Import { path, span: self.since(start) })
    }

    /// `macro name($x, @m, e) { ... }`
    fn macro_definition(&mut self) -> Parsed<Macro> {
        let start = self.bump().start;
        let name = self.ident("a name")?;
        self.expect(Punct::LParen)?;
        let params = self.list(Punct::RParen, |parser| {
            Ok(match parser.token.kind {
                Kind::Var => MacroParam::Var(parser.name()),
                Kind::Map => MacroParam::Map(parser.name()),
                _ => MacroParam::Expr(parser.ident("a parameter or )")?),
            })
        })?;
        self.params = params
            .iter()
            .filter_map(|param| match param {
                MacroParam::Expr(ident) => Some(ident.name.clone()),
                MacroParam::Var(_) | MacroParam::Map(_) => None,
            })
            .collect();
        let body = self.block()?;
        self.eat(Punct::Semi);
        Ok(Macro { name, params, body, span: self.since(start) })
    }

    /// `let @m = kind(n);`
    fn map_declaration(&mut self) -> Parsed<MapDecl> {
        let start = self.bump().start;
        if self.token.kind != Kind::Map {
            return Err(self.unexpected("a map"));
        }
        let map = self.name();
        self.expect(Punct::Assign)?;
        let kind = self.ident("a map type")?;
        self.expect(Punct::LParen)?;
        let size = self.in_brackets(Self::expr)?;
        self.expect(Punct::RParen)?;
        let span = self.since(start);
        self.expect(Punct::Semi)?;
        Ok(MapDecl { map, kind, size, span })
    }

    /// `fn name($a : type, ...) : type { ... }`
    fn function(&mut self) -> Parsed<Function> {
        let start = self.bump().start;
        let name = self.ident("a name")?;
        self.expect(Punct::LParen)?;
        let params = self.list(Punct::RParen, |parser| {
            if parser.token.kind != Kind::Var {
                return Err(parser.unexpected("a variable or )"));
            }
            let name = parser.name();
            parser.expect(Punct::Colon)?;
            Ok((name, parser.type_expr()?))
        })?;
        self.expect(Punct::Colon)?;
        let ret = self.type_expr()?;
        let body = self.block()?.into_statements();
        Ok(Function { name, params, ret, body, span: self.since(start) })
    }

    /// `[name=]point[, point...] [/predicate/] { ... }`
    fn probe(&mut self) -> Parsed<Probe> {
        let start = self.token.start;
        let mut name = None;
        if self.token.kind == Kind::Ident && self.second().kind == Kind::Punct(Punct::Assign) {
            name = Some(self.ident("a name")?);
            self.bump();
        }
        let mut points = vec![self.attach_point()?];
        while self.eat(Punct::Comma) {
            if self.is(Punct::LBrace) {
                break;
            }
            // Behind the last comma there may be the predicate; paths start with a provider.
            if self.is(Punct::Slash) {
                break;
            }
            points.push(self.attach_point()?);
        }
        let predicate = if self.is(Punct::Slash) { Some(self.predicate()?) } else { None };
        if !self.is(Punct::LBrace) {
            let mistake = self.unexpected("{");
            let glued = points.last().is_some_and(|point| point.parts.last().is_some_and(|part| part.contains('/')));
            if let Some(diagnostic) = self.diagnostics.last_mut()
                && glued
                && predicate.is_none()
            {
                diagnostic.hints.push("a predicate needs a space before its first /".to_owned());
            }
            return Err(mistake);
        }
        let body = self.block()?.into_statements();
        Ok(Probe { name, points, predicate, body, span: self.since(start) })
    }

    fn attach_point(&mut self) -> Parsed<crate::ast::AttachPoint> {
        let start = self.token.start;
        if self.token.kind == Kind::Eof {
            return Err(self.unexpected("a probe"));
        }
        let cut = points::cut(&self.text[start..], self.span(start, start), None);
        if cut.point.text.is_empty() || !starts_point(&cut.point.text) {
            return Err(self.unexpected("a probe"));
        }
        let end = start + cut.point.text.len();
        for diagnostic in cut.diagnostics {
            self.report(diagnostic);
        }
        self.end = end;
        // What looked like a comment inside (`/lib/*/x`) is none.
        let comments = self.out.comments.iter().rposition(|comment| (comment.start as usize) < start);
        self.out.comments.truncate(comments.map_or(0, |last| last + 1));
        self.seek(end);
        Ok(cut.point)
    }

    /// `/ expression /`
    fn predicate(&mut self) -> Parsed<crate::ast::Expr> {
        self.bump();
        self.predicate = true;
        let expr = self.expr();
        self.predicate = false;
        let expr = expr?;
        self.expect(Punct::Slash)?;
        Ok(expr)
    }
}

/// Whether a provider's name may start so.
fn starts_point(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_digit() || matches!(char, '*' | '?' | '"' | '$' | ':' | '[' | '\\'))
        || text.as_bytes().first().is_some_and(|byte| lexer::is_ident_start(*byte))
}
