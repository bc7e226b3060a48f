//! The machine that this process runs on, as a [`Target`].
//!
//! Everything is read when it is first asked for and kept for the life of the process. The kernel's types are mapped and not
//! read where the kernel allows it (6.16): 5 MB that cost no memory of ours and no copy. A module's types are only on demand.

mod formats;
mod programs;
mod script;
mod symbols;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use skep_btf::{Btf, NeededNames};
use skep_script::plan::{KERNEL_STACK_SYMBOLS, KernelStacks};
use skep_script::target::KernelFunction;
use skep_spec::Target;
use skep_spec::target::{Feature, FoundTypes, TargetError};
use skep_sys::bpf::{BtfFd, BtfId};
use skep_sys::kconfig::Kconfig;
use skep_sys::mmap::FileMap;
use skep_sys::version::KernelVersion;
use skep_sys::{Errno, kallsyms};

use crate::features::Features;

const BTF_FOLDER: &str = "/sys/kernel/btf";

/// The live kernel. Cloning shares what was read.
#[derive(Clone, Default)]
pub struct LiveTarget(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Types for CO-RE in place of the kernel's own.
    custom: Option<Btf>,
    btf: OnceLock<Result<Option<Btf>, String>>,
    kconfig: OnceLock<Result<Kconfig, String>>,
    modules: Mutex<HashMap<String, Option<Btf>>>,
    features: Features,
    functions: OnceLock<Result<Vec<KernelFunction>, String>>,
    /// Addresses that were asked for one by one.
    symbols: Mutex<HashMap<String, Option<u64>>>,
}

/// The bytes of the kernel's types.
enum Vmlinux {
    Mapped(FileMap),
    Read(Vec<u8>),
}

impl AsRef<[u8]> for Vmlinux {
    fn as_ref(&self) -> &[u8] {
        match self {
            Vmlinux::Mapped(map) => map.as_ref(),
            Vmlinux::Read(bytes) => bytes,
        }
    }
}

impl LiveTarget {
    /// The one target of this process.
    pub fn shared() -> LiveTarget {
        static SHARED: OnceLock<LiveTarget> = OnceLock::new();
        SHARED.get_or_init(LiveTarget::default).clone()
    }

    /// The live kernel with types for CO-RE from elsewhere, for kernels that were built without them.
    pub fn with_btf(btf: Btf) -> LiveTarget {
        LiveTarget(Arc::new(Inner { custom: Some(btf), ..Inner::default() }))
    }

    /// What the kernel can do, found out by trying.
    pub fn features(&self) -> &Features {
        &self.0.features
    }

    /// Whether programs may walk the kernel's own stacks with its tables, which needs their addresses and memory that programs may read:
    /// `bpf_kallsyms_lookup_name` (kernel 5.16) and `bpf_rdonly_cast` (kernel 6.2).
    pub fn walks_kernel_stacks(&self, types: KernelStacks) -> bool {
        if !self.features().rdonly_cast(types) {
            return false;
        }
        let names = KERNEL_STACK_SYMBOLS;
        let Ok(found) = symbols::ask(&names) else { return false };
        if !KernelStacks::are_walked_with(&found) {
            return false;
        }
        let mut known = self.0.symbols.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(names.map(str::to_owned).into_iter().zip(found));
        true
    }

    /// A descriptor of a module's types, which instructions and attach points of that module need; `None` when there is no
    /// such module or it has no types. Needs `CAP_SYS_ADMIN`.
    pub fn module_btf_fd(&self, module: &str) -> Result<Option<BtfFd>, Errno> {
        for id in BtfId::all() {
            let fd = match BtfFd::from_id(id?) {
                Ok(fd) => fd,
                // Unloaded between the list and here.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno),
            };
            let info = fd.info()?;
            if info.is_kernel && info.name == module {
                return Ok(Some(fd));
            }
        }
        Ok(None)
    }

    /// Reads and parses the kernel's types with `parse`.
    fn read_btf(&self, parse: impl FnOnce(Vmlinux) -> Result<Btf, skep_btf::Error>) -> Result<Option<Btf>, String> {
        let data = match FileMap::vmlinux_btf() {
            Ok(map) => Vmlinux::Mapped(map),
            Err(Errno::ENOENT) => return Ok(None),
            // Kernels before 6.16 do not map it.
            Err(_) => match fs::read(Path::new(BTF_FOLDER).join("vmlinux")) {
                Ok(bytes) => Vmlinux::Read(bytes),
                Err(error) => return Err(format!("cannot read {BTF_FOLDER}/vmlinux: {error}")),
            },
        };
        parse(data).map(Some).map_err(|error| format!("{BTF_FOLDER}/vmlinux: {error}"))
    }

