//! Attach points, on a small kernel.

#[allow(dead_code, reason = "other tests use the rest")]
mod common;
mod kernel;

use std::fmt::Write;

use kernel::Kernel;
use skep_script::ast::Item;
use skep_script::plan::{Attach, Config, Missing};
use skep_script::points::{self, ArgAt, Args, Resolver};
use skep_script::structs::Structs;
use skep_script::{Options, Sources, Span, parser, render};

/// One attach point, behind words for options: `-p 7`, `-c ls`, `warn`, `ignore`, `max 2`. The file `without_btf` is a machine
/// that does not tell its types. What comes out: each place with its section, then what its arguments are.
fn resolve(file: &str, input: &str) -> String {
    let kernel = if file == "without_btf" { Kernel::without_btf() } else { Kernel::new() };
    let mut kernel = kernel;
    kernel.files.insert(
        "/proc/7/maps".into(),
        "1-2 r-xp 0 0:0 1 /lib/libc.so.6\n2-3 r--p 0 0:0 1 /lib/data\n3-4 r-xp 0 0:0 1 /lib/libm.so.6\n".to_owned(),
    );
    let (mut options, mut config) = (Options::default(), Config::default());
    let (words, text) = input.trim().split_once('\n').unwrap_or(("", input.trim()));
    let words: Vec<&str> = words.split(' ').collect();
    for (at, word) in words.iter().enumerate() {
        match *word {
            "-p" => options.pid = words[at + 1].parse().ok(),
            "-c" => options.command = Some(words[at + 1].to_owned()),
            "warn" => config.missing_probes = Missing::Warn,
            "ignore" => config.missing_probes = Missing::Ignore,
            "max" => config.max_probes = words[at + 1].parse().expect("a number"),
            "old" => kernel.version = 5 << 16 | 10 << 8,
            _ => {}
        }
    }
    let mut sources = Sources::default();
    let id = sources.add("stdin", format!("{text} {{ }}"));
    let (script, mut diagnostics) = parser::parse(&sources, id);
    let (structs, _) = Structs::new(&kernel, &options, &sources, &[]);
    let resolver =
        Resolver { target: &kernel, structs: &structs, options: &options, config: &config, every_name: false };
    let mut out = String::new();
    for item in &script.items {
        let Item::Probe(probe) = item else { continue };
        for point in &probe.points {
            let found = resolver.resolve(point, &mut diagnostics);
            for point in &found {
                let func = point.place.func.as_ref().map_or_else(String::new, |func| format!(" func={func}"));
                let _ = writeln!(out, "{} [{}] {:?}{func}", point.place.name, point.section, point.context);
                match &point.place.attach {
                    Attach::Perf(_) | Attach::Signal(_) | Attach::Test { .. } | Attach::Iter { .. } => {
                        let _ = writeln!(out, "  {:?}", point.place.attach);
                    }
                    Attach::Section { off_bytes: Some(off), .. } => {
                        let _ = writeln!(out, "  at {off:#x}");
                    }
                    _ => {}
                }
                match resolver.args(point, Span::default()) {
                    Ok(args) => out.push_str(&shown(&args)),
                    Err(error) => {
                        let _ = writeln!(out, "  {}", error.message);
                    }
                }
            }
            if found.len() > 1 && found[1..].iter().all(|other| other.shares_with(&found[0])) {
                let _ = writeln!(out, "together: {}", points::section(&found, &structs, &kernel).unwrap_or_default());
            }
        }
    }
    out.push_str(&render::bpftrace(&sources, &diagnostics));
    out
}

