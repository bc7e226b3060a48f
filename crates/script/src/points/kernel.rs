//! Functions of the kernel: kprobe and kretprobe, fentry and fexit.

use super::pattern::{number, split_offset};
use super::tracepoint::spaced;
use super::{Arg, ArgAt, Args, Asked, Declared, Found, Numbered, Point, Provider, Return, is_pattern, matches};
use crate::diagnostic::Diagnostic;
use crate::plan::Attach;
use crate::points::Resolver;
use crate::structs::Prototype;
use crate::target::KernelFunction;
use crate::typed::{Context, Place};
use crate::types::{Space, Type};
use skep_spec::nearest::did_you_mean;

/// A struct by value of more bytes than this is not passed in registers (System V for x86-64 3.2.3, AAPCS64 6.8.2), and BPF's
/// trampolines refuse it.
const MAX_BY_VALUE: u32 = 16;

/// The kernel takes these locks on the way into a return probe: one there never comes back.
const NO_KRETPROBE: [&str; 4] =
    ["_raw_spin_lock", "_raw_spin_lock_irqsave", "_raw_spin_unlock_irqrestore", "queued_spin_lock_slowpath"];

impl Resolver<'_> {
    pub(super) fn kprobe(&self, asked: Asked<'_>, out: &mut Vec<Diagnostic>) -> Found {
        let (module, function) = match *asked.parts {
            [module, function] => (Some(module), function),
            [function] => (None, function),
            _ => return Err(asked.error("kprobe takes a module and a function")),
        };
        let returns = asked.provider == Provider::Kretprobe;
        if is_pattern(function) || module.is_some_and(is_pattern) {
            if function.contains('+') {
                return Err(asked.error("No wildcards allowed with an offset"));
            }
            let all = self.target.kernel_functions().map_err(|error| cannot_list(asked, &error.to_string()))?;
            let found: Vec<Point> = all
                .iter()
                .filter(|it| matches(function, &it.name) && module.is_none_or(|module| matches(module, &it.module)))
                .filter(|it| !(returns && NO_KRETPROBE.contains(&it.name.as_str())))
                .map(|it| kprobe_point(asked.provider, module.map(|_| it.module.as_str()), &it.name, 0))
                .collect();
            if found.is_empty() {
                let name = asked.parts.join(":");
                self.missing(asked, format!("No matches for {} probe {name}", asked.provider.name()), None, out);
            }
            return Ok(found);
        }
        if function.starts_with(|c: char| c.is_ascii_digit()) {
            let address = number(function)
                .ok_or_else(|| asked.error(format!("Invalid function/address argument: {function}")))?;
            if returns {
                return Err(asked.error("kretprobe needs a function's name, not an address"));
            }
            return Ok(vec![address_point(address)]);
        }
        let (function, off) = split_offset(function);
        let off = match off {
            None => 0,
            Some(Err(text)) => return Err(asked.error(format!("Invalid offset: {text}"))),
            Some(Ok(_)) if returns => return Err(asked.error("Offset not allowed")),
            Some(Ok(off)) => off,
        };
        if returns && NO_KRETPROBE.contains(&function) {
            let name = asked.parts.join(":");
            return Err(asked.error(format!("kretprobe:{name} can't be used as it might lock up your system.")));
        }
        if !self.has_function(module, function) {
            self.no_function(asked, module, function, out);
            return Ok(Vec::new());
        }
        Ok(vec![kprobe_point(asked.provider, module, function, off)])
    }

    /// Whether the kernel or a module has such a function: by its types, which is fast, then by its symbols, which do not tell
    /// the module. A machine that would tell nothing is believed to have it: the kernel says so when the probe is attached.
    fn has_function(&self, module: Option<&str>, function: &str) -> bool {
        if self.structs.function(module, function).is_some() {
            return true;
        }
        if let Some(module) = module {
            let all = self.target.kernel_functions().unwrap_or_default();
            return all.is_empty() || all.iter().any(|it| it.module == module && it.name == function);
        }
        // Several functions of one name are an error here and still there.
        self.structs.symbol(function).map_or(true, |found| found.is_some())
    }

    fn no_function(&self, asked: Asked<'_>, module: Option<&str>, function: &str, out: &mut Vec<Diagnostic>) {
        let all = self.target.kernel_functions().unwrap_or_default();
        let inside = |it: &&KernelFunction| module.is_none_or(|module| it.module == module);
        let names = all.iter().filter(inside).map(|it| it.name.as_str());
        let typed = matches!(asked.provider, Provider::Fentry | Provider::Fexit);
        let hint = match typed && all.iter().filter(inside).any(|it| it.name == function) {
            true => Some("the kernel does not tell the types of its arguments; use kprobe instead".to_owned()),
            false => did_you_mean(function, names),
        };
        let shown = asked.parts.join(":");
        let message = match asked.provider {
            Provider::Kprobe | Provider::Kretprobe => {
                format!("{shown} is not traceable (either non-existing, inlined, or marked as \"notrace\")")
            }
            _ => format!("No matches for {} probe {shown}", asked.provider.name()),
        };
        self.missing(asked, message, hint, out);
    }

    pub(super) fn kprobe_args(&self, point: &Point) -> Args {
        let returns = point.provider == Provider::Kretprobe;
        let (module, function) = match &point.place.attach {
            Attach::Section { target: Some(target), .. } => match target.split_once(':') {
                Some((module, function)) => (Some(module), function),
                None => (None, target.as_str()),
            },
            _ => (None, ""),
        };
        let known = match function.contains('+') {
            // Behind the first instruction, registers may hold anything.
            true => None,
            false => self.structs.function(module, function).filter(|_| !function.is_empty()),
        };
        if returns {
            let ret = known.map_or((Type::U64, Declared::default()), |it| (returned(&it), result(&it)));
            let ret = Return { ty: ret.0, arguments: 0, declared: ret.1 };
            return Args { ret: Some(ret), ..Args::default() };
        }
        let fields = known.map(|it| arguments(&it).0).unwrap_or_default();
        Args { fields, numbered: Numbered::Registers, ..Args::default() }
    }

    pub(super) fn fentry(&self, asked: Asked<'_>, out: &mut Vec<Diagnostic>) -> Found {
        let (module, function) = match *asked.parts {
            [function] => (None, function),
            ["bpf", ..] => return self.fentry_bpf(asked, out),
            [module, function] => (Some(module), function),
            _ => return Err(asked.error(format!("{} takes a module and a function", asked.provider.name()))),
        };
        if !self.structs.has_btf() {
            let error = asked.error(format!("{} needs the kernel's types (BTF)", asked.provider.name()));
            return Err(Box::new(error.with_hint("use kprobe instead")));
        }
        if is_pattern(function) || module.is_some_and(is_pattern) {
            // Those that are traceable and that have a prototype.
            let all = self.target.kernel_functions().map_err(|error| cannot_list(asked, &error.to_string()))?;
            let matching: Vec<&KernelFunction> = all
                .iter()
                .filter(|it| matches(function, &it.name) && module.is_none_or(|module| matches(module, &it.module)))
                .collect();
            let found: Vec<Point> = matching
                .into_iter()
                .filter(|it| self.structs.function(Some(&it.module), &it.name).is_some())
                .map(|it| fentry_point(asked.provider, &it.module, &it.name))
                .collect();
            if found.is_empty() {
                let name = asked.parts.join(":");
                self.missing(asked, format!("No matches for {} probe {name}", asked.provider.name()), None, out);
            }
            return Ok(found);
        }
        match self.structs.function(module, function) {
            Some(known) => Ok(vec![fentry_point(asked.provider, &known.module, function)]),
            None => {
                self.no_function(asked, module, function, out);
                Ok(Vec::new())
            }
        }
    }

    /// `fentry:bpf:prog`, `fentry:bpf:42:prog`: a BPF program or a function of one.
    fn fentry_bpf(&self, asked: Asked<'_>, out: &mut Vec<Diagnostic>) -> Found {
        let (id, function) = match *asked.parts {
            [_, id, function] => {
                let id = number(id).and_then(|id| u32::try_from(id).ok());
                (Some(id.ok_or_else(|| asked.error("the part behind `bpf` is the number of a program"))?), function)
            }
            [_, function] => (None, function),
            _ => return Err(asked.error("write fentry:bpf:PROGRAM or fentry:bpf:ID:PROGRAM")),
        };
        let all = self.target.bpf_functions().map_err(|error| cannot_list(asked, &error.to_string()))?;
        let found: Vec<Point> = all
            .iter()
            .filter(|it| id.is_none_or(|id| id == it.program) && matches(function, &it.name))
            .map(|it| bpf_point(asked.provider, it.program, &it.name))
            .collect();
        if found.is_empty() {
            let hint = did_you_mean(function, all.iter().map(|it| it.name.as_str()));
            let name = asked.parts.join(":");
            self.missing(asked, format!("No matches for {} probe {name}", asked.provider.name()), hint, out);
        }
        Ok(found)
    }

    pub(super) fn fentry_args(&self, point: &Point) -> Result<Args, String> {
        let Attach::Section { target: Some(target), .. } = &point.place.attach else {
            return Err(format!("{} has no function", point.place.name));
        };
        let parts: Vec<&str> = target.split(':').collect();
        let known = match parts[..] {
            ["bpf", id, function] => {
                let id = id.parse().unwrap_or_default();
                let btf = self.target.bpf_program_btf(id).map_err(|error| error.to_string())?;
                btf.and_then(|btf| self.structs.function_of(&format!("bpf:{id}"), btf, function))
            }
            [module, function] => self.structs.function(Some(module), function),
            _ => None,
        };
        let known = known.ok_or_else(|| format!("the types of {} are not known", point.place.name))?;
        let (fields, slots) = arguments(&known);
        if let Some((name, ty)) = known.params.get(fields.len()) {
            let name = if name.is_empty() { "an argument" } else { name };
            return Err(format!("{} takes {name} by value, a {ty} that no register holds", point.place.name));
        }
        let ret = (point.provider == Provider::Fexit).then(|| Return {
            ty: returned(&known),
            arguments: slots,
            declared: result(&known),
        });
        Ok(Args {
            fields,
            numbered: Numbered::Slots(slots),
            ret,
            size: slots * 8,
            name: format!("struct {}_args", parts.last().unwrap_or(&"")),
            ctx: None,
        })
    }
}

