//! `task_storage`: a value for each task (kernel/bpf/bpf_task_storage.c, Linux 6.18).
//!
//! To programs the key is a task's address; to user space, which has descriptors of processes in the kernel, it is the number of the thread.
//! A value goes when its task ends ([`Machine::forget_task`](crate::Machine::forget_task)).

use std::sync::Arc;

use super::hash::Hash;
use super::{F_NO_PREALLOC, MapError, MapKind, MapSpec, Mode, Store, Who};
use crate::Space;

/// Most tasks that have a value at once.
const MAX_TASKS: u32 = 1 << 14;

#[derive(Debug)]
pub(crate) struct TaskStorage {
    values: Hash,
}

impl TaskStorage {
    pub(crate) fn new(spec: &MapSpec, space: &Arc<Space>) -> Result<TaskStorage, MapError> {
        if spec.key_size != 4 || spec.value_size == 0 || spec.max_entries != 0 || spec.flags & F_NO_PREALLOC == 0 {
            return Err(MapError::Invalid(
                "a task_storage has keys of 4 bytes, values, no number of entries, and the flag BPF_F_NO_PREALLOC",
            ));
        }
        let like = MapSpec { kind: MapKind::Hash, max_entries: MAX_TASKS, ..spec.clone() };
        Ok(TaskStorage { values: Hash::new(&like, space, 1)? })
    }

    /// Address of a task's value; without one it is made of `first`, if that is something.
    pub(crate) fn of(&self, tid: u32, first: Option<&[u8]>) -> Option<u64> {
        let key = tid.to_ne_bytes();
        if let (None, Some(first)) = (self.values.find(&key, 0), first) {
            // Another thread may have been faster.
            let _ = self.values.set(&key, first, Mode::NoExist, Who::User);
        }
        self.values.find(&key, 0)
    }
}

impl Store for TaskStorage {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.values.get(key)
    }

    fn set(&self, key: &[u8], value: &[u8], mode: Mode, who: Who) -> Result<(), MapError> {
        self.values.set(key, value, mode, who)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.values.delete(key)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        self.values.next_key(key)
    }
}
