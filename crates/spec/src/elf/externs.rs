//! Externs: undefined symbols that the object's types describe. In `.kconfig` and `.ksyms` they are for the kernel to give, in
//! `.maps` and outside of any section for another object.
//!
//! Kernel configuration values live in a map of their own, `.kconfig`, laid out as libbpf does it (`cmp_externs`,
//! src/libbpf.c): by falling alignment, then rising size, then name. All others follow, by name.

use std::cmp::Reverse;
use std::collections::HashMap;

use skep_btf::{Btf, IntEncoding, Kind, Type, TypeId, VarLinkage};

use super::Reader;
use super::btf_maps::{blank, is_extern};
use super::file::{MAX_NAME_BYTES, STT_NOTYPE, Symbol};
use crate::ExternId;
use crate::external::{Extern, ExternKind, KconfigType};
use crate::map::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, Map, MapOrigin, MapType};

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
        let elf = self.elf;
        let undefined = |symbol: &&Symbol<'_>| {
            symbol.undefined && !symbol.is_local() && symbol.kind == STT_NOTYPE && !symbol.name.is_empty()
        };
        let Some(btf) = self.btf().filter(|_| elf.symbols.iter().any(|symbol| undefined(&symbol))) else { return };
        let declared = declared(&btf);
        let mut found: Vec<Extern> = Vec::new();
        let mut symbols = HashMap::new();
        for (index, symbol) in elf.symbols.iter().enumerate().filter(|(_, symbol)| undefined(symbol)) {
            let Some(it) = declared.get(symbol.name.as_ref()) else { continue };
            let kind = match (&it.section[..], &it.kind) {
                (".ksyms", DeclaredKind::Function(proto)) => ExternKind::Kfunc { proto: *proto },
                (".ksyms", DeclaredKind::Variable(type_id)) => match btf.resolve(*type_id) {
                    Ok((_, Type::Void)) => ExternKind::TypelessKsym,
                    _ => ExternKind::TypedKsym { type_id: *type_id },
                },
                (".kconfig", DeclaredKind::Variable(type_id)) => {
                    let size = btf.size_of(*type_id).ok().and_then(|size| u32::try_from(size).ok()).unwrap_or(0);
                    let value = kconfig_type(&btf, *type_id, 0);
                    if value == KconfigType::Other || size == 0 {
                        self.warn(symbol.name.as_ref(), "no value of the kernel's configuration has this type");
                    }
                    ExternKind::Kconfig { off_bytes: 0, size_bytes: size, value }
                }
                (".maps", DeclaredKind::Variable(type_id)) => ExternKind::Map { type_id: *type_id },
                ("", DeclaredKind::Function(proto)) => ExternKind::Function { proto: *proto },
                ("", DeclaredKind::Variable(type_id)) => ExternKind::Variable { type_id: *type_id },
                _ => continue,
            };
            let name = symbol.name.clone().into_owned();
            symbols.insert(index, name.clone());
            found.push(Extern { name, weak: symbol.is_weak(), btf_id: Some(it.btf_id), kind });
        }
        let end = arrange(&btf, &mut found);
        let mut by_name = HashMap::new();
        for (id, external) in (0u32..).map(ExternId).zip(&found) {
            by_name.entry(external.name.clone()).or_insert(id);
        }
        self.extern_of_symbol = symbols.into_iter().filter_map(|(at, name)| Some((at, *by_name.get(&name)?))).collect();
        self.spec.externs = found;
        match kconfig_map(end, self.datasec(".kconfig")) {
            Ok(map) => {
                map.into_iter().for_each(|map| {
                    self.add_map(map);
                });
            }
            Err(message) => self.warn(".kconfig", message),
        }
    }
}

/// Puts externs into libbpf's order and gives configuration values their places; the result is how many bytes these take.
pub(crate) fn arrange(btf: &Btf, externs: &mut [Extern]) -> u64 {
    let align = |it: &Extern| match it.btf_id.map(|id| btf.type_by_id(id)) {
        Some(Ok(Type::Var(var))) => align_of(btf, var.type_id(), 0).unwrap_or(1),
        _ => 1,
    };
    externs.sort_by_cached_key(|it| match it.kind {
        ExternKind::Kconfig { size_bytes, .. } => (0, Reverse(align(it)), size_bytes, it.name.clone()),
        _ => (1, Reverse(0), 0, it.name.clone()),
    });
    let mut end = 0u64;
    for external in externs {
        let align = align(external);
        if let ExternKind::Kconfig { off_bytes, size_bytes, .. } = &mut external.kind {
            let off = end.next_multiple_of(align.max(1));
            end = off + u64::from(*size_bytes);
            *off_bytes = u32::try_from(off).unwrap_or(u32::MAX);
        }
    }
    end
}

/// The map of `size` bytes of configuration values; `Ok(None)` when there are none.
pub(crate) fn kconfig_map(size: u64, datasec: Option<TypeId>) -> Result<Option<Map>, String> {
    if size == 0 {
        return Ok(None);
    }
    let size = u32::try_from(size).map_err(|_| format!("holds {size} bytes, more than a map can"))?;
    let mut map = blank(".kconfig");
    map.map_type = MapType::ARRAY;
    (map.key_size, map.value_size, map.max_entries) = (4, size, 1);
    map.value_type = datasec;
    map.flags = BPF_F_RDONLY_PROG | if map.value_type.is_some() { BPF_F_MMAPABLE } else { 0 };
    map.origin = MapOrigin::Kconfig;
    Ok(Some(map))
}

/// Every extern that the types declare, by name.
fn declared(btf: &Btf) -> HashMap<String, Declared> {
    let mut declared: HashMap<String, Declared> = HashMap::new();
    let mut declare = |section: &str, id: TypeId| {
        let (symbol, kind) = match btf.type_by_id(id) {
            Ok(Type::Var(var)) if var.linkage() == VarLinkage::EXTERN => {
                (var.name(), DeclaredKind::Variable(var.type_id()))
            }
            Ok(Type::Func(func)) if is_extern(func.linkage()) => (func.name(), DeclaredKind::Function(func.proto())),
            _ => return,
        };
        if symbol.len() <= MAX_NAME_BYTES {
            let it = Declared { section: section.to_owned(), btf_id: id, kind };
            declared.entry(symbol.to_owned()).or_insert(it);
        }
    };
    for name in [".kconfig", ".ksyms", ".maps"] {
        let Some(Ok(Type::Datasec(datasec))) = btf.find(name, Kind::DATASEC).map(|id| btf.type_by_id(id)) else {
            continue;
        };
        datasec.vars().for_each(|entry| declare(name, entry.type_id));
    }
    // Whatever stands in no section. (Compilers before LLVM 14 put variables into one called `.extern`.)
    for id in btf.of_kind(Kind::FUNC).into_iter().chain(btf.of_kind(Kind::VAR)) {
        declare("", id);
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
