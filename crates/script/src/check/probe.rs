//! Probes: which attach points share a body, and the walk over bodies and subprograms.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::infer::Shape;
use super::{Checker, FunctionSlot, scope::Body};
use crate::plan::{Config, Missing};
use crate::points::{self, Arg, Args, Numbered, Point, Provider, Resolver, Return};
use crate::typed::{self, Context, Expr, ExprKind, FunctionRef, Stmt, StmtKind};
use crate::types::{Space, Type};
use crate::{Diagnostic, Severity, Span, ast};

/// Registers that carry arguments.
const PARAMS_MAX: usize = 5;

/// A body with the places where it means the same.
pub(super) struct Unit<'a> {
    /// The probe as written.
    pub probe: &'a ast::Probe,
    /// Its number.
    pub index: u32,
    /// None for a probe that is nowhere, as its script allows: its body is read and not run.
    pub points: Vec<Point>,
    /// What the arguments are there; `None` when the body names none or the machine does not tell.
    pub args: Option<Arc<Args>>,
    /// Number that variables are kept by: never used twice.
    pub id: u32,
    /// The body wants `probe` or `func` as text, so each place needs its own.
    pub wants_split: bool,
}

/// What a body asks of its context.
#[derive(Default)]
struct Uses {
    fields: HashSet<String>,
    /// `args` or `ctx` as a whole.
    whole: bool,
    numbered: bool,
    ret: bool,
    ctx: bool,
}

impl Uses {
    fn any(&self) -> bool {
        self.whole || self.numbered || self.ret || self.ctx || !self.fields.is_empty()
    }

    fn word(&mut self, name: &str) {
        match name {
            "args" => self.whole = true,
            "ctx" => {
                self.ctx = true;
                self.whole = true;
            }
            "retval" => self.ret = true,
            _ if argument_number(name).is_some() => self.numbered = true,
            _ => {}
        }
    }

    /// The part of `args` that the body can see.
    fn seen(&self, args: &Args) -> Args {
        let fields: Vec<Arg> = if self.whole {
            args.fields.clone()
        } else {
            args.fields.iter().filter(|field| self.fields.contains(&field.name)).cloned().collect()
        };
        Args {
            fields,
            numbered: if self.numbered { args.numbered } else { Numbered::No },
            ret: args.ret.clone().filter(|_| self.ret),
            size: if self.whole { args.size } else { 0 },
            name: if self.whole { args.name.clone() } else { String::new() },
            ctx: args.ctx.clone().filter(|_| self.ctx),
        }
    }
}

/// `argN`
pub(super) fn argument_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("arg")?;
    if digits.is_empty() || digits.len() > 3 || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    digits.parse().ok()
}

