//! What applications ask of a kernel before they choose among programs: each question answered by trying, once per process.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use skep_engine::{Error, ErrorKind};
use skep_insn::{Endian, slots_to_bytes, text};
use skep_spec::MapType;
use skep_spec::program::{AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{LinkCreate, LinkExtra, LinkTarget, Log, LogLevel, MapCreate, ProgFd, ProgLoad, flags};

use super::{Features, return_0};
use crate::target::LiveTarget;

/// Something that a kernel has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelFeature {
    /// Maps of this type.
    MapType(MapType),
    /// A flag for making maps (`BPF_F_*`), with a map of the simplest type that takes it.
    MapFlag(u32),
    /// Programs of this type. Whether one may be attached is another question.
    ProgramType(ProgType),
    /// A helper, by its number (`skep_insn::helpers`), for programs of this type. Types that are verified against the place where they are
    /// attached (tracing, lsm, ext, struct_ops) cannot be asked apart from one.
    Helper(ProgType, u32),
    /// Links to many kernel functions at once (5.18; needs `CONFIG_FPROBE`).
    KprobeMulti,
    /// The same for entry and return in one program (6.10).
    KprobeSession,
    /// Links to many functions of a binary at once (6.6).
    UprobeMulti,
    /// The same for entry and return in one program (6.13).
    UprobeSession,
    /// Links for tracepoints, probes and samples, with cookies (5.15).
    PerfLink,
    /// Loops that the verifier follows to their end (5.3).
    BoundedLoops,
    /// Programs of more than 4,096 instructions (5.2).
    LargePrograms,
    /// Instructions of `-mcpu=v2`: jumps if less (4.14).
    IsaV2,
    /// Instructions of `-mcpu=v3`: jumps on 32 bits (5.1).
    IsaV3,
    /// Instructions of `-mcpu=v4`: moves with sign, long jumps (6.6).
    IsaV4,
}

impl fmt::Display for KernelFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelFeature::MapType(map_type) => write!(f, "maps of type {map_type}"),
            KernelFeature::MapFlag(flag) => write!(f, "map flag {flag:#x}"),
            KernelFeature::ProgramType(prog_type) => write!(f, "programs of type {prog_type}"),
            KernelFeature::Helper(prog_type, helper) => match skep_insn::helpers::name(*helper) {
                Some(name) => write!(f, "helper {name} for programs of type {prog_type}"),
                None => write!(f, "helper {helper} for programs of type {prog_type}"),
            },
            KernelFeature::KprobeMulti => f.write_str("links to many kernel functions"),
            KernelFeature::KprobeSession => f.write_str("sessions of many kernel functions"),
            KernelFeature::UprobeMulti => f.write_str("links to many functions of a binary"),
            KernelFeature::UprobeSession => f.write_str("sessions of many functions of a binary"),
            KernelFeature::PerfLink => f.write_str("links for perf events"),
            KernelFeature::BoundedLoops => f.write_str("bounded loops"),
            KernelFeature::LargePrograms => f.write_str("programs of more than 4,096 instructions"),
            KernelFeature::IsaV2 => f.write_str("instructions of v2"),
            KernelFeature::IsaV3 => f.write_str("instructions of v3"),
            KernelFeature::IsaV4 => f.write_str("instructions of v4"),
        }
    }
}

