//! The lattice of types: what a variable's type is after one more use.
//!
//! A [`Shape`] is a type and how far it may still bend. A literal bends: `1` is an `int8` that becomes any integer type which
//! holds 1. Numbers that come from elsewhere do not: a `uint32` stays unsigned, and meets a signed number in `int64`. Inside a
//! tuple each element bends for itself.
//!
//! [`join`] is the least upper bound where there is one. Every chain upwards is finite: integers end at 8 bytes, strings at
//! the longest that a script may have, and the form of a tuple never changes.

use std::sync::Arc;

use crate::types::{Space, Type, Word};

/// A type on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The type as far as it is known.
    pub ty: Type,
    /// How it may bend.
    pub flex: Flex,
}

/// How a type may bend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flex {
    /// Not at all.
    Fixed,
    /// An integer made of literals only: the smallest and the greatest of them.
    Range(i128, i128),
    /// A tuple or record: each element for itself.
    Elems(Vec<Flex>),
}

/// What two uses give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// One shape for both.
    Shape(Shape),
    /// `int64` for a signed and an unsigned number of 8 bytes: the greatest numbers do not fit.
    Lossy(Shape),
    /// Nothing holds both.
    Conflict,
}

impl Shape {
    /// A type that does not bend.
    pub(super) fn fixed(ty: Type) -> Shape {
        Shape { ty, flex: Flex::Fixed }
    }

    /// A literal.
    pub(super) fn literal(value: i128) -> Shape {
        Shape { ty: literal_type(value, value), flex: Flex::Range(value, value) }
    }

    /// The range of an integer made of literals.
    pub(super) fn range(&self) -> Option<(i128, i128)> {
        match self.flex {
            Flex::Range(low, high) => Some((low, high)),
            _ => None,
        }
    }
}

/// The smallest signed type of `low..=high`; `uint64` above `i64::MAX`.
pub(super) fn literal_type(low: i128, high: i128) -> Type {
    for size in [1u8, 2, 4, 8] {
        let bits = u32::from(size) * 8 - 1;
        if low >= -(1i128 << bits) && high < 1i128 << bits {
            return Type::Int { size, signed: true };
        }
    }
    Type::U64
}

/// Whether an integer of this type can be `value`.
pub(super) fn holds(ty: &Type, value: i128) -> bool {
    let bits = ty.size() * 8;
    match ty {
        Type::Bool => (0..=1).contains(&value),
        _ if ty.is_signed() => value >= -(1i128 << (bits - 1)) && value < 1i128 << (bits - 1),
        _ => value >= 0 && value < 1i128 << bits,
    }
}

/// An enum as the integer that it is; every other type as it is.
pub(super) fn plain(ty: &Type) -> Type {
    match ty {
        Type::Enum(e) => Type::Int { size: e.size, signed: e.signed },
        other => other.clone(),
    }
}

