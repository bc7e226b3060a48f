//! What user space does with a compiled script: where each program is attached, what each record means, what the maps are.
//!
//! # Records
//!
//! Everything comes through one ring buffer, the map `events`. A record is a header of 8 bytes (u32 number of the [`Action`],
//! u32 zero), then the action's values, each at its [`Value::off`], aligned as [`crate::types`] says. A record may be longer
//! than its last value, and shorter when its last value is a string or buffer: what is missing is zero.
//!
//! # Losses and errors
//!
//! The per-CPU array `losses` has one u64 for each probe of the script as written: records that did not fit. What a helper
//! refuses is told by a record ([`Action::HelperError`]) the first time at each [`Site`], and counted in the array `sites`
//! (one u64 for each site) every time.

use std::sync::Arc;

use skep_spec::{MapId, ProgId};

use crate::Span;
use crate::typed::{FormatKind, MapKind, Place, Struct};
use crate::types::{Space, Type};
use crate::unwinding::Unwinding;

/// Types of the kernel by number that programs name that walk its stacks themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelStacks {
    /// The function `bpf_rdonly_cast`.
    pub cast: u32,
    /// `struct pt_regs`.
    pub registers: u32,
}

/// The kernel's symbols that such programs name. Text goes to the end of what was only run at boot, where the idle task of the first processor
/// has its callers; what lies in between has no rules.
pub const KERNEL_STACK_SYMBOLS: [&str; 7] = [
    "_stext",
    "_einittext",
    "__start_orc_unwind_ip",
    "__stop_orc_unwind_ip",
    "__start_orc_unwind",
    "arch_rethook_trampoline",
    "return_to_handler",
];

/// Most entries of the tables that such programs find their way in, and bytes of text.
pub(crate) const MAX_ORC_ENTRIES: u64 = 1 << 22;
pub(crate) const MAX_TEXT_BYTES: u64 = 1 << 28;

impl KernelStacks {
    /// Whether programs can walk with these addresses of [`KERNEL_STACK_SYMBOLS`]. Kernels that unwind otherwise have no tables
    /// (`CONFIG_UNWINDER_ORC`), and some list no data (`CONFIG_KALLSYMS_ALL`). The last two symbols may be absent.
    pub fn are_walked_with(addresses: &[Option<u64>]) -> bool {
        let [Some(text), Some(text_end), Some(table), Some(table_end), Some(_), ..] = addresses else { return false };
        let sizes = (text_end.checked_sub(*text), table_end.checked_sub(*table));
        matches!(sizes, (Some(1..=MAX_TEXT_BYTES), Some(bytes @ 4..)) if bytes / 4 <= MAX_ORC_ENTRIES)
    }
}

/// Everything that user space needs to know about a compiled script.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Settings.
    pub config: Config,
    /// Programs and where they are attached, in the order of the script.
    pub programs: Vec<Program>,
    /// Places by number, for [`Word::Place`](crate::types::Word).
    pub places: Vec<Place>,
    /// Actions by number, as records name them.
    pub actions: Vec<Action>,
    /// The script's maps, in the order of their first use.
    pub maps: Vec<Map>,
    /// Names of the probes as written, for the array `losses`.
    pub probe_names: Vec<String>,
    /// Places where helpers may fail, for the array `sites`.
    pub sites: Vec<Site>,
    /// Structs that types name.
    pub structs: Vec<Struct>,
    /// Formats of `strftime` and `time`.
    pub time_formats: Vec<String>,
    /// Filters of `cgroup_path`.
    pub cgroup_filters: Vec<String>,
    /// The ring buffer; `None` when no program sends anything.
    pub events: Option<MapId>,
    /// Lost records by probe.
    pub losses: Option<MapId>,
    /// Errors by site.
    pub site_counts: Option<MapId>,
    /// Stacks by id: LRU hash of u64 to u64 number of frames and then the addresses, as many as the longest limit.
    pub stacks: Option<MapId>,
    /// What programs that walk stacks by tables are told.
    pub unwinding: Option<Unwinding>,
    /// What programs name that walk the kernel's stacks themselves: only the kernel that the script was compiled for takes them.
    pub kernel_stacks: Option<KernelStacks>,
    /// Values that user space fills in before loading.
    pub parameters: Vec<Parameter>,
}

/// A global of the programs that is known only when they are loaded: `off` in the data map `map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The map.
    pub map: MapId,
    /// Where in its value, in bytes.
    pub off: u32,
    /// What belongs there, u64.
    pub kind: ParameterKind,
}

/// What user space knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Process of `-c`.
    ChildPid,
    /// `nsecs` when everything was attached, for `elapsed`.
    StartTime,
    /// Device of skep's pid namespace (`struct stat`), for `bpf_get_ns_current_pid_tgid`; 0 in the initial namespace.
    PidNamespaceDev,
    /// Inode of it.
    PidNamespaceIno,
    /// Process of `-p`; 0 for all.
    FilterPid,
}

