//! [`Minimal`]: the part of a kernel's types that the CO-RE records of some objects look at.
//!
//! A kernel without types of its own can be given some from a file, and few kilobytes of the kernel's megabytes do for a known set of
//! objects. What is kept of a candidate depends on the question:
//!
//! | question | kept |
//! |---|---|
//! | a field | the structs on the path, each with its size and the one member; of the last member's type what compatibility looks at |
//! | a type exists, its size | the type, through pointers, arrays and prototypes; structs without members |
//! | a type matches | everything but what lies behind pointers, where a struct is its name |
//! | an enumerator | the enum with this enumerator |
//!
//! A candidate that does not do is kept as far as it must be to fail again: a struct without the member, an enum without the name. Nothing
//! that is left out can make a candidate do that did not, with one exception: an array without elements takes any index when it is the
//! last member of its struct, so one that is not keeps the last member beside it.
//!
//! Numbers of types are others than the kernel's. So [`CoreReloKind::TYPE_ID_TARGET`] cannot be answered from the result as from the
//! kernel's own types; [`Minimal::add`] says whether an object asks for one.

use std::collections::{BTreeMap, BTreeSet};

use super::matching::find;
use super::{Access, Relo, Resolver};
use crate::{Btf, Builder, CoreReloKind, Error, MemberDef, NeededNames, Type, TypeDef, TypeId};

/// What is kept of one type.
#[derive(Clone, Debug, Default)]
struct Keep {
    /// Members of a struct, or enumerators.
    parts: BTreeSet<u32>,
    /// What a pointer points at, or the parameters of a prototype.
    beyond: bool,
}

/// A small BTF in the making.
#[derive(Clone, Debug)]
pub struct Minimal<'k> {
    kernel: &'k Btf,
    kept: BTreeMap<TypeId, Keep>,
    /// Types that were gone through, and how.
    done: BTreeSet<(TypeId, Depth)>,
}

/// How far a type is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// What comparing a field looks at: kinds, sizes, elements of arrays.
    Field,
    /// What comparing whole types looks at: pointers and prototypes too.
    Type,
    /// What matching looks at: members too.
    Match,
}

