//! A machine whose files for scripts may come from elsewhere.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use skep_btf::{Btf, NeededNames};
use skep_script::Target;
use skep_script::target::{BpfFunction, DebugInfo, KernelFunction, UsdtProbe, UserFunction, UserSymbol};
use skep_spec::target::{Feature, FoundTypes, TargetError};

use super::Carried;

/// A machine, with files and folders that a tool carries; what it does not carry, the machine is asked for. Every answer is
/// noted, so that a tool can be made of them.
pub struct WithFiles<'a> {
    target: &'a dyn Target,
    known: RefCell<Carried>,
}

impl<'a> WithFiles<'a> {
    /// `target` with the files of `carried` in front of its own.
    pub fn new(target: &'a dyn Target, carried: Carried) -> WithFiles<'a> {
        WithFiles { target, known: RefCell::new(carried) }
    }

    /// The files that a script was made of: not what was looked up about the machine, such as a process's mappings, or folders
    /// that a pattern of a probe went through.
    pub fn into_carried(self) -> Carried {
        let mut carried = self.known.into_inner();
        carried.files.retain(|path, _| !path.starts_with("/proc") && !path.starts_with("/sys"));
        let Carried { files, folders } = &mut carried;
        folders.retain(|_, listed| match listed {
            Some(listed) => listed.iter().any(|file| files.contains_key(file)),
            None => true,
        });
        carried
    }
}

impl skep_spec::Target for WithFiles<'_> {
    fn kernel_version(&self) -> u32 {
        self.target.kernel_version()
    }

    fn btf(&self) -> Result<Option<Btf>, TargetError> {
        self.target.btf()
    }

    fn core_btf(&self) -> Option<Btf> {
        self.target.core_btf()
    }

    fn btf_with(&self, names: &NeededNames) -> Result<Option<FoundTypes>, TargetError> {
        self.target.btf_with(names)
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        self.target.modules()
    }

    fn module_btf(&self, module: &str) -> Result<Option<Btf>, TargetError> {
        self.target.module_btf(module)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        self.target.symbols(names)
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        self.target.kconfig(names)
    }

    fn supports(&self, feature: Feature) -> bool {
        self.target.supports(feature)
    }
}

impl Target for WithFiles<'_> {
    fn tracepoint_format(&self, category: &str, event: &str) -> Result<Option<String>, TargetError> {
        self.target.tracepoint_format(category, event)
    }

    fn tracepoints(&self) -> Result<Vec<String>, TargetError> {
        self.target.tracepoints()
    }

    fn kernel_functions(&self) -> Result<Vec<KernelFunction>, TargetError> {
        self.target.kernel_functions()
    }

    fn user_functions(&self, binary: &Path) -> Result<Vec<UserFunction>, TargetError> {
        self.target.user_functions(binary)
    }

    fn usdt_probes(&self, binary: &Path) -> Result<Vec<UsdtProbe>, TargetError> {
        self.target.usdt_probes(binary)
    }

    fn binary(&self, name: &str, pid: Option<u32>) -> Result<Option<PathBuf>, TargetError> {
        self.target.binary(name, pid)
    }

    fn user_symbol(&self, binary: &Path, name: &str) -> Result<Option<UserSymbol>, TargetError> {
        self.target.user_symbol(binary, name)
    }

    fn file_offset(&self, binary: &Path, address: u64) -> Result<Option<u64>, TargetError> {
        self.target.file_offset(binary, address)
    }

    fn instruction_at(&self, binary: &Path, address: u64, off: u64) -> Result<Option<u64>, TargetError> {
        self.target.instruction_at(binary, address, off)
    }

    fn debug_info(&self, binary: &Path) -> Result<Option<Rc<dyn DebugInfo>>, TargetError> {
        self.target.debug_info(binary)
    }

    fn bpf_functions(&self) -> Result<Vec<BpfFunction>, TargetError> {
        self.target.bpf_functions()
    }

    fn bpf_program_btf(&self, program: u32) -> Result<Option<Btf>, TargetError> {
        self.target.bpf_program_btf(program)
    }

    fn cgroup_id(&self, path: &Path) -> Result<u64, TargetError> {
        self.target.cgroup_id(path)
    }

    fn read_file(&self, path: &Path) -> Result<String, TargetError> {
        let known = self.known.borrow().files.get(path).cloned();
        let read = known.unwrap_or_else(|| {
            let read = self.target.read_file(path).map_err(|error| error.to_string());
            self.known.borrow_mut().files.insert(path.to_owned(), read.clone());
            read
        });
        Ok(read?)
    }

    fn list_dir(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, TargetError> {
        if let Some(known) = self.known.borrow().folders.get(path) {
            return Ok(known.clone());
        }
        let listed = self.target.list_dir(path)?;
        self.known.borrow_mut().folders.insert(path.to_owned(), listed.clone());
        Ok(listed)
    }

    fn possible_cpus(&self) -> u32 {
        self.target.possible_cpus()
    }

    fn has_helper(&self, helper: u32) -> bool {
        self.target.has_helper(helper)
    }
}
