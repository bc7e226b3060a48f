//! Finding a path of the object again in a candidate.

use super::compat::{compatible, fields_compatible, matches};
use super::{Access, Fault, MAX_STEPS, Step, describe, essential_name};
use crate::{Btf, CoreReloKind, Error, Type, TypeId};

/// Members looked at for one step: anonymous members of a forged type can contain each other.
const MAX_WORK: u32 = 1_000_000;

/// The same path in a candidate, or the reason why there is none.
pub(super) fn find<'t>(local: &Access<'_>, target: &'t Btf, root: TypeId) -> Result<Result<Access<'t>, String>, Error> {
    let mut it = Access::at_root(target, root, local.kind);
    if local.kind.is_type() {
        let (does, how) = if local.kind == CoreReloKind::TYPE_MATCHES {
            (matches(local.btf, local.root, target, root)?, "its members or their types differ")
        } else {
            (compatible(local.btf, local.root, target, root)?, "it leads to types of another kind")
        };
        return Ok(if does { Ok(it) } else { Err(how.to_string()) });
    }
    if local.kind.is_enum_value() {
        return find_enumerator(local, it);
    }

    let mut at = root;
    for (n, wanted) in local.steps.iter().enumerate() {
        let (id, found) = target.resolve(at)?;
        if let Some(name) = wanted.name {
            let mut search = Search { local, wanted, name, work: MAX_WORK };
            match search.member(&mut it, id)? {
                Found::Yes(next) => at = next,
                Found::No => return Ok(Err(format!("{} has no member `{name}`", describe(target, id)))),
                Found::Differs(theirs) => {
                    let ours = search.local_member()?;
                    return Ok(Err(format!(
                        "member `{name}` is of type {}, the object's is {}",
                        describe_resolved(target, theirs),
                        describe_resolved(local.btf, ours)
                    )));
                }
            }
            continue;
        }
        let mut element = id;
        // The first step is the index in front of the root: the root itself is the element.
        if n > 0 {
            let Type::Array(array) = found else {
                return Ok(Err(format!("{} is not an array", describe(target, id))));
            };
            if wanted.index >= array.len() && !it.ends_flexible(array.len())? {
                return Ok(Err(format!("the array has {} elements, [{}] is asked for", array.len(), wanted.index)));
            }
            element = target.resolve(array.element())?.0;
        }
        if it.raw.len() == MAX_STEPS {
            return Err(Fault::TooDeep.into());
        }
        it.steps.push(Step { type_id: element, index: wanted.index, name: None });
        it.raw.push(wanted.index);
        it.advance(wanted.index, element)?;
        at = element;
    }
    Ok(Ok(it))
}

fn find_enumerator<'t>(local: &Access<'_>, mut it: Access<'t>) -> Result<Result<Access<'t>, String>, Error> {
    let (id, found) = it.btf.resolve(it.root)?;
    let (Type::Enum(found) | Type::Enum64(found)) = found else {
        return Ok(Err(format!("{} is not an enum", describe(it.btf, id))));
    };
    let wanted = local.steps.first().and_then(|step| step.name).unwrap_or_default();
    let wanted = essential_name(wanted);
    for (index, value) in (0..).zip(found.values()) {
        if essential_name(value.name) == wanted {
            it.steps.push(Step { type_id: id, index, name: Some(value.name) });
            it.raw.push(index);
            return Ok(Ok(it));
        }
    }
    Ok(Err(format!("{} has no enumerator `{wanted}`", describe(it.btf, it.root))))
}

enum Found {
    /// The member's type.
    Yes(TypeId),
    /// The member is there with this type, which will not do.
    Differs(TypeId),
    No,
}

/// The search for one named member, through anonymous ones.
struct Search<'a> {
    local: &'a Access<'a>,
    wanted: &'a Step<'a>,
    name: &'a str,
    work: u32,
}

impl Search<'_> {
    fn local_member(&self) -> Result<TypeId, Error> {
        match self.local.btf.type_by_id(self.wanted.type_id)? {
            Type::Struct(it) | Type::Union(it) => it.member(self.wanted.index as usize).map(|it| it.type_id()),
            _ => None,
        }
        .ok_or_else(|| Fault::BadKind { kind: self.local.kind, about: "a type without members" }.into())
    }

    fn member<'t>(&mut self, it: &mut Access<'t>, id: TypeId) -> Result<Found, Error> {
        let btf: &'t Btf = it.btf;
        let (id, Type::Struct(found) | Type::Union(found)) = btf.resolve(id)? else {
            return Ok(Found::No);
        };
        if it.raw.len() == MAX_STEPS {
            return Err(Fault::TooDeep.into());
        }
        let (len, bit_offset) = (it.raw.len(), it.bit_offset);
        let mut differs = None;
        for (index, member) in (0u32..).zip(found.members()) {
            self.work = self.work.checked_sub(1).ok_or(Fault::TooDeep)?;
            let name = member.name();
            if !name.is_empty() && name != self.name {
                continue;
            }
            it.bit_offset = bit_offset.saturating_add(u64::from(member.bit_offset()));
            it.raw.truncate(len);
            it.raw.push(index);
            if name.is_empty() {
                match self.member(it, member.type_id())? {
                    Found::Yes(next) => return Ok(Found::Yes(next)),
                    Found::Differs(theirs) => differs = Some(theirs),
                    Found::No => {}
                }
                continue;
            }
            if fields_compatible(self.local.btf, self.local_member()?, btf, member.type_id())? {
                it.steps.push(Step { type_id: id, index, name: Some(name) });
                return Ok(Found::Yes(member.type_id()));
            }
            differs = Some(member.type_id());
            break;
        }
        it.bit_offset = bit_offset;
        it.raw.truncate(len);
        Ok(differs.map_or(Found::No, Found::Differs))
    }
}

/// A type without typedefs and qualifiers, as C names it.
fn describe_resolved(btf: &Btf, id: TypeId) -> String {
    describe(btf, btf.resolve(id).map_or(id, |(id, _)| id))
}
