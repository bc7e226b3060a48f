//! What a section leaves open.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use skep_engine::{AttachOptions, NetfilterFamily, NetfilterHook, NetfilterStage, Spot, TcDirection, XdpMode};
pub use skep_engine::{PerfEvent as PerfSample, Position, SampleRate as Rate};
use skep_sys::bpf::MapFd;

use super::UsdtIds;

/// Everything that a section may leave open. Each kind of place uses what it needs and ignores the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// What a bare section (`SEC("kprobe")`) leaves out: a function, a pattern, `CATEGORY:NAME`, `PROVIDER:NAME`.
    pub target: Option<&'a str>,
    /// Network interface, by name.
    pub interface: Option<&'a str>,
    /// XDP mode.
    pub xdp_mode: XdpMode,
    /// Direction at a tc hook whose section does not say; `None` means ingress.
    pub tc_direction: Option<TcDirection>,
    /// Priority of a tc filter where there is no tcx, or of a netfilter program; 0 lets the kernel, or skep, choose.
    pub priority: i32,
    /// Binary or library for uprobes and USDT, in place of the section's.
    pub binary: Option<&'a std::path::Path>,
    /// Only this process (uprobes, USDT, perf events, iterators).
    pub pid: Option<u32>,
    /// Folder of a cgroup v2.
    pub cgroup: Option<&'a std::path::Path>,
    /// Path of a network namespace; `None` means our own.
    pub net_namespace: Option<&'a std::path::Path>,
    /// Infrared receiver, such as `/dev/lirc0`.
    pub receiver: Option<&'a std::path::Path>,
    /// Value that the program reads with `bpf_get_attach_cookie` (kernel 5.15).
    pub cookie: u64,
    /// Offset in the binary of a uprobe whose section names no function, in bytes.
    pub off_bytes: Option<u64>,
    /// The places of a multi link, each with its own cookie, in place of a pattern.
    pub places: &'a [Spot],
    /// What a perf event program samples.
    pub sample: PerfSample,
    /// Hook of a netfilter program: protocol family and hook number; `None` means IPv4, local in.
    pub netfilter: Option<(u32, u32)>,
    /// Where among the programs of a hook: tcx, netkit (6.6), cgroup (6.16).
    pub position: Position,
    /// The program that an freplace program goes into, and the BTF id of its function, when it is not the one that it was
    /// loaded for.
    pub replaced: Option<(BorrowedFd<'a>, u32)>,
    /// The socket of a socket filter or reuseport program.
    pub socket: Option<BorrowedFd<'a>>,
    /// The map of an sk_skb or sk_msg program, or the one that an iterator walks.
    pub map: Option<BorrowedFd<'a>>,
    /// The maps of `usdt.bpf.h`, when the object has them.
    pub usdt: Option<UsdtMaps<'a>>,
}

impl<'a> Options<'a> {
    /// Those of the engine's contract.
    pub fn from_engine(options: &'a AttachOptions) -> Options<'a> {
        let path = |path: &'a Option<PathBuf>| path.as_deref();
        let sample = options.sampled();
        Options {
            target: options.target.as_deref(),
            interface: options.interface.as_deref(),
            xdp_mode: options.xdp_mode,
            tc_direction: options.tc_direction,
            priority: options.priority,
            binary: path(&options.binary),
            pid: options.pid,
            cgroup: path(&options.cgroup),
            receiver: path(&options.receiver),
            net_namespace: path(&options.net_namespace),
            cookie: options.cookie,
            off_bytes: options.off_bytes,
            places: &options.places,
            sample,
            netfilter: options.netfilter.map(numbers),
            position: options.position,
            ..Options::default()
        }
    }
}

/// Protocol family and hook number (`include/uapi/linux/netfilter.h`).
fn numbers(at: NetfilterHook) -> (u32, u32) {
    let family = match at.family {
        NetfilterFamily::Ipv4 => 2,
        NetfilterFamily::Ipv6 => 10,
    };
    let hook = match at.hook {
        NetfilterStage::Prerouting => 0,
        NetfilterStage::Input => 1,
        NetfilterStage::Forward => 2,
        NetfilterStage::Output => 3,
        NetfilterStage::Postrouting => 4,
    };
    (family, hook)
}

/// The two maps of `usdt.bpf.h`, and which of their places are taken.
#[derive(Clone, Copy, Debug)]
pub struct UsdtMaps<'a> {
    /// `__bpf_usdt_specs`: an array of argument specifications.
    pub specs: &'a MapFd,
    /// `__bpf_usdt_ip_to_spec_id`: for kernels before 5.15, which have no cookie.
    pub ip_to_spec_id: &'a MapFd,
    /// The places of `specs`, shared by all attachments of the object.
    pub ids: &'a UsdtIds,
}
