//! Whether the programs of an object load here, with nothing attached: the yardstick for comparing loaders and kernels.

use std::path::{Path, PathBuf};

use skep_engine::{Engine, Error, LoadOptions};
use skep_spec::resolved::ResolvedProgram;
use skep_spec::{ProgId, Spec, Target, resolve};

use crate::sizes::{self, Usual};

/// What became of one program.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its name.
    pub program: String,
    /// Its section.
    pub section: String,
    /// Its type, in bpftool's words.
    pub prog_type: String,
    /// Whether the kernel took it, or why not.
    pub result: Result<(), Error>,
    /// Instructions that are sent to the kernel, in slots; `None` when it did not come to that.
    pub insns: Option<usize>,
    /// [`ResolvedProgram::hash`] of them.
    pub hash: Option<u64>,
}

/// How to try.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrialOptions {
    /// Every program with only itself switched on, those that the object switches off too.
    pub each: bool,
    /// Give maps without a size the one that an application would set, as `skep load --fix-sizes` does: 1024 entries, a page for ring buffers, an array of one `u32` as an inner
    /// map.
    pub fix_sizes: bool,
}

/// Reads an object for a trial: only compiled objects, since a yardstick should not depend on a compiler.
///
/// # Errors
///
/// When the file cannot be read or is not an object.
pub fn open(path: &Path) -> Result<Spec, Error> {
    match crate::input::identify(path)? {
        crate::input::Input::Object { name, bytes } => crate::prepare::open(path, &name, &bytes),
        crate::input::Input::C { .. } => Err(Error::new(format!("`{}` is C source", path.display()))
            .with_hint("give `skep load` compiled objects; `skep run` takes C")),
    }
}

/// Links several objects for a trial, as [`open`] reads them.
///
/// # Errors
///
/// When a file cannot be read, is not an object, or they do not fit together.
pub fn open_linked(paths: &[PathBuf]) -> Result<Spec, Error> {
    let specs = paths.iter().map(|path| Ok((path.display().to_string(), open(path)?)));
    crate::prepare::merge_all(specs.collect::<Result<_, Error>>()?)
}

/// Loads the programs of `spec` and lets them go.
pub fn trial(mut spec: Spec, options: TrialOptions, engine: &dyn Engine, target: &dyn Target) -> Vec<Verdict> {
    // Letting go includes bpffs: a trial neither finds maps there nor leaves any behind.
    for map in &mut spec.maps {
        map.pinning = skep_spec::map::Pinning::None;
    }
    if options.fix_sizes {
        sizes::fill(&mut spec, Usual::yardstick());
    }
    if !options.each {
        return load(spec, engine, target);
    }
    let mut verdicts = Vec::new();
    for index in 0..spec.programs.len() {
        let mut alone = spec.clone();
        for (other, program) in alone.programs.iter_mut().enumerate() {
            program.autoload = other == index;
        }
        verdicts.extend(load(alone, engine, target));
    }
    verdicts
}

fn load(spec: Spec, engine: &dyn Engine, target: &dyn Target) -> Vec<Verdict> {
    let resolved = resolve::resolve(&spec, target);
    let verdict = |id: ProgId, result: Result<(), Error>, program: Option<&ResolvedProgram>| Verdict {
        program: spec.program(id).name.clone(),
        section: spec.program(id).section.clone(),
        prog_type: spec.program(id).prog_type.to_string(),
        result,
        insns: program.map(|program| program.insns.len()),
        hash: program.map(ResolvedProgram::hash),
    };
    let session = engine.load(spec.clone(), &LoadOptions::default());
    let programs = resolved.programs.iter();
    programs
        .map(|(id, program)| {
            let result = match &session {
                Err(error) => Err(error.clone()),
                Ok(session) => match session.programs().iter().find(|loaded| loaded.program == *id) {
                    Some(loaded) => loaded.result.as_ref().map(|_| ()).map_err(Clone::clone),
                    None => Err(Error::new("the engine says nothing about this program")),
                },
            };
            verdict(*id, result, program.as_ref().ok())
        })
        .collect()
}
