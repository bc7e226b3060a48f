//! What can be wrong with a CO-RE record.

use std::fmt;

use crate::{CoreReloKind, TypeId};

/// What is wrong with a CO-RE record or with the instruction that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The access string is not numbers between colons, or has more than 64.
    BadAccess {
        /// The string.
        access: String,
    },
    /// The access string leads outside the local type.
    OffPath {
        /// The string.
        access: String,
        /// Which of its numbers, from 0.
        at: usize,
        /// What that number was applied to.
        found: String,
    },
    /// A kind that this build does not know, or that cannot be asked about this.
    BadKind {
        /// The kind.
        kind: CoreReloKind,
        /// What it was asked about.
        about: &'static str,
    },
    /// The root has no name, so nothing can be found under it.
    Anonymous {
        /// The root.
        type_id: TypeId,
    },
    /// A bit-field that no aligned load of up to 8 bytes covers.
    WideBitfield,
    /// Several candidates do and disagree.
    Ambiguous {
        /// Two of them, each with its answer.
        candidates: Box<[String; 2]>,
    },
    /// An instruction index outside the function, or a wide load cut off by its end.
    NoInsn,
    /// An instruction that takes no such value.
    BadInsn {
        /// Its opcode.
        code: u8,
    },
    /// The instruction does not hold what the local type says.
    Unexpected {
        /// What it holds.
        found: u64,
        /// What the local type says.
        expected: u64,
    },
    /// The new value does not fit the operand.
    TooBig {
        /// The value.
        value: u64,
        /// Bits of the operand.
        bits: u32,
    },
    /// A load or store whose width is not that of the local field.
    BadWidth {
        /// Width of the instruction in bytes.
        found: u32,
        /// Size of the local field in bytes.
        expected: u32,
    },
    /// The field has a size here that no load or store has.
    NoSuchWidth {
        /// The size in bytes.
        size: u32,
    },
    /// A type that leads through too many others.
    TooDeep,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::BadAccess { access } => {
                write!(f, "the access string `{access}` is not up to 64 numbers between colons")
            }
            Fault::OffPath { access, at, found } => {
                write!(f, "number {at} of the access string `{access}` leads outside {found}")
            }
            Fault::BadKind { kind, about } => write!(f, "`{kind}` cannot be asked about {about}"),
            Fault::Anonymous { type_id } => {
                write!(f, "type {type_id} has no name, so it cannot be looked up in the kernel")
            }
            Fault::WideBitfield => f.write_str("no aligned load of up to 8 bytes covers the bit-field"),
            Fault::Ambiguous { candidates } => {
                write!(f, "candidates disagree: {} against {}", candidates[0], candidates[1])
            }
            Fault::NoInsn => f.write_str("the instruction lies outside its function"),
            Fault::BadInsn { code } => write!(f, "the instruction with opcode {code:#04x} takes no such value"),
            Fault::Unexpected { found, expected } => {
                write!(f, "the instruction holds {found} where the object's own types say {expected}")
            }
            Fault::TooBig { value, bits } => {
                write!(f, "the new value {value} does not fit the {bits} bits of the operand")
            }
            Fault::BadWidth { found, expected } => {
                write!(
                    f,
                    "the instruction accesses {found} bytes of a field that has {expected} in the object's own types"
                )
            }
            Fault::NoSuchWidth { size } => {
                write!(f, "the field has {size} bytes in the kernel, which no load or store can access")
            }
            Fault::TooDeep => f.write_str("a type leads through too many other types, or back to itself"),
        }
    }
}

impl From<Fault> for crate::Error {
    fn from(fault: Fault) -> crate::Error {
        crate::Error::Core(fault)
    }
}
