//! Jump tables (`.jumptables`, clang 22): arrays of 64-bit offsets into a code section, each the target of an indirect
//! jump of one function. They become instruction array maps (kernel 6.19).

use skep_insn::InsnIdx;

use super::Reader;
use super::btf_maps::blank;
use super::file::reloc_type;
use crate::map::{MapContents, MapOrigin, MapType};
use crate::{FuncId, MapId};

/// Size of `struct bpf_insn_array_value`, in bytes.
const VALUE_SIZE: u32 = 16;

impl Reader<'_, '_> {
    /// The map for the table of `size` bytes at `off` of section `tables`, as `function` uses it.
    pub(super) fn jump_table(
        &mut self,
        code: usize,
        function: FuncId,
        tables: usize,
        off: u64,
        size: u64,
    ) -> Result<MapId, String> {
        if let Some(&known) = self.jump_tables.get(&(function, off, size)) {
            return Ok(known);
        }
        if size == 0 || !size.is_multiple_of(8) || self.elf.sections[tables].data.len() as u64 / 8 < size / 8 {
            return Err(format!("{size} bytes are no jump table"));
        }
        self.slots_left = usize::try_from(size / 8)
            .ok()
            .and_then(|n| self.slots_left.checked_sub(n))
            .ok_or("jump tables overlap more than any compiler makes them")?;
        let owner = self.spec.function(function);
        let (start, n_insns) = (owner.section_off_bytes, owner.insns.len() as u64);
        let mut targets = Vec::new();
        for entry in 0..size / 8 {
            let at = off.saturating_add(entry * 8);
            let word = self.word64(tables, at).ok_or("the jump table ends outside of its section")?;
            // A relocation against the code section adds nothing, one against a symbol adds its offset.
            let base = self.elf.sections[tables]
                .relocs
                .binary_search_by_key(&at, |reloc| reloc.offset)
                .ok()
                .map(|found| &self.elf.sections[tables].relocs[found])
                .filter(|reloc| reloc.r_type == reloc_type::R_BPF_64_ABS64)
                .map(|reloc| &self.elf.symbols[reloc.symbol])
                .filter(|symbol| symbol.section == Some(code))
                .map_or(0, |symbol| symbol.value);
            let inside =
                base.wrapping_add(word).checked_sub(start).filter(|inside| inside % 8 == 0 && inside / 8 < n_insns);
            let inside = inside.ok_or_else(|| format!("entry {entry} of the jump table leads out of its function"))?;
            targets.push(InsnIdx((inside / 8) as u32));
        }
        let mut map = blank(".jumptables");
        map.map_type = MapType::INSN_ARRAY;
        (map.key_size, map.value_size, map.max_entries) = (4, VALUE_SIZE, targets.len() as u32);
        map.contents = MapContents::JumpTable { function, targets };
        map.origin = MapOrigin::JumpTable;
        let id = self.add_map(map);
        self.jump_tables.insert((function, off, size), id);
        Ok(id)
    }
}
