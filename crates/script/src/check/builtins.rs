//! Words of the current moment: `pid`, `comm`, `args`, `retval` and the like. Most may be called as well: `pid()`.

use super::call::Call;
use super::infer;
use super::probe::argument_number;
use super::{Checker, Elaborated};
use crate::parser::BUILTINS;
use crate::points::{Arg, ArgAt, Numbered, Provider};
use crate::typed::{Builtin, Context, Expr, ExprKind, NsecsClock};
use crate::types::{Space, Stack, Type, Word};
use crate::{Span, ast, dwarf};

/// Every word, for hints.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().copied()
}

/// The frames of a stack when nothing is said.
const STACK_LIMIT: u32 = 127;

impl Checker<'_> {
    /// The value of a word. The outer `None`: there is no such word.
    pub(super) fn builtin(&mut self, name: &str, span: Span) -> Option<Elaborated> {
        let make = |builtin, ty| Some(Some(Expr { kind: ExprKind::Builtin(builtin), ty, span }));
        match name {
            "pid" => make(Builtin::Pid { init: false }, Type::U32),
            "tid" => make(Builtin::Tid { init: false }, Type::U32),
            "uid" => make(Builtin::Uid, Type::U32),
            "gid" => make(Builtin::Gid, Type::U32),
            "comm" => make(Builtin::Comm, Type::String { size: 16 }),
            "cgroup" => make(Builtin::Cgroup, Type::U64),
            "cpu" => make(Builtin::Cpu, Type::U32),
            "ncpus" => make(Builtin::Ncpus, Type::U32),
            "numaid" => make(Builtin::NumaNode, Type::U32),
            "rand" => make(Builtin::Rand, Type::U32),
            "jiffies" => make(Builtin::Jiffies, Type::U64),
            "nsecs" => make(Builtin::Nsecs(NsecsClock::Boot), Type::U64),
            "elapsed" => make(Builtin::Elapsed, Type::U64),
            "cpid" => make(Builtin::ChildPid, Type::U32),
            "has_cpid" => Some(Some(self.boolean(self.options.command.is_some(), span))),
            "usermode" => {
                if self.context() != Context::PerfEvent {
                    let text = "The usermode builtin can only be used with 'profile', 'interval', 'software' and 'hardware' probes";
                    return Some(self.fail(span, text));
                }
                make(Builtin::Usermode, Type::Bool)
            }
            "username" => {
                let uid = Expr { kind: ExprKind::Builtin(Builtin::Uid), ty: Type::U32, span };
                let kind = ExprKind::Cast(Box::new(uid));
                Some(Some(Expr { kind, ty: Type::Word(Word::User), span }))
            }
            "probe" => {
                if self.body.in_function {
                    return Some(self.fail(span, "The probe builtin can not be used in a function"));
                }
                make(Builtin::Place, Type::Word(Word::Place))
            }
            "probetype" => {
                let Some(provider) = self.provider() else {
                    return Some(self.fail(span, "The probetype builtin can not be used in a function"));
                };
                Some(self.text(provider.name().as_bytes(), span))
            }
            "func" => Some(self.func(span)),
            "curtask" => Some(self.curtask(span)),
            "ppid" => Some(self.task_path(None, &["real_parent", "tgid"], span)),
            "pcomm" => Some(self.task_path(None, &["real_parent", "comm"], span)),
            "leader_tid" => Some(self.task_path(None, &["group_leader", "pid"], span)),
            "leader_comm" => Some(self.task_path(None, &["group_leader", "comm"], span)),
            "kstack" | "ustack" | "dw_ustack" => Some(self.stack(name, self.config.stack_mode, STACK_LIMIT, span)),
            "retval" => Some(self.retval(span)),
            "args" => Some(self.whole_args(span)),
            "ctx" => Some(self.ctx(span)),
            "config" => Some(self.fail_with(
                span,
                "The config builtin is a record: name a setting",
                Some("for example `config.max_strlen`".to_owned()),
            )),
            _ => argument_number(name).map(|number| self.numbered_argument(number, span)),
        }
    }

    /// `config.key`, settings that are numbers or truths.
    pub(super) fn config_field(&mut self, key: &ast::Ident, span: Span) -> Elaborated {
        let config = self.config;
        let number = match key.name.as_str() {
            "max_strlen" => i128::from(config.max_strlen),
            "max_map_keys" => i128::from(config.max_map_keys),
            "max_probes" => i128::from(config.max_probes),
            "max_bpf_progs" => i128::from(config.max_bpf_progs),
            "max_cat_bytes" => i128::from(config.max_cat_bytes),
            "on_stack_limit" => i128::from(config.on_stack_limit),
            "log_size" => i128::from(config.log_size),
            "perf_rb_pages" => i128::from(config.perf_rb_pages),
            "print_maps_on_exit" => return Some(self.boolean(config.print_maps_on_exit, span)),
            "lazy_symbolication" => return Some(self.boolean(config.lazy_symbolication, span)),
            "cpp_demangle" => return Some(self.boolean(config.cpp_demangle, span)),
            "use_blazesym" => return Some(self.boolean(config.use_blazesym, span)),
            "show_debug_info" => return Some(self.boolean(config.show_debug_info, span)),
            "license" => return self.text(config.license.as_bytes(), span),
            "str_trunc_trailer" => return self.text(config.str_trunc_trailer.as_bytes(), span),
            "cache_user_symbols" => return self.text(config.cache_user_symbols.as_bytes(), span),
            other => return self.fail(key.span, format!("Unrecognized config variable: {other}")),
        };
        Some(self.integer(number, span))
    }

    fn func(&mut self, span: Span) -> Elaborated {
        use Provider::{Fentry, Fexit, Kprobe, Kretprobe, Uprobe, Uretprobe};
        let ty = match self.provider() {
            Some(Kprobe | Kretprobe | Fentry | Fexit) => Type::Ksym,
            Some(Uprobe | Uretprobe) => Type::Usym,
            other => {
                let word = other.map_or("function", Provider::name);
                return self.fail(span, format!("The func builtin can not be used with '{word}' probes"));
            }
        };
        Some(Expr { kind: ExprKind::Builtin(Builtin::Func), ty, span })
    }

    pub(super) fn curtask(&mut self, span: Span) -> Elaborated {
        let ty = match self.structs.tagged(ast::Tag::Struct, "task_struct") {
            Some(task) => infer::pointer(task, Space::Kernel),
            // Without the kernel's types it is an address all the same.
            None => infer::pointer(Type::Void, Space::Kernel),
        };
        Some(Expr { kind: ExprKind::Builtin(Builtin::Curtask), ty, span })
    }

    /// `ppid(task)`, `pcomm(task)`
    pub(super) fn call_of_task(&mut self, call: &Call<'_>, path: &[&str]) -> Elaborated {
        let task = self.arg(call, 0)?;
        let is_task = matches!(&task.ty, Type::Pointer { to, .. }
            if matches!(&**to, Type::Struct(of) if of.name.as_ref() == "struct task_struct"));
        if !is_task {
            let text = format!("{}() expects a 'struct task_struct *' ('{}' provided)", call.name, task.ty);
            let hint = Some("of a process whose number is known, `comm(pid)` gives the name".to_owned());
            return self.fail_with(call.arg_span(0), text, hint);
        }
        self.task_path(Some(task), path, call.span)
    }

    /// Members of a task, one behind the other: of `task`, or of the current one.
    pub(super) fn task_path(&mut self, task: Option<Expr>, path: &[&str], span: Span) -> Elaborated {
        let mut value = match task {
            Some(task) => task,
            None => self.curtask(span)?,
        };
        if !matches!(&value.ty, Type::Pointer { to, .. } if matches!(**to, Type::Struct(_))) {
            return self.fail(span, "the kernel's types (BTF) are needed here, and this machine has none");
        }
        for name in path {
            value = self.member(value, name, span, span)?;
        }
        Some(value)
    }

    /// A stack by the word for it.
    pub(super) fn stack(&mut self, name: &str, mode: crate::types::StackMode, limit: u32, span: Span) -> Elaborated {
        if self.body.in_function {
            return self.fail(span, format!("The {name} builtin can not be used in a function"));
        }
        let tables = name == "dw_ustack";
        if tables {
            self.unstable("unstable_dw_ustack", span)?;
        }
        let ty = Type::Stack(Stack { user: name != "kstack", tables, mode, limit });
        Some(Expr { kind: ExprKind::Builtin(Builtin::Stack), ty, span })
    }

    fn retval(&mut self, span: Span) -> Elaborated {
        use Provider::{Fexit, Kretprobe, Uretprobe};
        if !matches!(self.provider(), Some(Kretprobe | Uretprobe | Fexit)) {
            let text = "The retval builtin can only be used with 'kretprobe' and 'uretprobe' and 'fentry' probes";
            let hint = match self.provider() {
                Some(Provider::Kprobe) => Some("a kprobe is the function's start: `kretprobe:FUNCTION` is its end"),
                Some(Provider::Uprobe) => {
                    Some("a uprobe is the function's start: `uretprobe:FILE:FUNCTION` is its end")
                }
                Some(Provider::Fentry) => Some("fentry is the function's start: `fexit:FUNCTION` is its end"),
                Some(Provider::Tracepoint) => {
                    Some("what a system call returns is `args.ret` of `tracepoint:syscalls:sys_exit_NAME`")
                }
                _ => None,
            };
            return self.fail_with(span, text, hint.map(str::to_owned));
        }
        let Some(returned) = self.returned().filter(|returned| returned.ty != Type::Void) else {
            let text = "The function returns nothing, so there is no retval";
            return self.fail(span, text);
        };
        let arguments = returned.arguments;
        Some(Expr { kind: ExprKind::ReturnValue { arguments }, ty: returned.ty, span })
    }

    /// `argN`
    fn numbered_argument(&mut self, number: u32, span: Span) -> Elaborated {
        use Provider::{Fentry, Fexit, Kprobe, RawTracepoint, Uprobe, Usdt};
        if !matches!(self.provider(), Some(Kprobe | Uprobe | Usdt | RawTracepoint | Fentry | Fexit)) {
            let text = format!("The arg{number} builtin can only be used with 'kprobes', 'uprobes' and 'usdt' probes");
            let fields = self.args().filter(|_| self.provider() == Some(Provider::Tracepoint));
            let names: Vec<String> =
                fields.iter().flat_map(|args| &args.fields).take(12).map(|arg| format!("args.{}", arg.name)).collect();
            let hint = (!names.is_empty()).then(|| format!("a tracepoint's fields have names: {}", names.join(", ")));
            return self.fail_with(span, text, hint);
        }
        let args = self.args()?;
        let most = match args.numbered {
            Numbered::No => {
                let text =
                    format!("The arg{number} builtin can only be used with 'kprobes', 'uprobes' and 'usdt' probes");
                return self.fail(span, text);
            }
            // Six registers and some of the stack.
            Numbered::Registers => 64,
            Numbered::Slots(count) => count,
            Numbered::Usdt(count) => count,
        };
        if number >= most {
            // A pattern has many.
            let probe = match self.unit().map(|unit| unit.points.as_slice()) {
                Some([point]) if point.provider == Usdt => point.place.name.clone(),
                _ => "the probe".to_owned(),
            };
            let text = match most {
                0 if probe == "the probe" => "The probe has no arguments".to_owned(),
                0 => format!("arg{number} is not there: {probe} has no arguments"),
                1 => format!("arg{number} is not there: {probe} has arg0 alone"),
                most => format!("arg{number} is not there: {probe} has arg0 to arg{}", most - 1),
            };
            return self.fail(span, text);
        }
        Some(Expr { kind: ExprKind::Argument(number), ty: Type::U64, span })
    }

    /// One of the members of `args`.
    pub(super) fn argument(&mut self, arg: &Arg, span: Span) -> Expr {
        let kind = match arg.at {
            ArgAt::Field { off, bits } => ExprKind::ContextField { off, bits },
            ArgAt::DataLoc { off, rel } => ExprKind::DataLoc { off, rel },
            ArgAt::Argument { slot, .. } if !arg.ty.is_scalar() => return self.argument_by_value(slot, &arg.ty, span),
            ArgAt::Argument { slot, .. } => ExprKind::Argument(slot),
            ArgAt::Pointee { slot } => {
                let ty = infer::pointer(arg.ty.clone(), Space::User);
                let pointer = Box::new(Expr { kind: ExprKind::Argument(slot), ty, span });
                ExprKind::Deref { pointer, off: 0, bits: None }
            }
            ArgAt::Absent(_) => ExprKind::Const(0),
        };
        Expr { kind, ty: arg.ty.clone(), span }
    }

    /// A struct that is passed as such: in registers or slots, or in the caller's part of the stack.
    fn argument_by_value(&mut self, slot: u32, ty: &Type, span: Span) -> Expr {
        let number = |kind| Expr { kind, ty: Type::U64, span };
        if self.context() == Context::Registers && slot >= dwarf::REGISTERS {
            let (register, off) = crate::lower::stack_argument(slot - dwarf::REGISTERS);
            let kind = ExprKind::Register(register);
            let pointer = Expr { kind, ty: infer::pointer(ty.clone(), Space::User), span };
            let kind = ExprKind::Deref { pointer: Box::new(pointer), off, bits: None };
            return Expr { kind, ty: ty.clone(), span };
        }
        let words: Vec<Expr> = (0..ty.size().div_ceil(8)).map(|at| number(ExprKind::Argument(slot + at))).collect();
        let whole = Type::Tuple(words.iter().map(|word| word.ty.clone()).collect());
        let base = Expr { kind: ExprKind::Tuple(words), ty: whole, span };
        Expr { kind: ExprKind::Field { base: Box::new(base), off: 0, bits: None }, ty: ty.clone(), span }
    }

    /// `args.name`
    pub(super) fn args_field(&mut self, name: &ast::Ident, base: Span, span: Span) -> Elaborated {
        if !self.has_args() {
            return self.no_args(base);
        }
        let args = self.args()?;
        if let Some(arg) = args.fields.iter().find(|arg| arg.name == name.name) {
            if let ArgAt::Absent(why) = arg.at {
                return self.fail(name.span, format!("Cannot read the function parameter {}: {why}", name.name));
            }
            return Some(self.argument(arg, span));
        }
        // `args.common_pid` of a tracepoint and the like are listed too, so nothing is left to look for.
        let near = skep_spec::nearest::did_you_mean(&name.name, args.fields.iter().map(|arg| arg.name.as_str()));
        let hint = near.or_else(|| {
            let names: Vec<&str> = args.fields.iter().map(|arg| arg.name.as_str()).collect();
            (!names.is_empty() && names.len() <= 24).then(|| format!("there are: {}", names.join(", ")))
        });
        let text = if args.name.is_empty() {
            format!("Can't find function parameter {}", name.name)
        } else {
            format!("Struct/union of type '{}' does not contain a field named '{}'", args.name, name.name)
        };
        self.fail_with(name.span, text, hint)
    }

    fn has_args(&self) -> bool {
        use Provider::{Fentry, Fexit, Iter, RawTracepoint, Tracepoint, Uprobe};
        matches!(self.provider(), Some(Tracepoint | RawTracepoint | Fentry | Fexit | Uprobe | Iter))
            // With the kernel's types, the arguments of its functions have names in kprobes too.
            || self.args().is_some_and(|args| !args.fields.is_empty())
    }

    /// Whether `args` has a member of this name.
    pub(super) fn args_have(&self, name: &str, point_span: Span) -> bool {
        // A probe that does not mention its arguments has not asked for them yet.
        let asked = || {
            let point = self.unit()?.points.first()?;
            self.resolver.args(point, point_span).ok()
        };
        let args = self.args().or_else(asked);
        args.is_some_and(|args| args.fields.iter().any(|arg| arg.name == name))
    }

    fn no_args<T>(&mut self, span: Span) -> Option<T> {
        let word = self.provider().map_or("function", Provider::name);
        let text = format!("The args builtin can only be used with tracepoint/fentry/uprobe probes ({word} used here)");
        self.fail(span, text)
    }

    /// `args` as a whole: a record of its members.
    fn whole_args(&mut self, span: Span) -> Elaborated {
        if !self.has_args() {
            return self.no_args(span);
        }
        let args = self.args()?;
        let there = || args.fields.iter().filter(|arg| !matches!(arg.at, ArgAt::Absent(_)));
        let elems: Vec<Expr> = there().map(|arg| self.argument(arg, span)).collect();
        if elems.is_empty() {
            return self.fail(span, "The probe has no arguments");
        }
        let names = there().map(|arg| arg.name.clone());
        let ty = Type::Record(names.zip(elems.iter().map(|elem| elem.ty.clone())).collect());
        self.limited(Expr { kind: ExprKind::Tuple(elems), ty, span })
    }

    /// `ctx`: the pointer to the context.
    fn ctx(&mut self, span: Span) -> Elaborated {
        if self.context() == Context::None || self.body.in_function {
            return self.fail(span, "The ctx builtin can not be used here: the program has no context");
        }
        let point = self.unit().and_then(|unit| unit.points.first()).cloned()?;
        let ty = match self.args().and_then(|args| args.ctx.clone()) {
            Some(ty) => ty,
            None => self.resolver.context_type(&point),
        };
        Some(Expr { kind: ExprKind::Context, ty, span })
    }
}
