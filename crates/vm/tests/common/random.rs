//! Random programs that end: every operation of arithmetic, every comparison, loads and stores of each size, atomics, loops and
//! calls, of a shape that the kernel's verifier takes.
//!
//! r0 to r7 hold numbers that it does not know (they come from the input), r8 counts loops, r9 keeps the input. Jumps lead forwards
//! over some instructions; a loop has a constant number of rounds, and no jump out of it. At the end all registers
//! are mixed into r0, and all of the stack that was used, so that nothing that went wrong is lost.
//!
//! Programs for the kernel leave out what its verifier is known to get wrong, whatever engine runs them: see [`settled`] and [`unknown_before`].

use std::cell::Cell;

use skep_insn::build::{call_local, exit, load, load_imm64, mov, mov32, slots, store};
use skep_insn::{
    AluOp, AtomicOp, Cond, Insn, LoadType, Operand, RawInsn, Reg, SignExtend, Size, SwapBits, SwapKind, Width,
};

/// Bytes of the input.
pub(crate) const INPUT_BYTES: usize = 64;
/// Bytes of the stack that programs use.
const STACK_BYTES: i16 = 64;
/// Numbers that are wrong more often than others.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    !0,
    !0 - 1,
    1 << 63,
    (1 << 63) - 1,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    (1 << 32) - 1,
    !0 << 31,
    0x8080_8080_8080_8080,
    0x7fff_8000_0000_7fff,
];

/// A number that the environment gives.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Numbers that look random, the same for the same seed on every machine (splitmix64).
pub(crate) struct Rng(Cell<u64>);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(Cell::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut mixed = self.0.get();
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_of<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub(crate) fn number(&self) -> u64 {
        match self.below(4) {
            0 | 1 => self.one_of(&EDGES),
            2 => self.next() >> self.below(64),
            _ => self.next(),
        }
    }

    fn reg(&self) -> Reg {
        Reg::ALL[self.below(8) as usize]
    }

    pub(crate) fn width(&self) -> Width {
        self.one_of(&Width::ALL)
    }
}

/// An instruction, or a jump over so many of those behind it.
enum Item {
    Insn(Insn),
    Skip(u64, fn(i16) -> Insn),
    Branch(u64, Width, Cond, Reg, Operand),
}

/// What the kernel that is compared with knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isa {
    /// Linux 5.14.
    V3,
    /// Linux 6.6.
    V4,
    /// Linux 6.15: loads that acquire, stores that release.
    Ordered,
}

/// Who is to run a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// The engines here.
    Engines,
    /// The engines, of programs that may be changed until they go wrong: those of several functions show addresses, so the addresses are
    /// the same in each run.
    Changed,
    Kernel(Isa),
}

impl For {
    pub(crate) fn isa(self) -> Isa {
        if let For::Kernel(isa) = self { isa } else { Isa::Ordered }
    }

    pub(crate) fn is_kernel(self) -> bool {
        matches!(self, For::Kernel(_))
    }
}

/// What goes in front of an atomic instruction that fetches from the stack, in programs for the kernel: a byte is stored there, so that its
/// verifier does not know what is fetched. Where it does know, and decides a branch by it, it forgets that this depends on the stack, and may
/// take code for dead that is not (`tests/vm/verifier.data`).
pub(crate) fn unknown_before(insn: Insn, runner: For) -> Option<Insn> {
    match insn {
        Insn::Atomic { op, base: Reg::FP, off, .. } if fetches(op) && runner.is_kernel() => {
            // Not a zero: among other zeros it would be known.
            Some(store(Size::B, Reg::FP, off, 1))
        }
        _ => None,
    }
}

pub(crate) fn fetches(op: AtomicOp) -> bool {
    op.symbol().is_none()
}

/// The program and the input of a seed.
pub(crate) fn program(seed: u64, runner: For) -> (Vec<RawInsn>, Vec<u8>) {
    let rng = Rng::new(seed);
    let input: Vec<u8> = (0..INPUT_BYTES / 8).flat_map(|_| rng.number().to_ne_bytes()).collect();
    let calls = rng.below(3) == 0;
    let mut insns = vec![mov(Reg::R9, Reg::R1)];
    for reg in &Reg::ALL[..8] {
        insns.push(load(Size::Dw, *reg, Reg::R9, i16::from(reg.number()) * 8));
    }
    clear_stack(&mut insns);
    let len = 10 + rng.below(30);
    insns.extend(body(&rng, runner, len, true));
    if calls {
        let call_at = insns.len();
        insns.push(call_local(0));
        // A call leaves nothing in r1 to r5.
        for reg in &Reg::ALL[1..6] {
            insns.push(load(Size::Dw, *reg, Reg::R9, i16::from(reg.number()) * 8));
        }
        let len = 3 + rng.below(10);
        insns.extend(body(&rng, runner, len, true));
        finish(&mut insns);
        let from_call = slots(&insns[call_at + 1..]).len();
        insns[call_at] = call_local(from_call as i32);
        function(&rng, runner, &mut insns);
    } else {
        finish(&mut insns);
    }
    (slots(&insns), input)
}

