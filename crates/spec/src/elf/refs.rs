//! The relocations of code: which instruction needs which symbol.
//!
//! What a relocation means follows from the instruction and from where its symbol is defined, as in libbpf's
//! `bpf_program__record_reloc`; its type (`R_BPF_64_64`, `R_BPF_64_32`) only says which field the linker would patch. The
//! addend stands in the immediate: bytes for loads, slots minus one for calls.

use std::collections::HashSet;

use skep_insn::consts::{BPF_CALL, BPF_JMP, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC};
use skep_insn::{InsnIdx, RawInsn};

use super::Reader;
use super::file::{Reloc, STT_SECTION, Symbol, reloc_type};
use crate::function::{Fault, RefTarget, Reference};
use crate::{ExternKind, FuncId};

const CALL: u8 = BPF_JMP | BPF_CALL;

impl Reader<'_, '_> {
    pub(super) fn read_references(&mut self) {
        let elf = self.elf;
        for (section, code) in elf.sections.iter().enumerate() {
            if !code.is_code() {
                continue;
            }
            let mut outside = 0;
            for reloc in code.relocs.iter().filter(|reloc| reloc.r_type != reloc_type::R_BPF_NONE) {
                match self.function_holding(section, reloc.offset) {
                    Some((id, inside)) => self.read_reference(section, id, inside, reloc),
                    None => outside += 1,
                }
            }
            if outside > 0 {
                self.warn(code.name.as_ref(), format!("{outside} relocations lie in no function; they are ignored"));
            }
        }
        let aliases: HashSet<FuncId> = self.aliases.iter().map(|(alias, _)| *alias).collect();
        for index in 0..self.spec.functions.len() {
            if aliases.contains(&FuncId(index as u32)) {
                continue;
            }
            self.add_unrelocated_calls(FuncId(index as u32));
            let function = &mut self.spec.functions[index];
            function.references.sort_by_key(|reference| reference.insn);
            function.references.dedup_by_key(|reference| reference.insn);
        }
    }

    fn read_reference(&mut self, section: usize, id: FuncId, inside: u64, reloc: &Reloc) {
        let insn = InsnIdx((inside / 8) as u32);
        let result = if !inside.is_multiple_of(8) {
            Err(format!("a relocation at byte {inside} is inside an instruction"))
        } else if !matches!(reloc.r_type, reloc_type::R_BPF_64_64 | reloc_type::R_BPF_64_32) {
            Err(format!("relocation type {} is none of code", reloc.r_type))
        } else {
            self.target(section, id, insn, reloc)
        };
        let name = &self.elf.symbols[reloc.symbol].name;
        let function = &mut self.spec.functions[id.0 as usize];
        match result {
            Ok(target) => function.references.push(Reference { insn, target }),
            Err(message) => {
                let message = format!("instruction {insn} needs `{name}`: {message}");
                let subject = function.name.clone();
                function.faults.push(Fault { insn, message: message.clone() });
                self.warn(subject, message);
            }
        }
    }

    /// What the instruction needs; `Err` says why that cannot be told.
    fn target(&mut self, section: usize, id: FuncId, insn: InsnIdx, reloc: &Reloc) -> Result<RefTarget, String> {
        let elf = self.elf;
        let symbol = &elf.symbols[reloc.symbol];
        let raw: RawInsn = self.spec.function(id).insns[insn.0 as usize];
        let addend = reloc.addend.unwrap_or(i64::from(raw.imm));

        if raw.code == CALL {
            if let Some(&external) = self.extern_of_symbol.get(&reloc.symbol) {
                return match self.spec.external(external).kind {
                    ExternKind::Kfunc { .. } | ExternKind::Function { .. } => Ok(RefTarget::ExternCall(external)),
                    _ => Err("it is called, but declared as a variable".to_owned()),
                };
            }
            let Some(target) = symbol.section else {
                return Err(Self::undefined(symbol));
            };
            if reloc.addend.is_none() && raw.src_reg != BPF_PSEUDO_CALL {
                return Err("the call is not one of a function".to_owned());
            }
            // The immediate counts slots from the next instruction; a relocation with an addend of its own counts bytes.
            let off = match reloc.addend {
                None => addend.checked_add(1).and_then(|slots| slots.checked_mul(8)),
                Some(bytes) => Some(bytes),
            };
            let off = off.and_then(|off| symbol.value.checked_add_signed(off));
            return self.function_starting(target, off).map(RefTarget::Call);
        }

        if !raw.is_wide() {
            return Err(format!("an instruction with opcode {:#04x} takes no symbol", raw.code));
        }
        if insn.0 as usize + 1 >= self.spec.function(id).insns.len() {
            return Err("the wide load is cut off by the end of the function".to_owned());
        }
        if let Some(&external) = self.extern_of_symbol.get(&reloc.symbol) {
            // Of a kernel function, too: so a program asks whether a weak one is there.
            return Ok(RefTarget::Extern(external));
        }
        let Some(target) = symbol.section else {
            return Err(Self::undefined(symbol));
        };
        let off = symbol.value.checked_add_signed(addend);
        let place = &elf.sections[target];
        if place.is_code() {
            return self.function_starting(target, off).map(RefTarget::FuncAddr);
        }
        let off = off.ok_or("its address is negative")?;
        if let Some(&map) = self.map_at.get(&(target, off)) {
            return Ok(RefTarget::Map(map));
        }
        if let Some(&map) = self.map_of_section.get(&target) {
            return match u32::try_from(off) {
                Ok(off_bytes) if off <= place.size => Ok(RefTarget::MapValue { map, off_bytes }),
                _ => Err(format!("offset {off} lies outside of section `{}`", place.name)),
            };
        }
        if place.name == ".jumptables" {
            let (table, size) = if symbol.kind == STT_SECTION {
                (off, self.table_size(target, off))
            } else {
                (symbol.value, symbol.size)
            };
            return self.jump_table(section, id, target, table, size).map(RefTarget::JumpTable);
        }
        if place.name == ".maps" || place.name == "maps" || place.name.starts_with("maps/") {
            return Err(format!("no map is defined at offset {off} of section `{}`", place.name));
        }
        Err(format!("section `{}` holds neither code, maps nor data", place.name))
    }

