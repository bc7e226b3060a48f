//! The kinds of types, by the kernel's numbers.

use std::fmt;

/// The kind of a BTF type. A newtype and not an enum, because a newer kernel may use numbers this crate does not know;
/// such types are skipped when the BTF says how long they are (its layout section) and are shown as [`crate::Type::Unknown`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

/// What follows the common 12 bytes of a type: a fixed part and one part per element (`vlen`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) fixed: u8,
    pub(crate) element: u8,
}

macro_rules! kinds {
    ($($name:ident = $number:literal, $text:literal, $fixed:literal, $element:literal;)*) => {
        impl Kind {
            $(#[doc = concat!("`BTF_KIND_", stringify!($name), "`.")] pub const $name: Kind = Kind($number);)*

            /// The kernel's name without `BTF_KIND_`, as `bpftool btf dump` prints it; `None` for a number this crate does not know.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some($text),)* _ => None }
            }

            pub(crate) const fn layout(self) -> Option<Layout> {
                match self.0 { $($number => Some(Layout { fixed: $fixed, element: $element }),)* _ => None }
            }
        }
    };
}

kinds! {
    VOID = 0, "VOID", 0, 0;
    INT = 1, "INT", 4, 0;
    PTR = 2, "PTR", 0, 0;
    ARRAY = 3, "ARRAY", 12, 0;
    STRUCT = 4, "STRUCT", 0, 12;
    UNION = 5, "UNION", 0, 12;
    ENUM = 6, "ENUM", 0, 8;
    FWD = 7, "FWD", 0, 0;
    TYPEDEF = 8, "TYPEDEF", 0, 0;
    VOLATILE = 9, "VOLATILE", 0, 0;
    CONST = 10, "CONST", 0, 0;
    RESTRICT = 11, "RESTRICT", 0, 0;
    FUNC = 12, "FUNC", 0, 0;
    FUNC_PROTO = 13, "FUNC_PROTO", 0, 8;
    VAR = 14, "VAR", 4, 0;
    DATASEC = 15, "DATASEC", 0, 12;
    FLOAT = 16, "FLOAT", 0, 0;
    DECL_TAG = 17, "DECL_TAG", 4, 0;
    TYPE_TAG = 18, "TYPE_TAG", 0, 0;
    ENUM64 = 19, "ENUM64", 0, 12;
}

impl Kind {
    /// The highest kind of kernel 6.18.
    pub const MAX: Kind = Kind::ENUM64;

    /// Whether the type only points at another one and changes neither its size nor its layout.
    pub const fn is_modifier(self) -> bool {
        matches!(self, Kind::TYPEDEF | Kind::VOLATILE | Kind::CONST | Kind::RESTRICT | Kind::TYPE_TAG)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "kind {}", self.0),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
