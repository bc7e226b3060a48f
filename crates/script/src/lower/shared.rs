//! Functions that many programs call: each is made when it is first wanted.

use skep_insn::{AluOp, Cond, Width, helpers};
use skep_spec::{Map, MapId, MapType};

use super::Unit;
use super::place::LEVELS;
use crate::ir::build::FunctionBuilder;
use crate::ir::{Block, FuncKind, FuncRef, Value};
use crate::plan::Action;

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shared {
    /// `take_scratch()`: an element of scratch that nobody else has until its counter goes down again, or 0.
    TakeScratch,
    /// `lost(probe)`: counts an event of a probe that came to nothing.
    Lost,
    /// `report(site, result)`: counts an error, and sends it when it is the first of its site.
    Report,
    /// A callback for elements of a map that only counts them.
    Nothing,
    /// A callback of `bpf_loop` over `{ a, b, result }`: the result is 1 when two texts of so many bytes differ.
    StringDiffers(u32),
    /// As before, for bytes: the result is the difference of the first two that differ.
    BytesDiffer(u32),
    /// A callback over `{ a, b, result, at, differs }`: the result is one more than where a text of the second size begins in
    /// one of the first.
    Find(u32, u32),
    /// A callback over the same: whether the second text is something else than what is at `at` in the first.
    PartDiffers(u32, u32),
    /// `store_stack(value)`: the number of the stack in `value`, which is stored under it in the map if it is new.
    StoreStack(MapId),
    /// `unwind(walk)`: the number of a stack by tables, stored in the map.
    Unwind(MapId),
    /// The callback of its rounds.
    UnwindRound,
    /// `unwind_rule(walk, at)`
    UnwindRule,
    /// `unwind_mapping(walk, at)`
    UnwindMapping,
    /// `kernel_stack(walk)`: the number of a kernel stack that the program walks, stored in the map.
    KernelStack(MapId),
    /// The callback of its rounds.
    KernelRound,
    /// `kernel_rule(at)`
    KernelRule,
    /// `task_of(pid)`: the task with this number, or 0.
    TaskOf,
    /// `usdt_argument(ctx, n)`
    UsdtArgument,
    /// `usdt_cookie(ctx)`
    UsdtCookie,
}

/// Bytes of the record of a helper's error.
const REPORT: u32 = 24;
/// Multiplier of the mix of stacks: odd, and about 2^64 divided by the golden ratio.
const MIX: i64 = 0x9e37_79b9_7f4a_7c15_u64 as i64;
/// Offsets in what the callbacks over two values get.
pub(crate) mod pair {
    pub(crate) const TEXT: i16 = 0;
    pub(crate) const PART: i16 = 8;
    pub(crate) const RESULT: i16 = 16;
    /// Bytes for those that compare.
    pub(crate) const COMPARE_SIZE: u32 = 24;
    pub(super) const AT: i16 = 24;
    pub(super) const DIFFERS: i16 = 32;
    /// Bytes for those that search.
    pub(crate) const SIZE: u32 = 40;
}
/// `struct __bpf_usdt_spec` (libbpf's usdt.bpf.h): 12 arguments of 16 bytes, cookie, number of arguments.
mod usdt {
    pub(super) const SIZE: u32 = 208;
    pub(super) const ARGUMENTS: i32 = 12;
    pub(super) const COOKIE: i16 = 192;
    pub(super) const COUNT: i16 = 200;
    /// Descriptions that the map has room for.
    pub(super) const MOST: u32 = 256;
}

