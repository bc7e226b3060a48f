//! `perf_event_open(2)` and the PMUs that stand for kprobes and uprobes.
//!
//! # Safety
//! The kernel reads `struct perf_event_attr` and, for the kprobe and uprobe PMUs, one C string that it points to; it
//! writes nothing into this process. Every string lives in a borrowed `CStr` until the call has returned. The ring that
//! a perf event may be mapped to is not made here.
//!
//! Source: `include/uapi/linux/perf_event.h`, `kernel/events/core.c` (`perf_kprobe_event_init`,
//! `perf_uprobe_event_init`), Linux 6.18.

#![expect(unsafe_code, reason = "the home of the raw perf_event_open(2) and ioctl(2) calls")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::errno::Errno;

/// `PERF_TYPE_HARDWARE`: generalised hardware events.
pub const PERF_TYPE_HARDWARE: u32 = 0;
/// `PERF_TYPE_SOFTWARE`: events that the kernel counts itself.
pub const PERF_TYPE_SOFTWARE: u32 = 1;
/// `PERF_TYPE_TRACEPOINT`: `config` is a tracepoint's id.
pub const PERF_TYPE_TRACEPOINT: u32 = 2;
/// `PERF_TYPE_HW_CACHE`: cache events.
pub const PERF_TYPE_HW_CACHE: u32 = 3;
/// `PERF_TYPE_RAW`: `config` is a number of the processor's manual.
pub const PERF_TYPE_RAW: u32 = 4;
/// `PERF_TYPE_BREAKPOINT`: hardware breakpoints and watchpoints.
pub const PERF_TYPE_BREAKPOINT: u32 = 5;

/// `PERF_COUNT_SW_CPU_CLOCK`: a timer on each CPU, which every machine has.
pub const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;
/// `PERF_COUNT_SW_DUMMY`: counts nothing; asked for the records that come beside the counting.
pub const PERF_COUNT_SW_DUMMY: u64 = 9;
/// `PERF_COUNT_SW_BPF_OUTPUT`: what `bpf_perf_event_output` writes to.
pub const PERF_COUNT_SW_BPF_OUTPUT: u64 = 10;

/// `PERF_SAMPLE_IP`: the sample tells where the task was.
pub const PERF_SAMPLE_IP: u64 = 1;
/// `PERF_SAMPLE_TID`: the sample tells process and thread.
pub const PERF_SAMPLE_TID: u64 = 1 << 1;
/// `PERF_SAMPLE_ADDR`: the sample tells the address that the event is about.
pub const PERF_SAMPLE_ADDR: u64 = 1 << 3;
/// `PERF_SAMPLE_CALLCHAIN`: the sample has the addresses of the callers.
pub const PERF_SAMPLE_CALLCHAIN: u64 = 1 << 5;
/// `PERF_SAMPLE_CPU`: the sample tells the processor.
pub const PERF_SAMPLE_CPU: u64 = 1 << 7;
/// `PERF_SAMPLE_PERIOD`: the sample tells how many events it stands for.
pub const PERF_SAMPLE_PERIOD: u64 = 1 << 8;
/// `PERF_SAMPLE_REGS_USER`: the sample has the registers as they were in user space, see [`Attr::with_user_registers`].
pub const PERF_SAMPLE_REGS_USER: u64 = 1 << 12;
/// `PERF_SAMPLE_IDENTIFIER`: the sample begins with the event's [`PerfEvent::id`].
pub const PERF_SAMPLE_IDENTIFIER: u64 = 1 << 16;
/// `PERF_SAMPLE_RAW`: the sample carries the bytes that a program wrote.
pub const PERF_SAMPLE_RAW: u64 = 1 << 10;
/// `PERF_SAMPLE_TIME`: the sample carries its time.
pub const PERF_SAMPLE_TIME: u64 = 1 << 2;

/// `PERF_FORMAT_LOST`: read(2) tells what the event's buffer could not hold (Linux 6.0; before, opening says `EINVAL`).
pub const PERF_FORMAT_LOST: u64 = 1 << 4;

