//! The machine: the memory and the helpers that some programs share.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::environment::Printed;
use crate::map::{Bell, Map, MapError, MapSpec, Registry, Surroundings};
use crate::timers::Timers;
use crate::{Helpers, Image, LoadError, Program, Space, SpaceError, load};

/// A machine for the programs of one object. Its memory is theirs together: they may pass addresses to each other, through maps
/// and otherwise.
#[derive(Debug)]
pub struct Machine {
    space: Arc<Space>,
    helpers: Helpers,
    cpus: u32,
    /// How many processors were made.
    pub(crate) processors: AtomicU32,
    maps: Arc<Registry>,
    bell: Arc<Bell>,
    timers: Arc<Timers>,
    printed: Printed,
}

impl Machine {
    /// A machine without programs.
    ///
    /// # Errors
    ///
    /// When the addresses for its memory cannot be reserved.
    pub fn new(helpers: Helpers) -> Result<Arc<Machine>, SpaceError> {
        Machine::with_cpus(helpers, 1)
    }

    /// A machine for `cpus` processors at once (one at least): so many values each key of a per-CPU map has.
    ///
    /// # Errors
    ///
    /// As those of [`Machine::new`].
    pub fn with_cpus(helpers: Helpers, cpus: u32) -> Result<Arc<Machine>, SpaceError> {
        Ok(Arc::new(Machine {
            space: Space::new()?,
            helpers,
            cpus: cpus.max(1),
            processors: AtomicU32::new(0),
            maps: Arc::default(),
            bell: Arc::default(),
            timers: Arc::default(),
            printed: Printed::default(),
        }))
    }

    /// How many CPUs there are for per-CPU maps.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Makes a map. It lasts as long as the machine, unless it is removed.
    ///
    /// # Errors
    ///
    /// When there is no such map, or no memory for it.
    pub fn create_map(&self, spec: &MapSpec) -> Result<Arc<Map>, MapError> {
        let around = Surroundings {
            space: &self.space,
            registry: &self.maps,
            bell: &self.bell,
            timers: &self.timers,
            cpus: self.cpus,
        };
        self.maps.add(|id| Map::new(id, spec, around))
    }

    /// The map with an id.
    pub fn map(&self, id: u32) -> Option<Arc<Map>> {
        self.maps.get(id)
    }

    /// Forgets a map, so that its memory is free as soon as nobody uses it; for maps inside of other maps, which come and go. A
    /// program that still has its handle is stopped when it uses it in a later run.
    pub fn remove_map(&self, map: &Map) {
        self.maps.remove(map.id());
        if map.spec().timer_off.is_some() {
            self.timers.forget_map(map.id());
        }
    }

    /// A task has ended: what is stored for it is given back.
    pub fn forget_task(&self, tid: u32) {
        for map in self.maps.all() {
            if map.task_storage().is_some() {
                // Most tasks have nothing there.
                let _ = map.store().delete(&tid.to_ne_bytes());
            }
        }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.maps
    }

    /// What is rung when a buffer has records, or a program printed.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Timers of programs. They wait for somebody who runs them.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// What programs print.
    pub fn printed(&self) -> &Printed {
        &self.printed
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
