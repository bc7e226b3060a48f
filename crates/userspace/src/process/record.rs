//! Records of tracepoints, made from what a tracer saw.
//!
//! A record is what a program of a tracepoint gets for a context. Its layout is the kernel's: the events of system calls are the same
//! everywhere (`kernel/trace/trace_syscalls.c`), those of processes changed with the versions (names were arrays of 16 bytes before 6.17),
//! so they are read from the kernel's types (`struct trace_event_raw_*`); without types they are as in 6.18.
//!
//! What a tracer cannot know is zero: the event's number in `common_type`, the handler of a signal.

use std::fs;

use skep_btf::{Btf, NeededNames, Type, TypeId};
use skep_spec::Target;
use skep_sys::tracepoints;

use super::{Event, TracedTask, What};
use skep_vm::Task as _;

/// Bytes of `struct trace_entry`.
const ENTRY_BYTES: usize = 8;
/// Bytes of a task's name, with its zero (`TASK_COMM_LEN`).
const COMM_BYTES: usize = 16;
/// What `/proc` takes off a priority (`MAX_RT_PRIO`).
const PRIO_OFFSET: i64 = 100;

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: String,
    off: usize,
    len: usize,
}

/// The layout of one event's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    fields: Vec<Field>,
    /// Bytes before the texts.
    len: usize,
}

/// The layouts of all events that are not system calls.
#[derive(Clone, Debug)]
pub(super) struct Layouts {
    fork: Layout,
    exec: Layout,
    exit: Layout,
    signal: Layout,
}

impl Layouts {
    /// As the kernel of a target has them.
    pub(super) fn of(target: &dyn Target) -> Layouts {
        let structs: Vec<String> =
            tracepoints::EVENTS.iter().flat_map(|(_, event)| tracepoints::structs(event)).collect();
        let mut names = NeededNames::default();
        for name in &structs {
            names.add(name);
        }
        // What programs were fitted to.
        let types = match target.core_btf() {
            Some(btf) => {
                let found = btf.find_all(&names);
                Ok(Some((btf, found)))
            }
            None => target.btf_with(&names),
        };
        match types {
            Ok(Some((btf, found))) => Layouts::from_types(|event| {
                tracepoints::structs(event).iter().find_map(|name| {
                    let at = structs.iter().position(|it| it == name)?;
                    found.get(at)?.iter().find_map(|id| Layout::read(&btf, *id))
                })
            }),
            // Without types, or where they may not be read.
            Ok(None) | Err(_) => Layouts::from_types(|_| None),
        }
    }

    fn from_types(read: impl Fn(&str) -> Option<Layout>) -> Layouts {
        let layout = |event| read(event).unwrap_or_else(|| Layout::by_heart(event));
        Layouts {
            fork: layout("sched_process_fork"),
            exec: layout("sched_process_exec"),
            exit: layout("sched_process_exit"),
            signal: layout("signal_deliver"),
        }
    }

    /// Makes the record of an event; `None` when it is a system call's.
    pub(super) fn record(&self, event: &Event<'_>, record: &mut Record) -> Option<()> {
        let task = event.task;
        record.start(task);
        match &event.what {
            What::Born { tid, .. } => {
                record.lay(&self.fork);
                record.text(&self.fork, "parent_comm", &task.comm());
                record.number(&self.fork, "parent_pid", task.tid().into());
                record.text(&self.fork, "child_comm", &task.comm());
                record.number(&self.fork, "child_pid", (*tid).into());
            }
            What::Executed { old_tid, path } => {
                record.lay(&self.exec);
                record.text(&self.exec, "filename", path);
                record.number(&self.exec, "pid", task.tid().into());
                record.number(&self.exec, "old_pid", (*old_tid).into());
            }
            What::Ending { last, .. } => {
                record.lay(&self.exit);
                record.text(&self.exit, "comm", &task.comm());
                record.number(&self.exit, "pid", task.tid().into());
                record.number(&self.exit, "prio", priority(task.tid()) as u64);
                record.number(&self.exit, "group_dead", (*last).into());
            }
            What::Signal { signal, errno, code } => {
                record.lay(&self.signal);
                record.number(&self.signal, "sig", *signal as u64);
                record.number(&self.signal, "errno", *errno as u64);
                record.number(&self.signal, "code", *code as u64);
            }
            What::Enter { .. } | What::Exit { .. } | What::Probe { .. } => return None,
        }
        Some(())
    }
}

impl Layout {
    fn by_heart(event: &str) -> Layout {
        let members = tracepoints::members(event).into_iter();
        let fields: Vec<Field> = members
            .map(|it| Field { name: it.name.to_owned(), off: it.off_bytes as usize, len: it.size_bytes as usize })
            .collect();
        let len = fields.iter().map(|field| field.off + field.len).max().unwrap_or(ENTRY_BYTES);
        Layout { fields, len }
    }

