//! [`Place`]: where a value lies in memory; and [`Body`], one function while it is made, with its stack and its scratch.

use skep_insn::{AluOp, Cond, Width, helpers};

use super::shared::Shared;
use super::{Unit, uses};
use crate::ir::build::FunctionBuilder;
use crate::ir::{Base, Block, FuncKind, Function, Operand, Slot, Value};
use crate::typed::{self, Context, VarRef};
use crate::types::Type;
use crate::{Span, ir};

/// Elements of scratch for each processor: so many programs may be in the middle of their work on one.
pub(crate) const LEVELS: u32 = 4;

/// Offsets in the frame.
pub(crate) mod frame {
    /// Pointer to the scratch element, 0 while none is taken.
    pub(crate) const SCRATCH: u32 = 0;
    /// The program's context.
    pub(crate) const CONTEXT: u32 = 8;
    /// Not 0 when a callback returned from the program.
    pub(crate) const RETURNED: u32 = 16;
    /// What the program returns.
    pub(crate) const RESULT: u32 = 24;
    /// Where variables begin.
    pub(crate) const FIRST: u32 = 32;
}

/// Memory of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// A pointer or a slot.
    pub(crate) base: Base,
    /// From there, in bytes.
    pub(crate) off: i32,
    /// On a stack, where the verifier wants accesses aligned.
    pub(crate) stack: bool,
}

impl Place {
    /// Memory behind a pointer to a map's value or a record.
    pub(crate) fn behind(pointer: Value) -> Place {
        Place { base: Base::Value(pointer), off: 0, stack: false }
    }

    /// A stack slot.
    pub(crate) fn slot(slot: Slot) -> Place {
        Place { base: Base::Slot(slot), off: 0, stack: true }
    }

    /// So many bytes further.
    pub(crate) fn at(self, off: u32) -> Place {
        Place { off: self.off + off as i32, ..self }
    }

    /// The largest piece that may be accessed at once `off` bytes further, when `len` bytes are left.
    pub(crate) fn piece(self, off: u32, len: u32) -> u32 {
        let at = (self.off as u32).wrapping_add(off);
        let aligned = |size: &u32| !self.stack || at.is_multiple_of(*size);
        [8, 4, 2].into_iter().find(|size| *size <= len && aligned(size)).unwrap_or(1)
    }
}

/// Where a variable lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Home {
    /// Not used.
    None,
    /// In a stack slot.
    Slot(Slot),
    /// In the frame.
    Frame(u32),
    /// In scratch.
    Scratch(u32),
}

/// What `break` and `continue` are where statements are being lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// Not in a loop.
    Outside,
    /// In a callback: results 1 and 0.
    Callback,
}

/// What a body is of.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// A probe, at one of its places or at all of them.
    Probe(&'a typed::Probe),
    /// A subprogram.
    Function(&'a typed::Function),
}

/// One function of the script while it is made, callbacks of its loops included.
pub(crate) struct Body<'u, 'a> {
    pub(crate) unit: &'u mut Unit<'a>,
    /// The function that is appended to: the outermost one, or a callback.
    pub(crate) f: FunctionBuilder,
    pub(crate) kind: Kind<'a>,
    /// Number of the probe; of the first one for subprograms.
    pub(crate) probe: u32,
    /// Number of the place when it is known, else its cookie tells.
    pub(crate) place: Option<u32>,
    pub(crate) vars: &'a [typed::Var],
    pub(crate) homes: Vec<Home>,
    /// Which loop is around.
    pub(crate) around: Loop,
    /// How many callbacks are around, each in a frame of the kernel's call stack.
    pub(crate) nested: u32,
    /// The frame: a slot of the outermost function, or the argument of a callback.
    frame: Option<Base>,
    frame_size: u32,
    frame_slot: Option<Slot>,
    /// Where the scratch pointer and the result lie when there is no frame.
    own: Option<(Slot, Slot)>,
    /// Where returns of the outermost function go.
    exit: Block,
    /// Stack bytes in use, and slots for temporaries by size with whether they are taken.
    stack_used: u32,
    temporaries: Vec<(Slot, u32, bool)>,
    live: Vec<usize>,
    /// Bytes of scratch in use behind the counter, and the most that was.
    scratch_used: u32,
    scratch_peak: u32,
}

/// Temporaries in use at some moment, see [`Body::mark`].
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    live: usize,
    scratch: u32,
}

