//! Finding a task by its number.
//!
//! A kfunc does that since 6.2 (`bpf_task_from_pid`), but not for every kind of program, and the reference that it gives has to be
//! put back on every way. Reading the kernel's own table needs neither. The numbers of a namespace are the indexes of a radix
//! tree of `struct pid` (`pid_namespace.idr`, include/linux/pid_namespace.h): a node (`struct xa_node`, marked by 2 in the lower
//! bits of its address) stands for 64 indexes from some bit on, and what is no node is the entry itself. Every task knows the
//! first namespace as the one of its first number. Whatever changes under the walk makes it end without a task, or at one that
//! is about to end: reads of what is gone give zeros.

use skep_insn::{AluOp, Cond, Width, helpers};

use super::Unit;
use crate::ir::build::FunctionBuilder;
use crate::ir::{Block, Value};

/// Nodes on the way to a number: there are fewer than 2^22 (`PID_MAX_LIMIT`), six bits to a node.
const DEPTH: usize = 4;
/// Of an entry, what says that it is a node (include/linux/xarray.h).
const NODE: i32 = 2;

impl Unit<'_> {
    /// `task_of(pid)`: the `task_struct` with this number in the first namespace, or 0.
    pub(super) fn task_of(&mut self) -> FunctionBuilder {
        let mut f = self.local("task_of", 1);
        let offsets = self.offsets();
        let none = f.block(0);
        let pid = f.argument(0);
        let Some([thread_pid, numbers, ns, idr, tree, head, shift, slots, tasks, links]) = offsets else {
            f.ret(0);
            f.switch_to(none);
            f.ret(0);
            return f;
        };
        let mut walk = Walk { slot: f.slot(8, 8), f };
        let current = walk.f.call(helpers::GET_CURRENT_TASK, &[]);
        let own = walk.read(current, thread_pid, 8);
        let namespace = walk.read(own, numbers + ns, 8);
        let mut entry = walk.read(namespace, idr + tree + head, 8);
        let found = walk.f.block(1);
        for level in 0..DEPTH {
            let node = walk.f.block(0);
            walk.is_node(entry, node, (found, entry));
            let place = walk.f.add(entry, -NODE);
            let bits = walk.read(place, shift, 1);
            let index = walk.f.alu(AluOp::Rsh, Width::W64, pid, bits);
            if level == 0 {
                // The tree is not as high as the number is large.
                let inside = walk.f.block(0);
                walk.f.branch(Cond::Le, Width::W64, index, 63, (inside, &[]), (none, &[]));
                walk.f.switch_to(inside);
            }
            let index = walk.f.alu(AluOp::And, Width::W64, index, 63);
            let off = walk.f.alu(AluOp::Lsh, Width::W64, index, 3);
            let place = walk.f.alu(AluOp::Add, Width::W64, place, off);
            entry = walk.read(place, slots, 8);
        }
        walk.f.jump(found, &[entry]);
        walk.f.switch_to(found);
        let entry = walk.f.param(found, 0);
        let (plain, there, listed) = (walk.f.block(0), walk.f.block(0), walk.f.block(0));
        let mark = walk.f.alu(AluOp::And, Width::W64, entry, 3);
        walk.f.branch(Cond::Eq, Width::W64, mark, 0, (plain, &[]), (none, &[]));
        walk.f.switch_to(plain);
        walk.f.branch_if(entry, there, none);
        walk.f.switch_to(there);
        // The first of the lists of a number is that of the thread itself (`PIDTYPE_PID`); it has one member.
        let link = walk.read(entry, tasks, 8);
        walk.f.branch_if(link, listed, none);
        walk.f.switch_to(listed);
        let task = walk.f.add(link, -links);
        walk.f.ret(task);
        walk.f.switch_to(none);
        walk.f.ret(0);
        walk.f
    }

    /// Where the members of the way lie; `None` when the kernel's types do not tell.
    fn offsets(&self) -> Option<[i32; 10]> {
        const MEMBERS: [(&str, &str); 10] = [
            ("task_struct", "thread_pid"),
            ("pid", "numbers"),
            ("upid", "ns"),
            ("pid_namespace", "idr"),
            ("idr", "idr_rt"),
            ("xarray", "xa_head"),
            ("xa_node", "shift"),
            ("xa_node", "slots"),
            ("pid", "tasks"),
            ("task_struct", "pid_links"),
        ];
        let mut found = [0; 10];
        for (off, (of, member)) in found.iter_mut().zip(MEMBERS) {
            *off = self.member_offset(of, member)? as i32;
        }
        Some(found)
    }
}

struct Walk {
    f: FunctionBuilder,
    slot: crate::ir::Slot,
}

impl Walk {
    /// Memory of the kernel, zero where there is none.
    fn read(&mut self, base: Value, off: i32, size: u8) -> Value {
        let f = &mut self.f;
        let (to, len, from) = (f.slot_addr(self.slot, 0), f.constant(size.into()), f.add(base, off));
        f.call(helpers::PROBE_READ_KERNEL, &[to, len, from]);
        f.load(size, self.slot, 0)
    }

    /// Goes on in `node` when the entry is one, else elsewhere with it.
    fn is_node(&mut self, entry: Value, node: Block, (elsewhere, with): (Block, Value)) {
        let mark = self.f.alu(AluOp::And, Width::W64, entry, 3);
        self.f.branch(Cond::Eq, Width::W64, mark, NODE, (node, &[]), (elsewhere, &[with]));
        self.f.switch_to(node);
    }
}
