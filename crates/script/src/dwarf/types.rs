//! Types of DWARF as BTF: what can be reached from the types that were asked for, near ones first.

use std::collections::{HashMap, HashSet, VecDeque};

use gimli::{AttributeValue, DwTag};
use skep_btf::{Btf, Builder, Endian, IntEncoding, MemberDef, TypeDef, TypeId};

use super::{Die, Dwarf, Error, MAX_HOPS, UnitKey, View, is_set, key_of, number};

/// How many types one question makes; what is further away is `void`. Large C++ programs have more behind every pointer.
const MAX_TYPES: u32 = 20_000;

/// How many members or constants one type may have.
const MAX_MEMBERS: usize = 20_000;

/// How many dimensions an array may have: twice what C asks of compilers (5.2.4.1).
const MAX_DIMENSIONS: usize = 24;

/// Kinds of types that have a name of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the word of C")]
pub enum Tag {
    Struct,
    Union,
    Enum,
    Typedef,
}

impl Dwarf {
    /// The type of this name that is defined in the file, and all that it needs; the first one when there are several.
    ///
    /// # Errors
    ///
    /// When the DWARF is broken before it comes.
    pub fn type_named(&self, tag: Tag, name: &str) -> Result<Option<(Btf, TypeId)>, Error> {
        self.with(|view| {
            let mut units = view.dwarf.units();
            let mut type_units = view.dwarf.type_units();
            loop {
                let next = match units.next()? {
                    Some(header) => Some(header),
                    None => type_units.next()?,
                };
                let Some(header) = next else { break };
                let Ok(unit) = view.unit(header) else { continue };
                if let Some(die) = view.type_in(&unit, tag, name)? {
                    let mut types = Types::new(view);
                    let id = types.id(&die);
                    return Ok(Some((types.finish()?, id)));
                }
            }
            Ok(None)
        })
    }
}

impl<'a> View<'a> {
    fn type_in(&self, unit: &std::rc::Rc<super::Unit<'a>>, tag: Tag, name: &str) -> Result<Option<Die<'a>>, Error> {
        let wanted: &[DwTag] = match tag {
            Tag::Struct => &[gimli::DW_TAG_structure_type, gimli::DW_TAG_class_type],
            Tag::Union => &[gimli::DW_TAG_union_type],
            Tag::Enum => &[gimli::DW_TAG_enumeration_type],
            Tag::Typedef => &[gimli::DW_TAG_typedef],
        };
        let mut cursor = unit.entries();
        // The bodies of functions are passed over: what is declared there has no name outside.
        let mut entry = cursor.next_dfs()?;
        while let Some(it) = entry {
            self.count()?;
            if wanted.contains(&it.tag()) && !is_set(it, gimli::DW_AT_declaration) {
                let die = Die { unit: unit.clone(), entry: it.clone() };
                if self.text(&die, gimli::DW_AT_name) == Some(name) {
                    return Ok(Some(die));
                }
            }
            entry = if it.tag() == gimli::DW_TAG_subprogram && it.has_children() {
                match cursor.next_sibling()? {
                    Some(_) => cursor.current(),
                    None => cursor.next_dfs()?,
                }
            } else {
                cursor.next_dfs()?
            };
        }
        Ok(None)
    }
}

/// What one BTF type is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    /// An entry: its unit and its place there.
    Entry(UnitKey, usize),
    /// An array's dimensions from this one on.
    Dimension(UnitKey, usize, usize),
    /// What arrays are indexed with.
    Index,
}

/// BTF in the making. Each source has a number from when it is first referred to; the queue holds those that are not made yet, in the
/// order of their numbers.
pub(super) struct Types<'v, 'a> {
    view: &'v View<'a>,
    builder: Builder,
    ids: HashMap<Source, TypeId>,
    queue: VecDeque<(Source, Option<Die<'a>>)>,
    next: u32,
    /// Structs that a struct holds by value.
    holds: HashMap<TypeId, Vec<TypeId>>,
    /// Classes that are passed by the address of a copy.
    by_reference: HashSet<TypeId>,
}

/// A member before it is added.
struct Member<'a> {
    name: &'a str,
    type_id: TypeId,
    bit_offset: u32,
    bits: Option<u8>,
}

