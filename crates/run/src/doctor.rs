//! What this machine can do, found out by doing it.
//!
//! For each kind of attachment a program of two instructions (`r0 = 0; exit`) is loaded, attached where hardly anything ever
//! happens, and detached. Kinds that need a place of the user's (an interface, a cgroup) are only loaded. Nothing is read
//! from a table of kernel versions: what the kernel answers is the truth, whatever was ported back or locked down.

use skep_engine::{AttachOptions, Engine, Error, ErrorKind, LoadOptions};
use skep_insn::Reg;
use skep_insn::build::{exit, mov, slots};
use skep_spec::{AttachPoint, AttachType, FuncId, Function, ProgId, ProgType, Program, Spec, Target};
use skep_sys::caps::{self, Cap, Caps, Lockdown};
use skep_sys::kconfig::Kconfig;
use skep_sys::version;

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Kernel release and machine, such as `6.18.44 x86_64`.
    pub kernel: String,
    /// Size of the kernel's BTF, in bytes; `None` when it has none.
    pub btf_bytes: Option<usize>,
    /// `none`, `integrity`, `confidentiality`; `None` when the kernel has no lockdown.
    pub lockdown: Option<&'static str>,
    /// The compiler, such as `clang 19.1.7`, or why there is none.
    pub clang: Result<String, String>,
    /// Capabilities that BPF needs and that this process lacks.
    pub missing_caps: Vec<&'static str>,
    /// Kinds of programs.
    pub kinds: Vec<Finding>,
}

/// Whether one kind of program works.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Word for it in `SEC()`.
    pub name: &'static str,
    /// `Ok` with `true` when it was attached too, `false` when only loaded; `Err` with the reason.
    pub result: Result<bool, String>,
    /// What to do about it.
    pub hint: Option<&'static str>,
    /// The rights are missing, or something forbids it: whether the machine has it is not known.
    pub denied: bool,
}

/// A kind of program and how to try it.
struct Kind {
    name: &'static str,
    prog_type: ProgType,
    attach_type: Option<AttachType>,
    attach: AttachPoint,
    /// Attached, too: nothing of the user's is needed for it.
    try_attach: bool,
    /// Kernel configuration without which it cannot work.
    config: Option<&'static str>,
    hint: Option<&'static str>,
}

/// A function that every kernel has and no running one calls.
const QUIET_FUNCTION: &str = "kernel_restart";

fn kinds(own_binary: String) -> Vec<Kind> {
    let kind = |name, prog_type, attach_type, attach, try_attach, config, hint| Kind {
        name,
        prog_type,
        attach_type,
        attach,
        try_attach,
        config,
        hint,
    };
    let function = || AttachPoint::Function { module: None, function: QUIET_FUNCTION.into() };
    let kprobe = || AttachPoint::Kprobe { function: QUIET_FUNCTION.into(), off_bytes: 0, ret: false };
    let uprobe = AttachPoint::Uprobe { path: own_binary, function: String::new(), off_bytes: 0, ret: false };
    vec![
        kind(
            "tracepoint",
            ProgType::TRACEPOINT,
            None,
            AttachPoint::Tracepoint { category: "oom".into(), name: "mark_victim".into() },
            true,
            None,
            None,
        ),
        kind(
            "raw_tp",
            ProgType::RAW_TRACEPOINT,
            None,
            AttachPoint::RawTracepoint { name: "mark_victim".into() },
            true,
            None,
            None,
        ),
        kind(
            "tp_btf",
            ProgType::TRACING,
            Some(AttachType::TRACE_RAW_TP),
            AttachPoint::BtfTracepoint { name: "mark_victim".into() },
            true,
            Some("CONFIG_DEBUG_INFO_BTF"),
            Some("use raw_tp or tracepoint"),
        ),
        kind(
            "kprobe",
            ProgType::KPROBE,
            None,
            kprobe(),
            true,
            Some("CONFIG_KPROBES"),
            Some("use a tracepoint: `skep run` takes tp/..., raw_tp/... and tp_btf/..."),
        ),
        kind(
            "fentry",
            ProgType::TRACING,
            Some(AttachType::TRACE_FENTRY),
            function(),
            true,
            Some("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"),
            Some("use kprobe or tp_btf"),
        ),
        kind(
            "lsm",
            ProgType::LSM,
            Some(AttachType::LSM_MAC),
            AttachPoint::Lsm { hook: "quotactl".into() },
            true,
            Some("CONFIG_BPF_LSM"),
            Some("boot with `lsm=...,bpf`"),
        ),
        kind("uprobe", ProgType::KPROBE, None, uprobe, false, Some("CONFIG_UPROBE_EVENTS"), None),
        kind("perf_event", ProgType::PERF_EVENT, None, AttachPoint::PerfEvent, true, None, None),
        kind(
            "iter",
            ProgType::TRACING,
            Some(AttachType::TRACE_ITER),
            AttachPoint::Iter { target: "bpf_map".into() },
            true,
            None,
            None,
        ),
        kind("xdp", ProgType::XDP, Some(AttachType::XDP), AttachPoint::Xdp, false, None, None),
        kind(
            "tc",
            ProgType::SCHED_CLS,
            None,
            AttachPoint::Tc { direction: None },
            false,
            Some("CONFIG_NET_CLS_BPF"),
            None,
        ),
        kind(
            "tcx",
            ProgType::SCHED_CLS,
            Some(AttachType::TCX_INGRESS),
            AttachPoint::Tc { direction: None },
            false,
            None,
            Some("needs kernel 6.6; skep falls back to tc"),
        ),
        kind(
            "cgroup",
            ProgType::CGROUP_SKB,
            Some(AttachType::CGROUP_INET_EGRESS),
            AttachPoint::Cgroup,
            false,
            Some("CONFIG_CGROUP_BPF"),
            None,
        ),
        kind(
            "sk_lookup",
            ProgType::SK_LOOKUP,
            Some(AttachType::SK_LOOKUP),
            AttachPoint::NetNamespace,
            false,
            None,
            None,
        ),
        kind("netfilter", ProgType::NETFILTER, Some(AttachType::NETFILTER), AttachPoint::Netfilter, false, None, None),
        kind("socket", ProgType::SOCKET_FILTER, None, AttachPoint::Socket, false, None, None),
    ]
}

