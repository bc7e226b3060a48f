//! bpf(2), Linux 6.18: every command, as a function whose arguments carry the proof that the kernel reads and writes
//! only what it was given.
//!
//! The kernel takes one untyped union per command, full of addresses and lengths. Here a command is a function or a
//! plain struct of borrowed slices; lengths come from the slices. Commands whose length the kernel knows and the caller
//! might not (the value of a map) hang on a type that asked the kernel first, [`MapFd`].
//!
//! What this module does not do: choose, retry with less, explain. That is the `kernel` crate's part.
//!
//! # Safety
//!
//! `call` is the only place that makes the system call. It relies on three things: the attribute type is one of `attr`'s
//! (no padding, integers only), every address in it points into memory that the caller borrows for longer than the call,
//! and the lengths beside the addresses are those of that memory. Descriptors are not memory: a wrong one gives `EBADF`.
#![expect(unsafe_code, reason = "home of the bpf(2) system call")]

mod attr;
mod btf;
mod id;
mod info;
mod link;
mod loader;
mod map;
mod prog;

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use btf::{BtfFd, BtfLoad};
pub use id::{BtfId, LinkId, MapId, ProgId};
pub use info::{BtfInfo, LinkInfo, LinkKind, LinkType, MapFdInfo, MapInfo, ProgDetails, ProgInfo};
pub use link::{LinkCreate, LinkExtra, LinkFd, LinkTarget, Relative, raw_tracepoint_open};
pub use loader::LoaderRun;
pub use map::{BatchCount, MapCreate, MapFd};
pub use prog::{
    Attach, Log, LogLevel, ProgFd, ProgLoad, ProgQuery, QueriedProgs, TaskFd, TestRun, TestRunOutcome, enable_stats,
    prog_attach, prog_bind_map, prog_detach, prog_query, task_fd_query,
};

use self::attr::Attr;
use crate::Errno;

/// Command numbers, `enum bpf_cmd`.
mod cmd {
    pub(super) const MAP_CREATE: u32 = 0;
    pub(super) const MAP_LOOKUP_ELEM: u32 = 1;
    pub(super) const MAP_UPDATE_ELEM: u32 = 2;
    pub(super) const MAP_DELETE_ELEM: u32 = 3;
    pub(super) const MAP_GET_NEXT_KEY: u32 = 4;
    pub(super) const PROG_LOAD: u32 = 5;
    pub(super) const OBJ_PIN: u32 = 6;
    pub(super) const OBJ_GET: u32 = 7;
    pub(super) const PROG_ATTACH: u32 = 8;
    pub(super) const PROG_DETACH: u32 = 9;
    pub(super) const PROG_TEST_RUN: u32 = 10;
    pub(super) const PROG_GET_NEXT_ID: u32 = 11;
    pub(super) const MAP_GET_NEXT_ID: u32 = 12;
    pub(super) const PROG_GET_FD_BY_ID: u32 = 13;
    pub(super) const MAP_GET_FD_BY_ID: u32 = 14;
    pub(super) const OBJ_GET_INFO_BY_FD: u32 = 15;
    pub(super) const PROG_QUERY: u32 = 16;
    pub(super) const RAW_TRACEPOINT_OPEN: u32 = 17;
    pub(super) const BTF_LOAD: u32 = 18;
    pub(super) const BTF_GET_FD_BY_ID: u32 = 19;
    pub(super) const TASK_FD_QUERY: u32 = 20;
    pub(super) const MAP_LOOKUP_AND_DELETE_ELEM: u32 = 21;
    pub(super) const MAP_FREEZE: u32 = 22;
    pub(super) const BTF_GET_NEXT_ID: u32 = 23;
    pub(super) const MAP_LOOKUP_BATCH: u32 = 24;
    pub(super) const MAP_LOOKUP_AND_DELETE_BATCH: u32 = 25;
    pub(super) const MAP_UPDATE_BATCH: u32 = 26;
    pub(super) const MAP_DELETE_BATCH: u32 = 27;
    pub(super) const LINK_CREATE: u32 = 28;
    pub(super) const LINK_UPDATE: u32 = 29;
    pub(super) const LINK_GET_FD_BY_ID: u32 = 30;
    pub(super) const LINK_GET_NEXT_ID: u32 = 31;
    pub(super) const ENABLE_STATS: u32 = 32;
    pub(super) const ITER_CREATE: u32 = 33;
    pub(super) const LINK_DETACH: u32 = 34;
    pub(super) const PROG_BIND_MAP: u32 = 35;
    pub(super) const TOKEN_CREATE: u32 = 36;
    pub(super) const PROG_STREAM_READ_BY_FD: u32 = 37;
    pub(super) const PROG_ASSOC_STRUCT_OPS: u32 = 38;
}

/// Flags of bpf(2)'s commands, in the kernel's spelling without the `BPF_` prefix, by what they are given to.
pub mod flags {
    #![expect(missing_docs, reason = "the kernel's names; include/uapi/linux/bpf.h describes each")]

