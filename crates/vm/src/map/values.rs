//! The values of a map: pieces of one size in one block of the programs' memory.
//!
//! Each value has a number. A per-CPU map has a value for each CPU and number; those of one CPU lie together, so that CPUs do not
//! share cache lines: the value `n` of CPU `c` is at `(c * count + n) * stride`. The stride is the size, rounded up to 8 bytes.

use std::sync::Arc;

use super::{MapError, Who};
use crate::{Block, Space};

#[derive(Debug)]
pub(crate) struct Values {
    block: Block,
    size: usize,
    stride: u64,
    cpus: u32,
    count: u32,
}

impl Values {
    /// `count` values of zeros for each of `cpus`; one of them for maps that are not per CPU.
    pub(crate) fn new(
        space: &Arc<Space>,
        count: u32,
        size: u32,
        cpus: u32,
        writable: bool,
    ) -> Result<Values, MapError> {
        let stride = u64::from(size).next_multiple_of(8);
        let len = u128::from(stride) * u128::from(count) * u128::from(cpus);
        let block = space.allocate(u64::try_from(len).unwrap_or(u64::MAX), writable)?;
        Ok(Values { block, size: size as usize, stride, cpus, count })
    }

    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    /// How many there are for each CPU.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes from one to the next.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn stride(&self) -> u64 {
        self.stride
    }

    /// For how many CPUs; 1 when they are not for each.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Whether programs may access these bytes, which the owner of a map never takes away from them.
    pub(crate) fn has(&self, addr: u64, len: u64) -> bool {
        let at = addr.wrapping_sub(self.block.addr());
        at <= self.block.len() && len <= self.block.len() - at
    }

    fn at(&self, index: u32, cpu: u32) -> u64 {
        (u64::from(cpu) * u64::from(self.count) + u64::from(index)) * self.stride
    }

    /// Where programs find a value; `None` for a CPU or a number that there is not.
    #[inline]
    pub(crate) fn addr(&self, index: u32, cpu: u32) -> Option<u64> {
        let cpu = if self.cpus == 1 { 0 } else { cpu };
        (index < self.count && cpu < self.cpus).then(|| self.block.addr() + self.at(index, cpu))
    }

    /// Where the programs of a CPU find the value that those of the first one find at an address; `None` for a CPU that there is not.
    #[inline]
    pub(crate) fn of_cpu(&self, first: u64, cpu: u32) -> Option<u64> {
        let cpu = if self.cpus == 1 { 0 } else { cpu };
        (cpu < self.cpus).then(|| first + u64::from(cpu) * u64::from(self.count) * self.stride)
    }

    /// The number of the value that starts at an address, of those that are not for each CPU.
    pub(crate) fn index_at(&self, addr: u64) -> Option<u32> {
        let at = addr.checked_sub(self.block.addr())?;
        let index = u32::try_from(at / self.stride).ok()?;
        (at.is_multiple_of(self.stride) && index < self.count).then_some(index)
    }

    /// A value for user space: those of all CPUs behind each other, each of a stride, for per-CPU maps (`percpu`).
    pub(crate) fn read(&self, index: u32, percpu: bool) -> Vec<u8> {
        if !percpu {
            return self.block.bytes(self.at(index, 0), self.size);
        }
        (0..self.cpus).flat_map(|cpu| self.block.bytes(self.at(index, cpu), self.stride as usize)).collect()
    }

    /// Sets a value, whose length was checked. Programs set the one of their CPU, and the others to zero if the element is `new`.
    pub(crate) fn write(&self, index: u32, value: &[u8], percpu: bool, who: Who, new: bool) {
        let put = |cpu: u32, bytes: &[u8]| {
            let done = self.block.write(self.at(index, cpu), bytes);
            debug_assert!(done.is_some(), "numbers of values are below the count");
        };
        match (percpu, who) {
            (false, _) => put(0, value),
            (true, Who::User) => {
                for (cpu, bytes) in (0..self.cpus).zip(value.chunks(self.stride as usize)) {
                    put(cpu, bytes);
                }
            }
            (true, Who::Program { cpu: own }) => {
                let zeros = vec![0; if new { self.size } else { 0 }];
                for cpu in (0..self.cpus).filter(|cpu| *cpu == own || new) {
                    put(cpu, if cpu == own { value } else { &zeros });
                }
            }
        }
    }
}
