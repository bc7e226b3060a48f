//! Engines and what they give back.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use skep_spec::map::Slot;
use skep_spec::{MapId, ProgId, Spec};

use crate::{AttachOptions, Error, HeldCommand, Link, MapHandle, RecordSource};

/// Something that runs programs.
pub trait Engine {
    /// One word for messages: `kernel` or `user`.
    fn name(&self) -> &'static str;

    /// Resolves and loads every program of `spec` that is switched on. Nothing is attached.
    ///
    /// # Errors
    ///
    /// When nothing at all could be set up (a map that every program needs, no rights). A program that fails alone does
    /// not fail the load: its reason stands in [`Session::programs`].
    fn load(&self, spec: Spec, options: &LoadOptions) -> Result<Box<dyn Session>, Error>;

    /// Starts a command that waits, and is seen from its first instruction once it is released.
    ///
    /// # Errors
    ///
    /// When there are no resources for it. A command that cannot be executed is an error when it is released.
    fn hold(&self, command: Command) -> Result<Box<dyn HeldCommand>, Error>;

    /// Looks at a process from now on, where that has to be done to see it; asked for when the programs are attached.
    ///
    /// # Errors
    ///
    /// When there is no such process, or it may not be looked at.
    fn watch(&self, pid: u32) -> Result<(), Error>;

    /// Whether `bpf_get_stack` walks the stacks of processes by the tables of their files, not by frame pointers alone.
    fn walks_by_tables(&self) -> bool {
        false
    }

    /// Whether it sees nobody but the commands that it holds and the processes that it watches, and those that come from them.
    fn sees_family_only(&self) -> bool {
        false
    }
}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Folder in a bpffs for maps pinned by name; `None` means `/sys/fs/bpf`.
    pub pin_dir: Option<std::path::PathBuf>,
    /// Replace pinned maps that do not fit instead of refusing.
    pub replace_pinned: bool,
    /// Size of the buffers that perf event arrays are read through, in bytes per CPU, rounded up to a power of two of pages; 0
    /// means 256 KiB. Ring buffers have the size of their map.
    pub perf_buffer_bytes: usize,
    /// Keep the verifier's log of programs that load, too.
    pub keep_logs: bool,
    /// What the verifier writes down, and where to.
    pub verifier_log: VerifierLog,
    /// Delegated rights.
    pub token: Token,
    /// Id of the loaded program whose functions the object's freplace programs replace (kernel 5.6). It must have been
    /// loaded with types (BTF), since the function is found by its name there.
    pub replace: Option<u32>,
    /// Maps that exist, in place of those that the object declares under these names. They have to be of the same type, sizes and
    /// flags, and keep what they hold: neither first values nor slots are written into them.
    pub existing_maps: BTreeMap<String, Arc<OwnedFd>>,
}

/// The verifier's log of a program. By default a refused program is verified once more with the log of its path, which becomes part
/// of the error ([`Error::log`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifierLog {
    /// Bits of `log_level`: 1 the path, 2 the registers at each instruction, 4 statistics; 0 leaves the choice to the engine.
    pub level: u32,
    /// Size of the first buffer, in bytes; 0 means 64 KiB. It grows until the log fits; who expects a long one saves the growing.
    pub first_bytes: usize,
    /// None at all, though a program is refused: for those who try many and only ask whether they load. The error then has the
    /// kernel's number and no reason.
    pub disabled: bool,
}

/// Whose rights are used beside the process's own: a BPF token (kernel 6.9), by which the owner of a bpffs lets a user namespace,
/// a container, use BPF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Token {
    /// That of the bpffs that `$LIBBPF_BPF_TOKEN_PATH` names; without the variable that of `/sys/fs/bpf`, if rights were
    /// delegated there.
    #[default]
    Auto,
    /// That of the bpffs at this path; it is an error if it has none.
    At(std::path::PathBuf),
    /// None.
    Never,
}

/// What became of one program.
#[derive(Debug)]
pub struct Loaded {
    /// Which.
    pub program: ProgId,
    /// Number of instruction slots sent to the engine, or why it did not load.
    pub result: Result<u32, Error>,
    /// The verifier's log when it was asked for.
    pub log: Option<String>,
}

