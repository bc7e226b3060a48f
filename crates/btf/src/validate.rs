//! [`Btf::validate`]: the checks that parsing leaves out, because a loader of one program should not pay for 126,000 types.

use crate::types::Type;
use crate::{Btf, Error, Kind, TypeId};

impl Btf {
    /// Checks every own type: names and references exist, references point at kinds that the format allows there, members
    /// lie inside their struct, and no chain of references runs in a circle.
    ///
    /// The kernel's BTF need not be asked; an object's should be before it is changed and written again.
    pub fn validate(&self) -> Result<(), Error> {
        for id in self.first_id().0..self.len() {
            self.validate_type(TypeId(id))?;
        }
        Ok(())
    }

    fn validate_type(&self, id: TypeId) -> Result<(), Error> {
        let it = self.type_by_id(id)?;
        let bad = |what| Err(Error::BadType { id, what });
        let exists = |target: TypeId| self.kind_of(target).map(|_| ());
        let name = |off: u32| self.string(off).map(|_| ());
        if let Some(record) = it.record() {
            name(record.name_off)?;
        }
        match it {
            Type::Void | Type::Unknown(_) | Type::Float(_) | Type::Fwd(_) => {}
            Type::Int(int) => {
                if int.bits() > int.size().saturating_mul(8) || int.bits() > 128 {
                    return bad("an integer with more bits than its size holds");
                }
                if int.bits() + int.bit_offset() > int.size().saturating_mul(8) {
                    return bad("an integer whose bits lie outside of it");
                }
            }
            Type::Ptr(to)
            | Type::Typedef(to)
            | Type::Volatile(to)
            | Type::Const(to)
            | Type::Restrict(to)
            | Type::TypeTag(to) => {
                exists(to.type_id())?;
                if !matches!(it, Type::Ptr(_)) {
                    self.resolve(id)?;
                }
            }
            Type::Array(array) => {
                exists(array.element())?;
                exists(array.index())?;
                // An array that contains itself has no end.
                if let Err(err @ Error::TooDeep { .. }) = self.size_of(id) {
                    return Err(err);
                }
            }
            Type::Struct(body) | Type::Union(body) => {
                let bits = u64::from(body.size()) * 8;
                for member in body.members() {
                    name(member.name_off())?;
                    exists(member.type_id())?;
                    if u64::from(member.bit_offset()) > bits {
                        return bad("a member that begins behind the end of its struct");
                    }
                    if body.is_union() && member.bit_offset() != 0 {
                        return bad("a member of a union that does not begin at its start");
                    }
                }
            }
            Type::Enum(body) | Type::Enum64(body) => {
                // clang gives a declaration without values no size.
                let is_declaration = body.size() == 0 && body.values().len() == 0;
                if !matches!(body.size(), 1 | 2 | 4 | 8) && !is_declaration {
                    return bad("an enumeration whose size is not 1, 2, 4 or 8 bytes");
                }
                for value in body.values() {
                    name(value.name_off)?;
                }
            }
            Type::Func(func) => {
                if self.kind_of(func.proto())? != Kind::FUNC_PROTO {
                    return bad("a function whose type is not a prototype");
                }
            }
            Type::FuncProto(proto) => {
                exists(proto.result())?;
                for param in proto.params() {
                    name(param.name_off)?;
                    exists(param.type_id)?;
                }
            }
            Type::Var(var) => exists(var.type_id())?,
            Type::Datasec(section) => {
                for var in section.vars() {
                    if !matches!(self.kind_of(var.type_id)?, Kind::VAR | Kind::FUNC) {
                        return bad("a section that lists something other than a variable or a function");
                    }
                }
            }
            Type::DeclTag(tag) => {
                exists(tag.type_id())?;
                let Some(index) = tag.component() else {
                    return Ok(());
                };
                let parts = match self.type_by_id(tag.type_id())? {
                    Type::Struct(body) | Type::Union(body) => body.members().len(),
                    Type::Func(func) => match self.type_by_id(func.proto())? {
                        Type::FuncProto(proto) => proto.params().len(),
                        _ => 0,
                    },
                    _ => 0,
                };
                if index as usize >= parts {
                    return bad("a tag for a member or parameter that does not exist");
                }
            }
        }
        Ok(())
    }
}
