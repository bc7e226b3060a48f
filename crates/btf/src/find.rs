//! Finding types by name.
//!
//! Three ways, from the cheapest for one question to the cheapest for many:
//!
//! 1. **Scan.** One pass over the types. For each, a hash of the name's first four bytes is looked up in a bitmap of 65536 bits;
//!    only the few names that pass are compared. Finding twenty names among the kernel's 126,000 types takes well under a millisecond and
//!    no memory, which is what a loader needs.
//! 2. **Binary search.** Newer kernels sort their types by name, those without one first. A thousand types evenly spread over
//!    the BTF are checked to be in order (all of them, when there are few); BTF that passes by chance does not exist, and BTF
//!    that was forged to pass can only hide types of its own.
//! 3. **Index.** A hash table of all names, 8 bytes per type, for what asks often. It is built on the first question after a
//!    few scans, or when [`Btf::index`] asks for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use skep_insn::Endian;

use crate::raw::{Info, u32_at};
use crate::{Btf, Kind, Type, TypeId};

/// After this many scans for single names, the next question builds the index.
const SCANS_BEFORE_INDEX: u32 = 4;

/// How many types are looked at to tell whether BTF is sorted.
const SORT_SAMPLES: u32 = 1024;

#[derive(Default)]
pub(crate) struct Finder {
    scans: AtomicU32,
    sorted: OnceLock<bool>,
    index: OnceLock<Index>,
}

/// Hash chains over own types: heads by hash, then the next type with the same hash; 0 ends a chain, others are index + 1.
struct Index {
    heads: Vec<u32>,
    next: Vec<u32>,
}

/// A set of names to look for in one pass.
#[derive(Clone, Debug)]
pub struct NeededNames {
    order: Vec<Box<[u8]>>,
    /// The start of every name, sorted by its first byte.
    starts: Vec<Start>,
    /// For each first byte, where its names begin among `starts`; they end where those of the next byte begin.
    first_bytes: Box<[u32; 257]>,
    /// A bit per hash of the first four bytes of a name and what may follow it.
    filter: Box<[u64; 1024]>,
    flavours: bool,
}

/// The first eight bytes of a name, or fewer: those under the mask.
#[derive(Clone, Copy, Debug)]
struct Start {
    bytes: u64,
    mask: u64,
    /// Which name it is.
    index: u32,
}

impl Default for NeededNames {
    fn default() -> NeededNames {
        NeededNames {
            order: Vec::new(),
            starts: Vec::new(),
            first_bytes: Box::new([0; 257]),
            filter: Box::new([0; 1024]),
            flavours: false,
        }
    }
}

/// The first four bytes of a text, or as many as there are and zeros.
#[inline]
fn first_four(text: &[u8]) -> u32 {
    match text.first_chunk::<4>() {
        Some(four) => u32::from_le_bytes(*four),
        None => first_eight(text) as u32,
    }
}

/// The place of four bytes in a filter.
#[inline]
fn filter_bit(four: u32) -> usize {
    // The upper half of a product depends on all bytes.
    (four.wrapping_mul(0x9e37_79b1) >> 16) as usize
}

/// The first eight bytes of a text, or as many as there are and zeros.
#[inline]
fn first_eight(text: &[u8]) -> u64 {
    match text.first_chunk::<8>() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => text.iter().rev().fold(0, |eight, &byte| eight << 8 | u64::from(byte)),
    }
}

/// The first eight bytes of a name that is not empty, or fewer, and a mask of those.
fn start_of(name: &[u8]) -> (u64, u64) {
    let mask = u64::MAX >> (64 - 8 * name.len().min(8));
    (first_eight(name) & mask, mask)
}

/// Whether a name ended before `rest`: with the text, or with a NUL.
fn ends(rest: &[u8]) -> bool {
    rest.first().is_none_or(|&byte| byte == 0)
}

impl NeededNames {
    /// An empty set.
    pub fn new() -> NeededNames {
        NeededNames::default()
    }

    /// Also finds types whose name goes on with `___` and a flavour, as in `task_struct___v5`.
    pub fn with_flavours(mut self) -> NeededNames {
        self.flavours = true;
        self
    }

    /// Adds a name and tells its index in the answer of [`Btf::find_all`]. The empty name is never found.
    pub fn add(&mut self, name: &str) -> usize {
        self.add_bytes(name.as_bytes())
    }