/// A function of five numbers.
fn function(rng: &Rng, runner: For, insns: &mut Vec<Insn>) {
    for reg in [Reg::R0, Reg::R6, Reg::R7] {
        insns.push(load_imm64(reg, rng.number()));
    }
    clear_stack(insns);
    let len = 5 + rng.below(15);
    insns.extend(body(rng, runner, len, false));
    finish(insns);
}

fn clear_stack(insns: &mut Vec<Insn>) {
    for word in 1..=STACK_BYTES / 8 {
        insns.push(store(Size::Dw, Reg::FP, -8 * word, Reg::R0));
    }
}

/// Mixes everything into r0.
fn finish(insns: &mut Vec<Insn>) {
    let alu = |op, src: Operand| Insn::Alu { width: Width::W64, op, dst: Reg::R0, src };
    for reg in &Reg::ALL[1..8] {
        insns.push(alu(AluOp::Mul, Operand::Imm(0x0100_0193)));
        insns.push(alu(AluOp::Xor, Operand::Reg(*reg)));
    }
    for word in 1..=STACK_BYTES / 8 {
        insns.push(load(Size::Dw, Reg::R1, Reg::FP, -8 * word));
        insns.push(alu(AluOp::Mul, Operand::Imm(0x0100_0193)));
        insns.push(alu(AluOp::Add, Operand::Reg(Reg::R1)));
    }
    insns.push(exit());
}

/// Some instructions; `input` says whether r9 is the input.
fn body(rng: &Rng, runner: For, len: u64, input: bool) -> Vec<Insn> {
    let isa = runner.isa();
    let mut items = Vec::new();
    for _ in 0..len {
        match rng.below(12) {
            0 => {
                let (width, cond, dst) = (rng.width(), rng.one_of(&Cond::ALL), rng.reg());
                let src = operand(rng);
                items.push(Item::Branch(1 + rng.below(4), width, cond, dst, src));
            }
            1 if rng.below(3) == 0 => {
                let long: fn(i16) -> Insn = |off| Insn::JumpLong { off: off.into() };
                let short: fn(i16) -> Insn = |off| Insn::Jump { off };
                let jump = if isa >= Isa::V4 && rng.below(2) == 0 { long } else { short };
                // Around the jump, or what it skips could not be reached.
                let (width, cond, dst, src) = (rng.width(), rng.one_of(&Cond::ALL), rng.reg(), operand(rng));
                items.push(Item::Branch(1, width, cond, dst, src));
                items.push(Item::Skip(1 + rng.below(3), jump));
            }
            2 if rng.below(3) == 0 => {
                // Straight code some times over.
                let first = items.len();
                items.push(Item::Insn(mov(Reg::R8, 1 + rng.below(5) as i32)));
                let round: Vec<Insn> = (0..1 + rng.below(4)).flat_map(|_| settled(straight(rng, isa, input))).collect();
                let round: Vec<Item> = round.into_iter().map(Item::Insn).collect();
                let back = round.iter().map(|item| len_of(item, runner)).sum::<i16>() + 2;
                items.extend(round);
                items.push(Item::Insn(Insn::Alu {
                    width: Width::W64,
                    op: AluOp::Sub,
                    dst: Reg::R8,
                    src: Operand::Imm(1),
                }));
                items.push(Item::Insn(Insn::Branch {
                    width: Width::W64,
                    cond: Cond::Ne,
                    dst: Reg::R8,
                    src: Operand::Imm(0),
                    off: -back,
                }));
                // Nothing may jump into the loop: r8 would be what it was.
                keep_out(&mut items, first);
            }
            _ => items.extend(settled(straight(rng, isa, input)).map(Item::Insn)),
        }
    }
    resolve(&items, runner)
}

/// Shortens jumps that would end behind the item at `first`.
fn keep_out(items: &mut [Item], first: usize) {
    for (index, item) in items.iter_mut().enumerate().take(first) {
        if let Item::Skip(over, _) | Item::Branch(over, ..) = item {
            *over = (*over).min((first - index - 1) as u64);
        }
    }
}

/// What goes in front of an item, where no jump may lead in between.
fn before(item: &Item, runner: For) -> Option<Insn> {
    if let Item::Insn(insn) = *item { unknown_before(insn, runner) } else { None }
}

fn len_of(item: &Item, runner: For) -> i16 {
    let len = if let Item::Insn(insn) = item { insn.len_slots() as i16 } else { 1 };
    len + i16::from(before(item, runner).is_some())
}

fn resolve(items: &[Item], runner: For) -> Vec<Insn> {
    let distance = |index: usize, over: u64| -> i16 {
        items[index + 1..].iter().take(over as usize).map(|item| len_of(item, runner)).sum()
    };
    let resolved = |index: usize, item: &Item| match *item {
        Item::Insn(insn) => insn,
        Item::Skip(over, jump) => jump(distance(index, over)),
        Item::Branch(over, width, cond, dst, src) => Insn::Branch { width, cond, dst, src, off: distance(index, over) },
    };
    let items = items.iter().enumerate();
    items.flat_map(|(index, item)| before(item, runner).into_iter().chain([resolved(index, item)])).collect()
}

