//! The pass over all types of a BTF: where each starts, and that all of it lies inside.
//!
//! Types have different lengths, so each is only found from the one before: a processor that walks from the first to the last waits for every
//! length, and guesses wrong at every change of kind. So the types are walked from [`LANES`] places at once, and the waits overlap. In each
//! round the first lane begins where the round before ended, and the others at a guess about [`BLOCK`] bytes further each: the
//! first place from where a few records make sense.
//!
//! A guess is never trusted. What a lane found counts when the lane before it, which counts itself, ended exactly where it began;
//! else it is thrown away, and the next round begins there. So the answer is the one of a walk by single steps, and so is the error:
//! bytes that mislead every guess only make the walk slower, by a factor that does not grow with them.

use skep_insn::Endian;

use crate::kind::Layout;
use crate::offsets::{Lengths, Offsets, STRIDE};
use crate::raw::{self, Info};
use crate::{Error, Kind, TypeId};

/// From so many places at once. More do not help: the lengths come from the cache, a few cycles away.
const LANES: usize = 4;

/// What a lane walks in a round, in bytes: so much that the guesses cost little, and so little that the names are read from types that
/// are still in the cache.
const BLOCK: usize = 32 << 10;

/// A guess is looked for in so many bytes. Larger types are rare, and without a guess the round has a lane less.
const REACH: usize = 4 << 10;

/// So many records that make sense make a guess.
const RECORDS: usize = 8;

/// More types are not between two guesses, since the smallest takes 12 bytes.
const MOST: usize = (BLOCK + REACH).div_ceil(raw::TYPE_LEN);

/// Goes over all types once. `first` is the number of the first one. `visit` gets the index of each among them and its `name_off`, in
/// order; also of those before an error.
pub(crate) fn type_offsets(
    types: &[u8],
    endian: Endian,
    layouts: &[Layout],
    first: u32,
    visit: impl FnMut(u32, u32),
) -> Result<Offsets, Error> {
    // A match on the order once, instead of once per field.
    match endian {
        Endian::Little => walk(types, u32::from_le_bytes, layouts, first, visit),
        Endian::Big => walk(types, u32::from_be_bytes, layouts, first, visit),
    }
}

fn walk(
    types: &[u8],
    number: impl Fn([u8; 4]) -> u32,
    layouts: &[Layout],
    first: u32,
    mut visit: impl FnMut(u32, u32),
) -> Result<Offsets, Error> {
    let lengths = Lengths::new(layouts);
    // Types take 16 to 40 bytes; the kernel's take 25 on average. What is too much stays untouched, so it costs no memory.
    let mut marks = Vec::with_capacity(types.len() / (24 * STRIDE));
    let mut index: u32 = 0;
    let mut at = 0;
    // Where the types of each lane start, from the lane's own start.
    let mut starts = [[0u16; MOST]; LANES];
    while at < types.len() {
        let mut from = [at; LANES];
        let mut end = [types.len().min(at + BLOCK); LANES];
        let mut lanes = 1;
        while let Some(guess) = (lanes < LANES).then(|| guess(types, &number, &lengths, at + lanes * BLOCK)).flatten() {
            end[lanes - 1] = guess;
            from[lanes] = guess;
            end[lanes] = types.len().min(guess + BLOCK);
            lanes += 1;
        }
        let mut pos = from;
        let mut count = [0; LANES];
        // One type further in a lane; false at its end and at what is not a type.
        let mut step = |lane: usize| {
            if pos[lane] >= end[lane] {
                return false;
            }
            let Some(len) = length(types, &number, &lengths, pos[lane]) else { return false };
            let Some(slot) = starts[lane].get_mut(count[lane]) else { return false };
            *slot = (pos[lane] - from[lane]) as u16;
            count[lane] += 1;
            pos[lane] += len;
            true
        };
        if lanes == LANES {
            while (0..LANES).all(&mut step) {}
        }
        // Adjacent lanes hold types of the same sort, so little is left for them to do alone.
        (0..lanes).for_each(|lane| while step(lane) {});
        if count[0] == 0 {
            return Err(not_a_type(types, &number, &lengths, at, TypeId(first.saturating_add(index))));
        }
        for lane in 0..lanes {
            if from[lane] != at {
                break;
            }
            let found = starts[lane][..count[lane]].iter().map(|&start| from[lane] + usize::from(start));
            let before_mark = (index as usize).next_multiple_of(STRIDE) - index as usize;
            marks.extend(found.clone().skip(before_mark).step_by(STRIDE).map(|start| start as u32));
            for start in found {
                let name_off = types.get(start..).and_then(|it| it.first_chunk::<4>()).copied().map(&number);
                visit(index, name_off.unwrap_or_default());
                index += 1;
            }
            at = pos[lane];
        }
    }
    if u64::from(first) + u64::from(index) > u64::from(i32::MAX as u32) {
        return Err(Error::TooBig { what: "more than 2^31 types" });
    }
    Ok(Offsets::new(marks, index, lengths))
}

