//! Values in memory: copying, zeroing, comparing, and making an expression's value where it is wanted.

use skep_insn::{AluOp, Cond, Width, helpers};

use super::place::{Body, Kind, Place};
use crate::ir::{Block, Value};
use crate::typed::{Bits, Builtin, Call, Context, Expr, ExprKind};
use crate::types::{Space, Type};

/// Copies and zeroes of more bytes than this are done by a helper.
const INLINE: u32 = 128;

impl<'a> Body<'_, 'a> {
    /// Copies `len` bytes.
    pub(crate) fn copy(&mut self, from: Place, to: Place, len: u32) {
        if len > INLINE {
            let (dst, size, src) = (self.addr(to), self.number(i64::from(len)), self.addr(from));
            self.f.call(helpers::PROBE_READ_KERNEL, &[dst, size, src]);
            return;
        }
        let mut off = 0;
        while off < len {
            let piece = from.piece(off, len - off).min(to.piece(off, len - off));
            let value = self.load(from, off, piece);
            self.store(to, off, piece, value);
            off += piece;
        }
    }

    /// Writes `len` zero bytes from `off` on.
    pub(crate) fn zero(&mut self, place: Place, off: u32, len: u32) {
        if len > INLINE {
            // A read that fails fills its destination with zeroes, and reading address 0 fails before anything is touched
            // (bpf_probe_read_kernel_common, kernel/trace/bpf_trace.c): the cheapest way to clear much.
            let (dst, size, null) = (self.addr(place.at(off)), self.number(i64::from(len)), self.number(0));
            self.f.call(helpers::PROBE_READ_KERNEL, &[dst, size, null]);
            return;
        }
        let end = off + len;
        let mut off = off;
        while off < end {
            let piece = place.piece(off, end - off);
            self.store(place, off, piece, 0);
            off += piece;
        }
    }

    /// Writes constant bytes.
    pub(crate) fn write_bytes(&mut self, place: Place, bytes: &[u8]) {
        if bytes.len() as u32 > INLINE {
            let (map, off) = self.unit.constant_bytes(bytes);
            let from = Place::behind(self.f.map_value(map, off));
            return self.copy(from, place, bytes.len() as u32);
        }
        let mut off = 0;
        while off < bytes.len() {
            let piece = place.piece(off as u32, (bytes.len() - off) as u32);
            let number = number_of(&bytes[off..off + piece as usize]);
            let value = self.f.operand(number);
            self.store(place, off as u32, piece, value);
            off += piece as usize;
        }
    }

    /// Goes to `equal` when `len` bytes are the same, else to `different`.
    pub(crate) fn compare_memory(&mut self, a: Place, b: Place, len: u32, equal: Block, different: Block) {
        let mut off = 0;
        while off < len {
            let piece = a.piece(off, len - off).min(b.piece(off, len - off));
            let (x, y) = (self.load(a, off, piece), self.load(b, off, piece));
            let next = self.f.block(0);
            self.f.branch(Cond::Eq, Width::W64, x, y, (next, &[]), (different, &[]));
            self.f.switch_to(next);
            off += piece;
        }
        self.f.jump(equal, &[]);
    }

    /// Goes to `equal` when memory begins with these bytes, else to `different`.
    pub(crate) fn compare_bytes(&mut self, a: Place, bytes: &[u8], equal: Block, different: Block) {
        let mut off = 0;
        while off < bytes.len() {
            let piece = a.piece(off as u32, (bytes.len() - off) as u32);
            let number = number_of(&bytes[off..off + piece as usize]);
            let x = self.load(a, off as u32, piece);
            let next = self.f.block(0);
            // Loads are zero-extended, immediates sign-extended: a number that fits must not be negative.
            let y = self.f.operand(if piece == 8 { number } else { number & ((1 << (piece * 8)) - 1) });
            self.f.branch(Cond::Eq, Width::W64, x, y, (next, &[]), (different, &[]));
            self.f.switch_to(next);
            off += piece as usize;
        }
        self.f.jump(equal, &[]);
    }

    /// Makes the value of `e` at `to`. With `clean`, what the value does not say is zero: padding, and what is behind a text.
    pub(crate) fn into(&mut self, e: &'a Expr, to: Place, clean: bool) {
        let span = self.f.span();
        self.f.set_span(e.span);
        self.make_at(e, to, clean);
        self.f.set_span(span);
    }

    fn make_at(&mut self, e: &'a Expr, to: Place, asked: bool) {
        if e.ty.is_scalar() {
            let value = self.operand(e);
            return self.store(to, 0, e.ty.size(), value);
        }
        // On the stack everything is written: a comparison may look behind the end of a text for all the verifier knows, and
        // there it would find nothing (refused before 6.3), or half of a pointer that was kept there before.
        let clean = asked || to.stack;
        match &e.kind {
            ExprKind::Bytes(bytes) => self.constant_into(bytes, &e.ty, to, clean),
            ExprKind::Const(_) => self.zero(to, 0, e.ty.size()),
            ExprKind::Tuple(elems) => self.tuple_into(elems, &e.ty, to, asked),
            ExprKind::MapGet { map, key } if self.value_type(*map).is_aggregation() => {
                // An aggregation that is more than a number: its value on this CPU is all that a program can copy.
                self.get_into(*map, key.as_deref(), &e.ty, to);
            }
            ExprKind::MapGet { map, key } => self.get_into(*map, key.as_deref(), &e.ty, to),
            ExprKind::Block(stmts, value) => {
                self.statements(stmts);
                self.into(value, to, asked);
            }
            ExprKind::Ternary(cond, yes, no) => {
                let (then, otherwise, done) = (self.f.block(0), self.f.block(0), self.f.block(0));
                self.branch(cond, then, otherwise);
                for (block, value) in [(then, yes), (otherwise, no)] {
                    self.f.switch_to(block);
                    self.into(value, to, asked);
                    self.f.jump(done, &[]);
                }
                self.f.switch_to(done);
            }
            ExprKind::Deref { pointer, off, .. } => {
                let address = self.address(pointer, *off);
                self.read(address, space_of(pointer), to, e.ty.size());
            }
            ExprKind::ContextField { off, .. } => self.copy_context(*off, to, e.ty.size()),
            ExprKind::Cast(inner) => self.cast_into(inner, &e.ty, to, clean),
            ExprKind::Builtin(builtin) => self.builtin_into(builtin, &e.ty, to),
            ExprKind::Call(call, args) => {
                self.call_into(call, args, e, to, clean);
            }
            _ => {
                // What is copied whole is as whole as its source.
                let from = self.place_of(e);
                if asked && let Type::String { size } = e.ty {
                    self.copy_string(from, size, to, size, true);
                } else {
                    self.copy(from, to, e.ty.size());
                }
            }
        }
    }

    fn constant_into(&mut self, bytes: &[u8], ty: &Type, to: Place, clean: bool) {
        let size = ty.size();
        match ty {
            Type::Buffer { .. } => {
                self.store(to, 0, 4, bytes.len() as i32);
                self.write_bytes(to.at(4), bytes);
                self.zero(to, 4 + bytes.len() as u32, size - 4 - (bytes.len() as u32).min(size - 4));
            }
            _ => {
                let len = (bytes.len() as u32).min(size);
                // The NUL and some zeroes, so that whole words are written.
                let padded = if clean && size <= INLINE { size } else { (len + 8) / 8 * 8 }.min(size).max(len);
                let mut text = bytes[..len as usize].to_vec();
                text.resize(padded as usize, 0);
                self.write_bytes(to, &text);
                if clean {
                    self.zero(to, padded, size - padded);
                }
            }
        }
    }

    fn tuple_into(&mut self, elems: &'a [Expr], ty: &Type, to: Place, clean: bool) {
        let fields = ty.fields();
        let mut end = 0;
        for ((off, field), elem) in fields.iter().zip(elems) {
            self.zero(to, end, off - end);
            self.into(elem, to.at(*off), clean);
            end = off + field.size();
        }
        self.zero(to, end, ty.size() - end);
    }

    /// Memory that already has the value of `e`, or a temporary with it.
    pub(crate) fn place_of(&mut self, e: &'a Expr) -> Place {
        match &e.kind {
            ExprKind::Var(var) if !e.ty.is_scalar() => self.var_place(*var),
            ExprKind::Field { base, off, bits: None } if !matches!(base.kind, ExprKind::Deref { .. }) => {
                self.place_of(base).at(*off)
            }
            ExprKind::Field { base, off, bits: None } => {
                let to = self.temporary(e.ty.size());
                self.field_of_deref(base, *off, &e.ty, to);
                to
            }
            ExprKind::Index { base, index } => {
                let to = self.temporary(e.ty.size());
                self.element_into(base, index, &e.ty, to);
                to
            }
            ExprKind::CallFunction(function, args) if !e.ty.is_scalar() => {
                let to = self.temporary(e.ty.size());
                // A function that gives up, since there was no scratch left for it, writes nothing.
                self.zero(to, 0, e.ty.size());
                self.call_function(*function, Some(to), args);
                to
            }
            ExprKind::CallFunction(..) | ExprKind::Field { .. } => {
                let to = self.temporary(8);
                let value = self.scalar(e);
                self.store(to, 0, e.ty.size().min(8), value);
                to
            }
            _ => {
                let to = self.temporary(e.ty.size());
                self.into(e, to, false);
                to
            }
        }
    }

    /// Memory that already has the value of `e`, clean; `None` when it has to be made.
    pub(crate) fn clean_place(&mut self, e: &'a Expr) -> Option<Place> {
        match &e.kind {
            ExprKind::Var(var) if keeps_clean(&e.ty) => Some(self.var_place(*var)),
            _ => None,
        }
    }

    fn field_of_deref(&mut self, base: &'a Expr, off: u32, ty: &Type, to: Place) {
        let ExprKind::Deref { pointer, off: first, .. } = &base.kind else { unreachable!("asked by the caller") };
        let address = self.address(pointer, first + off);
        self.read(address, space_of(pointer), to, ty.size());
    }

    /// A pointer's value plus an offset.
    pub(crate) fn address(&mut self, pointer: &'a Expr, off: u32) -> Value {
        let pointer = self.scalar(pointer);
        if off == 0 { pointer } else { self.f.add(pointer, off as i32) }
    }

    /// Reads `size` bytes of the kernel's or the process's memory. What cannot be read is zero, and counted.
    pub(crate) fn read(&mut self, address: Value, space: Space, to: Place, size: u32) {
        if size == 0 {
            return;
        }
        let helper = self.read_helper(space);
        let (dst, len) = (self.addr(to), self.number(i64::from(size)));
        let result = self.f.call(helper, &[dst, len, address]);
        self.check(result, helper, None, true);
    }

    /// What reads memory of a space. The addresses of the kernel and of processes do not overlap on the machines that are
    /// supported, so where nobody knows whose an address is, its value tells (`bpf_probe_read_compat`, kernel/trace/bpf_trace.c);
    /// but that helper is for programs that trace.
    pub(crate) fn read_helper(&self, space: Space) -> u32 {
        match space {
            Space::User => helpers::PROBE_READ_USER,
            Space::None if self.is_user_probe() => helpers::PROBE_READ_USER,
            Space::None | Space::Any if self.traces() => helpers::PROBE_READ,
            _ => helpers::PROBE_READ_KERNEL,
        }
    }

    /// The same for text.
    pub(crate) fn read_str_helper(&self, space: Space) -> u32 {
        match space {
            Space::User => helpers::PROBE_READ_USER_STR,
            Space::None if self.is_user_probe() => helpers::PROBE_READ_USER_STR,
            Space::None | Space::Any if self.traces() => helpers::PROBE_READ_STR,
            _ => helpers::PROBE_READ_KERNEL_STR,
        }
    }

    /// Whether this is code of programs that trace alone. A subprogram may be called by any program of the script.
    fn traces(&self) -> bool {
        match self.kind {
            Kind::Probe(probe) => probe.context != Context::Xdp,
            Kind::Function(_) => self.unit.script.probes.iter().all(|probe| probe.context != Context::Xdp),
        }
    }

    /// A scalar read through a pointer.
    pub(crate) fn read_scalar(&mut self, address: Value, space: Space, ty: &Type, bits: Option<Bits>) -> Value {
        let mark = self.mark();
        let to = self.temporary(8);
        self.read(address, space, to, ty.size());
        let value = self.load(to, 0, ty.size());
        let value = self.finish_load(value, ty, bits);
        self.release(mark);
        value
    }

    /// What was loaded, zero-extended, as a value of its type: a bit-field cut out, signs extended.
    pub(crate) fn finish_load(&mut self, value: Value, ty: &Type, bits: Option<Bits>) -> Value {
        let Some(bits) = bits else { return self.extend(value, ty) };
        let left = 64 - i32::from(bits.shift) - i32::from(bits.width);
        let value = if left > 0 { self.f.alu(AluOp::Lsh, Width::W64, value, left) } else { value };
        let right = if ty.is_signed() { AluOp::Arsh } else { AluOp::Rsh };
        match 64 - i32::from(bits.width) {
            0 => value,
            by => self.f.alu(right, Width::W64, value, by),
        }
    }

    /// Copies bytes of the context, which may only be loaded at constant offsets in aligned pieces.
    pub(crate) fn copy_context(&mut self, off: u32, to: Place, len: u32) {
        let context = self.context();
        let from = Place { stack: true, ..Place::behind(context) };
        if len > INLINE || self.context_kind() == Context::TypedArgs {
            let address = self.f.add(context, off as i32);
            return self.read(address, Space::Kernel, to, len);
        }
        self.copy(from.at(off), to, len);
    }

    /// Copies a text that ends at its NUL: at most `size - 1` bytes of it. With `clean`, everything behind is zero.
    pub(crate) fn copy_string(&mut self, from: Place, from_size: u32, to: Place, size: u32, clean: bool) -> Value {
        let src = self.addr(from);
        self.read_string(src, Space::Kernel, to, size, Some(from_size.min(size)), clean)
    }

    fn cast_into(&mut self, inner: &'a Expr, ty: &Type, to: Place, clean: bool) {
        match (ty, &inner.ty) {
            (Type::String { size }, Type::String { size: from_size }) => {
                if let ExprKind::Bytes(bytes) = &inner.kind {
                    let cut = &bytes[..bytes.len().min(*size as usize - 1)];
                    return self.constant_into(cut, ty, to, clean);
                }
                if from_size <= size && is_clean(inner) {
                    self.into(inner, to, true);
                    if clean {
                        self.zero(to, *from_size, size - from_size);
                    }
                    return;
                }
                if let ExprKind::Call(Call::Str, args) = &inner.kind {
                    self.str_into(args, *size, to, clean);
                    return;
                }
                let from = self.place_of(inner);
                self.copy_string(from, *from_size, to, *size, clean);
            }
            (Type::String { size }, Type::Array { count, .. } | Type::Buffer { size: count }) => {
                let limit = (count + 1).min(*size);
                let skip = if matches!(inner.ty, Type::Buffer { .. }) { 4 } else { 0 };
                match &inner.kind {
                    ExprKind::Deref { pointer, off, .. } => {
                        let address = self.address(pointer, *off);
                        self.read_string(address, space_of(pointer), to, *size, Some(limit), clean);
                    }
                    ExprKind::Field { base, off, .. } if matches!(base.kind, ExprKind::Deref { .. }) => {
                        let ExprKind::Deref { pointer, off: first, .. } = &base.kind else { return };
                        let address = self.address(pointer, first + off);
                        self.read_string(address, space_of(pointer), to, *size, Some(limit), clean);
                    }
                    ExprKind::ContextField { off, .. } => {
                        let context = self.context();
                        let address = self.f.add(context, *off as i32);
                        self.read_string(address, Space::Kernel, to, *size, Some(limit), clean);
                    }
                    _ => {
                        // One byte more than the array is not its own: copy the array and end it.
                        let from = self.place_of(inner).at(skip);
                        let len = (*count).min(size - 1);
                        let whole = if clean { self.temporary(len + 1) } else { to };
                        self.copy(from, whole, len);
                        self.zero(whole, len, 1);
                        if clean {
                            self.copy_string(whole, len + 1, to, *size, true);
                        }
                    }
                }
            }
            (Type::Tuple(_) | Type::Record(_), Type::Tuple(_) | Type::Record(_)) => {
                let from = self.place_of(inner);
                let (to_fields, from_fields) = (ty.fields(), inner.ty.fields());
                let mut end = 0;
                for ((off, field), (from_off, from_field)) in to_fields.into_iter().zip(from_fields) {
                    self.zero(to, end, off - end);
                    self.convert(from.at(from_off), from_field, to.at(off), field, clean);
                    end = off + field.size();
                }
                self.zero(to, end, ty.size() - end);
            }
            (Type::Usym, _) => {
                let address = self.scalar(inner);
                self.usym_into(address, to);
            }
            (Type::Array { .. } | Type::Mac | Type::Inet | Type::Buffer { .. }, from) if from.is_scalar() => {
                let value = self.scalar(inner);
                let len = from.size().min(ty.size());
                self.store(to, 0, len, value);
                self.zero(to, len, ty.size() - len);
            }
            _ => {
                let from = self.place_of(inner);
                let len = inner.ty.size().min(ty.size());
                self.copy(from, to, len);
                self.zero(to, len, ty.size() - len);
            }
        }
    }

    /// Copies a value from one type to another of the same kind, such as `(int8, string[3])` to `(int64, string[8])`.
    fn convert(&mut self, from: Place, from_ty: &Type, to: Place, ty: &Type, clean: bool) {
        match (ty, from_ty) {
            (ty, from_ty) if ty.is_scalar() && from_ty.is_scalar() => {
                let value = self.load_scalar(from, from_ty);
                self.store(to, 0, ty.size(), value);
            }
            (Type::String { size }, Type::String { size: from_size }) if size != from_size || clean => {
                self.copy_string(from, *from_size, to, *size, clean);
            }
            (Type::Tuple(_) | Type::Record(_), Type::Tuple(_) | Type::Record(_)) => {
                let mut end = 0;
                let pairs: Vec<_> = ty.fields().into_iter().zip(from_ty.fields()).collect();
                for ((off, field), (from_off, from_field)) in pairs {
                    self.zero(to, end, off - end);
                    self.convert(from.at(from_off), from_field, to.at(off), field, clean);
                    end = off + field.size();
                }
                self.zero(to, end, ty.size() - end);
            }
            _ => self.copy(from, to, ty.size().min(from_ty.size())),
        }
    }

    /// Address and size of the elements of an indexed value, the index checked: `None` memory means a pointer to read through.
    pub(crate) fn element_into(&mut self, base: &'a Expr, index: &'a Expr, ty: &Type, to: Place) {
        let size = ty.size();
        let elements = match &base.ty {
            Type::Array { count, .. } => *count,
            other => other.size() / size.max(1),
        };
        if let ExprKind::Const(index) = index.kind
            && !matches!(base.kind, ExprKind::Deref { .. })
        {
            match u32::try_from(index) {
                Ok(index) if index < elements => {
                    let from = self.place_of(base).at(index * size);
                    self.copy(from, to, size);
                }
                _ => self.out_of_bounds(to, size),
            }
            return;
        }
        let index = self.scalar(index);
        let (inside, outside, done) = (self.f.block(0), self.f.block(0), self.f.block(0));
        let count = self.number(i64::from(elements));
        self.f.branch(Cond::Lt, Width::W64, index, count, (inside, &[]), (outside, &[]));
        self.f.switch_to(inside);
        // The same number, of which the verifier (6.11) does not remember that it is another one and a constant: it takes that for an
        // offset of the pointer, and one of that size for wrong. A multiplication makes it forget, too.
        let index = match size {
            1 => self.f.alu(AluOp::And, Width::W64, index, elements.next_power_of_two() as i32 - 1),
            _ => index,
        };
        let distance = self.f.alu(AluOp::Mul, Width::W64, index, size as i32);
        match &base.kind {
            ExprKind::Deref { pointer, off, .. } => {
                let first = self.address(pointer, *off);
                let address = self.f.add(first, distance);
                self.read(address, space_of(pointer), to, size);
            }
            _ => {
                let from = self.place_of(base);
                let first = self.addr(from);
                let address = self.f.add(first, distance);
                if from.stack {
                    // A variable offset into the stack cannot be loaded from in pieces; a helper may read it.
                    let (dst, len) = (self.addr(to), self.number(i64::from(size)));
                    self.f.call(helpers::PROBE_READ_KERNEL, &[dst, len, address]);
                } else {
                    self.copy(Place::behind(address), to, size);
                }
            }
        }
        self.f.jump(done, &[]);
        self.f.switch_to(outside);
        self.out_of_bounds(to, size);
        self.f.jump(done, &[]);
        self.f.switch_to(done);
    }

    fn out_of_bounds(&mut self, to: Place, size: u32) {
        self.zero(to, 0, size);
        self.runtime_error("array access out of bounds");
    }

    /// `==` of two values in memory, as 0 or 1, or reversed.
    pub(crate) fn memory_eq(&mut self, a: &'a Expr, b: &'a Expr, equal: Block, different: Block) {
        let (a_place, b_place) = (self.place_of(a), self.place_of(b));
        self.equal_values(a_place, b_place, &a.ty, equal, different);
    }

    /// Compares by type: padding does not count, texts end at their NUL.
    fn equal_values(&mut self, a: Place, b: Place, ty: &Type, equal: Block, different: Block) {
        match ty {
            Type::Tuple(_) | Type::Record(_) => {
                for (off, field) in ty.fields() {
                    let next = self.f.block(0);
                    self.equal_values(a.at(off), b.at(off), field, next, different);
                    self.f.switch_to(next);
                }
                self.f.jump(equal, &[]);
            }
            Type::String { size } => self.equal_strings(a, *size, b, *size, None, equal, different),
            _ => self.compare_memory(a, b, ty.size(), equal, different),
        }
    }
}

/// Whose memory a pointer's type says it points into.
pub(crate) fn space_of(pointer: &Expr) -> Space {
    match pointer.ty {
        Type::Pointer { space, .. } => space,
        _ => Space::None,
    }
}

/// Whether values of the type have neither padding that may be garbage nor texts, so that any copy is clean.
fn keeps_clean(ty: &Type) -> bool {
    match ty {
        Type::String { .. } | Type::Buffer { .. } | Type::Tuple(_) | Type::Record(_) => false,
        Type::Array { elem, .. } => keeps_clean(elem),
        _ => !ty.is_scalar(),
    }
}

/// Whether a text is made with zeroes behind it.
fn is_clean(e: &Expr) -> bool {
    match &e.kind {
        ExprKind::Builtin(Builtin::Comm) | ExprKind::MapGet { .. } => true,
        ExprKind::Cast(inner) => is_clean(inner) && inner.ty == e.ty,
        _ => false,
    }
}

/// Bytes as memory has them, as a number: sign-extended.
fn number_of(bytes: &[u8]) -> i64 {
    match *bytes {
        [a] => i64::from(a as i8),
        [a, b] => i64::from(i16::from_ne_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => unreachable!("pieces have 1, 2, 4 or 8 bytes"),
    }
}
