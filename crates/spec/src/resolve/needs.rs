//! What the wanted programs need.

use skep_btf::core::{Relo, Resolver, essential_name};
use skep_btf::{CoreReloKind, Kind};

use super::types::Types;
use super::{attach, struct_ops};
use crate::function::{CoreRelo, RefTarget};
use crate::{ExternId, ExternKind, FuncId, ProgId, Spec};

/// The wanted programs and everything that they reach.
pub(super) struct Needs {
    /// Programs that are switched on, in the order of the Spec.
    pub(super) programs: Vec<ProgId>,
    /// Per function of the Spec: whether its CO-RE records are to be answered.
    pub(super) functions: Vec<bool>,
    /// Per extern of the Spec: whether some wanted program refers to it.
    pub(super) externs: Vec<bool>,
}

impl Needs {
    pub(super) fn of(spec: &Spec) -> Needs {
        let mut needs = Needs {
            programs: Vec::new(),
            functions: vec![false; spec.functions.len()],
            externs: vec![false; spec.externs.len()],
        };
        let mut reached = Vec::new();
        for (id, program) in spec.programs().filter(|(_, program)| program.autoload) {
            needs.programs.push(id);
            reached.push(program.entry);
            reached.extend(exception_callback(spec, program.entry));
        }
        while let Some(FuncId(id)) = reached.pop() {
            let Some(seen) = needs.functions.get_mut(id as usize) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            for reference in &spec.functions[id as usize].references {
                match reference.target {
                    RefTarget::Call(to) | RefTarget::FuncAddr(to) => reached.push(to),
                    RefTarget::Extern(ExternId(to)) | RefTarget::ExternCall(ExternId(to)) => {
                        if let Some(needed) = needs.externs.get_mut(to as usize) {
                            *needed = true;
                        }
                    }
                    RefTarget::Map(_) | RefTarget::MapValue { .. } | RefTarget::JumpTable(_) => {}
                }
            }
        }
        needs
    }

    /// Tells the types all names that will be asked for, so that one scan finds them.
    pub(super) fn declare(&self, spec: &Spec, resolver: &mut Resolver<'_>, types: &mut Types<'_>) {
        for (function, _) in spec.functions.iter().zip(&self.functions).filter(|(_, needed)| **needed) {
            resolver.need(function.core_relos.iter().map(relo), &mut types.names);
        }
        for (external, _) in spec.externs.iter().zip(&self.externs).filter(|(_, needed)| **needed) {
            match external.kind {
                ExternKind::TypedKsym { .. } => types.declare(&external.name),
                ExternKind::Kfunc { .. } => types.declare(essential_name(&external.name)),
                _ => {}
            }
        }
        for &id in &self.programs {
            if let Some(wanted) = attach::wanted(spec.program(id)) {
                types.declare(&wanted.name);
            }
        }
        for name in struct_ops::names(spec) {
            types.declare(&name);
        }
    }
}

/// A record without its instruction.
pub(super) fn relo(it: &CoreRelo) -> Relo<'_> {
    Relo { type_id: it.type_id, access: &it.access, kind: CoreReloKind(it.kind) }
}

/// The function that a tag `exception_callback:NAME` on the entry names.
pub(super) fn exception_callback(spec: &Spec, entry: FuncId) -> Option<FuncId> {
    let btf = spec.btf.as_ref()?;
    let func = spec.functions.get(entry.0 as usize)?.btf_func?;
    let names: Vec<&str> = btf
        .of_kind(Kind::DECL_TAG)
        .into_iter()
        .filter_map(|id| match btf.type_by_id(id) {
            Ok(skep_btf::Type::DeclTag(tag)) if tag.type_id() == func && tag.component().is_none() => {
                tag.name().strip_prefix("exception_callback:")
            }
            _ => None,
        })
        .collect();
    // With several, the kernel refuses the program; so nothing is appended.
    let [name] = names[..] else { return None };
    let found = spec.functions.iter().position(|function| function.name == name)?;
    Some(FuncId(found as u32))
}
