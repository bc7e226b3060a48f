//! Names as the kernel takes them: at most 15 bytes of letters, digits, `_` and `.` (`BPF_OBJ_NAME_LEN`).

use crate::map::MapOrigin;
use crate::{MapId, Spec};

/// `BPF_OBJ_NAME_LEN` without the closing zero.
const MAX: usize = 15;

impl Spec {
    /// The name that the map `id` bears in the kernel.
    ///
    /// Maps of data sections are called after their object, so that `.rodata` of `bootstrap.bpf.o` becomes
    /// `bootstra.rodata`: the section's name in full where it fits (at least 7 bytes are kept for it), before it as much
    /// of the object's name as there is room. Names of custom sections (`.data.counters`) leave the object out. This is
    /// libbpf's `internal_map_name`.
    pub fn kernel_map_name(&self, id: MapId) -> String {
        let map = self.map(id);
        match map.origin {
            MapOrigin::Data(_) | MapOrigin::Kconfig => data_map_name(&self.name, &map.name),
            _ => clean(map.name.bytes().take(MAX)),
        }
    }

    /// The name that a program called `name` bears in the kernel.
    pub fn kernel_program_name(name: &str) -> String {
        clean(name.bytes().take(MAX))
    }
}

fn data_map_name(object: &str, section: &str) -> String {
    let kept = section.len().clamp(7, MAX);
    let custom = section.get(1..).is_some_and(|rest| rest.contains('.'));
    let prefix = if custom { 0 } else { (MAX - kept).min(object.len()) };
    clean(object.bytes().take(prefix).chain(section.bytes().take(kept)))
}

fn clean(bytes: impl Iterator<Item = u8>) -> String {
    bytes
        .map(|byte| if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' { char::from(byte) } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_maps_are_named_after_object_and_section() {
        let cases = [
            ("bootstrap", ".rodata", "bootstra.rodata"),
            ("bootstrap", ".bss", "bootstra.bss"),
            ("x", ".data", "x.data"),
            ("bootstrap", ".kconfig", "bootstr.kconfig"),
            ("bootstrap", ".data.counters", ".data.counters"),
            ("bootstrap", ".rodata.str1.16", ".rodata.str1.16"),
            ("bootstrap", ".rodata.something_long", ".rodata.somethi"),
            ("a-b", ".bss", "a_b.bss"),
        ];
        for (object, section, name) in cases {
            assert_eq!(data_map_name(object, section), name);
        }
    }
}
