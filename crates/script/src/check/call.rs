//! Calls: the table of functions, and what their arguments have in common.

use super::{Checker, Elaborated, address, aggregate};
use crate::typed::{Action, Expr, StmtKind};
use crate::types::Type;
use crate::{Diagnostic, Span, ast};

/// A call as written.
pub(super) struct Call<'c> {
    pub name: &'c str,
    pub args: &'c [ast::Arg],
    pub span: Span,
    pub name_span: Span,
}

impl<'c> Call<'c> {
    /// Argument `at` when it is an expression.
    pub(super) fn expr(&self, at: usize) -> Option<&'c ast::Expr> {
        match self.args.get(at)? {
            ast::Arg::Expr(expr) => Some(expr),
            ast::Arg::Type(_) => None,
        }
    }

    /// Where argument `at` stands; the call when it has none.
    pub(super) fn arg_span(&self, at: usize) -> Span {
        match self.args.get(at) {
            Some(ast::Arg::Expr(expr)) => expr.span,
            Some(ast::Arg::Type(ty)) => ty.span,
            None => self.span,
        }
    }
}

type Handler = for<'a, 'b> fn(&mut Checker<'a>, &Call<'b>) -> Elaborated;

/// A function of the language.
struct Function {
    name: &'static str,
    /// Fewest and most arguments.
    arity: (usize, usize),
    /// Changes what it looks at, so `--unsafe` is needed.
    is_unsafe: bool,
    run: Handler,
}

const ANY: usize = usize::MAX;

