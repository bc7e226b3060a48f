//! Where probes attach: from an attach point as written to [`Place`]s, with what each program sees there.
//!
//! Resolving is lazy. An exact name is looked up alone and nothing is listed; a pattern lists what it must and reads no
//! event's layout. What the arguments of a place are is a second question, [`Resolver::args`], because many bodies never
//! use them.
//!
//! A checker goes through the points of a probe, asks [`Resolver::args`] for each if the body names an argument, and puts
//! points with equal [`Args`] and equal [`Point::family`] into one [`typed::Probe`](crate::typed::Probe).

mod format;
mod iter;
mod kernel;
mod mangled;
mod pattern;
mod perf;
mod plain;
mod provider;
mod raw;
mod tracepoint;
mod user;

use std::path::Path;
use std::sync::Arc;

pub(crate) use self::perf::counter_names;
pub use self::provider::Provider;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Severity;
pub use crate::dwarf::Absent;
use crate::options::Options;
use crate::plan::{Attach, Config, Missing};
use crate::structs::Structs;
use crate::target::Target;
use crate::typed::{Bits, Context, Field, Place, Struct};
use crate::types::{Space, StructRef, Type};
use crate::{Span, ast};
use skep_spec::glob::{is_pattern, matches};
use skep_spec::nearest::did_you_mean;

/// What resolving needs to know.
#[derive(Clone, Copy)]
pub struct Resolver<'a> {
    /// The machine.
    pub target: &'a dyn Target,
    /// Its types.
    pub structs: &'a Structs<'a>,
    /// `-p`, `-c`, mode.
    pub options: &'a Options,
    /// `missing_probes`, `max_probes`.
    pub config: &'a Config,
    /// Whether a function that has several names is found under each that a pattern matches, as lists show it; else it is one place.
    pub every_name: bool,
}

/// A place and its program.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its kind; [`Provider::name`] is the builtin `probetype`.
    pub provider: Provider,
    /// Where, and what the builtins `probe` and `func` are there.
    pub place: Place,
    /// What the program's first argument is.
    pub context: Context,
    /// Section of a program that serves this place alone: `tracepoint/sched/sched_switch`.
    pub section: String,
    /// Section of a program that serves this and other places of the same family (`tracepoint`); `None` where the kernel
    /// wants to know the one place when it loads the program (fentry, fexit, iter).
    pub family: Option<&'static str>,
}

/// What a program can ask for by `args`, `argN` and `retval` at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Args {
    /// Members of `args` (of `ctx` for iterators), in order.
    pub fields: Vec<Arg>,
    /// Type of `arg0`, `arg1` ... where they exist and how many there are is known: raw tracepoints, fentry and fexit. Values
    /// are 64 bits wide unless typed.
    pub numbered: Numbered,
    /// Type of `retval`, where there is one.
    pub ret: Option<Return>,
    /// How much of the context may be read, in bytes: the size of a tracepoint's record, 8 for each raw argument, the size of
    /// an iterator's `struct bpf_iter__*`; 0 where `args` is nothing in memory.
    pub size: u32,
    /// Name of `args` as a type, as messages write it: `struct _tracepoint_sched_sched_switch`.
    pub name: String,
    /// Type of `ctx` where it depends on the place: iterators. [`Resolver::context_type`] knows the others.
    pub ctx: Option<Type>,
}

/// Which `argN` there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Numbered {
    /// None.
    #[default]
    No,
    /// As many as the calling convention can name: kprobe, uprobe.
    Registers,
    /// So many, as u64 in the context (raw tracepoints, fentry, fexit).
    Slots(u32),
    /// As many as the probe's note says (USDT).
    Usdt(u32),
}

/// A named argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// Its type. Pointers say whose memory they point at.
    pub ty: Type,
    /// Where it is.
    pub at: ArgAt,
    /// As its source declares it.
    pub declared: Declared,
}

