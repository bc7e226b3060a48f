//! The front of the language: text to tree, and back.

mod common;

use skep_script::{Sources, dump, parser, render};

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

/// bpftrace's own tools, which Debian's package brings along.
fn tools() -> Vec<(String, String)> {
    let mut tools: Vec<(String, String)> = std::fs::read_dir("/usr/sbin")
        .expect("/usr/sbin")
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
