//! Running loader programs, which make descriptors for the process that runs them.
//!
//! A `syscall` program opens and closes descriptors of the task that runs it by their bare numbers: `bpf_sys_bpf` and
//! `bpf_sys_close` (kernel/bpf/syscall.c, 6.18). What it says about them is an allegation: its file may come from anybody, and
//! other threads open files meanwhile. So it runs on a thread that has a table of descriptors of its own, a copy of the
//! process's: it can neither close nor hand out what the process has open, and whatever is new in that table, it made. That
//! comes over through a socket.
//!
//! # Safety
//!
//! A number is borrowed as a descriptor only on that thread, after it was found to be open there. Nothing on the thread closes
//! any before the table ends with it.
#![expect(unsafe_code, reason = "borrows descriptors that another program made, by their numbers")]

use std::collections::HashSet;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown, socketpair,
};

use super::{Log, ProgFd, addr_mut, len};
use crate::Errno;

/// What a loader program made ([`ProgFd::run_loader`]).
#[derive(Debug)]
pub struct LoaderRun {
    /// What the program returned: 0, or the negative number of an error.
    pub retval: i32,
    /// The descriptors that it left in its context, by their places.
    pub fds: Vec<Option<OwnedFd>>,
}

impl ProgFd {
    /// Runs a `syscall` program that makes descriptors and leaves their numbers in its context, as 32-bit numbers from `fds_at`
    /// to the end; -1 is none. Only what the program itself made is taken over, and what it closes is closed for itself alone. At
    /// `log_at` the program reads where a verifier's log goes: level, size and address; without `log` all are 0.
    ///
    /// # Errors
    ///
    /// When the kernel does not run the program, there is no `/proc`, or no thread, socket or descriptor is left for it.
    pub fn run_loader(
        &self,
        ctx: &mut [u8],
        log_at: usize,
        fds_at: usize,
        log: Option<Log<'_>>,
    ) -> Result<LoaderRun, Errno> {
        // The log is borrowed until the run is over.
        if let Some(log) = log {
            let place = ctx.get_mut(log_at..log_at + 16).ok_or(Errno::EINVAL)?;
            place[..4].copy_from_slice(&log.level.0.to_ne_bytes());
            place[4..8].copy_from_slice(&len(log.buf)?.to_ne_bytes());
            place[8..].copy_from_slice(&addr_mut(log.buf).to_ne_bytes());
        }
        let mut fds = Vec::new();
        fds.resize_with(ctx.get(fds_at..).unwrap_or_default().len() / 4, || None);
        let (to, from) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let retval = std::thread::scope(|scope| {
            let running = std::thread::Builder::new().spawn_scoped(scope, || {
                // The other end hears of the end even if this thread dies of a panic.
                let to = Ending(to.as_fd());
                self.run_apart(ctx, fds_at, to.0)
            })?;
            let received = receive(from.as_fd(), &mut fds);
            // Nobody takes what is still sent.
            let _ = shutdown(&from, Shutdown::Both);
            let retval = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            received.and(retval)
        })?;
        Ok(LoaderRun { retval, fds })
    }

    /// On a thread of its own: runs the program there, and sends what it made.
    fn run_apart(&self, ctx: &mut [u8], fds_at: usize, to: BorrowedFd<'_>) -> Result<i32, Errno> {
        // SAFETY: this thread alone gets the copy, in which every descriptor keeps its number until the thread ends; it closes
        // none that others lent it.
        if unsafe { libc::unshare(libc::CLONE_FILES) } < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        let is_open = |number: i32| std::path::Path::new(&format!("/proc/thread-self/fd/{number}")).is_symlink();
        let listed: Vec<i32> = std::fs::read_dir("/proc/thread-self/fd")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        // The list was read through a descriptor that stands in it, and is closed now.
        let before: HashSet<i32> = listed.into_iter().filter(|&number| is_open(number)).collect();
        let retval = self.run_syscall(ctx)? as i32;
        let mut taken = HashSet::new();
        for (place, number) in (0u32..).zip(ctx.get(fds_at..).unwrap_or_default().as_chunks::<4>().0) {
            let number = i32::from_ne_bytes(*number);
            if number < 0 || before.contains(&number) || !is_open(number) || !taken.insert(number) {
                continue;
            }
            // SAFETY: it is open in this thread's table, where nothing else opens or closes any.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [fd];
            control.push(SendAncillaryMessage::ScmRights(&fds));
            sendmsg(to, &[IoSlice::new(&place.to_ne_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(retval)
    }
}

/// The writing end of the socket.
struct Ending<'a>(BorrowedFd<'a>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let _ = shutdown(self.0, Shutdown::Write);
    }
}

/// Takes descriptors to their places until the other end has no more.
fn receive(from: BorrowedFd<'_>, fds: &mut [Option<OwnedFd>]) -> Result<(), Errno> {
    loop {
        let mut place = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut room = [IoSliceMut::new(&mut place)];
        match recvmsg(from, &mut room, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes == 0 => return Ok(()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let received = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut all) => all.next(),
            _ => None,
        });
        // The kernel leaves out what this process has no number for.
        let fd = received.ok_or(Errno::EMFILE)?;
        *fds.get_mut(u32::from_ne_bytes(place) as usize).ok_or(Errno::EINVAL)? = Some(fd);
    }
}
