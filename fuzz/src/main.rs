//! libFuzzer's program; the environment variable `SKEP_FUZZ_TARGET` names the target.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use skep_fuzz::Target;

fn chosen() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("SKEP_FUZZ_TARGET").unwrap_or_default();
        skep_fuzz::target(&name).unwrap_or_else(|| panic!("SKEP_FUZZ_TARGET names no target: `{name}`"))
    })
}

fuzz_target!(|data: &[u8]| (chosen().run)(data));
