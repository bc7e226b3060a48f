//! What the other helpers would need: told when a program that calls one is refused.

use skep_insn::helpers;

/// What a helper needs that is not to be had here.
pub(crate) fn needs(id: u32) -> &'static str {
    let name = helpers::name(id).unwrap_or_default();
    let name = name.strip_prefix("bpf_").unwrap_or(name);
    RULES.iter().find(|(pattern, _)| matches(pattern, name)).map_or(KERNEL, |(_, needs)| needs)
}

const KERNEL: &str = "the kernel's structures";
const PACKET: &str = "a packet inside of the kernel, as programs at its functions get one; `bpf_perf_event_output` takes that of the program";
const TUNNEL: &str = "a tunnel of the kernel, which keeps its key beside the packet: packets of a file, of a cable and of a test run came through none";
const SOCKET: &str = "a socket of the kernel";
const NETWORK: &str = "the kernel's network stack";
const CGROUP: &str = "the kernel's control groups";
const COUNTERS: &str = "a hardware counter that the kernel reads";
const STORAGE: &str = "storage that the kernel ties to its objects";
const FUNCTION: &str = "a traced function of the kernel, whose arguments and result `fentry` and `fexit` programs get";
const REGISTERS: &str = "registers that the kernel saved";
const SEQ: &str = "a file of an iterator of the kernel";
const VARIABLES: &str = "a per-CPU variable of the kernel; `bpf_map_lookup_percpu_elem` reads that of a map";
const SYSCALLS: &str = "the right to make bpf() system calls from a program";

/// The first that fits counts; `*` at an end stands for anything.
const RULES: &[(&str, &str)] = &[
    ("*branch*", COUNTERS),
    ("perf_event_read*", COUNTERS),
    ("perf_prog_read_value", COUNTERS),
    ("*_storage_*", STORAGE),
    ("get_local_storage", STORAGE),
    ("*cgroup*", CGROUP),
    ("get_func_*", FUNCTION),
    ("task_pt_regs", REGISTERS),
    ("override_return", REGISTERS),
    ("get_retval", REGISTERS),
    ("set_retval", REGISTERS),
    ("seq_*", SEQ),
    ("sys_*", SYSCALLS),
    ("btf_find_by_name_kind", SYSCALLS),
    ("kallsyms_lookup_name", "the addresses of the kernel's functions"),
    (
        "send_signal_thread",
        "a signal to one thread, which the kernel alone sends; `bpf_send_signal` sends one to its process",
    ),
    ("*per_cpu_ptr", VARIABLES),
    ("this_cpu_ptr", VARIABLES),
    ("snprintf_btf", "the kernel's types, and one of its structures to show; `bpf_snprintf` shows numbers and texts"),
    ("find_vma", "the kernel's list of a task's memory"),
    ("kptr_xchg", "objects of the kernel to keep in maps"),
    ("bprm_opts_set", "an exec that the kernel is working on"),
    ("ima_*", "hashes of files that the kernel took"),
    ("d_path", "a file that the kernel has open"),
    ("*_tunnel_key", TUNNEL),
    ("*_tunnel_opt", TUNNEL),
    ("skb_get_xfrm_state", "the kernel's IPsec, which decrypted the packet"),
    (
        "skb_ecn_set_ce",
        "a queue of the kernel, in which packets wait and programs of control groups mark that there are many",
    ),
    ("skb_set_tstamp", "a queue of the kernel, which sends packets at their times"),
    ("xdp_output", PACKET),
    ("skb_output", PACKET),
    ("*redirect*", NETWORK),
    ("fib_lookup", NETWORK),
    ("check_mtu", NETWORK),
    ("lwt_*", NETWORK),
    ("*netns*", NETWORK),
    ("get_route_realm", NETWORK),
    ("*sock*", SOCKET),
    ("sk_*", SOCKET),
    ("skc_*", SOCKET),
    ("*tcp_*", SOCKET),
    ("*hdr_opt", SOCKET),
    ("msg_*", SOCKET),
    ("bind", SOCKET),
    ("rc_*", "a remote control of the kernel"),
    ("sysctl_*", "a file of /proc/sys that is being used"),
];

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('*')),
        (None, None) => pattern == name,
    }
}
