//! `dw_ustack`: a process's stack by the tables of its files ([`crate::unwinding`]), walked by the program itself.
//!
//! The kernel walks user stacks by frame pointers alone. Here each round of a `bpf_loop` goes from a function to its caller: where in
//! which file is it, which rule holds there, what does memory hold at the places that the rule names. So a stack is walked in the moment of
//! the event, equal stacks have equal addresses and thereby one number, and nothing of the stack is copied out.
//!
//! Which file is at an address is read from the kernel's own structures: since 6.1 the mappings of a process are a maple tree (`struct
//! maple_tree`, lib/maple_tree.c, 6.18). A node is 256 bytes at a multiple of 256; what points at it has its kind in bits 3 to 6. Its
//! pivots are where its ranges end, ascending, and zero behind the last one; slot `n` is what lies up to pivot `n`. `bpf_find_vma` does the
//! same under the lock of the mappings, but only once in an interrupt, in which clocks fire. A walk without the lock may meet a tree that
//! changes: reads of what is gone give zeros or another range, which is then not the one around the address.
//!
//! The state of a walk lies in scratch behind the frames, so that one pointer is enough. The mapping that was found last is kept in it:
//! callers mostly lie in the file of the function that they call.

use skep_insn::{AluOp, Cond, Width, helpers};
use skep_spec::{Map, MapId, MapType};

use super::Unit;
use super::context::REGISTERS;
use super::place::{Body, Place};
use super::shared::Shared;
use crate::Diagnostic;
use crate::ir::build::FunctionBuilder;
use crate::ir::{Block, Value};
use crate::typed::Context;
use crate::unwinding::{AT_ITSELF, IN_REGISTER, PAGE_BITS, PAGE_ROWS, RULE_BYTES, SEARCH_STEPS, Unwinding, kind};

/// Most frames of a stack.
const MAX_FRAMES: i32 = 127;
/// Offsets in what a walk works on: the number of frames and their addresses, then its state.
mod state {
    pub(super) const FRAMES: i16 = 8;
    /// Behind 127 frames.
    pub(super) const INSTRUCTION: i16 = 1024;
    pub(super) const STACK: i16 = INSTRUCTION + 8;
    pub(super) const FRAME: i16 = INSTRUCTION + 16;
    /// The link register as long as nothing was called, else 0.
    pub(super) const LINK: i16 = INSTRUCTION + 24;
    /// 1 when the instruction is the one that was interrupted, 0 when it is the one behind a call.
    pub(super) const EXACT: i16 = INSTRUCTION + 32;
    pub(super) const LIMIT: i16 = INSTRUCTION + 40;
    /// The mapping that was found last: where it starts and ends, and what to add to an address for the place in the file.
    pub(super) const START: i16 = INSTRUCTION + 48;
    pub(super) const END: i16 = INSTRUCTION + 56;
    pub(super) const DELTA: i16 = INSTRUCTION + 64;
    /// Its file's pages; none when it has no tables.
    pub(super) const FIRST: i16 = INSTRUCTION + 72;
    pub(super) const PAGES: i16 = INSTRUCTION + 80;
    /// 0, which the verifier does not know.
    pub(super) const ZERO: i16 = INSTRUCTION + 88;
    /// A node of the tree, or the registers of a task.
    pub(super) const BUFFER: i16 = INSTRUCTION + 96;
    pub(super) const SIZE: u32 = BUFFER as u32 + super::REGISTERS_SIZE;
}
/// Bytes of `struct pt_regs` up to the last register that is wanted, and no fewer than a node of the tree has.
const REGISTERS_SIZE: u32 = 272;
const NODE_SIZE: u32 = 256;
/// Levels of the tree: ten ranges to a node, and no process has more than 2^31 mappings.
const DEPTH: i32 = 12;
/// `enum maple_type`.
const MAPLE_LEAF_64: i32 = 1;
const MAPLE_ARANGE_64: i32 = 3;
/// `MAPLE_RANGE64_SLOTS` and `MAPLE_ARANGE64_SLOTS` without the last, where there is no pivot (include/linux/maple_tree.h).
const RANGE_PIVOTS: u32 = 15;
const ARANGE_PIVOTS: u32 = 9;
/// Pages have this size at least; offsets of mappings are counted in them.
const PAGE_SHIFT: i32 = 12;
/// Of a signal's frame on x86-64, from the stack pointer where the handler returns to: rbp, rsp and rip of the `sigcontext`
/// (arch/x86/include/uapi/asm/sigcontext.h) in the `ucontext`.
const SIGNAL_FRAME: i32 = 120;
const SIGNAL_STACK: i32 = 160;
const SIGNAL_INSTRUCTION: i32 = 168;

