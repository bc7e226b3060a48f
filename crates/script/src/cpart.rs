//! The C part of a script: preprocessor, declarations, constants of headers.

pub(crate) mod uapi;

use crate::diagnostic::Diagnostic;
use crate::options::Options;
use crate::source::Sources;
use crate::target::Target;
use crate::{Span, ast};

/// What a C part declares.
#[derive(Default)]
pub(crate) struct CPart {
    pub(crate) macros: Macros,
}

/// Its macros.
#[derive(Default)]
pub(crate) struct Macros;

impl Macros {
    pub(crate) fn expression(
        &self,
        _name: &str,
        _args: Option<&[ast::Expr]>,
        _span: Span,
    ) -> Option<Result<ast::Expr, Box<Diagnostic>>> {
        None
    }
}

/// Reads a C part.
pub(crate) fn read(
    _parts: &[ast::CPart],
    _sources: &Sources,
    _options: &Options,
    _target: &dyn Target,
) -> (CPart, Vec<Diagnostic>) {
    (CPart::default(), Vec::new())
}
