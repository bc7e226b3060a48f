//! Views of single types, read in place.
//!
//! A view costs nothing to make and borrows from its [`Btf`]. Names whose offset lies outside the strings read as empty, and
//! names that are not UTF-8 end at the first foreign byte; [`Btf::validate`] reports both.

use std::fmt;

use crate::raw::{Info, u32_at};
use crate::{Btf, Kind, TypeId};

/// The common 12 bytes of a type and what follows them.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) btf: &'a Btf,
    pub(crate) id: TypeId,
    pub(crate) name_off: u32,
    pub(crate) info: Info,
    pub(crate) size_or_type: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(btf: &'a Btf, id: TypeId, bytes: &'a [u8]) -> Option<Record<'a>> {
        let endian = btf.endian();
        Some(Record {
            btf,
            id,
            name_off: u32_at(bytes, 0, endian)?,
            info: Info(u32_at(bytes, 4, endian)?),
            size_or_type: u32_at(bytes, 8, endian)?,
            body: bytes.get(12..)?,
        })
    }

    /// A field of the body; the parser made sure that it is there.
    fn field(&self, off: usize) -> u32 {
        u32_at(self.body, off, self.btf.endian()).unwrap_or_default()
    }

    fn name(&self) -> &'a str {
        self.btf.name_at(self.name_off)
    }
}

macro_rules! view {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(pub(crate) Record<'a>);

        impl<'a> $name<'a> {
            /// The type's own number.
            pub fn id(&self) -> TypeId {
                self.0.id
            }
            /// The name; empty when it has none.
            pub fn name(&self) -> &'a str {
                self.0.name()
            }
            /// Where the name is among the strings; 0 when it has none.
            pub fn name_off(&self) -> u32 {
                self.0.name_off
            }
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({} {:?})", stringify!($name), self.0.id, self.name())
            }
        }
    };
}

view!(
    /// An integer, a character or a boolean.
    Int
);
view!(
    /// A type that only refers to another: a pointer, a typedef, a qualifier, a type tag.
    Ref
);
view!(
    /// An array with a length known to the compiler; a flexible one has length 0.
    Array
);
view!(
    /// A struct or a union.
    Composite
);
view!(
    /// An enumeration with values of 32 ([`Kind::ENUM`]) or 64 bits ([`Kind::ENUM64`]).
    Enum
);
view!(
    /// A struct, union or enumeration of which only the name is known.
    Fwd
);
view!(
    /// A function.
    Func
);
view!(
    /// Parameters and result of a function.
    FuncProto
);
view!(
    /// A global variable.
    Var
);
view!(
    /// A section of variables.
    Datasec
);
view!(
    /// A floating-point number.
    Float
);
view!(
    /// `__attribute__((btf_decl_tag("...")))` on a declaration, one of its members or parameters.
    DeclTag
);
view!(
    /// A type of a kind that this crate does not know; only its length is known.
    Unknown
);

