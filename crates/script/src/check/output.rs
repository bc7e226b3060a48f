//! Functions that send something to user space: `printf` and its relatives, `print`, `join`, `time`, `exit`.

use std::sync::Arc;

use super::call::{Call, kind_word};
use super::{Checker, Elaborated, format, intern};
use crate::plan::{Conversion, Format, Part};
use crate::typed::{Action, Expr, ExprKind, FormatKind, Stmt, StmtKind};
use crate::types::{Space, Type};
use crate::{Diagnostic, Span, ast};

impl Checker<'_> {
    /// `printf`, `errorf`, `warnf`, `debugf`, `cat`, `system`
    pub(super) fn call_format(&mut self, call: &Call<'_>) -> Elaborated {
        let kind = match call.name {
            "errorf" => FormatKind::Errorf,
            "warnf" => FormatKind::Warnf,
            "debugf" => FormatKind::Debugf,
            "cat" => FormatKind::Cat,
            "system" => FormatKind::System,
            _ => FormatKind::Printf,
        };
        let text = self.literal_bytes(call, 0);
        let values: Vec<Elaborated> = (1..call.args.len()).map(|at| self.printed_arg(call, at)).collect();
        let parsed = match format::parse(&text?) {
            Ok(format) => format,
            Err(problem) => return self.fail(call.arg_span(0), format!("{}: {problem}", call.name)),
        };
        let wanted = format::conversions(&parsed).count();
        let given = call.args.len() - 1;
        if given != wanted {
            let what = if given < wanted { "Not enough" } else { "Too many" };
            let text =
                format!("{}: {what} arguments for format string ({given} supplied, {wanted} expected)", call.name);
            return self.fail(call.span, text);
        }
        let values: Vec<Expr> = values.into_iter().collect::<Option<_>>()?;
        let mut args = Vec::with_capacity(values.len());
        for (at, (conversion, value)) in format::conversions(&parsed).zip(values).enumerate() {
            args.push(self.formatted(call, conversion, value, at + 1)?);
        }
        self.action(Action::Format { kind, format: Arc::new(parsed), args }, call.span)
    }

    /// A value that is shown.
    fn printed_arg(&mut self, call: &Call<'_>, at: usize) -> Elaborated {
        let value = self.arg(call, at)?;
        self.structs.shown(&value.ty);
        Some(value)
    }

    fn formatted(&mut self, call: &Call<'_>, conversion: &Conversion, value: Expr, at: usize) -> Elaborated {
        // `%r` shows the bytes of an array as well.
        let value = match (&value.ty, conversion.letter) {
            (Type::Array { elem, .. }, 'r' | 'R' | 'H') if elem.size() == 1 => self.bytes_of(value)?,
            _ => value,
        };
        let Some(expected) = format::mismatch(conversion, &value.ty) else {
            if conversion.letter == 's' && !self.options.bpftrace && is_text_pointer(&value.ty) {
                let text = "%s of a pointer writes the address, not the text that is there";
                let warning = Diagnostic::warning(call.arg_span(at), text);
                self.diagnostics.push(warning.with_hint("`str(...)` reads the text"));
            }
            return Some(value);
        };
        let text = format!(
            "{}: {} specifier expects a value of type {expected} ({} supplied)",
            call.name,
            format::specifier(conversion),
            kind_word(&value.ty)
        );
        self.fail(call.arg_span(at), text)
    }

    /// `print(v)`, `print(@m)`, `print(@m[k])`
    pub(super) fn call_print(&mut self, call: &Call<'_>) -> Elaborated {
        match call.expr(0).map(|arg| &arg.kind) {
            Some(ast::ExprKind::Map(_)) => return self.print_map(call),
            Some(ast::ExprKind::MapElement { .. }) => return self.print_element(call),
            _ => {}
        }
        let value = self.arg(call, 0)?;
        if call.args.len() > 1 {
            return self.fail(call.span, "Non-map print() only takes 1 argument");
        }
        self.structs.shown(&value.ty);
        self.action(Action::PrintValue(value), call.span)
    }

    /// `join(argv[, separator])`
    pub(super) fn call_join(&mut self, call: &Call<'_>) -> Elaborated {
        let argv = self.arg(call, 0);
        let separator = match call.args.len() {
            2 => self.literal_bytes(call, 1)?,
            _ => b" ".to_vec(),
        };
        let argv = argv?;
        let span = argv.span;
        let space = self.space_of(&argv.ty);
        let to = super::infer::pointer(super::infer::pointer(super::infer::int(1, true), space), space);
        let argv = match &argv.ty {
            Type::Pointer { .. } => Expr { ty: to, ..argv },
            Type::Int { .. } => {
                let address = self.wide(argv, false);
                Expr { kind: ExprKind::Cast(Box::new(address)), ty: to, span }
            }
            other => {
                let text = format!("join() only supports int or pointer arguments ({} provided)", kind_word(other));
                return self.fail(call.span, text);
            }
        };
        self.action(Action::Join { argv, separator }, call.span)
    }

    /// `time([format])`
    pub(super) fn call_time(&mut self, call: &Call<'_>) -> Elaborated {
        let format = match call.args.len() {
            1 => self.literal_text(call, 0)?,
            _ => "%H:%M:%S\n".to_owned(),
        };
        let format = intern(&mut self.time_formats, format);
        self.action(Action::Time(format), call.span)
    }

    /// `exit([code])`
    pub(super) fn call_exit(&mut self, call: &Call<'_>) -> Elaborated {
        let code = match call.args.len() {
            1 => {
                let code = self.int_arg(call, 0)?;
                self.wide(code, true)
            }
            _ => Expr { kind: ExprKind::Const(0), ty: Type::I64, span: call.span },
        };
        self.outside_loops("exit()", call.span)?;
        self.action(Action::Exit(code), call.span)
    }

    fn outside_loops(&mut self, what: &str, span: Span) -> Option<()> {
        if self.body.for_loops == 0 {
            return Some(());
        }
        let hint = Some("set a variable, `break`, and exit behind the loop".to_owned());
        self.fail_with(span, format!("{what} can not be used inside a for-loop"), hint)
    }

    /// `assert(condition[, message])`: says it and ends.
    pub(super) fn call_assert(&mut self, call: &Call<'_>) -> Elaborated {
        let Some(condition) = call.expr(0) else {
            return self.fail(call.arg_span(0), "assert() expects a condition");
        };
        let condition = self.condition(condition, "assert()");
        let message = match call.args.len() {
            2 => Some(self.arg(call, 1)?),
            _ => None,
        };
        self.outside_loops("assert()", call.span)?;
        let span = call.span;
        let told = match message {
            None => {
                let text = self.sources.text(call.arg_span(0)).to_owned();
                Action::RuntimeError { message: format!("assertion failed: {text}"), ends: true }
            }
            Some(message) => match self.const_text(&message) {
                Some(message) => Action::RuntimeError { message, ends: true },
                None => {
                    let conversion = Conversion { size: 4, letter: 's', ..Conversion::default() };
                    let format = Format { parts: vec![Part::Conversion(conversion)] };
                    Action::Format { kind: FormatKind::Errorf, format: Arc::new(format), args: vec![message] }
                }
            },
        };
        let condition = condition?;
        let code = Expr { kind: ExprKind::Const(1), ty: Type::I64, span };
        let failed = vec![
            Stmt { kind: StmtKind::Action(told), span },
            Stmt { kind: StmtKind::Action(Action::Exit(code)), span },
        ];
        if let Some(number) = self.folded(&condition)
            && number != 0
        {
            return Some(self.effect(Vec::new(), span));
        }
        self.effect_of(StmtKind::If(condition, Vec::new(), failed), span)
    }

    /// `skboutput(path, skb, length, offset)`
    pub(super) fn call_skboutput(&mut self, call: &Call<'_>) -> Elaborated {
        let path = self.literal_text(call, 0);
        let skb = self.address_arg(call, 1);
        let len = self.int_arg(call, 2);
        let off = self.int_arg(call, 3);
        let (path, skb, len, off) = (path?, skb?, len?, off?);
        if self.folded(&off) != Some(0) {
            return self.fail(call.arg_span(3), "skboutput() begins at the packet's start: its offset is 0");
        }
        let len = self.wide(len, false);
        let kind = ExprKind::Call(crate::typed::Call::SkbOutput { path }, vec![skb, len]);
        Some(Expr { kind, ty: Type::I64, span: call.span })
    }

    /// `unwatch(address)`
    pub(super) fn call_unwatch(&mut self, call: &Call<'_>) -> Elaborated {
        let address = self.arg(call, 0)?;
        let ty = address.ty.clone();
        let Some(address) = self.as_number(address) else {
            return self.fail(call.span, format!("unwatch() expects an address ({} provided)", kind_word(&ty)));
        };
        let address = self.wide(address, false);
        self.action(Action::Unwatch(address), call.span)
    }

    /// An array of bytes as a buffer.
    fn bytes_of(&mut self, value: Expr) -> Elaborated {
        let (span, size) = (value.span, value.ty.size());
        let pointer = self.in_memory(value)?;
        let len = Expr { kind: ExprKind::Const(i64::from(size)), ty: Type::U64, span };
        let kind = ExprKind::Call(crate::typed::Call::Buf, vec![pointer, len]);
        Some(Expr { kind, ty: Type::Buffer { size }, span })
    }

    /// A pointer to where a value lies: its own place, or a variable that it is put into.
    pub(super) fn in_memory(&mut self, value: Expr) -> Elaborated {
        let span = value.span;
        let ty = value.ty.clone();
        let at = |this: &mut Self, pointer: Expr, off: u32, space: Space| {
            let bytes = Expr { kind: ExprKind::Const(i64::from(off)), ty: Type::I64, span };
            let moved = if off == 0 { pointer } else { this.pointer_plus(pointer, bytes, 1, span) };
            Expr { ty: super::infer::pointer(ty.clone(), space), ..moved }
        };
        Some(match value.kind {
            ExprKind::Cast(inner)
                if matches!(inner.ty, Type::Array { .. }) && matches!(value.ty, Type::String { .. }) =>
            {
                return self.in_memory(*inner);
            }
            ExprKind::Deref { pointer, off, bits: None } => {
                let space = self.space_of(&pointer.ty);
                at(self, *pointer, off, space)
            }
            ExprKind::ContextField { off, bits: None } => {
                let context =
                    Expr { kind: ExprKind::Context, ty: super::infer::pointer(Type::Void, Space::Kernel), span };
                at(self, context, off, Space::Kernel)
            }
            ExprKind::Var(var) => {
                let kind = ExprKind::AddrOfVar(var);
                Expr { kind, ty: super::infer::pointer(ty, Space::Bpf), span }
            }
            kind => {
                let var = self.temp(ty.clone());
                let value = Expr { kind, ty: ty.clone(), span };
                let set = Stmt { kind: StmtKind::SetVar(var, value), span };
                let to = super::infer::pointer(ty, Space::Bpf);
                let address = Expr { kind: ExprKind::AddrOfVar(var), ty: to.clone(), span };
                Expr { kind: ExprKind::Block(vec![set], Box::new(address)), ty: to, span }
            }
        })
    }
}

/// `char *`
fn is_text_pointer(ty: &Type) -> bool {
    matches!(ty, Type::Pointer { to, .. } if matches!(**to, Type::Int { size: 1, .. }))
}