/// One program and its places.
#[derive(Clone, Debug)]
pub struct Program {
    /// In the Spec.
    pub program: ProgId,
    /// Number of the probe as written.
    pub probe: u32,
    /// Where it is attached, at least one.
    pub places: Vec<Place>,
    /// First number of [`Plan::places`] when the program tells its places apart by cookie: place `n` gets cookie
    /// `first + n`.
    pub cookies_from: Option<u32>,
}

/// How a place is attached.
#[derive(Clone, Debug, PartialEq)]
pub enum Attach {
    /// Run once before everything else is attached... `BEGIN`.
    Begin,
    /// Run once at the end.
    End,
    /// Run when skep gets this signal.
    Signal(String),
    /// `test:name`, `bench:name`
    Test {
        /// Its name.
        name: String,
        /// Measured.
        bench: bool,
    },
    /// As the program's section says, with another target for patterns: kernel and user functions, tracepoints, USDT,
    /// iterators. `target` is what `AttachOptions::target` takes, `binary` the file.
    Section {
        /// Function, event or probe when the section does not name it.
        target: Option<String>,
        /// Executable or library.
        binary: Option<std::path::PathBuf>,
        /// Instead of a name: file offset in the binary, or for a kprobe without one the address in the kernel.
        off_bytes: Option<u64>,
    },
    /// An event of perf.
    Perf(PerfEvent),
    /// An iterator: run at once, or pinned.
    Iter {
        /// File in bpffs.
        pin: Option<String>,
    },
}

/// What to sample (`struct perf_event_attr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfEvent {
    /// `PERF_TYPE_*`
    pub kind: u32,
    /// `PERF_COUNT_*`, or the address of a watchpoint.
    pub config: u64,
    /// How often.
    pub rate: Rate,
    /// On one CPU only, not on each.
    pub one_cpu: bool,
    /// Length and `HW_BREAKPOINT_*` bits of a watchpoint.
    pub watch: Option<(u64, u32)>,
}

/// How often an event of perf runs its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many times a second.
    Hz(u64),
    /// Each time so many events have passed (nanoseconds for clocks).
    Period(u64),
}

/// A script's map.
#[derive(Clone, Debug)]
pub struct Map {
    /// Its name without `@`.
    pub name: String,
    /// In the Spec. With `other`, the map that programs write when the generation is 0.
    pub map: MapId,
    /// The map of the other generation: user space swaps them to print and clear without losing a count. What swaps is
    /// the u64 at `switch` in the data map: 0 or 1.
    pub other: Option<(MapId, Switch)>,
    /// Type of its keys; `None` for a scalar map, whose key is u32 zero in an array and u64 zero in a hash.
    pub key: Option<Type>,
    /// Type of its values.
    pub value: Type,
    /// Kind that `let` declares.
    pub kind: Option<MapKind>,
    /// Values are kept for each CPU.
    pub percpu: bool,
    /// Made as an array of one value, which is always there: user space leaves it out when nothing was put into it.
    pub array: bool,
    /// Where such an array's value has a u64 that is 1 once something was put into it, in bytes, behind the value
    /// rounded up to 8; `None` where a value of zeroes says that nothing was.
    pub mark: Option<u32>,
}

/// Where the generation of a map is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Data map.
    pub map: MapId,
    /// Offset in it, in bytes.
    pub off: u32,
}

/// A value inside a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Where, in bytes from the start of the record.
    pub off: u32,
    /// What.
    pub ty: Type,
}

/// What a record asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Format values: print them, run them, read that file.
    Format {
        /// Which function.
        kind: FormatKind,
        /// How.
        format: Arc<Format>,
        /// What.
        args: Vec<Value>,
        /// Where in the script.
        span: Span,
    },
    /// Print one value on a line.
    PrintValue(Value),
    /// Print a map.
    PrintMap {
        /// In [`Plan::maps`].
        map: u32,
        /// Only so many; 0 for all.
        top: u32,
        /// Divide values by this.
        div: u32,
        /// An [`Action::Clear`] of this map is certain to follow: both are one step, which loses nothing that comes between.
        cleared: bool,
    },
    /// Print the value of one key, as a value.
    PrintMapElement {
        /// In [`Plan::maps`].
        map: u32,
        /// The key.
        key: Value,
    },
    /// Remove every key.
    Clear(u32),
    /// Set every value to zero.
    Zero(u32),
    /// Strings, one behind the other, each with its NUL, from offset 16; u32 number of them at offset 8.
    Join {
        /// Between two.
        separator: Vec<u8>,
    },
    /// Print the time: number of the format.
    Time(u32),
    /// End: the value is the exit code.
    Exit(Value),
    /// Write a packet: u64 nanoseconds since boot at 8, u32 length of the packet at 16, u32 how much of it is here at 20, the bytes from 24.
    SkbOutput {
        /// File.
        path: String,
    },
    /// Remove the watchpoint of this address.
    Unwatch(Value),
    /// A message of the script's own checks.
    RuntimeError {
        /// Text.
        message: String,
        /// Where.
        span: Span,
        /// It ends the run.
        ends: bool,
    },
    /// A helper failed: i64 at 16 is what it returned, u32 at 8 is the site.
    HelperError,
}

