//! What looks wrong in a program that compiles: mistakes that C accepts and that then print garbage or do nothing.
//!
//! The checks read the object's BTF, not the source, so they work on any object that still has it.
//!
//! - **L101, a folded constant.** `const int target = 42;` at file level lies in `.rodata`, where a loader could change it
//!   before loading. But the compiler has seen the value and has put it into the instructions; only `const volatile` keeps
//!   the read.
//! - **L102, parameters without a macro.** Every BPF program is called with one argument, its context. `int f(struct pt_regs
//!   *ctx, int fd)` compiles, and `fd` is whatever the second argument register held (the verifier of a kernel that
//!   checks it refuses to read it). `BPF_KPROBE` and its relatives are what turns a context into parameters. On
//!   the function of a system call (`__x64_sys_write`) even `BPF_KPROBE` is wrong: its first argument is a pointer to
//!   the caller's registers, which `BPF_KSYSCALL` knows.

use std::fmt;

use skep_btf::{Btf, Func, Param, Type, TypeId, VarLinkage};
use skep_spec::function::Function;
use skep_spec::{Program, Spec};

use crate::events::variables;

/// One suspicion about a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// A stable name, `L101`.
    pub code: &'static str,
    /// File and line, where known.
    pub place: Option<(String, u32)>,
    /// What is wrong.
    pub text: String,
    /// What to type instead.
    pub help: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning[{}]", self.code)?;
        if let Some((file, line)) = &self.place {
            write!(f, " {file}:{line}")?;
        }
        write!(f, ": {}; {}", self.text, self.help)
    }
}

/// All checks, over an object with types.
///
/// Damaged BTF gives fewer warnings, never an error.
pub fn lint(spec: &Spec) -> Vec<Warning> {
    let Some(btf) = &spec.btf else { return Vec::new() };
    let mut found = folded_constants(btf);
    found.extend(spec.programs.iter().filter_map(|program| extra_parameters(btf, spec, program)));
    found
}

fn folded_constants(btf: &Btf) -> Vec<Warning> {
    let settable = variables(btf, ".rodata").filter(|var| {
        var.linkage() == VarLinkage::GLOBAL && is_plain_const(btf, var.type_id()) && is_number(btf, var.type_id())
    });
    settable
        .map(|var| {
            let name = var.name();
            Warning {
                code: "L101",
                place: None,
                text: format!("`{name}` is a plain `const`, so the compiler has put its value into the code"),
                help: format!("make it `const volatile` to set it with --{name}"),
            }
        })
        .collect()
}

/// `const`, and nowhere `volatile`, through typedefs.
fn is_plain_const(btf: &Btf, mut id: TypeId) -> bool {
    let mut constant = false;
    for _ in 0..32 {
        id = match btf.type_by_id(id) {
            Ok(Type::Const(next)) => {
                constant = true;
                next.type_id()
            }
            Ok(Type::Typedef(next)) => next.type_id(),
            Ok(Type::Volatile(_)) => return false,
            _ => return constant,
        };
    }
    false
}

fn is_number(btf: &Btf, id: TypeId) -> bool {
    matches!(btf.resolve(id), Ok((_, Type::Int(_) | Type::Enum(_) | Type::Enum64(_))))
}

fn extra_parameters(btf: &Btf, spec: &Spec, program: &Program) -> Option<Warning> {
    let function = spec.function(program.entry);
    if function.is_static() {
        return None;
    }
    let Ok(Type::Func(func)) = btf.type_by_id(function.btf_func?) else { return None };
    let Ok(Type::FuncProto(proto)) = btf.type_by_id(func.proto()) else { return None };
    let params: Vec<Param<'_>> = proto.params().collect();
    (params.len() > 1).then(|| parameters_warning(btf, &program.section, &func, &params, place(btf, function)))
}

