//! [`Btf`]: one parsed file, cheap to clone, alone or on top of a base.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use skep_insn::Endian;

use crate::find::{Finder, NeededNames};
use crate::offsets::Offsets;
use crate::raw::{Info, cstr_at, u32_at};
use crate::types::Type;
use crate::{Error, Kind, parse, walk};

/// The number of a type; 0 is `void`. In a split BTF the numbers continue those of its base.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`, which every BTF has and none spells out.
    pub const VOID: TypeId = TypeId(0);
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0)
    }
}

/// How many references [`Btf::resolve`] and its like follow before they call it a loop. Kernels allow 32
/// (`MAX_RESOLVE_DEPTH` in kernel/bpf/btf.c, 6.18).
pub(crate) const MAX_DEPTH: usize = 64;

/// One parsed BTF. Cloning shares it.
#[derive(Clone)]
pub struct Btf(Arc<Inner>);

struct Inner {
    data: Box<dyn AsRef<[u8]> + Send + Sync>,
    endian: Endian,
    types: Range<usize>,
    strings: Range<usize>,
    /// Of the own types, in the type section.
    offsets: Offsets,
    base: Option<Btf>,
    /// The number of the first own type.
    first_id: u32,
    /// The offset of the first own string.
    first_string: u32,
    finder: Finder,
    pointer_size: OnceLock<u64>,
}

impl Btf {
    /// Reads BTF from bytes, which are kept and not copied: a `Vec<u8>`, an `Arc<[u8]>`, a mapped file.
    ///
    /// Checks that the sections and every type lie inside the data and that every kind is known (or its length is). It does
    /// not follow references: [`Btf::validate`] does.
    pub fn parse(data: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Btf, Error> {
        Btf::new(Box::new(data), None, |_, _, _| {})
    }

    /// As [`Btf::parse`] and then [`Btf::find_all`] without a base, in one pass over the types instead of two.
    pub fn parse_and_find(
        data: impl AsRef<[u8]> + Send + Sync + 'static,
        names: &NeededNames,
    ) -> Result<(Btf, Vec<Vec<TypeId>>), Error> {
        let mut found = vec![Vec::new(); names.len()];
        let btf = Btf::new(Box::new(data), None, |strings, index, name_off| {
            names.collect_at(strings, name_off as usize, TypeId(1 + index), &mut found);
        })?;
        Ok((btf, found))
    }

    /// Reads BTF that continues the numbers and strings of `base`, as a kernel module's continues vmlinux's.
    ///
    /// Which base belongs to it is not written in the data; the caller knows.
    pub fn parse_split(data: impl AsRef<[u8]> + Send + Sync + 'static, base: &Btf) -> Result<Btf, Error> {
        Btf::new(Box::new(data), Some(base.clone()), |_, _, _| {})
    }

    /// `visit` gets the own strings, and of each type its index and `name_off`.
    fn new(
        data: Box<dyn AsRef<[u8]> + Send + Sync>,
        base: Option<Btf>,
        mut visit: impl FnMut(&[u8], u32, u32),
    ) -> Result<Btf, Error> {
        let bytes: &[u8] = (*data).as_ref();
        let sections = parse::sections(bytes, base.is_some())?;
        let (first_id, first_string) = match &base {
            Some(base) if base.endian() != sections.endian => return Err(Error::MixedEndian),
            Some(base) => (base.len(), base.strings_len()),
            None => (1, 0),
        };
        if u64::from(first_string) + sections.strings.len() as u64 > u64::from(u32::MAX) {
            return Err(Error::TooBig { what: "more than 4 GiB of strings" });
        }
        let strings = &bytes[sections.strings.clone()];
        let offsets = walk::type_offsets(
            &bytes[sections.types.clone()],
            sections.endian,
            &sections.layouts,
            first_id,
            |index, name_off| visit(strings, index, name_off),
        )?;
        Ok(Btf(Arc::new(Inner {
            endian: sections.endian,
            types: sections.types,
            strings: sections.strings,
            offsets,
            base,
            first_id,
            first_string,
            finder: Finder::default(),
            pointer_size: OnceLock::new(),
            data,
        })))
    }

    /// How many types there are: `void` and the base's included, so that every number below it is a type.
    #[expect(clippy::len_without_is_empty, reason = "there is always `void`")]
    pub fn len(&self) -> u32 {
        self.0.first_id + self.0.offsets.len() as u32
    }

    /// The number of the first type that is not in the base: 1 without a base.
    pub fn first_id(&self) -> TypeId {
        TypeId(self.0.first_id)
    }

    /// The byte order of the data.
    pub fn endian(&self) -> Endian {
        self.0.endian
    }

    /// What this BTF was split from.
    pub fn base(&self) -> Option<&Btf> {
        self.0.base.as_ref()
    }

    /// The bytes this was parsed from, without the base's.
    pub fn as_bytes(&self) -> &[u8] {
        (*self.0.data).as_ref()
    }

    /// Whether both are one parsed BTF.
    pub fn same(&self, other: &Btf) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where the type section lies in [`Btf::as_bytes`].
    pub(crate) fn type_range(&self) -> Range<usize> {
        self.0.types.clone()
    }

    /// The type section, without the base's.
    pub(crate) fn type_bytes(&self) -> &[u8] {
        self.as_bytes().get(self.0.types.clone()).unwrap_or_default()
    }

    /// The string section, without the base's.
    pub(crate) fn string_bytes_own(&self) -> &[u8] {
        self.as_bytes().get(self.0.strings.clone()).unwrap_or_default()
    }

    /// How many own types there are.
    pub(crate) fn own_len(&self) -> usize {
        self.0.offsets.len()
    }

    /// Calls `visit` with the index of each own type among them and its start in the type section, until it says `false`.
    #[inline]
    pub(crate) fn each_own_start(&self, visit: impl FnMut(u32, usize) -> bool) {
        self.0.offsets.each(self.type_bytes(), self.0.endian, visit);
    }

    /// Where an own type starts in the type section, by its index among them.
    pub(crate) fn own_start(&self, index: usize) -> Option<usize> {
        self.0.offsets.start(self.type_bytes(), self.0.endian, index)
    }

    /// The bytes of an own type in the type section, by its index among them.
    pub(crate) fn own_range(&self, index: usize) -> Option<Range<usize>> {
        self.0.offsets.range(self.type_bytes(), self.0.endian, index)
    }

    pub(crate) fn finder(&self) -> &Finder {
        &self.0.finder
    }

    /// Where the own strings begin in the numbering of string offsets.
    pub(crate) fn first_string(&self) -> u32 {
        self.0.first_string
    }

    /// How long the strings are in bytes, the base's included.
    pub fn strings_len(&self) -> u32 {
        self.0.first_string + self.0.strings.len() as u32
    }

    /// The type with this number; [`Type::Void`] for 0.
    pub fn type_by_id(&self, id: TypeId) -> Result<Type<'_>, Error> {
        if id.0 < self.0.first_id {
            return match &self.0.base {
                Some(base) => base.type_by_id(id),
                None => Ok(Type::Void),
            };
        }
        let none = || Error::NoType { id, len: self.len() };
        let index = (id.0 - self.0.first_id) as usize;
        let bytes = self.own_range(index).and_then(|range| self.type_bytes().get(range)).ok_or_else(none)?;
        Type::read(self, id, bytes).ok_or_else(none)
    }

