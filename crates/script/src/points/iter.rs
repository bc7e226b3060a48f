//! Iterators over the kernel's objects: `iter:task`, `iter:task_file:list`.

use super::tracepoint::spaced;
use super::{Arg, ArgAt, Args, Asked, Declared, Found, Point, Provider, is_pattern, matches};
use crate::ast::Tag;
use crate::diagnostic::Diagnostic;
use crate::list::c_words;
use crate::plan::Attach;
use crate::points::Resolver;
use crate::typed::{Context, Place};
use crate::types::{Space, Type};
use skep_spec::nearest::did_you_mean;

/// What the context's struct is called (kernel/bpf/task_iter.c and others).
const PREFIX: &str = "bpf_iter__";

/// Name of the struct that the context of an iterator is.
pub(super) fn context_name(point: &Point) -> String {
    format!("{PREFIX}{}", point.section.trim_start_matches("iter/"))
}

impl Resolver<'_> {
    pub(super) fn iter(&self, asked: Asked<'_>, out: &mut Vec<Diagnostic>) -> Found {
        let name = asked.parts[0];
        let pin = asked.parts.get(1).map(|pin| (*pin).to_owned());
        if is_pattern(name) {
            let found: Vec<Point> =
                self.iterators().iter().filter(|it| matches(name, it)).map(|it| point(it, pin.clone())).collect();
            if found.is_empty() {
                self.missing(asked, format!("No matches for iter probe {name}"), None, out);
            }
            return Ok(found);
        }
        if !self.structs.has_btf() || self.structs.tagged(Tag::Struct, &format!("{PREFIX}{name}")).is_some() {
            return Ok(vec![point(name, pin)]);
        }
        let all = self.iterators();
        let hint = did_you_mean(name, all.iter().map(String::as_str))
            .or_else(|| (!all.is_empty()).then(|| format!("this kernel has {}", all.join(", "))));
        self.missing(asked, format!("iter {name} not available for your kernel version."), hint, out);
        Ok(Vec::new())
    }

    /// Every iterator that this kernel has types for, sorted.
    fn iterators(&self) -> Vec<String> {
        let mut names = self.structs.struct_names(PREFIX);
        // `bpf_iter__task__safe_trusted` is for the verifier.
        names.retain(|name| !name.contains("__"));
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn iter_args(&self, point: &Point) -> Result<Args, String> {
        let name = context_name(point);
        let Some(Type::Struct(context)) = self.structs.tagged(Tag::Struct, &name) else {
            return Err(format!("the types of {} are not known: no struct {name}", point.place.name));
        };
        let fields = self.structs.field_names(&context);
        let fields = fields.iter().filter_map(|field| self.structs.field(&context, field)).map(|field| Arg {
            declared: Declared(format!("{} {}", c_words(&field.ty), field.name)),
            ty: spaced(field.ty, Space::Kernel),
            name: field.name,
            at: ArgAt::Field { off: field.off, bits: field.bits },
        });
        Ok(Args {
            fields: fields.collect(),
            size: context.size,
            name: context.name.to_string(),
            ctx: Some(Type::Struct(context).pointer(Space::Bpf)),
            ..Args::default()
        })
    }
}

fn point(name: &str, pin: Option<String>) -> Point {
    Point {
        provider: Provider::Iter,
        place: Place { name: format!("iter:{name}"), func: None, attach: Attach::Iter { pin } },
        context: Context::TypedArgs,
        section: format!("iter/{name}"),
        family: None,
    }
}
