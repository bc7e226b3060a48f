//! Symbols: which definition each name stands for, and whether all who use it mean the same.

use std::collections::{HashMap, HashSet};

use skep_btf::core::describe;
use skep_btf::{Btf, Type, TypeId};

use super::Input;
use super::types::{Types, Variables, variable_of};
use crate::elf::number_of;
use crate::function::Linkage;
use crate::map::MapOrigin;
use crate::{Error, Extern, ExternId, ExternKind, FuncId, MapId};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Function(FuncId),
    /// A variable of a data map, by its position there.
    Variable {
        map: MapId,
        index: usize,
    },
    Map(MapId),
}

impl Thing {
    fn noun(self) -> &'static str {
        match self {
            Thing::Function(_) => "function",
            Thing::Variable { .. } => "variable",
            Thing::Map(_) => "map",
        }
    }
}

/// One object's definition of a symbol.
pub(super) struct Definition {
    pub(super) input: usize,
    pub(super) thing: Thing,
    weak: bool,
    /// Prototype, type of the variable or struct of the map, by its common number.
    type_id: Option<TypeId>,
    /// Its `FUNC` or `VAR`, by its common number.
    pub(super) btf_id: Option<TypeId>,
}

/// One object's wish for a symbol.
pub(super) struct Wanted {
    pub(super) input: usize,
    pub(super) id: ExternId,
    /// Its `FUNC` or `VAR`, by its common number.
    pub(super) btf_id: Option<TypeId>,
}

/// All that is known about one name.
#[derive(Default)]
pub(super) struct Symbol {
    pub(super) definitions: Vec<Definition>,
    pub(super) externs: Vec<Wanted>,
    taken: usize,
}

impl Symbol {
    /// The definition that counts; `None` when there is none.
    pub(super) fn taken(&self) -> Option<&Definition> {
        self.definitions.get(self.taken)
    }
}

/// The symbols of all objects.
pub(super) struct Symbols {
    by_name: HashMap<String, Symbol>,
    /// Names in the order in which they were met.
    order: Vec<String>,
    /// Definitions that give way, and the names that they had.
    given_up: HashMap<(usize, ThingKey), String>,
}

/// A [`Thing`] as a key.
type ThingKey = (u8, u32, usize);

fn key(thing: Thing) -> ThingKey {
    match thing {
        Thing::Function(id) => (0, id.0, 0),
        Thing::Variable { map, index } => (1, map.0, index),
        Thing::Map(id) => (2, id.0, 0),
    }
}