impl Unit<'_> {
    /// The function, made if need be.
    pub(crate) fn shared(&mut self, which: Shared) -> FuncRef {
        if let Some(func) = self.shared.get(&which) {
            return *func;
        }
        let f = match which {
            Shared::TakeScratch => self.take_scratch(),
            Shared::Lost => self.lost(),
            Shared::Report => self.report(),
            Shared::Nothing => {
                let mut f = self.local("count_element", 4);
                f.ret(0);
                f
            }
            Shared::StringDiffers(len) => self.compare_callback("string_differs", len, true),
            Shared::BytesDiffer(len) => self.compare_callback("bytes_differ", len, false),
            Shared::Find(text, part) => self.find_callback(text, part),
            Shared::PartDiffers(text, part) => self.part_callback(text, part),
            Shared::StoreStack(map) => self.store_stack(map),
            Shared::Unwind(map) => self.unwind(map),
            Shared::UnwindRound => self.unwind_round(),
            Shared::UnwindRule => self.unwind_rule(),
            Shared::UnwindMapping => self.unwind_mapping(),
            Shared::KernelStack(map) => self.walk_kernel(map),
            Shared::KernelRound => self.kernel_round(),
            Shared::KernelRule => self.kernel_rule(),
            Shared::TaskOf => self.task_of(),
            Shared::UsdtArgument => self.usdt_argument(),
            Shared::UsdtCookie => self.usdt_cookie(),
        };
        let func = self.add_function(f.finish());
        self.shared.insert(which, func);
        func
    }

    pub(super) fn local(&mut self, name: &str, params: u32) -> FunctionBuilder {
        let name = self.unique_name(name);
        FunctionBuilder::new(&name, FuncKind::Local, params)
    }

    fn take_scratch(&mut self) -> FunctionBuilder {
        let map = self.scratch_map();
        let mut f = self.local("take_scratch", 0);
        let key = f.slot(4, 8);
        let cpu = f.call(helpers::GET_SMP_PROCESSOR_ID, &[]);
        let first = f.alu(AluOp::Mul, Width::W64, cpu, LEVELS as i32);
        let none = f.block(0);
        for level in 0..LEVELS {
            let index = f.add(first, level as i32);
            f.store(4, key, 0, index);
            let (map, at) = (f.map(map), f.slot_addr(key, 0));
            let element = f.call(helpers::MAP_LOOKUP_ELEM, &[map, at]);
            let (there, mine, taken) = (f.block(0), f.block(0), f.block(0));
            f.branch_if(element, there, none);
            f.switch_to(there);
            let one = f.constant(1);
            let before = f.fetch_add(8, element, 0, one);
            f.branch_if(before, taken, mine);
            f.switch_to(mine);
            f.ret(element);
            f.switch_to(taken);
            let minus = f.constant(-1);
            f.atomic_add(8, element, 0, minus);
        }
        f.jump(none, &[]);
        f.switch_to(none);
        f.ret(0);
        f
    }

    fn lost(&mut self) -> FunctionBuilder {
        let map = match self.plan.losses {
            Some(map) => map,
            None => self.add_map(Map::new("losses", MapType::PERCPU_ARRAY, 4, 8, 1)),
        };
        self.plan.losses = Some(map);
        let mut f = self.local("lost", 1);
        let (key, probe) = (f.slot(4, 8), f.argument(0));
        f.store(4, key, 0, probe);
        let (map, at) = (f.map(map), f.slot_addr(key, 0));
        let count = f.call(helpers::MAP_LOOKUP_ELEM, &[map, at]);
        let (there, done) = (f.block(0), f.block(0));
        f.branch_if(count, there, done);
        f.switch_to(there);
        let one = f.constant(1);
        f.atomic_add(8, count, 0, one);
        f.jump(done, &[]);
        f.switch_to(done);
        f.ret(0);
        f
    }

    fn report(&mut self) -> FunctionBuilder {
        let counts = match self.plan.site_counts {
            Some(map) => map,
            None => self.add_map(Map::new("sites", MapType::ARRAY, 4, 8, 1)),
        };
        self.plan.site_counts = Some(counts);
        let events = self.events();
        let action = self.action(Action::HelperError);
        let mut f = self.local("report", 2);
        let (key, site, result) = (f.slot(4, 8), f.argument(0), f.argument(1));
        f.store(4, key, 0, site);
        let (map, at) = (f.map(counts), f.slot_addr(key, 0));
        let count = f.call(helpers::MAP_LOOKUP_ELEM, &[map, at]);
        let (there, first, send, done) = (f.block(0), f.block(0), f.block(0), f.block(0));
        f.branch_if(count, there, done);
        f.switch_to(there);
        let one = f.constant(1);
        let before = f.fetch_add(8, count, 0, one);
        f.branch(Cond::Eq, Width::W64, before, 0, (first, &[]), (done, &[]));
        f.switch_to(first);
        let (map, size, flags) = (f.map(events), f.constant(i64::from(REPORT)), f.constant(0));
        let record = f.call(helpers::RINGBUF_RESERVE, &[map, size, flags]);
        f.branch_if(record, send, done);
        f.switch_to(send);
        f.store(8, record, 0, 0);
        f.store(4, record, 0, action as i32);
        f.store(4, record, 8, site);
        f.store(4, record, 12, 0);
        f.store(8, record, 16, result);
        let flags = f.constant(0);
        f.call(helpers::RINGBUF_SUBMIT, &[record, flags]);
        f.jump(done, &[]);
        f.switch_to(done);
        f.ret(0);
        f
    }

    /// Compares byte `i` of two values; ends the loop when they differ, or when a text ends.
    fn compare_callback(&mut self, name: &str, len: u32, text: bool) -> FunctionBuilder {
        let mut f = self.local(name, 2);
        let (index, context) = (f.argument(0), f.argument(1));
        let (inside, stop, differ, next) = (f.block(0), f.block(0), f.block(0), f.block(0));
        f.branch(Cond::Lt, Width::W64, index, len as i32, (inside, &[]), (stop, &[]));
        f.switch_to(inside);
        let (a, b) = (f.load(8, context, pair::TEXT), f.load(8, context, pair::PART));
        let (a, b) = (f.add(a, index), f.add(b, index));
        let (x, y) = (f.load(1, a, 0), f.load(1, b, 0));
        let same = f.block(0);
        f.branch(Cond::Eq, Width::W64, x, y, (same, &[]), (differ, &[]));
        f.switch_to(same);
        if text {
            f.branch_if(x, next, stop);
        } else {
            f.jump(next, &[]);
        }
        f.switch_to(differ);
        let difference = if text { f.constant(1) } else { f.alu(AluOp::Sub, Width::W64, x, y) };
        f.store(8, context, pair::RESULT, difference);
        f.jump(stop, &[]);
        f.switch_to(stop);
        f.ret(1);
        f.switch_to(next);
        f.ret(0);
        f
    }

    /// Looks whether the second text begins at byte `i` of the first. What is compared behind the first byte is a loop of its
    /// own: the verifier would walk through every round of one in here, and again for every way into it, which is more than it
    /// follows for long texts.
    fn find_callback(&mut self, text_size: u32, part_size: u32) -> FunctionBuilder {
        let part_differs = self.shared(Shared::PartDiffers(text_size, part_size));
        let mut f = self.local("find", 2);
        let (index, context) = (f.argument(0), f.argument(1));
        let (inside, stop, found, next) = (f.block(0), f.block(0), f.block(0), f.block(0));
        f.branch(Cond::Lt, Width::W64, index, text_size as i32, (inside, &[]), (stop, &[]));
        f.switch_to(inside);
        let (text, part) = (f.load(8, context, pair::TEXT), f.load(8, context, pair::PART));
        let start = f.add(text, index);
        let (first, wanted) = (f.load(1, start, 0), f.load(1, part, 0));
        let (something, compare, here) = (f.block(0), f.block(0), f.block(0));
        f.branch_if(wanted, something, found);
        f.switch_to(something);
        f.branch(Cond::Eq, Width::W64, first, wanted, (compare, &[]), (here, &[]));
        f.switch_to(compare);
        f.store(8, context, pair::AT, index);
        f.store(8, context, pair::DIFFERS, 0);
        let (times, callback, flags) = (f.constant(i64::from(part_size)), f.func_addr(part_differs), f.constant(0));
        f.call(helpers::LOOP, &[times, callback, context, flags]);
        let differs = f.load(8, context, pair::DIFFERS);
        f.branch_if(differs, here, found);
        // Not here: on, unless the text ended.
        f.switch_to(here);
        f.branch_if(first, next, stop);
        f.switch_to(found);
        let result = f.add(index, 1);
        f.store(8, context, pair::RESULT, result);
        f.jump(stop, &[]);
        f.switch_to(stop);
        f.ret(1);
        f.switch_to(next);
        f.ret(0);
        f
    }

    /// Compares byte `j` of the second text with the one as far behind `at` in the first; ends the loop when they differ, or
    /// when the second text ends.
    fn part_callback(&mut self, text_size: u32, part_size: u32) -> FunctionBuilder {
        let mut f = self.local("part_differs", 2);
        let (index, context) = (f.argument(0), f.argument(1));
        let (inside, compare, read, differ, stop, next) =
            (f.block(0), f.block(0), f.block(0), f.block(0), f.block(0), f.block(0));
        f.branch(Cond::Lt, Width::W64, index, part_size as i32, (inside, &[]), (stop, &[]));
        f.switch_to(inside);
        let part = f.load(8, context, pair::PART);
        let wanted = f.add(part, index);
        let wanted = f.load(1, wanted, 0);
        f.branch_if(wanted, compare, stop);
        f.switch_to(compare);
        let at = f.load(8, context, pair::AT);
        let distance = f.add(at, index);
        f.branch(Cond::Lt, Width::W64, distance, text_size as i32, (read, &[]), (differ, &[]));
        f.switch_to(read);
        let text = f.load(8, context, pair::TEXT);
        let byte = f.add(text, distance);
        let byte = f.load(1, byte, 0);
        f.branch(Cond::Eq, Width::W64, byte, wanted, (next, &[]), (differ, &[]));
        f.switch_to(differ);
        f.store(8, context, pair::DIFFERS, 1);
        f.jump(stop, &[]);
        f.switch_to(stop);
        f.ret(1);
        f.switch_to(next);
        f.ret(0);
        f
    }

    /// Mixes the frames of a stack into its number, and stores it if it is not there.
    fn store_stack(&mut self, map: MapId) -> FunctionBuilder {
        let most = (self.spec.maps[map.0 as usize].value_size - 8) / 8;
        let mut f = self.local("store_stack", 1);
        let (value, key) = (f.argument(0), f.slot(8, 8));
        let count = f.load(8, value, 0);
        let (head, check, body, mixed) = (f.block(2), f.block(0), f.block(0), f.block(0));
        let zero = f.constant(0);
        let seed = f.constant(MIX);
        f.jump(head, &[zero, seed]);
        f.switch_to(head);
        let (at, hash) = (f.param(head, 0), f.param(head, 1));
        f.branch(Cond::Lt, Width::W64, at, most as i32, (check, &[]), (mixed, &[]));
        f.switch_to(check);
        f.branch(Cond::Lt, Width::W64, at, count, (body, &[]), (mixed, &[]));
        f.switch_to(body);
        let distance = f.alu(AluOp::Lsh, Width::W64, at, 3);
        let frame = f.add(value, distance);
        let frame = f.load(8, frame, 8);
        let both = f.alu(AluOp::Xor, Width::W64, hash, frame);
        let mix = f.constant(MIX);
        let product = f.alu(AluOp::Mul, Width::W64, both, mix);
        let high = f.alu(AluOp::Rsh, Width::W64, product, 32);
        let hash_after = f.alu(AluOp::Xor, Width::W64, product, high);
        let next = f.add(at, 1);
        f.jump(head, &[next, hash_after]);
        f.switch_to(mixed);
        // 0 means that there is none.
        let id = f.alu(AluOp::Or, Width::W64, hash, 1);
        f.store(8, key, 0, id);
        let (pointer, address) = (f.map(map), f.slot_addr(key, 0));
        let known = f.call(helpers::MAP_LOOKUP_ELEM, &[pointer, address]);
        let (store, done) = (f.block(0), f.block(0));
        f.branch_if(known, done, store);
        f.switch_to(store);
        let (pointer, address, flags) = (f.map(map), f.slot_addr(key, 0), f.constant(0));
        f.call(helpers::MAP_UPDATE_ELEM, &[pointer, address, value, flags]);
        f.jump(done, &[]);
        f.switch_to(done);
        f.ret(id);
        f
    }

    /// The maps that the kernel engine describes the places of USDT probes in.
    fn usdt_specs(&mut self) -> MapId {
        if let Some(map) = self.usdt {
            return map;
        }
        let specs = self.add_map(Map::new("__bpf_usdt_specs", MapType::ARRAY, 4, usdt::SIZE, usdt::MOST));
        self.add_map(Map::new("__bpf_usdt_ip_to_spec_id", MapType::HASH, 8, 4, 4 * usdt::MOST));
        self.usdt = Some(specs);
        specs
    }

    /// Begins a function that looks at the description of the place where it runs: gives it, and the block to leave by when
    /// there is none.
    fn described(&mut self, name: &str, params: u32) -> (FunctionBuilder, Value, Block) {
        let specs = self.usdt_specs();
        let mut f = self.local(name, params);
        let (context, key) = (f.argument(0), f.slot(4, 8));
        let id = f.call(helpers::GET_ATTACH_COOKIE, &[context]);
        f.store(4, key, 0, id);
        let (map, at) = (f.map(specs), f.slot_addr(key, 0));
        let spec = f.call(helpers::MAP_LOOKUP_ELEM, &[map, at]);
        let (there, none) = (f.block(0), f.block(0));
        f.branch_if(spec, there, none);
        f.switch_to(there);
        (f, spec, none)
    }

    fn usdt_cookie(&mut self) -> FunctionBuilder {
        let (mut f, spec, none) = self.described("usdt_cookie", 1);
        let cookie = f.load(8, spec, usdt::COOKIE);
        f.ret(cookie);
        f.switch_to(none);
        f.ret(0);
        f
    }

    fn usdt_argument(&mut self) -> FunctionBuilder {
        let (mut f, spec, none) = self.described("usdt_argument", 2);
        let (context, n) = (f.argument(0), f.argument(1));
        let word = f.slot(8, 8);
        let (few, described) = (f.block(0), f.block(0));
        f.branch(Cond::Lt, Width::W64, n, usdt::ARGUMENTS, (few, &[]), (none, &[]));
        f.switch_to(few);
        let count = f.load(2, spec, usdt::COUNT);
        f.branch(Cond::Lt, Width::W64, n, count, (described, &[]), (none, &[]));
        f.switch_to(described);
        let distance = f.alu(AluOp::Lsh, Width::W64, n, 4);
        let argument = f.add(spec, distance);
        let offset = f.load(8, argument, 0);
        let kind_word = f.load(4, argument, 8);
        let kind = f.alu(AluOp::And, Width::W64, kind_word, 0xff);
        let (register, memory, finish) = (f.block(0), f.block(0), f.block(1));
        f.branch(Cond::Eq, Width::W64, kind, 0, (finish, &[offset]), (register, &[]));
        f.switch_to(register);
        // A register at an offset that is not constant may be read, not loaded.
        let read_register = |f: &mut FunctionBuilder, off: Value| {
            let at = f.add(context, off);
            let (to, size) = (f.slot_addr(word, 0), f.constant(8));
            f.call(helpers::PROBE_READ_KERNEL, &[to, size, at]);
            f.load(8, word, 0)
        };
        let base = f.load(2, argument, 12);
        let base = read_register(&mut f, base);
        f.branch(Cond::Eq, Width::W64, kind, 1, (finish, &[base]), (memory, &[]));
        f.switch_to(memory);
        let address = f.add(base, offset);
        let (plain, more, indexed) = (f.block(1), f.block(0), f.block(0));
        f.branch(Cond::Eq, Width::W64, kind, 2, (plain, &[address]), (more, &[]));
        f.switch_to(more);
        f.branch(Cond::Eq, Width::W64, kind, 3, (indexed, &[]), (none, &[]));
        f.switch_to(indexed);
        let index = f.alu(AluOp::Rsh, Width::W64, kind_word, 8);
        let index = f.alu(AluOp::And, Width::W64, index, 0xfff);
        let index = read_register(&mut f, index);
        let shift = f.alu(AluOp::Rsh, Width::W64, kind_word, 20);
        let scaled = f.alu(AluOp::Lsh, Width::W64, index, shift);
        let further = f.add(address, scaled);
        f.jump(plain, &[further]);
        f.switch_to(plain);
        let address = f.param(plain, 0);
        let (to, size) = (f.slot_addr(word, 0), f.constant(8));
        f.call(helpers::PROBE_READ_USER, &[to, size, address]);
        let value = f.load(8, word, 0);
        f.jump(finish, &[value]);
        f.switch_to(finish);
        let value = f.param(finish, 0);
        let (signed, cut) = (f.load(1, argument, 14), f.load(1, argument, 15));
        let high = f.alu(AluOp::Lsh, Width::W64, value, cut);
        let (with_sign, without) = (f.block(0), f.block(0));
        f.branch_if(signed, with_sign, without);
        f.switch_to(with_sign);
        let value = f.alu(AluOp::Arsh, Width::W64, high, cut);
        f.ret(value);
        f.switch_to(without);
        let value = f.alu(AluOp::Rsh, Width::W64, high, cut);
        f.ret(value);
        f.switch_to(none);
        f.ret(0);
        f
    }

    /// The ring buffer.
    pub(crate) fn events(&mut self) -> MapId {
        match self.plan.events {
            Some(map) => map,
            None => {
                let map = self.add_map(Map::new("events", MapType::RINGBUF, 0, 0, 1));
                self.plan.events = Some(map);
                map
            }
        }
    }

    /// Number of an action, appended.
    pub(crate) fn action(&mut self, action: Action) -> u32 {
        self.plan.actions.push(action);
        self.plan.actions.len() as u32 - 1
    }

    fn scratch_map(&mut self) -> MapId {
        match self.scratch_map {
            Some(map) => map,
            None => {
                let map = self.add_map(Map::new("scratch", MapType::ARRAY, 4, 8, 1));
                self.scratch_map = Some(map);
                map
            }
        }
    }

    /// Sizes of the maps that depend on what was lowered.
    pub(crate) fn size_maps(&mut self) {
        let cpus = self.target.possible_cpus().max(1);
        let pages = self.script.config.perf_rb_pages;
        let probes = self.plan.probe_names.len().max(1) as u32;
        let sites = self.plan.sites.len().max(1) as u32;
        let mut size = |map: Option<MapId>, value_size: u32, max_entries: u32| {
            if let Some(map) = map {
                let map = &mut self.spec.maps[map.0 as usize];
                (map.value_size, map.max_entries) = (value_size, max_entries);
            }
        };
        size(self.plan.losses, 8, probes);
        size(self.plan.site_counts, 8, sites);
        let ring = if self.sends { ring_bytes(pages, cpus) } else { reports_bytes(sites) };
        size(self.plan.events, 0, ring);
        // Whole cache lines, so that processors do not share one.
        size(self.scratch_map, (self.scratch + 8).next_multiple_of(64), cpus * LEVELS);
    }
}

