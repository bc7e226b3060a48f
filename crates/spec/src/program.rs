//! Programs: functions that the kernel can enter, and where they attach.

use crate::FuncId;

/// Position in [`Spec::programs`](crate::Spec::programs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgId(pub u32);

/// A program as the object declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Function name.
    pub name: String,
    /// The function that the kernel enters.
    pub entry: FuncId,
    /// Section as written, without a leading `?`.
    pub section: String,
    /// Program type; [`ProgType::UNSPEC`] when the section is unknown.
    pub prog_type: ProgType,
    /// `expected_attach_type` of the load; `None` where the section defines none.
    pub attach_type: Option<AttachType>,
    /// The kernel wants to see [`Program::attach_type`] at load, and old kernels without it refuse the program
    /// (libbpf's `SEC_EXP_ATTACH_OPT` inverted).
    pub attach_type_required: bool,
    /// `prog_flags` of the load (`BPF_F_SLEEPABLE`, `BPF_F_XDP_HAS_FRAGS` ...).
    pub flags: u32,
    /// Where it attaches, as far as the section says.
    pub attach: AttachPoint,
    /// Loaded with the object; off for `SEC("?...")`.
    pub autoload: bool,
}

impl Program {
    /// A program that no file declared, and whose section says nothing about where it attaches.
    pub fn new(name: &str, entry: FuncId, section: &str, prog_type: ProgType) -> Program {
        Program {
            name: name.to_owned(),
            entry,
            section: section.to_owned(),
            prog_type,
            attach_type: None,
            attach_type_required: false,
            flags: 0,
            attach: AttachPoint::None,
            autoload: true,
        }
    }
}

macro_rules! kernel_enum {
    ($(#[$doc:meta])* $type:ident, $prefix:literal, $($name:ident = $value:literal, $text:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub u32);

        impl $type {
            $(#[doc = concat!("`", $prefix, stringify!($name), "`")] pub const $name: $type = $type($value);)*

            /// Every value that this build knows, in the kernel's order.
            pub const ALL: &'static [$type] = &[$($type::$name),*];

            /// The name that bpftool prints; `None` for a number that this build does not know.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::fmt::Display for $type {
            /// The kernel's word, or `type 99` for an unknown number.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "type {}", self.0),
                }
            }
        }
    };
}

kernel_enum! {
    /// `enum bpf_prog_type` (include/uapi/linux/bpf.h, 6.18); a number that we do not know stays representable.
    ProgType, "BPF_PROG_TYPE_",
    UNSPEC = 0, "unspec";
    SOCKET_FILTER = 1, "socket_filter";
    KPROBE = 2, "kprobe";
    SCHED_CLS = 3, "sched_cls";
    SCHED_ACT = 4, "sched_act";
    TRACEPOINT = 5, "tracepoint";
    XDP = 6, "xdp";
    PERF_EVENT = 7, "perf_event";
    CGROUP_SKB = 8, "cgroup_skb";
    CGROUP_SOCK = 9, "cgroup_sock";
    LWT_IN = 10, "lwt_in";
    LWT_OUT = 11, "lwt_out";
    LWT_XMIT = 12, "lwt_xmit";
    SOCK_OPS = 13, "sock_ops";
    SK_SKB = 14, "sk_skb";
    CGROUP_DEVICE = 15, "cgroup_device";
    SK_MSG = 16, "sk_msg";
    RAW_TRACEPOINT = 17, "raw_tracepoint";
    CGROUP_SOCK_ADDR = 18, "cgroup_sock_addr";
    LWT_SEG6LOCAL = 19, "lwt_seg6local";
    LIRC_MODE2 = 20, "lirc_mode2";
    SK_REUSEPORT = 21, "sk_reuseport";
    FLOW_DISSECTOR = 22, "flow_dissector";
    CGROUP_SYSCTL = 23, "cgroup_sysctl";
    RAW_TRACEPOINT_WRITABLE = 24, "raw_tracepoint_writable";
    CGROUP_SOCKOPT = 25, "cgroup_sockopt";
    TRACING = 26, "tracing";
    STRUCT_OPS = 27, "struct_ops";
    EXT = 28, "ext";
    LSM = 29, "lsm";
    SK_LOOKUP = 30, "sk_lookup";
    SYSCALL = 31, "syscall";
    NETFILTER = 32, "netfilter";
}

