//! Undoing what would outlive this process, however it ends.
//!
//! A `bpf_link` goes away with its last descriptor, so the kernel cleans up even after SIGKILL. A tc filter, an XDP
//! program set by netlink, a cgroup program without a link or a legacy kprobe event do not. For these a small child
//! process waits at the reading end of a pipe: when the owner dies, the kernel closes the writing end, the child sees
//! the end of file, makes the system calls that it was given beforehand, and exits. What a single thread does, such as to trace, ends with that thread, and
//! earlier: its child waits for a word, or follows the thread ([`ThreadGuard`]).
//!
//! # Safety
//! The child is forked from a process that may have threads, so it may only make system calls: no allocation, no lock,
//! no formatting. Everything it needs is prepared before the fork, and it leaves with `_exit(2)`. It closes every
//! descriptor but its own first, so that it keeps nothing else alive, and leaves the terminal's process group, so that
//! Ctrl-C reaches its owner and not it.

#![expect(unsafe_code, reason = "fork(2) and what its child does have no safe wrapper")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::errno::Errno;
use crate::last_stop;
use crate::patches::Patches;
use crate::robust::{RobustWord, Waiting};
use crate::tracees::Tracees;

/// One system call that takes something back.
#[derive(Debug)]
pub enum Undo<'a> {
    /// `write(2)`: a control file, or a netlink socket (where writing is sending).
    Write(BorrowedFd<'a>, Vec<u8>),
    /// A netlink request, unless one of the dumps lists something: a clsact qdisc is taken away only when no filter of
    /// another is on it.
    Netlink {
        /// The socket.
        socket: BorrowedFd<'a>,
        /// Dump requests; a message of type `listed` in an answer means that something is there.
        dumps: Vec<Vec<u8>>,
        /// The message type, such as `RTM_NEWTFILTER`.
        listed: u16,
        /// What is sent when nothing is there.
        request: Vec<u8>,
        /// The descriptors that the request mentions: the child keeps them.
        keep: Vec<BorrowedFd<'a>>,
    },
    /// `unlinkat(2)` of an empty folder below another: a trace instance.
    RemoveDir(BorrowedFd<'a>, CString),
    /// `bpf(2)` with a command and its `union bpf_attr`, in which descriptors of `keep` may be named.
    Bpf {
        /// The command number.
        command: u32,
        /// The attribute.
        attr: Vec<u8>,
        /// The descriptors that the attribute mentions: the child keeps them.
        keep: Vec<BorrowedFd<'a>>,
    },
    /// `pwrite(2)`: what a tracer changed in the memory of other processes.
    Restore(&'a Patches),
    /// ptrace(2): tasks with a filter that needs a tracer ([`seccomp`](crate::seccomp)) get the child for one, until they end. It must
    /// be the last one of the list.
    Trace(&'a Tracees),
}

impl Undo<'_> {
    fn traces(&self) -> bool {
        matches!(self, Undo::Trace(_))
    }

    fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Undo::Write(fd, _) | Undo::RemoveDir(fd, _) => vec![fd.as_raw_fd()],
            Undo::Netlink { socket, keep, .. } => {
                keep.iter().chain(std::iter::once(socket)).map(AsRawFd::as_raw_fd).collect()
            }
            Undo::Bpf { keep, .. } => keep.iter().map(AsRawFd::as_raw_fd).collect(),
            Undo::Restore(_) | Undo::Trace(_) => Vec::new(),
        }
    }
}

/// A child that runs the undo list when this process ends; see the module.
#[derive(Debug)]
pub struct Guard {
    pipe: OwnedFd,
}