const PERF_FLAG_FD_CLOEXEC: u64 = 1 << 3;
const PERF_EVENT_IOC_ENABLE: u64 = 0x2400;
const PERF_EVENT_IOC_DISABLE: u64 = 0x2401;
const PERF_EVENT_IOC_SET_OUTPUT: u64 = 0x2405;
const PERF_EVENT_IOC_ID: u64 = 0x8008_2407;
const PERF_EVENT_IOC_SET_BPF: u64 = 0x4004_2408;

/// Bits for [`Attr`], in the order of the bit-fields of `struct perf_event_attr`.
pub mod flags {
    /// `disabled`: off until enabled.
    pub const DISABLED: u64 = 1 << 0;
    /// `inherit`: children are counted too.
    pub const INHERIT: u64 = 1 << 1;
    /// `exclude_user`.
    pub const EXCLUDE_USER: u64 = 1 << 4;
    /// `exclude_kernel`.
    pub const EXCLUDE_KERNEL: u64 = 1 << 5;
    /// `mmap`: a record of each executable mapping.
    pub const MMAP: u64 = 1 << 8;
    /// `comm`: a record of each new name.
    pub const COMM: u64 = 1 << 9;
    /// `enable_on_exec`: on from the task's next exec on.
    pub const ENABLE_ON_EXEC: u64 = 1 << 12;
    /// `exclude_callchain_kernel`: callers of user space only.
    pub const EXCLUDE_CALLCHAIN_KERNEL: u64 = 1 << 21;
    /// `freq`: `sample_period` is a frequency in Hz.
    pub const FREQ: u64 = 1 << 10;
    /// `task`: a record of each fork and each end.
    pub const TASK: u64 = 1 << 13;
    /// `watermark`: `wakeup` counts bytes and not events.
    pub const WATERMARK: u64 = 1 << 14;
    /// `sample_id_all`: records that are no samples end with what samples have: the time.
    pub const SAMPLE_ID_ALL: u64 = 1 << 18;
    /// `mmap2`: records of mappings tell the file.
    pub const MMAP2: u64 = 1 << 23;
    /// `comm_exec`: records of names tell whether an exec gave them.
    pub const COMM_EXEC: u64 = 1 << 24;
    /// `use_clockid`: `clockid` selects the clock.
    pub const USE_CLOCKID: u64 = 1 << 25;
    /// `write_backward`: the buffer is filled from its end to its start, so that the newest record is found first (Linux 4.7).
    pub const WRITE_BACKWARD: u64 = 1 << 27;
    /// `sigtrap` and its neighbours are not used; the bit-fields end at bit 38 in Linux 6.18.
    pub(super) const _LAST: u64 = 1 << 38;
}

/// `struct perf_event_attr`, size `PERF_ATTR_SIZE_VER7` (128 bytes).
///
/// An older kernel takes it as long as what it does not know is zero. The bit-fields are one word here, laid out for
/// little-endian machines; a big-endian compiler numbers them from the other end, which `Attr::bits` accounts for.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Attr {
    /// `type`: one of the `PERF_TYPE_` values, or the number of a PMU in sysfs.
    pub kind: u32,
    size: u32,
    /// What is measured; the meaning depends on `kind`.
    pub config: u64,
    /// The period in events, or the frequency in Hz with [`flags::FREQ`].
    pub sample_period: u64,
    /// `PERF_SAMPLE_` bits.
    pub sample_type: u64,
    /// `PERF_FORMAT_` bits of what read(2) returns.
    pub read_format: u64,
    bits: u64,
    /// `wakeup_events`, or `wakeup_watermark` in bytes.
    pub wakeup: u32,
    /// `bp_type`.
    pub bp_type: u32,
    /// `config1`, `bp_addr`, or a pointer to a probe's name.
    pub config1: u64,
    /// `config2`, `bp_len`, or a probe's offset.
    pub config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    /// The clock of sample times, with [`flags::USE_CLOCKID`].
    pub clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    _reserved_2: u16,
    aux_sample_size: u32,
    _reserved_3: u32,
    sig_data: u64,
}

const _: () = assert!(size_of::<Attr>() == 128);

impl Attr {
    /// An attribute with everything else zero.
    pub fn new(kind: u32, config: u64) -> Attr {
        Attr { kind, size: size_of::<Attr>() as u32, config, ..Attr::default() }
    }

