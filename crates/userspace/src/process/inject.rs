//! A system call that a stopped task makes for us.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use skep_sys::ptrace::{self, Stop, SyscallInfo, Wait};
use skep_sys::{Errno, syscalls};

use super::registers::{CALL_ARGS, Reg, Registers};
use super::way_back::WayBack;
use super::{mappings, procfs};

/// The instruction `syscall`.
pub(super) const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// SIGKILL cannot be held back; SIGSTOP is sent again later.
const NO_SIGNALS: u64 = !0;

/// What a call is answered with that may not be made.
const SIGSYS: i32 = 31;

/// Why a call was not made.
#[derive(Debug)]
pub(super) enum Failed {
    /// The kernel said no, to the call or to us.
    Refused,
    /// The task is about to end or has ended: what was heard of it.
    Gone(Wait),
}

impl From<Errno> for Failed {
    fn from(_: Errno) -> Failed {
        Failed::Refused
    }
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Failed {
        Failed::Refused
    }
}

/// The number of a system call.
pub(super) fn number(name: &str) -> u32 {
    syscalls::all().find(|(_, it)| *it == name).map_or(u32::MAX, |(nr, _)| nr)
}

/// Whether a task may make calls that its own program would not: not one that has rules of its own for them (seccomp(2)), which may kill it
/// for a call that we meant. Ours, where it has one, and those that we have ourselves are known to allow it.
pub(super) fn is_safe(tid: u32, filtered: bool) -> bool {
    const STRICT: u32 = 1;
    /// How many there are; kernels before 5.9 do not tell.
    const FILTERS: &str = "Seccomp_filters:";
    /// Ours were there when we started.
    static OURS: LazyLock<u32> = LazyLock::new(|| procfs::status_number("self", FILTERS).unwrap_or(0));
    let Some(status) = procfs::Status::read(tid) else { return false };
    status.number("Seccomp:") != Some(STRICT)
        && status.number(FILTERS).is_none_or(|theirs| theirs <= *OURS + u32::from(filtered))
}

/// Whether some code is there.
pub(super) fn is_at<const LEN: usize>(tid: u32, addr: u64, code: [u8; LEN]) -> bool {
    let mut bytes = [0; LEN];
    ptrace::read_memory(tid, addr, &mut bytes) == Ok(LEN) && bytes == code
}

/// Where the instruction is, in some bytes of memory from `start` on.
pub(super) fn find(tid: u32, start: u64, len: u64) -> Option<u64> {
    let mut bytes = vec![0; usize::try_from(len).ok()?.min(1 << 20)];
    let read = ptrace::read_memory(tid, start, &mut bytes).ok()?;
    let at = bytes[..read].windows(2).position(|pair| pair == SYSCALL)?;
    Some(start + at as u64)
}

/// What a task makes a call with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The instruction at an address. If we die meanwhile, the task goes on in the middle of somebody's code.
    Somewhere(u64),
    /// Code of ours, from which it finds back by itself.
    Ours(WayBack),
}

/// Lets a task make a system call, and puts everything back. It is stopped before and after.
///
/// # Errors
///
/// Those of the call, and the task's end.
pub(super) fn call(pid: u32, tid: u32, from: Source, nr: u32, args: [u64; 6]) -> Result<u64, Failed> {
    let (before, mask) = lead_to(pid, tid, from, nr, args)?;
    let mut kept = Vec::new();
    let ret = made(tid, &mut kept);
    let back = if matches!(ret, Err(Failed::Gone(_))) { Ok(()) } else { put_back(tid, &before, mask, &mut kept) };
    for signal in kept {
        let _ = ptrace::send_signal(pid, tid, signal);
    }
    back?;
    match ret? {
        -4095..=-1 => Err(Failed::Refused),
        ret => Ok(ret as u64),
    }
}

/// Leads a task to a call; what has to be put back behind it.
fn lead_to(pid: u32, tid: u32, from: Source, nr: u32, args: [u64; 6]) -> Result<(Registers, u64), Failed> {
    let before = Registers::of(tid)?;
    let mask = ptrace::signal_mask(tid)?;
    let mut during = before.clone();
    let from = match from {
        Source::Somewhere(from) => from,
        Source::Ours(way) => {
            let frame = way.frame_of(tid, &before, mask).ok_or(Failed::Refused)?;
            mappings::memory_of(pid)?.write_all_at(&frame, way.frame)?;
            during.put(Reg::Rsp, way.frame);
            way.code
        }
    };
    for (place, arg) in CALL_ARGS.into_iter().zip(args) {
        during.put(place, arg);
    }
    during.put(Reg::Rax, nr.into());
    // It is in no call that would have to start again.
    during.put(Reg::OrigRax, u64::MAX);
    during.put(Reg::Rip, from);
    // A signal that it was stopped with would find a stack that nobody can write to; where it goes on without, it is behind what brought that.
    ptrace::take_stop(tid);
    // In this order: the registers lead to what puts the signals back too.
    during.set(tid)?;
    ptrace::set_signal_mask(tid, NO_SIGNALS)?;
    Ok((before, mask))
}

