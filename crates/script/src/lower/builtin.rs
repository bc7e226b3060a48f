//! Builtins: values of the current moment.

use skep_insn::{AluOp, Width, helpers};

use super::place::{Body, Place};
use crate::ir::Value;
use crate::plan::ParameterKind;
use crate::typed::{Builtin, NsecsClock};
use crate::types::Type;

impl Body<'_, '_> {
    /// A scalar builtin.
    pub(crate) fn builtin(&mut self, builtin: &Builtin) -> Value {
        match builtin {
            Builtin::Pid { init } => self.task_number(*init, true),
            Builtin::Tid { init } => self.task_number(*init, false),
            Builtin::Uid => {
                let both = self.f.call(helpers::GET_CURRENT_UID_GID, &[]);
                self.f.zero_extend(32, both)
            }
            Builtin::Gid => {
                let both = self.f.call(helpers::GET_CURRENT_UID_GID, &[]);
                self.f.alu(AluOp::Rsh, Width::W64, both, 32)
            }
            Builtin::Curtask => self.f.call(helpers::GET_CURRENT_TASK, &[]),
            Builtin::Cgroup => self.f.call(helpers::GET_CURRENT_CGROUP_ID, &[]),
            Builtin::Cpu => self.f.call(helpers::GET_SMP_PROCESSOR_ID, &[]),
            Builtin::Ncpus => {
                let cpus = self.unit.target.possible_cpus();
                self.number(i64::from(cpus))
            }
            Builtin::NumaNode => self.f.call(helpers::GET_NUMA_NODE_ID, &[]),
            Builtin::Usermode => self.user_mode(),
            Builtin::Rand => {
                let number = self.f.call(helpers::GET_PRANDOM_U32, &[]);
                self.f.zero_extend(32, number)
            }
            Builtin::Jiffies => self.f.call(helpers::JIFFIES64, &[]),
            Builtin::Nsecs(clock) => {
                let helper = match clock {
                    NsecsClock::Monotonic => helpers::KTIME_GET_NS,
                    NsecsClock::Boot => helpers::KTIME_GET_BOOT_NS,
                    NsecsClock::Tai | NsecsClock::SwTai => helpers::KTIME_GET_TAI_NS,
                };
                self.f.call(helper, &[])
            }
            Builtin::Elapsed => {
                let start = self.parameter(ParameterKind::StartTime);
                let now = self.f.call(helpers::KTIME_GET_BOOT_NS, &[]);
                self.f.alu(AluOp::Sub, Width::W64, now, start)
            }
            Builtin::Place => match self.place {
                Some(place) => self.number(i64::from(place)),
                None => {
                    let context = self.context();
                    self.cookie(context)
                }
            },
            Builtin::Func => self.function_address(),
            Builtin::ChildPid => self.parameter(ParameterKind::ChildPid),
            // In memory, see `builtin_into`.
            Builtin::Comm | Builtin::Stack => self.number(0),
        }
    }

    /// A builtin that lies in memory.
    pub(crate) fn builtin_into(&mut self, builtin: &Builtin, ty: &Type, to: Place) {
        match (builtin, ty) {
            (Builtin::Comm, _) => {
                // Kernels from 5.19 to 6.4 leave what stood behind the name (strscpy), others put zeroes there: as a key of a map the
                // same name must be the same bytes.
                self.zero(to, 0, ty.size());
                let (at, size) = (self.addr(to), self.number(i64::from(ty.size())));
                let result = self.f.call(helpers::GET_CURRENT_COMM, &[at, size]);
                self.check(result, helpers::GET_CURRENT_COMM, None, false);
            }
            (Builtin::Stack, Type::Stack(stack)) => self.stack_into(stack, to),
            (Builtin::Func, Type::Usym) => {
                let address = self.function_address();
                self.usym_into(address, to);
            }
            (builtin, ty) if ty.size() <= 8 => {
                let value = self.builtin(builtin);
                self.store(to, 0, ty.size(), value);
            }
            (_, ty) => self.zero(to, 0, ty.size()),
        }
    }

    /// An address of the current process, 16 bytes at `to`.
    pub(crate) fn usym_into(&mut self, address: Value, to: Place) {
        self.store(to, 0, 8, address);
        let process = self.task_number(false, true);
        self.store(to, 8, 8, process);
    }

    /// A number that user space fills in.
    pub(crate) fn parameter(&mut self, kind: ParameterKind) -> Value {
        let (map, off) = self.unit.parameter(kind);
        let at = self.f.map_value(map, off);
        self.f.load(8, at, 0)
    }

    /// Process or thread, in skep's pid namespace or the initial one.
    pub(crate) fn task_number(&mut self, init: bool, process: bool) -> Value {
        if init {
            return self.initial_task_number(process);
        }
        // Known when the program is loaded: the verifier removes the branch that is not taken.
        let dev = self.parameter(ParameterKind::PidNamespaceDev);
        let (namespaced, initial, join) = (self.f.block(0), self.f.block(0), self.f.block(1));
        self.f.branch_if(dev, namespaced, initial);
        self.f.switch_to(initial);
        let number = self.initial_task_number(process);
        self.f.jump(join, &[number]);
        self.f.switch_to(namespaced);
        let mark = self.mark();
        // struct bpf_pidns_info { u32 pid; u32 tgid; }, zero when the task is not in the namespace.
        let info = self.temporary(8);
        let ino = self.parameter(ParameterKind::PidNamespaceIno);
        let (at, size) = (self.addr(info), self.number(8));
        self.f.call(helpers::GET_NS_CURRENT_PID_TGID, &[dev, ino, at, size]);
        let number = self.load(info, if process { 4 } else { 0 }, 4);
        self.release(mark);
        self.f.jump(join, &[number]);
        self.f.switch_to(join);
        self.f.param(join, 0)
    }

    fn initial_task_number(&mut self, process: bool) -> Value {
        let both = self.f.call(helpers::GET_CURRENT_PID_TGID, &[]);
        if process { self.f.alu(AluOp::Rsh, Width::W64, both, 32) } else { self.f.zero_extend(32, both) }
    }
}
