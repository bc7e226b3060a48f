//! What `/proc` tells of tasks.

use std::fmt::Display;
use std::fs;
use std::fs::File;
use std::io::{self, Read as _};

/// As much as most files of a process have. The kernel tells no length of them, and without one they would be read in small pieces at first.
const MOST_BYTES: usize = 16 << 10;

/// A file of a task's folder.
pub(super) fn read(task: impl Display, name: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(MOST_BYTES);
    File::open(format!("/proc/{task}/{name}"))?.read_to_end(&mut text)?;
    Ok(text)
}

/// Whether a task has memory: the first of a process may have ended before the others.
pub(super) fn has_memory(tid: u32) -> bool {
    File::open(format!("/proc/{tid}/maps")).and_then(|mut maps| maps.read(&mut [0])).is_ok_and(|len| len > 0)
}

/// Whether a task ignores a signal: the kernel would not even have brought it, did we not trace.
pub(super) fn is_ignored(tid: u32, signal: i32) -> bool {
    let status = Status::read(tid).unwrap_or_default();
    let is_in = |key: &str| {
        let mask = status.value(key);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    };
    // Those that do nothing to who has no handler: SIGCHLD, SIGCONT, SIGURG, SIGWINCH.
    const HARMLESS: &[i32] = &[17, 18, 23, 28];
    is_in("SigIgn:") || HARMLESS.contains(&signal) && !is_in("SigCgt:")
}

/// A number of a line of `status`, whose name ends with a colon. `None` when there is no such task, or no such line: the kernel is too old for it.
pub(super) fn status_number(task: impl Display, key: &str) -> Option<u32> {
    Status::read(task)?.number(key)
}

/// What `status` says of a task.
#[derive(Debug, Default)]
pub(super) struct Status(String);

impl Status {
    /// `None` when there is no such task.
    pub(super) fn read(task: impl Display) -> Option<Status> {
        // All but the name, which is escaped, is ASCII.
        Some(Status(String::from_utf8_lossy(&read(task, "status").ok()?).into_owned()))
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
    }

    /// The number of a line whose name ends with a colon.
    pub(super) fn number(&self, key: &str) -> Option<u32> {
        self.value(key)?.parse().ok()
    }
}

/// The name of a task, in whatever bytes it has there; `status` escapes some. `None` when there is no such task.
pub(super) fn comm(tid: u32) -> Option<Vec<u8>> {
    let mut comm = fs::read(format!("/proc/{tid}/comm")).ok()?;
    if comm.last() == Some(&b'\n') {
        comm.pop();
    }
    Some(comm)
}

/// Ids of the threads of a process; empty when it is gone.
pub(super) fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether the program that a task has just started is one of another architecture.
pub(super) fn is_foreign(tid: u32) -> bool {
    // e_ident's class, and e_machine.
    let mut head = [0; 20];
    let read = File::open(format!("/proc/{tid}/exe")).and_then(|mut file| file.read_exact(&mut head));
    let machine = u16::from_le_bytes([head[18], head[19]]);
    let native = if cfg!(target_arch = "x86_64") {
        62
    } else if cfg!(target_arch = "aarch64") {
        183
    } else {
        return false;
    };
    read.is_ok() && head.starts_with(b"\x7fELF") && (head[4] != 2 || machine != native)
}