impl<'v, 'a> Types<'v, 'a> {
    pub(super) fn new(view: &'v View<'a>) -> Types<'v, 'a> {
        Types {
            view,
            builder: Builder::new(),
            ids: HashMap::new(),
            queue: VecDeque::new(),
            next: 1,
            holds: HashMap::new(),
            by_reference: HashSet::new(),
        }
    }

    fn number(&mut self, source: Source, die: Option<Die<'a>>) -> TypeId {
        if let Some(known) = self.ids.get(&source) {
            return *known;
        }
        if self.next > MAX_TYPES {
            return TypeId::VOID;
        }
        let id = TypeId(self.next);
        self.next += 1;
        self.ids.insert(source, id);
        self.queue.push_back((source, die));
        id
    }

    /// The number of an entry's type.
    pub(super) fn id(&mut self, die: &Die<'a>) -> TypeId {
        match self.view.stripped(die.clone()) {
            Ok(Some(die)) => {
                let source = Source::Entry(key_of(&die.unit.header), die.entry.offset().0);
                self.number(source, Some(die))
            }
            // Nothing is behind it, or nothing that makes sense.
            Ok(None) | Err(_) => TypeId::VOID,
        }
    }

    /// The number of what `DW_AT_type` refers to.
    pub(super) fn id_of_type(&mut self, die: &Die<'a>) -> TypeId {
        match self.view.type_of(die) {
            Ok(Some(ty)) => self.id(&ty),
            Ok(None) | Err(_) => TypeId::VOID,
        }
    }

    /// Whether a class is passed by the address of a copy, as far as was made.
    pub(super) fn is_by_reference(&self, id: TypeId) -> bool {
        self.by_reference.contains(&id)
    }

    /// Makes what was referred to.
    pub(super) fn make(&mut self) -> Result<(), Error> {
        while let Some((source, die)) = self.queue.pop_front() {
            let id = self.ids.get(&source).copied().unwrap_or_default();
            let before = self.builder.len();
            let made = match (source, die) {
                (Source::Dimension(.., from), Some(die)) => self.array(&die, from),
                (Source::Entry(..), Some(die)) => self.entry(id, &die),
                _ => self.add(TypeDef::Int { name: "unsigned int", size: 4, bits: 32, encoding: IntEncoding(0) }),
            };
            // What is broken in itself takes its number all the same.
            if made.is_err() || self.builder.len() != before + 1 {
                if self.builder.len() != before {
                    return Err(Error("its types do not fit into memory".to_owned()));
                }
                self.add(TypeDef::Const(TypeId::VOID))?;
            }
        }
        Ok(())
    }

    /// The types, whole.
    pub(super) fn finish(mut self) -> Result<Btf, Error> {
        self.make()?;
        let wrong = |error: skep_btf::Error| Error(format!("its types make no sense: {error}"));
        Btf::parse(self.builder.finish(Endian::Little).map_err(wrong)?).map_err(wrong)
    }

