//! Definitions and forward declarations.

use std::collections::HashMap;
use std::fmt::Write;

use super::{DumpError, Dumper, Emit};
use crate::types::{Composite, Enum, Ref, Type};
use crate::{Error, TypeId};

/// Types that gcc knows on Arm without ever defining them, with what they are.
const MISSING: [(&str, &str); 4] = [
    ("__Poly8_t", "unsigned char"),
    ("__Poly16_t", "unsigned short"),
    ("__Poly64_t", "unsigned long long"),
    ("__Poly128_t", "unsigned __int128"),
];

/// How often a name was used in its name space, this time included.
fn count<'a>(names: &mut HashMap<&'a str, u32>, name: &'a str) -> u32 {
    let count = names.entry(name).or_default();
    *count += 1;
    *count
}

impl<'a, W: Write> Dumper<'a, W> {
    /// Writes the definition of a queued type, or, inside the definition of `container`, the declarations that a use of `id` needs.
    pub(super) fn emit(&mut self, id: TypeId, container: TypeId) -> Result<(), DumpError> {
        self.enter(id)?;
        let done = self.emit_in(id, container);
        self.leave();
        done
    }

    fn emit_in(&mut self, id: TypeId, container: TypeId) -> Result<(), DumpError> {
        let is_top = container == TypeId::VOID;
        let state = *self.state(id)?;
        if state.emit == Emit::Done {
            return Ok(());
        }
        let found = self.btf.type_by_id(id)?;
        if state.emit == Emit::Writing {
            if state.declared {
                return Ok(());
            }
            match found {
                Type::Struct(body) | Type::Union(body) => {
                    if id == container {
                        return Ok(());
                    }
                    if body.name_off() == 0 {
                        return Err(Error::BadType { id, what: "an anonymous type contains itself" }.into());
                    }
                    self.declare_struct(body)?;
                }
                Type::Typedef(it) => self.typedef(it)?,
                _ => return Ok(()),
            }
            self.state(id)?.declared = true;
            return Ok(());
        }
        match found {
            Type::Int(int) => {
                if let Some((name, meaning)) = MISSING.iter().find(|(name, _)| *name == int.name()) {
                    write!(self.out, "typedef {meaning} {name};\n\n")?;
                }
                self.state(id)?.emit = Emit::Done;
            }
            Type::Enum(body) | Type::Enum64(body) => {
                if is_top {
                    self.enum_def(body, 0)?;
                    self.out.write_str(";\n\n")?;
                }
                self.state(id)?.emit = Emit::Done;
            }
            Type::Ptr(it) | Type::Volatile(it) | Type::Const(it) | Type::Restrict(it) | Type::TypeTag(it) => {
                self.emit(it.type_id(), container)?;
            }
            Type::Array(it) => self.emit(it.element(), container)?,
            Type::Fwd(_) => {
                self.fwd(found)?;
                self.out.write_str(";\n\n")?;
                self.state(id)?.emit = Emit::Done;
            }
            Type::Typedef(it) => {
                self.state(id)?.emit = Emit::Writing;
                self.emit(it.type_id(), id)?;
                if !self.state(id)?.declared {
                    self.typedef(it)?;
                }
                self.state(id)?.emit = Emit::Done;
            }
            Type::Struct(body) | Type::Union(body) => {
                self.state(id)?.emit = Emit::Writing;
                if is_top || body.name_off() == 0 {
                    // All members will stand there in full, so what they refer to must be declared.
                    let container = if body.name_off() == 0 { container } else { id };
                    for member in body.members() {
                        self.emit(member.type_id(), container)?;
                    }
                } else if !state.declared && id != container {
                    self.declare_struct(body)?;
                    self.state(id)?.declared = true;
                }
                if is_top {
                    self.struct_def(body, 0)?;
                    self.out.write_str(";\n\n")?;
                }
                self.state(id)?.emit = if is_top { Emit::Done } else { Emit::New };
            }
            Type::FuncProto(proto) => {
                self.emit(proto.result(), container)?;
                for param in proto.params() {
                    self.emit(param.type_id, container)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn declare_struct(&mut self, body: Composite<'a>) -> Result<(), DumpError> {
        self.struct_name(body)?;
        self.out.write_str(";\n\n")?;
        Ok(())
    }

    /// `struct name`.
    pub(super) fn struct_name(&mut self, body: Composite<'a>) -> Result<(), DumpError> {
        self.out.write_str(if body.is_union() { "union" } else { "struct" })?;
        self.tag_name(body.id(), body.name(), true)
    }

    /// `enum name`.
    pub(super) fn enum_name(&mut self, body: Enum<'a>) -> Result<(), DumpError> {
        self.out.write_str("enum")?;
        self.tag_name(body.id(), body.name(), body.values().len() != 0)
    }

    /// `struct name` of a type that has nothing but its name.
    pub(super) fn fwd(&mut self, fwd: Type<'a>) -> Result<(), DumpError> {
        let Type::Fwd(it) = fwd else { return Ok(()) };
        self.out.write_str(if it.is_union() { "union" } else { "struct" })?;
        self.tag_name(it.id(), it.name(), false)
    }

    /// A blank and the name, with a number when another *definition* has it. Declarations never conflict.
    fn tag_name(&mut self, id: TypeId, name: &'a str, is_definition: bool) -> Result<(), DumpError> {
        if name.is_empty() {
            return Ok(());
        }
        if self.state(id)?.name == 0 {
            let number = if is_definition { count(&mut self.tags, name) } else { 1 };
            self.state(id)?.name = number;
        }
        write!(self.out, " {name}")?;
        self.number(id)
    }

    /// The name of a typedef.
    pub(super) fn typedef_name(&mut self, it: Ref<'a>) -> Result<(), DumpError> {
        if self.state(it.id())?.name == 0 {
            let number = count(&mut self.idents, it.name());
            self.state(it.id())?.name = number;
        }
        self.out.write_str(it.name())?;
        self.number(it.id())
    }

    fn number(&mut self, id: TypeId) -> Result<(), DumpError> {
        let number = self.state(id)?.name;
        if number > 1 {
            write!(self.out, "___{number}")?;
        }
        Ok(())
    }

    fn typedef(&mut self, it: Ref<'a>) -> Result<(), DumpError> {
        // The compiler has this one built in.
        if it.name() == "__builtin_va_list" {
            return Ok(());
        }
        // Old gcc says it is `void`.
        if it.type_id() == TypeId::VOID && it.name() == "__gnuc_va_list" {
            self.out.write_str("typedef __builtin_va_list __gnuc_va_list;\n\n")?;
            return Ok(());
        }
        self.out.write_str("typedef ")?;
        // The number is decided before the type is written, which may hold enumerators of the same name.
        if self.state(it.id())?.name == 0 {
            let number = count(&mut self.idents, it.name());
            self.state(it.id())?.name = number;
        }
        let number = self.state(it.id())?.name;
        if number > 1 {
            let name = format!("{}___{number}", it.name());
            self.declaration(it.type_id(), &name, 0)?;
        } else {
            self.declaration(it.type_id(), it.name(), 0)?;
        }
        self.out.write_str(";\n\n")?;
        Ok(())
    }

    /// `enum name { ... }`, or only `enum name` when no values are known.
    pub(super) fn enum_def(&mut self, body: Enum<'a>, level: usize) -> Result<(), DumpError> {
        self.enum_name(body)?;
        if body.values().len() == 0 {
            return Ok(());
        }
        self.out.write_str(" {")?;
        for it in body.values() {
            self.line(level + 1)?;
            self.out.write_str(it.name)?;
            // Enumerators and typedefs share one name space.
            let number = count(&mut self.idents, it.name);
            if number > 1 {
                write!(self.out, "___{number}")?;
            }
            match (body.is_64(), body.is_signed()) {
                (false, _) => write!(self.out, " = {},", it.value)?,
                (true, true) => write!(self.out, " = {}LL,", it.value)?,
                (true, false) => write!(self.out, " = {}ULL,", it.value)?,
            }
        }
        self.line(level)?;
        self.out.write_char('}')?;
        if self.sized_enums {
            let fits_32 = || !body.is_64() || body.values().all(|it| it.value as u64 >> 32 == 0);
            match body.size() {
                1 => self.out.write_str(" __attribute__((mode(byte)))")?,
                2 => self.out.write_str(" __attribute__((mode(HI)))")?,
                8 if fits_32() => self.out.write_str(" __attribute__((mode(DI)))")?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A line break and tabs.
    pub(super) fn line(&mut self, level: usize) -> Result<(), DumpError> {
        self.out.write_char('\n')?;
        // libbpf has a string of 16 tabs.
        for _ in 0..level.min(16) {
            self.out.write_char('\t')?;
        }
        Ok(())
    }
}
