//! CO-RE: where a field, a type or an enumerator of the object lies on another machine.
//!
//! # The question
//!
//! A compiler leaves a record for each instruction whose operand depends on the kernel's types ([`Relo`], the kernel's
//! `struct bpf_core_relo`, include/uapi/linux/bpf.h, 6.18): a *root* type of the object, an *access string*, and a
//! [`CoreReloKind`] that says what the instruction wants to know.
//!
//! | kind | access string | result |
//! |---|---|---|
//! | field (offset, size, exists, signed, shifts) | `0:1:2` | a number about one field |
//! | type (local id, target id, exists, size, matches) | `0` | a number about the root |
//! | enumerator (exists, value) | `2` | about the enumerator with that index |
//!
//! # Access strings
//!
//! The first number of a field's string is an index in front of the root, as in `&p[3]`. Each further number steps into
//! what was reached: into a struct or union it is the member's index, into an array the element's. Typedefs and
//! qualifiers are skipped in between. [`Access`] keeps both readings of the string: the *raw* one, number by number, and
//! the *steps* that mean something in C, which are the named members and the array elements. Anonymous members are in the
//! raw reading only, since another kernel may group the same names differently. An array is *flexible*, and takes any
//! index, when it has no elements and is the last member of its struct.
//!
//! # Candidates
//!
//! The *essential name* of a type is its name without the flavour, the part from the last `___` that stands between other
//! characters: `task_struct___v5` asks for `task_struct` ([`essential_name`]). Candidates for a root are all types of the
//! kernel with the same essential name and the same kind (an enum may be 32 or 64 bits wide); when the kernel proper has
//! none, those of its modules. A [`Resolver`] collects the candidates for all roots of an object in one pass.
//!
//! # When a candidate does
//!
//! - **Fields**: each named step must find a member of that name in the candidate, looking through anonymous structs and
//!   unions; each element step must find an array that is long enough. On the way the types must be compatible: struct or
//!   union with struct or union, pointer with pointer, float with float, integer with integer (whatever the size and the
//!   sign), enums and forward declarations with the same essential name or none, arrays when their elements are.
//! - **Types** (exists, size, target id): same kind, recursively through pointers, arrays and prototypes; names count only
//!   at the root ([`compatible`]).
//! - **`TYPE_MATCHES`**: names count everywhere, integers must agree in size and sign, arrays in length, each member of a
//!   local struct must exist and match; behind a pointer a struct only needs its name and kind, and may be a forward
//!   declaration ([`matches()`]).
//! - **Enumerators**: some enumerator has the same essential name.
//!
//! A kernel's BTF may hold a type several times when deduplication was not perfect. So several candidates may do, and then
//! all must give the same answer; else the relocation is refused as ambiguous. Candidates that did not do are forgotten
//! for later relocations with the same root, as in libbpf, where a later relocation would otherwise be ambiguous.
//!
//! # Bit-fields
//!
//! A bit-field is read with the smallest load of 1, 2, 4 or 8 aligned bytes, not smaller than its declared type, that
//! covers it. With `bit_off` and `bit_size` of the field and `byte_off`, `byte_size` of that load: on little-endian
//! machines `lshift = 64 - (bit_off + bit_size - 8 * byte_off)`, on big-endian ones
//! `lshift = 8 * (8 - byte_size) + (bit_off - 8 * byte_off)`, and always `rshift = 64 - bit_size`. The compiler may have
//! chosen another load, so its values for offset, size and left shift are not checked.
//!
//! # Instructions
//!
//! [`patch`] puts the answer into an instruction after checking that the instruction holds the local answer. A load or
//! store whose field has another size here takes that size, which is right for pointers and for unsigned integers only.
//! A question without an answer turns the instruction into a call of helper [`POISON`]: the program loads if the verifier
//! finds that it cannot be reached, which is how `if (bpf_core_field_exists(...))` works.
//!
//! The rules are those of libbpf (`tools/lib/bpf/relo_core.c`, 6.18) with these differences: values of unsigned 32-bit
//! enumerators above `INT_MAX` are accepted; a hostile type graph ends in an error instead of a long search.

mod access;
mod candidates;
mod compat;
mod fault;
mod matching;
mod minimal;
mod patch;
mod value;