/// Looks at everything. Takes some tenths of a second, since the kernel waits for its CPUs when probes go.
pub fn examine(engine: &dyn Engine, target: &dyn Target) -> Report {
    let config = Kconfig::read().ok();
    let own_binary = std::env::current_exe().map_or_else(|_| "/bin/sh".into(), |path| path.display().to_string());
    let kinds = kinds(own_binary).into_iter().map(|kind| try_kind(engine, &kind, config.as_ref())).collect();
    let effective = Caps::effective();
    let wanted = [
        ("CAP_BPF", Cap::BPF),
        ("CAP_PERFMON", Cap::PERFMON),
        ("CAP_NET_ADMIN", Cap::NET_ADMIN),
        ("CAP_SYS_ADMIN", Cap::SYS_ADMIN),
    ];
    Report {
        kernel: format!("{} {}", version::release(), version::machine()),
        btf_bytes: target.btf().ok().flatten().map(|btf| btf.as_bytes().len()),
        lockdown: caps::lockdown().map(|level| match level {
            Lockdown::None => "none",
            Lockdown::Integrity => "integrity",
            Lockdown::Confidentiality => "confidentiality",
        }),
        clang: clang(),
        missing_caps: wanted.iter().filter(|(_, cap)| !effective.has(*cap)).map(|(name, _)| *name).collect(),
        kinds,
    }
}

fn clang() -> Result<String, String> {
    let clang = skep_clang::Clang::find().map_err(|error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })?;
    Ok(format!("{} {}", clang.compiler().command(), clang.compiler().version()))
}

fn try_kind(engine: &dyn Engine, kind: &Kind, config: Option<&Kconfig>) -> Finding {
    match attempt(engine, kind) {
        Ok(attached) => Finding { name: kind.name, result: Ok(attached), hint: None, denied: false },
        Err(error) => explain(kind, &error, config),
    }
}

/// The reason of a failure, and what to do about it: the kind's own hint only when the machine lacks the kind, and the
/// error's where the rights are missing.
fn explain(kind: &Kind, error: &Error, config: Option<&Kconfig>) -> Finding {
    let lacks = |reason| Finding { name: kind.name, result: Err(reason), hint: kind.hint, denied: false };
    match (kind.config, config) {
        // Whatever the kernel answers to somebody without rights.
        (Some(name), Some(config)) if !config.enabled(name) => lacks(format!("{name} is not set")),
        _ if error.kind() == ErrorKind::Denied => {
            let reason = match error.hint() {
                Some(hint) => format!("{error}: {hint}"),
                None => error.to_string(),
            };
            Finding { name: kind.name, result: Err(reason), hint: None, denied: true }
        }
        _ => lacks(error.to_string()),
    }
}

fn attempt(engine: &dyn Engine, kind: &Kind) -> Result<bool, Error> {
    let session = engine.load(two_instructions(kind), &LoadOptions::default())?;
    if let Some(loaded) = session.programs().first()
        && let Err(error) = &loaded.result
    {
        return Err(error.clone());
    }
    if kind.try_attach {
        session.attach(ProgId(0), &AttachOptions::default())?;
    }
    Ok(kind.try_attach)
}

fn two_instructions(kind: &Kind) -> Spec {
    let verdict = i32::from(matches!(kind.name, "netfilter" | "sk_lookup"));
    let insns = slots(&[mov(Reg::R0, verdict), exit()]);
    let function = Function::new("doctor", kind.name, insns);
    let program = Program {
        attach_type: kind.attach_type,
        attach_type_required: kind.attach_type.is_some(),
        attach: kind.attach.clone(),
        ..Program::new("doctor", FuncId(0), kind.name, kind.prog_type)
    };
    Spec { license: Some("GPL".into()), functions: vec![function], programs: vec![program], ..Spec::new("doctor") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_was_denied_is_not_called_missing() {
        let kinds = kinds(String::new());
        let tcx = kinds.iter().find(|kind| kind.name == "tcx").unwrap();
        let denied = Error::new("no").with_kind(ErrorKind::Denied).with_hint("run it with sudo");
        let found = explain(tcx, &denied, None);
        assert_eq!((found.result, found.hint, found.denied), (Err("no: run it with sudo".to_owned()), None, true));
        let found = explain(tcx, &Error::new("no"), None);
        assert_eq!((found.result, found.hint, found.denied), (Err("no".to_owned()), tcx.hint, false));
    }
}
