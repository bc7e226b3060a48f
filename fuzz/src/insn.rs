//! Seeds for the targets of `skep-insn`, whose bodies are in [`skep_insn::fuzz`].

use skep_insn::text::{Printer, Spelling};
use skep_insn::{Endian, slots_from_bytes};

/// Code sections as text, in both spellings.
pub(crate) fn listings(object: &[u8]) -> Vec<Vec<u8>> {
    let endian = if object.get(5) == Some(&2) { Endian::Big } else { Endian::Little };
    let mut seeds = Vec::new();
    for code in crate::code_sections(object) {
        let Ok(slots) = slots_from_bytes(&code, endian) else { continue };
        for spelling in [Spelling::Kernel, Spelling::LLVM] {
            let text: Vec<String> = Printer::new(spelling).exact().lines(&slots).map(|(_, line)| line).collect();
            seeds.push(text.join("\n").into_bytes());
        }
    }
    seeds
}
