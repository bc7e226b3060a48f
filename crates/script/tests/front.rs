//! The front of the language: text to tree, and back.

mod common;

use std::path::PathBuf;

use skep_script::{Options, Severity, Sources, dump, expand, format, parser, render};

/// The tree, or what is wrong.
fn parse(text: &str) -> String {
    let mut sources = Sources::default();
    let id = sources.add("stdin", text);
    let (script, diagnostics) = parser::parse(&sources, id);
    let mut out = dump::dump(&sources, &script);
    out.push_str(&render::bpftrace(&sources, &diagnostics));
    out
}

#[test]
fn scripts_become_trees() {
    common::check("parse", |_, text| parse(text));
}

#[test]
fn mistakes_are_named_where_they_are() {
    common::check("errors", |file, text| {
        let mut sources = Sources::default();
        let id = sources.add("stdin", text);
        let (_, diagnostics) = parser::parse(&sources, id);
        assert!(!diagnostics.is_empty(), "no mistake found in {text}");
        if file == "rustlike" {
            render::rustlike(&sources, &diagnostics, false)
        } else {
            render::bpftrace(&sources, &diagnostics)
        }
    });
}

/// A script with what comes from outside. Lines that start with `%% ` say it: `%% params 1 x`, `%% named a=1 b`, and
/// `%% file NAME` or `%% script` before a text.
fn outside(text: &str) -> (common::files::Files, Options, String) {
    let mut files = common::files::Files::default();
    let (mut options, mut script) = (Options::default(), String::new());
    let mut current: Option<PathBuf> = None;
    for line in text.lines() {
        let words = line.strip_prefix("%% ").map(|words| words.split(' ').collect::<Vec<_>>());
        match words.as_deref() {
            Some(["params", params @ ..]) => options.params = params.iter().map(|param| (*param).to_owned()).collect(),
            Some(["named", named @ ..]) => {
                options.named = named
                    .iter()
                    .map(|option| match option.split_once('=') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => ((*option).to_owned(), None),
                    })
                    .collect();
            }
            Some(["file", name]) => current = Some(PathBuf::from(name)),
            Some(["script"]) => current = None,
            Some(other) => panic!("what is {other:?}?"),
            None => {
                let text = match &current {
                    Some(path) => files.0.entry(path.clone()).or_default(),
                    None => &mut script,
                };
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    (files, options, script)
}

#[test]
fn scripts_are_expanded() {
    common::check("expand", |file, text| {
        let (files, options, text) = outside(text);
        let mut sources = Sources::default();
        let id = sources.add("stdin", text);
        let (script, mut diagnostics) = parser::parse(&sources, id);
        if file == "help" {
            let options = expand::getopts(script, &mut sources, &files);
            return options.iter().map(|option| format!("{option:?}\n")).collect();
        }
        let (script, more) = expand::expand(script, &mut sources, &options, &files);
        diagnostics.extend(more);
        if file == "rustlike" {
            return render::rustlike(&sources, &diagnostics, false);
        }
        let tree: String = dump::dump(&sources, &script).lines().map(|line| format!("{line:.300}\n")).collect();
        tree + &render::bpftrace(&sources, &diagnostics)
    });
}

/// The tools of this repository.
fn own_tools() -> Vec<(String, String)> {
    read_tools(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools"))
}

/// bpftrace's own tools, which Debian's package brings along.
fn tools() -> Vec<(String, String)> {
    read_tools("/usr/sbin")
}

fn read_tools(dir: &str) -> Vec<(String, String)> {
    let mut tools: Vec<(String, String)> = std::fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{dir}: {error}"))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "bt"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("a readable tool")))
        .collect();
    tools.sort();
    tools
}

#[test]
fn the_tools_of_bpftrace_parse() {
    let tools = tools();
    assert!(tools.len() > 30, "bpftrace's tools are not in /usr/sbin: run `cargo xtask setup`");
    for (name, text) in tools {
        let mut sources = Sources::default();
        let id = sources.add(name, text);
        let (script, diagnostics) = parser::parse(&sources, id);
        assert!(diagnostics.is_empty(), "{}", render::bpftrace(&sources, &diagnostics));
        assert!(!script.items.is_empty());
    }
}

/// Formats a text that parses, and checks what formatting promises.
fn format_checked(name: &str, text: &str) -> String {
    let formatted = |text: &str| {
        let mut sources = Sources::default();
        let id = sources.add(name, text);
        let (script, diagnostics) = parser::parse(&sources, id);
        assert!(diagnostics.is_empty(), "{}\n{text}", render::bpftrace(&sources, &diagnostics));
        let comments: Vec<String> = script
            .comments
            .iter()
            .map(|span| sources.text(*span).lines().map(str::trim).collect::<Vec<_>>().join("\n"))
            .collect();
        (format::format(&sources, id, &script), dump::dump(&sources, &script), comments)
    };
    let (once, tree, comments) = formatted(text);
    let (twice, again, kept) = formatted(&once);
    assert_eq!(tree, again, "{name}: another meaning\n{text}\n--- became\n{once}");
    assert_eq!(comments, kept, "{name}: comments\n{text}\n--- became\n{once}");
    assert_eq!(once, twice, "{name}: formatting twice differs\n{text}");
    once
}

#[test]
fn our_own_tools_expand() {
    let tools = own_tools();
    assert!(tools.len() > 30);
    for (name, text) in tools {
        let mut sources = Sources::default();
        let id = sources.add(name, text);
        let (script, mut diagnostics) = parser::parse(&sources, id);
        let (options, files) = (Options::default(), common::files::Files::default());
        let (_, more) = expand::expand(script, &mut sources, &options, &files);
        diagnostics.extend(more);
        let errors = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        assert!(!errors, "{}", render::bpftrace(&sources, &diagnostics));
    }
}

#[test]
fn scripts_are_formatted() {
    common::check("format", |_, text| format_checked("stdin", text));
}

#[test]
fn whatever_parses_can_be_formatted() {
    for (name, text) in tools().into_iter().chain(own_tools()) {
        format_checked(&name, &text);
    }
    for path in common::files("parse") {
        for case in common::read(&path) {
            format_checked(&case.name, &case.input);
        }
    }
}
