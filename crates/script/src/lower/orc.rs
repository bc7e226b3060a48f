//! `kstack` by the kernel's own tables, walked by the program.
//!
//! `bpf_get_stack` begins at itself and walks out of the helper, the program and what called it before it keeps a frame, with a search in
//! the tables for each; that takes most of its time. But the registers of the place that is traced are in the context of kprobes, clocks
//! and tracepoints (there a pointer where the record begins, `perf_trace_buf_alloc` in kernel/trace/trace_event_perf.c, 6.18), so a
//! walk can begin there. What lies at an address of the kernel is read without a call: `bpf_rdonly_cast` (kernel 6.2) makes any address
//! one that may be loaded from, and gives 0 where there is no memory.
//!
//! The tables are those of objtool (`struct orc_entry`, arch/x86/include/asm/orc_types.h; since 6.4 in today's layout, and used since 6.12): for each place of
//! the text where the stack of the caller is, by the stack or frame pointer, and where the frame pointer was saved. The rules are
//! those of `unwind_next_frame` (arch/x86/kernel/unwind_orc.c). What was found stays in `kernel_rules`, a word for each
//! place: the entry in its lower 48 bits, the page of the place in its upper 16; its number is the place in the page. So a word
//! is written whole, by whoever comes first.
//!
//! A walk that meets anything else than the kernel's own text and these rules (a module, a program, a trampoline of a traced function) comes to
//! nothing, and the kernel is asked.

use skep_btf::{Kind, NeededNames, Type};
use skep_insn::{AluOp, Cond, Width, helpers};
use skep_spec::{Map, MapId, MapType};

use super::Unit;
use super::context::REGISTERS;
use super::place::{Body, Place};
use super::shared::Shared;
use crate::ir::build::FunctionBuilder;
use crate::ir::{Block, Value};
use crate::plan::{KERNEL_STACK_SYMBOLS, KernelStacks, MAX_ORC_ENTRIES, MAX_TEXT_BYTES};
use crate::target::Target;
use crate::typed::Context;

/// Offsets in what a walk works on: the number of frames and their addresses, then its state.
mod state {
    pub(super) const FRAMES: i16 = 8;
    /// Behind 127 frames.
    pub(super) const INSTRUCTION: i16 = 1024;
    pub(super) const STACK: i16 = INSTRUCTION + 8;
    pub(super) const FRAME: i16 = INSTRUCTION + 16;
    /// 1 when the instruction is the one that was interrupted, 0 when it is the one behind a call.
    pub(super) const EXACT: i16 = INSTRUCTION + 24;
    pub(super) const LIMIT: i16 = INSTRUCTION + 32;
    /// 1 when the stack is whole.
    pub(super) const WHOLE: i16 = INSTRUCTION + 40;
    pub(super) const SIZE: u32 = WHOLE as u32 + 8;
}
/// Most functions that a program may have called at one time, itself included (include/linux/bpf_verifier.h), and those of a walk.
const MAX_CALL_FRAMES: u32 = 8;
const WALK_FRAMES: u32 = 3;
/// Most frames of a stack.
const MAX_FRAMES: i32 = 127;
/// Places of the text whose rules are kept, one for each place in a page.
const RULES: u32 = 1 << RULE_BITS;
const RULE_BITS: i32 = 12;
const _: () = assert!(MAX_TEXT_BYTES >> RULE_BITS <= 1 << 16, "a page has a number of 16 bits");
/// Halvings that are enough for the largest table.
const HALVINGS: u32 = MAX_ORC_ENTRIES.ilog2();
/// `sizeof(struct orc_entry)`; its bits from the start: both offsets, registers, type and mark of an interrupt.
const ENTRY_BYTES: i32 = 6;
const FRAME_OFFSET: i32 = 16;
const STACK_BASE: i32 = 32;
const FRAME_BASE: i32 = 36;
const TYPE: u32 = 40;
const TYPE_BITS: u32 = 3;
const INTERRUPTED: u32 = 43;
/// `ORC_TYPE_*`.
const END: i32 = 1;
const CALL: i32 = 2;
const REGS: i32 = 3;
/// `ORC_REG_*`.
const UNDEFINED: i32 = 0;
const PREVIOUS: i32 = 1;
const BY_FRAME: i32 = 4;
const BY_STACK: i32 = 5;
const AT_FRAME: i32 = 8;
const AT_STACK: i32 = 9;
/// `cs` and `flags` in `struct pt_regs`.
const SELECTOR: i16 = 136;
const FLAGS: i16 = 144;
/// Set in the flags of a processor (`X86_EFLAGS_FIXED`), and not where `perf_fetch_caller_regs` made the registers.
const FIXED: i32 = 2;

