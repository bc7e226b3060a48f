//! The types of C that a script may name: those of its own C part first, then the machine's (BTF), then those of the program
//! that is probed (DWARF).
//!
//! Nothing is read before it is asked for. A struct's members are looked at where they lie in the kernel's BTF; only what is
//! shown to people is turned into [`typed::Struct`]s as a whole.
//!
//! # Whose memory
//!
//! A pointer's [`Space`](crate::types::Space) comes from its type tag: `__user` is `User`; `__percpu` and `__rcu` are `Kernel`.
//! Compilers of many distributions leave tags out, so a pointer without one is `None`: it points into the memory that it was
//! itself read from, and the checker says so when it reads one through another.
//!
//! # What becomes what
//!
//! `char[n]` is a string, `char[]` an array of `int8` with 0 elements, as every flexible array. Typedefs and qualifiers are gone.
//! A struct of which only the name is known has size 0. Functions and `long double` are `Void`.

mod align;
mod convert;
mod layout;
mod machine;
mod members;
mod spell;
mod user;
mod words;

pub(crate) use self::align::Aligns;
pub(crate) use self::convert::array_of;
pub(crate) use self::user::UserPrototype;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use skep_btf::{Btf, Endian, Kind, NeededNames, TypeId};
use skep_spec::nearest::did_you_mean;

use self::machine::{BtfNo, Machine, Place};
use crate::cpart::CPart;
use crate::diagnostic::Diagnostic;
use crate::options::Options;
use crate::source::Sources;
use crate::target::Target;
use crate::types::{Enum, StructRef, Type};
use crate::{Span, ast, cpart, typed};

/// Types by name, and the structs that were met.
pub struct Structs<'t> {
    machine: Machine<'t>,
    script: CPart,
    script_enums: Vec<Arc<Enum>>,
    script_constants: HashMap<String, Constant>,
    layouts: RefCell<HashMap<usize, Rc<layout::Layout>>>,
    /// Structs of the script that are being laid out, each inside the one before.
    at_work: RefCell<Vec<usize>>,
    /// How many lengths of arrays are being worked out, each for the one before.
    lengths: Cell<u32>,
    table: RefCell<Table>,
    enums: RefCell<HashMap<Place, Arc<Enum>>>,
    aligns: RefCell<HashMap<BtfNo, Aligns>>,
    constants: RefCell<HashMap<String, Option<Constant>>>,
    /// Format files of tracepoints, by `category:event`.
    formats: RefCell<HashMap<String, Option<Rc<str>>>>,
    /// Symbols of the kernel, each of which takes a walk over all that there are.
    symbols: RefCell<HashMap<String, Result<Option<u64>, String>>>,
    user: RefCell<user::UserTypes>,
}

/// What is behind each [`StructRef::id`].
#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    by_origin: HashMap<Key, u32>,
    by_name: HashMap<Arc<str>, Vec<u32>>,
}

struct Entry {
    reference: StructRef,
    origin: Origin,
    shown: bool,
}

#[derive(Clone, Debug)]
enum Origin {
    Machine(Place),
    /// In the script's C part.
    Script(usize),
    Made(Rc<typed::Struct>),
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Machine(Place),
    Script(usize),
    Unknown(String),
}

/// A named number of C: an enum's constant, or a constant of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Its value.
    pub value: i128,
    /// The enum's type, or an integer's.
    pub ty: Type,
}

/// A function of the machine, as its types tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prototype {
    /// The module that it is in; `vmlinux` for the kernel's own.
    pub module: String,
    /// Names and types of its parameters. A variadic function's end is left out.
    pub params: Vec<(String, Type)>,
    /// What it returns.
    pub ret: Type,
    /// The types of the parameters as C writes them, and that of the result.
    pub(crate) spelled: (Vec<String>, String),
}

