//! Small objects put together by hand, so that tests need neither a compiler nor files and run in any machine.

#![allow(dead_code, reason = "each test binary uses a part")]

use skep_engine::{Error, LoadOptions, Session as _};
use skep_insn::{InsnIdx, text};
use skep_kernel::{KernelEngine, KernelSession, errno_of};
use skep_spec::function::{RefTarget, Reference};
use skep_spec::map::MapOrigin;
use skep_spec::{FuncId, Function, Map, MapId, MapType, ProgType, Program, Spec};
use skep_sys::Errno;
use skep_sys::caps::{Cap, Caps};

/// Whether this process may load programs. Says so if not, by the name of the capability.
pub(crate) fn may_load() -> bool {
    let caps = Caps::effective();
    let may = caps.has(Cap::SYS_ADMIN) || (caps.has(Cap::BPF) && caps.has(Cap::PERFMON) && caps.has(Cap::NET_ADMIN));
    if !may {
        println!("skipped: needs CAP_SYS_ADMIN");
    }
    may
}

/// Whether the kernel is at least this one. Says so if not.
pub(crate) fn kernel(major: u32, minor: u32) -> bool {
    let enough = skep_sys::version::KernelVersion::running() >= skep_sys::version::KernelVersion::new(major, minor, 0);
    if !enough {
        println!("skipped: needs kernel {major}.{minor}");
    }
    enough
}

/// An object without anything.
pub(crate) fn empty() -> Spec {
    Spec { license: Some("GPL".into()), ..Spec::new("hand_made") }
}

/// Adds a map.
pub(crate) fn add_map(
    spec: &mut Spec,
    name: &str,
    map_type: MapType,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
) -> MapId {
    spec.maps.push(Map { origin: MapOrigin::Btf, ..Map::new(name, map_type, key_size, value_size, max_entries) });
    MapId(spec.maps.len() as u32 - 1)
}

/// Adds a program in the kernel's spelling; `map[id:N]` is map N of the object.
pub(crate) fn add_program(spec: &mut Spec, name: &str, prog_type: ProgType, code: &str) -> skep_spec::ProgId {
    let insns = text::assemble(code).unwrap_or_else(|errors| panic!("{name}: {errors:?}")).code;
    let references = (0u32..)
        .zip(&insns)
        .filter(|(_, insn)| insn.code == 0x18 && insn.src_reg == 1)
        .map(|(at, insn)| Reference { insn: InsnIdx(at), target: RefTarget::Map(MapId(insn.imm as u32)) })
        .collect();
    spec.functions.push(Function { references, ..Function::new(name, "tc", insns) });
    let entry = FuncId(spec.functions.len() as u32 - 1);
    spec.programs.push(Program::new(name, entry, "tc", prog_type));
    skep_spec::ProgId(spec.programs.len() as u32 - 1)
}

/// Loads, and expects every program to be there.
pub(crate) fn load(spec: Spec) -> KernelSession {
    let session = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    for loaded in session.programs() {
        if let Err(error) = &loaded.result {
            panic!("{error}\n{}", error.log().unwrap_or_default());
        }
    }
    if let Some(warning) = session.warnings().first() {
        panic!("{warning}");
    }
    session
}

/// The reason of the only program.
pub(crate) fn refusal(session: &KernelSession) -> (String, Option<String>, Option<Errno>) {
    let error: &Error = session.programs()[0].result.as_ref().expect_err("the program must not load");
    (error.to_string(), error.hint().map(str::to_owned), errno_of(error))
}

/// A packet that programs of the network can be run on.
pub(crate) const PACKET: [u8; 64] = [0; 64];
