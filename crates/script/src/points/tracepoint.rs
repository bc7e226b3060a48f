//! Tracepoints: `tracepoint:syscalls:sys_enter_open*`.

use super::format::{FormatField, Loc, parse};
use super::{Arg, ArgAt, Args, Asked, Declared, Found, Point, Provider, is_pattern, matches};
use crate::diagnostic::Diagnostic;
use crate::plan::Attach;
use crate::points::Resolver;
use crate::typed::{Context, Place};
use crate::types::{Space, Type};
use skep_spec::nearest::did_you_mean;

/// The first 8 bytes of a record are not the program's to read: the kernel keeps a pointer to the registers there
/// (kernel/trace/bpf_trace.c, `tp_prog_is_valid_access`). They hold the `common_*` fields.
const HIDDEN_BYTES: u32 = 8;

impl Resolver<'_> {
    pub(super) fn tracepoint(&self, asked: Asked<'_>, out: &mut Vec<Diagnostic>) -> Found {
        let (category, event) = (asked.parts[0], asked.parts[1]);
        if is_pattern(category) || is_pattern(event) {
            let all = self.target.tracepoints().map_err(|error| unreadable(asked, &error.to_string()))?;
            let found: Vec<Point> = all
                .iter()
                .filter_map(|name| name.split_once(':'))
                .filter(|(c, e)| matches(category, c) && matches(event, e))
                .map(|(c, e)| point(c, e))
                .collect();
            if found.is_empty() {
                self.missing(asked, format!("tracepoints not found: {category}:{event}"), None, out);
            }
            return Ok(found);
        }
        match self.structs.format(category, event).map_err(|error| unreadable(asked, &error))? {
            Some(_) => Ok(vec![point(category, event)]),
            None => {
                let all = self.target.tracepoints().unwrap_or_default();
                let wanted = format!("{category}:{event}");
                // The category is often what was got wrong.
                let elsewhere = all.iter().find(|name| name.split_once(':').is_some_and(|(_, e)| e == event));
                let hint = match elsewhere {
                    Some(name) => Some(format!("did you mean `{name}`?")),
                    None => did_you_mean(&wanted, all.iter().map(String::as_str)),
                };
                self.missing(asked, format!("tracepoint not found: {wanted}"), hint, out);
                Ok(Vec::new())
            }
        }
    }

    pub(super) fn tracepoint_args(&self, point: &Point) -> Result<Args, String> {
        let (category, event) = names(point).unwrap_or_default();
        let text = self.structs.format(category, event)?;
        let text = text.ok_or_else(|| format!("tracepoint not found: {category}:{event}"))?;
        let fields = parse(&text);
        // `size` of a dynamic field is that of the number that tells where it is.
        let size = fields.iter().map(|field| field.off + field.size).max().unwrap_or_default();
        let fields = fields.into_iter().filter(|field| field.off >= HIDDEN_BYTES);
        let space = if category == "syscalls" { Space::User } else { Space::Kernel };
        Ok(Args {
            fields: fields.map(|field| self.format_arg(field, space)).collect(),
            size,
            name: format!("struct _tracepoint_{category}_{event}"),
            ..Args::default()
        })
    }

    /// A field's type is what its words mean to the machine, when that agrees with the field's size; else an integer.
    fn format_arg(&self, field: FormatField, space: Space) -> Arg {
        let declared = self.structs.type_name(&field.ty).filter(|ty| *ty != Type::Void);
        let int = |size: u32| match size {
            1 | 2 | 4 | 8 => Type::Int { size: size as u8, signed: field.signed },
            _ => Type::Array { elem: Type::Int { size: 1, signed: false }.into(), count: size },
        };
        let text = matches!(field.ty.as_str(), "char" | "const char");
        if let Some(loc) = field.loc {
            // Declared without brackets, such as `__data_loc cpumask_t`, it is that type itself.
            let elem = declared.unwrap_or(Type::Int { size: 1, signed: false });
            let at = ArgAt::DataLoc { off: field.off, rel: loc == Loc::Rel };
            let ty = spaced(elem, space).pointer(Space::Kernel);
            return Arg { name: field.name, ty, at, declared: Declared(field.declared) };
        }
        let ty = match declared {
            Some(elem) if field.array => {
                let count = field.size / elem.size().max(1);
                // Big structs by value may hold padding that the division would count.
                if count * elem.size() == field.size {
                    crate::structs::array_of(spaced(elem, space), count, text)
                } else {
                    int(field.size)
                }
            }
            // System calls store each argument in 8 bytes. The low ones are the value.
            Some(ty) if ty.size() <= field.size && ty.is_scalar() => spaced(ty, space),
            Some(ty) if ty.size() == field.size => spaced(ty, space),
            _ => int(field.size),
        };
        let high = field.size.saturating_sub(ty.size());
        let off = if self.structs.big_endian() && ty.is_scalar() { field.off + high } else { field.off };
        Arg { name: field.name, ty, at: ArgAt::Field { off, bits: None }, declared: Declared(field.declared) }
    }
}

/// `ty` with `space` for every pointer that says none.
pub(super) fn spaced(ty: Type, space: Space) -> Type {
    match ty {
        Type::Pointer { to, space: Space::None } => {
            Type::Pointer { to: spaced(to.as_ref().clone(), space).into(), space }
        }
        Type::Array { elem, count } => Type::Array { elem: spaced(elem.as_ref().clone(), space).into(), count },
        other => other,
    }
}

fn names(point: &Point) -> Option<(&str, &str)> {
    match &point.place.attach {
        Attach::Section { target: Some(target), .. } => target.split_once(':'),
        _ => None,
    }
}

fn point(category: &str, event: &str) -> Point {
    let target = format!("{category}:{event}");
    Point {
        provider: Provider::Tracepoint,
        place: Place {
            name: format!("tracepoint:{target}"),
            func: None,
            attach: Attach::Section { target: Some(target), binary: None, off_bytes: None },
        },
        context: Context::Tracepoint,
        section: format!("tracepoint/{category}/{event}"),
        family: Some("tracepoint"),
    }
}

fn unreadable(asked: Asked<'_>, error: &str) -> Box<Diagnostic> {
    asked.error(format!("cannot look for tracepoints: {error}"))
}
