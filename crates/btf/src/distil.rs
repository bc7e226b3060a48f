//! Split BTF that survives small changes of its base.
//!
//! A kernel module's types name those of the kernel by number. A kernel that was built again has other numbers, and the module's
//! types are worthless then, though nothing that the module uses may have changed. So since 6.11 a module can bring, beside
//! its split BTF (`.BTF`), a *distilled* base (`.BTF.base`): the few base types that it refers to, by name. Whoever loads the
//! module looks those names up in the real base and puts the real numbers in (`btf_relocate`, tools/lib/bpf/btf_relocate.c,
//! which the kernel compiles too, 6.18).
//!
//! # What is distilled ([`distil`])
//!
//! The base types that the split ones reach, each by what identifies it:
//!
//! | base type | goes to | as |
//! |---|---|---|
//! | integer, float | new base | itself |
//! | named enumeration | new base | name and size |
//! | named struct or union that a value contains | new base | name and size |
//! | named struct or union otherwise | new base | forward declaration |
//! | forward declaration | new base | itself |
//! | without a name; pointers, arrays, typedefs, qualifiers, prototypes | new split | itself, with what it refers to |
//!
//! A value contains a struct when a member or variable has it as its type, through typedefs, qualifiers and arrays: then the
//! sizes and offsets in the split types are only right while the struct's size is what it was. Members of named structs are not
//! looked at.
//!
//! # How it is put onto a base ([`relocate`])
//!
//! Each type of the distilled base must have exactly one partner of its name: integers of the same size and encoding, floats
//! and enumerations of the same size (32 or 64 bits wide alike), structs and unions of the same size, and for a forward
//! declaration any struct or union, as it says, or the same declaration. None, or several, is an error that names the type.

use std::collections::{BTreeMap, BTreeSet};

use crate::build::{Words, record};
use crate::{Btf, Builder, Error, Kind, NeededNames, Type, TypeDef, TypeId};

/// A split BTF and the base that it brings along. Parse the second on the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distilled {
    /// The bytes of `.BTF.base`.
    pub base: Vec<u8>,
    /// The bytes of `.BTF`. Its own types come in their old order, then what was taken over from the base.
    pub split: Vec<u8>,
}

/// Distils the base of a split BTF.
///
/// # Errors
///
/// When `split` has no base, or one that is split itself, and when the types are damaged or of a kind that this crate does not
/// know.
#[doc(alias = "btf__distill_base")]
pub fn distil(split: &Btf) -> Result<Distilled, Error> {
    let base =
        split.base().ok_or(Error::BadType { id: TypeId::VOID, what: "the BTF is not split, so it has no base" })?;
    if base.base().is_some() {
        return Err(Error::BadType { id: base.first_id(), what: "the base is split itself" });
    }
    let first = base.len();
    let mut own = Words::default();
    own.load(split);
    let used = used(split, &own)?;
    let sized = contained(split, &used)?;

    let mut new_base = Builder::new();
    let mut numbers: BTreeMap<TypeId, TypeId> = BTreeMap::new();
    for &id in used.iter().filter(|&&id| by_name(base, id)) {
        let def = match base.type_by_id(id)? {
            Type::Int(it) => {
                TypeDef::Int { name: it.name(), size: it.size(), bits: it.bits() as u8, encoding: it.encoding() }
            }
            Type::Float(it) => TypeDef::Float { name: it.name(), size: it.size() },
            Type::Enum(it) => TypeDef::Enum { name: it.name(), size: it.size(), signed: false, values: &[] },
            Type::Enum64(it) => TypeDef::Enum64 { name: it.name(), size: it.size(), signed: false, values: &[] },
            Type::Struct(it) if sized.contains(&id) => {
                TypeDef::Struct { name: it.name(), size: it.size(), members: &[] }
            }
            Type::Union(it) if sized.contains(&id) => TypeDef::Union { name: it.name(), size: it.size(), members: &[] },
            Type::Struct(it) | Type::Union(it) => TypeDef::Fwd { name: it.name(), is_union: it.is_union() },
            Type::Fwd(it) => TypeDef::Fwd { name: it.name(), is_union: it.is_union() },
            _ => continue,
        };
        numbers.insert(id, new_base.add(def)?);
    }
    let base_bytes = new_base.finish(split.endian())?;
    let new_base = Btf::parse(base_bytes.clone())?;

    let moved = |id: TypeId| TypeId(id.0 - first + new_base.len());
    let taken: Vec<TypeId> = used.iter().copied().filter(|id| !numbers.contains_key(id)).collect();
    let after = TypeId(new_base.len() + own.len() as u32);
    numbers.extend((after.0..).map(TypeId).zip(&taken).map(|(to, &from)| (from, to)));
    let number = |id: TypeId| match id {
        TypeId::VOID => TypeId::VOID,
        id if id.0 >= first => moved(id),
        id => numbers.get(&id).copied().unwrap_or(TypeId::VOID),
    };
    let mut new_split = Builder::split(&new_base);
    for index in 0..own.len() {
        copy(&mut new_split, own.get(index), split, number)?;
    }
    for id in taken {
        copy(&mut new_split, &words_of(base, id)?, base, number)?;
    }
    Ok(Distilled { base: base_bytes, split: new_split.finish(split.endian())? })
}

