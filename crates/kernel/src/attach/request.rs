//! One request to attach, and how its refusals read.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use skep_engine::{Error, ErrorKind};
use skep_spec::{AttachType, Program};
use skep_sys::Errno;
use skep_sys::bpf::{LinkCreate, LinkExtra, LinkFd, LinkTarget};
use skep_sys::caps::Cap;
use skep_sys::version::KernelVersion;

use super::{Options, denied};

/// A program to attach.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) program: &'a Program,
    pub(super) fd: BorrowedFd<'a>,
    pub(super) options: &'a Options<'a>,
}

impl Request<'_> {
    /// An error that says which program it is about.
    pub(super) fn error(&self, why: impl std::fmt::Display) -> Error {
        Error::new(format!("cannot attach `{}` ({}): {why}", self.program.name, self.program.section))
    }

    /// What it attaches to is not on this machine.
    pub(super) fn absent(&self, why: impl std::fmt::Display) -> Error {
        self.error(why).with_kind(ErrorKind::Absent)
    }

    /// This kernel cannot do it.
    pub(super) fn unsupported(&self, why: impl std::fmt::Display) -> Error {
        self.error(why).with_kind(ErrorKind::Unsupported)
    }

    /// The caller has to say more.
    pub(super) fn needs(&self, why: impl std::fmt::Display) -> Error {
        self.error(why).with_kind(ErrorKind::NeedsOption)
    }

    /// A system call failed: what it was for, and its error's words and name.
    pub(super) fn failed(&self, why: impl std::fmt::Display, errno: Errno) -> Error {
        self.error(format_args!("{why}: {errno}")).with_source(errno)
    }

    /// An error of the kernel, with what can be said about a refusal for want of rights.
    pub(super) fn refused(&self, why: impl std::fmt::Display, errno: Errno, needs: &[Cap]) -> Error {
        denied::explain(self.failed(why, errno), errno, needs)
    }

    /// As [`Request::refused`], or that the kernel is older than the feature.
    pub(super) fn refused_since(
        &self,
        why: impl std::fmt::Display,
        errno: Errno,
        needs: &[Cap],
        since: KernelVersion,
    ) -> Error {
        let running = KernelVersion::running();
        if matches!(errno, Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOTSUPP | Errno::ENOSYS) && running < since {
            return self
                .unsupported(format_args!("{why}: this needs kernel {since}, and {running} is running"))
                .with_source(errno);
        }
        self.refused(why, errno, needs)
    }

    /// The name in the section, or the caller's where the section is bare.
    pub(super) fn named(&self, name: &str, what: &str, form: &str) -> Result<String, Error> {
        match (name, self.options.target) {
            ("", Some(target)) => Ok(target.to_owned()),
            ("", None) => {
                let word = self.program.section.split('/').next().unwrap_or_default();
                Err(self
                    .needs(format_args!("its section names no {what}"))
                    .with_hint(format!("write it as `SEC(\"{word}/{form}\")`, or name it with `--attach-to {form}`")))
            }
            (name, _) => Ok(name.to_owned()),
        }
    }

    /// Whether the program was loaded for this attach type.
    pub(super) fn is(&self, attach_type: AttachType) -> bool {
        self.program.attach_type == Some(attach_type)
    }

    /// `BPF_LINK_CREATE`.
    pub(super) fn link(
        &self,
        target: LinkTarget<'_>,
        attach_type: AttachType,
        flags: u32,
        extra: LinkExtra<'_>,
    ) -> Result<LinkFd, Errno> {
        LinkCreate { prog: self.fd, target, attach_type: attach_type.0, flags, extra }.create()
    }

    /// A name as the kernel takes it.
    pub(super) fn c_string(&self, text: impl Into<Vec<u8>>) -> Result<CString, Error> {
        CString::new(text).map_err(|_| self.error("a name has a zero byte in it"))
    }
}
