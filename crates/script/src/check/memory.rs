//! Functions of addresses, registers, stacks, the network and tasks.

use std::net::{Ipv4Addr, Ipv6Addr};

use skep_insn::helpers;

use super::call::{Call, kind_word};
use super::infer::{int, pointer};
use super::{Checker, Elaborated, config};
use crate::ast;
use crate::plan::Attach;
use crate::points::Provider;
use crate::typed::{self, Builtin, Context, Expr, ExprKind};
use crate::types::{Space, StackMode, Type};

/// Most frames of a stack.
const MAX_FRAMES: i128 = 1024;

/// Offsets in `struct pt_regs`, in bytes (`arch/x86/include/asm/ptrace.h`).
#[cfg(target_arch = "x86_64")]
const REGISTERS: &[(&str, u32)] = &[
    ("r15", 0),
    ("r14", 8),
    ("r13", 16),
    ("r12", 24),
    ("bp", 32),
    ("bx", 40),
    ("r11", 48),
    ("r10", 56),
    ("r9", 64),
    ("r8", 72),
    ("ax", 80),
    ("cx", 88),
    ("dx", 96),
    ("si", 104),
    ("di", 112),
    ("orig_ax", 120),
    ("ip", 128),
    ("pc", 128),
    ("cs", 136),
    ("flags", 144),
    ("sp", 152),
    ("ss", 160),
];

/// Offsets in `struct user_pt_regs`, in bytes (`arch/arm64/include/uapi/asm/ptrace.h`).
#[cfg(not(target_arch = "x86_64"))]
const REGISTERS: &[(&str, u32)] = &[
    ("r0", 0),
    ("r1", 8),
    ("r2", 16),
    ("r3", 24),
    ("r4", 32),
    ("r5", 40),
    ("r6", 48),
    ("r7", 56),
    ("r8", 64),
    ("r9", 72),
    ("r10", 80),
    ("r11", 88),
    ("r12", 96),
    ("r13", 104),
    ("r14", 112),
    ("r15", 120),
    ("r16", 128),
    ("r17", 136),
    ("r18", 144),
    ("r19", 152),
    ("r20", 160),
    ("r21", 168),
    ("r22", 176),
    ("r23", 184),
    ("r24", 192),
    ("r25", 200),
    ("r26", 208),
    ("r27", 216),
    ("r28", 224),
    ("r29", 232),
    ("r30", 240),
    ("sp", 248),
    ("pc", 256),
    ("ip", 256),
    ("pstate", 264),
];

/// Signals by name, without `SIG` (`asm-generic/signal.h`, which x86 and arm64 share).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