/// Puts a split BTF that stands on a distilled base onto a real one. Gives the bytes to be parsed on `base`
/// ([`Btf::parse_split`]); the numbers of its own types keep their order.
///
/// # Errors
///
/// When a type of the distilled base has no partner in `base`, or several ([`Error::NotInBase`]), and when the types are damaged.
#[doc(alias = "btf__relocate")]
pub fn relocate(split: &Btf, base: &Btf) -> Result<Vec<u8>, Error> {
    let distilled =
        split.base().ok_or(Error::BadType { id: TypeId::VOID, what: "the BTF is not split, so it has no base" })?;
    if split.endian() != base.endian() {
        return Err(Error::MixedEndian);
    }
    // Several types may have one name.
    let mut names = NeededNames::new();
    let mut places = Vec::new();
    for id in 1..distilled.len() {
        places.push(names.add(distilled.type_by_id(TypeId(id))?.name()));
    }
    let found = base.find_all(&names);
    let mut partners = vec![TypeId::VOID];
    for (id, place) in (1..distilled.len()).map(TypeId).zip(places) {
        partners.push(partner(distilled, id, base, found.get(place).map_or(&[], Vec::as_slice))?);
    }
    let number = |id: TypeId| match partners.get(id.0 as usize) {
        Some(&partner) => partner,
        None => TypeId((id.0 - distilled.len()).saturating_add(base.len())),
    };
    let mut own = Words::default();
    own.load(split);
    let mut out = Builder::split(base);
    for index in 0..own.len() {
        copy(&mut out, own.get(index), split, number)?;
    }
    out.finish(split.endian())
}

/// The one type of `base` that a type of the distilled base stands for.
fn partner(distilled: &Btf, id: TypeId, base: &Btf, candidates: &[TypeId]) -> Result<TypeId, Error> {
    let wanted = distilled.type_by_id(id)?;
    let fits = |candidate: &Type<'_>| match (&wanted, candidate) {
        (Type::Int(a), Type::Int(b)) => (a.size(), a.bits(), a.encoding()) == (b.size(), b.bits(), b.encoding()),
        (Type::Float(a), Type::Float(b)) => a.size() == b.size(),
        (Type::Enum(a) | Type::Enum64(a), Type::Enum(b) | Type::Enum64(b)) => a.size() == b.size(),
        (Type::Struct(a), Type::Struct(b)) | (Type::Union(a), Type::Union(b)) => a.size() == b.size(),
        (Type::Fwd(a), Type::Struct(_)) => !a.is_union(),
        (Type::Fwd(a), Type::Union(_)) => a.is_union(),
        _ => false,
    };
    let mut matching = Vec::new();
    let mut same_name = 0;
    let mut declared = None;
    for &candidate in candidates {
        let found = base.type_by_id(candidate)?;
        if let (Type::Fwd(a), Type::Fwd(b)) = (&wanted, &found)
            && a.is_union() == b.is_union()
        {
            declared = declared.or(Some(candidate));
        }
        same_name += usize::from(found.kind() == wanted.kind());
        if fits(&found) {
            matching.push(candidate);
        }
    }
    let refuse = |why| Err(Error::NotInBase { name: wanted.name().to_owned(), kind: wanted.kind(), why });
    match (matching.as_slice(), declared) {
        ([one], _) => Ok(*one),
        ([], Some(declared)) => Ok(declared),
        ([], None) if same_name > 0 => refuse("has another size there"),
        ([], None) => refuse("is not there"),
        _ => refuse("is there more than once"),
    }
}

