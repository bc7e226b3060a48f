//! The walk itself.

use skep_insn::Endian;

use super::bits;
use super::{Chars, IntValue, Leaf, Place, Shape, Site, Value, Visitor, WalkError};
use crate::types::{Array, Composite, Enum, Type};
use crate::{Btf, Error};

/// How deep structs may nest. The kernel's own limit for what it follows is 32.
const MAX_LEVELS: u32 = 64;

/// Calls `visitor` for the whole value.
///
/// Fails when the types are wrong (numbers that do not exist, endless chains) and when the visitor does. Missing bytes are no
/// failure: they are told to the visitor.
pub fn walk<V: Visitor>(value: Value<'_>, visitor: &mut V) -> Result<(), WalkError<V::Error>> {
    let mut walk = Walk {
        btf: value.btf,
        bytes: value.bytes,
        endian: value.endian,
        budget: 4096 + 64 * value.bytes.len() as u64,
        levels: 0,
        visitor,
    };
    let site = Site { place: Place::Root, type_id: value.type_id, bit_offset: 0, bitfield: None };
    walk.value(site, true)
}

struct Walk<'a, 'v, V> {
    btf: &'a Btf,
    bytes: &'a [u8],
    endian: Endian,
    budget: u64,
    levels: u32,
    visitor: &'v mut V,
}

