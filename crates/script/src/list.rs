//! Which probes there are, and what they give: the answer to `skep list`.

use std::sync::Arc;

use skep_btf::Kind;
use skep_btf::dump::dump_types;

use crate::ast::{AttachPoint, Item};
use crate::parser;
use crate::plan::{Config, Missing};
use crate::points::{Args, Point, Provider, Resolver, counter_names};
use crate::source::{SourceId, Sources, Span};
use crate::structs::Structs;
use crate::types::Type;
use crate::{Diagnostic, Options, Target};

/// A probe that can be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its attach point in full.
    pub name: String,
    /// Declarations of what `args` has there, in order; the last one is `retval` where there is one.
    pub args: Vec<String>,
}

/// Kinds that are listed when a pattern names none. Returns are left out: each has its entry's name.
const LISTED: [Provider; 5] =
    [Provider::Kprobe, Provider::Fentry, Provider::Tracepoint, Provider::RawTracepoint, Provider::Iter];

/// The probes that match a pattern: an attach point (`tracepoint:sched:*`) or several with commas between them, or a pattern of the
/// whole text (`*sleep*`). An empty one matches all. `args` are looked up when `verbose`.
pub fn probes(pattern: &str, verbose: bool, options: &Options, target: &dyn Target) -> (Vec<Probe>, Vec<Diagnostic>) {
    let (mut listed, mut diagnostics) = (Vec::new(), Vec::new());
    for one in attach_points(pattern) {
        let (mut probes, mut found) = matching(one, verbose, options, target);
        listed.append(&mut probes);
        diagnostics.append(&mut found);
    }
    (listed, diagnostics)
}

/// The attach points of a list: a comma with a kind of probe behind it ends one. Names of C++ have commas, too.
fn attach_points(pattern: &str) -> Vec<&str> {
    let mut points = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, letter) in pattern.char_indices() {
        quoted ^= letter == '"';
        let rest = pattern[at..].strip_prefix(',').unwrap_or_default().trim_start();
        if !quoted && rest.split_once(':').is_some_and(|(word, _)| Provider::of(word).is_some()) {
            points.push(pattern[start..at].trim());
            start = at + 1;
        }
    }
    points.push(pattern[start..].trim());
    points
}

fn matching(pattern: &str, verbose: bool, options: &Options, target: &dyn Target) -> (Vec<Probe>, Vec<Diagnostic>) {
    let sources = Sources::default();
    let (structs, _) = Structs::new(target, options, &sources, &[]);
    let config = Config { max_probes: u64::MAX, missing_probes: Missing::Ignore, ..Config::default() };
    let resolver = Resolver { target, structs: &structs, options, config: &config, every_name: true };
    let mut diagnostics = Vec::new();
    let parts: Vec<&str> = pattern.split(':').collect();
    let points = match Provider::of(parts[0]).filter(|_| !parts[0].is_empty()) {
        // `software:` and `tracepoint:sched` mean all of them.
        Some(provider) => {
            let timer = matches!(provider, Provider::Profile | Provider::Interval);
            let whole = timer && parts.get(1).is_some_and(|part| !part.is_empty() && !part.contains('*'));
            if let Some(names) = counters(provider, options).filter(|_| !whole) {
                let wanted = parts.get(1).copied().filter(|part| !part.is_empty()).unwrap_or("*");
                let found = names.into_iter().filter(|name| skep_spec::glob::matches(wanted, name));
                return (found.map(|name| counter(provider, name)).collect(), diagnostics);
            }
            let (least, _) = provider.parts();
            let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            if provider != Provider::Usdt || parts.last().is_some_and(String::is_empty) {
                parts.retain(|part| !part.is_empty());
            }
            // `uprobe:/bin/sh` means all of its functions, `uprobe:*` with a process those of all of its files.
            let of_binaries = matches!(provider, Provider::Uprobe | Provider::Uretprobe | Provider::Usdt);
            match parts.as_slice() {
                [_, path] if of_binaries && path.contains('/') => parts.push("*".to_owned()),
                [word, all @ ..] if of_binaries && options.pid.is_some() && all.iter().all(|part| part == "*") => {
                    parts = vec![word.clone(), "*".to_owned(), "*".to_owned()];
                }
                _ => {}
            }
            while parts.len() <= least {
                parts.push("*".to_owned());
            }
            resolver.resolve(&point(parts), &mut diagnostics)
        }
        None => {
            // First, since a process may end meanwhile.
            let of_binaries = binaries(&parts, &resolver);
            let mut points = Vec::new();
            for provider in LISTED {
                let (least, _) = provider.parts();
                let all = std::iter::once(provider.name()).chain(std::iter::repeat_n("*", least));
                // What the machine does not tell is not listed.
                points.extend(resolver.resolve(&point(all.map(str::to_owned).collect()), &mut Vec::new()));
            }
            points.retain(|point| pattern.is_empty() || skep_spec::glob::matches(pattern, &point.place.name));
            points.extend(of_binaries);
            points
        }
    };
    // What is wrong is wrong with the command line, which is no source.
    diagnostics.iter_mut().for_each(|diagnostic| diagnostic.span = None);
    let mut listed: Vec<Probe> = points.iter().map(|point| describe(&resolver, point, verbose)).collect();
    if Provider::of(parts[0]).is_none() {
        for provider in [Provider::Software, Provider::Hardware] {
            let probes = counters(provider, options).into_iter().flatten().map(|name| counter(provider, name));
            listed.extend(probes.filter(|it| pattern.is_empty() || skep_spec::glob::matches(pattern, &it.name)));
        }
    }
    (listed, diagnostics)
}