/// Where the members of the kernel's structures lie, in bytes.
struct Offsets {
    task_mm: i32,
    tree_root: i32,
    range_pivots: i32,
    range_slots: i32,
    arange_pivots: i32,
    arange_slots: i32,
    vma_start: i32,
    vma_end: i32,
    vma_offset: i32,
    vma_file: i32,
    file_inode: i32,
    inode_number: i32,
    inode_size: i32,
}

impl Body<'_, '_> {
    /// The number of the stack by tables.
    pub(super) fn unwound(&mut self, limit: u32, stacks: MapId) -> Value {
        let Some(unwind) = self.unit.unwinder(stacks) else {
            let message = "dw_ustack cannot find the mappings of processes in this kernel";
            let hint = "it needs Linux 6.1 and the kernel's types (BTF); `ustack` walks by frame pointers";
            let refused = Diagnostic::error(self.f.span(), message).with_hint(hint);
            if self.unit.diagnostics.iter().all(|known| known.span != refused.span) {
                self.unit.diagnostics.push(refused);
            }
            return self.number(0);
        };
        let at = self.large(state::SIZE);
        self.store(at, 0, 8, 0);
        for off in [state::START, state::END, state::PAGES, state::ZERO, state::LINK] {
            self.store(at, off as u32, 8, 0);
        }
        self.store(at, state::EXACT as u32, 8, 1);
        self.store(at, state::LIMIT as u32, 8, limit as i32);
        let (from_task, ready) = (self.f.block(0), self.f.block(0));
        let registers = [
            (REGISTERS.instruction, state::INSTRUCTION),
            (REGISTERS.stack, state::STACK),
            (REGISTERS.frame, state::FRAME),
        ];
        let link = REGISTERS.link.map(|link| (link, state::LINK));
        if matches!(self.context_kind(), Context::Registers | Context::PerfEvent) {
            // Of the interrupted code, when that was the process's own.
            let user = self.user_mode();
            let own = self.f.block(0);
            self.f.branch_if(user, own, from_task);
            self.f.switch_to(own);
            for (register, to) in registers.into_iter().chain(link) {
                let value = self.register(register);
                self.store(at, to as u32, 8, value);
            }
        }
        if matches!(self.context_kind(), Context::Registers | Context::PerfEvent) {
            self.f.jump(ready, &[]);
        } else {
            self.f.jump(from_task, &[]);
        }
        self.f.switch_to(from_task);
        let task = self.f.call(helpers::GET_CURRENT_TASK_BTF, &[]);
        let saved = self.f.call(helpers::TASK_PT_REGS, &[task]);
        let buffer = Place { off: at.off + i32::from(state::BUFFER), ..at };
        let (to, size) = (self.addr(buffer), self.number(i64::from(REGISTERS.size)));
        self.f.call(helpers::PROBE_READ_KERNEL, &[to, size, saved]);
        for (register, to) in registers.into_iter().chain(link) {
            let value = self.load(buffer, u32::from(register), 8);
            self.store(at, to as u32, 8, value);
        }
        self.f.jump(ready, &[]);
        self.f.switch_to(ready);
        let walk = self.addr(at);
        self.f.call_func(unwind, &[walk])
    }
}

