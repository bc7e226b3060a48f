//! The machine: the memory and the helpers that some programs share.

use std::sync::Arc;

use crate::{Helpers, Image, LoadError, Program, Space, SpaceError, load};

/// A machine for the programs of one object. Its memory is theirs together: they may pass addresses to each other, through maps
/// and otherwise.
#[derive(Debug)]
pub struct Machine {
    space: Arc<Space>,
    helpers: Helpers,
}

impl Machine {
    /// A machine without programs.
    ///
    /// # Errors
    ///
    /// When the addresses for its memory cannot be reserved.
    pub fn new(helpers: Helpers) -> Result<Arc<Machine>, SpaceError> {
        Ok(Arc::new(Machine { space: Space::new()?, helpers }))
    }

    /// The memory.
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// The helpers.
    pub fn helpers(&self) -> &Helpers {
        &self.helpers
    }

    /// Checks and decodes a program.
    ///
    /// # Errors
    ///
    /// Names the first instruction that is wrong. What a program does with its data is not judged: that stops it when it runs.
    pub fn load(&self, image: &Image<'_>) -> Result<Arc<Program>, LoadError> {
        load::load(image, self).map(Arc::new)
    }
}