/// Probes of binaries: those that a pattern such as `*:/bin/sh:main` names, or all of a process.
fn binaries(parts: &[&str], resolver: &Resolver<'_>) -> Vec<Point> {
    let mut found = Vec::new();
    for provider in [Provider::Uprobe, Provider::Usdt] {
        let rest: &[&str] = match parts {
            [""] if resolver.options.pid.is_some() => &["*", "*"],
            [word, rest @ ..] if !rest.is_empty() && skep_spec::glob::matches(word, provider.name()) => rest,
            _ => continue,
        };
        let all = std::iter::once(provider.name()).chain(rest.iter().copied());
        found.extend(resolver.resolve(&point(all.map(str::to_owned).collect()), &mut Vec::new()));
    }
    found
}

/// The names of perf's own events, with their aliases as bpftrace lists them, and the units of timers; `None` for every other provider.
fn counters(provider: Provider, options: &Options) -> Option<Vec<&'static str>> {
    let perf = matches!(provider, Provider::Software | Provider::Hardware | Provider::Profile | Provider::Interval);
    perf.then(|| counter_names(provider, options.bpftrace))
}

/// Behind the second colon a script may say after how many events its program runs, and has to say a timer's rate.
fn counter(provider: Provider, name: &str) -> Probe {
    Probe { name: format!("{}:{name}:", provider.name()), args: Vec::new() }
}

/// The probes of a script, patterns resolved.
pub fn of_script(
    sources: &Sources,
    id: SourceId,
    verbose: bool,
    options: &Options,
    target: &dyn Target,
) -> (Vec<Probe>, Vec<Diagnostic>) {
    let (script, mut diagnostics) = parser::parse(sources, id);
    let (structs, _) = Structs::new(target, options, sources, &[]);
    let config = Config { max_probes: u64::MAX, missing_probes: Missing::Ignore, ..Config::default() };
    let resolver = Resolver { target, structs: &structs, options, config: &config, every_name: true };
    let mut listed = Vec::new();
    for item in &script.items {
        let Item::Probe(probe) = item else { continue };
        for point in &probe.points {
            let found = resolver.resolve(point, &mut diagnostics);
            listed.extend(found.iter().map(|point| describe(&resolver, point, verbose)));
        }
    }
    (listed, diagnostics)
}

/// The names of the structs, unions or enums that a pattern such as `struct task_*` matches, sorted.
pub fn definitions(pattern: &str, target: &dyn Target) -> Vec<String> {
    let Some((word, name)) = pattern.split_once(' ') else { return Vec::new() };
    let kinds: &[Kind] = match word {
        "struct" => &[Kind::STRUCT],
        "union" => &[Kind::UNION],
        "enum" => &[Kind::ENUM, Kind::ENUM64],
        _ => return Vec::new(),
    };
    let Some(btf) = target.btf().ok().flatten() else { return Vec::new() };
    let named = btf.types().filter(|(_, ty)| kinds.contains(&ty.kind())).map(|(_, ty)| ty.name());
    let wanted = named.filter(|found| !found.is_empty() && skep_spec::glob::matches(name.trim(), found));
    let found: std::collections::BTreeSet<String> = wanted.map(|found| format!("{word} {found}")).collect();
    found.into_iter().collect()
}

/// The definition of `struct name`, `union name` or `enum name` in C; `None` when the machine has none.
pub fn definition(text: &str, target: &dyn Target) -> Option<String> {
    let (word, name) = text.split_once(' ')?;
    let (name, kind) = match word {
        "struct" => (name.trim(), Kind::STRUCT),
        "union" => (name.trim(), Kind::UNION),
        "enum" => (name.trim(), Kind::ENUM),
        _ => return None,
    };
    let btf = target.btf().ok()??;
    let id = btf.find(name, kind).or_else(|| (kind == Kind::ENUM).then(|| btf.find(name, Kind::ENUM64)).flatten())?;
    let mut all = String::new();
    dump_types(&btf, &[id], &mut all).ok()?;
    // What it needs stands before it.
    let start = all.rfind(&format!("{word} {name} {{"))?;
    Some(all[start..].trim_end().to_owned())
}

fn point(parts: Vec<String>) -> AttachPoint {
    AttachPoint { text: parts.join(":"), parts, span: Span::default() }
}

fn describe(resolver: &Resolver<'_>, point: &Point, verbose: bool) -> Probe {
    let name = point.place.name.clone();
    let args = if verbose { resolver.args(point, Span::default()).ok() } else { None };
    let args = args.map_or_else(Vec::new, |args: Arc<Args>| {
        let fields = args.fields.iter().map(|arg| arg.declared.0.clone());
        fields.chain(args.ret.iter().map(|ret| ret.declared.0.clone())).filter(|it| !it.is_empty()).collect()
    });
    Probe { name, args }
}

/// A type as C writes it.
pub(crate) fn c_words(ty: &Type) -> String {
    match ty {
        Type::Int { size, signed } => {
            let word = match size {
                1 => "char",
                2 => "short",
                4 => "int",
                _ => "long",
            };
            // Text is plain `char`, whatever its sign.
            if *signed || *size == 1 { word.to_owned() } else { format!("unsigned {word}") }
        }
        Type::String { size } => format!("char[{size}]"),
        Type::Array { elem, count } => format!("{}[{count}]", c_words(elem)),
        Type::Pointer { to, .. } => match &**to {
            inner @ Type::Pointer { .. } => format!("{}*", c_words(inner)),
            inner => format!("{} *", c_words(inner)),
        },
        other => other.to_string(),
    }
}