impl<'t> Structs<'t> {
    /// The types of `target` and of a script's C part.
    pub fn new(
        target: &'t dyn Target,
        options: &Options,
        sources: &Sources,
        c_parts: &[ast::CPart],
    ) -> (Structs<'t>, Vec<Diagnostic>) {
        let machine = Machine::new(target);
        let (script, mut diagnostics) = cpart::read(c_parts, sources, options, target);
        let mut structs = Structs {
            machine,
            script,
            script_enums: Vec::new(),
            script_constants: HashMap::new(),
            layouts: RefCell::default(),
            at_work: RefCell::default(),
            lengths: Cell::new(0),
            table: RefCell::default(),
            enums: RefCell::default(),
            aligns: RefCell::default(),
            constants: RefCell::default(),
            formats: RefCell::default(),
            symbols: RefCell::default(),
            user: RefCell::default(),
        };
        structs.number_enums(&mut diagnostics);
        (structs, diagnostics)
    }

    /// Whether the machine tells its types.
    pub fn has_btf(&self) -> bool {
        self.machine.vmlinux().is_some()
    }

    /// `struct name`, `union name`, `enum name`.
    pub fn tagged(&self, tag: ast::Tag, name: &str) -> Option<Type> {
        if let Some(found) = self.script_tagged(tag, name) {
            return Some(found);
        }
        let kinds: &[Kind] = match tag {
            ast::Tag::Struct => &[Kind::STRUCT],
            ast::Tag::Union => &[Kind::UNION],
            ast::Tag::Enum => &[Kind::ENUM, Kind::ENUM64],
        };
        let found = self.machine.find(name, kinds).map(|place| self.convert(place));
        found.or_else(|| self.user_tagged(tag, name))
    }

    /// A type in C's words: `int`, `unsigned long`, `uint64_t`, `pid_t`, `struct task_struct`, `const char *`. The language's own
    /// names (`int32`, `string`) are the checker's.
    pub fn type_name(&self, name: &str) -> Option<Type> {
        self.type_of_words(name)
    }

    /// The member `name` of a struct or union, its own or one of an anonymous member inside; offsets count from the start of
    /// `of`.
    pub fn field(&self, of: &StructRef, name: &str) -> Option<typed::Field> {
        self.find_member(of, name)
    }

    /// Names of all members, those of anonymous members included, in order: for hints.
    pub fn field_names(&self, of: &StructRef) -> Vec<String> {
        self.member_names(of)
    }

    /// A function of the kernel (`module` is `None` or `vmlinux`) or of a module. Without a module, the modules are searched
    /// when the kernel has no such function.
    pub fn function(&self, module: Option<&str>, name: &str) -> Option<Prototype> {
        let found = match module {
            None => self.machine.find(name, &[Kind::FUNC])?,
            Some(module) => {
                let (no, btf) = self.machine.module(module)?;
                let own = btf.find_by_name(name).into_iter().filter(|id| *id >= btf.first_id());
                (no, own.into_iter().find(|id| btf.kind_of(*id) == Ok(Kind::FUNC))?)
            }
        };
        self.prototype(found)
    }

    /// A function of a BPF program, whose types `btf` holds and `name` identifies.
    pub(crate) fn function_of(&self, name: &str, btf: Btf, function: &str) -> Option<Prototype> {
        let no = self.machine.add(name, btf);
        let id = self.machine.btf(no)?.find(function, Kind::FUNC)?;
        self.prototype((no, id))
    }

    /// The arguments of a raw tracepoint, of the kernel (`module` is `None` or `vmlinux`) or of a module. Without a module, the
    /// modules are searched when the kernel has no such event.
    pub(crate) fn raw_tracepoint(&self, module: Option<&str>, event: &str) -> Option<Prototype> {
        let typed = format!("btf_trace_{event}");
        let (no, id) = match module {
            None => self.machine.find(&typed, &[Kind::TYPEDEF])?,
            Some(module) => {
                let (no, btf) = self.machine.module(module)?;
                let own = btf.find_by_name(&typed).into_iter().filter(|id| *id >= btf.first_id());
                (no, own.into_iter().next()?)
            }
        };
        let btf = self.machine.btf(no)?;
        let (_, skep_btf::Type::Ptr(pointer)) = btf.resolve(id).ok()? else { return None };
        let mut found = self.parameters((no, pointer.type_id()))?;
        let twins = ["__traceiter_", "__probestub_", "__bpf_trace_"].map(|prefix| format!("{prefix}{event}"));
        let names: NeededNames = twins.iter().collect();
        let named = btf.find_all(&names).into_iter().flatten();
        let named = named.filter_map(|id| self.prototype((no, id)));
        let named =
            named.filter(|it| it.params.len() == found.params.len() && it.params.iter().all(|(n, _)| !n.is_empty()));
        if let Some(named) = named.into_iter().next() {
            found.params = named.params;
            found.spelled = named.spelled;
        }
        // The tracepoint's own data, which no program sees.
        if !found.params.is_empty() {
            found.params.remove(0);
            found.spelled.0.remove(0);
        }
        Some(Prototype { module: self.machine.name(no), ..found })
    }