/// The first two numbers of the record at `pos`, its name and its `info`; `None` when less than a record is left.
#[inline(always)]
fn head(types: &[u8], number: &impl Fn([u8; 4]) -> u32, pos: usize) -> Option<(u32, Info)> {
    let head = types.get(pos..)?.first_chunk::<{ raw::TYPE_LEN }>()?;
    Some((number([head[0], head[1], head[2], head[3]]), Info(number([head[4], head[5], head[6], head[7]]))))
}

/// The length of the type at `pos`, if there is one and all of it.
#[inline(always)]
fn length(types: &[u8], number: &impl Fn([u8; 4]) -> u32, lengths: &Lengths, pos: usize) -> Option<usize> {
    let (_, info) = head(types, number, pos)?;
    lengths.of(info).filter(|&len| len <= types.len() - pos)
}

/// Why there is no type at `pos`.
fn not_a_type(types: &[u8], number: &impl Fn([u8; 4]) -> u32, lengths: &Lengths, pos: usize, id: TypeId) -> Error {
    let truncated = |need: usize| Error::Truncated {
        what: "a type in the type section",
        offset: pos as u64,
        need: need as u64,
        have: (types.len() - pos) as u64,
    };
    match head(types, number, pos) {
        None => truncated(raw::TYPE_LEN),
        Some((_, info)) => match lengths.of(info) {
            None => Error::UnknownKind { kind: info.kind(), offset: pos as u32, id },
            Some(len) => truncated(len),
        },
    }
}

