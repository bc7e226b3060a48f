//! Where probes attach: from an attach point as written to [`Place`]s, with what each program sees there.
//!
//! Resolving is lazy. An exact name is looked up alone and nothing is listed; a pattern lists what it must and reads no
//! event's layout. What the arguments of a place are is a second question, [`Resolver::args`], because many bodies never
//! use them.
//!
//! A checker goes through the points of a probe, asks [`Resolver::args`] for each if the body names an argument, and puts
//! points with equal [`Args`] and equal [`Point::family`] into one [`typed::Probe`](crate::typed::Probe).

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::options::Options;
use crate::plan::Config;
use crate::structs::Structs;
use crate::target::Target;
use crate::typed::{Bits, Context, Place};
use crate::types::Type;
use crate::{Span, ast};

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
}

/// The word that an attach point begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the provider of its name, see the table of probes in the manual")]
pub enum Provider {
    Begin,
    End,
    Signal,
    Test,
    Bench,
    Kprobe,
    Kretprobe,
    Fentry,
    Fexit,
    Tracepoint,
    RawTracepoint,
    Uprobe,
    Uretprobe,
    Usdt,
    Profile,
    Interval,
    Software,
    Hardware,
    Watchpoint,
    Iter,
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
    /// Type of `ctx`: a pointer to the context.
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
    /// As many as the probe's note says (USDT); at most 255, known when it is attached.
    Usdt,
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
        /// Number of the register or slot. A struct by value takes two slots when it is longer than 8 bytes.
        slot: u32,
        /// May be null though the kernel's types do not say so (raw tracepoints, kernel 6.13): test it before a direct load.
        nullable: bool,
    },
}

/// What a function returns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Return {
    /// Its type; `uint64` where nothing tells.
    pub ty: Type,
    /// Slots that the arguments take before it in the context (fexit); 0 when it is in a register.
    pub arguments: u32,
}

impl Resolver<'_> {
    /// The places that `point` means, in the order of their names. What is wrong goes to `diagnostics`; a place that is not
    /// there is an error, a warning or nothing by [`Config::missing_probes`].
    pub fn resolve(&self, point: &ast::AttachPoint, diagnostics: &mut Vec<Diagnostic>) -> Vec<Point> {
        let _ = (point, diagnostics);
        Vec::new()
    }

    /// What the arguments at `point` are.
    ///
    /// # Errors
    ///
    /// When the machine does not tell: no types, a format that cannot be read. The diagnostic is at `span`.
    pub fn args(&self, point: &Point, span: Span) -> Result<Arc<Args>, Box<Diagnostic>> {
        let _ = (point, span);
        Ok(Arc::default())
    }
}

/// Section of one program that serves all `points`, which have the same family; the single place's own section when there is
/// one.
pub fn section(points: &[Point], target: &dyn Target) -> Option<String> {
    let _ = target;
    match points {
        [] => None,
        [one] => Some(one.section.clone()),
        [first, ..] => first.family.map(str::to_owned),
    }
}
