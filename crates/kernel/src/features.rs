//! What the running kernel can do, found out by trying.
//!
//! Each question is one system call (or two) that has no effect on the machine: a program of a few instructions that is
//! loaded and let go, types that are loaded and let go, an attachment that cannot succeed. Each is asked when first needed
//! and the answer kept. Where the caller has no right to ask, the answer comes from the kernel's version.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use skep_insn::RawInsn;
use skep_spec::MapType;
use skep_spec::program::{AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{BtfLoad, LinkCreate, LinkExtra, LinkTarget, MapCreate, ProgFd, ProgLoad, flags};
use skep_sys::version::KernelVersion;

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
}

/// Which kinds of types the kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BtfKinds {
    /// `FUNC` and `FUNC_PROTO` (4.20).
    pub func: bool,
    /// `FUNC` with global linkage (5.6).
    pub func_global: bool,
    /// `VAR` and `DATASEC` (5.2).
    pub datasec: bool,
    /// `FLOAT` (5.13).
    pub float: bool,
    /// `DECL_TAG` (5.16).
    pub decl_tag: bool,
    /// `TYPE_TAG` (5.17).
    pub type_tag: bool,
    /// `ENUM64`, and the sign bit of `ENUM` (6.0).
    pub enum64: bool,
    /// Sections whose name starts with a question mark (6.8).
    pub qmark_datasec: bool,
}

const fn insn(code: u8, dst_reg: u8, src_reg: u8, off: i16, imm: i32) -> RawInsn {
    RawInsn { code, dst_reg, src_reg, off, imm }
}

const MOV64_K: u8 = 0xb7;
const MOV64_X: u8 = 0xbf;
const ADD64_K: u8 = 0x07;
const CALL: u8 = 0x85;
const EXIT: RawInsn = insn(0x95, 0, 0, 0, 0);
const RETURN_0: [RawInsn; 2] = [insn(MOV64_K, 0, 0, 0, 0), EXIT];

