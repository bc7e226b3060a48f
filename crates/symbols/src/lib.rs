//! Addresses to names: the kernel's, and those of processes, ended ones too.
//!
//! Nothing is read before the first question. The kernel's symbols are then read whole, once: 40 ms and some 8 MB. Of a
//! process only the list of its mappings is read, and kept when it is first seen, so that what it leaves behind in maps and
//! stacks can be named after it has gone, and of one that has been replaced by execve(2), too. Who may have gone before that
//! asks the kernel to [watch](Symbols::watch). The files themselves are read (by `blazesym`) when an address in them is asked for.
//!
//! # Invariants
//!
//! - Never fails: an address without a name is `None`, whatever the reason.
//! - Reads, and changes nothing: no signal, no ptrace.
//! - A number of a process that was given to another one since means the new one. Some thousand processes are known at a time.
//! - A container's files are opened inside of its root, and nothing but regular files.

mod files;
mod kernel;
mod mappings;
mod perf_map;
mod watch;

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;

use crate::files::Files;
use crate::kernel::Kernel;
use crate::mappings::Process;
use crate::watch::{Change, Watch};

/// How much is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Files, lines and inlined functions from DWARF, where it is there; costs time and memory for each file.
    pub lines: bool,
    /// C++ and Rust names as they are written.
    pub demangle: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { lines: true, demangle: true }
    }
}

/// A symbol, and where in it the address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Bytes from its start.
    pub off_bytes: u64,
    /// Kernel module, or the file of a process's code; `None` for the kernel itself.
    pub module: Option<Cow<'a, str>>,
    /// Source line, when it is known.
    pub line: Option<Line>,
    /// Functions that were inlined here, innermost first.
    pub inlined: Vec<Inlined>,
}

impl Symbol<'_> {
    /// Whether a signal's handler returns to it, as glibc and musl call it: what stands around it on a stack was interrupted anywhere,
    /// and has called nobody.
    pub fn is_signal_return(&self) -> bool {
        self.name == "__restore_rt"
    }
}

/// A line of source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// File as the compiler saw it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
}

/// A function that was inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inlined {
    /// Its name.
    pub name: String,
    /// Where in it.
    pub line: Option<Line>,
}

/// A place in a mapped file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// The file, by a path that opens it from here.
    pub path: PathBuf,
    /// Root of the process's files, when it is another than ours; `path` may be below it, and leads anywhere then.
    pub(crate) root: Option<PathBuf>,
    /// What the process calls it.
    pub shown: String,
    /// Offset in it, in bytes.
    pub off_bytes: u64,
}

/// How many processes are known at a time, ended ones too, some 5 kB each. A machine that builds software starts as many in a minute or two.
const MOST_PROCESSES: usize = 8192;

/// Names of addresses. What was read is kept for the life of the value, of the processes those that were asked for last.
#[derive(Debug, Default)]
pub struct Symbols {
    options: Options,
    kernel: OnceCell<Kernel>,
    processes: RefCell<Processes>,
    files: OnceCell<Files>,
    watch: RefCell<Option<Watch>>,
}

/// The processes by number, with the time of their last use, which counts questions.
#[derive(Debug, Default)]
struct Processes {
    known: HashMap<u32, (u64, Process)>,
    questions: u64,
}

impl Processes {
    /// The process as it is now, or as it was seen last.
    fn get(&mut self, pid: u32) -> Option<&mut Process> {
        if let Some((_, process)) = self.known.get_mut(&pid) {
            process.refresh();
        } else {
            let process = Process::read(pid)?;
            self.insert(pid, process);
        }
        self.questions += 1;
        let (used, process) = self.known.get_mut(&pid)?;
        *used = self.questions;
        Some(process)
    }

    fn insert(&mut self, pid: u32, process: Process) {
        if self.known.len() >= MOST_PROCESSES {
            // A quarter at once, so that each insertion need not search for the oldest.
            let mut used: Vec<u64> = self.known.values().map(|(used, _)| *used).collect();
            let (_, limit, _) = used.select_nth_unstable(MOST_PROCESSES / 4);
            let limit = *limit;
            self.known.retain(|_, (used, _)| *used >= limit);
        }
        self.questions += 1;
        self.known.insert(pid, (self.questions, process));
    }
}

impl Symbols {
    /// With nothing read yet.
    pub fn new(options: Options) -> Symbols {
        Symbols { options, ..Symbols::default() }
    }