impl Unit<'_> {
    /// `unwind(walk)`, with everything that it needs.
    fn unwinder(&mut self, stacks: MapId) -> Option<crate::ir::FuncRef> {
        self.unwind_offsets()?;
        self.unwinding();
        Some(self.shared(Shared::Unwind(stacks)))
    }

    fn unwinding(&mut self) -> Unwinding {
        if let Some(maps) = self.plan.unwinding {
            return maps;
        }
        // User space makes them larger when it has more to tell.
        let maps = Unwinding {
            files: self.add_map(Map::new("unwind_files", MapType::HASH, 16, 8, 4096)),
            pages: self.add_map(Map::new("unwind_pages", MapType::ARRAY, 4, PAGE_ROWS as u32 * 8, 1)),
            rules: self.add_map(Map::new("unwind_rules", MapType::ARRAY, 4, RULE_BYTES, 8192)),
            wanted: self.add_map(Map::new("unwind_wanted", MapType::HASH, 16, 16, 256)),
        };
        self.plan.unwinding = Some(maps);
        maps
    }

    fn unwind_offsets(&self) -> Option<Offsets> {
        let at = |of, member| Some(self.member_offset(of, member)? as i32);
        Some(Offsets {
            task_mm: at("task_struct", "mm")?,
            tree_root: at("mm_struct", "mm_mt")? + at("maple_tree", "ma_root")?,
            range_pivots: at("maple_range_64", "pivot")?,
            range_slots: at("maple_range_64", "slot")?,
            arange_pivots: at("maple_arange_64", "pivot")?,
            arange_slots: at("maple_arange_64", "slot")?,
            vma_start: at("vm_area_struct", "vm_start")?,
            vma_end: at("vm_area_struct", "vm_end")?,
            vma_offset: at("vm_area_struct", "vm_pgoff")?,
            vma_file: at("vm_area_struct", "vm_file")?,
            file_inode: at("file", "f_inode")?,
            inode_number: at("inode", "i_ino")?,
            inode_size: at("inode", "i_size")?,
        })
    }

    /// `unwind(walk)`: the number of the stack, 0 when the task has none.
    pub(super) fn unwind(&mut self, stacks: MapId) -> FunctionBuilder {
        let task_mm = self.unwind_offsets().map_or(0, |offsets| offsets.task_mm);
        let (round, store) = (self.shared(Shared::UnwindRound), self.shared(Shared::StoreStack(stacks)));
        let mut reader = Reader::new(self.local("unwind", 1));
        let walk = reader.f.argument(0);
        let context = reader.f.slot(8, 8);
        let (there, some, none) = (reader.f.block(0), reader.f.block(0), reader.f.block(0));
        let task = reader.f.call(helpers::GET_CURRENT_TASK, &[]);
        // The kernel's own threads have no memory of a process.
        let mm = reader.kernel(task, task_mm);
        let mut f = reader.f;
        f.branch_if(mm, there, none);
        f.switch_to(there);
        f.store(8, context, 0, walk);
        let times = f.load(8, walk, state::LIMIT);
        let (round, context, flags) = (f.func_addr(round), f.slot_addr(context, 0), f.constant(0));
        f.call(helpers::LOOP, &[times, round, context, flags]);
        let count = f.load(8, walk, 0);
        f.branch_if(count, some, none);
        f.switch_to(some);
        let id = f.call_func(store, &[walk]);
        f.ret(id);
        f.switch_to(none);
        f.ret(0);
        f
    }

    /// `unwind_round(round, &walk)`: keeps where the walk is, and goes on to the caller; 1 when there is none.
    pub(super) fn unwind_round(&mut self) -> FunctionBuilder {
        let rules = self.unwinding().rules;
        let rule_of = self.shared(Shared::UnwindRule);
        let mut reader = Reader::new(self.local("unwind_round", 2));
        let stop = reader.f.block(0);
        let context = reader.f.argument(1);
        let walk = reader.f.load(8, context, 0);
        let f = &mut reader.f;
        let pc = f.load(8, walk, state::INSTRUCTION);
        let (keep, kept) = (f.block(0), f.block(0));
        f.branch_if(pc, keep, stop);
        f.switch_to(keep);
        let count = f.load(8, walk, 0);
        f.branch(Cond::Lt, Width::W64, count, MAX_FRAMES, (kept, &[]), (stop, &[]));
        f.switch_to(kept);
        let distance = f.alu(AluOp::Lsh, Width::W64, count, 3);
        let frame = f.add(walk, distance);
        f.store(8, frame, state::FRAMES, pc);
        let more = f.add(count, 1);
        f.store(8, walk, 0, more);
        // A call lies before where it returns to, which may be another function already.
        let exact = f.load(8, walk, state::EXACT);
        f.store(8, walk, state::EXACT, 0);
        let at = f.add(pc, exact);
        let at = f.add(at, -1);
        let number = f.call_func(rule_of, &[walk, at]);
        let rule = reader.lookup(rules, number, stop);
        reader.apply(walk, (at, pc), rule, stop);
        reader.f.switch_to(stop);
        reader.f.ret(1);
        reader.f
    }

    /// `unwind_rule(walk, at)`: the number of the rule for an address.
    pub(super) fn unwind_rule(&mut self) -> FunctionBuilder {
        let pages = self.unwinding().pages;
        let find = self.shared(Shared::UnwindMapping);
        let mut reader = Reader::new(self.local("unwind_rule", 2));
        let (walk, at) = (reader.f.argument(0), reader.f.argument(1));
        let f = &mut reader.f;
        let (above, other, known, unknown) = (f.block(0), f.block(0), f.block(0), f.block(0));
        let start = f.load(8, walk, state::START);
        f.branch(Cond::Ge, Width::W64, at, start, (above, &[]), (other, &[]));
        f.switch_to(above);
        let end = f.load(8, walk, state::END);
        f.branch(Cond::Lt, Width::W64, at, end, (known, &[]), (other, &[]));
        f.switch_to(other);
        f.call_func(find, &[walk, at]);
        f.jump(known, &[]);
        f.switch_to(known);
        let count = f.load(8, walk, state::PAGES);
        let (some, small) = (f.block(0), f.block(0));
        f.branch_if(count, some, unknown);
        f.switch_to(some);
        let delta = f.load(8, walk, state::DELTA);
        let place = f.add(at, delta);
        let high = f.alu(AluOp::Rsh, Width::W64, place, 32);
        f.branch_if(high, unknown, small);
        f.switch_to(small);
        // The last page that begins at or before the place.
        let first = f.load(8, walk, state::FIRST);
        let zero = f.load(8, walk, state::ZERO);
        let head = f.block(2);
        let step = f.constant(1 << (SEARCH_STEPS - 1));
        f.jump(head, &[step, zero]);
        f.switch_to(head);
        let (step, page) = (f.param(head, 0), f.param(head, 1));
        let (round, inside, look, take, next, found) =
            (f.block(0), f.block(0), f.block(0), f.block(0), f.block(1), f.block(0));
        f.branch_if(step, round, found);
        f.switch_to(round);
        let middle = f.add(page, step);
        f.branch(Cond::Lt, Width::W64, middle, count, (inside, &[]), (next, &[page]));
        f.switch_to(inside);
        let number = f.add(first, middle);
        let rows = reader.lookup(pages, number, unknown);
        let f = &mut reader.f;
        f.jump(look, &[]);
        f.switch_to(look);
        let begins = f.load(4, rows, 0);
        f.branch(Cond::Le, Width::W64, begins, place, (take, &[]), (next, &[page]));
        f.switch_to(take);
        f.jump(next, &[middle]);
        f.switch_to(next);
        let page = f.param(next, 0);
        let half = f.alu(AluOp::Rsh, Width::W64, step, 1);
        f.jump(head, &[half, page]);
        f.switch_to(found);
        let page = f.param(head, 1);
        let number = f.add(first, page);
        let rows = reader.lookup(pages, number, unknown);
        let f = &mut reader.f;
        // The last row of it, without a branch: each would be one more way for the verifier to walk.
        let mut row = f.constant(0);
        for step in (0..PAGE_BITS).rev().map(|bit| 1 << bit) {
            let middle = f.add(row, step);
            let distance = f.alu(AluOp::Lsh, Width::W64, middle, 3);
            let begins = f.add(rows, distance);
            let begins = f.load(4, begins, 0);
            let before = f.alu(AluOp::Sub, Width::W64, place, begins);
            // All bits when it begins behind the place.
            let behind = f.alu(AluOp::Arsh, Width::W64, before, 63);
            let not = f.alu(AluOp::Xor, Width::W64, behind, -1);
            let step = f.alu(AluOp::And, Width::W64, not, step);
            row = f.add(row, step);
        }
        let distance = f.alu(AluOp::Lsh, Width::W64, row, 3);
        let row = f.add(rows, distance);
        let begins = f.load(4, row, 0);
        let take = f.block(0);
        f.branch(Cond::Le, Width::W64, begins, place, (take, &[]), (unknown, &[]));
        f.switch_to(take);
        let rule = f.load(4, row, 4);
        f.ret(rule);
        f.switch_to(unknown);
        f.ret(0);
        reader.f
    }

    /// `unwind_mapping(walk, at)`: notes which mapping is at an address, and which pages its file has.
    pub(super) fn unwind_mapping(&mut self) -> FunctionBuilder {
        let maps = self.unwinding();
        let mut reader = Reader::new(self.local("unwind_mapping", 2));
        let Some(offsets) = self.unwind_offsets() else {
            reader.f.ret(0);
            return reader.f;
        };
        let (walk, at) = (reader.f.argument(0), reader.f.argument(1));
        let key = reader.f.slot(16, 8);
        let asked = reader.f.slot(16, 8);
        let done = reader.f.block(0);
        for off in [state::START, state::END, state::PAGES] {
            reader.f.store(8, walk, off, 0);
        }
        let task = reader.f.call(helpers::GET_CURRENT_TASK, &[]);
        let mm = reader.kernel(task, offsets.task_mm);
        let root = reader.kernel(mm, offsets.tree_root);
        let (head, found) = (reader.f.block(2), reader.f.block(1));
        let zero = reader.f.constant(0);
        // The root is marked by 2 (`xa_is_node`) when it is a node; an only range is the root itself.
        let mark = reader.f.alu(AluOp::And, Width::W64, root, 3);
        reader.f.branch(Cond::Eq, Width::W64, mark, 2, (head, &[zero, root]), (found, &[root]));
        reader.f.switch_to(head);
        let (level, entry) = (reader.f.param(head, 0), reader.f.param(head, 1));
        let f = &mut reader.f;
        let (node, read) = (f.block(0), f.block(0));
        f.branch(Cond::Lt, Width::W64, level, DEPTH, (node, &[]), (done, &[]));
        f.switch_to(node);
        let address = f.alu(AluOp::And, Width::W64, entry, -256);
        let (to, size) = (f.add(walk, i32::from(state::BUFFER)), f.constant(NODE_SIZE.into()));
        let result = f.call(helpers::PROBE_READ_KERNEL, &[to, size, address]);
        f.branch_if(result, done, read);
        f.switch_to(read);
        let which = f.alu(AluOp::Rsh, Width::W64, entry, 3);
        let which = f.alu(AluOp::And, Width::W64, which, 15);
        let (range, arange, slot) = (f.block(0), f.block(0), f.block(1));
        f.branch(Cond::Eq, Width::W64, which, MAPLE_ARANGE_64, (arange, &[]), (range, &[]));
        let kinds = [
            (range, RANGE_PIVOTS, offsets.range_pivots, offsets.range_slots),
            (arange, ARANGE_PIVOTS, offsets.arange_pivots, offsets.arange_slots),
        ];
        for (block, pivots, pivots_off, slots_off) in kinds {
            f.switch_to(block);
            let target = f.add(at, -1);
            let mut index = f.constant(0);
            for pivot in 0..pivots {
                let off = state::BUFFER + pivots_off as i16 + 8 * pivot as i16;
                let end = f.load(8, walk, off);
                // 1 when the range ends before the address; a pivot of 0, one behind the last, becomes the greatest number.
                let end = f.add(end, -1);
                let before = f.alu(AluOp::Sub, Width::W64, end, target);
                let not = f.alu(AluOp::Xor, Width::W64, end, -1);
                let both = f.alu(AluOp::And, Width::W64, before, not);
                let one = f.alu(AluOp::Rsh, Width::W64, both, 63);
                index = f.add(index, one);
            }
            let distance = f.alu(AluOp::Lsh, Width::W64, index, 3);
            let place = f.add(distance, slots_off);
            f.jump(slot, &[place]);
        }
        f.switch_to(slot);
        let place = f.param(slot, 0);
        let from = f.add(address, place);
        let below = reader.kernel(from, 0);
        let f = &mut reader.f;
        let next = f.add(level, 1);
        f.branch(Cond::Eq, Width::W64, which, MAPLE_LEAF_64, (found, &[below]), (head, &[next, below]));
        f.switch_to(found);
        let vma = f.param(found, 0);
        let (some, above, around, file_there) = (f.block(0), f.block(0), f.block(0), f.block(0));
        f.branch_if(vma, some, done);
        f.switch_to(some);
        let start = reader.kernel(vma, offsets.vma_start);
        reader.f.branch(Cond::Ge, Width::W64, at, start, (above, &[]), (done, &[]));
        reader.f.switch_to(above);
        let end = reader.kernel(vma, offsets.vma_end);
        reader.f.branch(Cond::Lt, Width::W64, at, end, (around, &[]), (done, &[]));
        reader.f.switch_to(around);
        reader.f.store(8, walk, state::START, start);
        reader.f.store(8, walk, state::END, end);
        let pages = reader.kernel(vma, offsets.vma_offset);
        let bytes = reader.f.alu(AluOp::Lsh, Width::W64, pages, PAGE_SHIFT);
        let delta = reader.f.alu(AluOp::Sub, Width::W64, bytes, start);
        reader.f.store(8, walk, state::DELTA, delta);
        let file = reader.kernel(vma, offsets.vma_file);
        reader.f.branch_if(file, file_there, done);
        reader.f.switch_to(file_there);
        let inode = reader.kernel(file, offsets.file_inode);
        let number = reader.kernel(inode, offsets.inode_number);
        reader.f.store(8, key, 0, number);
        let size = reader.kernel(inode, offsets.inode_size);
        let f = &mut reader.f;
        f.store(8, key, 8, size);
        let (map, place) = (f.map(maps.files), f.slot_addr(key, 0));
        let known = f.call(helpers::MAP_LOOKUP_ELEM, &[map, place]);
        let (there, unknown) = (f.block(0), f.block(0));
        f.branch_if(known, there, unknown);
        f.switch_to(there);
        let first = f.load(4, known, 0);
        f.store(8, walk, state::FIRST, first);
        let count = f.load(4, known, 4);
        f.store(8, walk, state::PAGES, count);
        f.jump(done, &[]);
        f.switch_to(unknown);
        let both = f.call(helpers::GET_CURRENT_PID_TGID, &[]);
        let process = f.alu(AluOp::Rsh, Width::W64, both, 32);
        f.store(8, asked, 0, process);
        f.store(8, asked, 8, at);
        let (map, place, value, flags) =
            (f.map(maps.wanted), f.slot_addr(key, 0), f.slot_addr(asked, 0), f.constant(0));
        f.call(helpers::MAP_UPDATE_ELEM, &[map, place, value, flags]);
        f.jump(done, &[]);
        f.switch_to(done);
        f.ret(0);
        reader.f
    }
}

