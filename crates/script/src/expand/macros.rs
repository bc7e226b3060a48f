//! Macros: each call becomes the body of the macro, with the arguments in the places of the parameters.
//!
//! A macro is hygienic. Its own variables get names that no script can write (`$x#7`, see [`shown_name`]), and it reaches a
//! variable or a map of its caller only as an argument. Its nodes point into a text of their own
//! ([`Sources::add_expansion`]), so that every later message can tell which calls led there.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::ast::{
    Arg, Block, Expr, ExprKind, Ident, Item, Macro, MacroParam, Script, Stmt, StmtKind, TypeExpr, TypeKind, TypeOrExpr,
};
use crate::parser::is_builtin;
use crate::walk::{self, Walk};
use crate::{Diagnostic, SourceId, Sources, Span};

/// How many expressions all expansions of a script may have together.
const EXPRESSIONS_MAX: u32 = 200_000;

/// How many calls may be expanded.
const CALLS_MAX: u32 = 20_000;

/// How deep an expanded tree may be.
const DEPTH_MAX: u32 = 400;

/// Functions and values that the language has: a macro of the same name that does not take the arguments leaves the call to
/// them.
const BUILTINS: &[&str] = &[
    "assert",
    "avg",
    "bswap",
    "buf",
    "cat",
    "cgroup",
    "cgroup_path",
    "cgroupid",
    "clear",
    "comm",
    "container_of",
    "count",
    "cpid",
    "cpu",
    "ctx",
    "curtask",
    "debugf",
    "delete",
    "dw_ustack",
    "elapsed",
    "errorf",
    "exit",
    "fail",
    "find",
    "func",
    "getopt",
    "gid",
    "has_cpid",
    "has_key",
    "hist",
    "is_array",
    "is_err",
    "is_integer",
    "is_literal",
    "is_ptr",
    "is_str",
    "is_unsigned_integer",
    "jiffies",
    "join",
    "kaddr",
    "kfunc_allowed",
    "kfunc_exist",
    "kptr",
    "kstack",
    "ksym",
    "leader_comm",
    "leader_tid",
    "len",
    "lhist",
    "macaddr",
    "max",
    "memcmp",
    "min",
    "ncpus",
    "nsecs",
    "ntop",
    "numaid",
    "override",
    "path",
    "pcomm",
    "percpu_kaddr",
    "pid",
    "ppid",
    "print",
    "printf",
    "probe",
    "probetype",
    "pton",
    "rand",
    "reg",
    "retval",
    "signal",
    "signal_name",
    "signal_thread",
    "skboutput",
    "socket_cookie",
    "static_assert",
    "stats",
    "str",
    "str_concat",
    "strcap",
    "strcontains",
    "strerror",
    "strftime",
    "strlen",
    "strncmp",
    "strstr",
    "sum",
    "syscall_name",
    "system",
    "tid",
    "time",
    "tseries",
    "uaddr",
    "uid",
    "unwatch",
    "uptr",
    "usermode",
    "username",
    "ustack",
    "usym",
    "warnf",
    "write_user",
    "zero",
];

/// The name of a variable as it was written: without what an expansion added.
pub fn shown_name(name: &str) -> &str {
    name.split('#').next().unwrap_or(name)
}

/// Expands every macro call of a script. The macros stay among the items.
pub(super) fn expand(script: &mut Script, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) {
    let mut macros: HashMap<String, Vec<Rc<Macro>>> = HashMap::new();
    for item in &script.items {
        let Item::Macro(definition) = item else { continue };
        check_params(definition, diagnostics);
        let overloads = macros.entry(definition.name.name.clone()).or_default();
        if let Some(first) = overloads.iter().find(|known| signature(known) == signature(definition)) {
            let text = format!("Redefinition of macro: {}", definition.name.name);
            diagnostics.push(
                Diagnostic::error(definition.name.span, text).with_label(first.name.span, "it is defined here first"),
            );
            continue;
        }
        overloads.push(Rc::new(definition.clone()));
    }
    if macros.is_empty() {
        return;
    }
    let mut expander = Expander {
        macros,
        sources,
        diagnostics,
        stack: Vec::new(),
        checked: HashSet::new(),
        calls: 0,
        expressions: 0,
        depth: 0,
        stopped: false,
    };
    for item in script.items.iter_mut().filter(|item| !matches!(item, Item::Macro(_))) {
        walk::item(&mut expander, item);
    }
}

/// What the parameters take, in order.
fn signature(definition: &Macro) -> Vec<&'static str> {
    definition.params.iter().map(|param| takes(param)).collect()
}

fn takes(param: &MacroParam) -> &'static str {
    match param {
        MacroParam::Var(_) => "a variable",
        MacroParam::Map(_) => "a map",
        MacroParam::Expr(_) => "an expression",
    }
}