    fn read_module(&self, module: &str) -> Result<Option<Btf>, TargetError> {
        let Some(base) = self.btf()? else { return Ok(None) };
        // A module's name is one file name.
        if module.is_empty() || module.contains('/') || module.starts_with('.') {
            return Ok(None);
        }
        let path = Path::new(BTF_FOLDER).join(module);
        match fs::read(&path) {
            Ok(bytes) => {
                Btf::parse_split(bytes, &base).map(Some).map_err(|error| format!("{}: {error}", path.display()).into())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", path.display()).into()),
        }
    }
}

impl Target for LiveTarget {
    fn kernel_version(&self) -> u32 {
        KernelVersion::running().code()
    }

    fn core_btf(&self) -> Option<Btf> {
        self.0.custom.clone()
    }

    fn btf(&self) -> Result<Option<Btf>, TargetError> {
        self.0.btf.get_or_init(|| self.read_btf(Btf::parse)).clone().map_err(Into::into)
    }

    fn btf_with(&self, names: &NeededNames) -> Result<Option<FoundTypes>, TargetError> {
        let mut found_now = None;
        let btf = self.0.btf.get_or_init(|| {
            self.read_btf(|data| {
                let (btf, found) = Btf::parse_and_find(data, names)?;
                found_now = Some(found);
                Ok(btf)
            })
        });
        let btf = btf.clone()?;
        Ok(btf.map(|btf| {
            let found = found_now.unwrap_or_else(|| btf.find_all(names));
            (btf, found)
        }))
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        let folder = match fs::read_dir(BTF_FOLDER) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("cannot list {BTF_FOLDER}: {error}").into()),
        };
        let mut names: Vec<String> = folder
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != "vmlinux")
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn module_btf(&self, module: &str) -> Result<Option<Btf>, TargetError> {
        let mut modules = self.0.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = modules.get(module) {
            return Ok(known.clone());
        }
        let btf = self.read_module(module)?;
        // An absent module may be loaded later: only what was found is kept.
        if btf.is_some() {
            modules.insert(module.to_owned(), btf.clone());
        }
        Ok(btf)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let known = {
            let known = self.0.symbols.lock().unwrap_or_else(PoisonError::into_inner);
            names.iter().map(|name| known.get(*name).copied()).collect::<Option<Vec<_>>>()
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let found = kallsyms::addresses(names.iter().copied())
            .map_err(|error| format!("cannot read /proc/kallsyms: {error}"))?;
        names
            .iter()
            .map(|name| match found.get(name).map(Vec::as_slice) {
                None | Some([]) => Ok(None),
                Some([0]) => Err(TargetError::from(
                    "the kernel hides its addresses (they read as zero in /proc/kallsyms): run as root, or set \
                     kernel.kptr_restrict to 0 or 1",
                )),
                Some([address]) => Ok(Some(*address)),
                Some(several) => Err(format!("kernel symbol `{name}` has {} addresses", several.len()).into()),
            })
            .collect()
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let config = self.0.kconfig.get_or_init(|| Kconfig::read().map_err(|error| error.to_string()));
        let config = config.as_ref().map_err(Clone::clone)?;
        Ok(names.iter().map(|name| config.get(name).map(str::to_owned)).collect())
    }

    fn supports(&self, feature: Feature) -> bool {
        let features = &self.0.features;
        match feature {
            Feature::ProbeReadKernel => features.probe_read_kernel(),
            Feature::AttachCookie => features.attach_cookie(),
            Feature::SyscallWrapper => features.syscall_wrapper(),
            Feature::ArgCtxTag => features.arg_ctx_tag(),
            Feature::UprobeMulti => features.uprobe_multi(),
        }
    }
}

impl std::fmt::Debug for LiveTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveTarget").field("kernel", &KernelVersion::running()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_answers() {
        let target = LiveTarget::shared();
        assert!(target.kernel_version() > 0x040000);
        if Path::new("/sys/kernel/btf/vmlinux").exists() {
            let btf = target.btf().unwrap().expect("the file is there");
            assert!(btf.find("task_struct", skep_btf::Kind::STRUCT).is_some());
        } else {
            assert!(target.btf().unwrap().is_none());
        }
        assert_eq!(target.module_btf("no_such_module").unwrap().map(|b| b.len()), None);
        assert_eq!(target.module_btf("../../../etc/passwd").unwrap().map(|b| b.len()), None);
    }

    #[test]
    fn an_absent_symbol_is_none_and_not_an_error() {
        // The first symbols of x86-64 before 6.15 are at 0 for everybody: per-CPU data counts from there.
        let hidden = |text: String| text.lines().all(|line| line.starts_with("0000000000000000 "));
        if fs::read_to_string("/proc/kallsyms").map_or(true, hidden) {
            println!("skipped: needs CAP_SYSLOG");
            return;
        }
        let found = LiveTarget::shared().symbols(&["no_such_symbol_at_all", "bpf_prog_put"]).unwrap();
        assert_eq!(found[0], None);
        assert!(found[1].is_some());
    }
}
