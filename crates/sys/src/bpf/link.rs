//! Links: an attachment as an object, gone when its last descriptor and pin are gone.
//!
//! # Safety
//!
//! Arrays in the attributes are borrowed for the call, and a count is only sent when every array has that length.
#![expect(unsafe_code, reason = "passes borrowed buffers to bpf(2)")]

use std::ffi::{CStr, c_char};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::attr::{self, Attr as _};
use super::{LinkId, LinkInfo, addr, call, call_fd, cmd, fd_newtype, flags, len, raw};
use crate::Errno;

/// What a program is attached to.
#[derive(Clone, Copy, Debug)]
pub enum LinkTarget<'a> {
    /// The program itself says it (tracing, lsm, iter, struct_ops, netfilter, multi probes).
    None,
    /// A cgroup, perf event, network namespace, map, or program to replace.
    Fd(BorrowedFd<'a>),
    /// A network device.
    Ifindex(u32),
}

impl LinkTarget<'_> {
    pub(super) fn word(self) -> u32 {
        match self {
            LinkTarget::None => 0,
            LinkTarget::Fd(fd) => raw(fd),
            LinkTarget::Ifindex(index) => index,
        }
    }
}

/// Before or after what, in a hook's list (with `flags::F_BEFORE` or `F_AFTER`). Without it: at the front or at the end.
#[derive(Clone, Copy, Debug, Default)]
pub enum Relative<'a> {
    /// Nothing in particular.
    #[default]
    None,
    /// A program's descriptor, or with `flags::F_LINK` a link's.
    Fd(BorrowedFd<'a>),
    /// A program's id, or with `flags::F_LINK` a link's. Sets `flags::F_ID`.
    Id(u32),
}

impl Relative<'_> {
    pub(super) fn word(self) -> u32 {
        match self {
            Relative::None => 0,
            Relative::Fd(fd) => raw(fd),
            Relative::Id(id) => id,
        }
    }

    pub(super) fn flag(self) -> u32 {
        if matches!(self, Relative::Id(_)) { flags::F_ID } else { 0 }
    }
}

/// The part of `BPF_LINK_CREATE` that differs by kind.
#[derive(Clone, Copy, Debug, Default)]
pub enum LinkExtra<'a> {
    /// Nothing.
    #[default]
    None,
    /// A perf event's cookie (kernel 5.15).
    PerfEvent {
        /// Given to `bpf_get_attach_cookie`.
        cookie: u64,
    },
    /// fentry and its kind, lsm, tp_btf, freplace.
    Tracing {
        /// Function in the target program's BTF (freplace); 0 otherwise.
        target_btf_id: u32,
        /// Kernel 5.19.
        cookie: u64,
    },
    /// Iterator parameters, the bytes of `union bpf_iter_link_info`.
    Iter(&'a [u8]),
    /// Many functions at once, by name or by address (kernel 5.18). One of `syms` and `addrs` is empty.
    KprobeMulti {
        /// `flags::F_KPROBE_MULTI_RETURN` or 0.
        flags: u32,
        /// Names.
        syms: &'a [&'a CStr],
        /// Addresses.
        addrs: &'a [u64],
        /// Empty, or one per function.
        cookies: &'a [u64],
    },
    /// Many places of one file (kernel 6.6).
    UprobeMulti {
        /// The file.
        path: &'a CStr,
        /// File offsets.
        offsets: &'a [u64],
        /// Empty, or the semaphore's file offset for each.
        ref_ctr_offsets: &'a [u64],
        /// Empty, or one per place.
        cookies: &'a [u64],
        /// `flags::F_UPROBE_MULTI_RETURN` or 0.
        flags: u32,
        /// 0 for every process.
        pid: u32,
    },
    /// A netfilter hook (kernel 6.4).
    Netfilter {
        /// Protocol family.
        pf: u32,
        /// Hook number.
        hooknum: u32,
        /// Position.
        priority: i32,
        /// `flags::F_NETFILTER_IP_DEFRAG` or 0.
        flags: u32,
    },
    /// tcx and netkit (kernel 6.6), cgroup (6.16): the place in the list.
    Ordered {
        /// Before or after what.
        relative: Relative<'a>,
        /// Revision of the list that the caller saw; 0 for any.
        expected_revision: u64,
    },
}

/// What `BPF_LINK_CREATE` takes.
#[derive(Clone, Copy, Debug)]
pub struct LinkCreate<'a> {
    /// The program, or the map of a struct_ops.
    pub prog: BorrowedFd<'a>,
    /// What it is attached to.
    pub target: LinkTarget<'a>,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
    /// Flags of the kind, such as `XDP_FLAGS_SKB_MODE` or `flags::F_BEFORE`.
    pub flags: u32,
    /// The rest.
    pub extra: LinkExtra<'a>,
}

/// Two 32-bit fields, the first at the lower address.
fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// The address of an array that is empty or has the right length.
fn parallel(array: &[u64], count: usize) -> Result<u64, Errno> {
    if array.is_empty() || array.len() == count { Ok(addr(array)) } else { Err(Errno::EINVAL) }
}