    fn add(&mut self, def: TypeDef<'_>) -> Result<(), Error> {
        match self.builder.add(def) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error(format!("its types make no sense: {error}"))),
        }
    }

    fn entry(&mut self, id: TypeId, die: &Die<'a>) -> Result<(), Error> {
        let name = self.view.text(die, gimli::DW_AT_name).unwrap_or("");
        let size = size_of(die).unwrap_or(0);
        match die.entry.tag() {
            gimli::DW_TAG_base_type => {
                let encoding = match die.entry.attr_value(gimli::DW_AT_encoding) {
                    Some(AttributeValue::Encoding(encoding)) => encoding,
                    _ => gimli::DW_ATE_unsigned,
                };
                match encoding {
                    gimli::DW_ATE_float
                    | gimli::DW_ATE_complex_float
                    | gimli::DW_ATE_imaginary_float
                    | gimli::DW_ATE_decimal_float => self.add(TypeDef::Float { name, size }),
                    _ => {
                        let how = match encoding {
                            gimli::DW_ATE_boolean => IntEncoding::BOOL,
                            gimli::DW_ATE_signed => IntEncoding::SIGNED,
                            // Characters of C, not those of Rust and C++20, which are numbers of a set.
                            gimli::DW_ATE_signed_char if size == 1 => IntEncoding(
                                IntEncoding::SIGNED.0 | if name == "char" { IntEncoding::CHAR.0 } else { 0 },
                            ),
                            gimli::DW_ATE_unsigned_char if size == 1 && name == "char" => IntEncoding::CHAR,
                            gimli::DW_ATE_signed_char => IntEncoding::SIGNED,
                            _ => IntEncoding(0),
                        };
                        let bits = (size.min(16) * 8) as u8;
                        self.add(TypeDef::Int { name, size, bits, encoding: how })
                    }
                }
            }
            gimli::DW_TAG_pointer_type | gimli::DW_TAG_reference_type | gimli::DW_TAG_rvalue_reference_type => {
                let to = self.id_of_type(die);
                self.add(TypeDef::Ptr(to))
            }
            // The address of a function, or the offset of a member; two words for functions.
            gimli::DW_TAG_ptr_to_member_type => {
                let size = if size == 16 { 16 } else { 8 };
                self.add(TypeDef::Int { name: "long", size, bits: (size * 8) as u8, encoding: IntEncoding::SIGNED })
            }
            gimli::DW_TAG_unspecified_type if name == "decltype(nullptr)" => self.add(TypeDef::Ptr(TypeId::VOID)),
            gimli::DW_TAG_array_type => self.array(die, 0),
            gimli::DW_TAG_enumeration_type => self.enumeration(die, name, size),
            gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type | gimli::DW_TAG_union_type => {
                self.aggregate(id, die, name, size)
            }
            // Functions, sets of other languages: `void`.
            _ => self.add(TypeDef::Const(TypeId::VOID)),
        }
    }

    fn array(&mut self, die: &Die<'a>, from: usize) -> Result<(), Error> {
        let counts = self.view.dimensions(die)?;
        let element = if from + 1 < counts.len() {
            let key = Source::Dimension(key_of(&die.unit.header), die.entry.offset().0, from + 1);
            self.number(key, Some(die.clone()))
        } else if self.view.nests(die)? > MAX_DIMENSIONS {
            TypeId::VOID
        } else {
            self.id_of_type(die)
        };
        let index = self.number(Source::Index, None);
        let len = counts.get(from).copied().unwrap_or(0);
        self.add(TypeDef::Array { element, index, len })
    }

    fn enumeration(&mut self, die: &Die<'a>, name: &str, size: u32) -> Result<(), Error> {
        let mut values: Vec<(&str, i64)> = Vec::new();
        let mut unsigned = true;
        let view = self.view;
        view.children(die, |child| {
            if child.entry.tag() == gimli::DW_TAG_enumerator {
                let value = child.entry.attr_value(gimli::DW_AT_const_value);
                let signed = value.as_ref().and_then(AttributeValue::sdata_value);
                // Data forms of 8 bytes may be above what is signed.
                let value = signed.or_else(|| value.and_then(|it| it.udata_value()).map(|it| it as i64));
                if let (Some(value), Some(name)) = (value, view.text(&child, gimli::DW_AT_name)) {
                    unsigned &= value >= 0;
                    values.push((name, value));
                }
            }
            Ok(values.len() < MAX_MEMBERS)
        })?;
        let size = if matches!(size, 1 | 2 | 4 | 8) { size } else { 4 };
        // The type below says whether numbers of few bits are negative; most compilers name it.
        let below = view.type_of(die)?.and_then(|below| view.stripped(below).ok().flatten());
        let encoding = below.and_then(|below| below.entry.attr_value(gimli::DW_AT_encoding));
        let signed = match encoding {
            Some(AttributeValue::Encoding(encoding)) => {
                matches!(encoding, gimli::DW_ATE_signed | gimli::DW_ATE_signed_char)
            }
            _ => !unsigned,
        };
        if !signed && size < 8 {
            let mask = (1i64 << (8 * size)) - 1;
            values.iter_mut().for_each(|(_, value)| *value &= mask);
        }
        if values.iter().all(|(_, value)| *value == i64::from(*value as i32) || *value == i64::from(*value as u32)) {
            let values: Vec<(&str, u32)> = values.iter().map(|(name, value)| (*name, *value as u32)).collect();
            self.add(TypeDef::Enum { name, size, signed, values: &values })
        } else {
            let values: Vec<(&str, u64)> = values.iter().map(|(name, value)| (*name, *value as u64)).collect();
            self.add(TypeDef::Enum64 { name, size, signed, values: &values })
        }
    }

    fn aggregate(&mut self, id: TypeId, die: &Die<'a>, name: &str, size: u32) -> Result<(), Error> {
        let is_union = die.entry.tag() == gimli::DW_TAG_union_type;
        if is_set(&die.entry, gimli::DW_AT_declaration) {
            return self.add(TypeDef::Fwd { name, is_union });
        }
        if let Some(AttributeValue::CallingConvention(gimli::DwCc(4))) =
            die.entry.attr_value(gimli::DW_AT_calling_convention)
        {
            self.by_reference.insert(id);
        }
        let mut found = Vec::new();
        self.view.children(die, |child| {
            let is_member = match child.entry.tag() {
                // A static member is a declaration.
                gimli::DW_TAG_member => {
                    !is_set(&child.entry, gimli::DW_AT_external) && !is_set(&child.entry, gimli::DW_AT_declaration)
                }
                gimli::DW_TAG_inheritance => !child.entry.has_attr(gimli::DW_AT_virtuality),
                _ => false,
            };
            if is_member {
                found.push(child);
            }
            Ok(found.len() < MAX_MEMBERS)
        })?;
        let mut members: Vec<Member<'a>> = found.iter().filter_map(|child| self.member(id, child, size)).collect();
        if members.iter().any(|member| member.bits.is_some()) {
            members.retain(|member| member.bit_offset < 1 << 24);
        }
        // All of them begin where the union does.
        members.retain(|member| !is_union || member.bit_offset == 0);
        let defs: Vec<MemberDef<'_>> = members
            .iter()
            .map(|member| MemberDef {
                name: member.name,
                type_id: member.type_id,
                bit_offset: member.bit_offset,
                bitfield_size: member.bits,
            })
            .collect();
        if is_union {
            self.add(TypeDef::Union { name, size, members: &defs })
        } else {
            self.add(TypeDef::Struct { name, size, members: &defs })
        }
    }

    /// A member that lies inside a struct of `whole` bytes.
    fn member(&mut self, of: TypeId, die: &Die<'a>, whole: u32) -> Option<Member<'a>> {
        let entry = &die.entry;
        // A base class has no name: its members are the class's own.
        let inherited = entry.tag() == gimli::DW_TAG_inheritance;
        let name = if inherited { "" } else { self.view.text(die, gimli::DW_AT_name).unwrap_or("") };
        let ty = self.view.type_of(die).ok().flatten().and_then(|ty| self.view.stripped(ty).ok().flatten())?;
        let type_id = self.id(&ty);
        let bits = number(entry, gimli::DW_AT_bit_size).and_then(|bits| u8::try_from(bits).ok()).filter(|it| *it > 0);
        let start = match entry.attr_value(gimli::DW_AT_data_member_location) {
            None => 0,
            Some(AttributeValue::Exprloc(expression)) => constant(expression, die.unit.encoding())?,
            Some(value) => value.udata_value()?,
        };
        let mut bit_offset = start.checked_mul(8)?;
        if let Some(off) = number(entry, gimli::DW_AT_data_bit_offset) {
            bit_offset = off;
        } else if let (Some(bits), Some(from_top)) = (bits, number(entry, gimli::DW_AT_bit_offset)) {
            // DWARF 2 and 3 count from the highest bit of the storage unit.
            let unit = number(entry, gimli::DW_AT_byte_size).unwrap_or(u64::from(size_of(&ty)?));
            let from_bottom = unit.checked_mul(8)?.checked_sub(from_top.checked_add(u64::from(bits))?)?;
            bit_offset = bit_offset.checked_add(from_bottom)?;
        }
        // At the very end there is nothing, or an array without a length.
        let end = u64::from(whole) * 8;
        let is_nothing = size_of(&ty) == Some(0) || ty.entry.tag() == gimli::DW_TAG_array_type;
        if bit_offset > end || (bit_offset == end.max(1) && !is_nothing) {
            return None;
        }
        // A struct that holds itself exists only in forged files, and whoever prints it would never end.
        if let Some(inner) = self.held(&ty) {
            if self.reaches(inner, of) {
                return None;
            }
            self.holds.entry(of).or_default().push(inner);
        }
        Some(Member { name, type_id, bit_offset: u32::try_from(bit_offset).ok()?, bits })
    }

    /// The struct that a value of a type holds: itself, or an array's elements.
    fn held(&mut self, ty: &Die<'a>) -> Option<TypeId> {
        let mut ty = ty.clone();
        for _ in 0..MAX_HOPS {
            match ty.entry.tag() {
                gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type | gimli::DW_TAG_union_type => {
                    return Some(self.id(&ty));
                }
                gimli::DW_TAG_array_type => {
                    let element = self.view.type_of(&ty).ok().flatten()?;
                    ty = self.view.stripped(element).ok().flatten()?;
                }
                _ => return None,
            }
        }
        None
    }

    fn reaches(&self, from: TypeId, to: TypeId) -> bool {
        let mut seen = HashSet::new();
        let mut left = vec![from];
        while let Some(at) = left.pop() {
            if at == to {
                return true;
            }
            if seen.insert(at) {
                left.extend(self.holds.get(&at).into_iter().flatten());
            }
        }
        false
    }
}

