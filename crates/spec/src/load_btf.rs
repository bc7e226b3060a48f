//! The object's types as the kernel wants to see them.
//!
//! When an object is read its data sections already get their sizes and offsets. What the kernel cannot take, but a person
//! wants to keep, is changed only here (libbpf's `bpf_object__collect_externs` and `bpf_object_fixup_btf`):
//!
//! - externs become variables that look allocated: the kernel knows no extern data. In `.ksyms` each is an `int`, and
//!   functions are stood in for by one dummy variable;
//! - functions that are global but hidden, and so are verified with their callers, are marked static;
//! - `.kconfig` gets the offsets that its map has;
//! - data sections that were resized get their new size.
//!
//! Type ids and string offsets stay as they are, since line records and instructions name them; what is new comes last.

use std::collections::HashMap;

use skep_btf::{Btf, FuncLinkage, Kind, Type, TypeId, VarLinkage};
use skep_insn::Endian;

use crate::elf::types::{Layout, read32, write32};
use crate::external::ExternKind;
use crate::function::Linkage;
use crate::map::{MapOrigin, Variable};
use crate::{Error, Resolved, Spec};

/// A `BTF_KIND_*` in the info word of a type.
const KIND_SHIFT: u32 = 24;

impl Resolved {
    /// The bytes for `BPF_BTF_LOAD`: those of [`Spec::btf_for_load`], with what resolving added ([`Resolved::btf`]).
    ///
    /// # Errors
    ///
    /// As [`Spec::btf_for_load`].
    pub fn btf_for_load(&self, spec: &Spec) -> Result<Option<Vec<u8>>, Error> {
        match &self.btf {
            Some(btf) => spec.fit_btf(btf).map(Some),
            None => spec.btf_for_load(),
        }
    }
}

impl Spec {
    /// The bytes of [`Spec::btf`] for `BPF_BTF_LOAD`; `None` without types.
    ///
    /// Kernels before 6.8 or so know fewer kinds than compilers write; leaving those out is the loader's task.
    ///
    /// # Errors
    ///
    /// When the types are damaged in a way that reading them lazily did not show.
    pub fn btf_for_load(&self) -> Result<Option<Vec<u8>>, Error> {
        match &self.btf {
            Some(btf) => self.fit_btf(btf).map(Some),
            None => Ok(None),
        }
    }

    /// The bytes for `btf`, which begins as [`Spec::btf`] does.
    fn fit_btf(&self, btf: &Btf) -> Result<Vec<u8>, Error> {
        let mut edit = Edit::new(btf).ok_or_else(|| Error::new("the types are damaged").in_section(".BTF"))?;
        self.fit_data_sections(&mut edit);
        self.fit_kconfig(&mut edit);
        self.fit_ksyms(&mut edit);
        for function in &self.functions {
            if function.linkage == Linkage::Static
                && let Some(id) = function.btf_func
                && let Ok(Type::Func(func)) = btf.type_by_id(id)
                && func.linkage() != FuncLinkage::STATIC
            {
                edit.set_func_linkage(id, FuncLinkage::STATIC);
            }
        }
        Ok(edit.finish())
    }

    /// The bytes of [`Spec::btf`] with the sizes of data sections as they are now.
    pub(crate) fn fitted_btf(&self) -> Result<Option<Vec<u8>>, Error> {
        let Some(btf) = &self.btf else { return Ok(None) };
        let mut edit = Edit::new(btf).ok_or_else(|| Error::new("the types are damaged").in_section(".BTF"))?;
        self.fit_data_sections(&mut edit);
        Ok(Some(edit.finish()))
    }

