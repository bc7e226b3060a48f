//! The memory of a map.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Error, Map};

/// The values of an array map, or an arena, as memory that this process shares with the programs: reading and writing it is no
/// system call. Programs may write at any time; words of 8 bytes at multiples of 8 are read and written in one piece, larger
/// things may be torn.
///
/// ```no_run
/// # fn main() -> Result<(), skep::Error> {
/// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
/// let table = loaded.map("table")?;
/// let memory = table.memory()?;
/// // Element 3 of an array of u64.
/// let old: u64 = memory.read(3 * 8)?;
/// memory.write(3 * 8, &(old + 1))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Memory<'m> {
    map: &'m Map<'m>,
    len: usize,
}

impl<'m> Memory<'m> {
    pub(crate) fn new(map: &'m Map<'m>) -> Result<Memory<'m>, Error> {
        Ok(Memory { map, len: map.handle().memory_len()? })
    }

    /// Its size in bytes, rounded up to pages. The elements of an array lie one behind the other, each rounded up to 8 bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes, which does not happen.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What lies `off_bytes` from its start.
    ///
    /// # Errors
    ///
    /// When that reaches over its end.
    pub fn read<T: FromBytes + IntoBytes>(&self, off_bytes: usize) -> Result<T, Error> {
        let mut value = T::new_zeroed();
        self.read_bytes(off_bytes, value.as_mut_bytes())?;
        Ok(value)
    }

    /// As [`Memory::read`], as many bytes as `out` holds.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`].
    pub fn read_bytes(&self, off_bytes: usize, out: &mut [u8]) -> Result<(), Error> {
        self.map.handle().read_memory(off_bytes, out)
    }

    /// Writes `value` at `off_bytes` from its start and leaves what is beside it to the programs.
    ///
    /// # Errors
    ///
    /// When that reaches over its end, or the map is frozen or for reading only.
    pub fn write<T: IntoBytes + Immutable + ?Sized>(&self, off_bytes: usize, value: &T) -> Result<(), Error> {
        self.map.handle().write_memory(off_bytes, value.as_bytes())
    }
}
