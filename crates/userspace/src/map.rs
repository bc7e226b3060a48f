//! Maps of a session.

use std::sync::Arc;

use skep_engine::{Entry, Error, ErrorKind, MapFacts, MapHandle};
use skep_spec::MapType;
use skep_sys::Errno;
use skep_vm::{Map, MapError, MapKind, Space};

/// A map of an object that is loaded in user space.
#[derive(Debug)]
pub struct UserMap {
    map: Arc<Map>,
    space: Arc<Space>,
    facts: MapFacts,
}

impl UserMap {
    pub(crate) fn new(map: Arc<Map>, space: Arc<Space>) -> UserMap {
        let spec = map.spec();
        let facts = MapFacts {
            name: spec.name.clone(),
            id: map.id(),
            map_type: MapType(spec.kind as u32),
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: spec.max_entries,
            values_per_key: map.values_per_key(),
        };
        UserMap { map, space, facts }
    }

    /// The machine's own map.
    pub fn map(&self) -> &Arc<Map> {
        &self.map
    }

    fn failed(&self, verb: &str, error: MapError) -> Error {
        failed(&format!("cannot {verb} map `{}`", self.facts.name), error)
    }

    /// Where some bytes of an array's values are.
    fn memory(&self, off_bytes: usize, len: usize) -> Result<u64, Error> {
        let facts = &self.facts;
        let name = &facts.name;
        let addr = self.map.value_addr().filter(|_| matches!(facts.map_type, MapType::ARRAY | MapType::ARENA));
        let addr = addr.ok_or_else(|| {
            Error::new(format!("map `{name}` is no memory, but a {}", facts.map_type)).with_kind(ErrorKind::Unsupported)
        })?;
        let all = self.map.memory_len();
        match off_bytes.checked_add(len) {
            Some(end) if end as u64 <= all => Ok(addr + off_bytes as u64),
            _ => Err(Error::new(format!("map `{name}` has no {len} bytes at {off_bytes}"))),
        }
    }
}

/// What a map refused, with the number that the kernel has for it.
pub(crate) fn failed(what: &str, error: MapError) -> Error {
    let kind = match error {
        MapError::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    };
    Error::new(format!("{what}: {error}")).with_kind(kind).with_source(Errno::from_raw(error.errno()))
}

impl MapHandle for UserMap {
    fn facts(&self) -> MapFacts {
        self.facts.clone()
    }

    fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.map.lookup(key).map_err(|error| self.failed("read", error))
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Error> {
        self.map.update(key, value, flags).map_err(|error| self.failed("change", error))
    }

    fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        match self.map.delete(key) {
            Ok(()) => Ok(true),
            Err(MapError::NotFound) => Ok(false),
            Err(error) => Err(self.failed("delete from", error)),
        }
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.map.next_key(key).map_err(|error| self.failed("walk", error))
    }

    fn entries(&self) -> Result<Vec<Entry>, Error> {
        self.map.entries().map_err(|error| self.failed("read", error))
    }

    fn take(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.map.take(key) {
            // Elements of arrays stay; what is taken is a copy.
            Err(MapError::Unsupported | MapError::Invalid(_))
                if matches!(self.map.spec().kind, MapKind::Array | MapKind::PerCpuArray) =>
            {
                self.lookup(key)
            }
            taken => taken.map_err(|error| self.failed("take from", error)),
        }
    }

    fn send(&self, record: &[u8]) -> Result<bool, Error> {
        match self.map.send(record) {
            Ok(()) => Ok(true),
            Err(MapError::NoSpace) => Ok(false),
            Err(error @ MapError::Unsupported) => {
                let what = format!("map `{}` is of type {}, not user_ringbuf", self.facts.name, self.facts.map_type);
                Err(Error::new(what).with_kind(ErrorKind::Unsupported).with_source(Errno::from_raw(error.errno())))
            }
            Err(error) => Err(self
                .failed(&format!("put {} bytes into", record.len()), error)
                .with_hint("raise its `max_entries`, its size in bytes")),
        }
    }

    fn freeze(&self) -> Result<(), Error> {
        self.map.freeze();
        Ok(())
    }

    fn read_memory(&self, off_bytes: usize, out: &mut [u8]) -> Result<(), Error> {
        let addr = self.memory(off_bytes, out.len())?;
        self.space.read(addr, out).map_err(|fault| Error::new(format!("map `{}`: {fault}", self.facts.name)))
    }

    fn write_memory(&self, off_bytes: usize, bytes: &[u8]) -> Result<(), Error> {
        let addr = self.memory(off_bytes, bytes.len())?;
        self.space.write(addr, bytes).map_err(|fault| Error::new(format!("map `{}`: {fault}", self.facts.name)))
    }
}
