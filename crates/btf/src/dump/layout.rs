//! Structs: members where BTF says they are.
//!
//! C places a member at the next multiple of its type's alignment. Where BTF has it further on, unnamed bit-fields fill the gap.
//! Where BTF has it at an offset that is no such multiple, or the size of the whole is none of the greatest alignment, the struct
//! was packed.

use std::fmt::Write;

use super::{DumpError, Dumper};
use crate::types::{Composite, Type};
use crate::{Error, TypeId};

impl<'a, W: Write> Dumper<'a, W> {
    /// `struct name { ... }`.
    pub(super) fn struct_def(&mut self, body: Composite<'a>, level: usize) -> Result<(), DumpError> {
        let is_struct = !body.is_union();
        let is_packed = is_struct && self.is_packed(body)?;
        let align = if is_packed { 1 } else { self.align_of(body.id())? };
        self.struct_name(body)?;
        self.out.write_str(" {")?;
        let mut at = 0;
        let mut after_bitfield = false;
        for member in body.members() {
            let to = i64::from(member.bit_offset());
            let bits = member.bitfield_size();
            let member_align = if is_packed { 1 } else { self.align_of(member.type_id())? };
            self.pad(at, to, member_align, after_bitfield && bits.is_some(), level + 1)?;
            self.line(level + 1)?;
            self.declaration(member.type_id(), member.name(), level + 1)?;
            match bits {
                Some(bits) => {
                    write!(self.out, ": {bits}")?;
                    at = to + i64::from(bits);
                }
                None => {
                    let size = self.btf.size_of(member.type_id()).unwrap_or(0);
                    at = to.saturating_add(i64::try_from(size.saturating_mul(8)).unwrap_or(i64::MAX));
                }
            }
            after_bitfield = bits.is_some();
            self.out.write_char(';')?;
        }
        let end = i64::from(body.size()) * 8;
        if is_struct {
            self.pad(at, end, align, false, level + 1)?;
        }
        if body.members().len() != 0 || body.size() != 0 {
            self.line(level)?;
        }
        self.out.write_char('}')?;
        if is_packed {
            self.out.write_str(" __attribute__((packed))")?;
        }
        Ok(())
    }

    /// Brings the compiler from bit `at` to bit `to`, where something with this alignment in bytes follows.
    ///
    /// The widest type whose alignment does not overshoot takes the compiler to a boundary of its own, and whole units of it go on
    /// from there. The step to the boundary is left to the compiler where it comes of itself: from the alignment of what follows,
    /// or from that of the first whole unit. Else `long: 0` forces it; among bit-fields, which are packed tightly, the bits are
    /// spelled out.
    fn pad(&mut self, at: i64, to: i64, align: u32, in_bitfield: bool, level: usize) -> Result<(), DumpError> {
        if at >= to {
            return Ok(());
        }
        let units = [("long", i64::from(self.pointer_size) * 8), ("int", 32), ("short", 16), ("char", 8)];
        let up = |bits: i64| (at + bits - 1) / bits * bits;
        let (word, unit) = units.into_iter().find(|(_, bits)| up(*bits) <= to).unwrap_or(units[3]);
        let boundary = up(unit);
        let mut at = at;
        if boundary > at && boundary <= to {
            // An integer of size 0, which only hostile types have, aligns to nothing.
            let comes_by_itself = if boundary == to {
                up(i64::from(align.max(1)) * 8) == boundary
            } else {
                to - boundary > boundary - at
            };
            if in_bitfield {
                self.line(level)?;
                write!(self.out, "{word}: {};", boundary - at)?;
            } else if !comes_by_itself {
                self.line(level)?;
                write!(self.out, "{word}: 0;")?;
            }
            at = boundary;
        }
        while at < to {
            self.enter(TypeId::VOID)?;
            self.leave();
            let bits = (to - at).min(unit);
            let (word, _) = match bits == unit {
                true => (word, unit),
                // The smallest type that holds what is left.
                false => units.into_iter().rev().find(|(_, unit)| *unit >= bits).unwrap_or(units[0]),
            };
            self.line(level)?;
            write!(self.out, "{word}: {bits};")?;
            at += bits;
        }
        Ok(())
    }

    /// Whether a member is not where its alignment would put it, or the size is no multiple of the greatest alignment. A packed
    /// struct whose members happen to be aligned cannot be told from others, nor need it be.
    fn is_packed(&mut self, body: Composite<'a>) -> Result<bool, DumpError> {
        let mut most = 1;
        for member in body.members() {
            let align = self.align_of(member.type_id())?;
            let is_off = align != 0 && !member.bit_offset().is_multiple_of(align * 8);
            if member.bitfield_size().is_none() && is_off {
                return Ok(true);
            }
            most = most.max(align);
        }
        Ok(!body.size().is_multiple_of(most))
    }

    /// The alignment of a type in bytes, at most a pointer's; 0 for what has none.
    fn align_of(&mut self, id: TypeId) -> Result<u32, DumpError> {
        if let Some(known) = self.state(id)?.align {
            return Ok(u32::from(known));
        }
        self.enter(id)?;
        let align = match self.btf.type_by_id(id)? {
            Type::Int(it) => it.size().min(self.pointer_size),
            Type::Enum(it) | Type::Enum64(it) => it.size().min(self.pointer_size),
            Type::Float(it) => it.size().min(self.pointer_size),
            Type::Ptr(_) => self.pointer_size,
            Type::Typedef(it) | Type::Volatile(it) | Type::Const(it) | Type::Restrict(it) | Type::TypeTag(it) => {
                self.align_of(it.type_id())?
            }
            Type::Array(it) => self.align_of(it.element())?,
            Type::Struct(body) | Type::Union(body) => {
                if self.is_packed(body)? {
                    1
                } else {
                    let mut most = 1;
                    for member in body.members() {
                        most = most.max(self.align_of(member.type_id())?);
                    }
                    most
                }
            }
            Type::Void | Type::Fwd(_) | Type::FuncProto(_) => 0,
            _ => return Err(Error::BadType { id, what: "it cannot be the type of a member" }.into()),
        };
        self.leave();
        self.state(id)?.align = Some(align as u8);
        Ok(align)
    }
}