/// A function that reads memory of others.
struct Reader {
    slot: crate::ir::Slot,
    f: FunctionBuilder,
}

impl Reader {
    fn new(mut f: FunctionBuilder) -> Reader {
        Reader { slot: f.slot(8, 8), f }
    }

    /// A word of the kernel's memory, zero where there is none.
    fn kernel(&mut self, base: Value, off: i32) -> Value {
        let f = &mut self.f;
        let (to, len, from) = (f.slot_addr(self.slot, 0), f.constant(8), f.add(base, off));
        f.call(helpers::PROBE_READ_KERNEL, &[to, len, from]);
        f.load(8, self.slot, 0)
    }

    /// A word of the process's memory; where it cannot be read the function goes on elsewhere.
    fn user(&mut self, from: Value, elsewhere: Block) -> Value {
        let f = &mut self.f;
        let there = f.block(0);
        let (to, len) = (f.slot_addr(self.slot, 0), f.constant(8));
        let result = f.call(helpers::PROBE_READ_USER, &[to, len, from]);
        f.branch_if(result, elsewhere, there);
        f.switch_to(there);
        f.load(8, self.slot, 0)
    }

    /// An element of an array; without one the function goes on elsewhere.
    fn lookup(&mut self, map: MapId, number: Value, elsewhere: Block) -> Value {
        let f = &mut self.f;
        let there = f.block(0);
        f.store(4, self.slot, 0, number);
        let (map, key) = (f.map(map), f.slot_addr(self.slot, 0));
        let element = f.call(helpers::MAP_LOOKUP_ELEM, &[map, key]);
        f.branch_if(element, there, elsewhere);
        f.switch_to(there);
        element
    }