impl Symbols {
    pub(super) fn resolve(inputs: &[Input<'_>], types: &Types) -> Result<Symbols, Vec<Error>> {
        let mut symbols = Symbols { by_name: HashMap::new(), order: Vec::new(), given_up: HashMap::new() };
        for (input, it) in inputs.iter().enumerate() {
            symbols.define_all(input, it, types);
            for (id, external) in (0u32..).map(ExternId).zip(&it.spec.externs) {
                let btf_id = external.btf_id.map(|id| types.id(input, id));
                symbols.named(&external.name).externs.push(Wanted { input, id, btf_id });
            }
        }
        let mut problems = Vec::new();
        for name in &symbols.order {
            let Some(symbol) = symbols.by_name.get_mut(name) else { continue };
            symbol.taken = symbol.definitions.iter().position(|it| !it.weak).unwrap_or(0);
            if let Err(err) = check(symbol, inputs, types) {
                problems.push(err.about(name));
            }
            for (at, definition) in symbol.definitions.iter().enumerate() {
                if at != symbol.taken {
                    symbols.given_up.insert((definition.input, key(definition.thing)), name.clone());
                }
            }
        }
        if problems.is_empty() { Ok(symbols) } else { Err(problems) }
    }

    /// All symbols, in the order in which their names were met.
    pub(super) fn all(&self) -> impl Iterator<Item = &Symbol> {
        self.order.iter().filter_map(|name| self.by_name.get(name))
    }

    /// All symbols that no object defines.
    pub(super) fn undefined(&self) -> impl Iterator<Item = &Symbol> {
        self.all().filter(|symbol| symbol.taken().is_none())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Symbol> {
        self.by_name.get(name)
    }

    /// The definition that takes the place of one that gives way; `None` for one that stays.
    pub(super) fn instead_of(&self, input: usize, thing: Thing) -> Option<&Definition> {
        self.given_up.get(&(input, key(thing))).and_then(|name| self.by_name.get(name)?.taken())
    }

    fn named(&mut self, name: &str) -> &mut Symbol {
        if !self.by_name.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.by_name.entry(name.to_owned()).or_default()
    }

    fn define_all(&mut self, input: usize, it: &Input<'_>, types: &Types) {
        let variables = types.variables(input);
        for (id, function) in (0u32..).map(FuncId).zip(&it.spec.functions) {
            let btf_id = function.btf_func.map(|id| types.id(input, id));
            let type_id = btf_id.and_then(|id| match types.btf.type_by_id(id) {
                Ok(Type::Func(func)) => Some(func.proto()),
                _ => None,
            });
            self.define(
                &function.name,
                function.linkage,
                Definition {
                    input,
                    thing: Thing::Function(id),
                    weak: function.linkage == Linkage::Weak,
                    type_id,
                    btf_id,
                },
            );
        }
        for (id, map) in it.spec.maps() {
            for (index, variable) in map.data_section().iter().flat_map(|data| data.variables.iter().enumerate()) {
                let thing = Thing::Variable { map: id, index };
                self.define_variable(&variable.name, variable.linkage, input, thing, it, types, &variables);
            }
            let named = matches!(
                map.origin,
                MapOrigin::Btf | MapOrigin::Legacy | MapOrigin::Made | MapOrigin::Arena(_) | MapOrigin::StructOps
            );
            if named {
                self.define_variable(&map.name, map.linkage, input, Thing::Map(id), it, types, &variables);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call for variables and one for maps")]
    fn define_variable(
        &mut self,
        name: &str,
        linkage: Linkage,
        input: usize,
        thing: Thing,
        it: &Input<'_>,
        types: &Types,
        variables: &Variables,
    ) {
        let btf_id = variable_of(variables, it.spec, thing);
        let type_id = btf_id.and_then(|id| match types.btf.type_by_id(id) {
            Ok(Type::Var(var)) => Some(var.type_id()),
            _ => None,
        });
        self.define(name, linkage, Definition { input, thing, weak: linkage == Linkage::Weak, type_id, btf_id });
    }

    fn define(&mut self, name: &str, linkage: Linkage, definition: Definition) {
        if linkage != Linkage::Static && !name.is_empty() {
            self.named(name).definitions.push(definition);
        }
    }
}

/// Whether all that bears one name can be one thing.
fn check(symbol: &Symbol, inputs: &[Input<'_>], types: &Types) -> Result<(), Error> {
    let file = |input: usize| inputs[input].file;
    let external = |it: &Wanted| -> &Extern { inputs[it.input].spec.external(it.id) };
    let Some(taken) = symbol.taken() else {
        let Some((first, others)) = symbol.externs.split_first() else { return Ok(()) };
        for other in others {
            let (a, b) = (external(first), external(other));
            if !same_extern(types, (first.input, a.kind), (other.input, b.kind)) {
                return Err(Error::new(format!(
                    "declared as {} in `{}`, but as {} in `{}`",
                    say_extern(types, first.input, a.kind),
                    file(first.input),
                    say_extern(types, other.input, b.kind),
                    file(other.input)
                ))
                .hint("declare it once, in a header that both include"));
            }
        }
        return Ok(());
    };
    let say = |it: &Definition| say_type(types, it.thing.noun(), it.type_id);
    let same = |a: Option<TypeId>, b: Option<TypeId>, thing: Thing| match (a, b) {
        (Some(a), Some(b)) if matches!(thing, Thing::Map(_)) => Compare::new(&types.btf).map_definition(a, b),
        (Some(a), Some(b)) => Compare::new(&types.btf).same(a, b, false),
        _ => true,
    };
    for (at, other) in symbol.definitions.iter().enumerate().filter(|(at, _)| *at != symbol.taken) {
        if !other.weak {
            let (first, second) = if at < symbol.taken { (other, taken) } else { (taken, other) };
            let message = match first.input == second.input {
                true => format!("defined twice in `{}`", file(first.input)),
                false => format!("defined in `{}` and in `{}`", file(first.input), file(second.input)),
            };
            return Err(
                Error::new(message).hint("make it `static` in one of them, or `__weak` to let the other one win")
            );
        }
        let alike = std::mem::discriminant(&taken.thing) == std::mem::discriminant(&other.thing);
        if !alike || !same(taken.type_id, other.type_id, taken.thing) {
            return Err(Error::new(format!(
                "defined as {} in `{}`, but as {} in `{}`",
                say(taken),
                file(taken.input),
                say(other),
                file(other.input)
            )));
        }
    }
    for wanted in &symbol.externs {
        let kind = external(wanted).kind;
        let alike = match kind {
            ExternKind::Function { .. } => matches!(taken.thing, Thing::Function(_)),
            ExternKind::Variable { .. } => matches!(taken.thing, Thing::Variable { .. }),
            ExternKind::Map { .. } => matches!(taken.thing, Thing::Map(_)),
            _ => {
                return Err(Error::new(format!(
                    "a {} for `{}`, but `{}` defines it",
                    kind.noun(),
                    file(wanted.input),
                    file(taken.input)
                ))
                .hint("leave out `__ksym` where the object's own is meant, or give it another name"));
            }
        };
        let type_id = type_of(kind).map(|id| types.id(wanted.input, id));
        if !alike || !same(taken.type_id, type_id, taken.thing) {
            return Err(Error::new(format!(
                "declared as {} in `{}`, but defined as {} in `{}`",
                say_extern(types, wanted.input, kind),
                file(wanted.input),
                say(taken),
                file(taken.input)
            ))
            .hint("declare it in a header that both include"));
        }
    }
    Ok(())
}

/// The declared type; `None` where the object's types do not tell it.
fn type_of(kind: ExternKind) -> Option<TypeId> {
    let id = match kind {
        ExternKind::TypedKsym { type_id } | ExternKind::Variable { type_id } | ExternKind::Map { type_id } => type_id,
        ExternKind::Kfunc { proto } | ExternKind::Function { proto } => proto,
        ExternKind::Kconfig { .. } | ExternKind::TypelessKsym => return None,
    };
    (id != TypeId::VOID).then_some(id)
}

fn say_extern(types: &Types, input: usize, kind: ExternKind) -> String {
    match kind {
        ExternKind::Kconfig { size_bytes, value, .. } => {
            format!("{} of {size_bytes} bytes ({value:?})", kind.noun())
        }
        _ => say_type(types, kind.noun(), type_of(kind).map(|id| types.id(input, id))),
    }
}

/// `function int(int, struct task *)`, `variable struct point of 16 bytes`, `map (type, key, value)`.
fn say_type(types: &Types, noun: &str, id: Option<TypeId>) -> String {
    const SHOWN: usize = 8;
    let Some(id) = id else { return noun.to_owned() };
    let btf = &types.btf;
    let of = |id| describe(btf, btf.resolve(id).map_or(id, |(id, _)| id));
    match btf.resolve(id) {
        Ok((_, Type::FuncProto(proto))) => {
            let params: Vec<String> = proto.params().take(SHOWN).map(|param| of(param.type_id)).collect();
            format!("{noun} {}({})", of(proto.result()), params.join(", "))
        }
        Ok((_, Type::Struct(it))) if noun == "map" => {
            let members: Vec<String> = it
                .members()
                .take(SHOWN)
                .map(|member| match number_of(btf, member.type_id()) {
                    Some(number) => format!("{} {number}", member.name()),
                    None => member.name().to_owned(),
                })
                .collect();
            format!("{noun} ({})", members.join(", "))
        }
        Ok((_, Type::Struct(it) | Type::Union(it))) => format!("{noun} {} of {} bytes", of(id), it.size()),
        _ => format!("{noun} {}", of(id)),
    }
}

fn same_extern(types: &Types, a: (usize, ExternKind), b: (usize, ExternKind)) -> bool {
    if let (ExternKind::Kconfig { size_bytes, value, .. }, ExternKind::Kconfig { size_bytes: other, value: b, .. }) =
        (a.1, b.1)
    {
        return size_bytes == other && value == b;
    }
    if std::mem::discriminant(&a.1) != std::mem::discriminant(&b.1) {
        return false;
    }
    match (type_of(a.1), type_of(b.1)) {
        (Some(x), Some(y)) => {
            let (x, y) = (types.id(a.0, x), types.id(b.0, y));
            match a.1 {
                ExternKind::Map { .. } => Compare::new(&types.btf).map_definition(x, y),
                _ => Compare::new(&types.btf).same(x, y, false),
            }
        }
        _ => true,
    }
}

/// Whether two types are one to the compilers that made code for them.
///
/// Names of typedefs, qualifiers and parameters do not count. Behind a pointer a struct is known by its name: two versions of a kernel
/// header describe it differently, and code reaches its members by CO-RE. A cycle is equal until it is refuted.
struct Compare<'b> {
    btf: &'b Btf,
    seen: HashSet<(TypeId, TypeId)>,
}

/// More pairs than the types of any symbol have.
const MAX_PAIRS: usize = 1 << 16;

impl<'b> Compare<'b> {
    fn new(btf: &'b Btf) -> Compare<'b> {
        Compare { btf, seen: HashSet::new() }
    }

    /// The struct that defines a map: the same members, in any order.
    fn map_definition(&mut self, a: TypeId, b: TypeId) -> bool {
        let btf = self.btf;
        let (Ok((_, Type::Struct(a))), Ok((_, Type::Struct(b)))) = (btf.resolve(a), btf.resolve(b)) else {
            return self.same(a, b, false);
        };
        let theirs: HashMap<&str, TypeId> = b.members().map(|it| (it.name(), it.type_id())).collect();
        a.members().count() == b.members().count()
            && a.members().all(|it| theirs.get(it.name()).is_some_and(|other| self.same(it.type_id(), *other, false)))
    }

    fn same(&mut self, a: TypeId, b: TypeId, by_name: bool) -> bool {
        let btf = self.btf;
        let (Ok((a_id, a)), Ok((b_id, b))) = (btf.resolve(a), btf.resolve(b)) else { return false };
        if a_id == b_id {
            return true;
        }
        // Declared in one object, defined in the other.
        match (&a, &b) {
            (Type::Fwd(a), Type::Struct(b)) | (Type::Struct(b), Type::Fwd(a)) => return a.name() == b.name(),
            (Type::Fwd(a), Type::Union(b)) | (Type::Union(b), Type::Fwd(a)) => return a.name() == b.name(),
            (Type::Fwd(a), Type::Fwd(b)) => return a.name() == b.name(),
            (Type::Struct(a), Type::Struct(b)) | (Type::Union(a), Type::Union(b))
                if by_name && !a.name().is_empty() =>
            {
                return a.name() == b.name();
            }
            _ => {}
        }
        if !self.seen.insert((a_id, b_id)) {
            return true;
        }
        if self.seen.len() > MAX_PAIRS {
            return false;
        }
        match (a, b) {
            (Type::Int(a), Type::Int(b)) => a.size() == b.size() && a.encoding() == b.encoding(),
            (Type::Float(a), Type::Float(b)) => a.size() == b.size(),
            (Type::Enum(a) | Type::Enum64(a), Type::Enum(b) | Type::Enum64(b)) => {
                a.size() == b.size() && a.name() == b.name()
            }
            (Type::Ptr(a), Type::Ptr(b)) => self.same(a.type_id(), b.type_id(), true),
            (Type::Array(a), Type::Array(b)) => {
                let (a_len, b_len) = (a.len(), b.len());
                (a_len == b_len || a_len == 0 || b_len == 0) && self.same(a.element(), b.element(), by_name)
            }
            (Type::FuncProto(a), Type::FuncProto(b)) => {
                let (theirs, ours): (Vec<_>, Vec<_>) = (b.params().collect(), a.params().collect());
                ours.len() == theirs.len()
                    && self.same(a.result(), b.result(), false)
                    && ours.iter().zip(&theirs).all(|(a, b)| self.same(a.type_id, b.type_id, false))
            }
            (Type::Struct(a), Type::Struct(b)) | (Type::Union(a), Type::Union(b)) => {
                let (ours, theirs): (Vec<_>, Vec<_>) = (a.members().collect(), b.members().collect());
                a.name() == b.name()
                    && a.size() == b.size()
                    && ours.len() == theirs.len()
                    && ours.iter().zip(&theirs).all(|(a, b)| {
                        a.name() == b.name()
                            && a.bit_offset() == b.bit_offset()
                            && self.same(a.type_id(), b.type_id(), false)
                    })
            }
            _ => false,
        }
    }
}