    // Updating an element.
    pub const ANY: u64 = 0;
    pub const NOEXIST: u64 = 1;
    pub const EXIST: u64 = 2;
    pub const F_LOCK: u64 = 4;

    // Creating a map.
    pub const F_NO_PREALLOC: u32 = 1;
    pub const F_NO_COMMON_LRU: u32 = 1 << 1;
    pub const F_NUMA_NODE: u32 = 1 << 2;
    pub const F_RDONLY: u32 = 1 << 3;
    pub const F_WRONLY: u32 = 1 << 4;
    pub const F_STACK_BUILD_ID: u32 = 1 << 5;
    pub const F_ZERO_SEED: u32 = 1 << 6;
    pub const F_RDONLY_PROG: u32 = 1 << 7;
    pub const F_WRONLY_PROG: u32 = 1 << 8;
    pub const F_CLONE: u32 = 1 << 9;
    pub const F_MMAPABLE: u32 = 1 << 10;
    pub const F_PRESERVE_ELEMS: u32 = 1 << 11;
    pub const F_INNER_MAP: u32 = 1 << 12;
    pub const F_LINK: u32 = 1 << 13;
    pub const F_PATH_FD: u32 = 1 << 14;
    pub const F_VTYPE_BTF_OBJ_FD: u32 = 1 << 15;
    pub const F_TOKEN_FD: u32 = 1 << 16;
    pub const F_SEGV_ON_FAULT: u32 = 1 << 17;
    pub const F_NO_USER_CONV: u32 = 1 << 18;

    // Loading a program.
    pub const F_STRICT_ALIGNMENT: u32 = 1;
    pub const F_ANY_ALIGNMENT: u32 = 1 << 1;
    pub const F_TEST_RND_HI32: u32 = 1 << 2;
    pub const F_TEST_STATE_FREQ: u32 = 1 << 3;
    pub const F_SLEEPABLE: u32 = 1 << 4;
    pub const F_XDP_HAS_FRAGS: u32 = 1 << 5;
    pub const F_XDP_DEV_BOUND_ONLY: u32 = 1 << 6;
    pub const F_TEST_REG_INVARIANTS: u32 = 1 << 7;

    // Attaching to a cgroup or a device.
    pub const F_ALLOW_OVERRIDE: u32 = 1;
    pub const F_ALLOW_MULTI: u32 = 1 << 1;
    pub const F_REPLACE: u32 = 1 << 2;
    pub const F_BEFORE: u32 = 1 << 3;
    pub const F_AFTER: u32 = 1 << 4;
    pub const F_ID: u32 = 1 << 5;
    pub const F_PREORDER: u32 = 1 << 6;

    pub const F_QUERY_EFFECTIVE: u32 = 1;

    pub const F_KPROBE_MULTI_RETURN: u32 = 1;
    pub const F_UPROBE_MULTI_RETURN: u32 = 1;
    pub const F_NETFILTER_IP_DEFRAG: u32 = 1;

    // Running a program on request.
    pub const F_TEST_RUN_ON_CPU: u32 = 1;
    pub const F_TEST_XDP_LIVE_FRAMES: u32 = 2;
    pub const F_TEST_SKB_CHECKSUM_COMPLETE: u32 = 4;
}

/// Makes the system call.
///
/// # Safety
/// Every address in `attr` points to memory of the length stated beside it, valid and unaliased (where the kernel writes)
/// for the duration of the call.
unsafe fn call<T: Attr>(cmd: u32, attr: &mut T) -> Result<i32, Errno> {
    // SAFETY: `attr` is one borrowed attribute struct of exactly this size; its addresses are the caller's promise.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, cmd, attr as *mut T, size_of::<T>()) };
    if ret < 0 { Err(Errno::last()) } else { Ok(ret as i32) }
}

/// Makes a system call that answers with a new descriptor.
///
/// # Safety
/// As [`call`]; and `cmd` is one of the commands that return a descriptor.
unsafe fn call_fd<T: Attr>(cmd: u32, attr: &mut T) -> Result<OwnedFd, Errno> {
    // SAFETY: the caller's promise.
    let raw = unsafe { call(cmd, attr)? };
    // SAFETY: the kernel has just made this descriptor for us, close-on-exec, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    above_stdio(fd)
}

/// Moves a descriptor above 2. In attributes 0 means "none", so a map or BTF that got descriptor 0 (because the process
/// was started with stdin closed) could not be named.
fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn raw_or_zero(fd: Option<BorrowedFd<'_>>) -> u32 {
    fd.map_or(0, raw)
}

/// The address of a slice as the kernel wants it; an empty slice is the null pointer.
fn addr<T>(slice: &[T]) -> u64 {
    if slice.is_empty() { 0 } else { slice.as_ptr().expose_provenance() as u64 }
}

/// As [`addr`], for memory that the kernel writes.
fn addr_mut<T>(slice: &mut [T]) -> u64 {
    if slice.is_empty() { 0 } else { slice.as_mut_ptr().expose_provenance() as u64 }
}

