//! The machine that scripts are compiled for: a few types, a function, a tracepoint, a binary for every name.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

use skep_btf::{Btf, Builder, Endian, FuncLinkage, IntEncoding, MemberDef, TypeDef, TypeId};
use skep_script::target::{BpfFunction, DebugInfo, KernelFunction, UsdtProbe, UserFunction, UserSymbol};
use skep_spec::target::{Feature, TargetError};

/// A machine whose every `.bt` and `.h` file is the script itself.
pub(crate) struct Machine<'a> {
    own: &'a str,
    /// The format of every tracepoint, in the place of its own.
    format: Option<&'a str>,
    btf: Btf,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(own: &'a str) -> Machine<'a> {
        static TYPES: OnceLock<Btf> = OnceLock::new();
        Machine { own, format: None, btf: TYPES.get_or_init(types).clone() }
    }

    /// One whose tracepoints have all this format.
    pub(crate) fn with_format(format: &'a str) -> Machine<'a> {
        Machine { format: Some(format), ..Machine::new("") }
    }
}

fn types() -> Btf {
    let bytes = describe().and_then(|builder| builder.finish(Endian::Little)).unwrap_or_default();
    Btf::parse(bytes).expect("types that were built can be read")
}

fn describe() -> Result<Builder, skep_btf::Error> {
    let mut b = Builder::new();
    let mut int = |name, size: u32, encoding| b.add(TypeDef::Int { name, size, bits: (size * 8) as u8, encoding });
    let (s32, u64) = (int("int", 4, IntEncoding::SIGNED)?, int("long unsigned int", 8, IntEncoding(0))?);
    let character = int("char", 1, IntEncoding::SIGNED)?;
    let comm = b.add(TypeDef::Array { element: character, index: s32, len: 16 })?;
    // The number of a type that comes later is known: each definition takes one.
    let task = TypeId(b.len() + 2);
    let task_ptr = b.add(TypeDef::Ptr(task))?;
    let member = |name, type_id, off: u32, bits| MemberDef { name, type_id, bit_offset: off * 8, bitfield_size: bits };
    assert_eq!(b.len() + 1, task.0, "the struct is the next");
    b.add(TypeDef::Struct {
        name: "task_struct",
        size: 40,
        members: &[
            member("pid", s32, 0, None),
            member("tgid", s32, 4, None),
            member("comm", comm, 8, None),
            member("real_parent", task_ptr, 24, None),
            member("in_execve", s32, 32, Some(1)),
        ],
    })?;
    let void_ptr = b.add(TypeDef::Ptr(TypeId(0)))?;
    let params = [("file", void_ptr), ("count", u64), ("task", task_ptr)];
    let proto = b.add(TypeDef::FuncProto { result: s32, params: &params })?;
    b.add(TypeDef::Func { name: "vfs_read", proto, linkage: FuncLinkage::STATIC })?;
    let raw = b.add(TypeDef::FuncProto { result: TypeId(0), params: &[("__data", void_ptr), ("prev", task_ptr)] })?;
    let raw = b.add(TypeDef::Ptr(raw))?;
    b.add(TypeDef::Typedef { name: "btf_trace_sched_switch", type_id: raw })?;
    let members = [member("meta", void_ptr, 0, None), member("task", task_ptr, 8, None)];
    b.add(TypeDef::Struct { name: "bpf_iter__task", size: 16, members: &members })?;
    let iter = b.add(TypeDef::FuncProto { result: s32, params: &[("meta", void_ptr), ("task", task_ptr)] })?;
    b.add(TypeDef::Func { name: "bpf_iter_task", proto: iter, linkage: FuncLinkage::STATIC })?;
    let regs = [member("r15", u64, 0, None), member("ip", u64, 128, None)];
    b.add(TypeDef::Struct { name: "pt_regs", size: 168, members: &regs })?;
    Ok(b)
}

const SWITCH: &str = "name: sched_switch
ID: 316
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:long prev_state;\toffset:32;\tsize:8;\tsigned:1;
\tfield:__data_loc char[] name;\toffset:40;\tsize:4;\tsigned:0;

print fmt: \"\"
";

impl skep_spec::Target for Machine<'_> {
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
        Ok(vec![None; names.len()])
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        Ok(vec![None; names.len()])
    }

    fn supports(&self, _: Feature) -> bool {
        true
    }
}

impl skep_script::Target for Machine<'_> {
    fn tracepoint_format(&self, category: &str, event: &str) -> Result<Option<String>, TargetError> {
        let own = (category == "sched" && event == "sched_switch").then_some(SWITCH);
        Ok(self.format.or(own).map(str::to_owned))
    }

    fn tracepoints(&self) -> Result<Vec<String>, TargetError> {
        Ok(vec!["sched:sched_switch".to_owned()])
    }

    fn kernel_functions(&self) -> Result<Vec<KernelFunction>, TargetError> {
        Ok(vec![KernelFunction { module: "vmlinux".to_owned(), name: "vfs_read".to_owned() }])
    }

    fn user_functions(&self, _: &Path) -> Result<Vec<UserFunction>, TargetError> {
        Ok(vec![UserFunction { name: "main".to_owned(), off_bytes: 0x1000 }])
    }

    fn usdt_probes(&self, _: &Path) -> Result<Vec<UsdtProbe>, TargetError> {
        Ok(vec![UsdtProbe { provider: "app".to_owned(), name: "start".to_owned(), args: 3 }])
    }

    fn binary(&self, name: &str, _: Option<u32>) -> Result<Option<PathBuf>, TargetError> {
        Ok((!name.contains("nosuch")).then(|| PathBuf::from(name)))
    }

    fn user_symbol(&self, _: &Path, name: &str) -> Result<Option<UserSymbol>, TargetError> {
        Ok((name == "main").then_some(UserSymbol { address: 0x1000, size_bytes: 64, code_start: Some(0x1000) }))
    }

    fn file_offset(&self, _: &Path, _: u64) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }

    fn instruction_at(&self, _: &Path, _: u64, off: u64) -> Result<Option<u64>, TargetError> {
        Ok(Some(off & !3))
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

    fn cgroup_id(&self, _: &Path) -> Result<u64, TargetError> {
        Err("no cgroups here".into())
    }

    fn read_file(&self, path: &Path) -> Result<String, TargetError> {
        if path.as_os_str().len() > 20 { Err("no such file".into()) } else { Ok(self.own.to_owned()) }
    }

    fn list_dir(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, TargetError> {
        let names = ["x.bt", "y.h", "z.c"];
        Ok((path.extension().is_none()).then(|| names.iter().map(|name| path.join(name)).collect()))
    }

    fn possible_cpus(&self) -> u32 {
        4
    }

    fn has_helper(&self, _: u32) -> bool {
        true
    }
}