/// A declaration in C, for listings. Arguments are alike whatever their sources call their types: programs only see what those mean.
#[derive(Clone, Debug, Default)]
pub struct Declared(pub String);

impl PartialEq for Declared {
    fn eq(&self, _: &Declared) -> bool {
        true
    }
}

impl Eq for Declared {}

impl std::hash::Hash for Declared {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// Where an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArgAt {
    /// In the context ([`ContextField`](crate::typed::ExprKind::ContextField)).
    Field {
        /// Offset, in bytes.
        off: u32,
        /// Bits, when it is a bit-field.
        bits: Option<Bits>,
    },
    /// Behind a `__data_loc` in the context ([`DataLoc`](crate::typed::ExprKind::DataLoc)). The type is a pointer to the
    /// element (`int8` for text) in the kernel's memory, since the length is known only when it runs.
    DataLoc {
        /// Offset, in bytes.
        off: u32,
        /// `__rel_loc`
        rel: bool,
    },
    /// The argument of this number ([`Argument`](crate::typed::ExprKind::Argument)).
    Argument {
        /// Number of the register or slot. A struct by value takes as many as it has 8 bytes.
        slot: u32,
        /// May be null though the kernel's types do not say so (raw tracepoints, kernel 6.13): test it before a direct load.
        nullable: bool,
    },
    /// Where the argument of this number points: values that the caller copied for the function.
    Pointee {
        /// Number of the register or slot.
        slot: u32,
    },
    /// Where no program can read it; its type says nothing.
    Absent(Absent),
}

/// What a function returns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Return {
    /// Its type; `uint64` where nothing tells.
    pub ty: Type,
    /// Slots that the arguments take before it in the context (fexit); 0 when it is in a register.
    pub arguments: u32,
    /// Its type as the source has it.
    pub declared: Declared,
}

/// Outcome of looking for places: `Err` is a finding that is always an error, such as a number that is none.
type Found = Result<Vec<Point>, Box<Diagnostic>>;

