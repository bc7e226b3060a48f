//! [`Access`]: an access string applied to a type.

use std::fmt;

use super::{Fault, MAX_STEPS, Relo, describe};
use crate::{Btf, CoreReloKind, Error, Type, TypeId};

/// A path from a root type to a field, or to an enumerator, or just the root; in the object's BTF or in a candidate's.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    pub(super) btf: &'a Btf,
    pub(super) root: TypeId,
    pub(super) kind: CoreReloKind,
    pub(super) steps: Vec<Step<'a>>,
    pub(super) raw: Vec<u32>,
    pub(super) bit_offset: u64,
}

/// One meaningful step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// For a member, the struct or union that has it; for an element, the type of the element; for an enumerator, the enum.
    pub type_id: TypeId,
    /// Index of the member, element or enumerator.
    pub index: u32,
    /// Name of the member or enumerator; `None` for an element, and for the index in front of the root.
    pub name: Option<&'a str>,
}

impl<'a> Access<'a> {
    /// Applies a record to the object's own types.
    ///
    /// # Errors
    ///
    /// [`Fault::BadAccess`], [`Fault::OffPath`] or [`Fault::BadKind`] (in [`Error::Core`]), and whatever is wrong with the types.
    pub fn parse(btf: &'a Btf, relo: &Relo<'_>) -> Result<Access<'a>, Error> {
        let bad_access = || Fault::BadAccess { access: relo.access.to_string() };
        let mut it = Access::at_root(btf, relo.type_id, relo.kind);
        btf.type_by_id(relo.type_id)?;
        if relo.kind.is_type() {
            return if relo.access == "0" { Ok(it) } else { Err(bad_access().into()) };
        }
        for number in relo.access.split(':') {
            if it.raw.len() == MAX_STEPS || number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad_access().into());
            }
            it.raw.push(number.parse().map_err(|_| bad_access())?);
        }
        let off_path =
            |at, id| Error::from(Fault::OffPath { access: relo.access.to_string(), at, found: describe(btf, id) });
        let (root, found) = btf.resolve(relo.type_id)?;
        let first = it.raw[0];

        if relo.kind.is_enum_value() {
            let (Type::Enum(found) | Type::Enum64(found)) = found else {
                return Err(off_path(0, root));
            };
            let value = found.values().nth(first as usize).filter(|_| it.raw.len() == 1);
            let value = value.ok_or_else(|| off_path(0, root))?;
            it.steps.push(Step { type_id: root, index: first, name: Some(value.name) });
            return Ok(it);
        }
        if !relo.kind.is_field() {
            return Err(Fault::BadKind { kind: relo.kind, about: "a type" }.into());
        }

        it.steps.push(Step { type_id: root, index: first, name: None });
        it.advance(first, root)?;
        let mut at = root;
        for n in 1..it.raw.len() {
            let index = it.raw[n];
            let (id, found) = btf.resolve(at)?;
            match found {
                Type::Struct(found) | Type::Union(found) => {
                    let member = found.member(index as usize).ok_or_else(|| off_path(n, id))?;
                    it.bit_offset = it.bit_offset.saturating_add(u64::from(member.bit_offset()));
                    if !member.name().is_empty() {
                        it.steps.push(Step { type_id: id, index, name: Some(member.name()) });
                    }
                    at = member.type_id();
                }
                Type::Array(array) => {
                    let (element, _) = btf.resolve(array.element())?;
                    if index >= array.len() && !it.ends_flexible(array.len())? {
                        return Err(off_path(n, id));
                    }
                    it.steps.push(Step { type_id: element, index, name: None });
                    it.advance(index, element)?;
                    at = element;
                }
                _ => return Err(off_path(n, id)),
            }
        }
        Ok(it)
    }

    /// The path that has not left its root.
    pub(super) fn at_root(btf: &'a Btf, root: TypeId, kind: CoreReloKind) -> Access<'a> {
        Access { btf, root, kind, steps: Vec::new(), raw: Vec::new(), bit_offset: 0 }
    }

    /// Moves on by `index` elements of a type.
    pub(super) fn advance(&mut self, index: u32, element: TypeId) -> Result<(), Error> {
        let bits = self.btf.size_of(element)?.saturating_mul(8).saturating_mul(u64::from(index));
        self.bit_offset = self.bit_offset.saturating_add(bits);
        Ok(())
    }

    /// Whether an array of `len` elements that the last step led to is flexible.
    pub(super) fn ends_flexible(&self, len: u32) -> Result<bool, Error> {
        let Some(Step { type_id, index, name: Some(_) }) = self.steps.last() else {
            return Ok(false);
        };
        Ok(match self.btf.type_by_id(*type_id)? {
            Type::Struct(it) | Type::Union(it) => len == 0 && *index as usize + 1 == it.members().len(),
            _ => false,
        })
    }

    /// The type at the start of the path, as the record or the candidate names it.
    pub fn root(&self) -> TypeId {
        self.root
    }

    /// The steps that mean something in C.
    pub fn steps(&self) -> &[Step<'a>] {
        &self.steps
    }

    /// Distance of the field from the root, in bits.
    pub fn bit_offset(&self) -> u64 {
        self.bit_offset
    }
}

impl fmt::Display for Access<'_> {
    /// `struct task_struct.real_parent.tgid (0:15:3)`, `enum pid_type::PIDTYPE_PID (0)` or `struct task_struct`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(self.btf, self.root))?;
        if self.raw.is_empty() {
            return Ok(());
        }
        for (n, step) in self.steps.iter().enumerate() {
            match step.name {
                Some(name) if self.kind.is_enum_value() => write!(f, "::{name}")?,
                Some(name) => write!(f, ".{name}")?,
                None if n > 0 || step.index > 0 => write!(f, "[{}]", step.index)?,
                None => {}
            }
        }
        for (n, number) in self.raw.iter().enumerate() {
            write!(f, "{}{number}", if n == 0 { " (" } else { ":" })?;
        }
        f.write_str(")")
    }
}
