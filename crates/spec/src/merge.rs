//! Static linking: several objects become one.
//!
//! This is the part of `ld -r` that BPF needs, done on [`Spec`]s instead of on bytes, as libbpf's linker does it for `bpftool gen
//! object` (src/linker.c). The result is a Spec like any other: it can be loaded at once, or written ([`elf::write`](crate::elf::write())).
//!
//! # Which definition is taken
//!
//! A symbol is a function, a variable or a map that other objects may see. All symbols of one name are one thing:
//!
//! - two strong definitions are a mistake; a weak one gives way to a strong one, and of several weak ones the first stays;
//! - an extern (`extern int f(int);`, `extern int counter;`, `extern struct {...} m SEC(".maps");`) is bound to the definition;
//!   without one it stays an extern, and the programs that need it do not load;
//! - an extern of the kernel (`__ksym`, `__kconfig`) is never bound to a definition in an object; equal ones become one, which is
//!   weak only if all are;
//! - types must agree, wherever both sides have some: prototypes, variables, definitions of maps;
//! - what is hidden (`__hidden`) is a symbol here, and hidden still in the result; what is static is no symbol, however many
//!   objects use its name.
//!
//! # What is put together how
//!
//! | part | rule |
//! | --- | --- |
//! | functions, programs | one after the other, sections of one name behind each other; a weak one that gave way is left out |
//! | maps | all; configuration values are laid out anew |
//! | data sections | of one name, behind each other, each aligned as its file says; a weak variable that gave way keeps its place, unused |
//! | types | appended and deduplicated ([`skep_btf::dedup`]); data sections of one name become one type, declarations give way to definitions |
//! | lines, CO-RE records | kept, with their strings and types where they are now |
//! | licence, kernel version | must be equal where given |

use std::collections::HashMap;

use self::code::Places;
use self::symbols::Symbols;
use self::types::Types;
use crate::{Diagnostic, Error, Spec};

mod code;
mod data;
mod maps;
mod symbols;
mod types;

/// One of the objects to be linked.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What messages call it.
    pub file: &'a str,
    /// The object.
    pub spec: &'a Spec,
}

/// Links objects into one called `name` ([`Spec::name`]).
///
/// # Errors
///
/// Everything that does not fit together, each naming the symbol and the files.
#[doc(alias = "linker")]
pub fn merge(name: &str, inputs: &[Input<'_>]) -> Result<Spec, Vec<Error>> {
    let Some(first) = inputs.first() else {
        return Err(vec![Error::new("there is nothing to link")]);
    };
    if let Some(other) = inputs.iter().find(|it| it.spec.endian != first.spec.endian) {
        let message = format!("`{}` and `{}` have different byte orders", first.file, other.file);
        return Err(vec![Error::new(message).hint("compile both for one target: `-target bpfel` or `-target bpfeb`")]);
    }
    let one = |err| vec![err];
    let mut spec = Spec { endian: first.spec.endian, ..Spec::new(name) };
    spec.license = agreed(inputs, "licence", |it| it.license.clone()).map_err(one)?;
    spec.kernel_version = agreed(inputs, "kernel version", |it| it.kernel_version).map_err(one)?;
    let types = Types::collect(inputs).map_err(one)?;
    let symbols = Symbols::resolve(inputs, &types)?;
    let data = data::Data::place(inputs, &symbols).map_err(one)?;
    let mut merger = Merger {
        inputs,
        symbols,
        data,
        places: Places::default(),
        maps: HashMap::new(),
        no_programs: Vec::new(),
        problems: Vec::new(),
        spec,
    };
    merger.number_functions();
    merger.number_maps();
    merger.add_externs(&types);
    let lines = merger.lines(&types);
    let types = types.finish(&merger, lines).map_err(one)?;
    merger.add_maps(&types);
    merger.add_functions(&types);
    merger.add_programs();
    merger.fill_maps(&types);
    merger.spec.btf = types.btf;
    for input in inputs {
        merger.spec.warnings.extend(input.spec.warnings.iter().cloned());
    }
    merger.drop_settled_warnings();
    if merger.problems.is_empty() { Ok(merger.spec) } else { Err(merger.problems) }
}

/// What all objects that say something say.
fn agreed<T: PartialEq + std::fmt::Debug>(
    inputs: &[Input<'_>],
    what: &str,
    of: impl Fn(&Spec) -> Option<T>,
) -> Result<Option<T>, Error> {
    let mut found: Option<(&str, T)> = None;
    for input in inputs {
        let Some(value) = of(input.spec) else { continue };
        match &found {
            Some((file, known)) if *known != value => {
                let message = format!("`{}` has {what} {value:?}, but `{file}` {known:?}", input.file);
                return Err(Error::new(message).hint("what becomes one object has one licence and one version"));
            }
            Some(_) => {}
            None => found = Some((input.file, value)),
        }
    }
    Ok(found.map(|(_, value)| value))
}

/// An object in the making.
struct Merger<'a> {
    inputs: &'a [Input<'a>],
    symbols: Symbols,
    data: data::Data,
    places: Places,
    /// Where each map of an input went.
    maps: HashMap<(usize, crate::MapId), crate::MapId>,
    /// Functions that were programs only while they were alone.
    no_programs: Vec<String>,
    problems: Vec<Error>,
    spec: Spec,
}

impl Merger<'_> {
    fn problem(&mut self, input: usize, about: &str, message: &str) {
        let file = self.inputs[input].file;
        self.problems.push(Error::new(format!("{message} (in `{file}`)")).about(about));
    }

    /// Warnings about what looked odd while the objects were apart.
    fn drop_settled_warnings(&mut self) {
        use crate::elf::ARENA_SECTION;
        if !self.spec.maps.iter().any(|map| map.name == ARENA_SECTION) {
            self.spec.warnings.retain(|it: &Diagnostic| it.subject != ARENA_SECTION);
        }
        let no_programs = &self.no_programs;
        self.spec.warnings.retain(|it| !(no_programs.contains(&it.subject) && it.message.contains("`.text`")));
    }
}
