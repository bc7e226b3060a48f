//! What numbers are called on this machine.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use skep_engine::{MapId, Session};
use skep_script::plan::Plan;
use skep_script::types::{Clock, Stack, StackMode, Word};
use skep_symbols::{Line, Symbol, Symbols};
use skep_view::script::Names;

use super::signals;
use super::time::Times;

/// The most folders that are looked at for a cgroup.
const MOST_CGROUPS: usize = 100_000;

/// A stack's number and the process whose addresses they are.
type StackKey = (u64, u32);
/// A line of text.
type Frame = Vec<u8>;

/// The names of this machine. Everything is read when it is first asked for.
pub(super) struct MachineNames<'a> {
    session: &'a dyn Session,
    plan: &'a Plan,
    symbols: Symbols,
    times: Times,
    users: OnceCell<HashMap<u64, String>>,
    cgroups: RefCell<HashMap<u64, Vec<(String, String)>>>,
    /// Frames of stacks that were printed before: many maps have the same ones in several keys.
    stacks: RefCell<HashMap<StackKey, Vec<Frame>>>,
}

impl<'a> MachineNames<'a> {
    pub(super) fn new(session: &'a dyn Session, plan: &'a Plan) -> MachineNames<'a> {
        let options = skep_symbols::Options { demangle: plan.config.cpp_demangle, lines: plan.config.show_debug_info };
        MachineNames {
            session,
            plan,
            symbols: Symbols::new(options),
            times: Times::now(),
            users: OnceCell::new(),
            cgroups: RefCell::default(),
            stacks: RefCell::default(),
        }
    }

    pub(super) fn times(&self) -> &Times {
        &self.times
    }

    /// Lets the kernel tell of mappings from now on, for addresses of processes that end before they are looked at.
    pub(super) fn watch(&self) {
        // Without it, those have no names.
        let _ = self.symbols.watch();
    }

    /// Takes in what the kernel has told.
    pub(super) fn catch_up(&self) {
        self.symbols.catch_up();
    }

    /// Reads a process's mappings now, since it may be gone when its addresses are printed.
    pub(super) fn see(&self, pid: u32) {
        self.symbols.see(pid);
    }

    /// The addresses of a stack, innermost first.
    fn addresses(&self, id: u64) -> Vec<u64> {
        let map = self.plan.stacks.and_then(|id: MapId| self.session.map(id));
        let value = map.and_then(|map| map.lookup(&id.to_ne_bytes()).ok().flatten()).unwrap_or_default();
        let mut words = value.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
        let count = words.next().unwrap_or(0) as usize;
        words.take(count).collect()
    }

    fn kernel_frame(&self, mode: StackMode, address: u64, frames: &mut Vec<Vec<u8>>) {
        let symbol = self.symbols.kernel(address);
        let mut line = String::new();
        match (mode, symbol) {
            (StackMode::Raw | StackMode::BuildId, _) => line = format!("{address:x}"),
            (StackMode::Bpftrace, Some(symbol)) => line = format!("{}+{}", symbol.name, symbol.off_bytes),
            (StackMode::Bpftrace, None) => line = format!("{address:#x}"),
            (StackMode::Perf, Some(symbol)) => {
                let _ = write!(line, "{address:16x} {}+{}", symbol.name, symbol.off_bytes);
                if let Some(module) = symbol.module {
                    let _ = write!(line, " ({module})");
                }
            }
            (StackMode::Perf, None) => line = format!("{address:16x} {address:#x} ([unknown])"),
        }
        frames.push(line.into_bytes());
    }

    /// Adds the lines of an address, to which a call returns unless it is `exact`. Whether the one around it is exact, too.
    fn user_frame(&self, mode: StackMode, pid: u32, (address, exact): (u64, bool), frames: &mut Vec<Vec<u8>>) -> bool {
        let mut signal = false;
        let mut line = String::new();
        match mode {
            StackMode::Raw => line = format!("{address:x}"),
            StackMode::BuildId => {
                let place = self.symbols.file(pid, address);
                let id = place.as_ref().and_then(|place| self.symbols.build_id(place));
                match (place, id) {
                    (Some(place), Some(id)) => line = format!("{id} {:#x}", place.off_bytes),
                    _ => line = format!("{address:#x}"),
                }
            }
            StackMode::Bpftrace | StackMode::Perf => {
                let symbol = if exact { self.symbols.user(pid, address) } else { self.symbols.caller(pid, address) };
                signal = symbol.as_ref().is_some_and(Symbol::is_signal_return);
                for inlined in symbol.iter().flat_map(|symbol| &symbol.inlined) {
                    frames.push(format!("[inlined] {}{}", inlined.name, at(inlined.line.as_ref())).into_bytes());
                }
                if mode == StackMode::Perf {
                    let _ = write!(line, "{address:16x} ");
                }
                match &symbol {
                    Some(symbol) => {
                        let _ = write!(line, "{}+{}{}", symbol.name, symbol.off_bytes, at(symbol.line.as_ref()));
                    }
                    None => {
                        let _ = write!(line, "{address:#x}");
                    }
                }
                if mode == StackMode::Perf {
                    let module = symbol.and_then(|symbol| symbol.module.map(|module| module.into_owned()));
                    let module = module.or_else(|| Some(self.symbols.file(pid, address)?.shown));
                    let _ = write!(line, " ({})", module.as_deref().unwrap_or("[unknown]"));
                }
            }
        }
        frames.push(line.into_bytes());
        signal
    }

    /// The hierarchies in which a cgroup was found: the name of the mount, and the path below it.
    fn find_cgroup(&self, id: u64) -> Vec<(String, String)> {
        cgroup_mounts()
            .into_iter()
            .filter_map(|(name, mount)| {
                let path = find_folder(&mount, id)?;
                let below = path.strip_prefix(&mount).ok()?;
                Some((name, format!("/{}", below.display())))
            })
            .collect()
    }
}