/// Bytes of the ring buffer: `perf_rb_pages` for each processor when it is set, else 4 MiB: what a reader with a thread of its
/// own falls behind in a burst, and as much memory as it costs.
fn ring_bytes(pages: u64, cpus: u32) -> u32 {
    let wanted = match pages {
        0 => 4 << 20,
        pages => pages.saturating_mul(4096).saturating_mul(u64::from(cpus)),
    };
    wanted.clamp(256 << 10, 1 << 30).next_power_of_two() as u32
}

/// Bytes of the ring buffer of a script that prints nothing while it runs. Only errors of helpers come over it, each site's first
/// one, of [`REPORT`] bytes behind the kernel's 8: all of them have room at once. Making and mapping 4 MiB takes 1.2 ms, a third
/// of the start of a short script, and the mapping counts as 8 MB of the process's memory.
fn reports_bytes(sites: u32) -> u32 {
    sites.saturating_mul(REPORT + 8).clamp(64 << 10, 1 << 30).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::{reports_bytes, ring_bytes};

    #[test]
    fn the_ring_is_a_power_of_two_between_its_bounds() {
        assert_eq!([ring_bytes(0, 8), ring_bytes(64, 3), ring_bytes(1, 1)], [4 << 20, 1 << 20, 256 << 10]);
        assert_eq!(ring_bytes(u64::MAX, 1), 1 << 30);
    }

    #[test]
    fn reports_of_all_sites_have_room_at_once() {
        assert_eq!([reports_bytes(1), reports_bytes(2048), reports_bytes(2049)], [64 << 10, 64 << 10, 128 << 10]);
        assert_eq!(reports_bytes(u32::MAX), 1 << 30);
    }
}
