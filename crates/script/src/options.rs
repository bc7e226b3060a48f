//! How to compile a script.

use std::path::PathBuf;

use regex_lite::Regex;

use crate::points::Provider;

/// What comes with a script from outside: parameters, settings, filters.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `$1`, `$2` ...
    pub params: Vec<String>,
    /// `--name=value` and bare `--name` behind `--`, for `getopt`.
    pub named: Vec<(String, Option<String>)>,
    /// Only this process (`-p`).
    pub pid: Option<u32>,
    /// Whoever runs the programs lets only the family of [`Options::pid`] through, so they need no check of their own.
    pub follow: bool,
    /// A process will be started with `-c`: `uprobe:*` and USDT without a path mean its executable.
    pub command: Option<String>,
    /// `system`, `signal`, `override` and the like are allowed (`--unsafe`).
    pub allow_unsafe: bool,
    /// Settings that win over the config block, as key (lower case) and value: the environment's `BPFTRACE_<KEY>`.
    pub config: Vec<(String, String)>,
    /// Folders for `#include` (`-I`).
    pub include_dirs: Vec<PathBuf>,
    /// Files included before the script (`--include`).
    pub includes: Vec<PathBuf>,
    /// Keep `test:` and `bench:` probes and drop all others, or the reverse.
    pub mode: Mode,
    /// Keep only probes whose name in full matches (`--probe-filter`).
    pub probe_filter: Option<Regex>,
    /// Reading a key that is not in its map is reported (`-kk`).
    pub report_absent_keys: bool,
    /// The map (`@now`) whose value is the time for `tseries`, in nanoseconds, so that tests of scripts need not wait.
    pub series_clock: Option<String>,
    /// `bpf_get_stack` of whoever runs the programs walks stacks by tables itself, so that programs need not for `dw_ustack`.
    pub engine_walks_stacks: bool,
    /// Programs may walk stacks of the kernel themselves ([`Plan::kernel_stacks`](crate::plan::Plan::kernel_stacks)).
    pub walks_kernel_stacks: bool,
    /// Messages and defaults are bpftrace's to the letter.
    pub bpftrace: bool,
}

/// Which probes of a script run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All but `test:` and `bench:`.
    #[default]
    Trace,
    /// `test:` only.
    Test,
    /// `bench:` only.
    Bench,
}

impl Mode {
    /// Whether a probe of this kind runs.
    pub fn runs(self, provider: Provider) -> bool {
        match provider {
            Provider::Test => self == Mode::Test,
            Provider::Bench => self == Mode::Bench,
            _ => self == Mode::Trace,
        }
    }
}