/// Whether the running kernel has something, found out by trying, with the rights that this process has when it asks first, and kept
/// for its life. Nothing is left behind.
///
/// # Errors
///
/// When the kernel cannot be asked: without the right to ([`ErrorKind::Denied`]), or because the question has no answer apart from a
/// program.
pub fn kernel_has(feature: KernelFeature) -> Result<bool, Error> {
    static KNOWN: Mutex<Option<HashMap<KernelFeature, bool>>> = Mutex::new(None);
    let known = |it: &Option<HashMap<KernelFeature, bool>>| it.as_ref().and_then(|known| known.get(&feature).copied());
    if let Some(answer) = known(&KNOWN.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Ok(answer);
    }
    let answer = ask(feature).map_err(|refusal| match refusal {
        Refusal::Errno(errno @ (Errno::EPERM | Errno::EACCES)) => {
            Error::new(format!("cannot find out whether the kernel has {feature}: {errno}"))
                .with_kind(ErrorKind::Denied)
                .with_hint(
                    "that needs CAP_BPF, and CAP_PERFMON or CAP_NET_ADMIN for most types of programs; root is refused, too, what this \
                     kernel was told not to load",
                )
                .with_source(errno)
        }
        Refusal::Errno(errno) => {
            Error::new(format!("cannot find out whether the kernel has {feature}: {errno}")).with_source(errno)
        }
        Refusal::NoAnswer => Error::new(format!(
            "whether the kernel has {feature} depends on where they are attached: load the program itself"
        ))
        .with_kind(ErrorKind::Unsupported),
    })?;
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(feature, answer);
    Ok(answer)
}

/// Why there is no answer.
enum Refusal {
    Errno(Errno),
    NoAnswer,
}

fn ask(feature: KernelFeature) -> Result<bool, Refusal> {
    let target = LiveTarget::shared();
    let answered = |result: Result<(), Errno>| -> Result<bool, Refusal> {
        match result {
            Ok(()) => Ok(true),
            Err(errno @ (Errno::EPERM | Errno::EACCES | Errno::ENOMEM | Errno::EAGAIN | Errno::EMFILE)) => {
                Err(Refusal::Errno(errno))
            }
            Err(_) => Ok(false),
        }
    };
    match feature {
        KernelFeature::MapType(map_type) => answered(target.features().map_type(map_type)),
        KernelFeature::MapFlag(flag) => answered(with_flag(flag)),
        KernelFeature::ProgramType(prog_type) => answered(loads(prog_type)),
        KernelFeature::Helper(prog_type, helper) => {
            let bound = [ProgType::TRACING, ProgType::LSM, ProgType::EXT, ProgType::STRUCT_OPS];
            if bound.contains(&prog_type) {
                return Err(Refusal::NoAnswer);
            }
            if !ask(KernelFeature::ProgramType(prog_type))? {
                return Ok(false);
            }
            Ok(super::knows_helper(prog_type, helper))
        }
        KernelFeature::KprobeMulti => many_functions(AttachType::TRACE_KPROBE_MULTI),
        KernelFeature::KprobeSession => many_functions(AttachType::TRACE_KPROBE_SESSION),
        KernelFeature::UprobeMulti => many_places(AttachType::TRACE_UPROBE_MULTI),
        KernelFeature::UprobeSession => many_places(AttachType::TRACE_UPROBE_SESSION),
        KernelFeature::PerfLink => {
            answered(super::load(ProgType::TRACEPOINT, &return_0(), 0).map(drop))?;
            Ok(Features::default().perf_link())
        }
        KernelFeature::BoundedLoops => answered(code("r0 = 10\nagain:\nr0 += -1\nif r0 != 0x0 goto again\nexit")),
        KernelFeature::LargePrograms => answered(code(&format!("{}exit", "r0 = 1\n".repeat(4096)))),
        KernelFeature::IsaV2 => answered(code("r0 = 0\nif r0 < 0x1 goto +0\nexit")),
        KernelFeature::IsaV3 => answered(code("r0 = 0\nif w0 < 0x1 goto +0\nexit")),
        KernelFeature::IsaV4 => answered(code("r0 = 1\nr0 = (s8)r0\nexit")),
    }
}

/// A socket filter, which is what the least right is needed for.
fn code(text: &str) -> Result<(), Errno> {
    let code = text::assemble(text).map_err(|_| Errno::ENOSYS)?.code;
    super::load(ProgType::SOCKET_FILTER, &code, 0).map(drop)
}