fn at(line: Option<&Line>) -> String {
    line.map_or_else(String::new, |line| format!("@{}:{}", line.file, line.line))
}

/// Where cgroup v2 is mounted, called `unified`: what programs are told is the number of a cgroup of that. Without such a
/// mount the older hierarchies, by the last part of where they are mounted.
pub(super) fn cgroup_mounts() -> Vec<(String, PathBuf)> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = |wanted: &str| -> Vec<PathBuf> {
        let lines = text.lines().map(|line| line.split(' ').skip(1));
        lines
            .filter_map(|mut words| Some((words.next()?, words.next()?)))
            .filter(|(_, kind)| *kind == wanted)
            .map(|(path, _)| PathBuf::from(path))
            .collect()
    };
    let unified = mounts("cgroup2");
    if !unified.is_empty() {
        return unified.into_iter().map(|path| ("unified".to_owned(), path)).collect();
    }
    let name = |path: &PathBuf| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    mounts("cgroup").into_iter().map(|path| (name(&path), path)).collect()
}

fn find_folder(root: &Path, inode: u64) -> Option<PathBuf> {
    let mut left = vec![root.to_owned()];
    let mut seen = 0;
    while let Some(folder) = left.pop() {
        if fs::metadata(&folder).is_ok_and(|facts| facts.ino() == inode) {
            return Some(folder);
        }
        seen += 1;
        if seen > MOST_CGROUPS {
            return None;
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        left.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
    None
}

/// Users of `/etc/passwd` by their number.
fn users() -> HashMap<u64, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut parts = line.split(':');
            let (name, id) = (parts.next()?, parts.nth(1)?);
            Some((id.parse().ok()?, name.to_owned()))
        })
        .collect()
}

/// What strerror(3) says.
fn errno_text(number: u64) -> String {
    let number = (number as i32).unsigned_abs() as i32;
    if number == 0 {
        return "Success".to_owned();
    }
    skep_sys::strerror(&std::io::Error::from_raw_os_error(number))
}

impl Names for MachineNames<'_> {
    fn ksym(&self, address: u64, out: &mut Vec<u8>) {
        match self.symbols.kernel(address) {
            Some(symbol) => out.extend_from_slice(symbol.name.as_bytes()),
            None => {
                let _ = write!(out, "{address:#x}");
            }
        }
    }

    fn usym(&self, pid: u32, address: u64, out: &mut Vec<u8>) {
        match self.symbols.user(pid, address) {
            Some(symbol) => out.extend_from_slice(symbol.name.as_bytes()),
            None => {
                let _ = write!(out, "{address:#x}");
            }
        }
    }

    fn frames(&self, stack: &Stack, id: u64, pid: u32, _tid: u32) -> Vec<Vec<u8>> {
        let cached = stack.mode == StackMode::Bpftrace;
        let key = (id, if stack.user { pid } else { 0 });
        if cached && let Some(frames) = self.stacks.borrow().get(&key) {
            return frames.clone();
        }
        let mut frames = Vec::new();
        let mut exact = true;
        for address in self.addresses(id).into_iter().take(stack.limit as usize) {
            if stack.user {
                exact = self.user_frame(stack.mode, pid, (address, exact), &mut frames);
            } else {
                self.kernel_frame(stack.mode, address, &mut frames);
            }
        }
        if cached && !frames.is_empty() {
            let mut known = self.stacks.borrow_mut();
            if known.len() >= 4096 {
                known.clear();
            }
            known.insert(key, frames.clone());
        }
        frames
    }

    fn word(&self, word: Word, number: u64, out: &mut Vec<u8>) {
        let text = match word {
            Word::Errno => Some(errno_text(number)),
            Word::Signal => signals::name(number),
            Word::Syscall => skep_sys::syscalls::name(number).map(str::to_owned),
            Word::User => self.users.get_or_init(users).get(&number).cloned(),
            Word::Place => {
                self.plan.places.get(usize::try_from(number).unwrap_or(usize::MAX)).map(|place| place.name.clone())
            }
        };
        match text {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => {
                let _ = write!(out, "{number}");
            }
        }
    }

    fn cgroup_path(&self, id: u64, filter: &str, out: &mut Vec<u8>) {
        let mut known = self.cgroups.borrow_mut();
        let found = known.entry(id).or_insert_with(|| self.find_cgroup(id));
        let wanted = found.iter().filter(|(name, _)| filter.is_empty() || skep_spec::glob::matches(filter, name));
        for (index, (name, path)) in wanted.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let _ = write!(out, "{name}:{path}");
        }
    }

    fn time(&self, format: &str, clock: Clock, ns: u64, out: &mut Vec<u8>) {
        self.times.write(format, clock, ns, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_read_as_in_c() {
        assert_eq!(errno_text(2), "No such file or directory");
        assert_eq!(errno_text(-13i64 as u64), "Permission denied");
        assert_eq!(errno_text(0), "Success");
    }
}
