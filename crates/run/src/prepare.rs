//! From a file to a Spec that is ready to load.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

use skep_clang::{Clang, EventTypes, Request, Vmlinux, event_types, lint};
use skep_spec::loader::LoaderProgram;
use skep_spec::merge::{Input as Part, merge};
use skep_spec::{Spec, Target};

use crate::input::{Input, identify, identify_part, loader_of, object_name};
use crate::options::Options;
use crate::sizes::{self, Usual};
use crate::{Error, Notice};

/// An object, opened and edited as the options say.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The object.
    pub spec: Spec,
    /// Types of its events that the compile told.
    pub hints: Vec<EventTypes>,
    /// By what the kernel loads the object itself, when the file has it. The programs are then as they are in the file: they see
    /// this process's own events, and what full buffers refuse is not counted.
    pub loader: Option<LoaderProgram>,
}

/// Reads the file, compiles it when it is C, opens the object, and sets its globals.
///
/// # Errors
///
/// When the file cannot be read or compiled, is not an object, or has no such global or program.
pub fn prepare(options: &Options, target: &dyn Target, notice: &mut dyn FnMut(Notice<'_>)) -> Result<Prepared, Error> {
    let shown = options.file.display();
    let identify = if options.linked.is_empty() { identify } else { identify_part };
    let mut spec = gather(options, identify, target, notice)?;
    for warning in &spec.warnings {
        let message = format!("{shown}: `{}`: {}", warning.subject, warning.message);
        notice(Notice::Warning { message, hint: warning.hint.clone() });
    }
    if !options.programs.is_empty() {
        let names: Vec<&str> = options.programs.iter().map(String::as_str).collect();
        spec.only(&names)?;
    }
    if let Some(place) = &options.attach_to {
        attach_bare(&mut spec, place)?;
    }
    for (name, value) in &options.globals {
        spec.set_variable_text(name, value)?;
    }
    for warning in lint(&spec) {
        let place = warning.place.map_or_else(String::new, |(file, line)| format!("{file}:{line}: "));
        let message = format!("[{}] {place}{}", warning.code, warning.text);
        notice(Notice::Warning { message, hint: Some(warning.help) });
    }
    let loader = if options.linked.is_empty() { loader_of(&options.file)? } else { None };
    if loader.is_some() && !options.programs.is_empty() {
        return Err(Error::new(format!("`{shown}` holds a loader program, which loads all or nothing"))
            .with_hint("leave out `--prog`, or run the object that it was built of"));
    }
    if loader.is_none() {
        for message in sizes::fill(&mut spec, Usual::run()) {
            notice(Notice::Assumed { message });
        }
    }
    let hints = spec.btf.as_ref().map(event_types).unwrap_or_default();
    Ok(Prepared { spec, hints, loader })
}

/// Reads the files, compiles those that are C, and links them when there are several. C without a program of its own is known by its
/// suffix.
///
/// # Errors
///
/// When a file cannot be read or compiled or is not an object, or when they do not fit together: then every reason.
pub fn link(options: &Options, target: &dyn Target, notice: &mut dyn FnMut(Notice<'_>)) -> Result<Spec, Error> {
    gather(options, identify_part, target, notice)
}

fn gather(
    options: &Options,
    identify: fn(&Path) -> Result<Input, Error>,
    target: &dyn Target,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<Spec, Error> {
    let mut specs = Vec::new();
    for file in std::iter::once(&options.file).chain(&options.linked) {
        let (name, bytes) = match identify(file)? {
            Input::Object { name, bytes } => (name, bytes),
            Input::C { path } => (object_name(&path), compile(&path, options, target, notice)?),
        };
        specs.push((file.display().to_string(), open(file, &name, &bytes)?));
    }
    merge_all(specs)
}

/// One object of several, called as the first is.
pub(crate) fn merge_all(mut specs: Vec<(String, Spec)>) -> Result<Spec, Error> {
    if specs.len() == 1
        && let Some((_, only)) = specs.pop()
    {
        return Ok(only);
    }
    let name = specs.first().map(|(_, spec)| spec.name.clone()).unwrap_or_default();
    let inputs: Vec<Part<'_>> = specs.iter().map(|(file, spec)| Part { file, spec }).collect();
    merge(&name, &inputs).map_err(|problems| {
        let mut lines = problems.iter().map(ToString::to_string);
        let first = lines.next().unwrap_or_default();
        let text =
            lines.fold(format!("the files do not fit together: {first}"), |text, line| format!("{text}\n  and {line}"));
        let error = Error::new(text);
        match problems.into_iter().find_map(|problem| problem.hint) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    })
}

fn compile(
    file: &Path,
    options: &Options,
    target: &dyn Target,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<Vec<u8>, Error> {
    let start = Instant::now();
    let btf = target.btf().ok().flatten();
    let request = Request {
        vmlinux: Some(match &btf {
            Some(btf) => Vmlinux::from(btf),
            None => Vmlinux::short(),
        }),
        args: options.clang_flags.iter().map(OsString::from).collect(),
        color: std::io::stderr().is_terminal(),
        ..Request::new(file)
    };
    let object = Clang::find().and_then(|clang| clang.compile(&request)).map_err(|cause| {
        let error = Error::new(cause.to_string());
        match cause.hint() {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    })?;
    if !object.warnings.is_empty() {
        notice(Notice::CompilerText { text: &object.warnings });
    }
    notice(Notice::Compiled { took: (!object.cached).then(|| start.elapsed()) });
    Ok(object.bytes)
}

/// Says where the programs with bare sections go.
fn attach_bare(spec: &mut Spec, place: &str) -> Result<(), Error> {
    let mut bare = spec.programs.iter_mut().filter(|program| program.is_bare()).peekable();
    if bare.peek().is_none() {
        return Err(Error::new("the section of every program says where it goes already")
            .with_hint("`--attach-to` is for bare sections, such as `SEC(\"kprobe\")`"));
    }
    for program in bare {
        program.attach_to(place)?;
    }
    Ok(())
}

/// Opens an object, with the file's name before what is wrong.
pub(crate) fn open(file: &Path, name: &str, bytes: &[u8]) -> Result<Spec, Error> {
    Spec::parse(bytes, name).map_err(|cause| Error::from(cause).about(format_args!("`{}`", file.display())))
}

#[cfg(test)]
mod tests {
    use skep_spec::section::SectionTable;
    use skep_spec::{FuncId, Program};

    use super::*;

    #[test]
    fn only_bare_sections_are_told_where_to_go() {
        let program = |name: &str, section: &str| {
            let meaning = SectionTable::new().lookup(section);
            Program { attach: meaning.attach, ..Program::new(name, FuncId(0), section, meaning.prog_type) }
        };
        let whole = program("whole", "kprobe/vfs_write");
        let mut spec = Spec { programs: vec![program("bare", "kprobe"), whole.clone()], ..Spec::new("x") };
        attach_bare(&mut spec, "vfs_read").unwrap();
        assert_eq!(spec.programs[0].attach, program("it", "kprobe/vfs_read").attach);
        assert_eq!(spec.programs[1].attach, whole.attach);
        let error = attach_bare(&mut spec, "vfs_read").unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("bare sections")));
    }
}