/// A place in the script where a helper may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The helper's name without `bpf_`.
    pub helper: String,
    /// Where.
    pub span: Span,
    /// The map that was full, when that is what failed.
    pub map: Option<u32>,
    /// Number of the probe.
    pub probe: u32,
    /// Told only with `-k`: reads that fail are ordinary.
    pub quiet: bool,
}

/// A format of printf, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Text and conversions, in order.
    pub parts: Vec<Part>,
}

/// A piece of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it is, `%%` resolved.
    Text(Vec<u8>),
    /// The next value.
    Conversion(Conversion),
}

/// `%-10.3lld`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// `-`
    pub left: bool,
    /// `+`
    pub plus: bool,
    /// blank
    pub blank: bool,
    /// `#`
    pub alternate: bool,
    /// `0`
    pub zero: bool,
    /// Least width.
    pub width: Option<u32>,
    /// Precision.
    pub precision: Option<u32>,
    /// Bytes that the length modifier keeps of an integer (`hh` 1, `h` 2, none 4, `l ll j z t` 8).
    pub size: u8,
    /// `d i u o x X c p s`, `r`; `rx`, `rh` and `gr` are `R`, `H` and `G`.
    pub letter: char,
}

/// Settings, of the config block, the environment and the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the setting of its name, see the manual's table")]
pub struct Config {
    pub cache_user_symbols: String,
    pub cpp_demangle: bool,
    pub lazy_symbolication: bool,
    pub license: String,
    pub log_size: u64,
    pub max_bpf_progs: u64,
    pub max_cat_bytes: u64,
    pub max_map_keys: u32,
    pub max_probes: u64,
    pub max_strlen: u32,
    pub missing_probes: Missing,
    pub on_stack_limit: u32,
    pub perf_rb_pages: u64,
    pub print_maps_on_exit: bool,
    pub show_debug_info: bool,
    pub use_blazesym: bool,
    pub stack_mode: crate::types::StackMode,
    pub str_trunc_trailer: String,
    pub unstable: Vec<(String, String)>,
}

/// What to do about a place that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// The script does not start.
    #[default]
    Error,
    /// Say so and go on.
    Warn,
    /// Go on.
    Ignore,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            cache_user_symbols: "PER_PROGRAM".to_owned(),
            cpp_demangle: true,
            lazy_symbolication: false,
            license: "GPL".to_owned(),
            log_size: 1_000_000,
            max_bpf_progs: 1024,
            max_cat_bytes: 10240,
            max_map_keys: 4096,
            max_probes: 1024,
            max_strlen: 1024,
            missing_probes: Missing::Error,
            on_stack_limit: 32,
            perf_rb_pages: 0,
            print_maps_on_exit: true,
            show_debug_info: false,
            use_blazesym: true,
            stack_mode: crate::types::StackMode::Bpftrace,
            str_trunc_trailer: "..".to_owned(),
            unstable: Vec::new(),
        }
    }
}

impl Type {
    /// The pointer type to `self` in `space`.
    pub fn pointer(self, space: Space) -> Type {
        Type::Pointer { to: Arc::new(self), space }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_stacks_are_walked_where_the_kernel_lists_its_tables() {
        let good = [0x1000, 0x9000, 0x20000, 0x20040, 0x30000, 0x1100, 0x1200].map(Some);
        assert!(KernelStacks::are_walked_with(&good));
        let with = |changes: &[(usize, Option<u64>)]| {
            let mut all = good;
            changes.iter().for_each(|(at, address)| all[*at] = *address);
            KernelStacks::are_walked_with(&all)
        };
        assert!(with(&[(5, None), (6, None)]), "nobody can trace returns");
        for (at, name) in KERNEL_STACK_SYMBOLS.iter().enumerate().take(5) {
            assert!(!with(&[(at, None)]), "{name}");
        }
        assert!(!with(&[(3, Some(0x20000))]), "the table is empty");
        assert!(with(&[(3, Some(0x20000 + 4 * MAX_ORC_ENTRIES))]));
        assert!(!with(&[(3, Some(0x20004 + 4 * MAX_ORC_ENTRIES))]), "the search would end before the place");
        assert!(!with(&[(1, Some(0x1001 + MAX_TEXT_BYTES))]), "two pages would have one number");
    }
}