impl<'a> Checker<'a> {
    /// Finds the places of every probe.
    pub(super) fn expand_probes(&mut self, script: &'a ast::Script) {
        let probes = script.items.iter().filter_map(|item| match item {
            ast::Item::Probe(probe) => Some(probe),
            _ => None,
        });
        let mut next = 0;
        for (index, probe) in probes.enumerate() {
            let mut uses = Uses::default();
            if let Some(predicate) = &probe.predicate {
                self.uses_of_expr(predicate, &mut uses);
            }
            self.uses_of_block(&probe.body, &mut uses);
            let mut groups: HashMap<GroupKey, usize> = HashMap::new();
            let mut seen = HashSet::new();
            let first = self.units.len();
            let mut absent = true;
            // Of a list of names for one thing, such as a function that was renamed, one has to be there.
            let lenient = Config { missing_probes: Missing::Warn, ..self.config.clone() };
            let lists =
                !self.options.bpftrace && self.config.missing_probes == Missing::Error && probe.points.len() > 1;
            let one_is_there =
                lists && probe.points.iter().any(|written| !self.resolver.resolve(written, &mut Vec::new()).is_empty());
            let runs = |written: &&ast::AttachPoint| {
                let provider = written.parts.first().and_then(|word| Provider::of(word));
                provider.is_none_or(|provider| self.options.mode.runs(provider))
            };
            let written: Vec<&ast::AttachPoint> = probe.points.iter().filter(runs).collect();
            if written.is_empty() {
                continue;
            }
            for written in written {
                let mut found = Vec::new();
                let points = match one_is_there {
                    true => Resolver { config: &lenient, ..self.resolver }.resolve(written, &mut found),
                    false => self.resolver.resolve(written, &mut found),
                };
                let alone = points.len() == 1;
                absent &= found.iter().all(|diagnostic| diagnostic.severity == Severity::Warning);
                found.into_iter().for_each(|diagnostic| self.diagnostics.push(diagnostic));
                let filter = self.options.probe_filter.as_ref();
                for point in points {
                    if !self.options.mode.runs(point.provider)
                        || filter.is_some_and(|filter| !filter.is_match(&point.place.name))
                    {
                        continue;
                    }
                    // `kprobe:vfs_read,kprobe:vfs_*` names a place twice.
                    if !seen.insert(point.place.name.clone())
                        && !matches!(point.provider, Provider::Begin | Provider::End)
                    {
                        continue;
                    }
                    self.place_point(probe, index as u32, point, written.span, &uses, alone, &mut groups, &mut next);
                }
            }
            if absent && self.units.len() == first {
                // Its maps still have the types that its body gives them: other probes clear and print them.
                let (points, args, index) = (Vec::new(), None, index as u32);
                self.units.push(Unit { probe, index, points, args, id: next, wants_split: false });
                next += 1;
            }
        }
        let limit = self.config.max_bpf_progs;
        if self.units.len() as u64 > limit {
            let text = format!(
                "Your program is trying to generate more than {} BPF programs, which exceeds the current limit of {limit}",
                self.units.len()
            );
            let diagnostic = Diagnostic { span: None, ..Diagnostic::error(Span::default(), text) };
            self.diagnostics.push(diagnostic.with_hint("raise it: `config = { max_bpf_progs = ... }`"));
            self.units.truncate(limit as usize);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of the loop above, named")]
    fn place_point(
        &mut self,
        probe: &'a ast::Probe,
        index: u32,
        point: Point,
        span: Span,
        uses: &Uses,
        alone: bool,
        groups: &mut HashMap<GroupKey, usize>,
        next: &mut u32,
    ) {
        // Of an iterator, what it goes through is asked for by each call.
        let args = if uses.any() || point.provider == Provider::Iter {
            // What one function returns has its type; many share a program where it is a number.
            let typed = alone && uses.ret && point.provider == Provider::Uretprobe;
            let found = if uses.whole || point.provider == Provider::Iter || !uses.fields.is_empty() || typed {
                self.resolver.args(&point, span)
            } else {
                self.resolver.numbered(&point, span)
            };
            match found {
                Ok(args) => Some(args),
                Err(_) if !uses.any() => None,
                Err(diagnostic) => {
                    self.diagnostics.push(*diagnostic);
                    None
                }
            }
        } else {
            None
        };
        let key = GroupKey {
            provider: point.provider,
            context: context_number(point.context),
            family: point.family,
            section: point.family.is_none().then(|| (point.section.clone(), point.place.name.clone())),
            args: args.as_ref().map(|args| uses.seen(args)),
        };
        if let Some(at) = groups.get(&key) {
            self.units[*at].points.push(point);
            return;
        }
        groups.insert(key, self.units.len());
        self.units.push(Unit { probe, index, points: vec![point], args, id: *next, wants_split: false });
        *next += 1;
    }

    /// Gives each place its own unit where the body asked for it. True when something was split.
    pub(super) fn split_units(&mut self) -> bool {
        if !self.units.iter().any(|unit| unit.wants_split) {
            return false;
        }
        let mut next = self.units.iter().map(|unit| unit.id + 1).max().unwrap_or(0);
        let mut units = Vec::new();
        for unit in std::mem::take(&mut self.units) {
            if !unit.wants_split {
                units.push(unit);
                continue;
            }
            for point in unit.points {
                units.push(Unit {
                    probe: unit.probe,
                    index: unit.index,
                    points: vec![point],
                    args: unit.args.clone(),
                    id: next,
                    wants_split: false,
                });
                next += 1;
            }
        }
        self.units = units;
        true
    }

    /// Walks every unit.
    pub(super) fn walk_probes(&mut self, typed: &mut typed::Script) {
        for at in 0..self.units.len() {
            let unit = &self.units[at];
            let probe = unit.probe;
            self.structs.look_in(unit.points.first().and_then(Point::user_binary));
            self.unit = unit.id;
            self.current = at;
            let speaking = std::mem::replace(&mut self.diagnostics.speaking, false);
            self.diagnostics.speaking = speaking && !unit.points.is_empty();
            self.open_body();
            let predicate = probe.predicate.as_ref().map(|it| (self.condition(it, "predicate"), it.span));
            let mut stmts = self.block(&probe.body);
            if let Some((condition, span)) = predicate {
                let condition = condition.unwrap_or_else(|| self.integer(1, span));
                stmts = vec![Stmt { kind: StmtKind::If(condition, stmts, Vec::new()), span }];
            }
            if let Some(there) = self.iterated(probe.span) {
                stmts = vec![Stmt { kind: StmtKind::If(there, stmts, Vec::new()), span: probe.span }];
            }
            let vars = self.close_body();
            self.diagnostics.speaking = speaking;
            let unit = &self.units[at];
            let Some(first) = unit.points.first() else { continue };
            typed.probes.push(typed::Probe {
                index: unit.index,
                places: unit.points.iter().map(|point| point.place.clone()).collect(),
                section: points::section(&unit.points, self.structs, self.target).unwrap_or_default(),
                context: first.context,
                body: typed::Body { vars, stmts },
                span: probe.span,
            });
        }
        self.structs.look_in(None);
    }

    /// Of an iterator, whether there is an object: behind the last one the kernel calls once more, without any, so that programs of C may
    /// write an end (`task_seq_stop`, kernel/bpf/task_iter.c, and its like). That is the first pointer behind the metadata that is not
    /// the map whose elements are gone through.
    fn iterated(&mut self, span: Span) -> Option<Expr> {
        if self.provider() != Some(Provider::Iter) {
            return None;
        }
        let args = self.args()?;
        let mut pointers =
            args.fields.iter().filter(|arg| arg.name != "meta" && matches!(arg.ty, Type::Pointer { .. })).peekable();
        let first = pointers.next()?;
        let object = match pointers.peek() {
            Some(next) if first.name == "map" => next,
            _ => first,
        };
        let object = self.argument(object, span);
        self.truth(object)
    }

    /// The unit that is walked; none in a subprogram.
    pub(super) fn unit(&self) -> Option<&Unit<'a>> {
        if self.body.in_function { None } else { self.units.get(self.current) }
    }

    pub(super) fn unit_mut(&mut self) -> Option<&mut Unit<'a>> {
        if self.body.in_function { None } else { self.units.get_mut(self.current) }
    }

