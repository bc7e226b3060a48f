//! A small kernel with one module, some processes' files and no life: what attach points and types of C are looked for in.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use skep_btf::{Btf, Builder, Endian, FuncLinkage, IntEncoding, MemberDef, TypeDef, TypeId};
use skep_script::Target;
use skep_script::target::{BpfFunction, DebugInfo, KernelFunction, UsdtProbe, UserFunction, UserSymbol};
use skep_spec::target::{Feature, TargetError};

pub(crate) struct Kernel {
    pub(crate) version: u32,
    btf: Option<Btf>,
    module: Option<Btf>,
    pub(crate) files: BTreeMap<PathBuf, String>,
    /// How often something was listed that is slow to list.
    pub(crate) listed: Cell<u32>,
}

const COMMON: &str = "format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

";

const EVENTS: [(&str, &str, &str); 5] = [
    (
        "sched",
        "sched_switch",
        "\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:long prev_state;\toffset:32;\tsize:8;\tsigned:1;
\tfield:struct task_struct * prev;\toffset:40;\tsize:8;\tsigned:0;
",
    ),
    (
        "sched",
        "sched_wakeup",
        "\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;
",
    ),
    (
        "skb",
        "odd",
        "\tfield:__data_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;
\tfield:__rel_loc unsigned int[] lens;\toffset:12;\tsize:4;\tsigned:0;
\tfield:enum reason reason;\toffset:16;\tsize:4;\tsigned:0;
\tfield:u8 mac[6];\toffset:20;\tsize:6;\tsigned:0;
\tfield:unknown_t what;\toffset:28;\tsize:4;\tsigned:1;
\tfield:struct unknown * where;\toffset:32;\tsize:8;\tsigned:0;
\tfield:struct unknown by_value;\toffset:40;\tsize:12;\tsigned:0;
\tfield:__u8 addr[sizeof(struct sockaddr_in6)];\toffset:52;\tsize:28;\tsigned:0;
\tfield:bool yes;\toffset:80;\tsize:1;\tsigned:0;
\tfield:unsigned long rest[];\toffset:88;\tsize:0;\tsigned:0;
",
    ),
    (
        "syscalls",
        "sys_enter_open",
        "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:const char * filename;\toffset:16;\tsize:8;\tsigned:0;
\tfield:int flags;\toffset:24;\tsize:8;\tsigned:0;
\tfield:umode_t mode;\toffset:32;\tsize:8;\tsigned:0;
",
    ),
    (
        "syscalls",
        "sys_enter_openat",
        "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:int dfd;\toffset:16;\tsize:8;\tsigned:0;
\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;
",
    ),
];

impl Kernel {
    pub(crate) fn new() -> Kernel {
        let base = types(&mut Builder::new()).expect("types fit");
        let base = Btf::parse(base).expect("whole types");
        let module = module_types(&mut Builder::split(&base)).expect("types fit");
        let module = Btf::parse_split(module, &base).expect("whole types");
        Kernel {
            version: 6 << 16 | 18 << 8,
            btf: Some(base),
            module: Some(module),
            files: BTreeMap::new(),
            listed: Cell::new(0),
        }
    }

    pub(crate) fn without_btf() -> Kernel {
        Kernel { btf: None, module: None, ..Kernel::new() }
    }

    fn list<T>(&self, found: T) -> Result<T, TargetError> {
        self.listed.set(self.listed.get() + 1);
        Ok(found)
    }
}

fn member(name: &str, type_id: TypeId, off: u32) -> MemberDef<'_> {
    MemberDef { name, type_id, bit_offset: off * 8, bitfield_size: None }
}

