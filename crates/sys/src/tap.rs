//! A network of two hosts that anybody may make: two network namespaces in a user namespace, and in each a TAP device (tuntap.rst), whose
//! frames come to this process.
//!
//! What the kernel sends to the device `skep0` of a host can be read from its [`Tap`], and what is written there arrives at that
//! host. So this process is the cable between the two, and may look at each frame, change it or let it fall.
//!
//! Nothing of it can be seen outside, and all of it ends with the descriptors.
//!
//! Sources: `Documentation/networking/tuntap.rst`, user_namespaces(7), `include/uapi/linux/if_tun.h` of 6.18.
//!
//! # Safety
//!
//! A process has one user namespace, and threads keep it from changing it, so a child makes everything and ends. It shares the table of
//! descriptors with us (`CLONE_FILES`), which is how we get them. It is forked from a process that may have threads: it makes system
//! calls only, allocates nothing, and leaves with `_exit(2)`.
#![expect(unsafe_code, reason = "clone(2), unshare(2), ioctl(2), and setns(2) between fork and exec")]

use std::ffi::{CStr, CString, c_int, c_short};
use std::io;
use std::mem::zeroed;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::Errno;

/// The device of each host.
pub const DEVICE: &CStr = c"skep0";
const LOOPBACK: &CStr = c"lo";
/// What the addresses of both begin with, in bits.
pub const PREFIX_BITS: u8 = 24;

/// Both hosts.
#[derive(Debug)]
pub struct Network {
    /// The host whose interface programs are on.
    pub near: Host,
    /// Whom it talks to.
    pub far: Host,
}

/// One of them.
#[derive(Debug)]
pub struct Host {
    /// Whose members may do anything there; none where root may without.
    user: Option<OwnedFd>,
    network: OwnedFd,
    /// Its device, seen from the cable.
    pub tap: Tap,
}

/// The outer end of a TAP device.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
}

/// Where the making of a network failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A process could not be made.
    Process,
    /// A user namespace: forbidden, or there are too many.
    UserNamespace,
    /// Its users could not be named.
    Users,
    /// A network namespace.
    NetNamespace,
    /// `/dev/net/tun` could not be opened.
    Tun,
    /// The device could not be made.
    Device,
    /// The device could not be given its address, or switched on.
    Address,
}

/// What the child tells.
#[repr(C)]
#[derive(Clone, Copy)]
struct Report {
    step: i32,
    errno: i32,
    /// User namespace, and of each host the network namespace and the device.
    fds: [RawFd; 5],
}

const STEPS: [Step; 7] =
    [Step::Process, Step::UserNamespace, Step::Users, Step::NetNamespace, Step::Tun, Step::Device, Step::Address];
const DONE: i32 = -1;

impl Network {
    /// Makes it; `near` and `far` are the addresses of the hosts, in one network of [`PREFIX_BITS`].
    ///
    /// # Errors
    ///
    /// The step that failed, and why.
    pub fn new(near: Ipv4Addr, far: Ipv4Addr) -> Result<Network, (Step, Errno)> {
        let failed = |errno: rustix::io::Errno| (Step::Process, Errno::from(errno));
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
        // Before the child is made: it must not allocate.
        let of_user = users(rustix::process::geteuid().as_raw());
        let of_group = users(rustix::process::getegid().as_raw());
        let is_root = rustix::process::geteuid().is_root();
        // SAFETY: as fork(2), but that descriptors are shared; the child only runs `child`, which does not return.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == -1 {
            return Err((Step::Process, Errno::last()));
        }
        if pid == 0 {
            child(writer.as_raw_fd(), &of_user, &of_group, is_root, [near, far]);
        }
        let mut bytes = [0; size_of::<Report>()];
        let mut done = 0;
        // Our own writing end is open as well: the child always says something, unless somebody kills it.
        let mut status = 0;
        loop {
            // SAFETY: `status` is an `int` that lives until the call returns.
            let waited = unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) };
            if waited >= 0 || Errno::last() != Errno::EINTR {
                break;
            }
        }
        drop(writer);
        while done < bytes.len() {
            match rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut bytes[done..])).map_err(failed)? {
                0 => return Err((Step::Process, Errno::ESRCH)),
                got => done += got,
            }
        }
        // SAFETY: as many bytes, written from such a structure.
        let report: Report = unsafe { std::mem::transmute(bytes) };
        if let Some(step) = usize::try_from(report.step).ok().and_then(|step| STEPS.get(step)) {
            return Err((*step, Errno::from_raw(report.errno)));
        }
        // SAFETY: the child has opened them in our table and told nobody else.
        let own = |fd: RawFd| unsafe { OwnedFd::from_raw_fd(fd) };
        let [user, near_network, near_tap, far_network, far_tap] = report.fds;
        let user = (user >= 0).then(|| own(user));
        let again = user.as_ref().map(OwnedFd::try_clone).transpose();
        let again = again.map_err(|error| (Step::Process, Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
        Ok(Network {
            near: Host { user, network: own(near_network), tap: Tap { fd: own(near_tap) } },
            far: Host { user: again, network: own(far_network), tap: Tap { fd: own(far_tap) } },
        })
    }
}

