//! Lookups in known maps, in line: of an array a compare and a multiplication; of a hash map the way of a reader over the first elements of a
//! list, the very first one before all others, and a call of the function for the size of its keys when the list is longer or somebody
//! writes. The key is in the frame, so nothing is checked. Loads are not reordered by this processor, so a reader's fences need no
//! instructions.

use std::sync::Arc;

use super::asm::{Arith, Asm, Bits, Cc, Label, Mem, R9, R10, R11, RAX, RBP, RDX, RSI, RSP, Reg, Shift, Unary, at};
use super::emit::{CPU, Emitter, HERE, SPARE, reg};
use super::glue::Rare;
use crate::Map;
use crate::cpu::layout;
use crate::jit::native::finder;
use crate::jit::{Jump, Lookup};
use crate::map::{MULTIPLIER, Places, Values};

/// How many elements of a list the code looks at itself.
const STEPS: usize = 3;

/// How values of a map are found in line.
pub(super) enum Way<'m> {
    Array(Array<'m>),
    Hash(InHash<'m>),
}

/// The values of an array.
pub(super) struct Array<'m> {
    values: &'m Values,
    stride: i32,
    /// Bytes of one processor's values.
    per_cpu: i32,
}

/// Those of a hash map.
pub(super) struct InHash<'m> {
    values: Array<'m>,
    table: Places,
    /// Whether a lookup marks what it finds, for maps that drop what nobody uses.
    marks: bool,
    /// The function for the size of its keys.
    find: u64,
}

impl<'m> Way<'m> {
    /// Of a map that has one.
    pub(super) fn of(map: &'m Map) -> Option<Way<'m>> {
        let values = map.values()?;
        let per_cpu = u64::from(values.count()) * values.stride();
        let values = Array { values, stride: values.stride().try_into().ok()?, per_cpu: per_cpu.try_into().ok()? };
        match map.hash() {
            Some(hash) => {
                let (table, marks) = hash.places();
                Some(Way::Hash(InHash { values, table, marks, find: finder(map.spec().key_size)? }))
            }
            None => (map.spec().key_size == 4).then_some(Way::Array(values)),
        }
    }
}

/// A lookup in a hash map by a call.
#[derive(Clone, Copy)]
pub(super) struct Find {
    /// Where the key is, from r10.
    key_off: i32,
    /// Addresses of the map and of the function.
    map: u64,
    find: u64,
    nothing: Nothing,
}

/// A key in the frame.
#[derive(Clone, Copy)]
struct InFrame {
    /// Where, from r10.
    off: i32,
    bytes: i32,
}

impl InFrame {
    fn words(self) -> i32 {
        (self.bytes + 7) / 8
    }

    fn word(self, word: i32) -> Mem {
        at(RBP, self.off + 8 * word)
    }

    /// Goes to `other` when the element has another one. Spoils rdx.
    fn compare(self, asm: &mut Asm, other: Label) {
        for word in 0..self.words() {
            asm.load(if self.bytes == 4 { Bits::B32 } else { Bits::B64 }, RDX, self.word(word));
            asm.arith_from(Arith::Cmp, Bits::B64, RDX, element(Places::KEY + 8 * word));
            asm.jcc(Cc::NOT_EQUAL, other);
        }
    }
}

/// A lookup that goes on behind the first element of a list.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    key: InFrame,
    head_bits: u8,
    nothing: Nothing,
    /// Where it goes on with an element in r9, and where a function is asked.
    found: Label,
    ask: Label,
}

/// A part of the element that r9 says; the table's words are at r10.
fn element(off: i32) -> Mem {
    Mem { base: R10, index: Some((R9, 3)), disp: off }
}

/// What follows when nothing was found.
#[derive(Clone, Copy)]
pub(super) enum Nothing {
    /// What follows when something was found.
    GoesOn(Label),
    /// A jump, before which rdx is as it was.
    Jumps { jump: Jump, takes_rdx: bool },
}

