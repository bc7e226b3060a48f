//! `bpf_timer_*` (kernel/bpf/helpers.c, Linux 6.18).
//!
//! A callback runs with the number of the processor that started its timer, with `BPF_F_TIMER_CPU_PIN` and without.

use rustix::io::Errno;
use skep_insn::helpers;

use super::{Family, error, misuse};
use crate::timers::{TIMER_BYTES, Wrong};
use crate::{Access, Cpu, Program, Stop, TrapKind};

pub(super) const FAMILY: Family = &[
    (helpers::TIMER_INIT, init),
    (helpers::TIMER_SET_CALLBACK, set_callback),
    (helpers::TIMER_START, start),
    (helpers::TIMER_CANCEL, cancel),
];

/// What a round of waiting costs.
const WAIT_FUEL: u64 = 64;
/// `BPF_F_TIMER_ABS` and `BPF_F_TIMER_CPU_PIN`.
const F_ABS: u64 = 1;
const F_CPU_PIN: u64 = 2;

fn returned(result: Result<u64, Wrong>) -> Result<u64, Stop> {
    Ok(result.unwrap_or_else(|wrong| {
        error(match wrong {
            Wrong::Invalid => Errno::INVAL,
            Wrong::Busy | Wrong::Runs => Errno::BUSY,
            Wrong::Deadlock => Errno::DEADLK,
        })
    }))
}

/// The whole address of a timer, which must be memory of the program.
fn address(cpu: &Cpu, addr: u64) -> Result<u64, Stop> {
    cpu.space().check(addr, TIMER_BYTES.into(), Access::Write)?;
    Ok(cpu.space().base() | u64::from(addr as u32))
}

fn init(cpu: &mut Cpu, [addr, handle, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let addr = address(cpu, addr)?;
    let map = cpu.map(handle)?.0.clone();
    let value = map.spec().timer_off.map(|off| addr.wrapping_sub(off.into())).filter(|at| map.key_at(*at).is_some());
    let Some(value) = value else {
        let name = &map.spec().name;
        return Err(misuse(
            helpers::TIMER_INIT,
            format!("{addr:#x} is no `struct bpf_timer` of an element of map `{name}`"),
        ));
    };
    returned(cpu.machine().timers().init(addr, map.id(), value, flags).map(|()| 0))
}

fn set_callback(cpu: &mut Cpu, [addr, function, ..]: [u64; 5]) -> Result<u64, Stop> {
    let addr = address(cpu, addr)?;
    let program = cpu.programs[cpu.current()].clone();
    let index = Program::slot_of(function).and_then(|start| program.function_at(start));
    let index = index.ok_or(TrapKind::BadCallee { value: function })?;
    returned(cpu.machine().timers().set_callback(addr, &program, index).map(|()| 0))
}

fn start(cpu: &mut Cpu, [addr, ns, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let addr = address(cpu, addr)?;
    if flags & !(F_ABS | F_CPU_PIN) != 0 {
        return Ok(error(Errno::INVAL));
    }
    returned(cpu.machine().timers().start(addr, ns, flags & F_ABS != 0, cpu.number()).map(|()| 0))
}

/// Waits for a callback that runs on another processor. Two callbacks that wait for each other's end run out of fuel.
fn cancel(cpu: &mut Cpu, [addr, ..]: [u64; 5]) -> Result<u64, Stop> {
    let addr = address(cpu, addr)?;
    loop {
        match cpu.machine().timers().cancel(addr, cpu.timer) {
            Err(Wrong::Runs) => {
                cpu.burn(WAIT_FUEL)?;
                std::thread::yield_now();
            }
            result => return returned(result.map(u64::from)),
        }
    }
}