/// Every function, sorted by name. The words of the current moment that are also called (`pid()`) are in
/// [`builtins`](super::builtins), aggregations in [`aggregate`].
const FUNCTIONS: &[Function] = &[
    safe("assert", (1, 2), |c, call| c.call_assert(call)),
    safe("bswap", (1, 1), |c, call| c.call_bswap(call)),
    safe("buf", (1, 2), |c, call| c.call_buf(call)),
    safe("cat", (1, ANY), |c, call| c.call_format(call)),
    safe("cgroup_path", (1, 2), |c, call| c.call_cgroup_path(call)),
    safe("cgroupid", (1, 1), |c, call| c.call_cgroupid(call)),
    safe("clear", (1, 1), |c, call| c.call_clear(call)),
    safe("comm", (1, 1), |c, call| c.call_comm(call)),
    safe("container_of", (3, 3), |c, call| c.call_container_of(call)),
    safe("debugf", (1, ANY), |c, call| c.call_format(call)),
    safe("delete", (1, 2), |c, call| c.call_delete(call)),
    safe("dw_ustack", (0, 2), |c, call| c.call_stack(call)),
    safe("errorf", (1, ANY), |c, call| c.call_format(call)),
    safe("exit", (0, 1), |c, call| c.call_exit(call)),
    safe("fail", (0, ANY), |c, call| c.call_fail(call)),
    safe("find", (3, 3), |c, call| c.call_find(call)),
    safe("has_key", (2, 2), |c, call| c.call_has_key(call)),
    safe("is_array", (1, 1), |c, call| c.call_predicate(call)),
    safe("is_err", (1, 1), |c, call| c.call_is_err(call)),
    safe("is_integer", (1, 1), |c, call| c.call_predicate(call)),
    safe("is_literal", (1, 1), |c, call| c.call_predicate(call)),
    safe("is_ptr", (1, 1), |c, call| c.call_predicate(call)),
    safe("is_str", (1, 1), |c, call| c.call_predicate(call)),
    safe("is_unsigned_integer", (1, 1), |c, call| c.call_predicate(call)),
    safe("join", (1, 2), |c, call| c.call_join(call)),
    safe("kaddr", (1, 1), |c, call| c.call_kaddr(call)),
    safe("kfunc_allowed", (1, 1), |c, call| c.call_kfunc(call)),
    safe("kfunc_exist", (1, 1), |c, call| c.call_kfunc(call)),
    safe("kptr", (1, 1), |c, call| c.call_space(call)),
    safe("kstack", (0, 2), |c, call| c.call_stack(call)),
    safe("ksym", (1, 1), |c, call| c.call_ksym(call)),
    safe("len", (1, 1), |c, call| c.call_len(call)),
    safe("macaddr", (1, 1), |c, call| c.call_macaddr(call)),
    safe("memcmp", (3, 3), |c, call| c.call_memcmp(call)),
    safe("nsecs", (0, 1), |c, call| c.call_nsecs(call)),
    safe("ntop", (1, 2), |c, call| c.call_ntop(call)),
    dangerous("override", (1, 1), |c, call| c.call_override(call)),
    safe("path", (1, 2), |c, call| c.call_path(call)),
    safe("pcomm", (1, 1), |c, call| c.call_of_task(call, &["real_parent", "comm"])),
    safe("percpu_kaddr", (1, 2), |c, call| c.call_percpu_kaddr(call)),
    safe("pid", (0, 1), |c, call| c.call_pid(call)),
    safe("ppid", (1, 1), |c, call| c.call_of_task(call, &["real_parent", "tgid"])),
    safe("print", (1, 3), |c, call| c.call_print(call)),
    safe("printf", (1, ANY), |c, call| c.call_format(call)),
    safe("pton", (1, 1), |c, call| c.call_pton(call)),
    safe("reg", (1, 1), |c, call| c.call_reg(call)),
    dangerous("signal", (1, 1), |c, call| c.call_signal(call)),
    safe("signal_name", (1, 1), |c, call| c.call_word(call)),
    dangerous("signal_thread", (1, 1), |c, call| c.call_signal(call)),
    safe("skboutput", (4, 4), |c, call| c.call_skboutput(call)),
    safe("socket_cookie", (1, 1), |c, call| c.call_socket_cookie(call)),
    safe("static_assert", (1, 2), |c, call| c.call_static_assert(call)),
    safe("str", (1, 2), |c, call| c.call_str(call)),
    safe("str_concat", (2, 2), |c, call| c.call_str_concat(call)),
    safe("strcap", (1, 1), |c, call| c.call_strcap(call)),
    safe("strcontains", (2, 2), |c, call| c.call_strcontains(call)),
    safe("strerror", (1, 1), |c, call| c.call_word(call)),
    safe("strftime", (2, 2), |c, call| c.call_strftime(call)),
    safe("strlen", (1, 1), |c, call| c.call_strlen(call)),
    safe("strncmp", (3, 3), |c, call| c.call_strncmp(call)),
    safe("strstr", (2, 2), |c, call| c.call_strstr(call)),
    safe("syscall_name", (1, 1), |c, call| c.call_word(call)),
    dangerous("system", (1, ANY), |c, call| c.call_format(call)),
    safe("tid", (0, 1), |c, call| c.call_pid(call)),
    safe("time", (0, 1), |c, call| c.call_time(call)),
    safe("uaddr", (1, 1), |c, call| c.call_uaddr(call)),
    safe("unwatch", (1, 1), |c, call| c.call_unwatch(call)),
    safe("uptr", (1, 1), |c, call| c.call_space(call)),
    safe("ustack", (0, 2), |c, call| c.call_stack(call)),
    safe("usym", (1, 1), |c, call| c.call_usym(call)),
    safe("warnf", (1, ANY), |c, call| c.call_format(call)),
    dangerous("write_user", (2, 2), |c, call| c.call_write_user(call)),
    safe("zero", (1, 1), |c, call| c.call_clear(call)),
];

const fn safe(name: &'static str, arity: (usize, usize), run: Handler) -> Function {
    Function { name, arity, is_unsafe: false, run }
}

const fn dangerous(name: &'static str, arity: (usize, usize), run: Handler) -> Function {
    Function { name, arity, is_unsafe: true, run }
}

/// Whether there is a function of this name.
pub(super) fn is_function(name: &str) -> bool {
    find(name).is_some() || aggregate::is_aggregation(name)
}

fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

/// `no arguments`, `one argument`, `3 arguments`
pub(super) fn count_words(count: usize) -> String {
    match count {
        0 => "no arguments".to_owned(),
        1 => "one argument".to_owned(),
        count => format!("{count} arguments"),
    }
}

