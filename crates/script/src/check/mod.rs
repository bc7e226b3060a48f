//! Types, names and meanings: from the tree as written to [`typed::Script`].
//!
//! # The fix-point
//!
//! A variable, a map's keys and a map's values have one type each, which holds every value that the script puts there. So
//! a type is known only after the whole script was read, and what is read first may use what is assigned last. The checker
//! therefore goes over the script again and again with one and the same walk. Each walk elaborates every expression into
//! its typed form, and joins the type of each stored value into the type of the place (`infer::join`). When a walk changes no
//! place, the types are final; one more walk then makes the typed script and reports what is wrong. What a walk cannot know
//! yet is `None`, and `None` spreads silently; only the last walk speaks.
//!
//! The lattice, from below: unknown; literals, which bend (`1` is the smallest signed type that holds it, and becomes any
//! integer type beside a number of that type); integers of one sign up to 8 bytes; `int64` for numbers of both signs, with a
//! warning when a `uint64` is among them; strings up to the longest. Tuples and records go element by element. Everything else
//! joins only with itself. A type that is declared (`let $x: int8`) does not move: what does not fit is an error. After
//! `PATIENCE` walks strings jump to their limit, which ends chains such as `$x = str_concat($x, "a")`.
//!
//! Arithmetic has 8 bytes: unsigned when an operand is unsigned and none may be negative, signed otherwise, and always
//! signed for `-`. Constants are folded while they are elaborated, so `comptime` and the arguments that must be literals see
//! numbers and text.
//!
//! # Scopes
//!
//! A variable belongs to the block where it is declared or first assigned; a name may come again in a later block but not
//! inside its own. Maps belong to the script. A place is known by the address of the node that declares it, which is stable
//! over all walks, together with the unit that is being walked.
//!
//! # Expansion
//!
//! Attach points of one probe that see the same things there share a unit, which becomes one [`typed::Probe`]. A body that
//! names no argument has one unit for each kind of program; otherwise one for each layout of the arguments that it names. A
//! body that compares `probe` or `func` with text is split further, into a unit for each place, where the name is a
//! constant.
//!
//! # Order
//!
//! A branch of `if comptime` that is not taken is not typed at all. Loops of `unroll` are copied here. Predicates, `sizeof`,
//! conversions and the choice of the address space are made explicit here; [`typed`] says what lowering may rely on.

mod access;
mod aggregate;
mod assign;
mod builtins;
mod call;
mod compile_time;
mod config;
pub use config::is_setting;
mod convert;
mod dump;
mod expr;
mod format;
mod infer;
mod maps;
mod memory;
mod operators;
mod output;
mod probe;
mod scope;
mod stmt;
mod strings;
mod type_expr;

pub use dump::dump;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::plan::Config;
use crate::points::Resolver;
use crate::structs::Structs;
use crate::target::Target;
use crate::typed::{self, Expr, FunctionRef};
use crate::types::Type;
use crate::{Diagnostic, Options, Severity, Sources, Span, ast};

use infer::Shape;
use maps::MapSlot;
use probe::Unit;
use scope::Body;

/// Walks before strings jump to their limit.
const PATIENCE: u32 = 6;

/// Walks before the search ends in any case: the lattice is finite, so this only guards against mistakes here.
const MAX_WALKS: u32 = 64;

/// Statements and iterations that `unroll` may make.
const MAX_UNROLLED: u32 = 20_000;