/// Named arguments with their slots, and how many slots there are. Ends at the first that no register or slot holds: a big
/// struct by value, floating point.
pub(super) fn arguments(prototype: &Prototype) -> (Vec<Arg>, u32) {
    let mut slot = 0;
    let mut fields = Vec::new();
    for (n, (name, ty)) in prototype.params.iter().enumerate() {
        let slots = match ty.size() {
            0 => break,
            _ if matches!(ty, Type::Float { .. }) => break,
            size if size > MAX_BY_VALUE => break,
            size => size.div_ceil(8),
        };
        let name = if name.is_empty() { format!("arg{n}") } else { name.clone() };
        let at = ArgAt::Argument { slot, nullable: false };
        let declared = Declared(format!("{} {name}", prototype.spelled.0[n]));
        fields.push(Arg { name, ty: spaced(ty.clone(), Space::Kernel), at, declared });
        slot += slots;
    }
    (fields, slot)
}

fn result(prototype: &Prototype) -> Declared {
    Declared(format!("{} retval", prototype.spelled.1))
}

/// Type of `retval`; `Void` functions leave a number in the register that means nothing.
fn returned(prototype: &Prototype) -> Type {
    match &prototype.ret {
        Type::Void | Type::Struct(_) | Type::Float { .. } => Type::U64,
        ty => spaced(ty.clone(), Space::Kernel),
    }
}

