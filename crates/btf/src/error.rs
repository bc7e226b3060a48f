//! What can be wrong with BTF, and where.

use std::fmt;

use crate::{Kind, TypeId};

/// What is wrong with a piece of BTF, and where. Offsets are bytes from the start of the data unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The first two bytes are not BTF's magic number 0xeb9f in either byte order.
    Magic {
        /// The two bytes as they stand.
        found: [u8; 2],
    },
    /// A version other than 1.
    Version {
        /// The version found.
        found: u8,
    },
    /// Something lies outside the bytes at hand.
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: u64,
        /// How many bytes it takes.
        need: u64,
        /// How many there are from there.
        have: u64,
    },
    /// Something that the format rules out.
    Malformed {
        /// What is wrong, as a phrase.
        what: &'static str,
        /// Where it is.
        offset: u64,
    },
    /// A kind this crate does not know, in BTF that does not say how long it is.
    UnknownKind {
        /// The kind's number.
        kind: u8,
        /// The offset of the type in the type section.
        offset: u32,
        /// The number of the type.
        id: TypeId,
    },
    /// A type number beyond the end.
    NoType {
        /// The number asked for.
        id: TypeId,
        /// How many types there are, `void` included.
        len: u32,
    },
    /// A string offset beyond the end.
    NoString {
        /// The offset asked for.
        offset: u32,
        /// How long the strings are, the base's included.
        len: u32,
    },
    /// A string that is not UTF-8. [`crate::Btf::string_lossy`] reads it anyway.
    NotUtf8 {
        /// Where the string starts in the string section.
        offset: u32,
    },
    /// A chain of types that is longer than any compiler makes, most likely a loop.
    TooDeep {
        /// Where the chain started.
        id: TypeId,
    },
    /// A type without a size: a function, a forward declaration, `void`.
    NoSize {
        /// The type asked about.
        id: TypeId,
        /// The kind that ended the search.
        kind: Kind,
    },
    /// A type whose record contradicts itself.
    BadType {
        /// The type.
        id: TypeId,
        /// What is wrong, as a phrase.
        what: &'static str,
    },
    /// Types or strings of more than 4 GiB, or more than 2^24 members, do not fit the format.
    TooBig {
        /// What is too big.
        what: &'static str,
    },
    /// A CO-RE record that is wrong or ambiguous.
    Core(crate::core::Fault),
    /// A split BTF cannot be put onto a base: a type that it names is not there as it must be.
    NotInBase {
        /// The type's name.
        name: String,
        /// Its kind in the distilled base.
        kind: Kind,
        /// What is wrong, as a phrase.
        why: &'static str,
    },
    /// A split BTF was asked for together with a base of the other byte order.
    MixedEndian,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Magic { found } => {
                write!(f, "not BTF: it starts with {:02x} {:02x}, and BTF with 9f eb or eb 9f", found[0], found[1])
            }
            Error::Version { found } => write!(f, "BTF version {found}; only version 1 exists"),
            Error::Truncated { what, offset, need, have } => {
                write!(f, "{what} at offset {offset} needs {need} bytes, but only {have} are there")
            }
            Error::Malformed { what, offset } => write!(f, "{what}, at offset {offset}"),
            Error::UnknownKind { kind, offset, id } => write!(
                f,
                "type {id} at offset {offset} of the type section has kind {kind}, which is newer than this program, and the BTF has no layout section that tells its length"
            ),
            Error::NoType { id, len } => {
                write!(f, "no type {id}: the BTF has {len} types, counted from 0")
            }
            Error::NoString { offset, len } => {
                write!(f, "no string at offset {offset}: the strings end at {len}")
            }
            Error::NotUtf8 { offset } => write!(f, "the string at offset {offset} is not UTF-8"),
            Error::TooDeep { id } => write!(f, "type {id} leads through too many other types, or back to itself"),
            Error::NotInBase { name, kind, why } => {
                write!(f, "the types are for another kernel: {kind} `{name}` {why}")
            }
            Error::NoSize { id, kind } => write!(f, "type {id} has no size: it ends in {kind}"),
            Error::BadType { id, what } => write!(f, "type {id}: {what}"),
            Error::TooBig { what } => write!(f, "{what}"),
            Error::Core(fault) => write!(f, "{fault}"),
            Error::MixedEndian => f.write_str("a split BTF and its base must have the same byte order"),
        }
    }
}

impl std::error::Error for Error {}
