//! What a program reads of a task in the kernel: `struct task_struct`, made up from what `/proc` tells.
//!
//! A program that asks for its task (`bpf_get_current_task`) gets an address, and reads members behind it: who it is, who made it. Such a
//! structure is laid out here as in the kernel's types, with the members that can be known: `pid`, `tgid`, `comm`, `real_parent`,
//! `parent`, `group_leader`, `real_cred` and `cred`, and of `fs` the folder that it works in and the root, as if there were one file system. All
//! others are zero, as pointers they lead nowhere. The maker's has no maker and no folder.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::{Component, Path};
use std::sync::Arc;

use skep_btf::{Btf, Kind, Type, TypeId};
use skep_spec::Target;
use skep_vm::{Block, Space, Task};

use super::procfs;

/// Tasks that have a structure at one time; the oldest gives way.
const MAX_IMAGES: usize = 256;
/// The longest structure that is laid out, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Structures without a name inside of each other.
const MAX_DEPTH: usize = 8;
/// Folders of a path that are shown, from the last one up.
const MAX_FOLDERS: usize = 16;
/// The longest name of a folder, with its zero (`NAME_MAX`).
const NAME_BYTES: u64 = 256;

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
        let mut members = Members { len: u64::from(composite.size()).next_multiple_of(8), off: HashMap::new() };
        members.add(btf, id, 0, 0);
        Some(members)
    }

    /// Adds those of a structure that begins at `start`, and those of members without a name.
    fn add(&mut self, btf: &Btf, id: TypeId, start: u64, depth: usize) {
        let Ok(Type::Struct(composite) | Type::Union(composite)) = btf.type_by_id(id) else { return };
        for member in composite.members() {
            let at = start + u64::from(member.bit_offset()) / 8;
            if !member.name().is_empty() {
                self.off.insert(member.name().to_owned(), at);
            } else if depth < MAX_DEPTH {
                self.add(btf, member.type_id(), at, depth + 1);
            }
        }
    }

    fn at(&self, member: &str) -> Option<u64> {
        self.off.get(member).copied()
    }
}

/// The layout of a kernel's tasks.
#[derive(Clone, Debug)]
pub(crate) struct TaskLayout {
    task: Members,
    cred: Members,
    /// `None`: the kernel has other structures for it.
    folders: Option<Folders>,
}

/// The layout of what leads to the folder that a task works in: `fs_struct`, `mount`, then a `dentry` for each folder and for the
/// root, then their names.
#[derive(Clone, Debug)]
struct Folders {
    fs: Members,
    mount: Members,
    dentry: Members,
    /// Offsets of `pwd` and `root` in `fs_struct`, and of `mnt` and `dentry` in either.
    paths: [u64; 2],
    mnt_off: u64,
    dentry_off: u64,
    /// Offsets in `mount`, and in `dentry`.
    vfsmount_off: u64,
    mnt_root_off: u64,
    name_off: u64,
    parent_off: u64,
}

impl Folders {
    fn of(btf: &Btf) -> Option<Folders> {
        let (fs, mount, dentry) =
            (Members::of(btf, "fs_struct")?, Members::of(btf, "mount")?, Members::of(btf, "dentry")?);
        let path = Members::of(btf, "path")?;
        let vfsmount_off = mount.at("mnt")?;
        Some(Folders {
            paths: [fs.at("pwd")?, fs.at("root")?],
            mnt_off: path.at("mnt")?,
            dentry_off: path.at("dentry")?,
            vfsmount_off,
            mnt_root_off: vfsmount_off + Members::of(btf, "vfsmount")?.at("mnt_root")?,
            name_off: dentry.at("d_name")? + Members::of(btf, "qstr")?.at("name")?,
            parent_off: dentry.at("d_parent")?,
            fs,
            mount,
            dentry,
        })
    }

    fn len(&self) -> u64 {
        self.fs.len + self.mount.len + (MAX_FOLDERS as u64 + 1) * (self.dentry.len + NAME_BYTES)
    }

    /// Lays the folder of a task out from `start` on; gives the address of its `fs_struct`.
    fn fill(&self, block: &Block, start: u64, folder: &Path) -> u64 {
        let put = |at: u64, value: u64| {
            // The block is as long as the layout says.
            let _ = block.write(at, &value.to_ne_bytes());
        };
        let (mount, dentries) = (start + self.fs.len, start + self.fs.len + self.mount.len);
        let names = dentries + (MAX_FOLDERS as u64 + 1) * self.dentry.len;
        let addr = |at: u64| block.addr() + at;
        let mut folders: Vec<&[u8]> = folder
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.as_encoded_bytes()),
                _ => None,
            })
            .rev()
            .take(MAX_FOLDERS)
            .collect();
        folders.push(b"/");
        let last = folders.len() as u64 - 1;
        for (index, name) in (0u64..).zip(&folders) {
            let (dentry, text) = (dentries + index * self.dentry.len, names + index * NAME_BYTES);
            let mut bytes = name[..name.len().min(NAME_BYTES as usize - 1)].to_vec();
            bytes.push(0);
            let _ = block.write(text, &bytes);
            put(dentry + self.name_off, addr(text));
            put(dentry + self.parent_off, addr(dentries + (index + 1).min(last) * self.dentry.len));
        }
        let root = addr(dentries + last * self.dentry.len);
        put(mount + self.mnt_root_off, root);
        if let Some(parent) = self.mount.at("mnt_parent") {
            put(mount + parent, addr(mount));
        }
        for (path, dentry) in self.paths.into_iter().zip([addr(dentries), root]) {
            put(start + path + self.mnt_off, addr(mount + self.vfsmount_off));
            put(start + path + self.dentry_off, dentry);
        }
        addr(start)
    }
}

impl TaskLayout {
    /// As the target's types have it; `None` when it has none.
    pub(crate) fn of(target: &dyn Target) -> Option<TaskLayout> {
        // What programs were fitted to.
        let btf = target.core_btf().or_else(|| target.btf().ok().flatten())?;
        let layout = TaskLayout {
            task: Members::of(&btf, "task_struct")?,
            cred: Members::of(&btf, "cred")?,
            folders: Folders::of(&btf),
        };
        (layout.len() <= MAX_BYTES).then_some(layout)
    }

    /// The task itself, the first thread of its process, its maker, its rights, and its folder.
    fn len(&self) -> u64 {
        self.folders_off() + self.folders.as_ref().map_or(0, Folders::len)
    }

    fn folders_off(&self) -> u64 {
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
        let TaskLayout { task: members, cred, folders } = &self.layout;
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
        if let Some(folders) = folders {
            let folder = fs::read_link(format!("/proc/{tid}/cwd")).unwrap_or_default();
            let at = folders.fill(block, self.layout.folders_off(), &folder);
            own.pointer("fs", at);
            leader.pointer("fs", at);
        }
        maker.put("pid", &made_by.to_ne_bytes());
        maker.put("tgid", &made_by.to_ne_bytes());
        // Who traces is called otherwise than what people started.
        let own = skep_sys::front::name().filter(|_| made_by == std::process::id());
        maker.name(&own.or_else(|| procfs::comm(made_by)).unwrap_or_default());
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
    procfs::status_number(pid, "PPid:").unwrap_or(0)
}
