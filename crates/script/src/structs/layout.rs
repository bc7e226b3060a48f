//! How the structs of a script's C part lie in memory.

use std::rc::Rc;

use super::members::Raw;
use super::{Constant, Structs};
use crate::ast::Tag;
use crate::diagnostic::Diagnostic;
use crate::types::Type;

/// A struct of the script, laid out.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) members: Vec<Raw>,
}

impl Structs<'_> {
    pub(super) fn number_enums(&mut self, _diagnostics: &mut Vec<Diagnostic>) {}

    pub(super) fn script_tagged(&self, _tag: Tag, _name: &str) -> Option<Type> {
        None
    }

    pub(super) fn script_typedef(&self, _name: &str) -> Option<Type> {
        None
    }

    pub(super) fn script_constant(&self, _name: &str) -> Option<Constant> {
        None
    }

    pub(super) fn script_layout(&self, _no: usize) -> Rc<Layout> {
        Rc::default()
    }
}
