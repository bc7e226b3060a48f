//! Scripts and the intermediate form that they become, before the passes: `tests/cases/lower`.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use skep_kernel::LiveTarget;
use skep_script::{Options, Sources, check, expand, lower, parser};

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