impl Emitter {
    pub(super) fn look_up_in_array(&mut self, lookup: &Lookup<'_>, array: &Array<'_>) {
        let Array { values, stride, per_cpu } = *array;
        let back = self.asm.label();
        let nothing = match lookup.absent {
            None => Nothing::GoesOn(back),
            Some(jump) => Nothing::Jumps { jump, takes_rdx: false },
        };
        let nothing = self.rare(Rare::Nothing(nothing));
        let asm = &mut self.asm;
        let key = match lookup.key_in {
            Some((key, true)) => reg(key),
            Some((key, false)) => {
                asm.mov(Bits::B32, RAX, reg(key));
                RAX
            }
            None => {
                asm.load(Bits::B32, RAX, at(RBP, lookup.key_off));
                RAX
            }
        };
        // Of 32 bits, and so without a sign.
        asm.arith_imm(Arith::Cmp, Bits::B32, key, values.count() as i32);
        asm.jcc(Cc::ABOVE_EQUAL, nothing);
        if values.cpus() != 1 {
            self.asks_cpu = true;
            asm.load(Bits::B64, R9, at(RSP, CPU));
            asm.load(Bits::B32, R9, at(R9, layout::NUMBER as i32));
            asm.imul_imm(Bits::B64, R9, per_cpu);
        }
        asm.mov_imm(R11, values.block().addr());
        if stride == 8 {
            asm.lea(Bits::B64, RAX, Mem { base: R11, index: Some((key, 3)), disp: 0 });
        } else {
            if key != RAX {
                asm.mov(Bits::B32, RAX, key);
            }
            scale(asm, RAX, stride);
            asm.arith(Arith::Add, Bits::B64, RAX, R11);
        }
        if values.cpus() != 1 {
            asm.arith(Arith::Add, Bits::B64, RAX, R9);
        }
        asm.bind(back);
    }

    /// As [`Table::find_words`](crate::map::Table::find_words) does it, in the registers that no operation keeps, and rdx: for the first
    /// element of a list, which it mostly is. The others are looked at behind the code.
    pub(super) fn look_up_in_hash(&mut self, lookup: &Lookup<'_>, hash: &InHash<'_>) {
        let InHash { values: Array { values, per_cpu, .. }, table, marks, find } = hash;
        let map = Arc::as_ptr(lookup.map).expose_provenance() as u64;
        let (back, found) = (self.asm.label(), self.asm.label());
        let nothing = match lookup.absent {
            None => Nothing::GoesOn(back),
            Some(jump) => Nothing::Jumps { jump, takes_rdx: lookup.keeps_r3 },
        };
        let find = Find { key_off: lookup.key_off, map, find: *find, nothing };
        let ask = self.rare(Rare::Find { back, find });
        let key = InFrame { off: lookup.key_off, bytes: lookup.map.spec().key_size as i32 };
        let walk = Walk { key, head_bits: table.head_bits, nothing, found, ask };
        let end = self.rare(Rare::End { nothing, ask });
        let other = self.rare(Rare::Walk(walk));
        let asm = &mut self.asm;

        // The hash, into rax.
        if lookup.keeps_r3 {
            asm.store(Bits::B64, at(RSP, SPARE), RDX);
        }
        asm.mov_imm(RAX, table.seeds[0]);
        for word in (0..key.words()).step_by(2) {
            if key.bytes == 4 {
                asm.load(Bits::B32, RDX, key.word(word));
                asm.arith(Arith::Xor, Bits::B64, RAX, RDX);
            } else {
                asm.arith_from(Arith::Xor, Bits::B64, RAX, key.word(word));
            }
            let pair = word + 1 < key.words();
            if pair {
                asm.mov_imm(RDX, table.seeds[1]);
                asm.arith_from(Arith::Xor, Bits::B64, RDX, key.word(word + 1));
            } else {
                asm.mov_imm(RDX, MULTIPLIER);
            }
            asm.unary(Unary::Mul, Bits::B64, RDX);
            if pair {
                asm.bswap(Bits::B64, RDX);
            }
            asm.arith(Arith::Xor, Bits::B64, RAX, RDX);
        }
        // The number of its list, which stays there, and of the first element into r9.
        match table.head_bits {
            0 => asm.mov_imm(RAX, 0),
            bits => asm.shift_imm(Shift::Shr, Bits::B64, RAX, 64 - bits),
        }
        asm.mov_imm(R10, table.heads);
        asm.load(Bits::B32, R9, Mem { base: R10, index: Some((RAX, 2)), disp: 0 });
        // Its version, before all else, goes into r11. What stands for the end has an odd one.
        asm.mov_imm(R10, table.words);
        asm.load(Bits::B32, R11, element(Places::VERSION));
        asm.test_odd(R11);
        asm.jcc(Cc::NOT_EQUAL, end);
        key.compare(asm, other);
        asm.arith_from(Arith::Cmp, Bits::B32, R11, element(Places::VERSION));
        asm.jcc(Cc::NOT_EQUAL, ask);
        asm.bind(found);
        if *marks {
            let marked = asm.label();
            asm.load(Bits::B8, RDX, element(Places::USED));
            asm.test(Bits::B32, RDX, RDX);
            asm.jcc(Cc::NOT_EQUAL, marked);
            asm.store_imm(Bits::B8, element(Places::USED), 1);
            asm.bind(marked);
        }
        asm.load(Bits::B64, RAX, element(Places::OWN));
        if values.cpus() != 1 {
            self.asks_cpu = true;
            asm.load(Bits::B64, R9, at(RSP, CPU));
            asm.load(Bits::B32, R9, at(R9, layout::NUMBER as i32));
            asm.imul_imm(Bits::B64, R9, *per_cpu);
            asm.arith(Arith::Add, Bits::B64, RAX, R9);
        }
        asm.bind(back);
        if lookup.keeps_r3 {
            asm.load(Bits::B64, RDX, at(RSP, SPARE));
        }
    }

