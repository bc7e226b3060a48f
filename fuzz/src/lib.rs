//! Fuzz targets: plain functions that take any bytes, and must neither panic, nor hang, nor allocate without bound.
//!
//! [`TARGETS`] is the table. Each target states a property beyond "it returns": what was decoded encodes to the same bits,
//! what was disassembled assembles again, what was parsed can be walked to the end. `cargo test` replays the seeds, cut
//! from the test objects and the cases of scripts, and everything in `fuzz/regressions/TARGET/`; `cargo xtask fuzz` hunts for more.

mod btf;
mod insn;
mod machine;
mod script;
mod spec;

use object::{Object, ObjectSection};

/// A parser under fire.
#[derive(Clone, Copy)]
pub struct Target {
    /// As typed after `cargo xtask fuzz`.
    pub name: &'static str,
    /// Panics if a property does not hold.
    pub run: fn(&[u8]),
    /// Inputs worth starting from, cut out of a BPF object file or of a text with scripts.
    pub seeds: fn(&[u8]) -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "insn", run: skep_insn::fuzz::code, seeds: code_sections },
    Target { name: "asm", run: skep_insn::fuzz::text, seeds: insn::listings },
    Target { name: "btf", run: btf::parse, seeds: |object| sections(object, |name| name == ".BTF") },
    Target { name: "btf_ext", run: btf::parse_ext, seeds: |object| sections(object, |name| name == ".BTF.ext") },
    Target { name: "spec", run: spec::open, seeds: spec::objects },
    Target { name: "script", run: script::front, seeds: script::scripts },
    Target { name: "compile", run: script::whole, seeds: script::scripts },
];

/// Finds a target by name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

/// The bytes of the sections that are wanted; nothing if this is no object file.
pub(crate) fn sections(bytes: &[u8], wanted: fn(&str) -> bool) -> Vec<Vec<u8>> {
    let Ok(file) = object::File::parse(bytes) else { return Vec::new() };
    file.sections()
        .filter(|section| section.name().is_ok_and(wanted))
        .filter_map(|section| Some(section.data().ok()?.to_vec()))
        .filter(|data| !data.is_empty())
        .collect()
}

/// The bytes of the sections with code.
pub(crate) fn code_sections(bytes: &[u8]) -> Vec<Vec<u8>> {
    let Ok(file) = object::File::parse(bytes) else { return Vec::new() };
    file.sections()
        .filter(|section| section.kind() == object::SectionKind::Text)
        .filter_map(|section| Some(section.data().ok()?.to_vec()))
        .filter(|data| !data.is_empty())
        .collect()
}
