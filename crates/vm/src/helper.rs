//! Which helpers a machine has.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Cpu, Stop};

/// What a helper does: it gets the processor that the program runs on and the five arguments, and gives r0.
pub type HelperFn = fn(&mut Cpu, [u64; 5]) -> Result<u64, Stop>;

/// A helper.
#[derive(Clone, Copy)]
pub struct Helper {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub run: HelperFn,
    /// Whether it is this crate's, so that compiled code may do the same in its own way.
    pub(crate) own: bool,
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.id)
    }
}

/// The helpers of a machine, by number.
#[derive(Clone, Debug, Default)]
pub struct Helpers {
    by_id: BTreeMap<u32, Helper>,
}

impl Helpers {
    /// None at all.
    pub fn none() -> Helpers {
        Helpers::default()
    }

    /// One more, or another one in place of that with the same number.
    #[must_use]
    pub fn with(self, id: u32, name: &'static str, run: HelperFn) -> Helpers {
        self.add(Helper { id, name, run, own: false })
    }

    pub(crate) fn add(mut self, helper: Helper) -> Helpers {
        self.by_id.insert(helper.id, helper);
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The helper with this number.
    pub fn get(&self, id: u32) -> Option<&Helper> {
        self.by_id.get(&id)
    }
}