/// As [`super::prog_type`], also for types that want to know their place: then the verifier complains, which it does not about types
/// that it does not know.
fn loads(prog_type: ProgType) -> Result<(), Errno> {
    if prog_type == ProgType::UNSPEC {
        return Err(Errno::EINVAL);
    }
    match super::prog_type(prog_type) {
        // No place given (`check_struct_ops_btf_id`), so far it comes only with struct_ops.
        Err(Errno::ENOTSUPP) if prog_type == ProgType::STRUCT_OPS => Ok(()),
        Err(errno) if errno != Errno::EPERM => {
            let insns = slots_to_bytes(&return_0(), Endian::NATIVE);
            let mut log = vec![0; 4096];
            let mut load = ProgLoad {
                prog_type: prog_type.0,
                insns: &insns,
                license: c"GPL",
                log: Some(Log { level: LogLevel::BRIEF, buf: &mut log }),
                ..ProgLoad::default()
            };
            let result = load.load().0;
            if result.is_ok() || log.first().is_some_and(|&byte| byte != 0) { Ok(()) } else { Err(errno) }
        }
        result => result,
    }
}

/// Makes a map with a flag, of the simplest type that takes it.
fn with_flag(flag: u32) -> Result<(), Errno> {
    let mut create =
        MapCreate { map_type: MapType::ARRAY.0, key_size: 4, value_size: 4, max_entries: 1, ..MapCreate::default() };
    create.map_flags = flag;
    match flag {
        flags::F_NO_PREALLOC | flags::F_ZERO_SEED => create.map_type = MapType::HASH.0,
        flags::F_NO_COMMON_LRU => create.map_type = MapType::LRU_HASH.0,
        flags::F_STACK_BUILD_ID => {
            create.map_type = MapType::STACK_TRACE.0;
            create.value_size = 32;
        }
        flags::F_PRESERVE_ELEMS => create.map_type = MapType::PERF_EVENT_ARRAY.0,
        flags::F_SEGV_ON_FAULT | flags::F_NO_USER_CONV => {
            create.map_type = MapType::ARENA.0;
            create.key_size = 0;
            create.value_size = 0;
            create.map_flags |= flags::F_MMAPABLE;
        }
        flags::F_CLONE => {
            let (btf, int) = super::types::with_int()?;
            create.map_type = MapType::SK_STORAGE.0;
            create.map_flags |= flags::F_NO_PREALLOC;
            create.max_entries = 0;
            create.btf_key_type_id = int.0;
            create.btf_value_type_id = int.0;
            create.btf = Some(btf.as_fd());
            return create.create().map(drop);
        }
        _ => {}
    }
    create.create().map(drop)
}

fn kprobe(attach_type: AttachType) -> Result<Option<ProgFd>, Refusal> {
    match super::load(ProgType::KPROBE, &return_0(), attach_type.0) {
        Ok(prog) => Ok(Some(prog)),
        Err(errno @ Errno::EPERM) => Err(Refusal::Errno(errno)),
        Err(_) => Ok(None),
    }
}

/// A function that no kernel has: one that looks for it says so (`ESRCH`; `ENOENT` at first), one that cannot says `EINVAL` or
/// `EOPNOTSUPP`.
fn many_functions(attach_type: AttachType) -> Result<bool, Refusal> {
    let Some(prog) = kprobe(attach_type)? else { return Ok(false) };
    let link = LinkCreate {
        prog: prog.as_fd(),
        target: LinkTarget::None,
        attach_type: attach_type.0,
        flags: 0,
        extra: LinkExtra::KprobeMulti { flags: 0, syms: &[c"skep_asks_for_no_function"], addrs: &[], cookies: &[] },
    };
    match link.create() {
        Err(errno @ Errno::EPERM) => Err(Refusal::Errno(errno)),
        Ok(_) | Err(Errno::ESRCH | Errno::ENOENT) => Ok(true),
        Err(_) => Ok(false),
    }
}

/// Many uprobes in one link.
fn many_places(attach_type: AttachType) -> Result<bool, Refusal> {
    let Some(prog) = kprobe(attach_type)? else { return Ok(false) };
    match super::uprobes_in_a_folder(&prog, attach_type, 0) {
        Err(errno @ Errno::EPERM) => Err(Refusal::Errno(errno)),
        answer => Ok(matches!(answer, Ok(_) | Err(Errno::EBADF))),
    }
}
