//! The tracing language: a script's text and a [`Target`] in, a [`Spec`](skep_spec::Spec), a [`Plan`] and
//! [diagnostics](Diagnostic) out.
//!
//! The language is bpftrace's, as of its version 0.27. Nothing of LLVM is needed: the programs of a script are short, and
//! a small SSA form, a few passes and linear-scan registers give code as good.
//!
//! ```text
//!  text ──lexer, parser──► ast::Script        what was written, with spans; comments kept for the formatter
//!                             │ expand        imports, positional parameters, getopt, macros, wildcards of probes
//!                             │ check         types by fix-point; names, fields and arguments found in the Target
//!                             ▼
//!                        typed::Script        one body for each context layout; every expression has its type
//!                             │ lower         maps, helpers, loops, strings, stacks, records of the ring buffer
//!                             ▼
//!                        ir::Module           SSA, with a text form
//!                             │ passes        variables into values, folding, common loads, branches, dead code
//!                             │ codegen       registers, spills, jumps, line records that point at the script
//!                             ▼
//!                 Spec + Plan                the Plan is what user space does: attach, decode records, print maps
//! ```
//!
//! # Invariants
//!
//! - Pure: no IO, no clock, no printing. Files, symbols and types come through [`Target`].
//! - The parser and the checker never fail: they return what they could make *and* the diagnostics. Code is generated only
//!   from a script without errors.
//! - Every program that comes out passes the verifier of kernel 6.1 and later; one that does not is a bug here.
//! - The layout of a value in memory is a function of its [`Type`] alone (see [`types`]), and user space decodes with the same
//!   function.

pub mod ast;
pub mod check;
pub mod codegen;
pub mod compile;
mod cpart;
pub mod diagnostic;
pub mod dump;
pub mod dwarf;
pub mod expand;
pub mod format;
pub mod ir;
pub mod lexer;
pub mod list;
pub mod lower;
pub mod options;
pub mod parser;
pub mod passes;
pub mod plan;
pub mod points;
#[doc(hidden)]
pub mod random;
pub mod render;
pub mod source;
pub mod structs;
pub mod target;
pub mod typed;
pub mod types;
pub mod unwinding;
pub mod walk;

pub use diagnostic::{Diagnostic, Severity};
pub use options::Options;
pub use plan::Plan;
pub use source::{SourceId, Sources, Span};
pub use target::Target;
pub use types::Type;