    pub(super) fn provider(&self) -> Option<Provider> {
        self.unit().and_then(|unit| unit.points.first()).map(|point| point.provider)
    }

    pub(super) fn context(&self) -> Context {
        self.unit().and_then(|unit| unit.points.first()).map_or(Context::None, |point| point.context)
    }

    pub(super) fn args(&self) -> Option<Arc<Args>> {
        self.unit().and_then(|unit| unit.args.clone())
    }

    pub(super) fn returned(&self) -> Option<Return> {
        self.args().and_then(|args| args.ret.clone())
    }

    /// Whose memory an address is of that says nothing itself.
    pub(super) fn default_space(&self) -> Space {
        use Provider::{Fentry, Fexit, Iter, Kprobe, Kretprobe, RawTracepoint, Tracepoint, Uprobe, Uretprobe, Usdt};
        match self.provider() {
            Some(Kprobe | Kretprobe | Fentry | Fexit | Tracepoint | RawTracepoint | Iter) => Space::Kernel,
            Some(Uprobe | Uretprobe | Usdt) => Space::User,
            _ => Space::None,
        }
    }

    /// Notes the names and the types of subprograms.
    pub(super) fn declare_functions(&mut self, script: &'a ast::Script) {
        for item in &script.items {
            if let ast::Item::Macro(item) = item {
                self.macro_names.push(&item.name.name);
            }
            let ast::Item::Function(item) = item else { continue };
            self.body.in_function = true;
            let params = item.params.iter().map(|(_, ty)| self.whole_type_of(ty)).collect();
            let ret = self.whole_type_of(&item.ret);
            self.body = Body::default();
            if let Some(ret) = ret.as_ref().filter(|ret| ret.is_aggregation()) {
                let message = format!("Function '{}' can not return a value of type '{ret}'", item.name.name);
                self.error(item.name.span, message);
            }
            // One is the place for a result that is no number.
            let in_register = ret.as_ref().is_none_or(|ret| ret.is_scalar() || *ret == Type::Void);
            let most = if in_register { PARAMS_MAX } else { PARAMS_MAX - 1 };
            if item.params.len() > most {
                let message = format!(
                    "Function '{}' has {} parameters, at most {most} are possible",
                    item.name.name,
                    item.params.len()
                );
                self.error(item.name.span, message);
            }
            if self.function_names.contains_key(item.name.name.as_str()) {
                self.error(item.name.span, format!("Redefinition of function '{}'", item.name.name));
                continue;
            }
            self.function_names.insert(&item.name.name, FunctionRef(self.functions.len() as u32));
            self.functions.push(FunctionSlot { item, params, ret, calls: Vec::new() });
        }
    }