impl<'k> Minimal<'k> {
    /// Nothing yet of `kernel`.
    pub fn new(kernel: &'k Btf) -> Minimal<'k> {
        Minimal { kernel, kept: BTreeMap::new(), done: BTreeSet::new() }
    }

    /// Keeps what the records of an object with the types `local` look at. Gives `false` when one of them asks for the number of a type,
    /// which the result cannot tell.
    ///
    /// # Errors
    ///
    /// When a record or the types on either side are damaged.
    pub fn add(&mut self, local: &Btf, relos: &[Relo<'_>]) -> Result<bool, Error> {
        let mut resolver = Resolver::new(local);
        let mut names = NeededNames::new().with_flavours();
        resolver.need(relos.iter().copied(), &mut names);
        resolver.offer(self.kernel, &self.kernel.find_all(&names));
        let mut all = true;
        for relo in relos.iter().filter(|relo| relo.kind != CoreReloKind::TYPE_ID_LOCAL) {
            let access = Access::parse(local, relo)?;
            for candidate in resolver.candidates(relo.type_id) {
                all &= relo.kind != CoreReloKind::TYPE_ID_TARGET;
                let depth = match relo.kind {
                    CoreReloKind::TYPE_MATCHES => Depth::Match,
                    kind if kind.is_type() => Depth::Type,
                    _ => Depth::Field,
                };
                self.follow(candidate.type_id, depth)?;
                if let Ok(found) = find(&access, self.kernel, candidate.type_id)? {
                    self.keep_path(&found)?;
                }
            }
        }
        Ok(all)
    }

    fn keep(&mut self, id: TypeId) -> &mut Keep {
        self.kept.entry(id).or_default()
    }

    /// The members or the enumerator on a path.
    fn keep_path(&mut self, path: &Access<'_>) -> Result<(), Error> {
        let mut at = path.root;
        // The first number of a field's path is the index in front of the root.
        let skipped = usize::from(path.kind.is_field());
        for &index in path.raw.iter().skip(skipped) {
            let kernel = self.kernel;
            let (id, found) = kernel.resolve(at)?;
            at = match found {
                Type::Struct(it) | Type::Union(it) => {
                    let Some(member) = it.member(index as usize) else { return Ok(()) };
                    self.keep_member(id, index)?;
                    let last = it.members().len().saturating_sub(1) as u32;
                    if matches!(kernel.resolve(member.type_id()), Ok((_, Type::Array(array))) if array.len() == 0) {
                        self.keep_member(id, last)?;
                    }
                    member.type_id()
                }
                Type::Array(it) => it.element(),
                Type::Enum(_) | Type::Enum64(_) => {
                    self.keep(id).parts.insert(index);
                    return Ok(());
                }
                _ => return Ok(()),
            };
        }
        Ok(())
    }

    fn keep_member(&mut self, id: TypeId, index: u32) -> Result<(), Error> {
        self.keep(id).parts.insert(index);
        let (Type::Struct(it) | Type::Union(it)) = self.kernel.type_by_id(id)? else { return Ok(()) };
        match it.member(index as usize) {
            Some(member) => self.follow(member.type_id(), Depth::Field),
            None => Ok(()),
        }
    }

    /// Keeps a type and what comparing it looks at.
    fn follow(&mut self, root: TypeId, depth: Depth) -> Result<(), Error> {
        let kernel = self.kernel;
        let mut waiting = vec![(root, depth)];
        while let Some((id, depth)) = waiting.pop() {
            if id == TypeId::VOID || !self.done.insert((id, depth)) {
                continue;
            }
            let kept = self.kept.entry(id).or_default();
            match kernel.type_by_id(id)? {
                Type::Ptr(it) if depth != Depth::Field => {
                    kept.beyond = true;
                    // Behind a pointer a struct only needs its name, if it has one.
                    let named = matches!(kernel.resolve(it.type_id()), Ok((_, Type::Struct(it) | Type::Union(it))) if !it.name().is_empty());
                    waiting.push((it.type_id(), if named { Depth::Type } else { depth }));
                }
                Type::Array(it) => waiting.extend([(it.element(), depth), (it.index(), Depth::Field)]),
                Type::FuncProto(it) if depth != Depth::Field => {
                    kept.beyond = true;
                    waiting.push((it.result(), depth));
                    waiting.extend(it.params().map(|param| (param.type_id, depth)));
                }
                Type::Struct(it) | Type::Union(it) if depth == Depth::Match => {
                    kept.parts.extend(0..it.members().len() as u32);
                    waiting.extend(it.members().map(|member| (member.type_id(), depth)));
                }
                Type::Enum(it) | Type::Enum64(it) if depth == Depth::Match => {
                    kept.parts.extend(0..it.values().len() as u32);
                }
                found if found.kind().is_modifier() => {
                    waiting.extend(found.target().map(|to| (to, depth)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes of the small BTF, in the byte order of the kernel's.
    ///
    /// # Errors
    ///
    /// When the kernel's types are damaged.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let ids: BTreeMap<TypeId, TypeId> = self.kept.keys().copied().zip((1u32..).map(TypeId)).collect();
        let moved = |id: TypeId| ids.get(&id).copied().unwrap_or(TypeId::VOID);
        let mut builder = Builder::new();
        for (&id, keep) in &self.kept {
            let name;
            let (members, values, narrow, params): (Vec<_>, Vec<_>, Vec<_>, Vec<_>);
            let def = match self.kernel.type_by_id(id)? {
                Type::Int(it) => {
                    TypeDef::Int { name: it.name(), size: it.size(), bits: it.bits() as u8, encoding: it.encoding() }
                }
                Type::Float(it) => TypeDef::Float { name: it.name(), size: it.size() },
                Type::Ptr(it) => TypeDef::Ptr(if keep.beyond { moved(it.type_id()) } else { TypeId::VOID }),
                Type::Array(it) => {
                    TypeDef::Array { element: moved(it.element()), index: moved(it.index()), len: it.len() }
                }
                Type::Struct(it) | Type::Union(it) => {
                    let kept = it.members().enumerate().filter(|(index, _)| keep.parts.contains(&(*index as u32)));
                    members = kept
                        .map(|(_, member)| MemberDef {
                            name: member.name(),
                            type_id: moved(member.type_id()),
                            bit_offset: member.bit_offset(),
                            bitfield_size: member.bitfield_size().and_then(|bits| u8::try_from(bits).ok()),
                        })
                        .collect();
                    name = it.name();
                    match it.is_union() {
                        true => TypeDef::Union { name, size: it.size(), members: &members },
                        false => TypeDef::Struct { name, size: it.size(), members: &members },
                    }
                }
                Type::Enum(it) => {
                    let kept = it.values().enumerate().filter(|(index, _)| keep.parts.contains(&(*index as u32)));
                    narrow = kept.map(|(_, value)| (value.name, value.value as u32)).collect();
                    TypeDef::Enum { name: it.name(), size: it.size(), signed: it.is_signed(), values: &narrow }
                }
                Type::Enum64(it) => {
                    let kept = it.values().enumerate().filter(|(index, _)| keep.parts.contains(&(*index as u32)));
                    values = kept.map(|(_, value)| (value.name, value.value as u64)).collect();
                    TypeDef::Enum64 { name: it.name(), size: it.size(), signed: it.is_signed(), values: &values }
                }
                Type::FuncProto(it) => {
                    params =
                        it.params().filter(|_| keep.beyond).map(|param| (param.name, moved(param.type_id))).collect();
                    let result = if keep.beyond { moved(it.result()) } else { TypeId::VOID };
                    TypeDef::FuncProto { result, params: &params }
                }
                Type::Fwd(it) => TypeDef::Fwd { name: it.name(), is_union: it.is_union() },
                Type::Typedef(it) => TypeDef::Typedef { name: it.name(), type_id: moved(it.type_id()) },
                Type::Volatile(it) => TypeDef::Volatile(moved(it.type_id())),
                Type::Const(it) => TypeDef::Const(moved(it.type_id())),
                Type::Restrict(it) => TypeDef::Restrict(moved(it.type_id())),
                Type::TypeTag(it) => TypeDef::TypeTag { tag: it.name(), type_id: moved(it.type_id()) },
                _ => return Err(Error::BadType { id, what: "it is no type that a CO-RE record can lead to" }),
            };
            builder.add(def)?;
        }
        builder.finish(self.kernel.endian())
    }
}