    fn fit_data_sections(&self, edit: &mut Edit<'_>) {
        for map in &self.maps {
            let MapOrigin::Data(section) = &map.origin else { continue };
            let Some(id) = section.datasec else { continue };
            let Ok(Type::Datasec(datasec)) = edit.btf.type_by_id(id) else { continue };
            // Static variables of one name cannot be told apart: they keep their places.
            let mut places: HashMap<&str, Option<&Variable>> = HashMap::new();
            for variable in &section.variables {
                places.entry(&variable.name).and_modify(|it| *it = None).or_insert(Some(variable));
            }
            edit.set_size(id, map.value_size);
            let mut entries: Vec<(TypeId, u32, u32)> = datasec
                .vars()
                .map(|entry| {
                    let name = match edit.btf.type_by_id(entry.type_id) {
                        Ok(Type::Var(var)) => var.name(),
                        _ => "",
                    };
                    match places.get(name) {
                        Some(Some(variable)) => (entry.type_id, variable.off_bytes, variable.size_bytes),
                        _ => (entry.type_id, entry.offset, entry.size),
                    }
                })
                .collect();
            entries.sort_by_key(|entry| entry.1);
            for (index, (type_id, offset, size)) in entries.into_iter().enumerate() {
                edit.set_entry(id, index, type_id, offset, size);
            }
        }
    }

    fn fit_kconfig(&self, edit: &mut Edit<'_>) {
        let Some(id) = edit.btf.find(".kconfig", Kind::DATASEC) else { return };
        let Ok(Type::Datasec(datasec)) = edit.btf.type_by_id(id) else { return };
        let places: HashMap<TypeId, (u32, u32)> = self
            .externs
            .iter()
            .filter_map(|external| match external.kind {
                ExternKind::Kconfig { off_bytes, size_bytes, .. } => Some((external.btf_id?, (off_bytes, size_bytes))),
                _ => None,
            })
            .collect();
        let mut end = 0;
        let mut entries = Vec::new();
        for entry in datasec.vars() {
            let place = places.get(&entry.type_id).copied();
            // A variable that no instruction uses has no symbol, hence no place: it goes behind the others.
            let (offset, size) = place.unwrap_or((u32::MAX, entry.size));
            edit.set_var_linkage(entry.type_id, VarLinkage::GLOBAL);
            entries.push((entry.type_id, offset, size));
        }
        entries.sort_by_key(|entry| entry.1);
        for (index, (type_id, offset, size)) in entries.into_iter().enumerate() {
            let offset = if offset == u32::MAX { end } else { offset };
            end = offset.saturating_add(size);
            edit.set_entry(id, index, type_id, offset, size);
        }
        edit.set_size(id, end);
    }

    fn fit_ksyms(&self, edit: &mut Edit<'_>) {
        let Some(id) = edit.btf.find(".ksyms", Kind::DATASEC) else { return };
        let Ok(Type::Datasec(datasec)) = edit.btf.type_by_id(id) else { return };
        let int = edit.int();
        let mut dummy: Option<(TypeId, u32)> = None;
        let mut off = 0u32;
        for (index, entry) in datasec.vars().enumerate() {
            let type_id = match edit.btf.type_by_id(entry.type_id) {
                Ok(Type::Func(func)) => {
                    let (var, name) = *dummy.get_or_insert_with(|| edit.add_dummy(int));
                    edit.name_params(func.proto(), name);
                    edit.set_func_linkage(entry.type_id, FuncLinkage::GLOBAL);
                    var
                }
                _ => {
                    edit.set_var_linkage(entry.type_id, VarLinkage::GLOBAL);
                    edit.set_type(entry.type_id, int);
                    entry.type_id
                }
            };
            edit.set_entry(id, index, type_id, off, 4);
            off = off.saturating_add(4);
        }
        edit.set_size(id, off);
    }
}

/// Types being changed in place, with additions at their ends.
struct Edit<'b> {
    btf: &'b Btf,
    endian: Endian,
    layout: Layout,
    /// The bytes as they were, changed in place.
    bytes: Vec<u8>,
    /// Records that go behind the last type.
    added_types: Vec<u8>,
    added_strings: Vec<u8>,
    n_types: u32,
    n_strings: u32,
}

