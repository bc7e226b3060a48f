//! Error numbers as the kernel returns them.
//!
//! A newtype and not an enum: a kernel may answer with a number that this table does not know, and that number must
//! survive until it is shown (BPF uses `ENOTSUPP`, 524, which no C library names).

use std::fmt;

/// What a system call failed with. `Display` gives words and the name, as in ``operation not permitted (EPERM)``.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $value:expr, $words:literal;)*) => {
        #[expect(missing_docs, reason = "the names are the documentation: errno(3)")]
        impl Errno {
            $(pub const $name: Errno = Errno($value);)*

            fn entry(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(Errno::$name => Some((stringify!($name), $words)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = libc::EPERM, "operation not permitted";
    ENOENT = libc::ENOENT, "no such file or directory";
    ESRCH = libc::ESRCH, "no such process";
    EINTR = libc::EINTR, "interrupted system call";
    EIO = libc::EIO, "input/output error";
    ENXIO = libc::ENXIO, "no such device or address";
    E2BIG = libc::E2BIG, "argument list too long";
    ENOEXEC = libc::ENOEXEC, "exec format error";
    EBADF = libc::EBADF, "bad file descriptor";
    ECHILD = libc::ECHILD, "no child processes";
    EAGAIN = libc::EAGAIN, "resource temporarily unavailable";
    ENOMEM = libc::ENOMEM, "cannot allocate memory";
    EACCES = libc::EACCES, "permission denied";
    EFAULT = libc::EFAULT, "bad address";
    ENOTBLK = libc::ENOTBLK, "block device required";
    EBUSY = libc::EBUSY, "device or resource busy";
    EEXIST = libc::EEXIST, "file exists";
    EXDEV = libc::EXDEV, "invalid cross-device link";
    ENODEV = libc::ENODEV, "no such device";
    ENOTDIR = libc::ENOTDIR, "not a directory";
    EISDIR = libc::EISDIR, "is a directory";
    EINVAL = libc::EINVAL, "invalid argument";
    ENFILE = libc::ENFILE, "too many open files in system";
    EMFILE = libc::EMFILE, "too many open files";
    ENOTTY = libc::ENOTTY, "inappropriate ioctl for device";
    ETXTBSY = libc::ETXTBSY, "text file busy";
    EFBIG = libc::EFBIG, "file too large";
    ENOSPC = libc::ENOSPC, "no space left on device";
    ESPIPE = libc::ESPIPE, "illegal seek";
    EROFS = libc::EROFS, "read-only file system";
    EMLINK = libc::EMLINK, "too many links";
    EPIPE = libc::EPIPE, "broken pipe";
    EDOM = libc::EDOM, "numerical argument out of domain";
    ERANGE = libc::ERANGE, "numerical result out of range";
    EDEADLK = libc::EDEADLK, "resource deadlock avoided";
    ENAMETOOLONG = libc::ENAMETOOLONG, "file name too long";
    ENOLCK = libc::ENOLCK, "no locks available";
    ENOSYS = libc::ENOSYS, "function not implemented";
    ENOTEMPTY = libc::ENOTEMPTY, "directory not empty";
    ELOOP = libc::ELOOP, "too many levels of symbolic links";
    ENOMSG = libc::ENOMSG, "no message of desired type";
    ENODATA = libc::ENODATA, "no data available";
    ETIME = libc::ETIME, "timer expired";
    ENOLINK = libc::ENOLINK, "link has been severed";
    EPROTO = libc::EPROTO, "protocol error";
    EBADMSG = libc::EBADMSG, "bad message";
    EOVERFLOW = libc::EOVERFLOW, "value too large for defined data type";
    EBADFD = libc::EBADFD, "file descriptor in bad state";
    EILSEQ = libc::EILSEQ, "invalid or incomplete multibyte or wide character";
    EUSERS = libc::EUSERS, "too many users";
    ENOTSOCK = libc::ENOTSOCK, "socket operation on non-socket";
    EDESTADDRREQ = libc::EDESTADDRREQ, "destination address required";
    EMSGSIZE = libc::EMSGSIZE, "message too long";
    EPROTOTYPE = libc::EPROTOTYPE, "protocol wrong type for socket";
    ENOPROTOOPT = libc::ENOPROTOOPT, "protocol not available";
    EPROTONOSUPPORT = libc::EPROTONOSUPPORT, "protocol not supported";
    ESOCKTNOSUPPORT = libc::ESOCKTNOSUPPORT, "socket type not supported";
    EOPNOTSUPP = libc::EOPNOTSUPP, "operation not supported";
    EPFNOSUPPORT = libc::EPFNOSUPPORT, "protocol family not supported";
    EAFNOSUPPORT = libc::EAFNOSUPPORT, "address family not supported by protocol";
    EADDRINUSE = libc::EADDRINUSE, "address already in use";
    EADDRNOTAVAIL = libc::EADDRNOTAVAIL, "cannot assign requested address";
    ENETDOWN = libc::ENETDOWN, "network is down";
    ENETUNREACH = libc::ENETUNREACH, "network is unreachable";
    ENETRESET = libc::ENETRESET, "network dropped connection on reset";
    ECONNABORTED = libc::ECONNABORTED, "software caused connection abort";
    ECONNRESET = libc::ECONNRESET, "connection reset by peer";
    ENOBUFS = libc::ENOBUFS, "no buffer space available";
    EISCONN = libc::EISCONN, "transport endpoint is already connected";
    ENOTCONN = libc::ENOTCONN, "transport endpoint is not connected";
    ETIMEDOUT = libc::ETIMEDOUT, "connection timed out";
    ECONNREFUSED = libc::ECONNREFUSED, "connection refused";
    EHOSTDOWN = libc::EHOSTDOWN, "host is down";
    EHOSTUNREACH = libc::EHOSTUNREACH, "no route to host";
    EALREADY = libc::EALREADY, "operation already in progress";
    EINPROGRESS = libc::EINPROGRESS, "operation now in progress";
    ESTALE = libc::ESTALE, "stale file handle";
    EDQUOT = libc::EDQUOT, "disk quota exceeded";
    ECANCELED = libc::ECANCELED, "operation canceled";
    ENOPKG = libc::ENOPKG, "package not installed";
    ENOKEY = libc::ENOKEY, "required key not available";
    EKEYREJECTED = libc::EKEYREJECTED, "key was rejected by service";
    ENOTSUPP = 524, "operation is not supported by this kernel";
}

impl Errno {
    /// The number itself, positive.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// From the positive number.
    pub const fn from_raw(raw: i32) -> Errno {
        Errno(raw)
    }

    /// The symbolic name, when this table has it.
    pub fn name(self) -> Option<&'static str> {
        self.entry().map(|(name, _)| name)
    }

    /// The thread's current `errno`, to be read right after a failed call.
    pub(crate) fn last() -> Errno {
        Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

/// The words of an IO error inside of a message, which is lower case.
pub fn io_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => strerror(error).to_lowercase(),
        None => error.to_string(),
    }
}

/// The words of an IO error without Rust's `(os error N)`, as strerror(3) has them.
pub fn strerror(error: &std::io::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.rfind(" (os error ") {
        text.truncate(at);
    }
    text
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry() {
            Some((name, words)) => write!(f, "{words} ({name})"),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry() {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl std::error::Error for Errno {}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Errno {
        Errno(errno.raw_os_error())
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

impl From<std::io::Error> for Errno {
    /// An `io::Error` without a number (short read, bad UTF-8) becomes `EIO`.
    fn from(error: std::io::Error) -> Errno {
        error.raw_os_error().map_or(Errno::EIO, Errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_number_shows_words_and_name() {
        assert_eq!(Errno::from_raw(1).to_string(), "operation not permitted (EPERM)");
        assert_eq!(Errno::from_raw(1).name(), Some("EPERM"));
    }

    #[test]
    fn an_unknown_number_survives() {
        assert_eq!(Errno::from_raw(4095).to_string(), "error 4095");
        assert_eq!(Errno::from_raw(4095).raw(), 4095);
        assert_eq!(Errno::from_raw(524).name(), Some("ENOTSUPP"));
    }

    #[test]
    fn io_errors_are_words() {
        let denied = std::io::Error::from_raw_os_error(libc::EPERM);
        assert_eq!(
            (strerror(&denied), io_text(&denied)),
            ("Operation not permitted".into(), "operation not permitted".into())
        );
        let other = std::io::Error::other("Some other");
        assert_eq!((strerror(&other), io_text(&other)), ("Some other".into(), "Some other".into()));
    }
}
