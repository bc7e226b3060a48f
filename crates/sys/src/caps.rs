//! What this process may do, for messages that say what is missing.

use std::fmt;

/// A set of capabilities, as `capabilities(7)` numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caps(pub u64);

/// One capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cap(pub u32);

impl Cap {
    /// Networking programs, and devices.
    pub const NET_ADMIN: Cap = Cap(12);
    /// Tracing other users' processes.
    pub const SYS_PTRACE: Cap = Cap(19);
    /// Everything BPF before kernel 5.8; still ids, and unloading what is not ours.
    pub const SYS_ADMIN: Cap = Cap(21);
    /// Limits.
    pub const SYS_RESOURCE: Cap = Cap(24);
    /// Kernel addresses.
    pub const SYSLOG: Cap = Cap(34);
    /// Tracing programs, kernel memory (kernel 5.8).
    pub const PERFMON: Cap = Cap(38);
    /// Maps and programs (kernel 5.8).
    pub const BPF: Cap = Cap(39);
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Cap::NET_ADMIN => "CAP_NET_ADMIN",
            Cap::SYS_PTRACE => "CAP_SYS_PTRACE",
            Cap::SYS_ADMIN => "CAP_SYS_ADMIN",
            Cap::SYS_RESOURCE => "CAP_SYS_RESOURCE",
            Cap::SYSLOG => "CAP_SYSLOG",
            Cap::PERFMON => "CAP_PERFMON",
            Cap::BPF => "CAP_BPF",
            Cap(other) => return write!(f, "capability {other}"),
        })
    }
}

impl Caps {
    /// The effective set of this process; all of them when `/proc` cannot be read, so that no message claims a lack that
    /// was not seen.
    pub fn effective() -> Caps {
        std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| parse_effective(&status))
            .unwrap_or(Caps(u64::MAX))
    }

    /// Whether `cap` is in the set.
    pub fn has(self, cap: Cap) -> bool {
        cap.0 < 64 && self.0 >> cap.0 & 1 == 1
    }
}

fn parse_effective(status: &str) -> Option<Caps> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok().map(Caps)
}

/// Whether this process is in the first user namespace, where capabilities count for BPF.
pub fn in_first_user_namespace() -> bool {
    // The first namespace maps everything onto itself; its inode number is fixed by the kernel (PROC_USER_INIT_INO).
    std::fs::read_link("/proc/self/ns/user").map_or(true, |name| name.as_os_str() == "user:[4026531837]")
}

/// `kernel.unprivileged_bpf_disabled`: 0 everybody may, 1 nobody without capabilities until reboot, 2 nobody for now.
/// `None` when the file is absent or hidden.
pub fn unprivileged_bpf_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").ok()?.trim().parse().ok()
}

/// `kernel.perf_event_paranoid`.
pub fn perf_event_paranoid() -> Option<i32> {
    std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?.trim().parse().ok()
}

/// Kernel lockdown: what even root may not do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lockdown {
    /// Nothing is locked.
    None,
    /// The kernel may not be changed: no `bpf_probe_write_user`.
    Integrity,
    /// And its memory may not be read: no `bpf_probe_read_kernel`, no kprobes.
    Confidentiality,
}

impl fmt::Display for Lockdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lockdown::None => "none",
            Lockdown::Integrity => "integrity",
            Lockdown::Confidentiality => "confidentiality",
        })
    }
}

/// The lockdown level. securityfs need not be mounted: a detached mount of our own is read, which nobody else sees. `None`
/// when the kernel has no lockdown or does not let us look.
pub fn lockdown() -> Option<Lockdown> {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").ok().or_else(read_detached)?;
    parse_lockdown(&text)
}

fn read_detached() -> Option<String> {
    use rustix::fs::{Mode, OFlags, openat};
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
    use std::io::Read as _;

    let fs = fsopen("securityfs", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    fsconfig_create(&fs).ok()?;
    let attrs =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attrs).ok()?;
    let file = openat(&root, "lockdown", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    std::fs::File::from(file).take(256).read_to_string(&mut text).ok()?;
    Some(text)
}

/// `none [integrity] confidentiality`: the level in force stands in brackets.
fn parse_lockdown(text: &str) -> Option<Lockdown> {
    let (_, rest) = text.split_once('[')?;
    match rest.split_once(']')?.0 {
        "none" => Some(Lockdown::None),
        "integrity" => Some(Lockdown::Integrity),
        "confidentiality" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_in_brackets_counts() {
        assert_eq!(parse_lockdown("none [integrity] confidentiality\n"), Some(Lockdown::Integrity));
        assert_eq!(parse_lockdown("[none] integrity confidentiality\n"), Some(Lockdown::None));
        assert_eq!(parse_lockdown("integrity"), None);
    }

    #[test]
    fn effective_capabilities_are_read_from_status() {
        let caps = parse_effective("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001fffeffffff\n").unwrap();
        assert!(caps.has(Cap::BPF) && caps.has(Cap::SYS_ADMIN));
        assert!(!caps.has(Cap::SYS_RESOURCE));
    }
}