/// Checks a script that has no macros and parameters any more.
///
/// Always gives a script; it is worth compiling only when no diagnostic is an error.
pub fn check(
    script: &ast::Script,
    sources: &Sources,
    options: &Options,
    target: &dyn Target,
) -> (typed::Script, Vec<Diagnostic>) {
    let mut diagnostics = Diagnostics { speaking: true, ..Diagnostics::default() };
    let config = config::config(script, options, &mut diagnostics);
    let (structs, found) = Structs::new(target, options, sources, &script.c_parts);
    for diagnostic in found {
        diagnostics.push(diagnostic);
    }
    let mut typed = {
        let resolver = Resolver { target, structs: &structs, options, config: &config, every_name: false };
        let mut checker = Checker {
            sources,
            options,
            target,
            config: &config,
            structs: &structs,
            resolver,
            diagnostics,
            vars: HashMap::new(),
            maps: Vec::new(),
            map_names: HashMap::new(),
            functions: Vec::new(),
            macro_names: Vec::new(),
            function_names: HashMap::new(),
            defines: HashMap::new(),
            no_defines: Default::default(),
            time_formats: Vec::new(),
            cgroup_filters: Vec::new(),
            units: Vec::new(),
            current: 0,
            unit: 0,
            body: Body::default(),
            changed: false,
            walks: 0,
            unrolled: 0,
            depth: 0,
            settled: false,
            wide: HashMap::new(),
        };
        let typed = checker.run(script);
        diagnostics = checker.diagnostics;
        typed
    };
    typed.config = config;
    typed.structs = structs.into_structs();
    (typed, diagnostics.finish())
}

/// What was found. Silent while types are still moving.
#[derive(Default)]
struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Warnings about what is not used: worth saying when nothing else is wrong.
    late: Vec<Diagnostic>,
    speaking: bool,
    seen: HashSet<(Option<Span>, String)>,
    /// How many errors were met, silent ones and what follows from them, too.
    errors: u64,
}

impl Diagnostics {
    /// Adds a finding, once for each place and text: expanded probes find the same.
    fn push(&mut self, diagnostic: Diagnostic) {
        self.errors += u64::from(diagnostic.severity == Severity::Error);
        if self.speaking && self.seen.insert((diagnostic.span, diagnostic.message.clone())) {
            self.list.push(diagnostic);
        }
    }

    /// Adds a warning that would only repeat an error, if there is one.
    fn push_late(&mut self, diagnostic: Diagnostic) {
        if self.speaking && self.seen.insert((diagnostic.span, diagnostic.message.clone())) {
            self.late.push(diagnostic);
        }
    }

    fn finish(mut self) -> Vec<Diagnostic> {
        if self.list.iter().all(|it| it.severity == Severity::Warning) {
            self.list.append(&mut self.late);
        }
        self.list
    }
}

/// One check of one script.
struct Checker<'a> {
    sources: &'a Sources,
    options: &'a Options,
    target: &'a dyn Target,
    config: &'a Config,
    structs: &'a Structs<'a>,
    resolver: Resolver<'a>,
    diagnostics: Diagnostics,
    /// Types of variables, by unit and declaring node.
    vars: HashMap<(u32, usize), Shape>,
    maps: Vec<MapSlot>,
    map_names: HashMap<String, u32>,
    functions: Vec<FunctionSlot<'a>>,
    /// For near names: calls of macros were expanded before.
    macro_names: Vec<&'a str>,
    function_names: HashMap<&'a str, FunctionRef>,
    /// What the names of `#define` stand for, by the node that uses them: kept, so that nodes keep their addresses.
    defines: HashMap<usize, Rc<ast::Expr>>,
    /// Words that are no `#define`: without and with arguments.
    no_defines: [HashSet<String>; 2],
    time_formats: Vec<String>,
    cgroup_filters: Vec<String>,
    units: Vec<Unit<'a>>,
    /// The one that is walked, by place and by number.
    current: usize,
    unit: u32,
    body: Body,
    /// A place got another type in this walk.
    changed: bool,
    walks: u32,
    unrolled: u32,
    /// Of the expression that is looked at.
    depth: u32,
    /// Nothing moves any more, but some places never got a type: they are taken for `int64`.
    settled: bool,
    /// Variables that are read behind the block that assigns them first, by unit and name: the node that they are kept by, and
    /// where they are read. They belong to the whole body.
    wide: HashMap<(u32, String), (usize, Span)>,
}

