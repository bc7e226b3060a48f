//! Scripts: any text has a tree and messages with places; what parses is formatted to the same tree, and expands; what has no
//! errors becomes instructions.

use skep_insn::Insn;
use skep_script::ast::{AttachPoint, Tag};
use skep_script::compile::compile;
use skep_script::plan::Config;
use skep_script::points::Resolver;
use skep_script::structs::Structs;
use skep_script::{Diagnostic, Options, SourceId, Sources, Span, dump, expand, format, parser, render};

use crate::script_target::Machine;

/// Each case of a file of cases, or the whole script.
pub(crate) fn scripts(file: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(file) else { return Vec::new() };
    if !text.starts_with("--- ") {
        return vec![file.to_vec()];
    }
    let cases = text.split("\n--- ").filter_map(|case| Some(case.split_once('\n')?.1.split_once("\n===")?.0));
    cases.map(|case| case.as_bytes().to_vec()).collect()
}

/// Scripts that begin with declarations or preprocessor lines.
pub(crate) fn c_parts(file: &[u8]) -> Vec<Vec<u8>> {
    let begins = |text: &[u8]| {
        [&b"#include"[..], b"#define", b"#if", b"struct ", b"union ", b"enum ", b"typedef "]
            .iter()
            .any(|word| text.starts_with(word))
    };
    scripts(file).into_iter().filter(|text| begins(text)).collect()
}

/// Any text as the C part of a script: its types and constants are asked for.
pub(crate) fn c_part(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut sources = Sources::default();
    let id = sources.add("fuzz.bt", text);
    let (script, _) = parser::parse(&sources, id);
    let options = Options::default();
    let files = Machine::new(text);
    let (structs, diagnostics) = Structs::new(&files, &options, &sources, &script.c_parts);
    diagnostics.iter().for_each(|diagnostic| check(&sources, diagnostic));
    // Every word of the text may be the name of something.
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).take(200) {
        for tag in [Tag::Struct, Tag::Union, Tag::Enum] {
            if let Some(ty) = structs.tagged(tag, word) {
                structs.shown(&ty);
            }
        }
        let _ = structs.type_name(word);
        let _ = structs.constant(word);
    }
    let _ = structs.into_structs();
}

/// Any text as the format of a tracepoint.
pub(crate) fn format(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (options, config, sources) = (Options::default(), Config::default(), Sources::default());
    let files = Machine::with_format(text);
    let (structs, _) = Structs::new(&files, &options, &sources, &[]);
    let resolver = Resolver { target: &files, structs: &structs, options: &options, config: &config, every_name: true };
    let parts = ["tracepoint", "a", "b"].map(str::to_owned).to_vec();
    let point = AttachPoint { text: parts.join(":"), parts, span: Span::default() };
    for point in resolver.resolve(&point, &mut Vec::new()) {
        let Ok(args) = resolver.args(&point, Span::default()) else { continue };
        for field in &args.fields {
            assert!(!field.name.is_empty(), "a field without a name: {field:?}");
            structs.shown(&field.ty);
        }
        let _ = resolver.record(&args);
    }
}

/// Any text through lexer, parser, formatter, expansion and both renderers.
pub(crate) fn front(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut sources = Sources::default();
    let id = sources.add("fuzz.bt", text);
    let (script, mut diagnostics) = parser::parse(&sources, id);
    assert!(diagnostics.len() <= parser::ERRORS_MAX + 1, "{} diagnostics", diagnostics.len());
    let tree = dump::dump(&sources, &script);
    if diagnostics.is_empty() {
        let once = format::format(&sources, id, &script);
        let (again, twice) = reformat(&once);
        assert_eq!(tree, again, "formatting changed the meaning; it became\n{once}");
        assert_eq!(once, twice, "formatting twice differs");
    } else {
        // Nothing is promised about a text with mistakes but that this ends.
        let _ = format::format(&sources, id, &script);
    }
    let (script, more) = expand::expand(script, &mut sources, &options(), &Machine::new(text));
    let _ = dump::dump(&sources, &script);
    diagnostics.extend(more);
    for diagnostic in &diagnostics {
        check(&sources, diagnostic);
    }
    // Each shows its line: a hundred of them say it all.
    diagnostics.truncate(100);
    let _ = render::bpftrace(&sources, &diagnostics);
    let _ = render::rustlike(&sources, &diagnostics, true);
}

/// Any text through the whole compiler.
pub(crate) fn whole(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut sources = Sources::default();
    let id = sources.add("fuzz.bt", text);
    let compiled = compile(&mut sources, id, &options(), &Machine::new(text));
    for diagnostic in &compiled.diagnostics {
        check(&sources, diagnostic);
        // What the script asks for can be too much, and the hint says so; the rest is a form between that is not whole.
        let inside = diagnostic.span.is_none() && diagnostic.message.starts_with("function `");
        assert!(!inside || !diagnostic.hints.is_empty(), "{}", diagnostic.message);
    }
    if compiled.has_errors() {
        return;
    }
    for function in &compiled.spec.functions {
        for insn in Insn::decode_all(&function.insns) {
            assert!(insn.is_ok(), "{}: {insn:?}", function.name);
        }
    }
}

fn options() -> Options {
    Options {
        params: vec!["5".to_owned(), "text".to_owned()],
        named: vec![("a".to_owned(), None), ("b".to_owned(), Some("7".to_owned()))],
        allow_unsafe: true,
        ..Options::default()
    }
}

/// A formatted text, parsed and formatted again: its tree and its text.
fn reformat(text: &str) -> (String, String) {
    let mut sources = Sources::default();
    let id: SourceId = sources.add("fuzz.bt", text);
    let (script, diagnostics) = parser::parse(&sources, id);
    assert!(diagnostics.is_empty(), "formatting broke it: {}\n{text}", render::bpftrace(&sources, &diagnostics));
    (dump::dump(&sources, &script), format::format(&sources, id, &script))
}

/// Every place is a stretch of its text.
fn check(sources: &Sources, diagnostic: &Diagnostic) {
    assert!(!diagnostic.message.is_empty());
    for span in diagnostic.labels.iter().map(|(span, _)| *span).chain(diagnostic.span) {
        assert!(span.start <= span.end, "{diagnostic:?}");
        assert!(sources.get(span.source).text.get(span.range()).is_some(), "no such place: {diagnostic:?}");
    }
}
