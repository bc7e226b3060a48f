//! Texts: reading them from memory, comparing, searching, joining.

use skep_insn::{AluOp, Cond, Width, helpers};

use super::place::{Body, Place};
use super::shared::{Shared, pair};
use crate::ir::{Block, Value};
use crate::typed::{Call, Expr, ExprKind};
use crate::types::Space;

impl<'a> Body<'_, 'a> {
    /// Reads a text that ends at its NUL into `size` bytes at `to`, at most `limit` bytes of it with the NUL that is always
    /// there. Gives its length with the NUL, from 1 to `size`; a text that cannot be read is empty, and counted.
    pub(crate) fn read_string(
        &mut self,
        address: Value,
        space: Space,
        to: Place,
        size: u32,
        limit: Option<u32>,
        clean: bool,
    ) -> Value {
        let limit = self.number(i64::from(limit.unwrap_or(size).min(size)));
        self.read_string_of(address, space, to, size, limit, clean)
    }

    /// As [`Body::read_string`], with a limit that is known to be at most `size`.
    fn read_string_of(
        &mut self,
        address: Value,
        space: Space,
        to: Place,
        size: u32,
        limit: Value,
        clean: bool,
    ) -> Value {
        if clean {
            self.zero(to, 0, size);
        }
        let helper = self.read_str_helper(space);
        let dst = self.addr(to);
        let len = self.f.call(helper, &[dst, limit, address]);
        let (failed, done) = (self.f.block(0), self.f.block(1));
        self.f.branch(Cond::SLt, Width::W64, len, 1, (failed, &[]), (done, &[len]));
        self.f.switch_to(failed);
        self.report(len, helper, None, true);
        let one = self.number(1);
        self.f.jump(done, &[one]);
        self.f.switch_to(done);
        self.f.param(done, 0)
    }

    /// `str(p)`, `str(p, n)` into `size` bytes; gives the length with the NUL.
    pub(crate) fn str_into(&mut self, args: &'a [Expr], size: u32, to: Place, clean: bool) -> Value {
        let source = &args[0];
        if !source.ty.is_scalar() {
            let from = self.place_of(source);
            return self.copy_string(from, source.ty.size(), to, size, clean);
        }
        let limit = match args.get(1) {
            None => self.number(i64::from(size)),
            // One more for the NUL.
            Some(n) => self.bounded(n, 1, size),
        };
        let address = self.scalar(source);
        self.read_string_of(address, super::memory::space_of(source), to, size, limit, clean)
    }

    /// `n + more` as an unsigned number, at most `most`.
    pub(crate) fn bounded(&mut self, n: &'a Expr, more: i32, most: u32) -> Value {
        if let ExprKind::Const(n) = n.kind {
            let n = u64::try_from(n).unwrap_or(u64::MAX).saturating_add(more as u64).min(u64::from(most));
            return self.number(n as i64);
        }
        let n = self.scalar(n);
        let n = if more == 0 { n } else { self.f.add(n, more) };
        self.at_most(n, most)
    }

    /// The lower of `n`, unsigned, and `most`.
    pub(crate) fn at_most(&mut self, n: Value, most: u32) -> Value {
        let done = self.f.block(1);
        let limit = self.number(i64::from(most));
        self.f.branch(Cond::Gt, Width::W64, n, most as i32, (done, &[limit]), (done, &[n]));
        self.f.switch_to(done);
        self.f.param(done, 0)
    }

    /// A text in memory: where, and its capacity.
    fn text(&mut self, e: &'a Expr) -> (Place, u32) {
        (self.place_of(e), e.ty.size())
    }

    /// `a == b` of texts, of at most `limit` bytes.
    pub(crate) fn string_eq(&mut self, a: &'a Expr, b: &'a Expr, limit: Option<u32>, equal: Block, different: Block) {
        let (text, literal) = match (&a.kind, &b.kind) {
            (_, ExprKind::Bytes(bytes)) => (a, bytes),
            (ExprKind::Bytes(bytes), _) => (b, bytes),
            _ => {
                let ((a, a_size), (b, b_size)) = (self.text(a), self.text(b));
                return self.equal_strings(a, a_size, b, b_size, limit, equal, different);
            }
        };
        let ends = literal.iter().position(|byte| *byte == 0).unwrap_or(literal.len());
        let mut wanted = literal[..ends].to_vec();
        wanted.push(0);
        if let Some(limit) = limit {
            wanted.truncate(limit as usize);
        }
        if wanted.len() as u32 > text.ty.size() {
            // It has no room for so much.
            return self.f.jump(different, &[]);
        }
        let (place, _) = self.text(text);
        self.compare_bytes(place, &wanted, equal, different);
    }

    /// Goes to `equal` when two texts are the same up to a NUL or so many bytes.
    #[expect(clippy::too_many_arguments, reason = "two texts with their capacities, a limit and two ways on")]
    pub(crate) fn equal_strings(
        &mut self,
        a: Place,
        a_size: u32,
        b: Place,
        b_size: u32,
        limit: Option<u32>,
        equal: Block,
        different: Block,
    ) {
        let len = a_size.min(b_size).min(limit.unwrap_or(u32::MAX));
        let function = self.unit.shared(Shared::StringDiffers(len));
        let differs = self.loop_over(function, len, a, b, pair::COMPARE_SIZE);
        self.f.branch_if(differs, different, equal);
    }

    /// Calls a callback of two pointers at most `times` times; gives what it left as its result, 0 at first. `size` is how
    /// much the callback keeps.
    fn loop_over(&mut self, function: crate::ir::FuncRef, times: u32, a: Place, b: Place, size: u32) -> Value {
        let mark = self.mark();
        let context = self.f.slot(size, 8);
        let (a, b) = (self.addr(a), self.addr(b));
        self.f.store(8, context, pair::TEXT, a);
        self.f.store(8, context, pair::PART, b);
        for word in (pair::RESULT..size as i16).step_by(8) {
            self.f.store(8, context, word, 0);
        }
        let (times, callback) = (self.number(i64::from(times)), self.f.func_addr(function));
        let (address, flags) = (self.f.slot_addr(context, 0), self.number(0));
        self.f.call(helpers::LOOP, &[times, callback, address, flags]);
        self.release(mark);
        self.f.load(8, context, pair::RESULT)
    }

    /// `strlen(s)`
    pub(crate) fn strlen(&mut self, text: &'a Expr) -> Value {
        let mark = self.mark();
        let size = text.ty.size();
        let to = self.temporary(size);
        let len = match &text.kind {
            ExprKind::Call(Call::Str, args) => self.str_into(args, size, to, false),
            _ => {
                let (from, size) = self.text(text);
                self.copy_string(from, size, to, size, false)
            }
        };
        self.release(mark);
        self.f.add(len, -1)
    }

    /// `strstr(a, b)`: where `b` begins in `a`, or -1.
    pub(crate) fn strstr(&mut self, a: &'a Expr, b: &'a Expr) -> Value {
        let ((a, a_size), (b, b_size)) = (self.text(a), self.text(b));
        let function = self.unit.shared(Shared::Find(a_size, b_size));
        // One more than the index.
        let found = self.loop_over(function, a_size, a, b, pair::SIZE);
        self.f.add(found, -1)
    }

    /// `str_concat(a, b)` into `size` bytes.
    pub(crate) fn concat_into(&mut self, a: &'a Expr, b: &'a Expr, size: u32, to: Place, clean: bool) {
        // Where the second begins is not constant, which a helper must not write to a stack that is undefined.
        // For the verifier the first is as long as it may be: the second needs its whole room behind that, and is cut afterwards.
        let ((a, a_size), (b, b_size)) = (self.text(a), self.text(b));
        let first = a_size.min(size);
        let both = first - 1 + b_size;
        let work = if to.stack || both > size { self.large(both.max(size)) } else { to };
        if clean {
            self.zero(work, 0, size);
        }
        let len = self.copy_string(a, first, work, first, false);
        let start = self.addr(work);
        let end = self.f.add(start, len);
        let end = self.f.add(end, -1);
        self.copy_string(b, b_size, Place::behind(end), b_size, false);
        if both > size {
            self.store(work, size - 1, 1, 0);
        }
        if to.stack || both > size {
            self.copy(work, to, size);
        }
    }

    /// `memcmp(a, b, n)`: 0 when the same, else the difference of the first bytes that differ. Pointers mean what they point
    /// at.
    pub(crate) fn memcmp(&mut self, a: &'a Expr, b: &'a Expr, n: u32) -> Value {
        let (a, b) = (self.bytes_of(a, n), self.bytes_of(b, n));
        let function = self.unit.shared(Shared::BytesDiffer(n));
        self.loop_over(function, n, a, b, pair::COMPARE_SIZE)
    }

    fn bytes_of(&mut self, e: &'a Expr, n: u32) -> Place {
        if !e.ty.is_scalar() {
            return self.place_of(e);
        }
        let to = self.temporary(n);
        let (address, space) = self.pointer(e);
        self.read(address, space, to, n);
        to
    }

    /// Where the text or the bytes are that a tracepoint points at with a u32: offset in the lower half, length in the upper.
    pub(crate) fn data_loc(&mut self, off: u32, rel: bool) -> Value {
        let context = self.context();
        let word = self.f.load(4, context, off as i16);
        let distance = self.f.alu(AluOp::And, Width::W64, word, 0xffff);
        let distance = if rel { self.f.add(distance, off as i32 + 4) } else { distance };
        let record = self.opaque(context);
        self.f.add(record, distance)
    }

    /// At most `size` bytes into a buffer: its length and then the bytes.
    pub(crate) fn read_buffer(&mut self, address: Value, space: Space, len: Value, size: u32, to: Place, clean: bool) {
        let len = self.at_most(len, size);
        if clean || to.stack {
            self.zero(to, 0, 4 + size);
        }
        self.store(to, 0, 4, len);
        let helper = self.read_helper(space);
        let dst = self.addr(to.at(4));
        let result = self.f.call(helper, &[dst, len, address]);
        self.check(result, helper, None, true);
    }
}