/// A length as the 32 bits that attributes have for it.
fn len<T>(slice: &[T]) -> Result<u32, Errno> {
    u32::try_from(slice.len()).map_err(|_| Errno::E2BIG)
}

/// Longest name of a program or map, without the closing zero: `BPF_OBJ_NAME_LEN` is 16.
pub const OBJ_NAME_MAX: usize = 15;

/// A name as attributes hold it: cut to 15 bytes, each byte the kernel would refuse (it takes letters, digits, `_` and
/// `.`) turned into `_`.
fn obj_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, &from) in out.iter_mut().zip(name.as_bytes().iter().take(OBJ_NAME_MAX)) {
        *to = if from.is_ascii_alphanumeric() || from == b'_' || from == b'.' { from } else { b'_' };
    }
    out
}

/// What a path in bpffs holds.
#[derive(Debug)]
pub enum Object {
    /// A map.
    Map(MapFd),
    /// A program.
    Prog(ProgFd),
    /// A link.
    Link(LinkFd),
}

/// Which of the three a descriptor is, from the name that the kernel gave its file.
fn object_of(fd: OwnedFd) -> Result<Object, Errno> {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    match name.to_string_lossy().trim_start_matches("anon_inode:").trim_matches(['[', ']']) {
        "bpf-map" => Ok(Object::Map(MapFd::from_fd(fd)?)),
        "bpf-prog" => Ok(Object::Prog(ProgFd::from_kernel(fd))),
        "bpf-link" | "bpf_link" => Ok(Object::Link(LinkFd::from_kernel(fd))),
        _ => Err(Errno::EINVAL),
    }
}

/// `BPF_OBJ_PIN`: gives the object a name in a bpffs, where it outlives its descriptors. `dir` is the folder that a
/// relative `path` starts from (kernel 6.5); without it, the process' working folder.
pub fn obj_pin(fd: BorrowedFd<'_>, dir: Option<BorrowedFd<'_>>, path: &std::ffi::CStr) -> Result<(), Errno> {
    let mut attr = attr::Obj::zeroed();
    attr.pathname = path.as_ptr().expose_provenance() as u64;
    attr.bpf_fd = raw(fd);
    if let Some(dir) = dir {
        attr.file_flags = flags::F_PATH_FD;
        attr.path_fd = dir.as_raw_fd();
    }
    // SAFETY: the path is a zero-terminated string borrowed for the call.
    unsafe { call(cmd::OBJ_PIN, &mut attr) }.map(drop)
}

/// `BPF_OBJ_GET`: opens a pinned object. `file_flags` may be `F_RDONLY` or `F_WRONLY`.
pub fn obj_get(dir: Option<BorrowedFd<'_>>, path: &std::ffi::CStr, file_flags: u32) -> Result<Object, Errno> {
    let mut attr = attr::Obj::zeroed();
    attr.pathname = path.as_ptr().expose_provenance() as u64;
    attr.file_flags = file_flags;
    if let Some(dir) = dir {
        attr.file_flags |= flags::F_PATH_FD;
        attr.path_fd = dir.as_raw_fd();
    }
    // SAFETY: the path is a zero-terminated string borrowed for the call; the command returns a descriptor.
    object_of(unsafe { call_fd(cmd::OBJ_GET, &mut attr)? })
}

/// `BPF_TOKEN_CREATE`: a right to use BPF that the owner of a bpffs delegates to a user namespace (kernel 6.9). `ENOENT` when
/// nothing is delegated there, `EOPNOTSUPP` in the first user namespace.
pub fn token_create(bpffs: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut attr = attr::TokenCreate::zeroed();
    attr.bpffs_fd = raw(bpffs);
    // SAFETY: no addresses in this attribute; the command returns a descriptor.
    unsafe { call_fd(cmd::TOKEN_CREATE, &mut attr) }
}

/// `BPF_PROG_STREAM_READ_BY_FD`: reads what a program wrote to its stream 1 (stdout) or 2 (stderr), kernel 6.17. Returns
/// the number of bytes; 0 when there is nothing.
pub fn prog_stream_read(prog: BorrowedFd<'_>, stream: u32, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut attr = attr::ProgStreamRead::zeroed();
    attr.stream_buf = addr_mut(buf);
    attr.stream_buf_len = len(buf)?;
    attr.stream_id = stream;
    attr.prog_fd = raw(prog);
    // SAFETY: address and length are those of `buf`, which is borrowed mutably.
    unsafe { call(cmd::PROG_STREAM_READ_BY_FD, &mut attr) }.map(|n| n as usize)
}

macro_rules! fd_newtype {
    ($name:ident) => {
        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.fd.as_fd()
            }
        }

        impl From<$name> for OwnedFd {
            fn from(value: $name) -> OwnedFd {
                value.fd
            }
        }
    };
}
use fd_newtype;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_to_what_the_kernel_takes() {
        assert_eq!(&obj_name("bootstra.rodata"), b"bootstra.rodata\0");
        assert_eq!(&obj_name("a name/with everything"), b"a_name_with_eve\0");
        assert_eq!(obj_name(""), [0; 16]);
    }
}