    /// Asks samples with [`PERF_SAMPLE_REGS_USER`] for these registers: bits of `enum perf_event_x86_regs` or
    /// `perf_event_arm_regs` (`arch/*/include/uapi/asm/perf_regs.h`).
    pub fn with_user_registers(mut self, mask: u64) -> Attr {
        self.sample_regs_user = mask;
        self
    }

    /// Sets bits of [`flags`].
    pub fn with_flags(mut self, flags: u64) -> Attr {
        debug_assert!(flags < flags::_LAST);
        self.bits |= if cfg!(target_endian = "big") { flags.reverse_bits() } else { flags };
        self
    }
}

/// A perf event.
#[derive(Debug)]
pub struct PerfEvent {
    fd: OwnedFd,
}

impl PerfEvent {
    /// `perf_event_open(2)`. `pid` -1 with `cpu` -1 is refused by the kernel; `pid` -1 means every process, `cpu` -1
    /// every CPU, `pid` 0 the caller.
    pub fn open(attr: &Attr, pid: i32, cpu: i32) -> Result<PerfEvent, Errno> {
        // SAFETY: `attr` is a live, fully initialised struct that states its own size; the kernel only reads it.
        let ret = unsafe {
            libc::syscall(libc::SYS_perf_event_open, std::ptr::from_ref(attr), pid, cpu, -1, PERF_FLAG_FD_CLOEXEC)
        };
        if ret < 0 {
            return Err(Errno::last());
        }
        // SAFETY: the call succeeded, so this is a new descriptor that nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(ret as RawFd) };
        Ok(PerfEvent { fd })
    }

    /// A tracepoint by its id, for every process. One CPU is enough: a BPF program on a tracepoint runs on all.
    ///
    /// The event is off, which its programs do not care about: they run for as long as it exists.
    pub fn tracepoint(id: u64) -> Result<PerfEvent, Errno> {
        PerfEvent::open(&Attr::new(PERF_TYPE_TRACEPOINT, id).with_flags(flags::DISABLED), -1, 0)
    }

    /// A kprobe at `function + offset` by the PMU `pmu` (Linux 4.17).
    pub fn kprobe(pmu: &ProbePmu, function: &CStr, offset: u64, on_return: bool) -> Result<PerfEvent, Errno> {
        let mut attr = Attr::new(pmu.kind, pmu.return_bit(on_return));
        attr.config1 = function.as_ptr() as u64;
        attr.config2 = offset;
        PerfEvent::open(&attr, -1, 0)
    }

    /// A uprobe at file offset `offset` of `path` by the PMU `pmu` (Linux 4.17), for one process or for all.
    ///
    /// `semaphore_offset` is the file offset of a 16-bit counter that the kernel raises in every process while the
    /// probe is there (`ref_ctr_offset`, Linux 4.20); zero for none. It must fit into 32 bits.
    pub fn uprobe(
        pmu: &ProbePmu,
        path: &CStr,
        offset: u64,
        on_return: bool,
        semaphore_offset: u64,
        pid: Option<u32>,
    ) -> Result<PerfEvent, Errno> {
        let semaphore = u32::try_from(semaphore_offset).map_err(|_| Errno::EINVAL)?;
        let mut attr = Attr::new(pmu.kind, pmu.return_bit(on_return) | u64::from(semaphore) << pmu.semaphore_shift);
        attr.config1 = path.as_ptr() as u64;
        attr.config2 = offset;
        match pid {
            // A probe of one process follows it to every CPU.
            Some(pid) => PerfEvent::open(&attr, i32::try_from(pid).map_err(|_| Errno::ESRCH)?, -1),
            None => PerfEvent::open(&attr, -1, 0),
        }
    }

    /// `PERF_EVENT_IOC_SET_BPF`: attaches a program without a link. It is detached when the event is closed.
    pub fn set_bpf(&self, program: BorrowedFd<'_>) -> Result<(), Errno> {
        self.ioctl(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd() as u64)
    }

    /// `PERF_EVENT_IOC_ENABLE`.
    pub fn enable(&self) -> Result<(), Errno> {
        self.ioctl(PERF_EVENT_IOC_ENABLE, 0)
    }

    /// `PERF_EVENT_IOC_SET_OUTPUT`: samples go to the buffer of `other`, an event on the same CPU.
    pub fn send_to(&self, other: &PerfEvent) -> Result<(), Errno> {
        self.ioctl(PERF_EVENT_IOC_SET_OUTPUT, other.fd.as_raw_fd() as u64)
    }

