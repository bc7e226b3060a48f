//! Trace instances: sets of trace buffers of one's own (`kernel/trace/trace.c`, `instance_mkdir`; Linux 3.10).

use std::fs::File;
use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use crate::Errno;
use crate::tracefs::Tracefs;

impl Tracefs {
    /// Makes an instance: `EEXIST` when the name is taken. It has a buffer for every CPU from when an event in it is enabled.
    pub fn make_instance(&self, name: &str) -> Result<(), Errno> {
        Ok(rustix::fs::mkdirat(self.as_fd(), format!("instances/{name}"), Mode::RWXU)?)
    }

    /// Removes an instance with its buffers and whatever is enabled in it: `EBUSY` while somebody has a file of it open that
    /// holds it, as `trace_pipe` does.
    pub fn remove_instance(&self, name: &str) -> Result<(), Errno> {
        Ok(rustix::fs::unlinkat(self.as_fd(), format!("instances/{name}"), AtFlags::REMOVEDIR)?)
    }

    /// The instances that exist.
    pub fn instances(&self) -> Result<Vec<String>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(self.as_fd(), "instances", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::new(dir)? {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Opens a pipe such as `trace_pipe`, whose reads take away what they give, without blocking when there is nothing.
    pub fn open_pipe(&self, path: &str) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(self.as_fd(), path, flags, Mode::empty())?.into())
    }

    /// Writes the whole of a control file. `EINVAL` when the kernel does not take the value.
    pub fn write(&self, path: &str, text: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.as_fd(), path, flags, Mode::empty())?;
        rustix::io::write(&file, text.as_bytes())?;
        Ok(())
    }
}