impl Body<'_, '_> {
    /// Whether the program can walk the kernel's stack itself here.
    pub(super) fn walks_kernel(&mut self) -> bool {
        let begins = match self.context_kind() {
            Context::Tracepoint | Context::PerfEvent => true,
            // Where a function returns, the registers are those of a trampoline; those of a process are not the kernel's.
            Context::Registers => self.provider() == "kprobe",
            _ => false,
        };
        begins && self.nested < MAX_CALL_FRAMES - WALK_FRAMES && self.unit.kernel_stacks().is_some()
    }

    /// The number of the kernel's stack.
    pub(super) fn kernel_stack(&mut self, limit: u32, map: MapId, value_size: u32) -> Value {
        let at = self.large(state::SIZE.max(value_size));
        let Some(types) = self.unit.kernel_stacks() else { return self.walked(false, limit, at, map) };
        let (ask, ready, done) = (self.f.block(0), self.f.block(0), self.f.block(1));
        self.store(at, 0, 8, 0);
        self.store(at, state::LIMIT as u32, 8, limit as i32);
        self.store(at, state::WHOLE as u32, 8, 0);
        if self.context_kind() != Context::Tracepoint {
            let selector = self.register(SELECTOR as u16);
            let [ip, sp, bp] = [REGISTERS.instruction, REGISTERS.stack, REGISTERS.frame].map(|off| self.register(off));
            let flags = self.register(FLAGS as u16);
            self.kernel_start(types, at, [ip, sp, bp, selector, flags], ready, ask);
        } else {
            let context = self.context();
            let mut reader = Reader { types, f: &mut self.f };
            let registers = reader.word(context, 0);
            let registers = reader.pointer(registers);
            let offsets = [REGISTERS.instruction, REGISTERS.stack, REGISTERS.frame, SELECTOR as u16, FLAGS as u16];
            let values = offsets.map(|off| self.f.load(8, registers, off as i16));
            self.kernel_start(types, at, values, ready, ask);
        }
        self.f.switch_to(ready);
        let walk = self.unit.shared(Shared::KernelStack(map));
        let address = self.addr(at);
        let id = self.f.call_func(walk, &[address]);
        self.f.branch(Cond::Ne, Width::W64, id, 0, (done, &[id]), (ask, &[]));
        self.f.switch_to(ask);
        let id = self.walked(false, limit, at, map);
        self.f.jump(done, &[id]);
        self.f.switch_to(done);
        self.f.param(done, 0)
    }