    /// The type of a parameter or a result: text without a size is as long as text may be.
    fn whole_type_of(&mut self, ty: &ast::TypeExpr) -> Option<Type> {
        match self.type_of(ty)? {
            Type::String { size: 0 } => Some(Type::String { size: self.config.max_strlen }),
            ty => Some(ty),
        }
    }

    /// Walks every subprogram.
    pub(super) fn walk_functions(&mut self, _script: &'a ast::Script, typed: &mut typed::Script) {
        for at in 0..self.functions.len() {
            let FunctionSlot { item, params, ret, .. } = &self.functions[at];
            let (item, params, ret) = (*item, params.clone(), ret.clone());
            // Behind the numbers of all units.
            self.unit = u32::MAX - at as u32;
            self.open_body();
            self.body.in_function = true;
            self.body.ret = ret.clone();
            for ((name, _), ty) in item.params.iter().zip(&params) {
                if self.find_var(&name.name).is_some() {
                    self.error(name.span, format!("Variable {} was already declared.", name.name));
                }
                let var = self.declare_var(name, ty.clone());
                match ty {
                    Some(ty) => self.assigned(var, &Shape::fixed(ty.clone()), name.span),
                    None => self.given_wrong(var),
                }
            }
            let mut stmts = self.block(&item.body);
            let ret = ret.unwrap_or(Type::Void);
            if ret == Type::Void {
                stmts.push(Stmt { kind: StmtKind::Return(None), span: item.body.span });
            } else if !always_returns(&stmts) && !self.body.bad_return {
                self.error(item.name.span, format!("Function '{}' does not return a value at its end", item.name.name));
            }
            let vars = self.close_body();
            typed.functions.push(typed::Function {
                name: item.name.name.clone(),
                params: params.len() as u32,
                ret,
                body: typed::Body { vars, stmts },
            });
        }
        self.refuse_recursion();
    }

    /// The kernel takes no function that is called again before it has returned.
    fn refuse_recursion(&mut self) {
        for at in 0..self.functions.len() {
            // What can be reached through each of its calls.
            let back = self.functions[at].calls.iter().copied().find(|(callee, _)| {
                let (mut seen, mut next) = (std::collections::HashSet::new(), vec![*callee]);
                while let Some(callee) = next.pop() {
                    if callee == at {
                        return true;
                    }
                    if seen.insert(callee) {
                        next.extend(self.functions[callee].calls.iter().map(|(callee, _)| *callee));
                    }
                }
                false
            });
            if let Some((callee, span)) = back {
                let name = self.functions[at].item.name.name.clone();
                let text = match callee == at {
                    true => format!("Function '{name}' calls itself, which the kernel refuses"),
                    false => {
                        let by = &self.functions[callee].item.name.name;
                        format!("Function '{name}' calls itself by way of '{by}', which the kernel refuses")
                    }
                };
                let hint = "write a loop instead: `for ($i : 0..N) { ... }`".to_owned();
                self.diagnostics.push(Diagnostic::error(span, text).with_hint(hint));
            }
        }
    }