/// The least shape above both.
pub(super) fn join(a: &Shape, b: &Shape) -> Joined {
    if a == b {
        return Joined::Shape(a.clone());
    }
    match (&a.ty, &b.ty) {
        (Type::Enum(x), Type::Enum(y)) if x == y => Joined::Shape(Shape::fixed(a.ty.clone())),
        (x, y) if x.is_integer() && y.is_integer() => join_integers(a, b),
        (Type::String { size: x }, Type::String { size: y }) => {
            Joined::Shape(Shape::fixed(Type::String { size: *x.max(y) }))
        }
        // Names of places are text that the program does not have at hand; beside other text they are copied into it.
        (Type::Word(Word::Place), Type::String { size }) | (Type::String { size }, Type::Word(Word::Place)) => {
            Joined::Shape(Shape::fixed(Type::String { size: (*size).max(PLACE_NAME) }))
        }
        (Type::Buffer { size: x }, Type::Buffer { size: y }) => {
            Joined::Shape(Shape::fixed(Type::Buffer { size: *x.max(y) }))
        }
        (Type::Pointer { .. }, _) if b.range() == Some((0, 0)) => Joined::Shape(a.clone()),
        (_, Type::Pointer { .. }) if a.range() == Some((0, 0)) => Joined::Shape(b.clone()),
        (Type::Pointer { to: x, space: p }, Type::Pointer { to: y, space: q }) => {
            let to = match (&**x, &**y) {
                (x_to, y_to) if x_to == y_to => x.clone(),
                (Type::Void, _) => y.clone(),
                (_, Type::Void) => x.clone(),
                _ => return Joined::Conflict,
            };
            let space = match (p, q) {
                (p, q) if p == q => *p,
                (Space::None, known) | (known, Space::None) => *known,
                _ => Space::Any,
            };
            Joined::Shape(Shape::fixed(Type::Pointer { to, space }))
        }
        (Type::Tuple(x), Type::Tuple(y)) if x.len() == y.len() => {
            let pairs = (0..x.len()).map(|i| join(&element(a, i), &element(b, i)));
            gather(pairs, |types| Type::Tuple(types.into()))
        }
        (Type::Record(x), Type::Record(y)) if x.len() == y.len() => {
            let mut pairs = Vec::with_capacity(x.len());
            for (i, (name, _)) in x.iter().enumerate() {
                let Some(j) = y.iter().position(|(other, _)| other == name) else {
                    return Joined::Conflict;
                };
                pairs.push(join(&element(a, i), &element(b, j)));
            }
            let names: Vec<String> = x.iter().map(|(name, _)| name.clone()).collect();
            gather(pairs.into_iter(), |types| Type::Record(names.into_iter().zip(types).collect()))
        }
        (Type::Stack(x), Type::Stack(y)) if x.user == y.user && x.mode == y.mode => {
            let mut stack = x.clone();
            stack.limit = x.limit.max(y.limit);
            Joined::Shape(Shape::fixed(Type::Stack(stack)))
        }
        (Type::Sum { .. }, Type::Sum { .. })
        | (Type::Min { .. }, Type::Min { .. })
        | (Type::Max { .. }, Type::Max { .. })
        | (Type::Avg { .. }, Type::Avg { .. })
        | (Type::Stats { .. }, Type::Stats { .. }) => {
            Joined::Shape(Shape::fixed(if a.ty.is_signed() { a.ty.clone() } else { b.ty.clone() }))
        }
        (Type::Tseries(x), Type::Tseries(y)) => {
            let mut shape = *x;
            shape.signed |= y.signed;
            let mut other = *y;
            other.signed = shape.signed;
            if shape == other { Joined::Shape(Shape::fixed(Type::Tseries(shape))) } else { Joined::Conflict }
        }
        (x, y) if x == y => Joined::Shape(Shape::fixed(a.ty.clone())),
        _ => Joined::Conflict,
    }
}

/// Room for the name of a place that is stored beside other text.
const PLACE_NAME: u32 = 128;

/// The shape of element `i` of a tuple or record.
pub(super) fn element(of: &Shape, i: usize) -> Shape {
    let ty = match &of.ty {
        Type::Tuple(types) => types.get(i).cloned(),
        Type::Record(fields) => fields.get(i).map(|(_, ty)| ty.clone()),
        _ => None,
    };
    let flex = match &of.flex {
        Flex::Elems(elems) => elems.get(i).cloned(),
        _ => None,
    };
    Shape { ty: ty.unwrap_or(Type::Void), flex: flex.unwrap_or(Flex::Fixed) }
}

fn gather(parts: impl Iterator<Item = Joined>, make: impl FnOnce(Vec<Type>) -> Type) -> Joined {
    let (mut types, mut flexes, mut lossy) = (Vec::new(), Vec::new(), false);
    for part in parts {
        match part {
            Joined::Shape(shape) => {
                types.push(shape.ty);
                flexes.push(shape.flex);
            }
            Joined::Lossy(shape) => {
                types.push(shape.ty);
                flexes.push(shape.flex);
                lossy = true;
            }
            Joined::Conflict => return Joined::Conflict,
        }
    }
    let shape = Shape { ty: make(types), flex: Flex::Elems(flexes) };
    if lossy { Joined::Lossy(shape) } else { Joined::Shape(shape) }
}

fn join_integers(a: &Shape, b: &Shape) -> Joined {
    let int = |size, signed| Shape::fixed(Type::Int { size, signed });
    match (a.range(), b.range()) {
        (Some((a_low, a_high)), Some((b_low, b_high))) => {
            let (low, high) = (a_low.min(b_low), a_high.max(b_high));
            let shape = Shape { ty: literal_type(low, high), flex: Flex::Range(low, high) };
            if low < 0 && high > i128::from(i64::MAX) {
                Joined::Lossy(Shape { ty: Type::I64, ..shape })
            } else {
                Joined::Shape(shape)
            }
        }
        (None, Some((low, high))) => join_literals(&plain(&a.ty), low, high),
        (Some((low, high)), None) => join_literals(&plain(&b.ty), low, high),
        (None, None) => {
            let (x, y) = (plain(&a.ty), plain(&b.ty));
            let (x_size, y_size) = (x.size() as u8, y.size() as u8);
            if x.is_signed() == y.is_signed() {
                return Joined::Shape(int(x_size.max(y_size), x.is_signed()));
            }
            let unsigned = if x.is_signed() { y_size } else { x_size };
            if unsigned == 8 { Joined::Lossy(int(8, true)) } else { Joined::Shape(int(8, true)) }
        }
    }
}

