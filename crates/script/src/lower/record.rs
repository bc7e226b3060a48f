//! Records: what a program tells user space, through the ring buffer `events`.
//!
//! A record of fixed size is reserved, filled in place and submitted. One that ends with a long text is put together in
//! scratch and copied with the text's true length, so that room in the ring is taken for what is there, not for what might
//! be; hence the longest text of a record is its last value.

use skep_insn::{AluOp, Cond, Width, helpers};

use super::memory::space_of;
use super::place::{Body, Place};
use super::uses::has_effect;
use crate::Span;
use crate::ir::Value;
use crate::plan;
use crate::typed::{Action, Call, Expr, ExprKind};
use crate::types::{Space, Type};

/// Bytes in front of the values.
const HEADER: u32 = 8;
/// A text of more than this is sent with its true length.
const WORTH_CUTTING: u32 = 64;
/// Most strings that `join` sends.
const MOST_JOINED: u32 = 16;

impl<'a> Body<'_, 'a> {
    pub(crate) fn action(&mut self, action: &'a Action, span: Span) {
        match action {
            Action::Format { kind, format, args } => {
                let (kind, format) = (*kind, format.clone());
                self.send(args.iter(), |args| plan::Action::Format { kind, format, args, span });
            }
            Action::PrintValue(value) => {
                self.send([value].into_iter(), |mut values| plan::Action::PrintValue(values.remove(0)));
            }
            Action::PrintMap { map, top, div, cleared } => {
                self.signal(plan::Action::PrintMap { map: map.0, top: *top, div: *div, cleared: *cleared });
            }
            Action::PrintMapElement { map, key } => {
                let map = map.0;
                self.send([key].into_iter(), |mut values| plan::Action::PrintMapElement { map, key: values.remove(0) });
            }
            Action::Clear(map) => self.signal(plan::Action::Clear(map.0)),
            Action::Zero(map) => self.signal(plan::Action::Zero(map.0)),
            Action::Join { argv, separator } => self.join(argv, separator),
            Action::Time(format) => self.signal(plan::Action::Time(*format)),
            Action::Exit(code) => {
                self.send([code].into_iter(), |mut values| plan::Action::Exit(values.remove(0)));
                self.return_(None);
            }
            Action::Unwatch(address) => {
                self.send([address].into_iter(), |mut values| plan::Action::Unwatch(values.remove(0)));
            }
            Action::RuntimeError { message, ends } => {
                self.signal(plan::Action::RuntimeError { message: message.clone(), span, ends: *ends });
            }
        }
    }

    /// Sends a message of the script's own checks.
    pub(crate) fn runtime_error(&mut self, message: &str) {
        let span = self.f.span();
        self.signal(plan::Action::RuntimeError { message: message.to_owned(), span, ends: false });
    }

    /// Sends a record without values.
    fn signal(&mut self, action: plan::Action) {
        let action = self.unit.action(action);
        self.reserve(action, HEADER, |_, _| ());
    }

    /// Sends values; `action` says what they are for.
    fn send(&mut self, values: impl Iterator<Item = &'a Expr>, action: impl FnOnce(Vec<plan::Value>) -> plan::Action) {
        let values: Vec<&'a Expr> = values.collect();
        // The longest text comes last.
        let length = |e: &Expr| match e.ty {
            Type::String { size } | Type::Buffer { size }
                if size > WORTH_CUTTING && !matches!(e.kind, ExprKind::Bytes(_)) =>
            {
                size
            }
            _ => 0,
        };
        let longest = (0..values.len()).filter(|at| length(values[*at]) > 0).max_by_key(|at| length(values[*at]));
        let order = (0..values.len()).filter(|at| Some(*at) != longest).chain(longest);
        let (mut end, mut offsets) = (HEADER, vec![0; values.len()]);
        for at in order {
            let ty = &values[at].ty;
            offsets[at] = end.next_multiple_of(ty.align().max(1));
            end = offsets[at] + ty.size();
        }
        let described =
            values.iter().zip(&offsets).map(|(e, off)| plan::Value { off: *off, ty: e.ty.clone() }).collect();
        let action = self.unit.action(action(described));

        // What changes something happens even when the record is lost.
        let mark = self.mark();
        let made: Vec<Option<Place>> = values
            .iter()
            .map(|e| {
                has_effect(e).then(|| {
                    let to = self.temporary(e.ty.size());
                    self.into(e, to, true);
                    to
                })
            })
            .collect();
        let fill = |this: &mut Self, at: usize, record: Place| {
            let (e, to) = (values[at], record.at(offsets[at]));
            match made[at] {
                Some(from) => this.copy(from, to, e.ty.size()),
                None => this.into(e, to, needs_clean(&e.ty)),
            }
        };
        match longest {
            None => self.reserve(action, end, |this, record| (0..values.len()).for_each(|at| fill(this, at, record))),
            Some(last) => {
                let record = self.large(end);
                self.store(record, 0, 8, 0);
                self.store(record, 0, 4, action as i32);
                (0..values.len()).filter(|at| *at != last).for_each(|at| fill(self, at, record));
                let to = record.at(offsets[last]);
                let len = match made[last] {
                    Some(from) => self.copy_sized(from, &values[last].ty, to),
                    None => self.sized_into(values[last], to),
                };
                let len = self.f.add(len, offsets[last] as i32);
                self.output(record, len);
            }
        }
        self.release(mark);
    }

    /// Makes a text or buffer at `to` and gives the number of its bytes that matter.
    fn sized_into(&mut self, e: &'a Expr, to: Place) -> Value {
        if let (Type::String { size }, ExprKind::Call(Call::Str, args)) = (&e.ty, &e.kind) {
            return self.str_into(args, *size, to, false);
        }
        if let Type::String { .. } = e.ty {
            let from = self.place_of(e);
            return self.copy_sized(from, &e.ty, to);
        }
        self.into(e, to, false);
        self.buffer_bytes(&e.ty, to)
    }

    fn copy_sized(&mut self, from: Place, ty: &Type, to: Place) -> Value {
        match ty {
            Type::String { size } => self.copy_string(from, *size, to, *size, false),
            _ => {
                self.copy(from, to, ty.size());
                self.buffer_bytes(ty, to)
            }
        }
    }

    fn buffer_bytes(&mut self, ty: &Type, at: Place) -> Value {
        let len = self.load(at, 0, 4);
        let len = self.at_most(len, ty.size() - 4);
        self.f.add(len, 4)
    }

    /// Reserves a record, lets `fill` write its values, and submits it; counts a loss when there is no room.
    fn reserve(&mut self, action: u32, size: u32, fill: impl FnOnce(&mut Self, Place)) {
        let events = self.unit.events();
        self.unit.sends = true;
        let (map, size, flags) = (self.f.map(events), self.number(i64::from(size.next_multiple_of(8))), self.number(0));
        let record = self.f.call(helpers::RINGBUF_RESERVE, &[map, size, flags]);
        let (there, lost, done) = (self.f.block(0), self.f.block(0), self.f.block(0));
        self.f.branch_if(record, there, lost);
        self.f.switch_to(lost);
        self.count_loss();
        self.f.jump(done, &[]);
        self.f.switch_to(there);
        let place = Place::behind(record);
        let header = if cfg!(target_endian = "little") { i64::from(action) } else { i64::from(action) << 32 };
        let header = self.f.operand(header);
        self.store(place, 0, 8, header);
        fill(self, place);
        let flags = self.number(0);
        self.f.effect(crate::ir::Op::Call { helper: helpers::RINGBUF_SUBMIT, args: vec![record, flags] });
        self.f.jump(done, &[]);
        self.f.switch_to(done);
    }

    /// Copies a record of `len` bytes into the ring buffer.
    fn output(&mut self, record: Place, len: Value) -> Value {
        let events = self.unit.events();
        self.unit.sends = true;
        let (map, data, flags) = (self.f.map(events), self.addr(record), self.number(0));
        let result = self.f.call(helpers::RINGBUF_OUTPUT, &[map, data, len, flags]);
        let (lost, done) = (self.f.block(0), self.f.block(0));
        self.f.branch(Cond::SLt, Width::W64, result, 0, (lost, &[]), (done, &[]));
        self.f.switch_to(lost);
        self.count_loss();
        self.f.jump(done, &[]);
        self.f.switch_to(done);
        result
    }

    /// `join(argv)`: the strings one behind the other.
    fn join(&mut self, argv: &'a Expr, separator: &[u8]) {
        let action = self.unit.action(plan::Action::Join { separator: separator.to_vec() });
        let most = self.unit.script.config.max_strlen.clamp(1, 1024);
        let record = self.large(16 + MOST_JOINED * most);
        self.store(record, 0, 8, 0);
        self.store(record, 0, 4, action as i32);
        let space = space_of(argv);
        let inner = match &argv.ty {
            Type::Pointer { to, .. } => match **to {
                Type::Pointer { space, .. } if space != Space::None => space,
                _ => space,
            },
            _ => space,
        };
        let argv = self.scalar(argv);
        let word = self.temporary(8);
        let done = self.f.block(2);
        let (mut count, mut end) = (self.number(0), self.number(16));
        let start = self.addr(record);
        for index in 0..MOST_JOINED {
            let address = if index == 0 { argv } else { self.f.add(argv, index as i32 * 8) };
            self.read(address, space, word, 8);
            let text = self.load(word, 0, 8);
            let next = self.f.block(0);
            self.f.branch(Cond::Ne, Width::W64, text, 0, (next, &[]), (done, &[count, end]));
            self.f.switch_to(next);
            // Each text begins at most here, whatever the verifier has forgotten.
            let at = self.at_most(end, 16 + index * most);
            let to = self.f.add(start, at);
            let len = self.read_string(text, inner, Place::behind(to), most, None, false);
            count = self.f.add(count, 1);
            end = self.f.add(at, len);
        }
        self.f.jump(done, &[count, end]);
        self.f.switch_to(done);
        let (count, end) = (self.f.param(done, 0), self.f.param(done, 1));
        self.store(record, 8, 8, count);
        let len = self.at_most(end, 16 + MOST_JOINED * most);
        self.output(record, len);
    }

    /// `skboutput(path, skb, len, 0)`: what the packet's first buffer holds, and how long the whole is. The value is 0, or why the record
    /// was lost.
    pub(crate) fn skb_output(&mut self, path: &str, skb: &'a Expr, len: &'a Expr) -> Value {
        /// Bytes of a packet that are kept.
        const MOST: u32 = 2048;
        let member = |name: &str| self.unit.member_offset("sk_buff", name);
        let (Some(data), Some(whole), Some(elsewhere)) = (member("data"), member("len"), member("data_len")) else {
            self.runtime_error("this kernel's types do not tell where a packet's bytes are");
            // ENOTSUP
            return self.number(-95);
        };
        let action = self.unit.action(plan::Action::SkbOutput { path: path.to_owned() });
        let record = self.large(24 + MOST);
        self.store(record, 0, 8, 0);
        self.store(record, 0, 4, action as i32);
        let now = self.f.call(helpers::KTIME_GET_BOOT_NS, &[]);
        self.store(record, 8, 8, now);
        let (skb, _) = self.pointer(skb);
        let field = self.f.add(skb, data as i32);
        let bytes = self.read_scalar(field, Space::Kernel, &Type::U64, None);
        let field = self.f.add(skb, whole as i32);
        let whole = self.read_scalar(field, Space::Kernel, &Type::U32, None);
        self.store(record, 16, 4, whole);
        let field = self.f.add(skb, elsewhere as i32);
        let elsewhere = self.read_scalar(field, Space::Kernel, &Type::U32, None);
        let here = self.f.alu(AluOp::Sub, Width::W64, whole, elsewhere);
        let len = self.bounded(len, 0, MOST);
        // Behind what is here is other memory.
        let shorter = self.f.block(1);
        self.f.branch(Cond::Gt, Width::W64, len, here, (shorter, &[here]), (shorter, &[len]));
        self.f.switch_to(shorter);
        let len = self.f.param(shorter, 0);
        let len = self.at_most(len, MOST);
        let to = self.addr(record.at(24));
        let result = self.f.call(helpers::PROBE_READ_KERNEL, &[to, len, bytes]);
        self.check(result, helpers::PROBE_READ_KERNEL, None, true);
        self.store(record, 20, 4, len);
        let len = self.f.add(len, 24);
        self.output(record, len)
    }
}

/// Texts inside tuples and records are compared and printed by user space up to their NUL; only keys have to be clean.
fn needs_clean(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(_) | Type::Record(_))
}
