//! Functions of text and of numbers that become text.

use super::call::{Call, kind_word};
use super::{Checker, Elaborated, intern};
use crate::typed::{self, Builtin, Expr, ExprKind, NsecsClock};
use crate::types::{Clock, Type, Word};
use crate::{Span, ast};

impl Checker<'_> {
    /// The second argument of `str` and `buf`: a literal is a capacity, anything else a length.
    fn length(&mut self, call: &Call<'_>, at: usize) -> Option<Length> {
        let value = self.arg(call, at)?;
        let ty = value.ty.clone();
        if !matches!(ty, Type::Int { .. } | Type::Enum(_)) {
            let text = format!("{}() expects an integer as second argument ({} provided)", call.name, kind_word(&ty));
            return self.fail(call.span, text);
        }
        match self.folded(&value) {
            Some(length) if length < 0 => {
                self.fail(call.span, format!("{} cannot use negative length ({length})", call.name))
            }
            Some(length) => Some(Length::Literal(length)),
            None => {
                let value = self.as_number(value)?;
                Some(Length::Dynamic(self.wide(value, false)))
            }
        }
    }

    /// `str(p)`, `str(p, n)`
    pub(super) fn call_str(&mut self, call: &Call<'_>) -> Elaborated {
        let length = match call.args.len() {
            2 => Some(self.length(call, 1)?),
            _ => None,
        };
        let most = self.config.max_strlen;
        let size = match &length {
            // With the end behind the text.
            Some(Length::Literal(length)) => (*length + 1).min(i128::from(most)) as u32,
            _ => most,
        };
        let value = self.arg(call, 0)?;
        let value = match &value.ty {
            Type::Array { elem, count } if elem.size() == 1 && elem.is_integer() => {
                let to = Type::String { size: (*count).max(1) };
                let span = value.span;
                Expr { kind: ExprKind::Cast(Box::new(value)), ty: to, span }
            }
            _ => value,
        };
        if let Type::String { size: room } = value.ty {
            // Text already: at most cut.
            return match length {
                None => Some(value),
                Some(Length::Literal(_)) if size >= room => Some(value),
                Some(Length::Literal(_)) => {
                    let kind = ExprKind::Cast(Box::new(value));
                    Some(Expr { kind, ty: Type::String { size }, span: call.span })
                }
                Some(Length::Dynamic(length)) => {
                    let pointer = self.in_memory(value)?;
                    let kind = ExprKind::Call(typed::Call::Str, vec![pointer, length]);
                    Some(Expr { kind, ty: Type::String { size: room }, span: call.span })
                }
            };
        }
        let pointer = self.address_of_value(call, value)?;
        let mut args = vec![pointer];
        if let Some(Length::Dynamic(length)) = length {
            args.push(length);
        }
        Some(Expr { kind: ExprKind::Call(typed::Call::Str, args), ty: Type::String { size }, span: call.span })
    }

    /// `buf(p, n)`, `buf(array)`
    pub(super) fn call_buf(&mut self, call: &Call<'_>) -> Elaborated {
        let length = match call.args.len() {
            2 => Some(self.length(call, 1)?),
            _ => None,
        };
        let most = self.config.max_strlen;
        let mut value = self.arg(call, 0)?;
        // A text ends at its first NUL, a buffer does not.
        if let ExprKind::Bytes(bytes) = &mut value.kind
            && let Some(ast::Expr { kind: ast::ExprKind::Str(all), .. }) = call.expr(0)
            && all.len() < most as usize
        {
            *bytes = all.as_slice().into();
            value.ty = Type::String { size: all.len() as u32 + 1 };
        }
        if let (Some(Length::Literal(length)), ExprKind::Bytes(bytes)) = (&length, &mut value.kind)
            && (bytes.len() as i128 + 2..=i128::from(most)).contains(length)
        {
            // What a literal does not have behind its NUL is zero, too.
            let mut whole = bytes.to_vec();
            whole.resize(*length as usize, 0);
            *bytes = whole.into();
            value.ty = Type::String { size: (*length as u32).max(1) };
        }
        let own = match &value.ty {
            Type::Array { .. } | Type::Struct(_) => Some(value.ty.size()),
            Type::String { size } => Some(*size),
            _ => None,
        };
        let span = call.span;
        let (size, length) = match (length, own) {
            (Some(Length::Literal(length)), own) => {
                let most = own.map_or(most, |own| own.min(most));
                if length > i128::from(most) {
                    let text =
                        format!("buf() length is too long and will be shortened to {most} bytes (see max_strlen)");
                    self.warning(call.span, text);
                }
                let size = length.min(i128::from(most)) as u32;
                (size, Expr { kind: ExprKind::Const(i64::from(size)), ty: Type::U64, span })
            }
            (Some(Length::Dynamic(length)), _) => (most, length),
            (None, Some(own)) => {
                let size = own.min(most);
                (size, Expr { kind: ExprKind::Const(i64::from(size)), ty: Type::U64, span })
            }
            (None, None) => {
                let word = kind_word(&value.ty);
                return self.fail(span, format!("buf() expects a length argument for non-array type {word}"));
            }
        };
        let pointer = match &value.ty {
            Type::Array { .. } | Type::String { .. } | Type::Struct(_) => self.in_memory(value)?,
            Type::Int { .. } | Type::Pointer { .. } => self.address_of_value(call, value)?,
            other => {
                let text = format!(
                    "buf() expects an integer, a pointer or an array as first argument ({} provided)",
                    kind_word(other)
                );
                return self.fail(span, text);
            }
        };
        let kind = ExprKind::Call(typed::Call::Buf, vec![pointer, length]);
        Some(Expr { kind, ty: Type::Buffer { size }, span })
    }

    /// An address out of a pointer or an integer.
    fn address_of_value(&mut self, call: &Call<'_>, value: Expr) -> Elaborated {
        let (ty, span) = (value.ty.clone(), value.span);
        match &ty {
            Type::Pointer { to, .. } => {
                let space = self.space_of(&ty);
                Some(Expr { ty: Type::Pointer { to: to.clone(), space }, ..value })
            }
            Type::Int { .. } | Type::Ksym => {
                let to = super::infer::pointer(Type::Void, self.default_space());
                let value = if ty == Type::Ksym { value } else { self.wide(value, false) };
                Some(Expr { kind: ExprKind::Cast(Box::new(value)), ty: to, span })
            }
            _ => {
                let text = format!(
                    "{}() expects an integer or a pointer type as first argument ({} provided)",
                    call.name,
                    kind_word(&ty)
                );
                self.fail(call.span, text)
            }
        }
    }

    /// An argument that is text: with `probe` and `func` as their names.
    fn text_arg(&mut self, call: &Call<'_>, at: usize) -> Elaborated {
        let value = self.arg(call, at)?;
        let value = self.as_text(value)?;
        if let Type::String { .. } = value.ty {
            return Some(value);
        }
        let text = format!(
            "{}() expects a string as {} argument ({} provided)",
            call.name,
            super::call::ordinal(at),
            kind_word(&value.ty)
        );
        self.fail(call.arg_span(at), text)
    }

    pub(super) fn call_strlen(&mut self, call: &Call<'_>) -> Elaborated {
        let value = self.text_arg(call, 0)?;
        if let ExprKind::Bytes(bytes) = &value.kind {
            return Some(self.integer(bytes.len() as i128, call.span));
        }
        Some(Expr { kind: ExprKind::Call(typed::Call::Strlen, vec![value]), ty: Type::U64, span: call.span })
    }

    /// Bytes that a text may have, its end included.
    pub(super) fn call_strcap(&mut self, call: &Call<'_>) -> Elaborated {
        let value = self.arg(call, 0)?;
        let size = match &value.ty {
            Type::String { size } => *size,
            Type::Array { elem, count } if elem.size() == 1 => *count,
            other => {
                let text = format!("strcap() expects a string as first argument ({} provided)", kind_word(other));
                return self.fail(call.arg_span(0), text);
            }
        };
        Some(self.integer(i128::from(size), call.span))
    }

    pub(super) fn call_strcontains(&mut self, call: &Call<'_>) -> Elaborated {
        let (a, b) = (self.text_arg(call, 0), self.text_arg(call, 1));
        let (a, b) = (a?, b?);
        if let (ExprKind::Bytes(a), ExprKind::Bytes(b)) = (&a.kind, &b.kind) {
            return Some(self.boolean(position(a, b).is_some(), call.span));
        }
        Some(Expr { kind: ExprKind::Call(typed::Call::Strcontains, vec![a, b]), ty: Type::Bool, span: call.span })
    }

    pub(super) fn call_strstr(&mut self, call: &Call<'_>) -> Elaborated {
        let (a, b) = (self.text_arg(call, 0), self.text_arg(call, 1));
        let (a, b) = (a?, b?);
        if let (ExprKind::Bytes(a), ExprKind::Bytes(b)) = (&a.kind, &b.kind) {
            let at = position(a, b).map_or(-1, |at| at as i128);
            return Some(self.integer(at, call.span));
        }
        Some(Expr { kind: ExprKind::Call(typed::Call::Strstr, vec![a, b]), ty: Type::I64, span: call.span })
    }

    /// `strncmp(a, b, n)`: 0 when the first `n` bytes are equal.
    pub(super) fn call_strncmp(&mut self, call: &Call<'_>) -> Elaborated {
        let (a, b) = (self.text_arg(call, 0), self.text_arg(call, 1));
        let limit = self.literal_int(call, 2);
        let (a, b, limit) = (a?, b?, limit?);
        if limit < 0 {
            return self.fail(call.span, "Builtin strncmp requires a non-negative size");
        }
        let limit = limit.min(i128::from(u32::MAX)) as u32;
        let equal = self.text_equal(a, b, Some(limit), true, call.span);
        let span = call.span;
        if let ExprKind::Const(value) = equal.kind {
            return Some(self.integer(i128::from(value), span));
        }
        Some(Expr { kind: ExprKind::Cast(Box::new(equal)), ty: Type::U64, span })
    }

    /// `memcmp(a, b, n)`: text, arrays or what pointers point at.
    pub(super) fn call_memcmp(&mut self, call: &Call<'_>) -> Elaborated {
        let (a, b) = (self.arg(call, 0), self.arg(call, 1));
        let limit = self.literal_int(call, 2);
        let (a, b, limit) = (a?, b?, limit?);
        if !(0..=i128::from(self.config.max_strlen)).contains(&limit) {
            let most = self.config.max_strlen;
            return self.fail(call.arg_span(2), format!("memcmp() compares 0 to {most} bytes ({limit} provided)"));
        }
        let mut args = Vec::new();
        for (at, value) in [a, b].into_iter().enumerate() {
            args.push(match &value.ty {
                Type::Pointer { .. } | Type::Int { .. } => self.address_of_value(call, value)?,
                Type::String { size } | Type::Buffer { size } if i128::from(*size) < limit => {
                    let text = format!(
                        "memcmp() compares {limit} bytes, but the {} argument has {size}",
                        super::call::ordinal(at)
                    );
                    return self.fail(call.arg_span(at), text);
                }
                Type::Array { .. } | Type::Struct(_) | Type::Tuple(_) | Type::Record(_)
                    if i128::from(value.ty.size()) < limit =>
                {
                    let text = format!(
                        "memcmp() compares {limit} bytes, but the {} argument has {}",
                        super::call::ordinal(at),
                        value.ty.size()
                    );
                    return self.fail(call.arg_span(at), text);
                }
                Type::String { .. }
                | Type::Buffer { .. }
                | Type::Array { .. }
                | Type::Struct(_)
                | Type::Tuple(_)
                | Type::Record(_) => self.in_memory(value)?,
                other => {
                    let text = format!("memcmp() expects text, an array or a pointer ({} provided)", kind_word(other));
                    return self.fail(call.arg_span(at), text);
                }
            });
        }
        args.push(Expr { kind: ExprKind::Const(limit as i64), ty: Type::U64, span: call.span });
        let ty = super::infer::int(4, true);
        Some(Expr { kind: ExprKind::Call(typed::Call::Memcmp, args), ty, span: call.span })
    }

    pub(super) fn call_str_concat(&mut self, call: &Call<'_>) -> Elaborated {
        let (a, b) = (self.text_arg(call, 0), self.text_arg(call, 1));
        let (a, b) = (a?, b?);
        if let (ExprKind::Bytes(a), ExprKind::Bytes(b)) = (&a.kind, &b.kind) {
            return self.text(&[&a[..], &b[..]].concat(), call.span);
        }
        let size = (a.ty.size().saturating_add(b.ty.size()) - 1).min(self.config.max_strlen);
        let kind = ExprKind::Call(typed::Call::Concat, vec![a, b]);
        Some(Expr { kind, ty: Type::String { size }, span: call.span })
    }

    /// `comm(pid)`
    pub(super) fn call_comm(&mut self, call: &Call<'_>) -> Elaborated {
        let pid = self.int_arg(call, 0)?;
        let kind = ExprKind::Call(typed::Call::CommOf, vec![pid]);
        Some(Expr { kind, ty: Type::String { size: 16 }, span: call.span })
    }

    /// `strerror(n)`, `signal_name(n)`, `syscall_name(n)`
    pub(super) fn call_word(&mut self, call: &Call<'_>) -> Elaborated {
        let word = match call.name {
            "strerror" => Word::Errno,
            "signal_name" => Word::Signal,
            _ => Word::Syscall,
        };
        let number = self.int_arg(call, 0)?;
        Some(Expr { kind: ExprKind::Cast(Box::new(number)), ty: Type::Word(word), span: call.span })
    }

    /// `strftime(format, ns)`
    pub(super) fn call_strftime(&mut self, call: &Call<'_>) -> Elaborated {
        let format = self.literal_text(call, 0);
        let value = self.arg(call, 1)?;
        let clock = match value.kind {
            ExprKind::Builtin(Builtin::Nsecs(NsecsClock::Monotonic)) => Clock::Monotonic,
            ExprKind::Builtin(Builtin::Nsecs(NsecsClock::Tai | NsecsClock::SwTai)) => Clock::Tai,
            _ => Clock::Boot,
        };
        let ty = value.ty.clone();
        let number = if ty.is_integer() { self.as_number(value) } else { None };
        let Some(number) = number else {
            let text = format!("strftime() only supports integer arguments ({} provided)", kind_word(&ty));
            return self.fail(call.span, text);
        };
        let number = self.wide(number, false);
        let format = intern(&mut self.time_formats, format?);
        let kind = ExprKind::Call(typed::Call::Strftime { format, clock }, vec![number]);
        Some(Expr { kind, ty: Type::Timestamp, span: call.span })
    }

    /// `cgroup_path(id[, filter])`
    pub(super) fn call_cgroup_path(&mut self, call: &Call<'_>) -> Elaborated {
        let id = self.int_arg(call, 0)?;
        let id = self.wide(id, false);
        let filter = match call.args.len() {
            2 => self.literal_text(call, 1)?,
            _ => String::new(),
        };
        let filter = intern(&mut self.cgroup_filters, filter);
        let kind = ExprKind::Call(typed::Call::CgroupPath { filter }, vec![id]);
        Some(Expr { kind, ty: Type::CgroupPath, span: call.span })
    }

    /// `nsecs(clock)`
    pub(super) fn call_nsecs(&mut self, call: &Call<'_>) -> Elaborated {
        let clock = match call.expr(0).map(|arg| &arg.kind) {
            Some(crate::ast::ExprKind::Ident(word)) => match word.as_str() {
                "boot" => NsecsClock::Boot,
                "monotonic" => NsecsClock::Monotonic,
                "tai" => NsecsClock::Tai,
                "sw_tai" => NsecsClock::SwTai,
                other => {
                    let text = format!("Invalid timestamp mode: {other}");
                    let hint = Some("one of monotonic, boot, tai, sw_tai".to_owned());
                    return self.fail_with(call.arg_span(0), text, hint);
                }
            },
            None if call.args.is_empty() => NsecsClock::Boot,
            _ => return self.fail(call.arg_span(0), "nsecs() expects one of monotonic, boot, tai, sw_tai"),
        };
        Some(Expr { kind: ExprKind::Builtin(Builtin::Nsecs(clock)), ty: Type::U64, span: call.span })
    }

    /// A text that is made here.
    pub(super) fn bytes(&self, bytes: &[u8], ty: Type, span: Span) -> Expr {
        Expr { kind: ExprKind::Bytes(bytes.into()), ty, span }
    }
}

/// How long something is.
enum Length {
    Literal(i128),
    /// u64
    Dynamic(Expr),
}

/// Where `part` begins in `text`.
fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    (0..=text.len().checked_sub(part.len())?).find(|at| text[*at..].starts_with(part))
}
