//! Files of `/proc` for processes that may not allocate: those that were forked from one with threads.

use std::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

/// The longest path that is asked for, with its zero.
const MAX_PATH: usize = 64;

/// Opens the file whose path has these parts one behind the other. Allocates nothing.
pub(crate) fn open(parts: &[&[u8]], flags: OFlags) -> Option<OwnedFd> {
    let mut path = [0; MAX_PATH];
    let mut rest = &mut path[..];
    for part in parts {
        let (here, behind) = rest.split_at_mut_checked(part.len())?;
        here.copy_from_slice(part);
        rest = behind;
    }
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// The threads of a process but the first. Allocates nothing.
pub(crate) fn each_thread(pid: u32, visit: &mut dyn FnMut(u32)) {
    let digits = rustix::path::DecInt::new(pid);
    let Some(dir) = open(&[b"/proc/", digits.as_bytes(), b"/task"], OFlags::RDONLY) else {
        return;
    };
    let mut room = [std::mem::MaybeUninit::uninit(); 1024];
    let mut entries = rustix::fs::RawDir::new(dir, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        if let Some(tid) = number(entry.file_name().to_bytes()).filter(|tid| *tid != pid) {
            visit(tid);
        }
    }
}

/// The children of a task. Allocates nothing.
pub(crate) fn each_child(tid: u32, visit: &mut dyn FnMut(u32)) {
    // Without CONFIG_PROC_CHILDREN there is no such file.
    let digits = rustix::path::DecInt::new(tid);
    let parts = [b"/proc/", digits.as_bytes(), b"/task/", digits.as_bytes(), b"/children"];
    let Some(file) = open(&parts, OFlags::RDONLY) else { return };
    let mut text = [0; 1024];
    let mut child = 0u32;
    while let Ok(len @ 1..) = rustix::io::read(&file, &mut text) {
        for byte in &text[..len] {
            match byte {
                b'0'..=b'9' => child = child.wrapping_mul(10).wrapping_add(u32::from(byte - b'0')),
                _ => visit(std::mem::take(&mut child)),
            }
        }
    }
}

pub(crate) fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It has ended, though it may still be there because nobody has asked how, or because other threads are.
    Ended,
    Traced,
    Free,
}

/// How a task stands. Allocates nothing.
pub(crate) fn look(tid: u32) -> Look {
    with_status(tid, |status| match value_of(status, b"\nState:\t") {
        None | Some([b'Z' | b'X', ..]) => Look::Ended,
        Some(_) => match value_of(status, b"\nTracerPid:\t") {
            Some(b"0") => Look::Free,
            _ => Look::Traced,
        },
    })
}

/// Looks at what the kernel tells of a task; nothing of one that is not there. Allocates nothing.
pub(crate) fn with_status<T>(tid: u32, look: impl FnOnce(&[u8]) -> T) -> T {
    let digits = rustix::path::DecInt::new(tid);
    let file = open(&[b"/proc/", digits.as_bytes(), b"/status"], OFlags::RDONLY);
    // With many groups it is longer, but the lines that are wanted are before those of large machines.
    let mut text = [0; 4096];
    let len = file.and_then(|file| rustix::io::read(&file, &mut text).ok()).unwrap_or(0);
    look(&text[..len])
}

/// What stands behind a name in what the kernel tells of a task.
pub(crate) fn value_of<'a>(status: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = status.windows(name.len()).position(|line| line == name)?;
    let value = &status[at + name.len()..];
    value.split(|byte| *byte == b'\n').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_together() {
        assert!(open(&[b"/proc/", b"self", b"/status"], OFlags::RDONLY).is_some());
        assert!(open(&[b"/proc/", b"self", b"/nothing"], OFlags::RDONLY).is_none());
        assert!(open(&[&[b'/'; MAX_PATH]], OFlags::RDONLY).is_none());
    }
}