    /// Where the walk begins: at registers of the processor, or in the caller of a function whose frame is known.
    fn kernel_start(&mut self, types: KernelStacks, at: Place, registers: [Value; 5], ready: Block, ask: Block) {
        let [ip, sp, bp, selector, flags] = registers;
        let (kernel, exact, caller, same, begin) =
            (self.f.block(0), self.f.block(0), self.f.block(0), self.f.block(0), self.f.block(3));
        let level = self.f.alu(AluOp::And, Width::W64, selector, 3);
        self.f.branch_if(level, ask, kernel);
        self.f.switch_to(kernel);
        let fixed = self.f.alu(AluOp::And, Width::W64, flags, FIXED);
        self.f.branch_if(fixed, exact, caller);
        self.f.switch_to(exact);
        let one = self.f.constant(1);
        self.f.jump(begin, &[sp, bp, one]);
        // `perf_arch_fetch_caller_regs`: the stack pointer is where the frame pointer was saved.
        self.f.switch_to(caller);
        let mut reader = Reader { types, f: &mut self.f };
        let frame = reader.pointer(sp);
        let (saved, back) = (self.f.load(8, frame, 0), self.f.load(8, frame, 8));
        self.f.branch(Cond::Eq, Width::W64, back, ip, (same, &[]), (ask, &[]));
        self.f.switch_to(same);
        let (above, zero) = (self.f.add(sp, 16), self.f.constant(0));
        self.f.jump(begin, &[above, saved, zero]);
        self.f.switch_to(begin);
        let [sp, bp, exact] = [0, 1, 2].map(|index| self.f.param(begin, index));
        let values = [(ip, state::INSTRUCTION), (sp, state::STACK), (bp, state::FRAME), (exact, state::EXACT)];
        for (value, to) in values {
            self.store(at, to as u32, 8, value);
        }
        self.f.jump(ready, &[]);
    }
}

