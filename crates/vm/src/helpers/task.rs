//! The current task: its storage, signals to it, its memory (kernel/bpf/bpf_task_storage.c, kernel/trace/bpf_trace.c, Linux 6.18).

use rustix::io::Errno;
use skep_insn::helpers;

use super::{Family, bytes, error, misuse};
use crate::{Access, Cpu, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::TASK_STORAGE_GET, storage_get),
    (helpers::TASK_STORAGE_DELETE, storage_delete),
    (helpers::SEND_SIGNAL, send_signal),
    (helpers::COPY_FROM_USER_TASK, copy_from_user_task),
];

/// The thread behind a task's address; the current one is the only one that is known.
fn thread(cpu: &Cpu, task: u64) -> Option<u32> {
    cpu.task().filter(|current| task != 0 && current.address() == task).map(|current| current.pid_tgid() as u32)
}

/// `BPF_LOCAL_STORAGE_GET_F_CREATE`.
const F_CREATE: u64 = 1;

fn storage_get(cpu: &mut Cpu, [handle, task, value, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    let not_one = || misuse(helpers::TASK_STORAGE_GET, "the map is not a task_storage");
    let storage = map.task_storage().ok_or_else(not_one)?;
    let Some(tid) = thread(cpu, task).filter(|_| flags & !F_CREATE == 0) else { return Ok(0) };
    let len = map.spec().value_size;
    let first = match (flags, value) {
        (F_CREATE, 0) => Some(vec![0; len as usize]),
        (F_CREATE, value) => Some(bytes(cpu, value, len.into())?),
        _ => None,
    };
    Ok(storage.of(tid, first.as_deref()).unwrap_or(0))
}

fn storage_delete(cpu: &mut Cpu, [handle, task, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    if map.task_storage().is_none() {
        return Err(misuse(helpers::TASK_STORAGE_DELETE, "the map is not a task_storage"));
    }
    let Some(tid) = thread(cpu, task) else { return Ok(error(Errno::INVAL)) };
    Ok(map.store().delete(&tid.to_ne_bytes()).map_or_else(|error| error.returned(), |()| 0))
}

/// The largest number of a signal (`_NSIG`).
const MAX_SIGNAL: u32 = 64;

fn send_signal(cpu: &mut Cpu, [signal, ..]: [u64; 5]) -> Result<u64, Stop> {
    let signal = signal as u32;
    let Some(task) = cpu.task().filter(|_| signal <= MAX_SIGNAL) else { return Ok(error(Errno::INVAL)) };
    // None is sent, which always works.
    if signal == 0 {
        return Ok(0);
    }
    Ok(task.signal(signal).map_or(error(Errno::PERM), |()| 0))
}

/// Of another task nothing can be read.
fn copy_from_user_task(cpu: &mut Cpu, [to, len, addr, task, flags]: [u64; 5]) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    super::pay(cpu, len)?;
    cpu.space().check(to, len, Access::Write)?;
    if flags != 0 {
        return Ok(error(Errno::INVAL));
    }
    let mut bytes = vec![0; len as usize];
    let memory = thread(cpu, task).and_then(|_| cpu.memory());
    let read = len == 0 || memory.and_then(|memory| memory.read(addr, &mut bytes)).is_some();
    if !read {
        bytes.fill(0);
    }
    cpu.space().write(to, &bytes)?;
    Ok(if read { 0 } else { error(Errno::FAULT) })
}
