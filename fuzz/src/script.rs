//! Scripts: any text has a tree and messages with places; what parses is formatted to the same tree, and expands.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use skep_btf::Btf;
use skep_script::ast::{AttachPoint, Tag};
use skep_script::plan::Config;
use skep_script::points::Resolver;
use skep_script::structs::Structs;
use skep_script::target::{BpfFunction, DebugInfo, KernelFunction, UserFunction, UserSymbol};
use skep_script::{Diagnostic, Options, SourceId, Sources, Span, dump, expand, format, parser, render};
use skep_spec::target::{Feature, TargetError};

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
    let files = Files { own: text, format: None };
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
    let files = Files { own: "", format: Some(text) };
    let (structs, _) = Structs::new(&files, &options, &sources, &[]);
    let resolver = Resolver { target: &files, structs: &structs, options: &options, config: &config };
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
    let options = Options {
        params: vec!["5".to_owned(), "text".to_owned()],
        named: vec![("a".to_owned(), None), ("b".to_owned(), Some("7".to_owned()))],
        ..Options::default()
    };
    let files = Files { own: text, format: None };
    let (script, more) = expand::expand(script, &mut sources, &options, &files);
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

/// A machine whose every `.bt` and `.h` file is the script itself.
struct Files<'a> {
    own: &'a str,
    /// The format of every tracepoint.
    format: Option<&'a str>,
}

impl skep_spec::Target for Files<'_> {
    fn kernel_version(&self) -> u32 {
        6 << 16 | 18 << 8
    }

    fn btf(&self) -> Result<Option<Btf>, TargetError> {
        Ok(None)
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        Ok(Vec::new())
    }

    fn module_btf(&self, _: &str) -> Result<Option<Btf>, TargetError> {
        Ok(None)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        Ok(vec![None; names.len()])
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        Ok(vec![None; names.len()])
    }

    fn supports(&self, _: Feature) -> bool {
        true
    }
}

impl skep_script::Target for Files<'_> {
    fn tracepoint_format(&self, _: &str, _: &str) -> Result<Option<String>, TargetError> {
        Ok(self.format.map(str::to_owned))
    }

    fn tracepoints(&self) -> Result<Vec<String>, TargetError> {
        Ok(Vec::new())
    }

    fn kernel_functions(&self) -> Result<Vec<KernelFunction>, TargetError> {
        Ok(Vec::new())
    }

    fn user_functions(&self, _: &Path) -> Result<Vec<UserFunction>, TargetError> {
        Ok(Vec::new())
    }

    fn usdt_probes(&self, _: &Path) -> Result<Vec<(String, String)>, TargetError> {
        Ok(Vec::new())
    }

    fn binary(&self, _: &str, _: Option<u32>) -> Result<Option<PathBuf>, TargetError> {
        Ok(None)
    }

    fn user_symbol(&self, _: &Path, _: &str) -> Result<Option<UserSymbol>, TargetError> {
        Ok(None)
    }

    fn file_offset(&self, _: &Path, _: u64) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }

    fn debug_info(&self, _: &Path) -> Result<Option<Rc<dyn DebugInfo>>, TargetError> {
        Ok(None)
    }

    fn bpf_functions(&self) -> Result<Vec<BpfFunction>, TargetError> {
        Ok(Vec::new())
    }

    fn bpf_program_btf(&self, _: u32) -> Result<Option<Btf>, TargetError> {
        Ok(None)
    }

    fn cgroup_id(&self, _: &Path) -> Result<u64, TargetError> {
        Err("no cgroups here".into())
    }

    fn read_file(&self, path: &Path) -> Result<String, TargetError> {
        if path.as_os_str().len() > 20 { Err("no such file".into()) } else { Ok(self.own.to_owned()) }
    }

    fn list_dir(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, TargetError> {
        let names = ["x.bt", "y.h", "z.c"];
        Ok((path.extension().is_none()).then(|| names.iter().map(|name| path.join(name)).collect()))
    }

    fn possible_cpus(&self) -> u32 {
        4
    }

    fn has_helper(&self, _: u32) -> bool {
        true
    }
}