/// What [`Body::enter_callback`] keeps of the function around.
pub(crate) struct Outer {
    f: FunctionBuilder,
    around: Loop,
    frame: Option<Base>,
    stack_used: u32,
    temporaries: Vec<(Slot, u32, bool)>,
    live: Vec<usize>,
}

impl<'u, 'a> Body<'u, 'a> {
    /// Starts a function with `params` parameters.
    pub(crate) fn new(
        unit: &'u mut Unit<'a>,
        name: &str,
        func_kind: FuncKind,
        kind: Kind<'a>,
        params: u32,
        span: Span,
    ) -> Body<'u, 'a> {
        let body = match kind {
            Kind::Probe(probe) => &probe.body,
            Kind::Function(function) => &function.body,
        };
        let probe = match kind {
            Kind::Probe(probe) => probe.index,
            Kind::Function(_) => 0,
        };
        let mut f = FunctionBuilder::new(name, func_kind, params);
        f.set_span(span);
        let exit = f.block(0);
        let mut this = Body {
            unit,
            f,
            kind,
            probe,
            place: None,
            vars: &body.vars,
            homes: Vec::new(),
            around: Loop::Outside,
            nested: 0,
            frame: None,
            frame_size: frame::FIRST,
            frame_slot: None,
            own: None,
            exit,
            stack_used: 0,
            temporaries: Vec::new(),
            live: Vec::new(),
            scratch_used: 0,
            scratch_peak: 0,
        };
        this.prologue(body);
        this
    }

    /// Makes homes for the variables and sets to zero what has to be.
    fn prologue(&mut self, body: &typed::Body) {
        let uses = uses::of(body);
        if uses.has_loops {
            // Its size is known in the end.
            let slot = self.f.slot(0, 8);
            self.frame_slot = Some(slot);
            self.frame = Some(Base::Slot(slot));
            let entry = self.f.argument(0);
            self.f.store(8, slot, frame::SCRATCH as i16, 0);
            self.f.store(8, slot, frame::CONTEXT as i16, entry);
            self.f.store(8, slot, frame::RETURNED as i16, 0);
            self.f.store(8, slot, frame::RESULT as i16, 0);
        } else {
            let (scratch, result) = (self.f.slot(8, 8), self.f.slot(8, 8));
            self.own = Some((scratch, result));
            self.f.store(8, scratch, 0, 0);
            self.f.store(8, result, 0, 0);
            self.stack_used += 16;
        }
        for (at, var) in self.vars.iter().enumerate() {
            let used = uses.vars.get(at).copied().unwrap_or_default();
            let size = if var.ty.is_scalar() { 8 } else { var.ty.size().max(1).next_multiple_of(8) };
            let home = if !used.used {
                Home::None
            } else if !var.ty.is_scalar() && !self.fits_stack(size) {
                let off = self.scratch_used;
                self.use_scratch(size);
                Home::Scratch(off)
            } else if used.in_loop {
                self.frame_size += size;
                self.stack_used += size;
                Home::Frame(self.frame_size - size)
            } else {
                self.stack_used += size;
                Home::Slot(self.f.slot(size, 8))
            };
            self.homes.push(home);
        }
    }

    /// Sets variables to zero that may be read before they are assigned; behind the point where scratch is taken.
    pub(crate) fn zero_variables(&mut self, body: &typed::Body) {
        let uses = uses::of(body);
        for (at, var) in self.vars.iter().enumerate() {
            if matches!(self.homes[at], Home::None) || !uses.vars[at].zeroed {
                continue;
            }
            let place = self.var_place(VarRef(at as u32));
            match &var.ty {
                ty if ty.is_scalar() => self.store(place, 0, 8, 0),
                Type::String { .. } | Type::Buffer { .. } if var.ty.size() > 64 && !place.stack => {
                    self.zero(place, 0, 8);
                }
                ty => self.zero(place, 0, ty.size()),
            }
        }
    }

    /// The context of the program: its argument, or what the frame keeps of it.
    pub(crate) fn context(&mut self) -> Value {
        match self.around {
            Loop::Outside => self.f.argument(0),
            Loop::Callback => self.load_frame(frame::CONTEXT),
        }
    }

    /// What the context points at.
    pub(crate) fn context_kind(&self) -> Context {
        match self.kind {
            Kind::Probe(probe) => probe.context,
            Kind::Function(_) => Context::None,
        }
    }