impl Resolver<'_> {
    /// The places that `point` means, in the order of their names. What is wrong goes to `diagnostics`; a place that is not
    /// there is an error, a warning or nothing by [`Config::missing_probes`].
    pub fn resolve(&self, point: &ast::AttachPoint, diagnostics: &mut Vec<Diagnostic>) -> Vec<Point> {
        let word = point.parts.first().map_or("", String::as_str);
        let found = if is_pattern(word) {
            self.resolve_providers(point, word)
        } else {
            self.provider(point, word).and_then(|provider| self.resolve_with(provider, point, diagnostics))
        };
        match found {
            Ok(points) if points.len() as u64 > self.config.max_probes => {
                let count = points.len() as u64;
                diagnostics.push(Diagnostic { span: Some(point.span), ..too_many(count, self.config) });
                Vec::new()
            }
            Ok(points) => points,
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                Vec::new()
            }
        }
    }

    fn provider(&self, point: &ast::AttachPoint, word: &str) -> Result<Provider, Box<Diagnostic>> {
        Provider::of(word).ok_or_else(|| {
            let error = Diagnostic::error(point.span, format!("Invalid probe type: {word}"));
            // `BEGIN()`, as functions are written elsewhere.
            if let Some(bare) = word.strip_suffix("()").filter(|bare| Provider::of(bare).is_some()) {
                return Box::new(error.with_hint(format!("write `{bare}` without parentheses")));
            }
            // `syscalls:sys_enter_open`: a category for a provider.
            let category = format!("{word}:");
            if point.parts.len() > 1
                && self.target.tracepoints().is_ok_and(|all| all.iter().any(|name| name.starts_with(&category)))
            {
                return Box::new(error.with_hint(format!("did you mean `tracepoint:{}`?", point.text)));
            }
            Box::new(with_near(error, word, Provider::words()))
        })
    }

    /// Every provider whose name matches and that has such a place.
    fn resolve_providers(&self, point: &ast::AttachPoint, word: &str) -> Found {
        let word = word.to_ascii_lowercase();
        let mut found = Vec::new();
        for provider in Provider::all().filter(|it| matches(&word, it.name())) {
            // Most of them will not have it, and need not.
            found.extend(self.resolve_with(provider, point, &mut Vec::new()).unwrap_or_default());
        }
        if found.is_empty() {
            return Err(Box::new(Diagnostic::error(point.span, format!("No matches for probe {}", point.text))));
        }
        Ok(found)
    }

    fn resolve_with(&self, provider: Provider, point: &ast::AttachPoint, out: &mut Vec<Diagnostic>) -> Found {
        let parts: Vec<&str> = point.parts.iter().skip(1).map(String::as_str).collect();
        let (least, most) = provider.parts();
        // `usdt::provider:name` leaves the binary to -p or -c, and `usdt:binary::name` leaves the provider open.
        let named = match provider {
            Provider::Usdt => parts.last().is_some_and(|part| !part.is_empty()),
            _ => most == 0 || parts.iter().all(|part| !part.is_empty()),
        };
        if parts.len() < least || parts.len() > most || !named {
            return Err(Box::new(wrong_count(provider, point.span, parts.len())));
        }
        let asked = Asked { provider, parts: &parts, span: point.span };
        match provider {
            Provider::Begin | Provider::End | Provider::Signal | Provider::Test | Provider::Bench => self.plain(asked),
            Provider::Kprobe | Provider::Kretprobe => self.kprobe(asked, out),
            Provider::Fentry | Provider::Fexit => self.fentry(asked, out),
            Provider::Tracepoint => self.tracepoint(asked, out),
            Provider::RawTracepoint => self.raw_tracepoint(asked, out),
            Provider::Uprobe | Provider::Uretprobe => self.uprobe(asked, out),
            Provider::Usdt => self.usdt(asked, out),
            Provider::Profile | Provider::Interval => self.timer(asked),
            Provider::Software | Provider::Hardware => self.counter(asked),
            Provider::Watchpoint => self.watchpoint(asked),
            Provider::Iter => self.iter(asked, out),
        }
    }

    /// What the arguments at `point` are.
    ///
    /// # Errors
    ///
    /// When the machine does not tell: no types, a format that cannot be read. The diagnostic is at `span`.
    pub fn args(&self, point: &Point, span: Span) -> Result<Arc<Args>, Box<Diagnostic>> {
        let args = match point.provider {
            Provider::Kprobe | Provider::Kretprobe => Ok(self.kprobe_args(point)),
            Provider::Fentry | Provider::Fexit => self.fentry_args(point),
            Provider::Tracepoint => self.tracepoint_args(point),
            Provider::RawTracepoint => self.raw_tracepoint_args(point),
            Provider::Uprobe => self.uprobe_args(point),
            Provider::Uretprobe => Ok(self.uretprobe_args(point)),
            Provider::Usdt => Ok(self.usdt_args(point)),
            Provider::Iter => self.iter_args(point),
            _ => Ok(Args::default()),
        };
        args.map(Arc::new).map_err(|message| Box::new(Diagnostic::error(span, message)))
    }

    /// As [`Resolver::args`], for a body that uses `argN` and `retval` but no names: the same for all functions, and for
    /// all raw tracepoints with equally many arguments, so that the places of a pattern can share a program.
    ///
    /// # Errors
    ///
    /// As [`Resolver::args`].
    pub fn numbered(&self, point: &Point, span: Span) -> Result<Arc<Args>, Box<Diagnostic>> {
        match point.provider {
            Provider::Kprobe | Provider::Uprobe => {
                Ok(Arc::new(Args { numbered: Numbered::Registers, ..Args::default() }))
            }
            Provider::Kretprobe | Provider::Uretprobe => Ok(Arc::new(Args {
                ret: Some(Return { ty: Type::U64, arguments: 0, declared: Declared::default() }),
                ..Args::default()
            })),
            Provider::RawTracepoint => {
                let args = self.args(point, span)?;
                Ok(Arc::new(Args { numbered: args.numbered, size: args.size, ..Args::default() }))
            }
            _ => self.args(point, span),
        }
    }

    /// Type of `ctx` at `point`: a pointer to the context; `void *` where nothing is known about it.
    pub fn context_type(&self, point: &Point) -> Type {
        let pointer =
            |name: &str| self.structs.tagged(ast::Tag::Struct, name).unwrap_or(Type::Void).pointer(Space::Bpf);
        match (point.context, &point.provider) {
            (Context::Registers, _) => pointer("pt_regs"),
            (Context::PerfEvent, _) => pointer("bpf_perf_event_data"),
            (Context::Xdp, _) => pointer("xdp_md"),
            (_, Provider::Iter) => pointer(&iter::context_name(point)),
            (Context::RawArgs | Context::TypedArgs, _) => Type::U64.pointer(Space::Bpf),
            (Context::None | Context::Tracepoint, _) => Type::Void.pointer(Space::Bpf),
        }
    }

    /// The struct that `args` is as a value, with the members that lie in the context; for printing and storing it whole.
    pub fn record(&self, args: &Args) -> StructRef {
        let fields = args.fields.iter().filter_map(|arg| {
            let (off, ty, bits) = match arg.at {
                ArgAt::Field { off, bits } => (off, arg.ty.clone(), bits),
                ArgAt::DataLoc { off, .. } => (off, Type::U32, None),
                ArgAt::Argument { slot, .. } => (slot * 8, arg.ty.clone(), None),
                ArgAt::Pointee { .. } | ArgAt::Absent(_) => return None,
            };
            Some(Field { name: arg.name.clone(), off, ty, bits }).filter(|field| off + field.ty.size() <= args.size)
        });
        let fields = fields.collect();
        self.structs.add(Struct { name: args.name.as_str().into(), union: false, size: args.size, fields }, 8)
    }

    /// Notes that a place is not there, as the script wishes to hear it. `near` are names that might have been meant.
    fn missing(&self, asked: Asked<'_>, message: String, hint: Option<String>, out: &mut Vec<Diagnostic>) {
        let (severity, how) = match self.config.missing_probes {
            Missing::Ignore => return,
            Missing::Warn => (Severity::Warning, None),
            Missing::Error => (
                Severity::Error,
                Some("If this is expected, set the 'missing_probes' config variable to 'warn' or 'ignore'."),
            ),
        };
        let mut diagnostic = Diagnostic { severity, ..Diagnostic::error(asked.span, message) };
        diagnostic.hints.extend(hint);
        diagnostic.hints.extend(how.map(str::to_owned));
        out.push(diagnostic);
    }
}

