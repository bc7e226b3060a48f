//! What the other helpers would need: told when a program that calls one is refused.

use skep_insn::helpers;

/// What a helper needs that is not to be had here.
pub(crate) fn needs(id: u32) -> &'static str {
    let name = helpers::name(id).unwrap_or_default();
    let name = name.strip_prefix("bpf_").unwrap_or(name);
    RULES.iter().find(|(pattern, _)| matches(pattern, name)).map_or(KERNEL, |(_, needs)| needs)
}

const KERNEL: &str = "the kernel's structures";
const PACKET: &str = "a packet of the kernel (`struct sk_buff`)";
const SOCKET: &str = "a socket of the kernel";
const NETWORK: &str = "the kernel's network stack";
const CGROUP: &str = "the kernel's control groups";
const COUNTERS: &str = "a hardware counter that the kernel reads";
const STORAGE: &str = "storage that the kernel ties to its objects";
const REGISTERS: &str = "registers that the kernel saved";
const SEQ: &str = "a file of an iterator of the kernel";
const VARIABLES: &str = "a variable of the kernel";
const SYSCALLS: &str = "the right to make bpf() system calls from a program";

/// The first that fits counts; `*` at an end stands for anything.
const RULES: &[(&str, &str)] = &[
    ("*branch*", COUNTERS),
    ("perf_event_read*", COUNTERS),
    ("perf_prog_read_value", COUNTERS),
    ("*_storage_*", STORAGE),
    ("get_local_storage", STORAGE),
    ("*cgroup*", CGROUP),
    ("get_func_*", REGISTERS),
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
    ("snprintf_btf", "a structure of the kernel to show"),
    ("find_vma", "the kernel's list of a task's memory"),
    ("kptr_xchg", "objects of the kernel to keep in maps"),
    ("bprm_opts_set", "an exec that the kernel is working on"),
    ("ima_*", "hashes of files that the kernel took"),
    ("d_path", "a file that the kernel has open"),
    ("xdp_*", PACKET),
    ("*skb*", PACKET),
    ("l3_csum_replace", PACKET),
    ("l4_csum_replace", PACKET),
    ("csum_*", PACKET),
    ("*redirect*", NETWORK),
    ("fib_lookup", NETWORK),
    ("check_mtu", NETWORK),
    ("lwt_*", NETWORK),
    ("*netns*", NETWORK),
    ("get_route_realm", NETWORK),
    ("*set_hash*", PACKET),
    ("get_hash_recalc", PACKET),
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