/// A type. The variants are named after the kernel's kinds.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the views say it")]
pub enum Type<'a> {
    Void,
    Int(Int<'a>),
    Ptr(Ref<'a>),
    Array(Array<'a>),
    Struct(Composite<'a>),
    Union(Composite<'a>),
    Enum(Enum<'a>),
    Fwd(Fwd<'a>),
    Typedef(Ref<'a>),
    Volatile(Ref<'a>),
    Const(Ref<'a>),
    Restrict(Ref<'a>),
    Func(Func<'a>),
    FuncProto(FuncProto<'a>),
    Var(Var<'a>),
    Datasec(Datasec<'a>),
    Float(Float<'a>),
    DeclTag(DeclTag<'a>),
    TypeTag(Ref<'a>),
    Enum64(Enum<'a>),
    Unknown(Unknown<'a>),
}

impl<'a> Type<'a> {
    pub(crate) fn read(btf: &'a Btf, id: TypeId, bytes: &'a [u8]) -> Option<Type<'a>> {
        let it = Record::read(btf, id, bytes)?;
        Some(match Kind(it.info.kind()) {
            Kind::INT => Type::Int(Int(it)),
            Kind::PTR => Type::Ptr(Ref(it)),
            Kind::ARRAY => Type::Array(Array(it)),
            Kind::STRUCT => Type::Struct(Composite(it)),
            Kind::UNION => Type::Union(Composite(it)),
            Kind::ENUM => Type::Enum(Enum(it)),
            Kind::FWD => Type::Fwd(Fwd(it)),
            Kind::TYPEDEF => Type::Typedef(Ref(it)),
            Kind::VOLATILE => Type::Volatile(Ref(it)),
            Kind::CONST => Type::Const(Ref(it)),
            Kind::RESTRICT => Type::Restrict(Ref(it)),
            Kind::FUNC => Type::Func(Func(it)),
            Kind::FUNC_PROTO => Type::FuncProto(FuncProto(it)),
            Kind::VAR => Type::Var(Var(it)),
            Kind::DATASEC => Type::Datasec(Datasec(it)),
            Kind::FLOAT => Type::Float(Float(it)),
            Kind::DECL_TAG => Type::DeclTag(DeclTag(it)),
            Kind::TYPE_TAG => Type::TypeTag(Ref(it)),
            Kind::ENUM64 => Type::Enum64(Enum(it)),
            _ => Type::Unknown(Unknown(it)),
        })
    }

    pub(crate) fn record(&self) -> Option<&Record<'a>> {
        Some(match self {
            Type::Void => return None,
            Type::Int(Int(it))
            | Type::Ptr(Ref(it))
            | Type::Array(Array(it))
            | Type::Struct(Composite(it))
            | Type::Union(Composite(it))
            | Type::Enum(Enum(it))
            | Type::Fwd(Fwd(it))
            | Type::Typedef(Ref(it))
            | Type::Volatile(Ref(it))
            | Type::Const(Ref(it))
            | Type::Restrict(Ref(it))
            | Type::Func(Func(it))
            | Type::FuncProto(FuncProto(it))
            | Type::Var(Var(it))
            | Type::Datasec(Datasec(it))
            | Type::Float(Float(it))
            | Type::DeclTag(DeclTag(it))
            | Type::TypeTag(Ref(it))
            | Type::Enum64(Enum(it))
            | Type::Unknown(Unknown(it)) => it,
        })
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.record().map_or(Kind::VOID, |it| Kind(it.info.kind()))
    }

    /// The number of the type; 0 for `void`.
    pub fn id(&self) -> TypeId {
        self.record().map_or(TypeId::VOID, |it| it.id)
    }

    /// The name; empty for `void` and for what has none.
    pub fn name(&self) -> &'a str {
        self.record().map_or("", Record::name)
    }

    /// The type that a reference (pointer, typedef, qualifier, tag), a function or a variable refers to.
    pub fn target(&self) -> Option<TypeId> {
        match self {
            Type::Ptr(it)
            | Type::Typedef(it)
            | Type::Volatile(it)
            | Type::Const(it)
            | Type::Restrict(it)
            | Type::TypeTag(it) => Some(it.type_id()),
            Type::Func(it) => Some(it.proto()),
            Type::Var(it) => Some(it.type_id()),
            Type::DeclTag(it) => Some(it.type_id()),
            _ => None,
        }
    }
}

/// How an integer's bits are meant: none of the flags is a plain unsigned number. Unknown bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct IntEncoding(pub u8);

impl IntEncoding {
    /// `BTF_INT_SIGNED`.
    pub const SIGNED: IntEncoding = IntEncoding(1);
    /// `BTF_INT_CHAR`. Compilers do not set it, not even for `char`.
    pub const CHAR: IntEncoding = IntEncoding(2);
    /// `BTF_INT_BOOL`.
    pub const BOOL: IntEncoding = IntEncoding(4);

    /// Whether all flags of `other` are set.
    pub const fn has(self, other: IntEncoding) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Int<'_> {
    /// The size in bytes.
    pub fn size(&self) -> u32 {
        self.0.size_or_type
    }
    /// Signed, character, boolean.
    pub fn encoding(&self) -> IntEncoding {
        IntEncoding((self.0.field(0) >> 24) as u8 & 0xf)
    }
    /// How many bits are used; fewer than the size only in BTF of old compilers, which made bit-fields so.
    pub fn bits(&self) -> u32 {
        self.0.field(0) & 0xff
    }
    /// Where the bits begin; other than 0 only in BTF of old compilers.
    pub fn bit_offset(&self) -> u32 {
        self.0.field(0) >> 16 & 0xff
    }
    /// Whether it is signed.
    pub fn is_signed(&self) -> bool {
        self.encoding().has(IntEncoding::SIGNED)
    }
    /// Whether it is a boolean.
    pub fn is_bool(&self) -> bool {
        self.encoding().has(IntEncoding::BOOL)
    }
    /// Whether a C programmer would read it as a character: one byte called `char`, or marked as one.
    pub fn is_char(&self) -> bool {
        self.size() == 1 && (self.encoding().has(IntEncoding::CHAR) || self.name() == "char")
    }
}

impl Ref<'_> {
    /// The type it refers to.
    pub fn type_id(&self) -> TypeId {
        TypeId(self.0.size_or_type)
    }
    /// The flag of its kind: on a type tag, that it stands for any attribute and not for `btf_type_tag` (kernel 6.15).
    pub fn is_attribute(&self) -> bool {
        self.0.info.flag()
    }
}

impl Array<'_> {
    /// The type of one element.
    pub fn element(&self) -> TypeId {
        TypeId(self.0.field(0))
    }
    /// The type of the index.
    pub fn index(&self) -> TypeId {
        TypeId(self.0.field(4))
    }
    /// How many elements there are.
    #[expect(clippy::len_without_is_empty, reason = "a length in C, not a container")]
    pub fn len(&self) -> u32 {
        self.0.field(8)
    }
}

/// A member of a struct or union.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    btf: &'a Btf,
    name_off: u32,
    type_id: TypeId,
    offset: u32,
    flag: bool,
}

impl<'a> Member<'a> {
    /// The name; empty for an anonymous struct or union, or a bit-field that only pads.
    pub fn name(&self) -> &'a str {
        self.btf.name_at(self.name_off)
    }
    /// Where the name is among the strings.
    pub fn name_off(&self) -> u32 {
        self.name_off
    }
    /// The type.
    pub fn type_id(&self) -> TypeId {
        self.type_id
    }
    /// Where it begins, in bits from the start of the struct.
    pub fn bit_offset(&self) -> u32 {
        if self.flag { self.offset & 0xff_ffff } else { self.offset }
    }
    /// How many bits a bit-field has; `None` for an ordinary member.
    ///
    /// Old compilers put bit-fields into the integer type instead; [`Int::bits`] has them.
    pub fn bitfield_size(&self) -> Option<u32> {
        if self.flag && self.offset >> 24 != 0 { Some(self.offset >> 24) } else { None }
    }
}

impl fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({:?} {} @{}", self.name(), self.type_id, self.bit_offset())?;
        match self.bitfield_size() {
            Some(bits) => write!(f, ":{bits})"),
            None => f.write_str(")"),
        }
    }
}

impl<'a> Composite<'a> {
    /// The size in bytes.
    pub fn size(&self) -> u32 {
        self.0.size_or_type
    }
    /// Whether all members overlap.
    pub fn is_union(&self) -> bool {
        self.0.info.kind() == Kind::UNION.0
    }
    /// Whether the members' offsets carry bit-field sizes (`kind_flag`).
    pub fn has_bitfields(&self) -> bool {
        self.0.info.flag()
    }
    /// The members in the order of the source.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Member<'a>> + DoubleEndedIterator + Clone + use<'a> {
        let it = self.0;
        let endian = it.btf.endian();
        it.body.chunks_exact(12).map(move |member| {
            let field = |off| u32_at(member, off, endian).unwrap_or_default();
            Member {
                btf: it.btf,
                name_off: field(0),
                type_id: TypeId(field(4)),
                offset: field(8),
                flag: it.info.flag(),
            }
        })
    }
    /// The member with this index.
    pub fn member(&self, index: usize) -> Option<Member<'a>> {
        self.members().nth(index)
    }
}

/// A name and its value. The value is as wide as C sees it: sign-extended when the enumeration is signed, else below 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnumValue<'a> {
    /// The name.
    pub name: &'a str,
    /// Where the name is among the strings.
    pub name_off: u32,
    /// The value.
    pub value: i128,
}

impl<'a> Enum<'a> {
    /// The size in bytes: 1, 2, 4 or 8.
    pub fn size(&self) -> u32 {
        self.0.size_or_type
    }
    /// Whether the values are signed (`kind_flag`). clang before 16 and pahole before 1.24 never say so.
    pub fn is_signed(&self) -> bool {
        self.0.info.flag()
    }
    /// Whether the values have 64 bits.
    pub fn is_64(&self) -> bool {
        self.0.info.kind() == Kind::ENUM64.0
    }
    /// The names and their values in the order of the source.
    pub fn values(&self) -> impl ExactSizeIterator<Item = EnumValue<'a>> + DoubleEndedIterator + Clone + use<'a> {
        let it = self.0;
        let endian = it.btf.endian();
        let signed = it.info.flag();
        let wide = self.is_64();
        it.body.chunks_exact(if wide { 12 } else { 8 }).map(move |value| {
            let field = |off| u32_at(value, off, endian).unwrap_or_default();
            let name_off = field(0);
            let low = field(4);
            let value = match (wide, signed) {
                (false, true) => i128::from(low as i32),
                (false, false) => i128::from(low),
                (true, _) => {
                    let value = u64::from(field(8)) << 32 | u64::from(low);
                    if signed { i128::from(value as i64) } else { i128::from(value) }
                }
            };
            EnumValue { name: it.btf.name_at(name_off), name_off, value }
        })
    }
}

impl Fwd<'_> {
    /// Whether a union is announced, and not a struct.
    pub fn is_union(&self) -> bool {
        self.0.info.flag()
    }
}

/// Who can see a function: `BTF_FUNC_STATIC`, `_GLOBAL`, `_EXTERN`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FuncLinkage(pub u32);

impl FuncLinkage {
    /// Only its own file.
    pub const STATIC: FuncLinkage = FuncLinkage(0);
    /// Everyone.
    pub const GLOBAL: FuncLinkage = FuncLinkage(1);
    /// It is defined elsewhere.
    pub const EXTERN: FuncLinkage = FuncLinkage(2);
}

impl Func<'_> {
    /// Its prototype.
    pub fn proto(&self) -> TypeId {
        TypeId(self.0.size_or_type)
    }
    /// Who can see it. The number of elements of the record holds it.
    pub fn linkage(&self) -> FuncLinkage {
        FuncLinkage(self.0.info.vlen())
    }
}

/// A parameter of a function. The last one of a variadic function has no name and the type `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// The name; empty when it has none.
    pub name: &'a str,
    /// Where the name is among the strings.
    pub name_off: u32,
    /// The type; `void` stands for `...`.
    pub type_id: TypeId,
}

impl<'a> FuncProto<'a> {
    /// What it returns.
    pub fn result(&self) -> TypeId {
        TypeId(self.0.size_or_type)
    }
    /// What it takes.
    pub fn params(&self) -> impl ExactSizeIterator<Item = Param<'a>> + DoubleEndedIterator + Clone + use<'a> {
        let it = self.0;
        let endian = it.btf.endian();
        it.body.chunks_exact(8).map(move |param| {
            let name_off = u32_at(param, 0, endian).unwrap_or_default();
            Param {
                name: it.btf.name_at(name_off),
                name_off,
                type_id: TypeId(u32_at(param, 4, endian).unwrap_or_default()),
            }
        })
    }
}

/// Who can see a variable: `BTF_VAR_STATIC`, `_GLOBAL_ALLOCATED`, `_GLOBAL_EXTERN`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VarLinkage(pub u32);

impl VarLinkage {
    /// Only its own file.
    pub const STATIC: VarLinkage = VarLinkage(0);
    /// Everyone, and it is defined here.
    pub const GLOBAL: VarLinkage = VarLinkage(1);
    /// It is defined elsewhere.
    pub const EXTERN: VarLinkage = VarLinkage(2);
}

impl Var<'_> {
    /// The type of its value.
    pub fn type_id(&self) -> TypeId {
        TypeId(self.0.size_or_type)
    }
    /// Who can see it.
    pub fn linkage(&self) -> VarLinkage {
        VarLinkage(self.0.field(0))
    }
}

/// A variable's place in its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecVar {
    /// The variable, or the function in sections of kfuncs.
    pub type_id: TypeId,
    /// Bytes from the start of the section. 0 in objects: libbpf and this project's ELF reader fill it in from the symbols.
    pub offset: u32,
    /// Bytes it takes.
    pub size: u32,
}

impl<'a> Datasec<'a> {
    /// The size in bytes. 0 in objects, as with [`SecVar::offset`].
    pub fn size(&self) -> u32 {
        self.0.size_or_type
    }
    /// The variables.
    pub fn vars(&self) -> impl ExactSizeIterator<Item = SecVar> + DoubleEndedIterator + Clone + use<'a> {
        let it = self.0;
        let endian = it.btf.endian();
        it.body.chunks_exact(12).map(move |var| {
            let field = |off| u32_at(var, off, endian).unwrap_or_default();
            SecVar { type_id: TypeId(field(0)), offset: field(4), size: field(8) }
        })
    }
}

impl Float<'_> {
    /// The size in bytes: 2, 4, 8, 12 or 16.
    pub fn size(&self) -> u32 {
        self.0.size_or_type
    }
}

impl DeclTag<'_> {
    /// What is tagged: a struct, union, function, variable or typedef.
    pub fn type_id(&self) -> TypeId {
        TypeId(self.0.size_or_type)
    }
    /// Which member or parameter is tagged, from 0; `None` when the whole is.
    pub fn component(&self) -> Option<u32> {
        match self.0.field(0) {
            u32::MAX => None,
            index => Some(index),
        }
    }
    /// That it stands for any attribute and not for `btf_decl_tag` (kernel 6.15).
    pub fn is_attribute(&self) -> bool {
        self.0.info.flag()
    }
}

impl Unknown<'_> {
    /// The kind's number.
    pub fn kind(&self) -> Kind {
        Kind(self.0.info.kind())
    }
}
