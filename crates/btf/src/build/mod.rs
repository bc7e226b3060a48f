//! [`Builder`]: BTF while it is made or changed.
//!
//! A builder holds every type as a record of `u32` words in the order of the format, so that it can be written in either byte
//! order, and knows for each kind which words are names and which are types. Strings are kept once. It starts empty, on top of a
//! base, or from an existing BTF, whose numbers and string offsets it keeps: what is parsed and finished again is the same bytes.
//!
//! ```
//! # fn main() -> Result<(), skep_btf::Error> {
//! use skep_btf::{Btf, Builder, Endian, IntEncoding, Kind, MemberDef, TypeDef};
//! let mut builder = Builder::new();
//! let int = builder.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED })?;
//! let members = [MemberDef { name: "x", type_id: int, bit_offset: 0, bitfield_size: None }];
//! builder.add(TypeDef::Struct { name: "point", size: 4, members: &members })?;
//! let btf = Btf::parse(builder.finish(Endian::Little)?)?;
//! assert!(btf.find("point", Kind::STRUCT).is_some());
//! # Ok(())
//! # }
//! ```

pub(crate) mod record;
mod strings;

use skep_insn::Endian;

use crate::raw::{self, Info};
use crate::{Btf, Error, FuncLinkage, IntEncoding, Kind, SecVar, TypeId, VarLinkage};

pub(crate) use record::Words;
use strings::Strings;

/// A member to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberDef<'a> {
    /// The name; empty for an anonymous one.
    pub name: &'a str,
    /// The type.
    pub type_id: TypeId,
    /// Where it begins, in bits. Below 2^24 when any member of the struct is a bit-field.
    pub bit_offset: u32,
    /// How many bits a bit-field has.
    pub bitfield_size: Option<u8>,
}

