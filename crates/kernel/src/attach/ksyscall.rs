//! System calls by their name, whatever the architecture calls the function behind it.
//!
//! Since 4.17 most architectures wrap each system call in a function that takes `struct pt_regs`
//! (CONFIG_ARCH_HAS_SYSCALL_WRAPPER), with a name of their own; others have `__se_sys_NAME` or `sys_NAME`.

use skep_engine::Error;
use skep_sys::Errno;

use super::attachment::{Attachment, Hold};
use super::request::Request;
use super::{kprobe, perf_link};

/// The wrapper's prefix on this architecture.
fn wrapper_prefix() -> Option<&'static str> {
    Some(match std::env::consts::ARCH {
        "x86_64" => "__x64_sys_",
        "x86" => "__ia32_sys_",
        "aarch64" => "__arm64_sys_",
        "s390x" => "__s390x_sys_",
        "riscv64" | "riscv32" => "__riscv_sys_",
        "loongarch64" => "__loongarch_sys_",
        _ => return None,
    })
}

/// The kernel function behind a system call, such as `__x64_sys_openat` for `openat`; `None` when this kernel has no such call.
/// That is what a kprobe or fentry program is attached to.
///
/// # Errors
///
/// When the kernel's symbols cannot be read.
pub fn syscall_function(name: &str) -> Result<Option<String>, Error> {
    let candidates: Vec<String> =
        wrapper_prefix().into_iter().chain(["__se_sys_", "sys_"]).map(|prefix| format!("{prefix}{name}")).collect();
    let found = skep_sys::kallsyms::addresses(candidates.iter().map(String::as_str))
        .map_err(|cause| Error::new(format!("cannot read /proc/kallsyms: {cause}")).with_source(cause))?;
    Ok(candidates.iter().find(|name| found.get(name.as_str()).is_some_and(|found| !found.is_empty())).cloned())
}

pub(super) fn attach(request: &Request<'_>, name: &str, ret: bool) -> Result<Attachment, Error> {
    let what = format!("{} {name}", if ret { "kretsyscall" } else { "ksyscall" });
    let prefixes = wrapper_prefix().into_iter().chain(["__se_sys_", "sys_"]);
    for function in prefixes.map(|prefix| format!("{prefix}{name}")) {
        match kprobe::open(request, &function, 0, ret)? {
            Ok((event, undo)) => {
                let mut holds = vec![perf_link::attach(request, event, request.options.cookie, &what)?];
                holds.extend(undo.map(Hold::Legacy));
                return Ok(Attachment::of(format!("{what} ({function})"), holds));
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(kprobe::refusal(request, &function, &what, errno)),
        }
    }
    let function = format!("{}{name}", wrapper_prefix().unwrap_or("sys_"));
    Err(kprobe::refusal(request, &function, &what, Errno::ENOENT))
}
