//! ELF out: from a [`Spec`] to a relocatable object that compilers' tools, libbpf and [`Spec::parse`] read.
//!
//! What was edited is in the object: sizes, flags and slots of maps, values of globals, sections and names of programs,
//! inserted instructions. Types keep their ids and strings their offsets; definitions of maps are written afresh as new
//! types, since that is what an edit of a map changes.
//!
//! | part of the Spec | section |
//! | --- | --- |
//! | functions | their own; a program's is that of [`Program::section`](crate::Program::section), with `?` when it is off |
//! | maps (legacy ones too) | `.maps` |
//! | data sections, an arena's globals | their own |
//! | struct_ops | `.struct_ops`, `.struct_ops.link` and their `?` forms |
//! | jump tables | `.jumptables` |
//! | types, lines, CO-RE records | `.BTF`, `.BTF.ext` |
//!
//! Not in an object: a map switched off (only struct_ops have a form for it), warnings and faults.

use std::collections::HashMap;

use object::elf;
use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use skep_btf::{Btf, Builder};
use skep_insn::{Endian, RawInsn, slots_to_bytes};

use super::data::ARENA_SECTION;
use super::file::reloc_type::{R_BPF_64_32, R_BPF_64_64, R_BPF_64_ABS64};
use crate::function::{Linkage, RefTarget};
use crate::map::{DataKind, MapContents, MapOrigin, Slot};
use crate::{Error, FuncId, Function, Map, MapId, Spec};

mod records;
mod types;

/// The bytes of a relocatable object, in the Spec's byte order.
///
/// # Errors
///
/// When the Spec contradicts itself: a reference from an instruction that cannot hold it, an index that leads nowhere,
/// types that are damaged.
pub fn write(spec: &Spec) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::new(spec)?;
    writer.place_functions();
    writer.write_license_and_version()?;
    writer.write_externs();
    writer.write_data_sections()?;
    writer.write_maps()?;
    writer.write_struct_ops()?;
    writer.write_jump_tables()?;
    writer.write_code()?;
    writer.write_types()?;
    writer.object.write().map_err(|err| Error::new(format!("the object cannot be written: {err}")))
}

struct Writer<'s> {
    spec: &'s Spec,
    object: Object<'static>,
    /// Types in the making; `None` when the object has none and needs none.
    types: Option<Builder>,
    /// The object's types, with resized data sections fitted.
    btf: Option<Btf>,
    sections: HashMap<String, SectionId>,
    /// Where each function is put: section and offset.
    places: Vec<(String, u64)>,
    /// Which functions are only another name of an earlier one.
    aliases: Vec<bool>,
    function_symbols: Vec<SymbolId>,
    /// What a reference to a map names: the variable, or the section of its data.
    map_symbols: HashMap<MapId, SymbolId>,
    /// The section of a map's data.
    data_symbols: HashMap<MapId, SymbolId>,
    extern_symbols: Vec<SymbolId>,
}

