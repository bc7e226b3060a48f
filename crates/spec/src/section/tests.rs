use super::*;
use crate::program::MultiWhen;

fn look(name: &str) -> SectionMeaning {
    SectionTable::new().lookup(name)
}

/// `type attach_type flags place ! warning`, short enough to read a table of them.
fn say(name: &str) -> String {
    let it = look(name);
    let mut text = format!("{}", it.prog_type);
    if let Some(attach) = it.attach_type {
        text += &format!(" {attach}{}", if it.attach_type_required { "" } else { "?" });
    }
    if it.flags != 0 {
        text += &format!(" flags={}", it.flags);
    }
    if it.attach != AttachPoint::None {
        text += &format!(" {:?}", it.attach);
    }
    if let Some((message, hint)) = it.warning {
        text += &format!(" ! {message}; {}", hint.unwrap_or_default());
    }
    text
}

#[test]
fn libbpf_has_116_rows_and_so_do_we() {
    assert_eq!(BUILTIN.len(), 116);
}

#[test]
fn every_row_is_reached_by_its_own_name() {
    for row in BUILTIN {
        let it = look(stem(&row.pattern));
        assert_eq!(
            (it.prog_type, it.attach_type, it.flags),
            (row.prog_type, row.attach_type, row.flags),
            "{}",
            row.pattern
        );
        assert_eq!(it.warning, None, "{}", row.pattern);
    }
}

#[test]
fn places_are_read_by_kind() {
    let cases = [
        ("tp/syscalls/sys_enter_write", r#"tracepoint Tracepoint { category: "syscalls", name: "sys_enter_write" }"#),
        ("raw_tp.w/nbd_send_request", r#"raw_tracepoint_writable RawTracepoint { name: "nbd_send_request" }"#),
        ("kprobe/vfs_read+0x10", r#"kprobe Kprobe { function: "vfs_read", off_bytes: 16, ret: false }"#),
        ("kretprobe/do_unlinkat", r#"kprobe Kprobe { function: "do_unlinkat", off_bytes: 0, ret: true }"#),
        ("kprobe", r#"kprobe Kprobe { function: "", off_bytes: 0, ret: false }"#),
        (
            "uprobe//usr/lib/libc.so.6:malloc@GLIBC_2.2.5+4",
            r#"kprobe Uprobe { path: "/usr/lib/libc.so.6", function: "malloc@GLIBC_2.2.5", off_bytes: 4, ret: false }"#,
        ),
        (
            "uretprobe/libc.so.6:malloc",
            r#"kprobe Uprobe { path: "libc.so.6", function: "malloc", off_bytes: 0, ret: true }"#,
        ),
        ("uprobe/SSL_write", r#"kprobe Uprobe { path: "", function: "SSL_write", off_bytes: 0, ret: false }"#),
        ("uprobe//bin/bash", r#"kprobe Uprobe { path: "/bin/bash", function: "", off_bytes: 0, ret: false }"#),
        (
            "uprobe//bin/bash:0x1000",
            r#"kprobe Uprobe { path: "/bin/bash", function: "", off_bytes: 4096, ret: false }"#,
        ),
        (
            "uprobe//a.apk!/lib/x.so:f",
            r#"kprobe Uprobe { path: "/a.apk!/lib/x.so", function: "f", off_bytes: 0, ret: false }"#,
        ),
        (
            "usdt.s/libc.so.6:libc:memory_malloc_retry",
            r#"kprobe flags=16 Usdt { path: "libc.so.6", provider: "libc", name: "memory_malloc_retry" }"#,
        ),
        (
            "fentry.s/xfs:xfs_free",
            r#"tracing trace_fentry flags=16 Function { module: Some("xfs"), function: "xfs_free" }"#,
        ),
        ("lsm_cgroup/socket_bind", r#"lsm lsm_cgroup Lsm { hook: "socket_bind" }"#),
        ("xdp", "xdp xdp? Xdp"),
        ("xdp.frags/cpumap", "xdp xdp_cpumap flags=32"),
        ("tc/egress", "sched_cls tcx_egress Tc { direction: Some(Egress) }"),
        ("cgroup/connect_unix", "cgroup_sock_addr cgroup_unix_connect Cgroup"),
        ("cgroup_skb/ingress", "cgroup_skb cgroup_inet_ingress? Cgroup"),
        ("fentry.multi/tcp_*", r#"tracing trace_fentry_multi FunctionMulti { pattern: "tcp_*" }"#),
    ];
    for (name, expect) in cases {
        assert_eq!(say(name), expect, "{name}");
    }
    assert_eq!(
        look("uprobe.session.s//bin/x:a*").attach,
        AttachPoint::UprobeMulti { path: "/bin/x".into(), pattern: "a*".into(), when: MultiWhen::Session }
    );
}

#[test]
fn loose_names_are_taken_with_a_warning() {
    let cases = [
        ("xdp_prog", "xdp xdp? Xdp ! section name is taken loosely, as `xdp`; write SEC(\"xdp\")"),
        (
            "action/egress",
            "sched_act Tc { direction: Some(Egress) } ! section name is taken loosely, as `action`; write SEC(\"tc/egress\")",
        ),
        (
            "classifier/from-netdev",
            "sched_cls Tc { direction: None } ! section name is taken loosely, as `classifier`; write SEC(\"classifier\")",
        ),
        ("socket1", "socket_filter Socket ! section name is taken loosely, as `socket`; write SEC(\"socket\")"),
        ("sk_skb/prog1", "sk_skb SockMap ! section name is taken loosely, as `sk_skb`; write SEC(\"sk_skb\")"),
    ];
    for (name, expect) in cases {
        assert_eq!(say(name), expect, "{name}");
    }
}

#[test]
fn half_a_name_gives_the_type() {
    assert_eq!(
        say("cgroup_skb"),
        "cgroup_skb Cgroup ! section name does not say where it attaches; \
         write SEC(\"cgroup_skb/ingress\") or SEC(\"cgroup_skb/egress\")"
    );
    assert_eq!(look("tcx").attach, AttachPoint::Tc { direction: None });
    assert_eq!(look("cgroup").prog_type, ProgType::UNSPEC);
}

#[test]
fn an_unknown_name_gets_the_nearest_one() {
    let cases = [
        (
            "kporbe/vfs_read",
            "unspec ! section name `kporbe/vfs_read` says no program type; did you mean SEC(\"kprobe/vfs_read\")?",
        ),
        ("xdpp", "unspec ! section name `xdpp` says no program type; did you mean SEC(\"xdp\")?"),
        ("2/1", "unspec ! section name `2/1` says no program type; "),
    ];
    for (name, expect) in cases {
        assert_eq!(say(name), expect, "{name}");
    }
}

#[test]
fn a_tracepoint_without_category_says_what_to_write() {
    assert_eq!(
        say("tp/sys_enter_execve"),
        "tracepoint Tracepoint { category: \"\", name: \"sys_enter_execve\" } ! tracepoint `sys_enter_execve` has no category; \
         write SEC(\"tp/syscalls/sys_enter_execve\")"
    );
}

#[test]
fn own_rows_come_first() {
    let mut table = SectionTable::new();
    table.define(SectionDef {
        pattern: "xdp".into(),
        prog_type: ProgType::SYSCALL,
        attach_type: None,
        attach_type_required: false,
        flags: 0,
        place: Place::None,
    });
    assert_eq!(table.lookup("xdp").prog_type, ProgType::SYSCALL);
}
