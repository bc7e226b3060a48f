//! Members of structs and unions, wherever they were declared.

use skep_btf::{Endian, Type as BtfType};

use super::machine::Place;
use super::{Origin, Structs};
use crate::cpart::declare::CType;
use crate::typed::{Bits, Field};
use crate::types::{StructRef, Type};

/// How deep anonymous structs nest.
const MAX_DEPTH: u32 = 32;

/// How many members a walk may look at. The kernel's largest structs have a few hundred.
const MAX_MEMBERS: u32 = 100_000;

/// A member of one struct, with those of its anonymous members not yet looked at.
#[derive(Clone)]
pub(super) struct Raw {
    /// Empty for anonymous ones.
    pub(super) name: String,
    /// From the start of the struct.
    pub(super) bit_off: u64,
    /// Of a bit-field.
    pub(super) bit_size: Option<u32>,
    pub(super) ty: RawType,
}

#[derive(Clone)]
pub(super) enum RawType {
    Machine(Place),
    /// In the script's C part.
    Declared(CType),
    Known(Type),
}

impl Structs<'_> {
    /// The member `name` of `of`, with offsets from the start of `of`.
    pub(super) fn find_member(&self, of: &StructRef, name: &str) -> Option<Field> {
        let mut left = MAX_MEMBERS;
        let raw = self.find_raw(&self.origin(of)?, name, 0, MAX_DEPTH, &mut left)?;
        Some(self.finish(raw, true, of.size))
    }

    /// Every named member of `of`, those of anonymous members lifted.
    pub(super) fn all_members(&self, of: &StructRef) -> Vec<Field> {
        let mut found = Vec::new();
        if let Some(origin) = self.origin(of) {
            let mut left = MAX_MEMBERS;
            self.each_raw(&origin, 0, MAX_DEPTH, &mut left, &mut |raw| found.push(raw));
        }
        found.into_iter().map(|raw| self.finish(raw, false, of.size)).collect()
    }

    /// Their names alone.
    pub(super) fn member_names(&self, of: &StructRef) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(origin) = self.origin(of) {
            let mut left = MAX_MEMBERS;
            self.each_raw(&origin, 0, MAX_DEPTH, &mut left, &mut |raw| found.push(raw.name));
        }
        found
    }

    /// Names and offsets of the struct's own members, to tell whether two are the same.
    pub(super) fn own_names(&self, of: &Origin) -> Vec<(String, u64)> {
        let mut names = Vec::new();
        self.visit(of, |name, bit_off, _, _| {
            names.push((name.to_owned(), bit_off));
            names.len() < MAX_MEMBERS as usize
        });
        names
    }

    fn find_raw(&self, of: &Origin, name: &str, base: u64, depth: u32, left: &mut u32) -> Option<Raw> {
        let depth = depth.checked_sub(1)?;
        let mut anonymous = Vec::new();
        let mut found = None;
        self.visit(of, |member, bit_off, bit_size, ty| {
            *left = left.saturating_sub(1);
            if member == name && !name.is_empty() {
                found = Some(Raw { name: name.to_owned(), bit_off: base + bit_off, bit_size, ty: ty() });
            } else if member.is_empty() && bit_size.is_none() {
                anonymous.push((base + bit_off, ty()));
            }
            found.is_none() && *left > 0
        });
        found.or_else(|| {
            anonymous.into_iter().find_map(|(off, ty)| self.find_raw(&self.inner(&ty)?, name, off, depth, left))
        })
    }

    fn each_raw(&self, of: &Origin, base: u64, depth: u32, left: &mut u32, found: &mut dyn FnMut(Raw)) {
        let Some(depth) = depth.checked_sub(1) else { return };
        let mut members = Vec::new();
        self.visit(of, |name, bit_off, bit_size, ty| {
            *left = left.saturating_sub(1);
            members.push(Raw { name: name.to_owned(), bit_off: base + bit_off, bit_size, ty: ty() });
            *left > 0
        });
        for member in members {
            if !member.name.is_empty() {
                found(member);
            } else if member.bit_size.is_none()
                && let Some(inner) = self.inner(&member.ty)
            {
                self.each_raw(&inner, member.bit_off, depth, left, found);
            }
        }
    }

    /// The struct that an anonymous member is.
    fn inner(&self, ty: &RawType) -> Option<Origin> {
        match ty {
            RawType::Machine((no, id)) => {
                let btf = self.machine.btf(*no)?;
                match btf.resolve(*id) {
                    Ok((id, BtfType::Struct(_) | BtfType::Union(_))) => Some(Origin::Machine((*no, id))),
                    _ => None,
                }
            }
            RawType::Declared(CType::Struct(no)) => Some(Origin::Script(*no)),
            RawType::Known(Type::Struct(inner)) => self.origin(inner),
            RawType::Declared(_) => None,
            RawType::Known(_) => None,
        }
    }

    /// Calls `visit` with name, offset in bits, size in bits of a bit-field, and type of each own member, until it says `false`.
    fn visit(&self, of: &Origin, mut visit: impl FnMut(&str, u64, Option<u32>, &dyn Fn() -> RawType) -> bool) {
        match of {
            Origin::Machine((no, id)) => {
                let Some(btf) = self.machine.btf(*no) else { return };
                let Ok(BtfType::Struct(it) | BtfType::Union(it)) = btf.type_by_id(*id) else { return };
                for member in it.members() {
                    let mut bit_off = u64::from(member.bit_offset());
                    let mut bit_size = member.bitfield_size();
                    // Compilers before 2018 put the width into the integer's type.
                    if bit_size.is_none()
                        && let Ok((_, BtfType::Int(int))) = btf.resolve(member.type_id())
                        && int.bits() < 8 * int.size()
                        && !int.is_bool()
                        && int.bits() > 0
                    {
                        bit_off += u64::from(int.bit_offset());
                        bit_size = Some(int.bits());
                    }
                    if !visit(member.name(), bit_off, bit_size, &|| RawType::Machine((*no, member.type_id()))) {
                        return;
                    }
                }
            }
            Origin::Script(no) => {
                let layout = self.script_layout(*no);
                for member in &layout.members {
                    if !visit(&member.name, member.bit_off, member.bit_size, &|| member.ty.clone()) {
                        return;
                    }
                }
            }
            Origin::Made(made) => {
                for field in &made.fields {
                    let bits = field.bits.map(|bits| u32::from(bits.width));
                    let shift = field.bits.map_or(0, |bits| u64::from(bits.shift));
                    let off = u64::from(field.off) * 8 + shift;
                    if !visit(&field.name, off, bits, &|| RawType::Known(field.ty.clone())) {
                        return;
                    }
                }
            }
            Origin::Unknown => {}
        }
    }

    fn finish(&self, raw: Raw, pointees: bool, whole: u32) -> Field {
        let ty = match raw.ty {
            RawType::Known(ty) => ty,
            RawType::Declared(ty) => self.declared(&ty),
            RawType::Machine(place) if pointees => self.convert(place),
            RawType::Machine(place) => self.convert_shown(place),
        };
        match raw.bit_size {
            None => Field { name: raw.name, off: (raw.bit_off / 8) as u32, ty, bits: None },
            Some(width) => {
                let (off, ty, bits) = unit(raw.bit_off, width, ty, self.machine.endian(), whole);
                Field { name: raw.name, off, ty, bits: Some(bits) }
            }
        }
    }
}

