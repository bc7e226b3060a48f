//! One run of a tracing script: load, BEGIN, attach, do what its records ask for, END, print its maps.
//!
//! - `parameters`: what is only known now is put into the programs' data
//! - `scope`: whose events programs see; `container`: which cgroup that is
//! - `switch`: one flag ends every program at once
//! - `attach`: places, in the order that makes them fire in the script's order
//! - `reader`: a thread that empties the ring buffer, whatever the formatter is doing
//! - `perform`: what each record asks for
//! - `maps`: reading, printing and clearing the script's maps
//! - `names`: what numbers are called on this machine
//! - `callers`: what programs are told to walk stacks by
//! - `obstacles`: which probes this machine does not take
//! - `trials`: the probes `test:` and `bench:`, and how they went
//! - `losses`: records that did not fit, by probe
//!
//! # How a run ends
//!
//! By `exit()`, a signal, a deadline, the end of its command or of the process it watches, or because nobody reads its output.
//! Then the flag goes up and no program does anything any more; everything that was committed before is still printed (what
//! stands behind an `exit()` in the buffer came after it and is not), `END` runs, maps are printed, and detaching, which
//! takes the kernel long, is left to a helper process.

mod attach;
mod callers;
mod container;
mod losses;
mod maps;
mod names;
mod obstacles;
mod output;
mod parameters;
mod perform;
mod reader;
mod run;
mod scope;
mod signals;
mod switch;
mod time;
mod trials;

use std::path::PathBuf;
use std::time::Duration;

use skep_engine::LoadOptions;
use skep_script::{Diagnostic, Plan, Sources};
use skep_spec::Spec;

pub use obstacles::Obstacles;
pub use run::run;

/// A compiled script.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its programs and maps.
    pub spec: Spec,
    /// What user space does.
    pub plan: Plan,
    /// Its texts, to say where in it something happened.
    pub sources: Sources,
}

/// How to run it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How values are printed.
    pub format: Format,
    /// When output is handed on.
    pub buffering: Buffering,
    /// What is a terminal: values send no control characters there.
    pub terminals: Terminals,
    /// Only this process; the run ends with it.
    pub pid: Option<u32>,
    /// Processes whose files `dw_ustack` knows from the start, beside that of `pid`.
    pub dwarf_pids: Vec<u32>,
    /// Of the process of `pid` or `command`, those that come from it, too, and nobody else.
    pub follow: bool,
    /// Only processes in this cgroup: a folder, whole or below the mount.
    pub cgroup: Option<PathBuf>,
    /// Only processes in this container: an id, the beginning of one, or a name.
    pub container: Option<String>,
    /// Command to run while attached; the run ends with it, and it with the run.
    pub command: Option<String>,
    /// Ends the run.
    pub duration: Option<Duration>,
    /// Compile and load, but attach nothing and run nothing.
    pub dry_run: bool,
    /// Which failures of helpers are told.
    pub helper_errors: HelperErrors,
    /// What is attached is no line of JSON.
    pub quiet: bool,
    /// The two empty lines that bpftrace writes before its maps come even when there is no map.
    pub bpftrace: bool,
    /// How the programs are loaded.
    pub load: LoadOptions,
}

/// Which of the two streams is a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminals {
    /// Where the script prints.
    pub output: bool,
    /// Where messages go, those of `errorf` and `warnf` among them.
    pub messages: bool,
}

/// How values are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As bpftrace prints them.
    #[default]
    Text,
    /// One JSON object per line, as bpftrace's.
    Json,
    /// Text of `printf` as it is, maps as comma separated values.
    Csv,
}

/// When output is handed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buffering {
    /// Whenever there is nothing more to print at the moment, or much has come together.
    #[default]
    Line,
    /// When much has come together, and at the end.
    Full,
    /// After each record.
    None,
}

/// Which failures of helpers are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HelperErrors {
    /// None.
    Never,
    /// Those that lose data: a full map.
    #[default]
    Important,
    /// All: memory that cannot be read, too.
    All,
}

/// What a run tells beside its output, for standard error.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Something is odd, but the run goes on.
    Warning {
        /// What.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// An action failed, and the run goes on.
    Failure {
        /// What failed.
        message: String,
    },
    /// A place in the script has something to say: a helper failed, `errorf`, `warnf`.
    Diagnostic(&'a Diagnostic),
    /// A program is loaded.
    Loaded {
        /// Its name.
        program: &'a str,
        /// Who it is to the machine.
        identity: crate::Identity,
    },
    /// An iterator's link is pinned: reading the file runs it.
    Pinned {
        /// The file.
        path: &'a std::path::Path,
    },
    /// Everything is attached, at so many places.
    Attached {
        /// Places.
        probes: usize,
    },
    /// Records were lost since the last time.
    Lost {
        /// The probe that could not send them.
        probe: &'a str,
        /// How many.
        count: u64,
    },
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What `exit` was given, else 0.
    pub exit_code: i32,
    /// Lost records by probe.
    pub lost: Vec<(String, u64)>,
}