kernel_enum! {
    /// `enum bpf_attach_type` (include/uapi/linux/bpf.h, 6.18); a number that we do not know stays representable.
    AttachType, "BPF_",
    CGROUP_INET_INGRESS = 0, "cgroup_inet_ingress";
    CGROUP_INET_EGRESS = 1, "cgroup_inet_egress";
    CGROUP_INET_SOCK_CREATE = 2, "cgroup_inet_sock_create";
    CGROUP_SOCK_OPS = 3, "cgroup_sock_ops";
    SK_SKB_STREAM_PARSER = 4, "sk_skb_stream_parser";
    SK_SKB_STREAM_VERDICT = 5, "sk_skb_stream_verdict";
    CGROUP_DEVICE = 6, "cgroup_device";
    SK_MSG_VERDICT = 7, "sk_msg_verdict";
    CGROUP_INET4_BIND = 8, "cgroup_inet4_bind";
    CGROUP_INET6_BIND = 9, "cgroup_inet6_bind";
    CGROUP_INET4_CONNECT = 10, "cgroup_inet4_connect";
    CGROUP_INET6_CONNECT = 11, "cgroup_inet6_connect";
    CGROUP_INET4_POST_BIND = 12, "cgroup_inet4_post_bind";
    CGROUP_INET6_POST_BIND = 13, "cgroup_inet6_post_bind";
    CGROUP_UDP4_SENDMSG = 14, "cgroup_udp4_sendmsg";
    CGROUP_UDP6_SENDMSG = 15, "cgroup_udp6_sendmsg";
    LIRC_MODE2 = 16, "lirc_mode2";
    FLOW_DISSECTOR = 17, "flow_dissector";
    CGROUP_SYSCTL = 18, "cgroup_sysctl";
    CGROUP_UDP4_RECVMSG = 19, "cgroup_udp4_recvmsg";
    CGROUP_UDP6_RECVMSG = 20, "cgroup_udp6_recvmsg";
    CGROUP_GETSOCKOPT = 21, "cgroup_getsockopt";
    CGROUP_SETSOCKOPT = 22, "cgroup_setsockopt";
    TRACE_RAW_TP = 23, "trace_raw_tp";
    TRACE_FENTRY = 24, "trace_fentry";
    TRACE_FEXIT = 25, "trace_fexit";
    MODIFY_RETURN = 26, "modify_return";
    LSM_MAC = 27, "lsm_mac";
    TRACE_ITER = 28, "trace_iter";
    CGROUP_INET4_GETPEERNAME = 29, "cgroup_inet4_getpeername";
    CGROUP_INET6_GETPEERNAME = 30, "cgroup_inet6_getpeername";
    CGROUP_INET4_GETSOCKNAME = 31, "cgroup_inet4_getsockname";
    CGROUP_INET6_GETSOCKNAME = 32, "cgroup_inet6_getsockname";
    XDP_DEVMAP = 33, "xdp_devmap";
    CGROUP_INET_SOCK_RELEASE = 34, "cgroup_inet_sock_release";
    XDP_CPUMAP = 35, "xdp_cpumap";
    SK_LOOKUP = 36, "sk_lookup";
    XDP = 37, "xdp";
    SK_SKB_VERDICT = 38, "sk_skb_verdict";
    SK_REUSEPORT_SELECT = 39, "sk_reuseport_select";
    SK_REUSEPORT_SELECT_OR_MIGRATE = 40, "sk_reuseport_select_or_migrate";
    PERF_EVENT = 41, "perf_event";
    TRACE_KPROBE_MULTI = 42, "trace_kprobe_multi";
    LSM_CGROUP = 43, "lsm_cgroup";
    STRUCT_OPS = 44, "struct_ops";
    NETFILTER = 45, "netfilter";
    TCX_INGRESS = 46, "tcx_ingress";
    TCX_EGRESS = 47, "tcx_egress";
    TRACE_UPROBE_MULTI = 48, "trace_uprobe_multi";
    CGROUP_UNIX_CONNECT = 49, "cgroup_unix_connect";
    CGROUP_UNIX_SENDMSG = 50, "cgroup_unix_sendmsg";
    CGROUP_UNIX_RECVMSG = 51, "cgroup_unix_recvmsg";
    CGROUP_UNIX_GETPEERNAME = 52, "cgroup_unix_getpeername";
    CGROUP_UNIX_GETSOCKNAME = 53, "cgroup_unix_getsockname";
    NETKIT_PRIMARY = 54, "netkit_primary";
    NETKIT_PEER = 55, "netkit_peer";
    TRACE_KPROBE_SESSION = 56, "trace_kprobe_session";
    TRACE_UPROBE_SESSION = 57, "trace_uprobe_session";
    TRACE_FSESSION = 58, "trace_fsession";
    TRACE_FENTRY_MULTI = 59, "trace_fentry_multi";
    TRACE_FEXIT_MULTI = 60, "trace_fexit_multi";
    TRACE_FSESSION_MULTI = 61, "trace_fsession_multi";
}