    /// Every raw tracepoint as (module, event), the kernel's first, and those of modules if wanted.
    pub(crate) fn raw_tracepoints(&self, of_modules: bool) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut list = |module: &str, btf: &Btf| {
            for (_, ty) in btf.own_types() {
                if let skep_btf::Type::Typedef(it) = ty
                    && let Some(event) = it.name().strip_prefix("btf_trace_")
                {
                    found.push((module.to_owned(), event.to_owned()));
                }
            }
        };
        if let Some(btf) = self.machine.vmlinux() {
            list("vmlinux", btf);
        }
        if of_modules {
            self.machine.every_module().iter().for_each(|(name, _, btf)| list(name, btf));
        }
        found
    }

    /// Names of the machine's structs that begin with `prefix`, without it.
    pub(crate) fn struct_names(&self, prefix: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut list = |btf: &Btf| {
            for (_, ty) in btf.own_types() {
                if let skep_btf::Type::Struct(it) = ty
                    && let Some(rest) = it.name().strip_prefix(prefix)
                {
                    found.push(rest.to_owned());
                }
            }
        };
        self.machine.vmlinux().into_iter().for_each(&mut list);
        self.machine.every_module().iter().for_each(|(_, _, btf)| list(btf));
        found
    }

    /// Text of a tracepoint's format file, read once.
    pub(crate) fn format(&self, category: &str, event: &str) -> Result<Option<Rc<str>>, String> {
        let key = format!("{category}:{event}");
        if let Some(known) = self.formats.borrow().get(&key) {
            return Ok(known.clone());
        }
        let text = self.machine.target().tracepoint_format(category, event).map_err(|error| error.to_string())?;
        let text: Option<Rc<str>> = text.map(Rc::from);
        self.formats.borrow_mut().insert(key, text.clone());
        Ok(text)
    }

    /// Address of a symbol of the kernel, looked for once: the checker asks in each of its walks.
    pub(crate) fn symbol(&self, name: &str) -> Result<Option<u64>, String> {
        if let Some(known) = self.symbols.borrow().get(name) {
            return known.clone();
        }
        let found = self.machine.target().symbols(&[name]);
        let found = found.map(|found| found.first().copied().flatten()).map_err(|error| error.to_string());
        self.symbols.borrow_mut().insert(name.to_owned(), found.clone());
        found
    }

    /// Whether the kernel itself has a function that others can call: by its types where they list such functions, which is fast.
    pub(crate) fn exports(&self, function: &str) -> bool {
        /// Every kernel that runs BPF programs has it.
        const KNOWN: &str = "bpf_prog_put";
        let typed = |name: &str| self.machine.vmlinux().is_some_and(|btf| btf.find(name, Kind::FUNC).is_some());
        match typed(function) {
            false if typed(KNOWN) => false,
            false => self.symbol(function).map_or(true, |found| found.is_some()),
            true => true,
        }
    }

    pub(crate) fn big_endian(&self) -> bool {
        self.machine.endian() == Endian::Big
    }

    /// An enum's constant or a constant of a UAPI header (`EPERM`, `AF_INET`) by name. The kernel's BTF is searched once for
    /// each name that is nowhere else.
    pub fn constant(&self, name: &str) -> Option<Constant> {
        if let Some(found) = self.script_constant(name) {
            return Some(found);
        }
        if let Some(known) = self.constants.borrow().get(name) {
            return known.clone();
        }
        let number = |value: i64| {
            let ty = match i32::try_from(value) {
                Ok(_) => Type::Int { size: 4, signed: true },
                Err(_) => Type::I64,
            };
            Constant { value: value.into(), ty }
        };
        let found = cpart::uapi::number(name).map(number).or_else(|| {
            let of_enum = self.machine.enumerator(name).map(|(place, value)| {
                let ty = self.convert(place);
                Constant { value, ty }
            });
            of_enum.or_else(|| cpart::uapi::enumerator(name).map(number))
        });
        self.constants.borrow_mut().insert(name.to_owned(), found.clone());
        found
    }

    /// What might have been meant by a word that is no constant; in a script's own words or those of headers.
    pub fn constant_hint(&self, name: &str) -> Option<String> {
        let own: Vec<&str> = self.script_constants.keys().map(String::as_str).collect();
        did_you_mean(name, own.into_iter().chain(cpart::uapi::names()))
    }

    /// What `#define name` of the script's C part stands for, with `args` put in for the parameters of a macro like a
    /// function; other macros inside are expanded. Every node of the result is at `span`. `None` when there is no such macro.
    pub fn expand(
        &self,
        name: &str,
        args: Option<&[ast::Expr]>,
        span: Span,
    ) -> Option<Result<ast::Expr, Box<Diagnostic>>> {
        self.script.macros.expression(name, args, span)
    }

    /// Adds a struct that is nobody's C: a tracepoint's record, so that `args` can be stored and printed.
    pub fn add(&self, made: typed::Struct, align: u32) -> StructRef {
        let name = made.name.clone();
        let size = made.size;
        self.table.borrow_mut().insert(None, Origin::Made(Rc::new(made)), name, size, align)
    }

    /// Notes that values of `ty` are shown to people, so that [`Structs::into_structs`] knows the members of the structs
    /// inside.
    pub fn shown(&self, ty: &Type) {
        mark(&mut self.table.borrow_mut(), ty);
    }

    /// Everything that was met, by [`StructRef::id`]. Those that are shown have all their members, others none. Pointers in
    /// members are `void *`: they are shown as addresses.
    pub fn into_structs(self) -> Vec<typed::Struct> {
        let mut made = Vec::new();
        // Members by value may be of structs that were not met before: the table grows while it is walked. A struct that
        // is first shown by a later one is filled in the next round.
        let mut done = HashSet::new();
        loop {
            let next = {
                let table = self.table.borrow();
                (0..table.entries.len()).find(|at| table.entries[*at].shown && !done.contains(at))
            };
            let Some(at) = next else { break };
            done.insert(at);
            let reference = self.table.borrow().entries[at].reference.clone();
            let fields = self.all_members(&reference);
            for field in &fields {
                self.shown(&field.ty);
            }
            made.push((at, fields));
        }
        let table = self.table.into_inner();
        let mut structs: Vec<typed::Struct> = table
            .entries
            .iter()
            .map(|entry| typed::Struct {
                name: entry.reference.name.clone(),
                union: entry.reference.name.starts_with("union"),
                size: entry.reference.size,
                fields: Vec::new(),
            })
            .collect();
        for (at, fields) in made {
            structs[at].fields = fields;
        }
        structs
    }

    fn prototype(&self, (no, id): Place) -> Option<Prototype> {
        let btf = self.machine.btf(no)?;
        let skep_btf::Type::Func(func) = btf.type_by_id(id).ok()? else { return None };
        let proto = self.parameters((no, func.proto()))?;
        Some(Prototype { module: self.machine.name(no), ..proto })
    }

    /// A function's type: parameters and result, of no module.
    fn parameters(&self, (no, id): Place) -> Option<Prototype> {
        let btf = self.machine.btf(no)?;
        let (_, skep_btf::Type::FuncProto(proto)) = btf.resolve(id).ok()? else { return None };
        let given = || proto.params().filter(|param| param.type_id != TypeId::VOID);
        let params = given().map(|param| (param.name.to_owned(), self.convert((no, param.type_id)))).collect();
        let spelled = given().map(|param| spell::c_type(&btf, param.type_id)).collect();
        let spelled = (spelled, spell::c_type(&btf, proto.result()));
        Some(Prototype { module: String::new(), params, ret: self.convert((no, proto.result())), spelled })
    }

    fn origin(&self, of: &StructRef) -> Option<Origin> {
        self.table.borrow().entries.get(of.id as usize).map(|entry| entry.origin.clone())
    }

    /// The reference to a struct, the same one each time.
    fn reference(&self, origin: Origin, tag: &str, name: &str, layout: impl FnOnce() -> (u32, u32)) -> StructRef {
        let key = match &origin {
            Origin::Machine(place) => Some(Key::Machine(*place)),
            Origin::Script(no) => Some(Key::Script(*no)),
            Origin::Made(_) | Origin::Unknown => None,
        };
        if let Some(known) = key.as_ref().and_then(|key| self.table.borrow().get(key)) {
            return known;
        }
        let (size, align) = layout();
        let full: Arc<str> = if name.is_empty() { Arc::from("") } else { Arc::from(format!("{tag} {name}")) };
        // The kernel's types hold some structs twice, when two files disagree about something far inside.
        if let (Some(key), false) = (&key, name.is_empty())
            && matches!(origin, Origin::Machine(_))
            && let Some(twin) = self.twin(&origin, &full, size)
        {
            self.table.borrow_mut().by_origin.insert(key.clone(), twin.id);
            return twin;
        }
        self.table.borrow_mut().insert(key, origin, full, size, align)
    }

    /// A struct of the machine with the same name, size and members.
    fn twin(&self, origin: &Origin, name: &str, size: u32) -> Option<StructRef> {
        let same: Vec<(StructRef, Origin)> = {
            let table = self.table.borrow();
            let ids = table.by_name.get(name)?;
            let entries = ids.iter().map(|id| &table.entries[*id as usize]);
            entries
                .filter(|entry| entry.reference.size == size && matches!(entry.origin, Origin::Machine(_)))
                .map(|entry| (entry.reference.clone(), entry.origin.clone()))
                .collect()
        };
        let own = self.own_names(origin);
        same.into_iter().find(|(_, other)| self.own_names(other) == own).map(|(reference, _)| reference)
    }

    /// A struct of which only the name is known.
    fn unknown(&self, tag: &str, name: &str) -> StructRef {
        let key = Key::Unknown(format!("{tag} {name}"));
        if let Some(known) = self.table.borrow().get(&key) {
            return known;
        }
        let full = Arc::from(format!("{tag} {name}"));
        self.table.borrow_mut().insert(Some(key), Origin::Unknown, full, 0, 1)
    }
}

impl Table {
    fn get(&self, key: &Key) -> Option<StructRef> {
        self.by_origin.get(key).map(|id| self.entries[*id as usize].reference.clone())
    }

    fn insert(&mut self, key: Option<Key>, origin: Origin, name: Arc<str>, size: u32, align: u32) -> StructRef {
        let id = self.entries.len() as u32;
        let reference = StructRef { id, name: name.clone(), size, align };
        self.by_origin.extend(key.map(|key| (key, id)));
        self.by_name.entry(name).or_default().push(id);
        self.entries.push(Entry { reference: reference.clone(), origin, shown: false });
        reference
    }
}

/// Marks the structs that a value of `ty` holds as shown.
fn mark(table: &mut Table, ty: &Type) {
    match ty {
        Type::Struct(of) => {
            if let Some(entry) = table.entries.get_mut(of.id as usize) {
                entry.shown = true;
            }
        }
        Type::Array { elem, .. } => mark(table, elem),
        Type::Tuple(elems) => elems.iter().for_each(|elem| mark(table, elem)),
        Type::Record(elems) => elems.iter().for_each(|(_, elem)| mark(table, elem)),
        _ => {}
    }
}
