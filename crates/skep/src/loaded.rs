//! A loaded object.

use skep_engine::{MapId, Session};
use skep_spec::{AttachPoint, MapType};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{AttachOptions, Error, Events, Link, Map, Program};

/// An object whose maps exist and whose programs are loaded. Dropping it takes away everything that is not pinned; links
/// keep their programs alive on their own.
pub struct Loaded {
    session: Box<dyn Session>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("spec", &self.session.spec().name).finish_non_exhaustive()
    }
}

impl Loaded {
    pub(crate) fn new(session: Box<dyn Session>) -> Loaded {
        Loaded { session }
    }

    /// The engine's own view of it.
    pub fn session(&self) -> &dyn Session {
        &*self.session
    }

    /// The map `name`.
    ///
    /// # Errors
    ///
    /// When the object has no such map, or it was switched off.
    pub fn map(&self, name: &str) -> Result<Map<'_>, Error> {
        Map::new(&*self.session, self.map_id(name)?)
    }

    /// The program `name`.
    ///
    /// # Errors
    ///
    /// When the object has no such program, or it was not loaded: then with the reason.
    pub fn program(&self, name: &str) -> Result<Program<'_>, Error> {
        let id = self.session.spec().find_program(name)?;
        Program::new(&*self.session, id)
    }

    /// The value that a global variable has now. Programs may be writing it: variables of 8 bytes are read in one piece, larger ones may
    /// be torn.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// let loaded = skep::Object::open("count.bpf.o")?.load()?;
    /// let _links = loaded.attach_all()?;
    /// std::thread::sleep(std::time::Duration::from_secs(1));
    /// println!("{} calls", loaded.global::<u64>("calls")?);
    /// loaded.set_global("calls", &0u64)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such variable, its size is not that of `T`, or the kernel is older than 5.5.
    pub fn global<T: FromBytes>(&self, name: &str) -> Result<T, Error> {
        let (map, off, size) = self.place_of(name)?;
        let mut bytes = vec![0; size];
        map.handle().read_memory(off, &mut bytes)?;
        let wrong = |_| wrong_size(name, size, size_of::<T>());
        T::read_from_bytes(&bytes).map_err(wrong)
    }

    /// Sets a global variable while programs run; those beside it stay as they are. Constants (`.rodata`) are set before the load, by
    /// [`Object::set_global`](crate::Object::set_global).
    ///
    /// # Errors
    ///
    /// As [`Loaded::global`], and when the variable is a constant.
    pub fn set_global<T: IntoBytes + Immutable + ?Sized>(&self, name: &str, value: &T) -> Result<(), Error> {
        let (map, off, size) = self.place_of(name)?;
        let bytes = value.as_bytes();
        if bytes.len() != size {
            return Err(wrong_size(name, size, bytes.len()));
        }
        map.handle().write_memory(off, bytes)
    }

    fn place_of(&self, name: &str) -> Result<(Map<'_>, usize, usize), Error> {
        let (id, variable) = self.session.spec().variable(name)?;
        Ok((Map::new(&*self.session, id)?, variable.off_bytes as usize, variable.size_bytes as usize))
    }

    /// Attaches every program whose section says where, and registers every struct_ops map.
    ///
    /// # Errors
    ///
    /// The first failure; what was attached before it is detached again.
    pub fn attach_all(&self) -> Result<Vec<Box<dyn Link>>, Error> {
        let spec = self.session.spec();
        let mut links = Vec::new();
        for loaded in self.session.programs().iter().filter(|loaded| loaded.result.is_ok()) {
            // A member of a struct_ops map goes where its map goes.
            if !matches!(spec.program(loaded.program).attach, AttachPoint::None | AttachPoint::StructOps) {
                links.push(self.session.attach(loaded.program, &AttachOptions::default())?);
            }
        }
        for (id, _) in spec.maps().filter(|(_, map)| map.autocreate && map.map_type == MapType::STRUCT_OPS) {
            links.push(self.session.attach_map(id)?);
        }
        Ok(links)
    }

    /// Registers the struct_ops map `name` (kernel 5.6; by a link that detaches it since 6.4).
    ///
    /// # Errors
    ///
    /// When there is no such map, one of its programs did not load, or the kernel refuses.
    pub fn attach_map(&self, name: &str) -> Result<Box<dyn Link>, Error> {
        self.session.attach_map(self.map_id(name)?)
    }

    /// Opens readers on ring buffers and perf event arrays, by name.
    ///
    /// # Errors
    ///
    /// When a map does not exist or is of another type.
    pub fn events(&self, maps: &[&str]) -> Result<Events, Error> {
        let ids = maps.iter().map(|name| self.map_id(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Events::new(self.session.records(&ids, false)?))
    }

    fn map_id(&self, name: &str) -> Result<MapId, Error> {
        Ok(self.session.spec().find_map(name)?)
    }
}

fn wrong_size(name: &str, size: usize, given: usize) -> Error {
    Error::new(format!("variable `{name}` has {size} bytes, not {given}"))
}