impl Unit<'_> {
    /// `None` when the kernel has not all that a walk needs, or whoever runs the programs does not want it.
    fn kernel_stacks(&mut self) -> Option<KernelStacks> {
        // Verifiers before 6.12 were never asked whether they follow the walk.
        let is_known = cfg!(target_arch = "x86_64") && self.target.kernel_version() >= 6 << 16 | 12 << 8;
        if !self.options.walks_kernel_stacks || !is_known {
            return None;
        }
        self.plan.kernel_stacks = *self.kernel_stacks.get_or_insert_with(|| find_types(self.target));
        self.plan.kernel_stacks
    }

    fn kernel_rules(&mut self) -> MapId {
        match self.kernel_rules {
            Some(map) => map,
            None => {
                let map = self.add_map(Map::new("kernel_rules", MapType::ARRAY, 4, 8 * RULES, 1));
                self.kernel_rules = Some(map);
                map
            }
        }
    }

    /// `kernel_stack(walk)`: the number of the stack, stored in the map; 0 when the kernel has to be asked.
    pub(super) fn walk_kernel(&mut self, stacks: MapId) -> FunctionBuilder {
        let (round, store) = (self.shared(Shared::KernelRound), self.shared(Shared::StoreStack(stacks)));
        let mut f = self.local("kernel_stack", 1);
        let (walk, context) = (f.argument(0), f.slot(8, 8));
        let (whole, ask) = (f.block(0), f.block(0));
        f.store(8, context, 0, walk);
        // The last round only sees that there are enough.
        let (times, round) = (f.constant(i64::from(MAX_FRAMES) + 1), f.func_addr(round));
        let (context, flags) = (f.slot_addr(context, 0), f.constant(0));
        f.call(helpers::LOOP, &[times, round, context, flags]);
        let is_whole = f.load(8, walk, state::WHOLE);
        f.branch_if(is_whole, whole, ask);
        f.switch_to(whole);
        let id = f.call_func(store, &[walk]);
        f.ret(id);
        f.switch_to(ask);
        f.ret(0);
        f
    }

    /// `kernel_round(round, &walk)`: keeps where the walk is, and goes on to the caller; 1 at the end.
    pub(super) fn kernel_round(&mut self) -> FunctionBuilder {
        let (map, rule_of) = (self.kernel_rules(), self.shared(Shared::KernelRule));
        let [text, text_end, ..] = KERNEL_STACK_SYMBOLS.map(|name| self.kernel_symbol(name));
        let mut f = self.local("kernel_round", 2);
        let Some(types) = self.kernel_stacks() else {
            f.ret(1);
            return f;
        };
        let context = f.argument(1);
        let walk = f.load(8, context, 0);
        let (stop, whole) = (f.block(0), f.block(0));
        let (more, keep, inside, kept, unknown, known) =
            (f.block(0), f.block(0), f.block(0), f.block(0), f.block(0), f.block(1));
        let (count, limit) = (f.load(8, walk, 0), f.load(8, walk, state::LIMIT));
        f.branch(Cond::Lt, Width::W64, count, limit, (more, &[]), (whole, &[]));
        f.switch_to(more);
        f.branch(Cond::Lt, Width::W64, count, MAX_FRAMES, (keep, &[]), (whole, &[]));
        f.switch_to(keep);
        let ip = f.load(8, walk, state::INSTRUCTION);
        let distance = f.alu(AluOp::Lsh, Width::W64, count, 3);
        let frame = f.add(walk, distance);
        f.store(8, frame, state::FRAMES, ip);
        let next = f.add(count, 1);
        f.store(8, walk, 0, next);
        let (text, text_end) = (f.external(text), f.external(text_end));
        let off = f.alu(AluOp::Sub, Width::W64, ip, text);
        let size = f.alu(AluOp::Sub, Width::W64, text_end, text);
        f.branch(Cond::Lt, Width::W64, off, size, (inside, &[]), (stop, &[]));
        f.switch_to(inside);
        // A call lies before where it returns to, which may be another function already.
        let exact = f.load(8, walk, state::EXACT);
        let at = f.add(off, exact);
        let at = f.add(at, -1);
        let page = f.alu(AluOp::Rsh, Width::W64, at, RULE_BITS);
        let index = f.alu(AluOp::And, Width::W64, at, RULES as i32 - 1);
        let distance = f.alu(AluOp::Lsh, Width::W64, index, 3);
        let rules = f.map_value(map, 0);
        let rules = f.add(rules, distance);
        let word = f.load(8, rules, 0);
        let of = f.alu(AluOp::Rsh, Width::W64, word, 48);
        f.branch(Cond::Eq, Width::W64, of, page, (kept, &[]), (unknown, &[]));
        f.switch_to(kept);
        let some = f.alu(AluOp::Lsh, Width::W64, word, 16);
        f.branch(Cond::Ne, Width::W64, some, 0, (known, &[word]), (unknown, &[]));
        f.switch_to(unknown);
        let found = f.call_func(rule_of, &[at]);
        f.jump(known, &[found]);
        f.switch_to(known);
        let rule = f.param(known, 0);
        apply(types, &mut f, walk, rule, (stop, whole));
        f.switch_to(whole);
        f.store(8, walk, state::WHOLE, 1);
        f.jump(stop, &[]);
        f.switch_to(stop);
        f.ret(1);
        f
    }

    /// `kernel_rule(at)`: the rule for a place of the text, from the kernel's tables; 0 where only the kernel knows its way.
    pub(super) fn kernel_rule(&mut self) -> FunctionBuilder {
        let map = self.kernel_rules();
        // Functions return to the last two where somebody traces their return: the kernel has the true address elsewhere.
        let [text, _, table, table_end, entries, detours @ ..] =
            KERNEL_STACK_SYMBOLS.map(|name| self.kernel_symbol(name));
        let mut f = self.local("kernel_rule", 1);
        let Some(types) = self.kernel_stacks() else {
            f.ret(0);
            return f;
        };
        let at = f.argument(0);
        let [text, table, table_end, entries] = [text, table, table_end, entries].map(|symbol| f.external(symbol));
        let address = f.add(text, at);
        let ask = f.block(0);
        for detour in detours {
            let other = f.block(0);
            let detour = f.external(detour);
            // The place is the byte before it, or its first one where that was interrupted.
            let before = f.add(detour, -1);
            let behind = f.alu(AluOp::Sub, Width::W64, address, before);
            f.branch(Cond::Le, Width::W64, behind, 1, (ask, &[]), (other, &[]));
            f.switch_to(other);
        }
        // The last entry that begins at or before the place, without a branch: each would be one more way for the verifier to walk.
        let size = f.alu(AluOp::Sub, Width::W64, table_end, table);
        let mut len = f.alu(AluOp::Rsh, Width::W64, size, 2);
        let mut low = f.constant(0);
        for _ in 0..HALVINGS {
            let half = f.alu(AluOp::Rsh, Width::W64, len, 1);
            let middle = f.add(low, half);
            let distance = f.alu(AluOp::Lsh, Width::W64, middle, 2);
            let place = f.add(table, distance);
            let off = Reader { types, f: &mut f }.word(place, 0);
            let off = f.sign_extend(32, off);
            let begins = f.add(place, off);
            let before = f.alu(AluOp::Sub, Width::W64, address, begins);
            // All bits when it begins behind the place.
            let behind = f.alu(AluOp::Arsh, Width::W64, before, 63);
            let not = f.alu(AluOp::Xor, Width::W64, behind, -1);
            let step = f.alu(AluOp::And, Width::W64, not, half);
            low = f.add(low, step);
            len = f.alu(AluOp::Sub, Width::W64, len, half);
        }
        let distance = f.alu(AluOp::Mul, Width::W64, low, ENTRY_BYTES);
        let place = f.add(entries, distance);
        let entry = Reader { types, f: &mut f }.word(place, 0);
        let entry = f.alu(AluOp::Lsh, Width::W64, entry, 16);
        let entry = f.alu(AluOp::Rsh, Width::W64, entry, 16);
        let page = f.alu(AluOp::Rsh, Width::W64, at, RULE_BITS);
        let page = f.alu(AluOp::Lsh, Width::W64, page, 48);
        let word = f.alu(AluOp::Or, Width::W64, entry, page);
        let index = f.alu(AluOp::And, Width::W64, at, RULES as i32 - 1);
        let distance = f.alu(AluOp::Lsh, Width::W64, index, 3);
        let rules = f.map_value(map, 0);
        let rules = f.add(rules, distance);
        f.store(8, rules, 0, word);
        f.ret(word);
        f.switch_to(ask);
        f.ret(0);
        f
    }
}

