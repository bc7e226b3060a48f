//! `stack_trace`: stacks by the number that `bpf_get_stackid` gave (kernel/bpf/stackmap.c, Linux 6.18).
//!
//! A stack has one place, which its hash says: two different ones may want the same, and then the second is refused or takes the
//! place over. Programs cannot read it; to user space a stack is as many addresses as a value has room for, with zeros at the end.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::array::next_index;
use super::{MapError, MapSpec, Store, index_of};

/// Most addresses of a stack (`kernel.perf_event_max_stack`, as it is unless somebody sets it).
pub(crate) const MAX_DEPTH: usize = 127;
/// Stacks of build ids and offsets in place of addresses (`BPF_F_STACK_BUILD_ID`).
const F_STACK_BUILD_ID: u32 = 1 << 5;

#[derive(Debug)]
pub(crate) struct StackTraces {
    /// Without the zeros at the end; empty where there is none.
    slots: Mutex<Vec<Vec<u64>>>,
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
            slots: Mutex::new(vec![Vec::new(); buckets as usize]),
            max_entries: spec.max_entries,
            value_size: spec.value_size as usize,
            hasher: RandomState::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u64>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Addresses that a value has room for.
    pub(crate) fn depth(&self) -> usize {
        self.value_size / 8
    }

    /// Keeps a stack, which is not empty, and gives its number. One that differs is in its way: that is an error, unless it may be
    /// replaced. (The kernel can be asked to compare hashes alone, which here would be the same.)
    pub(crate) fn keep(&self, stack: &[u64], replace: bool) -> Result<u32, MapError> {
        let mut slots = self.lock();
        let index = self.hasher.hash_one(stack) as usize & (slots.len() - 1);
        if slots[index] == stack {
            return Ok(index as u32);
        }
        if !slots[index].is_empty() {
            if !replace {
                return Err(MapError::Exists);
            }
        } else if slots.iter().filter(|slot| !slot.is_empty()).count() >= self.max_entries as usize {
            return Err(MapError::NoMemory);
        }
        slots[index] = stack.to_vec();
        Ok(index as u32)
    }
}

impl Store for StackTraces {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let slots = self.lock();
        let stack = index_of(key).and_then(|index| slots.get(index as usize)).filter(|stack| !stack.is_empty());
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
        let mut slots = self.lock();
        let slot = index_of(key).and_then(|index| slots.get_mut(index as usize)).ok_or(MapError::Full)?;
        if std::mem::take(slot).is_empty() { Err(MapError::NotFound) } else { Ok(()) }
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        let slots = self.lock();
        let mut next = next_index(key, slots.len() as u32);
        while let Some(key) = &next {
            let there = index_of(key).and_then(|index| slots.get(index as usize)).is_some_and(|it| !it.is_empty());
            if there {
                break;
            }
            next = next_index(Some(key), slots.len() as u32);
        }
        Ok(next)
    }
}