impl<'a> View<'a> {
    /// Numbers of elements in each dimension of an array.
    fn dimensions(&self, die: &Die<'a>) -> Result<Vec<u32>, Error> {
        let mut counts = Vec::new();
        self.children(die, |child| {
            if matches!(child.entry.tag(), gimli::DW_TAG_subrange_type | gimli::DW_TAG_enumeration_type) {
                counts.push(length(&child));
            }
            Ok(counts.len() < MAX_DIMENSIONS)
        })?;
        Ok(counts)
    }

    /// How many dimensions an array has with those of its elements, which are arrays in some languages; a number above
    /// [`MAX_DIMENSIONS`] when there are too many, as in one that forged files make of itself.
    fn nests(&self, die: &Die<'a>) -> Result<usize, Error> {
        let mut at = die.clone();
        let mut nests = 0;
        while at.entry.tag() == gimli::DW_TAG_array_type && nests <= MAX_DIMENSIONS {
            nests += self.dimensions(&at)?.len().max(1);
            let Some(element) = self.type_of(&at)? else { break };
            let Some(element) = self.stripped(element)? else { break };
            at = element;
        }
        Ok(nests)
    }

    /// The type that an entry refers to, in the words of its source: `const char*`, `uint8_t`, `struct file*`. What cannot be
    /// read is `void`.
    pub(super) fn spelled_type(&self, die: &Die<'a>) -> String {
        let mut stars = String::new();
        let mut constant = "";
        let mut at = self.type_of(die).ok().flatten();
        for _ in 0..MAX_HOPS {
            let Some(die) = at else { break };
            let name = || self.text(&die, gimli::DW_AT_name).unwrap_or("");
            let tag = match die.entry.tag() {
                gimli::DW_TAG_pointer_type => {
                    stars.push('*');
                    at = self.type_of(&die).ok().flatten();
                    continue;
                }
                gimli::DW_TAG_reference_type => {
                    stars.push('&');
                    at = self.type_of(&die).ok().flatten();
                    continue;
                }
                gimli::DW_TAG_const_type => {
                    // Of the pointer itself it says nothing to who reads an argument.
                    constant = "const ";
                    at = self.type_of(&die).ok().flatten();
                    continue;
                }
                gimli::DW_TAG_volatile_type | gimli::DW_TAG_restrict_type | gimli::DW_TAG_atomic_type => {
                    at = self.type_of(&die).ok().flatten();
                    continue;
                }
                gimli::DW_TAG_structure_type => "struct ",
                gimli::DW_TAG_class_type => "class ",
                gimli::DW_TAG_union_type => "union ",
                gimli::DW_TAG_enumeration_type => "enum ",
                gimli::DW_TAG_subroutine_type => return format!("{constant}void (*){stars}"),
                _ => "",
            };
            let name = match name() {
                "" => "<anonymous>",
                name => name,
            };
            return format!("{constant}{tag}{name}{stars}");
        }
        format!("{constant}void{stars}")
    }

