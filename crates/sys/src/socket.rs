//! Programs on sockets: filters, reuseport selectors, and a packet socket to put a filter on.
//!
//! # Safety
//! `setsockopt(2)` and `bind(2)` read one integer or one struct that lives until the call returns.

#![expect(unsafe_code, reason = "these socket options have no safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::errno::Errno;

const SO_ATTACH_REUSEPORT_EBPF: libc::c_int = 52;
const SO_DETACH_REUSEPORT_BPF: libc::c_int = 68;

/// `SO_ATTACH_BPF`: a socket filter sees, and may cut or drop, what the socket receives.
pub fn attach_filter(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    set(socket, libc::SO_ATTACH_BPF, program.as_raw_fd())
}

/// `SO_DETACH_BPF`: takes the filter away.
pub fn detach_filter(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set(socket, libc::SO_DETACH_BPF, 0)
}

/// `SO_ATTACH_REUSEPORT_EBPF`: the program chooses among the sockets of a reuseport group.
pub fn attach_reuseport(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    set(socket, SO_ATTACH_REUSEPORT_EBPF, program.as_raw_fd())
}

/// `SO_DETACH_REUSEPORT_BPF` (Linux 5.3).
pub fn detach_reuseport(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set(socket, SO_DETACH_REUSEPORT_BPF, 0)
}

fn set(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the options take an `int`, which lives until the call returns.
    let ret = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if ret < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// A raw packet socket that sees every packet of one interface, both ways. CAP_NET_RAW.
pub fn packet(ifindex: u32) -> Result<OwnedFd, Errno> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: no memory is passed.
    let raw = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            // Protocol zero until it is bound: it must not see other interfaces' packets in between.
            0,
        )
    };
    if raw < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call succeeded, so this is a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: i32::try_from(ifindex).map_err(|_| Errno::ENODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is a live struct of the length that is passed.
    let ret = unsafe {
        libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    if ret < 0 { Err(Errno::last()) } else { Ok(socket) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_descriptor_that_is_no_socket_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(detach_filter(file.as_fd()), Err(Errno::ENOTSOCK));
    }
}
