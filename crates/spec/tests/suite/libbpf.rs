//! The same objects through libbpf: programs and maps must be what libbpf makes of them.
//!
//! libbpf comes from the machine and may be old. What it refuses is left out, and so are the types of sections that it
//! does not know; everything else must agree.

use std::path::{Path, PathBuf};
use std::process::Command;

use skep_spec::map::{MapContents, MapOrigin, Pinning};
use skep_spec::section::{BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS};
use skep_spec::{Map, MapType, Spec};

use crate::support;

/// Builds the lister; `purpose` keeps the copies of tests apart.
pub(crate) fn lister(purpose: &str) -> PathBuf {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("libbpf-list-{purpose}-{}", std::process::id()));
    let result = Command::new("cc")
        .arg("-o")
        .arg(&output)
        .arg(support::data().join("libbpf_list.c"))
        .arg("-lbpf")
        .output()
        .unwrap_or_else(|err| panic!("cc: {err}; run `cargo xtask setup`"));
    assert!(
        result.status.success(),
        "run `cargo xtask setup`, libbpf-dev is missing:\n{}",
        String::from_utf8_lossy(&result.stderr)
    );
    output
}

/// What libbpf makes of `objects`.
pub(crate) fn listing(lister: &Path, objects: &[PathBuf]) -> String {
    let output = Command::new(lister).args(objects).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn map_line(map: &Map, name: &str, word: &str) -> String {
    let (mut key_type, mut value_type) = (map.key_type.map_or(0, |id| id.0), map.value_type.map_or(0, |id| id.0));
    if map.map_type == MapType::STRUCT_OPS {
        (key_type, value_type) = (0, 0);
    }
    format!(
        "{word} {name} type {} key {} value {} entries {} flags {:#x} extra {:#x} numa {} types {key_type} {value_type} pin {} \
         create {}",
        map.map_type.0,
        map.key_size,
        map.value_size,
        map.max_entries,
        map.flags,
        map.map_extra,
        map.numa_node.unwrap_or(0),
        u8::from(map.pinning == Pinning::ByName),
        u8::from(map.autocreate)
    )
    .replace(" 0x0 ", " 0 ")
}

/// Our listing, line for line as the lister prints it.
fn ours(spec: &Spec) -> Vec<String> {
    let mut lines = Vec::new();
    for program in &spec.programs {
        let flags = program.flags & !(BPF_F_SLEEPABLE | BPF_F_XDP_HAS_FRAGS);
        lines.push(
            format!(
                "program {} section {} type {} attach {} flags {flags:#x} load {} insns {}",
                program.name,
                program.section,
                program.prog_type.0,
                program.attach_type.map_or(0, |it| it.0),
                u8::from(program.autoload),
                spec.function(program.entry).insns.len()
            )
            .replace(" 0x0 ", " 0 "),
        );
    }
    for (id, map) in spec.maps() {
        let custom = map.name.get(1..).is_some_and(|rest| rest.contains('.'));
        let name = match map.origin {
            MapOrigin::Data(_) | MapOrigin::Kconfig if !custom => spec.kernel_map_name(id),
            _ => map.name.clone(),
        };
        // Older versions do not know `.struct_ops.link`.
        if matches!(&map.contents, MapContents::StructOps(ops) if ops.link) {
            continue;
        }
        lines.push(map_line(map, &name, "map"));
        if let Some(inner) = &map.inner {
            lines.push(map_line(inner, &inner.name, "inner"));
        }
        let value = match (&map.origin, &map.contents) {
            (MapOrigin::Data(_), MapContents::Empty) => Some(vec![0; map.value_size as usize]),
            (MapOrigin::Data(_), _) => map.initial_value(),
            (MapOrigin::Kconfig, _) => Some(vec![0; map.value_size as usize]),
            _ => None,
        };
        if let Some(value) = value {
            let hash = value
                .iter()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            lines.push(format!("bytes {} {hash:016x}", value.len()));
        }
    }
    lines
}

/// Whether a difference is meant.
fn is_excused(theirs: &str, ours: &str) -> bool {
    let same_but = |names: &[&str]| {
        let rest = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let kept = words.iter().enumerate().filter(|(at, _)| *at == 0 || !names.contains(&words[at - 1]));
            kept.map(|(_, word)| (*word).to_owned()).collect::<Vec<_>>()
        };
        rest(theirs) == rest(ours)
    };
    let is = |what: &str, kinds: &[&str]| {
        theirs.starts_with(what) && kinds.iter().any(|kind| theirs.contains(&format!(" type {kind} ")))
    };
    // A section that this libbpf does not know.
    is("program", &["0"]) && same_but(&["type", "attach"])
        // The member's number is the attach type; it is found when the target is known.
        || is("program", &["27"]) && same_but(&["attach"])
        // Value types of perf and ring buffers are those of events.
        || is("map", &["4", "27", "31"]) && same_but(&["key", "value"])
}

#[test]
fn programs_and_maps_are_what_libbpf_makes_of_them() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("libbpf-objects-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut objects = Vec::new();
    for name in ["globals", "functions", "maps", "slots", "externs", "core", "struct_ops", "legacy"] {
        let source = std::fs::read_to_string(support::data().join(format!("{name}.c"))).unwrap();
        for compiler in support::COMPILERS {
            let path = dir.join(format!("{name}_{}.bpf.o", &compiler[6..]));
            std::fs::write(&path, support::compile(compiler, "bpfel", &source, &[])).unwrap();
            objects.push(path);
        }
    }
    objects.extend(support::corpus());
    objects.sort();

    let lister = lister("compare");
    let text = listing(&lister, &objects);
    std::fs::remove_file(lister).unwrap();

    let (mut compared, mut differences) = (0, Vec::new());
    for object in text.split("object ").skip(1) {
        let mut lines = object.lines();
        let path = lines.next().unwrap();
        let theirs: Vec<&str> =
            lines.filter(|line| !(line.contains(" type 26 ") && line.contains(" flags 0x2000 "))).collect();
        let spec = Spec::parse(&std::fs::read(path).unwrap(), path).unwrap_or_else(|err| panic!("{path}: {err}"));
        if theirs.first().is_some_and(|line| line.starts_with("refused")) {
            continue;
        }
        compared += 1;
        let ours = ours(&spec);
        for index in 0..theirs.len().max(ours.len()) {
            let (theirs, ours) =
                (theirs.get(index).copied().unwrap_or("nothing"), ours.get(index).map_or("nothing", |it| it));
            if theirs != ours && !is_excused(theirs, ours) {
                differences.push(format!("{path}:\n  libbpf {theirs}\n  skep   {ours}"));
            }
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    // Legacy maps, static functions outside of `.text` and, by old versions, a second struct_ops section are refused.
    assert!(compared >= 10, "libbpf opened only {compared} of {} objects", objects.len());
}
