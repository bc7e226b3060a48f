//! Attachments.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::{Error, ErrorKind};

/// An attached program. Dropping it detaches, unless it was pinned.
pub trait Link: Send {
    /// Where it is attached, for people: `tracepoint syscalls:sys_enter_write`, `xdp veth0 (native)`.
    fn describe(&self) -> String;

    /// Detaches now and says whether that worked.
    fn detach(self: Box<Self>) -> Result<(), Error>;

    /// Its descriptors, when the kernel makes whoever closes the last of them wait (a perf tracepoint: 50 to 140 ms for an RCU
    /// grace period) and closing is all that detaching takes. A process in a hurry leaves them to another. Empty for
    /// every other attachment.
    fn slow_to_close(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Lets it outlive the process under `path`, in a bpffs.
    ///
    /// # Errors
    ///
    /// When this kind of attachment cannot be pinned (it has no kernel link), or the path is not in a bpffs.
    fn pin(&mut self, path: &std::path::Path) -> Result<(), Error>;

    /// Takes away the names that were given to it, or by which it was found, in a bpffs. It stays attached until it is dropped.
    ///
    /// # Errors
    ///
    /// When a file cannot be removed.
    fn unpin(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Puts another loaded program in place, without a moment in which there is none. `program` is its descriptor.
    ///
    /// # Errors
    ///
    /// When this kind of attachment cannot be updated: XDP, tc, cgroup, network namespace, netkit and iterator links can.
    fn update(&self, program: BorrowedFd<'_>) -> Result<(), Error> {
        let _ = program;
        Err(Error::new(format!("the program at {} cannot be replaced", self.describe()))
            .with_kind(ErrorKind::Unsupported))
    }

    /// As [`Link::update`], only if `old` is the program that is there now.
    ///
    /// # Errors
    ///
    /// As [`Link::update`], and when another one is there (`EPERM`).
    fn exchange(&self, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<(), Error> {
        let _ = (old, new);
        Err(Error::new(format!("the program at {} cannot be replaced", self.describe()))
            .with_kind(ErrorKind::Unsupported))
    }

    /// The descriptors of its links in the kernel, one for each place; empty where it has none.
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// What a person should know about it though it is attached, such as a probe's argument that cannot be read.
    fn notes(&self) -> &[String] {
        &[]
    }
}

impl std::fmt::Debug for dyn Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.describe()).finish()
    }
}

/// What a section leaves open about an attachment. Each attach point uses what it needs and ignores the rest.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// What a bare section (`SEC("kprobe")`) leaves out: a function, a pattern, `CATEGORY:NAME`, `PROVIDER:NAME`. Sections
    /// whose place the kernel wants to know at load (`fentry`, `lsm`, `tp_btf`, `iter`) are completed before, by
    /// [`Program::attach_to`](skep_spec::Program::attach_to).
    pub target: Option<String>,
    /// Network interface, by name.
    pub interface: Option<String>,
    /// XDP mode.
    pub xdp_mode: XdpMode,
    /// Direction at a tc hook whose section does not say; `None` means ingress.
    pub tc_direction: Option<TcDirection>,
    /// Binary or library for uprobes and USDT, in place of the section's.
    pub binary: Option<PathBuf>,
    /// Only this process (uprobes, USDT, perf events, iterators).
    pub pid: Option<u32>,
    /// Folder of a cgroup v2.
    pub cgroup: Option<PathBuf>,
    /// Path of a network namespace; `None` means our own.
    pub net_namespace: Option<PathBuf>,
    /// Infrared receiver of a lirc_mode2 program, such as `/dev/lirc0`.
    pub receiver: Option<PathBuf>,
    /// Value that the program reads with `bpf_get_attach_cookie` (kernel 5.15).
    pub cookie: u64,
    /// Sampling frequency of perf events, in hertz; 0 means 99.
    pub sample_hz: u64,
    /// What a perf event program samples; `None` means the CPU's clock, at `sample_hz`.
    pub perf: Option<PerfEvent>,
    /// Offset in the binary of a uprobe whose section names no function, in bytes.
    pub off_bytes: Option<u64>,
    /// The places of a `kprobe.multi` or `uprobe.multi` program, each with its own cookie, in place of a pattern: one link for
    /// all of them.
    pub places: Vec<Spot>,
    /// Hook of a netfilter program; `None` means IPv4 packets for this machine (kernel 6.4).
    pub netfilter: Option<NetfilterHook>,
    /// Place of a netfilter program among the others at its hook, or of a tc filter where there is no tcx (before kernel
    /// 6.6): lower numbers run first. 0 leaves the choice to the engine.
    pub priority: i32,
    /// Place among the programs at the same tcx or netkit hook (kernel 6.6), or at the same cgroup (6.16).
    pub position: Position,
    /// Name of the object's map whose sockets an sk_skb or sk_msg program is for, or that an iterator walks; `None` means
    /// the only one of the right type.
    pub map: Option<String>,
}