    /// An odd version: that of an element that somebody fills, or the end of the list.
    pub(super) fn at_end(&mut self, nothing: Nothing, ask: Label) {
        self.asm.test(Bits::B32, R9, R9);
        self.asm.jcc(Cc::NOT_EQUAL, ask);
        self.found_nothing(nothing);
    }

    /// Goes on behind the first element of a list, which has another key.
    pub(super) fn walk(&mut self, walk: Walk) {
        let Walk { key, head_bits, nothing, found, ask } = walk;
        let nothing = self.rare(Rare::Nothing(nothing));
        let asm = &mut self.asm;
        for step in 1..=STEPS {
            let other = asm.label();
            asm.load(Bits::B64, RDX, element(Places::LINK));
            asm.arith_from(Arith::Cmp, Bits::B32, R11, element(Places::VERSION));
            asm.jcc(Cc::NOT_EQUAL, ask);
            asm.mov(Bits::B32, R9, RDX);
            if head_bits != 0 {
                asm.shift_imm(Shift::Shr, Bits::B64, RDX, 64 - head_bits);
                asm.arith(Arith::Cmp, Bits::B32, RDX, RAX);
                asm.jcc(Cc::NOT_EQUAL, ask);
            }
            asm.test(Bits::B32, R9, R9);
            asm.jcc(Cc::EQUAL, nothing);
            if step == STEPS {
                break;
            }
            asm.load(Bits::B32, R11, element(Places::VERSION));
            asm.test_odd(R11);
            asm.jcc(Cc::NOT_EQUAL, ask);
            key.compare(asm, other);
            asm.arith_from(Arith::Cmp, Bits::B32, R11, element(Places::VERSION));
            asm.jcc(Cc::EQUAL, found);
            asm.jmp(ask);
            asm.bind(other);
        }
        asm.jmp(ask);
    }

    /// Behind a lookup that found nothing.
    pub(super) fn found_nothing(&mut self, nothing: Nothing) {
        self.asm.mov_imm(RAX, 0);
        match nothing {
            Nothing::GoesOn(back) => self.asm.jmp(back),
            Nothing::Jumps { jump, takes_rdx } => {
                if takes_rdx {
                    self.asm.load(Bits::B64, RDX, at(RSP, SPARE));
                }
                self.go(None, jump);
            }
        }
    }

    /// Calls the function that does the same for every list, and however many write meanwhile, and goes on at `back`.
    pub(super) fn ask_for_value(&mut self, find: Find, back: Label) {
        let Find { key_off, map, find, nothing } = find;
        self.asm.load(Bits::B64, R11, at(RSP, HERE));
        // What rdx was stands where the lookup kept it, if anybody wants it.
        self.save(1..3);
        self.save(4..6);
        self.asm.lea(Bits::B64, RSI, at(RBP, key_off));
        self.asm.mov_imm(RDX, map);
        self.call_rust(find);
        self.asm.load(Bits::B64, R11, at(RSP, HERE));
        self.restore(1..3);
        self.restore(4..6);
        if let Nothing::Jumps { .. } = nothing {
            self.asm.test(Bits::B64, RAX, RAX);
            self.asm.jcc(Cc::NOT_EQUAL, back);
            self.found_nothing(nothing);
        } else {
            self.asm.jmp(back);
        }
    }
}

/// `reg *= by`, of a positive number.
fn scale(asm: &mut Asm, reg: Reg, by: i32) {
    match by & (by - 1) == 0 {
        true => asm.shift_imm(Shift::Shl, Bits::B64, reg, by.trailing_zeros() as u8),
        false => asm.imul_imm(Bits::B64, reg, by),
    }
}