    /// A number of 32 bits with its sign.
    fn signed(&mut self, base: Value, off: i16) -> Value {
        let number = self.f.load(4, base, off);
        self.f.sign_extend(32, number)
    }

    /// From a function to its caller by a rule, and returns 0; or goes on at `stop`.
    fn apply(&mut self, walk: Value, (at, pc): (Value, Value), rule: Value, stop: Block) {
        let which = self.f.load(4, rule, 0);
        let stack = self.f.load(8, walk, state::STACK);
        let frame = self.f.load(8, walk, state::FRAME);
        // The caller's stack pointer, frame pointer and address.
        let (by_cfa, caller) = (self.f.block(1), self.f.block(3));
        let kinds = [
            kind::STACK_POINTER,
            kind::FRAME_POINTER,
            kind::UNKNOWN,
            kind::LINKAGE,
            kind::AT_FRAME_POINTER,
            kind::SIGNAL,
        ];
        for number in kinds {
            let (this, other) = (self.f.block(0), self.f.block(0));
            self.f.branch(Cond::Eq, Width::W64, which, number as i32, (this, &[]), (other, &[]));
            self.f.switch_to(this);
            let distance = self.signed(rule, 4);
            match number {
                kind::STACK_POINTER => {
                    let cfa = self.f.add(stack, distance);
                    self.f.jump(by_cfa, &[cfa]);
                }
                kind::FRAME_POINTER => {
                    let cfa = self.f.add(frame, distance);
                    self.f.jump(by_cfa, &[cfa]);
                }
                kind::AT_FRAME_POINTER => {
                    let place = self.f.add(frame, distance);
                    let cfa = self.user(place, stop);
                    self.f.jump(by_cfa, &[cfa]);
                }
                kind::LINKAGE => {
                    // 5 to 9, where 11 to 15 were: bit 4 of the sum with 5.
                    let inside = self.f.alu(AluOp::And, Width::W64, at, 15);
                    let late = self.f.add(inside, 5);
                    let late = self.f.alu(AluOp::Rsh, Width::W64, late, 4);
                    let more = self.f.alu(AluOp::Lsh, Width::W64, late, 3);
                    let cfa = self.f.add(stack, distance);
                    let cfa = self.f.add(cfa, more);
                    self.f.jump(by_cfa, &[cfa]);
                }
                kind::SIGNAL => {
                    let [frame, stack, pc] = [SIGNAL_FRAME, SIGNAL_STACK, SIGNAL_INSTRUCTION].map(|off| {
                        let place = self.f.add(stack, off);
                        self.user(place, stop)
                    });
                    self.f.store(8, walk, state::EXACT, 1);
                    self.f.jump(caller, &[stack, frame, pc]);
                }
                _ => {
                    let (above, aligned) = (self.f.block(0), self.f.block(0));
                    self.f.branch(Cond::Ge, Width::W64, frame, stack, (above, &[]), (stop, &[]));
                    self.f.switch_to(above);
                    let low = self.f.alu(AluOp::And, Width::W64, frame, 7);
                    self.f.branch_if(low, stop, aligned);
                    self.f.switch_to(aligned);
                    let place = self.f.add(frame, 8);
                    let pc = self.user(place, stop);
                    let before = self.user(frame, stop);
                    let stack = self.f.add(frame, 16);
                    self.f.jump(caller, &[stack, before, pc]);
                }
            }
            self.f.switch_to(other);
        }
        self.f.jump(stop, &[]);
        self.f.switch_to(by_cfa);
        let cfa = self.f.param(by_cfa, 0);
        let to_frame = self.signed(rule, 8);
        let (moved, itself, saved, with_frame) = (self.f.block(0), self.f.block(0), self.f.block(1), self.f.block(1));
        self.f.branch(Cond::Eq, Width::W64, to_frame, IN_REGISTER, (with_frame, &[frame]), (moved, &[]));
        self.f.switch_to(moved);
        let place = self.f.add(cfa, to_frame);
        self.f.branch(Cond::Eq, Width::W64, to_frame, AT_ITSELF, (itself, &[]), (saved, &[place]));
        self.f.switch_to(itself);
        self.f.jump(saved, &[frame]);
        self.f.switch_to(saved);
        let place = self.f.param(saved, 0);
        let before = self.user(place, stop);
        self.f.jump(with_frame, &[before]);
        self.f.switch_to(with_frame);
        let before = self.f.param(with_frame, 0);
        let to_return = self.signed(rule, 12);
        let (linked, in_memory) = (self.f.block(0), self.f.block(0));
        self.f.branch(Cond::Eq, Width::W64, to_return, IN_REGISTER, (linked, &[]), (in_memory, &[]));
        self.f.switch_to(linked);
        let link = self.f.load(8, walk, state::LINK);
        self.f.jump(caller, &[cfa, before, link]);
        self.f.switch_to(in_memory);
        let place = self.f.add(cfa, to_return);
        let next = self.user(place, stop);
        self.f.jump(caller, &[cfa, before, next]);
        self.f.switch_to(caller);
        let [to_stack, to_frame, to_pc] = [0, 1, 2].map(|index| self.f.param(caller, index));
        let to_pc = if cfg!(target_arch = "aarch64") {
            // Return addresses may be signed in the upper bits (`ptrauth_strip_user_insn_pac`).
            let up = self.f.alu(AluOp::Lsh, Width::W64, to_pc, 16);
            self.f.alu(AluOp::Rsh, Width::W64, up, 16)
        } else {
            to_pc
        };
        // A stack grows down; only a function that has not touched it may share it with its caller.
        let (up, same, go) = (self.f.block(0), self.f.block(0), self.f.block(0));
        self.f.branch(Cond::Ge, Width::W64, to_stack, stack, (up, &[]), (stop, &[]));
        self.f.switch_to(up);
        self.f.branch(Cond::Eq, Width::W64, to_stack, stack, (same, &[]), (go, &[]));
        self.f.switch_to(same);
        self.f.branch(Cond::Eq, Width::W64, to_pc, pc, (stop, &[]), (go, &[]));
        self.f.switch_to(go);
        self.f.store(8, walk, state::STACK, to_stack);
        self.f.store(8, walk, state::FRAME, to_frame);
        self.f.store(8, walk, state::INSTRUCTION, to_pc);
        self.f.store(8, walk, state::LINK, 0);
        self.f.ret(0);
    }
}
