//! What a path says: offsets, sizes, shifts, signs and values.

use skep_insn::Endian;

use super::{Access, Fault};
use crate::{Btf, CoreReloKind, Error, Type, TypeId};

/// What an instruction holds and what it shall hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The value by the object's own types.
    pub local: u64,
    /// The value by the target's; `None` when the question has no answer there and the instruction must be poisoned.
    pub value: Option<u64>,
    /// Whether the instruction must hold [`Answer::local`] now.
    pub check: bool,
    /// The value is that of an enumerator of 32 bits, which compilers extend to 64 either way.
    pub narrow: bool,
    /// Sizes of the field in the object's types and in the target's, in bytes, when loads and stores of it must change.
    pub resize: Option<(u32, u32)>,
    /// [`Answer::resize`] cannot be done by changing the width: the field is signed, or not a number.
    pub bad_resize: bool,
}

/// One side of an answer.
#[derive(Clone, Copy, Debug, Default)]
struct Value {
    value: u64,
    check: bool,
    narrow: bool,
    /// Size and type of what a load of the field reads.
    access: Option<(u32, TypeId)>,
}

/// Answers `local`'s question by its own types and by a candidate's; `None` when there is no candidate.
pub(super) fn answer(local: &Access<'_>, target: Option<&Access<'_>>) -> Result<Answer, Error> {
    let ours = value(local)?;
    let theirs = match target {
        Some(target) => Some(value(target)?),
        None => absent(local.kind).map(|value| Value { value, ..Value::default() }),
    };
    let mut it = Answer {
        local: ours.value,
        value: theirs.map(|it| it.value),
        check: ours.check,
        narrow: ours.narrow,
        resize: None,
        bad_resize: false,
    };
    if let (Some(theirs), Some(target)) = (theirs, target) {
        // A bit-field has no size that a load could take: to or from one, loads cannot follow.
        let size = |side: &Value| side.access.map_or(0, |(size, _)| size);
        if size(&ours) != size(&theirs) {
            it.resize = Some((size(&ours), size(&theirs)));
            it.bad_resize = match (ours.access, theirs.access) {
                (Some((_, from)), Some((_, to))) => !widens(local.btf, from, target.btf, to)?,
                _ => true,
            };
        }
    }
    Ok(it)
}

/// Whether a load of another width reads the same number: the upper bits of a pointer or an unsigned integer are zero.
fn widens(local: &Btf, local_type: TypeId, target: &Btf, target_type: TypeId) -> Result<bool, Error> {
    Ok(match (local.type_by_id(local_type)?, target.type_by_id(target_type)?) {
        (Type::Ptr(_), Type::Ptr(_)) => true,
        // libbpf compares the whole encoding with `signed`, so a signed character passes; no compiler makes one.
        (Type::Int(from), Type::Int(to)) => !from.is_signed() && !to.is_signed(),
        _ => false,
    })
}

/// What a question about something absent gives; `None` when it has no answer.
fn absent(kind: CoreReloKind) -> Option<u64> {
    let existence = kind == CoreReloKind::FIELD_EXISTS || kind == CoreReloKind::ENUMVAL_EXISTS || kind.is_type();
    existence.then_some(0)
}

fn value(it: &Access<'_>) -> Result<Value, Error> {
    let found = |value, check| Ok(Value { value, check, ..Value::default() });
    match it.kind {
        CoreReloKind::FIELD_EXISTS | CoreReloKind::TYPE_EXISTS | CoreReloKind::TYPE_MATCHES => found(1, true),
        CoreReloKind::ENUMVAL_EXISTS => found(1, true),
        // Numbers of types may be out of date when objects were linked.
        CoreReloKind::TYPE_ID_LOCAL | CoreReloKind::TYPE_ID_TARGET => found(u64::from(it.root.0), false),
        CoreReloKind::TYPE_SIZE => found(it.btf.size_of(it.root)?, true),
        CoreReloKind::ENUMVAL_VALUE => enumerator(it),
        kind if kind.is_field() => field(it),
        kind => Err(Fault::BadKind { kind, about: "anything that this version knows" }.into()),
    }
}

fn enumerator(it: &Access<'_>) -> Result<Value, Error> {
    let found = it.steps.first().map(|step| (it.btf.type_by_id(step.type_id), step.index));
    let Some((Ok(Type::Enum(found) | Type::Enum64(found)), index)) = found else {
        return Err(Fault::BadKind { kind: it.kind, about: "something that is not an enum" }.into());
    };
    let value = found.values().nth(index as usize).ok_or(Fault::TooDeep)?.value;
    // From -2^63 to 2^64 - 1: the low 64 bits are what the machine holds.
    Ok(Value { value: value as u64, check: true, narrow: !found.is_64(), access: None })
}