/// One word for the kind of a type, as messages about arguments use it.
pub(super) fn kind_word(ty: &Type) -> &'static str {
    match ty {
        Type::Void => "none",
        Type::Int { .. } => "integer",
        Type::Bool => "bool",
        Type::Float { .. } => "float",
        Type::Enum(_) => "enum",
        Type::String { .. } | Type::Word(_) => "string",
        Type::Buffer { .. } => "buffer",
        Type::Inet => "inet",
        Type::Mac => "mac_address",
        Type::Array { .. } => "array",
        Type::Pointer { .. } => "pointer",
        Type::Struct(_) => "record",
        Type::Tuple(_) => "tuple",
        Type::Record(_) => "record",
        Type::Ksym => "ksym",
        Type::Usym => "usym",
        Type::Stack(stack) if stack.user => "ustack",
        Type::Stack(_) => "kstack",
        Type::Timestamp => "timestamp",
        Type::CgroupPath => "cgroup_path",
        Type::Count => "count",
        Type::Sum { .. } => "sum",
        Type::Min { .. } => "min",
        Type::Max { .. } => "max",
        Type::Avg { .. } => "avg",
        Type::Stats { .. } => "stats",
        Type::Hist { .. } => "hist",
        Type::Lhist(_) => "lhist",
        Type::Tseries(_) => "tseries",
    }
}

