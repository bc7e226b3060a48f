//! A command that is started, but waits for a word before it runs.
//!
//! Probes are attached between fork and exec, so that the command is seen from its first instruction.
//!
//! # Safety
//!
//! Between fork and exec only async-signal-safe calls are made (read(2), prctl(2), seccomp(2), execve(2), sigprocmask through libc).
#![expect(unsafe_code, reason = "a step between fork and exec")]

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::seccomp::{Filter, Room};

/// What a child is told: to run; to stop for its tracer first; to take the filter that follows first.
const WITHOUT_WORDS: u8 = 1;
const TELLING: u8 = 2;
const FILTERED: u8 = 3;

/// A child that waits before its exec.
#[derive(Debug)]
pub struct HeldChild {
    /// `None` once it was joined.
    spawner: Option<std::thread::JoinHandle<io::Result<Child>>>,
    go: OwnedFd,
    /// Says why the exec failed, and ends without a word when it did not.
    failure: OwnedFd,
    is_traced: bool,
    pid: u32,
}

impl HeldChild {
    /// Forks for `command`. The child stays before its exec until [`HeldChild::release`], and ends with us if we die first.
    ///
    /// # Errors
    ///
    /// When there are no pipes or no process.
    pub fn spawn(command: Command) -> io::Result<HeldChild> {
        HeldChild::fork(command, None)
    }

    /// As [`HeldChild::spawn`], for a child that must have a tracer by the time when it is
    /// [released with a filter](HeldChild::release_filtered).
    ///
    /// # Errors
    ///
    /// As those of [`HeldChild::spawn`].
    pub fn spawn_traced(command: Command) -> io::Result<HeldChild> {
        HeldChild::fork(command, Some(Room::new()))
    }