    fn add_bytes(&mut self, bytes: &[u8]) -> usize {
        if let Some(index) = self.order.iter().position(|known| **known == *bytes) {
            return index;
        }
        let index = self.order.len();
        self.order.push(bytes.into());
        if let Some(&first) = bytes.first() {
            self.let_through(bytes);
            let place = self.first_bytes[usize::from(first) + 1];
            let (bytes, mask) = start_of(bytes);
            self.starts.insert(place as usize, Start { bytes, mask, index: index as u32 });
            self.first_bytes[usize::from(first) + 1..].iter_mut().for_each(|it| *it += 1);
        }
        index
    }

    /// Sets the bits of a name. It may be followed by a NUL and then anything, or by a flavour.
    fn let_through(&mut self, name: &[u8]) {
        let flavour = [name, &b"___"[..]].concat();
        self.set_bit(first_four(&flavour));
        match name {
            [_] => self.filter.fill(u64::MAX),
            [a, b] => (0..=u8::MAX).for_each(|any| self.set_bit(u32::from_le_bytes([*a, *b, 0, any]))),
            [a, b, c] => self.set_bit(u32::from_le_bytes([*a, *b, *c, 0])),
            _ => {}
        }
    }

    fn set_bit(&mut self, four: u32) {
        let bit = filter_bit(four);
        self.filter[bit / 64] |= 1 << (bit % 64);
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    #[inline(always)]
    fn passes(&self, four: u32) -> bool {
        let bit = filter_bit(four);
        self.filter[bit / 64] >> (bit % 64) & 1 != 0
    }

    /// Notes the type in the lists of all names that stand at `at` among the strings.
    #[inline(always)]
    pub(crate) fn collect_at(&self, strings: &[u8], at: usize, id: TypeId, found: &mut [Vec<TypeId>]) {
        // Half of all types have no name, in no pattern. They need no branch of their own: the string at 0 begins with a NUL
        // and hardly ever passes.
        if let Some(text) = strings.get(at..)
            && self.passes(first_four(text))
        {
            self.collect(text, id, found);
        }
    }

    /// Notes the type in the lists of all names that `text` begins with. Apart from the loop around it, which is better off
    /// without it.
    #[inline(never)]
    fn collect(&self, text: &[u8], id: TypeId, found: &mut [Vec<TypeId>]) {
        self.matches(text).for_each(|index| found[index].push(id));
    }

    /// The names that stand at the start of `text`, which may go on behind the name with a NUL and anything.
    fn matches(&self, text: &[u8]) -> impl Iterator<Item = usize> {
        let first = usize::from(text.first().copied().unwrap_or_default());
        let eight = first_eight(text);
        let same = self.first_bytes[first] as usize..self.first_bytes[first + 1] as usize;
        self.starts[same].iter().filter(move |it| eight & it.mask == it.bytes).filter_map(|it| {
            let rest = text.strip_prefix(&*self.order[it.index as usize])?;
            (ends(rest) || (self.flavours && rest.starts_with(b"___"))).then_some(it.index as usize)
        })
    }
}

impl<S: AsRef<str>> FromIterator<S> for NeededNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> NeededNames {
        let mut set = NeededNames::new();
        for name in names {
            set.add(name.as_ref());
        }
        set
    }
}

impl Btf {
    /// The first type with this name and kind: the base's before the own ones. Names are compared whole.
    ///
    /// The first few questions scan (0.8 ms for a kernel's BTF), later ones use an index that is built on the way.
    pub fn find(&self, name: &str, kind: Kind) -> Option<TypeId> {
        if let Some(found) = self.base().and_then(|base| base.find(name, kind)) {
            return Some(found);
        }
        let mut found = None;
        self.each_named(name.as_bytes(), |id, of| {
            if of == kind {
                found = Some(id);
            }
            found.is_none()
        });
        found
    }

    /// All types with this name, the base's first.
    pub fn find_by_name(&self, name: &str) -> Vec<TypeId> {
        let mut all = self.base().map(|base| base.find_by_name(name)).unwrap_or_default();
        self.each_named(name.as_bytes(), |id, _| {
            all.push(id);
            true
        });
        all
    }

    /// For each name of the set, in the order it was added, all types that have it: the base's first, then by number.
    /// One pass over the types.
    pub fn find_all(&self, names: &NeededNames) -> Vec<Vec<TypeId>> {
        let mut found = match self.base() {
            Some(base) => base.find_all(names),
            None => vec![Vec::new(); names.len()],
        };
        self.find_all_own(names, &mut found);
        found
    }

