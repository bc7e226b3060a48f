//! The object's types as the kernel wants to see them.
//!
//! When an object is read its data sections already get their sizes and offsets. What the kernel cannot take, but a person
//! wants to keep, is changed only here (libbpf's `bpf_object__collect_externs` and `bpf_object_fixup_btf`):
//!
//! - externs become variables that look allocated: the kernel knows no extern data. In `.ksyms` each is an `int`, and
//!   functions are stood in for by one dummy variable;
//! - functions that are global but hidden, and so are verified with their callers, are marked static;
//! - what another object should have defined, but was not linked in, looks defined: programs that need it do not load, and the
//!   others need types;
//! - `.kconfig` gets the offsets that its map has;
//! - data sections that were resized get their new size.
//!
//! Type ids and string offsets stay as they are, since line records and instructions name them; what is new comes last.

use std::collections::HashMap;

use skep_btf::{Btf, Edit, FuncLinkage, Kind, SecVar, Type, TypeId, VarLinkage};

use crate::external::ExternKind;
use crate::map::{MapOrigin, Variable};
use crate::{Resolved, Spec};

impl Resolved {
    /// The bytes for `BPF_BTF_LOAD`: those of [`Spec::btf_for_load`], with what resolving added ([`Resolved::btf`]).
    pub fn btf_for_load(&self, spec: &Spec) -> Option<Vec<u8>> {
        match &self.btf {
            Some(btf) => Some(spec.fit_btf(btf)),
            None => spec.btf_for_load(),
        }
    }
}

impl Spec {
    /// The bytes of [`Spec::btf`] for `BPF_BTF_LOAD`; `None` without types.
    ///
    /// Kernels before 6.8 or so know fewer kinds than compilers write; leaving those out is the loader's task.
    pub fn btf_for_load(&self) -> Option<Vec<u8>> {
        self.btf.as_ref().map(|btf| self.fit_btf(btf))
    }

    /// The bytes for `btf`, which begins as [`Spec::btf`] does.
    fn fit_btf(&self, btf: &Btf) -> Vec<u8> {
        let mut edit = Edit::new(btf);
        self.fit_data_sections(&mut edit);
        self.fit_kconfig(&mut edit);
        self.fit_ksyms(&mut edit);
        self.fit_unlinked(&mut edit);
        for function in &self.functions {
            if function.is_static()
                && let Some(id) = function.btf_func
                && let Ok(Type::Func(func)) = btf.type_by_id(id)
                && func.linkage() != FuncLinkage::STATIC
            {
                edit.set_func_linkage(id, FuncLinkage::STATIC);
            }
        }
        edit.finish()
    }

    /// The bytes of [`Spec::btf`] with the sizes of data sections as they are now.
    pub(crate) fn fitted_btf(&self) -> Option<Vec<u8>> {
        let mut edit = Edit::new(self.btf.as_ref()?);
        self.fit_data_sections(&mut edit);
        Some(edit.finish())
    }

