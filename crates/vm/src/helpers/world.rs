//! Time, numbers that look random, the CPU, the task and the event.

use rustix::io::Errno;
use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};
use skep_insn::helpers;

use super::{Family, error, pay};
use crate::{Cpu, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::KTIME_GET_NS, |_, _| Ok(now(ClockId::Monotonic))),
    (helpers::KTIME_GET_BOOT_NS, |_, _| Ok(now(ClockId::Boottime))),
    (helpers::KTIME_GET_COARSE_NS, |_, _| Ok(now(ClockId::MonotonicCoarse))),
    (helpers::KTIME_GET_TAI_NS, |_, _| Ok(tai())),
    (helpers::JIFFIES64, |_, _| Ok(jiffies())),
    (helpers::GET_PRANDOM_U32, random),
    (helpers::GET_SMP_PROCESSOR_ID, |cpu, _| Ok(cpu.number().into())),
    // All memory of programs is this process's, wherever that is.
    (helpers::GET_NUMA_NODE_ID, |_, _| Ok(0)),
    (helpers::GET_CURRENT_PID_TGID, |cpu, _| Ok(cpu.task().map_or(error(Errno::INVAL), |task| task.pid_tgid()))),
    (helpers::GET_CURRENT_UID_GID, |cpu, _| Ok(cpu.task().map_or(error(Errno::INVAL), |task| task.uid_gid()))),
    (helpers::GET_CURRENT_COMM, comm),
    (helpers::GET_NS_CURRENT_PID_TGID, ns_pid_tgid),
    (helpers::GET_CURRENT_TASK, |cpu, _| Ok(cpu.task().map_or(0, |task| task.address()))),
    (helpers::GET_CURRENT_TASK_BTF, |cpu, _| Ok(cpu.task().map_or(0, |task| task.address()))),
    (helpers::GET_ATTACH_COOKIE, |cpu, _| Ok(cpu.event().cookie)),
    (helpers::GET_FUNC_IP, |cpu, _| Ok(cpu.event().func_ip)),
];

pub(super) fn now(clock: ClockId) -> u64 {
    nanoseconds(clock_gettime(clock))
}

fn tai() -> u64 {
    // Every Linux since 3.10 has this clock.
    nanoseconds(clock_gettime_dynamic(DynamicClockId::Tai).unwrap_or(clock_gettime(ClockId::Realtime)))
}

fn nanoseconds(now: Timespec) -> u64 {
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// Ticks of the kernel in a second. Nothing tells what they are on this machine; this is what most distributions build.
const HZ: u64 = 250;
/// The count starts five minutes before it overflows 32 bits (`INITIAL_JIFFIES`).
const FIRST_JIFFY: u64 = (1 << 32) - 300 * HZ;

fn jiffies() -> u64 {
    FIRST_JIFFY.wrapping_add(now(ClockId::MonotonicCoarse) / (1_000_000_000 / HZ))
}

/// splitmix64, of which the upper half.
fn random(cpu: &mut Cpu, _: [u64; 5]) -> Result<u64, Stop> {
    cpu.random = cpu.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = cpu.random;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    Ok((mixed ^ mixed >> 31) >> 32)
}

/// A task's numbers are those of the namespace that this process is in, whose file the program names. (`struct bpf_pidns_info`: thread, group.)
fn ns_pid_tgid(cpu: &mut Cpu, [_, _, to, len, _]: [u64; 5]) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    pay(cpu, len)?;
    cpu.space().zero(to, len)?;
    let Some(task) = cpu.task().filter(|_| len == 8) else { return Ok(error(Errno::INVAL)) };
    let both = task.pid_tgid();
    cpu.space().write(to, &both.to_ne_bytes())?;
    Ok(0)
}

/// The kernel's `TASK_COMM_LEN`.
const COMM_BYTES: usize = 16;

/// The name, with zeros up to the length that is asked for.
fn comm(cpu: &mut Cpu, [to, len, ..]: [u64; 5]) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    pay(cpu, len)?;
    cpu.space().zero(to, len)?;
    let Some(task) = cpu.task() else { return Ok(error(Errno::INVAL)) };
    let mut name = task.comm();
    name.truncate((COMM_BYTES - 1).min((len as usize).saturating_sub(1)));
    cpu.space().write(to, &name)?;
    Ok(0)
}
