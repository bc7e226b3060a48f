//! Types and lines for the kernel: what each function is called and takes, and which part of the script each instruction is.
//!
//! The types say little, since the verifier only wants them to be there: a program is `int name(void *ctx)`, a function
//! `unsigned long long name(unsigned long long a1, ...)`. Lines are what matters: in the log of the verifier they stand in front of
//! the instructions, and in its refusal they lead back to the expression.

use std::collections::HashMap;

use skep_btf::{Btf, Builder, FuncLinkage, IntEncoding, TypeDef, TypeId};
use skep_insn::{Endian, InsnIdx};
use skep_spec::function::LineInfo;

use crate::ir::{FuncKind, Function};
use crate::{Sources, Span};

/// Types in the making.
pub(super) struct Info<'a> {
    builder: Builder,
    sources: &'a Sources,
    int: TypeId,
    word: TypeId,
    pointer: TypeId,
    /// By place: file, text and number, which several functions may ask for.
    places: HashMap<Span, Option<(u32, u32, u32)>>,
}

impl<'a> Info<'a> {
    /// On top of the types that are there.
    pub(super) fn new(btf: Option<&Btf>, sources: &'a Sources) -> Result<Info<'a>, skep_btf::Error> {
        let mut builder = btf.map_or_else(Builder::new, Builder::from_btf);
        let int = TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED };
        let word = TypeDef::Int { name: "unsigned long long", size: 8, bits: 64, encoding: IntEncoding::default() };
        let (int, word) = (builder.add(int)?, builder.add(word)?);
        let pointer = builder.add(TypeDef::Ptr(TypeId::VOID))?;
        Ok(Info { builder, sources, int, word, pointer, places: HashMap::new() })
    }

    /// The type of a function.
    pub(super) fn function(&mut self, function: &Function) -> Result<TypeId, skep_btf::Error> {
        const NAMES: [&str; 5] = ["a1", "a2", "a3", "a4", "a5"];
        let count = function.blocks.first().map_or(0, |entry| entry.params.len());
        let (result, params, linkage) = match function.kind {
            FuncKind::Program => (self.int, vec![("ctx", self.pointer)], FuncLinkage::GLOBAL),
            FuncKind::Local => {
                (self.word, NAMES.iter().take(count).map(|name| (*name, self.word)).collect(), FuncLinkage::STATIC)
            }
        };
        let proto = self.builder.add(TypeDef::FuncProto { result, params: &params })?;
        self.builder.add(TypeDef::Func { name: &function.name, proto, linkage })
    }

    /// The lines of a function. The kernel wants one for the first instruction of each function, or none at all.
    pub(super) fn lines(&mut self, spans: &[(InsnIdx, Span)]) -> Result<Vec<LineInfo>, skep_btf::Error> {
        let mut lines: Vec<LineInfo> = Vec::new();
        let first = spans.iter().find(|(_, span)| self.sources.find(span.source).is_some()).map(|(_, span)| *span);
        for (insn, span) in spans {
            let span = if insn.0 == 0 { first.unwrap_or(*span) } else { *span };
            let Some((file_name_off, line_off, line_col)) = self.place(span)? else { continue };
            let line = LineInfo { insn: *insn, file_name_off, line_off, line_col };
            let same = |last: &LineInfo| LineInfo { insn: last.insn, ..line } == *last;
            if !lines.last().is_some_and(same) {
                lines.push(line);
            }
        }
        Ok(lines)
    }

    fn place(&mut self, span: Span) -> Result<Option<(u32, u32, u32)>, skep_btf::Error> {
        if let Some(place) = self.places.get(&span) {
            return Ok(*place);
        }
        let mut place = None;
        // A place that is no place in the script is that of code which the script does not ask for.
        if let Some(source) = self.sources.find(span.source).filter(|_| span != Span::default()) {
            let at = self.sources.start(span);
            let text = self.sources.line(span.source, at.line).trim();
            let (file, line) = (self.builder.string(&source.name)?, self.builder.string(text)?);
            // 22 bits of line and 10 of column.
            place = Some((file, line, at.line.min((1 << 22) - 1) << 10 | at.col.min(1023)));
        }
        self.places.insert(span, place);
        Ok(place)
    }

    /// All types.
    pub(super) fn finish(self, endian: Endian) -> Result<Btf, skep_btf::Error> {
        Btf::parse(self.builder.finish(endian)?)
    }
}