    /// Size of the jump table that starts at `off` of section `tables`, from its symbol; 0 without one.
    fn table_size(&mut self, tables: usize, off: u64) -> u64 {
        let elf = self.elf;
        let sizes = self.table_sizes.get_or_insert_with(|| {
            let named = elf.symbols_in(tables).filter(|it| it.kind != STT_SECTION && it.size > 0);
            named.map(|it| (it.value, it.size)).collect()
        });
        sizes.get(&off).copied().unwrap_or(0)
    }

    fn function_starting(&self, section: usize, off: Option<u64>) -> Result<FuncId, String> {
        let name = &self.elf.sections[section].name;
        let off = off.ok_or("its address is negative")?;
        self.function_at
            .get(&(section, off))
            .copied()
            .ok_or_else(|| format!("no function starts at offset {off} of section `{name}`"))
    }

    /// Calls and callbacks inside one section need no relocation: the distance is final. Compilers and the static linker
    /// write them so now and then.
    fn add_unrelocated_calls(&mut self, id: FuncId) {
        let function = self.spec.function(id);
        let Some(section) = self.section_of.get(id.0 as usize).copied() else { return };
        let mut found = Vec::new();
        let mut faults = Vec::new();
        let mut skip = false;
        let mut relocated = function
            .references
            .iter()
            .map(|it| it.insn)
            .chain(function.faults.iter().map(|it| it.insn))
            .collect::<Vec<_>>();
        relocated.sort_unstable();
        for (index, raw) in function.insns.iter().enumerate() {
            if std::mem::take(&mut skip) {
                continue;
            }
            skip = raw.is_wide();
            let call = raw.code == CALL && raw.src_reg == BPF_PSEUDO_CALL;
            let address = raw.is_wide() && raw.src_reg == BPF_PSEUDO_FUNC;
            let insn = InsnIdx(index as u32);
            if !(call || address) || relocated.binary_search(&insn).is_ok() {
                continue;
            }
            let off = (function.section_off_bytes + index as u64 * 8 + 8).checked_add_signed(i64::from(raw.imm) * 8);
            match self.function_starting(section, off) {
                Ok(target) if call => found.push(Reference { insn, target: RefTarget::Call(target) }),
                Ok(target) => found.push(Reference { insn, target: RefTarget::FuncAddr(target) }),
                Err(message) => {
                    faults.push(Fault { insn, message: format!("instruction {insn} calls a function: {message}") })
                }
            }
        }
        let function = &mut self.spec.functions[id.0 as usize];
        function.references.append(&mut found);
        let subject = function.name.clone();
        let messages: Vec<String> = faults.iter().map(|fault| fault.message.clone()).collect();
        function.faults.append(&mut faults);
        for message in messages {
            self.warn(subject.clone(), message);
        }
    }

    /// Why a symbol that is defined nowhere cannot be used.
    fn undefined(symbol: &Symbol<'_>) -> String {
        if !symbol.undefined {
            "it is defined in no section".to_owned()
        } else {
            "it is undefined, and nothing in the object's types says what it is".to_owned()
        }
    }
}
