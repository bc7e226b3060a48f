//! A command that is started, but waits for a word before it runs.
//!
//! Probes are attached between fork and exec, so that the command is seen from its first instruction.
//!
//! # Safety
//!
//! Between fork and exec only async-signal-safe calls are made (read(2), prctl(2), sigprocmask through libc).
#![expect(unsafe_code, reason = "a step between fork and exec")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::pipe::{PipeFlags, pipe_with};

/// A child that waits before its exec.
#[derive(Debug)]
pub struct HeldChild {
    spawner: std::thread::JoinHandle<io::Result<Child>>,
    go: OwnedFd,
    pid: u32,
}

impl HeldChild {
    /// Forks for `command`. The child stays before its exec until [`HeldChild::release`], and ends with us if we die first.
    pub fn spawn(mut command: Command) -> io::Result<HeldChild> {
        let (wait, go) = pipe_with(PipeFlags::CLOEXEC)?;
        let (pid_in, pid_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (wait_fd, go_fd, pid_fd) = (wait.as_raw_fd(), go.as_raw_fd(), pid_out.as_raw_fd());
        let hold = move || -> io::Result<()> {
            // SAFETY: getpid(2) has no preconditions.
            let pid = unsafe { libc::getpid() }.to_ne_bytes();
            // SAFETY: four bytes of our own.
            unsafe { libc::write(pid_fd, pid.as_ptr().cast(), pid.len()) };
            // Our copy of the write end has to go, or the parent's death would never end the wait.
            // SAFETY: the descriptor is the child's own copy and nobody uses it afterwards.
            unsafe { libc::close(go_fd) };
            let mut byte = 0u8;
            // SAFETY: one byte into our own variable.
            match unsafe { libc::read(wait_fd, std::ptr::from_mut(&mut byte).cast(), 1) } {
                1 => Ok(()),
                _ => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            }
        };
        // SAFETY: `hold` allocates nothing and makes only async-signal-safe calls.
        unsafe { command.pre_exec(hold) };
        // `Command::spawn` returns only after the exec, so it waits on a thread of its own.
        let spawner = std::thread::spawn(move || {
            let child = command.spawn();
            drop((wait, pid_out));
            child
        });
        let mut pid = [0u8; 4];
        let read = rustix::io::read(&pid_in, &mut pid)?;
        if read != pid.len() {
            let error = match spawner.join() {
                Ok(Err(error)) => error,
                _ => io::Error::other("the command could not be forked"),
            };
            return Err(error);
        }
        Ok(HeldChild { spawner, go, pid: u32::from_ne_bytes(pid) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it run.
    ///
    /// # Errors
    ///
    /// When the command could not be executed: not found, no permission.
    pub fn release(self) -> io::Result<Child> {
        rustix::io::write(&self.go, &[1])?;
        self.spawner.join().map_err(|_| io::Error::other("the thread that starts the command panicked"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_child_runs_only_after_its_release() {
        let dir = std::env::temp_dir().join(format!("skep-held-{}", std::process::id()));
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!(": > {}", dir.display()));
        let held = HeldChild::spawn(command).unwrap();
        let pid = held.pid();
        // It sleeps where it waits for the word: whatever it was going to do before that is done.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") S ") {
            assert!(std::time::Instant::now() < end, "it does not wait");
            std::thread::yield_now();
        }
        assert!(!dir.exists());
        let mut child = held.release().unwrap();
        assert_eq!(child.id(), pid);
        assert!(child.wait().unwrap().success());
        assert!(dir.exists());
        std::fs::remove_file(dir).unwrap();
    }

    #[test]
    fn a_command_that_is_not_there_is_an_error_at_release() {
        let held = HeldChild::spawn(Command::new("/nonexistent/command")).unwrap();
        assert_eq!(held.release().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