/// A type to be added. Types may refer to numbers that are added later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the views of the same names say it")]
pub enum TypeDef<'a> {
    Int { name: &'a str, size: u32, bits: u8, encoding: IntEncoding },
    Ptr(TypeId),
    Array { element: TypeId, index: TypeId, len: u32 },
    Struct { name: &'a str, size: u32, members: &'a [MemberDef<'a>] },
    Union { name: &'a str, size: u32, members: &'a [MemberDef<'a>] },
    Enum { name: &'a str, size: u32, signed: bool, values: &'a [(&'a str, u32)] },
    Fwd { name: &'a str, is_union: bool },
    Typedef { name: &'a str, type_id: TypeId },
    Volatile(TypeId),
    Const(TypeId),
    Restrict(TypeId),
    Func { name: &'a str, proto: TypeId, linkage: FuncLinkage },
    FuncProto { result: TypeId, params: &'a [(&'a str, TypeId)] },
    Var { name: &'a str, type_id: TypeId, linkage: VarLinkage },
    Datasec { name: &'a str, size: u32, vars: &'a [SecVar] },
    Float { name: &'a str, size: u32 },
    DeclTag { tag: &'a str, type_id: TypeId, component: Option<u32> },
    TypeTag { tag: &'a str, type_id: TypeId },
    Enum64 { name: &'a str, size: u32, signed: bool, values: &'a [(&'a str, u64)] },
}

/// BTF in the making.
#[derive(Clone, Debug)]
pub struct Builder {
    base: Option<Btf>,
    first_id: u32,
    strings: Strings,
    words: Words,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// Without types.
    pub fn new() -> Builder {
        Builder { base: None, first_id: 1, strings: Strings::new(None), words: Words::default() }
    }

    /// Without own types, on top of a base: numbers go on after the base's, and its strings are used where they fit.
    pub fn split(base: &Btf) -> Builder {
        Builder {
            base: Some(base.clone()),
            first_id: base.len(),
            strings: Strings::new(Some(base.clone())),
            words: Words::default(),
        }
    }

    /// With the own types and strings of `btf`, under the same numbers and offsets, on top of the same base.
    pub fn from_btf(btf: &Btf) -> Builder {
        let mut builder = match btf.base() {
            Some(base) => Builder::split(base),
            None => Builder::new(),
        };
        builder.strings.load(btf.string_bytes_own());
        builder.words.load(btf);
        builder
    }

    /// How many types there are, `void` and the base's included: the number that the next type gets.
    #[expect(clippy::len_without_is_empty, reason = "there is always `void`")]
    pub fn len(&self) -> u32 {
        self.first_id + self.words.len() as u32
    }

    /// The number of the first own type.
    pub fn first_id(&self) -> TypeId {
        TypeId(self.first_id)
    }

    /// The offset of a string, which is added when it is new. The empty string is at 0.
    pub fn string(&mut self, text: &str) -> Result<u32, Error> {
        self.strings.add(text.as_bytes())
    }

    /// As [`Builder::string`], for text in any encoding. What follows a NUL byte is left out.
    pub fn string_bytes(&mut self, text: &[u8]) -> Result<u32, Error> {
        self.strings.add(text)
    }

    /// The text at an offset.
    pub fn text(&self, off: u32) -> Option<&[u8]> {
        self.strings.get(off)
    }

    /// Adds a type and gives its number.
    pub fn add(&mut self, def: TypeDef<'_>) -> Result<TypeId, Error> {
        if self.len() == i32::MAX as u32 {
            return Err(Error::TooBig { what: "more than 2^31 types" });
        }
        let words = self.encode(def)?;
        let id = TypeId(self.len());
        self.words.push(&words);
        Ok(id)
    }

    /// Puts another type in the place of an own one; what refers to its number refers to the new one.
    pub fn replace(&mut self, id: TypeId, def: TypeDef<'_>) -> Result<(), Error> {
        let index = self.own(id)?;
        let words = self.encode(def)?;
        self.words.replace(index, &words);
        Ok(())
    }

    /// The kind of an own type.
    pub fn kind_of(&self, id: TypeId) -> Result<Kind, Error> {
        Ok(self.words.kind(self.own(id)?))
    }

    /// Gives an own type another name.
    pub fn set_name(&mut self, id: TypeId, name: &str) -> Result<(), Error> {
        let index = self.own(id)?;
        let off = self.strings.add(name.as_bytes())?;
        self.words.get_mut(index)[0] = off;
        Ok(())
    }

    /// Sets the size in bytes of a type that has one (integer, struct, union, enumeration, section, float).
    pub fn set_size(&mut self, id: TypeId, size: u32) -> Result<(), Error> {
        let index = self.own(id)?;
        match self.words.kind(index) {
            Kind::INT | Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 | Kind::DATASEC | Kind::FLOAT => {
                self.words.get_mut(index)[2] = size;
                Ok(())
            }
            kind => Err(Error::NoSize { id, kind }),
        }
    }

    /// Makes a reference (pointer, typedef, qualifier, tag, variable, function) refer to another type.
    pub fn set_target(&mut self, id: TypeId, target: TypeId) -> Result<(), Error> {
        let index = self.own(id)?;
        match self.words.kind(index) {
            kind if kind.is_modifier() => {}
            Kind::PTR | Kind::VAR | Kind::FUNC | Kind::DECL_TAG => {}
            _ => return Err(Error::BadType { id, what: "it refers to no other type" }),
        }
        self.words.get_mut(index)[2] = target.0;
        Ok(())
    }

    /// Sets who can see a function.
    pub fn set_func_linkage(&mut self, id: TypeId, linkage: FuncLinkage) -> Result<(), Error> {
        let index = self.own(id)?;
        if self.words.kind(index) != Kind::FUNC {
            return Err(Error::BadType { id, what: "it is not a function" });
        }
        self.words.get_mut(index)[1] = Info::new(Kind::FUNC.0, linkage.0, false).0;
        Ok(())
    }

    /// Sets who can see a variable.
    pub fn set_var_linkage(&mut self, id: TypeId, linkage: VarLinkage) -> Result<(), Error> {
        let index = self.own(id)?;
        if self.words.kind(index) != Kind::VAR {
            return Err(Error::BadType { id, what: "it is not a variable" });
        }
        self.words.get_mut(index)[3] = linkage.0;
        Ok(())
    }

    /// Sets one variable of a section, which compilers leave without offsets.
    pub fn set_section_var(&mut self, id: TypeId, at: usize, var: SecVar) -> Result<(), Error> {
        let index = self.own(id)?;
        let kind = self.words.kind(index);
        let words = self.words.get_mut(index);
        match words.get_mut(3 + 3 * at..6 + 3 * at) {
            Some(place) if kind == Kind::DATASEC => {
                place.copy_from_slice(&[var.type_id.0, var.offset, var.size]);
                Ok(())
            }
            _ => Err(Error::BadType { id, what: "it is not a section with that many variables" }),
        }
    }

    /// Sets name and type of one member of a struct or union, leaving it where it is.
    pub fn set_member(&mut self, id: TypeId, at: usize, name: &str, type_id: TypeId) -> Result<(), Error> {
        let index = self.own(id)?;
        let name = self.strings.add(name.as_bytes())?;
        let kind = self.words.kind(index);
        let words = self.words.get_mut(index);
        match words.get_mut(3 + 3 * at..5 + 3 * at) {
            Some(place) if matches!(kind, Kind::STRUCT | Kind::UNION) => {
                place.copy_from_slice(&[name, type_id.0]);
                Ok(())
            }
            _ => Err(Error::BadType { id, what: "it is not a struct with that many members" }),
        }
    }

    /// Appends the own types of another BTF, as a linker does: its types get the next numbers, its strings are added. Both
    /// must have the same base, or none. Gives what to add to the other's own numbers.
    ///
    /// Fails on kinds that this crate does not know, because their references could not be adjusted.
    pub fn append(&mut self, other: &Btf) -> Result<Appended, Error> {
        if other.base().is_some() && other.first_id().0 != self.first_id {
            return Err(Error::BadType { id: other.first_id(), what: "the BTF to append has another base" });
        }
        let appended = Appended { from: other.first_id(), to: TypeId(self.len()) };
        let first = self.words.len();
        self.words.load(other);
        for index in first..self.words.len() {
            let id = TypeId(self.first_id + index as u32);
            if self.words.kind(index).layout().is_none() {
                self.words.truncate(first);
                return Err(Error::BadType { id, what: "it has an unknown kind and cannot be given another number" });
            }
            let words = self.words.get_mut(index);
            for at in record::names(words) {
                let text = other.string_bytes(words[at])?;
                words[at] = self.strings.add(text)?;
            }
            for at in record::types(words) {
                words[at] = appended.type_id(TypeId(words[at])).0;
            }
        }
        Ok(appended)
    }

    /// Puts the own types into another order, in which `order` names each of them once: the first of it gets the first own number, and so
    /// on. References follow.
    ///
    /// Fails, and changes nothing, when a type is missing in the order or stands twice in it, and on kinds that this crate does not know.
    #[doc(alias = "btf__permute")]
    pub fn permute(&mut self, order: &[TypeId]) -> Result<(), Error> {
        let mut places: Vec<Option<TypeId>> = vec![None; self.words.len()];
        for (place, &id) in (self.first_id..).map(TypeId).zip(order) {
            if places[self.own(id)?].replace(place).is_some() {
                return Err(Error::BadType { id, what: "it stands twice in the order" });
            }
        }
        if let Some(missing) = places.iter().position(Option::is_none) {
            let id = TypeId(self.first_id + missing as u32);
            return Err(Error::BadType { id, what: "it is missing in the order" });
        }
        let mut ordered = Words::default();
        for &id in order {
            let index = self.own(id)?;
            if self.words.kind(index).layout().is_none() {
                return Err(Error::BadType { id, what: "it has an unknown kind and cannot be given another number" });
            }
            let mut words = self.words.get(index).to_vec();
            for at in record::types(&words) {
                let own = words[at].checked_sub(self.first_id).and_then(|index| places.get(index as usize));
                if let Some(Some(place)) = own {
                    words[at] = place.0;
                }
            }
            ordered.push(&words);
        }
        self.words = ordered;
        Ok(())
    }

    /// The bytes, in the byte order asked for.
    pub fn finish(&self, endian: Endian) -> Result<Vec<u8>, Error> {
        let type_len = self.words.byte_len();
        let strings = self.strings.bytes();
        let total = u64::from(raw::HEADER_LEN) + type_len + strings.len() as u64;
        if total > u64::from(u32::MAX) {
            return Err(Error::TooBig { what: "more than 4 GiB of types and strings" });
        }
        let mut out = Vec::with_capacity(total as usize);
        let put = |out: &mut Vec<u8>, word: u32| match endian {
            Endian::Little => out.extend_from_slice(&word.to_le_bytes()),
            Endian::Big => out.extend_from_slice(&word.to_be_bytes()),
        };
        out.extend_from_slice(&match endian {
            Endian::Little => raw::MAGIC.to_le_bytes(),
            Endian::Big => raw::MAGIC.to_be_bytes(),
        });
        out.extend_from_slice(&[raw::VERSION, 0]);
        for field in [raw::HEADER_LEN, 0, type_len as u32, type_len as u32, strings.len() as u32] {
            put(&mut out, field);
        }
        for index in 0..self.words.len() {
            for &word in self.words.get(index) {
                put(&mut out, word);
            }
        }
        out.extend_from_slice(strings);
        Ok(out)
    }

    /// The base it stands on.
    pub fn base(&self) -> Option<&Btf> {
        self.base.as_ref()
    }

    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    pub(crate) fn words_mut(&mut self) -> &mut Words {
        &mut self.words
    }

    /// The offset that [`Builder::string`] gives for the text at an offset, which may be another copy of it.
    pub(crate) fn canonical_string(&self, off: u32) -> u32 {
        self.strings.get(off).and_then(|text| self.strings.find(text)).unwrap_or(off)
    }

    fn own(&self, id: TypeId) -> Result<usize, Error> {
        if id.0 < self.first_id || id.0 >= self.len() {
            return Err(Error::NoType { id, len: self.len() });
        }
        Ok((id.0 - self.first_id) as usize)
    }

    fn encode(&mut self, def: TypeDef<'_>) -> Result<Vec<u32>, Error> {
        let mut head = |kind: Kind, name: &str, len: usize, flag: bool, size_or_type: u32| {
            if len > 0xff_ffff {
                return Err(Error::TooBig { what: "more than 2^24 members in one type" });
            }
            let name = self.strings.add(name.as_bytes())?;
            Ok(vec![name, Info::new(kind.0, len as u32, flag).0, size_or_type])
        };
        Ok(match def {
            TypeDef::Int { name, size, bits, encoding } => {
                let mut words = head(Kind::INT, name, 0, false, size)?;
                words.push(u32::from(encoding.0 & 0xf) << 24 | u32::from(bits));
                words
            }
            TypeDef::Ptr(to) => head(Kind::PTR, "", 0, false, to.0)?,
            TypeDef::Array { element, index, len } => {
                let mut words = head(Kind::ARRAY, "", 0, false, 0)?;
                words.extend([element.0, index.0, len]);
                words
            }
            TypeDef::Struct { name, size, members } | TypeDef::Union { name, size, members } => {
                let kind = if matches!(def, TypeDef::Struct { .. }) { Kind::STRUCT } else { Kind::UNION };
                let flag = members.iter().any(|it| it.bitfield_size.is_some());
                let mut words = head(kind, name, members.len(), flag, size)?;
                for member in members {
                    if flag && member.bit_offset > 0xff_ffff {
                        return Err(Error::TooBig { what: "a struct with bit-fields beyond 2^24 bits" });
                    }
                    let name = self.strings.add(member.name.as_bytes())?;
                    let size = u32::from(member.bitfield_size.unwrap_or(0));
                    words.extend([name, member.type_id.0, size << 24 | member.bit_offset]);
                }
                words
            }
            TypeDef::Enum { name, size, signed, values } => {
                let mut words = head(Kind::ENUM, name, values.len(), signed, size)?;
                for (name, value) in values {
                    words.extend([self.strings.add(name.as_bytes())?, *value]);
                }
                words
            }
            TypeDef::Enum64 { name, size, signed, values } => {
                let mut words = head(Kind::ENUM64, name, values.len(), signed, size)?;
                for (name, value) in values {
                    words.extend([self.strings.add(name.as_bytes())?, *value as u32, (*value >> 32) as u32]);
                }
                words
            }
            TypeDef::Fwd { name, is_union } => head(Kind::FWD, name, 0, is_union, 0)?,
            TypeDef::Typedef { name, type_id } => head(Kind::TYPEDEF, name, 0, false, type_id.0)?,
            TypeDef::Volatile(to) => head(Kind::VOLATILE, "", 0, false, to.0)?,
            TypeDef::Const(to) => head(Kind::CONST, "", 0, false, to.0)?,
            TypeDef::Restrict(to) => head(Kind::RESTRICT, "", 0, false, to.0)?,
            TypeDef::Func { name, proto, linkage } => head(Kind::FUNC, name, linkage.0 as usize, false, proto.0)?,
            TypeDef::FuncProto { result, params } => {
                let mut words = head(Kind::FUNC_PROTO, "", params.len(), false, result.0)?;
                for (name, type_id) in params {
                    words.extend([self.strings.add(name.as_bytes())?, type_id.0]);
                }
                words
            }
            TypeDef::Var { name, type_id, linkage } => {
                let mut words = head(Kind::VAR, name, 0, false, type_id.0)?;
                words.push(linkage.0);
                words
            }
            TypeDef::Datasec { name, size, vars } => {
                let mut words = head(Kind::DATASEC, name, vars.len(), false, size)?;
                for var in vars {
                    words.extend([var.type_id.0, var.offset, var.size]);
                }
                words
            }
            TypeDef::Float { name, size } => head(Kind::FLOAT, name, 0, false, size)?,
            TypeDef::DeclTag { tag, type_id, component } => {
                let mut words = head(Kind::DECL_TAG, tag, 0, false, type_id.0)?;
                words.push(component.unwrap_or(u32::MAX));
                words
            }
            TypeDef::TypeTag { tag, type_id } => head(Kind::TYPE_TAG, tag, 0, false, type_id.0)?,
        })
    }
}

/// Which numbers the types of an appended BTF got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    from: TypeId,
    to: TypeId,
}

impl Appended {
    /// The new number of a type of the appended BTF; the base's and `void` stay.
    pub fn type_id(&self, id: TypeId) -> TypeId {
        if id.0 < self.from.0 { id } else { TypeId(id.0.saturating_add(self.to.0 - self.from.0)) }
    }
}
