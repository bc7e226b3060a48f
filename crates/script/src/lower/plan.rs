//! Probes to programs: their functions, and what the plan says about them.

use skep_insn::{Cond, Width};

use super::place::{Body, Home, Kind, Place};
use super::{Entry, Unit, uses};
use crate::ir::FuncKind;
use crate::plan::{Attach, ParameterKind, Program};
use crate::typed::{self, Builtin, Context, ExprKind};

/// The word before the first colon of a probe's name: `kprobe`, `tracepoint`, `begin`.
pub(crate) fn provider(probe: &typed::Probe) -> String {
    let name = probe.places.first().map_or("", |place| place.name.as_str());
    name.split(':').next().unwrap_or_default().to_ascii_lowercase()
}

impl<'a> Unit<'a> {
    /// Makes the program or programs of a probe.
    pub(crate) fn probe(&mut self, probe: &'a typed::Probe) {
        while self.plan.probe_names.len() <= probe.index as usize {
            self.plan.probe_names.push(String::new());
        }
        if self.plan.probe_names[probe.index as usize].is_empty() {
            self.plan.probe_names[probe.index as usize] =
                probe.places.first().map(|place| place.name.clone()).unwrap_or_default();
        }
        let first = self.plan.places.len() as u32;
        self.plan.places.extend(probe.places.iter().cloned());
        let asks = uses::any_expr(&probe.body.stmts, &mut |e| matches!(e.kind, ExprKind::Builtin(Builtin::Place)));
        // A program tells its places apart by their cookies; where there are none, each place has its own program.
        if asks && probe.places.len() > 1 && !has_cookies(probe) {
            for (at, place) in (0u32..).zip(&probe.places) {
                self.program(probe, std::slice::from_ref(place), Some(first + at), None);
            }
        } else {
            let only = (probe.places.len() == 1).then_some(first);
            let cookies = (asks && only.is_none()).then_some(first);
            self.program(probe, &probe.places, only, cookies);
        }
    }

    fn program(
        &mut self,
        probe: &'a typed::Probe,
        places: &[typed::Place],
        place: Option<u32>,
        cookies_from: Option<u32>,
    ) {
        let stem = places.first().map_or("probe", |place| place.name.as_str());
        let name = self.unique_name(stem);
        let filter = self.filters_process(probe);
        let mut body = Body::new(self, &name, FuncKind::Program, Kind::Probe(probe), 1, probe.span);
        body.place = place;
        if filter {
            body.filter_process();
        }
        body.start(&probe.body);
        body.top_statements(&probe.body.stmts);
        let result = match probe.context {
            Context::Xdp => None,
            // The result of a tracepoint's programs says whether others who measure it see the event.
            Context::Tracepoint => Some(1),
            _ => Some(0),
        };
        let function = body.finish(result);
        let func = self.add_function(function);
        self.plan.programs.push(Program {
            program: skep_spec::ProgId(self.entries.len() as u32),
            probe: probe.index,
            places: places.to_vec(),
            cookies_from,
        });
        self.entries.push(Entry { func, name, section: probe.section.clone() });
    }

    /// Makes places for the subprograms, so that they can call each other, and then the subprograms.
    pub(crate) fn subprograms(&mut self) {
        let names: Vec<String> =
            self.script.functions.iter().map(|function| self.unique_name(&function.name)).collect();
        for name in &names {
            let empty = crate::ir::build::FunctionBuilder::new(name, FuncKind::Local, 0).finish();
            let func = self.add_function(empty);
            self.subprograms.push(func);
        }
        for (at, function) in self.script.functions.iter().enumerate() {
            let span = function.body.stmts.first().map(|stmt| stmt.span).unwrap_or_default();
            let kind = Kind::Function(function);
            let first = u32::from(function.returns_in_memory());
            let mut body = Body::new(self, &names[at], FuncKind::Local, kind, first + function.params, span);
            body.start(&function.body);
            body.set_parameters(&function.body.vars[..function.params as usize], first as usize);
            body.top_statements(&function.body.stmts);
            let made = body.finish(None);
            let func = self.subprograms[at];
            self.module.functions[func.0 as usize] = made;
        }
    }

    /// Whether `-p` is this program's own business: functions and USDT are attached to the process alone, timers have none.
    fn filters_process(&self, probe: &typed::Probe) -> bool {
        let timer = matches!(&probe.places[..], [place, ..]
            if matches!(place.attach, Attach::Perf(event) if event.one_cpu));
        self.options.pid.is_some()
            && !self.options.follow
            && !timer
            && !matches!(probe.context, Context::None | Context::Xdp)
            && !matches!(provider(probe).as_str(), "uprobe" | "uretprobe" | "usdt" | "iter")
    }

    /// Offset of a member of a kernel struct, in bytes; `None` when the kernel's types do not tell.
    pub(crate) fn member_offset(&self, name: &str, member: &str) -> Option<u32> {
        let btf = self.target.btf().ok()??;
        let id = btf.find(name, skep_btf::Kind::STRUCT)?;
        offset_in(&btf, id, member)
    }
}

/// Offset of a member, that of a structure without a name inside included.
fn offset_in(btf: &skep_btf::Btf, id: skep_btf::TypeId, name: &str) -> Option<u32> {
    let (skep_btf::Type::Struct(composite) | skep_btf::Type::Union(composite)) = btf.type_by_id(id).ok()? else {
        return None;
    };
    composite.members().find_map(|it| match it.name() {
        found if found == name => Some(it.bit_offset() / 8),
        "" => Some(it.bit_offset() / 8 + offset_in(btf, it.type_id(), name)?),
        _ => None,
    })
}

/// Whether a place of this probe may have a cookie: what attaches through a link of perf, of kprobe_multi or of uprobe_multi.
fn has_cookies(probe: &typed::Probe) -> bool {
    matches!(
        provider(probe).as_str(),
        "kprobe"
            | "kretprobe"
            | "uprobe"
            | "uretprobe"
            | "usdt"
            | "tracepoint"
            | "profile"
            | "interval"
            | "software"
            | "hardware"
            | "watchpoint"
    )
}

impl<'a> Body<'_, 'a> {
    /// Begins the body: takes scratch when variables are in it, and sets variables to zero.
    fn start(&mut self, body: &'a typed::Body) {
        if self.uses_scratch() {
            let start = self.f.block(0);
            self.take_scratch(start);
            self.f.switch_to(start);
        }
        self.zero_variables(body);
    }

    /// Parameters of a subprogram are its first variables; argument `first` is the first of them. Of what lies in memory the caller
    /// gives the address of a copy.
    fn set_parameters(&mut self, params: &[typed::Var], first: usize) {
        for (at, var) in params.iter().enumerate() {
            let value = self.f.argument(first + at);
            if matches!(self.homes[at], Home::None) {
                continue;
            }
            let place = self.var_place(typed::VarRef(at as u32));
            if var.ty.is_scalar() {
                self.store(place, 0, 8, value);
            } else {
                let given = Place { stack: true, ..Place::behind(value) };
                self.copy(given, place, var.ty.size());
            }
        }
    }

    /// Leaves at once when another process than that of `-p` is running.
    fn filter_process(&mut self) {
        let wanted = self.parameter(ParameterKind::FilterPid);
        let own = self.task_number(false, true);
        let (go, other) = (self.f.block(0), self.f.block(0));
        self.f.branch(Cond::Eq, Width::W64, own, wanted, (go, &[]), (other, &[]));
        self.f.switch_to(other);
        self.return_(None);
        self.f.switch_to(go);
    }
}