impl<'s> Writer<'s> {
    fn new(spec: &'s Spec) -> Result<Writer<'s>, Error> {
        let endian = match spec.endian {
            Endian::Little => Endianness::Little,
            Endian::Big => Endianness::Big,
        };
        let btf = match spec.fitted_btf() {
            Some(bytes) => Some(Btf::parse(bytes).map_err(|err| Error::new(err.to_string()).in_section(".BTF"))?),
            None => None,
        };
        let needs_types = spec.maps.iter().any(is_variable);
        let types = match &btf {
            Some(btf) => Some(Builder::from_btf(btf)),
            None => needs_types.then(Builder::new),
        };
        Ok(Writer {
            spec,
            object: Object::new(BinaryFormat::Elf, Architecture::Bpf, endian),
            types,
            btf,
            sections: HashMap::new(),
            places: Vec::new(),
            aliases: Vec::new(),
            function_symbols: Vec::new(),
            map_symbols: HashMap::new(),
            data_symbols: HashMap::new(),
            extern_symbols: Vec::new(),
        })
    }

    fn section(&mut self, name: &str, kind: SectionKind) -> SectionId {
        if let Some(&known) = self.sections.get(name) {
            return known;
        }
        let id = self.object.add_section(Vec::new(), name.as_bytes().to_vec(), kind);
        self.sections.insert(name.to_owned(), id);
        id
    }

    fn symbol(
        &mut self,
        name: &str,
        kind: SymbolKind,
        scope: SymbolScope,
        section: SectionId,
        value: u64,
        size: u64,
    ) -> SymbolId {
        self.object.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value,
            size,
            kind,
            scope,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        })
    }

    fn relocate(&mut self, section: SectionId, offset: u64, symbol: SymbolId, r_type: u32) -> Result<(), Error> {
        let flags = RelocationFlags::Elf { r_type: elf::RelocationType(r_type) };
        self.object
            .add_relocation(section, Relocation { offset, symbol, addend: 0, flags })
            .map_err(|err| Error::new(format!("a relocation cannot be written: {err}")).at(offset))
    }

    /// Decides where each function goes, and makes its symbol. Instructions may have been inserted, so offsets are new;
    /// the order in a section stays.
    fn place_functions(&mut self) {
        let spec = self.spec;
        let mut names: Vec<String> = spec.functions.iter().map(|function| function.section.clone()).collect();
        let mut entries = vec![false; spec.functions.len()];
        for program in &spec.programs {
            let index = program.entry.0 as usize;
            if let Some(name) = names.get_mut(index) {
                *name = if program.autoload { program.section.clone() } else { format!("?{}", program.section) };
                entries[index] = true;
            }
        }
        let mut order: Vec<usize> = (0..spec.functions.len()).collect();
        order.sort_by_key(|&index| spec.functions[index].section_off_bytes);
        let mut ends: HashMap<&str, u64> = HashMap::new();
        let mut first_at: HashMap<(&str, u64), usize> = HashMap::new();
        let mut offsets = vec![0; names.len()];
        self.aliases = vec![false; names.len()];
        for index in order {
            // Two names of one place: the instructions are written once, as long as no edit has parted them.
            let function = &spec.functions[index];
            let first = *first_at.entry((&names[index], function.section_off_bytes)).or_insert(index);
            if first != index && spec.functions[first].insns == function.insns {
                offsets[index] = offsets[first];
                self.aliases[index] = true;
                continue;
            }
            let end = ends.entry(&names[index]).or_default();
            offsets[index] = *end;
            *end += spec.functions[index].insns.len() as u64 * 8;
        }
        self.places = names.iter().cloned().zip(offsets).collect();
        for (index, function) in spec.functions.iter().enumerate() {
            let (name, off) = self.places[index].clone();
            let section = self.section(&name, SectionKind::Text);
            let scope = match function.linkage {
                Linkage::Static if entries[index] => SymbolScope::Linkage,
                linkage => scope(linkage, function.hidden),
            };
            let size = function.insns.len() as u64 * 8;
            let symbol = self.symbol(&function.name, SymbolKind::Text, scope, section, off, size);
            self.object.symbol_mut(symbol).weak = function.linkage == Linkage::Weak;
            self.function_symbols.push(symbol);
        }
    }

    fn write_license_and_version(&mut self) -> Result<(), Error> {
        if let Some(license) = &self.spec.license {
            let section = self.section("license", SectionKind::Data);
            self.object.append_section_data(section, &[license.as_bytes(), &[0]].concat(), 1);
            self.name_variables("license", section);
        }
        if let Some(version) = self.spec.kernel_version {
            let section = self.section("version", SectionKind::Data);
            let bytes = match self.spec.endian {
                Endian::Little => version.to_le_bytes(),
                Endian::Big => version.to_be_bytes(),
            };
            self.object.append_section_data(section, &bytes, 4);
            self.name_variables("version", section);
        }
        Ok(())
    }

    fn write_data_sections(&mut self) -> Result<(), Error> {
        for (id, map) in self.spec.maps() {
            let Some(data) = map.data_section() else { continue };
            let arena = data.kind == DataKind::Arena;
            let name = if arena { ARENA_SECTION } else { &map.name };
            let align = u64::from(data.align_bytes).max(1).next_power_of_two();
            let size = if arena {
                let end = data.variables.iter().map(|it| u64::from(it.off_bytes) + u64::from(it.size_bytes)).max();
                end.unwrap_or(0)
            } else {
                u64::from(map.value_size)
            };
            let kind = match (&map.contents, data.kind) {
                (MapContents::Data(_), DataKind::Rodata) => SectionKind::ReadOnlyData,
                (MapContents::Data(_), _) => SectionKind::Data,
                _ => SectionKind::UninitializedData,
            };
            let section = self.section(name, kind);
            if let MapContents::Data(bytes) = &map.contents {
                let mut bytes = bytes.clone();
                bytes.resize(usize::try_from(size).unwrap_or(bytes.len()).max(bytes.len()), 0);
                self.object.append_section_data(section, &bytes, align);
            } else {
                self.object.append_section_bss(section, size, align);
            }
            for variable in &data.variables {
                let scope = scope(variable.linkage, !variable.global);
                let (off, size) = (u64::from(variable.off_bytes), u64::from(variable.size_bytes));
                let symbol = self.symbol(&variable.name, SymbolKind::Data, scope, section, off, size);
                self.object.symbol_mut(symbol).weak = variable.linkage == Linkage::Weak;
            }
            let symbol = self.object.section_symbol(section);
            self.data_symbols.insert(id, symbol);
        }
        Ok(())
    }

    fn write_jump_tables(&mut self) -> Result<(), Error> {
        for (id, map) in self.spec.maps() {
            let MapContents::JumpTable { function, targets } = &map.contents else { continue };
            let start = self.places.get(function.0 as usize).ok_or_else(|| nowhere(&map.name))?.1;
            let section = self.section(".jumptables", SectionKind::Other);
            let mut bytes = Vec::new();
            for target in targets {
                bytes.extend(self.word64(start + u64::from(target.0) * 8));
            }
            let off = self.object.append_section_data(section, &bytes, 8);
            let name = format!("BPF.JT.{}.{}", function.0, id.0);
            let symbol =
                self.symbol(&name, SymbolKind::Data, SymbolScope::Compilation, section, off, bytes.len() as u64);
            self.map_symbols.insert(id, symbol);
        }
        Ok(())
    }

    fn write_externs(&mut self) {
        for external in &self.spec.externs {
            let symbol = self.object.add_symbol(Symbol {
                name: external.name.as_bytes().to_vec(),
                value: 0,
                size: 0,
                kind: SymbolKind::Unknown,
                scope: SymbolScope::Dynamic,
                weak: external.weak,
                section: SymbolSection::Undefined,
                flags: SymbolFlags::None,
            });
            self.extern_symbols.push(symbol);
        }
    }

    fn write_code(&mut self) -> Result<(), Error> {
        let spec = self.spec;
        let mut order: Vec<usize> = (0..spec.functions.len()).collect();
        order.sort_by_key(|&index| self.places[index].1);
        order.retain(|&index| !self.aliases[index]);
        for index in order {
            let function = &spec.functions[index];
            let (name, off) = self.places[index].clone();
            let section = self.section(&name, SectionKind::Text);
            let mut insns = function.insns.clone();
            for reference in &function.references {
                let at = reference.insn.0 as usize;
                let (symbol, imm) = self.target(function, reference.target)?;
                let wide = insns.get(at).is_some_and(|insn: &RawInsn| insn.is_wide()) && at + 1 < insns.len();
                let call = matches!(reference.target, RefTarget::Call(_) | RefTarget::ExternCall(_));
                let Some(insn) = insns.get_mut(at).filter(|_| wide || call) else {
                    return Err(Error::new(format!("instruction {at} cannot refer to anything"))
                        .in_section(&name)
                        .at(off + at as u64 * 8)
                        .about(&function.name));
                };
                insn.imm = imm;
                if !call {
                    insns[at + 1].imm = 0;
                }
                let r_type = if call { R_BPF_64_32 } else { R_BPF_64_64 };
                self.relocate(section, off + at as u64 * 8, symbol, r_type)?;
            }
            self.object.append_section_data(section, &slots_to_bytes(&insns, spec.endian), 8);
        }
        Ok(())
    }

    /// The symbol of a reference and the addend that its instruction holds.
    fn target(&mut self, function: &Function, target: RefTarget) -> Result<(SymbolId, i32), Error> {
        let missing = || nowhere(&function.name);
        Ok(match target {
            RefTarget::Map(map) | RefTarget::JumpTable(map) => (*self.map_symbols.get(&map).ok_or_else(missing)?, 0),
            RefTarget::MapValue { map, off_bytes } => {
                (*self.data_symbols.get(&map).ok_or_else(missing)?, off_bytes as i32)
            }
            // Calls count from the next instruction.
            RefTarget::Call(id) => (*self.function_symbols.get(id.0 as usize).ok_or_else(missing)?, -1),
            RefTarget::FuncAddr(id) => self.address(id).ok_or_else(missing)?,
            RefTarget::Extern(id) => (*self.extern_symbols.get(id.0 as usize).ok_or_else(missing)?, 0),
            RefTarget::ExternCall(id) => (*self.extern_symbols.get(id.0 as usize).ok_or_else(missing)?, -1),
        })
    }

    /// Addresses of static functions go through their section, the only form that libbpf takes.
    fn address(&mut self, id: FuncId) -> Option<(SymbolId, i32)> {
        let symbol = *self.function_symbols.get(id.0 as usize)?;
        if self.object.symbol(symbol).scope != SymbolScope::Compilation {
            return Some((symbol, 0));
        }
        let (name, off) = self.places.get(id.0 as usize)?;
        let section = *self.sections.get(name)?;
        let off = i32::try_from(*off).ok()?;
        Some((self.object.section_symbol(section), off))
    }

    /// Fills the slots of a map: eight bytes each, from `off` of section `section` on.
    fn relocate_slots(&mut self, section: SectionId, off: u64, map: &Map) -> Result<(), Error> {
        let MapContents::Slots(slots) = &map.contents else { return Ok(()) };
        for (index, slot) in slots {
            let symbol = match slot {
                Slot::Extern(id) => self.extern_symbols.get(id.0 as usize).copied(),
                Slot::Map(id) => self.map_symbols.get(id).copied(),
                Slot::Program(id) => self
                    .spec
                    .programs
                    .get(id.0 as usize)
                    .and_then(|program| self.function_symbols.get(program.entry.0 as usize).copied()),
            };
            let symbol = symbol.ok_or_else(|| nowhere(&map.name))?;
            self.relocate(section, off + u64::from(*index) * 8, symbol, R_BPF_64_ABS64)?;
        }
        Ok(())
    }

    fn word64(&self, value: u64) -> [u8; 8] {
        match self.spec.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        }
    }
}

/// Whether a map is a variable of `.maps`.
fn is_variable(map: &Map) -> bool {
    // An arena of another object has only its globals here.
    if matches!(map.origin, MapOrigin::Arena(_)) && map.name == ARENA_SECTION {
        return false;
    }
    matches!(map.origin, MapOrigin::Btf | MapOrigin::Legacy | MapOrigin::Made | MapOrigin::Arena(_))
}

/// Who sees a symbol.
fn scope(linkage: Linkage, hidden: bool) -> SymbolScope {
    match linkage {
        Linkage::Static => SymbolScope::Compilation,
        Linkage::Global | Linkage::Weak if hidden => SymbolScope::Linkage,
        Linkage::Global | Linkage::Weak => SymbolScope::Dynamic,
    }
}

fn nowhere(name: &str) -> Error {
    Error::new("it refers to something that the Spec does not have").about(name)
}
