//! Externs: what an object wants from the machine by name.

use skep_btf::TypeId;

/// Position in [`Spec::externs`](crate::Spec::externs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExternId(pub u32);

/// One undefined symbol of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extern {
    /// Symbol name as written; a flavour (`name___x`) is stripped only when it is looked up.
    pub name: String,
    /// Declared `__weak`: absence gives zero instead of an error.
    pub weak: bool,
    /// Its `VAR` or `FUNC` in the object's BTF.
    pub btf_id: Option<TypeId>,
    /// Where it is looked up.
    pub kind: ExternKind,
}

/// Where an extern is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternKind {
    /// `.kconfig`: a value of the kernel's configuration, held in the object's `.kconfig` map.
    Kconfig {
        /// Offset in the `.kconfig` map, in bytes.
        off_bytes: u32,
        /// Size of the variable, in bytes.
        size_bytes: u32,
        /// What the variable's type can hold.
        value: KconfigType,
    },
    /// `.ksyms` variable with a type: resolved to a BTF id.
    TypedKsym {
        /// Declared type (not the `VAR`).
        type_id: TypeId,
    },
    /// `.ksyms` variable of type `void`: resolved to an address from kallsyms.
    TypelessKsym,
    /// `.ksyms` function: resolved to the BTF id of a kernel function.
    Kfunc {
        /// Its `FUNC_PROTO`.
        proto: TypeId,
    },
    /// A function of another object (`extern int f(int);`), for a linker to find ([`merge`](crate::merge)).
    Function {
        /// Its `FUNC_PROTO`.
        proto: TypeId,
    },
    /// A variable of another object.
    Variable {
        /// Declared type (not the `VAR`).
        type_id: TypeId,
    },
    /// A map of another object (`extern struct {...} m SEC(".maps");`).
    Map {
        /// The struct that defines it.
        type_id: TypeId,
    },
}

impl ExternKind {
    /// Whether another object should define it, and not the kernel.
    pub fn is_of_object(self) -> bool {
        matches!(self, ExternKind::Function { .. } | ExternKind::Variable { .. } | ExternKind::Map { .. })
    }

    /// What it is, for messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            ExternKind::Kconfig { .. } => "configuration value",
            ExternKind::TypedKsym { .. } | ExternKind::TypelessKsym => "kernel symbol",
            ExternKind::Kfunc { .. } => "kernel function",
            ExternKind::Function { .. } => "function",
            ExternKind::Variable { .. } => "variable",
            ExternKind::Map { .. } => "map",
        }
    }
}

/// Kind of a kconfig variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KconfigType {
    /// `bool`.
    Bool,
    /// `char`, holding y, n or m as text.
    Char,
    /// An integer.
    Int {
        /// Whether it is signed.
        signed: bool,
    },
    /// `enum libbpf_tristate`.
    Tristate,
    /// `char[N]`.
    CharArray,
    /// A type that no value of the configuration fits: the object opens, programs that use it do not load.
    Other,
}
