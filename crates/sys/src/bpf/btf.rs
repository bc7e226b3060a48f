//! BTF in the kernel: loading it, reading back what is loaded.
//!
//! # Safety
//!
//! Addresses in the attributes are those of slices borrowed for the call, with their own lengths.
#![expect(unsafe_code, reason = "passes borrowed buffers to bpf(2)")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::attr::{self, Attr as _};
use super::{BtfId, BtfInfo, Log, addr, addr_mut, call_fd, cmd, fd_newtype, flags, len};
use crate::Errno;

/// What `BPF_BTF_LOAD` takes (kernel 4.18).
#[derive(Debug, Default)]
pub struct BtfLoad<'a> {
    /// The raw `.BTF` bytes, in this machine's byte order.
    pub btf: &'a [u8],
    /// Where the kernel explains a refusal. Without one it says nothing.
    pub log: Option<Log<'a>>,
    /// A delegated right.
    pub token: Option<BorrowedFd<'a>>,
}

impl BtfLoad<'_> {
    /// Gives the types to the kernel. The second part is the size that the log would have needed (kernel 6.4, else 0).
    pub fn load(&mut self) -> (Result<BtfFd, Errno>, u32) {
        let mut a = attr::BtfLoad::zeroed();
        let result = self.fill(&mut a).and_then(|()| {
            // SAFETY: the BTF is borrowed for reading and the log buffer for writing, each with its own length.
            unsafe { call_fd(cmd::BTF_LOAD, &mut a) }
        });
        (result.map(|fd| BtfFd { fd }), a.btf_log_true_size)
    }

    fn fill(&mut self, a: &mut attr::BtfLoad) -> Result<(), Errno> {
        a.btf = addr(self.btf);
        a.btf_size = len(self.btf)?;
        if let Some(log) = &mut self.log {
            a.btf_log_level = log.level.0;
            a.btf_log_size = len(log.buf)?;
            a.btf_log_buf = addr_mut(log.buf);
        }
        if let Some(token) = self.token {
            a.btf_flags = flags::F_TOKEN_FD;
            a.btf_token_fd = token.as_raw_fd();
        }
        Ok(())
    }
}

/// BTF that the kernel holds.
#[derive(Debug)]
pub struct BtfFd {
    fd: OwnedFd,
}

fd_newtype!(BtfFd);

impl BtfFd {
    /// Opens BTF by its id: a program's, the kernel's own or a module's. Needs `CAP_SYS_ADMIN`.
    pub fn from_id(id: BtfId) -> Result<BtfFd, Errno> {
        Ok(BtfFd { fd: super::id::open(cmd::BTF_GET_FD_BY_ID, id.0, 0)? })
    }

    /// Name, size and id.
    pub fn info(&self) -> Result<BtfInfo, Errno> {
        BtfInfo::of(self.fd.as_fd())
    }

    /// The raw bytes. For a module these are split BTF over the kernel's.
    pub fn data(&self) -> Result<Vec<u8>, Errno> {
        BtfInfo::data(self.fd.as_fd())
    }
}
