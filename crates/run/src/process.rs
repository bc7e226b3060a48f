//! The only process that a run watches.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use crate::Error;

/// Becomes readable when the process has ended; `None` before kernel 5.3, where it is asked once a second.
pub(crate) fn pidfd(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok()
}

/// Whether the process of a descriptor has ended.
pub(crate) fn is_over(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&rustix::time::Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A process whose end ends the run.
#[derive(Debug)]
pub(crate) struct Watched {
    pid: Pid,
    /// Readable once it has ended; `None` before kernel 5.3.
    fd: Option<OwnedFd>,
}

impl Watched {
    /// Takes hold of the process `pid`.
    ///
    /// # Errors
    ///
    /// When there is no such process, or the number is that of a thread: programs are told the process's.
    pub(crate) fn open(pid: u32) -> Result<Watched, Error> {
        let absent = || Error::new(format!("there is no process {pid}"));
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(absent)?;
        if test_kill_process(number) == Err(Errno::SRCH) {
            return Err(absent());
        }
        // Where /proc is not to be seen, the number is taken as it is.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse::<u32>().ok());
        if let Some(leader) = leader.filter(|leader| *leader != pid) {
            return Err(Error::new(format!("{pid} is a thread of process {leader}"))
                .with_hint(format!("name the process: `-p {leader}`")));
        }
        match pidfd_open(number, PidfdFlags::empty()) {
            Err(Errno::SRCH) => Err(absent()),
            fd => Ok(Watched { pid: number, fd: fd.ok() }),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid() as u32
    }

    /// Becomes readable when it ends; `None` where it has to be asked.
    pub(crate) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    pub(crate) fn ended(&self) -> bool {
        match &self.fd {
            Some(fd) => is_over(fd),
            None => test_kill_process(self.pid) == Err(Errno::SRCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_or_only_a_thread_is_refused() {
        assert!(!Watched::open(std::process::id()).unwrap().ended());
        for absent in [0, u32::MAX, i32::MAX as u32] {
            assert_eq!(Watched::open(absent).unwrap_err().to_string(), format!("there is no process {absent}"));
        }
        let thread =
            std::thread::spawn(|| Watched::open(rustix::thread::gettid().as_raw_nonzero().get() as u32).map(drop));
        let error = thread.join().unwrap().unwrap_err();
        assert!(error.to_string().ends_with(&format!(" is a thread of process {}", std::process::id())), "{error}");
    }

    #[test]
    fn a_process_has_ended_when_nobody_has_waited_for_it_too() {
        let mut child = std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let watched = Watched::open(child.id()).unwrap();
        assert!(!watched.ended());
        drop(child.stdin.take());
        if let Some(fd) = watched.fd() {
            poll(&mut [PollFd::new(fd, PollFlags::IN)], None).unwrap();
            assert!(watched.ended());
        }
        child.wait().unwrap();
        assert!(watched.ended());
    }
}
