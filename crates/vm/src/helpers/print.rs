//! Printing: `bpf_trace_printk`, `bpf_trace_vprintk`, `bpf_snprintf`.
//!
//! What is printed waits in [`Machine::printed`](crate::Machine::printed).

use rustix::io::Errno;
use rustix::time::ClockId;
use skep_insn::helpers;

use super::format::format;
use super::world::now;
use super::{Family, bytes, error, pay};
use crate::{Cpu, Stop, Text};

pub(super) const FAMILY: Family =
    &[(helpers::TRACE_PRINTK, trace_printk), (helpers::TRACE_VPRINTK, trace_vprintk), (helpers::SNPRINTF, snprintf)];

/// Longest text that is printed, with its zero (`MAX_BPRINTF_BUF`).
const MAX_PRINTED: usize = 1024;
/// Most numbers of a format, in bytes (`MAX_BPRINTF_VARARGS`).
const MAX_ARG_BYTES: u64 = 12 * 8;

/// The format up to its zero; `None` when there is none.
fn format_of(cpu: &Cpu, addr: u64, len: usize) -> Result<Option<Vec<u8>>, Stop> {
    let (text, ended) = cpu.space().read_text(addr, len)?;
    Ok(ended.then_some(text))
}

fn print(cpu: &Cpu, template: Option<Vec<u8>>, args: &[u64]) -> u64 {
    let formatted = template.and_then(|template| format(cpu, &template, args, MAX_PRINTED - 1));
    let Some(formatted) = formatted else { return error(Errno::INVAL) };
    let task = cpu.task();
    cpu.machine().printed().add(Text {
        cpu: cpu.number(),
        pid_tgid: task.map_or(0, |task| task.pid_tgid()),
        comm: task.map_or(Vec::new(), |task| task.comm()),
        time_ns: now(ClockId::Monotonic),
        text: formatted.text,
    });
    cpu.machine().bell().ring();
    formatted.len as u64
}

fn trace_printk(cpu: &mut Cpu, [template, len, args @ ..]: [u64; 5]) -> Result<u64, Stop> {
    let template = format_of(cpu, template, len as u32 as usize)?;
    Ok(print(cpu, template, &args))
}

/// The numbers of a format; `None` when there are too many.
fn args_of(cpu: &mut Cpu, data: u64, len: u64) -> Result<Option<Vec<u64>>, Stop> {
    if !len.is_multiple_of(8) || len > MAX_ARG_BYTES || (len != 0 && data == 0) {
        return Ok(None);
    }
    let bytes = bytes(cpu, data, len)?;
    Ok(Some(bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()))
}

fn trace_vprintk(cpu: &mut Cpu, [template, len, data, data_len, _]: [u64; 5]) -> Result<u64, Stop> {
    let Some(args) = args_of(cpu, data, u64::from(data_len as u32))? else { return Ok(error(Errno::INVAL)) };
    let template = format_of(cpu, template, len as u32 as usize)?;
    Ok(print(cpu, template, &args))
}

/// Gives the length of the whole text with its zero, whether it fits or not.
fn snprintf(cpu: &mut Cpu, [to, len, template, data, data_len]: [u64; 5]) -> Result<u64, Stop> {
    let len = len as u32 as usize;
    let Some(args) = args_of(cpu, data, u64::from(data_len as u32))? else { return Ok(error(Errno::INVAL)) };
    pay(cpu, len as u64)?;
    cpu.space().check(to, len as u64, crate::Access::Write)?;
    let template = format_of(cpu, template, usize::MAX)?.unwrap_or_default();
    let Some(formatted) = format(cpu, &template, &args, len.saturating_sub(1)) else {
        return Ok(error(Errno::INVAL));
    };
    if len != 0 {
        let mut text = formatted.text;
        text.push(0);
        cpu.space().write(to, &text)?;
    }
    Ok(formatted.len as u64 + 1)
}