impl<'b> Edit<'b> {
    fn new(btf: &'b Btf) -> Option<Edit<'b>> {
        let bytes = btf.as_bytes().to_vec();
        Some(Edit {
            btf,
            endian: btf.endian(),
            layout: Layout::of(btf, &bytes)?,
            n_strings: read32(&bytes, 20, btf.endian())?,
            n_types: btf.len(),
            bytes,
            added_types: Vec::new(),
            added_strings: Vec::new(),
        })
    }

    fn put(&mut self, id: TypeId, off: usize, value: u32) {
        write32(&mut self.bytes, self.layout.offset(id).saturating_add(off), value, self.endian);
    }

    fn set_size(&mut self, id: TypeId, size: u32) {
        self.put(id, 8, size);
    }

    fn set_type(&mut self, id: TypeId, type_id: TypeId) {
        self.put(id, 8, type_id.0);
    }

    fn set_var_linkage(&mut self, id: TypeId, linkage: VarLinkage) {
        self.put(id, 12, linkage.0);
    }

    fn set_func_linkage(&mut self, id: TypeId, linkage: FuncLinkage) {
        let at = self.layout.offset(id).saturating_add(4);
        if let Some(info) = read32(&self.bytes, at, self.endian) {
            write32(&mut self.bytes, at, info & !0xff_ffff | linkage.0, self.endian);
        }
    }

    fn set_entry(&mut self, datasec: TypeId, index: usize, type_id: TypeId, offset: u32, size: u32) {
        let at = 12 + index * 12;
        self.put(datasec, at, type_id.0);
        self.put(datasec, at + 4, offset);
        self.put(datasec, at + 8, size);
    }

    /// Names the parameters of `proto` that have a type and no name: the kernel insists on names of global functions.
    fn name_params(&mut self, proto: TypeId, name_off: u32) {
        let Ok(Type::FuncProto(func)) = self.btf.type_by_id(proto) else { return };
        for (index, param) in func.params().enumerate() {
            if param.type_id != TypeId::VOID && param.name_off == 0 {
                self.put(proto, 12 + index * 8, name_off);
            }
        }
    }

    /// An integer of four bytes: one that is there, or a new one.
    fn int(&mut self) -> TypeId {
        let found = self.btf.types().find_map(|(id, it)| match it {
            Type::Int(int) if int.size() == 4 => Some(id),
            _ => None,
        });
        match found {
            Some(id) => id,
            None => {
                let name = self.string("int");
                self.record([name, u32::from(Kind::INT.0) << KIND_SHIFT, 4, 1 << 24 | 32])
            }
        }
    }

    fn add_dummy(&mut self, int: TypeId) -> (TypeId, u32) {
        let name = self.string("dummy_ksym");
        let var = self.record([name, u32::from(Kind::VAR.0) << KIND_SHIFT, int.0, VarLinkage::GLOBAL.0]);
        (var, name)
    }

    fn string(&mut self, text: &str) -> u32 {
        let off = self.n_strings + self.added_strings.len() as u32;
        self.added_strings.extend_from_slice(text.as_bytes());
        self.added_strings.push(0);
        off
    }

    fn record(&mut self, words: [u32; 4]) -> TypeId {
        for word in words {
            self.added_types.extend_from_slice(&match self.endian {
                Endian::Little => word.to_le_bytes(),
                Endian::Big => word.to_be_bytes(),
            });
        }
        let id = TypeId(self.n_types);
        self.n_types += 1;
        id
    }

    /// Header, types, strings: a plain header of 24 bytes, whatever the old one was.
    fn finish(self) -> Vec<u8> {
        if self.added_types.is_empty() && self.added_strings.is_empty() {
            return self.bytes;
        }
        let word = |off| read32(&self.bytes, off, self.endian).unwrap_or(0) as usize;
        let (start, type_off, type_len, str_off, str_len) = (word(4), word(8), word(12), word(16), word(20));
        let part = |off: usize, len: usize| {
            let from = start.saturating_add(off);
            self.bytes.get(from..from.saturating_add(len)).unwrap_or_default()
        };
        let (types, strings) = (part(type_off, type_len), part(str_off, str_len));
        let mut out = self.bytes.get(..4).unwrap_or_default().to_vec();
        out.resize(24, 0);
        let n_types = (types.len() + self.added_types.len()) as u32;
        let n_strings = (strings.len() + self.added_strings.len()) as u32;
        for (off, value) in [(4, 24), (8, 0), (12, n_types), (16, n_types), (20, n_strings)] {
            write32(&mut out, off, value, self.endian);
        }
        for piece in [types, &self.added_types, strings, &self.added_strings] {
            out.extend_from_slice(piece);
        }
        out
    }
}
