//! What the kernel tells about its objects: `BPF_OBJ_GET_INFO_BY_FD`.
//!
//! # Safety
//!
//! The kernel copies at most `info_len` bytes of its struct over ours, and follows the addresses that we put into ours for
//! at most the lengths beside them. Which struct it takes depends on the descriptor, so addresses are only filled in after
//! a first call without any has shown that the descriptor is of the right kind: a map's answer to a program's question has
//! no address to follow.
#![expect(unsafe_code, reason = "passes info structs and their arrays to bpf(2)")]

use std::os::fd::BorrowedFd;

use super::attr::{self, Attr};
use super::{BtfId, LinkId, MapId, ProgId, addr_mut, call, cmd, raw};
use crate::Errno;

/// Asks. Addresses inside `info` must be good for the lengths inside `info`.
///
/// # Safety
/// Every address in `info` points to memory that is borrowed mutably for the call and has the length stated beside it, and
/// `fd` is of the kind that `T` describes (or `info` has no addresses).
unsafe fn get<T: Attr>(fd: BorrowedFd<'_>, info: &mut T) -> Result<(), Errno> {
    let mut a = attr::Info::zeroed();
    a.bpf_fd = raw(fd);
    a.info_len = size_of::<T>() as u32;
    a.info = std::ptr::from_mut(info).expose_provenance() as u64;
    // SAFETY: `info` is borrowed mutably with its own size; its inner addresses are the caller's promise.
    unsafe { call(cmd::OBJ_GET_INFO_BY_FD, &mut a) }.map(drop)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A descriptor's kind, from the name of its file, so that no struct is filled with another kind's answer.
fn expect_kind(fd: BorrowedFd<'_>, kind: &str) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let name = name.to_string_lossy();
    let name = name.trim_start_matches("anon_inode:").trim_matches(['[', ']']);
    if name.replace('_', "-") == kind { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `struct bpf_map_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are the kernel's, in its spelling where it says enough")]
pub struct MapInfo {
    pub id: MapId,
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub name: String,
    pub ifindex: u32,
    pub btf_vmlinux_value_type_id: u32,
    pub netns_dev: u64,
    pub netns_ino: u64,
    pub btf_id: BtfId,
    pub btf_key_type_id: u32,
    pub btf_value_type_id: u32,
    pub btf_vmlinux_id: BtfId,
    pub map_extra: u64,
}

impl MapInfo {
    /// `EINVAL` when the descriptor is no map.
    pub fn of(fd: BorrowedFd<'_>) -> Result<MapInfo, Errno> {
        expect_kind(fd, "bpf-map")?;
        MapInfo::of_map(fd)
    }

    /// The digest of a map's contents.
    pub(super) fn digest(fd: BorrowedFd<'_>) -> Result<[u8; 32], Errno> {
        let mut digest = [0u8; 32];
        let mut i = attr::MapInfo::zeroed();
        i.hash = digest.as_mut_ptr().expose_provenance() as u64;
        i.hash_size = digest.len() as u32;
        // SAFETY: the only address is that of the digest, with its length.
        unsafe { get(fd, &mut i)? };
        // A kernel that does not know the fields leaves them alone, or refuses those that it does not know.
        if i.hash_size as usize == digest.len() && digest != [0; 32] { Ok(digest) } else { Err(Errno::EINVAL) }
    }

    /// Of a descriptor that is known to be a map, which saves looking.
    pub(super) fn of_map(fd: BorrowedFd<'_>) -> Result<MapInfo, Errno> {
        let mut i = attr::MapInfo::zeroed();
        // SAFETY: no addresses inside (`hash` is null with size 0).
        unsafe { get(fd, &mut i)? };
        Ok(MapInfo {
            id: MapId(i.id),
            map_type: i.type_,
            key_size: i.key_size,
            value_size: i.value_size,
            max_entries: i.max_entries,
            map_flags: i.map_flags,
            name: text(&i.name),
            ifindex: i.ifindex,
            btf_vmlinux_value_type_id: i.btf_vmlinux_value_type_id,
            netns_dev: i.netns_dev,
            netns_ino: i.netns_ino,
            btf_id: BtfId(i.btf_id),
            btf_key_type_id: i.btf_key_type_id,
            btf_value_type_id: i.btf_value_type_id,
            btf_vmlinux_id: BtfId(i.btf_vmlinux_id),
            map_extra: i.map_extra,
        })
    }
}

/// What `/proc/self/fdinfo` tells about a map and `struct bpf_map_info` does not (`bpf_map_show_fdinfo` in
/// kernel/bpf/syscall.c).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapFdInfo {
    /// Bytes of memory that it takes; until kernel 5.11 those counted against `RLIMIT_MEMLOCK`, before 6.4 an estimate.
    pub memlock_bytes: Option<u64>,
    /// Whether user space may no longer write (kernel 5.2).
    pub frozen: bool,
    /// `enum bpf_prog_type` of the programs in a program array that has had one.
    pub owner_prog_type: Option<u32>,
}

impl MapFdInfo {
    /// `EINVAL` when the descriptor is no map, `ENOENT` without `/proc`.
    pub fn of(fd: BorrowedFd<'_>) -> Result<MapFdInfo, Errno> {
        use std::os::fd::AsRawFd as _;
        expect_kind(fd, "bpf-map")?;
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
        let number = |key: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.trim().parse().ok()
        };
        Ok(MapFdInfo {
            memlock_bytes: number("memlock"),
            frozen: number("frozen") == Some(1),
            owner_prog_type: number("owner_prog_type").and_then(|number| u32::try_from(number).ok()),
        })
    }
}

/// `struct bpf_prog_info` without its arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are the kernel's, in its spelling where it says enough")]
pub struct ProgInfo {
    pub id: ProgId,
    pub prog_type: u32,
    pub tag: [u8; 8],
    pub name: String,
    pub jited_bytes: u32,
    pub xlated_bytes: u32,
    /// Nanoseconds since boot.
    pub load_time_ns: u64,
    pub created_by_uid: u32,
    pub gpl_compatible: bool,
    pub ifindex: u32,
    pub netns_dev: u64,
    pub netns_ino: u64,
    pub nr_map_ids: u32,
    pub btf_id: BtfId,
    pub nr_func_info: u32,
    pub nr_line_info: u32,
    pub nr_jited_ksyms: u32,
    /// Zero unless statistics were on.
    pub run_time_ns: u64,
    pub run_cnt: u64,
    pub recursion_misses: u64,
    pub verified_insns: u32,
    pub attach_btf_obj_id: BtfId,
    pub attach_btf_id: u32,
}

/// The arrays of `struct bpf_prog_info`. Each is empty where the kernel hides it (without `CAP_PERFMON`, or with
/// `kernel.kptr_restrict`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are the kernel's, in its spelling where it says enough")]
pub struct ProgDetails {
    /// Instructions after the verifier's rewriting, 8 bytes each.
    pub xlated: Vec<u8>,
    /// Machine code of all functions, one after the other.
    pub jited: Vec<u8>,
    pub map_ids: Vec<MapId>,
    /// Addresses of the functions.
    pub jited_ksyms: Vec<u64>,
    /// Bytes of machine code of each function.
    pub jited_func_lens: Vec<u32>,
    pub func_info: Vec<u8>,
    pub func_info_rec_size: u32,
    pub line_info: Vec<u8>,
    pub line_info_rec_size: u32,
    /// Address for each line record.
    pub jited_line_info: Vec<u64>,
    pub prog_tags: Vec<[u8; 8]>,
}

impl ProgInfo {
    /// `EINVAL` when the descriptor is no program.
    pub fn of(fd: BorrowedFd<'_>) -> Result<ProgInfo, Errno> {
        Ok(ProgInfo::from_raw(&ProgInfo::raw(fd)?))
    }

    fn raw(fd: BorrowedFd<'_>) -> Result<attr::ProgInfo, Errno> {
        expect_kind(fd, "bpf-prog")?;
        let mut i = attr::ProgInfo::zeroed();
        // SAFETY: no addresses inside.
        unsafe { get(fd, &mut i)? };
        Ok(i)
    }

    fn from_raw(i: &attr::ProgInfo) -> ProgInfo {
        ProgInfo {
            id: ProgId(i.id),
            prog_type: i.type_,
            tag: i.tag,
            name: text(&i.name),
            jited_bytes: i.jited_prog_len,
            xlated_bytes: i.xlated_prog_len,
            load_time_ns: i.load_time,
            created_by_uid: i.created_by_uid,
            gpl_compatible: i.gpl_compatible.to_ne_bytes()[0] & GPL_BIT != 0,
            ifindex: i.ifindex,
            netns_dev: i.netns_dev,
            netns_ino: i.netns_ino,
            nr_map_ids: i.nr_map_ids,
            btf_id: BtfId(i.btf_id),
            nr_func_info: i.nr_func_info,
            nr_line_info: i.nr_line_info,
            nr_jited_ksyms: i.nr_jited_ksyms,
            run_time_ns: i.run_time_ns,
            run_cnt: i.run_cnt,
            recursion_misses: i.recursion_misses,
            verified_insns: i.verified_insns,
            attach_btf_obj_id: BtfId(i.attach_btf_obj_id),
            attach_btf_id: i.attach_btf_id,
        }
    }

    /// Asks for the ids of the program's maps, too.
    pub fn with_maps(fd: BorrowedFd<'_>) -> Result<(ProgInfo, Vec<MapId>), Errno> {
        let first = ProgInfo::raw(fd)?;
        let mut ids = vec![0u32; first.nr_map_ids as usize];
        let mut i = attr::ProgInfo::zeroed();
        i.nr_map_ids = first.nr_map_ids;
        i.map_ids = addr_mut(&mut ids);
        // SAFETY: the descriptor is a program (checked in `raw`), and the only address is `ids` with its length.
        unsafe { get(fd, &mut i)? };
        // A map that was bound meanwhile is counted but not written.
        ids.truncate(i.nr_map_ids as usize);
        Ok((ProgInfo::from_raw(&i), ids.into_iter().map(MapId).collect()))
    }

    /// Asks for everything, arrays included. They may be large: machine code of big programs is megabytes.
    pub fn with_details(fd: BorrowedFd<'_>) -> Result<(ProgInfo, ProgDetails), Errno> {
        let first = ProgInfo::raw(fd)?;
        let mut d = ProgDetails {
            xlated: vec![0; first.xlated_prog_len as usize],
            jited: vec![0; first.jited_prog_len as usize],
            map_ids: vec![MapId(0); first.nr_map_ids as usize],
            jited_ksyms: vec![0; first.nr_jited_ksyms as usize],
            jited_func_lens: vec![0; first.nr_jited_func_lens as usize],
            func_info: vec![0; first.nr_func_info as usize * first.func_info_rec_size as usize],
            func_info_rec_size: first.func_info_rec_size,
            line_info: vec![0; first.nr_line_info as usize * first.line_info_rec_size as usize],
            line_info_rec_size: first.line_info_rec_size,
            jited_line_info: vec![0; first.nr_jited_line_info as usize],
            prog_tags: vec![[0; 8]; first.nr_prog_tags as usize],
        };
        let mut map_ids = vec![0u32; d.map_ids.len()];
        let mut i = attr::ProgInfo::zeroed();
        i.xlated_prog_len = first.xlated_prog_len;
        i.xlated_prog_insns = addr_mut(&mut d.xlated);
        i.jited_prog_len = first.jited_prog_len;
        i.jited_prog_insns = addr_mut(&mut d.jited);
        i.nr_map_ids = first.nr_map_ids;
        i.map_ids = addr_mut(&mut map_ids);
        i.nr_jited_ksyms = first.nr_jited_ksyms;
        i.jited_ksyms = addr_mut(&mut d.jited_ksyms);
        i.nr_jited_func_lens = first.nr_jited_func_lens;
        i.jited_func_lens = addr_mut(&mut d.jited_func_lens);
        i.nr_func_info = first.nr_func_info;
        i.func_info_rec_size = first.func_info_rec_size;
        i.func_info = addr_mut(&mut d.func_info);
        i.nr_line_info = first.nr_line_info;
        i.line_info_rec_size = first.line_info_rec_size;
        i.line_info = addr_mut(&mut d.line_info);
        i.nr_jited_line_info = first.nr_jited_line_info;
        i.jited_line_info_rec_size = first.jited_line_info_rec_size;
        if first.jited_line_info_rec_size == 8 {
            i.jited_line_info = addr_mut(&mut d.jited_line_info);
        } else {
            i.nr_jited_line_info = 0;
        }
        i.nr_prog_tags = first.nr_prog_tags;
        i.prog_tags = addr_mut(&mut d.prog_tags);
        // SAFETY: the descriptor is a program (checked in `raw`); each array was made with the length that stands beside
        // its address, in units the kernel stated for it, and is borrowed mutably until the call is done.
        unsafe { get(fd, &mut i)? };
        // The kernel clears an address whose contents it will not show.
        if i.xlated_prog_insns == 0 {
            d.xlated.clear();
        }
        if i.jited_prog_insns == 0 || i.jited_prog_len == 0 {
            d.jited.clear();
        }
        if i.jited_ksyms == 0 {
            d.jited_ksyms.clear();
        }
        if i.jited_func_lens == 0 {
            d.jited_func_lens.clear();
        }
        if i.func_info == 0 {
            d.func_info.clear();
        }
        if i.line_info == 0 {
            d.line_info.clear();
        }
        if i.jited_line_info == 0 {
            d.jited_line_info.clear();
        }
        if i.prog_tags == 0 {
            d.prog_tags.clear();
        }
        d.map_ids = map_ids.into_iter().map(MapId).collect();
        Ok((ProgInfo::from_raw(&i), d))
    }
}

/// `gpl_compatible` is a bit-field of one bit: the lowest of the first byte, or the highest on big-endian machines.
const GPL_BIT: u8 = if cfg!(target_endian = "big") { 0x80 } else { 1 };

/// `struct bpf_btf_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfInfo {
    /// Its id.
    pub id: BtfId,
    /// `vmlinux`, a module's name, or nothing.
    pub name: String,
    /// Bytes of the raw BTF.
    pub size_bytes: u32,
    /// The kernel's own or a module's.
    pub is_kernel: bool,
}

impl BtfInfo {
    /// `EINVAL` when the descriptor is no BTF.
    pub fn of(fd: BorrowedFd<'_>) -> Result<BtfInfo, Errno> {
        expect_kind(fd, "btf")?;
        let mut name = [0u8; 128];
        let mut i = attr::BtfInfo::zeroed();
        i.name = addr_mut(&mut name);
        i.name_len = name.len() as u32;
        // SAFETY: the descriptor is BTF (checked above), and the only address is `name` with its length.
        unsafe { get(fd, &mut i)? };
        Ok(BtfInfo { id: BtfId(i.id), name: text(&name), size_bytes: i.btf_size, is_kernel: i.kernel_btf != 0 })
    }

    /// The raw bytes.
    pub(super) fn data(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
        let size = BtfInfo::of(fd)?.size_bytes;
        let mut data = vec![0u8; size as usize];
        let mut i = attr::BtfInfo::zeroed();
        i.btf = addr_mut(&mut data);
        i.btf_size = size;
        // SAFETY: the descriptor is BTF (checked above), and the only address is `data` with its length.
        unsafe { get(fd, &mut i)? };
        Ok(data)
    }
}

/// `enum bpf_link_type`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkType(pub u32);

impl LinkType {
    /// `BPF_LINK_TYPE_RAW_TRACEPOINT`.
    pub const RAW_TRACEPOINT: LinkType = LinkType(1);
    /// `BPF_LINK_TYPE_TRACING`: fentry and its kind, lsm, tp_btf, freplace.
    pub const TRACING: LinkType = LinkType(2);
    /// `BPF_LINK_TYPE_CGROUP`.
    pub const CGROUP: LinkType = LinkType(3);
    /// `BPF_LINK_TYPE_ITER`.
    pub const ITER: LinkType = LinkType(4);
    /// `BPF_LINK_TYPE_NETNS`.
    pub const NETNS: LinkType = LinkType(5);
    /// `BPF_LINK_TYPE_XDP`.
    pub const XDP: LinkType = LinkType(6);
    /// `BPF_LINK_TYPE_PERF_EVENT`: a program on a perf event, be it a tracepoint, a probe or a sample.
    pub const PERF_EVENT: LinkType = LinkType(7);
    /// `BPF_LINK_TYPE_KPROBE_MULTI`.
    pub const KPROBE_MULTI: LinkType = LinkType(8);
    /// `BPF_LINK_TYPE_STRUCT_OPS`.
    pub const STRUCT_OPS: LinkType = LinkType(9);
    /// `BPF_LINK_TYPE_NETFILTER`.
    pub const NETFILTER: LinkType = LinkType(10);
    /// `BPF_LINK_TYPE_TCX`.
    pub const TCX: LinkType = LinkType(11);
    /// `BPF_LINK_TYPE_UPROBE_MULTI`.
    pub const UPROBE_MULTI: LinkType = LinkType(12);
    /// `BPF_LINK_TYPE_NETKIT`.
    pub const NETKIT: LinkType = LinkType(13);
    /// `BPF_LINK_TYPE_SOCKMAP`.
    pub const SOCKMAP: LinkType = LinkType(14);

    const NAMES: [&'static str; 15] = [
        "unspec",
        "raw_tracepoint",
        "tracing",
        "cgroup",
        "iter",
        "netns",
        "xdp",
        "perf_event",
        "kprobe_multi",
        "struct_ops",
        "netfilter",
        "tcx",
        "uprobe_multi",
        "netkit",
        "sockmap",
    ];

    /// The kernel's name in lower case; `None` for a type newer than 6.18.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.get(self.0 as usize).copied()
    }
}

/// `struct bpf_link_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its id.
    pub id: LinkId,
    /// Which kind.
    pub link_type: LinkType,
    /// The program; 0 for struct_ops.
    pub prog: ProgId,
    /// What the kind tells.
    pub kind: LinkKind,
}

/// What a link tells by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are the kernel's, in its spelling")]
pub enum LinkKind {
    RawTracepoint {
        name: String,
        cookie: u64,
    },
    Tracing {
        attach_type: u32,
        target_obj_id: u32,
        target_btf_id: u32,
        cookie: u64,
    },
    Cgroup {
        cgroup_id: u64,
        attach_type: u32,
    },
    Iter {
        target: String,
        map: MapId,
        words: [u64; 2],
    },
    Netns {
        netns_ino: u32,
        attach_type: u32,
    },
    Xdp {
        ifindex: u32,
    },
    StructOps {
        map: MapId,
    },
    Netfilter {
        pf: u32,
        hooknum: u32,
        priority: i32,
        flags: u32,
    },
    KprobeMulti {
        count: u32,
        flags: u32,
        missed: u64,
        addrs: Vec<u64>,
        cookies: Vec<u64>,
    },
    UprobeMulti {
        path: String,
        flags: u32,
        pid: u32,
        offsets: Vec<u64>,
        ref_ctr_offsets: Vec<u64>,
        cookies: Vec<u64>,
    },
    Kprobe {
        name: String,
        offset: u32,
        addr: u64,
        missed: u64,
        cookie: u64,
        is_return: bool,
    },
    Uprobe {
        file: String,
        offset: u32,
        cookie: u64,
        ref_ctr_offset: u64,
        is_return: bool,
    },
    Tracepoint {
        name: String,
        cookie: u64,
    },
    PerfEvent {
        config: u64,
        event_type: u32,
        cookie: u64,
    },
    Tcx {
        ifindex: u32,
        attach_type: u32,
    },
    Netkit {
        ifindex: u32,
        attach_type: u32,
    },
    Sockmap {
        map: MapId,
        attach_type: u32,
    },
    /// A kind newer than 6.18, or one whose details this kernel does not tell.
    Other,
}

/// One of the two 32-bit halves of a word, 0 at the lower address.
fn half(word: u64, which: usize) -> u32 {
    let bytes = word.to_ne_bytes();
    let at = which * 4;
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes one of the halves.
fn set_half(word: &mut u64, which: usize, value: u32) {
    let mut bytes = word.to_ne_bytes();
    bytes[which * 4..which * 4 + 4].copy_from_slice(&value.to_ne_bytes());
    *word = u64::from_ne_bytes(bytes);
}

impl LinkInfo {
    /// `EINVAL` when the descriptor is no link.
    pub fn of(fd: BorrowedFd<'_>) -> Result<LinkInfo, Errno> {
        // Old kernels call the files of links by their kinds; only programs, maps and BTF must not get here.
        if ["bpf-map", "bpf-prog", "btf"].iter().any(|kind| expect_kind(fd, kind).is_ok()) {
            return Err(Errno::EINVAL);
        }
        let mut first = attr::LinkInfo::zeroed();
        // SAFETY: no addresses inside.
        unsafe { get(fd, &mut first)? };
        let kind = LinkInfo::kind(fd, &first)?;
        Ok(LinkInfo { id: LinkId(first.id), link_type: LinkType(first.type_), prog: ProgId(first.prog_id), kind })
    }

    fn kind(fd: BorrowedFd<'_>, first: &attr::LinkInfo) -> Result<LinkKind, Errno> {
        let w = &first.words;
        Ok(match first.type_ {
            1 => {
                let (name, i) = named(fd, first, 0, 1, 0)?;
                LinkKind::RawTracepoint { name, cookie: i.words[2] }
            }
            2 => LinkKind::Tracing {
                attach_type: half(w[0], 0),
                target_obj_id: half(w[0], 1),
                target_btf_id: half(w[1], 0),
                cookie: w[2],
            },
            3 => LinkKind::Cgroup { cgroup_id: w[0], attach_type: half(w[1], 0) },
            4 => {
                let (target, i) = named(fd, first, 0, 1, 0)?;
                LinkKind::Iter { target, map: MapId(half(i.words[1], 1)), words: [i.words[2], i.words[3]] }
            }
            5 => LinkKind::Netns { netns_ino: half(w[0], 0), attach_type: half(w[0], 1) },
            6 => LinkKind::Xdp { ifindex: half(w[0], 0) },
            7 => LinkInfo::perf(fd, first)?,
            8 => LinkInfo::kprobe_multi(fd, first)?,
            9 => LinkKind::StructOps { map: MapId(half(w[0], 0)) },
            10 => LinkKind::Netfilter {
                pf: half(w[0], 0),
                hooknum: half(w[0], 1),
                priority: half(w[1], 0) as i32,
                flags: half(w[1], 1),
            },
            11 => LinkKind::Tcx { ifindex: half(w[0], 0), attach_type: half(w[0], 1) },
            12 => LinkInfo::uprobe_multi(fd, first)?,
            13 => LinkKind::Netkit { ifindex: half(w[0], 0), attach_type: half(w[0], 1) },
            14 => LinkKind::Sockmap { map: MapId(half(w[0], 0)), attach_type: half(w[0], 1) },
            _ => LinkKind::Other,
        })
    }

    fn perf(fd: BorrowedFd<'_>, first: &attr::LinkInfo) -> Result<LinkKind, Errno> {
        // `enum bpf_perf_event_type`; 0 on kernels before 6.6, which tell nothing.
        let perf_type = half(first.words[0], 0);
        if perf_type == 6 {
            let w = &first.words;
            return Ok(LinkKind::PerfEvent { config: w[1], event_type: half(w[2], 0), cookie: w[3] });
        }
        if !(1..=5).contains(&perf_type) {
            return Ok(LinkKind::Other);
        }
        let (name, i) = named(fd, first, 1, 2, 0)?;
        let w = &i.words;
        let offset = half(w[2], 1);
        Ok(match perf_type {
            1 | 2 => {
                LinkKind::Uprobe { file: name, offset, cookie: w[3], ref_ctr_offset: w[4], is_return: perf_type == 2 }
            }
            3 | 4 => {
                LinkKind::Kprobe { name, offset, addr: w[3], missed: w[4], cookie: w[5], is_return: perf_type == 4 }
            }
            _ => LinkKind::Tracepoint { name, cookie: w[3] },
        })
    }

    fn kprobe_multi(fd: BorrowedFd<'_>, first: &attr::LinkInfo) -> Result<LinkKind, Errno> {
        let count = half(first.words[1], 0);
        let mut addrs = vec![0u64; count as usize];
        let mut cookies = vec![0u64; count as usize];
        let mut i = attr::LinkInfo::zeroed();
        i.words[0] = addr_mut(&mut addrs);
        set_half(&mut i.words[1], 0, count);
        i.words[3] = addr_mut(&mut cookies);
        // SAFETY: the first answer said that this is a kprobe_multi link, whose addresses are these two arrays of `count`.
        unsafe { get(fd, &mut i)? };
        let w = &i.words;
        Ok(LinkKind::KprobeMulti { count: half(w[1], 0), flags: half(w[1], 1), missed: w[2], addrs, cookies })
    }

    fn uprobe_multi(fd: BorrowedFd<'_>, first: &attr::LinkInfo) -> Result<LinkKind, Errno> {
        let count = half(first.words[4], 1);
        let mut path = vec![0u8; 4096];
        let mut offsets = vec![0u64; count as usize];
        let mut ref_ctr_offsets = vec![0u64; count as usize];
        let mut cookies = vec![0u64; count as usize];
        let mut i = attr::LinkInfo::zeroed();
        i.words[0] = addr_mut(&mut path);
        i.words[1] = addr_mut(&mut offsets);
        i.words[2] = addr_mut(&mut ref_ctr_offsets);
        i.words[3] = addr_mut(&mut cookies);
        set_half(&mut i.words[4], 0, path.len() as u32);
        set_half(&mut i.words[4], 1, count);
        // SAFETY: the first answer said that this is a uprobe_multi link, whose addresses are the path and the three arrays
        // of `count`.
        unsafe { get(fd, &mut i)? };
        let w = &i.words;
        Ok(LinkKind::UprobeMulti {
            path: text(&path),
            flags: half(w[5], 0),
            pid: half(w[5], 1),
            offsets,
            ref_ctr_offsets,
            cookies,
        })
    }
}

/// Asks again with a buffer for a name: its address in word `at`, its length in half `which` of word `len_at`.
fn named(
    fd: BorrowedFd<'_>,
    first: &attr::LinkInfo,
    at: usize,
    len_at: usize,
    which: usize,
) -> Result<(String, attr::LinkInfo), Errno> {
    let mut name = vec![0u8; 1024];
    let mut i = attr::LinkInfo::zeroed();
    // The kernel reads the perf kind from what it fills itself, never from what is passed in.
    i.type_ = first.type_;
    i.words[at] = addr_mut(&mut name);
    set_half(&mut i.words[len_at], which, name.len() as u32);
    // SAFETY: the first answer said which kind this link is, and the caller names the words where that kind has its one
    // address and its length.
    match unsafe { get(fd, &mut i) } {
        Ok(()) | Err(Errno::ENOSPC) => Ok((text(&name), i)),
        // Names may be hidden (a kprobe's without CAP_SYSLOG).
        Err(Errno::EINVAL | Errno::ENOENT) => Ok((String::new(), *first)),
        Err(errno) => Err(errno),
    }
}
