//! What may be asked of a machine.

use std::error::Error;

use skep_btf::{Btf, NeededNames, TypeId};

/// A machine that a [`Spec`](crate::Spec) can be resolved for: the live kernel, or a description of another one.
///
/// Answers are lazy: a target that is never asked for its symbols never reads them. `Ok(None)` means "this machine has
/// none"; `Err` means that the machine would not say.
pub trait Target {
    /// Kernel version as `LINUX_VERSION_CODE`: `major << 16 | minor << 8 | min(patch, 255)`.
    fn kernel_version(&self) -> u32;

    /// The kernel's own types.
    fn btf(&self) -> Result<Option<Btf>, TargetError>;

    /// Types to answer CO-RE records from in place of the kernel's own and its modules': those of a file, for a kernel that was built without.
    /// What is attached to or called is looked up in [`Target::btf`] all the same, since its numbers must be the kernel's.
    fn core_btf(&self) -> Option<Btf> {
        None
    }

    /// The kernel's own types, and for each of the names the types that [`Btf::find_all`] finds. A machine whose types were not
    /// read before may look for the names while it reads them ([`Btf::parse_and_find`]).
    fn btf_with(&self, names: &NeededNames) -> Result<Option<FoundTypes>, TargetError> {
        Ok(self.btf()?.map(|btf| {
            let found = btf.find_all(names);
            (btf, found)
        }))
    }

    /// Names of modules that have types of their own.
    fn modules(&self) -> Result<Vec<String>, TargetError>;

    /// Types of one module, split over [`Target::btf`].
    fn module_btf(&self, module: &str) -> Result<Option<Btf>, TargetError>;

    /// Addresses of kernel symbols, in the order asked; `None` for a symbol that is absent. Asked once for all names of
    /// an object, since reading the symbol table is the slowest thing that a loader does.
    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError>;

    /// Values of the kernel's configuration as written in its file (`y`, `m`, `1000`, `"text"`), in the order asked;
    /// `None` for a value that is not set.
    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError>;

    /// Whether the kernel has a feature that instructions depend on.
    fn supports(&self, feature: Feature) -> bool;
}

/// Features that decide what instructions look like after resolving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// `bpf_probe_read_kernel` and `_user` (5.5); without them the calls become `bpf_probe_read`.
    ProbeReadKernel,
    /// `bpf_get_attach_cookie` works (5.15): `LINUX_HAS_BPF_COOKIE`.
    AttachCookie,
    /// System calls have architecture wrappers (4.17 on x86-64): `LINUX_HAS_SYSCALL_WRAPPER`.
    SyscallWrapper,
    /// The kernel knows `arg:ctx` tags on global functions (6.8); without it their types are rewritten.
    ArgCtxTag,
    /// Uprobes through one multi link (6.6), which USDT programs use when they can.
    UprobeMulti,
}

/// A machine's types, and per name the types that have it.
pub type FoundTypes = (Btf, Vec<Vec<TypeId>>);

/// Why a machine would not answer.
pub type TargetError = Box<dyn Error + Send + Sync>;
