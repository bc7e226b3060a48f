//! Whether two types of different BTFs are the same thing, in the three senses that CO-RE has.
//!
//! All three walk both types together. What they may spend is limited: 32 levels of pointers and arrays, 32 levels of
//! prototypes and members (libbpf's limits), and a number of comparisons in all, since a forged graph can branch at every
//! level.

use super::{Fault, essential_name, kinds_agree};
use crate::{Btf, Composite, Enum, Error, Kind, Type, TypeId};

/// Levels of nesting.
const MAX_LEVEL: u32 = 32;

/// Comparisons of two types or names in one question. The kernel's largest types need some ten thousand.
const MAX_WORK: u32 = 4_000_000;

/// Whether a target type will do for a local one when only the type as a whole matters: same kinds all the way through
/// pointers, arrays and prototypes, names and sizes ignored.
///
/// The names of the two roots are the caller's business. Used for the relocations about types, for typed kernel symbols
/// and for the prototypes of kernel functions.
///
/// # Errors
///
/// [`Fault::TooDeep`] on a loop, and whatever is wrong with the types.
pub fn compatible(local: &Btf, local_id: TypeId, target: &Btf, target_id: TypeId) -> Result<bool, Error> {
    let (from, to) = (local.kind_of(local_id)?, target.kind_of(target_id)?);
    if !kinds_agree(from, to) {
        return Ok(false);
    }
    Walk { local, target, work: MAX_WORK }.compatible(local_id, target_id, MAX_LEVEL)
}

/// Whether a target type looks the same as a local one (`bpf_core_type_matches`, kernel 6.0): names count, each local
/// member must be there.
///
/// # Errors
///
/// [`Fault::TooDeep`] on a loop, and whatever is wrong with the types.
pub fn matches(local: &Btf, local_id: TypeId, target: &Btf, target_id: TypeId) -> Result<bool, Error> {
    Walk { local, target, work: MAX_WORK }.matches(local_id, target_id, false, MAX_LEVEL)
}

/// Whether a field of the target can be read where the object reads its own.
pub(super) fn fields_compatible(
    local: &Btf,
    mut local_id: TypeId,
    target: &Btf,
    mut target_id: TypeId,
) -> Result<bool, Error> {
    for _ in 0..MAX_LEVEL {
        let ((_, from), (_, to)) = (local.resolve(local_id)?, target.resolve(target_id)?);
        return Ok(match (from, to) {
            (Type::Struct(_) | Type::Union(_), Type::Struct(_) | Type::Union(_)) => true,
            (Type::Ptr(_), Type::Ptr(_)) | (Type::Float(_), Type::Float(_)) => true,
            (Type::Enum(_) | Type::Enum64(_), Type::Enum(_) | Type::Enum64(_)) | (Type::Fwd(_), Type::Fwd(_)) => {
                let (from, to) = (essential_name(from.name()), essential_name(to.name()));
                from.is_empty() || to.is_empty() || from == to
            }
            (Type::Int(from), Type::Int(to)) => from.bit_offset() == 0 && to.bit_offset() == 0,
            (Type::Array(from), Type::Array(to)) => {
                (local_id, target_id) = (from.element(), to.element());
                continue;
            }
            _ => false,
        });
    }
    Err(Fault::TooDeep.into())
}

struct Walk<'a> {
    local: &'a Btf,
    target: &'a Btf,
    work: u32,
}