/// A loaded object. Dropping it takes away everything that is not pinned. Any thread may use it.
pub trait Session: Send + Sync {
    /// The object, as loaded.
    fn spec(&self) -> &Spec;

    /// What became of each program that is switched on.
    fn programs(&self) -> &[Loaded];

    /// The map `id`; `None` when it was not created.
    fn map(&self, id: MapId) -> Option<&dyn MapHandle>;

    /// Attaches a loaded program where its section and `options` say.
    fn attach(&self, program: ProgId, options: &AttachOptions) -> Result<Box<dyn Link>, Error>;

    /// Registers a struct_ops map of the object (kernel 6.0 for a link; before that, until the session is dropped).
    fn attach_map(&self, map: MapId) -> Result<Box<dyn Link>, Error>;

    /// The descriptor of a loaded program, where the engine has descriptors; `None` also when it is not loaded.
    fn program_fd(&self, program: ProgId) -> Option<BorrowedFd<'_>> {
        let _ = program;
        None
    }

    /// Puts a program of the object into a program array, or a map into a map of maps.
    fn set_slot(&self, map: MapId, index: u32, slot: Slot) -> Result<(), Error>;

    /// Runs an iterator program once; what it prints is read from the result, until the end of the file (kernel 5.8).
    fn iterate(&self, program: ProgId, options: &AttachOptions) -> Result<Box<dyn Read>, Error>;

    /// Runs a loaded program on given input.
    fn test_run(&self, program: ProgId, input: &TestRun<'_>) -> Result<TestRunOutput, Error>;

    /// Returns when every program that ran at the time of the call has ended: after a word that programs read was changed, none
    /// goes by its old value any more. Takes some 10 ms in the kernel.
    fn settle(&self);

    /// Runs the attached programs on some more events of a source that has to be moved on, such as a file of packets: for a few
    /// milliseconds, so that records are read in between.
    fn advance(&self) -> Result<Progress, Error> {
        Ok(Progress::ByItself)
    }

    /// What a loaded program wrote to one of its streams since the last reading; empty when that is nothing. Engines without
    /// streams have nothing to tell.
    ///
    /// # Errors
    ///
    /// When the program is not loaded, or the kernel has no streams (kernel 6.17).
    fn read_stream(&self, program: ProgId, stream: ProgramStream) -> Result<Vec<u8>, Error> {
        let _ = (program, stream);
        Ok(Vec::new())
    }

    /// Opens readers on every map in `maps` (ring buffers, perf event arrays) and, when `printk` is set, on the text that
    /// the object's programs print.
    fn records(&self, maps: &[MapId], printk: bool) -> Result<Box<dyn RecordSource>, Error>;
}

/// How far a session's own source of events has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Events come by themselves.
    ByItself,
    /// There are more.
    More,
    /// That was the last one.
    Done,
}

/// A stream of text that every program has (`enum bpf_stream_id`, kernel 6.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramStream {
    /// What the program itself says with `bpf_stream_printk(1, ..)`.
    Stdout = 1,
    /// What the program says with `bpf_stream_printk(2, ..)`, and what the kernel reports about it: a loop that took too long, a
    /// page of an arena that is not there.
    Stderr = 2,
}

/// Input of a test run.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestRun<'a> {
    /// Packet, or other data that the context points at.
    pub data: &'a [u8],
    /// Context structure.
    pub ctx: &'a [u8],
    /// How often to run; 0 counts as 1.
    pub repeat: u32,
    /// CPU to run on, for types that are called there with the machine's own interrupts: raw tracepoints (kernel 5.10).
    pub cpu: Option<u32>,
}

/// Result of a test run.
#[derive(Clone, Debug, Default)]
pub struct TestRunOutput {
    /// What the program returned.
    pub retval: u32,
    /// Data after the run.
    pub data: Vec<u8>,
    /// Context after the run.
    pub ctx: Vec<u8>,
    /// Mean time of one run.
    pub duration: Duration,
}
