//! The root of a script.

use super::doc::Doc;
use super::{Formatter, INDENT};
use crate::Span;
use crate::ast::{Config, Item, MacroParam, Probe};

/// Something at the root.
enum Root<'a> {
    C(Span),
    Config(&'a Config),
    Item(&'a Item),
}

impl Root<'_> {
    fn span(&self) -> Span {
        match self {
            Root::C(span) => *span,
            Root::Config(config) => config.span,
            Root::Item(item) => match item {
                Item::Import(import) => import.span,
                Item::Probe(probe) => probe.span,
                Item::Macro(definition) => definition.span,
                Item::MapDecl(declaration) => declaration.span,
                Item::Function(function) => function.span,
            },
        }
    }

    /// Has an empty line before and behind.
    fn stands_alone(&self) -> bool {
        match self {
            Root::C(_) => false,
            Root::Config(_) => true,
            Root::Item(item) => !matches!(item, Item::Import(_) | Item::MapDecl(_)),
        }
    }
}

impl Formatter<'_> {
    pub(super) fn script(&mut self) -> Doc {
        let script = self.script;
        let mut roots: Vec<Root<'_>> = script.c_parts.iter().map(|part| Root::C(part.span)).collect();
        roots.extend(script.config.iter().map(Root::Config));
        roots.extend(script.items.iter().map(Root::Item));
        roots.sort_by_key(|root| root.span().start);

        let mut out = Vec::new();
        let mut end = 0;
        // Nothing printed yet: no line to end.
        let mut empty = true;
        if let Some(shebang) = script.shebang {
            out.push(Doc::text(self.source(shebang)));
            end = shebang.range().end;
            empty = false;
        }
        let mut behind_shebang = script.shebang.is_some();
        let mut alone = false;
        for root in &roots {
            let range = root.span().range();
            // Comments before it belong to it.
            let before = self.comment().map_or(range.start, |comment| comment.range().start.min(range.start));
            if !empty {
                // Behind the first line it is as it was.
                let apart = !behind_shebang && (alone || root.stands_alone());
                if apart || self.has_empty_line(end, before) {
                    out.push(Doc::Hard);
                }
                out.push(Doc::Hard);
            }
            end = self.root_comments(before, range.start, &mut out);
            if end > before {
                if self.has_empty_line(end, range.start) {
                    out.push(Doc::Hard);
                }
                out.push(Doc::Hard);
            }
            let doc = self.root(root);
            out.push(doc);
            end = self.trailing(range.end, &mut out);
            empty = false;
            behind_shebang = false;
            alone = root.stands_alone();
        }
        if let Some(comment) = self.comment() {
            let start = comment.range().start;
            if !empty {
                if alone || self.has_empty_line(end, start) {
                    out.push(Doc::Hard);
                }
                out.push(Doc::Hard);
            }
            self.root_comments(start, self.text.len(), &mut out);
            empty = false;
        }
        if !empty {
            out.push(Doc::Hard);
        }
        Doc::Concat(out)
    }

    /// The comments before `to`, the first of which starts at `start`; with the end of the last.
    fn root_comments(&mut self, start: usize, to: usize, out: &mut Vec<Doc>) -> usize {
        let mut end = start;
        if let Some(comment) = self.comment()
            && comment.range().start < to
        {
            out.push(self.comment_doc(comment));
            end = comment.range().end;
            self.next_comment += 1;
            let mut first = false;
            end = self.leading(end, to, &mut first, out);
        }
        end
    }

    fn root(&mut self, root: &Root<'_>) -> Doc {
        let range = root.span().range();
        match root {
            Root::C(span) => Doc::text(self.source(*span)),
            Root::Config(config) => self.config(config),
            Root::Item(Item::Probe(probe)) => self.probe(probe),
            Root::Item(Item::Macro(definition)) => {
                let params: Vec<&str> = definition
                    .params
                    .iter()
                    .map(|param| match param {
                        MacroParam::Var(name) | MacroParam::Map(name) | MacroParam::Expr(name) => name.name.as_str(),
                    })
                    .collect();
                let head = format!("macro {}({})", definition.name.name, params.join(", "));
                let head = self.header(range.start, definition.body.span.range().start, Doc::text(head));
                Doc::Concat(vec![head, self.block(&definition.body)])
            }
            Root::Item(Item::Function(function)) => {
                let mut head = vec![Doc::text(format!("fn {}(", function.name.name))];
                for (index, (name, ty)) in function.params.iter().enumerate() {
                    head.push(Doc::text(format!("{}{} : ", if index > 0 { ", " } else { "" }, name.name)));
                    head.push(self.ty(ty));
                }
                head.push(Doc::text(") : "));
                head.push(self.ty(&function.ret));
                let head = self.header(range.start, function.body.span.range().start, Doc::Concat(head));
                Doc::Concat(vec![head, self.block(&function.body)])
            }
            Root::Item(Item::Import(_) | Item::MapDecl(_)) if self.has_comment(range.start, range.end) => {
                self.skip_comments(range.end);
                Doc::text(format!("{};", self.source(root.span())))
            }
            Root::Item(Item::Import(import)) => {
                let path = self.source(import.span).trim_start_matches("import").trim();
                Doc::text(format!("import {path};"))
            }
            Root::Item(Item::MapDecl(declaration)) => {
                let head = format!("let {} = {}(", declaration.map.name, declaration.kind.name);
                Doc::Concat(vec![Doc::text(head), self.expr(&declaration.size), Doc::text(");")])
            }
        }
    }

    fn config(&mut self, config: &Config) -> Doc {
        let mut inside = Vec::new();
        let mut end = self.between(config.span.range().start, self.text.len()).find('{').unwrap_or(0)
            + config.span.range().start
            + 1;
        end = self.trailing(end, &mut inside);
        let mut first = true;
        for entry in &config.entries {
            let (start, stop) = (entry.key.span.range().start, entry.value_span.range().end);
            end = self.leading(end, start, &mut first, &mut inside);
            self.new_line(end, start, &mut first, &mut inside);
            if self.has_comment(start, stop) {
                self.skip_comments(stop);
                inside.push(Doc::text(format!("{};", self.between(start, stop))));
            } else {
                inside.push(Doc::text(format!("{} = {};", entry.key.name, self.source(entry.value_span))));
            }
            end = self.trailing(stop, &mut inside);
        }
        let close = config.span.range().end.saturating_sub(1);
        self.leading(end, close, &mut first, &mut inside);
        Doc::Concat(vec![Doc::text("config = {"), Doc::nest(INDENT, inside), Doc::Hard, Doc::text("}")])
    }

    fn probe(&mut self, probe: &Probe) -> Doc {
        let start = probe.span.range().start;
        let mut head = Vec::new();
        if let Some(name) = &probe.name {
            head.push(Doc::text(format!("{}=", name.name)));
        }
        let mut end = start;
        for (index, point) in probe.points.iter().enumerate() {
            if index > 0 {
                head.push(Doc::text(","));
                // Several points are written one below the other, or all on one line.
                let below = self.between(end, point.span.range().start).contains('\n');
                head.push(if below { Doc::Hard } else { Doc::Line });
            }
            head.push(Doc::text(point.text.as_str()));
            end = point.span.range().end;
        }
        let mut head = vec![Doc::group(head)];
        let mut below = false;
        if let Some(predicate) = &probe.predicate {
            below = self.between(end, predicate.span.range().start).contains('\n');
            head.push(if below { Doc::Hard } else { Doc::text(" ") });
            head.push(Doc::text("/"));
            head.push(self.expr(predicate));
            head.push(Doc::text("/"));
        }
        let open = probe.body.span.range().start;
        let head = if below && !self.has_comment(start, open) {
            head.push(Doc::Hard);
            Doc::Concat(head)
        } else {
            self.header(start, open, Doc::Concat(head))
        };
        Doc::Concat(vec![head, self.block(&probe.body)])
    }
}
