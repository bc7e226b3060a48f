//! Types (BTF) of the running kernel.

use skep_btf::Btf;
use skep_kernel::LiveTarget;
use skep_spec::Target as _;

use crate::Error;

/// The kernel's own types, read once per process and shared by everything that asks, loading included; `None` when the kernel was
/// built without.
///
/// ```no_run
/// use skep::btf::Kind;
///
/// # fn main() -> Result<(), skep::Error> {
/// if let Some(types) = skep::kernel_types()? {
///     println!("task_struct is type {:?}", types.find("task_struct", Kind::STRUCT));
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// When they cannot be read or are not understood.
pub fn kernel_types() -> Result<Option<Btf>, Error> {
    LiveTarget::shared().btf().map_err(|cause| Error::new(cause.to_string()))
}

/// The types of a module, on top of the kernel's (kernel 5.11); `None` when it is not loaded or has none.
///
/// # Errors
///
/// As [`kernel_types`].
pub fn module_types(module: &str) -> Result<Option<Btf>, Error> {
    LiveTarget::shared().module_btf(module).map_err(|cause| Error::new(cause.to_string()))
}
