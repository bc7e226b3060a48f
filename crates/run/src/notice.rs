//! What a run tells about itself, and how it went.

use std::process::ExitStatus;
use std::time::Duration;

/// What a run tells beside its records, for standard error.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// The source was compiled.
    Compiled {
        /// How long that took; `None` when the object was in the cache.
        took: Option<Duration>,
    },
    /// What the compiler said about a source that compiled.
    CompilerText {
        /// Its own text.
        text: &'a str,
    },
    /// Something is odd, but the run goes on.
    Warning {
        /// What.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Something that the object leaves open was decided.
    Assumed {
        /// What, and how.
        message: String,
    },
    /// A program is loaded.
    Loaded {
        /// Its name.
        program: &'a str,
        /// Who it is to the machine.
        identity: crate::Identity,
    },
    /// A program is attached.
    Attached {
        /// Its name.
        program: &'a str,
        /// Where, for people.
        place: String,
    },
    /// A program is not attached, and need not be.
    Idle {
        /// Its name.
        program: &'a str,
        /// Why.
        reason: String,
    },
    /// A program wrote a line to one of its streams, or the kernel reported something about it there (kernel 6.17).
    Stream {
        /// Its name.
        program: &'a str,
        /// Which stream.
        stream: skep_engine::ProgramStream,
        /// The line without its end, made safe for a terminal.
        line: &'a str,
    },
    /// Everything is attached; records may come.
    Ready,
    /// More records were lost since the last time.
    Losing {
        /// How many in all.
        lost: u64,
    },
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Whether the programs had a way to tell anything: a buffer, or `bpf_printk`.
    pub tells: bool,
    /// Records printed.
    pub events: u64,
    /// Records lost in buffers.
    pub lost: u64,
    /// Losses by the function that could not put its record into a ring buffer.
    pub lost_by_function: Vec<(String, u64)>,
    /// From attached to stopped.
    pub took: Duration,
    /// How the command ended.
    pub command: Option<ExitStatus>,
    /// The process that was watched alone, when the run ended because it did.
    pub ended_process: Option<u32>,
}