fn types(b: &mut Builder) -> Result<Vec<u8>, skep_btf::Error> {
    let mut int = |name, size: u32, encoding| b.add(TypeDef::Int { name, size, bits: (size * 8) as u8, encoding });
    let s32 = int("int", 4, IntEncoding::SIGNED)?;
    let u32 = int("unsigned int", 4, IntEncoding(0))?;
    let s64 = int("long int", 8, IntEncoding::SIGNED)?;
    let u64 = int("long unsigned int", 8, IntEncoding(0))?;
    let u16 = int("short unsigned int", 2, IntEncoding(0))?;
    let ch = int("char", 1, IntEncoding::SIGNED)?;
    let truth = int("_Bool", 1, IntEncoding::BOOL)?;
    for (name, type_id) in [("pid_t", s32), ("umode_t", u16), ("size_t", u64), ("sector_t", u64)] {
        b.add(TypeDef::Typedef { name, type_id })?;
    }
    let array = |b: &mut Builder, element, len| b.add(TypeDef::Array { element, index: u32, len });
    let comm = array(b, ch, 16)?;
    let rest = array(b, ch, 0)?;
    let user = b.add(TypeDef::TypeTag { tag: "user", type_id: ch })?;
    let user_text = b.add(TypeDef::Ptr(user))?;
    let reason = b.add(TypeDef::Enum {
        name: "reason",
        size: 4,
        signed: false,
        values: &[("REASON_NONE", 0), ("REASON_TCP", 7)],
    })?;
    let void_ptr = b.add(TypeDef::Ptr(TypeId(0)))?;
    let fwd = b.add(TypeDef::Fwd { name: "task_struct", is_union: false })?;
    let fwd_ptr = b.add(TypeDef::Ptr(fwd))?;
    let inner =
        b.add(TypeDef::Struct { name: "", size: 8, members: &[member("low", u32, 0), member("high", u32, 4)] })?;
    let both =
        b.add(TypeDef::Union { name: "", size: 8, members: &[member("whole", u64, 0), member("", inner, 0)] })?;
    let bits = |name, type_id, bit_offset, size| MemberDef { name, type_id, bit_offset, bitfield_size: Some(size) };
    let task = b.add(TypeDef::Struct {
        name: "task_struct",
        size: 72,
        members: &[
            bits("pid", s32, 0, 0),
            bits("in_execve", u32, 32, 1),
            bits("in_iowait", u32, 33, 3),
            bits("comm", comm, 64, 0),
            bits("parent", fwd_ptr, 192, 0),
            bits("", both, 256, 0),
            bits("text", user_text, 320, 0),
            bits("why", reason, 384, 0),
            bits("rest", rest, 576, 0),
        ],
    })?;
    let task_ptr = b.add(TypeDef::Ptr(task))?;
    let pair =
        b.add(TypeDef::Struct { name: "pair", size: 16, members: &[member("a", u64, 0), member("b", u64, 8)] })?;
    let big =
        b.add(TypeDef::Struct { name: "big", size: 24, members: &[member("pair", pair, 0), member("c", u64, 16)] })?;
    let func = |b: &mut Builder, name, result, params: &[(&str, TypeId)]| {
        let proto = b.add(TypeDef::FuncProto { result, params })?;
        b.add(TypeDef::Func { name, proto, linkage: FuncLinkage::STATIC })?;
        Ok::<_, skep_btf::Error>(proto)
    };
    func(b, "vfs_read", s64, &[("task", task_ptr), ("buf", user_text), ("count", u64)])?;
    func(b, "vfs_write", s64, &[("task", task_ptr)])?;
    func(b, "by_value", TypeId(0), &[("n", s32), ("pair", pair), ("yes", truth), ("big", big), ("lost", s32)])?;
    func(b, "variadic", s32, &[("fmt", user_text), ("", TypeId(0))])?;
    let switch = func(
        b,
        "__traceiter_sched_switch",
        s32,
        &[("__data", void_ptr), ("preempt", truth), ("prev", task_ptr), ("next", task_ptr)],
    )?;
    let bare = b.add(TypeDef::FuncProto {
        result: TypeId(0),
        params: &[("", void_ptr), ("", truth), ("", task_ptr), ("", task_ptr)],
    })?;
    let _ = switch;
    let drop = func(
        b,
        "__bpf_trace_kfree_skb",
        TypeId(0),
        &[("__data", void_ptr), ("skb", void_ptr), ("location", void_ptr), ("reason", reason), ("rx_sk", void_ptr)],
    )?;
    for (name, proto) in [("btf_trace_sched_switch", bare), ("btf_trace_kfree_skb", drop)] {
        let type_id = b.add(TypeDef::Ptr(proto))?;
        b.add(TypeDef::Typedef { name, type_id })?;
    }
    b.add(TypeDef::Struct {
        name: "bpf_iter__task",
        size: 16,
        members: &[member("meta", void_ptr, 0), member("task", task_ptr, 8)],
    })?;
    b.add(TypeDef::Struct { name: "bpf_iter__task_file", size: 16, members: &[member("task", task_ptr, 8)] })?;
    b.finish(Endian::Little)
}

