//! Declarations: a type around a name.
//!
//! BTF's chain goes from the outside in: *array of 3, pointer, function returning, int*. C writes the innermost first, then walks
//! back out: prefix operators stand before the name, arrays and functions behind it, and parentheses separate a prefix from a
//! suffix that follows it outward: `int (*name[3])(void)`.

use std::fmt::Write;

use super::{DumpError, Dumper};
use crate::types::Type;
use crate::{Error, Kind, TypeId};

impl<'a, W: Write> Dumper<'a, W> {
    /// The type `id` around `name`, without the semicolon. Anonymous types are written in full.
    pub(super) fn declaration(&mut self, id: TypeId, name: &str, level: usize) -> Result<(), DumpError> {
        self.enter(id)?;
        let bottom = self.chain.len();
        let done = self.collect(id, bottom).and_then(|()| self.unwind(bottom, name, level));
        self.chain.truncate(bottom);
        self.leave();
        done
    }

    /// Pushes the chain, from the outside in.
    fn collect(&mut self, mut id: TypeId, bottom: usize) -> Result<(), DumpError> {
        loop {
            self.chain.push(id);
            if self.chain.len() - bottom > super::MAX_LEVELS as usize {
                return Err(Error::TooDeep { id }.into());
            }
            id = match self.btf.type_by_id(id)? {
                Type::Ptr(it) | Type::Volatile(it) | Type::Const(it) | Type::Restrict(it) | Type::TypeTag(it) => {
                    it.type_id()
                }
                Type::FuncProto(it) => it.result(),
                Type::Array(it) => it.element(),
                Type::Void
                | Type::Int(_)
                | Type::Float(_)
                | Type::Enum(_)
                | Type::Enum64(_)
                | Type::Fwd(_)
                | Type::Struct(_)
                | Type::Union(_)
                | Type::Typedef(_) => return Ok(()),
                _ => return Err(Error::BadType { id, what: "it cannot be the type of a variable" }.into()),
            };
        }
    }

    /// Writes the chain above `bottom` from the inside out.
    fn unwind(&mut self, bottom: usize, name: &str, level: usize) -> Result<(), DumpError> {
        self.enter(TypeId::VOID)?;
        let done = self.unwind_in(bottom, name, level);
        self.leave();
        done
    }

    fn unwind_in(&mut self, bottom: usize, name: &str, level: usize) -> Result<(), DumpError> {
        // A chain that begins with a pointer stands behind a parenthesis, which needs no blank.
        let mut after_pointer = true;
        while self.chain.len() > bottom {
            let Some(id) = self.chain.pop() else { break };
            let found = self.btf.type_by_id(id)?;
            match found {
                Type::Void => {
                    self.leading_qualifiers(bottom)?;
                    self.out.write_str("void")?;
                }
                Type::Int(_) | Type::Float(_) => {
                    self.leading_qualifiers(bottom)?;
                    self.out.write_str(found.name())?;
                }
                Type::Struct(body) | Type::Union(body) => {
                    self.leading_qualifiers(bottom)?;
                    if body.name_off() == 0 {
                        self.struct_def(body, level)?;
                    } else {
                        self.struct_name(body)?;
                    }
                }
                Type::Enum(body) | Type::Enum64(body) => {
                    self.leading_qualifiers(bottom)?;
                    if body.name_off() == 0 {
                        self.enum_def(body, level)?;
                    } else {
                        self.enum_name(body)?;
                    }
                }
                Type::Fwd(_) => {
                    self.leading_qualifiers(bottom)?;
                    self.fwd(found)?;
                }
                Type::Typedef(it) => {
                    self.leading_qualifiers(bottom)?;
                    self.typedef_name(it)?;
                }
                Type::Ptr(_) => self.out.write_str(if after_pointer { "*" } else { " *" })?,
                Type::Volatile(_) => self.out.write_str(" volatile")?,
                Type::Const(_) => self.out.write_str(" const")?,
                Type::Restrict(_) => self.out.write_str(" restrict")?,
                Type::TypeTag(it) => {
                    self.leading_qualifiers(bottom)?;
                    write!(self.out, " __attribute__((btf_type_tag(\"{}\")))", it.name())?;
                }
                Type::Array(array) => {
                    // gcc repeats the element's qualifiers on the array, where they mean nothing.
                    self.drop_qualifiers(bottom)?;
                    if self.chain.len() == bottom {
                        self.name(name, after_pointer)?;
                    } else {
                        let outer = self.chain.last().copied().unwrap_or_default();
                        let is_array = self.btf.kind_of(outer)? == Kind::ARRAY;
                        if !name.is_empty() && !after_pointer {
                            self.out.write_char(' ')?;
                        }
                        if !is_array {
                            self.out.write_char('(')?;
                        }
                        self.unwind(bottom, name, level)?;
                        if !is_array {
                            self.out.write_char(')')?;
                        }
                    }
                    write!(self.out, "[{}]", array.len())?;
                    return Ok(());
                }
                Type::FuncProto(proto) => {
                    // gcc marks pointers to functions that do not return as volatile.
                    self.drop_qualifiers(bottom)?;
                    if self.chain.len() == bottom {
                        self.name(name, after_pointer)?;
                    } else {
                        self.out.write_str(" (")?;
                        self.unwind(bottom, name, level)?;
                        self.out.write_char(')')?;
                    }
                    self.out.write_char('(')?;
                    let count = proto.params().len();
                    let is_empty = match proto.params().next() {
                        None => true,
                        Some(first) => count == 1 && first.type_id == TypeId::VOID,
                    };
                    if is_empty {
                        self.out.write_str("void)")?;
                        return Ok(());
                    }
                    for (index, param) in proto.params().enumerate() {
                        if index > 0 {
                            self.out.write_str(", ")?;
                        }
                        if index + 1 == count && param.type_id == TypeId::VOID {
                            self.out.write_str("...")?;
                            break;
                        }
                        self.declaration(param.type_id, param.name, level)?;
                    }
                    self.out.write_char(')')?;
                    return Ok(());
                }
                _ => return Ok(()),
            }
            after_pointer = matches!(found, Type::Ptr(_));
        }
        self.name(name, after_pointer)
    }

    fn name(&mut self, name: &str, after_pointer: bool) -> Result<(), DumpError> {
        if !name.is_empty() && !after_pointer {
            self.out.write_char(' ')?;
        }
        self.out.write_str(name)?;
        Ok(())
    }

    /// Qualifiers directly around the innermost type stand before it.
    fn leading_qualifiers(&mut self, bottom: usize) -> Result<(), DumpError> {
        while self.chain.len() > bottom {
            let Some(&id) = self.chain.last() else { break };
            let word = match self.btf.kind_of(id)? {
                Kind::VOLATILE => "volatile ",
                Kind::CONST => "const ",
                Kind::RESTRICT => "restrict ",
                _ => break,
            };
            self.out.write_str(word)?;
            self.chain.pop();
        }
        Ok(())
    }

    fn drop_qualifiers(&mut self, bottom: usize) -> Result<(), DumpError> {
        while self.chain.len() > bottom {
            let Some(&id) = self.chain.last() else { break };
            match self.btf.kind_of(id)? {
                Kind::VOLATILE | Kind::CONST | Kind::RESTRICT | Kind::TYPE_TAG => {
                    self.chain.pop();
                }
                _ => break,
            }
        }
        Ok(())
    }
}