    /// The kernel symbol that an address is in; `None` when there is none, or when the kernel hides its addresses.
    pub fn kernel(&self, address: u64) -> Option<Symbol<'_>> {
        self.kernel.get_or_init(Kernel::read).find(address)
    }

    /// The symbol that an address of a process is in. A process that has gone is known if it was [seen](Symbols::see) before.
    pub fn user(&self, pid: u32, address: u64) -> Option<Symbol<'static>> {
        self.catch_up();
        let mut processes = self.processes.borrow_mut();
        let process = processes.get(pid)?;
        if let Some(symbol) = process.jitted(address) {
            return Some(symbol);
        }
        let place = process.place(address)?;
        self.files.get_or_init(|| Files::new(self.options)).find(&place)
    }

    /// The symbol that a call is in, by the address that it returns to, with the call's own line and what is inlined around it. What
    /// stands behind the call may be the next line already, and behind a call that never returns another function; `off_bytes` still
    /// counts to the return address, as debuggers show it.
    pub fn caller(&self, pid: u32, return_address: u64) -> Option<Symbol<'static>> {
        let call = return_address.checked_sub(1).and_then(|call| self.user(pid, call));
        match call {
            Some(symbol) => Some(Symbol { off_bytes: symbol.off_bytes + 1, ..symbol }),
            // Where a signal's handler returns to, nobody has called from: nothing that has a name stands before it.
            None => self.user(pid, return_address),
        }
    }

    /// The file that an address of a process is mapped from.
    pub fn file(&self, pid: u32, address: u64) -> Option<FilePlace> {
        self.catch_up();
        self.processes.borrow_mut().get(pid)?.place(address)
    }

    /// The build id of a file, as lower case hex.
    pub fn build_id(&self, place: &FilePlace) -> Option<String> {
        files::build_id(place)
    }

    /// From now on the kernel tells what processes map, so that even those have names that end before anybody looks. Costs a
    /// record for each mapping of every process, and 256 KiB for each CPU. `false` when the kernel does not let us.
    pub fn watch(&self) -> bool {
        let mut watch = self.watch.borrow_mut();
        *watch = watch.take().or_else(Watch::open);
        watch.is_some()
    }

    /// Takes in what the kernel has told. Every question does; to be called once in a while when none is asked.
    pub fn catch_up(&self) {
        let Some(changes) = self.watch.borrow_mut().as_mut().map(Watch::take) else { return };
        let mut processes = self.processes.borrow_mut();
        for change in changes {
            match change {
                Change::Mapped { pid, start, len_bytes, off_bytes, path } => {
                    if !processes.known.contains_key(&pid) {
                        // Began before us: this is one mapping of many.
                        processes.insert(pid, Process::read(pid).unwrap_or_else(|| Process::empty(pid)));
                    }
                    if let Some((_, process)) = processes.known.get_mut(&pid) {
                        process.add(start, start.saturating_add(len_bytes), off_bytes, &path);
                    }
                }
                Change::Exec { pid } => {
                    let before = processes.known.remove(&pid).map(|(_, process)| process);
                    processes.insert(pid, Process::executed(pid, before));
                }
                Change::Fork { pid, parent } => {
                    let known = processes.known.get(&parent).map(|(_, parent)| parent.forked(pid));
                    match known.or_else(|| Some(Process::read(parent)?.forked(pid))) {
                        Some(child) => processes.insert(pid, child),
                        // The number was another's before.
                        None => drop(processes.known.remove(&pid)),
                    }
                }
            }
        }
    }

    /// Reads a process's mappings, unless that was done, so that its addresses have names when it has gone.
    pub fn see(&self, pid: u32) {
        self.catch_up();
        let _ = self.processes.borrow_mut().get(pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_function_has_a_name() {
        let symbols = Symbols::default();
        let me = std::process::id();
        let address = our_own_function_has_a_name as *const () as u64;
        let found = symbols.user(me, address).expect("the test has symbols");
        assert!(found.name.contains("our_own_function_has_a_name"), "{found:?}");
        assert_eq!(found.off_bytes, 0);
        assert!(symbols.user(me, 8).is_none());
    }

    #[test]
    fn behind_a_call_that_never_returns_is_still_its_caller() {
        let symbols = Symbols::new(Options { lines: false, demangle: true });
        let me = std::process::id();
        let start = behind_a_call_that_never_returns_is_still_its_caller as *const () as u64;
        let caller = symbols.caller(me, start + 1).expect("the test has symbols");
        assert_eq!(Some(&caller), symbols.user(me, start + 1).as_ref());
        // The first address that is no more in the function.
        let end = (start..).find(|at| symbols.user(me, *at).is_none_or(|it| it.name != caller.name)).unwrap();
        let last = symbols.caller(me, end).expect("it is the function's");
        assert_eq!((last.name.as_ref(), last.off_bytes), (caller.name.as_ref(), end - start));
        assert!(symbols.caller(me, 0).is_none());
    }

    #[test]
    fn an_ended_process_keeps_its_names_when_it_was_seen() {
        let symbols = Symbols::default();
        use std::io::{Read, Write};
        use std::process::{Command, Stdio};
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // When it has copied a byte it has loaded everything.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
        let code = maps.lines().find(|line| line.contains(" r-xp ") && line.contains('/')).expect("it has code");
        let start = u64::from_str_radix(code.split('-').next().unwrap(), 16).unwrap();
        symbols.see(child.id());
        drop(child.stdin.take());
        child.wait().unwrap();
        let place = symbols.file(child.id(), start + 16).expect("it was seen");
        assert!(code.ends_with(&place.shown), "{place:?}");
        assert!(symbols.user(u32::MAX, start).is_none());
    }

    #[test]
    fn a_process_that_executes_another_program_has_its_names() {
        use std::io::{BufRead, BufReader, Write};
        use std::process::{Command, Stdio};
        let symbols = Symbols::default();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "echo ready; read line; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut wait = || from.read_line(&mut String::new()).unwrap();
        wait();
        let code = || {
            let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
            let exe = std::fs::read_link(format!("/proc/{}/exe", child.id())).unwrap();
            let exe = exe.to_str().unwrap().to_owned();
            let line = maps.lines().find(|line| line.contains(" r-xp ") && line.ends_with(&exe)).expect("it has code");
            (u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap() + 16, exe)
        };
        let (shell, shell_path) = code();
        assert_eq!(symbols.file(child.id(), shell).unwrap().shown, shell_path);
        // The second line comes from cat, which has taken the shell's place.
        to.write_all(b"go\nline\n").unwrap();
        wait();
        let (cat, cat_path) = code();
        std::thread::sleep(mappings::IDENTITY_HOLDS);
        assert_eq!(symbols.file(child.id(), cat).unwrap().shown, cat_path);
        // Addresses that were collected before still have theirs.
        if cat.abs_diff(shell) > 1 << 20 {
            assert_eq!(symbols.file(child.id(), shell).unwrap().shown, shell_path);
        }
        drop(to);
        child.wait().unwrap();
    }

    #[test]
    fn a_busy_machine_has_only_its_last_processes_known() {
        let mut processes = Processes::default();
        for pid in 0..3 * MOST_PROCESSES as u32 {
            // Far above what the kernel gives out.
            processes.insert(u32::MAX - pid, Process::empty(u32::MAX - pid));
            assert!(processes.get(u32::MAX).is_some(), "the first one is used all the time");
        }
        assert!(processes.known.len() <= MOST_PROCESSES, "{}", processes.known.len());
        assert!(processes.known.contains_key(&(u32::MAX - 3 * MOST_PROCESSES as u32 + 1)));
    }

    #[test]
    fn a_process_that_nobody_looked_at_has_names_when_it_was_watched() {
        let symbols = Symbols::default();
        if !symbols.watch() {
            println!("skipped: needs perf events");
            return;
        }
        // One that begins with what its parent has, and one that has run something else.
        let mut child = std::process::Command::new("/bin/cat").stdin(std::process::Stdio::null()).spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        symbols.catch_up();
        let mut processes = symbols.processes.borrow_mut();
        let process = processes.get(pid).expect("the kernel told");
        let start = process.first_of(std::fs::canonicalize("/bin/cat").unwrap().to_str().unwrap());
        let place = process.place(start.expect("its code was mapped") + 16).unwrap();
        assert!(place.shown.starts_with('/'), "{place:?}");
    }

    #[test]
    fn kernel_addresses_have_names_where_they_may_be_read() {
        let symbols = Symbols::default();
        let known = skep_sys::kallsyms::addresses(["bpf_prog_put"]).unwrap_or_default();
        match known.get("bpf_prog_put").map(Vec::as_slice) {
            Some([address]) if *address != 0 => {
                let found = symbols.kernel(address + 2).unwrap();
                assert_eq!((found.name.as_ref(), found.off_bytes), ("bpf_prog_put", 2));
                assert!(symbols.kernel(1).is_none());
            }
            _ => println!("skipped: needs CAP_SYSLOG"),
        }
    }
}