fn module_types(b: &mut Builder) -> Result<Vec<u8>, skep_btf::Error> {
    let int = TypeId(1);
    let own = b.add(TypeDef::Struct { name: "net_own", size: 4, members: &[member("n", int, 0)] })?;
    let own_ptr = b.add(TypeDef::Ptr(own))?;
    let void_ptr = b.add(TypeDef::Ptr(TypeId(0)))?;
    let proto = b.add(TypeDef::FuncProto { result: int, params: &[("own", own_ptr)] })?;
    b.add(TypeDef::Func { name: "net_rx", proto, linkage: FuncLinkage::STATIC })?;
    let event = b.add(TypeDef::FuncProto { result: TypeId(0), params: &[("", void_ptr), ("", own_ptr)] })?;
    let type_id = b.add(TypeDef::Ptr(event))?;
    b.add(TypeDef::Typedef { name: "btf_trace_net_event", type_id })?;
    b.add(TypeDef::Enum { name: "net_kind", size: 4, signed: false, values: &[("NET_ONE", 1)] })?;
    b.finish(Endian::Little)
}

const KERNEL_FUNCTIONS: [(&str, &str); 5] = [
    ("net", "net_rx"),
    ("vmlinux", "by_value"),
    ("vmlinux", "not_typed"),
    ("vmlinux", "vfs_read"),
    ("vmlinux", "vfs_write"),
];

const USER_FUNCTIONS: [(&str, u64); 6] = [
    ("_ZN2ns3addEii", 0x1300),
    ("_ZN2ns3addEl", 0x1400),
    ("main", 0x1000),
    ("readline", 0x1100),
    ("readline_alias", 0x1100),
    ("readlink", 0x1200),
];

impl skep_spec::Target for Kernel {
    fn kernel_version(&self) -> u32 {
        self.version
    }

    fn btf(&self) -> Result<Option<Btf>, TargetError> {
        Ok(self.btf.clone())
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        Ok(self.module.iter().map(|_| "net".to_owned()).collect())
    }

    fn module_btf(&self, module: &str) -> Result<Option<Btf>, TargetError> {
        Ok(self.module.clone().filter(|_| module == "net"))
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        let known = |name: &str| name == "register_fprobe" || KERNEL_FUNCTIONS.iter().any(|(_, it)| *it == name);
        Ok(names.iter().map(|name| known(name).then_some(1)).collect())
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        Ok(vec![None; names.len()])
    }

    fn supports(&self, _: Feature) -> bool {
        true
    }
}

impl Target for Kernel {
    fn tracepoint_format(&self, category: &str, event: &str) -> Result<Option<String>, TargetError> {
        let found = EVENTS.iter().find(|(group, name, _)| *group == category && *name == event);
        Ok(found.map(|(_, name, fields)| format!("name: {name}\nID: 1\n{COMMON}{fields}\nprint fmt: \"\"\n")))
    }