/// A number that does not bend, and literals.
fn join_literals(ty: &Type, low: i128, high: i128) -> Joined {
    let signed = ty.is_signed() || low < 0;
    let widened = [1u8, 2, 4, 8]
        .into_iter()
        .filter(|size| u32::from(*size) >= ty.size())
        .map(|size| Type::Int { size, signed })
        .find(|it| holds(it, low) && holds(it, high));
    match widened {
        // A negative literal beside an unsigned number.
        Some(_) if signed && !ty.is_signed() => {
            let shape = Shape::fixed(Type::I64);
            if ty.size() == 8 { Joined::Lossy(shape) } else { Joined::Shape(shape) }
        }
        Some(it) => Joined::Shape(Shape::fixed(it)),
        None => Joined::Lossy(Shape::fixed(Type::I64)),
    }
}

/// Cuts the chains that only a limit would end: strings go to `limit` at once. Used when a fix-point takes long, as with
/// `$x = str_concat($x, "a")`.
pub(super) fn widen(ty: &Type, limit: u32) -> Type {
    match ty {
        Type::String { size } => Type::String { size: (*size).max(limit) },
        Type::Buffer { size } => Type::Buffer { size: (*size).max(limit) },
        Type::Tuple(types) => Type::Tuple(types.iter().map(|ty| widen(ty, limit)).collect()),
        Type::Record(fields) => {
            Type::Record(fields.iter().map(|(name, ty)| (name.clone(), widen(ty, limit))).collect())
        }
        other => other.clone(),
    }
}

/// A tuple of `types`.
pub(super) fn tuple(types: impl IntoIterator<Item = Type>) -> Type {
    Type::Tuple(types.into_iter().collect::<Vec<_>>().into())
}

/// An integer type.
pub(super) fn int(size: u8, signed: bool) -> Type {
    Type::Int { size, signed }
}

/// A pointer to `to`.
pub(super) fn pointer(to: Type, space: Space) -> Type {
    Type::Pointer { to: Arc::new(to), space }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &Shape, b: &Shape, expected: &str) {
        let text = match join(a, b) {
            Joined::Shape(shape) => shape.ty.to_string(),
            Joined::Lossy(shape) => format!("{} lossy", shape.ty),
            Joined::Conflict => "conflict".to_owned(),
        };
        assert_eq!(text, expected);
        assert_eq!(join(a, b), join(b, a), "join does not depend on the order");
        if let Joined::Shape(top) = join(a, b) {
            assert_eq!(join(&top, a), Joined::Shape(top.clone()), "what was joined is below");
        }
    }

    #[test]
    fn literals_bend_and_numbers_widen() {
        let lit = Shape::literal;
        let fixed = |size, signed| Shape::fixed(int(size, signed));
        check(&lit(1), &lit(1000), "int16");
        check(&lit(-1), &lit(i128::from(u64::MAX)), "int64 lossy");
        check(&lit(1), &fixed(4, false), "uint32");
        check(&lit(1 << 33), &fixed(4, false), "uint64");
        check(&lit(-1), &fixed(4, false), "int64");
        check(&lit(-1), &fixed(8, false), "int64 lossy");
        check(&lit(200), &fixed(1, true), "int16");
        check(&fixed(2, true), &fixed(4, true), "int32");
        check(&fixed(8, true), &fixed(4, false), "int64");
        check(&fixed(8, true), &fixed(8, false), "int64 lossy");
        let text = |size| Shape::fixed(Type::String { size });
        check(&text(4), &text(16), "string[16]");
        check(&text(4), &lit(1), "conflict");
        let pair = |a: &Shape, b: &Shape| Shape {
            ty: tuple([a.ty.clone(), b.ty.clone()]),
            flex: Flex::Elems(vec![a.flex.clone(), b.flex.clone()]),
        };
        check(&pair(&lit(1), &text(2)), &pair(&fixed(4, false), &text(9)), "(uint32,string[9])");
        check(&pair(&lit(1), &text(2)), &pair(&text(1), &text(9)), "conflict");
    }
}
