//! What programs print with `bpf_printk`.
//!
//! Since Linux 5.9 `bpf_trace_printk` is a trace event, `bpf_trace:bpf_trace_printk`, and trace events can be enabled in
//! several *instances* at once, each with buffers of its own. So we make an instance, enable that one event in it, and read
//! its `trace_pipe`: whoever reads the common one keeps all his lines, and nobody else's events get into ours.
//!
//! An instance is a folder in tracefs, with buffers in the kernel. It is removed on drop, and when this process is killed by
//! the guard ([`skep_sys::undo`]) that was started before it was made. Should both be killed, the next one that starts removes
//! it. It recognises the dead by trying: the kernel does not remove an instance whose `trace_pipe` is open (`EBUSY`), which the
//! living have.
//!
//! The text looks like this (`trace_print_context`, `bpf_trace_printk` in include/trace/events/bpf_trace.h):
//!
//! ```text
//!            <...>-4242    [001] ...21  1234.567890: bpf_trace_printk: the program's words
//! CPU:1 [LOST 17 EVENTS]
//! ```
//!
//! A read ends where an entry ends, and lines that do not start like an entry belong to the text before them.

use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

use skep_engine::{Error, Record, Source};
use skep_sys::Errno;
use skep_sys::tracefs::Tracefs;
use skep_sys::undo::{Guard, Undo};

use crate::map::failed;

const PREFIX: &str = "skep-";

/// The text of all programs, as it comes.
#[derive(Debug)]
pub(super) struct Printk {
    pipe: File,
    /// `None` on kernels without the event, where the common pipe is read.
    _instance: Option<Instance>,
    /// What was read.
    buffer: Vec<u8>,
    /// Up to where it was told.
    told: usize,
}

/// A trace instance of our own.
#[derive(Debug)]
struct Instance {
    tracefs: &'static Tracefs,
    path: String,
    guard: Option<Guard>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.tracefs.remove_instance(&self.path).is_ok()
            && let Some(guard) = self.guard.take()
        {
            guard.dismiss();
        }
    }
}

impl Printk {
    /// Makes an instance and opens its pipe.
    pub(super) fn open() -> Result<Printk, Error> {
        let tracefs = Tracefs::shared().map_err(|errno| {
            let error = failed("cannot reach tracefs, where bpf_printk's text comes from", errno);
            match errno {
                Errno::EPERM | Errno::EACCES => error.with_hint("CAP_SYS_ADMIN is missing: run it with sudo"),
                Errno::ENODEV => error.with_hint("this kernel was built without CONFIG_FTRACE"),
                _ => error,
            }
        })?;
        for stale in tracefs.instances().unwrap_or_default() {
            if stale.starts_with(PREFIX) {
                // EBUSY: its owner lives.
                let _ = tracefs.remove_instance(&stale);
            }
        }
        for attempt in 0..8 {
            let path = format!("{PREFIX}{}-{attempt}", std::process::id());
            // Without a guard it is the next start that cleans up after a SIGKILL.
            let undo = CString::new(format!("instances/{path}")).map(|path| Undo::RemoveDir(tracefs.as_fd(), path));
            let guard = undo.ok().and_then(|undo| Guard::spawn(&[undo]).ok());
            match Printk::instance(tracefs, &path) {
                Ok(Some(pipe)) => {
                    let instance = Instance { tracefs, path, guard };
                    return Ok(Printk { pipe, _instance: Some(instance), buffer: Vec::new(), told: 0 });
                }
                Ok(None) => {
                    // Its guard, dropped here, removes the folder; at once is better.
                    let _ = tracefs.remove_instance(&path);
                    let pipe = tracefs
                        .open_pipe("trace_pipe")
                        .map_err(|errno| failed("cannot open trace_pipe in tracefs", errno))?;
                    return Ok(Printk { pipe, _instance: None, buffer: Vec::new(), told: 0 });
                }
                // Another one that just started took it for a dead one's, or the name is in use in another container.
                Err(Errno::ENOENT | Errno::EEXIST) => {
                    if let Some(guard) = guard {
                        guard.dismiss();
                    }
                }
                Err(errno) => {
                    let _ = tracefs.remove_instance(&path);
                    return Err(failed("cannot make a trace instance for bpf_printk's text", errno));
                }
            }
        }
        Err(Error::new("cannot make a trace instance for bpf_printk's text: all names are taken"))
    }