    /// A call of a subprogram.
    pub(super) fn call_function(&mut self, function: FunctionRef, args: &[ast::Arg], span: Span) -> Option<Expr> {
        let callee = function.0 as usize;
        if self.body.in_function
            && let Some(caller) = self.functions.get_mut((u32::MAX - self.unit) as usize)
            && !caller.calls.iter().any(|(known, _)| *known == callee)
        {
            caller.calls.push((callee, span));
        }
        let slot = &self.functions[callee];
        let (params, ret, name) = (slot.params.clone(), slot.ret.clone(), slot.item.name.name.clone());
        if args.len() != params.len() {
            let wants = super::call::count_words(params.len());
            return self.fail(span, format!("{name}() requires {wants} ({} provided)", args.len()));
        }
        let mut values = Vec::with_capacity(args.len());
        for (arg, ty) in args.iter().zip(&params) {
            let ast::Arg::Expr(arg) = arg else {
                return self.fail(span, format!("{name}() takes values, not types"));
            };
            let value = self.expr(arg)?;
            let Some(ty) = ty else { continue };
            let given = value.ty.clone();
            let Some(value) = self.fit(value, ty) else {
                return self.fail(arg.span, format!("{name}() expects a value of type '{ty}' ('{given}' provided)"));
            };
            values.push(value);
        }
        let Some(ret) = ret else { return self.follows() };
        Some(Expr { kind: ExprKind::CallFunction(function, values), ty: ret, span })
    }

    fn uses_of_block(&self, block: &ast::Block, uses: &mut Uses) {
        block.stmts.iter().for_each(|stmt| self.uses_of_stmt(stmt, uses));
        if let Some(tail) = &block.tail {
            self.uses_of_expr(tail, uses);
        }
    }

    fn uses_of_stmt(&self, stmt: &ast::Stmt, uses: &mut Uses) {
        use ast::StmtKind as S;
        match &stmt.kind {
            S::Let { value, .. } => value.iter().for_each(|value| self.uses_of_expr(value, uses)),
            S::Assign { target, value, .. } => {
                self.uses_of_expr(target, uses);
                self.uses_of_expr(value, uses);
            }
            S::Expr(expr) => self.uses_of_expr(expr, uses),
            S::If(branch) => self.uses_of_if(branch, uses),
            S::While { cond, body } => {
                self.uses_of_expr(cond, uses);
                self.uses_of_block(body, uses);
            }
            S::ForMap { body, .. } => self.uses_of_block(body, uses),
            S::ForRange { start, end, body, .. } => {
                self.uses_of_expr(start, uses);
                self.uses_of_expr(end, uses);
                self.uses_of_block(body, uses);
            }
            S::Unroll { count, body } => {
                self.uses_of_expr(count, uses);
                self.uses_of_block(body, uses);
            }
            S::Return(value) => value.iter().for_each(|value| self.uses_of_expr(value, uses)),
            S::Block(block) => self.uses_of_block(block, uses),
            S::Break | S::Continue | S::Import(_) => {}
        }
    }

    fn uses_of_if(&self, branch: &ast::If, uses: &mut Uses) {
        self.uses_of_expr(&branch.cond, uses);
        self.uses_of_block(&branch.then, uses);
        branch.otherwise.iter().for_each(|block| self.uses_of_block(block, uses));
    }

