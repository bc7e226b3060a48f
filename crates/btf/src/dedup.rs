//! Deduplication: of several descriptions of one type, one stays.
//!
//! Every compilation unit describes `struct list_head` again. After units were appended to one [`Builder`], the same type exists
//! many times, each copy pointing at its own copies of everything else. Comparing two structs means comparing graphs with cycles,
//! so equality is assumed until it is refuted:
//!
//! 1. **Numbers and enumerations** are equal when their records are. An enumeration without values is equal to one of its name with
//!    values.
//! 2. **Structs and unions.** Candidates are those with equal names, sizes, member names and offsets. A candidate *A* is held against
//!    a canonical *B* by walking both graphs in step from pair to pair. Each *B*-type met is tied to one *A*-type (the hypothetical
//!    map); meeting it again with another one refutes the hypothesis, and so do records that differ. A forward declaration is equal
//!    to a definition of its name and kind. When no pair refutes, all structs tied are equal at once: they are mapped to each other.
//!    Where the canonical graph had only a declaration, it is mapped to the candidate's definition. A base cannot be given
//!    definitions, so a candidate that knows more than the base stays.
//! 3. **Forward declarations** that are left become the definition of their name, when there is exactly one.
//! 4. **References** (pointers, typedefs, qualifiers, arrays, prototypes, functions, tags) lead nowhere but to what is decided by
//!    now, so they are equal when their records are, targets replaced.
//! 5. What maps to another type goes, the others get new numbers in their old order, and all references follow.
//!
//! Variables and sections are never equal to others. Types of a base are canonical and stay. The method is that of libbpf's
//! `btf__dedup` (Nakryiko, "BTF deduplication and Linux kernel BTF", 2018), with work lists in place of recursion.
//!
//! Hostile types could make the comparisons quadratic: after a bound of steps, whatever is still to be compared counts as different,
//! which costs size and never correctness.

use std::collections::HashMap;

use crate::build::{Builder, Words, record};
use crate::raw::Info;
use crate::{Btf, Error, Kind, TypeId};

/// Where the types of a builder went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplicated {
    first: u32,
    ids: Vec<TypeId>,
}

impl Deduplicated {
    /// The number that a type has now. Numbers of the base and numbers that never existed stay as they are.
    pub fn type_id(&self, id: TypeId) -> TypeId {
        id.0.checked_sub(self.first).and_then(|at| self.ids.get(at as usize)).copied().unwrap_or(id)
    }

    /// How many types there were, without the base's.
    pub fn before(&self) -> usize {
        self.ids.len()
    }
}

impl Builder {
    /// Merges equal types and gives the rest new numbers without gaps; the module's documentation has the rules.
    ///
    /// Strings stay, at their offsets, so that what else refers to them (BTF.ext) stays right. Fails on kinds that this crate does
    /// not know and on references to types that do not exist.
    pub fn dedup(&mut self) -> Result<Deduplicated, Error> {
        let first = self.first_id().0;
        let mut all = Words::default();
        let mut bases: Vec<&Btf> = std::iter::successors(self.base(), |it| it.base()).collect();
        bases.reverse();
        // Names are compared as offsets. A base may have a string twice; the builder knows one offset for each.
        for base in bases {
            all.load(base);
        }
        for index in 0..all.len() {
            let places: Vec<usize> = record::names(all.get(index)).collect();
            for at in places {
                let off = all.get(index)[at];
                all.get_mut(index)[at] = self.canonical_string(off);
            }
        }
        for index in 0..self.words().len() {
            all.push(self.words().get(index));
        }
        let mut dedup = Dedup::new(all, first)?;
        dedup.primitives();
        dedup.structs();
        dedup.forwards();
        dedup.references()?;
        let ids = dedup.numbers();
        let result = Deduplicated { first, ids };
        let mut kept = Words::default();
        for index in 0..self.words().len() {
            let id = first + index as u32;
            if dedup.resolve(id) != id {
                continue;
            }
            let mut words = dedup.all.get(id as usize - 1).to_vec();
            for at in record::types(&words) {
                words[at] = result.type_id(TypeId(words[at])).0;
            }
            kept.push(&words);
        }
        *self.words_mut() = kept;
        Ok(result)
    }
}