fn parameters_warning(
    btf: &Btf,
    section: &str,
    func: &Func<'_>,
    params: &[Param<'_>],
    place: Option<(String, u32)>,
) -> Warning {
    let extra = &params[1..];
    let names: Vec<String> = extra.iter().map(|param| format!("`{}`", param.name)).collect();
    let hold = if names.len() == 1 { "holds" } else { "hold" };
    let text = format!("`{}` is called with its context alone, so {} {hold} garbage", func.name(), names.join(", "));
    let help = match macro_for(section) {
        Some(name) => {
            let list: Vec<String> = extra.iter().map(|param| declaration(btf, param.type_id, param.name, 0)).collect();
            format!("declare it as `int {name}({}, {})`", func.name(), list.join(", "))
        }
        None => "take what you need from the context".to_owned(),
    };
    Warning { code: "L102", place, text, help }
}

/// The macro that makes parameters of a section's context.
fn macro_for(section: &str) -> Option<&'static str> {
    let (family, target) = section.split_once('/').unwrap_or((section, ""));
    let family = family.split('.').next().unwrap_or_default();
    // The wrappers of the architectures: __x64_sys_write, __arm64_sys_write, __s390x_sys_write, __se_sys_write.
    let system_call = target.starts_with("__") && target.contains("_sys_");
    Some(match family {
        "ksyscall" => "BPF_KSYSCALL",
        "kprobe" if system_call => "BPF_KSYSCALL",
        "kprobe" => "BPF_KPROBE",
        "kretprobe" | "kretsyscall" => "BPF_KRETPROBE",
        "uprobe" => "BPF_UPROBE",
        "uretprobe" => "BPF_URETPROBE",
        "usdt" => "BPF_USDT",
        "tp_btf" | "raw_tp" | "raw_tracepoint" | "fentry" | "fexit" | "fmod_ret" | "fsession" | "lsm"
        | "lsm_cgroup" | "struct_ops" | "freplace" => "BPF_PROG",
        _ => return None,
    })
}

fn place(btf: &Btf, function: &Function) -> Option<(String, u32)> {
    let line = function.lines.first()?;
    let file = btf.string_lossy(line.file_name_off).ok()?;
    (line.line() > 0).then(|| (file.into_owned(), line.line()))
}

/// A parameter as C writes it, `const void *buf`. What only a few programs use (function pointers, arrays) is left to the
/// reader as `...`.
fn declaration(btf: &Btf, id: TypeId, inner: &str, depth: u32) -> String {
    let plain = |word: &str, name: &str| format!("{word}{name} {inner}").trim_end().to_owned();
    if depth > 16 {
        return "...".to_owned();
    }
    match btf.type_by_id(id) {
        Ok(Type::Void) => plain("", "void"),
        Ok(Type::Int(it)) => plain("", it.name()),
        Ok(Type::Float(it)) => plain("", it.name()),
        Ok(Type::Typedef(it)) => plain("", it.name()),
        Ok(Type::Struct(it)) => plain("struct ", it.name()),
        Ok(Type::Union(it)) => plain("union ", it.name()),
        Ok(Type::Fwd(it)) => plain(if it.is_union() { "union " } else { "struct " }, it.name()),
        Ok(Type::Enum(it) | Type::Enum64(it)) => plain("enum ", it.name()),
        Ok(Type::Ptr(it)) => declaration(btf, it.type_id(), &format!("*{inner}"), depth + 1),
        Ok(Type::Const(it)) => qualified(btf, "const", it.type_id(), inner, depth),
        Ok(Type::Volatile(it)) => qualified(btf, "volatile", it.type_id(), inner, depth),
        Ok(Type::Restrict(it) | Type::TypeTag(it)) => declaration(btf, it.type_id(), inner, depth + 1),
        _ => format!("... {inner}"),
    }
}

/// A qualifier stands before a plain type, and after the star of a pointer.
fn qualified(btf: &Btf, word: &str, id: TypeId, inner: &str, depth: u32) -> String {
    match btf.type_by_id(id) {
        Ok(Type::Ptr(it)) => declaration(btf, it.type_id(), &format!("*{word} {inner}"), depth + 1),
        _ => format!("{word} {}", declaration(btf, id, inner, depth + 1)),
    }
}