fn cannot_list(asked: Asked<'_>, error: &str) -> Box<Diagnostic> {
    asked.error(format!("cannot list functions for {}: {error}", asked.provider.name()))
}

fn kprobe_point(provider: Provider, module: Option<&str>, function: &str, off: u64) -> Point {
    let mut target = String::new();
    if let Some(module) = module.filter(|module| *module != "vmlinux") {
        target.push_str(module);
        target.push(':');
    }
    target.push_str(function);
    if off != 0 {
        target.push_str(&format!("+{off}"));
    }
    Point {
        provider,
        place: Place {
            name: format!("{}:{target}", provider.name()),
            func: Some(function.to_owned()),
            attach: Attach::Section { target: Some(target.clone()), binary: None, off_bytes: None },
        },
        context: Context::Registers,
        section: format!("{}/{target}", provider.name()),
        family: Some(provider.name()),
    }
}

fn address_point(address: u64) -> Point {
    Point {
        provider: Provider::Kprobe,
        place: Place {
            name: format!("kprobe:{address:#x}"),
            func: None,
            attach: Attach::Section { target: None, binary: None, off_bytes: Some(address) },
        },
        context: Context::Registers,
        section: "kprobe".to_owned(),
        family: Some("kprobe"),
    }
}

fn fentry_point(provider: Provider, module: &str, function: &str) -> Point {
    let name = provider.name();
    let target = format!("{module}:{function}");
    // The kernel's own functions are looked for without a module.
    let section = if module == "vmlinux" { function } else { target.as_str() };
    Point {
        provider,
        section: format!("{name}/{section}"),
        place: Place {
            name: format!("{name}:{target}"),
            func: Some(function.to_owned()),
            attach: Attach::Section { target: Some(target), binary: None, off_bytes: None },
        },
        context: Context::TypedArgs,
        family: None,
    }
}

fn bpf_point(provider: Provider, program: u32, function: &str) -> Point {
    let target = format!("bpf:{program}:{function}");
    Point {
        provider,
        place: Place {
            name: format!("{}:{target}", provider.name()),
            func: Some(function.to_owned()),
            attach: Attach::Section { target: Some(target), binary: None, off_bytes: None },
        },
        context: Context::TypedArgs,
        section: format!("{}/{function}", provider.name()),
        family: None,
    }
}