fn ident(param: &MacroParam) -> &Ident {
    match param {
        MacroParam::Var(ident) | MacroParam::Map(ident) | MacroParam::Expr(ident) => ident,
    }
}

fn check_params(definition: &Macro, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = HashSet::new();
    for param in &definition.params {
        let Ident { name, span } = ident(param);
        if !seen.insert(name) {
            diagnostics.push(Diagnostic::error(*span, format!("duplicate macro parameter: {name}")));
        }
    }
}

/// Whether the parameter takes the argument.
fn fits(param: &MacroParam, arg: &Arg) -> bool {
    let Arg::Expr(arg) = arg else { return is_expr(param) };
    match param {
        MacroParam::Var(_) => matches!(arg.kind, ExprKind::Var(_)),
        MacroParam::Map(_) => matches!(arg.kind, ExprKind::Map(_)),
        MacroParam::Expr(_) => true,
    }
}

fn is_expr(param: &MacroParam) -> bool {
    matches!(param, MacroParam::Expr(_))
}

struct Expander<'a> {
    macros: HashMap<String, Vec<Rc<Macro>>>,
    sources: &'a mut Sources,
    diagnostics: &'a mut Vec<Diagnostic>,
    /// The macros around, outermost first.
    stack: Vec<Rc<Macro>>,
    /// Places of the macros whose bodies were looked at.
    checked: HashSet<Span>,
    calls: u32,
    expressions: u32,
    depth: u32,
    /// A limit was reached and reported: nothing more is expanded.
    stopped: bool,
}

impl Expander<'_> {
    /// The macro that a call means; `None` when it means none, or when it is wrong, which is then reported.
    fn choose(&mut self, name: &Ident, args: &[Arg]) -> Option<Rc<Macro>> {
        let overloads = self.macros.get(&name.name)?;
        let chosen = overloads
            .iter()
            .filter(|known| {
                known.params.len() == args.len() && known.params.iter().zip(args).all(|(param, arg)| fits(param, arg))
            })
            // The one that says most about its arguments; of equals the first.
            .min_by_key(|known| known.params.iter().filter(|param| is_expr(param)).count());
        if let Some(chosen) = chosen {
            return Some(Rc::clone(chosen));
        }
        if BUILTINS.contains(&name.name.as_str()) {
            return None;
        }
        let mut counts: Vec<usize> = overloads.iter().map(|known| known.params.len()).collect();
        counts.sort_unstable();
        counts.dedup();
        let mut diagnostic = if counts.contains(&args.len()) {
            let known = overloads.iter().find(|known| known.params.len() == args.len())?;
            let (param, arg) = known.params.iter().zip(args).find(|(param, arg)| !fits(param, arg))?;
            let span = match arg {
                Arg::Expr(expr) => expr.span,
                Arg::Type(ty) => ty.span,
            };
            let text = format!("macro `{}` expects {} for {}", name.name, takes(param), ident(param).name);
            Diagnostic::error(span, format!("Mismatched arg to macro call: {text}"))
        } else {
            let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
            let text = format!(
                "Call to macro has wrong number arguments. Expected: {} but got {}",
                counts.join(" or "),
                args.len()
            );
            Diagnostic::error(name.span, text)
        };
        for known in overloads {
            diagnostic = diagnostic.with_label(known.name.span, "the macro is defined here");
        }
        self.diagnostics.push(diagnostic);
        None
    }

    /// The body of `chosen` for a call at `span`, expanded itself.
    fn body(&mut self, chosen: &Rc<Macro>, args: Vec<Arg>, span: Span) -> Option<Block> {
        if self.stack.iter().any(|around| Rc::ptr_eq(around, chosen)) {
            let chain: Vec<&str> = self.stack.iter().chain([chosen]).map(|known| known.name.name.as_str()).collect();
            let text = format!("Recursive macro call detected. Call chain: {}", chain.join(" > "));
            self.diagnostics.push(Diagnostic::error(span, text));
            return None;
        }
        self.calls += 1;
        let source = self.sources.add_expansion(chosen.span.source, span);
        let mut body = chosen.body.clone();
        let mut locals = Locals { params: chosen, names: HashSet::new(), diagnostics: None };
        if self.checked.insert(chosen.span) {
            locals.diagnostics = Some(self.diagnostics);
        }
        locals.block(&mut body);
        let declared = locals.names;
        if let Some(diagnostics) = locals.diagnostics {
            Hygiene { params: chosen, locals: &declared, diagnostics }.block(&mut body);
        }
        let bound = chosen.params.iter().map(|param| ident(param).name.as_str()).zip(args).collect();
        let mut instance = Instance {
            from: chosen.span.source,
            source,
            args: bound,
            locals: &declared,
            number: self.calls,
            expressions: 0,
            room: EXPRESSIONS_MAX.saturating_sub(self.expressions),
            diagnostics: self.diagnostics,
        };
        instance.block(&mut body);
        self.expressions += instance.expressions;
        if self.expressions >= EXPRESSIONS_MAX || self.calls >= CALLS_MAX {
            self.stop(span, "macros expand to too much: the script would be larger than any kernel takes");
            return None;
        }
        self.stack.push(Rc::clone(chosen));
        self.block(&mut body);
        self.stack.pop();
        Some(body)
    }

    fn stop(&mut self, span: Span, message: &str) {
        if !self.stopped {
            self.diagnostics.push(Diagnostic::error(span, message));
        }
        self.stopped = true;
    }

    /// What a call becomes; `None` when it is no macro's.
    fn call(&mut self, node: &mut Expr) -> Option<ExprKind> {
        let (name, mut args) = match &mut node.kind {
            ExprKind::Call { name, args } if self.macros.contains_key(&name.name) => {
                (name.clone(), std::mem::take(args))
            }
            // A word is a call only of a macro without parameters.
            ExprKind::Ident(name) if self.macros.get(name)?.iter().any(|known| known.params.is_empty()) => {
                (Ident { name: name.clone(), span: node.span }, Vec::new())
            }
            _ => {
                walk::expr(self, node);
                return None;
            }
        };
        // Arguments belong to the caller: they are expanded before they are bound.
        for arg in &mut args {
            match arg {
                Arg::Expr(expr) => self.expr(expr),
                Arg::Type(ty) => self.ty(ty),
            }
        }
        let Some(chosen) = self.choose(&name, &args) else {
            if let ExprKind::Call { args: place, .. } = &mut node.kind {
                *place = args;
            }
            return (!BUILTINS.contains(&name.name.as_str())).then_some(ExprKind::Error);
        };
        let Some(mut body) = self.body(&chosen, args, node.span) else { return Some(ExprKind::Error) };
        // A body that only is a value needs no block around it.
        if body.stmts.is_empty()
            && let Some(tail) = body.tail.take()
        {
            node.span = tail.span;
            return Some(tail.kind);
        }
        Some(ExprKind::Block(Box::new(body)))
    }
}

