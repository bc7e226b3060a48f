//! What makes a module shorter and easier for the verifier, one textbook pass to a file.
//!
//! Every pass takes a module that [verifies](crate::ir::verify()) and leaves one; each may be run alone, and none decides what a
//! script means.

mod dead;

pub use dead::dead;

use crate::ir::Module;

/// Runs all passes.
pub fn run(module: &mut Module) {
    for function in &mut module.functions {
        dead(function);
    }
}