    fn fit_data_sections(&self, edit: &mut Edit<'_>) {
        for map in &self.maps {
            let MapOrigin::Data(section) = &map.origin else { continue };
            let Some(id) = section.datasec else { continue };
            let Ok(Type::Datasec(datasec)) = edit.btf().type_by_id(id) else { continue };
            // Static variables of one name cannot be told apart: they keep their places.
            let mut places: HashMap<&str, Option<&Variable>> = HashMap::new();
            for variable in &section.variables {
                places.entry(&variable.name).and_modify(|it| *it = None).or_insert(Some(variable));
            }
            edit.set_size(id, map.value_size);
            let mut entries: Vec<(TypeId, u32, u32)> = datasec
                .vars()
                .map(|entry| {
                    let name = match edit.btf().type_by_id(entry.type_id) {
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
                edit.set_section_var(id, index, SecVar { type_id, offset, size });
            }
        }
    }

    fn fit_kconfig(&self, edit: &mut Edit<'_>) {
        let Some(id) = edit.btf().find(".kconfig", Kind::DATASEC) else { return };
        let Ok(Type::Datasec(datasec)) = edit.btf().type_by_id(id) else { return };
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
            edit.set_section_var(id, index, SecVar { type_id, offset, size });
        }
        edit.set_size(id, end);
    }

    fn fit_ksyms(&self, edit: &mut Edit<'_>) {
        let Some(id) = edit.btf().find(".ksyms", Kind::DATASEC) else { return };
        let Ok(Type::Datasec(datasec)) = edit.btf().type_by_id(id) else { return };
        let int = int(edit);
        let mut dummy: Option<(TypeId, u32)> = None;
        let mut off = 0u32;
        for (index, entry) in datasec.vars().enumerate() {
            let type_id = match edit.btf().type_by_id(entry.type_id) {
                Ok(Type::Func(func)) => {
                    let (var, name) = *dummy.get_or_insert_with(|| {
                        let name = edit.add_string("dummy_ksym");
                        (edit.add_var(name, int, VarLinkage::GLOBAL), name)
                    });
                    name_params(edit, func.proto(), name);
                    edit.set_func_linkage(entry.type_id, FuncLinkage::GLOBAL);
                    var
                }
                _ => {
                    edit.set_var_linkage(entry.type_id, VarLinkage::GLOBAL);
                    edit.set_target(entry.type_id, int);
                    entry.type_id
                }
            };
            edit.set_section_var(id, index, SecVar { type_id, offset: off, size: 4 });
            off = off.saturating_add(4);
        }
        edit.set_size(id, off);
    }
}

impl Spec {
    fn fit_unlinked(&self, edit: &mut Edit<'_>) {
        let mut unlinked = self.externs.iter().filter(|it| it.kind.is_of_object()).peekable();
        if unlinked.peek().is_none() {
            return;
        }
        let name = edit.add_string("unlinked");
        for external in unlinked {
            let Some(id) = external.btf_id else { continue };
            edit.set_var_linkage(id, VarLinkage::GLOBAL);
            edit.set_func_linkage(id, FuncLinkage::GLOBAL);
            if let ExternKind::Function { proto } = external.kind {
                name_params(edit, proto, name);
            }
        }
        // Maps of other objects have no place in the section: they go behind those that have.
        let Some(id) = edit.btf().find(".maps", Kind::DATASEC) else { return };
        let Ok(Type::Datasec(datasec)) = edit.btf().type_by_id(id) else { return };
        let is_extern =
            |id| matches!(edit.btf().type_by_id(id), Ok(Type::Var(var)) if var.linkage() == VarLinkage::EXTERN);
        let (behind, mut entries): (Vec<SecVar>, Vec<SecVar>) =
            datasec.vars().partition(|entry| is_extern(entry.type_id));
        entries.sort_by_key(|entry| entry.offset);
        let mut end = entries.last().map_or(0, |last| last.offset.saturating_add(last.size)).max(datasec.size());
        for entry in behind {
            entries.push(SecVar { offset: end, ..entry });
            end = end.saturating_add(entry.size);
        }
        for (index, entry) in entries.into_iter().enumerate() {
            edit.set_section_var(id, index, entry);
        }
        edit.set_size(id, end);
    }
}

/// Names the parameters of `proto` that have a type and no name: the kernel insists on names of global functions.
fn name_params(edit: &mut Edit<'_>, proto: TypeId, name_off: u32) {
    let Ok(Type::FuncProto(func)) = edit.btf().type_by_id(proto) else { return };
    for (index, param) in func.params().enumerate() {
        if param.type_id != TypeId::VOID && param.name_off == 0 {
            edit.set_param_name(proto, index, name_off);
        }
    }
}

/// An integer of four bytes: one that is there, or a new one.
fn int(edit: &mut Edit<'_>) -> TypeId {
    let found = edit.btf().types().find_map(|(id, it)| match it {
        Type::Int(int) if int.size() == 4 => Some(id),
        _ => None,
    });
    found.unwrap_or_else(|| {
        let name = edit.add_string("int");
        edit.add_int(name, 4)
    })
}