impl AttachOptions {
    /// What a perf event program samples.
    pub fn sampled(&self) -> PerfEvent {
        let clock = PerfEvent::default();
        let rate = if self.sample_hz == 0 { clock.rate } else { SampleRate::Hz(self.sample_hz) };
        self.perf.unwrap_or(PerfEvent { rate, ..clock })
    }
}

/// A place in the list of programs at a hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// Behind those that are there.
    #[default]
    Last,
    /// Before those that are there.
    First,
    /// Before the program of this id.
    Before(u32),
    /// Behind the program of this id.
    After(u32),
    /// Before the program that the link of this id holds.
    BeforeLink(u32),
    /// Behind the program that the link of this id holds.
    AfterLink(u32),
}

/// One of several places that one link reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// A function.
    pub function: String,
    /// Offset in the binary, in bytes, in place of the function (uprobes only).
    pub off_bytes: Option<u64>,
    /// Value that the program reads with `bpf_get_attach_cookie`.
    pub cookie: u64,
}

/// What a perf event program samples (`struct perf_event_attr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PerfEvent {
    /// `PERF_TYPE_` number.
    pub kind: u32,
    /// `config` of that type; the address of a watchpoint (`PERF_TYPE_BREAKPOINT`).
    pub config: u64,
    /// How often.
    pub rate: SampleRate,
    /// On one CPU only, as a timer wants it, and not on each.
    pub one_cpu: bool,
    /// Of a watchpoint.
    pub watch: Option<Watch>,
}

impl Default for PerfEvent {
    /// The CPU's clock (`PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_CPU_CLOCK`), 99 times a second: not 100, so as not to run in step
    /// with what is measured.
    fn default() -> PerfEvent {
        PerfEvent { kind: 1, config: 0, rate: SampleRate::Hz(99), one_cpu: false, watch: None }
    }
}

/// What a watchpoint watches, at the address that [`PerfEvent::config`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watch {
    /// How much memory, in bytes: 1, 2, 4 or 8.
    pub len_bytes: u64,
    /// `HW_BREAKPOINT_` bits: 1 read, 2 write, 4 execute.
    pub access: u32,
}

/// How often a perf event samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleRate {
    /// So many times a second.
    Hz(u64),
    /// Once in so many events (for a clock: nanoseconds).
    Every(u64),
}

/// A hook of the packet filter (`include/uapi/linux/netfilter.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetfilterHook {
    /// Whose packets.
    pub family: NetfilterFamily,
    /// Where on their way.
    pub hook: NetfilterStage,
}

/// Protocol of the packets at a netfilter hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetfilterFamily {
    /// `NFPROTO_IPV4`.
    #[default]
    Ipv4,
    /// `NFPROTO_IPV6`.
    Ipv6,
}

/// Where on its way a packet meets a netfilter hook. The names are those of `nft`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetfilterStage {
    /// `NF_INET_PRE_ROUTING`: every packet that comes in.
    Prerouting,
    /// `NF_INET_LOCAL_IN`: for this machine.
    #[default]
    Input,
    /// `NF_INET_FORWARD`: passing through.
    Forward,
    /// `NF_INET_LOCAL_OUT`: from this machine.
    Output,
    /// `NF_INET_POST_ROUTING`: every packet that goes out.
    Postrouting,
}

/// How an XDP program sits on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver if it can, else generic.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// After the packet became an skb.
    Generic,
}

/// Direction of traffic.
pub use skep_spec::program::Direction as TcDirection;