    /// The instance's pipe; `None` when this kernel has no such event.
    fn instance(tracefs: &Tracefs, path: &str) -> Result<Option<File>, Errno> {
        tracefs.make_instance(path)?;
        let pipe = tracefs.open_pipe(&format!("instances/{path}/trace_pipe"))?;
        // Times that can be compared with other clocks of this machine; without, it is the CPU's own.
        let _ = tracefs.write(&format!("instances/{path}/trace_clock"), "mono");
        let event = "events/bpf_trace/bpf_trace_printk/enable";
        match tracefs.write(&format!("instances/{path}/{event}"), "1") {
            Ok(()) => Ok(Some(pipe)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether there is text that was read and not told.
    pub(super) fn has_more(&self) -> bool {
        self.told < self.buffer.len()
    }

    /// Gives the text that is there. What `sink` does not take any more is kept for the next time.
    pub(super) fn consume(&mut self, sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>) -> Result<usize, Error> {
        let mut count = 0;
        // Bounded: a program that prints without pause must not keep us here.
        for _ in 0..256 {
            if !self.has_more() && !self.fill()? {
                break;
            }
            while let Some((entry, used)) = next_entry(&self.buffer[self.told..]) {
                self.told += used;
                let flow = match entry {
                    Entry::Nothing => continue,
                    Entry::Text(line, text) => {
                        let comm = match line.comm {
                            "<...>" => std::fs::read_to_string(format!("/proc/{}/comm", line.tid)).ok(),
                            _ => None,
                        };
                        let comm = comm.as_deref().map_or(line.comm, str::trim_end);
                        sink(Record::Text { comm, tid: line.tid, cpu: line.cpu, time_ns: line.time_ns, text })
                    }
                    Entry::Lost { cpu, count } => sink(Record::Lost { source: Source::Printk, cpu: Some(cpu), count }),
                };
                count += 1;
                if flow.is_break() {
                    return Ok(count);
                }
            }
        }
        Ok(count)
    }

    /// Reads once. `false` when there is nothing.
    fn fill(&mut self) -> Result<bool, Error> {
        self.buffer.clear();
        self.told = 0;
        self.buffer.resize(64 << 10, 0);
        let got = match self.pipe.read(&mut self.buffer) {
            Ok(got) => got,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => {
                self.buffer.clear();
                return Err(Error::new(format!("cannot read bpf_printk's text: {error}")).with_source(error));
            }
        };
        self.buffer.truncate(got);
        // Text of programs may be anything; records are UTF-8.
        if std::str::from_utf8(&self.buffer).is_err() {
            self.buffer = String::from_utf8_lossy(&self.buffer).into_owned().into_bytes();
        }
        Ok(got > 0)
    }
}

impl AsFd for Printk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The start of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line<'a> {
    comm: &'a str,
    tid: u32,
    cpu: u32,
    time_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry<'a> {
    Text(Line<'a>, &'a str),
    Lost {
        cpu: u32,
        count: u64,
    },
    /// A line that belongs to nothing.
    Nothing,
}

/// The first entry, and how many bytes it takes. `None` at the end.
fn next_entry(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
    // The buffer was made UTF-8 when it was filled; entries end at line ends.
    let all = std::str::from_utf8(bytes).ok().filter(|all| !all.is_empty())?;
    let first_end = all.find('\n').map_or(all.len(), |at| at + 1);
    let first = all[..first_end].trim_end_matches('\n');
    if let Some((cpu, count)) = lost(first) {
        return Some((Entry::Lost { cpu, count }, first_end));
    }
    let Some((line, text)) = start(first) else { return Some((Entry::Nothing, first_end)) };
    // Lines that start no entry of their own go on with the text.
    let mut end = first_end;
    while end < all.len() {
        let next_end = all[end..].find('\n').map_or(all.len(), |at| end + at + 1);
        let next = all[end..next_end].trim_end_matches('\n');
        if start(next).is_some() || lost(next).is_some() {
            break;
        }
        end = next_end;
    }
    let from = text.as_ptr().addr() - all.as_ptr().addr();
    Some((Entry::Text(line, all[from..end].trim_end_matches('\n')), end))
}

/// `   comm-4242    [001] ...21  1234.567890: bpf_trace_printk: text`. The command may hold anything, so the marks after it
/// are searched from the event's name backwards.
fn start(line: &str) -> Option<(Line<'_>, &str)> {
    const EVENT: &str = ": bpf_trace_printk: ";
    let mut from = 0;
    loop {
        let at = from + line[from..].find(EVENT)?;
        if let Some(found) = context(&line[..at]) {
            return Some((found, &line[at + EVENT.len()..]));
        }
        from = at + 1;
    }
}

/// What stands before `: bpf_trace_printk: `.
fn context(before: &str) -> Option<Line<'_>> {
    let (rest, time) = before.rsplit_once(' ')?;
    let (seconds, micros) = time.split_once('.')?;
    let time_ns = seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?
        + match micros.len() {
            6 => micros.parse::<u64>().ok()? * 1000,
            9 => micros.parse::<u64>().ok()?,
            _ => return None,
        };
    let open = rest.rfind('[')?;
    let cpu = rest[open + 1..].split_once(']')?.0.trim().parse().ok()?;
    let task = rest[..open].trim_end();
    // With tgids shown, `(  tgid)` stands between.
    let task = match task.rfind('(') {
        Some(at) if task.ends_with(')') => task[..at].trim_end(),
        _ => task,
    };
    let (comm, tid) = task.rsplit_once('-')?;
    Some(Line { comm: comm.trim_start(), tid: tid.parse().ok()?, cpu, time_ns })
}

/// `CPU:1 [LOST 17 EVENTS]`; without a number where the kernel does not know it, which counts as one.
fn lost(line: &str) -> Option<(u32, u64)> {
    let (cpu, rest) = line.strip_prefix("CPU:")?.split_once(" [LOST ")?;
    let count = match rest.strip_suffix("EVENTS]")?.trim() {
        "" => 1,
        count => count.parse().ok()?,
    };
    Some((cpu.trim().parse().ok()?, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        let mut at = 0;
        while let Some((entry, used)) = next_entry(&text.as_bytes()[at..]) {
            at += used;
            out.push(match entry {
                Entry::Text(line, text) => {
                    format!("{}/{} cpu{} {}: {text}", line.comm, line.tid, line.cpu, line.time_ns)
                }
                Entry::Lost { cpu, count } => format!("cpu{cpu} lost {count}"),
                Entry::Nothing => "nothing".to_owned(),
            });
        }
        out
    }

    #[test]
    fn entries_are_taken_apart() {
        let text = "            bash-4242    [001] ...21  1234.567890: bpf_trace_printk: pid = 1, file: x\n\
                    CPU:1 [LOST 17 EVENTS]\n\
                    CPU:0 [LOST EVENTS]\n   \
                    <...>-7       [000] d..2.     0.000001: bpf_trace_printk: \n";
        assert_eq!(
            entries(text),
            ["bash/4242 cpu1 1234567890000: pid = 1, file: x", "cpu1 lost 17", "cpu0 lost 1", "<...>/7 cpu0 1000: "]
        );
    }

    #[test]
    fn text_may_have_lines_and_commands_may_have_anything() {
        let text = " a [b] c: -d-99 [003] .... 5.000000: bpf_trace_printk: one\ntwo\n\n \
                    Web Content-5  (  4) [000] .N.. 6.000000: bpf_trace_printk: three: bpf_trace_printk: four\n";
        assert_eq!(
            entries(text),
            [
                "a [b] c: -d/99 cpu3 5000000000: one\ntwo",
                "Web Content/5 cpu0 6000000000: three: bpf_trace_printk: four"
            ]
        );
    }

    #[test]
    fn lines_of_nobody_are_passed_over() {
        assert_eq!(entries("what is this\n"), ["nothing"]);
        assert_eq!(entries(""), Vec::<String>::new());
    }
}