    /// Whether another program of the same kind may run on this processor before this one ends. Raw tracepoints run with
    /// preemption off up to 6.18 (`__DECLARE_TRACE`, include/linux/tracepoint.h).
    pub(crate) fn preemptible(&self) -> bool {
        let Kind::Probe(probe) = self.kind else { return true };
        match super::plan::provider(probe).as_str() {
            "kprobe" | "kretprobe" | "tracepoint" | "profile" | "interval" | "software" | "hardware" => false,
            "rawtracepoint" => self.unit.target.kernel_version() > 6 << 16 | 18 << 8 | 255,
            _ => true,
        }
    }

    pub(crate) fn load_frame(&mut self, off: u32) -> Value {
        let base = self.frame.expect("a function with loops has a frame");
        self.f.load(8, base, off as i16)
    }

    pub(crate) fn store_frame(&mut self, off: u32, value: impl Into<Operand>) {
        let base = self.frame.expect("a function with loops has a frame");
        self.f.store(8, base, off as i16, value);
    }

    /// Room in the frame that a loop keeps for itself.
    pub(crate) fn frame_room(&mut self) -> u32 {
        self.frame_size += 8;
        self.frame_size - 8
    }

    /// Address of the frame, for callbacks.
    pub(crate) fn frame_addr(&mut self) -> Value {
        match self.frame.expect("a function with loops has a frame") {
            Base::Slot(slot) => self.f.slot_addr(slot, 0),
            Base::Value(value) => value,
        }
    }

    /// Where a variable lies.
    pub(crate) fn var_place(&mut self, var: VarRef) -> Place {
        match self.homes[var.0 as usize] {
            Home::Slot(slot) => Place::slot(slot),
            Home::Frame(off) => {
                let base = self.frame.expect("a function with loops has a frame");
                Place { base, off: off as i32, stack: true }
            }
            Home::Scratch(off) => self.scratch_place(off),
            // Never read: a place all the same.
            Home::None => {
                let size = self.vars[var.0 as usize].ty.size().max(8);
                self.temporary(size)
            }
        }
    }

    fn fits_stack(&self, size: u32) -> bool {
        let (limit, stack) = (self.unit.script.config.on_stack_limit, self.unit.stack);
        let budget = match self.around {
            Loop::Outside => stack.program_bytes,
            Loop::Callback => stack.callback_bytes,
        };
        size <= limit.max(8) && self.stack_used + size <= budget
    }

    fn use_scratch(&mut self, size: u32) {
        self.scratch_used += size.next_multiple_of(8);
        self.scratch_peak = self.scratch_peak.max(self.scratch_used);
        self.unit.scratch = self.unit.scratch.max(self.scratch_peak);
    }

    fn scratch_place(&mut self, off: u32) -> Place {
        let pointer = match self.own {
            Some((slot, _)) => self.f.load(8, slot, 0),
            None => self.load_frame(frame::SCRATCH),
        };
        Place { base: Base::Value(pointer), off: 8 + off as i32, stack: false }
    }

    /// Memory for a value of `size` bytes until [`Body::release`]; what it contains is unknown, and on the stack undefined.
    pub(crate) fn temporary(&mut self, size: u32) -> Place {
        let size = size.max(1).next_multiple_of(8);
        let free = self.temporaries.iter().position(|(_, len, taken)| *len == size && !taken);
        if let Some(at) = free {
            self.temporaries[at].2 = true;
            self.live.push(at);
            return Place::slot(self.temporaries[at].0);
        }
        if size > 8 && !self.fits_stack(size) {
            return self.large(size);
        }
        let slot = self.f.slot(size, 8);
        self.stack_used += size;
        self.temporaries.push((slot, size, true));
        self.live.push(self.temporaries.len() - 1);
        Place::slot(slot)
    }

    /// Memory in scratch until [`Body::release`], whatever the size: where offsets are not constant.
    pub(crate) fn large(&mut self, size: u32) -> Place {
        let off = self.scratch_used;
        self.use_scratch(size);
        self.scratch_place(off)
    }

    /// The temporaries in use, to release those that come later.
    pub(crate) fn mark(&self) -> Mark {
        Mark { live: self.live.len(), scratch: self.scratch_used }
    }

    /// Ends the use of temporaries made since `mark`.
    pub(crate) fn release(&mut self, mark: Mark) {
        for at in self.live.drain(mark.live..) {
            self.temporaries[at].2 = false;
        }
        self.scratch_used = mark.scratch;
    }