/// A subprogram.
struct FunctionSlot<'a> {
    item: &'a ast::Function,
    /// `None` for a type that was refused.
    params: Vec<Option<Type>>,
    /// `None` for a type that was refused.
    ret: Option<Type>,
    /// The functions that it calls, each with the first place.
    calls: Vec<(usize, Span)>,
}

/// What a walk over an expression gives: `None` when it is wrong, or not known yet.
type Elaborated = Option<Expr>;

impl<'a> Checker<'a> {
    fn run(&mut self, script: &'a ast::Script) -> typed::Script {
        self.declare_maps(script);
        self.declare_functions(script);
        self.expand_probes(script);
        loop {
            self.diagnostics.speaking = false;
            self.changed = false;
            self.walks += 1;
            self.walk(script);
            if self.split_units() {
                continue;
            }
            if self.changed && self.walks < MAX_WALKS {
                continue;
            }
            if !self.settled {
                self.settled = true;
                continue;
            }
            break;
        }
        self.diagnostics.speaking = true;
        let mut typed = self.walk(script);
        self.finish_maps(&mut typed);
        typed.time_formats = std::mem::take(&mut self.time_formats);
        typed.cgroup_filters = std::mem::take(&mut self.cgroup_filters);
        typed
    }

    /// Whether what `look` finds is wrong, and told so: then what is made of it has no type, and nothing to tell.
    fn is_wrong<T>(&mut self, look: impl FnOnce(&mut Self) -> Option<T>) -> (Option<T>, bool) {
        let before = self.diagnostics.errors;
        let found = look(self);
        let wrong = found.is_none() && self.diagnostics.errors > before;
        (found, wrong)
    }

    /// No value, because of an error that is told elsewhere.
    fn follows<T>(&mut self) -> Option<T> {
        self.diagnostics.errors += 1;
        None
    }

    /// One walk over everything.
    fn walk(&mut self, script: &'a ast::Script) -> typed::Script {
        self.unrolled = 0;
        self.time_formats.clear();
        self.cgroup_filters.clear();
        self.begin_maps();
        let mut typed = typed::Script::default();
        self.walk_functions(script, &mut typed);
        self.walk_probes(&mut typed);
        self.changed |= self.maps.iter().any(|map| map.wrong != map.was_wrong);
        typed
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(span, message));
    }

    fn warning(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(span, message));
    }

    /// An error at `span` for which another place is the reason.
    fn conflict(&mut self, span: Span, message: String, reason: Option<Span>, label: String) {
        let mut error = Diagnostic::error(span, message);
        // bpftrace has one place for each.
        if let Some(reason) = reason.filter(|reason| *reason != span && !self.options.bpftrace) {
            error = error.with_label(reason, label);
        }
        self.diagnostics.push(error);
    }

    /// An error that gives no value.
    fn fail<T>(&mut self, span: Span, message: impl Into<String>) -> Option<T> {
        self.error(span, message);
        None
    }

    /// An error with a hint that gives no value.
    fn fail_with<T>(&mut self, span: Span, message: impl Into<String>, hint: Option<String>) -> Option<T> {
        let mut diagnostic = Diagnostic::error(span, message);
        diagnostic.hints.extend(hint);
        self.diagnostics.push(diagnostic);
        None
    }

    /// The last walk.
    fn is_last(&self) -> bool {
        self.diagnostics.speaking
    }
}

/// The number of `text` in `list`, where it is added when it is new.
fn intern(list: &mut Vec<String>, text: String) -> u32 {
    let at = list.iter().position(|it| *it == text).unwrap_or_else(|| {
        list.push(text);
        list.len() - 1
    });
    at as u32
}

/// A node's identity: stable, since the tree is not touched while it is checked.
fn address<T>(node: &T) -> usize {
    std::ptr::from_ref(node) as usize
}