    fn read(btf: &Btf, id: TypeId) -> Option<Layout> {
        let Type::Struct(composite) = btf.type_by_id(id).ok()? else { return None };
        let mut fields = Vec::new();
        for member in composite.members() {
            let off = member.bit_offset() as usize / 8;
            let len = btf.size_of(member.type_id()).ok()? as usize;
            fields.push(Field { name: member.name().to_owned(), off, len });
        }
        Some(Layout { fields, len: composite.size() as usize })
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// A record that is being made; its memory is used again.
#[derive(Debug, Default)]
pub(super) struct Record {
    bytes: Vec<u8>,
}

impl Record {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn start(&mut self, task: &TracedTask) {
        self.bytes.clear();
        self.bytes.resize(ENTRY_BYTES, 0);
        self.bytes[4..ENTRY_BYTES].copy_from_slice(&task.tid().to_ne_bytes());
    }

    /// A system call that starts: the number, which is 4 bytes in its own event and 8 in that of all calls, then the arguments.
    pub(super) fn enter(&mut self, task: &TracedTask, nr: u32, args: &[u64; 6]) {
        self.start(task);
        self.bytes.extend_from_slice(&u64::from(nr).to_ne_bytes());
        for arg in args {
            self.bytes.extend_from_slice(&arg.to_ne_bytes());
        }
    }

    /// A system call that ends.
    pub(super) fn exit(&mut self, task: &TracedTask, nr: u32, ret: i64) {
        self.start(task);
        self.bytes.extend_from_slice(&u64::from(nr).to_ne_bytes());
        self.bytes.extend_from_slice(&ret.to_ne_bytes());
    }

    fn lay(&mut self, layout: &Layout) {
        self.bytes.resize(layout.len.max(ENTRY_BYTES), 0);
    }

    /// Sets a number; a kernel that has no such field gets none.
    fn number(&mut self, layout: &Layout, name: &str, value: u64) {
        let Some(field) = layout.field(name) else { return };
        let len = field.len.min(8);
        let bytes = value.to_ne_bytes();
        let bytes = if cfg!(target_endian = "big") { &bytes[8 - len..] } else { &bytes[..len] };
        if let Some(to) = self.bytes.get_mut(field.off..field.off + len) {
            to.copy_from_slice(bytes);
        }
    }

    /// Sets a text: in an array of its own, or behind the fields with offset and length in the field (`__data_loc`).
    fn text(&mut self, layout: &Layout, name: &str, text: &[u8]) {
        if let Some(field) = layout.field(name) {
            let len = text.len().min(field.len.min(COMM_BYTES).saturating_sub(1));
            if let Some(to) = self.bytes.get_mut(field.off..field.off + len) {
                to.copy_from_slice(&text[..len]);
            }
            return;
        }
        let name = format!("__data_loc_{name}");
        if layout.field(&name).is_some() {
            let place = self.bytes.len() as u64 | (text.len() as u64 + 1) << 16;
            self.bytes.extend_from_slice(text);
            self.bytes.push(0);
            self.number(layout, &name, place);
        }
    }
}

/// The kernel's priority of a task: 120 is the usual one.
fn priority(tid: u32) -> i64 {
    let stat = fs::read_to_string(format!("/proc/{tid}/stat")).unwrap_or_default();
    // The name may have blanks and brackets; behind it comes field 3, and the priority is field 18.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ').nth(15).and_then(|field| field.parse::<i64>().ok()).map_or(0, |priority| priority + PRIO_OFFSET)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn records_have_the_layout_of_the_kernel_at_hand() {
        let task = Arc::new(TracedTask::new(std::process::id(), std::process::id()));
        for layouts in [Layouts::from_types(|_| None), Layouts::of(&skep_kernel::LiveTarget::shared())] {
            let mut record = Record::default();
            let what = What::Executed { old_tid: 7, path: b"/bin/true".to_vec() };
            layouts.record(&Event { task: &task, what }, &mut record).unwrap();
            let field = layouts.exec.field("__data_loc_filename").unwrap();
            let place = u32::from_ne_bytes(record.bytes()[field.off..field.off + 4].try_into().unwrap());
            let (at, len) = ((place & 0xffff) as usize, (place >> 16) as usize);
            assert_eq!(&record.bytes()[at..at + len], b"/bin/true\0");
            assert_eq!(record.bytes()[4..8], std::process::id().to_ne_bytes());
            let old = layouts.exec.field("old_pid").unwrap();
            assert_eq!(record.bytes()[old.off..old.off + 4], 7u32.to_ne_bytes());
            for (layout, name) in [(&layouts.exit, "prio"), (&layouts.signal, "sa_flags"), (&layouts.fork, "child_pid")]
            {
                assert!(layout.field(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn a_name_of_old_kernels_is_cut_to_its_array() {
        let layout = Layout { fields: vec![Field { name: "comm".to_owned(), off: 8, len: 16 }], len: 24 };
        let mut record = Record::default();
        record.start(&TracedTask::new(1, 1));
        record.lay(&layout);
        record.text(&layout, "comm", b"a name that is too long");
        assert_eq!(&record.bytes()[8..], b"a name that is \0");
    }

    #[test]
    fn our_own_priority_is_an_ordinary_one() {
        assert!((100..140).contains(&priority(std::process::id())), "{}", priority(std::process::id()));
    }
}