fn find_types(target: &dyn Target) -> Option<KernelStacks> {
    let mut names = NeededNames::new();
    let [entry, cast, registers] = ["orc_entry", "bpf_rdonly_cast", "pt_regs"].map(|name| names.add(name));
    let (btf, found) = target.btf_with(&names).ok()??;
    let kind = |wanted, at: usize| found.get(at)?.iter().find(|id| btf.kind_of(**id) == Ok(wanted)).copied();
    let Type::Struct(entry) = btf.type_by_id(kind(Kind::STRUCT, entry)?).ok()? else { return None };
    let fields = [
        ("bp_offset", FRAME_OFFSET as u32, 16),
        ("sp_reg", STACK_BASE as u32, 4),
        ("bp_reg", FRAME_BASE as u32, 4),
        ("type", TYPE, TYPE_BITS),
        ("signal", INTERRUPTED, 1),
    ];
    let is_known = fields.iter().all(|(name, off_bits, size_bits)| {
        entry.members().any(|it| {
            it.name() == *name
                && it.bit_offset() == *off_bits
                && it.bitfield_size().is_none_or(|size| size == *size_bits)
        })
    });
    let (cast, registers) = (kind(Kind::FUNC, cast)?, kind(Kind::STRUCT, registers)?);
    is_known.then_some(KernelStacks { cast: cast.0, registers: registers.0 })
}