impl<'a, V: Visitor> Walk<'a, '_, V> {
    fn leaf(&mut self, site: &Site<'a>, leaf: Leaf<'_>) -> Result<(), WalkError<V::Error>> {
        self.visitor.leaf(site, leaf).map_err(WalkError::Visitor)
    }

    fn open(&mut self, site: &Site<'a>, shape: Shape<'_>) -> Result<(), WalkError<V::Error>> {
        self.levels += 1;
        self.visitor.open(site, shape).map_err(WalkError::Visitor)
    }

    fn close(&mut self, shape: Shape<'_>) -> Result<(), WalkError<V::Error>> {
        self.levels -= 1;
        self.visitor.close(shape).map_err(WalkError::Visitor)
    }

    /// The whole bytes from `bit_offset`, at most `len`.
    fn rest(&self, bit_offset: u64, len: u64) -> &'a [u8] {
        let start = usize::try_from(bit_offset / 8).unwrap_or(usize::MAX);
        let rest = self.bytes.get(start..).unwrap_or_default();
        &rest[..usize::try_from(len).unwrap_or(usize::MAX).min(rest.len())]
    }

    /// One value. `is_tail` says that nothing comes behind it, so that a flexible array in it may take all bytes left.
    fn value(&mut self, site: Site<'a>, is_tail: bool) -> Result<(), WalkError<V::Error>> {
        if self.budget == 0 || self.levels >= MAX_LEVELS {
            return self.leaf(&site, Leaf::Cut);
        }
        self.budget -= 1;
        let (_, found) = self.btf.resolve(site.type_id)?;
        match found {
            Type::Int(int) => {
                let (start, bits) = match site.bitfield {
                    Some(bits) => (site.bit_offset, bits),
                    // Old compilers put the place of a bit-field into its integer type.
                    None => (site.bit_offset.saturating_add(u64::from(int.bit_offset())), int.bits()),
                };
                let leaf = bits::read(self.bytes, start, bits, self.endian).map_or(Leaf::Cut, |raw| {
                    Leaf::Int(IntValue { raw, bits, encoding: int.encoding(), is_char: int.is_char() })
                });
                self.leaf(&site, leaf)
            }
            Type::Enum(of) | Type::Enum64(of) => {
                let leaf = self.enumeration(&site, of);
                self.leaf(&site, leaf)
            }
            Type::Ptr(_) => {
                let bits = self.btf.pointer_size() as u32 * 8;
                let raw = bits::read(self.bytes, site.bit_offset, bits, self.endian);
                self.leaf(&site, raw.map_or(Leaf::Cut, |raw| Leaf::Pointer(raw as u64)))
            }
            Type::Float(float) => {
                let size = float.size();
                let leaf = match bits::read(self.bytes, site.bit_offset, size.saturating_mul(8), self.endian) {
                    Some(raw) if size == 2 => Leaf::Float64(bits::half(raw as u16)),
                    Some(raw) if size == 4 => Leaf::Float32(f32::from_bits(raw as u32)),
                    Some(raw) if size == 8 => Leaf::Float64(f64::from_bits(raw as u64)),
                    Some(_) => Leaf::Opaque { kind: found.kind(), bytes: self.rest(site.bit_offset, u64::from(size)) },
                    None => Leaf::Cut,
                };
                self.leaf(&site, leaf)
            }
            Type::Struct(body) | Type::Union(body) => self.composite(&site, body, is_tail),
            Type::Array(array) => self.array(&site, array, is_tail),
            Type::Var(var) => {
                let inner = Site { place: Place::Variable(var.name()), type_id: var.type_id(), ..site };
                // Behind qualifiers too: a variable of a `const` of itself would never end.
                if let (_, Type::Var(_)) = self.btf.resolve(var.type_id())? {
                    return Err(Error::BadType { id: var.id(), what: "a variable of a variable" }.into());
                }
                self.value(inner, is_tail)
            }
            Type::Datasec(section) => {
                let shape = Shape::Section(section.name());
                self.open(&site, shape)?;
                for var in section.vars() {
                    let place = match self.btf.type_by_id(var.type_id)? {
                        Type::Var(it) => Place::Variable(it.name()),
                        // A section of functions has no values.
                        _ => continue,
                    };
                    let bit_offset = site.bit_offset.saturating_add(u64::from(var.offset) * 8);
                    self.value(Site { place, type_id: var.type_id, bit_offset, bitfield: None }, false)?;
                }
                self.close(shape)
            }
            other => {
                let bytes = self.btf.size_of(site.type_id).map_or(&[][..], |size| self.rest(site.bit_offset, size));
                self.leaf(&site, Leaf::Opaque { kind: other.kind(), bytes })
            }
        }
    }

    fn enumeration(&self, site: &Site<'a>, of: Enum<'a>) -> Leaf<'a> {
        let bits = site.bitfield.unwrap_or(of.size().saturating_mul(8));
        let Some(raw) = bits::read(self.bytes, site.bit_offset, bits, self.endian) else {
            return Leaf::Cut;
        };
        let mask = u128::MAX >> (128 - bits.clamp(1, 128));
        // Old compilers store negative values without saying that the enumeration is signed, so the bits are what counts.
        let found = of.values().find(|it| {
            let value = if of.is_64() { it.value } else { i128::from(it.value as i32) };
            value as u128 & mask == raw
        });
        let value = match found {
            Some(found) => found.value,
            None if of.is_signed() => bits::sign_extend(raw, bits),
            None => raw as i128,
        };
        Leaf::Enum { of, name: found.map(|it| it.name), value }
    }

    fn composite(&mut self, site: &Site<'a>, body: Composite<'a>, is_tail: bool) -> Result<(), WalkError<V::Error>> {
        if self.rest(site.bit_offset, 1).is_empty() && body.size() != 0 {
            return self.leaf(site, Leaf::Cut);
        }
        let shape = if body.is_union() { Shape::Union } else { Shape::Struct };
        self.open(site, shape)?;
        let count = body.members().len();
        for (index, member) in body.members().enumerate() {
            if self.budget == 0 {
                self.leaf(site, Leaf::Cut)?;
                break;
            }
            self.value(
                Site {
                    place: Place::Member(member.name()),
                    type_id: member.type_id(),
                    bit_offset: site.bit_offset.saturating_add(u64::from(member.bit_offset())),
                    bitfield: member.bitfield_size(),
                },
                is_tail && (body.is_union() || index + 1 == count),
            )?;
        }
        self.close(shape)
    }

    fn array(&mut self, site: &Site<'a>, array: Array<'a>, is_tail: bool) -> Result<(), WalkError<V::Error>> {
        let size = self.btf.size_of(array.element()).unwrap_or(0);
        let mut len = u64::from(array.len());
        if len == 0 && is_tail && size != 0 {
            len = self.rest(site.bit_offset, u64::MAX).len() as u64 / size;
        }
        if let (_, Type::Int(int)) = self.btf.resolve(array.element())?
            && int.is_char()
            && array.len() as u64 + len != 0
        {
            let is_plain = matches!(self.btf.strip_qualifiers(array.element())?, (_, Type::Int(_)));
            let chars = Chars { bytes: self.rest(site.bit_offset, len), len, is_plain };
            if chars.bytes.is_empty() {
                return self.leaf(site, Leaf::Cut);
            }
            if self.visitor.wants_text(&chars) {
                return self.leaf(site, Leaf::Chars(chars));
            }
        }
        let shape = Shape::Array { len: u32::try_from(len).unwrap_or(u32::MAX) };
        self.open(site, shape)?;
        // Elements without a size say nothing, however many there are.
        let len = if size == 0 { 0 } else { len };
        for index in 0..len {
            let bit_offset = site.bit_offset.saturating_add(index.saturating_mul(size).saturating_mul(8));
            let place = Place::Element(u32::try_from(index).unwrap_or(u32::MAX));
            let element = Site { place, type_id: array.element(), bit_offset, bitfield: None };
            if self.budget == 0 || self.rest(bit_offset, 1).is_empty() {
                self.leaf(&element, Leaf::Cut)?;
                break;
            }
            self.value(element, false)?;
        }
        self.close(shape)
    }
}