/// The storage unit of a bit-field: the declared type's where the bits lie inside one, else the smallest that holds them (packed
/// structs) or, at the end of a struct of `whole` bytes, the smallest. BTF counts bits from the first byte, which on big-endian machines is the highest of the unit.
fn unit(bit_off: u64, width: u32, ty: Type, endian: Endian, whole: u32) -> (u32, Type, Bits) {
    let width = width.clamp(1, 64);
    let mut size = ty.size().clamp(1, 8);
    let mut start = bit_off / u64::from(8 * size) * u64::from(size);
    let mut ty = ty;
    if start + u64::from(size) > u64::from(whole) {
        size = 1;
        start = bit_off / 8;
        ty = Type::Int { size: 1, signed: ty.is_signed() };
    }
    while bit_off + u64::from(width) > (start + u64::from(size)) * 8 {
        if size < 8 {
            size = (size * 2).next_power_of_two();
            start = bit_off / u64::from(8 * size) * u64::from(size);
        } else {
            start = bit_off / 8;
            if bit_off % 8 + u64::from(width) > 64 {
                break;
            }
        }
        ty = Type::Int { size: size as u8, signed: ty.is_signed() };
    }
    let from_start = bit_off - start * 8;
    let width = width.min(8 * size - from_start as u32);
    let shift = match endian {
        Endian::Little => from_start as u32,
        Endian::Big => 8 * size - from_start as u32 - width,
    };
    (start as u32, ty, Bits { shift: shift as u8, width: width as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_fields_lie_in_the_unit_of_their_type_or_a_larger_one() {
        let int = |size| Type::Int { size, signed: false };
        let bits = |shift, width| Bits { shift, width };
        assert_eq!(unit(35, 3, int(4), Endian::Little, 16), (4, int(4), bits(3, 3)));
        assert_eq!(unit(35, 3, int(4), Endian::Big, 16), (4, int(4), bits(26, 3)));
        assert_eq!(unit(6, 4, int(1), Endian::Little, 16), (0, int(2), bits(6, 4)));
        assert_eq!(unit(62, 4, int(4), Endian::Little, 16), (7, int(8), bits(6, 4)));
        assert_eq!(unit(9, 1, Type::Bool, Endian::Little, 16), (1, Type::Bool, bits(1, 1)));
        assert_eq!(unit(4, 6, int(4), Endian::Little, 2), (0, int(2), bits(4, 6)));
        assert_eq!(unit(4, 64, int(8), Endian::Little, 16).2, bits(4, 60));
    }
}