    fn uses_of_expr(&self, expr: &ast::Expr, uses: &mut Uses) {
        use ast::ExprKind as E;
        let mut each = |expr: &ast::Expr| self.uses_of_expr(expr, uses);
        match &expr.kind {
            E::Ident(name) => match self.structs.expand(name, None, expr.span) {
                Some(Ok(expanded)) if !matches!(&expanded.kind, E::Ident(same) if same == name) => {
                    // What a `#define` names is not followed further than one level of itself: the expansion is whole.
                    self.uses_of_expr(&expanded, uses);
                }
                _ => uses.word(name),
            },
            E::Call { name, args } => {
                uses.word(&name.name);
                for arg in args {
                    match arg {
                        ast::Arg::Expr(expr) => self.uses_of_expr(expr, uses),
                        ast::Arg::Type(ty) => self.uses_of_type(ty, uses),
                    }
                }
            }
            E::Field { base, name, .. } => match &base.kind {
                E::Ident(word) if word == "args" || word == "ctx" => {
                    uses.fields.insert(name.name.clone());
                    uses.ctx |= word == "ctx";
                }
                E::Call { name: word, args } if word.name == "args" && args.is_empty() => {
                    uses.fields.insert(name.name.clone());
                }
                _ => each(base),
            },
            E::MapElement { keys, .. } => keys.iter().for_each(each),
            E::Unary(_, inner) | E::Comptime(inner) => each(inner),
            E::Cast(ty, inner) => {
                self.uses_of_type(ty, uses);
                self.uses_of_expr(inner, uses);
            }
            E::Step { target, .. } => each(target),
            E::Binary(_, a, b) | E::Index(a, b) => {
                each(a);
                each(b);
            }
            E::Ternary(a, b, c) => {
                each(a);
                b.iter().for_each(|b| each(b));
                each(c);
            }
            E::If(branch) => self.uses_of_if(branch, uses),
            E::Block(block) => self.uses_of_block(block, uses),
            E::Tuple(elems) => elems.iter().for_each(each),
            E::Record(fields) => fields.iter().for_each(|(_, value)| each(value)),
            E::Sizeof(of) | E::Offsetof(of, _) | E::Typeinfo(of) => match &**of {
                ast::TypeOrExpr::Expr(expr) => each(expr),
                ast::TypeOrExpr::Type(ty) => self.uses_of_type(ty, uses),
            },
            E::Int { .. }
            | E::Bool(_)
            | E::Str(_)
            | E::Param(_)
            | E::ParamCount
            | E::Var(_)
            | E::Map(_)
            | E::Discard
            | E::Error => {}
        }
    }

    fn uses_of_type(&self, ty: &ast::TypeExpr, uses: &mut Uses) {
        match &ty.kind {
            ast::TypeKind::Typeof(of) => match &**of {
                ast::TypeOrExpr::Expr(expr) => self.uses_of_expr(expr, uses),
                ast::TypeOrExpr::Type(ty) => self.uses_of_type(ty, uses),
            },
            ast::TypeKind::Pointer(inner) | ast::TypeKind::Array(inner, _) => self.uses_of_type(inner, uses),
            ast::TypeKind::Tuple(types) => types.iter().for_each(|ty| self.uses_of_type(ty, uses)),
            ast::TypeKind::Name(_) | ast::TypeKind::Tagged { .. } | ast::TypeKind::Sized(..) => {}
        }
    }
}

/// Whether the end of these statements is never reached.
fn always_returns(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|stmt| match &stmt.kind {
        StmtKind::Return(_) => true,
        StmtKind::If(_, then, otherwise) => always_returns(then) && always_returns(otherwise),
        StmtKind::Block(inner) => always_returns(inner),
        _ => false,
    })
}

/// What points of one unit have in common.
#[derive(PartialEq, Eq, Hash)]
struct GroupKey {
    provider: Provider,
    context: u8,
    family: Option<&'static str>,
    section: Option<(String, String)>,
    args: Option<Args>,
}

fn context_number(context: Context) -> u8 {
    match context {
        Context::None => 0,
        Context::Registers => 1,
        Context::Tracepoint => 2,
        Context::RawArgs => 3,
        Context::TypedArgs => 4,
        Context::PerfEvent => 5,
        Context::Xdp => 6,
    }
}
