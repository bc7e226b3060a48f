//! Files as another process sees them: a container's paths begin at its own root.
//!
//! What is there was put there by the observed process, and we are root: its absolute symlinks would lead into our files, a pipe would
//! hold us until somebody writes, and opening a device may do something. So paths are walked inside of the process's root
//! (openat2(2) with `RESOLVE_IN_ROOT`, Linux 5.6), and what they lead to is looked at before it is opened.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2};

/// `/proc/PID/root`, if the process has its files in another mount namespace than we.
pub fn foreign_root(pid: u32) -> Option<PathBuf> {
    let ours = std::fs::read_link("/proc/self/ns/mnt").ok()?;
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    (ours != theirs).then(|| PathBuf::from(format!("/proc/{pid}/root")))
}

/// Opens the regular file that a process calls `path`, where `root` is its root, to be read. Symlinks on the way are followed inside of the
/// root; the file itself may not be one.
///
/// # Errors
///
/// Those of openat2(2), and [`ErrorKind::InvalidInput`] when it is no regular file.
pub fn open_inside(root: &Path, path: &Path) -> Result<File, Error> {
    let root = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // A place, not yet an open file: nothing has happened to what is there.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat2(&root, relative, flags, Mode::empty(), resolve)?;
    if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::RegularFile {
        return Err(Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    let place = format!("/proc/self/fd/{}", place.as_raw_fd());
    Ok(open(place, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_root_is_not_left_and_only_files_are_opened() {
        let root = std::env::temp_dir().join(format!("skep-inside-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/hostname"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", root.join("file")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root/etc", root.join("magic")).unwrap();
        rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let read = |path: &str| {
            let mut text = String::new();
            open_inside(&root, Path::new(path)).map_err(|error| error.kind())?.read_to_string(&mut text).unwrap();
            Ok::<String, ErrorKind>(text)
        };
        // Absolute links and `..` stay inside.
        for path in ["/etc/hostname", "etc/hostname", "/link/hostname", "/../../etc/hostname"] {
            assert_eq!(read(path).as_deref(), Ok("inside"), "{path}");
        }
        assert_eq!(read("/file"), Err(ErrorKind::InvalidInput));
        assert_eq!(read("/pipe"), Err(ErrorKind::InvalidInput));
        assert_eq!(read("/etc"), Err(ErrorKind::InvalidInput));
        assert_eq!(read("/magic/hostname"), Err(ErrorKind::NotFound));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn our_own_root_is_not_foreign() {
        assert_eq!(foreign_root(std::process::id()), None);
    }
}
