//! Values by type: from bytes and a [`TypeId`] to text, JSON, or whatever a [`Visitor`] makes of it.
//!
//! [`walk`] goes through a value in the order of its declaration and calls the visitor for every leaf, and around every struct,
//! union, array and section. The printers here ([`Text`], [`Json`]) are two visitors; a table is another.
//!
//! The rules that hold for all of them:
//!
//! - Nothing outside the given bytes is read. Where they end too early, the visitor is told with [`Leaf::Cut`] and the walk goes
//!   on with what is there, so that half a record shows half its fields.
//! - An array of `char` is one leaf, its text up to the NUL, unless the visitor wants the elements.
//! - A flexible array at the very end takes what bytes are left behind the struct.
//! - Bit-fields are found in both byte orders: little-endian compilers count bits from the lowest, big-endian ones from the
//!   highest (`Documentation/bpf/btf.rst`, 6.18, section 2.2.4).
//! - Types may be hostile: unions of unions show the same bytes again and again. After 4096 leaves and 64 more per byte the walk
//!   ends with [`Leaf::Cut`], and it goes no deeper than 64 levels.

mod bits;
mod json;
mod text;
mod walk;

use skep_insn::Endian;

use crate::types::Enum;
use crate::{Btf, Error, IntEncoding, Kind, TypeId};

pub use json::{Json, to_json};
pub use text::{Style, Text, to_text};
pub use walk::walk;

/// Where a value stands in what contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// It is the whole value.
    Root,
    /// A member of a struct or union; the name is empty for an anonymous one.
    Member(&'a str),
    /// An element of an array.
    Element(u32),
    /// A variable of a section.
    Variable(&'a str),
}

/// A value that the walk came to.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Where it stands.
    pub place: Place<'a>,
    /// Its type as declared, typedefs and qualifiers included.
    pub type_id: TypeId,
    /// Bits from the start of the whole value.
    pub bit_offset: u64,
    /// How many bits a bit-field has; `None` for all other values.
    pub bitfield: Option<u32>,
}

/// What the visitor is about to see the parts of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// Members follow.
    Struct,
    /// Members follow, all at the same place.
    Union,
    /// Elements follow: as many as the type or the bytes allow.
    Array {
        /// How many there are. A cut value shows fewer.
        len: u32,
    },
    /// Variables follow.
    Section(&'a str),
}

/// An integer with what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntValue {
    /// The bits, zero-extended.
    pub raw: u128,
    /// How many bits there are, 1 to 128.
    pub bits: u32,
    /// Signed, boolean, character.
    pub encoding: IntEncoding,
    /// Whether it is a single character to a C programmer.
    pub is_char: bool,
}

impl IntValue {
    /// The value as a signed number, sign-extended from its width.
    pub fn signed(&self) -> i128 {
        bits::sign_extend(self.raw, self.bits)
    }
    /// Whether the type is signed.
    pub fn is_signed(&self) -> bool {
        self.encoding.has(IntEncoding::SIGNED)
    }
    /// Whether the type is a boolean.
    pub fn is_bool(&self) -> bool {
        self.encoding.has(IntEncoding::BOOL)
    }
}

impl std::fmt::Display for IntValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_signed() { self.signed().fmt(f) } else { self.raw.fmt(f) }
    }
}

/// The bytes of an array of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chars<'a> {
    /// All bytes that are there.
    pub bytes: &'a [u8],
    /// How many the type asks for.
    pub len: u64,
    /// Whether the elements are `char` itself and not a typedef of it.
    pub is_plain: bool,
}

impl<'a> Chars<'a> {
    /// The bytes before the first NUL, or all of them.
    pub fn text(&self) -> &'a [u8] {
        let end = self.bytes.iter().position(|&byte| byte == 0);
        &self.bytes[..end.unwrap_or(self.bytes.len())]
    }
    /// Whether bytes are missing and no NUL ended the text before.
    pub fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < self.len && !self.bytes.contains(&0)
    }
}

/// A value without parts.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Leaf<'a> {
    /// A number, a character or a boolean.
    Int(IntValue),
    /// A value of an enumeration.
    Enum {
        /// The enumeration.
        of: Enum<'a>,
        /// The first name with this value.
        name: Option<&'a str>,
        /// The number, sign-extended when the enumeration is signed.
        value: i128,
    },
    /// An address.
    Pointer(u64),
    /// `float`.
    Float32(f32),
    /// `double`; also `_Float16`, which fits into it exactly.
    Float64(f64),
    /// An array of characters.
    Chars(Chars<'a>),
    /// Bytes whose meaning is unknown: a forward declaration, `void`, a function, a float of odd size.
    Opaque {
        /// The kind that the type ended in.
        kind: Kind,
        /// The bytes, when a size is known.
        bytes: &'a [u8],
    },
    /// The bytes end before this value, or the walk was cut off.
    Cut,
}

/// What a walk calls. Every `open` is followed by a `close`, also when something between was cut.
pub trait Visitor {
    /// What can fail while visiting: `fmt::Error`, `io::Error`, `Infallible`.
    type Error;

    /// A value with parts begins.
    fn open(&mut self, site: &Site<'_>, shape: Shape<'_>) -> Result<(), Self::Error>;
    /// It ends.
    fn close(&mut self, shape: Shape<'_>) -> Result<(), Self::Error>;
    /// A value without parts.
    fn leaf(&mut self, site: &Site<'_>, leaf: Leaf<'_>) -> Result<(), Self::Error>;
    /// Whether to get these characters as one leaf, or one by one.
    fn wants_text(&mut self, chars: &Chars<'_>) -> bool {
        let _ = chars;
        true
    }
}

/// A value: bytes and their type.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// The types.
    pub btf: &'a Btf,
    /// The type of the value.
    pub type_id: TypeId,
    /// Its bytes: as many as the type takes, fewer when cut, more when it ends in a flexible array.
    pub bytes: &'a [u8],
    /// The byte order of the bytes, usually that of the BTF.
    pub endian: Endian,
}

impl<'a> Value<'a> {
    /// A value in the byte order of its BTF.
    pub fn new(btf: &'a Btf, type_id: TypeId, bytes: &'a [u8]) -> Value<'a> {
        Value { btf, type_id, bytes, endian: btf.endian() }
    }
}

/// Why a walk ended early.
#[derive(Debug)]
pub enum WalkError<E> {
    /// The types are wrong.
    Btf(Error),
    /// The visitor failed.
    Visitor(E),
}

impl<E> From<Error> for WalkError<E> {
    fn from(err: Error) -> WalkError<E> {
        WalkError::Btf(err)
    }
}

impl<E: std::fmt::Display> std::fmt::Display for WalkError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WalkError::Btf(err) => err.fmt(f),
            WalkError::Visitor(err) => err.fmt(f),
        }
    }
}

impl<E: std::fmt::Debug + std::fmt::Display> std::error::Error for WalkError<E> {}
