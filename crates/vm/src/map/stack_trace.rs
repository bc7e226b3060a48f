//! `stack_trace`: stacks by the number that `bpf_get_stackid` gave (kernel/bpf/stackmap.c, Linux 6.18).
//!
//! A stack has one place, which its hash says: two different ones may want the same, and then the second is refused or takes the
//! place over. Programs cannot read it; to user space a stack is as many addresses as a value has room for, with zeros at the end.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{MapError, MapSpec, Store, index_of};

/// Most addresses of a stack (`kernel.perf_event_max_stack`, as it is unless somebody sets it).
pub(crate) const MAX_DEPTH: usize = 127;
/// Stacks of build ids and offsets in place of addresses (`BPF_F_STACK_BUILD_ID`).
const F_STACK_BUILD_ID: u32 = 1 << 5;

#[derive(Debug)]
pub(crate) struct StackTraces {
    /// By their numbers, without the zeros at the end. A map may be made for more of them than there is memory.
    stacks: Mutex<BTreeMap<u32, Vec<u64>>>,
    /// A power of two.
    buckets: u32,
    max_entries: u32,
    value_size: usize,
    hasher: RandomState,
}

impl StackTraces {
    pub(crate) fn new(spec: &MapSpec) -> Result<StackTraces, MapError> {
        if spec.flags & F_STACK_BUILD_ID != 0 {
            return Err(MapError::Invalid("stacks of build ids are for the kernel; leave BPF_F_STACK_BUILD_ID out"));
        }
        let depth = spec.value_size as usize / 8;
        if spec.key_size != 4
            || !spec.value_size.is_multiple_of(8)
            || !(1..=MAX_DEPTH).contains(&depth)
            || spec.max_entries == 0
        {
            return Err(MapError::Invalid(
                "a map of stacks has keys of 4 bytes, values of 1 to 127 addresses of 8 bytes, and at least one entry",
            ));
        }
        let buckets = spec.max_entries.checked_next_power_of_two().ok_or(MapError::Full)?;
        Ok(StackTraces {
            stacks: Mutex::default(),
            buckets,
            max_entries: spec.max_entries,
            value_size: spec.value_size as usize,
            hasher: RandomState::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Vec<u64>>> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Addresses that a value has room for.
    pub(crate) fn depth(&self) -> usize {
        self.value_size / 8
    }

    /// Keeps a stack, which is not empty, and gives its number. One that differs is in its way: that is an error, unless it may be
    /// replaced. (The kernel can be asked to compare hashes alone, which here would be the same.)
    pub(crate) fn keep(&self, stack: &[u64], replace: bool) -> Result<u32, MapError> {
        let mut stacks = self.lock();
        let number = self.hasher.hash_one(stack) as u32 & (self.buckets - 1);
        match stacks.get(&number) {
            Some(known) if known == stack => return Ok(number),
            Some(_) if !replace => return Err(MapError::Exists),
            None if stacks.len() >= self.max_entries as usize => return Err(MapError::NoMemory),
            _ => {}
        }
        stacks.insert(number, stack.to_vec());
        Ok(number)
    }
}

impl Store for StackTraces {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let stacks = self.lock();
        let stack = index_of(key).and_then(|number| stacks.get(&number));
        Ok(stack.map(|stack| {
            let mut bytes: Vec<u8> = stack.iter().flat_map(|addr| addr.to_ne_bytes()).collect();
            bytes.resize(self.value_size, 0);
            bytes
        }))
    }

    fn set(&self, _: &[u8], _: &[u8], _: super::Mode, _: super::Who) -> Result<(), MapError> {
        Err(MapError::Invalid("only programs put stacks into a map of stacks"))
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let number = index_of(key).filter(|number| *number < self.buckets).ok_or(MapError::Full)?;
        self.lock().remove(&number).map(drop).ok_or(MapError::NotFound)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        // Without a number that one can have, the first one comes.
        let from = key.and_then(index_of).filter(|number| *number < self.buckets);
        let stacks = self.lock();
        let mut behind = stacks.range(from.map_or(0, |number| number + 1)..);
        Ok(behind.next().map(|(number, _)| number.to_ne_bytes().to_vec()))
    }
}