    /// What is behind typedefs and qualifiers; `None` for `void`.
    pub(super) fn stripped(&self, mut die: Die<'a>) -> Result<Option<Die<'a>>, Error> {
        for _ in 0..MAX_HOPS {
            match die.entry.tag() {
                gimli::DW_TAG_typedef
                | gimli::DW_TAG_const_type
                | gimli::DW_TAG_volatile_type
                | gimli::DW_TAG_restrict_type
                | gimli::DW_TAG_atomic_type
                | gimli::DW_TAG_immutable_type
                | gimli::DW_TAG_packed_type
                | gimli::DW_TAG_shared_type
                | gimli::DW_TAG_template_alias
                // A subrange as a type, of languages that have them.
                | gimli::DW_TAG_subrange_type => match self.type_of(&die)? {
                    Some(next) => die = next,
                    None => return Ok(None),
                },
                // A stand-in in one unit for a type that a unit of types defines.
                _ => match self.referred(&die, gimli::DW_AT_signature)? {
                    Some(next) => die = next,
                    None => return Ok(Some(die)),
                },
            }
        }
        Ok(None)
    }
}

/// Size of a type that says it, in bytes.
fn size_of(die: &Die<'_>) -> Option<u32> {
    match die.entry.tag() {
        gimli::DW_TAG_pointer_type | gimli::DW_TAG_reference_type | gimli::DW_TAG_rvalue_reference_type => Some(8),
        _ => number(&die.entry, gimli::DW_AT_byte_size).and_then(|size| u32::try_from(size).ok()),
    }
}

/// Number of elements in one dimension; 0 where it is not constant.
fn length(die: &Die<'_>) -> u32 {
    let count = number(&die.entry, gimli::DW_AT_count).or_else(|| {
        // No upper bound at all is `[]`; -1 is what old compilers write for `[0]`.
        let upper = die.entry.attr_value(gimli::DW_AT_upper_bound)?;
        let lower = number(&die.entry, gimli::DW_AT_lower_bound).unwrap_or(0);
        let upper = upper.udata_value().filter(|it| *it != u64::from(u32::MAX))?;
        upper.checked_sub(lower)?.checked_add(1)
    });
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

/// The number that an expression of one constant adds: how old compilers write where a member is.
fn constant(expression: gimli::Expression<super::Slice<'_>>, encoding: gimli::Encoding) -> Option<u64> {
    let mut operations = expression.operations(encoding);
    let value = match operations.next().ok()?? {
        gimli::Operation::PlusConstant { value } => value,
        gimli::Operation::UnsignedConstant { value } => value,
        _ => return None,
    };
    match operations.next().ok()? {
        None | Some(gimli::Operation::Plus) => Some(value),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::forged;
    use super::*;

    /// An array whose elements are the array itself, in a struct.
    #[test]
    fn an_array_of_itself_has_an_end() {
        let mut entries = vec![1, 2, b's', 0, 8, 3, b'm', 0, 0];
        let array = 11 + entries.len() as u32 + 4 + 1;
        entries.extend(array.to_le_bytes());
        entries.extend([0, 4]);
        entries.extend(array.to_le_bytes());
        entries.push(0);
        let dwarf = forged::dwarf(&[
            (
                ".debug_abbrev",
                [
                    &[1, 0x11, 1, 0, 0, 2, 0x13, 1, 0x03, 0x08, 0x0b, 0x0b, 0, 0][..],
                    // A member: name, place, type; an array without dimensions: its type.
                    &[3, 0x0d, 0, 0x03, 0x08, 0x38, 0x0b, 0x49, 0x13, 0, 0],
                    &[4, 0x01, 0, 0x49, 0x13, 0, 0, 0],
                ]
                .concat(),
            ),
            (".debug_info", forged::unit(&entries)),
        ]);
        let (btf, _) = dwarf.type_named(Tag::Struct, "s").unwrap().expect("it is there");
        btf.validate().unwrap();
        assert_eq!(btf.find("s", skep_btf::Kind::STRUCT).map(|id| btf.size_of(id).unwrap()), Some(8));
    }

    /// A bit field of DWARF 2 counts from the end of its storage unit, whose size a forged file may make anything.
    #[test]
    fn sizes_that_make_no_sense_leave_the_member_out() {
        let found = |unit_bytes: u64| {
            let mut entries = vec![1, 2, b's', 0, 8, 3, b'm', 0];
            entries.extend(unit_bytes.to_le_bytes());
            // DW_AT_bit_size, DW_AT_bit_offset, DW_AT_type: the base type at the end.
            entries.extend([3, 5]);
            let base = 11 + entries.len() as u32 + 4 + 1;
            entries.extend(base.to_le_bytes());
            entries.extend([0, 4, 4, 5, 0]);
            let dwarf = forged::dwarf(&[
                (
                    ".debug_abbrev",
                    [
                        // A unit with children; a struct with children, its name and size.
                        &[1, 0x11, 1, 0, 0, 2, 0x13, 1, 0x03, 0x08, 0x0b, 0x0b, 0, 0][..],
                        // A member: name, storage size, bits, their place, type.
                        &[3, 0x0d, 0, 0x03, 0x08, 0x0b, 0x07, 0x0d, 0x0b, 0x0c, 0x0b, 0x49, 0x13, 0, 0],
                        // A base type: size and encoding.
                        &[4, 0x24, 0, 0x0b, 0x0b, 0x3e, 0x0b, 0, 0, 0],
                    ]
                    .concat(),
                ),
                (".debug_info", forged::unit(&entries)),
            ]);
            let (btf, id) = dwarf.type_named(Tag::Struct, "s").unwrap().expect("it is there");
            let Ok((_, skep_btf::Type::Struct(it))) = btf.resolve(id) else { panic!("no struct") };
            it.members().map(|member| (member.bit_offset(), member.bitfield_size())).collect::<Vec<_>>()
        };
        assert_eq!(found(4), [(32 - 5 - 3, Some(3))]);
        assert_eq!(found(u64::MAX), []);
        assert_eq!(found(1 << 61), []);
    }
}
