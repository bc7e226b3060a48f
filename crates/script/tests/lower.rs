//! Scripts and the intermediate form that they become, before the passes: `tests/cases/lower`.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;
#[allow(dead_code, reason = "each test binary uses a part")]
mod kernel;

use kernel::Kernel;
use skep_kernel::LiveTarget;
use skep_script::compile::compile;
use skep_script::{Options, Sources, check, expand, lower, parser, render};

/// A kernel whose types do not tell where a process has mapped what.
#[test]
fn stacks_by_tables_are_refused_where_mappings_cannot_be_found() {
    let (mut sources, target) = (Sources::default(), Kernel::without_btf());
    let id = sources.add("case.bt", "BEGIN { print(ustack); print(dw_ustack(perf)); }");
    let compiled = compile(&mut sources, id, &Options::default(), &target);
    assert!(compiled.has_errors() && compiled.spec.programs.is_empty());
    let text = render::bpftrace(&sources, &compiled.diagnostics);
    assert!(text.contains(":1:30-45: ERROR: dw_ustack cannot find the mappings of processes in this kernel"), "{text}");
    assert!(text.contains("it needs Linux 6.1"), "{text}");
    // Who walks by tables itself needs nothing of the kernel.
    let options = Options { engine_walks_stacks: true, ..Options::default() };
    let compiled = compile(&mut sources, id, &options, &target);
    assert!(compiled.diagnostics.is_empty() && compiled.plan.unwinding.is_none());
}

#[test]
fn scripts_become_functions() {
    common::check("lower", |_, text| {
        let (mut sources, options, target) = (Sources::default(), Options::default(), LiveTarget::shared());
        let id = sources.add("case.bt", text);
        let (script, mut diagnostics) = parser::parse(&sources, id);
        let (script, more) = expand::expand(script, &mut sources, &options, &target);
        diagnostics.extend(more);
        let (script, more) = check::check(&script, &sources, &options, &target);
        diagnostics.extend(more);
        if let Some(first) = diagnostics.first() {
            return first.message.clone();
        }
        let lowered = lower::lower(&script, &target, &options);
        let mut out = lowered.module.to_string();
        for map in &lowered.spec.maps {
            out += &format!(
                "map {}: {} key {} value {} entries {}\n",
                map.name, map.map_type, map.key_size, map.value_size, map.max_entries
            );
        }
        out
    });
}
