//! Fuzz targets: plain functions that take any bytes, and must neither panic, nor hang, nor allocate without bound.
//!
//! [`TARGETS`] is the table. Each target states a property beyond "it returns": what was decoded encodes to the same bits,
//! what was disassembled assembles again, what was parsed can be walked to the end. `cargo test` replays the seeds, cut
//! from the test objects, the cases of scripts and `fuzz/seeds`, and everything in `fuzz/regressions/TARGET/`; `cargo xtask fuzz` hunts for more.

mod btf;
mod dwarf;
mod insn;
mod machine;
mod packets;
mod script;
mod script_target;
mod spec;
mod tool;
mod vm;

use object::{Object, ObjectSection};

/// A parser under fire.
#[derive(Clone, Copy)]
pub struct Target {
    /// As typed after `cargo xtask fuzz`.
    pub name: &'static str,
    /// Panics if a property does not hold.
    pub run: fn(&[u8]),
    /// Inputs worth starting from, cut out of a BPF object file, a text with scripts, or a file of `fuzz/seeds`.
    pub seeds: fn(&[u8]) -> Vec<Vec<u8>>,
    /// There are at least so many.
    pub seeds_min: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "insn", run: skep_insn::fuzz::code, seeds: code_sections, seeds_min: 50 },
    Target { name: "asm", run: skep_insn::fuzz::text, seeds: insn::listings, seeds_min: 50 },
    Target { name: "btf", run: btf::parse, seeds: |object| sections(object, |name| name == ".BTF"), seeds_min: 50 },
    Target {
        name: "btf_ext",
        run: btf::parse_ext,
        seeds: |object| sections(object, |name| name == ".BTF.ext"),
        seeds_min: 50,
    },
    Target { name: "spec", run: spec::open, seeds: spec::objects, seeds_min: 50 },
    Target { name: "script", run: script::front, seeds: script::scripts, seeds_min: 50 },
    Target { name: "compile", run: script::whole, seeds: script::scripts, seeds_min: 50 },
    Target { name: "cpart", run: script::c_part, seeds: script::c_parts, seeds_min: 20 },
    Target { name: "format", run: script::format, seeds: machine::formats, seeds_min: 4 },
    Target { name: "dwarf", run: dwarf::ask, seeds: dwarf::sections, seeds_min: 12 },
    Target { name: "usdt", run: skep_kernel::fuzz::program, seeds: machine::programs, seeds_min: 1 },
    Target { name: "usdt_args", run: machine::usdt_args, seeds: machine::arguments, seeds_min: 4 },
    Target { name: "archive", run: skep_kernel::fuzz::archive, seeds: machine::archives, seeds_min: 2 },
    Target { name: "ld_cache", run: skep_kernel::fuzz::linker_cache, seeds: machine::caches, seeds_min: 1 },
    Target { name: "vm", run: vm::run, seeds: code_sections, seeds_min: 50 },
    Target { name: "pcap", run: packets::read, seeds: packets::files, seeds_min: 6 },
    Target { name: "machine_code", run: skep_userspace::process::fuzz::code, seeds: machine::code, seeds_min: 2 },
    Target { name: "unwind", run: skep_userspace::process::fuzz::tables, seeds: machine::unwound, seeds_min: 1 },
    Target { name: "tool", run: tool::payload, seeds: tool::payloads, seeds_min: 50 },
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
