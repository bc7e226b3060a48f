//! What makes a module shorter and easier for the verifier, one textbook pass to a file.
//!
//! Every pass takes a module that [verifies](crate::ir::verify()) and leaves one; each may be run alone, and none decides what a
//! script means.

mod branch;
mod common;
mod dead;
mod fold;
mod promote;

pub use branch::branch;
pub use common::common;
pub use dead::dead;
pub use fold::fold;
pub(crate) use fold::inverse;
pub use promote::promote;

use crate::ir::{Function, Module};

/// Rounds after which a function is good enough, whatever could still be done.
const MAX_ROUNDS: usize = 12;

/// Runs all passes on all functions, until nothing changes.
pub fn run(module: &mut Module) {
    module.functions.iter_mut().for_each(function);
}

fn function(function: &mut Function) {
    // Addresses of slots that are not needed are gone behind these, so that more variables qualify.
    fold(function);
    dead(function);
    promote(function);
    for _ in 0..MAX_ROUNDS {
        let changed = fold(function) | common(function) | branch(function);
        if !(dead(function) | changed) {
            break;
        }
    }
}