    /// `PERF_EVENT_IOC_ID`: the number by which samples name it; those that children inherit have the same.
    pub fn id(&self) -> Result<u64, Errno> {
        let mut id = 0u64;
        // SAFETY: the request writes one u64 to the address.
        let ret = unsafe {
            libc::syscall(libc::SYS_ioctl, self.fd.as_raw_fd(), PERF_EVENT_IOC_ID, std::ptr::from_mut(&mut id))
        };
        if ret < 0 { Err(Errno::last()) } else { Ok(id) }
    }

    /// `PERF_EVENT_IOC_DISABLE`.
    pub fn disable(&self) -> Result<(), Errno> {
        self.ioctl(PERF_EVENT_IOC_DISABLE, 0)
    }

    /// How many samples its buffer could not hold, from the start. The event must have been opened with
    /// [`PERF_FORMAT_LOST`] and no other `PERF_FORMAT_` bit.
    pub fn lost(&self) -> Result<u64, Errno> {
        // `{ u64 value; u64 lost; }`.
        let mut words = [0; 16];
        match rustix::io::read(&self.fd, &mut words)? {
            16 => Ok(u64::from_ne_bytes([
                words[8], words[9], words[10], words[11], words[12], words[13], words[14], words[15],
            ])),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Gives the descriptor away.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    fn ioctl(&self, request: u64, argument: u64) -> Result<(), Errno> {
        // SAFETY: the requests above take an integer, or nothing; no memory is passed.
        let ret = unsafe { libc::syscall(libc::SYS_ioctl, self.fd.as_raw_fd(), request, argument) };
        if ret < 0 {
            return Err(Errno::last());
        }
        Ok(())
    }
}

impl AsFd for PerfEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A PMU that makes probes: `kprobe` or `uprobe`, as sysfs describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbePmu {
    kind: u32,
    return_bit: u32,
    semaphore_shift: u32,
}

impl ProbePmu {
    /// Reads `/sys/bus/event_source/devices/NAME`. `ENOENT` if the kernel has no such PMU: without CONFIG_KPROBES there
    /// is no `kprobe`.
    pub fn find(name: &str) -> Result<ProbePmu, Errno> {
        let read = |file: &str| std::fs::read_to_string(format!("/sys/bus/event_source/devices/{name}/{file}"));
        let kind = read("type")?.trim().parse().map_err(|_| Errno::EINVAL)?;
        // `config:0`
        let return_bit = read("format/retprobe")
            .ok()
            .and_then(|text| text.trim().strip_prefix("config:")?.parse().ok())
            .unwrap_or(0);
        // `config:32-63`
        let semaphore_shift = read("format/ref_ctr_offset")
            .ok()
            .and_then(|text| {
                let range = text.trim().strip_prefix("config:")?;
                range.split('-').next()?.parse().ok()
            })
            .unwrap_or(32);
        if return_bit > 63 || semaphore_shift > 63 {
            return Err(Errno::EINVAL);
        }
        Ok(ProbePmu { kind, return_bit, semaphore_shift })
    }

    fn return_bit(&self, on_return: bool) -> u64 {
        u64::from(on_return) << self.return_bit
    }
}

/// The type number of any PMU in sysfs (`cpu`, `msr`, ..), for [`Attr::kind`].
pub fn pmu_type(name: &str) -> Result<u32, Errno> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Errno::ENOENT);
    }
    std::fs::read_to_string(format!("/sys/bus/event_source/devices/{name}/type"))?
        .trim()
        .parse()
        .map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_pmu_is_absent() {
        assert_eq!(pmu_type("no-such-pmu"), Err(Errno::ENOENT));
        assert_eq!(pmu_type("../devices/software"), Err(Errno::ENOENT));
        assert_eq!(pmu_type("software"), Ok(PERF_TYPE_SOFTWARE));
    }

    #[test]
    fn a_software_clock_can_be_opened_and_switched() {
        let attr = Attr::new(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK).with_flags(flags::DISABLED);
        let event = PerfEvent::open(&attr, 0, -1).unwrap();
        event.enable().unwrap();
        event.disable().unwrap();
    }
}
