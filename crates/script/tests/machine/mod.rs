//! A small machine to check scripts for: some types, functions, tracepoints and symbols, and no kernel.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use skep_btf::{Btf, Builder, Endian, FuncLinkage, IntEncoding, MemberDef, TypeDef, TypeId};
use skep_script::Target;
use skep_script::target::{BpfFunction, DebugInfo, KernelFunction, UsdtProbe, UserFunction, UserSymbol};
use skep_spec::target::{Feature, TargetError};

use crate::common::files::Files;

pub(crate) struct Machine {
    btf: Btf,
    files: Files,
    /// Helpers that its kernel lacks.
    lacks: Vec<u32>,
    /// Symbols that were looked for, which takes a walk over all of a kernel's.
    pub(crate) looked_for: std::sync::Mutex<Vec<String>>,
}

const SWITCH: &str = "name: sched_switch
ID: 316
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:int prev_prio;\toffset:28;\tsize:4;\tsigned:1;
\tfield:long prev_state;\toffset:32;\tsize:8;\tsigned:1;
\tfield:char next_comm[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:pid_t next_pid;\toffset:56;\tsize:4;\tsigned:1;

print fmt: \"\"
";

const WAKEUP: &str = "name: sched_wakeup
ID: 317
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:int saddr[4];\toffset:28;\tsize:16;\tsigned:1;

print fmt: \"\"
";

const EXEC: &str = "name: sched_process_exec
ID: 318
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;
\tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;

print fmt: \"\"
";

const OPENAT: &str = "name: sys_enter_openat
ID: 700
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:int dfd;\toffset:16;\tsize:8;\tsigned:0;
\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;
\tfield:int flags;\toffset:32;\tsize:8;\tsigned:0;

print fmt: \"\"
";

const OPEN: &str = "name: sys_enter_open
ID: 701
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:const char * filename;\toffset:16;\tsize:8;\tsigned:0;
\tfield:int flags;\toffset:24;\tsize:8;\tsigned:0;

print fmt: \"\"
";

const EVENTS: [(&str, &str, &str); 5] = [
    ("sched", "sched_process_exec", EXEC),
    ("sched", "sched_switch", SWITCH),
    ("sched", "sched_wakeup", WAKEUP),
    ("syscalls", "sys_enter_open", OPEN),
    ("syscalls", "sys_enter_openat", OPENAT),
];

impl Machine {
    pub(crate) fn new() -> Machine {
        let bytes = types().expect("types fit").finish(Endian::Little).expect("types fit");
        let header = "struct from_header { int a; };\n#define FROM_HEADER 7\n";
        let files = Files([(PathBuf::from("/usr/include/some.h"), header.to_owned())].into());
        Machine {
            btf: Btf::parse(bytes).expect("whole types"),
            files,
            lacks: Vec::new(),
            looked_for: Default::default(),
        }
    }

    /// One whose kernel cannot override what functions return.
    #[allow(dead_code, reason = "each test binary uses a part")]
    pub(crate) fn without_override() -> Machine {
        Machine { lacks: vec![skep_insn::helpers::OVERRIDE_RETURN], ..Machine::new() }
    }
}

fn types() -> Result<Builder, skep_btf::Error> {
    let mut b = Builder::new();
    let mut int = |name, size: u32, encoding| b.add(TypeDef::Int { name, size, bits: (size * 8) as u8, encoding });
    let unsigned = IntEncoding(0);
    let s32 = int("int", 4, IntEncoding::SIGNED)?;
    let u32 = int("unsigned int", 4, unsigned)?;
    let s64 = int("long int", 8, IntEncoding::SIGNED)?;
    let u64 = int("long unsigned int", 8, unsigned)?;
    let u16 = int("short unsigned int", 2, unsigned)?;
    let u8 = int("unsigned char", 1, unsigned)?;
    let ch = int("char", 1, IntEncoding::SIGNED)?;
    let truth = int("_Bool", 1, IntEncoding::BOOL)?;
    for (name, type_id) in [("pid_t", s32), ("u32", u32), ("uint64_t", u64), ("size_t", u64), ("__u16", u16)] {
        b.add(TypeDef::Typedef { name, type_id })?;
    }
    let array = |b: &mut Builder, element, len| b.add(TypeDef::Array { element, index: u32, len });
    let ptr = |b: &mut Builder, to| b.add(TypeDef::Ptr(to));
    let member =
        |name, type_id, bit_offset: u32| MemberDef { name, type_id, bit_offset: bit_offset * 8, bitfield_size: None };
    let bits = |name, type_id, bit_offset, size| MemberDef { name, type_id, bit_offset, bitfield_size: Some(size) };

    let comm = array(&mut b, ch, 16)?;
    let state = b.add(TypeDef::Enum {
        name: "pid_type",
        size: 4,
        signed: false,
        values: &[("PIDTYPE_PID", 0), ("PIDTYPE_TGID", 1), ("PIDTYPE_MAX", 4)],
    })?;
    // The numbers of types that come later are known: each definition takes one.
    let task = TypeId(b.len() + 2);
    let task_ptr = ptr(&mut b, task)?;
    let tag = b.add(TypeDef::TypeTag { tag: "user", type_id: ch })?;
    assert_eq!(b.len(), task.0);
    b.add(TypeDef::Struct {
        name: "task_struct",
        size: 120,
        members: &[
            member("pid", s32, 0),
            member("tgid", s32, 4),
            member("comm", comm, 8),
            member("real_parent", task_ptr, 24),
            member("group_leader", task_ptr, 32),
            member("start_time", u64, 40),
            bits("in_execve", u32, 48 * 8, 1),
            bits("in_iowait", u32, 48 * 8 + 1, 3),
            member("kind", state, 52),
            member("", TypeId(task.0 + 1), 56),
            member("numbers", TypeId(task.0 + 2), 64),
            member("user_name", TypeId(task.0 + 3), 88),
            member("flag", truth, 96),
            member("argv", TypeId(task.0 + 5), 104),
            member("list", TypeId(task.0 + 6), 112),
        ],
    })?;
    b.add(TypeDef::Union { name: "", size: 8, members: &[member("utime", u64, 0), member("stime", s32, 0)] })?;
    array(&mut b, s32, 6)?;
    ptr(&mut b, tag)?;
    let ch_ptr = ptr(&mut b, ch)?;
    ptr(&mut b, ch_ptr)?;
    b.add(TypeDef::Struct { name: "list_head", size: 8, members: &[member("next", TypeId(task.0 + 7), 0)] })?;
    ptr(&mut b, TypeId(task.0 + 6))?;
    let in6 = array(&mut b, u8, 16)?;
    let in6 = b.add(TypeDef::Struct { name: "in6_addr", size: 16, members: &[member("bytes", in6, 0)] })?;
    let sock = b.add(TypeDef::Struct {
        name: "sock",
        size: 32,
        members: &[member("daddr", u32, 0), member("dport", u16, 4), member("family", u16, 6), member("v6", in6, 8)],
    })?;
    let sock_ptr = ptr(&mut b, sock)?;
    let path = b.add(TypeDef::Struct { name: "path", size: 8, members: &[member("mnt", s64, 0)] })?;
    let file = b.add(TypeDef::Struct {
        name: "file",
        size: 16,
        members: &[member("f_flags", u32, 0), member("f_path", path, 8)],
    })?;
    let file_ptr = ptr(&mut b, file)?;
    let void_ptr = ptr(&mut b, TypeId(0))?;
    let open =
        b.add(TypeDef::FuncProto { result: s64, params: &[("file", file_ptr), ("buf", void_ptr), ("count", u64)] })?;
    b.add(TypeDef::Func { name: "vfs_read", proto: open, linkage: FuncLinkage::STATIC })?;
    let connect = b.add(TypeDef::FuncProto { result: s32, params: &[("sk", sock_ptr)] })?;
    b.add(TypeDef::Func { name: "tcp_connect", proto: connect, linkage: FuncLinkage::STATIC })?;
    let nothing = b.add(TypeDef::FuncProto { result: TypeId(0), params: &[("sk", sock_ptr)] })?;
    b.add(TypeDef::Func { name: "tcp_close", proto: nothing, linkage: FuncLinkage::STATIC })?;
    // A raw tracepoint, and an iterator.
    let raw = b.add(TypeDef::FuncProto {
        result: TypeId(0),
        params: &[("__data", void_ptr), ("preempt", truth), ("prev", task_ptr), ("next", task_ptr)],
    })?;
    let raw_ptr = ptr(&mut b, raw)?;
    b.add(TypeDef::Typedef { name: "btf_trace_sched_switch", type_id: raw_ptr })?;
    b.add(TypeDef::Struct {
        name: "bpf_iter__task",
        size: 16,
        members: &[member("meta", void_ptr, 0), member("task", task_ptr, 8)],
    })?;
    let iter = b.add(TypeDef::FuncProto { result: s32, params: &[("meta", void_ptr), ("task", task_ptr)] })?;
    b.add(TypeDef::Func { name: "bpf_iter_task", proto: iter, linkage: FuncLinkage::STATIC })?;
    b.add(TypeDef::Struct { name: "pt_regs", size: 168, members: &[member("r15", u64, 0), member("ip", u64, 128)] })?;
    Ok(b)
}

impl skep_spec::Target for Machine {
    fn kernel_version(&self) -> u32 {
        6 << 16 | 18 << 8
    }

    fn btf(&self) -> Result<Option<Btf>, TargetError> {
        Ok(Some(self.btf.clone()))
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        Ok(Vec::new())
    }

    fn module_btf(&self, _: &str) -> Result<Option<Btf>, TargetError> {
        Ok(None)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        self.looked_for.lock().expect("nobody panics with it").extend(names.iter().map(|name| (*name).to_owned()));
        // The last says that the kernel has CONFIG_FPROBE.
        let known = ["avenrun", "__per_cpu_offset", "runqueues", "register_fprobe"];
        Ok(names.iter().map(|name| known.contains(name).then_some(0xffff_ffff_8200_0000)).collect())
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        Ok(vec![None; names.len()])
    }

    fn supports(&self, _: Feature) -> bool {
        true
    }
}

impl Target for Machine {
    fn tracepoint_format(&self, category: &str, event: &str) -> Result<Option<String>, TargetError> {
        let found = EVENTS.iter().find(|(group, name, _)| *group == category && *name == event);
        Ok(found.map(|(_, _, text)| (*text).to_owned()))
    }

    fn tracepoints(&self) -> Result<Vec<String>, TargetError> {
        Ok(EVENTS.iter().map(|(group, name, _)| format!("{group}:{name}")).collect())
    }

    fn kernel_functions(&self) -> Result<Vec<KernelFunction>, TargetError> {
        let names = ["tcp_close", "tcp_connect", "vfs_read"];
        Ok(names.map(|name| KernelFunction { module: "vmlinux".to_owned(), name: name.to_owned() }).to_vec())
    }

    fn user_functions(&self, _: &Path) -> Result<Vec<UserFunction>, TargetError> {
        Ok(vec![
            UserFunction { name: "main".to_owned(), off_bytes: 0x1000 },
            UserFunction { name: "readline".to_owned(), off_bytes: 0x2000 },
        ])
    }

    fn usdt_probes(&self, _: &Path) -> Result<Vec<UsdtProbe>, TargetError> {
        Ok(vec![UsdtProbe { provider: "app".to_owned(), name: "start".to_owned(), args: 3 }])
    }

    fn binary(&self, name: &str, _: Option<u32>) -> Result<Option<PathBuf>, TargetError> {
        Ok((!name.contains("nosuch")).then(|| PathBuf::from(name)))
    }

    fn user_symbol(&self, _: &Path, name: &str) -> Result<Option<UserSymbol>, TargetError> {
        Ok(match name {
            "counter" => Some(UserSymbol { address: 0x4000, size_bytes: 4, code_start: None }),
            "main" => Some(UserSymbol { address: 0x1000, size_bytes: 64, code_start: Some(0x1000) }),
            "readline" => Some(UserSymbol { address: 0x2000, size_bytes: 64, code_start: Some(0x1000) }),
            "fixed" => Some(UserSymbol { address: 0x60_0000, size_bytes: 8, code_start: None }),
            _ => None,
        })
    }

    fn file_offset(&self, _: &Path, _: u64) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }

    fn instruction_at(&self, _: &Path, _: u64, off: u64) -> Result<Option<u64>, TargetError> {
        Ok(Some(off))
    }

    fn debug_info(&self, _: &Path) -> Result<Option<Rc<dyn DebugInfo>>, TargetError> {
        Ok(None)
    }

    fn bpf_functions(&self) -> Result<Vec<BpfFunction>, TargetError> {
        Ok(Vec::new())
    }

    fn bpf_program_btf(&self, _: u32) -> Result<Option<Btf>, TargetError> {
        Ok(None)
    }

    fn cgroup_id(&self, path: &Path) -> Result<u64, TargetError> {
        if path == Path::new("/sys/fs/cgroup/system.slice") {
            Ok(4242)
        } else {
            Err("No such file or directory".into())
        }
    }

    fn read_file(&self, path: &Path) -> Result<String, TargetError> {
        self.files.read_file(path)
    }

    fn list_dir(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, TargetError> {
        self.files.list_dir(path)
    }

    fn possible_cpus(&self) -> u32 {
        4
    }

    fn has_helper(&self, helper: u32) -> bool {
        !self.lacks.contains(&helper)
    }
}