/// Whether a type is found by its name alone.
fn by_name(base: &Btf, id: TypeId) -> bool {
    match base.type_by_id(id) {
        Ok(Type::Int(_) | Type::Float(_) | Type::Fwd(_)) => true,
        Ok(it @ (Type::Struct(_) | Type::Union(_) | Type::Enum(_) | Type::Enum64(_))) => !it.name().is_empty(),
        _ => false,
    }
}

/// The base types that the split ones reach.
fn used(split: &Btf, own: &Words) -> Result<BTreeSet<TypeId>, Error> {
    let first = split.first_id();
    let mut used = BTreeSet::new();
    let mut waiting: Vec<TypeId> = Vec::new();
    let reach = |words: &[u32], waiting: &mut Vec<TypeId>| {
        waiting
            .extend(record::types(words).map(|at| TypeId(words[at])).filter(|id| *id < first && *id != TypeId::VOID));
    };
    for index in 0..own.len() {
        reach(own.get(index), &mut waiting);
    }
    let Some(base) = split.base() else { return Ok(used) };
    while let Some(id) = waiting.pop() {
        if !used.insert(id) {
            continue;
        }
        // A function, variable or section of the base has no place in the types of another.
        match base.kind_of(id)? {
            Kind::FUNC | Kind::VAR | Kind::DATASEC | Kind::DECL_TAG => {
                return Err(Error::BadType { id, what: "a split type refers to it, though it is no type of values" });
            }
            _ => {}
        }
        if !by_name(base, id) {
            reach(&words_of(base, id)?, &mut waiting);
        }
    }
    Ok(used)
}

/// The named structs and unions of the base that a value of the split types contains.
fn contained(split: &Btf, used: &BTreeSet<TypeId>) -> Result<BTreeSet<TypeId>, Error> {
    let mut found = BTreeSet::new();
    let taken = used.iter().copied().filter(|&id| split.base().is_some_and(|base| !by_name(base, id)));
    for id in (split.first_id().0..split.len()).map(TypeId).chain(taken) {
        let parts: Vec<TypeId> = match split.type_by_id(id)? {
            Type::Struct(it) | Type::Union(it) => it.members().map(|member| member.type_id()).collect(),
            Type::Var(it) => vec![it.type_id()],
            _ => continue,
        };
        for part in parts {
            let mut at = part;
            // Each array is one step, and arrays of arrays are few.
            for _ in 0..64 {
                match split.resolve(at)? {
                    (_, Type::Array(it)) => at = it.element(),
                    (to, Type::Struct(_) | Type::Union(_)) if to < split.first_id() => {
                        found.insert(to);
                        break;
                    }
                    _ => break,
                }
            }
        }
    }
    Ok(found)
}

fn words_of(btf: &Btf, id: TypeId) -> Result<Vec<u32>, Error> {
    let none = Error::NoType { id, len: btf.len() };
    let range = (id.0 as usize).checked_sub(1).and_then(|index| btf.own_range(index)).ok_or(none.clone())?;
    let bytes = btf.type_bytes().get(range).ok_or(none)?;
    Ok(bytes
        .chunks_exact(4)
        .map(|word| {
            let word = [word[0], word[1], word[2], word[3]];
            match btf.endian() {
                crate::Endian::Little => u32::from_le_bytes(word),
                crate::Endian::Big => u32::from_be_bytes(word),
            }
        })
        .collect())
}

/// Adds a record of another BTF with its names and with its references under other numbers.
fn copy(to: &mut Builder, words: &[u32], from: &Btf, number: impl Fn(TypeId) -> TypeId) -> Result<(), Error> {
    let mut words = words.to_vec();
    if record::kind(&words).layout().is_none() {
        return Err(Error::BadType {
            id: TypeId(to.len()),
            what: "it has an unknown kind and cannot be given another number",
        });
    }
    for at in record::names(&words) {
        words[at] = to.string_bytes(from.string_bytes(words[at])?)?;
    }
    for at in record::types(&words) {
        words[at] = number(TypeId(words[at])).0;
    }
    to.words_mut().push(&words);
    Ok(())
}