impl Walk for Expander<'_> {
    fn stmt(&mut self, node: &mut Stmt) {
        walk::stmt(self, node);
        // The value of a macro that is called as a statement is nobody's.
        if let StmtKind::Expr(expr) = &mut node.kind
            && matches!(expr.kind, ExprKind::Block(_) | ExprKind::If(_))
        {
            let kind = std::mem::replace(&mut expr.kind, ExprKind::Error);
            node.kind = match kind {
                ExprKind::Block(block) => StmtKind::Block(*block),
                ExprKind::If(branch) => StmtKind::If(branch),
                _ => StmtKind::Break,
            }
            .without_value();
        }
    }

    fn expr(&mut self, node: &mut Expr) {
        if self.stopped {
            return;
        }
        if self.depth >= DEPTH_MAX {
            self.stop(node.span, "macros expand too deeply");
            node.kind = ExprKind::Error;
            return;
        }
        self.depth += 1;
        match node.kind {
            ExprKind::Call { .. } | ExprKind::Ident(_) => {
                if let Some(kind) = self.call(node) {
                    node.kind = kind;
                }
            }
            _ => walk::expr(self, node),
        }
        self.depth -= 1;
    }
}

/// Collects the variables that a macro declares: by `let`, by a loop, or by assigning to them.
struct Locals<'a> {
    params: &'a Macro,
    names: HashSet<String>,
    /// `None` when the macro was looked at before.
    diagnostics: Option<&'a mut Vec<Diagnostic>>,
}

fn is_param(definition: &Macro, name: &str) -> bool {
    definition.params.iter().any(|param| ident(param).name == name)
}

impl Locals<'_> {
    fn declare(&mut self, name: &Ident) {
        if !is_param(self.params, &name.name) {
            self.names.insert(name.name.clone());
        } else if let Some(diagnostics) = &mut self.diagnostics {
            let text = format!("Variable declaration shadows macro arg {}", name.name);
            diagnostics.push(Diagnostic::error(name.span, text));
        }
    }
}

impl Walk for Locals<'_> {
    fn stmt(&mut self, node: &mut Stmt) {
        match &node.kind {
            StmtKind::Let { var, .. } | StmtKind::ForMap { var, .. } | StmtKind::ForRange { var, .. } => {
                self.declare(var);
            }
            StmtKind::Assign { target, op: None, .. } => {
                if let ExprKind::Var(name) = &target.kind
                    && !is_param(self.params, name)
                {
                    self.names.insert(name.clone());
                }
            }
            _ => {}
        }
        walk::stmt(self, node);
    }
}