const NONE: u32 = u32::MAX;

/// How many types of two copies are held against each other before they count as different.
const MAX_COPY_STEPS: usize = 64;

struct Dedup {
    /// Type `id` is record `id - 1`.
    all: Words,
    first: u32,
    /// What a type is equal to; itself when it is canonical or undecided.
    map: Vec<u32>,
    /// The hypothetical map: of canonical types, the candidate's they are tied to.
    tied: Vec<u32>,
    /// Which entries of `tied` are set.
    trail: Vec<u32>,
    steps: u64,
}

/// What the comparison of two structs came to.
#[derive(PartialEq, Eq)]
enum Verdict {
    Different,
    Equal,
    /// Equal, but the base lacks definitions that the candidate's graph has.
    LacksDefinitions,
}

impl Dedup {
    fn new(all: Words, first: u32) -> Result<Dedup, Error> {
        let len = all.len() as u32 + 1;
        for index in 0..all.len() {
            let id = TypeId(index as u32 + 1);
            let words = all.get(index);
            if all.kind(index).layout().is_none() {
                return Err(Error::BadType { id, what: "it has an unknown kind and cannot be compared" });
            }
            if let Some(at) = record::types(words).find(|&at| words[at] >= len) {
                return Err(Error::NoType { id: TypeId(words[at]), len });
            }
        }
        let steps = (1 << 20) + 256 * u64::from(len);
        Ok(Dedup { all, first, map: (0..len).collect(), tied: vec![NONE; len as usize], trail: Vec::new(), steps })
    }

    fn words(&self, id: u32) -> &[u32] {
        self.all.get(id as usize - 1)
    }

    fn kind(&self, id: u32) -> Kind {
        if id == 0 { Kind::VOID } else { self.all.kind(id as usize - 1) }
    }

    fn ids(&self) -> std::ops::Range<u32> {
        1..self.map.len() as u32
    }

    fn resolve(&self, mut id: u32) -> u32 {
        while self.map[id as usize] != id {
            id = self.map[id as usize];
        }
        id
    }

    /// Maps a type to another one, unless that would close a circle or touch the base.
    fn merge(&mut self, from: u32, to: u32) {
        let (from, to) = (self.resolve(from), self.resolve(to));
        if from != to && from >= self.first {
            self.map[from as usize] = to;
        }
    }

    fn primitives(&mut self) {
        let mut exact: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut enums: HashMap<u32, Vec<u32>> = HashMap::new();
        for id in self.ids() {
            match self.kind(id) {
                Kind::INT | Kind::FLOAT | Kind::FWD => {
                    let canonical = *exact.entry(self.words(id).to_vec()).or_insert(id);
                    self.merge(id, canonical);
                }
                Kind::ENUM | Kind::ENUM64 => {
                    let words = self.words(id);
                    let is_empty = |id: u32| self.words(id).len() == 3 && self.words(id)[0] != 0;
                    // Neither size nor width is known of a declaration, so the name alone makes candidates.
                    let known = enums.entry(words[0]).or_default();
                    let equal = known.iter().copied().find(|&it| self.words(it) == words);
                    let other = known.iter().copied().find(|&it| is_empty(it) != is_empty(id));
                    let to = match (equal, other) {
                        (Some(equal), _) => Some((id, equal)),
                        (None, Some(full)) if is_empty(id) => Some((id, full)),
                        // The definition comes after the declaration.
                        (None, Some(empty)) => Some((empty, id)),
                        (None, None) => None,
                    };
                    if equal.is_none() {
                        known.push(id);
                    }
                    if let Some((from, to)) = to {
                        self.merge(from, to);
                    }
                }
                _ => {}
            }
        }
    }