impl LinkCreate<'_> {
    /// Attaches.
    pub fn create(&self) -> Result<LinkFd, Errno> {
        let mut a = attr::LinkCreate::zeroed();
        a.prog_fd = raw(self.prog);
        a.target = self.target.word();
        a.attach_type = self.attach_type;
        a.flags = self.flags;
        // Held until the call is done.
        let pointers: Vec<*const c_char>;
        let w = &mut a.words;
        match self.extra {
            LinkExtra::None => {}
            LinkExtra::PerfEvent { cookie } => w[0] = cookie,
            LinkExtra::Tracing { target_btf_id, cookie } => {
                w[0] = pair(target_btf_id, 0);
                w[1] = cookie;
            }
            LinkExtra::Iter(info) => {
                w[0] = addr(info);
                w[1] = pair(len(info)?, 0);
            }
            LinkExtra::KprobeMulti { flags, syms, addrs, cookies } => {
                let count = syms.len().max(addrs.len());
                if !syms.is_empty() && !addrs.is_empty() {
                    return Err(Errno::EINVAL);
                }
                pointers = syms.iter().map(|sym| sym.as_ptr()).collect();
                pointers.iter().for_each(|pointer| {
                    pointer.expose_provenance();
                });
                w[0] = pair(flags, u32::try_from(count).map_err(|_| Errno::E2BIG)?);
                w[1] = addr(&pointers);
                w[2] = addr(addrs);
                w[3] = parallel(cookies, count)?;
            }
            LinkExtra::UprobeMulti { path, offsets, ref_ctr_offsets, cookies, flags, pid } => {
                w[0] = path.as_ptr().expose_provenance() as u64;
                w[1] = addr(offsets);
                w[2] = parallel(ref_ctr_offsets, offsets.len())?;
                w[3] = parallel(cookies, offsets.len())?;
                w[4] = pair(len(offsets)?, flags);
                w[5] = pair(pid, 0);
            }
            LinkExtra::Netfilter { pf, hooknum, priority, flags } => {
                w[0] = pair(pf, hooknum);
                w[1] = pair(priority as u32, flags);
            }
            LinkExtra::Ordered { relative, expected_revision } => {
                a.flags |= relative.flag();
                w[0] = pair(relative.word(), 0);
                w[1] = expected_revision;
            }
        }
        // SAFETY: arrays and strings are borrowed by `self` (the pointer array by `pointers`), and counts are the lengths
        // of all arrays that are not empty.
        unsafe { call_fd(cmd::LINK_CREATE, &mut a) }.map(LinkFd::from_kernel)
    }
}

/// `BPF_RAW_TRACEPOINT_OPEN`: attaches to a raw tracepoint by name, or without a name a tracing or lsm program to the
/// function it was loaded for (kernels before 5.19 have no other way). The cookie needs kernel 6.10.
pub fn raw_tracepoint_open(name: Option<&CStr>, prog: BorrowedFd<'_>, cookie: u64) -> Result<LinkFd, Errno> {
    let mut a = attr::RawTracepoint::zeroed();
    a.name = name.map_or(0, |name| name.as_ptr().expose_provenance() as u64);
    a.prog_fd = raw(prog);
    a.cookie = cookie;
    // SAFETY: the name is a zero-terminated string borrowed for the call; the command returns a descriptor.
    unsafe { call_fd(cmd::RAW_TRACEPOINT_OPEN, &mut a) }.map(LinkFd::from_kernel)
}

/// A link. Dropping it detaches, unless a pin or another descriptor holds it too.
#[derive(Debug)]
pub struct LinkFd {
    fd: OwnedFd,
}

fd_newtype!(LinkFd);

impl LinkFd {
    pub(super) fn from_kernel(fd: OwnedFd) -> LinkFd {
        LinkFd { fd }
    }

    /// Opens a link by its id. Needs `CAP_SYS_ADMIN`.
    pub fn from_id(id: LinkId) -> Result<LinkFd, Errno> {
        Ok(LinkFd { fd: super::id::open(cmd::LINK_GET_FD_BY_ID, id.0, 0)? })
    }

    /// What the kernel says about the link. `EINVAL` for raw tracepoints of kernels before 5.8, which are no real links.
    pub fn info(&self) -> Result<LinkInfo, Errno> {
        LinkInfo::of(self.fd.as_fd())
    }

    /// `BPF_LINK_UPDATE`: puts another program (or struct_ops map) in place, in one step. With `old` only if that is still
    /// the one in place (`EPERM` otherwise).
    pub fn update(&self, new: BorrowedFd<'_>, old: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let mut a = attr::LinkUpdate::zeroed();
        a.link_fd = raw(self.fd.as_fd());
        a.new_fd = raw(new);
        if let Some(old) = old {
            a.flags = flags::F_REPLACE;
            a.old_fd = raw(old);
        }
        // SAFETY: no addresses in this attribute.
        unsafe { call(cmd::LINK_UPDATE, &mut a) }.map(drop)
    }

    /// `BPF_LINK_DETACH` (kernel 5.9): detaches now, though others hold the link. `EOPNOTSUPP` for kinds that cannot.
    pub fn detach(&self) -> Result<(), Errno> {
        let mut a = attr::Single::zeroed();
        a.value = raw(self.fd.as_fd());
        // SAFETY: no addresses in this attribute.
        unsafe { call(cmd::LINK_DETACH, &mut a) }.map(drop)
    }

    /// `BPF_ITER_CREATE`: one pass of an iterator, to be read like a file.
    pub fn iter(&self) -> Result<OwnedFd, Errno> {
        let mut a = attr::IterCreate::zeroed();
        a.link_fd = raw(self.fd.as_fd());
        // SAFETY: no addresses in this attribute; the command returns a descriptor.
        unsafe { call_fd(cmd::ITER_CREATE, &mut a) }
    }
}