/// An attach point whose provider is known.
#[derive(Clone, Copy)]
struct Asked<'p> {
    provider: Provider,
    /// Without the provider.
    parts: &'p [&'p str],
    span: Span,
}

impl Asked<'_> {
    fn error(&self, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(self.span, message))
    }
}

fn wrong_count(provider: Provider, span: Span, given: usize) -> Diagnostic {
    let (least, most) = match provider {
        // One part is enough only where -p or -c names the binary.
        Provider::Uprobe | Provider::Uretprobe | Provider::Usdt => (2, 3),
        provider => provider.parts(),
    };
    let count = if least == most { format!("{least}") } else { format!("{least} to {most}") };
    let count = if most == least + 1 { format!("{least} or {most}") } else { count };
    let plural = if most == 1 { "" } else { "s" };
    let error = Diagnostic::error(span, format!("{} probe type requires {count} argument{plural}", provider.name()));
    match provider {
        Provider::Tracepoint if given < 2 => error.with_hint("write tracepoint:CATEGORY:EVENT"),
        Provider::Interval | Provider::Profile => {
            error.with_hint(format!("write {0}:s:1, {0}:ms:100 or {0}:hz:99", provider.name()))
        }
        Provider::Uprobe | Provider::Uretprobe => error.with_hint(format!("write {}:BINARY:FUNCTION", provider.name())),
        Provider::Usdt => error.with_hint("write usdt:BINARY:PROVIDER:NAME"),
        Provider::Watchpoint => error.with_hint("write watchpoint:ADDRESS:LENGTH:rw"),
        Provider::Signal => error.with_hint("write self:signal:SIGUSR1"),
        _ => error,
    }
}

