//! What the running kernel can do, found out by trying.
//!
//! Each question is one system call (or two) that has no effect on the machine: a program of a few instructions that is
//! loaded and let go, types that are loaded and let go, an attachment that cannot succeed. Each is asked when first needed
//! and the answer kept. Where the caller has no right to ask, the answer comes from the kernel's version.

mod questions;
mod types;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use skep_insn::build::{add, call, call_kfunc, call_local, exit, load as load_from, mov, slots};
use skep_insn::{RawInsn, Reg, Size, helpers};
use skep_script::plan::KernelStacks;
use skep_spec::MapType;
use skep_spec::program::{AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{LinkCreate, LinkExtra, LinkFd, LinkTarget, MapCreate, ProgFd, ProgLoad, flags};
use skep_sys::bpf::{Log, LogLevel};
use skep_sys::version::KernelVersion;

pub use questions::{KernelFeature, kernel_has};
pub use types::BtfKinds;

/// Answers, as far as they were asked for.
#[derive(Debug, Default)]
pub struct Features {
    probe_read_kernel: OnceLock<bool>,
    attach_cookie: OnceLock<bool>,
    arg_ctx_tag: OnceLock<bool>,
    uprobe_multi: OnceLock<bool>,
    perf_link: OnceLock<bool>,
    array_mmap: OnceLock<bool>,
    btf_kinds: OnceLock<BtfKinds>,
    helpers: Mutex<HashMap<u32, bool>>,
}

/// `return 0`.
fn return_0() -> Vec<RawInsn> {
    slots(&[mov(Reg::R0, 0), exit()])
}

/// Asks for uprobes in a folder, which is no place for them: a kernel that knows of many in one link looks at the path and says
/// `EBADF`.
fn uprobes_in_a_folder(prog: &ProgFd, attach_type: AttachType, pid: u32) -> Result<LinkFd, Errno> {
    let extra = LinkExtra::UprobeMulti { path: c"/", offsets: &[0], ref_ctr_offsets: &[], cookies: &[], flags: 0, pid };
    LinkCreate { prog: prog.as_fd(), target: LinkTarget::None, attach_type: attach_type.0, flags: 0, extra }.create()
}

fn load(prog_type: ProgType, insns: &[RawInsn], attach_type: u32) -> Result<ProgFd, Errno> {
    let bytes = skep_insn::slots_to_bytes(insns, skep_insn::Endian::NATIVE);
    ProgLoad {
        prog_type: prog_type.0,
        insns: &bytes,
        license: c"GPL",
        expected_attach_type: attach_type,
        kern_version: KernelVersion::running().code(),
        ..ProgLoad::default()
    }
    .load()
    .0
}

/// Loads a call of a helper and reads what the verifier says: `invalid func`, `unknown func` and `program of this type cannot
/// use helper` (`check_helper_call` in kernel/bpf/verifier.c) mean no.
fn knows_helper(prog_type: ProgType, helper: u32) -> bool {
    let bytes = skep_insn::slots_to_bytes(&slots(&[call(helper), mov(Reg::R0, 0), exit()]), skep_insn::Endian::NATIVE);
    let mut text = vec![0; 4096];
    let result = ProgLoad {
        prog_type: prog_type.0,
        insns: &bytes,
        license: c"GPL",
        expected_attach_type: least_attach_type(prog_type),
        prog_flags: if prog_type == ProgType::SYSCALL { flags::F_SLEEPABLE } else { 0 },
        kern_version: KernelVersion::running().code(),
        log: Some(Log { level: LogLevel::BRIEF, buf: &mut text }),
        ..ProgLoad::default()
    }
    .load()
    .0;
    match result {
        Ok(_) | Err(Errno::EPERM) => true,
        Err(_) => {
            let text = String::from_utf8_lossy(&text);
            !["invalid func", "unknown func", "cannot use helper"].iter().any(|words| text.contains(words))
        }
    }
}

/// A yes, a no, or, without the right to ask, whether the version is at least the one that brought it.
fn judged<T>(result: Result<T, Errno>, since: KernelVersion) -> bool {
    match result {
        Ok(_) => true,
        Err(Errno::EPERM) => KernelVersion::running() >= since,
        Err(_) => false,
    }
}

impl Features {
    /// `bpf_probe_read_kernel` and its relatives (5.5). Most programs want to know, and nothing takes them out of a kernel
    /// that is new enough, so only older ones, which may have got them later, are asked.
    pub fn probe_read_kernel(&self) -> bool {
        *self.probe_read_kernel.get_or_init(|| {
            let since = KernelVersion::new(5, 5, 0);
            if KernelVersion::running() >= since {
                return true;
            }
            let insns = slots(&[
                mov(Reg::R1, Reg::FP),
                add(Reg::R1, -8),
                mov(Reg::R2, 8),
                mov(Reg::R3, 0),
                call(helpers::PROBE_READ_KERNEL),
                exit(),
            ]);
            judged(load(ProgType::TRACEPOINT, &insns, 0), since)
        })
    }

    /// `bpf_get_attach_cookie`, for probes of perf events (5.15).
    pub fn attach_cookie(&self) -> bool {
        *self.attach_cookie.get_or_init(|| {
            let insns = slots(&[call(helpers::GET_ATTACH_COOKIE), exit()]);
            judged(load(ProgType::TRACEPOINT, &insns, 0), KernelVersion::new(5, 15, 0))
        })
    }

    /// Whether system calls are entered through wrappers that take `struct pt_regs` (x86-64 since 4.17, arm64 since 4.19,
    /// s390 since 4.17, riscv since 6.6). A property of the kernel's build and not a call one could try; the names in the
    /// kernel's symbols say the same.
    pub fn syscall_wrapper(&self) -> bool {
        let since = match std::env::consts::ARCH {
            "x86_64" | "x86" | "s390x" => KernelVersion::new(4, 17, 0),
            "aarch64" => KernelVersion::new(4, 19, 0),
            "riscv64" => KernelVersion::new(6, 6, 0),
            _ => return false,
        };
        KernelVersion::running() >= since
    }

    /// Links for perf events (5.15): tracepoints, kprobes and uprobes that go away with their descriptor and carry cookies.
    pub fn perf_link(&self) -> bool {
        *self.perf_link.get_or_init(|| {
            let Ok(prog) = load(ProgType::TRACEPOINT, &return_0(), 0) else {
                return KernelVersion::running() >= KernelVersion::new(5, 15, 0);
            };
            let link = LinkCreate {
                prog: prog.as_fd(),
                // Not a descriptor at all: a kernel that knows the kind says EBADF, one that does not EINVAL.
                target: LinkTarget::Ifindex(u32::MAX),
                attach_type: AttachType::PERF_EVENT.0,
                flags: 0,
                extra: LinkExtra::None,
            };
            matches!(link.create(), Err(Errno::EBADF))
        })
    }

    /// Many uprobes in one link (6.6), as far as it filters by process and not by thread.
    pub fn uprobe_multi(&self) -> bool {
        *self.uprobe_multi.get_or_init(|| {
            let since = KernelVersion::new(6, 6, 0);
            let prog = match load(ProgType::KPROBE, &return_0(), AttachType::TRACE_UPROBE_MULTI.0) {
                Ok(prog) => prog,
                Err(Errno::EPERM) => return KernelVersion::running() >= since,
                Err(_) => return false,
            };
            let attempt = |pid| uprobes_in_a_folder(&prog, AttachType::TRACE_UPROBE_MULTI, pid).err();
            // EBADF from a kernel that looks at the path at all. Kernels that filtered by thread took any number for a
            // process; the others say that -1 is none.
            attempt(0) == Some(Errno::EBADF) && attempt(u32::MAX) == Some(Errno::EINVAL)
        })
    }

    /// Whether tracing programs may call a helper. A call with wrong arguments is refused either way, but in other words.
    ///
    /// Without the right to ask the answer is yes: the program that needs it will not load anyway.
    pub fn has_helper(&self, helper: u32) -> bool {
        let mut known = self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(helper).or_insert_with(|| {
            // Each of these types has a few helpers that the others lack.
            let types = [ProgType::KPROBE, ProgType::PERF_EVENT, ProgType::RAW_TRACEPOINT];
            types.into_iter().any(|prog_type| knows_helper(prog_type, helper))
        })
    }

    /// Array maps that can be mapped (5.5).
    pub fn array_mmap(&self) -> bool {
        *self.array_mmap.get_or_init(|| {
            let map = MapCreate {
                map_type: MapType::ARRAY.0,
                key_size: 4,
                value_size: 4,
                max_entries: 1,
                map_flags: flags::F_MMAPABLE,
                ..MapCreate::default()
            };
            judged(map.create(), KernelVersion::new(5, 5, 0))
        })
    }

    /// Whether a tracing program may read the kernel's memory at any address (`bpf_rdonly_cast`, 6.2).
    pub fn rdonly_cast(&self, types: KernelStacks) -> bool {
        let code = slots(&[
            mov(Reg::R2, types.registers as i32),
            call_kfunc(types.cast, 0),
            load_from(Size::Dw, Reg::R0, Reg::R0, 0),
            mov(Reg::R0, 0),
            exit(),
        ]);
        load(ProgType::TRACEPOINT, &code, 0).is_ok()
    }

    /// Which kinds of types the kernel takes.
    pub fn btf_kinds(&self) -> BtfKinds {
        *self.btf_kinds.get_or_init(BtfKinds::ask)
    }

    /// Whether the kernel takes `arg:ctx` tags on the arguments of global functions (6.8): the argument, a pointer to
    /// nothing in particular by its type, then counts as the program's context.
    pub fn arg_ctx_tag(&self) -> bool {
        *self.arg_ctx_tag.get_or_init(|| {
            let Ok((btf, main, sub)) = types::with_arg_ctx() else { return false };
            // a: call b; exit   b: r0 = *(u32 *)(r1 + 0), allowed on a context only; exit
            let insns = slots(&[call_local(1), exit(), load_from(Size::W, Reg::R0, Reg::R1, 0), exit()]);
            let bytes = skep_insn::slots_to_bytes(&insns, skep_insn::Endian::NATIVE);
            let func_info: Vec<u8> = [0, main.0, 2, sub.0].into_iter().flat_map(u32::to_ne_bytes).collect();
            let loaded = ProgLoad {
                prog_type: ProgType::SOCKET_FILTER.0,
                insns: &bytes,
                license: c"GPL",
                btf: Some(btf.as_fd()),
                func_info: &func_info,
                func_info_rec_size: 8,
                ..ProgLoad::default()
            }
            .load()
            .0;
            judged(loaded, KernelVersion::new(6, 8, 0))
        })
    }

    /// Whether the kernel makes maps of this type. Types with conditions of their own (types, other maps, an address) are
    /// made as they must be.
    pub fn map_type(&self, map_type: MapType) -> Result<(), Errno> {
        let mut create =
            MapCreate { map_type: map_type.0, key_size: 4, value_size: 4, max_entries: 1, ..MapCreate::default() };
        let mut inner = None;
        let mut btf = None;
        match map_type {
            MapType::STACK_TRACE => create.value_size = 8,
            MapType::LPM_TRIE => {
                create.key_size = 8;
                create.value_size = 8;
                create.map_flags = flags::F_NO_PREALLOC;
            }
            MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => {
                create.key_size = 16;
                create.value_size = 8;
                create.max_entries = 0;
            }
            MapType::QUEUE | MapType::STACK => create.key_size = 0,
            MapType::BLOOM_FILTER => create.key_size = 0,
            MapType::RINGBUF | MapType::USER_RINGBUF => {
                create.key_size = 0;
                create.value_size = 0;
                create.max_entries = skep_sys::page_size() as u32;
            }
            MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE => {
                let (fd, int) = types::with_int()?;
                btf = Some(fd);
                create.btf_key_type_id = int.0;
                create.btf_value_type_id = int.0;
                create.max_entries = 0;
                create.map_flags = flags::F_NO_PREALLOC;
            }
            MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => {
                let array = MapCreate { map_type: MapType::ARRAY.0, ..create };
                inner = Some(array.create()?);
            }
            MapType::STRUCT_OPS => {
                // No such type in the kernel is ENOENT or EINVAL, a kernel without struct_ops says ENOTSUPP.
                create.btf_vmlinux_value_type_id = 1;
                return match create.create() {
                    Err(errno @ (Errno::EPERM | Errno::ENOTSUPP)) => Err(errno),
                    _ => Ok(()),
                };
            }
            MapType::ARENA => {
                create.key_size = 0;
                create.value_size = 0;
                create.map_flags = flags::F_MMAPABLE;
            }
            MapType::UNSPEC => return Err(Errno::EINVAL),
            _ => {}
        }
        create.inner_map = inner.as_ref().map(AsFd::as_fd);
        create.btf = btf.as_ref().map(AsFd::as_fd);
        create.create().map(drop)
    }
}

/// An attach type that programs of a type can be loaded with, since some do not load without (`bpf_prog_load_check_attach`).
fn least_attach_type(prog_type: ProgType) -> u32 {
    match prog_type {
        ProgType::CGROUP_SOCK => AttachType::CGROUP_INET_SOCK_CREATE.0,
        ProgType::CGROUP_SOCK_ADDR => AttachType::CGROUP_INET4_CONNECT.0,
        ProgType::CGROUP_SOCKOPT => AttachType::CGROUP_GETSOCKOPT.0,
        ProgType::SK_LOOKUP => AttachType::SK_LOOKUP.0,
        ProgType::NETFILTER => AttachType::NETFILTER.0,
        ProgType::FLOW_DISSECTOR => AttachType::FLOW_DISSECTOR.0,
        ProgType::CGROUP_SKB => AttachType::CGROUP_INET_INGRESS.0,
        _ => 0,
    }
}

/// Whether a program of this type loads at all, with the least that the kernel wants of one.
pub fn prog_type(prog_type: ProgType) -> Result<(), Errno> {
    if prog_type == ProgType::SYSCALL {
        let bytes = skep_insn::slots_to_bytes(&return_0(), skep_insn::Endian::NATIVE);
        let mut load = ProgLoad {
            prog_type: prog_type.0,
            insns: &bytes,
            license: c"GPL",
            prog_flags: flags::F_SLEEPABLE,
            ..ProgLoad::default()
        };
        return load.load().0.map(drop);
    }
    load(prog_type, &return_0(), least_attach_type(prog_type)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the machine lets this process ask.
    fn may_load() -> bool {
        load(ProgType::SOCKET_FILTER, &return_0(), 0).is_ok()
    }

    #[test]
    fn answers_agree_with_the_version() {
        if !may_load() {
            println!("skipped: needs CAP_BPF");
            return;
        }
        let features = Features::default();
        let version = KernelVersion::running();
        let since = |major, minor| version >= KernelVersion::new(major, minor, 0);
        assert_eq!(features.probe_read_kernel(), since(5, 5), "probe_read_kernel");
        assert_eq!(features.attach_cookie(), since(5, 15), "attach_cookie");
        assert_eq!(features.perf_link(), since(5, 15), "perf_link");
        assert_eq!(features.array_mmap(), since(5, 5), "array_mmap");
        assert_eq!(features.arg_ctx_tag(), since(6, 8), "arg_ctx_tag");
        let kinds = features.btf_kinds();
        assert_eq!(kinds.func, since(4, 20), "func");
        assert_eq!(kinds.func_global, since(5, 6), "func_global");
        assert_eq!(kinds.datasec, since(5, 2), "datasec");
        assert_eq!(kinds.float, since(5, 13), "float");
        assert_eq!(kinds.decl_tag, since(5, 16), "decl_tag");
        assert_eq!(kinds.type_tag, since(5, 17), "type_tag");
        assert_eq!(kinds.enum64, since(6, 0), "enum64");
        assert_eq!(kinds.qmark_datasec, since(6, 8), "qmark_datasec");
    }

    #[test]
    fn map_types_of_the_running_kernel_can_be_made() {
        if !may_load() {
            println!("skipped: needs CAP_BPF");
            return;
        }
        let features = Features::default();
        for map_type in [MapType::HASH, MapType::ARRAY, MapType::PERCPU_ARRAY, MapType::LRU_HASH] {
            assert_eq!(features.map_type(map_type), Ok(()), "{map_type}");
        }
        if KernelVersion::running() >= KernelVersion::new(6, 1, 0) {
            for map_type in [MapType::RINGBUF, MapType::USER_RINGBUF, MapType::TASK_STORAGE, MapType::ARRAY_OF_MAPS] {
                assert_eq!(features.map_type(map_type), Ok(()), "{map_type}");
            }
        }
        assert!(features.map_type(MapType(999)).is_err());
    }
}