    /// Begins a callback of `params` parameters, the `frame_param`th being the address of the frame.
    pub(crate) fn enter_callback(&mut self, stem: &str, params: u32, frame_param: usize) -> Outer {
        let name = self.unit.unique_name(stem);
        let mut f = FunctionBuilder::new(&name, FuncKind::Local, params);
        f.set_span(self.f.span());
        let frame = Base::Value(f.argument(frame_param));
        self.nested += 1;
        Outer {
            f: std::mem::replace(&mut self.f, f),
            around: std::mem::replace(&mut self.around, Loop::Callback),
            frame: self.frame.replace(frame),
            stack_used: std::mem::take(&mut self.stack_used),
            temporaries: std::mem::take(&mut self.temporaries),
            live: std::mem::take(&mut self.live),
        }
    }

    /// Ends a callback and goes on with the function around it.
    pub(crate) fn leave_callback(&mut self, outer: Outer) -> ir::FuncRef {
        let span = self.f.span();
        let callback = std::mem::replace(&mut self.f, outer.f);
        self.f.set_span(span);
        (self.around, self.frame) = (outer.around, outer.frame);
        self.nested -= 1;
        (self.stack_used, self.temporaries, self.live) = (outer.stack_used, outer.temporaries, outer.live);
        self.unit.add_function(callback.finish())
    }

    /// Lowers something that may need scratch, and takes scratch before it if it did and none was taken before.
    pub(crate) fn with_scratch(&mut self, lower: impl FnOnce(&mut Self)) {
        let peak = self.scratch_peak;
        if peak > 0 {
            return lower(self);
        }
        let before = self.f.current();
        let start = self.f.block(0);
        self.f.switch_to(start);
        lower(self);
        let after = self.f.current();
        self.f.switch_to(before);
        if self.scratch_peak > 0 {
            self.take_scratch(start)
        } else {
            self.f.jump(start, &[])
        }
        self.f.switch_to(after);
    }

    /// Takes scratch and goes on at `then`, or to the exit when there is none free.
    pub(crate) fn take_scratch(&mut self, then: Block) {
        let take = self.unit.shared(Shared::TakeScratch);
        let pointer = self.f.call_func(take, &[]);
        let (taken, none) = (self.f.block(0), self.f.block(0));
        self.f.branch_if(pointer, taken, none);
        self.f.switch_to(none);
        self.count_loss();
        self.f.jump(self.exit, &[]);
        self.f.switch_to(taken);
        match self.own {
            Some((slot, _)) => self.f.store(8, slot, 0, pointer),
            None => self.store_frame(frame::SCRATCH, pointer),
        }
        self.f.jump(then, &[]);
    }

    /// Whether scratch is used up to here.
    pub(crate) fn uses_scratch(&self) -> bool {
        self.scratch_peak > 0
    }

    /// Returns from the program, in whatever function we are.
    pub(crate) fn return_(&mut self, result: Option<Value>) {
        match (self.own, result) {
            (Some((_, slot)), Some(value)) => self.f.store(8, slot, 0, value),
            (None, Some(value)) => self.store_frame(frame::RESULT, value),
            (_, None) => {}
        }
        match self.around {
            Loop::Outside => self.f.jump(self.exit, &[]),
            Loop::Callback => {
                self.store_frame(frame::RETURNED, 1);
                self.f.ret(1);
            }
        }
    }

    /// Ends the function: gives scratch back and returns. `fixed` is the result of programs whose own result means nothing.
    pub(crate) fn finish(mut self, fixed: Option<i32>) -> Function {
        if !self.f.is_ended() {
            self.f.jump(self.exit, &[]);
        }
        self.f.switch_to(self.exit);
        if self.scratch_peak > 0 {
            let pointer = match self.own {
                Some((slot, _)) => self.f.load(8, slot, 0),
                None => self.load_frame(frame::SCRATCH),
            };
            let (give, done) = (self.f.block(0), self.f.block(0));
            self.f.branch_if(pointer, give, done);
            self.f.switch_to(give);
            let minus = self.f.constant(-1);
            self.f.atomic_add(8, pointer, 0, minus);
            self.f.jump(done, &[]);
            self.f.switch_to(done);
        }
        match fixed {
            Some(number) => self.f.ret(number),
            None => {
                let result = match self.own {
                    Some((_, slot)) => self.f.load(8, slot, 0),
                    None => self.load_frame(frame::RESULT),
                };
                self.f.ret(result);
            }
        }
        let mut function = self.f.finish();
        if let Some(slot) = self.frame_slot {
            function.slots[slot.0 as usize].size = self.frame_size;
        }
        function
    }

    /// `size` bytes, zero-extended.
    pub(crate) fn load(&mut self, place: Place, off: u32, size: u32) -> Value {
        let (base, off) = self.reach(place.at(off));
        self.f.load(size as u8, base, off)
    }

