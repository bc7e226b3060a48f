//! Externs: undefined symbols that the object's types place in `.kconfig` or `.ksyms`.
//!
//! Kernel configuration values live in a map of their own, `.kconfig`, laid out as libbpf does it (`cmp_externs`,
//! src/libbpf.c): by falling alignment, then rising size, then name. Kernel symbols follow, by name.

use std::collections::HashMap;

use skep_btf::{Btf, IntEncoding, Kind, Type, TypeId, VarLinkage};

use super::Reader;
use super::btf_maps::{blank, is_extern};
use super::file::{MAX_NAME_BYTES, STT_NOTYPE};
use crate::ExternId;
use crate::external::{Extern, ExternKind, KconfigType};
use crate::map::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, MapOrigin, MapType};

/// What the types say about an extern.
struct Declared {
    section: String,
    btf_id: TypeId,
    kind: DeclaredKind,
}

enum DeclaredKind {
    Variable(TypeId),
    Function(TypeId),
}

impl Reader<'_, '_> {
    pub(super) fn read_externs(&mut self) {
        let Some(btf) = self.btf() else { return };
        let declared = declared(&btf);
        if declared.is_empty() {
            return;
        }
        // Name, then alignment for kconfig values.
        let mut found: Vec<(usize, u64, Extern)> = Vec::new();
        for (index, symbol) in self.elf.symbols.iter().enumerate() {
            if !symbol.undefined || symbol.is_local() || symbol.kind != STT_NOTYPE || symbol.name.is_empty() {
                continue;
            }
            let Some(it) = declared.get(symbol.name.as_ref()) else { continue };
            let mut align = 0;
            let kind = match (&it.section[..], &it.kind) {
                (".ksyms", DeclaredKind::Function(proto)) => ExternKind::Kfunc { proto: *proto },
                (".ksyms", DeclaredKind::Variable(type_id)) => match btf.resolve(*type_id) {
                    Ok((_, Type::Void)) => ExternKind::TypelessKsym,
                    _ => ExternKind::TypedKsym { type_id: *type_id },
                },
                (".kconfig", DeclaredKind::Variable(type_id)) => {
                    let size = btf.size_of(*type_id).ok().and_then(|size| u32::try_from(size).ok()).unwrap_or(0);
                    let value = kconfig_type(&btf, *type_id, 0);
                    align = align_of(&btf, *type_id, 0).unwrap_or(1);
                    if value == KconfigType::Other || size == 0 {
                        self.warn(symbol.name.as_ref(), "no value of the kernel's configuration has this type");
                    }
                    ExternKind::Kconfig { off_bytes: 0, size_bytes: size, value }
                }
                _ => continue,
            };
            let name = symbol.name.clone().into_owned();
            found.push((index, align, Extern { name, weak: symbol.is_weak(), btf_id: Some(it.btf_id), kind }));
        }
        found.sort_by(|(_, a_align, a), (_, b_align, b)| {
            let rank = |it: &Extern| match it.kind {
                ExternKind::Kconfig { size_bytes, .. } => (0, size_bytes),
                _ => (1, 0),
            };
            let (a_rank, b_rank) = (rank(a), rank(b));
            a_rank
                .0
                .cmp(&b_rank.0)
                .then_with(|| b_align.cmp(a_align))
                .then_with(|| a_rank.1.cmp(&b_rank.1))
                .then_with(|| a.name.cmp(&b.name))
        });
        let mut end = 0u64;
        for (symbol, align, mut external) in found {
            if let ExternKind::Kconfig { off_bytes, size_bytes, .. } = &mut external.kind {
                let off = end.next_multiple_of(align.max(1));
                end = off + u64::from(*size_bytes);
                *off_bytes = u32::try_from(off).unwrap_or(u32::MAX);
            }
            let id = ExternId(self.spec.externs.len() as u32);
            self.spec.externs.push(external);
            self.extern_of_symbol.insert(symbol, id);
        }
        if end > 0 {
            let Ok(size) = u32::try_from(end) else {
                self.warn(".kconfig", format!("holds {end} bytes, more than a map can"));
                return;
            };
            let mut map = blank(".kconfig");
            map.map_type = MapType::ARRAY;
            (map.key_size, map.value_size, map.max_entries) = (4, size, 1);
            map.value_type = self.datasec(".kconfig");
            map.flags = BPF_F_RDONLY_PROG | if map.value_type.is_some() { BPF_F_MMAPABLE } else { 0 };
            map.origin = MapOrigin::Kconfig;
            self.add_map(map);
        }
    }
}

/// Every extern that the types declare, by name.
fn declared(btf: &Btf) -> HashMap<String, Declared> {
    let mut declared = HashMap::new();
    for name in [".kconfig", ".ksyms"] {
        let Some(Ok(Type::Datasec(datasec))) = btf.find(name, Kind::DATASEC).map(|id| btf.type_by_id(id)) else {
            continue;
        };
        for entry in datasec.vars() {
            let (symbol, kind) = match btf.type_by_id(entry.type_id) {
                Ok(Type::Var(var)) if var.linkage() == VarLinkage::EXTERN => {
                    (var.name(), DeclaredKind::Variable(var.type_id()))
                }
                Ok(Type::Func(func)) if is_extern(func.linkage()) => {
                    (func.name(), DeclaredKind::Function(func.proto()))
                }
                _ => continue,
            };
            if symbol.len() > MAX_NAME_BYTES {
                continue;
            }
            declared.insert(symbol.to_owned(), Declared { section: name.to_owned(), btf_id: entry.type_id, kind });
        }
    }
    declared
}

/// libbpf's `find_kcfg_type`.
fn kconfig_type(btf: &Btf, type_id: TypeId, depth: u32) -> KconfigType {
    match btf.resolve(type_id) {
        Ok((_, Type::Int(int))) if int.encoding().has(IntEncoding::BOOL) => {
            if int.size() == 1 {
                KconfigType::Bool
            } else {
                KconfigType::Other
            }
        }
        Ok((_, Type::Int(int))) if int.size() == 1 => KconfigType::Char,
        Ok((_, Type::Int(int))) if matches!(int.size(), 2 | 4 | 8) => KconfigType::Int { signed: int.is_signed() },
        Ok((_, Type::Enum(it))) if it.size() == 4 && it.name() == "libbpf_tristate" => KconfigType::Tristate,
        Ok((_, Type::Array(array))) if array.len() > 0 && depth == 0 => {
            match kconfig_type(btf, array.element(), depth + 1) {
                KconfigType::Char => KconfigType::CharArray,
                _ => KconfigType::Other,
            }
        }
        _ => KconfigType::Other,
    }
}

/// libbpf's `btf__align_of` for what an extern can be.
fn align_of(btf: &Btf, type_id: TypeId, depth: u32) -> Option<u64> {
    if depth > 8 {
        return None;
    }
    Some(match btf.resolve(type_id).ok()?.1 {
        Type::Int(int) => u64::from(int.size()).clamp(1, btf.pointer_size()),
        Type::Enum(it) | Type::Enum64(it) => u64::from(it.size()).clamp(1, btf.pointer_size()),
        Type::Float(it) => u64::from(it.size()).clamp(1, btf.pointer_size()),
        Type::Ptr(_) => btf.pointer_size(),
        Type::Array(array) => return align_of(btf, array.element(), depth + 1),
        _ => return None,
    })
}