impl Guard {
    /// Starts the child. The calls are made in order, each tried for up to a second while the kernel says `EBUSY`.
    pub fn spawn(undo: &[Undo<'_>]) -> Result<Guard, Errno> {
        Guard::fork(undo, undo.iter().flat_map(Undo::descriptors).collect())
    }

    /// Starts a child that has nothing to undo, but keeps descriptors open until it is [dismissed](Guard::dismiss) or this
    /// process ends: whoever closes them before does not close the last one, and so does not wait for what the kernel
    /// does then.
    pub fn keep(descriptors: &[BorrowedFd<'_>]) -> Result<Guard, Errno> {
        Guard::fork(&[], descriptors.iter().map(AsRawFd::as_raw_fd).collect())
    }

    fn fork(undo: &[Undo<'_>], mut keep: Vec<RawFd>) -> Result<Guard, Errno> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        keep.push(reader.as_raw_fd());
        fork(undo, keep, Until::Closed(reader.as_raw_fd()))?;
        Ok(Guard { pipe: writer })
    }

    /// Tells the child that everything was undone already: it closes what it holds and ends.
    pub fn dismiss(self) {
        // A child that has gone already cannot be told, and need not be.
        let _ = rustix::io::write(&self.pipe, b"x");
    }
}

/// Children that run undo lists when the thread that made this drops it or dies, in the very moment of that.
#[derive(Debug)]
pub struct ThreadGuard {
    word: RobustWord,
}

impl ThreadGuard {
    /// Starts a child, as [`Guard::spawn`] does.
    pub fn spawn(undo: &[Undo<'_>]) -> Result<ThreadGuard, Errno> {
        let guard = ThreadGuard { word: RobustWord::new()? };
        if undo.iter().any(Undo::traces) {
            last_stop::invite(&guard.word, || guard.also(undo))?;
        } else {
            guard.also(undo)?;
        }
        Ok(guard)
    }

    /// Starts another child, which does not wait for the others.
    pub fn also(&self, undo: &[Undo<'_>]) -> Result<(), Errno> {
        fork(undo, undo.iter().flat_map(Undo::descriptors).collect(), Until::Over(self.word.waiting()))
    }
}

/// What a child waits for.
#[derive(Clone, Copy, Debug)]
enum Until<'a> {
    /// The end of a pipe; a byte says that there is nothing to do.
    Closed(RawFd),
    /// The death of a thread.
    Over(Waiting<'a>),
}

fn fork(undo: &[Undo<'_>], mut keep: Vec<RawFd>, until: Until<'_>) -> Result<(), Errno> {
    keep.sort_unstable();
    keep.dedup();
    // SAFETY: the child only runs `child`, which makes system calls and does not return (see the module).
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => return Err(Errno::last()),
        0 => child(undo, &keep, until),
        _ => {}
    }
    // The child forks once more and exits, so that the guard is nobody's zombie.
    let mut status = 0;
    loop {
        // SAFETY: `status` is an `int` that lives until the call returns.
        let done = unsafe { libc::waitpid(pid, &mut status, 0) };
        let error = Errno::last();
        if done >= 0 || error != Errno::EINTR {
            break;
        }
    }
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 { Ok(()) } else { Err(Errno::EAGAIN) }
}

/// The child's life. Only system calls from here on.
fn child(undo: &[Undo<'_>], keep: &[RawFd], until: Until<'_>) -> ! {
    // SAFETY: no arguments; the child is alone and owns no state that a second fork could tear.
    let again = unsafe { libc::fork() };
    if again != 0 {
        exit(i32::from(again < 0));
    }
    if undo.iter().any(Undo::traces) {
        // It stays in the session of the tasks, which may need it there ([`crate::front::Tie`]).
        // SAFETY: numbers only.
        unsafe { libc::setpgid(0, 0) };
    } else {
        // SAFETY: no arguments. A new session has no terminal and no process group in common with the owner.
        unsafe { libc::setsid() };
    }
    // Who kills all that is called `skep` shall not leave behind what is to be undone then.
    // SAFETY: the name is a static C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"undo-guard".as_ptr()) };
    // Somebody may want to unmount the folder that the owner stood in.
    // SAFETY: the path is a static C string.
    unsafe { libc::chdir(c"/".as_ptr()) };
    close_all_but(keep);
    let mut last_stop = None;
    match until {
        Until::Over(word) if undo.iter().any(Undo::traces) => last_stop = last_stop::wait_for_end(word),
        Until::Over(word) => word.wait(),
        Until::Closed(pipe) => loop {
            let mut byte = 0u8;
            // SAFETY: one byte is read into one byte.
            let got = unsafe { libc::read(pipe, std::ptr::from_mut(&mut byte).cast(), 1) };
            match got {
                1 => exit(0), // dismissed
                0 => break,   // the owner is gone
                _ => {}       // interrupted
            }
        },
    }
    // On the stack, as nothing may be allocated; a dump's messages hold at most 32 KiB (`netlink_dump`).
    let mut buffer = [0u8; 32 << 10];
    for call in undo {
        for _ in 0..100 {
            let ret = match call {
                // SAFETY: the bytes were made before the fork and are not changed.
                Undo::Write(fd, bytes) => unsafe {
                    libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) as libc::c_long
                },
                Undo::Netlink { socket, dumps, listed, request, .. } => {
                    let fd = socket.as_raw_fd();
                    if dumps.iter().any(|dump| lists(fd, dump, *listed, &mut buffer)) {
                        break;
                    }
                    // SAFETY: as above.
                    unsafe { libc::write(fd, request.as_ptr().cast(), request.len()) as libc::c_long }
                }
                // SAFETY: as above; the path ends with a zero.
                Undo::RemoveDir(dir, path) => unsafe {
                    libc::unlinkat(dir.as_raw_fd(), path.as_ptr(), libc::AT_REMOVEDIR) as libc::c_long
                },
                // SAFETY: as above; bpf(2) reads `attr.len()` bytes of the attribute.
                Undo::Bpf { command, attr, .. } => unsafe {
                    libc::syscall(libc::SYS_bpf, *command, attr.as_ptr(), attr.len())
                },
                Undo::Restore(patches) => {
                    patches.take_back();
                    0
                }
                Undo::Trace(tracees) => {
                    tracees.inherit(last_stop.take());
                    0
                }
            };
            if ret >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EBUSY) {
                break;
            }
            let pause = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            // SAFETY: `pause` lives until the call returns; the remainder is not asked for.
            unsafe { libc::nanosleep(&pause, std::ptr::null_mut()) };
        }
    }
    exit(0)
}

/// Whether the answer to a dump has a message of a type. Answers to earlier requests are passed over.
fn lists(socket: RawFd, dump: &[u8], listed: u16, buffer: &mut [u8]) -> bool {
    const NLMSG_DONE: u16 = 3;
    // SAFETY: the bytes were made before the fork.
    unsafe { libc::write(socket, dump.as_ptr().cast(), dump.len()) };
    // A kernel that never says "done" must not hold the guard for ever.
    for _ in 0..1000 {
        // SAFETY: `buffer` is borrowed mutably and its length is passed.
        let got = unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
        let Some(mut rest) = usize::try_from(got).ok().and_then(|got| buffer.get(..got)) else { return false };
        while let Some(&[a, b, c, d, e, f, ..]) = rest.get(..16) {
            let kind = u16::from_ne_bytes([e, f]);
            if kind == listed {
                return true;
            }
            if kind == NLMSG_DONE {
                return false;
            }
            let len = u32::from_ne_bytes([a, b, c, d]) as usize;
            rest = rest.get(len.max(16).next_multiple_of(4)..).unwrap_or_default();
        }
    }
    false
}

/// Closes every descriptor outside the sorted list `keep`: the gaps between its entries (close_range, Linux 5.9).
fn close_all_but(keep: &[RawFd]) {
    let mut first: u32 = 0;
    for &fd in keep {
        let fd = fd as u32;
        if fd > first {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: this process is the guard, which uses no descriptor outside its list.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

fn exit(code: i32) -> ! {
    // SAFETY: leaves at once, without handlers, which belong to the owner.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    use rustix::pipe::PipeFlags;

    /// Runs a guard with one write into a pipe and gives back what arrived until all writers were gone.
    fn outcome(end: impl FnOnce(Guard)) -> Vec<u8> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let guard = Guard::spawn(&[Undo::Write(writer.as_fd(), b"undone".to_vec())]).unwrap();
        drop(writer);
        end(guard);
        let mut bytes = Vec::new();
        std::fs::File::from(reader).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_undo_happens_when_the_owner_ends() {
        assert_eq!(outcome(drop), b"undone");
    }

    #[test]
    fn kept_descriptors_are_closed_at_dismissal() {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let (other_reader, other) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let guard = Guard::keep(&[writer.as_fd()]).unwrap();
        drop((writer, other));
        // The end of this one comes when the helper has closed what it was not given.
        assert_eq!(rustix::io::read(&other_reader, &mut [0u8; 1]), Ok(0));
        // Nothing to read, but no end either: somebody still holds the other end.
        assert_eq!(rustix::io::read(&reader, &mut [0u8; 1]), Err(rustix::io::Errno::AGAIN));
        guard.dismiss();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while rustix::io::read(&reader, &mut [0u8; 1]) != Ok(0) {
            assert!(std::time::Instant::now() < end, "the helper still holds it");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// What arrives when a thread ends that has two children, while its process lives on.
    fn outcome_of_thread(end: impl FnOnce(ThreadGuard) + Send + 'static) -> Vec<u8> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let thread = std::thread::spawn(move || {
            let undo = [Undo::Write(writer.as_fd(), b"undone".to_vec())];
            let guard = ThreadGuard::spawn(&undo).unwrap();
            guard.also(&undo).unwrap();
            end(guard);
        });
        thread.join().unwrap();
        let mut bytes = Vec::new();
        std::fs::File::from(reader).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_undo_happens_when_a_thread_ends() {
        assert_eq!(outcome_of_thread(drop), b"undoneundone");
        // As if it was killed: nothing of its own happens any more.
        assert_eq!(outcome_of_thread(std::mem::forget), b"undoneundone");
    }

    #[test]
    fn a_dismissed_guard_does_nothing() {
        assert_eq!(outcome(Guard::dismiss), b"");
    }
}