    /// A scalar of a type, extended as the type says.
    pub(crate) fn load_scalar(&mut self, place: Place, ty: &Type) -> Value {
        let size = ty.size();
        let raw = if place.piece(0, size) >= size { self.load(place, 0, size) } else { self.load_pieces(place, size) };
        self.extend(raw, ty)
    }

    fn load_pieces(&mut self, place: Place, size: u32) -> Value {
        let piece = place.piece(0, size);
        let mut all = None;
        for at in (0..size).step_by(piece as usize) {
            let part = self.load(place, at, piece);
            let shift = if cfg!(target_endian = "little") { at } else { size - piece - at };
            let part = if shift == 0 { part } else { self.f.alu(AluOp::Lsh, Width::W64, part, shift as i32 * 8) };
            all = Some(match all {
                None => part,
                Some(all) => self.f.alu(AluOp::Or, Width::W64, all, part),
            });
        }
        all.expect("a scalar has bytes")
    }

    /// The lower bytes of `value`, extended as `ty` says.
    pub(crate) fn extend(&mut self, value: Value, ty: &Type) -> Value {
        match (ty.size(), ty.is_signed()) {
            (8.., _) | (0, _) => value,
            (size, true) => self.f.sign_extend(size as u8 * 8, value),
            (size, false) => self.f.zero_extend(size as u8 * 8, value),
        }
    }

    /// Writes the lower `size` bytes of `value`.
    pub(crate) fn store(&mut self, place: Place, off: u32, size: u32, value: impl Into<Operand>) {
        let value = value.into();
        let piece = place.piece(off, size);
        if piece >= size {
            let (base, off) = self.reach(place.at(off));
            self.f.store(size as u8, base, off, value);
            return;
        }
        let value = match value {
            Operand::Value(value) => value,
            Operand::Imm(number) => self.f.constant(i64::from(number)),
        };
        for at in (0..size).step_by(piece as usize) {
            let shift = if cfg!(target_endian = "little") { at } else { size - piece - at };
            let part = if shift == 0 { value } else { self.f.alu(AluOp::Rsh, Width::W64, value, shift as i32 * 8) };
            let (base, off) = self.reach(place.at(off + at));
            self.f.store(piece as u8, base, off, part);
        }
    }

    /// Base and offset as instructions take them.
    fn reach(&mut self, place: Place) -> (Base, i16) {
        if let Ok(off) = i16::try_from(place.off) {
            return (place.base, off);
        }
        (Base::Value(self.addr(place)), 0)
    }

    /// The address of a place.
    pub(crate) fn addr(&mut self, place: Place) -> Value {
        match place.base {
            Base::Slot(slot) => self.f.slot_addr(slot, place.off),
            Base::Value(value) if place.off == 0 => value,
            Base::Value(value) => self.f.add(value, place.off),
        }
    }

    /// A number of any size as a value.
    pub(crate) fn number(&mut self, number: i64) -> Value {
        self.f.constant(number)
    }

    /// Counts an event of this probe that came to nothing.
    pub(crate) fn count_loss(&mut self) {
        let lost = self.unit.shared(Shared::Lost);
        let probe = self.f.constant(i64::from(self.probe));
        self.f.call_func(lost, &[probe]);
    }

    /// Reports `result` as an error of `helper` when it is negative. `quiet` errors are ordinary.
    pub(crate) fn check(&mut self, result: Value, helper: u32, map: Option<u32>, quiet: bool) {
        let (failed, done) = (self.f.block(0), self.f.block(0));
        // Kernels before 6.4 call a map's own function in the helper's place, whose result is an `int`: the upper half of
        // the register tells nothing.
        let width = if map.is_some() { Width::W32 } else { Width::W64 };
        self.f.branch(Cond::SLt, width, result, 0, (failed, &[]), (done, &[]));
        self.f.switch_to(failed);
        let result = if map.is_some() { self.f.sign_extend(32, result) } else { result };
        self.report(result, helper, map, quiet);
        self.f.jump(done, &[]);
        self.f.switch_to(done);
    }

    /// Reports `result` as an error of `helper`.
    pub(crate) fn report(&mut self, result: Value, helper: u32, map: Option<u32>, quiet: bool) {
        let name = helpers::name(helper).unwrap_or("bpf_helper").trim_start_matches("bpf_");
        let site = self.unit.site(name, self.f.span(), map, self.probe, quiet);
        let report = self.unit.shared(Shared::Report);
        let site = self.f.constant(i64::from(site));
        self.f.call_func(report, &[site, result]);
    }
}