/// Names what a macro takes from its caller without being given it.
struct Hygiene<'a> {
    params: &'a Macro,
    locals: &'a HashSet<String>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Hygiene<'_> {
    fn check(&mut self, name: &str, span: Span) {
        if is_param(self.params, name) || self.locals.contains(name) {
            return;
        }
        let (kind, kinds) = if name.starts_with('@') { ("map", "Maps") } else { ("variable", "Variables") };
        let text = format!("Unhygienic access to {kind}: {name}. {kinds} must be passed into the macro as arguments.");
        self.diagnostics.push(Diagnostic::error(span, text));
    }
}

impl Walk for Hygiene<'_> {
    fn expr(&mut self, node: &mut Expr) {
        match &node.kind {
            ExprKind::Var(name) | ExprKind::Map(name) => self.check(name, node.span),
            _ => walk::expr(self, node),
        }
    }

    fn name(&mut self, node: &mut Ident) {
        self.check(&node.name, node.span);
    }
}

/// Turns a copy of a macro's body into what one call means.
struct Instance<'a> {
    /// Where the macro is written, and the text of this expansion.
    from: SourceId,
    source: SourceId,
    args: HashMap<&'a str, Arg>,
    locals: &'a HashSet<String>,
    /// Makes the names of variables its own.
    number: u32,
    expressions: u32,
    /// How many more expressions there may be.
    room: u32,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Instance<'_> {
    /// The name in the caller of a variable or a map.
    fn rename(&self, name: &mut String) {
        if self.locals.contains(name) {
            *name = format!("{name}#{}", self.number);
            return;
        }
        if let Some(Arg::Expr(Expr { kind: ExprKind::Var(of) | ExprKind::Map(of), .. })) = self.args.get(name.as_str())
        {
            name.clone_from(of);
        }
    }

    fn count(&mut self, expr: &mut Expr) {
        let mut size = Size(0);
        size.expr(expr);
        self.expressions += size.0;
    }
}

impl Walk for Instance<'_> {
    fn expr(&mut self, node: &mut Expr) {
        self.expressions += 1;
        if self.expressions >= self.room {
            node.kind = ExprKind::Error;
            return;
        }
        match &mut node.kind {
            ExprKind::Var(name) | ExprKind::Map(name) => {
                self.rename(name);
                walk::expr(self, node);
            }
            ExprKind::Ident(name) => match self.args.get(name.as_str()) {
                Some(Arg::Expr(arg)) => {
                    *node = arg.clone();
                    self.count(node);
                }
                Some(Arg::Type(ty)) => {
                    let text = "a type is given where the macro needs a value";
                    self.diagnostics.push(Diagnostic::error(ty.span, text));
                    node.kind = ExprKind::Error;
                }
                None => walk::expr(self, node),
            },
            ExprKind::Call { args, .. } => {
                for arg in args.iter_mut() {
                    if let Arg::Expr(Expr { kind: ExprKind::Ident(name), .. }) = arg
                        && let Some(Arg::Type(ty)) = self.args.get(name.as_str())
                    {
                        *arg = Arg::Type(ty.clone());
                    }
                }
                walk::expr(self, node);
            }
            _ => walk::expr(self, node),
        }
    }

    fn type_or_expr(&mut self, node: &mut TypeOrExpr) {
        if let TypeOrExpr::Expr(Expr { kind: ExprKind::Ident(name), .. }) = node
            && let Some(Arg::Type(ty)) = self.args.get(name.as_str())
        {
            *node = TypeOrExpr::Type(ty.clone());
            return;
        }
        // A word is a type here, as it would be without the macro.
        if let TypeOrExpr::Expr(Expr { kind: ExprKind::Ident(name), .. }) = node
            && let Some(Arg::Expr(Expr { kind: ExprKind::Ident(word), span })) = self.args.get(name.as_str())
            && !is_builtin(word)
        {
            *node = TypeOrExpr::Type(TypeExpr { kind: TypeKind::Name(word.clone()), span: *span });
            return;
        }
        walk::type_or_expr(self, node);
    }

    fn ty(&mut self, node: &mut TypeExpr) {
        walk::ty(self, node);
    }

    fn name(&mut self, node: &mut Ident) {
        let mut name = std::mem::take(&mut node.name);
        self.rename(&mut name);
        node.name = name;
    }

    fn span(&mut self, span: &mut Span) {
        if span.source == self.from {
            span.source = self.source;
        }
    }
}

/// Counts expressions.
struct Size(u32);

impl Walk for Size {
    fn expr(&mut self, node: &mut Expr) {
        self.0 += 1;
        walk::expr(self, node);
    }
}
