//! How the structs of a script's C part lie in memory: the rules of the System V ABI for 64 bits, as gcc and clang follow them.

use std::rc::Rc;
use std::sync::Arc;

use super::members::{Raw, RawType};
use super::{Constant, Origin, Structs, array_of};
use crate::Span;
use crate::ast::{Expr, Tag, TypeExpr, TypeKind};
use crate::cpart::declare::{Attributes, CMember, CType};
use crate::cpart::expr::{self, Known};
use crate::diagnostic::Diagnostic;
use crate::types::{Enum, Type};

/// `__attribute__((aligned))` without a number: x86-64's and arm64's greatest.
const MAX_ALIGN: u32 = 16;

/// How deep types are followed through typedefs and arrays.
const MAX_DEPTH: u32 = 64;

/// How many lengths of arrays may depend on each other.
const MAX_LENGTHS: u32 = 16;

/// No array of a script is longer.
const MAX_COUNT: i128 = 1 << 30;

/// A struct of the script, laid out.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) members: Vec<Raw>,
    pub(super) size: u32,
    pub(super) align: u32,
    /// Members that have no type or no size, which are left out.
    mistakes: Vec<(Span, String)>,
}

impl Structs<'_> {
    /// Gives the constants of the script's enums their values, and finds members whose type or length is nothing.
    pub(super) fn number_enums(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        for at in 0..self.script.declarations.enums.len() {
            let declared = self.script.declarations.enums[at].clone();
            let mut next = 0i128;
            let mut names = Vec::new();
            for (name, value, span) in declared.constants {
                if let Some(value) = value {
                    match expr::value(&value, self) {
                        Ok(value) => next = value,
                        Err(message) => {
                            diagnostics.push(Diagnostic::error(span, format!("value of {name}: {message}")));
                        }
                    }
                }
                // Those that follow may be made of it.
                self.script_constants.insert(name.clone(), Constant { value: next, ty: Type::I64 });
                names.push((next, name));
                next = next.saturating_add(1);
            }
            let signed = names.iter().any(|(value, _)| *value < 0);
            let fits =
                |value: &i128| if signed { i32::try_from(*value).is_ok() } else { u32::try_from(*value).is_ok() };
            let mut size = if names.iter().all(|(value, _)| fits(value)) { 4 } else { 8 };
            if declared.attributes.packed {
                let most = names.iter().map(|(value, _)| value.unsigned_abs()).max().unwrap_or_default();
                let limit = |bits: u32| if signed { 1u128 << (bits - 1) } else { 1 << bits };
                size = [1, 2, 4].into_iter().find(|size| most < limit(8 * size)).unwrap_or(8) as u8;
            }
            let made = Arc::new(Enum { name: declared.name, size, signed, names });
            for (value, name) in &made.names {
                let constant = Constant { value: *value, ty: Type::Enum(made.clone()) };
                self.script_constants.insert(name.clone(), constant);
            }
            self.script_enums.push(made);
        }
        for no in 0..self.script.declarations.structs.len() {
            diagnostics.extend(
                self.script_layout(no)
                    .mistakes
                    .iter()
                    .filter(|(span, _)| !self.script.is_included(*span))
                    .map(|(span, message)| Diagnostic::error(*span, message.clone())),
            );
        }
    }

    pub(super) fn script_tagged(&self, tag: Tag, name: &str) -> Option<Type> {
        let declared = &self.script.declarations;
        match tag {
            Tag::Enum => Some(Type::Enum(self.script_enums.get(*declared.enum_by_name.get(name)?)?.clone())),
            tag => declared.by_tag.get(&(tag == Tag::Union, name.to_owned())).map(|no| self.script_struct(*no)),
        }
    }

    pub(super) fn script_typedef(&self, name: &str) -> Option<Type> {
        match self.script.declarations.typedefs.get(name)? {
            // `typedef unsigned u32` in a script that has BTF's too.
            CType::Name(same) if same == name => None,
            ty => self.declared_at(ty, MAX_DEPTH),
        }
    }

    pub(super) fn script_constant(&self, name: &str) -> Option<Constant> {
        self.script_constants.get(name).cloned()
    }

    fn script_struct(&self, no: usize) -> Type {
        // Its own length may not depend on itself.
        if self.at_work.borrow().contains(&no) {
            return Type::Void;
        }
        let declared = &self.script.declarations.structs[no];
        let tag = if declared.tag == Tag::Union { "union" } else { "struct" };
        Type::Struct(self.reference(Origin::Script(no), tag, &declared.name, || {
            let layout = self.script_layout(no);
            (layout.size, layout.align.max(1))
        }))
    }

    /// The layout of a struct, made the first time.
    pub(super) fn script_layout(&self, no: usize) -> Rc<Layout> {
        if let Some(known) = self.layouts.borrow().get(&no) {
            return known.clone();
        }
        let Some(declared) = self.script.declarations.structs.get(no) else { return Rc::default() };
        self.at_work.borrow_mut().push(no);
        let mut layout = Layout { align: 1, ..Layout::default() };
        let mut bits = 0u64;
        let mut end = 0u64;
        for member in &declared.members {
            if declared.tag == Tag::Union {
                bits = 0;
            }
            match self.place(member, bits, &declared.attributes, &mut layout) {
                Ok(behind) => bits = behind,
                Err(message) => layout.mistakes.push((member.span, message)),
            }
            end = end.max(bits);
        }
        self.at_work.borrow_mut().pop();
        if let Some(align) = self.asked_alignment(&declared.attributes) {
            layout.align = layout.align.max(align);
        }
        // Nothing real is longer than 4 GiB.
        let size = end.div_ceil(8).next_multiple_of(u64::from(layout.align));
        layout.size = u32::try_from(size).unwrap_or(u32::MAX);
        // Offsets behind a member that is not understood would be wrong. The script's own mistakes are reported; a
        // header's struct is as one that was only announced.
        if layout.mistakes.iter().any(|(span, _)| self.script.is_included(*span)) {
            layout = Layout { align: 1, mistakes: layout.mistakes, ..Layout::default() };
        }
        let layout = Rc::new(layout);
        self.layouts.borrow_mut().insert(no, layout.clone());
        layout
    }

    /// Places one member behind `bits` and gives back its end.
    fn place(&self, member: &CMember, bits: u64, outer: &Attributes, layout: &mut Layout) -> Result<u64, String> {
        let (size, natural) = self.extent(&member.ty, MAX_DEPTH)?;
        let packed = outer.packed || member.attributes.packed;
        let mut align = if packed { 1 } else { natural.max(1) };
        if let Some(asked) = self.asked_alignment(&member.attributes) {
            align = align.max(asked);
        }
        let raw = |bit_off, bit_size| Raw {
            name: member.name.clone(),
            bit_off,
            bit_size,
            ty: RawType::Declared(member.ty.clone()),
        };
        if let Some(width) = &member.bits {
            let unit = u64::from(size.max(1)) * 8;
            let width = u64::try_from(expr::value(width, self)?).ok().filter(|width| *width <= unit);
            let Some(width) = width else {
                return Err(format!("width of bit-field '{}' exceeds the {unit} bits of its type", member.name));
            };
            if width == 0 {
                return Ok(bits.next_multiple_of(unit));
            }
            // A bit-field does not cross a border of its type.
            let start = if !packed && bits % unit + width > unit { bits.next_multiple_of(unit) } else { bits };
            // A nameless one only takes room (System V ABI for x86-64 3.1.2).
            if !member.name.is_empty() {
                layout.align = layout.align.max(align);
                layout.members.push(raw(start, Some(width as u32)));
            }
            return Ok(start + width);
        }
        layout.align = layout.align.max(align);
        let start = bits.next_multiple_of(u64::from(align) * 8);
        layout.members.push(raw(start, None));
        Ok(start.saturating_add(u64::from(size) * 8).min(u64::from(u32::MAX) * 8))
    }

    /// Size and alignment of a declared type, in bytes. Looks behind no pointer, so that a struct may point at itself.
    fn extent(&self, ty: &CType, depth: u32) -> Result<(u32, u32), String> {
        let depth = depth.checked_sub(1).ok_or("its type is nested too deep")?;
        match ty {
            CType::Name(name) => match self.script.declarations.typedefs.get(name) {
                Some(CType::Name(same)) if same == name => self.known(name).map(|ty| (ty.size(), ty.align())),
                Some(ty) => self.extent(ty, depth),
                None if matches!(name.as_str(), "long double" | "double long") => Ok((16, 16)),
                None => match self.known(name)? {
                    Type::Void => Err(format!("incomplete type '{name}'")),
                    ty => Ok((ty.size(), ty.align())),
                },
            },
            CType::Tagged(tag @ (Tag::Struct | Tag::Union), name)
                if let Some(no) = self.script.declarations.by_tag.get(&(*tag == Tag::Union, name.clone())) =>
            {
                self.extent(&CType::Struct(*no), depth)
            }
            CType::Tagged(tag, name) => {
                let ty = self.tagged(*tag, name);
                let ty = ty.ok_or_else(|| format!("incomplete type '{} {name}'", tag_word(*tag)))?;
                Ok((ty.size(), ty.align()))
            }
            CType::Struct(no) => {
                if self.at_work.borrow().contains(no) {
                    return Err("a struct cannot hold itself".to_owned());
                }
                if self.at_work.borrow().len() >= MAX_DEPTH as usize {
                    return Err("its type is nested too deep".to_owned());
                }
                let layout = self.script_layout(*no);
                Ok((layout.size, layout.align))
            }
            CType::Enum(no) => self.script_enums.get(*no).map_or(Ok((4, 4)), |of| Ok((of.size.into(), of.size.into()))),
            CType::Pointer(..) => Ok((8, 8)),
            CType::Array(elem, count) => {
                let (size, align) = self.extent(elem, depth)?;
                let count = self.length(count.as_ref())?;
                let size = size.checked_mul(count).ok_or("an array is too long")?;
                Ok((size, align))
            }
            CType::Function => Err("a function is no member".to_owned()),
        }
    }

    /// Elements of an array; a flexible one has 0.
    fn length(&self, count: Option<&Expr>) -> Result<u32, String> {
        let Some(count) = count else { return Ok(0) };
        // `typedef int a[sizeof(a)]` would be asked for ever.
        if self.lengths.get() >= MAX_LENGTHS {
            return Err("an array's length depends on itself".to_owned());
        }
        self.lengths.set(self.lengths.get() + 1);
        let value = expr::value(count, self);
        self.lengths.set(self.lengths.get() - 1);
        match value? {
            count @ 0..MAX_COUNT => Ok(count as u32),
            count => Err(format!("an array cannot have {count} elements")),
        }
    }

    fn asked_alignment(&self, attributes: &Attributes) -> Option<u32> {
        let asked = match attributes.aligned.as_ref()? {
            None => return Some(MAX_ALIGN),
            Some(value) => expr::value(value, self).ok()?,
        };
        u32::try_from(asked).ok().filter(|align| align.is_power_of_two() && *align <= 4096)
    }

    /// A declared type as the language's.
    pub(super) fn declared(&self, ty: &CType) -> Type {
        self.declared_at(ty, MAX_DEPTH).unwrap_or(Type::Void)
    }

    fn declared_at(&self, ty: &CType, depth: u32) -> Option<Type> {
        let depth = depth.checked_sub(1)?;
        match ty {
            CType::Name(name) => match self.script.declarations.typedefs.get(name) {
                Some(CType::Name(same)) if same == name => self.type_name(name),
                Some(ty) => self.declared_at(ty, depth),
                None => self.type_name(name),
            },
            CType::Tagged(tag, name) => self.tagged(*tag, name),
            CType::Struct(no) => Some(self.script_struct(*no)),
            CType::Enum(no) => self.script_enums.get(*no).cloned().map(Type::Enum),
            CType::Pointer(to, space) => {
                let to = match (to.as_ref(), self.declared_at(to, depth)) {
                    (_, Some(to)) => to,
                    // A pointer may point at what is declared nowhere.
                    (CType::Tagged(tag @ (Tag::Struct | Tag::Union), name), None) => {
                        Type::Struct(self.unknown(tag_word(*tag), name))
                    }
                    (_, None) => Type::Void,
                };
                Some(to.pointer(*space))
            }
            CType::Array(elem, count) => {
                let text = self.is_char(elem, depth);
                Some(array_of(self.declared_at(elem, depth)?, self.length(count.as_ref()).ok()?, text))
            }
            CType::Function => Some(Type::Void),
        }
    }

    fn is_char(&self, ty: &CType, depth: u32) -> bool {
        match ty {
            CType::Name(name) if matches!(name.as_str(), "char" | "signed char" | "char signed") => true,
            CType::Name(name) if depth > 0 => match self.script.declarations.typedefs.get(name) {
                Some(ty) => self.is_char(ty, depth - 1),
                None => false,
            },
            _ => false,
        }
    }

    fn known(&self, name: &str) -> Result<Type, String> {
        self.type_name(name).ok_or_else(|| format!("unknown type name '{name}'"))
    }
}

fn tag_word(tag: Tag) -> &'static str {
    match tag {
        Tag::Struct => "struct",
        Tag::Union => "union",
        Tag::Enum => "enum",
    }
}

impl Known for Structs<'_> {
    fn word(&self, name: &str) -> Option<i128> {
        self.constant(name).map(|constant| constant.value)
    }

    fn size_of(&self, ty: &TypeExpr) -> Option<u64> {
        let found = match &ty.kind {
            TypeKind::Name(name) => self.type_name(name)?,
            TypeKind::Tagged { tag, name } => self.tagged(*tag, name)?,
            TypeKind::Pointer(_) => return Some(8),
            _ => return None,
        };
        Some(u64::from(found.size())).filter(|size| *size > 0)
    }
}