/// From a function to its caller by a rule, and returns 0; or goes on where the walk stops, or where the stack is whole.
fn apply(types: KernelStacks, f: &mut FunctionBuilder, walk: Value, rule: Value, (stop, whole): (Block, Block)) {
    let bits = |f: &mut FunctionBuilder, from: u32, count: u32| {
        let shifted = f.alu(AluOp::Rsh, Width::W64, rule, from as i32);
        f.alu(AluOp::And, Width::W64, shifted, (1 << count) - 1)
    };
    let kind = bits(f, TYPE, TYPE_BITS);
    let (below, goes) = (f.block(0), f.block(0));
    f.branch(Cond::Eq, Width::W64, kind, END, (whole, &[]), (below, &[]));
    f.switch_to(below);
    // A call or an interrupt.
    let low = f.add(kind, -CALL);
    f.branch(Cond::Le, Width::W64, low, REGS - CALL, (goes, &[]), (stop, &[]));
    f.switch_to(goes);
    let (sp, bp) = (f.load(8, walk, state::STACK), f.load(8, walk, state::FRAME));
    let off = f.sign_extend(16, rule);
    let base = bits(f, STACK_BASE as u32, 4);
    let above = f.block(1);
    for number in [BY_STACK, BY_FRAME, AT_STACK, AT_FRAME] {
        let (this, other) = (f.block(0), f.block(0));
        f.branch(Cond::Eq, Width::W64, base, number, (this, &[]), (other, &[]));
        f.switch_to(this);
        let stack = match number {
            BY_STACK => f.add(sp, off),
            BY_FRAME => f.add(bp, off),
            AT_STACK => {
                let saved = Reader { types, f }.word(sp, 0);
                f.add(saved, off)
            }
            _ => {
                let place = f.add(bp, off);
                Reader { types, f }.word(place, 0)
            }
        };
        f.jump(above, &[stack]);
        f.switch_to(other);
    }
    f.jump(stop, &[]);
    f.switch_to(above);
    let stack = f.param(above, 0);
    // The caller's instruction and stack pointer, and its frame pointer where the rule does not say.
    let (call, interrupt, kernel, caller) = (f.block(0), f.block(0), f.block(0), f.block(3));
    f.branch(Cond::Eq, Width::W64, kind, CALL, (call, &[]), (interrupt, &[]));
    f.switch_to(call);
    let place = f.add(stack, -8);
    let back = Reader { types, f }.word(place, 0);
    f.jump(caller, &[back, stack, bp]);
    f.switch_to(interrupt);
    let registers = Reader { types, f }.pointer(stack);
    let selector = f.load(8, registers, SELECTOR);
    let level = f.alu(AluOp::And, Width::W64, selector, 3);
    // What was interrupted was a process's own code.
    f.branch_if(level, whole, kernel);
    f.switch_to(kernel);
    let [ip, saved_sp, saved_bp] =
        [REGISTERS.instruction, REGISTERS.stack, REGISTERS.frame].map(|off| f.load(8, registers, off as i16));
    f.jump(caller, &[ip, saved_sp, saved_bp]);
    f.switch_to(caller);
    let [ip, sp, same] = [0, 1, 2].map(|index| f.param(caller, index));
    let shifted = f.alu(AluOp::Rsh, Width::W64, rule, FRAME_OFFSET);
    let off = f.sign_extend(16, shifted);
    let base = bits(f, FRAME_BASE as u32, 4);
    let found = f.block(1);
    for number in [UNDEFINED, PREVIOUS, BY_FRAME] {
        let (this, other) = (f.block(0), f.block(0));
        f.branch(Cond::Eq, Width::W64, base, number, (this, &[]), (other, &[]));
        f.switch_to(this);
        let before = match number {
            UNDEFINED => same,
            number => {
                let place = f.add(if number == PREVIOUS { stack } else { bp }, off);
                Reader { types, f }.word(place, 0)
            }
        };
        f.jump(found, &[before]);
        f.switch_to(other);
    }
    f.jump(stop, &[]);
    f.switch_to(found);
    let before = f.param(found, 0);
    let exact = bits(f, INTERRUPTED, 1);
    let values = [(ip, state::INSTRUCTION), (sp, state::STACK), (before, state::FRAME), (exact, state::EXACT)];
    for (value, to) in values {
        f.store(8, walk, to, value);
    }
    f.ret(0);
}

/// Reads the kernel's memory; 0 where there is none.
struct Reader<'f> {
    types: KernelStacks,
    f: &'f mut FunctionBuilder,
}

impl Reader<'_> {
    /// Any address as one of registers, up to whose size it may be loaded from.
    fn pointer(&mut self, address: Value) -> Value {
        let registers = self.f.constant(self.types.registers.into());
        self.f.call_kfunc(self.types.cast, &[address, registers])
    }

    fn word(&mut self, base: Value, off: i16) -> Value {
        let pointer = self.pointer(base);
        self.f.load(8, pointer, off)
    }
}