/// That a script has more places than [`Config::max_probes`]; for one attach point here, for all of them in the checker.
pub fn too_many(count: u64, config: &Config) -> Diagnostic {
    let max = config.max_probes;
    Diagnostic {
        severity: Severity::Error,
        span: None,
        message: format!("Can't attach to {count} probes because it exceeds the current limit of {max} probes."),
        labels: Vec::new(),
        hints: vec![
            "You can increase the limit through the BPFTRACE_MAX_PROBES environment variable, but BE CAREFUL since a high \
             number of probes attached can cause your system to crash."
                .to_owned(),
        ],
    }
}

fn with_near<'n>(diagnostic: Diagnostic, wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Diagnostic {
    match did_you_mean(wanted, names) {
        Some(hint) => diagnostic.with_hint(hint),
        None => diagnostic,
    }
}

impl Point {
    /// The program or library that is probed, of probes of functions and marked places.
    pub(crate) fn user_binary(&self) -> Option<&Path> {
        match &self.place.attach {
            Attach::Section { binary, .. } => binary.as_deref(),
            _ => None,
        }
    }

    /// Whether one program can serve both, as far as the kernel is concerned. Their [`Args`] have to be equal too when the body
    /// uses any.
    pub fn shares_with(&self, other: &Point) -> bool {
        self.family.is_some()
            && self.family == other.family
            && self.provider == other.provider
            && self.context == other.context
    }
}

/// First kernel with multi-attached kprobes, 5.18, and uprobes, 6.6 (`LINUX_VERSION_CODE`).
const KPROBE_MULTI: u32 = 5 << 16 | 18 << 8;
const UPROBE_MULTI: u32 = 6 << 16 | 6 << 8;

/// Whether the kernel attaches one program to many of its functions: it has `CONFIG_FPROBE`, which Debian's 6.1 leaves out. The
/// program's type depends on it, so it is asked before anything is loaded.
fn has_fprobe(structs: &Structs<'_>) -> bool {
    structs.exports("register_fprobe")
}

/// Section of one program that serves all `points`, which share it ([`Point::shares_with`]); the single place's own section when
/// there is one. Many kernel or user functions get a multi section where the kernel is new enough; whether it was built with
/// that is found out by loading, and what else to do then is the engine's business.
pub fn section(points: &[Point], structs: &Structs<'_>, target: &dyn Target) -> Option<String> {
    let (first, rest) = points.split_first()?;
    if rest.is_empty() {
        return Some(first.section.clone());
    }
    let family = first.family?;
    let named =
        |point: &Point| matches!(&point.place.attach, Attach::Section { target: Some(it), .. } if !it.contains('+'));
    let one_binary = || {
        let binary = |point: &Point| match &point.place.attach {
            Attach::Section { binary, .. } => binary.clone(),
            _ => None,
        };
        rest.iter().all(|point| binary(point) == binary(first))
    };
    let version = target.kernel_version();
    let multi = match first.provider {
        Provider::Kprobe | Provider::Kretprobe => {
            version >= KPROBE_MULTI && points.iter().all(named) && has_fprobe(structs)
        }
        Provider::Uprobe | Provider::Uretprobe => version >= UPROBE_MULTI && one_binary(),
        _ => false,
    };
    Some(if multi { format!("{family}.multi") } else { family.to_owned() })
}

#[cfg(test)]
mod tests;