    fn structs(&mut self) {
        let mut known: HashMap<Vec<u32>, Vec<u32>> = HashMap::new();
        for id in self.ids() {
            if !matches!(self.kind(id), Kind::STRUCT | Kind::UNION) || self.resolve(id) != id {
                continue;
            }
            let shape = self.shape(id);
            let mut found = None;
            if id >= self.first {
                for &canonical in known.get(&shape).map_or(&[][..], Vec::as_slice) {
                    let verdict = self.compare(id, canonical);
                    if verdict != Verdict::Different {
                        self.adopt(verdict == Verdict::LacksDefinitions);
                    }
                    if verdict == Verdict::Equal {
                        found = Some(canonical);
                    }
                    for at in std::mem::take(&mut self.trail) {
                        self.tied[at as usize] = NONE;
                    }
                    if found.is_some() {
                        break;
                    }
                }
            }
            match found {
                Some(canonical) => self.merge(id, canonical),
                None => known.entry(shape).or_default().push(id),
            }
        }
    }

    /// The record without the numbers of types.
    fn shape(&self, id: u32) -> Vec<u32> {
        let mut words = self.words(id).to_vec();
        for at in record::types(&words) {
            words[at] = 0;
        }
        words
    }

    fn compare(&mut self, candidate: u32, canonical: u32) -> Verdict {
        let mut verdict = Verdict::Equal;
        let mut work = vec![(candidate, canonical)];
        while let Some((candidate, canonical)) = work.pop() {
            let Some(steps) = self.steps.checked_sub(1) else {
                return Verdict::Different;
            };
            self.steps = steps;
            if self.resolve(candidate) == self.resolve(canonical) {
                continue;
            }
            // A declaration that found its definition stands for it.
            let canonical = self.resolve(canonical);
            if candidate == 0 || canonical == 0 {
                return Verdict::Different;
            }
            let tied = self.tied[canonical as usize];
            if tied == candidate {
                continue;
            }
            if tied != NONE {
                // Compilers repeat arrays and anonymous structs within one unit; copies are as good as the same.
                if self.is_copy(tied, candidate) {
                    continue;
                }
                return Verdict::Different;
            }
            self.tied[canonical as usize] = candidate;
            self.trail.push(canonical);
            let (a, b) = (self.words(candidate), self.words(canonical));
            let (kind_a, kind_b) = (record::kind(a), record::kind(b));
            if a[0] != b[0] {
                return Verdict::Different;
            }
            if kind_a != kind_b {
                let of = |words: &[u32]| if Info(words[1]).flag() { Kind::UNION } else { Kind::STRUCT };
                if kind_a == Kind::FWD && of(a) == kind_b {
                    continue;
                }
                let is_enum = |kind| matches!(kind, Kind::ENUM | Kind::ENUM64);
                if is_enum(kind_a) && is_enum(kind_b) && (a.len() == 3 || b.len() == 3) {
                    continue;
                }
                if kind_b == Kind::FWD && of(b) == kind_a {
                    // A declaration becomes the candidate's definition, unless it is the base's, which must not change.
                    if canonical < self.first {
                        verdict = Verdict::LacksDefinitions;
                    }
                    continue;
                }
                return Verdict::Different;
            }
            match kind_a {
                Kind::INT | Kind::FLOAT | Kind::FWD if a != b => return Verdict::Different,
                Kind::INT | Kind::FLOAT | Kind::FWD => continue,
                Kind::ENUM | Kind::ENUM64 => {
                    if a != b && a.len() != 3 && b.len() != 3 {
                        return Verdict::Different;
                    }
                    continue;
                }
                _ => {}
            }
            if a.len() != b.len() {
                return Verdict::Different;
            }
            let first = work.len();
            let mut types = record::types(a).peekable();
            for at in 0..a.len() {
                if types.next_if_eq(&at).is_some() {
                    work.push((a[at], b[at]));
                } else if a[at] != b[at] {
                    return Verdict::Different;
                }
            }
            work[first..].reverse();
        }
        verdict
    }

    /// Whether two types of one unit are the same record for record, within a bound of steps.
    fn is_copy(&self, a: u32, b: u32) -> bool {
        let mut work = vec![(a, b)];
        for _ in 0..MAX_COPY_STEPS {
            let Some((a, b)) = work.pop() else { return true };
            let (a, b) = (self.resolve(a), self.resolve(b));
            if a == b {
                continue;
            }
            if a == 0 || b == 0 {
                return false;
            }
            let (x, y) = (self.words(a), self.words(b));
            if x.len() != y.len() {
                return false;
            }
            let mut types = record::types(x).peekable();
            for at in 0..x.len() {
                if types.next_if_eq(&at).is_some() {
                    work.push((x[at], y[at]));
                } else if x[at] != y[at] {
                    return false;
                }
            }
        }
        false
    }