/// The value of the call, at its end.
fn made(tid: u32, kept: &mut Vec<i32>) -> Result<i64, Failed> {
    let mut started = false;
    loop {
        ptrace::resume_to_syscall(tid, 0)?;
        match ptrace::wait_for(tid)? {
            Wait::Stopped { stop: Stop::Syscall | Stop::Seccomp, .. } => match ptrace::syscall_info(tid)? {
                SyscallInfo::Entry { .. } => started = true,
                SyscallInfo::Exit { ret, .. } if started => return Ok(ret),
                _ => {}
            },
            // The call was taken for one of the program's, which wants to make its calls by itself (syscall user dispatch).
            Wait::Stopped { stop: Stop::Signal(SIGSYS), .. } if !started => return Err(Failed::Refused),
            Wait::Stopped { stop: Stop::Signal(signal), .. } => kept.push(signal),
            gone @ (Wait::Stopped { stop: Stop::Ending, .. } | Wait::Ended { .. }) => return Err(Failed::Gone(gone)),
            Wait::Stopped { .. } | Wait::Nothing => {}
        }
    }
}

/// Puts registers and signals back. A call that was interrupted starts again only behind a stop like the one that it was interrupted by.
fn put_back(tid: u32, before: &Registers, mask: u64, kept: &mut Vec<i32>) -> Result<(), Failed> {
    if before.starts_a_call_again() {
        ptrace::interrupt(tid)?;
        loop {
            ptrace::resume(tid, 0)?;
            match ptrace::wait_for(tid)? {
                Wait::Stopped { stop: Stop::Trap | Stop::Job, .. } => break,
                Wait::Stopped { stop: Stop::Signal(signal), .. } => kept.push(signal),
                gone @ (Wait::Stopped { stop: Stop::Ending, .. } | Wait::Ended { .. }) => {
                    return Err(Failed::Gone(gone));
                }
                Wait::Stopped { .. } | Wait::Nothing => {}
            }
        }
    }
    ptrace::set_signal_mask(tid, mask)?;
    Ok(before.set(tid)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::process::way_back;

    /// How far a task has come with a call when its tracer dies.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Moment {
        Before,
        AtEntry,
        AtEnd,
    }

    const MOMENTS: [Moment; 3] = [Moment::Before, Moment::AtEntry, Moment::AtEnd];

    fn start(program: &str, args: &[&str]) -> Child {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("every machine has it")
    }

    /// Lets a process begin a call, and leaves it as a tracer's death does.
    fn leave(tid: u32, way: &mut Option<WayBack>, moment: Moment) -> bool {
        let stops_next = || match ptrace::wait_for(tid) {
            Ok(Wait::Stopped { stop, .. }) => Some(stop),
            _ => None,
        };
        if ptrace::seize(tid, false).is_err() || ptrace::interrupt(tid).is_err() || stops_next() != Some(Stop::Trap) {
            return false;
        }
        let way = way.get_or_insert_with(|| {
            let way = WayBack::without_area(tid, &mappings::read(tid)).expect("there is a place");
            mappings::memory_of(tid).and_then(|memory| memory.write_all_at(&way_back::CODE, way.code)).unwrap();
            way
        });
        // The frame is below the stack of now.
        let here = WayBack::new(way.code, Registers::of(tid).unwrap().get(Reg::Rsp) - 2 * way_back::FRAME_BYTES);
        lead_to(tid, tid, Source::Ours(here), number("getppid"), [0; 6]).unwrap();
        let calls = MOMENTS.iter().position(|it| *it == moment).expect("it is one of them");
        for _ in 0..calls {
            ptrace::resume_to_syscall(tid, 0).unwrap();
            assert_eq!(stops_next(), Some(Stop::Syscall));
        }
        ptrace::detach(tid, 0).unwrap();
        true
    }

    /// The signals that the first thread of a process holds back.
    fn held_back_by(pid: u32) -> String {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
        status.lines().find(|line| line.starts_with("SigBlk:")).expect("there is one").to_owned()
    }

    fn output(mut child: Child) -> (Option<i32>, String) {
        let mut text = String::new();
        child.stdout.take().expect("it is piped").read_to_string(&mut text).unwrap();
        (child.wait().unwrap().code(), text)
    }

    #[test]
    fn who_computes_finds_back() {
        let sum = "BEGIN { for (n = 0; n < 2000000; n++) s += n * 1.5 / (n + 3); printf \"%.6f\", s }";
        let alone = output(start("awk", &[sum]));
        assert_eq!(alone.0, Some(0));
        for moment in MOMENTS {
            let child = start("awk", &[sum]);
            std::thread::sleep(Duration::from_millis(10));
            let mut way = None;
            let left = (0..200).take_while(|_| leave(child.id(), &mut way, moment)).count();
            assert_eq!(output(child), alone, "{moment:?} {left}");
            assert!(left > 3, "{left}");
        }
    }

    #[test]
    fn who_waits_in_a_call_waits_on() {
        for moment in MOMENTS {
            let mut reader = start("cat", &[]);
            let sleeper = start("sleep", &["0.2"]);
            std::thread::sleep(Duration::from_millis(20));
            for child in [&reader, &sleeper] {
                let mut way = None;
                let held_back = held_back_by(child.id());
                for _ in 0..5 {
                    assert!(leave(child.id(), &mut way, moment));
                }
                let end = std::time::Instant::now() + Duration::from_secs(60);
                while held_back_by(child.id()) != held_back {
                    assert!(std::time::Instant::now() < end, "{moment:?}: signals stay held back");
                }
            }
            reader.stdin.take().expect("it is piped").write_all(b"on").unwrap();
            assert_eq!(output(reader), (Some(0), "on".to_owned()), "{moment:?}");
            assert_eq!(output(sleeper), (Some(0), String::new()), "{moment:?}");
        }
    }
}
