//! Leaving skep itself out, and others when asked.
//!
//! A program on `sys_enter_write` that prints makes skep write, which runs the program again: the run would feed itself. So
//! a few instructions are put in front of observing programs, which return at once for skep's own process. Doing it in the
//! kernel keeps counters and maps right too. With `-p PID` the same place lets only that process through.
//!
//! Some places run in interrupts, on top of whatever process happens to be there: networking, block completions, timers,
//! wake-ups. "The current process" means nothing at those, so nothing is put in front of them; skep does none of these
//! things in a way that could feed itself.
//!
//! In a process id namespace our own id is not the one that `bpf_get_current_pid_tgid` gives. There the prologue asks
//! `bpf_get_ns_current_pid_tgid` (kernel 5.7), which takes the namespace's device and inode.

use skep_insn::build::{add, alu, branch, call, exit, load, load_imm64, mov, slots};
use skep_insn::{AluOp, Cond, InsnIdx, RawInsn, Reg, Size, helpers};
use skep_spec::{AttachPoint, AttachType, ProgType, Program, Spec};

/// Whose events a program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Everyone's but this process's.
    Except(Process),
    /// This process's.
    Only(Process),
}

/// A process, as a program can recognise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Process id (thread group id) in its namespace.
    pub(crate) pid: u32,
    /// Device and inode of the process id namespace; `None` in the machine's first one.
    pub(crate) namespace: Option<(u64, u64)>,
}

/// Inode of the first process id namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h, 6.18).
const INIT_PID_NAMESPACE: u64 = 0xefff_fffc;

impl Process {
    /// A process of our own namespace.
    pub(crate) fn in_our_namespace(pid: u32) -> Process {
        use std::os::unix::fs::MetadataExt;
        let namespace = std::fs::metadata("/proc/self/ns/pid").ok().map(|meta| (meta.dev(), meta.ino()));
        Process { pid, namespace: namespace.filter(|(_, inode)| *inode != INIT_PID_NAMESPACE) }
    }
}

/// Puts the check in front of every program of `spec` that observes processes.
///
/// Gives back the names of the programs that could not take it (a jump too long): those see everyone.
pub(crate) fn apply(spec: &mut Spec, whose: Whose) -> Vec<String> {
    let prologue = prologue(whose);
    let mut missed = Vec::new();
    let programs: Vec<_> = spec.programs.iter().filter(|program| takes_filter(program)).cloned().collect();
    let mut done = Vec::new();
    for program in programs {
        // Two programs may share an entry function.
        if done.contains(&program.entry) {
            continue;
        }
        done.push(program.entry);
        if spec.insert(program.entry, InsnIdx(0), &prologue, &[]).is_err() {
            missed.push(program.name);
        }
    }
    missed
}

/// Whether returning 0 early changes nothing but what the program itself sees, and whether the current process is the one
/// that the event is about.
pub(crate) fn takes_filter(program: &Program) -> bool {
    observes(program) && !runs_in_interrupts(&program.attach)
}

/// Whether returning 0 early changes nothing but what the program itself sees.
pub(crate) fn observes(program: &Program) -> bool {
    match program.prog_type {
        ProgType::KPROBE | ProgType::TRACEPOINT | ProgType::RAW_TRACEPOINT | ProgType::PERF_EVENT => true,
        ProgType::TRACING => matches!(
            program.attach_type,
            Some(AttachType::TRACE_RAW_TP | AttachType::TRACE_FENTRY | AttachType::TRACE_FEXIT)
        ),
        _ => false,
    }
}

fn runs_in_interrupts(attach: &AttachPoint) -> bool {
    const EVENTS: &[&str] = &[
        "sched_switch",
        "sched_wakeup",
        "sched_waking",
        "sched_stat",
        "sched_migrate",
        "timer_",
        "hrtimer_",
        "irq_",
        "softirq_",
        "tasklet_",
        "net_",
        "netif_",
        "napi_",
        "tcp_",
        "udp_",
        "sock_",
        "inet_",
        "kfree_skb",
        "consume_skb",
        "skb_",
        "block_",
        "bio_",
        "qdisc_",
        "fib_",
        "neigh_",
        "rcu_",
        "workqueue_",
        "ipi_",
        "power_",
        "cpu_",
    ];
    const FUNCTIONS: &[&str] = &[
        "tcp_",
        "udp_",
        "ip_",
        "ip6_",
        "ipv6_",
        "inet_",
        "sock_",
        "sk_",
        "skb_",
        "__skb",
        "kfree_skb",
        "__kfree_skb",
        "consume_skb",
        "net_",
        "netif_",
        "__netif",
        "napi_",
        "dev_",
        "__dev_",
        "nf_",
        "br_",
        "icmp",
        "neigh_",
        "arp_",
        "timer",
        "hrtimer",
        "irq",
        "__irq",
        "softirq",
        "blk_",
        "__blk",
        "bio_",
        "block_",
        "scsi_",
        "nvme_",
        "complete",
        "try_to_wake_up",
        "ttwu",
        "wake_up",
        "__wake_up",
        "rcu_",
        "perf_",
    ];
    let any = |prefixes: &[&str], name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match attach {
        AttachPoint::Tracepoint { category, name } => category != "syscalls" && any(EVENTS, name),
        AttachPoint::RawTracepoint { name } | AttachPoint::BtfTracepoint { name } => any(EVENTS, name),
        AttachPoint::Kprobe { function, .. } | AttachPoint::Function { function, .. } => any(FUNCTIONS, function),
        AttachPoint::KprobeMulti { pattern, .. } | AttachPoint::FunctionMulti { pattern } => any(FUNCTIONS, pattern),
        _ => false,
    }
}

/// `if (the current process is ours) return 0;`, or the opposite. Registers are as at entry afterwards: r1 holds the
/// context, and no other is defined in an entry function.
fn prologue(whose: Whose) -> Vec<RawInsn> {
    let (process, stay) = match whose {
        Whose::Except(process) => (process, Cond::Ne),
        Whose::Only(process) => (process, Cond::Eq),
    };
    let mut code = vec![mov(Reg::R6, Reg::R1)];
    match process.namespace {
        None => code.extend([call(helpers::GET_CURRENT_PID_TGID), alu(AluOp::Rsh, Reg::R0, 32)]),
        Some((device, inode)) => code.extend([
            load_imm64(Reg::R1, device),
            load_imm64(Reg::R2, inode),
            mov(Reg::R3, Reg::FP),
            add(Reg::R3, -8),
            mov(Reg::R4, 8),
            // The helper fills `struct bpf_pidns_info { u32 pid, tgid }`, with zeros for a process outside the namespace.
            call(helpers::GET_NS_CURRENT_PID_TGID),
            load(Size::W, Reg::R0, Reg::FP, -4),
        ]),
    }
    // Over `r0 = 0; exit` when the process is to be seen.
    code.extend([branch(stay, Reg::R0, process.pid as i32, 2), mov(Reg::R0, 0), exit(), mov(Reg::R1, Reg::R6)]);
    slots(&code)
}