    /// As [`Btf::find_all`], for the types that are not in the base, added to what `found` has. A caller that looks through many
    /// modules of one kernel asks the base once.
    pub fn find_all_own(&self, names: &NeededNames, found: &mut Vec<Vec<TypeId>>) {
        found.resize(names.len().max(found.len()), Vec::new());
        if names.is_empty() {
            return;
        }
        if self.is_sorted() || (!names.flavours && self.finder().index.get().is_some()) {
            for (name, ids) in names.order.iter().zip(found) {
                self.each_named(name, |id, _| {
                    ids.push(id);
                    true
                });
                if names.flavours && !name.is_empty() {
                    let prefix = [name, &b"___"[..]].concat();
                    self.each_sorted(
                        &prefix,
                        |it| it.starts_with(&prefix),
                        |id, _| {
                            ids.push(id);
                            true
                        },
                    );
                }
            }
            return;
        }
        self.scan(
            |text| names.passes(first_four(text)),
            |id, text, _| {
                names.collect(text, id, found);
                true
            },
        );
    }

    /// The first enumeration that has a constant of this name, the base's before the own ones, and the constant's value.
    ///
    /// The name is found once among the strings; then every enumeration's constants are compared by offset. About a
    /// millisecond for a kernel's BTF.
    pub fn find_enumerator(&self, name: &str) -> Option<(TypeId, i128)> {
        if let Some(found) = self.base().and_then(|base| base.find_enumerator(name)) {
            return Some(found);
        }
        let (own, shared) = (self.string_offsets(name), self.base().map(|base| base.string_offsets(name)));
        let shared = shared.unwrap_or_default();
        if own.is_empty() && shared.is_empty() {
            return None;
        }
        (0..self.own_len()).filter(|at| matches!(self.own_kind(*at), Kind::ENUM | Kind::ENUM64)).find_map(|at| {
            let id = TypeId(self.first_id().0 + at as u32);
            let (Type::Enum(it) | Type::Enum64(it)) = self.type_by_id(id).ok()? else { return None };
            let width = if it.is_64() { 12 } else { 8 };
            let mut names = it.0.body.chunks_exact(width).map(|value| u32_at(value, 0, self.endian()));
            let found = names.position(|off| off.is_some_and(|off| own.contains(&off) || shared.contains(&off)))?;
            Some((id, it.values().nth(found)?.value))
        })
    }