    fn tracepoints(&self) -> Result<Vec<String>, TargetError> {
        self.list(EVENTS.iter().map(|(group, name, _)| format!("{group}:{name}")).collect())
    }

    fn kernel_functions(&self) -> Result<Vec<KernelFunction>, TargetError> {
        let function =
            |(module, name): (&str, &str)| KernelFunction { module: module.to_owned(), name: name.to_owned() };
        self.list(KERNEL_FUNCTIONS.map(function).to_vec())
    }

    fn user_functions(&self, _: &Path) -> Result<Vec<UserFunction>, TargetError> {
        let function = |(name, off_bytes): (&str, u64)| UserFunction { name: name.to_owned(), off_bytes };
        self.list(USER_FUNCTIONS.map(function).to_vec())
    }

    fn usdt_probes(&self, binary: &Path) -> Result<Vec<UsdtProbe>, TargetError> {
        if binary.ends_with("bash") {
            return Err("no ELF file".into());
        }
        let probe = |of: &str, name: &str| UsdtProbe { provider: of.to_owned(), name: name.to_owned(), args: 2 };
        Ok(vec![probe("libc", "memory_new"), probe("libc", "memory_old"), probe("rtld", "map_start")])
    }

    fn binary(&self, name: &str, pid: Option<u32>) -> Result<Option<PathBuf>, TargetError> {
        Ok(match (name, pid) {
            ("bash" | "/bin/bash", _) => Some("/bin/bash".into()),
            ("libc" | "/lib/libc.so.6", _) => Some("/lib/libc.so.6".into()),
            ("/lib/libm.so.6", _) => Some("/lib/libm.so.6".into()),
            ("/proc/7/exe", Some(7)) => Some("/proc/7/root/opt/app".into()),
            _ => None,
        })
    }

    fn user_symbol(&self, _: &Path, name: &str) -> Result<Option<UserSymbol>, TargetError> {
        let found = USER_FUNCTIONS.iter().find(|(it, _)| *it == name);
        Ok(found.map(|(_, off)| UserSymbol { address: off + 0x40_0000, size_bytes: 16, code_start: None }))
    }

    fn file_offset(&self, _: &Path, address: u64) -> Result<Option<u64>, TargetError> {
        Ok(address.checked_sub(0x40_0000))
    }

    fn instruction_at(&self, _: &Path, _: u64, off: u64) -> Result<Option<u64>, TargetError> {
        Ok(Some(off))
    }

    fn debug_info(&self, _: &Path) -> Result<Option<Rc<dyn DebugInfo>>, TargetError> {
        Ok(None)
    }

    fn bpf_functions(&self) -> Result<Vec<BpfFunction>, TargetError> {
        let function = |program, name: &str| BpfFunction { program, name: name.to_owned() };
        Ok(vec![function(3, "vfs_read"), function(4, "vfs_read"), function(4, "vfs_write")])
    }

    fn bpf_program_btf(&self, _: u32) -> Result<Option<Btf>, TargetError> {
        Ok(self.btf.clone())
    }

    fn cgroup_id(&self, _: &Path) -> Result<u64, TargetError> {
        Err("no such folder".into())
    }

    fn read_file(&self, path: &Path) -> Result<String, TargetError> {
        self.files.get(path).cloned().ok_or_else(|| "no such file".into())
    }

    fn list_dir(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, TargetError> {
        Ok((path == Path::new("/lib")).then(|| vec!["/lib/libc.so.6".into(), "/lib/libm.so.6".into()]))
    }

    fn list_folders(&self, path: &Path) -> Vec<PathBuf> {
        if path == Path::new("/") { vec!["/etc".into(), "/lib".into()] } else { Vec::new() }
    }

    fn possible_cpus(&self) -> u32 {
        4
    }

    fn has_helper(&self, _: u32) -> bool {
        true
    }
}