/// Where a program attaches, as far as its section says. What the section leaves open (interface, process, cgroup)
/// comes from the caller at attach time; so does every text that the section left empty, such as the function of a bare
/// `SEC("kprobe")`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachPoint {
    /// The section names no place, or none that can be reached without the caller: see [`Program::attach_type`].
    None,
    /// `tp/category/name`.
    Tracepoint {
        /// Category, such as `syscalls`.
        category: String,
        /// Event, such as `sys_enter_write`.
        name: String,
    },
    /// `raw_tp/name`.
    RawTracepoint {
        /// Event, such as `sched_switch`.
        name: String,
    },
    /// `tp_btf/name`.
    BtfTracepoint {
        /// Event, such as `sched_switch`.
        name: String,
    },
    /// `kprobe/func+off`, `kretprobe/func`.
    Kprobe {
        /// Kernel function.
        function: String,
        /// Offset into it, in bytes.
        off_bytes: u64,
        /// On return.
        ret: bool,
    },
    /// `kprobe.multi/glob` and relatives (kernel 5.18; session 6.10).
    KprobeMulti {
        /// Glob of kernel functions.
        pattern: String,
        /// On entry, on return, or both.
        when: MultiWhen,
    },
    /// `ksyscall/name`: the architecture's wrapper of a system call.
    Ksyscall {
        /// System call, such as `execve`.
        name: String,
        /// On return.
        ret: bool,
    },
    /// `uprobe/path:func@ver+off`; `uprobe/func` leaves the binary to the caller.
    Uprobe {
        /// Binary or library, as written; empty when the section names none.
        path: String,
        /// Function, with `@version` if written; empty when only an offset is given.
        function: String,
        /// Offset into the function, or into the file when there is no function, in bytes.
        off_bytes: u64,
        /// On return.
        ret: bool,
    },
    /// `uprobe.multi/path:pattern` (kernel 6.6; session 6.13).
    UprobeMulti {
        /// Binary or library, as written.
        path: String,
        /// Glob of functions.
        pattern: String,
        /// On entry, on return, or both.
        when: MultiWhen,
    },
    /// `usdt/path:provider:name`.
    Usdt {
        /// Binary or library, as written.
        path: String,
        /// Provider.
        provider: String,
        /// Probe.
        name: String,
    },
    /// `fentry/func`, `fexit/func`, `fmod_ret/func`, `fsession/func`, with an optional `module:` before it.
    Function {
        /// Kernel module, when written.
        module: Option<String>,
        /// Kernel function.
        function: String,
    },
    /// `fentry.multi/pattern` and relatives.
    FunctionMulti {
        /// Glob of kernel functions.
        pattern: String,
    },
    /// `lsm/hook`, `lsm_cgroup/hook`.
    Lsm {
        /// Hook without the `bpf_lsm_` prefix.
        hook: String,
    },
    /// `iter/target`.
    Iter {
        /// Target, such as `task`.
        target: String,
    },
    /// `freplace/func`: a function of another BPF program, which the caller names.
    Freplace {
        /// Function to replace.
        function: String,
    },
    /// A member of a struct_ops map.
    StructOps,
    /// `xdp`: an interface named by the caller.
    Xdp,
    /// `tc`, `classifier`, `action`, `tc/ingress`, `tcx/egress`, `action/egress`: an interface named by the caller.
    Tc {
        /// Direction when the section tells.
        direction: Option<Direction>,
    },
    /// `netkit/primary`, `netkit/peer`: an interface named by the caller; which side is in [`Program::attach_type`].
    Netkit,
    /// `cgroup*/...`: a cgroup named by the caller; the hook is in [`Program::attach_type`].
    Cgroup,
    /// `perf_event`: an event named by the caller.
    PerfEvent,
    /// `sk_lookup`, `flow_dissector`: a network namespace; the hook is in [`Program::attach_type`].
    NetNamespace,
    /// `netfilter`: a hook named by the caller.
    Netfilter,
    /// `socket`: a socket of the caller.
    Socket,
    /// `sk_skb*`, `sk_msg`: a socket map of the caller.
    SockMap,
    /// `lirc_mode2`: an infrared receiver named by the caller.
    Lirc,
    /// A place of a user's own section definition ([`Place::Custom`](crate::section::Place::Custom)), which only that
    /// user's engine understands.
    Custom {
        /// What that definition makes of the section.
        place: String,
    },
}

/// When a multi-attached probe runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultiWhen {
    /// On entry.
    Entry,
    /// On return.
    Return,
    /// On both, sharing a session cookie.
    Session,
}

/// Direction of traffic at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Coming in.
    Ingress,
    /// Going out.
    Egress,
}