    /// Takes over what an accepted hypothesis says about the structs it tied together.
    fn adopt(&mut self, only_definitions: bool) {
        for index in 0..self.trail.len() {
            let canonical = self.resolve(self.trail[index]);
            let candidate = self.resolve(self.tied[self.trail[index] as usize]);
            let is_struct = |kind| matches!(kind, Kind::STRUCT | Kind::UNION);
            let (to, from) = (self.kind(canonical), self.kind(candidate));
            if to == Kind::FWD && is_struct(from) {
                self.merge(canonical, candidate);
            } else if is_struct(to) && (from == Kind::FWD || (is_struct(from) && !only_definitions)) {
                self.merge(candidate, canonical);
            }
        }
    }

    fn forwards(&mut self) {
        let mut definitions: HashMap<(u32, Kind), Option<u32>> = HashMap::new();
        for id in self.ids() {
            let kind = self.kind(id);
            let name = self.words(id)[0];
            if matches!(kind, Kind::STRUCT | Kind::UNION) && name != 0 && self.resolve(id) == id {
                definitions.entry((name, kind)).and_modify(|it| *it = None).or_insert(Some(id));
            }
        }
        for id in self.ids() {
            if self.kind(id) != Kind::FWD || self.resolve(id) != id {
                continue;
            }
            let words = self.words(id);
            let kind = if Info(words[1]).flag() { Kind::UNION } else { Kind::STRUCT };
            if let Some(Some(definition)) = definitions.get(&(words[0], kind)).copied() {
                self.merge(id, definition);
            }
        }
    }

    fn references(&mut self) -> Result<(), Error> {
        let is_reference = |kind: Kind| {
            kind.is_modifier()
                || matches!(kind, Kind::PTR | Kind::ARRAY | Kind::FUNC | Kind::FUNC_PROTO | Kind::DECL_TAG)
        };
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.map.len()];
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut stack = Vec::new();
        for start in self.ids() {
            stack.push(start);
            while let Some(&id) = stack.last() {
                if marks[id as usize] == Mark::Done || id == 0 || !is_reference(self.kind(id)) {
                    marks[id as usize] = Mark::Done;
                    stack.pop();
                    continue;
                }
                if marks[id as usize] == Mark::New {
                    marks[id as usize] = Mark::Open;
                    let places: Vec<usize> = record::types(self.words(id)).collect();
                    for at in places {
                        let target = self.words(id)[at];
                        match marks[target as usize] {
                            Mark::New => stack.push(target),
                            Mark::Open => return Err(Error::TooDeep { id: TypeId(id) }),
                            Mark::Done => {}
                        }
                    }
                    continue;
                }
                // All targets are decided.
                stack.pop();
                marks[id as usize] = Mark::Done;
                let places: Vec<usize> = record::types(self.words(id)).collect();
                for at in places {
                    let target = self.resolve(self.words(id)[at]);
                    self.all.get_mut(id as usize - 1)[at] = target;
                }
                let canonical = *known.entry(self.words(id).to_vec()).or_insert(id);
                self.merge(id, canonical);
            }
        }
        // What remains refers to canonical types too.
        for id in self.ids() {
            let places: Vec<usize> = record::types(self.words(id)).collect();
            for at in places {
                let target = self.resolve(self.words(id)[at]);
                self.all.get_mut(id as usize - 1)[at] = target;
            }
        }
        Ok(())
    }

    /// The new numbers of the types that are not the base's.
    fn numbers(&self) -> Vec<TypeId> {
        let own = self.first..self.map.len() as u32;
        let mut next = self.first;
        let mut number = HashMap::new();
        for id in own.clone() {
            if self.resolve(id) == id {
                number.insert(id, next);
                next += 1;
            }
        }
        own.map(|id| {
            let to = self.resolve(id);
            TypeId(number.get(&to).copied().unwrap_or(to))
        })
        .collect()
    }
}
