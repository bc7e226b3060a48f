//! Why the kernel said `EPERM`, in words that lead somewhere.
//!
//! The kernel gives one number for a missing capability, for lockdown, for a switched-off feature and, before 5.11, for too
//! little locked memory. What this process holds and what the machine forbids is looked up when an error needs it.

use skep_engine::{Error, ErrorKind};
use skep_spec::ProgType;
use skep_sys::caps::{self, Cap, Caps, Lockdown};
use skep_sys::memlock;
use skep_sys::version::KernelVersion;

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// A map or types.
    Map,
    /// A program of this type.
    Program(ProgType),
}

/// What to do about an `EPERM`; `None` when nothing explains it.
pub(crate) fn hint(tried: Tried) -> Option<String> {
    let state = State {
        caps: Caps::effective(),
        version: KernelVersion::running(),
        lockdown: caps::lockdown(),
        unprivileged_disabled: caps::unprivileged_bpf_disabled(),
        first_namespace: caps::in_first_user_namespace(),
        memlock: if memlock::is_counted() { memlock::current() } else { None },
    };
    explain(tried, &state)
}

/// Says of an error that the rights are missing, and which.
pub(crate) fn explained(error: Error, tried: Tried) -> Error {
    let error = error.with_kind(ErrorKind::Denied);
    match hint(tried) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

struct State {
    caps: Caps,
    version: KernelVersion,
    lockdown: Option<Lockdown>,
    unprivileged_disabled: Option<u8>,
    first_namespace: bool,
    /// The limit in bytes, where the kernel counts and has one.
    memlock: Option<u64>,
}

/// Types whose programs see kernel memory: `CAP_PERFMON` (`bpf_prog_has_trampoline` and `is_perfmon_prog_type` in
/// kernel/bpf/syscall.c).
fn is_tracing(of: ProgType) -> bool {
    [
        ProgType::KPROBE,
        ProgType::TRACEPOINT,
        ProgType::PERF_EVENT,
        ProgType::RAW_TRACEPOINT,
        ProgType::RAW_TRACEPOINT_WRITABLE,
        ProgType::TRACING,
        ProgType::LSM,
        ProgType::STRUCT_OPS,
        ProgType::EXT,
    ]
    .contains(&of)
}

/// Types that may change traffic: `CAP_NET_ADMIN` (`is_net_admin_prog_type`).
fn is_network(of: ProgType) -> bool {
    [
        ProgType::SCHED_CLS,
        ProgType::SCHED_ACT,
        ProgType::XDP,
        ProgType::LWT_IN,
        ProgType::LWT_OUT,
        ProgType::LWT_XMIT,
        ProgType::LWT_SEG6LOCAL,
        ProgType::SK_SKB,
        ProgType::SK_MSG,
        ProgType::FLOW_DISSECTOR,
        ProgType::CGROUP_DEVICE,
        ProgType::CGROUP_SOCK,
        ProgType::CGROUP_SOCK_ADDR,
        ProgType::CGROUP_SOCKOPT,
        ProgType::CGROUP_SYSCTL,
        ProgType::SOCK_OPS,
        ProgType::EXT,
        ProgType::NETFILTER,
    ]
    .contains(&of)
}

fn explain(tried: Tried, state: &State) -> Option<String> {
    let all = state.caps.has(Cap::SYS_ADMIN);
    if !state.first_namespace {
        return Some(
            "BPF is not for user namespaces: run it outside of the container, or have a BPF token delegated to it (kernel 6.9)"
                .to_owned(),
        );
    }
    if state.version < KernelVersion::new(5, 8, 0) {
        if !all {
            return Some("this kernel wants CAP_SYS_ADMIN for BPF: run it with sudo".to_owned());
        }
    } else if !all {
        let mut missing = Vec::new();
        if !state.caps.has(Cap::BPF) {
            missing.push(Cap::BPF);
        }
        if let Tried::Program(of) = tried {
            if is_tracing(of) && !state.caps.has(Cap::PERFMON) {
                missing.push(Cap::PERFMON);
            }
            if is_network(of) && !state.caps.has(Cap::NET_ADMIN) {
                missing.push(Cap::NET_ADMIN);
            }
        }
        if !missing.is_empty() {
            let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
            let barred = match state.unprivileged_disabled {
                Some(1 | 2) => ", and kernel.unprivileged_bpf_disabled keeps others out",
                _ => "",
            };
            let verb = if names.len() == 1 { "is" } else { "are" };
            return Some(format!("{} {verb} missing{barred}: run it with sudo", names.join(" and ")));
        }
    }
    if let Some(limit) = state.memlock {
        return Some(format!(
            "this kernel counts BPF memory as locked memory, of which {} KiB are allowed: raise it with `ulimit -l unlimited`",
            limit / 1024
        ));
    }
    match (tried, state.lockdown) {
        (Tried::Program(of), Some(level @ (Lockdown::Integrity | Lockdown::Confidentiality))) if is_tracing(of) => {
            Some(format!(
                "no capability is missing, but kernel lockdown is `{level}`, under which this kernel may forbid programs of type \
                 {of}: choose another kind of probe (a tracepoint, say), or boot with `lockdown=none`"
            ))
        }
        (Tried::Program(of), _) if is_tracing(of) => Some(format!(
            "every capability is there: a security module or the kernel's build forbids programs of type {of}; choose another \
             kind of probe"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> State {
        State {
            caps: Caps(u64::MAX),
            version: KernelVersion::new(6, 1, 0),
            lockdown: Some(Lockdown::None),
            unprivileged_disabled: Some(2),
            first_namespace: true,
            memlock: None,
        }
    }

    #[test]
    fn the_missing_capability_is_named() {
        let nobody = State { caps: Caps(0), ..root() };
        let hint = explain(Tried::Program(ProgType::KPROBE), &nobody).unwrap();
        assert!(hint.starts_with("CAP_BPF and CAP_PERFMON are missing"), "{hint}");
        let hint = explain(Tried::Program(ProgType::XDP), &nobody).unwrap();
        assert!(hint.starts_with("CAP_BPF and CAP_NET_ADMIN are missing"), "{hint}");
        let only_bpf = State { caps: Caps(1 << Cap::BPF.0), ..root() };
        let hint = explain(Tried::Program(ProgType::TRACEPOINT), &only_bpf).unwrap();
        assert!(hint.starts_with("CAP_PERFMON is missing"), "{hint}");
        let old = State { caps: Caps(0), version: KernelVersion::new(5, 4, 0), ..root() };
        assert!(explain(Tried::Map, &old).unwrap().contains("CAP_SYS_ADMIN"));
    }

    #[test]
    fn root_is_told_about_lockdown_and_limits() {
        let locked = State { lockdown: Some(Lockdown::Integrity), ..root() };
        let hint = explain(Tried::Program(ProgType::TRACING), &locked).unwrap();
        assert!(hint.contains("lockdown is `integrity`"), "{hint}");
        let old = State { memlock: Some(65536), version: KernelVersion::new(5, 4, 0), ..root() };
        assert!(explain(Tried::Map, &old).unwrap().contains("64 KiB"));
        assert_eq!(explain(Tried::Map, &root()), None);
        let inside = State { first_namespace: false, ..root() };
        assert!(explain(Tried::Map, &inside).unwrap().contains("user namespaces"));
    }
}
