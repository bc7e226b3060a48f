//! Options that none of the programs takes: said, since who gives one expects it to do something.

use skep_engine::XdpMode;
use skep_spec::{AttachPoint, AttachType, MapType, ProgId, ProgType, Program, Spec};

use crate::leave_out;
use crate::options::Options;
use crate::plan::Plan;

/// One option: whether it was given, its flag, the programs it is for, and whether one of them is there.
struct Choice {
    given: bool,
    flag: &'static str,
    programs: &'static str,
    takes: fn(&Program) -> bool,
}

/// What to say about options that did nothing.
pub(crate) fn messages(spec: &Spec, plan: &Plan, options: &Options) -> Vec<String> {
    let ids = plan.jobs.iter().flat_map(|job| &job.alternatives).chain(&plan.iterators);
    let programs: Vec<&Program> = ids.map(|id: &ProgId| spec.program(*id)).collect();
    let mut messages = Vec::new();
    for Choice { given, flag, programs: kind, takes } in choices(options) {
        if given && !programs.iter().any(|program| takes(program)) {
            messages.push(format!("`{flag}` does nothing here: it is for {kind}, and the object has none"));
        }
    }
    if options.load.perf_buffer_bytes != 0 && !spec.maps.iter().any(|map| map.map_type == MapType::PERF_EVENT_ARRAY) {
        messages.push("`--perf-buffer` does nothing here: the object has no perf event array".to_owned());
    }
    if options.attach.pid.is_some() && programs.iter().any(|program| takes_process(program)) {
        let others = programs.iter().filter(|program| leave_out::observes(program) && !takes_process(program));
        messages.extend(others.map(|program| {
            format!("`--pid` does not limit `{}` ({}): it runs on top of any process", program.name, program.section)
        }));
    }
    messages
}

fn choices(options: &Options) -> [Choice; 12] {
    let attach = &options.attach;
    let choice = |given, flag, programs, takes| Choice { given, flag, programs, takes };
    [
        choice(attach.interface.is_some(), "--iface", "xdp, tc, netkit and socket programs", takes_interface),
        choice(attach.xdp_mode != XdpMode::Auto, "--xdp-mode", "xdp programs", |it| it.attach == AttachPoint::Xdp),
        choice(attach.binary.is_some(), "--bin", "uprobes and USDT probes", takes_binary),
        choice(attach.pid.is_some(), "--pid", "programs that observe processes", takes_process),
        choice(attach.cgroup.is_some(), "--cgroup", "cgroup programs", takes_cgroup),
        choice(attach.receiver.is_some(), "--receiver", "lirc_mode2 programs", |it| it.attach == AttachPoint::Lirc),
        choice(attach.net_namespace.is_some(), "--netns", "programs of networks", takes_net_namespace),
        choice(attach.sample_hz != 0, "--hz", "perf_event programs", |it| it.attach == AttachPoint::PerfEvent),
        choice(attach.netfilter.is_some(), "--hook", "netfilter programs", |it| it.attach == AttachPoint::Netfilter),
        choice(attach.priority != 0, "--priority", "netfilter and tc programs", |it| {
            matches!(it.attach, AttachPoint::Netfilter | AttachPoint::Tc { .. })
        }),
        choice(attach.map.is_some(), "--map", "sk_skb and sk_msg programs and iterators of maps", |it| {
            match &it.attach {
                AttachPoint::SockMap => true,
                AttachPoint::Iter { target } => {
                    matches!(target.as_str(), "bpf_map_elem" | "bpf_sk_storage_map" | "sockmap")
                }
                _ => false,
            }
        }),
        choice(options.load.replace.is_some(), "--replace-in", "freplace programs", |it| {
            matches!(it.attach, AttachPoint::Freplace { .. })
        }),
    ]
}

fn takes_interface(program: &Program) -> bool {
    match program.attach {
        AttachPoint::Xdp | AttachPoint::Tc { .. } | AttachPoint::Netkit => true,
        AttachPoint::Socket => program.prog_type == ProgType::SOCKET_FILTER,
        _ => false,
    }
}

fn takes_net_namespace(program: &Program) -> bool {
    takes_interface(program) || matches!(program.attach, AttachPoint::NetNamespace | AttachPoint::Netfilter)
}

fn takes_binary(program: &Program) -> bool {
    matches!(program.attach, AttachPoint::Uprobe { .. } | AttachPoint::UprobeMulti { .. } | AttachPoint::Usdt { .. })
}

fn takes_process(program: &Program) -> bool {
    match &program.attach {
        AttachPoint::Iter { target } => target.starts_with("task"),
        _ => leave_out::takes_filter(program),
    }
}

fn takes_cgroup(program: &Program) -> bool {
    match &program.attach {
        AttachPoint::Cgroup => true,
        AttachPoint::Lsm { .. } => program.attach_type == Some(AttachType::LSM_CGROUP),
        AttachPoint::Iter { target } => target == "cgroup",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use skep_engine::AttachOptions;
    use skep_spec::FuncId;
    use skep_spec::section::SectionTable;

    use super::*;
    use crate::plan::plan;

    fn said(sections: &[&str], attach: AttachOptions) -> Vec<String> {
        let program = |section: &&str| {
            let meaning = SectionTable::new().lookup(section);
            let program = Program::new("it", FuncId(0), section, meaning.prog_type);
            Program { attach: meaning.attach, attach_type: meaning.attach_type, ..program }
        };
        let spec = Spec { programs: sections.iter().map(program).collect(), ..Spec::new("x") };
        messages(&spec, &plan(&spec), &Options { attach, ..Options::default() })
    }

    #[test]
    fn an_option_that_no_program_takes_is_named() {
        let given = AttachOptions {
            cgroup: Some("/sys/fs/cgroup".into()),
            interface: Some("eth9".to_owned()),
            ..AttachOptions::default()
        };
        let both = said(&["tp/syscalls/sys_enter_write"], given.clone());
        assert_eq!(both.len(), 2, "{both:?}");
        assert_eq!(both[1], "`--cgroup` does nothing here: it is for cgroup programs, and the object has none");
        assert_eq!(said(&["xdp", "cgroup_skb/egress"], given), [""; 0]);
    }

    #[test]
    fn programs_that_a_process_does_not_limit_are_named() {
        let pid = || AttachOptions { pid: Some(1), ..AttachOptions::default() };
        assert_eq!(said(&["tp/syscalls/sys_enter_write", "uprobe//bin/sh:main", "iter/task"], pid()), [""; 0]);
        let some = said(&["tp/syscalls/sys_enter_write", "tp/sched/sched_switch"], pid());
        assert_eq!(some, ["`--pid` does not limit `it` (tp/sched/sched_switch): it runs on top of any process"]);
        assert!(said(&["xdp"], pid())[0].starts_with("`--pid` does nothing here"));
    }
}