/// The first place from `from` on where a few records make sense one after the other: their kinds are known and the bits that
/// kernels leave clear are clear. In the middle of a type this fails soon, because what is looked at as a kind is the upper byte of a small
/// number, which is 0.
fn guess(types: &[u8], number: &impl Fn([u8; 4]) -> u32, lengths: &Lengths, from: usize) -> Option<usize> {
    (from..from + REACH).step_by(4).find(|&start| {
        let mut pos = start;
        (0..RECORDS).all(|_| {
            let Some((_, info)) = head(types, number, pos) else { return false };
            pos = pos.saturating_add(lengths.of(info).unwrap_or_default());
            (1..=Kind::MAX.0).contains(&info.kind()) && info.vlen() <= u32::from(u16::MAX)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A type whose name is its number among its like, and whose elements are `body`.
    fn push(types: &mut Vec<u8>, name_off: u32, kind: Kind, vlen: u32, body: &[u8]) {
        for word in [name_off, Info::new(kind.0, vlen, false).0, 4] {
            types.extend(word.to_le_bytes());
        }
        types.extend(body);
    }

    /// Numbers that look random and are always the same.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as usize % below
        }
    }

    /// Types of all sorts for several rounds.
    fn mixed() -> Vec<u8> {
        let mut types = Vec::new();
        let mut number = numbers();
        for name in 0.. {
            match number(6) {
                0 => push(&mut types, name, Kind::FUNC, 0, &[]),
                1 => push(&mut types, name, Kind::INT, 0, &[32, 0, 0, 0]),
                2 => push(&mut types, name, Kind::ARRAY, 0, &[0; 12]),
                3 => {
                    let vlen = number(if name % 100 == 0 { 1000 } else { 12 });
                    push(&mut types, name, Kind::STRUCT, vlen as u32, &vec![1; 12 * vlen]);
                }
                4 => {
                    let vlen = number(5);
                    push(&mut types, name, Kind::FUNC_PROTO, vlen as u32, &vec![0; 8 * vlen]);
                }
                _ => push(&mut types, name, Kind::PTR, 0, &[]),
            }
            if types.len() > 3 * LANES * BLOCK {
                break;
            }
        }
        types
    }

    /// Checks that the answer is that of a walk by single steps, which is returned: the starts before the end or the error.
    fn check(types: &[u8]) -> (Vec<usize>, Option<Error>) {
        let lengths = Lengths::new(&[]);
        let (mut starts, mut at, mut error) = (Vec::new(), 0, None);
        while at < types.len() {
            let Some(len) = length(types, &u32::from_le_bytes, &lengths, at) else {
                error = Some(not_a_type(types, &u32::from_le_bytes, &lengths, at, TypeId(1 + starts.len() as u32)));
                break;
            };
            starts.push(at);
            at += len;
        }
        let mut visited = Vec::new();
        let found = type_offsets(types, Endian::Little, &[], 1, |index, name_off| visited.push((index, name_off)));
        let name = |start: usize| u32::from_le_bytes(types[start..start + 4].try_into().unwrap());
        let expected: Vec<_> = starts.iter().enumerate().map(|(index, &start)| (index as u32, name(start))).collect();
        assert!(visited == expected, "the visits differ");
        match found {
            Ok(offsets) => {
                assert_eq!(error, None);
                assert_eq!(offsets.len(), starts.len());
                for (index, &start) in starts.iter().enumerate() {
                    assert_eq!(offsets.start(types, Endian::Little, index), Some(start));
                }
            }
            Err(found) => assert_eq!(Some(found), error),
        }
        (starts, error)
    }

    #[test]
    fn lanes_find_what_single_steps_find() {
        let types = mixed();
        let (starts, error) = check(&types);
        assert!(starts.len() > 10_000 && error.is_none());
        for len in [0, 1, 11, 12, BLOCK - 1, BLOCK, BLOCK + 1, LANES * BLOCK, LANES * BLOCK + 12, types.len() - 1] {
            check(&types[..len]);
        }
    }

    #[test]
    fn a_type_longer_than_a_round_is_one_type() {
        let mut types = mixed();
        push(&mut types, 7, Kind::STRUCT, 0xffff, &[0; 12 * 0xffff]);
        types.extend(mixed());
        assert_eq!(check(&types).1, None);
    }

    #[test]
    fn members_that_look_like_types_mislead_nobody() {
        let mut number = numbers();
        let mut types = Vec::new();
        let mut looks = Vec::new();
        push(&mut looks, 1, Kind::PTR, 0, &[]);
        while types.len() < 3 * LANES * BLOCK {
            let vlen = 1000 + number(2000);
            // Where the last type begins decides how its members lie, so guesses are right by chance only.
            push(&mut types, 2, Kind::ENUM, 1, &[0; 8]);
            push(&mut types, 3, Kind::STRUCT, vlen as u32, &looks.repeat(vlen));
        }
        assert_eq!(check(&types).1, None);
        // The same over again, but from within: what a guess takes for the truth.
        check(&types[32..]);
    }

    #[test]
    fn damage_gives_the_error_of_the_first_damaged_type() {
        let types = mixed();
        let mut number = numbers();
        let mut errors = 0;
        for _ in 0..100 {
            let mut damaged = types.clone();
            for _ in 0..1 + number(4) {
                let at = number(damaged.len());
                damaged[at] = number(256) as u8;
            }
            errors += usize::from(check(&damaged).1.is_some());
        }
        assert!(errors > 10, "{errors}");
    }
}