/// Where a field is read, and how much.
struct Place {
    byte_offset: u64,
    byte_size: u64,
    bit_offset: u64,
    bit_size: u64,
}

fn field(it: &Access<'_>) -> Result<Value, Error> {
    let bad_kind = |about| Err(Fault::BadKind { kind: it.kind, about }.into());
    let Some(step) = it.steps.last() else {
        return bad_kind("nothing");
    };
    if step.name.is_none() {
        let size = || it.btf.size_of(step.type_id);
        return match it.kind {
            CoreReloKind::FIELD_BYTE_OFFSET => Ok(Value {
                value: it.bit_offset / 8,
                check: true,
                access: Some((innermost_size(it.btf, step.type_id)?, step.type_id)),
                narrow: false,
            }),
            CoreReloKind::FIELD_BYTE_SIZE => Ok(Value { value: size()?, check: true, ..Value::default() }),
            _ => bad_kind("an array element"),
        };
    }
    let (Type::Struct(parent) | Type::Union(parent)) = it.btf.type_by_id(step.type_id)? else {
        return bad_kind("a type without members");
    };
    let Some(member) = parent.member(step.index as usize) else {
        return bad_kind("a member that is not there");
    };
    let (type_id, found) = it.btf.resolve(member.type_id())?;
    let bitfield = member.bitfield_size();
    let place = match bitfield {
        Some(bits) => bitfield_place(it.bit_offset, u64::from(bits), it.btf.size_of(type_id)?)?,
        None => {
            let byte_size = it.btf.size_of(type_id)?;
            Place {
                byte_offset: it.bit_offset / 8,
                byte_size,
                bit_offset: it.bit_offset,
                bit_size: byte_size.saturating_mul(8),
            }
        }
    };
    let plain = bitfield.is_none();
    let value = |value, check| Value { value, check, ..Value::default() };
    Ok(match it.kind {
        CoreReloKind::FIELD_BYTE_OFFSET => Value {
            access: if plain { Some((innermost_size(it.btf, type_id)?, type_id)) } else { None },
            ..value(place.byte_offset, plain)
        },
        CoreReloKind::FIELD_BYTE_SIZE => value(place.byte_size, plain),
        CoreReloKind::FIELD_SIGNED => {
            let signed = match found {
                Type::Int(found) => found.is_signed(),
                Type::Enum(found) | Type::Enum64(found) => found.is_signed(),
                _ => false,
            };
            value(u64::from(signed), true)
        }
        CoreReloKind::FIELD_LSHIFT_U64 => {
            // Wraps like libbpf's for fields of more than 8 bytes, of which nobody asks for a shift.
            let end = place.bit_offset.saturating_add(place.bit_size);
            let start = place.byte_offset.saturating_mul(8);
            let shift = match it.btf.endian() {
                Endian::Little => 64u64.wrapping_sub(end.wrapping_sub(start)),
                Endian::Big => 8u64
                    .wrapping_sub(place.byte_size)
                    .wrapping_mul(8)
                    .wrapping_add(place.bit_offset.wrapping_sub(start)),
            };
            value(shift & u64::from(u32::MAX), plain)
        }
        CoreReloKind::FIELD_RSHIFT_U64 => value(64u64.wrapping_sub(place.bit_size) & u64::from(u32::MAX), true),
        _ => return bad_kind("a field"),
    })
}

/// The smallest aligned load that covers a bit-field whose declared type has `declared` bytes.
fn bitfield_place(bit_offset: u64, bit_size: u64, declared: u64) -> Result<Place, Error> {
    let mut byte_size = declared;
    loop {
        if byte_size == 0 || byte_size > 8 {
            return Err(Fault::WideBitfield.into());
        }
        let byte_offset = bit_offset / 8 / byte_size * byte_size;
        if bit_offset + bit_size - byte_offset * 8 <= byte_size * 8 {
            return Ok(Place { byte_offset, byte_size, bit_offset, bit_size });
        }
        byte_size *= 2;
    }
}

/// Size of what one load of a field reads: of an array, one element.
fn innermost_size(btf: &Btf, id: TypeId) -> Result<u32, Error> {
    let mut at = id;
    for _ in 0..super::MAX_STEPS {
        let (id, found) = btf.resolve(at)?;
        match found {
            Type::Array(array) => at = array.element(),
            _ => return Ok(u32::try_from(btf.size_of(id)?).unwrap_or(u32::MAX)),
        }
    }
    Err(Fault::TooDeep.into())
}
