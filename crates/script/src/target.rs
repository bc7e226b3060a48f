//! What a script may ask of a machine, beyond what an object asks.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use skep_btf::Btf;
use skep_spec::target::TargetError;

/// A machine that scripts can be compiled for. Answers are lazy; `Ok(None)` or an empty list means "this machine has none",
/// `Err` that it would not say. There are no default answers: a target in front of another has to pass every question on.
pub trait Target: skep_spec::Target {
    /// Text of a tracepoint's `format` file in tracefs; `None` when there is no such tracepoint.
    fn tracepoint_format(&self, category: &str, event: &str) -> Result<Option<String>, TargetError>;

    /// Every tracepoint, as `category:event`, sorted. Asked only for patterns and for near names.
    fn tracepoints(&self) -> Result<Vec<String>, TargetError>;

    /// Every function that a kprobe may be placed at, with its module (`vmlinux` for the kernel's own), sorted. Asked
    /// only for patterns and for near names.
    fn kernel_functions(&self) -> Result<Vec<KernelFunction>, TargetError>;

    /// Functions of an executable or library: its symbols, with their file offsets.
    fn user_functions(&self, binary: &Path) -> Result<Vec<UserFunction>, TargetError>;

    /// USDT probes of an executable or library, sorted, each once.
    fn usdt_probes(&self, binary: &Path) -> Result<Vec<UsdtProbe>, TargetError>;

    /// The file that `name` in a uprobe means: a path, or a library found as the dynamic linker finds it, or an executable
    /// found in `$PATH`; as seen by `pid` when there is one. `*` is the caller's business.
    fn binary(&self, name: &str, pid: Option<u32>) -> Result<Option<PathBuf>, TargetError>;

    /// Value of a symbol of an executable or library, with its size, for `uaddr`.
    fn user_symbol(&self, binary: &Path, name: &str) -> Result<Option<UserSymbol>, TargetError>;

    /// Place in the file of an executable or library (of an archive's member: in that member) whose code is at `address` as
    /// linked; `None` when there is no code.
    fn file_offset(&self, binary: &Path, address: u64) -> Result<Option<u64>, TargetError>;

    /// Where the instruction begins that holds the byte `off` of the function whose address as linked is `address`, counted from the
    /// beginning of the function; `None` when nobody can tell, as on architectures whose instructions are not known.
    fn instruction_at(&self, binary: &Path, address: u64, off: u64) -> Result<Option<u64>, TargetError>;

    /// Debugging information (DWARF) of an executable or library: its own, or that of the file into which it was split off.
    /// `None` when there is none.
    fn debug_info(&self, binary: &Path) -> Result<Option<Rc<dyn DebugInfo>>, TargetError>;

    /// Functions of the BPF programs that are loaded, sorted, for `fentry:bpf:name`.
    fn bpf_functions(&self) -> Result<Vec<BpfFunction>, TargetError>;

    /// Types of a loaded BPF program.
    fn bpf_program_btf(&self, program: u32) -> Result<Option<Btf>, TargetError>;

    /// Number of a cgroup (inode of its folder in the cgroup v2 mount), for `cgroupid`.
    fn cgroup_id(&self, path: &Path) -> Result<u64, TargetError>;

    /// Text of a file, for `#include` and `import`.
    fn read_file(&self, path: &Path) -> Result<String, TargetError>;

    /// Paths of the files in a folder, sorted, for `import`; `None` when the path is no folder.
    fn list_dir(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, TargetError>;

    /// Paths of the folders in a folder, sorted, for a `*` in a path. What cannot be listed has none.
    fn list_folders(&self, path: &Path) -> Vec<PathBuf> {
        let _ = path;
        Vec::new()
    }

    /// Number of processors that the kernel may ever use.
    fn possible_cpus(&self) -> u32;

    /// Whether the kernel has this helper for tracing programs, found out by trying.
    fn has_helper(&self, helper: u32) -> bool;
}

/// A file with debugging information. Sections are read when they are asked for, since most questions need few of them.
pub trait DebugInfo {
    /// What its code runs on.
    fn architecture(&self) -> Architecture;

    /// Numbers begin with their highest byte.
    fn big_endian(&self) -> bool;

    /// Bytes of the section of this name, uncompressed; empty when there is none.
    fn section(&self, name: &str) -> Result<Vec<u8>, TargetError>;
}

/// Architectures whose calling convention is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64 with 64-bit pointers: System V ABI.
    X86_64,
    /// aarch64: AAPCS64.
    Aarch64,
    /// Any other, 32-bit programs included.
    Other,
}

/// A kernel function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelFunction {
    /// Module, `vmlinux` for the kernel's own.
    pub module: String,
    /// Name.
    pub name: String,
}

/// A function of a BPF program, or the program itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BpfFunction {
    /// Number of the program.
    pub program: u32,
    /// Name, in full as its types have it.
    pub name: String,
}

/// A function of an executable or library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserFunction {
    /// Name, as in the symbol table (mangled).
    pub name: String,
    /// Place in the file, in bytes.
    pub off_bytes: u64,
}

/// A USDT probe of an executable or library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsdtProbe {
    /// Provider.
    pub provider: String,
    /// Name.
    pub name: String,
    /// How many arguments it has; of several places the most.
    pub args: u32,
}

/// A symbol of an executable or library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSymbol {
    /// Address as linked.
    pub address: u64,
    /// Size, in bytes.
    pub size_bytes: u64,
    /// Of a position independent file, where its code begins: it is loaded anywhere, and the address moves with the code.
    pub code_start: Option<u64>,
}