/// `BPF_FUNC_get_attach_cookie`.
const GET_ATTACH_COOKIE: i32 = 174;
/// `BPF_FUNC_probe_read_kernel`.
const PROBE_READ_KERNEL: i32 = 113;

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
            // r1 = r10 - 8; r2 = 8; r3 = 0; probe_read_kernel
            let insns = [
                insn(MOV64_X, 1, 10, 0, 0),
                insn(ADD64_K, 1, 0, 0, -8),
                insn(MOV64_K, 2, 0, 0, 8),
                insn(MOV64_K, 3, 0, 0, 0),
                insn(CALL, 0, 0, 0, PROBE_READ_KERNEL),
                EXIT,
            ];
            judged(load(ProgType::TRACEPOINT, &insns, 0), since)
        })
    }

    /// `bpf_get_attach_cookie`, for probes of perf events (5.15).
    pub fn attach_cookie(&self) -> bool {
        *self.attach_cookie.get_or_init(|| {
            let insns = [insn(CALL, 0, 0, 0, GET_ATTACH_COOKIE), EXIT];
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
            let Ok(prog) = load(ProgType::TRACEPOINT, &RETURN_0, 0) else {
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
            let prog = match load(ProgType::KPROBE, &RETURN_0, AttachType::TRACE_UPROBE_MULTI.0) {
                Ok(prog) => prog,
                Err(Errno::EPERM) => return KernelVersion::running() >= since,
                Err(_) => return false,
            };
            let root = CString::from(c"/");
            let attempt = |pid| {
                LinkCreate {
                    prog: prog.as_fd(),
                    target: LinkTarget::None,
                    attach_type: AttachType::TRACE_UPROBE_MULTI.0,
                    flags: 0,
                    extra: LinkExtra::UprobeMulti {
                        path: &root,
                        offsets: &[0],
                        ref_ctr_offsets: &[],
                        cookies: &[],
                        flags: 0,
                        pid,
                    },
                }
                .create()
                .err()
            };
            // A folder is no place for probes: EBADF from a kernel that looks at the path at all. Kernels that filtered by
            // thread took any number for a process; the others say that -1 is none.
            attempt(0) == Some(Errno::EBADF) && attempt(u32::MAX) == Some(Errno::EINVAL)
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

    /// Which kinds of types the kernel takes.
    pub fn btf_kinds(&self) -> BtfKinds {
        *self.btf_kinds.get_or_init(BtfKinds::ask)
    }

    /// Whether the kernel takes `arg:ctx` tags on the arguments of global functions (6.8): the argument, a pointer to
    /// nothing in particular by its type, then counts as the program's context.
    pub fn arg_ctx_tag(&self) -> bool {
        *self.arg_ctx_tag.get_or_init(|| {
            let mut raw = RawBtf::default();
            let int = raw.int("int", 4, 1);
            let ctx_proto = raw.func_proto(int, &[("ctx", 0)]);
            let arg = raw.ptr_to_void();
            let sub_proto = raw.func_proto(int, &[("ctx", arg)]);
            let main = raw.func("a", ctx_proto, 1);
            let sub = raw.func("b", sub_proto, 1);
            raw.decl_tag("arg:ctx", sub, 0);
            let Ok(btf) = raw.load() else { return false };
            // a: call b; exit   b: r0 = *(u32 *)(r1 + 0), allowed on a context only; exit
            let insns = [insn(CALL, 0, 1, 0, 1), EXIT, insn(0x61, 0, 1, 0, 0), EXIT];
            let bytes = skep_insn::slots_to_bytes(&insns, skep_insn::Endian::NATIVE);
            let func_info: Vec<u8> = [0, main, 2, sub].into_iter().flat_map(u32::to_ne_bytes).collect();
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
                let mut raw = RawBtf::default();
                let int = raw.int("int", 4, 1);
                btf = Some(raw.load()?);
                create.btf_key_type_id = int;
                create.btf_value_type_id = int;
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

impl BtfKinds {
    /// A kernel that takes everything, which is every kernel of the last years.
    pub const ALL: BtfKinds = BtfKinds {
        func: true,
        func_global: true,
        datasec: true,
        float: true,
        decl_tag: true,
        type_tag: true,
        enum64: true,
        qmark_datasec: true,
    };

    fn ask() -> BtfKinds {
        let ask = |build: &dyn Fn(&mut RawBtf), since| {
            let mut raw = RawBtf::default();
            raw.int("int", 4, 1);
            build(&mut raw);
            judged(raw.load(), since)
        };
        BtfKinds {
            func: ask(
                &|raw| {
                    let proto = raw.func_proto(0, &[("a", 1)]);
                    raw.func("x", proto, 0);
                },
                KernelVersion::new(4, 20, 0),
            ),
            func_global: ask(
                &|raw| {
                    let proto = raw.func_proto(0, &[("a", 1)]);
                    raw.func("x", proto, 1);
                },
                KernelVersion::new(5, 6, 0),
            ),
            datasec: ask(&|raw| raw.datasec(".x"), KernelVersion::new(5, 2, 0)),
            float: ask(
                &|raw| {
                    raw.push("float", 16, 0, false, 4, &[]);
                },
                KernelVersion::new(5, 13, 0),
            ),
            decl_tag: ask(&|raw| raw.decl_tag_on_var(), KernelVersion::new(5, 16, 0)),
            type_tag: ask(
                &|raw| {
                    let tag = raw.push("tag", 18, 0, false, 1, &[]);
                    raw.push("", 2, 0, false, tag, &[]);
                },
                KernelVersion::new(5, 17, 0),
            ),
            enum64: ask(
                &|raw| {
                    let name = raw.string("v");
                    raw.push("e", 19, 1, false, 8, &[name, 0, 0]);
                },
                KernelVersion::new(6, 0, 0),
            ),
            qmark_datasec: ask(&|raw| raw.datasec("?.x"), KernelVersion::new(6, 8, 0)),
        }
    }
}

/// A few types, put together by hand for the questions above.
#[derive(Default)]
struct RawBtf {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

impl RawBtf {
    fn string(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    /// `struct btf_type` and what follows it; answers with the type's number.
    fn push(&mut self, name: &str, kind: u32, vlen: u32, kflag: bool, size_or_type: u32, more: &[u32]) -> u32 {
        let name = self.string(name);
        self.types.extend([name, kind << 24 | vlen | u32::from(kflag) << 31, size_or_type]);
        self.types.extend(more);
        self.count += 1;
        self.count
    }

    fn int(&mut self, name: &str, size: u32, encoding: u32) -> u32 {
        self.push(name, 1, 0, false, size, &[(encoding << 24) | (size * 8)])
    }

    fn ptr_to_void(&mut self) -> u32 {
        self.push("", 2, 0, false, 0, &[])
    }

    /// A parameter of type 0 here is a pointer to void made on the spot, since 0 would mean variadic.
    fn func_proto(&mut self, result: u32, params: &[(&str, u32)]) -> u32 {
        let mut words = Vec::new();
        for (name, of) in params {
            let of = if *of == 0 { self.ptr_to_void() } else { *of };
            words.extend([self.string(name), of]);
        }
        self.push("", 13, params.len() as u32, false, result, &words)
    }

    fn func(&mut self, name: &str, proto: u32, linkage: u32) -> u32 {
        self.push(name, 12, linkage, false, proto, &[])
    }

    fn datasec(&mut self, name: &str) {
        let var = self.push("x", 14, 0, false, 1, &[1]);
        self.push(name, 15, 1, false, 4, &[var, 0, 4]);
    }

    fn decl_tag(&mut self, tag: &str, of: u32, component: i32) {
        self.push(tag, 17, 0, false, of, &[component as u32]);
    }

    fn decl_tag_on_var(&mut self) {
        let var = self.push("x", 14, 0, false, 1, &[1]);
        self.decl_tag("tag", var, -1);
    }

    fn load(mut self) -> Result<skep_sys::bpf::BtfFd, Errno> {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        let type_len = self.types.len() as u32 * 4;
        let mut bytes: Vec<u8> = Vec::new();
        bytes.extend(0xeb9f_u16.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24, 0, type_len, type_len, self.strings.len() as u32] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(self.types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(&self.strings);
        BtfLoad { btf: &bytes, log: None, token: None }.load().0
    }
}

/// Whether a program of this type loads at all, with the least that the kernel wants of one.
pub fn prog_type(prog_type: ProgType) -> Result<(), Errno> {
    let attach_type = match prog_type {
        ProgType::CGROUP_SOCK_ADDR => AttachType::CGROUP_INET4_CONNECT.0,
        ProgType::CGROUP_SOCKOPT => AttachType::CGROUP_GETSOCKOPT.0,
        ProgType::SK_LOOKUP => AttachType::SK_LOOKUP.0,
        ProgType::NETFILTER => AttachType::NETFILTER.0,
        ProgType::FLOW_DISSECTOR => AttachType::FLOW_DISSECTOR.0,
        ProgType::CGROUP_SKB => AttachType::CGROUP_INET_INGRESS.0,
        _ => 0,
    };
    if prog_type == ProgType::SYSCALL {
        let bytes = skep_insn::slots_to_bytes(&RETURN_0, skep_insn::Endian::NATIVE);
        let mut load = ProgLoad {
            prog_type: prog_type.0,
            insns: &bytes,
            license: c"GPL",
            prog_flags: flags::F_SLEEPABLE,
            ..ProgLoad::default()
        };
        return load.load().0.map(drop);
    }
    load(prog_type, &RETURN_0, attach_type).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the machine lets this process ask.
    fn may_load() -> bool {
        load(ProgType::SOCKET_FILTER, &RETURN_0, 0).is_ok()
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
