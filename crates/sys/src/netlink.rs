//! rtnetlink, as much of it as attaching needs: interfaces, XDP without a link, and tc filters.
//!
//! A message is `struct nlmsghdr`, a fixed header of its family, then attributes, each a `struct nlattr` (length and
//! type, 16 bits each) with its payload, everything aligned to four bytes and in the machine's byte order. A request is
//! answered by an `NLMSG_ERROR` message (zero is success), a dump by many messages and `NLMSG_DONE`. With
//! `NETLINK_EXT_ACK` (Linux 4.12) the kernel adds a sentence about what was wrong, which is kept in [`Error`].
//!
//! A socket belongs to the network namespace in which it was opened, whatever its owner does later.
//!
//! # Safety
//! One `setsockopt(2)` with an integer; everything else goes through safe wrappers.

#![expect(unsafe_code, reason = "NETLINK_EXT_ACK has no safe wrapper")]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink};

use crate::errno::Errno;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
/// The message that describes one filter.
pub const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_ECHO: u16 = 0x8;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
/// In an error message: attributes follow the copy of the request.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// In an error message: only the header of the request was copied.
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;

const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_NETKIT_PEER_INFO: u16 = 1;
const IFLA_NETKIT_MODE: u16 = 5;
const NETKIT_L2: u32 = 0;
const VETH_INFO_PEER: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const IFLA_XDP_EXPECTED_FD: u16 = 8;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

const TC_H_CLSACT: u32 = 0xffff_fff1;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`: the parent of a clsact qdisc's ingress filters.
pub const TC_INGRESS: u32 = 0xffff_fff2;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)`: the parent of a clsact qdisc's egress filters.
pub const TC_EGRESS: u32 = 0xffff_fff3;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const ETH_P_ALL: u16 = 3;

