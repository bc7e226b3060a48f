//! The machine that objects are resolved for: types and configuration of some kernel, features of the machine in user space.

use skep_spec::Target;
use skep_spec::target::{Feature, FoundTypes, TargetError};
use skep_vm::Helpers;

/// A [`Target`] whose kernel is asked for what programs read of it, but not for what it can do.
pub(crate) struct UserTarget<'a>(pub(crate) &'a dyn Target);

impl Target for UserTarget<'_> {
    fn kernel_version(&self) -> u32 {
        self.0.kernel_version()
    }

    fn btf(&self) -> Result<Option<skep_btf::Btf>, TargetError> {
        self.0.btf()
    }

    fn core_btf(&self) -> Option<skep_btf::Btf> {
        self.0.core_btf()
    }

    fn btf_with(&self, names: &skep_btf::NeededNames) -> Result<Option<FoundTypes>, TargetError> {
        self.0.btf_with(names)
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        self.0.modules()
    }

    fn module_btf(&self, module: &str) -> Result<Option<skep_btf::Btf>, TargetError> {
        self.0.module_btf(module)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        self.0.symbols(names)
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        self.0.kconfig(names)
    }

    fn supports(&self, feature: Feature) -> bool {
        match feature {
            // All of them are questions of what programs may call or say.
            Feature::ProbeReadKernel | Feature::AttachCookie | Feature::ArgCtxTag => true,
            // Contexts of system calls are those of a kernel with wrappers, as all of this decade are.
            Feature::SyscallWrapper => cfg!(any(target_arch = "x86_64", target_arch = "aarch64")),
            Feature::UprobeMulti => false,
        }
    }
}

/// The helpers of this machine, and one more for each number that stands for something which the target has not: called only by programs
/// that do not look first.
pub(crate) fn helpers(poison: impl IntoIterator<Item = u32>) -> Helpers {
    poison.into_iter().fold(Helpers::all(), |helpers, number| {
        helpers.with(number, "absent", |_, _| {
            let message = "this machine has not what the program asks for here".to_owned();
            Err(skep_vm::TrapKind::Misuse { helper: "absent", message }.into())
        })
    })
}
