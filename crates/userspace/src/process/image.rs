//! What a program reads of a task in the kernel: `struct task_struct`, made up from what `/proc` tells.
//!
//! A program that asks for its task (`bpf_get_current_task`) gets an address, and reads members behind it: who it is, who made it. Such a
//! structure is laid out here as in the kernel's types, with the members that can be known: `pid`, `tgid`, `comm`, `real_parent`,
//! `parent`, `group_leader`, `real_cred` and `cred`. All others are zero, as pointers they lead nowhere. The maker's has no maker.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::sync::Arc;

use skep_btf::{Btf, Kind, Type};
use skep_spec::Target;
use skep_vm::{Block, Space, Task};

/// Tasks that have a structure at one time; the oldest gives way.
const MAX_IMAGES: usize = 256;
/// The longest structure that is laid out, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Where members of a structure are.
#[derive(Clone, Debug, Default)]
struct Members {
    len: u64,
    off: HashMap<String, u64>,
}

impl Members {
    fn of(btf: &Btf, name: &str) -> Option<Members> {
        let id = btf.find(name, Kind::STRUCT)?;
        let Type::Struct(composite) = btf.type_by_id(id).ok()? else { return None };
        let off = composite.members().map(|member| (member.name().to_owned(), u64::from(member.bit_offset()) / 8));
        Some(Members { len: u64::from(composite.size()).next_multiple_of(8), off: off.collect() })
    }
}

/// The layout of a kernel's tasks.
#[derive(Clone, Debug)]
pub(crate) struct TaskLayout {
    task: Members,
    cred: Members,
}

impl TaskLayout {
    /// As the target's types have it; `None` when it has none.
    pub(crate) fn of(target: &dyn Target) -> Option<TaskLayout> {
        // What programs were fitted to.
        let btf = target.core_btf().or_else(|| target.btf().ok().flatten())?;
        let layout = TaskLayout { task: Members::of(&btf, "task_struct")?, cred: Members::of(&btf, "cred")? };
        (layout.len() <= MAX_BYTES).then_some(layout)
    }

    /// The task itself, the first thread of its process, its maker, and its rights.
    fn len(&self) -> u64 {
        3 * self.task.len + self.cred.len
    }
}

/// The structures of tasks.
#[derive(Debug)]
pub(crate) struct Images {
    layout: TaskLayout,
    space: Arc<Space>,
    blocks: HashMap<u64, Block>,
    order: VecDeque<u64>,
}

/// A task with a structure.
#[derive(Debug)]
struct Shown {
    task: Arc<dyn Task>,
    address: u64,
}

impl Task for Shown {
    fn pid_tgid(&self) -> u64 {
        self.task.pid_tgid()
    }

    fn uid_gid(&self) -> u64 {
        self.task.uid_gid()
    }

    fn comm(&self) -> Vec<u8> {
        self.task.comm()
    }

    fn address(&self) -> u64 {
        self.address
    }

    fn signal(&self, signal: u32) -> Option<()> {
        self.task.signal(signal)
    }

    fn user_stack(&self, max: usize) -> Option<Vec<u64>> {
        self.task.user_stack(max)
    }
}

/// A structure that is being filled.
struct Filled<'a> {
    block: &'a Block,
    members: &'a Members,
    start: u64,
}

impl Filled<'_> {
    fn put(&self, member: &str, bytes: &[u8]) {
        if let Some(off) = self.members.off.get(member) {
            // A kernel whose member is elsewhere than its structure says is none.
            let _ = self.block.write(self.start + off, bytes);
        }
    }

    fn name(&self, comm: &[u8]) {
        let mut name = [0; 16];
        let len = comm.len().min(15);
        name[..len].copy_from_slice(&comm[..len]);
        self.put("comm", &name);
    }

    fn pointer(&self, member: &str, to: u64) {
        self.put(member, &to.to_ne_bytes());
    }
}

impl Images {
    pub(crate) fn new(layout: TaskLayout, space: Arc<Space>) -> Images {
        Images { layout, space, blocks: HashMap::new(), order: VecDeque::new() }
    }

    /// The task with a structure that says what is known of it now. Without memory for one it stays as it is.
    pub(crate) fn show(&mut self, task: Arc<dyn Task>) -> Arc<dyn Task> {
        let key = task.pid_tgid();
        if !self.blocks.contains_key(&key) {
            if self.order.len() == MAX_IMAGES
                && let Some(oldest) = self.order.pop_front()
            {
                self.blocks.remove(&oldest);
            }
            let Ok(block) = self.space.allocate(self.layout.len(), false) else { return task };
            self.blocks.insert(key, block);
            self.order.push_back(key);
        }
        let Some(block) = self.blocks.get(&key) else { return task };
        self.fill(block, &*task);
        let address = block.addr();
        Arc::new(Shown { task, address })
    }

    fn fill(&self, block: &Block, task: &dyn Task) {
        let TaskLayout { task: members, cred } = &self.layout;
        let at = |index: u64| Filled { block, members, start: index * members.len };
        let (own, leader, maker) = (at(0), at(1), at(2));
        let rights = Filled { block, members: cred, start: 3 * members.len };
        let addr = |filled: &Filled<'_>| block.addr() + filled.start;
        let (tgid, tid) = ((task.pid_tgid() >> 32) as u32, task.pid_tgid() as u32);
        let made_by = parent(tgid);
        for (filled, pid) in [(&own, tid), (&leader, tgid)] {
            filled.put("pid", &pid.to_ne_bytes());
            filled.put("tgid", &tgid.to_ne_bytes());
            filled.name(&task.comm());
            filled.pointer("real_parent", addr(&maker));
            filled.pointer("parent", addr(&maker));
            filled.pointer("group_leader", if tid == tgid { addr(&own) } else { addr(&leader) });
            filled.pointer("real_cred", addr(&rights));
            filled.pointer("cred", addr(&rights));
        }
        maker.put("pid", &made_by.to_ne_bytes());
        maker.put("tgid", &made_by.to_ne_bytes());
        maker.name(&comm(made_by));
        maker.pointer("group_leader", addr(&maker));
        let (uid, gid) = (task.uid_gid() as u32, (task.uid_gid() >> 32) as u32);
        for member in ["uid", "euid", "suid", "fsuid"] {
            rights.put(member, &uid.to_ne_bytes());
        }
        for member in ["gid", "egid", "sgid", "fsgid"] {
            rights.put(member, &gid.to_ne_bytes());
        }
    }
}

/// Who made a process; 0 when nobody knows.
fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
}

fn comm(pid: u32) -> Vec<u8> {
    let mut comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    if comm.last() == Some(&b'\n') {
        comm.pop();
    }
    comm
}