/// For `/proc/self/uid_map` and `gid_map`: this user, or group, is root inside.
fn users(id: u32) -> CString {
    CString::new(format!("0 {id} 1")).unwrap_or_default()
}

impl Host {
    /// Lets a command run there, as root of it and as nobody more outside.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn take_in(&self, command: &mut Command) -> io::Result<()> {
        let user = self.user.as_ref().map(OwnedFd::try_clone).transpose()?;
        let network = self.network.try_clone()?;
        let enter = move || {
            for fd in user.iter().chain([&network]) {
                // SAFETY: setns(2) with numbers only.
                if unsafe { libc::setns(fd.as_raw_fd(), 0) } != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: `enter` makes system calls only.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }
}

impl Tap {
    /// A frame that the host has sent: how many bytes; `None` when there is none.
    ///
    /// # Errors
    ///
    /// What read(2) fails with; `EIO` when the device is switched off.
    pub fn read(&self, to: &mut [u8]) -> Result<Option<usize>, Errno> {
        match rustix::io::read(&self.fd, to) {
            Ok(len) => Ok(Some(len)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the host a frame.
    ///
    /// # Errors
    ///
    /// What write(2) fails with.
    pub fn write(&self, frame: &[u8]) -> Result<(), Errno> {
        rustix::io::write(&self.fd, frame)?;
        Ok(())
    }
}

impl AsFd for Tap {
    /// Readable when there is a frame.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The child's life. Only system calls from here on.
fn child(to: RawFd, users: &CStr, groups: &CStr, is_root: bool, addresses: [Ipv4Addr; 2]) -> ! {
    let mut report = Report { step: DONE, errno: 0, fds: [-1; 5] };
    if let Err((step, errno)) = make(users, groups, is_root, addresses, &mut report.fds) {
        report.step = STEPS.iter().position(|it| *it == step).map_or(0, |step| step as i32);
        report.errno = errno;
        for fd in report.fds.into_iter().filter(|fd| *fd >= 0) {
            // SAFETY: opened by us, and nobody has heard of it.
            unsafe { libc::close(fd) };
        }
    }
    // SAFETY: a whole structure of our own; what is read at the other end fits into a pipe.
    unsafe { libc::write(to, (&raw const report).cast(), size_of::<Report>()) };
    // SAFETY: leaves at once.
    unsafe { libc::_exit(0) }
}

/// The last call's error number, unless it succeeded.
fn check(step: Step, ret: c_int) -> Result<c_int, (Step, i32)> {
    if ret >= 0 { Ok(ret) } else { Err((step, Errno::last().raw())) }
}

fn make(
    users: &CStr,
    groups: &CStr,
    is_root: bool,
    addresses: [Ipv4Addr; 2],
    fds: &mut [RawFd; 5],
) -> Result<(), (Step, i32)> {
    // SAFETY: unshare(2) with a number only; the child has one thread.
    match check(Step::UserNamespace, unsafe { libc::unshare(libc::CLONE_NEWUSER) }) {
        Ok(_) => {
            // Nobody may change his groups any more, which is the price of naming one (user_namespaces(7)).
            let _ = put(c"/proc/self/setgroups", c"deny");
            check(Step::Users, put(c"/proc/self/uid_map", users))?;
            check(Step::Users, put(c"/proc/self/gid_map", groups))?;
            fds[0] = check(Step::UserNamespace, open(c"/proc/self/ns/user", libc::O_RDONLY))?;
        }
        Err(_) if is_root => {}
        Err(error) => return Err(error),
    }
    for (host, address) in addresses.into_iter().enumerate() {
        // SAFETY: as above.
        check(Step::NetNamespace, unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
        fds[1 + 2 * host] = check(Step::NetNamespace, open(c"/proc/self/ns/net", libc::O_RDONLY))?;
        fds[2 + 2 * host] = check(Step::Tun, open(c"/dev/net/tun", libc::O_RDWR | libc::O_NONBLOCK))?;
        let tap = fds[2 + 2 * host];
        let mut request = named(DEVICE);
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as c_short;
        // SAFETY: the request reads and writes one `ifreq`.
        check(Step::Device, unsafe { libc::ioctl(tap, libc::TUNSETIFF as _, &raw mut request) })?;
        // Routers are asked for and groups are joined at every start: noise between two hosts. A /proc that is read-only keeps it.
        let _ = put(c"/proc/sys/net/ipv6/conf/all/disable_ipv6", c"1");
        // ping(8) without rights.
        let _ = put(c"/proc/sys/net/ipv4/ping_group_range", c"0 2147483647");
        set_up(address)?;
    }
    Ok(())
}

/// Gives the device its address, and switches it and the loopback device on.
fn set_up(address: Ipv4Addr) -> Result<(), (Step, i32)> {
    // SAFETY: socket(2) with numbers only.
    let socket =
        check(Step::Address, unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    let set = |name: &CStr, request: libc::c_ulong, fill: &dyn Fn(&mut libc::ifreq)| {
        let mut argument = named(name);
        fill(&mut argument);
        // SAFETY: the requests read one `ifreq`.
        check(Step::Address, unsafe { libc::ioctl(socket, request as _, &raw mut argument) })
    };
    let mask = Ipv4Addr::from_bits(u32::MAX << (32 - PREFIX_BITS));
    set(DEVICE, libc::SIOCSIFADDR as _, &|it| it.ifr_ifru.ifru_addr = inet(address))?;
    set(DEVICE, libc::SIOCSIFNETMASK as _, &|it| it.ifr_ifru.ifru_netmask = inet(mask))?;
    for name in [LOOPBACK, DEVICE] {
        set(name, libc::SIOCSIFFLAGS as _, &|it| it.ifr_ifru.ifru_flags = libc::IFF_UP as c_short)?;
    }
    Ok(())
}

fn inet(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: all-zero bytes are a valid `sockaddr_in`.
    let mut inet: libc::sockaddr_in = unsafe { zeroed() };
    inet.sin_family = libc::AF_INET as libc::sa_family_t;
    inet.sin_addr.s_addr = address.to_bits().to_be();
    // SAFETY: both have 16 bytes, and any bytes are a valid `sockaddr`.
    unsafe { std::mem::transmute(inet) }
}

fn named(name: &CStr) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
        *to = *from as libc::c_char;
    }
    request
}

fn open(path: &CStr, flags: c_int) -> c_int {
    // SAFETY: the path is a C string.
    unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }
}

/// Writes a text into a file; negative when it cannot be done, with the reason in `errno`.
fn put(path: &CStr, text: &CStr) -> c_int {
    let fd = open(path, libc::O_WRONLY);
    if fd < 0 {
        return fd;
    }
    // SAFETY: the text is as long.
    let wrote = unsafe { libc::write(fd, text.as_ptr().cast(), text.to_bytes().len()) };
    let errno = Errno::last();
    // SAFETY: opened above.
    unsafe { libc::close(fd) };
    // SAFETY: no preconditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: `errno` is the thread's own; close(2) may have changed it.
    unsafe { *place = errno.raw() };
    if wrote < 0 { -1 } else { 0 }
}
