//! tracefs: the names, ids and formats of tracepoints, and the list of functions that can be probed.
//!
//! tracefs has one instance per kernel, so a detached mount (see [`crate::mount`]) shows the same files that
//! `/sys/kernel/tracing` would.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::OnceLock;

use crate::errno::Errno;
use rustix::fs::{Dir, FileType, Mode, OFlags};

use crate::mount::{self, Root, TRACEFS_MAGIC};

type Result<T> = std::result::Result<T, Errno>;

/// tracefs, wherever it was found.
#[derive(Debug)]
pub struct Tracefs {
    root: Root,
}

impl Tracefs {
    /// tracefs where it is mounted, else a detached mount of it (Linux 5.2, CAP_SYS_ADMIN).
    pub fn open() -> Result<Tracefs> {
        Ok(Tracefs {
            root: mount::open_or_detached(
                "tracefs",
                TRACEFS_MAGIC,
                &["/sys/kernel/tracing", "/sys/kernel/debug/tracing"],
            )?,
        })
    }

    /// The same for the whole process, opened by the first who asks and kept: letting go of a detached mount costs 5 to 10 ms of
    /// waiting in the kernel (`dissolve_on_fput` in fs/namespace.c).
    pub fn shared() -> Result<&'static Tracefs> {
        static SHARED: OnceLock<Tracefs> = OnceLock::new();
        if let Some(tracefs) = SHARED.get() {
            return Ok(tracefs);
        }
        let opened = Tracefs::open()?;
        Ok(SHARED.get_or_init(|| opened))
    }

    /// Where it is mounted; `None` if it is detached.
    pub fn path(&self) -> Option<&Path> {
        self.root.path.as_deref()
    }

    /// Opens a file below the root for reading.
    pub fn open_file(&self, path: &str) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.root.dir, path, flags, Mode::empty())?.into())
    }

    /// Opens a control file below the root for appending, as `kprobe_events` wants it.
    pub fn open_append(&self, path: &str) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.root.dir, path, flags, Mode::empty())?.into())
    }

    /// The whole text of a file below the root. Bytes that are not UTF-8 are replaced.
    pub fn read(&self, path: &str) -> Result<String> {
        // These files tell no size. Most of them fit into one piece, which lies on the stack: memory of this size that is asked
        // for and let go again is a mapping each time under musl.
        let mut file = self.open_file(path)?;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match file.read(&mut piece)? {
                0 => break,
                len => bytes.extend_from_slice(&piece[..len]),
            }
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// The number of a tracepoint, which `perf_event_open` takes as `config`. `ENOENT` if there is no such tracepoint.
    pub fn id(&self, category: &str, name: &str) -> Result<u64> {
        check_name(category)?;
        check_name(name)?;
        self.read(&format!("events/{category}/{name}/id"))?.trim().parse().map_err(|_| Errno::EIO)
    }

    /// The `format` file of a tracepoint: its fields with their offsets and sizes.
    pub fn format(&self, category: &str, name: &str) -> Result<String> {
        check_name(category)?;
        check_name(name)?;
        self.read(&format!("events/{category}/{name}/format"))
    }

    /// The categories (subsystems) of tracepoints, sorted.
    pub fn categories(&self) -> Result<Vec<String>> {
        self.folders("events")
    }

    /// The tracepoints of a category, sorted.
    pub fn events(&self, category: &str) -> Result<Vec<String>> {
        check_name(category)?;
        self.folders(&format!("events/{category}"))
    }

    fn folders(&self, path: &str) -> Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.root.dir, path, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::new(dir)? {
            let entry = entry?;
            if entry.file_type() != FileType::Directory {
                continue;
            }
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl AsFd for Tracefs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.dir.as_fd()
    }
}

/// A name from a user must stay one path component.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Errno::ENOENT);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Option<Tracefs> {
        match Tracefs::open() {
            Ok(fs) => Some(fs),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none() || !rustix::process::getuid().is_root(), "tracefs: {error}");
                eprintln!("skipped: needs tracefs ({error})");
                None
            }
        }
    }

    #[test]
    fn a_tracepoint_has_an_id_and_a_format() {
        let Some(fs) = open() else { return };
        assert!(fs.id("sched", "sched_switch").unwrap() > 0);
        let format = fs.format("sched", "sched_switch").unwrap();
        assert!(format.contains("next_pid"), "{format}");
    }

    #[test]
    fn absent_and_hostile_names_are_absent() {
        let Some(fs) = open() else { return };
        assert_eq!(fs.id("sched", "sched_swithc"), Err(Errno::ENOENT));
        assert_eq!(fs.id("..", "sched_switch"), Err(Errno::ENOENT));
        assert_eq!(fs.id("sched", "sched_switch/../.."), Err(Errno::ENOENT));
        assert_eq!(fs.events(""), Err(Errno::ENOENT));
    }

    #[test]
    fn names_can_be_listed() {
        let Some(fs) = open() else { return };
        assert!(fs.categories().unwrap().iter().any(|c| c == "sched"));
        let events = fs.events("sched").unwrap();
        assert!(events.iter().any(|e| e == "sched_switch"));
        assert!(events.is_sorted());
    }

    #[test]
    fn the_mount_table_is_left_alone() {
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let fs = open();
        let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        drop(fs);
        // A debugfs that is mounted may mount its own `tracing` on first sight; that is the kernel's doing.
        if !before.contains(" debugfs ") {
            assert_eq!(before, after);
        }
    }
}
