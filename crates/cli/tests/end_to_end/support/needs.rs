//! What a case needs of the machine. A case that cannot run says so in one line and returns; `cargo xtask ci` makes a failure
//! of it when no machine could serve it.

use skep_sys::kconfig::Kconfig;

/// A property of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Root, with the right to load programs.
    Root,
    /// A compiler for C.
    Clang,
    /// `CONFIG_KPROBES`.
    Kprobes,
    /// Programs on function entry and return.
    Fentry,
    /// A network namespace with interfaces of our own.
    Veth,
    /// A cgroup v2 of our own.
    Cgroup,
    /// A program on `PATH`.
    Program(&'static str),
    /// A symbol of the kernel.
    Symbol(&'static str),
    /// A tracepoint, as `category/event`.
    Tracepoint(&'static str),
    /// A disk that can be written to: one under the target folder, or null_blk's.
    BlockDevice,
    /// Disks in memory, made at will.
    Zram,
    /// A member of a struct of the kernel, as `(struct, member)`.
    Member(&'static str, &'static str),
    /// This binary's functions are those of the machine's C library.
    Glibc,
}

/// True when the machine has all of these; else prints the line that says what it lacks.
pub(crate) fn needs(all: &[Need]) -> bool {
    for need in all {
        if let Some(missing) = need.missing() {
            println!("skipped: needs {missing}");
            return false;
        }
    }
    true
}

impl Need {
    pub(crate) fn is_met(self) -> bool {
        self.missing().is_none()
    }

    /// What is missing, in the words of the skip.
    fn missing(self) -> Option<String> {
        let enabled = |name: &str| Kconfig::read().is_ok_and(|config| config.enabled(name));
        let (there, name) = match self {
            Need::Root => (rustix::process::geteuid().is_root(), "root"),
            Need::Clang => (clang(), "clang"),
            Need::Kprobes => (enabled("CONFIG_KPROBES"), "kprobes"),
            // Without kprobes the kernels at hand refuse these too (EPERM), whatever their configuration says.
            Need::Fentry => (enabled("CONFIG_KPROBES") && enabled("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"), "fentry"),
            Need::Veth => (rustix::process::geteuid().is_root() && on_path("ip"), "root and `ip`"),
            Need::Cgroup => (super::cgroup::mount().is_some(), "cgroup v2"),
            Need::Program(name) => (on_path(name), name),
            Need::Symbol(name) => {
                let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
                (symbols.lines().any(|line| line.split_whitespace().nth(2) == Some(name)), name)
            }
            Need::Tracepoint(name) => (
                skep_sys::tracefs::Tracefs::shared()
                    .is_ok_and(|files| files.read(&format!("events/{name}/id")).is_ok()),
                name,
            ),
            Need::BlockDevice => {
                let disk = ["/dev/nullb0", "/dev/vda", "/dev/sda", "/dev/nvme0n1"];
                (disk.iter().any(|path| std::path::Path::new(path).exists()), "a block device")
            }
            Need::Zram => (super::disk::is_there(), "zram"),
            Need::Member(of, member) => {
                let definition = super::skep::call(&["list", &format!("struct {of}")]).stdout;
                let there = definition.lines().any(|line| line.trim_end().ends_with(&format!(" {member};")));
                return (!there).then(|| format!("a kernel with `{of}.{member}`"));
            }
            Need::Glibc => (cfg!(target_env = "gnu"), "glibc"),
        };
        (!there).then(|| name.to_owned())
    }
}

/// Whether a compiler is there; the virtual machines have none and take objects that were compiled before.
pub(crate) fn clang() -> bool {
    ["clang", "clang-14", "clang-19"].iter().any(|name| on_path(name))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
