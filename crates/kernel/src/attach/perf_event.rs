//! Perf events: a program at each sample of a clock or a counter, on every CPU.

use skep_engine::Error;
use skep_sys::Errno;
use skep_sys::caps::Cap;
use skep_sys::cpu;
use skep_sys::perf_event::{
    Attr, PERF_TYPE_BREAKPOINT, PERF_TYPE_HARDWARE, PERF_TYPE_HW_CACHE, PERF_TYPE_RAW, PerfEvent, flags,
};

use super::attachment::Attachment;
use super::options::Rate;
use super::perf_link;
use super::request::Request;

pub(super) fn attach(request: &Request<'_>) -> Result<Attachment, Error> {
    let sample = request.options.sample;
    let mut attr = Attr::new(sample.kind, sample.config).with_flags(flags::DISABLED);
    if let Some(watch) = sample.watch {
        attr.config = 0;
        attr.config1 = sample.config;
        attr.config2 = watch.len_bytes;
        attr.bp_type = watch.access;
    }
    let rate = match sample.rate {
        Rate::Hz(hz) => {
            attr = attr.with_flags(flags::FREQ);
            attr.sample_period = hz;
            format!("at {hz} Hz")
        }
        Rate::Every(period) => {
            attr.sample_period = period;
            format!("every {period}")
        }
    };
    let what = match sample.watch {
        Some(watch) => format!("watchpoint {:#x} of {} bytes", sample.config, watch.len_bytes),
        None => format!("perf event {}:{} {rate}", sample.kind, sample.config),
    };
    let mut cpus = cpu::online().map_err(|errno| request.failed("cannot list the CPUs", errno))?;
    if sample.one_cpu {
        cpus.truncate(1);
    }
    let pid = match request.options.pid {
        // A timer goes on whether or not the process runs.
        Some(_) if sample.one_cpu => -1,
        None => -1,
        Some(pid) => i32::try_from(pid).map_err(|_| request.error(format_args!("there is no process {pid}")))?,
    };
    let mut holds = Vec::with_capacity(cpus.len());
    for cpu in cpus {
        let event = match PerfEvent::open(&attr, pid, cpu.0 as i32) {
            Ok(event) => event,
            // Taken offline since the list was read.
            Err(Errno::ENODEV) if !holds.is_empty() => continue,
            Err(errno) => return Err(refusal(request, sample.kind, &what, errno)),
        };
        holds.push(perf_link::attach(request, event, request.options.cookie, &what)?);
    }
    Ok(Attachment::of(what, holds))
}

fn refusal(request: &Request<'_>, kind: u32, what: &str, errno: Errno) -> Error {
    match errno {
        Errno::ENOENT | Errno::EOPNOTSUPP | Errno::ENODEV
            if matches!(kind, PERF_TYPE_HARDWARE | PERF_TYPE_HW_CACHE | PERF_TYPE_RAW) =>
        {
            request
                .error(format_args!("{what}: this machine has no such hardware counter"))
                .with_source(errno)
                .with_hint("virtual machines often have none; sample the CPU's clock instead")
        }
        Errno::ENOSPC if kind == PERF_TYPE_BREAKPOINT => request
            .error(format_args!("{what}: every debug register of the processor is in use"))
            .with_source(errno)
            .with_hint("x86 has four of them for all watchpoints and debuggers"),
        Errno::EINVAL if kind == PERF_TYPE_BREAKPOINT => request
            .error(format_args!("{what}: the processor cannot watch this"))
            .with_source(errno)
            .with_hint(
                "the address must be a multiple of the length; x86 has no watchpoint for reading alone, and for executing (`x`) the length is 8",
            ),
        Errno::ESRCH => request.error(format_args!("there is no process {}", request.options.pid.unwrap_or(0))),
        Errno::EINVAL => request
            .error(format_args!("{what}: the kernel does not take this"))
            .with_source(errno)
            .with_hint("the highest frequency is in `/proc/sys/kernel/perf_event_max_sample_rate`"),
        _ => request.refused(what, errno, &[Cap::PERFMON]),
    }
}
