//! Attachments.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::Error;

/// An attached program. Dropping it detaches, unless it was pinned.
pub trait Link: Send {
    /// Where it is attached, for people: `tracepoint syscalls:sys_enter_write`, `xdp veth0 (native)`.
    fn describe(&self) -> String;

    /// Detaches now and says whether that worked.
    fn detach(self: Box<Self>) -> Result<(), Error>;

    /// Its descriptors, when the kernel makes whoever closes the last of them wait (a perf tracepoint: 50 to 140 ms for an RCU
    /// grace period) and closing is all that detaching takes. A process in a hurry leaves them to another. Empty for
    /// every other attachment.
    fn slow_to_close(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Lets it outlive the process under `path`, in a bpffs.
    ///
    /// # Errors
    ///
    /// When this kind of attachment cannot be pinned (it has no kernel link), or the path is not in a bpffs.
    fn pin(&mut self, path: &std::path::Path) -> Result<(), Error>;
}

/// What a section leaves open about an attachment. Each attach point uses what it needs and ignores the rest.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Network interface, by name.
    pub interface: Option<String>,
    /// XDP mode.
    pub xdp_mode: XdpMode,
    /// Direction at a tc hook whose section does not say; `None` means ingress.
    pub tc_direction: Option<TcDirection>,
    /// Binary or library for uprobes and USDT, in place of the section's.
    pub binary: Option<PathBuf>,
    /// Only this process (uprobes, USDT, perf events, iterators).
    pub pid: Option<u32>,
    /// Folder of a cgroup v2.
    pub cgroup: Option<PathBuf>,
    /// Path of a network namespace; `None` means our own.
    pub net_namespace: Option<PathBuf>,
    /// Value that the program reads with `bpf_get_attach_cookie` (kernel 5.15).
    pub cookie: u64,
    /// Sampling frequency of perf events, in hertz; 0 means 99.
    pub sample_hz: u64,
}

/// How an XDP program sits on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver if it can, else generic.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// After the packet became an skb.
    Generic,
}

/// Direction of traffic.
pub use skep_spec::program::Direction as TcDirection;
