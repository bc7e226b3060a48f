//! Raw tracepoints: `rawtracepoint:sched_switch`, whose arguments are those of the kernel's own call.
//!
//! The kernel's types know them by several names (include/trace/bpf_probe.h, include/linux/tracepoint.h, 6.18):
//!
//! - `btf_trace_X`: a typedef of a pointer to a function that takes `void *` and the arguments. Always there; no names.
//! - `__traceiter_X` (5.10), `__probestub_X` (6.4): functions with the same parameters, with names.
//! - `__bpf_trace_X`: the same, of the event class, so only where the class is called as the event.

use super::tracepoint::spaced;
use super::{Arg, ArgAt, Args, Asked, Declared, Found, Numbered, Point, Provider, is_pattern, matches};
use crate::diagnostic::Diagnostic;
use crate::plan::Attach;
use crate::points::Resolver;
use crate::typed::{Context, Place};
use crate::types::Space;
use skep_spec::nearest::did_you_mean;

/// Arguments that may be null though nothing in the types says so: those that the kernel's verifier knows since 6.13
/// (`raw_tp_null_args` in kernel/bpf/btf.c), with a bit for each argument. Only the events whose argument is often null are
/// here; the kernel's own list is in force when the program is loaded.
const NULLABLE: [(&str, u32); 9] = [
    ("sched_pi_setprio", 1 << 1),
    ("sched_stick_numa", 1 << 2),
    ("sched_swap_numa", 1 << 2),
    ("kfree_skb", 1 << 3),
    ("tcp_send_reset", 1 << 0 | 1 << 1),
    ("xdp_redirect", 1 << 2),
    ("xdp_redirect_err", 1 << 2),
    ("xdp_redirect_map", 1 << 2),
    ("xdp_redirect_map_err", 1 << 2),
];

impl Resolver<'_> {
    pub(super) fn raw_tracepoint(&self, asked: Asked<'_>, out: &mut Vec<Diagnostic>) -> Found {
        let (module, event) = match *asked.parts {
            [module, event] => (Some(module), event),
            [event] => (None, event),
            _ => return Err(asked.error("rawtracepoint takes a module and an event")),
        };
        if is_pattern(event) || module.is_some_and(is_pattern) {
            let found: Vec<Point> = self
                .structs
                .raw_tracepoints(module.is_some())
                .into_iter()
                .filter(|(of, it)| matches(event, it) && module.is_none_or(|module| matches(module, of)))
                .map(|(of, it)| point(module.map(|_| of.as_str()), &it))
                .collect();
            if found.is_empty() {
                let name = asked.parts.join(":");
                self.missing(asked, format!("No matches for rawtracepoint probe {name}"), None, out);
            }
            return Ok(found);
        }
        // Without types nobody can say before it is attached.
        if !self.structs.has_btf() || self.structs.raw_tracepoint(module, event).is_some() {
            return Ok(vec![point(module, event)]);
        }
        let all = self.structs.raw_tracepoints(true);
        let elsewhere = all.iter().find(|(_, it)| it == event).map(|(of, _)| format!("it is in module `{of}`"));
        let hint = elsewhere.or_else(|| did_you_mean(event, all.iter().map(|(_, it)| it.as_str())));
        let name = asked.parts.join(":");
        self.missing(asked, format!("No matches for rawtracepoint probe {name}"), hint, out);
        Ok(Vec::new())
    }

    pub(super) fn raw_tracepoint_args(&self, point: &Point) -> Result<Args, String> {
        let (module, event) = match &point.place.attach {
            Attach::Section { target: Some(target), .. } => match target.split_once(':') {
                Some((module, event)) => (Some(module), event),
                None => (None, target.as_str()),
            },
            _ => (None, ""),
        };
        if !self.structs.has_btf() {
            return Err(format!("arguments of {} need the kernel's types (BTF)", point.place.name));
        }
        let known = self.structs.raw_tracepoint(module, event);
        let known = known.ok_or_else(|| format!("the types of {} are not known", point.place.name))?;
        let nullable = NULLABLE.iter().find(|(name, _)| *name == event).map_or(0, |(_, mask)| *mask);
        let fields: Vec<Arg> = known
            .params
            .iter()
            .enumerate()
            .map(|(n, (name, ty))| {
                let may_be_null = nullable >> n.min(31) & 1 != 0 || name.ends_with("__nullable");
                let name = if name.is_empty() { format!("arg{n}") } else { name.clone() };
                Arg {
                    declared: Declared(format!("{} {name}", known.spelled.0[n])),
                    name,
                    ty: spaced(ty.clone(), Space::Kernel),
                    at: ArgAt::Argument { slot: n as u32, nullable: may_be_null },
                }
            })
            .collect();
        let count = fields.len() as u32;
        Ok(Args {
            fields,
            numbered: Numbered::Slots(count),
            ret: None,
            size: 8 * count,
            name: format!("struct {event}_args"),
            ctx: None,
        })
    }
}

fn point(module: Option<&str>, event: &str) -> Point {
    let target = match module.filter(|module| *module != "vmlinux") {
        Some(module) => format!("{module}:{event}"),
        None => event.to_owned(),
    };
    Point {
        provider: Provider::RawTracepoint,
        place: Place {
            name: format!("rawtracepoint:{target}"),
            func: None,
            attach: Attach::Section { target: Some(target), binary: None, off_bytes: None },
        },
        context: Context::RawArgs,
        // The kernel finds an event of a module by its name alone.
        section: format!("raw_tracepoint/{event}"),
        family: Some("raw_tracepoint"),
    }
}