    /// Where this name begins among the own strings: whole, and so short of a few ends of longer ones that linkers shared.
    fn string_offsets(&self, name: &str) -> Vec<u32> {
        let strings = self.string_bytes_own();
        let wanted = name.as_bytes();
        if wanted.is_empty() || wanted.contains(&0) {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(string) = strings.get(at..) {
            let Some(end) = string.iter().position(|byte| *byte == 0) else { break };
            if string[..end].ends_with(wanted) {
                found.push(self.first_string() + (at + end - wanted.len()) as u32);
            }
            at += end + 1;
        }
        found
    }

    /// Builds the full index of names now, for callers that know they will ask often. Takes 8 bytes per type.
    pub fn index(&self) {
        if let Some(base) = self.base() {
            base.index();
        }
        self.own_index();
    }

    /// Whether the own types are sorted by name, those without one first, as kernels write them since they sort at build time.
    pub fn is_sorted(&self) -> bool {
        *self.finder().sorted.get_or_init(|| {
            let count = self.own_len() as u32;
            let samples = count.min(SORT_SAMPLES);
            let mut last: &[u8] = b"";
            for sample in 0..samples {
                let at = u64::from(sample) * u64::from(count) / u64::from(samples);
                let name = self.own_name(at as usize);
                if name < last {
                    return false;
                }
                last = name;
            }
            samples > 0
        })
    }

    /// The name of an own type by its index among them.
    fn own_name(&self, index: usize) -> &[u8] {
        let name_off =
            self.own_start(index).and_then(|start| u32_at(self.type_bytes(), start, self.endian())).unwrap_or_default();
        self.string_bytes(name_off).unwrap_or_default()
    }

    fn own_kind(&self, index: usize) -> Kind {
        let info = self.own_start(index).and_then(|start| u32_at(self.type_bytes(), start + 4, self.endian()));
        Kind(Info(info.unwrap_or_default()).kind())
    }

    /// Calls `visit` for the own types with this name, by number, until it says `false`.
    fn each_named(&self, name: &[u8], mut visit: impl FnMut(TypeId, Kind) -> bool) {
        if name.is_empty() {
            return;
        }
        let first = self.first_id().0;
        if self.finder().index.get().is_none() {
            if self.is_sorted() {
                self.each_sorted(name, |it| it == name, visit);
                return;
            }
            if self.finder().scans.fetch_add(1, Ordering::Relaxed) < SCANS_BEFORE_INDEX {
                // One name needs no filter: eight bytes tell almost everything.
                let (start, mask) = start_of(name);
                self.scan(
                    |text| first_eight(text) & mask == start,
                    |id, text, kind| !text.strip_prefix(name).is_some_and(ends) || visit(id, kind),
                );
                return;
            }
        }
        let index = self.own_index();
        let mut at = index.heads[hash(name) & (index.heads.len() - 1)];
        while at != 0 {
            let own = at as usize - 1;
            if self.own_name(own) == name && !visit(TypeId(first + own as u32), self.own_kind(own)) {
                return;
            }
            at = index.next[own];
        }
    }

    /// Of sorted types, those from the first one whose name is not below `from`, while the name passes and `visit` says `true`.
    fn each_sorted(&self, from: &[u8], passes: impl Fn(&[u8]) -> bool, mut visit: impl FnMut(TypeId, Kind) -> bool) {
        let mut low = 0;
        let mut high = self.own_len();
        while low < high {
            let middle = low + (high - low) / 2;
            if self.own_name(middle) < from {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        while low < self.own_len() && passes(self.own_name(low)) {
            if !visit(TypeId(self.first_id().0 + low as u32), self.own_kind(low)) {
                return;
            }
            low += 1;
        }
    }

    fn own_index(&self) -> &Index {
        self.finder().index.get_or_init(|| {
            let count = self.own_len();
            let mut index = Index { heads: vec![0; count.max(1).next_power_of_two()], next: vec![0; count] };
            let mask = index.heads.len() - 1;
            // From the last to the first, so that chains run in the order of the numbers.
            for own in (0..count).rev() {
                let name = self.own_name(own);
                if !name.is_empty() {
                    let head = &mut index.heads[hash(name) & mask];
                    index.next[own] = *head;
                    *head = own as u32 + 1;
                }
            }
            index
        })
    }

    /// Calls `visit` for the own types whose name passes, until it says `false`. Both get the name with all that follows among the
    /// strings, because most are refused after a few bytes.
    fn scan(&self, passes: impl Fn(&[u8]) -> bool, visit: impl FnMut(TypeId, &[u8], Kind) -> bool) {
        // A match on the order once, instead of once per field.
        match self.endian() {
            Endian::Little => self.scan_in(u32::from_le_bytes, passes, visit),
            Endian::Big => self.scan_in(u32::from_be_bytes, passes, visit),
        }
    }

    fn scan_in(
        &self,
        number: impl Fn([u8; 4]) -> u32,
        passes: impl Fn(&[u8]) -> bool,
        mut visit: impl FnMut(TypeId, &[u8], Kind) -> bool,
    ) {
        let types = self.type_bytes();
        let strings = self.string_bytes_own();
        let first_string = self.first_string();
        let first_id = self.first_id().0;
        self.each_own_start(|index, start| {
            let Some(head) = types.get(start..).and_then(|it| it.first_chunk::<8>()) else {
                return false;
            };
            let name_off = number([head[0], head[1], head[2], head[3]]);
            let kind = || Kind(Info(number([head[4], head[5], head[6], head[7]])).kind());
            if name_off < first_string {
                // A module's type may take its name from the base.
                let name = self.string_bytes(name_off).unwrap_or_default();
                return !passes(name) || visit(TypeId(first_id + index), name, kind());
            }
            // Of types without a name, see `NeededNames::collect_at`.
            let at = (name_off - first_string) as usize;
            match strings.get(at..) {
                Some(text) => !passes(text) || visit(TypeId(first_id + index), text, kind()),
                None => true,
            }
        });
    }
}

/// FNV-1a folded to the table's size; names are short.
fn hash(name: &[u8]) -> usize {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for &byte in name {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    (hash ^ hash >> 32) as usize
}
