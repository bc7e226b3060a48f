//! The built-in rows, in libbpf's order: more special names stand before those that they begin with.

use std::borrow::Cow;

use super::{BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS, Place, SectionDef};
use crate::program::{AttachType, Direction, MultiWhen, ProgType};

/// A row: pattern, program type, attach type, place, then what is unusual about it.
macro_rules! rows {
    ($($pattern:literal, $prog:ident, $($attach:ident)?, $place:expr $(=> $flags:expr)? $(, $optional:ident)?;)*) => {
        &[$(SectionDef {
            pattern: Cow::Borrowed($pattern),
            prog_type: ProgType::$prog,
            attach_type: rows!(@attach $($attach)?),
            attach_type_required: rows!(@required $($attach)? ; $($optional)?),
            flags: 0 $(| $flags)?,
            place: $place,
        }),*]
    };
    (@attach $attach:ident) => { Some(AttachType::$attach) };
    (@attach) => { None };
    (@required $attach:ident ; optional) => { false };
    (@required $attach:ident ; ) => { true };
    (@required ; ) => { false };
}

/// libbpf's table (`section_defs`, src/libbpf.c, 1.8). `optional` marks rows whose attach type old kernels may miss
/// (`SEC_EXP_ATTACH_OPT`).
#[rustfmt::skip]
pub const BUILTIN: &[SectionDef] = rows! {
    "socket", SOCKET_FILTER, , Place::Socket;
    "sk_reuseport/migrate", SK_REUSEPORT, SK_REUSEPORT_SELECT_OR_MIGRATE, Place::Socket;
    "sk_reuseport", SK_REUSEPORT, SK_REUSEPORT_SELECT, Place::Socket;
    "kprobe+", KPROBE, , Place::Kprobe { ret: false };
    "uprobe+", KPROBE, , Place::Uprobe { ret: false };
    "uprobe.s+", KPROBE, , Place::Uprobe { ret: false } => BPF_F_SLEEPABLE;
    "kretprobe+", KPROBE, , Place::Kprobe { ret: true };
    "uretprobe+", KPROBE, , Place::Uprobe { ret: true };
    "uretprobe.s+", KPROBE, , Place::Uprobe { ret: true } => BPF_F_SLEEPABLE;
    "kprobe.multi+", KPROBE, TRACE_KPROBE_MULTI, Place::KprobeMulti(MultiWhen::Entry);
    "kretprobe.multi+", KPROBE, TRACE_KPROBE_MULTI, Place::KprobeMulti(MultiWhen::Return);
    "kprobe.session+", KPROBE, TRACE_KPROBE_SESSION, Place::KprobeMulti(MultiWhen::Session);
    "uprobe.multi+", KPROBE, TRACE_UPROBE_MULTI, Place::UprobeMulti(MultiWhen::Entry);
    "uretprobe.multi+", KPROBE, TRACE_UPROBE_MULTI, Place::UprobeMulti(MultiWhen::Return);
    "uprobe.session+", KPROBE, TRACE_UPROBE_SESSION, Place::UprobeMulti(MultiWhen::Session);
    "uprobe.multi.s+", KPROBE, TRACE_UPROBE_MULTI, Place::UprobeMulti(MultiWhen::Entry) => BPF_F_SLEEPABLE;
    "uretprobe.multi.s+", KPROBE, TRACE_UPROBE_MULTI, Place::UprobeMulti(MultiWhen::Return) => BPF_F_SLEEPABLE;
    "uprobe.session.s+", KPROBE, TRACE_UPROBE_SESSION, Place::UprobeMulti(MultiWhen::Session) => BPF_F_SLEEPABLE;
    "ksyscall+", KPROBE, , Place::Ksyscall { ret: false };
    "kretsyscall+", KPROBE, , Place::Ksyscall { ret: true };
    "usdt+", KPROBE, , Place::Usdt;
    "usdt.s+", KPROBE, , Place::Usdt => BPF_F_SLEEPABLE;
    "tc/ingress", SCHED_CLS, TCX_INGRESS, Place::Tc(Some(Direction::Ingress));
    "tc/egress", SCHED_CLS, TCX_EGRESS, Place::Tc(Some(Direction::Egress));
    "tcx/ingress", SCHED_CLS, TCX_INGRESS, Place::Tc(Some(Direction::Ingress));
    "tcx/egress", SCHED_CLS, TCX_EGRESS, Place::Tc(Some(Direction::Egress));
    "tc", SCHED_CLS, , Place::Tc(None);
    "classifier", SCHED_CLS, , Place::Tc(None);
    "action", SCHED_ACT, , Place::Tc(None);
    "netkit/primary", SCHED_CLS, NETKIT_PRIMARY, Place::Netkit;
    "netkit/peer", SCHED_CLS, NETKIT_PEER, Place::Netkit;
    "tracepoint+", TRACEPOINT, , Place::Tracepoint;
    "tracepoint.s+", TRACEPOINT, , Place::Tracepoint => BPF_F_SLEEPABLE;
    "tp+", TRACEPOINT, , Place::Tracepoint;
    "tp.s+", TRACEPOINT, , Place::Tracepoint => BPF_F_SLEEPABLE;
    "raw_tracepoint+", RAW_TRACEPOINT, , Place::RawTracepoint;
    "raw_tracepoint.s+", RAW_TRACEPOINT, , Place::RawTracepoint => BPF_F_SLEEPABLE;
    "raw_tracepoint.w+", RAW_TRACEPOINT_WRITABLE, , Place::RawTracepoint;
    "raw_tp+", RAW_TRACEPOINT, , Place::RawTracepoint;
    "raw_tp.s+", RAW_TRACEPOINT, , Place::RawTracepoint => BPF_F_SLEEPABLE;
    "raw_tp.w+", RAW_TRACEPOINT_WRITABLE, , Place::RawTracepoint;
    "tp_btf+", TRACING, TRACE_RAW_TP, Place::BtfTracepoint;
    "fentry+", TRACING, TRACE_FENTRY, Place::Function;
    "fmod_ret+", TRACING, MODIFY_RETURN, Place::Function;
    "fexit+", TRACING, TRACE_FEXIT, Place::Function;
    "fsession+", TRACING, TRACE_FSESSION, Place::Function;
    "fentry.multi+", TRACING, TRACE_FENTRY_MULTI, Place::FunctionMulti;
    "fexit.multi+", TRACING, TRACE_FEXIT_MULTI, Place::FunctionMulti;
    "fsession.multi+", TRACING, TRACE_FSESSION_MULTI, Place::FunctionMulti;
    "tp_btf.s+", TRACING, TRACE_RAW_TP, Place::BtfTracepoint => BPF_F_SLEEPABLE;
    "fentry.s+", TRACING, TRACE_FENTRY, Place::Function => BPF_F_SLEEPABLE;
    "fmod_ret.s+", TRACING, MODIFY_RETURN, Place::Function => BPF_F_SLEEPABLE;
    "fexit.s+", TRACING, TRACE_FEXIT, Place::Function => BPF_F_SLEEPABLE;
    "fsession.s+", TRACING, TRACE_FSESSION, Place::Function => BPF_F_SLEEPABLE;
    "fentry.multi.s+", TRACING, TRACE_FENTRY_MULTI, Place::FunctionMulti => BPF_F_SLEEPABLE;
    "fexit.multi.s+", TRACING, TRACE_FEXIT_MULTI, Place::FunctionMulti => BPF_F_SLEEPABLE;
    "fsession.multi.s+", TRACING, TRACE_FSESSION_MULTI, Place::FunctionMulti => BPF_F_SLEEPABLE;
    "freplace+", EXT, , Place::Freplace;
    "lsm+", LSM, LSM_MAC, Place::Lsm;
    "lsm.s+", LSM, LSM_MAC, Place::Lsm => BPF_F_SLEEPABLE;
    "lsm_cgroup+", LSM, LSM_CGROUP, Place::Lsm;
    "iter+", TRACING, TRACE_ITER, Place::Iter;
    "iter.s+", TRACING, TRACE_ITER, Place::Iter => BPF_F_SLEEPABLE;
    "syscall", SYSCALL, , Place::None => BPF_F_SLEEPABLE;
    "xdp.frags/devmap", XDP, XDP_DEVMAP, Place::None => BPF_F_XDP_HAS_FRAGS;
    "xdp/devmap", XDP, XDP_DEVMAP, Place::None;
    "xdp.frags/cpumap", XDP, XDP_CPUMAP, Place::None => BPF_F_XDP_HAS_FRAGS;
    "xdp/cpumap", XDP, XDP_CPUMAP, Place::None;
    "xdp.frags", XDP, XDP, Place::Xdp => BPF_F_XDP_HAS_FRAGS;
    "xdp", XDP, XDP, Place::Xdp, optional;
    "perf_event", PERF_EVENT, , Place::PerfEvent;
    "lwt_in", LWT_IN, , Place::None;
    "lwt_out", LWT_OUT, , Place::None;
    "lwt_xmit", LWT_XMIT, , Place::None;
    "lwt_seg6local", LWT_SEG6LOCAL, , Place::None;
    "sockops", SOCK_OPS, CGROUP_SOCK_OPS, Place::Cgroup, optional;
    "sk_skb/stream_parser", SK_SKB, SK_SKB_STREAM_PARSER, Place::SockMap, optional;
    "sk_skb/stream_verdict", SK_SKB, SK_SKB_STREAM_VERDICT, Place::SockMap, optional;
    "sk_skb/verdict", SK_SKB, SK_SKB_VERDICT, Place::SockMap, optional;
    "sk_skb", SK_SKB, , Place::SockMap;
    "sk_msg", SK_MSG, SK_MSG_VERDICT, Place::SockMap, optional;
    "lirc_mode2", LIRC_MODE2, LIRC_MODE2, Place::Lirc, optional;
    "flow_dissector", FLOW_DISSECTOR, FLOW_DISSECTOR, Place::NetNamespace, optional;
    "cgroup_skb/ingress", CGROUP_SKB, CGROUP_INET_INGRESS, Place::Cgroup, optional;
    "cgroup_skb/egress", CGROUP_SKB, CGROUP_INET_EGRESS, Place::Cgroup, optional;
    "cgroup/skb", CGROUP_SKB, , Place::Cgroup;
    "cgroup/sock_create", CGROUP_SOCK, CGROUP_INET_SOCK_CREATE, Place::Cgroup;
    "cgroup/sock_release", CGROUP_SOCK, CGROUP_INET_SOCK_RELEASE, Place::Cgroup;
    "cgroup/sock", CGROUP_SOCK, CGROUP_INET_SOCK_CREATE, Place::Cgroup, optional;
    "cgroup/post_bind4", CGROUP_SOCK, CGROUP_INET4_POST_BIND, Place::Cgroup;
    "cgroup/post_bind6", CGROUP_SOCK, CGROUP_INET6_POST_BIND, Place::Cgroup;
    "cgroup/bind4", CGROUP_SOCK_ADDR, CGROUP_INET4_BIND, Place::Cgroup;
    "cgroup/bind6", CGROUP_SOCK_ADDR, CGROUP_INET6_BIND, Place::Cgroup;
    "cgroup/connect4", CGROUP_SOCK_ADDR, CGROUP_INET4_CONNECT, Place::Cgroup;
    "cgroup/connect6", CGROUP_SOCK_ADDR, CGROUP_INET6_CONNECT, Place::Cgroup;
    "cgroup/connect_unix", CGROUP_SOCK_ADDR, CGROUP_UNIX_CONNECT, Place::Cgroup;
    "cgroup/sendmsg4", CGROUP_SOCK_ADDR, CGROUP_UDP4_SENDMSG, Place::Cgroup;
    "cgroup/sendmsg6", CGROUP_SOCK_ADDR, CGROUP_UDP6_SENDMSG, Place::Cgroup;
    "cgroup/sendmsg_unix", CGROUP_SOCK_ADDR, CGROUP_UNIX_SENDMSG, Place::Cgroup;
    "cgroup/recvmsg4", CGROUP_SOCK_ADDR, CGROUP_UDP4_RECVMSG, Place::Cgroup;
    "cgroup/recvmsg6", CGROUP_SOCK_ADDR, CGROUP_UDP6_RECVMSG, Place::Cgroup;
    "cgroup/recvmsg_unix", CGROUP_SOCK_ADDR, CGROUP_UNIX_RECVMSG, Place::Cgroup;
    "cgroup/getpeername4", CGROUP_SOCK_ADDR, CGROUP_INET4_GETPEERNAME, Place::Cgroup;
    "cgroup/getpeername6", CGROUP_SOCK_ADDR, CGROUP_INET6_GETPEERNAME, Place::Cgroup;
    "cgroup/getpeername_unix", CGROUP_SOCK_ADDR, CGROUP_UNIX_GETPEERNAME, Place::Cgroup;
    "cgroup/getsockname4", CGROUP_SOCK_ADDR, CGROUP_INET4_GETSOCKNAME, Place::Cgroup;
    "cgroup/getsockname6", CGROUP_SOCK_ADDR, CGROUP_INET6_GETSOCKNAME, Place::Cgroup;
    "cgroup/getsockname_unix", CGROUP_SOCK_ADDR, CGROUP_UNIX_GETSOCKNAME, Place::Cgroup;
    "cgroup/sysctl", CGROUP_SYSCTL, CGROUP_SYSCTL, Place::Cgroup;
    "cgroup/getsockopt", CGROUP_SOCKOPT, CGROUP_GETSOCKOPT, Place::Cgroup;
    "cgroup/setsockopt", CGROUP_SOCKOPT, CGROUP_SETSOCKOPT, Place::Cgroup;
    "cgroup/dev", CGROUP_DEVICE, CGROUP_DEVICE, Place::Cgroup, optional;
    "struct_ops+", STRUCT_OPS, , Place::StructOps;
    "struct_ops.s+", STRUCT_OPS, , Place::StructOps => BPF_F_SLEEPABLE;
    "sk_lookup", SK_LOOKUP, SK_LOOKUP, Place::NetNamespace;
    "netfilter", NETFILTER, NETFILTER, Place::Netfilter;
};
