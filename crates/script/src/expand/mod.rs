//! From what was written to what was meant, as far as no types are needed: imports are read, macros are put in their
//! places, positional parameters and options get their values.
//!
//! 1. `imports`: the items of imported scripts take the place of the import; headers join the C parts.
//! 2. `macros`: each call becomes the macro's body, in names of its own.
//! 3. `params`: `$1`, `$#` and `getopt` become literals, and attach points are read again with their parameters.

mod imports;
mod macros;
mod params;

use crate::ast::{Item, Script};
use crate::{Diagnostic, Options, Sources, Target};

pub use macros::shown_name;
pub use params::Getopt;

/// Expands a script: what comes out has no imports, macros, positional parameters or calls of `getopt`.
pub fn expand(
    script: Script,
    sources: &mut Sources,
    options: &Options,
    target: &dyn Target,
) -> (Script, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut script = without_macros(script, sources, target, &mut diagnostics);
    params::replace(&mut script, options, &mut diagnostics);
    (script, diagnostics)
}

/// The options that a script takes behind `--`, in order, for its help. What is wrong with the script is left to [`expand`].
pub fn getopts(script: Script, sources: &mut Sources, target: &dyn Target) -> Vec<Getopt> {
    let mut script = without_macros(script, sources, target, &mut Vec::new());
    params::getopts(&mut script)
}

fn without_macros(
    mut script: Script,
    sources: &mut Sources,
    target: &dyn Target,
    diagnostics: &mut Vec<Diagnostic>,
) -> Script {
    imports::splice(&mut script, sources, target, diagnostics);
    macros::expand(&mut script, sources, diagnostics);
    script.items.retain(|item| !matches!(item, Item::Macro(_) | Item::Import(_)));
    script
}
