//! From text to the checked script: types, names, meanings, and what is wrong.

mod common;
mod machine;

use machine::Machine;
use skep_script::check::{check, dump};
use skep_script::{Options, Sources, parser, render};

/// The checked script, or what is wrong; warnings in front.
fn checked(text: &str, options: &Options) -> String {
    checked_for(&Machine::new(), text, options)
}

fn checked_for(machine: &Machine, text: &str, options: &Options) -> String {
    let mut sources = Sources::default();
    let id = sources.add("stdin", text);
    let (script, diagnostics) = parser::parse(&sources, id);
    if !diagnostics.is_empty() {
        return format!("does not parse\n{}", render::bpftrace(&sources, &diagnostics));
    }
    let (typed, diagnostics) = check(&script, &sources, options, machine);
    let mut out = render::bpftrace(&sources, &diagnostics);
    if !diagnostics.iter().any(|it| it.severity == skep_script::Severity::Error) {
        out.push_str(&dump(&typed));
    }
    out
}

fn options() -> Options {
    Options { allow_unsafe: true, ..Options::default() }
}

#[test]
fn every_value_has_its_type() {
    common::check("types", |_, text| checked(text, &options()));
}

#[test]
fn maps_have_types_of_keys_and_values() {
    common::check("maps", |_, text| checked(text, &options()));
}

#[test]
fn functions_become_calls_and_actions() {
    common::check("functions", |file, text| {
        let machine = if file == "without_override" { Machine::without_override() } else { Machine::new() };
        checked_for(&machine, text, &options())
    });
}

#[test]
fn formats_are_checked_against_their_values() {
    common::check("printf", |_, text| checked(text, &options()));
}

#[test]
fn contexts_have_arguments() {
    common::check("context", |_, text| checked(text, &options()));
}

#[test]
fn wrong_scripts_are_refused_where_they_are_wrong() {
    // The rules of bpftrace to the letter: fewer mistakes are forgiven.
    let options = Options { bpftrace: true, ..Options::default() };
    common::check("errors-types", |_, text| checked(text, &options));
}

#[test]
fn a_symbol_of_the_kernel_is_looked_for_once() {
    let machine = Machine::new();
    // `@a` and `@b` make the checker walk several times.
    let text =
        "begin { print(kaddr(\"avenrun\")); print(kaddr(\"avenrun\")); print(percpu_kaddr(\"runqueues\")); @b = @a; }
        kprobe:vfs_read,kprobe:vfs_write { @a = @b + 1; }
        kprobe:avenrun,kprobe:nosuch { @a = 300; }";
    let found = checked_for(&machine, text, &Options::default());
    assert!(!found.contains("ERROR"), "{found}");
    let mut asked = machine.looked_for.lock().unwrap().clone();
    let all = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), all, "{asked:?}");
    assert!(["avenrun", "nosuch", "runqueues"].iter().all(|name| asked.iter().any(|it| it == name)), "{asked:?}");
}