/// `XDP_FLAGS_UPDATE_IF_NOEXIST`: do not replace another's program.
pub const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1 << 0;
/// `XDP_FLAGS_SKB_MODE`: generic XDP, on the packet the stack has made.
pub const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`: native XDP, in the driver.
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// `XDP_FLAGS_HW_MODE`: offloaded to the device.
pub const XDP_FLAGS_HW_MODE: u32 = 1 << 3;
/// `XDP_FLAGS_REPLACE`: only if the expected program is there (Linux 5.7).
pub const XDP_FLAGS_REPLACE: u32 = 1 << 4;

/// A refusal of the kernel, with its own sentence when it gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The error number.
    pub errno: Errno,
    /// What the kernel says about it (`NLMSGERR_ATTR_MSG`).
    pub message: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message}: {}", self.errno),
            None => self.errno.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error { errno, message: None }
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Error {
        Errno::from(errno).into()
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up (`IFF_UP`).
    pub up: bool,
    /// The kind of a virtual interface: `veth`, `bridge`, `netkit`.
    pub kind: Option<String>,
    /// The XDP programs on it.
    pub xdp: Option<Xdp>,
}

/// What XDP programs an interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xdp {
    /// `XDP_ATTACHED_`: 1 native, 2 generic, 3 offloaded, 4 several.
    pub mode: u8,
    /// The program's id; 0 when there are several.
    pub program_id: u32,
    /// Ids of the programs that are native, generic and offloaded; 0 for none.
    pub by_mode: [u32; 3],
}

/// A cls_bpf filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The interface.
    pub ifindex: u32,
    /// [`TC_INGRESS`] or [`TC_EGRESS`].
    pub parent: u32,
    /// Its place among the filters; smaller is earlier.
    pub priority: u16,
    /// Its number within the priority.
    pub handle: u32,
    /// The protocol it sees, host byte order.
    pub protocol: u16,
    /// Its name, as tc shows it.
    pub name: Option<String>,
    /// The program's id.
    pub program_id: Option<u32>,
}

/// A request, ready to be sent: also by a process that cannot allocate any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Message {
        let mut message = Message { bytes: Vec::with_capacity(128) };
        message.u32(0); // the length, set when sent
        message.u16(kind);
        message.u16(flags | NLM_F_REQUEST);
        message.u32(1); // sequence number
        message.u32(0); // port of the kernel
        message
    }

    fn ifinfo(kind: u16, flags: u16, ifindex: u32) -> Message {
        let mut message = Message::new(kind, flags);
        message.u32(0); // family, pad, type
        message.u32(ifindex);
        message.u32(0); // flags
        message.u32(0); // change
        message
    }

    fn tc(kind: u16, flags: u16, ifindex: u32, handle: u32, parent: u32, info: u32) -> Message {
        let mut message = Message::new(kind, flags);
        message.u32(0); // family, pad
        message.u32(ifindex);
        message.u32(handle);
        message.u32(parent);
        message.u32(info);
        message
    }

    fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_ne_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_ne_bytes());
    }

    fn attr(&mut self, kind: u16, payload: &[u8]) {
        self.nest(kind, |message| message.bytes.extend_from_slice(payload));
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.nest(kind, |message| {
            message.bytes.extend_from_slice(text.as_bytes());
            message.bytes.push(0);
        });
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) {
        let start = self.bytes.len();
        self.u16(0);
        self.u16(kind);
        fill(self);
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// The bytes to send.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes
    }

    /// Puts an XDP program on an interface, or takes it away (`program` is `None`). With
    /// [`XDP_FLAGS_REPLACE`], only if the program `expected` is the one that is there.
    pub fn set_xdp(
        ifindex: u32,
        program: Option<BorrowedFd<'_>>,
        flags: u32,
        expected: Option<BorrowedFd<'_>>,
    ) -> Message {
        let mut message = Message::ifinfo(RTM_SETLINK, NLM_F_ACK, ifindex);
        message.nest(IFLA_XDP | NLA_F_NESTED, |message| {
            let fd: RawFd = program.map_or(-1, |fd| fd.as_raw_fd());
            message.attr(IFLA_XDP_FD, &fd.to_ne_bytes());
            message.attr(IFLA_XDP_FLAGS, &flags.to_ne_bytes());
            if let Some(expected) = expected {
                message.attr(IFLA_XDP_EXPECTED_FD, &expected.as_raw_fd().to_ne_bytes());
            }
        });
        message
    }

    /// Makes a pair of veth interfaces: what goes into one comes out of the other.
    pub fn add_veth(name: &str, peer: &str) -> Message {
        let mut message = Message::ifinfo(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, 0);
        message.text(IFLA_IFNAME, name);
        message.nest(IFLA_LINKINFO | NLA_F_NESTED, |message| {
            message.text(IFLA_INFO_KIND, "veth");
            message.nest(IFLA_INFO_DATA | NLA_F_NESTED, |message| {
                message.nest(VETH_INFO_PEER | NLA_F_NESTED, |message| {
                    // A `struct ifinfomsg`, then attributes.
                    message.bytes.extend_from_slice(&[0; 16]);
                    message.text(IFLA_IFNAME, peer);
                });
            });
        });
        message
    }

    /// Makes a pair of netkit interfaces that carry frames (`NETKIT_L2`), of which `name` is the primary one (kernel 6.7).
    pub fn add_netkit(name: &str, peer: &str) -> Message {
        let mut message = Message::ifinfo(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, 0);
        message.text(IFLA_IFNAME, name);
        message.nest(IFLA_LINKINFO | NLA_F_NESTED, |message| {
            message.text(IFLA_INFO_KIND, "netkit");
            message.nest(IFLA_INFO_DATA | NLA_F_NESTED, |message| {
                message.nest(IFLA_NETKIT_MODE, |message| message.u32(NETKIT_L2));
                message.nest(IFLA_NETKIT_PEER_INFO | NLA_F_NESTED, |message| {
                    // A `struct ifinfomsg`, then attributes.
                    message.bytes.extend_from_slice(&[0; 16]);
                    message.text(IFLA_IFNAME, peer);
                });
            });
        });
        message
    }

    /// Switches an interface on.
    pub fn set_up(ifindex: u32) -> Message {
        const IFF_UP: u32 = 1;
        let mut message = Message::new(RTM_SETLINK, NLM_F_ACK);
        message.u32(0); // family, pad, type
        message.u32(ifindex);
        message.u32(IFF_UP); // flags
        message.u32(IFF_UP); // change
        message
    }

    /// Makes the clsact qdisc of an interface; `EEXIST` if it has one.
    pub fn add_clsact(ifindex: u32) -> Message {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut message = Message::tc(RTM_NEWQDISC, flags, ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0);
        message.text(TCA_KIND, "clsact");
        message
    }

    /// Takes the clsact qdisc away, with all filters on it.
    pub fn delete_clsact(ifindex: u32) -> Message {
        let mut message = Message::tc(RTM_DELQDISC, NLM_F_ACK, ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0);
        message.text(TCA_KIND, "clsact");
        message
    }

    /// Asks for the filters below [`TC_INGRESS`] or [`TC_EGRESS`]; each is answered by an [`RTM_NEWTFILTER`].
    pub fn list_filters(ifindex: u32, parent: u32) -> Message {
        Message::tc(RTM_GETTFILTER, NLM_F_DUMP, ifindex, 0, parent, 0)
    }

    /// Takes one filter away.
    pub fn delete_filter(filter: &Filter) -> Message {
        let info = filter_info(filter.priority, filter.protocol);
        let mut message = Message::tc(RTM_DELTFILTER, NLM_F_ACK, filter.ifindex, filter.handle, filter.parent, info);
        message.text(TCA_KIND, "bpf");
        message
    }
}

fn filter_info(priority: u16, protocol: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(protocol.to_be())
}

/// An rtnetlink socket of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace. Needs no privilege; changing anything needs
    /// CAP_NET_ADMIN.
    pub fn open() -> Result<Socket, Error> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // NETLINK_ROUTE is zero
        )?;
        let on: libc::c_int = 1;
        // SAFETY: the option takes an `int`, which lives until the call returns. An old kernel that refuses it gives
        // shorter errors, so the result does not matter.
        unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_NETLINK,
                libc::NETLINK_EXT_ACK,
                std::ptr::from_ref(&on).cast(),
                size_of_val(&on) as libc::socklen_t,
            );
        }
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Socket { fd })
    }

    /// Every interface of the namespace, in the kernel's order.
    pub fn interfaces(&self) -> Result<Vec<Interface>, Error> {
        let mut interfaces = Vec::new();
        self.request(Message::ifinfo(RTM_GETLINK, NLM_F_DUMP, 0), |kind, payload| {
            if kind == RTM_NEWLINK
                && let Some(interface) = parse_interface(payload)
            {
                interfaces.push(interface);
            }
        })?;
        Ok(interfaces)
    }

    /// Sends a request and waits until the kernel has done it.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, with its words for it where it has some (kernel 4.12): `EPERM` without CAP_NET_ADMIN.
    pub fn send(&self, message: Message) -> Result<(), Error> {
        self.request(message, |_, _| {})
    }

    /// Adds a direct-action BPF filter. `priority` or `handle` zero lets the kernel choose; what it chose comes back.
    pub fn add_filter(
        &self,
        ifindex: u32,
        parent: u32,
        priority: u16,
        handle: u32,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<Filter, Error> {
        let flags = NLM_F_ACK | NLM_F_ECHO | NLM_F_CREATE | NLM_F_EXCL;
        let info = filter_info(priority, ETH_P_ALL);
        let mut message = Message::tc(RTM_NEWTFILTER, flags, ifindex, handle, parent, info);
        message.text(TCA_KIND, "bpf");
        message.nest(TCA_OPTIONS | NLA_F_NESTED, |message| {
            message.attr(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
            message.text(TCA_BPF_NAME, name);
            message.attr(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
        });
        let mut made = None;
        self.request(message, |kind, payload| {
            if kind == RTM_NEWTFILTER && made.is_none() {
                made = parse_filter(payload);
            }
        })?;
        // The kernel echoes what it made (`tfilter_notify`, net/sched/cls_api.c); without it there is no way back.
        made.ok_or_else(|| Errno::EPROTO.into())
    }

    /// The BPF filters below [`TC_INGRESS`] or [`TC_EGRESS`]; empty if the interface has no clsact qdisc.
    pub fn filters(&self, ifindex: u32, parent: u32) -> Result<Vec<Filter>, Error> {
        let mut filters = Vec::new();
        self.request(Message::list_filters(ifindex, parent), |kind, payload| {
            if kind == RTM_NEWTFILTER
                && let Some(filter) = parse_filter(payload)
                // The first message of a priority describes the class of filters and not a filter.
                && filter.handle != 0
            {
                filters.push(filter);
            }
        })?;
        Ok(filters)
    }

    /// Whether the interface has a clsact qdisc.
    pub fn has_clsact(&self, ifindex: u32) -> Result<bool, Error> {
        let mut found = false;
        self.request(Message::tc(RTM_GETQDISC, NLM_F_DUMP, 0, 0, 0, 0), |_, payload| {
            found |= word(payload, 4) == Some(ifindex)
                && attrs(payload.get(20..).unwrap_or_default())
                    .any(|(kind, value)| kind == TCA_KIND && text(value).as_deref() == Some("clsact"));
        })?;
        Ok(found)
    }

    fn request(&self, message: Message, mut visit: impl FnMut(u16, &[u8])) -> Result<(), Error> {
        let bytes = message.into_bytes();
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        // A dump's messages hold at most 32 KiB (`netlink_dump`).
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let len = match rustix::net::recv(&self.fd, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((len, _)) => len,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut rest = &buffer[..len.min(buffer.len())];
            while let (Some(len), Some(kind), Some(flags)) = (word(rest, 0), half(rest, 4), half(rest, 6)) {
                let len = len as usize;
                let Some(payload) = rest.get(16..len) else {
                    return Err(Errno::EPROTO.into());
                };
                match kind {
                    NLMSG_ERROR => return answer(payload, flags),
                    NLMSG_DONE => {
                        // A dump that failed half-way says so in the payload of its last message.
                        return match word(payload, 0).unwrap_or(0) as i32 {
                            0 => Ok(()),
                            errno => Err(Errno::from_raw(errno.wrapping_neg()).into()),
                        };
                    }
                    _ => visit(kind, payload),
                }
                rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn answer(payload: &[u8], flags: u16) -> Result<(), Error> {
    let errno = match word(payload, 0).map(|word| word as i32) {
        Some(0) => return Ok(()),
        Some(errno) => Errno::from_raw(errno.wrapping_neg()),
        None => Errno::EPROTO,
    };
    let mut message = None;
    if flags & NLM_F_ACK_TLVS != 0 {
        let copied = if flags & NLM_F_CAPPED != 0 { 16 } else { word(payload, 4).unwrap_or(16) as usize };
        let tlvs = copied.checked_add(4).and_then(|start| payload.get(start..));
        for (kind, value) in attrs(tlvs.unwrap_or_default()) {
            if kind == NLMSGERR_ATTR_MSG {
                message = text(value);
            }
        }
    }
    Err(Error { errno, message })
}

fn parse_interface(payload: &[u8]) -> Option<Interface> {
    let mut interface = Interface { index: word(payload, 4)?, up: word(payload, 8)? & 1 != 0, ..Interface::default() };
    for (kind, value) in attrs(payload.get(16..)?) {
        match kind {
            IFLA_IFNAME => interface.name = text(value)?,
            IFLA_LINKINFO => {
                interface.kind =
                    attrs(value).find(|(kind, _)| *kind == IFLA_INFO_KIND).and_then(|(_, value)| text(value));
            }
            IFLA_XDP => {
                let (mut mode, mut program_id, mut by_mode) = (0, 0, [0; 3]);
                for (kind, value) in attrs(value) {
                    match kind {
                        IFLA_XDP_ATTACHED => mode = *value.first()?,
                        IFLA_XDP_PROG_ID => program_id = word(value, 0)?,
                        IFLA_XDP_DRV_PROG_ID => by_mode[0] = word(value, 0)?,
                        IFLA_XDP_SKB_PROG_ID => by_mode[1] = word(value, 0)?,
                        IFLA_XDP_HW_PROG_ID => by_mode[2] = word(value, 0)?,
                        _ => {}
                    }
                }
                if mode != 0 {
                    interface.xdp = Some(Xdp { mode, program_id, by_mode });
                }
            }
            _ => {}
        }
    }
    Some(interface)
}

fn parse_filter(payload: &[u8]) -> Option<Filter> {
    let info = word(payload, 16)?;
    let mut filter = Filter {
        ifindex: word(payload, 4)?,
        handle: word(payload, 8)?,
        parent: word(payload, 12)?,
        priority: (info >> 16) as u16,
        protocol: u16::from_be(info as u16),
        name: None,
        program_id: None,
    };
    let mut is_bpf = false;
    for (kind, value) in attrs(payload.get(20..)?) {
        match kind {
            TCA_KIND => is_bpf = text(value)? == "bpf",
            TCA_OPTIONS => {
                for (kind, value) in attrs(value) {
                    match kind {
                        TCA_BPF_NAME => filter.name = text(value),
                        TCA_BPF_ID => filter.program_id = word(value, 0),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    is_bpf.then_some(filter)
}

/// The attributes of a block; ends at the first that does not fit.
fn attrs(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(half(rest, 0)?);
        let kind = half(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn text(value: &[u8]) -> Option<String> {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8(value[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_listed() {
        let interfaces = Socket::open().unwrap().interfaces().unwrap();
        let lo = interfaces.iter().find(|i| i.name == "lo").unwrap();
        assert_eq!(lo.index, 1);
    }

    #[test]
    fn refusals_carry_the_kernels_sentence() {
        let socket = Socket::open().unwrap();
        let error = socket.send(Message::add_clsact(0x7fff_fff0)).unwrap_err();
        // ENODEV for root, EPERM without CAP_NET_ADMIN.
        assert!(matches!(error.errno, Errno::ENODEV | Errno::EPERM), "{error}");
    }

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut message = Message::new(RTM_GETLINK, 0);
        message.nest(IFLA_LINKINFO | NLA_F_NESTED, |message| message.text(IFLA_INFO_KIND, "veth"));
        let bytes = message.into_bytes();
        assert_eq!(bytes.len() % 4, 0);
        let (kind, inner) = attrs(&bytes[16..]).next().unwrap();
        assert_eq!(kind, IFLA_LINKINFO);
        assert_eq!(attrs(inner).next(), Some((IFLA_INFO_KIND, b"veth\0".as_slice())));
    }

    #[test]
    fn hostile_attributes_end_the_walk() {
        assert_eq!(attrs(&[0, 0, 1, 0, 9, 9]).count(), 0); // shorter than its own header
        assert_eq!(attrs(&[255, 0, 1, 0]).count(), 0); // longer than the block
        assert_eq!(parse_interface(&[0; 7]), None);
        assert_eq!(parse_filter(&[0; 20]), None);
        assert!(answer(&[1], 0).is_err());
    }
}
