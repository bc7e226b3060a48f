//! The machine that objects are resolved for: types and configuration of some kernel, features of the machine in user space.

use skep_btf::{Btf, NeededNames};
use skep_spec::Target;
use skep_spec::target::{Feature, FoundTypes, TargetError};
use skep_vm::Helpers;

/// A [`Target`] whose kernel is asked for what programs read of it, but not for what it can do. Where the kernel tells nobody its types (a container without
/// `/sys/kernel`), they are those that the object was compiled with: what programs see here is made up, so it is made up as they expect it.
pub(crate) struct UserTarget<'a> {
    target: &'a dyn Target,
    own: Option<&'a Btf>,
}

impl<'a> UserTarget<'a> {
    /// For an object with these types.
    pub(crate) fn new(target: &'a dyn Target, own: Option<&'a Btf>) -> UserTarget<'a> {
        UserTarget { target, own }
    }
}

impl Target for UserTarget<'_> {
    fn kernel_version(&self) -> u32 {
        self.target.kernel_version()
    }

    fn btf(&self) -> Result<Option<Btf>, TargetError> {
        self.target.btf()
    }

    fn core_btf(&self) -> Option<Btf> {
        self.target.core_btf().or_else(|| match self.target.btf() {
            Ok(None) => self.own.cloned(),
            Ok(Some(_)) | Err(_) => None,
        })
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