    fn fork(mut command: Command, mut room: Option<Room>) -> io::Result<HeldChild> {
        let (wait, go) = pipe_with(PipeFlags::CLOEXEC)?;
        let (pid_in, pid_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (failure, failure_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (wait_fd, go_fd, pid_fd) = (wait.as_raw_fd(), go.as_raw_fd(), pid_out.as_raw_fd());
        let failure_fd = failure_out.as_raw_fd();
        let image = Image::of(&command)?;
        let is_traced = room.is_some();
        let hold = move || -> io::Result<()> {
            // SAFETY: getpid(2) has no preconditions.
            let pid = unsafe { libc::getpid() }.to_ne_bytes();
            // SAFETY: four bytes of our own.
            unsafe { libc::write(pid_fd, pid.as_ptr().cast(), pid.len()) };
            // Our copy of the write end has to go, or the parent's death would never end the wait.
            // SAFETY: the descriptor is the child's own copy and nobody uses it afterwards.
            unsafe { libc::close(go_fd) };
            let (mut byte, mut filtered) = (0u8, false);
            // SAFETY: one byte into our own variable.
            match unsafe { libc::read(wait_fd, std::ptr::from_mut(&mut byte).cast(), 1) } {
                1 if byte == WITHOUT_WORDS => {}
                1 if byte == TELLING => {
                    // SAFETY: raise(3) with a number. A tracer is stopped by it; without one nothing happens, since nothing handles it.
                    unsafe { libc::raise(libc::SIGURG) };
                }
                1 => filtered = true,
                // SAFETY: leaves at once, see below. With an error the standard library would tell the parent, which may be dead, and
                // call that a bug of its own on the user's terminal.
                _ => unsafe { libc::_exit(127) },
            }
            let mut read = |bytes: &mut [u8]| read_all(wait_fd, bytes);
            let failure = match room.as_mut().filter(|_| filtered).map_or(Ok(()), |room| room.install(&mut read)) {
                Ok(()) => image.exec(),
                Err(error) => error,
            };
            let errno = failure.raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes();
            // SAFETY: four bytes of our own.
            unsafe { libc::write(failure_fd, errno.as_ptr().cast(), errno.len()) };
            // SAFETY: leaves at once, without the handlers of our parent. Returning the error would make the standard library wait for the
            // child, and a tracer's stops are reported to whoever waits first.
            unsafe { libc::_exit(127) }
        };
        crate::front::join_job(&mut command);
        // SAFETY: `hold` allocates nothing and makes only async-signal-safe calls.
        unsafe { command.pre_exec(hold) };
        // `Command::spawn` returns only after the exec, so it waits on a thread of its own.
        let spawner = std::thread::spawn(move || {
            let child = command.spawn();
            drop((wait, pid_out, failure_out));
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
        Ok(HeldChild { spawner: Some(spawner), go, failure, is_traced, pid: u32::from_ne_bytes(pid) })
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
        self.go(&[WITHOUT_WORDS])
    }

    /// Lets a traced child run, with a filter that it puts on itself first.
    ///
    /// # Errors
    ///
    /// As those of [`HeldChild::release`], and when the kernel does not take the filter.
    pub fn release_filtered(self, filter: &Filter) -> io::Result<Child> {
        let mut word = vec![FILTERED];
        word.extend(filter.bytes());
        self.go(&word)
    }

    /// Lets a traced child run, which stops for its tracer with SIGURG first.
    ///
    /// # Errors
    ///
    /// As those of [`HeldChild::release`].
    pub fn release_telling(self) -> io::Result<Child> {
        self.go(&[TELLING])
    }

    fn go(mut self, mut word: &[u8]) -> io::Result<Child> {
        while !word.is_empty() {
            let wrote = rustix::io::retry_on_intr(|| rustix::io::write(&self.go, word))?;
            word = &word[wrote..];
        }
        let mut child = self.join()?;
        let mut errno = [0; 4];
        if rustix::io::retry_on_intr(|| rustix::io::read(&self.failure, &mut errno))? == errno.len() {
            // A tracer hears of the end of its tracee, and there is one end only.
            if !self.is_traced {
                child.wait()?;
            }
            return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)));
        }
        Ok(child)
    }

    /// The child, once it went its way.
    fn join(&mut self) -> io::Result<Child> {
        let spawned = self.spawner.take().map(std::thread::JoinHandle::join);
        spawned.and_then(Result::ok).ok_or_else(|| io::Error::other("the thread that starts the command panicked"))?
    }
}

/// A child that was not released ends, and leaves no zombie. That of a tracer is the tracer's to bury.
impl Drop for HeldChild {
    fn drop(&mut self) {
        if self.is_traced || self.spawner.is_none() {
            return;
        }
        // Not by the end of the pipe alone: another child that is held may have a copy of our end of it.
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if let Ok(mut child) = self.join() {
            let _ = child.wait();
        }
    }
}

/// Lets a command be killed when the thread that starts it ends, and with it when this process dies (`PR_SET_PDEATHSIG`).
pub fn end_with_parent(command: &mut Command) {
    let ask = || {
        // SAFETY: prctl(2) with numbers only.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: `ask` makes one system call.
    unsafe { command.pre_exec(ask) };
}

/// Fills `bytes` from a descriptor; between fork and exec.
fn read_all(fd: i32, bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        // SAFETY: read(2) writes at most the length of `rest` to it.
        match unsafe { libc::read(fd, rest.as_mut_ptr().cast(), rest.len()) } {
            0 => return Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            got @ 1.. => done += got as usize,
            _ => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EINTR) {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// What exec is given, made before the fork.
struct Image {
    /// Where the program was found in `$PATH`, so that one exec is enough; `None` leaves the search to exec.
    found: Option<CString>,
    /// Words with their zeros, and their addresses with a null at the end.
    words: Vec<CString>,
    args: Vec<*const c_char>,
    vars: Vec<CString>,
    /// Empty: the environment as it is.
    env: Vec<*const c_char>,
}

// SAFETY: the addresses are those of the strings beside them, which nobody changes.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    fn of(command: &Command) -> io::Result<Image> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| Ok(CString::new(word.as_bytes())?)).collect::<io::Result<Vec<CString>>>()?;
        let mut vars = Vec::new();
        if command.get_envs().next().is_some() {
            let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => env.insert(name.to_owned(), value.to_owned()),
                    None => env.remove(name),
                };
            }
            for (name, value) in env {
                vars.push(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?);
            }
        }
        let addresses = |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Image {
            found: search(command.get_program()),
            args: addresses(&words),
            env: if vars.is_empty() { Vec::new() } else { addresses(&vars) },
            words,
            vars,
        })
    }

    /// Becomes the program, which is looked for in `$PATH`, or says why not.
    fn exec(&self) -> io::Error {
        if let Some(found) = &self.found {
            let env = if self.env.is_empty() { environ() } else { self.env.as_ptr() };
            // SAFETY: nulls end both lists of strings, which live as long as `self` and the process.
            unsafe { libc::execve(found.as_ptr(), self.args.as_ptr(), env) };
        }
        // Another user than the one that has searched may find it elsewhere.
        debug_assert!(self.args.len() == self.words.len() + 1 && self.env.len().saturating_sub(1) == self.vars.len());
        if self.env.is_empty() {
            // SAFETY: a null ends the list of strings, which live as long as `self`.
            unsafe { libc::execvp(self.args[0], self.args.as_ptr()) };
        } else {
            // SAFETY: as above, for both lists.
            unsafe { libc::execvpe(self.args[0], self.args.as_ptr(), self.env.as_ptr()) };
        }
        io::Error::last_os_error()
    }
}

/// The first file in `$PATH` that we may execute; `None` for a name that is a path already, and when there is none.
fn search(program: &OsStr) -> Option<CString> {
    if program.as_bytes().contains(&b'/') {
        return None;
    }
    let folders = std::env::var_os("PATH")?;
    let is_program = |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(program)).find(is_program)?;
    CString::new(found.into_os_string().into_vec()).ok()
}

/// The environment of this process.
fn environ() -> *const *const c_char {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: the C library keeps it from the start of the process on; it is only read.
    unsafe { environ }
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
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
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

    #[test]
    fn a_child_that_is_not_released_ends_without_having_run_and_leaves_no_zombie() {
        let file = std::env::temp_dir().join(format!("skep-held-dropped-{}", std::process::id()));
        let touch = || {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(format!(": > {}", file.display()));
            HeldChild::spawn(command).unwrap()
        };
        // The second one holds a copy of the first one's pipe.
        let held = [touch(), touch()];
        let pids = held.each_ref().map(HeldChild::pid);
        drop(held);
        for pid in pids {
            assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        }
        assert!(!file.exists());
    }
}