fn operand(rng: &Rng) -> Operand {
    if rng.below(2) == 0 { Operand::Reg(rng.reg()) } else { Operand::Imm(rng.number() as i32) }
}

fn off(rng: &Rng, size: Size, end: i16) -> i16 {
    let len = size.len_bytes() as i16;
    rng.below((end / len) as u64) as i16 * len
}

/// With what settles the upper half of r0 behind an exchange of 32 bits. It is zero, and the kernel's verifier adds a move that makes
/// it so on x86, but not always: Linux 6.18 leaves it out when the path that leads there was pruned (`tests/vm/verifier.data`).
fn settled(insn: Insn) -> impl Iterator<Item = Insn> {
    let unsettled = matches!(insn, Insn::Atomic { op: AtomicOp::CmpXchg, width: Width::W32, .. });
    std::iter::once(insn).chain(unsettled.then_some(mov32(Reg::R0, Reg::R0)))
}

/// An instruction that does not jump.
fn straight(rng: &Rng, isa: Isa, input: bool) -> Insn {
    let dst = rng.reg();
    let v4 = isa >= Isa::V4;
    loop {
        return match rng.below(16) {
            0..=5 => {
                let (width, op) = (rng.width(), rng.one_of(&AluOp::ALL));
                if matches!(op, AluOp::SDiv | AluOp::SMod) && !v4 {
                    continue;
                }
                let src = match (operand(rng), op) {
                    // What the kernel refuses by immediate.
                    (Operand::Imm(imm), AluOp::Lsh | AluOp::Rsh | AluOp::Arsh) => {
                        Operand::Imm(imm.rem_euclid(if width == Width::W32 { 32 } else { 64 }))
                    }
                    (Operand::Imm(0), AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod) => Operand::Imm(-1),
                    (src, _) => src,
                };
                Insn::Alu { width, op, dst, src }
            }
            6 => Insn::Mov { width: rng.width(), dst, src: operand(rng) },
            7 if v4 => Insn::MovSx { extend: rng.one_of(&SignExtend::ALL), dst, src: rng.reg() },
            8 => Insn::Neg { width: rng.width(), dst },
            9 => {
                let kind = rng.one_of(&SwapKind::ALL);
                if kind == SwapKind::Bswap && !v4 {
                    continue;
                }
                Insn::Swap { kind, bits: rng.one_of(&SwapBits::ALL), dst }
            }
            10 => load_imm64(dst, rng.number()),
            11 => {
                let ty = rng.one_of(&LoadType::ALL);
                if ty.is_signed() && !v4 {
                    continue;
                }
                load(ty, dst, Reg::FP, off(rng, ty.size(), STACK_BYTES) - STACK_BYTES)
            }
            12 => {
                let size = rng.one_of(&Size::ALL);
                let off = off(rng, size, STACK_BYTES) - STACK_BYTES;
                let src = operand(rng);
                Insn::Store { size, base: Reg::FP, off, src }
            }
            13 if input => {
                let size = rng.one_of(&Size::ALL);
                let off = off(rng, size, INPUT_BYTES as i16);
                if rng.below(2) == 0 { load(size, dst, Reg::R9, off) } else { store(size, Reg::R9, off, dst) }
            }
            14 => {
                let (op, width) = (rng.one_of(&AtomicOp::ALL), rng.width());
                let size = if width == Width::W32 { Size::W } else { Size::Dw };
                let off = off(rng, size, STACK_BYTES) - STACK_BYTES;
                Insn::Atomic { op, width, base: Reg::FP, off, src: dst }
            }
            15 if isa >= Isa::Ordered => {
                let size = rng.one_of(&Size::ALL);
                let (base, off) = (Reg::FP, off(rng, size, STACK_BYTES) - STACK_BYTES);
                if rng.below(2) == 0 {
                    Insn::LoadAcquire { size, dst, base, off }
                } else {
                    Insn::StoreRelease { size, base, off, src: dst }
                }
            }
            _ => continue,
        };
    }
}

/// Changes some instructions of a program, so that much of it goes wrong.
pub(crate) fn change(seed: u64, insns: &mut [RawInsn]) {
    let rng = Rng::new(!seed);
    for _ in 0..1 + rng.next() % 3 {
        let at = rng.next() as usize % insns.len();
        let insn = &mut insns[at];
        match rng.next() % 6 {
            0 => insn.dst_reg = (rng.next() % 11) as u8,
            1 => insn.src_reg = (rng.next() % 11) as u8,
            2 => insn.off = rng.number() as i16,
            3 => insn.imm = rng.number() as i32,
            4 => insn.code = rng.next() as u8,
            _ => insns.swap(at, at / 2),
        }
    }
}