impl Walk<'_> {
    fn spend(&mut self) -> Result<(), Error> {
        self.work = self.work.checked_sub(1).ok_or(Fault::TooDeep)?;
        Ok(())
    }

    fn compatible(&mut self, mut local_id: TypeId, mut target_id: TypeId, level: u32) -> Result<bool, Error> {
        for _ in 0..MAX_LEVEL {
            self.spend()?;
            let ((_, from), (_, to)) = (self.local.resolve(local_id)?, self.target.resolve(target_id)?);
            if !kinds_agree(from.kind(), to.kind()) {
                return Ok(false);
            }
            match (from, to) {
                (Type::Int(from), Type::Int(to)) => return Ok(from.bit_offset() == 0 && to.bit_offset() == 0),
                (Type::Ptr(from), Type::Ptr(to)) => (local_id, target_id) = (from.type_id(), to.type_id()),
                (Type::Array(from), Type::Array(to)) => (local_id, target_id) = (from.element(), to.element()),
                (Type::FuncProto(from), Type::FuncProto(to)) => {
                    if from.params().len() != to.params().len() {
                        return Ok(false);
                    }
                    for (from, to) in from.params().zip(to.params()) {
                        let level = level.checked_sub(1).ok_or(Fault::TooDeep)?;
                        if !self.compatible(from.type_id, to.type_id, level)? {
                            return Ok(false);
                        }
                    }
                    (local_id, target_id) = (from.result(), to.result());
                }
                _ => {
                    return Ok(matches!(
                        from.kind(),
                        Kind::VOID | Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 | Kind::FWD
                    ));
                }
            }
        }
        Err(Fault::TooDeep.into())
    }

    fn matches(
        &mut self,
        mut local_id: TypeId,
        mut target_id: TypeId,
        mut behind_pointer: bool,
        level: u32,
    ) -> Result<bool, Error> {
        if level == 0 {
            return Err(Fault::TooDeep.into());
        }
        for _ in 0..MAX_LEVEL {
            self.spend()?;
            let ((_, from), (_, to)) = (self.local.resolve(local_id)?, self.target.resolve(target_id)?);
            if !names_agree(from.name(), to.name()) {
                return Ok(false);
            }
            match (from, to) {
                (Type::Void, Type::Void) => return Ok(true),
                (Type::Fwd(from), Type::Fwd(to)) => return Ok(from.is_union() == to.is_union()),
                (Type::Fwd(from), Type::Struct(_)) => return Ok(behind_pointer && !from.is_union()),
                (Type::Fwd(from), Type::Union(_)) => return Ok(behind_pointer && from.is_union()),
                (Type::Struct(_), Type::Fwd(to)) => return Ok(behind_pointer && !to.is_union()),
                (Type::Union(_), Type::Fwd(to)) => return Ok(behind_pointer && to.is_union()),
                (Type::Struct(from), Type::Struct(to)) | (Type::Union(from), Type::Union(to)) => {
                    return Ok(behind_pointer || self.composites_match(from, to, level)?);
                }
                (Type::Enum(from) | Type::Enum64(from), Type::Enum(to) | Type::Enum64(to)) => {
                    return self.enums_match(from, to);
                }
                (Type::Int(from), Type::Int(to)) => {
                    return Ok(from.size() == to.size() && from.is_signed() == to.is_signed());
                }
                (Type::Ptr(from), Type::Ptr(to)) => {
                    behind_pointer = true;
                    (local_id, target_id) = (from.type_id(), to.type_id());
                }
                (Type::Array(from), Type::Array(to)) => {
                    if from.len() != to.len() {
                        return Ok(false);
                    }
                    (local_id, target_id) = (from.element(), to.element());
                }
                (Type::FuncProto(from), Type::FuncProto(to)) => {
                    if from.params().len() != to.params().len() {
                        return Ok(false);
                    }
                    for (from, to) in from.params().zip(to.params()) {
                        if !self.matches(from.type_id, to.type_id, behind_pointer, level - 1)? {
                            return Ok(false);
                        }
                    }
                    (local_id, target_id) = (from.result(), to.result());
                }
                _ => return Ok(false),
            }
        }
        Err(Fault::TooDeep.into())
    }

    fn composites_match(&mut self, from: Composite<'_>, to: Composite<'_>, level: u32) -> Result<bool, Error> {
        if from.members().len() > to.members().len() {
            return Ok(false);
        }
        for wanted in from.members() {
            let mut found = false;
            for member in to.members() {
                self.spend()?;
                if names_agree(wanted.name(), member.name())
                    && self.matches(wanted.type_id(), member.type_id(), false, level - 1)?
                {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn enums_match(&mut self, from: Enum<'_>, to: Enum<'_>) -> Result<bool, Error> {
        if from.size() != to.size() || from.values().len() > to.values().len() {
            return Ok(false);
        }
        for wanted in from.values() {
            let mut found = false;
            for value in to.values() {
                self.spend()?;
                if names_agree(wanted.name, value.name) {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether both have no name, or the same one but for a flavour.
fn names_agree(local: &str, target: &str) -> bool {
    essential_name(local) == essential_name(target)
}