impl Checker<'_> {
    /// `kptr(e)`, `uptr(e)`: says whose memory an address is of.
    pub(super) fn call_space(&mut self, call: &Call<'_>) -> Elaborated {
        let space = if call.name == "kptr" { Space::Kernel } else { Space::User };
        let value = self.address_arg(call, 0)?;
        let Type::Pointer { to, .. } = &value.ty else { return None };
        let ty = Type::Pointer { to: to.clone(), space };
        Some(Expr { ty, span: call.span, ..value })
    }

    /// `ksym(address)`
    pub(super) fn call_ksym(&mut self, call: &Call<'_>) -> Elaborated {
        let address = self.address_number(call)?;
        Some(Expr { kind: ExprKind::Cast(Box::new(address)), ty: Type::Ksym, span: call.span })
    }

    /// `usym(address)`
    pub(super) fn call_usym(&mut self, call: &Call<'_>) -> Elaborated {
        let address = self.address_number(call)?;
        let kind = ExprKind::Call(typed::Call::Usym, vec![address]);
        Some(Expr { kind, ty: Type::Usym, span: call.span })
    }

    /// The first argument as the number of an address.
    fn address_number(&mut self, call: &Call<'_>) -> Elaborated {
        let value = self.arg(call, 0)?;
        if !matches!(value.ty, Type::Int { .. } | Type::Pointer { .. } | Type::Ksym) {
            return self.fail(call.span, format!("{}() expects an integer or pointer argument", call.name));
        }
        let value = self.as_number(value)?;
        Some(self.wide(value, false))
    }

    /// `kaddr("symbol")`
    pub(super) fn call_kaddr(&mut self, call: &Call<'_>) -> Elaborated {
        let name = self.literal_text(call, 0)?;
        match self.structs.symbol(&name) {
            Ok(found) => match found {
                Some(address) => {
                    let kind = ExprKind::Const(address as i64);
                    let value = Expr { kind, ty: Type::U64, span: call.span };
                    Some(Expr {
                        kind: ExprKind::Cast(Box::new(value)),
                        ty: pointer(Type::U64, Space::Kernel),
                        span: call.span,
                    })
                }
                None => {
                    let hint =
                        "the kernel lists symbols of data only when it is built with CONFIG_KALLSYMS_ALL".to_owned();
                    self.fail_with(call.span, format!("Failed to resolve kernel symbol: '{name}'"), Some(hint))
                }
            },
            Err(error) => self.fail(call.span, format!("Failed to resolve kernel symbol: '{name}': {error}")),
        }
    }

    /// `uaddr("symbol")`, `uaddr("library:symbol")`
    pub(super) fn call_uaddr(&mut self, call: &Call<'_>) -> Elaborated {
        let written = self.literal_text(call, 0)?;
        if !matches!(self.provider(), Some(Provider::Uprobe | Provider::Uretprobe | Provider::Usdt)) {
            return self.fail(call.span, "uaddr can only be used with u(ret)probes and usdt probes");
        }
        let (library, name) = match written.split_once(':') {
            Some((library, name)) => (Some(library), name),
            None => (None, written.as_str()),
        };
        let binary = match library {
            Some(library) => match self.target.binary(library, self.options.pid) {
                Ok(found) => found,
                Err(error) => return self.fail(call.span, format!("Failed to find '{library}': {error}")),
            },
            None => self.unit().and_then(|unit| unit.points.first()).and_then(|point| match &point.place.attach {
                Attach::Section { binary, .. } => binary.clone(),
                _ => None,
            }),
        };
        let Some(binary) = binary else {
            return self.fail(call.span, format!("Could not resolve symbol: {written}: no file to look into"));
        };
        let symbol = match self.target.user_symbol(&binary, name) {
            Ok(Some(symbol)) => symbol,
            Ok(None) => return self.fail(call.span, format!("Could not resolve symbol: {}:{name}", binary.display())),
            Err(error) => {
                return self.fail(call.span, format!("Could not resolve symbol: {}:{name}: {error}", binary.display()));
            }
        };
        let to = match symbol.size_bytes {
            size @ (1 | 2 | 4 | 8) => int(size as u8, false),
            _ => int(8, false),
        };
        let ty = pointer(to, Space::User);
        let span = call.span;
        let number = |number: u64| Expr { kind: ExprKind::Const(number as i64), ty: Type::U64, span };
        let address = match symbol.code_start {
            None => number(symbol.address),
            Some(_) if is_library(&binary) => {
                let text = format!("where `{}` is loaded is known to its process alone", binary.display());
                return self
                    .fail(span, format!("Could not resolve symbol: {written}: {text}; name one of the program"));
            }
            // The process knows where its program's code begins (`mm_struct.start_code`).
            Some(start) => {
                let code = Box::new(self.task_path(None, &["mm", "start_code"], span)?);
                let from_code = Box::new(number(symbol.address.wrapping_sub(start)));
                Expr { kind: ExprKind::Binary(ast::BinaryOp::Add, code, from_code), ty: Type::U64, span }
            }
        };
        Some(Expr { kind: ExprKind::Cast(Box::new(address)), ty, span })
    }

    /// `percpu_kaddr("symbol"[, cpu])`
    pub(super) fn call_percpu_kaddr(&mut self, call: &Call<'_>) -> Elaborated {
        let symbol = self.literal_text(call, 0)?;
        let cpu = match call.args.len() {
            2 => self.int_arg(call, 1)?,
            _ => {
                let cpu = Expr { kind: ExprKind::Builtin(Builtin::Cpu), ty: Type::U32, span: call.span };
                self.wide(cpu, false)
            }
        };
        // The kernel itself looks a typed variable up in kallsyms, so its types (BTF) would not help where that is thin.
        for needed in [symbol.as_str(), "__per_cpu_offset"] {
            if !self.structs.symbol(needed).is_ok_and(|found| found.is_some()) {
                let text = format!("Failed to resolve kernel symbol: '{needed}'");
                let hint = "the kernel lists symbols of data only when it is built with CONFIG_KALLSYMS_ALL".to_owned();
                return self.fail_with(call.arg_span(0), text, Some(hint));
            }
        }
        let kind = ExprKind::Call(typed::Call::PercpuKaddr { symbol }, vec![cpu]);
        Some(Expr { kind, ty: pointer(Type::U64, Space::Kernel), span: call.span })
    }

    /// `reg("ip")`
    pub(super) fn call_reg(&mut self, call: &Call<'_>) -> Elaborated {
        let name = self.literal_text(call, 0)?;
        if !matches!(self.context(), Context::Registers | Context::PerfEvent) || self.body.in_function {
            let word = self.provider().map_or("function", Provider::name);
            return self.fail(call.span, format!("reg can not be used with \"{word}\" probes"));
        }
        let Some((_, off)) = REGISTERS.iter().find(|(it, _)| *it == name) else {
            let near = skep_spec::nearest::did_you_mean(&name, REGISTERS.iter().map(|(it, _)| *it));
            let text = format!("'{name}' is not a valid register on this architecture ({})", std::env::consts::ARCH);
            return self.fail_with(call.arg_span(0), text, near);
        };
        Some(Expr { kind: ExprKind::Register(*off), ty: Type::U64, span: call.span })
    }

    /// `kstack([mode][, frames])`, `ustack(...)`, `dw_ustack(...)`
    pub(super) fn call_stack(&mut self, call: &Call<'_>) -> Elaborated {
        let mut mode = None;
        let mut limit = None;
        for at in 0..call.args.len() {
            if let Some(ast::ExprKind::Ident(word)) = call.expr(at).map(|arg| &arg.kind)
                && let Some(found) = config::stack_mode(word)
            {
                if mode.is_some() || at > 0 {
                    return self
                        .fail(call.arg_span(at), format!("{}() takes the mode first, then the frames", call.name));
                }
                mode = Some(found);
                continue;
            }
            if let Some(ast::ExprKind::Ident(word)) = call.expr(at).map(|arg| &arg.kind)
                && at == 0
                && self.structs.constant(word).is_none()
            {
                let text = format!("Invalid stack mode: {word}");
                let hint = Some("one of bpftrace, perf, raw, build_id".to_owned());
                return self.fail_with(call.arg_span(at), text, hint);
            }
            if limit.is_some() {
                return self.fail(call.arg_span(at), format!("{}() takes the mode first, then the frames", call.name));
            }
            limit = Some((self.literal_int(call, at)?, call.arg_span(at)));
        }
        if call.name != "ustack" && mode == Some(StackMode::BuildId) {
            let hint = Some("files have build ids: of the kernel, `perf` and `raw` show addresses".to_owned());
            return self.fail_with(call.span, "'build_id' stack mode can only be used for ustack", hint);
        }
        let mode = mode.unwrap_or(self.config.stack_mode);
        let limit = match limit {
            None => 127,
            Some((limit, _)) if (1..=MAX_FRAMES).contains(&limit) => limit as u32,
            Some((limit, span)) => {
                let text = format!("{}([int limit]): limit is from 1 to {MAX_FRAMES}, {limit} given", call.name);
                return self.fail(span, text);
            }
        };
        self.stack(call.name, mode, limit, call.span)
    }

    /// `ntop([family, ]address)`
    pub(super) fn call_ntop(&mut self, call: &Call<'_>) -> Elaborated {
        let two = call.args.len() == 2;
        let family = if two { Some(self.int_arg(call, 0)?) } else { None };
        let address = self.arg(call, usize::from(two))?;
        let span = call.span;
        let known = family.as_ref().and_then(|family| self.folded(family));
        let address = match address.ty.clone() {
            Type::Int { .. } | Type::Inet => address,
            ty @ (Type::Array { .. } | Type::Struct(_)) if matches!(ty.size(), 4 | 16) => address,
            Type::Pointer { to, .. } => {
                let target = (*to).clone();
                let size = match (target.size(), known) {
                    (size @ (4 | 16), _) if matches!(target, Type::Array { .. } | Type::Struct(_)) => size,
                    (_, Some(2)) => 4,
                    (_, Some(10)) => 16,
                    // Whatever the family turns out to be, it is no longer.
                    (_, None) if two => 16,
                    _ => {
                        let hint = Some("say the family: `ntop(AF_INET6, p)`".to_owned());
                        return self.fail_with(span, "ntop() does not know how long the address is", hint);
                    }
                };
                let bytes = Type::Array { elem: int(1, false).into(), count: size };
                let space = self.space_of(&address.ty);
                let at = Expr { ty: pointer(bytes, space), ..address };
                self.read_pointer(at, span)?
            }
            other => {
                let text = format!("ntop() expects an integer or array argument, found {}", kind_word(&other));
                return self.fail(span, text);
            }
        };
        if address.ty == Type::Inet {
            return Some(address);
        }
        let address = if address.ty.is_integer() {
            let number = self.as_number(address)?;
            let four = int(4, false);
            if number.ty == four {
                number
            } else {
                Expr { span: number.span, ty: four, kind: ExprKind::Cast(Box::new(number)) }
            }
        } else {
            address
        };
        let family = match family {
            Some(family) => self.wide(family, true),
            None => {
                let family = if address.ty.size() == 16 { 10 } else { 2 };
                Expr { kind: ExprKind::Const(family), ty: Type::I64, span }
            }
        };
        Some(Expr { kind: ExprKind::Call(typed::Call::Ntop, vec![family, address]), ty: Type::Inet, span })
    }

    /// `pton("127.0.0.1")`: an array of 4 or 16 bytes.
    pub(super) fn call_pton(&mut self, call: &Call<'_>) -> Elaborated {
        let text = self.literal_text(call, 0)?;
        let bytes: Vec<u8> = if let Ok(address) = text.parse::<Ipv4Addr>() {
            address.octets().to_vec()
        } else if let Ok(address) = text.parse::<Ipv6Addr>() {
            address.octets().to_vec()
        } else {
            return self.fail(
                call.arg_span(0),
                format!("pton() expects an string argument of an IPv4 or IPv6 address, got {text}"),
            );
        };
        let ty = Type::Array { elem: int(1, false).into(), count: bytes.len() as u32 };
        Some(self.bytes(&bytes, ty, call.span))
    }

    /// `macaddr(p)`: six bytes of an array or behind a pointer.
    pub(super) fn call_macaddr(&mut self, call: &Call<'_>) -> Elaborated {
        let value = self.arg(call, 0)?;
        let value = match value.ty.clone() {
            Type::Array { .. } | Type::String { .. } if value.ty.size() == 6 => value,
            ty @ Type::Pointer { .. } => {
                let bytes = Type::Array { elem: int(1, false).into(), count: 6 };
                let space = self.space_of(&ty);
                let at = Expr { ty: pointer(bytes, space), ..value };
                self.read_pointer(at, call.span)?
            }
            Type::Array { .. } => {
                let text = format!("macaddr() argument must be 6 bytes in size ({} provided)", value.ty.size());
                return self.fail(call.span, text);
            }
            other => {
                let text =
                    format!("macaddr() only supports array or pointer arguments ({} provided)", kind_word(&other));
                return self.fail(call.span, text);
            }
        };
        Some(Expr { kind: ExprKind::Call(typed::Call::Macaddr, vec![value]), ty: Type::Mac, span: call.span })
    }

    /// `cgroupid("/sys/fs/cgroup/...")`
    pub(super) fn call_cgroupid(&mut self, call: &Call<'_>) -> Elaborated {
        let path = self.literal_text(call, 0)?;
        match self.target.cgroup_id(path.as_ref()) {
            Ok(id) => {
                let value = Expr { kind: ExprKind::Const(id as i64), ty: Type::U64, span: call.span };
                Some(value)
            }
            Err(error) => self.fail(call.span, format!("Failed to get cgroup id of '{path}': {error}")),
        }
    }

    /// `path(p[, n])`: the kernel's own way to a file.
    pub(super) fn call_path(&mut self, call: &Call<'_>) -> Elaborated {
        if !matches!(self.provider(), Some(Provider::Fentry | Provider::Fexit | Provider::Iter)) {
            return self.fail(call.span, "The path function can only be used with 'fentry', 'fexit', 'iter' probes");
        }
        let size = match call.args.len() {
            2 => {
                let size = self.literal_int(call, 1)?;
                if !(1..=i128::from(self.config.max_strlen)).contains(&size) {
                    let most = self.config.max_strlen;
                    return self.fail(call.arg_span(1), format!("path() size is from 1 to {most} ({size} provided)"));
                }
                size as u32
            }
            _ => self.config.max_strlen,
        };
        let value = self.arg(call, 0)?;
        let path = match &value.ty {
            Type::Pointer { .. } => value,
            Type::Struct(_) => self.in_memory(value)?,
            other => {
                let text = format!("path() only supports pointer or record argument ({} provided)", kind_word(other));
                return self.fail(call.span, text);
            }
        };
        Some(Expr { kind: ExprKind::Call(typed::Call::Path, vec![path]), ty: Type::String { size }, span: call.span })
    }

    /// `bswap(n)`
    pub(super) fn call_bswap(&mut self, call: &Call<'_>) -> Elaborated {
        let value = self.arg(call, 0)?;
        if !value.ty.is_integer() {
            let text = format!("bswap() only supports integer arguments ({} provided)", kind_word(&value.ty));
            return self.fail(call.span, text);
        }
        let folded = matches!(value.kind, ExprKind::Const(_)).then(|| self.const_int(&value)).flatten();
        let is_literal = call.expr(0).is_some_and(|arg| matches!(arg.kind, ast::ExprKind::Int { .. }));
        // A literal has the size that holds it: bswap(0x1234) is 0x3412. Arithmetic of literals is of 64 bits.
        let ty = match folded {
            Some(_)
                if !is_literal && matches!(call.expr(0).map(|arg| &arg.kind), Some(ast::ExprKind::Binary { .. })) =>
            {
                int(8, false)
            }
            Some(number) => {
                let size = [1u8, 2, 4, 8].into_iter().find(|size| super::infer::holds(&int(*size, false), number));
                int(size.unwrap_or(8), false)
            }
            None => int(value.ty.size() as u8, false),
        };
        let number = self.as_number(value)?;
        if ty.size() == 1 {
            return Some(Expr { kind: ExprKind::Cast(Box::new(number)), ty, span: call.span });
        }
        let number = if number.ty == ty {
            number
        } else {
            let span = number.span;
            Expr { kind: ExprKind::Cast(Box::new(number)), ty: ty.clone(), span }
        };
        Some(Expr { kind: ExprKind::Call(typed::Call::Bswap, vec![number]), ty, span: call.span })
    }

    /// `is_err(p)`: an address that is an error number of the kernel (`IS_ERR`).
    pub(super) fn call_is_err(&mut self, call: &Call<'_>) -> Elaborated {
        let number = self.address_number(call)?;
        let span = call.span;
        let least = Expr { kind: ExprKind::Const(-4095), ty: Type::U64, span };
        let kind = ExprKind::Compare(ast::BinaryOp::Ge, Box::new(number), Box::new(least));
        Some(Expr { kind, ty: Type::Bool, span })
    }

    pub(super) fn call_socket_cookie(&mut self, call: &Call<'_>) -> Elaborated {
        // The helper that takes a `struct sock *` is there for programs that know types (kernel/trace/bpf_trace.c,
        // `tracing_prog_func_proto`).
        if !matches!(self.provider(), Some(Provider::Fentry | Provider::Fexit | Provider::Iter)) {
            let text = "socket_cookie can only be used with 'fentry', 'fexit' and 'iter' probes";
            return self.fail(call.span, text);
        }
        let socket = self.arg(call, 0)?;
        if !matches!(socket.ty, Type::Pointer { .. }) {
            let text =
                format!("socket_cookie() only supports 'struct sock *' as the argument ({} provided)", socket.ty);
            return self.fail(call.span, text);
        }
        Some(Expr { kind: ExprKind::Call(typed::Call::SocketCookie, vec![socket]), ty: Type::U64, span: call.span })
    }

    /// `override(n)`
    pub(super) fn call_override(&mut self, call: &Call<'_>) -> Elaborated {
        if self.provider() != Some(Provider::Kprobe) {
            return self.fail(call.span, "override can only be used with kprobes.");
        }
        if !self.target.has_helper(helpers::OVERRIDE_RETURN) {
            let hint = Some("CONFIG_BPF_KPROBE_OVERRIDE makes one that can".to_owned());
            return self.fail_with(call.span, "this kernel cannot override what a function returns", hint);
        }
        let value = self.int_arg(call, 0)?;
        let value = self.wide(value, false);
        Some(Expr { kind: ExprKind::Call(typed::Call::Override, vec![value]), ty: Type::Void, span: call.span })
    }

    /// `signal(n)`, `signal("KILL")`, `signal_thread(...)`
    pub(super) fn call_signal(&mut self, call: &Call<'_>) -> Elaborated {
        if matches!(
            self.provider(),
            Some(
                Provider::Begin
                    | Provider::End
                    | Provider::Interval
                    | Provider::Signal
                    | Provider::Test
                    | Provider::Bench
            )
        ) {
            let word = self.provider().map_or("", Provider::name);
            return self.fail(call.span, format!("{} can not be used with \"{word}\" probes", call.name));
        }
        let value = self.arg(call, 0)?;
        let number = if let Some(name) = self.const_text(&value) {
            let upper = name.to_uppercase();
            let short = upper.strip_prefix("SIG").unwrap_or(&upper);
            match SIGNALS.iter().position(|it| *it == short) {
                Some(at) => self.integer(at as i128 + 1, call.span),
                None => {
                    let near = skep_spec::nearest::did_you_mean(short, SIGNALS);
                    return self.fail_with(call.arg_span(0), format!("{name} is not a valid signal"), near);
                }
            }
        } else {
            if !value.ty.is_integer() {
                let text = format!("{} only accepts string literals or integers", call.name);
                return self.fail(call.arg_span(0), text);
            }
            if let Some(number) = self.folded(&value)
                && !(1..=64).contains(&number)
            {
                return self.fail(call.arg_span(0), format!("{number} is not a valid signal, allowed range: [1,64]"));
            }
            self.as_number(value)?
        };
        let number = self.wide(number, true);
        let kind = ExprKind::Call(typed::Call::Signal { thread: call.name == "signal_thread" }, vec![number]);
        Some(Expr { kind, ty: Type::Void, span: call.span })
    }

    /// `write_user(p, value)`
    pub(super) fn call_write_user(&mut self, call: &Call<'_>) -> Elaborated {
        let at = self.arg(call, 0);
        let value = self.arg(call, 1);
        let (at, value) = (at?, value?);
        let Type::Pointer { to, .. } = at.ty.clone() else {
            let text = format!("write_user() expects a pointer as first argument ({} provided)", kind_word(&at.ty));
            return self.fail(call.arg_span(0), text);
        };
        let given = value.ty.clone();
        let value = if *to == Type::Void { Some(value) } else { self.fit(value, &to) };
        let Some(value) = value else {
            let text = format!("write_user() expects a value of type '{to}' ('{given}' provided)");
            return self.fail(call.arg_span(1), text);
        };
        let at = Expr { ty: Type::Pointer { to, space: Space::User }, ..at };
        let kind = ExprKind::Call(typed::Call::WriteUser, vec![at, value]);
        Some(Expr { kind, ty: Type::I64, span: call.span })
    }

    /// `pid()`, `pid(init)`, `tid(init)`
    pub(super) fn call_pid(&mut self, call: &Call<'_>) -> Elaborated {
        let init = match call.expr(0).map(|arg| &arg.kind) {
            Some(ast::ExprKind::Ident(word)) if word == "init" => true,
            Some(ast::ExprKind::Ident(word)) if word == "curr_ns" => false,
            None if call.args.is_empty() => false,
            _ => {
                let text =
                    format!("{}(): Invalid PID namespace mode: {}", call.name, self.sources.text(call.arg_span(0)));
                return self.fail_with(call.arg_span(0), text, Some("one of curr_ns, init".to_owned()));
            }
        };
        let builtin = if call.name == "pid" { Builtin::Pid { init } } else { Builtin::Tid { init } };
        Some(Expr { kind: ExprKind::Builtin(builtin), ty: Type::U32, span: call.span })
    }
}

/// Whether a file is a shared library, by its name: `libc.so.6`.
fn is_library(binary: &std::path::Path) -> bool {
    let name = binary.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_numbers() {
        let number = |name: &str| SIGNALS.iter().position(|it| *it == name).map(|at| at + 1);
        assert_eq!((number("KILL"), number("TERM"), number("SYS")), (Some(9), Some(15), Some(31)));
    }
}