    /// The bytes of the string at an offset, without the NUL.
    pub fn string_bytes(&self, off: u32) -> Result<&[u8], Error> {
        if off < self.0.first_string
            && let Some(base) = &self.0.base
        {
            return base.string_bytes(off);
        }
        cstr_at(self.string_bytes_own(), (off - self.0.first_string) as usize)
            .ok_or(Error::NoString { offset: off, len: self.strings_len() })
    }

    /// The string at an offset. A string that is not UTF-8 is an error here: identifiers never are anything else, and a name
    /// that were silently changed could match a wrong one. Source lines may be in any encoding: use [`Btf::string_lossy`].
    pub fn string(&self, off: u32) -> Result<&str, Error> {
        std::str::from_utf8(self.string_bytes(off)?).map_err(|_| Error::NotUtf8 { offset: off })
    }

    /// The string at an offset, with U+FFFD for what is not UTF-8.
    pub fn string_lossy(&self, off: u32) -> Result<Cow<'_, str>, Error> {
        Ok(String::from_utf8_lossy(self.string_bytes(off)?))
    }

    /// A name for display and comparison: empty when the offset is bad, and only the UTF-8 before the first foreign byte.
    pub(crate) fn name_at(&self, off: u32) -> &str {
        if off == 0 {
            return "";
        }
        let bytes = self.string_bytes(off).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(name) => name,
            Err(err) => std::str::from_utf8(&bytes[..err.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// All types in the order of their numbers, the base's first, `void` left out.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, Type<'_>)> {
        (1..self.len()).filter_map(|id| Some((TypeId(id), self.type_by_id(TypeId(id)).ok()?)))
    }

    /// The types that are not in the base, in the order of their numbers.
    pub fn own_types(&self) -> impl Iterator<Item = (TypeId, Type<'_>)> {
        (self.0.first_id..self.len()).filter_map(|id| Some((TypeId(id), self.type_by_id(TypeId(id)).ok()?)))
    }

    /// The kind of a type, without reading the rest of it.
    pub fn kind_of(&self, id: TypeId) -> Result<Kind, Error> {
        if id.0 < self.0.first_id {
            return match &self.0.base {
                Some(base) => base.kind_of(id),
                None => Ok(Kind::VOID),
            };
        }
        let index = (id.0 - self.0.first_id) as usize;
        self.own_start(index)
            .and_then(|start| u32_at(self.type_bytes(), start + 4, self.0.endian))
            .map(|info| Kind(Info(info).kind()))
            .ok_or(Error::NoType { id, len: self.len() })
    }

    /// The numbers of all types of one kind, in their order: the base's first. One pass over the types, which is quicker than
    /// [`Btf::kind_of`] for each.
    pub fn of_kind(&self, kind: Kind) -> Vec<TypeId> {
        let mut found = self.base().map(|base| base.of_kind(kind)).unwrap_or_default();
        let types = self.type_bytes();
        self.each_own_start(|index, start| {
            let info = u32_at(types, start + 4, self.0.endian);
            if info.is_some_and(|info| Kind(Info(info).kind()) == kind) {
                found.push(TypeId(self.0.first_id + index));
            }
            true
        });
        found
    }

    /// Follows typedefs, qualifiers and type tags to the type behind them, which may be `void`.
    ///
    /// Fails on a number that is not a type and on a chain of more than 64.
    pub fn resolve(&self, id: TypeId) -> Result<(TypeId, Type<'_>), Error> {
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            match self.type_by_id(at)? {
                Type::Typedef(next)
                | Type::Const(next)
                | Type::Volatile(next)
                | Type::Restrict(next)
                | Type::TypeTag(next) => at = next.type_id(),
                found => return Ok((at, found)),
            }
        }
        Err(Error::TooDeep { id })
    }

    /// As [`Btf::resolve`], but stops at typedefs: only `const`, `volatile`, `restrict` and type tags are followed.
    pub fn strip_qualifiers(&self, id: TypeId) -> Result<(TypeId, Type<'_>), Error> {
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            match self.type_by_id(at)? {
                Type::Const(next) | Type::Volatile(next) | Type::Restrict(next) | Type::TypeTag(next) => {
                    at = next.type_id()
                }
                found => return Ok((at, found)),
            }
        }
        Err(Error::TooDeep { id })
    }

    /// How many bytes a value of the type takes.
    ///
    /// Fails for what has no size: `void`, functions and their prototypes, forward declarations, tags.
    pub fn size_of(&self, id: TypeId) -> Result<u64, Error> {
        let mut count: u64 = 1;
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let size = match self.type_by_id(at)? {
                Type::Int(int) => u64::from(int.size()),
                Type::Ptr(_) => self.pointer_size(),
                Type::Struct(it) | Type::Union(it) => u64::from(it.size()),
                Type::Enum(it) | Type::Enum64(it) => u64::from(it.size()),
                Type::Float(float) => u64::from(float.size()),
                Type::Datasec(section) => u64::from(section.size()),
                Type::Array(array) => {
                    count = count.saturating_mul(u64::from(array.len()));
                    at = array.element();
                    continue;
                }
                Type::Typedef(next)
                | Type::Const(next)
                | Type::Volatile(next)
                | Type::Restrict(next)
                | Type::TypeTag(next) => {
                    at = next.type_id();
                    continue;
                }
                Type::Var(var) => {
                    at = var.type_id();
                    continue;
                }
                other => {
                    return Err(Error::NoSize { id, kind: other.kind() });
                }
            };
            return Ok(size.saturating_mul(count));
        }
        Err(Error::TooDeep { id })
    }

    /// The size of a pointer in bytes, which BTF does not record: that of `long` when one is there, else 8, BPF's own.
    pub fn pointer_size(&self) -> u64 {
        if let Some(base) = self.base() {
            return base.pointer_size();
        }
        *self.0.pointer_size.get_or_init(|| {
            let long = self.own_types().find_map(|(_, it)| match it {
                Type::Int(int) if is_long(int.name()) && matches!(int.size(), 4 | 8) => Some(u64::from(int.size())),
                _ => None,
            });
            long.unwrap_or(8)
        })
    }
}

/// The ways compilers spell `long` and `unsigned long`.
fn is_long(name: &str) -> bool {
    matches!(
        name,
        "long"
            | "long int"
            | "int long"
            | "unsigned long"
            | "long unsigned"
            | "unsigned long int"
            | "unsigned int long"
            | "long unsigned int"
            | "long int unsigned"
            | "int unsigned long"
            | "int long unsigned"
    )
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("endian", &self.0.endian)
            .field("types", &self.len())
            .field("strings_len", &self.strings_len())
            .field("split", &self.0.base.is_some())
            .finish()
    }
}