fn shown(args: &Args) -> String {
    let mut out = String::new();
    if *args != Args::default() && !args.name.is_empty() {
        let _ = writeln!(out, "  {}, {} bytes, argN: {:?}", args.name, args.size, args.numbered);
    }
    for arg in &args.fields {
        let at = match arg.at {
            ArgAt::Field { off, bits } => format!("at {off}{}", bits.map_or("", |_| " bits")),
            ArgAt::DataLoc { off, rel } => format!("{}_loc at {off}", if rel { "rel" } else { "data" }),
            ArgAt::Pointee { slot } => format!("*arg{slot}"),
            ArgAt::Absent(_) => "nowhere".to_owned(),
            ArgAt::Argument { slot, nullable } => format!("arg{slot}{}", if nullable { " may be null" } else { "" }),
        };
        let space = match &arg.ty {
            skep_script::Type::Pointer { space, .. } => format!(" {space:?}"),
            _ => String::new(),
        };
        let _ = writeln!(out, "  {} {}: {at}{space}", arg.ty, arg.name);
    }
    if let Some(ret) = &args.ret {
        let _ = writeln!(out, "  retval {} behind {}", ret.ty, ret.arguments);
    }
    out
}

#[test]
fn attach_points_are_found() {
    common::check("points", resolve);
}

#[test]
fn exact_names_list_nothing() {
    let kernel = Kernel::new();
    let (options, config) = (Options::default(), Config::default());
    let mut sources = Sources::default();
    let text = "tracepoint:sched:sched_switch, kprobe:vfs_read, fentry:vfs_read, rawtracepoint:sched_switch, \
                uprobe:bash:main, iter:task, interval:s:1 { }";
    let id = sources.add("stdin", text);
    let (script, _) = parser::parse(&sources, id);
    let (structs, _) = Structs::new(&kernel, &options, &sources, &[]);
    let resolver =
        Resolver { target: &kernel, structs: &structs, options: &options, config: &config, every_name: false };
    let Some(Item::Probe(probe)) = script.items.first() else { panic!("one probe") };
    for point in &probe.points {
        let mut diagnostics = Vec::new();
        assert_eq!(resolver.resolve(point, &mut diagnostics).len(), 1, "{}: {diagnostics:?}", point.text);
    }
    assert_eq!(kernel.listed.get(), 0);
}

#[test]
fn a_function_with_two_names_is_listed_twice_and_probed_once() {
    let kernel = Kernel::new();
    let (options, config) = (Options::default(), Config::default());
    let (structs, _) = Structs::new(&kernel, &options, &Sources::default(), &[]);
    let mut sources = Sources::default();
    let id = sources.add("stdin", "uprobe:bash:readline* { }");
    let (script, _) = parser::parse(&sources, id);
    let Some(Item::Probe(probe)) = script.items.first() else { panic!("one probe") };
    let found = |every_name: bool| {
        let resolver = Resolver { target: &kernel, structs: &structs, options: &options, config: &config, every_name };
        let found = resolver.resolve(&probe.points[0], &mut Vec::new());
        found.into_iter().map(|point| point.place.name).collect::<Vec<_>>()
    };
    assert_eq!(found(false), ["uprobe:/bin/bash:readline"]);
    assert_eq!(found(true), ["uprobe:/bin/bash:readline", "uprobe:/bin/bash:readline_alias"]);
}

#[test]
fn args_as_a_whole_are_a_struct() {
    let kernel = Kernel::new();
    let (options, config) = (Options::default(), Config::default());
    let (structs, _) = Structs::new(&kernel, &options, &Sources::default(), &[]);
    let resolver =
        Resolver { target: &kernel, structs: &structs, options: &options, config: &config, every_name: false };
    let mut sources = Sources::default();
    let id = sources.add("stdin", "tracepoint:sched:sched_wakeup { }");
    let (script, _) = parser::parse(&sources, id);
    let Some(Item::Probe(probe)) = script.items.first() else { panic!("one probe") };
    let found = resolver.resolve(&probe.points[0], &mut Vec::new());
    let args = resolver.args(&found[0], probe.span).expect("a format");
    let record = resolver.record(&args);
    assert_eq!((record.name.as_ref(), record.size), ("struct _tracepoint_sched_sched_wakeup", 28));
    let pid = structs.field(&record, "pid").expect("a field");
    assert_eq!((pid.off, pid.ty.to_string().as_str()), (24, "int32"));
    structs.shown(&skep_script::Type::Struct(record));
    assert_eq!(structs.into_structs().last().map(|it| it.fields.len()), Some(2));
}
