//! Scalars and conditions.

use skep_insn::{AluOp, Cond, Width};

use super::memory::space_of;
use super::place::{Body, Place};
use crate::ast::{BinaryOp, UnaryOp};
use crate::ir::{Block, Operand, Value};
use crate::typed::{Context, Expr, ExprKind, FunctionRef};
use crate::types::{Space, Type};

impl<'a> Body<'_, 'a> {
    /// The value of a scalar expression, extended to 64 bits as its type says.
    pub(crate) fn scalar(&mut self, e: &'a Expr) -> Value {
        let span = self.f.span();
        self.f.set_span(e.span);
        let mark = self.mark();
        let value = self.scalar_at(e);
        self.release(mark);
        self.f.set_span(span);
        value
    }

    /// A scalar as an operand: small constants need no value.
    pub(crate) fn operand(&mut self, e: &'a Expr) -> Operand {
        match e.kind {
            ExprKind::Const(number) => self.f.operand(number),
            _ => Operand::Value(self.scalar(e)),
        }
    }

    fn scalar_at(&mut self, e: &'a Expr) -> Value {
        match &e.kind {
            ExprKind::Const(number) => self.number(*number),
            ExprKind::Var(var) => {
                let place = self.var_place(*var);
                self.load(place, 0, 8)
            }
            ExprKind::MapGet { map, key } if self.value_type(*map).is_aggregation() => {
                let value = self.read_aggregation(*map, key.as_deref());
                self.extend(value, &e.ty)
            }
            ExprKind::MapGet { map, key } => self.get_scalar(*map, key.as_deref(), &e.ty),
            ExprKind::MapHas { map, key } => self.has_key(*map, key),
            ExprKind::MapFind { map, key, var } => self.find(*map, key.as_deref(), *var),
            ExprKind::MapDelete { map, key } => self.delete(*map, key.as_deref()),
            ExprKind::MapLen(map) => self.map_len(*map),
            ExprKind::MapStep { map, key, by, old } => self.step_map(*map, key.as_deref(), *by, *old, &e.ty),
            ExprKind::Block(stmts, value) => {
                self.statements(stmts);
                self.scalar(value)
            }
            ExprKind::Unary(op, inner) => self.unary(*op, inner, &e.ty),
            ExprKind::Not(inner) if inner.ty.is_scalar() => {
                let value = self.scalar(inner);
                self.f.compare(Cond::Eq, Width::W64, value, 0)
            }
            ExprKind::Binary(op, a, b) => self.binary(*op, a, b, &e.ty),
            ExprKind::PointerAdd { pointer, index, scale } => {
                let pointer = self.scalar(pointer);
                if let ExprKind::Const(index) = index.kind {
                    let by = self.f.operand(index.wrapping_mul(i64::from(*scale)));
                    return self.f.add(pointer, by);
                }
                let index = self.scalar(index);
                let distance = match scale {
                    1 => index,
                    scale => self.f.alu(AluOp::Mul, Width::W64, index, *scale as i32),
                };
                self.f.add(pointer, distance)
            }
            ExprKind::Compare(op, a, b) => {
                let cond = condition(*op, &a.ty);
                let (a, b) = (self.scalar(a), self.operand(b));
                self.f.compare(cond, Width::W64, a, b)
            }
            ExprKind::StringEq { .. }
            | ExprKind::MemoryEq { .. }
            | ExprKind::And(..)
            | ExprKind::Or(..)
            | ExprKind::Not(_) => {
                let (yes, no, join) = (self.f.block(0), self.f.block(0), self.f.block(1));
                self.branch(e, yes, no);
                for (block, number) in [(yes, 1), (no, 0)] {
                    self.f.switch_to(block);
                    let number = self.number(number);
                    self.f.jump(join, &[number]);
                }
                self.f.switch_to(join);
                self.f.param(join, 0)
            }
            ExprKind::Ternary(cond, a, b) => {
                let (then, otherwise, join) = (self.f.block(0), self.f.block(0), self.f.block(1));
                self.branch(cond, then, otherwise);
                for (block, value) in [(then, a), (otherwise, b)] {
                    self.f.switch_to(block);
                    let value = self.scalar(value);
                    self.f.jump(join, &[value]);
                }
                self.f.switch_to(join);
                self.f.param(join, 0)
            }
            ExprKind::Cast(inner) => self.cast(inner, &e.ty),
            ExprKind::Deref { pointer, off, bits } => {
                let address = self.address(pointer, *off);
                self.read_scalar(address, space_of(pointer), &e.ty, *bits)
            }
            ExprKind::Field { base, off, bits } => {
                if let ExprKind::Deref { pointer, off: first, .. } = &base.kind {
                    let address = self.address(pointer, first + off);
                    return self.read_scalar(address, space_of(pointer), &e.ty, *bits);
                }
                let place = self.place_of(base).at(*off);
                let value = self.load_scalar(place, &unsigned(&e.ty, bits.is_some()));
                self.finish_load(value, &e.ty, *bits)
            }
            ExprKind::Index { base, index } => {
                let to = self.temporary(8);
                self.element_into(base, index, &e.ty, to);
                self.load_scalar(to, &e.ty)
            }
            ExprKind::AddrOfVar(var) => {
                let place = self.var_place(*var);
                let address = self.addr(place);
                self.opaque(address)
            }
            ExprKind::AddrOfMap { map, key } => {
                let pointer = self.lookup(*map, key.as_deref());
                let (there, join) = (self.f.block(0), self.f.block(1));
                let zero = self.number(0);
                self.f.branch(Cond::Ne, Width::W64, pointer, 0, (there, &[]), (join, &[zero]));
                self.f.switch_to(there);
                let address = self.opaque(pointer);
                self.f.jump(join, &[address]);
                self.f.switch_to(join);
                self.f.param(join, 0)
            }
            ExprKind::Context => {
                let context = self.context();
                self.opaque(context)
            }
            ExprKind::ContextField { off, bits } => self.context_scalar(*off, *bits, &e.ty),
            ExprKind::DataLoc { off, rel } => self.data_loc(*off, *rel),
            ExprKind::Argument(n) => {
                let value = self.argument(*n);
                self.extend(value, &e.ty)
            }
            ExprKind::ReturnValue { arguments } => {
                let value = self.return_value(*arguments);
                self.extend(value, &e.ty)
            }
            ExprKind::Register(off) => {
                let context = self.context();
                let value = self.f.load(8, context, *off as i16);
                self.extend(value, &e.ty)
            }
            ExprKind::Builtin(builtin) => {
                let value = self.builtin(builtin);
                self.extend(value, &e.ty)
            }
            ExprKind::Call(call, args) => self.call(call, args, e),
            ExprKind::CallFunction(function, args) => {
                let value = self.call_function(*function, None, args);
                self.extend(value, &e.ty)
            }
            // Values in memory are no scalars: the checker never asks. Zero is what "nothing" is.
            ExprKind::Bytes(_) | ExprKind::Tuple(_) => self.number(0),
        }
    }

    /// Calls a subprogram; `result` is the place for what is no number.
    pub(crate) fn call_function(&mut self, function: FunctionRef, result: Option<Place>, args: &'a [Expr]) -> Value {
        let mark = self.mark();
        let mut passed = Vec::with_capacity(args.len() + 1);
        if let Some(result) = result {
            passed.push(self.addr(result));
        }
        passed.extend(args.iter().map(|arg| self.passed(arg)));
        let function = self.unit.subprograms[function.0 as usize];
        let value = self.f.call_func(function, &passed);
        self.release(mark);
        value
    }

    /// An argument for a subprogram: a number, or the address of a copy of what lies in memory.
    fn passed(&mut self, arg: &'a Expr) -> Value {
        if arg.ty.is_scalar() {
            return self.scalar(arg);
        }
        let copy = self.temporary(arg.ty.size());
        self.into(arg, copy, true);
        self.addr(copy)
    }

    /// A pointer that the verifier knows, as a number that it does not: pointers only take part in some arithmetic, numbers
    /// in all.
    pub(crate) fn opaque(&mut self, pointer: Value) -> Value {
        let once = self.f.neg(Width::W64, pointer);
        self.f.neg(Width::W64, once)
    }

    fn unary(&mut self, op: UnaryOp, inner: &'a Expr, ty: &Type) -> Value {
        let value = self.scalar(inner);
        let value = match op {
            UnaryOp::Neg => self.f.neg(Width::W64, value),
            UnaryOp::BitNot => self.f.alu(AluOp::Xor, Width::W64, value, -1),
            UnaryOp::Not => return self.f.compare(Cond::Eq, Width::W64, value, 0),
            UnaryOp::Deref | UnaryOp::AddrOf => value,
        };
        self.extend(value, ty)
    }

    fn binary(&mut self, op: BinaryOp, a: &'a Expr, b: &'a Expr, ty: &Type) -> Value {
        let signed = ty.is_signed();
        let a = self.scalar(a);
        let mut b = self.operand(b);
        let op = match (op, signed) {
            (BinaryOp::Add, _) => AluOp::Add,
            (BinaryOp::Sub, _) => AluOp::Sub,
            (BinaryOp::Mul, _) => AluOp::Mul,
            (BinaryOp::Div, false) => AluOp::Div,
            (BinaryOp::Div, true) => AluOp::SDiv,
            (BinaryOp::Mod, false) => AluOp::Mod,
            (BinaryOp::Mod, true) => AluOp::SMod,
            (BinaryOp::BitAnd, _) => AluOp::And,
            (BinaryOp::BitOr, _) => AluOp::Or,
            (BinaryOp::BitXor, _) => AluOp::Xor,
            (BinaryOp::Shl, _) => AluOp::Lsh,
            (BinaryOp::Shr, false) => AluOp::Rsh,
            (BinaryOp::Shr, true) => AluOp::Arsh,
            (other, _) => {
                let cond = condition(other, ty);
                return self.f.compare(cond, Width::W64, a, b);
            }
        };
        // The verifier refuses constants that the instruction has no meaning for; the machine takes them from a register.
        let odd = match (op, b) {
            (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(by)) => !(0..64).contains(&by),
            (AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod, Operand::Imm(by)) => by == 0,
            _ => false,
        };
        if odd && let Operand::Imm(by) = b {
            match op {
                AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => b = Operand::Imm(by & 63),
                AluOp::Div | AluOp::SDiv => return self.number(0),
                _ => return a,
            }
        }
        let value = self.f.alu(op, Width::W64, a, b);
        self.extend(value, ty)
    }

    fn cast(&mut self, inner: &'a Expr, ty: &Type) -> Value {
        if inner.ty.is_scalar() {
            let value = self.scalar(inner);
            return match ty {
                Type::Bool => self.f.compare(Cond::Ne, Width::W64, value, 0),
                _ => self.extend(value, ty),
            };
        }
        if inner.ty.is_aggregation()
            && let ExprKind::MapGet { map, key } = &inner.kind
        {
            let value = self.read_aggregation(*map, key.as_deref());
            return self.extend(value, ty);
        }
        // The bytes of an array as an integer; a stack or a time by its first word.
        let place = self.place_of(inner);
        let size = inner.ty.size().min(ty.size());
        let whole = Type::Int { size: size as u8, signed: false };
        match size {
            1 | 2 | 4 | 8 => {
                let value = self.load_scalar(place, &whole);
                self.extend(value, ty)
            }
            _ => {
                let to = self.temporary(8);
                self.store(to, 0, 8, 0);
                self.copy(place, to, size);
                self.load_scalar(to, ty)
            }
        }
    }

    fn context_scalar(&mut self, off: u32, bits: Option<crate::typed::Bits>, ty: &Type) -> Value {
        let context = self.context();
        let from = super::place::Place { stack: true, ..super::place::Place::behind(context) }.at(off);
        let value = self.load_scalar(from, &unsigned(ty, true));
        let typed = self.context_kind() == Context::TypedArgs;
        let value = if typed && ty.size() == 8 { self.opaque(value) } else { value };
        self.finish_load(value, ty, bits)
    }

    /// Goes to `then` when the expression is not zero, else to `otherwise`.
    pub(crate) fn branch(&mut self, e: &'a Expr, then: Block, otherwise: Block) {
        let span = self.f.span();
        self.f.set_span(e.span);
        let mark = self.mark();
        match &e.kind {
            ExprKind::Const(number) => self.f.jump(if *number != 0 { then } else { otherwise }, &[]),
            ExprKind::Not(inner) => self.branch(inner, otherwise, then),
            ExprKind::And(a, b) => {
                let next = self.f.block(0);
                self.branch(a, next, otherwise);
                self.f.switch_to(next);
                self.branch(b, then, otherwise);
            }
            ExprKind::Or(a, b) => {
                let next = self.f.block(0);
                self.branch(a, then, next);
                self.f.switch_to(next);
                self.branch(b, then, otherwise);
            }
            ExprKind::Compare(op, a, b) => {
                let cond = condition(*op, &a.ty);
                let (a, b) = (self.scalar(a), self.operand(b));
                self.f.branch(cond, Width::W64, a, b, (then, &[]), (otherwise, &[]));
            }
            ExprKind::StringEq { a, b, limit, negate } => {
                let (equal, different) = if *negate { (otherwise, then) } else { (then, otherwise) };
                self.string_eq(a, b, *limit, equal, different);
            }
            ExprKind::MemoryEq { a, b, negate } => {
                let (equal, different) = if *negate { (otherwise, then) } else { (then, otherwise) };
                self.memory_eq(a, b, equal, different);
            }
            ExprKind::Cast(inner) if matches!(e.ty, Type::Bool) && inner.ty.is_scalar() => {
                self.branch(inner, then, otherwise);
            }
            ExprKind::MapHas { map, key } => {
                let pointer = self.lookup(*map, Some(key));
                self.f.branch_if(pointer, then, otherwise);
            }
            _ => {
                let value = self.scalar(e);
                self.f.branch_if(value, then, otherwise);
            }
        }
        self.release(mark);
        self.f.set_span(span);
    }

    /// Whether pointers of unknown space in this probe are a process's.
    pub(crate) fn is_user_probe(&self) -> bool {
        let super::place::Kind::Probe(probe) = self.kind else { return false };
        matches!(super::plan::provider(probe).as_str(), "uprobe" | "uretprobe" | "usdt")
    }

    /// A pointer argument whose address space is known, for helpers.
    pub(crate) fn pointer(&mut self, e: &'a Expr) -> (Value, Space) {
        (self.scalar(e), space_of(e))
    }
}

/// The comparison of an operator on numbers of a type.
fn condition(op: BinaryOp, ty: &Type) -> Cond {
    match (op, ty.is_signed()) {
        (BinaryOp::Ne, _) => Cond::Ne,
        (BinaryOp::Lt, false) => Cond::Lt,
        (BinaryOp::Lt, true) => Cond::SLt,
        (BinaryOp::Le, false) => Cond::Le,
        (BinaryOp::Le, true) => Cond::SLe,
        (BinaryOp::Gt, false) => Cond::Gt,
        (BinaryOp::Gt, true) => Cond::SGt,
        (BinaryOp::Ge, false) => Cond::Ge,
        (BinaryOp::Ge, true) => Cond::SGe,
        _ => Cond::Eq,
    }
}

/// The unsigned integer of a type's size, when what is loaded is cut or extended later.
fn unsigned(ty: &Type, later: bool) -> Type {
    match (later, ty.size()) {
        (true, size @ (1 | 2 | 4 | 8)) => Type::Int { size: size as u8, signed: false },
        _ => ty.clone(),
    }
}
