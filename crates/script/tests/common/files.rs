//! A machine that has some files and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use skep_script::Target;
use skep_script::target::{BpfFunction, DebugInfo, KernelFunction, UsdtProbe, UserFunction, UserSymbol};
use skep_spec::target::{Feature, TargetError};

/// Paths with their texts.
#[derive(Default)]
pub(crate) struct Files(pub(crate) BTreeMap<PathBuf, String>);

impl skep_spec::Target for Files {
    fn kernel_version(&self) -> u32 {
        6 << 16 | 18 << 8
    }

    fn btf(&self) -> Result<Option<skep_btf::Btf>, TargetError> {
        Ok(None)
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        Ok(Vec::new())
    }

    fn module_btf(&self, _: &str) -> Result<Option<skep_btf::Btf>, TargetError> {
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

impl Target for Files {
    fn tracepoint_format(&self, _: &str, _: &str) -> Result<Option<String>, TargetError> {
        Ok(None)
    }

    fn tracepoints(&self) -> Result<Vec<String>, TargetError> {
        Ok(Vec::new())
    }

    fn kernel_functions(&self) -> Result<Vec<KernelFunction>, TargetError> {
        Ok(Vec::new())
    }

    fn user_functions(&self, _: &Path) -> Result<Vec<UserFunction>, TargetError> {
        Ok(Vec::new())
    }

    fn usdt_probes(&self, _: &Path) -> Result<Vec<UsdtProbe>, TargetError> {
        Ok(Vec::new())
    }

    fn binary(&self, _: &str, _: Option<u32>) -> Result<Option<PathBuf>, TargetError> {
        Ok(None)
    }

    fn user_symbol(&self, _: &Path, _: &str) -> Result<Option<UserSymbol>, TargetError> {
        Ok(None)
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

    fn bpf_program_btf(&self, _: u32) -> Result<Option<skep_btf::Btf>, TargetError> {
        Ok(None)
    }

    fn cgroup_id(&self, _: &Path) -> Result<u64, TargetError> {
        Err("no cgroups here".into())
    }

    fn read_file(&self, path: &Path) -> Result<String, TargetError> {
        self.0.get(path).cloned().ok_or_else(|| "no such file".into())
    }

    fn list_dir(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, TargetError> {
        let inside: Vec<PathBuf> = self.0.keys().filter(|file| file.parent() == Some(path)).cloned().collect();
        Ok((!inside.is_empty() && !self.0.contains_key(path)).then_some(inside))
    }

    fn possible_cpus(&self) -> u32 {
        4
    }

    fn has_helper(&self, _: u32) -> bool {
        true
    }
}