pub use access::{Access, Step};
pub use candidates::{Candidate, Resolution, Resolver};
pub use compat::{compatible, matches};
pub use fault::Fault;
pub use minimal::Minimal;
pub use patch::{POISON, Patched, patch};
pub use value::Answer;

use crate::{Btf, CoreReloKind, Kind, TypeId};

/// One CO-RE record, without its instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relo<'a> {
    /// Root type in the object's BTF.
    pub type_id: TypeId,
    /// Access string, such as `0:1:2`.
    pub access: &'a str,
    /// What the instruction wants to know.
    pub kind: CoreReloKind,
}

/// How many numbers an access string may have, and how deep a field may lie (`BPF_CORE_SPEC_MAX_LEN` of libbpf).
pub(crate) const MAX_STEPS: usize = 64;

impl CoreReloKind {
    /// Whether it asks about a field.
    pub const fn is_field(self) -> bool {
        self.0 <= CoreReloKind::FIELD_RSHIFT_U64.0
    }

    /// Whether it asks about a type as a whole.
    pub const fn is_type(self) -> bool {
        matches!(
            self,
            CoreReloKind::TYPE_ID_LOCAL
                | CoreReloKind::TYPE_ID_TARGET
                | CoreReloKind::TYPE_EXISTS
                | CoreReloKind::TYPE_SIZE
                | CoreReloKind::TYPE_MATCHES
        )
    }

    /// Whether it asks about an enumerator.
    pub const fn is_enum_value(self) -> bool {
        matches!(self, CoreReloKind::ENUMVAL_EXISTS | CoreReloKind::ENUMVAL_VALUE)
    }
}

/// The name without its flavour: `task_struct` for `task_struct___v5`.
///
/// The separator is exactly three underscores between characters that are none; the last one counts. A name without a
/// flavour comes back whole.
pub fn essential_name(name: &str) -> &str {
    let cut = name.as_bytes().windows(5).rposition(|it| it[0] != b'_' && &it[1..4] == b"___" && it[4] != b'_');
    // The byte before the separator may be the last of a longer character; after it the name can be cut.
    cut.and_then(|at| name.get(..at + 1)).unwrap_or(name)
}

/// Whether types of the two kinds can stand for each other at the root.
pub(crate) fn kinds_agree(local: Kind, target: Kind) -> bool {
    let any_enum = |kind| kind == Kind::ENUM || kind == Kind::ENUM64;
    local == target || any_enum(local) && any_enum(target)
}

/// A type as C names it: `struct task_struct`, `enum <anonymous>`, `int`; `[7] FUNC_PROTO` where C has no name.
pub fn describe(btf: &Btf, id: TypeId) -> String {
    let Ok(found) = btf.type_by_id(id) else {
        return format!("{id}");
    };
    let word = match found.kind() {
        Kind::VOID => return "void".to_string(),
        Kind::STRUCT => "struct ",
        Kind::UNION => "union ",
        Kind::ENUM | Kind::ENUM64 => "enum ",
        Kind::TYPEDEF => "typedef ",
        Kind::FWD => "forward declaration of ",
        Kind::FUNC => "function ",
        Kind::VAR => "variable ",
        Kind::INT | Kind::FLOAT => "",
        Kind::PTR => {
            return match found.target().map(|it| btf.strip_qualifiers(it)) {
                Some(Ok((to, it))) if it.kind() != Kind::PTR => format!("{} *", describe(btf, to)),
                _ => "pointer".to_string(),
            };
        }
        Kind::ARRAY => "array",
        other => return format!("{id} {other}"),
    };
    match found.name() {
        "" if found.kind() == Kind::ARRAY => word.to_string(),
        "" => format!("{word}<anonymous>"),
        name => format!("{word}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::essential_name;

    #[test]
    fn a_flavour_is_what_follows_the_last_three_underscores_between_other_characters() {
        for (name, essential) in [
            ("task_struct", "task_struct"),
            ("task_struct___v5", "task_struct"),
            ("a___b___c", "a___b"),
            ("a____b", "a____b"),
            ("a___", "a___"),
            ("___a", "___a"),
            ("a___b____c", "a"),
            ("", ""),
            ("ä___x", "ä"),
        ] {
            assert_eq!(essential_name(name), essential, "{name}");
        }
    }
}