impl Checker<'_> {
    pub(super) fn call(&mut self, name: &ast::Ident, args: &[ast::Arg], node: &ast::Expr) -> Elaborated {
        let call = Call { name: &name.name, args, span: node.span, name_span: name.span };
        if let Some(function) = self.function_names.get(call.name).copied() {
            return self.call_function(function, args, call.span);
        }
        if let Some(plain) = plain_args(args)
            && let Some(expanded) = self.define_call(call.name, plain, node)
        {
            return self.expr(&*expanded?);
        }
        if aggregate::is_aggregation(call.name) {
            return self.fail(call.span, format!("{}() should be directly assigned to a map", call.name));
        }
        if let Some(function) = find(call.name)
            && (!args.is_empty() || function.arity.0 == 0 || !super::builtins::is_builtin(call.name))
        {
            self.arity(&call, function.arity.0, function.arity.1)?;
            if function.is_unsafe && !self.options.allow_unsafe {
                let text = format!("{}() is an unsafe function being used in safe mode", call.name);
                let hint = Some("run with `--unsafe` to allow it".to_owned());
                return self.fail_with(call.span, text, hint);
            }
            return (function.run)(self, &call);
        }
        if super::builtins::is_builtin(call.name) {
            self.arity(&call, 0, 0)?;
            if let Some(found) = self.builtin(call.name, call.span) {
                return found;
            }
        }
        args.iter().for_each(|arg| {
            if let ast::Arg::Expr(arg) = arg {
                self.expr(arg);
            }
        });
        let names = FUNCTIONS.iter().map(|function| function.name).chain(self.function_names.keys().copied());
        let names = names.chain(self.macro_names.iter().copied());
        let near = skep_spec::nearest::did_you_mean(call.name, names);
        self.fail_with(call.name_span, format!("Unknown function: '{}'", call.name), near)
    }

    /// A macro of C with arguments.
    fn define_call(
        &mut self,
        name: &str,
        args: Vec<&ast::Expr>,
        node: &ast::Expr,
    ) -> Option<Option<std::rc::Rc<ast::Expr>>> {
        if let Some(expanded) = self.defines.get(&address(node)) {
            return Some(Some(expanded.clone()));
        }
        // Most names are no macros, and their arguments need no copy.
        if self.no_defines[1].contains(name) {
            return None;
        }
        let args: Vec<ast::Expr> = args.into_iter().cloned().collect();
        self.define(name, Some(&args), node)
    }

    /// Checks the number of arguments.
    pub(super) fn arity(&mut self, call: &Call<'_>, least: usize, most: usize) -> Option<()> {
        let (name, given) = (call.name, call.args.len());
        if given >= least && given <= most {
            return Some(());
        }
        let text = if least == most {
            format!("{name}() requires {} ({given} provided)", count_words(least))
        } else if given < least {
            let words = if least == 1 { "one argument".to_owned() } else { format!("{least} arguments") };
            format!("{name}() requires at least {words} ({given} provided)")
        } else {
            let words = if most == 1 { "one argument".to_owned() } else { format!("{most} arguments") };
            format!("{name}() takes up to {words} ({given} provided)")
        };
        self.fail(call.span, text)
    }

    /// Value of argument `at`.
    pub(super) fn arg(&mut self, call: &Call<'_>, at: usize) -> Elaborated {
        let Some(arg) = call.expr(at) else {
            return self.fail(call.arg_span(at), format!("{}() expects a value, not a type", call.name));
        };
        let value = self.expr(arg)?;
        if value.ty == Type::Void {
            return self.fail(arg.span, format!("{}() expects a value (none provided)", call.name));
        }
        Some(value)
    }

    /// Argument `at`, which must be an integer literal.
    pub(super) fn literal_int(&mut self, call: &Call<'_>, at: usize) -> Option<i128> {
        let value = self.arg(call, at)?;
        match self.folded(&value) {
            Some(number) if value.ty.is_integer() || value.ty == Type::Bool => Some(number),
            _ => {
                let word = match kind_word(&value.ty) {
                    "integer" => "non-literal integer",
                    word => word,
                };
                self.fail(call.arg_span(at), format!("{}() expects an integer literal ({word} provided)", call.name))
            }
        }
    }

    /// Argument `at`, which must be a string literal.
    pub(super) fn literal_text(&mut self, call: &Call<'_>, at: usize) -> Option<String> {
        let bytes = self.literal_bytes(call, at)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Argument `at`, which must be a string literal; of any length, since it stays in user space.
    pub(super) fn literal_bytes(&mut self, call: &Call<'_>, at: usize) -> Option<Vec<u8>> {
        if let Some(ast::Expr { kind: ast::ExprKind::Str(bytes), .. }) = call.expr(at) {
            return Some(bytes.clone());
        }
        let value = self.arg(call, at)?;
        match &value.kind {
            crate::typed::ExprKind::Bytes(bytes) if matches!(value.ty, Type::String { .. }) => Some(bytes.to_vec()),
            _ => {
                let word = kind_word(&value.ty);
                self.fail(call.arg_span(at), format!("{}() expects a string literal ({word} provided)", call.name))
            }
        }
    }

    /// An integer argument, of 8 bytes.
    pub(super) fn int_arg(&mut self, call: &Call<'_>, at: usize) -> Elaborated {
        let value = self.arg(call, at)?;
        let ty = value.ty.clone();
        let number =
            if matches!(ty, Type::Int { .. } | Type::Enum(_) | Type::Bool) { self.as_number(value) } else { None };
        let Some(number) = number else {
            let text = format!("{}() only supports integer arguments ({} provided)", call.name, kind_word(&ty));
            return self.fail(call.arg_span(at), text);
        };
        let signed = number.ty.is_signed();
        Some(self.wide(number, signed))
    }

    /// An address: a pointer or an integer, as a pointer that knows its space.
    pub(super) fn address_arg(&mut self, call: &Call<'_>, at: usize) -> Elaborated {
        let value = self.arg(call, at)?;
        let ty = value.ty.clone();
        let span = value.span;
        match &ty {
            Type::Pointer { to, .. } => {
                let space = self.space_of(&ty);
                Some(Expr { ty: Type::Pointer { to: to.clone(), space }, ..value })
            }
            Type::Int { .. } | Type::Ksym => {
                let to = super::infer::pointer(Type::Void, self.default_space());
                let value = if ty == Type::Ksym { value } else { self.wide(value, false) };
                Some(Expr { kind: crate::typed::ExprKind::Cast(Box::new(value)), ty: to, span })
            }
            _ => {
                let text = format!(
                    "{}() expects an integer or a pointer type as {} argument ({ty} provided)",
                    call.name,
                    ordinal(at)
                );
                self.fail(call.span, text)
            }
        }
    }

    /// Something for user space to do, as an expression without a value.
    pub(super) fn action(&mut self, action: Action, span: Span) -> Elaborated {
        self.effect_of(StmtKind::Action(action), span)
    }

    /// Whether a feature that may still change is allowed.
    pub(super) fn unstable(&mut self, key: &str, span: Span) -> Option<()> {
        let setting = self.config.unstable.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let feature = key.trim_start_matches("unstable_");
        match setting {
            Some("error") => {
                let text = format!("Feature '{feature}' is not enabled by default, and the script's config forbids it");
                self.fail_with(span, text, Some(format!("write `config = {{ {key} = enable }}`")))
            }
            Some("warn") => {
                let text = format!("Script is using an unstable feature: {feature}");
                self.diagnostics.push(Diagnostic::warning(span, text));
                Some(())
            }
            _ => Some(()),
        }
    }
}

pub(super) fn ordinal(at: usize) -> &'static str {
    ["first", "second", "third", "fourth"].get(at).copied().unwrap_or("last")
}

/// The arguments when none is a type.
fn plain_args(args: &[ast::Arg]) -> Option<Vec<&ast::Expr>> {
    args.iter()
        .map(|arg| match arg {
            ast::Arg::Expr(expr) => Some(expr),
            ast::Arg::Type(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
